/* SPDX-License-Identifier: MIT */
/*
 * What is to be stored: bytes in pieces, or a Buffer, and how
 *
 * Pieces are put together once: where libcached would copy a value of so many bytes into a memory
 * file, they are written into such a file at once, and without the interpreter's lock.
 */

#include "binding.h"

#include <string.h>

/* Longer values are memory files: as cached_set() has it. */
#define FILE_MIN ((size_t)4 << 20)
/* Less is copied before another thread would have the lock. */
#define UNLOCK_MIN ((size_t)64 << 10)

int number_of(PyObject *value, const char *name, uint64_t max, uint64_t otherwise, uint64_t *ret)
{
        unsigned long long n;
        PyObject *number;

        *ret = otherwise;
        if (!value || value == Py_None)
                return 0;
        number = PyNumber_Index(value);
        if (!number) {
                PyErr_Format(PyExc_TypeError, "%s is a whole number, not %.100s", name,
                             Py_TYPE(value)->tp_name);
                return -1;
        }
        n = PyLong_AsUnsignedLongLong(number);
        Py_DECREF(number);
        if ((n == (unsigned long long)-1 && PyErr_Occurred()) || n > max) {
                PyErr_Clear();
                PyErr_Format(PyExc_ValueError, "%s is 0 to %llu", name, (unsigned long long)max);
                return -1;
        }
        *ret = n;
        return 0;
}

int key_bytes_of(PyObject *key, const char **ret, Py_ssize_t *ret_n)
{
        char *bytes;

        if (!PyBytes_Check(key)) {
                PyErr_Format(PyExc_TypeError, "a key is bytes, not %.100s", Py_TYPE(key)->tp_name);
                return -1;
        }
        if (PyBytes_AsStringAndSize(key, &bytes, ret_n))
                return -1;
        *ret = bytes;
        return 0;
}

/* ---- options */

static int add_tags(cached_set_options *o, PyObject *tags)
{
        PyObject *all;
        int code = CACHED_OK;

        if (!tags || tags == Py_None)
                return 0;
        if (PyUnicode_Check(tags)) {
                PyErr_SetString(PyExc_TypeError, "tags is a sequence of texts, not a text");
                return -1;
        }
        all = PySequence_Tuple(tags);
        if (!all)
                return -1;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(all) && !code; i++) {
                PyObject *item = PyTuple_GET_ITEM(all, i);
                Py_ssize_t n;
                const char *tag = PyUnicode_Check(item) ? PyUnicode_AsUTF8AndSize(item, &n) : NULL;

                if (!PyUnicode_Check(item))
                        PyErr_Format(PyExc_TypeError, "a tag is a str, not %.100s",
                                     Py_TYPE(item)->tp_name);
                if (!tag || strlen(tag) != (size_t)n) {
                        if (tag)
                                PyErr_SetString(PyExc_ValueError, "a tag has no zero characters");
                        Py_DECREF(all);
                        return -1;
                }
                code = cached_set_options_add_tag(o, tag);
        }
        Py_DECREF(all);
        if (!code)
                return 0;
        PyErr_SetString(PyExc_ValueError, "too many tags: an entry has up to 8");
        return -1;
}

static int take_options(const struct payload_args *a, struct payload *p)
{
        uint64_t flags, ttl_ms, cost_us, mode;

        if (number_of(a->flags, "flags", UINT32_MAX, 0, &flags) ||
            number_of(a->ttl_ms, "ttl_ms", CACHED_NEVER, 0, &ttl_ms) ||
            number_of(a->cost_us, "cost_us", UINT64_MAX - 1, 0, &cost_us) ||
            number_of(a->mode, "mode", CACHED_SET_REPLACE_ONLY, CACHED_SET_ANY, &mode))
                return -1;
        p->o = cached_set_options_new();
        if (!p->o) {
                PyErr_NoMemory();
                return -1;
        }
        (void)cached_set_options_set_flags(p->o, (uint32_t)flags);
        if (a->ttl_ms && a->ttl_ms != Py_None)
                (void)cached_set_options_set_ttl_ms(p->o, ttl_ms);
        (void)cached_set_options_set_cost_us(p->o, cost_us);
        (void)cached_set_options_set_mode(p->o, (int)mode);
        return add_tags(p->o, a->tags);
}

/* ---- pieces */

static int take_buffer(struct payload *p, PyObject *object, PyObject *size)
{
        struct buffer *buffer = (struct buffer *)object;
        uint64_t n, max = cached_buffer_size(buffer->buffer);

        if (number_of(size, "size", max, max, &n))
                return -1;
        if (buffer->is_busy) {
                PyErr_SetString(PyExc_RuntimeError, "the Buffer is being stored by another thread");
                return -1;
        }
        buffer->is_busy = true;
        p->owner = new_ref(buffer);
        p->buffer = buffer->buffer;
        p->size = (size_t)n;
        return 0;
}

static int take_piece(struct payload *p, PyObject *piece)
{
        Py_buffer *view = &p->pieces[p->n];

        if (PyUnicode_Check(piece)) {
                PyErr_SetString(PyExc_TypeError, "a value is bytes, not text: encode it");
                return -1;
        }
        if (PyObject_GetBuffer(piece, view, PyBUF_SIMPLE))
                return -1;
        p->n++;
        if ((size_t)view->len > (size_t)PY_SSIZE_T_MAX - p->size) {
                PyErr_SetString(PyExc_OverflowError, "the value is too large");
                return -1;
        }
        p->size += (size_t)view->len;
        return 0;
}

/* Getting at a piece may run Python code, which could change a list. */
static PyObject *tuple_of(PyObject *pieces)
{
        if (PyObject_CheckBuffer(pieces))
                return PyTuple_Pack(1, pieces);
        if (PySequence_Check(pieces) && !PyUnicode_Check(pieces))
                return PySequence_Tuple(pieces);
        return PyErr_Format(PyExc_TypeError,
                            "a value is bytes, a sequence of bytes, or a Buffer, not %.100s",
                            Py_TYPE(pieces)->tp_name);
}

static int take_pieces(struct payload *p, PyObject *pieces)
{
        PyObject *all = tuple_of(pieces);
        Py_ssize_t n;
        int r = 0;

        if (!all)
                return -1;
        n = PyTuple_GET_SIZE(all);
        p->pieces = PyMem_Calloc((size_t)n ? (size_t)n : 1, sizeof(*p->pieces));
        if (!p->pieces) {
                PyErr_NoMemory();
                r = -1;
        }
        for (Py_ssize_t i = 0; i < n && !r; i++)
                r = take_piece(p, PyTuple_GET_ITEM(all, i));
        Py_DECREF(all);
        return r;
}

static void put_together(const struct payload *p, char *to)
{
        for (Py_ssize_t i = 0; i < p->n; i++) {
                memcpy(to, p->pieces[i].buf, (size_t)p->pieces[i].len);
                to += p->pieces[i].len;
        }
}

/* In one piece, where it is not. */
static int gather(struct client *client, struct payload *p)
{
        void *to;

        if (p->n == 1) {
                p->data = p->pieces[0].buf;
                if (p->size <= FILE_MIN)
                        return 0;
                p->data = NULL;
        }
        if (p->size > FILE_MIN) {
                int code;

                Py_BEGIN_ALLOW_THREADS;
                code = cached_buffer_new_ready(client->c, p->size, &p->made);
                if (!code)
                        put_together(p, cached_buffer_data(p->made));
                Py_END_ALLOW_THREADS;
                p->buffer = p->made;
                if (code)
                        (void)raise_code(client->b, code, NULL);
                return code ? -1 : 0;
        }
        to = p->heap = PyMem_RawMalloc(p->size ? p->size : 1);
        if (!to) {
                PyErr_NoMemory();
                return -1;
        }
        p->data = to;
        if (p->size < UNLOCK_MIN) {
                put_together(p, to);
        } else {
                Py_BEGIN_ALLOW_THREADS;
                put_together(p, to);
                Py_END_ALLOW_THREADS;
        }
        return 0;
}

int payload_take(struct client *client, const struct payload_args *a, struct payload *ret)
{
        *ret = (struct payload){0};
        if (take_options(a, ret))
                return -1;
        if (Py_IS_TYPE(a->pieces, client->b->buffer_type))
                return take_buffer(ret, a->pieces, a->size);
        if (a->size && a->size != Py_None) {
                PyErr_SetString(PyExc_TypeError, "size= is for a Buffer");
                return -1;
        }
        if (take_pieces(ret, a->pieces))
                return -1;
        return gather(client, ret);
}

void payload_free(struct payload *p)
{
        cached_set_options_free(p->o);
        for (Py_ssize_t i = 0; i < p->n; i++)
                PyBuffer_Release(&p->pieces[i]);
        PyMem_Free(p->pieces);
        PyMem_RawFree(p->heap);
        if (p->made) {
                Py_BEGIN_ALLOW_THREADS;
                cached_buffer_free(p->made);
                Py_END_ALLOW_THREADS;
        }
        if (p->owner)
                p->owner->is_busy = false;
        Py_XDECREF(p->owner);
}

PyObject *payload_stored(struct binding *b, struct payload *p, int code, cached_reply *r)
{
        uint64_t version = cached_reply_version(r);

        /* As soon as the daemon may have it. */
        if (p->owner && p->size > 0 && code != CACHED_ERR_USAGE && code != CACHED_ERR_NOMEM)
                p->owner->is_handed_over = true;
        payload_free(p);
        if (code)
                return raise_reply(b, code, r);
        cached_reply_free(r);
        return PyLong_FromUnsignedLongLong(version);
}
