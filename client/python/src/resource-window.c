/* SPDX-License-Identifier: MIT */
/*
 * Window: bytes from anywhere, as a value that was read
 *
 * For readers of values, which look at an entry's buffer and flags. What they make of it may lie on
 * that memory, which stays as long as anything exports it.
 *
 * What lies in a read-only segment can be had as a mapping of the process's own: its pages are the
 * segment's until somebody writes, and then that process's. So libraries that will not read what
 * cannot be written to can use it, and nobody can change what others see.
 */

#include "resource.h"

#include <sys/mman.h>
#include <unistd.h>

struct window {
        PyObject_HEAD;
        Py_buffer of; /* .obj NULL: it is the mapping that counts */
        PyObject *resource;
        uint8_t *map, *data;
        size_t n_map, n;
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

PyObject *window_private(struct resources *s, struct resource *of, size_t offset, size_t n,
                         unsigned flags)
{
        size_t page = (size_t)sysconf(_SC_PAGESIZE), at = SEGMENT_FILE_HEAD + offset;
        size_t before = at & (page - 1);
        struct window *self = (struct window *)s->window_type->tp_alloc(s->window_type, 0);
        void *map;

        if (!self)
                return NULL;
        map = mmap(NULL, before + (n ? n : 1), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE,
                   cached_resource_file(of->r), (off_t)(at - before));
        if (map == MAP_FAILED) {
                Py_DECREF(self);
                return PyErr_SetFromErrno(PyExc_OSError);
        }
        Py_INCREF(of);
        self->resource = (PyObject *)of;
        self->map = map;
        self->data = self->map + before;
        self->n_map = before + (n ? n : 1);
        self->n = n;
        self->flags = flags;
        return (PyObject *)self;
}

static void window_dealloc(PyObject *object)
{
        struct window *self = (struct window *)object;
        PyTypeObject *type = Py_TYPE(object);

        if (self->map)
                (void)munmap(self->map, self->n_map);
        Py_XDECREF(self->resource);
        PyBuffer_Release(&self->of);
        type->tp_free(object);
        Py_DECREF(type);
}

static int window_buffer(PyObject *object, Py_buffer *view, int flags)
{
        struct window *self = (struct window *)object;

        if (self->map)
                return PyBuffer_FillInfo(view, object, self->data, (Py_ssize_t)self->n, 0, flags);
        return PyBuffer_FillInfo(view, object, self->of.buf, self->of.len, self->of.readonly,
                                 flags);
}

static PyObject *window_size(PyObject *object, void *closure)
{
        struct window *self = (struct window *)object;

        (void)closure;
        return PyLong_FromSsize_t(self->map ? (Py_ssize_t)self->n : self->of.len);
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

int window_add(PyObject *module, struct resources *s)
{
        s->window_type = binding_add_type(module, &spec);
        return s->window_type ? 0 : -1;
}
