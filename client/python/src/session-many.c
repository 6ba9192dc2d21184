/* SPDX-License-Identifier: MIT */
/*
 * Session.set_many(): several values, all or none
 */

#include "session.h"

/* Arrays of n, and what is held for so long. */
struct many {
        Py_ssize_t n, held;
        const char **keys;
        const void **values;
        size_t *sizes;
        uint32_t *flags;
        Py_buffer *views;
};

static int many_room(struct many *m, Py_ssize_t n)
{
        m->n = n;
        m->keys = PyMem_Calloc((size_t)n, sizeof(*m->keys));
        m->values = PyMem_Calloc((size_t)n, sizeof(*m->values));
        m->sizes = PyMem_Calloc((size_t)n, sizeof(*m->sizes));
        m->flags = PyMem_Calloc((size_t)n, sizeof(*m->flags));
        m->views = PyMem_Calloc((size_t)n, sizeof(*m->views));
        if (m->keys && m->values && m->sizes && m->flags && m->views)
                return 0;
        PyErr_NoMemory();
        return -1;
}

static void many_free(struct many *m)
{
        for (Py_ssize_t i = 0; i < m->held; i++)
                PyBuffer_Release(&m->views[i]);
        PyMem_Free(m->keys);
        PyMem_Free(m->values);
        PyMem_Free(m->sizes);
        PyMem_Free(m->flags);
        PyMem_Free(m->views);
}

static int many_take(struct many *m, PyObject *tuple)
{
        for (Py_ssize_t i = 0; i < m->n; i++) {
                PyObject *one = PyTuple_GET_ITEM(tuple, i);
                unsigned flags;

                if (!PyTuple_Check(one)) {
                        PyErr_SetString(PyExc_TypeError, "set_many() takes (key, flags, data)");
                        return -1;
                }
                if (!PyArg_ParseTuple(one, "sIy*:set_many", &m->keys[i], &flags, &m->views[i]))
                        return -1;
                m->held++;
                m->flags[i] = flags;
                m->values[i] = m->views[i].buf;
                m->sizes[i] = (size_t)m->views[i].len;
        }
        return 0;
}

static PyObject *set_many(struct session *self, struct many *m)
{
        cached_reply *r = NULL;
        uint64_t version = 0;
        int code;

        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_set_many_with_flags(self->s, (size_t)m->n, m->keys, m->flags,
                                                  m->values, m->sizes, &r);
        Py_END_ALLOW_THREADS;
        if (code)
                return raise_reply(self->b, code, r);
        (void)cached_reply_u64(r, "version", &version);
        cached_reply_free(r);
        return PyLong_FromUnsignedLongLong(version);
}

PyObject *session_set_many(PyObject *object, PyObject *args)
{
        struct many m = {0};
        PyObject *items, *tuple, *result = NULL;

        if (!PyArg_ParseTuple(args, "O:set_many", &items))
                return NULL;
        tuple = PySequence_Tuple(items); /* the keys are its, while others run */
        if (!tuple)
                return NULL;
        if (PyTuple_GET_SIZE(tuple) == 0)
                PyErr_SetString(PyExc_ValueError, "set_many() of nothing");
        else if (!many_room(&m, PyTuple_GET_SIZE(tuple)) && !many_take(&m, tuple))
                result = set_many((struct session *)object, &m);
        many_free(&m);
        Py_DECREF(tuple);
        return result;
}
