/* SPDX-License-Identifier: MIT */
/*
 * Window: a part of a segment as the bytes of a value
 *
 * For readers of values, which look at an entry's buffer and flags. What they make of it may lie on
 * the segment's memory, which stays as long as anything exports it.
 */

#include "resource.h"

struct window {
        PyObject_HEAD;
        struct resource *of;
        size_t offset, n;
        unsigned flags;
};

PyObject *window_new(struct resources *s, struct resource *of, size_t offset, size_t n,
                     unsigned flags)
{
        struct window *self = (struct window *)s->window_type->tp_alloc(s->window_type, 0);

        if (!self)
                return NULL;
        Py_INCREF(of);
        of->n_exports++;
        self->of = of;
        self->offset = offset;
        self->n = n;
        self->flags = flags;
        return (PyObject *)self;
}

static void window_dealloc(PyObject *object)
{
        struct window *self = (struct window *)object;
        PyTypeObject *type = Py_TYPE(object);

        if (self->of) {
                self->of->n_exports--;
                Py_DECREF(self->of);
        }
        type->tp_free(object);
        Py_DECREF(type);
}

static int window_buffer(PyObject *object, Py_buffer *view, int flags)
{
        struct window *self = (struct window *)object;
        char *data = cached_resource_data(self->of->r);

        return PyBuffer_FillInfo(view, object, data + self->offset, (Py_ssize_t)self->n,
                                 cached_resource_is_read_only(self->of->r), flags);
}

static PyObject *window_size(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromSize_t(((struct window *)object)->n);
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
        {Py_tp_doc, "A part of a segment, as a value's bytes"},
        {Py_tp_new, resource_no_new},
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

int windows_add(PyObject *module, struct resources *s)
{
        s->window_type = binding_add_type(module, &spec);
        return s->window_type ? 0 : -1;
}
