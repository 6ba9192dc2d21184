/* SPDX-License-Identifier: MIT */
#ifndef CACHED_PYTHON_SESSION_H
#define CACHED_PYTHON_SESSION_H

#include "binding.h"

struct session {
        PyObject_HEAD struct binding *b;
        struct client *client;
        cached_session *s;
};

/* session-events.c */
PyObject *session_watch(PyObject *object, PyObject *ignored);
int session_events_add(PyObject *module, struct binding *b);

/* session-many.c */
PyObject *session_set_many(PyObject *object, PyObject *args);

#endif
