/* SPDX-License-Identifier: MIT */
/*
 * Client: a handle of libcached
 */

#include "binding.h"

#include <unistd.h>

static uint64_t half_of_memory(void)
{
        long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

        return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 2 : UINT64_C(1) << 30;
}

static cached_options *options_of(struct binding *b, const char *socket, const char *realm,
                                  const char *name, unsigned timeout_ms, int mapped)
{
        cached_options *o = cached_options_new();
        if (!o)
                return (void *)PyErr_NoMemory();
        int code = cached_options_set_socket(o, socket);
        if (!code)
                code = cached_options_set_realm(o, realm);
        if (!code)
                code = cached_options_set_client_name(o, name);
        if (!code)
                code = cached_options_set_timeout_ms(o, timeout_ms);
        if (!code)
                code = cached_options_set_mapped(o, mapped);
        if (!code)
                code = cached_options_set_own_values(o, 1);
        /* Nothing is taken unless somebody prepares it, and then for as large values as there are.
         */
        if (!code)
                code = cached_options_set_prepared_bytes(o, half_of_memory());
        if (!code)
                return o;
        cached_options_free(o);
        return (void *)raise_code(b, code, NULL);
}

static PyObject *client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"socket", "realm", "name", "timeout_ms", "mapped", NULL};
        const char *socket = NULL, *realm = NULL, *name = NULL;
        unsigned timeout_ms = 5000;
        int mapped = 1;
        struct client *self;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$zzzIp:Client", names, &socket, &realm,
                                         &name, &timeout_ms, &mapped))
                return NULL;
        self = (struct client *)type->tp_alloc(type, 0);
        if (!self)
                return NULL;
        self->b = binding_of(type);
        cached_options *o = options_of(self->b, socket, realm, name, timeout_ms, mapped);
        if (!o) {
                Py_DECREF(self);
                return NULL;
        }
        int code = cached_new(o, &self->c);
        cached_options_free(o);
        if (code) {
                raise_code(self->b, code, NULL);
                Py_DECREF(self);
                return NULL;
        }
        return (PyObject *)self;
}

static int client_traverse(PyObject *object, visitproc visit, void *arg)
{
        Py_VISIT(Py_TYPE(object));
        Py_VISIT(((struct client *)object)->keeps);
        return 0;
}

static void client_dealloc(PyObject *object)
{
        struct client *self = (struct client *)object;
        PyTypeObject *type = Py_TYPE(object);
        cached *c = self->c;

        PyObject_GC_UnTrack(object);
        /* Resources have their release functions called, which may be Python's. */
        Py_BEGIN_ALLOW_THREADS;
        cached_free(c);
        Py_END_ALLOW_THREADS;
        Py_CLEAR(self->keeps);
        type->tp_free(object);
        Py_DECREF(type);
}

PyObject *client_of(struct binding *b, cached *c, PyObject *keeps)
{
        struct client *self = (struct client *)b->client_type->tp_alloc(b->client_type, 0);

        if (!self) {
                cached_free(c);
                return NULL;
        }
        self->c = c;
        self->b = b;
        self->keeps = keeps ? new_ref(keeps) : NULL;
        return (PyObject *)self;
}

PyObject *client_with_timeout(PyObject *object, PyObject *number)
{
        struct client *self = (struct client *)object;
        cached *c;
        uint64_t ms;
        int code;

        if (number_of(number, "ms", UINT32_MAX, 0, &ms))
                return NULL;
        code = cached_with_timeout(self->c, (uint32_t)ms, &c);
        if (code)
                return raise_code(self->b, code, NULL);
        return client_of(self->b, c, object);
}

PyObject *client_connect(PyObject *object, PyObject *ignored)
{
        struct client *self = (struct client *)object;
        cached_reply *r = NULL;
        uint64_t features = 0, uid = 0;
        int code;

        (void)ignored;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_connect(self->c, &r);
        Py_END_ALLOW_THREADS;
        PyObject *result;
        const char *version = "", *realm = "";
        if (code) {
                result = raise_code(self->b, code, r);
        } else {
                cached_reply_text(r, "version", &version);
                cached_reply_text(r, "realm", &realm);
                cached_reply_u64(r, "features", &features);
                cached_reply_u64(r, "uid", &uid);
                result = Py_BuildValue("{s:s,s:s,s:K,s:K}", "version", version, "realm", realm,
                                       "features", (unsigned long long)features, "uid",
                                       (unsigned long long)uid);
        }
        cached_reply_free(r);
        return result;
}

PyObject *client_close(PyObject *object, PyObject *ignored)
{
        struct client *self = (struct client *)object;

        (void)ignored;
        Py_BEGIN_ALLOW_THREADS;
        cached_close(self->c);
        Py_END_ALLOW_THREADS;
        Py_RETURN_NONE;
}

static PyObject *client_socket(PyObject *object, void *closure)
{
        (void)closure;
        return PyUnicode_DecodeFSDefault(cached_socket_path(((struct client *)object)->c));
}

static PyGetSetDef attributes[] = {
        {"socket", client_socket, NULL, "The socket that answered last, or is tried first.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_doc, "Client(*, socket=None, realm=None, name=None, timeout_ms=5000, mapped=True)"},
        {Py_tp_new, client_new},
        {Py_tp_traverse, client_traverse},
        {Py_tp_dealloc, client_dealloc},
        {Py_tp_methods, client_methods},
        {Py_tp_getset, attributes},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.Client",
        .basicsize = sizeof(struct client),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
};

int client_add(PyObject *module, struct binding *b)
{
        b->client_type = binding_add_type(module, &spec);
        return b->client_type ? 0 : -1;
}
