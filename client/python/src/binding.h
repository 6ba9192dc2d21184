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
#include <stdbool.h>

struct binding {
        PyObject *error;           /* cached.CacheError */
        PyTypeObject *client_type; /* Client */
        PyTypeObject *method_type; /* Method */
        PyObject *current;         /* the handle of functions; may be NULL */
        cached_key *spare_key;     /* for key_take(); may be NULL */
        PyTypeObject *entry_type;  /* Entry */
        PyTypeObject *buffer_type; /* Buffer */
        PyTypeObject *lease_type;  /* Lease */
        PyTypeObject *holder_type; /* LeaseHolder */
        PyTypeObject *text_type;   /* Text: the UTF-8 of a str, on its way to the daemon */
        PyTypeObject *session_type;
        PyTypeObject *session_item_type;
        PyTypeObject *session_events_type;
        struct resources *resources; /* resource.c */
};

/* A handle. Whatever is made from it (views, leases, sessions) keeps it. */
struct client {
        PyObject_HEAD cached *c;
        struct binding *b;
        PyObject *keeps; /* what the handle was made from, and needs; may be NULL */
};

/* The module's state, of one of its types. */
struct binding *binding_of(PyTypeObject *type);

/* Makes a type from its spec, adds it to the module, and gives a new reference; NULL: an exception
 * is set. */
PyTypeObject *binding_add_type(PyObject *module, PyType_Spec *spec);

/* ---- errors */

/* Sets CacheError(code, text) and gives NULL: for the code of a call of libcached, and what its
 * reply says of it, which may be NULL. */
PyObject *raise_code(struct binding *b, int code, const cached_reply *r);
PyObject *raise_text(struct binding *b, int code, const char *text);
/* raise_code(), and frees the reply. */
PyObject *raise_reply(struct binding *b, int code, cached_reply *r);

/* ---- client.c */

/* A Client of a handle, which it owns from then on, also on failure. @keeps: may be NULL */
PyObject *client_of(struct binding *b, cached *c, PyObject *keeps);

/* ---- entry.c */

/* An Entry of a reply with a value, which it owns from then on, also on failure. */
PyObject *entry_of(struct binding *b, cached_reply *r);

/* ---- buffer.c */

struct buffer {
        PyObject_HEAD struct binding *b;
        PyObject *client;
        cached_buffer *buffer;
        pid_t pid;           /* who made it, and alone can touch it until it was handed over */
        bool is_handed_over; /* then a child has it as well */
        bool is_busy;        /* a call stores it */
};

/* ---- payload.c: what is to be stored */

struct payload {
        Py_buffer *pieces;
        Py_ssize_t n;
        size_t size;      /* of the value */
        const void *data; /* in one piece; NULL: it is in `buffer` */
        cached_buffer *buffer;
        void *heap;           /* `data` is here; owned */
        cached_buffer *made;  /* `buffer`, where it is ours */
        struct buffer *owner; /* a reference, and busy */
        cached_set_options *o;
};

/* What pieces, size=, flags=, ttl_ms=, tags=, cost_us= and mode= of a call ask for; NULL: not
 * given. 0; -1 with an exception. What it has is freed by payload_free(), in both cases. */
struct payload_args {
        PyObject *pieces, *size, *flags, *ttl_ms, *tags, *cost_us, *mode;
};
int payload_take(struct client *client, const struct payload_args *a, struct payload *ret);
void payload_free(struct payload *p);
/* What a store came to; frees the reply and what is in *p. The version; NULL: an exception is set.
 */
PyObject *payload_stored(struct binding *b, struct payload *p, int code, cached_reply *r);

/* Numbers of arguments. None or NULL: `otherwise`. -1 with an exception. */
int number_of(PyObject *value, const char *name, uint64_t max, uint64_t otherwise, uint64_t *ret);

/* A key's bytes: 0, or -1 with an exception. */
int key_bytes_of(PyObject *key, const char **ret, Py_ssize_t *ret_n);

/* ---- keys (key.c) */

/* A builder without items, to be given back; NULL: no memory, an exception is set. Between the two
 * it is the taker's alone. */
cached_key *key_take(struct binding *b);
void key_give(struct binding *b, cached_key *k);

/* Adds a value of a plain type: None, bool, int, float, str, bytes, and list, tuple, dict, set and
 * frozenset of plain ones; exact types, no subclasses. Runs no Python code; other threads may run
 * while something large is hashed. 1: added; 0: it is not plain, and the builder of no more use
 * (but to be given back); -1: an exception is set. */
int key_add_plain(struct binding *b, cached_key *k, PyObject *value);

/* The key of a call, of a builder that has the items of the arguments and no others. @name: UTF-8;
 * @code: str or bytes. 0, or -1 with an exception set. The builder is to be given back. */
int key_of_call(struct binding *b, cached_key *k, const char *name, size_t n_name, PyObject *code,
                uint8_t ret[CACHED_KEY_SIZE]);

/* ---- parts: 0, or -1 with an exception set */

int client_add(PyObject *module, struct binding *b);
int function_add(PyObject *module, struct binding *b);
int key_add(PyObject *module, struct binding *b);
int resources_add(PyObject *module, struct binding *b);
/* What the module had of them. */
void resources_end(struct binding *b);
int entry_add(PyObject *module, struct binding *b);
int buffer_add(PyObject *module, struct binding *b);
int lease_add(PyObject *module, struct binding *b);
int session_add(PyObject *module, struct binding *b);
int value_add(PyObject *module, struct binding *b);

/* ---- Client's methods: the table is in entries.c */

extern PyMethodDef client_methods[];
PyObject *client_connect(PyObject *object, PyObject *ignored);
PyObject *client_close(PyObject *object, PyObject *ignored);
PyObject *client_with_timeout(PyObject *object, PyObject *number);
PyObject *client_lease(PyObject *object, PyObject *args, PyObject *kwargs);

/* ---- what older versions of Python lack */

static inline void *new_ref(void *object)
{
        Py_INCREF((PyObject *)object);
        return object;
}

/* ---- values (proto/VALUES.md) */

/* The value of stored bytes, where that takes no Python code and no buffers beside it: a new
 * reference. NULL without an exception: it is not plain, or corrupt, and the slow path says which;
 * with one: no memory. */
PyObject *value_load_plain(struct binding *b, uint32_t flags, const void *data, size_t n);

#endif
