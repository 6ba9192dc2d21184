/* SPDX-License-Identifier: MIT */
#ifndef CACHED_PYTHON_KEY_H
#define CACHED_PYTHON_KEY_H

/* What the type Key (key-type.c) and the walk over plain values (key.c) share. */

#include "binding.h"

#include <stdbool.h>

/* From here on others may run meanwhile: a switch costs less than a tenth of the hashing. */
#define KEY_LARGE (64 << 10)

struct key {
        PyObject_HEAD cached_key *k;
        struct binding *b;
        PyObject *other;   /* other(key, value): adds a value that is not plain */
        PyObject *special; /* types that `other` gets although they are plain: a set, or NULL */
        bool hashing;      /* without the interpreter's lock: nobody else may come in */
};

/* A walk over a value. */
struct walk {
        struct binding *b;
        cached_key *k;
        struct key *key; /* NULL: plain values alone */
};

/* Adds a value: 1: done; 0: it is not plain (if there is no key); -1: an exception is set. */
int key_walk(struct walk *w, PyObject *v);
/* The same, whatever types are special, but for what is in it. */
int key_walk_builtin(struct walk *w, PyObject *v);

/* key_of_call(), where the digest of the arguments is there, and the builder empty. */
int key_of_arguments(struct binding *b, cached_key *k, const char *name, size_t n_name,
                     PyObject *code, const void *arguments, size_t n_arguments,
                     uint8_t ret[CACHED_KEY_SIZE]);

#endif
