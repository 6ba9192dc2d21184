/* SPDX-License-Identifier: MIT */
/*
 * Resource: one use of an instance, and getting one
 *
 * Nothing here calls Python: who acquires gets the right to make the object, makes it in Python and
 * publishes it. So an exception in between is the caller's own, and the right ends with the
 * Resource. Buffers keep the Resource, and a Resource keeps the handle.
 */

#include "resource.h"

#include <stdint.h>
#include <string.h>

PyObject *resource_no_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
        (void)args;
        (void)kwargs;
        return PyErr_Format(PyExc_TypeError, "%s is not made by calling it", type->tp_name);
}

int resource_check(const struct resource *self)
{
        if (self->r)
                return 0;
        raise_text(self->b, CACHED_ERR_USAGE, "this resource was released");
        return -1;
}

static struct resource *resource_of(PyObject *object)
{
        return (struct resource *)object;
}

/* For the code of a call that was made without the interpreter's lock. */
static PyObject *result(struct resource *self, int code, cached_reply *reply)
{
        PyObject *none = Py_None;

        if (code)
                none = raise_code(self->b, code, reply);
        else
                Py_INCREF(none);
        cached_reply_free(reply);
        return none;
}

/* -------------------------------------------------------------------------------------- getting
 */

struct ask {
        int kind, no_create, read_only;
        const char *cache;
        Py_buffer key;
        unsigned wait_ms, pool;
        unsigned long long ttl_ms, max_entries;
};

/* Null: *o is freed by the caller all the same. */
static int set_policy(cached_resource_options *o, const struct ask *a)
{
        cached_policy *p;
        int code = CACHED_OK;

        if (!a->ttl_ms && !a->max_entries)
                return CACHED_OK;
        p = cached_policy_new();
        if (!p)
                return CACHED_ERR_NOMEM;
        if (a->ttl_ms)
                code = cached_policy_set_ttl_ms(p, a->ttl_ms);
        if (!code && a->max_entries)
                code = cached_policy_set_max_entries(p, a->max_entries);
        if (!code)
                code = cached_resource_options_set_policy(o, p);
        cached_policy_free(p);
        return code;
}

static cached_resource_options *options_of(struct binding *b, const struct ask *a)
{
        cached_resource_options *o = cached_resource_options_new();
        int code;

        if (!o)
                return (void *)PyErr_NoMemory();
        code = cached_resource_options_set_wait_ms(o, a->wait_ms);
        if (!code)
                code = cached_resource_options_set_pool(o, a->pool);
        if (!code)
                code = cached_resource_options_set_no_create(o, a->no_create);
        if (!code)
                code = cached_resource_options_set_read_only(o, a->read_only);
        if (!code && a->kind == 'l')
                code = cached_resource_options_set_on_release(o, local_departs, NULL);
        if (!code)
                code = set_policy(o, a);
        if (!code)
                return o;
        cached_resource_options_free(o);
        return (void *)raise_code(b, code, NULL);
}

static int ask_for(cached *c, const struct ask *a, const cached_resource_options *o,
                   cached_resource **r, cached_reply **reply)
{
        size_t n = (size_t)a->key.len;

        switch (a->kind) {
        case 's':
                return cached_resource_acquire_segment(c, a->cache, a->key.buf, n, 1, o, r, reply);
        case 'd':
                return cached_resource_acquire_descriptor(c, a->cache, a->key.buf, n, o, r, reply);
        default:
                return cached_resource_acquire_local(c, a->cache, a->key.buf, n, o, r, reply);
        }
}

static PyObject *acquire(struct binding *b, struct client *client, const struct ask *a)
{
        PyTypeObject *type = b->resources->resource_type;
        cached_resource_options *o = options_of(b, a);
        struct resource *self = o ? (struct resource *)type->tp_alloc(type, 0) : NULL;
        cached_reply *reply = NULL;
        cached_resource *r = NULL;
        uint64_t ttl_ms = CACHED_NEVER;
        int code;

        if (!self) {
                cached_resource_options_free(o);
                return NULL;
        }
        self->b = b;
        Py_INCREF(client);
        self->client = (PyObject *)client;
        Py_BEGIN_ALLOW_THREADS;
        code = ask_for(client->c, a, o, &r, &reply);
        Py_END_ALLOW_THREADS;
        cached_resource_options_free(o);
        self->r = r;
        self->is_making = r && code == CACHED_NOT_FOUND;
        (void)cached_reply_u64(reply, "ttl_ms", &ttl_ms);
        self->ttl_ms = ttl_ms;
        if (code && !self->is_making) {
                raise_code(b, code, reply);
                Py_CLEAR(self);
        }
        cached_reply_free(reply);
        return (PyObject *)self;
}

static int kind_of(const char *kind)
{
        static const char *const kinds[] = {"segment", "descriptor", "local"};

        for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
                if (strcmp(kind, kinds[i]) == 0)
                        return kind[0];
        PyErr_Format(PyExc_ValueError, "no kind of resource: %s", kind);
        return 0;
}

static PyObject *module_acquire(PyObject *module, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"client",    "kind",      "cache",  "key",
                                "wait_ms",   "pool",      "ttl_ms", "max_entries",
                                "no_create", "read_only", NULL};
        struct binding *b = PyModule_GetState(module);
        struct ask a = {.wait_ms = UINT32_MAX};
        PyObject *client, *got = NULL;
        const char *kind;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!ssy*|$IIKKpp:acquire", names,
                                         b->client_type, &client, &kind, &a.cache, &a.key,
                                         &a.wait_ms, &a.pool, &a.ttl_ms, &a.max_entries,
                                         &a.no_create, &a.read_only))
                return NULL;
        a.kind = kind_of(kind);
        if (a.kind)
                got = acquire(b, (struct client *)client, &a);
        PyBuffer_Release(&a.key);
        return got;
}

static PyObject *module_drop(PyObject *module, PyObject *args)
{
        struct binding *b = PyModule_GetState(module);
        PyObject *client, *found = NULL;
        cached_reply *reply = NULL;
        const char *cache;
        Py_buffer key;
        int code;

        if (!PyArg_ParseTuple(args, "O!sy*:drop", b->client_type, &client, &cache, &key))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_resource_drop(((struct client *)client)->c, cache, key.buf, (size_t)key.len,
                                    &reply);
        Py_END_ALLOW_THREADS;
        if (code == CACHED_OK || code == CACHED_NOT_FOUND)
                found = PyBool_FromLong(code == CACHED_OK);
        else
                raise_code(b, code, reply);
        cached_reply_free(reply);
        PyBuffer_Release(&key);
        return found;
}

/* --------------------------------------------------------------------------------- giving it back
 */

static void let_go(struct resource *self)
{
        cached_resource *r = self->r;

        self->r = NULL;
        Py_BEGIN_ALLOW_THREADS;
        cached_resource_release(r);
        Py_END_ALLOW_THREADS;
}

static void resource_dealloc(PyObject *object)
{
        struct resource *self = resource_of(object);
        PyTypeObject *type = Py_TYPE(object);
        PyObject *kind, *value, *trace;

        PyErr_Fetch(&kind, &value, &trace);
        let_go(self);
        Py_XDECREF(self->client);
        PyErr_Restore(kind, value, trace);
        type->tp_free(object);
        Py_DECREF(type);
}

static int is_busy(struct resource *self)
{
        if (self->n_exports == 0 && self->n_inside == 0)
                return 0;
        PyErr_SetString(PyExc_BufferError,
                        self->n_exports ? "its memory is in use: arrays or views lie on it"
                                        : "another thread is about to use it");
        return 1;
}

static PyObject *resource_release(PyObject *object, PyObject *args)
{
        struct resource *self = resource_of(object);
        const char *reason = NULL;

        if (!PyArg_ParseTuple(args, "|z:release", &reason) || (self->r && is_busy(self)))
                return NULL;
        cached_resource_give_reason(self->r, reason);
        let_go(self);
        Py_RETURN_NONE;
}

static PyObject *resource_invalidate(PyObject *object, PyObject *args)
{
        struct resource *self = resource_of(object);
        const char *reason = NULL;
        int code;

        if (!PyArg_ParseTuple(args, "|z:invalidate", &reason) || resource_check(self))
                return NULL;
        self->n_inside++;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_resource_invalidate(self->r, reason);
        Py_END_ALLOW_THREADS;
        self->n_inside--;
        return code == CACHED_NOT_FOUND ? result(self, CACHED_OK, NULL) : result(self, code, NULL);
}

/* -------------------------------------------------------------------------------------- making it
 */

static int check_making(const struct resource *self)
{
        if (resource_check(self))
                return -1;
        if (self->is_making)
                return 0;
        raise_text(self->b, CACHED_ERR_USAGE, "this resource is made");
        return -1;
}

static int publish(struct resource *self, cached_reply **reply)
{
        int code;

        self->n_inside++;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_resource_publish(self->r, reply);
        Py_END_ALLOW_THREADS;
        self->n_inside--;
        if (!code)
                self->is_making = 0;
        return code;
}

static PyObject *resource_publish(PyObject *object, PyObject *ignored)
{
        struct resource *self = resource_of(object);
        cached_reply *reply = NULL;

        (void)ignored;
        /* A read-only segment is mapped anew. */
        if (check_making(self) || is_busy(self))
                return NULL;
        return result(self, publish(self, &reply), reply);
}

static PyObject *resource_give_object(PyObject *object, PyObject *it)
{
        struct resource *self = resource_of(object);
        cached_reply *reply = NULL;
        struct local *local;
        int code;

        if (check_making(self))
                return NULL;
        local = local_new(self->b->resources, it);
        if (!local)
                return NULL;
        code = cached_resource_give_object(self->r, local);
        if (!code)
                code = publish(self, &reply);
        if (code) {
                (void)cached_resource_give_object(self->r, NULL);
                Py_DECREF(local); /* libcached's */
                Py_CLEAR(local);
                raise_code(self->b, code, reply);
        }
        cached_reply_free(reply);
        return (PyObject *)local;
}

static PyObject *resource_give_fd(PyObject *object, PyObject *args)
{
        struct resource *self = resource_of(object);
        int fd;

        if (!PyArg_ParseTuple(args, "i:give_fd", &fd) || check_making(self))
                return NULL;
        return result(self, cached_resource_give_fd(self->r, fd), NULL);
}

static PyObject *resource_give_size(PyObject *object, PyObject *args)
{
        struct resource *self = resource_of(object);
        Py_ssize_t size;
        int code;

        if (!PyArg_ParseTuple(args, "n:give_size", &size) || check_making(self) || is_busy(self))
                return NULL;
        if (size < 0)
                return PyErr_Format(PyExc_ValueError, "a size is not negative: %zd", size);
        self->n_inside++;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_resource_give_size(self->r, (size_t)size);
        Py_END_ALLOW_THREADS;
        self->n_inside--;
        if (code == CACHED_ERR_NOMEM || code == CACHED_TOO_LARGE)
                return PyErr_Format(PyExc_MemoryError, "no segment of %zd bytes can be made", size);
        return result(self, code, NULL);
}

/* ------------------------------------------------------------------------------- its memory
 */

static int resource_buffer(PyObject *object, Py_buffer *view, int flags)
{
        struct resource *self = resource_of(object);
        void *data;

        view->obj = NULL;
        if (resource_check(self))
                return -1;
        data = cached_resource_data(self->r);
        if (!data) {
                PyErr_SetString(PyExc_BufferError, "this resource is no segment");
                return -1;
        }
        if (PyBuffer_FillInfo(view, object, data, (Py_ssize_t)cached_resource_size(self->r),
                              cached_resource_is_read_only(self->r), flags))
                return -1;
        self->n_exports++;
        return 0;
}

static void resource_unbuffer(PyObject *object, Py_buffer *view)
{
        (void)view;
        resource_of(object)->n_exports--;
}

/* @n bytes from @offset on; NULL with an exception: they do not lie in it. */
static char *at(struct resource *self, Py_ssize_t offset, Py_ssize_t n)
{
        size_t size = cached_resource_size(self->r);

        if (resource_check(self))
                return NULL;
        if (offset < 0 || n < 0 || (size_t)offset > size || (size_t)n > size - (size_t)offset) {
                PyErr_Format(PyExc_IndexError, "%zd bytes from %zd on are not in %zu", n, offset,
                             size);
                return NULL;
        }
        return (char *)cached_resource_data(self->r) + offset;
}

static _Atomic uint64_t *word_at(struct resource *self, Py_ssize_t offset)
{
        void *p = at(self, offset, (Py_ssize_t)sizeof(uint64_t));

        if (p && offset % (Py_ssize_t)sizeof(uint64_t) != 0) {
                PyErr_SetString(PyExc_ValueError, "a word lies at a multiple of 8");
                return NULL;
        }
        return p;
}

static PyObject *resource_load(PyObject *object, PyObject *number)
{
        Py_ssize_t offset = PyLong_AsSsize_t(number);
        _Atomic uint64_t *word;

        if (offset == -1 && PyErr_Occurred())
                return NULL;
        word = word_at(resource_of(object), offset);
        if (!word)
                return NULL;
        return PyLong_FromUnsignedLongLong(atomic_load_explicit(word, memory_order_acquire));
}

static PyObject *resource_store(PyObject *object, PyObject *args)
{
        struct resource *self = resource_of(object);
        unsigned long long value;
        _Atomic uint64_t *word;
        Py_ssize_t offset;

        if (!PyArg_ParseTuple(args, "nK:store", &offset, &value))
                return NULL;
        word = word_at(self, offset);
        if (!word)
                return NULL;
        if (cached_resource_is_read_only(self->r))
                return PyErr_Format(PyExc_TypeError, "the segment is read-only");
        atomic_store_explicit(word, value, memory_order_release);
        Py_RETURN_NONE;
}

static PyObject *resource_write(PyObject *object, PyObject *args)
{
        struct resource *self = resource_of(object);
        PyObject *done = NULL;
        Py_ssize_t offset;
        Py_buffer from;
        char *to;

        if (!PyArg_ParseTuple(args, "ny*:write", &offset, &from))
                return NULL;
        to = at(self, offset, from.len);
        if (to && cached_resource_is_read_only(self->r)) {
                PyErr_SetString(PyExc_TypeError, "the segment is read-only");
        } else if (to) {
                self->n_inside++;
                Py_BEGIN_ALLOW_THREADS;
                memmove(to, from.buf, (size_t)from.len);
                Py_END_ALLOW_THREADS;
                self->n_inside--;
                done = Py_None;
                Py_INCREF(done);
        }
        PyBuffer_Release(&from);
        return done;
}

static PyObject *resource_private(PyObject *object, PyObject *args)
{
        struct resource *self = resource_of(object);
        Py_ssize_t offset, n;
        unsigned flags = 0;

        if (!PyArg_ParseTuple(args, "nn|I:private", &offset, &n, &flags) || !at(self, offset, n))
                return NULL;
        if (!cached_resource_is_read_only(self->r))
                return PyErr_Format(PyExc_TypeError, "what others write to is no constant value");
        return window_private(self->b->resources, self, (size_t)offset, (size_t)n, flags);
}

static PyObject *resource_changed(PyObject *object, PyObject *ignored)
{
        struct resource *self = resource_of(object);

        (void)ignored;
        return resource_check(self) ? NULL
                                    : PyLong_FromUnsignedLongLong(cached_resource_changed(self->r));
}

/* -------------------------------------------------------------------------------- exclusive use
 */

static PyObject *resource_lock(PyObject *object, PyObject *args)
{
        struct resource *self = resource_of(object);
        cached_reply *reply = NULL;
        unsigned wait_ms = UINT32_MAX;
        int code;

        if (!PyArg_ParseTuple(args, "|I:lock", &wait_ms) || resource_check(self))
                return NULL;
        self->n_inside++;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_resource_lock(self->r, wait_ms, &reply);
        Py_END_ALLOW_THREADS;
        self->n_inside--;
        if (code == CACHED_OK || code == CACHED_OWNER_DIED) {
                cached_reply_free(reply);
                return PyBool_FromLong(code == CACHED_OWNER_DIED);
        }
        return result(self, code, reply);
}

/* Where the daemon cannot be told now it is told later. */
static PyObject *resource_unlock(PyObject *object, PyObject *ignored)
{
        struct resource *self = resource_of(object);
        int code;

        (void)ignored;
        if (resource_check(self))
                return NULL;
        self->n_inside++;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_resource_unlock(self->r);
        Py_END_ALLOW_THREADS;
        self->n_inside--;
        return code == CACHED_ERR_USAGE ? result(self, code, NULL) : result(self, 0, NULL);
}

/* -------------------------------------------------------------------------------------- looking
 */

static PyObject *get_making(PyObject *object, void *closure)
{
        (void)closure;
        return PyBool_FromLong(resource_of(object)->is_making);
}

static PyObject *get_left(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromLong(cached_resource_has_left(resource_of(object)->r));
}

static PyObject *get_left_fd(PyObject *object, void *closure)
{
        struct resource *self = resource_of(object);

        (void)closure;
        return PyLong_FromLong(self->r ? cached_resource_left_fd(self->r) : -1);
}

static PyObject *get_fd(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromLong(cached_resource_fd(resource_of(object)->r));
}

static PyObject *get_file(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromLong(cached_resource_file(resource_of(object)->r));
}

static PyObject *get_size(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromSize_t(cached_resource_size(resource_of(object)->r));
}

static PyObject *get_read_only(PyObject *object, void *closure)
{
        (void)closure;
        return PyBool_FromLong(cached_resource_is_read_only(resource_of(object)->r));
}

static PyObject *get_instance(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromUnsignedLongLong(cached_resource_instance(resource_of(object)->r));
}

static PyObject *get_generation(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromUnsignedLongLong(cached_resource_generation(resource_of(object)->r));
}

static PyObject *get_ttl_ms(PyObject *object, void *closure)
{
        struct resource *self = resource_of(object);

        (void)closure;
        if (self->ttl_ms == CACHED_NEVER)
                Py_RETURN_NONE;
        return PyLong_FromUnsignedLongLong(self->ttl_ms);
}

static PyObject *get_local(PyObject *object, void *closure)
{
        struct resource *self = resource_of(object);
        PyObject *it = self->is_making ? NULL : cached_resource_object(self->r);

        (void)closure;
        if (!it)
                it = Py_None;
        Py_INCREF(it);
        return it;
}

static PyMethodDef methods[] = {
        {"release", resource_release, METH_VARARGS,
         "release(reason=None)\n\nIt is used no more; of one that is being made others may make "
         "it, "
         "or fail for the reason."},
        {"invalidate", resource_invalidate, METH_VARARGS,
         "invalidate(reason=None)\n\nIt leaves its cache, for everybody."},
        {"publish", resource_publish, METH_NOARGS, "publish()\n\nIt is made."},
        {"give_object", resource_give_object, METH_O,
         "give_object(object) -> Local\n\nThe local object that was made; publishes it."},
        {"give_fd", resource_give_fd, METH_VARARGS,
         "give_fd(fd)\n\nThe descriptor that was made; consumed."},
        {"give_size", resource_give_size, METH_VARARGS,
         "give_size(bytes)\n\nHow large the segment is to be; zeroed."},
        {"load", resource_load, METH_O, "load(offset) -> int\n\nA word of 8 bytes, atomically."},
        {"store", resource_store, METH_VARARGS,
         "store(offset, value)\n\nLikewise: what was written before is seen by who loads it."},
        {"write", resource_write, METH_VARARGS, "write(offset, bytes)"},
        {"private", resource_private, METH_VARARGS,
         "private(offset, size, flags=0) -> Window\n\nA part of a read-only segment, as a value: "
         "what "
         "is written there is this process's."},
        {"changed", resource_changed, METH_NOARGS, "changed() -> int\n\nCounts a change."},
        {"lock", resource_lock, METH_VARARGS,
         "lock(wait_ms=forever) -> bool\n\nTrue: who had it was killed with it."},
        {"unlock", resource_unlock, METH_NOARGS, "unlock()"},
        {NULL, NULL, 0, NULL},
};

static PyGetSetDef attributes[] = {
        {"making", get_making, NULL, "It is to be made.", NULL},
        {"left", get_left, NULL, "Why it has left its cache; 0: it has not.", NULL},
        {"left_fd", get_left_fd, NULL, "A descriptor, readable when it has; -1: none.", NULL},
        {"fd", get_fd, NULL, "The open file of a descriptor; -1.", NULL},
        {"file", get_file, NULL, "The file behind it; -1.", NULL},
        {"size", get_size, NULL, "Bytes of a segment.", NULL},
        {"read_only", get_read_only, NULL, "It is a segment that nobody can change.", NULL},
        {"instance", get_instance, NULL, "Which one it is; 0: the daemon does not know it.", NULL},
        {"generation", get_generation, NULL, "What changed() has counted.", NULL},
        {"ttl_ms", get_ttl_ms, NULL, "What was left of its time when it was acquired; None.", NULL},
        {"local", get_local, NULL, "The Local of a local object; None.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_doc, "One use of a resource"},
        {Py_tp_new, resource_no_new},
        {Py_tp_dealloc, resource_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_getset, attributes},
        {Py_bf_getbuffer, resource_buffer},
        {Py_bf_releasebuffer, resource_unbuffer},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.Resource",
        .basicsize = sizeof(struct resource),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = slots,
};

static PyMethodDef module_methods[] = {
        {"acquire", (PyCFunction)(void (*)(void))module_acquire, METH_VARARGS | METH_KEYWORDS,
         "acquire(client, kind, cache, key, *, wait_ms, pool, ttl_ms, max_entries, no_create, "
         "read_only) -> Resource"},
        {"drop", module_drop, METH_VARARGS,
         "drop(client, cache, key) -> bool\n\nTakes a resource out of its cache."},
        {NULL, NULL, 0, NULL},
};

int resources_add(PyObject *module, struct binding *b)
{
        struct resources *s = PyMem_Calloc(1, sizeof(*s));

        if (!s) {
                PyErr_NoMemory();
                return -1;
        }
        b->resources = s;
        s->resource_type = binding_add_type(module, &spec);
        if (!s->resource_type || window_add(module, s) || locals_add(module, s))
                return -1;
        return PyModule_AddFunctions(module, module_methods);
}

void resources_end(struct binding *b)
{
        if (b->resources)
                locals_end(b->resources);
        PyMem_Free(b->resources);
        b->resources = NULL;
}
