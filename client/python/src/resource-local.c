/* SPDX-License-Identifier: MIT */
/*
 * Local: an object that stays in its process, and what is told of its end
 *
 * libcached says that one has left from whatever thread it likes: mostly its own, which knows
 * nothing of the interpreter and may run when that ends. So its function touches no Python. It puts
 * the Local on a list and rings a bell; a Python thread (cached/_release.py) waits for that, takes
 * what is there and calls on_release. A child has no such thread, and its parent's objects are not
 * its own: it begins a list of its own.
 */

#include "resource.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Kept by the module and by each Local in libcached's hands, whoever comes last. */
struct departed {
        atomic_uint n_refs;
        int bell; /* eventfd: somebody is on the list */
        pthread_mutex_t mutex;
        struct local *first, **last;
};

static struct departed *departed_new(void)
{
        struct departed *d = calloc(1, sizeof(*d));

        if (!d)
                return (void *)PyErr_NoMemory();
        d->last = &d->first;
        d->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (d->bell < 0) {
                free(d);
                return (void *)PyErr_SetFromErrno(PyExc_OSError);
        }
        if (pthread_mutex_init(&d->mutex, NULL) != 0) {
                (void)close(d->bell);
                free(d);
                return (void *)PyErr_NoMemory();
        }
        atomic_store(&d->n_refs, 1);
        return d;
}

static void departed_unref(struct departed *d)
{
        if (!d || atomic_fetch_sub(&d->n_refs, 1) > 1)
                return;
        (void)close(d->bell);
        (void)pthread_mutex_destroy(&d->mutex);
        free(d);
}

int local_departs(cached_resource *r, void *data)
{
        struct local *local = cached_resource_object(r);
        int cause = cached_resource_has_left(r);
        struct departed *d;
        uint64_t one = 1;

        (void)data;
        if (!local)
                return 0;
        d = local->departed;
        atomic_store(&local->left, cause ? cause : LOCAL_CLOSED);
        (void)pthread_mutex_lock(&d->mutex);
        *d->last = local;
        d->last = &local->next;
        (void)pthread_mutex_unlock(&d->mutex);
        while (write(d->bell, &one, sizeof(one)) < 0 && errno == EINTR)
                ;
        return 0;
}

/* ------------------------------------------------------------------------------------- the type
 */

struct local *local_new(struct resources *s, PyObject *object)
{
        struct local *self = (struct local *)s->local_type->tp_alloc(s->local_type, 0);

        if (!self)
                return NULL;
        Py_INCREF(object);
        self->object = object;
        self->departed = s->departed;
        atomic_fetch_add(&self->departed->n_refs, 1);
        Py_INCREF(self);
        return self;
}

static void local_dealloc(PyObject *object)
{
        struct local *self = (struct local *)object;
        PyTypeObject *type = Py_TYPE(object);

        Py_XDECREF(self->object);
        departed_unref(self->departed);
        type->tp_free(object);
        Py_DECREF(type);
}

static PyObject *local_object(PyObject *object, void *closure)
{
        PyObject *it = ((struct local *)object)->object;

        (void)closure;
        Py_INCREF(it);
        return it;
}

static PyObject *local_left(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromLong(atomic_load(&((struct local *)object)->left));
}

static PyGetSetDef local_attributes[] = {
        {"object", local_object, NULL, "What it is about.", NULL},
        {"left", local_left, NULL, "Why it has left its cache; 0: it has not.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot local_slots[] = {
        {Py_tp_doc, "An object of this process that is in a resource cache"},
        {Py_tp_new, resource_no_new},
        {Py_tp_dealloc, local_dealloc},
        {Py_tp_getset, local_attributes},
        {0, NULL},
};

static PyType_Spec local_spec = {
        .name = "cached._binding.Local",
        .basicsize = sizeof(struct local),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = local_slots,
};

/* ------------------------------------------------------------------------------------ the module
 */

static struct resources *resources_of(PyObject *module)
{
        return ((struct binding *)PyModule_GetState(module))->resources;
}

static PyObject *departed_bell(PyObject *module, PyObject *ignored)
{
        (void)ignored;
        return PyLong_FromLong(resources_of(module)->departed->bell);
}

/* libcached's reference becomes the list's. */
static PyObject *departed_take(PyObject *module, PyObject *ignored)
{
        struct departed *d = resources_of(module)->departed;
        PyObject *list = PyList_New(0);
        struct local *all;
        uint64_t count;
        int r = 0;

        (void)ignored;
        if (!list)
                return NULL;
        while (read(d->bell, &count, sizeof(count)) < 0 && errno == EINTR)
                ;
        (void)pthread_mutex_lock(&d->mutex);
        all = d->first;
        d->first = NULL;
        d->last = &d->first;
        (void)pthread_mutex_unlock(&d->mutex);
        while (all) {
                struct local *next = all->next;

                all->next = NULL;
                r |= PyList_Append(list, (PyObject *)all);
                Py_DECREF(all);
                all = next;
        }
        if (r)
                Py_CLEAR(list);
        return list;
}

/* The old one may have been in use by a thread that the child does not have: it stays. */
static PyObject *departed_forked(PyObject *module, PyObject *ignored)
{
        struct departed *d = departed_new();

        (void)ignored;
        if (!d)
                return NULL;
        resources_of(module)->departed = d;
        Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
        {"departed_bell", departed_bell, METH_NOARGS,
         "departed_bell() -> int\n\nA descriptor, readable when departed() has something."},
        {"departed", departed_take, METH_NOARGS,
         "departed() -> list[Local]\n\nWhat libcached is rid of since the last call."},
        {"departed_forked", departed_forked, METH_NOARGS,
         "departed_forked()\n\nIn a child: what the parent has is not to be told here."},
        {NULL, NULL, 0, NULL},
};

int locals_add(PyObject *module, struct resources *s)
{
        s->local_type = binding_add_type(module, &local_spec);
        s->departed = s->local_type ? departed_new() : NULL;
        return s->departed ? PyModule_AddFunctions(module, module_methods) : -1;
}

void locals_end(struct resources *s)
{
        departed_unref(s->departed);
        s->departed = NULL;
}
