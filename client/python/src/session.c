/* SPDX-License-Identifier: MIT */
/*
 * Session: a dictionary that all who have its token share
 *
 * What the values mean is Python's (cached/_session_values.py): here they are bytes with flags. A
 * session that is over is CacheError with the code NOT_FOUND; a key without a value is no error.
 */

#include "session.h"

#include <stdio.h>
#include <string.h>

struct item {
        PyObject_HEAD PyObject *key;
        void *data; /* owned */
        size_t size;
        uint64_t version;
        uint32_t flags;
};

/* ---- items */

static PyObject *item_of(struct binding *b, const cached_reply *r, size_t i, const char *key,
                         const void *value, size_t n)
{
        struct item *self;
        uint64_t flags = 0, version = 0;
        char path[64];

        (void)snprintf(path, sizeof(path), "items[%zu].flags", i);
        (void)cached_reply_u64(r, path, &flags);
        (void)snprintf(path, sizeof(path), "items[%zu].version", i);
        (void)cached_reply_u64(r, path, &version);
        self = (struct item *)b->session_item_type->tp_alloc(b->session_item_type, 0);
        if (!self)
                return NULL;
        self->flags = (uint32_t)flags;
        self->version = version;
        self->size = value ? n : 0;
        self->key = PyUnicode_DecodeUTF8(key, (Py_ssize_t)strlen(key), "surrogateescape");
        /* Aligned as arrays in it may be; never empty, so that it has an address. */
        self->data = PyMem_Malloc(self->size ? self->size : 1);
        if (!self->key || !self->data) {
                if (!self->data)
                        PyErr_NoMemory();
                Py_DECREF(self);
                return NULL;
        }
        if (self->size)
                memcpy(self->data, value, self->size);
        return (PyObject *)self;
}

static void item_dealloc(PyObject *object)
{
        struct item *self = (struct item *)object;
        PyTypeObject *type = Py_TYPE(object);

        Py_CLEAR(self->key);
        PyMem_Free(self->data);
        type->tp_free(object);
        Py_DECREF(type);
}

static int item_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
        struct item *self = (struct item *)object;

        return PyBuffer_FillInfo(view, object, self->data, (Py_ssize_t)self->size, 0, flags);
}

static Py_ssize_t item_length(PyObject *object)
{
        return (Py_ssize_t)((struct item *)object)->size;
}

static PyObject *item_number(PyObject *object, void *closure)
{
        const struct item *self = (struct item *)object;

        switch (*(const char *)closure) {
        case 'f':
                return PyLong_FromUnsignedLong(self->flags);
        case 'v':
                return PyLong_FromUnsignedLongLong(self->version);
        default:
                return PyLong_FromSize_t(self->size);
        }
}

static PyObject *item_key(PyObject *object, void *closure)
{
        (void)closure;
        return new_ref(((struct item *)object)->key);
}

static PyGetSetDef item_attributes[] = {
        {"key", item_key, NULL, "Its key.", NULL},
        {"flags", item_number, NULL, "What its writer said of it; see VALUES.md.", "f"},
        {"version", item_number, NULL, "The session's, when it was set.", "v"},
        {"size", item_number, NULL, "Bytes of the value.", "s"},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot item_slots[] = {
        {Py_tp_doc, "A value of a session: a copy, which may be written to."},
        {Py_tp_dealloc, item_dealloc},
        {Py_tp_getset, item_attributes},
        {Py_sq_length, item_length},
        {Py_bf_getbuffer, item_getbuffer},
        {0, NULL},
};

static PyType_Spec item_spec = {
        .name = "cached._binding.SessionItem",
        .basicsize = sizeof(struct item),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = item_slots,
};

/* ---- life */

static int options_fill(cached_session_options *o, const char *label, PyObject *idle,
                        PyObject *grace)
{
        uint64_t idle_ms, grace_ms;

        if (number_of(idle, "idle_ms", CACHED_NEVER, 0, &idle_ms) ||
            number_of(grace, "grace_ms", CACHED_NEVER, CACHED_NEVER, &grace_ms))
                return -1;
        if (label && cached_session_options_set_label(o, label)) {
                PyErr_SetString(PyExc_ValueError, "a label has up to 64 bytes of UTF-8");
                return -1;
        }
        (void)cached_session_options_set_idle_ms(o, idle_ms);
        (void)cached_session_options_set_grace_ms(o, grace_ms);
        return 0;
}

static int open_or_attach(struct session *self, const char *token, cached_session_options *o)
{
        cached *c = self->client->c;
        cached_session *s = NULL;
        cached_reply *r = NULL;
        int code;

        Py_BEGIN_ALLOW_THREADS;
        code = token ? cached_session_attach(c, token, &s, &r) : cached_session_open(c, o, &s, &r);
        Py_END_ALLOW_THREADS;
        self->s = s;
        if (code)
                raise_code(self->b, code, r);
        cached_reply_free(r);
        return code ? -1 : 0;
}

static PyObject *session_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"client", "token", "label", "idle_ms", "grace_ms", NULL};
        const char *token = NULL, *label = NULL;
        PyObject *client, *idle = NULL, *grace = NULL;
        struct binding *b = binding_of(type);
        cached_session_options *o;
        struct session *self;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|$zzOO:Session", names, b->client_type,
                                         &client, &token, &label, &idle, &grace))
                return NULL;
        self = (struct session *)type->tp_alloc(type, 0);
        if (!self)
                return NULL;
        self->b = b;
        self->client = (struct client *)new_ref(client);
        o = cached_session_options_new();
        if (!o)
                PyErr_NoMemory();
        if (!o || options_fill(o, label, idle, grace) || open_or_attach(self, token, o)) {
                cached_session_options_free(o);
                Py_DECREF(self);
                return NULL;
        }
        cached_session_options_free(o);
        return (PyObject *)self;
}

static void session_dealloc(PyObject *object)
{
        struct session *self = (struct session *)object;
        PyTypeObject *type = Py_TYPE(object);

        cached_session_free(self->s);
        Py_CLEAR(self->client);
        type->tp_free(object);
        Py_DECREF(type);
}

static PyObject *session_token(PyObject *object, void *closure)
{
        (void)closure;
        return PyUnicode_FromString(cached_session_token(((struct session *)object)->s));
}

static PyObject *info_of(const cached_reply *r)
{
        static const char *const numbers[] = {"keys",     "bytes", "unused_ms", "version",
                                              "attached", "uid",   "caches"};
        const char *label = "", *id = "";
        PyObject *result;

        (void)cached_reply_text(r, "label", &label);
        (void)cached_reply_text(r, "id", &id);
        result = Py_BuildValue("{s:s,s:s}", "label", label, "id", id);
        for (size_t i = 0; result && i < sizeof(numbers) / sizeof(numbers[0]); i++) {
                uint64_t n = 0;
                PyObject *number;

                (void)cached_reply_u64(r, numbers[i], &n);
                number = PyLong_FromUnsignedLongLong(n);
                if (!number || PyDict_SetItemString(result, numbers[i], number))
                        Py_CLEAR(result);
                Py_XDECREF(number);
        }
        return result;
}

static PyObject *session_info(PyObject *object, PyObject *ignored)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        PyObject *result;
        int code;

        (void)ignored;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_info(self->s, &r);
        Py_END_ALLOW_THREADS;
        if (code)
                return raise_reply(self->b, code, r);
        result = info_of(r);
        cached_reply_free(r);
        return result;
}

static PyObject *session_close(PyObject *object, PyObject *ignored)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        int code;

        (void)ignored;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_close(self->s, &r);
        Py_END_ALLOW_THREADS;
        if (code)
                return raise_reply(self->b, code, r);
        cached_reply_free(r);
        Py_RETURN_NONE;
}

static PyObject *session_handle(PyObject *object, PyObject *ignored)
{
        struct session *self = (struct session *)object;
        cached *own = NULL;
        int code;

        (void)ignored;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_handle(self->s, &own);
        Py_END_ALLOW_THREADS;
        return code ? raise_code(self->b, code, NULL) : client_of(self->b, own, object);
}

/* ---- reading */

/* A reply about one key: the item; None: it has no value. Frees the reply. */
static PyObject *one_item(struct session *self, int code, cached_reply *r)
{
        const void *value = NULL;
        PyObject *result = NULL;
        const char *key;
        size_t n = 0;

        if (code == CACHED_NOT_FOUND && !cached_session_is_over(r)) {
                cached_reply_free(r);
                Py_RETURN_NONE;
        }
        if (code && code != CACHED_EXISTS)
                return raise_reply(self->b, code, r);
        key = cached_session_item(r, 0, NULL, NULL);
        value = cached_reply_value(r, &n);
        if (key && value)
                result = item_of(self->b, r, 0, key, value, n);
        else
                raise_text(self->b, CACHED_ERR_BAD_REPLY, "the reply has no value");
        cached_reply_free(r);
        return result;
}

static PyObject *session_get(PyObject *object, PyObject *args)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        const char *key;
        int code;

        if (!PyArg_ParseTuple(args, "s:get", &key))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_get(self->s, key, &r);
        Py_END_ALLOW_THREADS;
        return one_item(self, code, r);
}

static PyObject *all_items(struct binding *b, const cached_reply *r)
{
        size_t n_items = cached_reply_n_items(r);
        PyObject *list = PyList_New(0);

        for (size_t i = 0; list && i < n_items; i++) {
                const void *value = NULL;
                size_t n = 0;
                const char *key = cached_session_item(r, i, &value, &n);
                PyObject *item = key ? item_of(b, r, i, key, value, n) : NULL;

                if (!key)
                        raise_text(b, CACHED_ERR_BAD_REPLY, "the reply has no such item");
                if (!item || PyList_Append(list, item))
                        Py_CLEAR(list);
                Py_XDECREF(item);
        }
        return list;
}

static PyObject *session_items(PyObject *object, bool with_values)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        PyObject *result;
        int code;

        Py_BEGIN_ALLOW_THREADS;
        code = with_values ? cached_session_get_all(self->s, &r) : cached_session_keys(self->s, &r);
        Py_END_ALLOW_THREADS;
        if (code)
                return raise_reply(self->b, code, r);
        result = all_items(self->b, r);
        cached_reply_free(r);
        return result;
}

static PyObject *session_get_all(PyObject *object, PyObject *ignored)
{
        (void)ignored;
        return session_items(object, true);
}

static PyObject *session_keys(PyObject *object, PyObject *ignored)
{
        (void)ignored;
        return session_items(object, false);
}

static PyObject *session_contains(PyObject *object, PyObject *args)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        bool absent = false;
        const char *key;
        int code;

        if (!PyArg_ParseTuple(args, "s:contains", &key))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_contains(self->s, key);
        /* Whether it is the session that is not there is not told. */
        if (code == CACHED_NOT_FOUND) {
                code = cached_session_info(self->s, &r);
                absent = true;
        }
        Py_END_ALLOW_THREADS;
        if (code)
                return raise_reply(self->b, code, r);
        cached_reply_free(r);
        return PyBool_FromLong(!absent);
}

/* ---- changing */

static PyObject *version_of(struct session *self, int code, cached_reply *r)
{
        uint64_t version = 0;

        if (code)
                return raise_reply(self->b, code, r);
        (void)cached_reply_u64(r, "version", &version);
        cached_reply_free(r);
        return PyLong_FromUnsignedLongLong(version);
}

static PyObject *session_set(PyObject *object, PyObject *args)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        unsigned flags;
        Py_buffer value;
        const char *key;
        int code;

        if (!PyArg_ParseTuple(args, "sIy*:set", &key, &flags, &value))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_set_with_flags(self->s, key, flags, value.buf, (size_t)value.len, &r);
        Py_END_ALLOW_THREADS;
        PyBuffer_Release(&value);
        return version_of(self, code, r);
}

static PyObject *session_set_if_absent(PyObject *object, PyObject *args)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        unsigned flags;
        Py_buffer value;
        const char *key;
        int code;

        if (!PyArg_ParseTuple(args, "sIy*:set_if_absent", &key, &flags, &value))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_set_if_absent_with_flags(self->s, key, flags, value.buf,
                                                       (size_t)value.len, &r);
        Py_END_ALLOW_THREADS;
        PyBuffer_Release(&value);
        return code == CACHED_EXISTS ? one_item(self, code, r) : version_of(self, code, r);
}

static PyObject *session_compare_and_set(PyObject *object, PyObject *args)
{
        struct session *self = (struct session *)object;
        unsigned long long version;
        cached_reply *r = NULL;
        unsigned flags;
        Py_buffer value;
        const char *key;
        int code;

        if (!PyArg_ParseTuple(args, "sKIy*:compare_and_set", &key, &version, &flags, &value))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_compare_and_set_with_flags(self->s, key, version, flags, value.buf,
                                                         (size_t)value.len, &r);
        Py_END_ALLOW_THREADS;
        PyBuffer_Release(&value);
        if (code == CACHED_VERSION_MISMATCH ||
            (code == CACHED_NOT_FOUND && !cached_session_is_over(r))) {
                cached_reply_free(r);
                Py_RETURN_NONE;
        }
        return version_of(self, code, r);
}

static PyObject *session_delete(PyObject *object, PyObject *args)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        const char *key;
        bool over;
        int code;

        if (!PyArg_ParseTuple(args, "s:delete", &key))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_delete(self->s, key, &r);
        Py_END_ALLOW_THREADS;
        over = cached_session_is_over(r);
        if (code && (code != CACHED_NOT_FOUND || over))
                return raise_reply(self->b, code, r);
        cached_reply_free(r);
        return PyBool_FromLong(code == CACHED_OK);
}

static PyObject *session_clear(PyObject *object, PyObject *ignored)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        int code;

        (void)ignored;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_clear(self->s, &r);
        Py_END_ALLOW_THREADS;
        return version_of(self, code, r);
}

/* True: the key has no value, and nothing said what it counts as. */
static bool is_absent(int code, const cached_reply *r)
{
        return code == CACHED_NOT_FOUND && !cached_session_is_over(r);
}

static PyObject *session_increment(PyObject *object, PyObject *args)
{
        struct session *self = (struct session *)object;
        long long by, first = 0;
        PyObject *start;
        cached_reply *r = NULL;
        int64_t sum = 0, from;
        const char *key;
        int code;

        if (!PyArg_ParseTuple(args, "sLO:increment", &key, &by, &start))
                return NULL;
        if (start != Py_None) {
                first = PyLong_AsLongLong(start);
                if (first == -1 && PyErr_Occurred())
                        return NULL;
        }
        from = first;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_increment(self->s, key, by, start == Py_None ? NULL : &from, &sum,
                                        &r);
        Py_END_ALLOW_THREADS;
        if (code && !is_absent(code, r))
                return raise_reply(self->b, code, r);
        cached_reply_free(r);
        if (code)
                Py_RETURN_NONE;
        return PyLong_FromLongLong(sum);
}

static PyObject *session_increment_real(PyObject *object, PyObject *args)
{
        struct session *self = (struct session *)object;
        cached_reply *r = NULL;
        double by, sum = 0;
        const char *key;
        int code;

        if (!PyArg_ParseTuple(args, "sd:increment_real", &key, &by))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_increment_real(self->s, key, by, NULL, &sum, &r);
        Py_END_ALLOW_THREADS;
        if (code && !is_absent(code, r))
                return raise_reply(self->b, code, r);
        cached_reply_free(r);
        if (code)
                Py_RETURN_NONE;
        return PyFloat_FromDouble(sum);
}

static PyGetSetDef session_attributes[] = {
        {"token", session_token, NULL, "As secret as what is in the session.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef session_methods[] = {
        {"info", session_info, METH_NOARGS, "info() -> dict\n\nWhat is known of it."},
        {"close", session_close, METH_NOARGS, "close()\n\nEnds it, for everybody."},
        {"handle", session_handle, METH_NOARGS,
         "handle() -> Client\n\nA handle for the session's own caches."},
        {"watch", session_watch, METH_NOARGS,
         "watch() -> SessionEvents\n\nTells of its changes from now on."},
        {"get", session_get, METH_VARARGS, "get(key) -> SessionItem | None"},
        {"get_all", session_get_all, METH_NOARGS,
         "get_all() -> list of SessionItem\n\nRead at one moment."},
        {"keys", session_keys, METH_NOARGS,
         "keys() -> list of SessionItem\n\nAll, without their values."},
        {"contains", session_contains, METH_VARARGS, "contains(key) -> bool"},
        {"set", session_set, METH_VARARGS, "set(key, flags, data) -> int\n\nThe version."},
        {"set_many", session_set_many, METH_VARARGS,
         "set_many([(key, flags, data)]) -> int\n\nAll or none; the version."},
        {"set_if_absent", session_set_if_absent, METH_VARARGS,
         "set_if_absent(key, flags, data) -> int | SessionItem\n\nThe version, or what is there."},
        {"compare_and_set", session_compare_and_set, METH_VARARGS,
         "compare_and_set(key, version, flags, data) -> int | None\n\nThe new version; None: it is "
         "another value now, or none."},
        {"delete", session_delete, METH_VARARGS, "delete(key) -> bool"},
        {"clear", session_clear, METH_NOARGS, "clear() -> int"},
        {"increment", session_increment, METH_VARARGS,
         "increment(key, by, start) -> int | None\n\nNone: it has no value, nor a start."},
        {"increment_real", session_increment_real, METH_VARARGS,
         "increment_real(key, by) -> float | None"},
        {NULL, NULL, 0, NULL},
};

static PyType_Slot session_slots[] = {
        {Py_tp_doc, "Session(client, *, token=None, label=None, idle_ms=None, grace_ms=None)"},
        {Py_tp_new, session_new},
        {Py_tp_dealloc, session_dealloc},
        {Py_tp_methods, session_methods},
        {Py_tp_getset, session_attributes},
        {0, NULL},
};

static PyType_Spec session_spec = {
        .name = "cached._binding.Session",
        .basicsize = sizeof(struct session),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = session_slots,
};

static int add_changes(PyObject *module)
{
        return PyModule_AddIntConstant(module, "SESSION_SET", CACHED_SESSION_SET) ||
                               PyModule_AddIntConstant(module, "SESSION_DELETED",
                                                       CACHED_SESSION_DELETED) ||
                               PyModule_AddIntConstant(module, "SESSION_CLEARED",
                                                       CACHED_SESSION_CLEARED) ||
                               PyModule_AddIntConstant(module, "SESSION_LOST", CACHED_SESSION_LOST)
                       ? -1
                       : 0;
}

int session_add(PyObject *module, struct binding *b)
{
        b->session_item_type = binding_add_type(module, &item_spec);
        if (!b->session_item_type)
                return -1;
        b->session_item_type->tp_new = NULL; /* only a reply makes one */
        b->session_type = binding_add_type(module, &session_spec);
        if (!b->session_type || session_events_add(module, b))
                return -1;
        return add_changes(module);
}
