/* SPDX-License-Identifier: MIT */
/*
 * Entry: a value that was read, as memory that may be written to
 *
 * It is the reply of a handle with cached_options_set_own_values(): a copy of a small value, a
 * copy-on-write mapping of a large one. Whoever has a memoryview of it keeps it.
 */

#include "binding.h"

/* From so much on, giving the memory back takes longer than giving back the lock. */
#define UNLOCK_MIN ((size_t)1 << 20)

struct entry {
        PyObject_HEAD cached_reply *r;
        void *data;
        size_t size;
};

PyObject *entry_of(struct binding *b, cached_reply *r)
{
        size_t size = 0;
        void *data = cached_reply_own_value(r, &size);
        struct entry *self;

        if (!data) {
                cached_reply_free(r);
                return raise_text(b, CACHED_ERR_BAD_REPLY, "the reply has no value");
        }
        self = PyObject_New(struct entry, b->entry_type);
        if (!self) {
                cached_reply_free(r);
                return NULL;
        }
        self->r = r;
        self->data = data;
        self->size = size;
        return (PyObject *)self;
}

static void entry_dealloc(PyObject *object)
{
        struct entry *self = (struct entry *)object;
        PyTypeObject *type = Py_TYPE(object);

        if (self->size < UNLOCK_MIN) {
                cached_reply_free(self->r);
        } else {
                Py_BEGIN_ALLOW_THREADS;
                cached_reply_free(self->r);
                Py_END_ALLOW_THREADS;
        }
        PyObject_Free(object);
        Py_DECREF(type);
}

static int entry_getbuffer(PyObject *object, Py_buffer *view, int flags)
{
        struct entry *self = (struct entry *)object;

        return PyBuffer_FillInfo(view, object, self->data, (Py_ssize_t)self->size, 0, flags);
}

static Py_ssize_t entry_length(PyObject *object)
{
        return (Py_ssize_t)((struct entry *)object)->size;
}

static PyObject *get_size(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromSize_t(((struct entry *)object)->size);
}

static PyObject *get_flags(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromUnsignedLong(cached_reply_flags(((struct entry *)object)->r));
}

static PyObject *get_uid(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromUnsignedLong(cached_reply_uid(((struct entry *)object)->r));
}

static PyObject *get_version(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromUnsignedLongLong(cached_reply_version(((struct entry *)object)->r));
}

static PyObject *get_ttl(PyObject *object, void *closure)
{
        uint64_t ms = cached_reply_ttl_ms(((struct entry *)object)->r);

        (void)closure;
        if (ms == CACHED_NEVER)
                Py_RETURN_NONE;
        return PyLong_FromUnsignedLongLong(ms);
}

static PyObject *get_stale(PyObject *object, void *closure)
{
        (void)closure;
        return PyBool_FromLong(cached_reply_is_stale(((struct entry *)object)->r));
}

static PyObject *get_cost(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromUnsignedLongLong(cached_reply_cost_us(((struct entry *)object)->r));
}

static PyGetSetDef attributes[] = {
        {"size", get_size, NULL, "Bytes of the value.", NULL},
        {"flags", get_flags, NULL, "What its writer said of it; see VALUES.md.", NULL},
        {"uid", get_uid, NULL, "Whose process stored it, as the daemon knows.", NULL},
        {"version", get_version, NULL, "Of the entry.", NULL},
        {"ttl_ms", get_ttl, NULL, "How long it still lives; None: for ever.", NULL},
        {"stale", get_stale, NULL, "Whether its time to live has passed.", NULL},
        {"cost_us", get_cost, NULL, "How long it took to compute; 0: not known.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_doc,
         "A value that was read: memory that may be written to, and is this object's own."},
        {Py_tp_dealloc, entry_dealloc},
        {Py_tp_getset, attributes},
        {Py_sq_length, entry_length},
        {Py_bf_getbuffer, entry_getbuffer},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.Entry",
        .basicsize = sizeof(struct entry),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = slots,
};

int entry_add(PyObject *module, struct binding *b)
{
        b->entry_type = binding_add_type(module, &spec);
        if (!b->entry_type)
                return -1;
        b->entry_type->tp_new = NULL; /* only entry_of() makes one */
        return 0;
}
