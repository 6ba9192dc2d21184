/* SPDX-License-Identifier: MIT */
/*
 * Key: the builder of libcached for _keys.py
 *
 * Items in the order in which they are added; begin_*() and end() around what holds others. Errors
 * are CacheError, with the builder's words. While another thread hashes a large buffer with a
 * builder, its other calls are refused.
 */

#include "key.h"

static PyObject *key_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"other", "special", NULL};
        PyObject *other, *special = NULL;
        struct key *self;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O!:Key", names, &other, &PyFrozenSet_Type,
                                         &special))
                return NULL;
        self = (struct key *)type->tp_alloc(type, 0);
        if (!self)
                return NULL;
        self->b = binding_of(type);
        self->k = key_take(self->b);
        if (!self->k) {
                Py_DECREF(self);
                return NULL;
        }
        Py_INCREF(other);
        self->other = other;
        if (special && PySet_GET_SIZE(special) > 0) {
                Py_INCREF(special);
                self->special = special;
        }
        return (PyObject *)self;
}

static int key_traverse(PyObject *object, visitproc visit, void *arg)
{
        struct key *self = (struct key *)object;

        Py_VISIT(Py_TYPE(object));
        Py_VISIT(self->other);
        Py_VISIT(self->special);
        return 0;
}

static int key_clear(PyObject *object)
{
        struct key *self = (struct key *)object;

        Py_CLEAR(self->other);
        Py_CLEAR(self->special);
        return 0;
}

static void key_dealloc(PyObject *object)
{
        struct key *self = (struct key *)object;
        PyTypeObject *type = Py_TYPE(object);

        PyObject_GC_UnTrack(object);
        key_clear(object);
        if (self->k)
                key_give(self->b, self->k);
        type->tp_free(object);
        Py_DECREF(type);
}

/* The builder, for a call; NULL: an exception is set. */
static cached_key *builder(struct key *self)
{
        if (!self->hashing)
                return self->k;
        raise_text(self->b, CACHED_ERR_USAGE,
                   "another thread is using this builder: each thread needs its own");
        return NULL;
}

static PyObject *done(struct key *self, int code)
{
        if (code)
                return raise_text(self->b, code, cached_key_error(self->k));
        Py_RETURN_NONE;
}

static PyObject *walked(struct key *self, int (*walk)(struct walk *, PyObject *), PyObject *value)
{
        struct walk w = {.b = self->b, .key = self};

        w.k = builder(self);
        if (!w.k || walk(&w, value) < 0)
                return NULL;
        Py_RETURN_NONE;
}

static PyObject *key_add_value(PyObject *object, PyObject *value)
{
        return walked((struct key *)object, key_walk, value);
}

static PyObject *key_add_builtin(PyObject *object, PyObject *value)
{
        return walked((struct key *)object, key_walk_builtin, value);
}

static PyObject *begin(PyObject *object, int (*call)(cached_key *))
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);

        return k ? done(self, call(k)) : NULL;
}

static PyObject *key_begin_list(PyObject *object, PyObject *ignored)
{
        (void)ignored;
        return begin(object, cached_key_begin_list);
}

static PyObject *key_begin_tuple(PyObject *object, PyObject *ignored)
{
        (void)ignored;
        return begin(object, cached_key_begin_tuple);
}

static PyObject *key_begin_map(PyObject *object, PyObject *ignored)
{
        (void)ignored;
        return begin(object, cached_key_begin_map);
}

static PyObject *key_begin_set(PyObject *object, PyObject *ignored)
{
        (void)ignored;
        return begin(object, cached_key_begin_set);
}

static PyObject *key_begin_bytes(PyObject *object, PyObject *ignored)
{
        (void)ignored;
        return begin(object, cached_key_begin_bytes);
}

static PyObject *key_end(PyObject *object, PyObject *ignored)
{
        (void)ignored;
        return begin(object, cached_key_end);
}

static PyObject *key_begin_named(PyObject *object, PyObject *name)
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        Py_ssize_t n;
        const char *text;

        if (!k)
                return NULL;
        text = PyUnicode_AsUTF8AndSize(name, &n);
        return text ? done(self, cached_key_begin_named(k, text, (size_t)n)) : NULL;
}

/* ---- dates and times */

static PyObject *key_date(PyObject *object, PyObject *args)
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        int year, month, day;

        if (!k || !PyArg_ParseTuple(args, "iii:date", &year, &month, &day))
                return NULL;
        return done(self, cached_key_add_date(k, year, month, day));
}

static PyObject *key_time(PyObject *object, PyObject *args)
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        int hour, minute, second, ns, offset = 0;
        const char *zone = NULL;
        Py_ssize_t n_zone = 0;

        if (!k || !PyArg_ParseTuple(args, "iiii|is#:time", &hour, &minute, &second, &ns, &offset,
                                    &zone, &n_zone))
                return NULL;
        if (!zone)
                return done(self, cached_key_add_time(k, hour, minute, second, ns));
        return done(self, cached_key_add_time_zone(k, hour, minute, second, ns, offset, zone,
                                                   (size_t)n_zone));
}

static PyObject *key_datetime(PyObject *object, PyObject *args)
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        int year, month, day, hour, minute, second, ns, offset = 0;
        const char *zone = NULL;
        Py_ssize_t n_zone = 0;

        if (!k || !PyArg_ParseTuple(args, "iiiiiii|is#:datetime", &year, &month, &day, &hour,
                                    &minute, &second, &ns, &offset, &zone, &n_zone))
                return NULL;
        if (!zone)
                return done(self,
                            cached_key_add_datetime(k, year, month, day, hour, minute, second, ns));
        return done(self, cached_key_add_datetime_zone(k, year, month, day, hour, minute, second,
                                                       ns, offset, zone, (size_t)n_zone));
}

static PyObject *key_duration(PyObject *object, PyObject *args)
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        long long seconds;
        int ns;

        if (!k || !PyArg_ParseTuple(args, "Li:duration", &seconds, &ns))
                return NULL;
        return done(self, cached_key_add_duration(k, seconds, ns));
}

/* ---- other values */

static PyObject *key_decimal(PyObject *object, PyObject *text)
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        Py_ssize_t n;
        const char *s;

        if (!k)
                return NULL;
        s = PyUnicode_AsUTF8AndSize(text, &n);
        return s ? done(self, cached_key_add_decimal(k, s, (size_t)n)) : NULL;
}

static PyObject *key_uuid(PyObject *object, PyObject *args)
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        const char *bytes;
        Py_ssize_t n;

        if (!k || !PyArg_ParseTuple(args, "y#:uuid", &bytes, &n))
                return NULL;
        if (n != 16)
                return raise_text(self->b, CACHED_ERR_USAGE, "a UUID has 16 bytes");
        return done(self, cached_key_add_uuid(k, bytes));
}

/* The extents of an array: their number, or -1 with an exception set. */
static Py_ssize_t extents(struct key *self, PyObject *shape, uint64_t dims[CACHED_KEY_DIMS_MAX])
{
        Py_ssize_t n = PyTuple_GET_SIZE(shape);

        if (n > CACHED_KEY_DIMS_MAX) {
                raise_text(self->b, CACHED_ERR_USAGE, "an array has at most 64 dimensions");
                return -1;
        }
        for (Py_ssize_t i = 0; i < n; i++) {
                dims[i] = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(shape, i));
                if (PyErr_Occurred())
                        return -1;
        }
        return n;
}

static PyObject *key_begin_array(PyObject *object, PyObject *args)
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        uint64_t dims[CACHED_KEY_DIMS_MAX];
        const char *dtype;
        Py_ssize_t n_dtype, n_dims;
        PyObject *shape;

        if (!k ||
            !PyArg_ParseTuple(args, "s#O!:begin_array", &dtype, &n_dtype, &PyTuple_Type, &shape))
                return NULL;
        n_dims = extents(self, shape, dims);
        if (n_dims < 0)
                return NULL;
        return done(self, cached_key_begin_array(k, dtype, (size_t)n_dtype, (size_t)n_dims, dims));
}

/* What a buffer holds, to @add; without the interpreter's lock where it is large. */
static PyObject *add_memory(PyObject *object, PyObject *memory,
                            int (*add)(cached_key *, const void *, size_t))
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        Py_buffer view;
        int code;

        if (!k || PyObject_GetBuffer(memory, &view, PyBUF_SIMPLE))
                return NULL;
        if (view.len < KEY_LARGE) {
                code = add(k, view.buf, (size_t)view.len);
        } else {
                self->hashing = true;
                Py_BEGIN_ALLOW_THREADS;
                code = add(k, view.buf, (size_t)view.len);
                Py_END_ALLOW_THREADS;
                self->hashing = false;
        }
        PyBuffer_Release(&view);
        return done(self, code);
}

static PyObject *key_bytes(PyObject *object, PyObject *memory)
{
        return add_memory(object, memory, cached_key_add_bytes);
}

static PyObject *key_feed(PyObject *object, PyObject *memory)
{
        return add_memory(object, memory, cached_key_feed);
}

static PyObject *key_finish(PyObject *object, PyObject *ignored)
{
        struct key *self = (struct key *)object;
        cached_key *k = builder(self);
        uint8_t digest[CACHED_KEY_SIZE];
        int code;

        (void)ignored;
        if (!k)
                return NULL;
        code = cached_key_finish(k, digest);
        return code ? done(self, code) : PyBytes_FromStringAndSize((char *)digest, sizeof(digest));
}

static PyMethodDef methods[] = {
        {"add", key_add_value, METH_O, "add(value)\n\nAdds a value of any type."},
        {"add_builtin", key_add_builtin, METH_O,
         "add_builtin(value)\n\nAdds a value as if its own type were not special."},
        {"begin_list", key_begin_list, METH_NOARGS, "begin_list()"},
        {"begin_tuple", key_begin_tuple, METH_NOARGS, "begin_tuple()"},
        {"begin_map", key_begin_map, METH_NOARGS, "begin_map()"},
        {"begin_set", key_begin_set, METH_NOARGS, "begin_set()"},
        {"begin_bytes", key_begin_bytes, METH_NOARGS, "begin_bytes()\n\nThen feed(), end()."},
        {"begin_named", key_begin_named, METH_O, "begin_named(name)"},
        {"begin_array", key_begin_array, METH_VARARGS,
         "begin_array(dtype, shape)\n\nThen feed(), end()."},
        {"feed", key_feed, METH_O, "feed(buffer)"},
        {"end", key_end, METH_NOARGS, "end()"},
        {"bytes", key_bytes, METH_O, "bytes(buffer)"},
        {"date", key_date, METH_VARARGS, "date(year, month, day)"},
        {"time", key_time, METH_VARARGS, "time(hour, minute, second, nanosecond[, offset, zone])"},
        {"datetime", key_datetime, METH_VARARGS,
         "datetime(year, month, day, hour, minute, second, nanosecond[, offset, zone])"},
        {"duration", key_duration, METH_VARARGS, "duration(seconds, nanosecond)"},
        {"decimal", key_decimal, METH_O, "decimal(text)"},
        {"uuid", key_uuid, METH_VARARGS, "uuid(bytes)"},
        {"finish", key_finish, METH_NOARGS, "finish() -> bytes"},
        {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_doc, "Key(other, special=frozenset())\n\nA builder: other(key, value) adds what is "
                    "not plain, or of a type in special."},
        {Py_tp_new, key_new},
        {Py_tp_traverse, key_traverse},
        {Py_tp_clear, key_clear},
        {Py_tp_dealloc, key_dealloc},
        {Py_tp_methods, methods},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.Key",
        .basicsize = sizeof(struct key),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
};

/* key_of_call(name, code, arguments) -> bytes */
static PyObject *key_of_digest(PyObject *module, PyObject *args)
{
        struct binding *b = PyModule_GetState(module);
        const char *name, *arguments;
        Py_ssize_t n_name, n_arguments;
        PyObject *code, *result = NULL;
        uint8_t digest[CACHED_KEY_SIZE];
        cached_key *k;

        if (!PyArg_ParseTuple(args, "s#Oy#:key_of_digest", &name, &n_name, &code, &arguments,
                              &n_arguments))
                return NULL;
        k = key_take(b);
        if (!k)
                return NULL;
        if (!key_of_arguments(b, k, name, (size_t)n_name, code, arguments, (size_t)n_arguments,
                              digest))
                result = PyBytes_FromStringAndSize((char *)digest, sizeof(digest));
        key_give(b, k);
        return result;
}

/* digest_plain(values) -> bytes | None */
static PyObject *digest_plain(PyObject *module, PyObject *values)
{
        struct binding *b = PyModule_GetState(module);
        PyObject *result = NULL;
        uint8_t digest[CACHED_KEY_SIZE];
        cached_key *k;
        int r = 1;

        if (!PyTuple_CheckExact(values)) {
                PyErr_SetString(PyExc_TypeError, "digest_plain() takes a tuple");
                return NULL;
        }
        k = key_take(b);
        if (!k)
                return NULL;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(values) && r > 0; i++)
                r = key_add_plain(b, k, PyTuple_GET_ITEM(values, i));
        if (r > 0 && cached_key_finish(k, digest) == CACHED_OK)
                result = PyBytes_FromStringAndSize((char *)digest, sizeof(digest));
        key_give(b, k);
        if (r == 0)
                Py_RETURN_NONE;
        return result;
}

static PyMethodDef module_methods[] = {
        {"digest_plain", digest_plain, METH_O,
         "digest_plain(values) -> bytes | None\n\nThe key of plain values; None: one is not "
         "plain."},
        {"key_of_call", key_of_digest, METH_VARARGS,
         "key_of_call(name, code, arguments) -> bytes\n\nThe key of a call, of the digest of its "
         "arguments."},
        {NULL, NULL, 0, NULL},
};

int key_add(PyObject *module, struct binding *b)
{
        (void)b;
        if (PyModule_AddFunctions(module, module_methods))
                return -1;
        return binding_add_type(module, &spec) ? 0 : -1;
}
