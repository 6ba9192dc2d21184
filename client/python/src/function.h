/* SPDX-License-Identifier: MIT */
#ifndef CACHED_PYTHON_FUNCTION_H
#define CACHED_PYTHON_FUNCTION_H

/* What a decorated function (function.c) and its binding to an object (method.c) share. */

#include "binding.h"

#include <stdbool.h>
#include <structmember.h>

#ifdef Py_TPFLAGS_HAVE_VECTORCALL
#define FLAGS_VECTORCALL Py_TPFLAGS_HAVE_VECTORCALL
#else /* as it was called in 3.8, and is in 3.9 unless the limited interface is left aside */
#define FLAGS_VECTORCALL _Py_TPFLAGS_HAVE_VECTORCALL
#endif

struct parameter;

struct function {
        PyObject_HEAD vectorcallfunc vectorcall;
        PyObject *dict, *weak;
        struct binding *b;
        PyObject *slow;
        PyObject *load;  /* load(entry) */
        PyObject *bound; /* bound(object, name) */

        /* What a hit needs. */
        bool is_fast; /* the rest is there */
        char *cache, *name;
        size_t n_name;
        PyObject *code;
        struct parameter *parameters;
        Py_ssize_t n_parameters;
        Py_ssize_t n_unnamed;    /* of these, which come first, are only positional */
        Py_ssize_t n_positional; /* so many may be */
};

PyObject *method_new(struct binding *b, PyObject *function, PyObject *object);
int method_add(PyObject *module, struct binding *b);

#endif
