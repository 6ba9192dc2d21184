/* SPDX-License-Identifier: MIT */
/*
 * Window: bytes from anywhere, as a value that was read
 *
 * For readers of values, which look at an entry's buffer and flags. What they make of it may lie on
 * the memory of a segment, which stays as long as anything exports it.
 */

#include "resource.h"

struct window {
        PyObject_HEAD;
        Py_buffer of;
        unsigned flags;
};

static PyObject *window_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"bytes", "flags", NULL};
        struct window *self;
        unsigned flags = 0;
        PyObject *bytes;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|I:Window", names, &bytes, &flags))
                return NULL;
        self = (struct window *)type->tp_alloc(type, 0);
        if (!self)
                return NULL;
        if (PyObject_GetBuffer(bytes, &self->of, PyBUF_SIMPLE)) {
                self->of.obj = NULL;
                Py_DECREF(self);
                return NULL;
        }
        self->flags = flags;
        return (PyObject *)self;
}

static void window_dealloc(PyObject *object)
{
        PyTypeObject *type = Py_TYPE(object);

        PyBuffer_Release(&((struct window *)object)->of);
        type->tp_free(object);
        Py_DECREF(type);
}

static int window_buffer(PyObject *object, Py_buffer *view, int flags)
{
        struct window *self = (struct window *)object;

        return PyBuffer_FillInfo(view, object, self->of.buf, self->of.len, self->of.readonly,
                                 flags);
}

static PyObject *window_size(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromSsize_t(((struct window *)object)->of.len);
}

static PyObject *window_flags(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromUnsignedLong(((struct window *)object)->flags);
}

static PyGetSetDef attributes[] = {
        {"size", window_size, NULL, "Its bytes.", NULL},
        {"flags", window_flags, NULL, "What sort of value it is.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_doc, "Window(bytes, flags=0)\n\nBytes from anywhere, as a value that was read."},
        {Py_tp_new, window_new},
        {Py_tp_dealloc, window_dealloc},
        {Py_tp_getset, attributes},
        {Py_bf_getbuffer, window_buffer},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.Window",
        .basicsize = sizeof(struct window),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = slots,
};

int window_add(PyObject *module)
{
        return binding_add_type(module, &spec) ? 0 : -1;
}
