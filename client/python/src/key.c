/* SPDX-License-Identifier: MIT */
/*
 * Keys of Python's values, by libcached's builder (proto/KEYS.md)
 *
 * One walk, in two manners. key_add_plain() is for functions that are called with plain values: it
 * runs no Python code and gives up at the first value that is not plain. Key, the type, is for
 * _keys.py: it walks plain containers in the same way, and hands every other value to a function
 * in Python, which adds to the same builder what the value is made of. So both give the same bytes.
 *
 * Exact types only: a subclass may be anything, and says itself (in _keys.py) what it is.
 */

#include "key.h"

/* ---- builders */

/* A builder has 30 KiB, and a key takes less time than getting that: one is kept. */
cached_key *key_take(struct binding *b)
{
        cached_key *k = b->spare_key;

        b->spare_key = NULL;
        if (!k)
                k = cached_key_new();
        if (!k)
                return (void *)PyErr_NoMemory();
        return k;
}

void key_give(struct binding *b, cached_key *k)
{
        if (b->spare_key) {
                cached_key_free(k);
                return;
        }
        cached_key_reset(k);
        b->spare_key = k;
}

int key_of_arguments(struct binding *b, cached_key *k, const char *name, size_t n_name,
                     PyObject *code, const void *arguments, size_t n_arguments,
                     uint8_t ret[CACHED_KEY_SIZE])
{
        int e = cached_key_add_text(k, name, n_name);

        if (!e && !PyUnicode_CheckExact(code) && !PyBytes_CheckExact(code)) {
                PyErr_SetString(PyExc_TypeError, "a function's code is told by str or bytes");
                return -1;
        }
        if (!e && key_add_plain(b, k, code) <= 0) {
                if (!PyErr_Occurred())
                        raise_text(b, CACHED_ERR_USAGE, cached_key_error(k));
                return -1;
        }
        if (!e)
                e = cached_key_add_bytes(k, arguments, n_arguments);
        if (!e)
                e = cached_key_finish(k, ret);
        if (e)
                raise_text(b, e, cached_key_error(k));
        return e ? -1 : 0;
}

int key_of_call(struct binding *b, cached_key *k, const char *name, size_t n_name, PyObject *code,
                uint8_t ret[CACHED_KEY_SIZE])
{
        uint8_t arguments[CACHED_KEY_SIZE];
        int e = cached_key_finish(k, arguments);

        if (e) {
                raise_text(b, e, cached_key_error(k));
                return -1;
        }
        cached_key_reset(k);
        return key_of_arguments(b, k, name, n_name, code, arguments, sizeof(arguments), ret);
}

/* ---- the walk: 1: added; 0: not plain; -1: an exception is set */

/* What a call on the builder returned. */
static int added(struct walk *w, int code)
{
        if (code == CACHED_OK)
                return 1;
        if (code != CACHED_ERR_NOMEM && !w->key)
                return 0; /* _keys.py comes to the same end, and says it with names */
        raise_text(w->b, code, cached_key_error(w->k));
        return -1;
}

static int add_buffer(struct walk *w, int (*add)(cached_key *, const void *, size_t),
                      const void *bytes, size_t n)
{
        int e;

        if (n < KEY_LARGE)
                return added(w, add(w->k, bytes, n));
        if (w->key)
                w->key->hashing = true;
        Py_BEGIN_ALLOW_THREADS;
        e = add(w->k, bytes, n);
        Py_END_ALLOW_THREADS;
        if (w->key)
                w->key->hashing = false;
        return added(w, e);
}

static int add_text(cached_key *k, const void *text, size_t n)
{
        return cached_key_add_text(k, text, n);
}

static int not_plain(struct walk *w, PyObject *v)
{
        PyObject *done;

        if (!w->key)
                return 0;
        if (Py_EnterRecursiveCall(" while a key is made"))
                return -1;
        done = PyObject_CallFunctionObjArgs(w->key->other, (PyObject *)w->key, v, NULL);
        Py_LeaveRecursiveCall();
        Py_XDECREF(done);
        return done ? 1 : -1;
}

/* Surrogates have no place in UTF-8, nor in a key: _keys.py has a type for such text. */
static int add_str(struct walk *w, PyObject *v)
{
        PyObject *encoded = NULL;
        const char *text;
        Py_ssize_t n;
        int r;

        if (PyUnicode_GET_LENGTH(v) < KEY_LARGE || PyUnicode_IS_ASCII(v)) {
                text = PyUnicode_AsUTF8AndSize(v, &n);
        } else { /* the text would keep its encoding for ever */
                encoded = PyUnicode_AsUTF8String(v);
                text = encoded ? PyBytes_AS_STRING(encoded) : NULL;
                n = encoded ? PyBytes_GET_SIZE(encoded) : 0;
        }
        if (!text) {
                if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
                        return -1;
                PyErr_Clear();
                return not_plain(w, v);
        }
        r = add_buffer(w, add_text, text, (size_t)n);
        Py_XDECREF(encoded);
        return r;
}

static int add_long_int(struct walk *w, PyObject *v, bool negative)
{
        PyObject *magnitude = PyNumber_Absolute(v), *bits = NULL, *bytes = NULL;
        Py_ssize_t n = -1;
        int r = -1;

        if (magnitude)
                bits = PyObject_CallMethod(magnitude, "bit_length", NULL);
        if (bits)
                n = PyLong_AsSsize_t(bits);
        if (n >= 0)
                bytes = PyObject_CallMethod(magnitude, "to_bytes", "ns", n / 8 + (n % 8 > 0),
                                            "big");
        if (bytes)
                r = added(w, cached_key_add_integer(w->k, negative, PyBytes_AS_STRING(bytes),
                                                    (size_t)PyBytes_GET_SIZE(bytes)));
        Py_XDECREF(magnitude);
        Py_XDECREF(bits);
        Py_XDECREF(bytes);
        return r;
}

static int add_int(struct walk *w, PyObject *v)
{
        int overflow;
        long long i = PyLong_AsLongLongAndOverflow(v, &overflow);

        if (overflow)
                return add_long_int(w, v, overflow < 0);
        return added(w, cached_key_add_int(w->k, i));
}

/* Tells an error in a member of a container where it was: errors that want to know have a list
 * `where`, which is filled from the inside out. */
static int failed_at(PyObject *at)
{
        PyObject *type, *error, *trace, *where;

        PyErr_Fetch(&type, &error, &trace);
        PyErr_NormalizeException(&type, &error, &trace);
        where = error && at ? PyObject_GetAttrString(error, "where") : NULL;
        if (where && PyList_CheckExact(where) && PyList_GET_SIZE(where) < CACHED_KEY_DEPTH_MAX)
                (void)PyList_Append(where, at);
        Py_XDECREF(where);
        PyErr_Clear();
        PyErr_Restore(type, error, trace);
        return -1;
}

static int failed_at_index(Py_ssize_t i)
{
        PyObject *type, *error, *trace, *at;

        PyErr_Fetch(&type, &error, &trace);
        at = PyLong_FromSsize_t(i);
        PyErr_Clear();
        PyErr_Restore(type, error, trace);
        failed_at(at);
        Py_XDECREF(at);
        return -1;
}

static int add_list(struct walk *w, PyObject *v)
{
        bool list = PyList_CheckExact(v);
        int r = added(w, list ? cached_key_begin_list(w->k) : cached_key_begin_tuple(w->k));

        /* The list may change meanwhile, where other code runs. */
        for (Py_ssize_t i = 0; r > 0; i++) {
                if (i >= (list ? PyList_GET_SIZE(v) : PyTuple_GET_SIZE(v)))
                        return added(w, cached_key_end(w->k));
                PyObject *member = list ? PyList_GET_ITEM(v, i) : PyTuple_GET_ITEM(v, i);
                Py_INCREF(member);
                r = key_walk(w, member);
                Py_DECREF(member);
                if (r < 0)
                        failed_at_index(i);
        }
        return r;
}

static int add_pair(struct walk *w, PyObject *name, PyObject *value)
{
        int r = key_walk(w, name);

        if (r < 0)
                return failed_at(name);
        if (r > 0)
                r = key_walk(w, value);
        return r < 0 ? failed_at(name) : r;
}

static int add_dict(struct walk *w, PyObject *v)
{
        PyObject *name, *value;
        Py_ssize_t at = 0, n = PyDict_GET_SIZE(v);
        int r = added(w, cached_key_begin_map(w->k));

        while (r > 0 && PyDict_Next(v, &at, &name, &value)) {
                Py_INCREF(name);
                Py_INCREF(value);
                r = add_pair(w, name, value);
                Py_DECREF(name);
                Py_DECREF(value);
                if (r > 0 && PyDict_GET_SIZE(v) != n) {
                        PyErr_SetString(PyExc_RuntimeError,
                                        "a dictionary changed its size while a key was made of it");
                        return -1;
                }
        }
        return r > 0 ? added(w, cached_key_end(w->k)) : r;
}

static int add_set(struct walk *w, PyObject *v)
{
        PyObject *iterator, *member;
        int r = added(w, cached_key_begin_set(w->k));

        if (r <= 0)
                return r;
        iterator = PyObject_GetIter(v);
        if (!iterator)
                return -1;
        while (r > 0 && (member = PyIter_Next(iterator))) {
                r = key_walk(w, member);
                if (r < 0)
                        failed_at(member);
                Py_DECREF(member);
        }
        Py_DECREF(iterator);
        if (r > 0 && PyErr_Occurred())
                return -1;
        return r > 0 ? added(w, cached_key_end(w->k)) : r;
}

/* It equals the set, and a function can tell the two apart. */
static int add_frozenset(struct walk *w, PyObject *v)
{
        static const char name[] = "python:frozenset";
        int r = added(w, cached_key_begin_named(w->k, name, sizeof(name) - 1));

        if (r > 0)
                r = add_set(w, v);
        return r > 0 ? added(w, cached_key_end(w->k)) : r;
}

int key_walk_builtin(struct walk *w, PyObject *v)
{
        if (v == Py_None)
                return added(w, cached_key_add_null(w->k));
        if (PyLong_CheckExact(v))
                return add_int(w, v);
        if (PyUnicode_CheckExact(v))
                return add_str(w, v);
        if (PyFloat_CheckExact(v))
                return added(w, cached_key_add_double(w->k, PyFloat_AS_DOUBLE(v)));
        if (PyBool_Check(v))
                return added(w, cached_key_add_bool(w->k, v == Py_True));
        if (PyBytes_CheckExact(v))
                return add_buffer(w, cached_key_add_bytes, PyBytes_AS_STRING(v),
                                  (size_t)PyBytes_GET_SIZE(v));
        if (PyList_CheckExact(v) || PyTuple_CheckExact(v))
                return add_list(w, v);
        if (PyDict_CheckExact(v))
                return add_dict(w, v);
        if (PyAnySet_CheckExact(v))
                return PyFrozenSet_CheckExact(v) ? add_frozenset(w, v) : add_set(w, v);
        return not_plain(w, v);
}

int key_walk(struct walk *w, PyObject *v)
{
        if (w->key && w->key->special) {
                int special = PySet_Contains(w->key->special, (PyObject *)Py_TYPE(v));
                if (special)
                        return special < 0 ? -1 : not_plain(w, v);
        }
        return key_walk_builtin(w, v);
}

int key_add_plain(struct binding *b, cached_key *k, PyObject *value)
{
        struct walk w = {.b = b, .k = k};
        return key_walk_builtin(&w, value);
}
