/* SPDX-License-Identifier: MIT */
/*
 * SessionEvents: what happens to a session, as it happens
 *
 * For one thread, which waits for the descriptor and then reads all that has come.
 */

#include "session.h"

#include <stdio.h>
#include <string.h>

struct events {
        PyObject_HEAD struct binding *b;
        PyObject *session; /* and with it the handle */
        cached_events *e;
        bool busy; /* a thread is in it; guarded by the interpreter's lock */
};

PyObject *session_watch(PyObject *object, PyObject *ignored)
{
        struct session *session = (struct session *)object;
        struct binding *b = session->b;
        struct events *self;
        cached_events *e = NULL;
        cached_reply *r = NULL;
        int code;

        (void)ignored;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_session_watch(session->s, &e, &r);
        Py_END_ALLOW_THREADS;
        if (code)
                return raise_reply(b, code, r);
        self = (struct events *)b->session_events_type->tp_alloc(b->session_events_type, 0);
        if (!self) {
                cached_events_free(e);
                return NULL;
        }
        self->b = b;
        self->session = new_ref(object);
        self->e = e;
        return (PyObject *)self;
}

static void events_dealloc(PyObject *object)
{
        struct events *self = (struct events *)object;
        PyTypeObject *type = Py_TYPE(object);
        cached_events *e = self->e;

        Py_BEGIN_ALLOW_THREADS;
        cached_events_free(e);
        Py_END_ALLOW_THREADS;
        Py_CLEAR(self->session);
        type->tp_free(object);
        Py_DECREF(type);
}

static PyObject *events_fd(PyObject *object, void *closure)
{
        (void)closure;
        return PyLong_FromLong(cached_events_fd(((struct events *)object)->e));
}

static PyObject *keys_of(const cached_reply *r)
{
        size_t n = cached_reply_count(r, "session.keys");
        PyObject *list = PyList_New(0);

        for (size_t i = 0; list && i < n; i++) {
                const char *text = "";
                PyObject *key;
                char path[64];

                (void)snprintf(path, sizeof(path), "session.keys[%zu]", i);
                (void)cached_reply_text(r, path, &text);
                key = PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "surrogateescape");
                if (!key || PyList_Append(list, key))
                        Py_CLEAR(list);
                Py_XDECREF(key);
        }
        return list;
}

static PyObject *event_of(const cached_event *v)
{
        const cached_reply *r = cached_event_reply(v);
        int change = cached_event_kind(v) == CACHED_EVENT_LOST ? CACHED_SESSION_LOST
                                                               : cached_session_event(v);
        uint64_t version = 0;
        PyObject *keys = keys_of(r);

        if (!keys)
                return NULL;
        (void)cached_reply_u64(r, "session.version", &version);
        return Py_BuildValue("iNK", change, keys, (unsigned long long)version);
}

static PyObject *events_next(PyObject *object, PyObject *ignored)
{
        struct events *self = (struct events *)object;
        const cached_event *v = NULL;
        PyObject *result;
        int code;

        (void)ignored;
        if (self->busy) {
                PyErr_SetString(PyExc_RuntimeError, "another thread reads these events");
                return NULL;
        }
        self->busy = true;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_events_next(self->e, 0, &v);
        Py_END_ALLOW_THREADS;
        if (code == CACHED_ERR_AGAIN)
                result = new_ref(Py_None);
        else if (code)
                result = raise_text(self->b, code, cached_events_error(self->e));
        else
                result = event_of(v);
        self->busy = false;
        return result;
}

static PyGetSetDef attributes[] = {
        {"fd", events_fd, NULL, "Readable when next() has something to do.", NULL},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef methods[] = {
        {"next", events_next, METH_NOARGS,
         "next() -> (change, keys, version) | None\n\nWithout waiting; None: nothing has come. "
         "CacheError with NOT_FOUND: the session has ended."},
        {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_doc, "What happens to a session, as it happens."},
        {Py_tp_dealloc, events_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_getset, attributes},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.SessionEvents",
        .basicsize = sizeof(struct events),
        .flags = Py_TPFLAGS_DEFAULT,
        .slots = slots,
};

int session_events_add(PyObject *module, struct binding *b)
{
        b->session_events_type = binding_add_type(module, &spec);
        if (!b->session_events_type)
                return -1;
        b->session_events_type->tp_new = NULL; /* only Session.watch() makes one */
        return 0;
}
