/* SPDX-License-Identifier: MIT */
/*
 * Buffer: memory that becomes a value without a copy
 *
 * Filled through the buffer protocol. Once it was stored it stays where it is, as the process's
 * private view of what it had: whoever has a memoryview of it keeps it, before and after.
 */

#include "binding.h"

#include <unistd.h>

static PyObject *buffer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"client", "size", "ready", NULL};
        struct binding *b = binding_of(type);
        PyObject *client, *number;
        cached_buffer *made;
        struct buffer *self;
        int is_ready = 1;
        uint64_t size;
        int code;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O|p:Buffer", names, b->client_type,
                                         &client, &number, &is_ready))
                return NULL;
        if (number_of(number, "size", PY_SSIZE_T_MAX, 0, &size))
                return NULL;
        if (size == 0) {
                PyErr_SetString(PyExc_ValueError, "size is at least 1");
                return NULL;
        }
        Py_BEGIN_ALLOW_THREADS;
        if (is_ready)
                code = cached_buffer_new_ready(((struct client *)client)->c, size, &made);
        else
                code = cached_buffer_new(((struct client *)client)->c, size, &made);
        Py_END_ALLOW_THREADS;
        if (code)
                return raise_code(b, code, NULL);
        self = (struct buffer *)type->tp_alloc(type, 0);
        if (!self) {
                cached_buffer_free(made);
                return NULL;
        }
        self->b = b;
        self->client = new_ref(client);
        self->buffer = made;
        self->pid = getpid();
        return (PyObject *)self;
}

static int buffer_traverse(PyObject *object, visitproc visit, void *arg)
{
        Py_VISIT(Py_TYPE(object));
        Py_VISIT(((struct buffer *)object)->client);
        return 0;
}

static void buffer_dealloc(PyObject *object)
{
        struct buffer *self = (struct buffer *)object;
        PyTypeObject *type = Py_TYPE(object);
        cached_buffer *buffer = self->buffer;

        PyObject_GC_UnTrack(object);
        Py_BEGIN_ALLOW_THREADS;
        cached_buffer_free(buffer);
        Py_END_ALLOW_THREADS;
        Py_CLEAR(self->client);
        type->tp_free(object);
        Py_DECREF(type);
}

static int buffer_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
        struct buffer *self = (struct buffer *)object;
        void *data = cached_buffer_data(self->buffer);

        if (!data || (!self->is_handed_over && self->pid != getpid())) {
                PyErr_SetString(PyExc_BufferError,
                                data ? "the buffer belongs to the process that forked this one, "
                                       "which has not stored it: make another one here"
                                     : "the buffer's memory was lost when it was stored");
                view->obj = NULL;
                return -1;
        }
        return PyBuffer_FillInfo(view, object, data, (Py_ssize_t)cached_buffer_size(self->buffer),
                                 0, flags);
}

static Py_ssize_t buffer_length(PyObject *object)
{
        return (Py_ssize_t)cached_buffer_size(((struct buffer *)object)->buffer);
}

static PyObject *get_size(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromUnsignedLongLong(cached_buffer_size(((struct buffer *)object)->buffer));
}

static PyObject *get_address(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromVoidPtr(cached_buffer_data(((struct buffer *)object)->buffer));
}

static PyGetSetDef attributes[] = {
        {"size", get_size, NULL, "Bytes.", NULL},
        {"address", get_address, NULL, "Where they are: the start of a page.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_doc,
         "Buffer(client, size, ready=True)\n\nMemory that becomes a value without a copy; zeroed. "
         "ready: all of it will be filled, so it is taken at once."},
        {Py_tp_new, buffer_new},
        {Py_tp_traverse, buffer_traverse},
        {Py_tp_dealloc, buffer_dealloc},
        {Py_tp_getset, attributes},
        {Py_sq_length, buffer_length},
        {Py_bf_getbuffer, buffer_getbuffer},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.Buffer",
        .basicsize = sizeof(struct buffer),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
};

int buffer_add(PyObject *module, struct binding *b)
{
        b->buffer_type = binding_add_type(module, &spec);
        return b->buffer_type ? 0 : -1;
}
