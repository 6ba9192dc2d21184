/* SPDX-License-Identifier: MIT */
/*
 * Values: writing
 *
 * The CBOR goes into one growing buffer; a long string stays where it is and becomes a piece of the
 * value by itself, so that it is copied once, into the daemon's memory. Types that are not Python's
 * plainest are asked of a function of the caller's: other(value, inside) gives a tag and what
 * stands behind it, as a tuple; inside: whether this is part of a named type's state.
 *
 * Containers, and what other() is asked for, are written once and then referred to. Those that
 * nobody but their parent holds cannot come twice and are not looked up. The references that keep
 * them alive while this goes on are taken before: a container's count is then 2 if it is its
 * parent's alone.
 */

#include "value.h"

#define PIECE_MIN 65536 /* bytes of a string that is a piece of its own */

/* Containers in each other: each takes up to three levels of CBOR. */
#define WRITE_DEPTH_MAX (CBOR_DEPTH_MAX / 3)

struct writer {
        struct cbor_writer w;
        struct binding *b;
        PyObject *other;   /* borrowed */
        PyObject *root;    /* borrowed; the value itself */
        PyObject *pieces;  /* list */
        PyObject *seen;    /* dict: address of what is shared to its number */
        PyObject *kept;    /* list of those by number, so that no address means another one */
        unsigned depth;    /* of containers */
        unsigned hashed;   /* in how many keys and members of sets */
        unsigned named;    /* in how many named types */
        int share_root;    /* the value itself may be referred to */
        bool root_again;   /* it had to be, and could not */
        const char *unfit; /* why it cannot be written like this */
};

/* The text of a str, as bytes; holds the str. */
struct text {
        PyObject_HEAD PyObject *text;
};

static int write_item(struct writer *v, PyObject *value);

static int unfit(struct writer *v, const char *why)
{
        v->unfit = why;
        return -1;
}

/* ---- strings */

static int text_buffer(PyObject *object, Py_buffer *view, int how)
{
        Py_ssize_t n;
        const char *bytes = PyUnicode_AsUTF8AndSize(((struct text *)object)->text, &n);

        return bytes ? PyBuffer_FillInfo(view, object, (void *)(uintptr_t)bytes, n, 1, how) : -1;
}

static void text_dealloc(PyObject *object)
{
        PyTypeObject *type = Py_TYPE(object);

        Py_XDECREF(((struct text *)object)->text);
        type->tp_free(object);
        Py_DECREF(type);
}

static PyType_Slot text_slots[] = {
        {Py_tp_doc, "The UTF-8 of a str, without a copy where it is ASCII"},
        {Py_tp_dealloc, text_dealloc},
        {Py_bf_getbuffer, text_buffer},
        {0, NULL},
};

static PyType_Spec text_spec = {
        .name = "cached._binding.Text",
        .basicsize = sizeof(struct text),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = text_slots,
};

/* The UTF-8 of @text, as an object with a buffer. */
static PyObject *text_bytes(struct binding *b, PyObject *text)
{
        if (!PyUnicode_IS_COMPACT_ASCII(text))
                return PyUnicode_AsUTF8String(text);
        struct text *self = PyObject_New(struct text, b->text_type);
        if (!self)
                return NULL;
        Py_INCREF(text);
        self->text = text;
        return (PyObject *)self;
}

/* What was written becomes a piece; the writer is empty then. */
static int cut(struct writer *v)
{
        PyObject *piece;
        int r;

        if (v->w.failed) {
                PyErr_NoMemory();
                return -1;
        }
        piece = PyBytes_FromStringAndSize((const char *)v->w.data, (Py_ssize_t)v->w.n);
        if (!piece)
                return -1;
        cbor_writer_free(&v->w);
        r = PyList_Append(v->pieces, piece);
        Py_DECREF(piece);
        return r;
}

static int write_piece(struct writer *v, unsigned major, PyObject *bytes, Py_ssize_t n)
{
        cbor_put(&v->w, major, (uint64_t)n);
        return cut(v) ? -1 : PyList_Append(v->pieces, bytes);
}

static int write_bytes(struct writer *v, PyObject *bytes)
{
        Py_ssize_t n = PyBytes_GET_SIZE(bytes);

        if (n >= PIECE_MIN)
                return write_piece(v, 2, bytes, n);
        cbor_put_string(&v->w, 2, PyBytes_AS_STRING(bytes), (size_t)n);
        return 0;
}

/* A text with surrogates has no UTF-8. */
static int write_wtf8(struct writer *v, PyObject *text)
{
        PyErr_Clear();
        PyObject *bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
        if (!bytes)
                return -1;
        cbor_put(&v->w, 6, TAG_WTF8);
        int r = write_bytes(v, bytes);
        Py_DECREF(bytes);
        return r;
}

static int write_text(struct writer *v, PyObject *text)
{
        PyObject *bytes;
        Py_ssize_t n;
        int r;

        if (PyUnicode_IS_COMPACT_ASCII(text) && PyUnicode_GET_LENGTH(text) < PIECE_MIN) {
                cbor_put_string(&v->w, 3, PyUnicode_DATA(text), (size_t)PyUnicode_GET_LENGTH(text));
                return 0;
        }
        if (PyUnicode_IS_COMPACT_ASCII(text)) {
                bytes = text_bytes(v->b, text);
                n = PyUnicode_GET_LENGTH(text);
        } else {
                bytes = PyUnicode_AsUTF8String(text);
                if (!bytes && PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
                        return write_wtf8(v, text);
                n = bytes ? PyBytes_GET_SIZE(bytes) : 0;
        }
        if (!bytes)
                return -1;
        if (n >= PIECE_MIN) {
                r = write_piece(v, 3, bytes, n);
        } else {
                cbor_put_string(&v->w, 3, PyBytes_AS_STRING(bytes), (size_t)n);
                r = 0;
        }
        Py_DECREF(bytes);
        return r;
}

static int write_bytearray(struct writer *v, PyObject *value)
{
        /* A piece holds the value as it is now. */
        PyObject *bytes = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(value),
                                                    PyByteArray_GET_SIZE(value));
        if (!bytes)
                return -1;
        cbor_put(&v->w, 6, TAG_BYTEARRAY);
        int r = write_bytes(v, bytes);
        Py_DECREF(bytes);
        return r;
}

/* ---- numbers */

static int write_big(struct writer *v, PyObject *value, bool negative)
{
        PyObject *n = negative ? PyNumber_Invert(value) : PyNumber_Positive(value);
        PyObject *bits = n ? PyObject_CallMethod(n, "bit_length", NULL) : NULL;
        Py_ssize_t n_bits = bits ? PyLong_AsSsize_t(bits) : -1;
        PyObject *bytes = NULL;
        int r = -1;

        Py_XDECREF(bits);
        if (n_bits >= 0)
                bytes = PyObject_CallMethod(n, "to_bytes", "ns", (n_bits + 7) / 8, "big");
        Py_XDECREF(n);
        if (!bytes)
                return -1;
        cbor_put(&v->w, 6, negative ? TAG_BIG_NEGATIVE : TAG_BIG);
        r = write_bytes(v, bytes);
        Py_DECREF(bytes);
        return r;
}

static int write_int(struct writer *v, PyObject *value)
{
        int overflow;
        long long n = PyLong_AsLongLongAndOverflow(value, &overflow);

        if (n == -1 && !overflow && PyErr_Occurred())
                return -1;
        if (!overflow) {
                cbor_put(&v->w, n < 0, n < 0 ? (uint64_t)(-1 - n) : (uint64_t)n);
                return 0;
        }
        if (overflow > 0) {
                unsigned long long u = PyLong_AsUnsignedLongLong(value);
                if (u != (unsigned long long)-1 || !PyErr_Occurred()) {
                        cbor_put(&v->w, 0, u);
                        return 0;
                }
                if (!PyErr_ExceptionMatches(PyExc_OverflowError))
                        return -1;
                PyErr_Clear();
        }
        return write_big(v, value, overflow < 0);
}

/* ---- containers */

static int changed(void)
{
        PyErr_SetString(PyExc_RuntimeError, "the value was changed while it was being stored");
        return -1;
}

static int write_held(struct writer *v, PyObject *value)
{
        Py_INCREF(value);
        int r = write_item(v, value);
        Py_DECREF(value);
        return r;
}

static int write_list(struct writer *v, PyObject *list)
{
        Py_ssize_t n = PyList_GET_SIZE(list);

        cbor_put(&v->w, 4, (uint64_t)n);
        for (Py_ssize_t i = 0; i < n; i++) {
                if (PyList_GET_SIZE(list) != n)
                        return changed();
                if (write_held(v, PyList_GET_ITEM(list, i)))
                        return -1;
        }
        return PyList_GET_SIZE(list) == n ? 0 : changed();
}

static int write_tuple(struct writer *v, PyObject *tuple)
{
        Py_ssize_t n = PyTuple_GET_SIZE(tuple);

        cbor_put(&v->w, 6, TAG_TUPLE);
        cbor_put(&v->w, 4, (uint64_t)n);
        for (Py_ssize_t i = 0; i < n; i++)
                if (write_held(v, PyTuple_GET_ITEM(tuple, i)))
                        return -1;
        return 0;
}

static int write_dict(struct writer *v, PyObject *dict)
{
        Py_ssize_t n = PyDict_GET_SIZE(dict), at = 0, i = 0;
        PyObject *key, *value;

        cbor_put(&v->w, 5, (uint64_t)n);
        for (; PyDict_Next(dict, &at, &key, &value); i++) {
                if (i == n)
                        return changed();
                Py_INCREF(key);
                Py_INCREF(value);
                v->hashed++;
                int r = write_item(v, key);
                v->hashed--;
                Py_DECREF(key);
                if (!r)
                        r = write_item(v, value);
                Py_DECREF(value);
                if (r)
                        return -1;
                if (PyDict_GET_SIZE(dict) != n)
                        return changed();
        }
        return i == n ? 0 : changed();
}

static int write_set(struct writer *v, PyObject *set, unsigned tag)
{
        Py_ssize_t n = PySet_GET_SIZE(set), i = 0;
        PyObject *iterator = PyObject_GetIter(set), *member;

        if (!iterator)
                return -1;
        cbor_put(&v->w, 6, tag);
        cbor_put(&v->w, 4, (uint64_t)n);
        v->hashed++;
        /* Its iterator looks for changes. */
        for (; (member = PyIter_Next(iterator)); i++) {
                int r = write_item(v, member);
                Py_DECREF(member);
                if (r)
                        break;
        }
        v->hashed--;
        Py_DECREF(iterator);
        if (i == n && !PyErr_Occurred())
                return 0;
        return PyErr_Occurred() || v->unfit ? -1 : changed();
}

/* ---- what is there more than once */

/* Containers that a reader shows to their content before they are complete: these may hold
 * themselves. */
static bool is_open(PyObject *value)
{
        return PyList_CheckExact(value) || PyDict_CheckExact(value);
}

/* A number that means: still being written. */
static Py_ssize_t unfinished(Py_ssize_t number)
{
        return -1 - number;
}

static int set_number(struct writer *v, PyObject *value, Py_ssize_t number)
{
        PyObject *address = PyLong_FromVoidPtr(value), *object = PyLong_FromSsize_t(number);
        int r = address && object ? PyDict_SetItem(v->seen, address, object) : -1;

        Py_XDECREF(address);
        Py_XDECREF(object);
        return r;
}

/* 0: there is none. */
static int get_number(struct writer *v, PyObject *value, Py_ssize_t *ret)
{
        PyObject *address = PyLong_FromVoidPtr(value), *number;

        if (!address)
                return -1;
        number = PyDict_GetItemWithError(v->seen, address);
        Py_DECREF(address);
        if (!number)
                return PyErr_Occurred() ? -1 : 0;
        *ret = PyLong_AsSsize_t(number);
        return 1;
}

static int write_reference(struct writer *v, Py_ssize_t number)
{
        if (number < 0)
                return unfit(v, "it holds itself within a tuple");
        cbor_put(&v->w, 6, TAG_REFERENCE);
        cbor_put(&v->w, 0, (uint64_t)number);
        return 0;
}

/* Writes @value by @write, or a reference to it. */
static int write_once(struct writer *v, PyObject *value,
                      int (*write)(struct writer *v, PyObject *value))
{
        bool root = value == v->root;
        Py_ssize_t number = 0;
        int r;

        if (v->hashed > 0 || (root ? !v->share_root && v->depth == 1 : Py_REFCNT(value) <= 2))
                return write(v, value);
        if (root && !v->share_root) {
                v->root_again = true;
                return unfit(v, "it holds itself");
        }
        r = get_number(v, value, &number);
        if (r)
                return r < 0 ? -1 : write_reference(v, number);
        number = PyList_GET_SIZE(v->kept);
        if (PyList_Append(v->kept, value) ||
            set_number(v, value, is_open(value) ? number : unfinished(number)))
                return -1;
        cbor_put(&v->w, 6, TAG_SHARED);
        r = write(v, value);
        return r || is_open(value) ? r : set_number(v, value, number);
}

/* ---- items */

static int write_set_item(struct writer *v, PyObject *set)
{
        return write_set(v, set, PyFrozenSet_CheckExact(set) ? TAG_FROZENSET : TAG_SET);
}

static int write_other(struct writer *v, PyObject *value)
{
        PyObject *answer = PyObject_CallFunction(v->other, "Oi", value, v->named > 0);
        unsigned long long tag;
        int r = -1;

        if (!answer)
                return -1;
        if (!PyTuple_CheckExact(answer) || PyTuple_GET_SIZE(answer) != 2) {
                PyErr_SetString(PyExc_TypeError, "other() gives a tag and an item");
                goto out;
        }
        tag = PyLong_AsUnsignedLongLong(PyTuple_GET_ITEM(answer, 0));
        if (tag == (unsigned long long)-1 && PyErr_Occurred())
                goto out;
        cbor_put(&v->w, 6, tag);
        v->named += tag == TAG_NAMED;
        r = write_held(v, PyTuple_GET_ITEM(answer, 1));
        v->named -= tag == TAG_NAMED;
out:
        Py_DECREF(answer);
        return r;
}

/* Nothing can be shared in an empty one. */
static int write_container(struct writer *v, PyObject *value)
{
        if (PyTuple_CheckExact(value))
                return PyTuple_GET_SIZE(value) > 0 ? write_once(v, value, write_tuple)
                                                   : write_tuple(v, value);
        if (PyList_CheckExact(value))
                return write_once(v, value, write_list);
        if (PyDict_CheckExact(value))
                return write_once(v, value, write_dict);
        if (PyFrozenSet_CheckExact(value) && PySet_GET_SIZE(value) == 0)
                return write_set_item(v, value);
        if (PyAnySet_CheckExact(value))
                return write_once(v, value, write_set_item);
        return write_once(v, value, write_other);
}

static int write_item(struct writer *v, PyObject *value)
{
        int r;

        if (PyUnicode_CheckExact(value))
                return write_text(v, value);
        if (PyLong_CheckExact(value))
                return write_int(v, value);
        if (PyFloat_CheckExact(value)) {
                cbor_put_double(&v->w, PyFloat_AS_DOUBLE(value));
                return 0;
        }
        if (value == Py_None || PyBool_Check(value)) {
                cbor_put(&v->w, 7, value == Py_None ? 22 : value == Py_True ? 21 : 20);
                return 0;
        }
        if (PyBytes_CheckExact(value))
                return write_bytes(v, value);
        if (PyByteArray_CheckExact(value))
                return write_bytearray(v, value);
        if (v->depth == WRITE_DEPTH_MAX)
                return unfit(v, "it is nested too deep");
        v->depth++;
        r = write_container(v, value);
        v->depth--;
        return r;
}

/* ---- whole values */

/* A list of pieces; or the reason, as text, why it cannot be written so; or None: write it again
 * with its root shared. */
static PyObject *write_all(struct writer *v, PyObject *value)
{
        PyObject *result = NULL;

        cbor_writer_init(&v->w);
        v->pieces = PyList_New(0);
        v->kept = PyList_New(0);
        v->seen = PyDict_New();
        if (v->pieces && v->kept && v->seen && !write_held(v, value) && !cut(v)) {
                result = v->pieces;
                v->pieces = NULL;
        } else if (v->root_again) {
                result = Py_None;
                Py_INCREF(result);
        } else if (v->unfit) {
                result = PyUnicode_FromString(v->unfit);
        }
        cbor_writer_free(&v->w);
        Py_XDECREF(v->pieces);
        Py_XDECREF(v->kept);
        Py_XDECREF(v->seen);
        return result;
}

static PyObject *value_encode(PyObject *module, PyObject *args)
{
        struct writer v = {.depth = 0};

        if (!PyArg_ParseTuple(args, "OO|p:value_encode", &v.root, &v.other, &v.share_root))
                return NULL;
        v.b = PyModule_GetState(module);
        return write_all(&v, v.root);
}

static PyObject *value_text(PyObject *module, PyObject *text)
{
        if (!PyUnicode_Check(text)) {
                PyErr_SetString(PyExc_TypeError, "value_text() wants a str");
                return NULL;
        }
        return text_bytes(PyModule_GetState(module), text);
}

/* ---- the module */

static PyObject *value_place(PyObject *module, PyObject *object)
{
        Py_buffer view;

        (void)module;
        if (PyObject_GetBuffer(object, &view, PyBUF_SIMPLE))
                return NULL;
        PyObject *result = Py_BuildValue("Kn", (unsigned long long)(uintptr_t)view.buf, view.len);
        PyBuffer_Release(&view);
        return result;
}

static PyMethodDef methods[] = {
        {"value_encode", value_encode, METH_VARARGS,
         "value_encode(value, other, share_root=False) -> list | None | str\n\nThe pieces of its "
         "CBOR; None: once more "
         "with share_root; a text: why it has none. other(value, inside) -> (tag, item)."},
        {"value_text", value_text, METH_O,
         "value_text(str) -> bytes-like\n\nIts UTF-8, without a copy if it is ASCII."},
        {"value_place", value_place, METH_O, "value_place(bytes-like) -> (address, size)"},
        {"value_load", value_load, METH_VARARGS,
         "value_load(flags, bytes-like) -> object\n\nA plain value; NotImplemented: it is not "
         "plain. ValueError: corrupt."},
        {"value_decode", value_decode, METH_VARARGS,
         "value_decode(bytes-like, other) -> object\n\nThe value of CBOR; other(tag, content) -> "
         "object for tags that are "
         "not plain. ValueError: corrupt."},
        {NULL, NULL, 0, NULL},
};

int value_add(PyObject *module, struct binding *b)
{
        b->text_type = binding_add_type(module, &text_spec);
        if (!b->text_type)
                return -1;
        return PyModule_AddFunctions(module, methods);
}
