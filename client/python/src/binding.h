/* SPDX-License-Identifier: MIT */
#ifndef CACHED_PYTHON_BINDING_H
#define CACHED_PYTHON_BINDING_H

/*
 * What the parts of the extension module share
 *
 * Each part is one file: it defines its types and adds them to the module by its function below.
 * All state is the module's (struct binding), found from a type by binding_of(); nothing is global,
 * so that several interpreters of a process may each have the module.
 *
 * Calls of libcached that may talk to the daemon are made without the interpreter's lock. What they
 * use is held by a reference to the Python object that owns it.
 */

#define PY_SSIZE_T_CLEAN
#include <cached.h>
#include <Python.h>

struct binding {
        PyObject *error;             /* cached.CacheError */
        PyTypeObject *client_type;   /* Client */
        struct resources *resources; /* resource.c */
};

/* A handle. Whatever is made from it (views, leases, sessions) keeps it. */
struct client {
        PyObject_HEAD cached *c;
        struct binding *b;
};

/* The module's state, of one of its types or of a type derived from it in C. */
struct binding *binding_of(PyTypeObject *type);

/* Makes a type from its spec, adds it to the module, and gives a borrowed reference; NULL: an
 * exception is set. */
PyTypeObject *binding_add_type(PyObject *module, PyType_Spec *spec);

/* ---- errors */

/* Sets CacheError(code, text) and gives NULL: for the code of a call of libcached, and what its
 * reply says of it, which may be NULL. */
PyObject *raise_code(struct binding *b, int code, const cached_reply *r);
PyObject *raise_text(struct binding *b, int code, const char *text);

/* ---- parts: 0, or -1 with an exception set */

int client_add(PyObject *module, struct binding *b);
int resources_add(PyObject *module, struct binding *b);
/* What the module had of them. */
void resources_end(struct binding *b);

#endif
