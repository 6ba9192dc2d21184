/* SPDX-License-Identifier: MIT */
/*
 * Values: reading
 *
 * Python objects are made of the items as they come; nothing else is built in between. What the
 * bytes claim is checked before memory is taken for it. Types that are not Python's plainest are
 * asked of a function of the caller's, other(tag, content); without one, such a value is "not
 * plain".
 */

#include "value.h"

struct reader {
        struct cbor_reader r;
        PyObject *other;  /* borrowed; NULL: plain values only */
        PyObject *shared; /* list of what carries TAG_SHARED, None where it is not complete; or NULL
                           */
        Py_ssize_t mark;  /* the place in it for the container that is read next, or -1 */
        unsigned depth;
        unsigned hashed; /* in how many keys and members of sets */
        bool not_plain;
        const char *wrong; /* what is wrong with the bytes */
};

static PyObject *read_item(struct reader *v);

/* What every failure of the bytes ends with: NULL without an exception. */
static PyObject *wrong(struct reader *v, const char *what)
{
        if (!v->wrong)
                v->wrong = what;
        return NULL;
}

/* An exception of that type is the bytes' fault. */
static PyObject *wrong_if(struct reader *v, PyObject *type, const char *what)
{
        if (!PyErr_ExceptionMatches(type))
                return NULL;
        PyErr_Clear();
        return wrong(v, what);
}

/* ---- strings and numbers */

static PyObject *read_bytes(struct reader *v, const struct cbor_item *item)
{
        size_t n;
        PyObject *result;

        if (!item->indefinite)
                return PyBytes_FromStringAndSize((const char *)item->bytes, (Py_ssize_t)item->n);
        if (!cbor_chunks_length(&v->r, item->kind, &n))
                return wrong(v, "a string's chunks are no strings");
        result = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)n);
        if (result)
                cbor_chunks_copy(&v->r, (uint8_t *)PyBytes_AS_STRING(result));
        return result;
}

static PyObject *text_of(struct reader *v, const char *bytes, size_t n, const char *errors)
{
        PyObject *text = PyUnicode_DecodeUTF8(bytes, (Py_ssize_t)n, errors);
        return text ? text : wrong_if(v, PyExc_UnicodeDecodeError, "a text is not UTF-8");
}

static PyObject *read_text(struct reader *v, const struct cbor_item *item)
{
        if (!item->indefinite)
                return text_of(v, (const char *)item->bytes, (size_t)item->n, NULL);
        PyObject *bytes = read_bytes(v, item);
        if (!bytes)
                return NULL;
        PyObject *text =
                text_of(v, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes), NULL);
        Py_DECREF(bytes);
        return text;
}

static PyObject *read_negative(uint64_t n)
{
        if (n <= INT64_MAX)
                return PyLong_FromLongLong(-1 - (long long)n);
        PyObject *positive = PyLong_FromUnsignedLongLong(n);
        if (!positive)
                return NULL;
        PyObject *result = PyNumber_Invert(positive);
        Py_DECREF(positive);
        return result;
}

static PyObject *read_simple(struct reader *v, uint64_t n)
{
        switch (n) {
        case 20:
                Py_RETURN_FALSE;
        case 21:
                Py_RETURN_TRUE;
        case 22:
                Py_RETURN_NONE;
        default:
                return wrong(v, "a simple value that has no meaning here");
        }
}

/* ---- containers: their place among the shared ones is filled before their content is read */

static int remember(struct reader *v, Py_ssize_t mark, PyObject *container)
{
        if (mark < 0)
                return 0;
        Py_INCREF(container);
        return PyList_SetItem(v->shared, mark, container);
}

static PyObject *read_list(struct reader *v, const struct cbor_item *item, Py_ssize_t mark)
{
        Py_ssize_t n = (Py_ssize_t)item->n;
        /* Filled by appending where it may be seen before it is complete. */
        bool visible = item->indefinite || mark >= 0 || v->other;
        PyObject *list = PyList_New(visible ? 0 : n);

        if (!list || remember(v, mark, list))
                goto fail;
        for (Py_ssize_t i = 0; item->indefinite ? !cbor_at_break(&v->r) : i < n; i++) {
                PyObject *element = read_item(v);
                if (!element)
                        goto fail;
                if (!visible) {
                        PyList_SET_ITEM(list, i, element);
                        continue;
                }
                int r = PyList_Append(list, element);
                Py_DECREF(element);
                if (r)
                        goto fail;
        }
        return list;
fail:
        Py_XDECREF(list);
        return NULL;
}

static int read_pair(struct reader *v, PyObject *dict)
{
        PyObject *key, *value;
        int r;

        v->hashed++;
        key = read_item(v);
        v->hashed--;
        if (!key)
                return -1;
        value = read_item(v);
        if (!value) {
                Py_DECREF(key);
                return -1;
        }
        r = PyDict_SetItem(dict, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
        if (r)
                wrong_if(v, PyExc_TypeError, "a key of a map cannot be one here");
        return r;
}

static PyObject *read_dict(struct reader *v, const struct cbor_item *item, Py_ssize_t mark)
{
        Py_ssize_t n = 0;
        PyObject *dict = PyDict_New();

        if (!dict || remember(v, mark, dict))
                goto fail;
        for (; item->indefinite ? !cbor_at_break(&v->r) : n < (Py_ssize_t)item->n; n++)
                if (read_pair(v, dict))
                        goto fail;
        if (PyDict_GET_SIZE(dict) == n)
                return dict;
        wrong(v, "a map has a key twice");
fail:
        Py_XDECREF(dict);
        return NULL;
}

static int read_member(struct reader *v, PyObject *set)
{
        PyObject *member;
        int r;

        v->hashed++;
        member = read_item(v);
        v->hashed--;
        if (!member)
                return -1;
        r = PySet_Add(set, member);
        Py_DECREF(member);
        if (r)
                wrong_if(v, PyExc_TypeError, "a member of a set cannot be one here");
        return r;
}

static PyObject *read_set(struct reader *v, const struct cbor_item *item, bool frozen,
                          Py_ssize_t mark)
{
        Py_ssize_t n = 0;
        PyObject *set = frozen ? PyFrozenSet_New(NULL) : PySet_New(NULL);

        if (set && frozen && item->n == 0 && !item->indefinite)
                return set;
        if (!set || (!frozen && remember(v, mark, set)))
                goto fail;
        for (; item->indefinite ? !cbor_at_break(&v->r) : n < (Py_ssize_t)item->n; n++)
                if (read_member(v, set))
                        goto fail;
        if (PySet_GET_SIZE(set) == n)
                return set;
        wrong(v, "a set has a member twice");
fail:
        Py_XDECREF(set);
        return NULL;
}

static PyObject *read_tuple(struct reader *v, const struct cbor_item *item)
{
        Py_ssize_t n = (Py_ssize_t)item->n;
        PyObject *result;

        if (item->indefinite) {
                PyObject *list = read_list(v, item, -1);
                result = list ? PyList_AsTuple(list) : NULL;
                Py_XDECREF(list);
                return result;
        }
        result = PyTuple_New(n);
        for (Py_ssize_t i = 0; result && i < n; i++) {
                PyObject *element = read_item(v);
                if (element)
                        PyTuple_SET_ITEM(result, i, element);
                else
                        Py_CLEAR(result);
        }
        return result;
}

/* ---- tags */

static PyObject *read_big(struct reader *v, const struct cbor_item *item, bool negative)
{
        PyObject *bytes = read_bytes(v, item), *number, *result;

        if (!bytes)
                return NULL;
        number = PyObject_CallMethod((PyObject *)&PyLong_Type, "from_bytes", "Os", bytes, "big");
        Py_DECREF(bytes);
        if (!number || !negative)
                return number;
        result = PyNumber_Invert(number);
        Py_DECREF(number);
        return result;
}

static PyObject *read_wtf8(struct reader *v, const struct cbor_item *item)
{
        PyObject *bytes = read_bytes(v, item), *text;

        if (!bytes)
                return NULL;
        text = text_of(v, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes),
                       "surrogatepass");
        Py_DECREF(bytes);
        return text;
}

static PyObject *read_bytearray(struct reader *v, const struct cbor_item *item)
{
        size_t n = (size_t)item->n;

        if (!item->indefinite)
                return PyByteArray_FromStringAndSize((const char *)item->bytes, (Py_ssize_t)n);
        if (!cbor_chunks_length(&v->r, item->kind, &n))
                return wrong(v, "a string's chunks are no strings");
        PyObject *result = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)n);
        if (result)
                cbor_chunks_copy(&v->r, (uint8_t *)PyByteArray_AS_STRING(result));
        return result;
}

static PyObject *read_shared(struct reader *v)
{
        PyObject *result;
        Py_ssize_t mark;

        if (v->hashed > 0)
                return wrong(v, "a shared item in a key");
        if (!v->shared)
                v->shared = PyList_New(0);
        if (!v->shared || PyList_Append(v->shared, Py_None))
                return NULL;
        mark = v->mark = PyList_GET_SIZE(v->shared) - 1;
        result = read_item(v);
        v->mark = -1;
        if (result && remember(v, mark, result))
                Py_CLEAR(result);
        return result;
}

static PyObject *read_reference(struct reader *v, const struct cbor_item *item)
{
        if (v->hashed > 0)
                return wrong(v, "a reference in a key");
        if (item->kind != CBOR_UINT || !v->shared ||
            item->n >= (uint64_t)PyList_GET_SIZE(v->shared))
                return wrong(v, "a reference to nothing");
        PyObject *result = PyList_GET_ITEM(v->shared, (Py_ssize_t)item->n);
        if (result == Py_None)
                return wrong(v, "a reference to what is not complete");
        Py_INCREF(result);
        return result;
}

static PyObject *read_other(struct reader *v, uint64_t tag)
{
        PyObject *content, *result;

        if (!v->other) {
                v->not_plain = true;
                return NULL;
        }
        content = read_item(v);
        if (!content)
                return NULL;
        result = PyObject_CallFunction(v->other, "KN", (unsigned long long)tag, content);
        return result;
}

/* Tags whose content is an array or a string, which @ret gets: true. */
static bool takes(struct reader *v, enum cbor_kind kind, struct cbor_item *ret)
{
        if (cbor_next(&v->r, ret) && ret->kind == kind)
                return true;
        wrong(v, "a tag's content is not what it should be");
        return false;
}

static PyObject *read_tag(struct reader *v, uint64_t tag, Py_ssize_t mark)
{
        struct cbor_item item;

        switch (tag) {
        case TAG_BIG:
        case TAG_BIG_NEGATIVE:
                return takes(v, CBOR_BYTES, &item) ? read_big(v, &item, tag == TAG_BIG_NEGATIVE)
                                                   : NULL;
        case TAG_WTF8:
                return takes(v, CBOR_BYTES, &item) ? read_wtf8(v, &item) : NULL;
        case TAG_BYTEARRAY:
                return takes(v, CBOR_BYTES, &item) ? read_bytearray(v, &item) : NULL;
        case TAG_SET:
        case TAG_FROZENSET:
                return takes(v, CBOR_ARRAY, &item) ? read_set(v, &item, tag == TAG_FROZENSET, mark)
                                                   : NULL;
        case TAG_TUPLE:
                return takes(v, CBOR_ARRAY, &item) ? read_tuple(v, &item) : NULL;
        case TAG_SHARED:
                return read_shared(v);
        case TAG_REFERENCE:
                return takes(v, CBOR_UINT, &item) ? read_reference(v, &item) : NULL;
        default:
                return read_other(v, tag);
        }
}

static PyObject *read_nested(struct reader *v, const struct cbor_item *item, Py_ssize_t mark)
{
        PyObject *result;

        if (v->depth == CBOR_DEPTH_MAX)
                return wrong(v, "items in items, too many levels");
        v->depth++;
        if (item->kind == CBOR_ARRAY)
                result = read_list(v, item, mark);
        else if (item->kind == CBOR_MAP)
                result = read_dict(v, item, mark);
        else
                result = read_tag(v, item->n, mark);
        v->depth--;
        return result;
}

static PyObject *read_item(struct reader *v)
{
        struct cbor_item item;
        Py_ssize_t mark = v->mark;

        v->mark = -1;
        if (!cbor_next(&v->r, &item))
                return wrong(v, "it is no CBOR, or cut off");
        switch (item.kind) {
        case CBOR_UINT:
                return PyLong_FromUnsignedLongLong(item.n);
        case CBOR_NINT:
                return read_negative(item.n);
        case CBOR_FLOAT:
                return PyFloat_FromDouble(item.number);
        case CBOR_SIMPLE:
                return read_simple(v, item.n);
        case CBOR_BYTES:
                return read_bytes(v, &item);
        case CBOR_TEXT:
                return read_text(v, &item);
        case CBOR_BREAK:
                return wrong(v, "a break where nothing is open");
        default:
                return read_nested(v, &item, mark);
        }
}

/* ---- whole values */

static PyObject *read_all(struct reader *v)
{
        PyObject *result = read_item(v);

        if (result && v->r.at != v->r.end) {
                Py_CLEAR(result);
                wrong(v, "bytes behind its end");
        }
        Py_CLEAR(v->shared);
        return result;
}

static struct reader reader_of(const void *data, size_t n, PyObject *other)
{
        return (struct reader){.r = {.at = data, .end = (const uint8_t *)data + n},
                               .other = other,
                               .mark = -1};
}

static PyObject *load(struct reader *v, uint32_t flags)
{
        const char *data = (const char *)v->r.at;
        size_t n = (size_t)(v->r.end - v->r.at);

        switch (flags) {
        case VALUE_RAW:
                return PyBytes_FromStringAndSize(data, (Py_ssize_t)n);
        case VALUE_TEXT:
                return text_of(v, data, n, NULL);
        case VALUE_CBOR:
                return read_all(v);
        default:
                v->not_plain = true;
                return NULL;
        }
}

PyObject *value_load_plain(struct binding *b, uint32_t flags, const void *data, size_t n)
{
        struct reader v = reader_of(data, n, NULL);

        (void)b;
        return load(&v, flags);
}

/* Raises what is wrong, unless an exception is on its way. */
static PyObject *raise_wrong(const struct reader *v, const Py_buffer *buffer)
{
        if (!PyErr_Occurred())
                PyErr_Format(PyExc_ValueError, "%s (at byte %zd of %zd)",
                             v->wrong ? v->wrong : "it is none",
                             (Py_ssize_t)(v->r.at - (const uint8_t *)buffer->buf), buffer->len);
        return NULL;
}

PyObject *value_load(PyObject *module, PyObject *args)
{
        unsigned long flags;
        Py_buffer buffer;

        (void)module;
        if (!PyArg_ParseTuple(args, "ky*:value_load", &flags, &buffer))
                return NULL;
        struct reader v = reader_of(buffer.buf, (size_t)buffer.len, NULL);
        PyObject *result = load(&v, (uint32_t)flags);
        if (!result && v.not_plain && !PyErr_Occurred()) {
                result = Py_NotImplemented;
                Py_INCREF(result);
        } else if (!result) {
                raise_wrong(&v, &buffer);
        }
        PyBuffer_Release(&buffer);
        return result;
}

PyObject *value_decode(PyObject *module, PyObject *args)
{
        Py_buffer buffer;
        PyObject *other, *result;

        (void)module;
        if (!PyArg_ParseTuple(args, "y*O:value_decode", &buffer, &other))
                return NULL;
        struct reader v = reader_of(buffer.buf, (size_t)buffer.len, other);
        result = read_all(&v);
        if (!result)
                raise_wrong(&v, &buffer);
        PyBuffer_Release(&buffer);
        return result;
}
