/* SPDX-License-Identifier: MIT */
#ifndef CACHED_PYTHON_RESOURCE_H
#define CACHED_PYTHON_RESOURCE_H

/*
 * Resources, between the files of the binding of which they are made
 *
 *   resource         Resource: one use of an instance; acquiring
 *   resource-local   Local: an object of this process, and what is to be told of its end
 *   resource-window  Window: bytes from anywhere, as a value that was read
 */

#include <stdatomic.h>

#include "binding.h"

struct departed;

/* What the module keeps of resources. The types are the module's. */
struct resources {
        PyTypeObject *resource_type, *local_type, *window_type;
        struct departed *departed; /* of this process: a child begins its own */
};

/* One use of an instance. All under the interpreter's lock. */
struct resource {
        PyObject_HEAD;
        struct binding *b;
        PyObject *client; /* must outlive r */
        cached_resource *r;
        unsigned n_inside; /* calls that use r without the interpreter's lock */
        unsigned n_exports;
        int is_making;
        unsigned long long ttl_ms; /* that it had left when it was acquired; CACHED_NEVER: none */
};

/* An object of this process as libcached has it: the Local is what it was given. */
struct local {
        PyObject_HEAD;
        PyObject *object;
        struct departed *departed;
        struct local *next; /* in that */
        atomic_int left;    /* why it has left; LOCAL_CLOSED: the handle was freed */
};

#define LOCAL_CLOSED      (-1)
#define SEGMENT_FILE_HEAD 4096 /* in front of the data, see cached_resource_file() */

/* resource-local.c */
int locals_add(PyObject *module, struct resources *s);
void locals_end(struct resources *s);
/* A Local with a reference for libcached beside the caller's; NULL with an exception. */
struct local *local_new(struct resources *s, PyObject *object);
/* For options: what libcached calls when it is rid of an object. */
int local_departs(cached_resource *r, void *data);

/* resource-window.c */
int window_add(PyObject *module, struct resources *s);
/* A mapping of the process's own of @n bytes of a segment, from @offset on, which lie in it. */
PyObject *window_private(struct resources *s, struct resource *of, size_t offset, size_t n,
                         unsigned flags);

/* resource.c: 0, or -1 with an exception: there is nothing there (any more). */
int resource_check(const struct resource *self);
/* For types whose objects are not made by calling them. */
PyObject *resource_no_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);

#endif
