/* SPDX-License-Identifier: MIT */
/*
 * Function: a decorated function
 *
 * A call whose arguments are of plain types, and whose value is there and plain, too, never leaves
 * this file: arguments to key, key to value. It holds the interpreter's lock throughout: reading
 * the daemon's memory takes less time than giving the lock back, and whatever would wait for the
 * daemon is no affair of cached_get_mapped(). In all other cases `slow` is called with the same
 * arguments, which is Python and knows all cases (_data.py); so a case that is not understood here
 * costs time and never a result.
 *
 * What a hit here needs is set once, by prepare(), and stays until the object goes: a call may give
 * up the lock while it hashes large arguments.
 */

#include "function.h"

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* More than any function has that is called often. */
#define PARAMETERS_MAX 32

/* Kinds of inspect.Parameter. */
enum kind {
        POSITIONAL_ONLY = 0,
        POSITIONAL_OR_KEYWORD = 1,
        KEYWORD_ONLY = 3,
};

struct parameter {
        PyObject *name;  /* interned */
        PyObject *value; /* the default; NULL: there is none */
        bool is_ignored;
};

/* ---- a hit */

/* The place of a keyword; the number of parameters: none, or not certain. */
static Py_ssize_t place_of(const struct function *f, PyObject *name)
{
        Py_ssize_t i = f->n_unnamed;

        while (i < f->n_parameters && f->parameters[i].name != name)
                i++;
        return i;
}

/* What each parameter gets, borrowed. False: a call that is not right, or not simple. */
static bool bind(const struct function *f, PyObject *const *args, Py_ssize_t n_args,
                 PyObject *keywords, PyObject **ret)
{
        Py_ssize_t n_keywords = keywords ? PyTuple_GET_SIZE(keywords) : 0;

        if (n_args > f->n_positional)
                return false;
        for (Py_ssize_t i = 0; i < f->n_parameters; i++)
                ret[i] = i < n_args ? args[i] : NULL;
        for (Py_ssize_t i = 0; i < n_keywords; i++) {
                Py_ssize_t at = place_of(f, PyTuple_GET_ITEM(keywords, i));

                if (at == f->n_parameters || ret[at])
                        return false;
                ret[at] = args[n_args + i];
        }
        for (Py_ssize_t i = n_args; i < f->n_parameters; i++) {
                if (!ret[i])
                        ret[i] = f->parameters[i].value;
                if (!ret[i])
                        return false;
        }
        return true;
}

/* 1: the key is made; 0: not of plain values; -1: an exception is set. */
static int make_key(const struct function *f, PyObject *const *values, uint8_t *ret)
{
        cached_key *k = key_take(f->b);
        int r = k ? 1 : -1;

        for (Py_ssize_t i = 0; r > 0 && i < f->n_parameters; i++)
                if (!f->parameters[i].is_ignored)
                        r = key_add_plain(f->b, k, values[i]);
        if (r > 0 && key_of_call(f->b, k, f->name, f->n_name, f->code, ret))
                r = -1;
        if (k)
                key_give(f->b, k);
        return r;
}

/* What is not plain is for the function's `load`. Takes the reply. NULL without an exception: it
 * cannot be loaded, and `slow` says why. */
static PyObject *load(const struct function *f, cached_reply *r)
{
        PyObject *entry = entry_of(f->b, r), *value;

        if (!entry)
                return NULL;
        value = PyObject_CallFunctionObjArgs(f->load, entry, NULL);
        Py_DECREF(entry);
        if (value != Py_NotImplemented)
                return value;
        Py_DECREF(value);
        return NULL;
}

/* NULL without an exception: there is no value, or the daemon has to be asked. */
static PyObject *get(const struct function *f, const uint8_t *key)
{
        struct client *client = (struct client *)f->b->current;
        cached_reply *r = NULL;
        PyObject *value;
        const void *data;
        size_t n = 0;

        if (cached_get_mapped(client->c, f->cache, key, CACHED_KEY_SIZE, &r) != CACHED_OK) {
                cached_reply_free(r);
                return NULL;
        }
        data = cached_reply_value(r, &n);
        value = value_load_plain(f->b, cached_reply_flags(r), data, n);
        if (!value && !PyErr_Occurred())
                return load(f, r);
        cached_reply_free(r);
        return value;
}

static PyObject *look_up(const struct function *f, PyObject *const *args, Py_ssize_t n_args,
                         PyObject *keywords)
{
        PyObject *values[PARAMETERS_MAX];
        uint8_t key[CACHED_KEY_SIZE];

        if (!bind(f, args, n_args, keywords, values) || make_key(f, values, key) <= 0)
                return NULL;
        return f->b->current ? get(f, key) : NULL;
}

static PyObject *function_vectorcall(PyObject *object, PyObject *const *args, size_t n,
                                     PyObject *keywords)
{
        struct function *self = (struct function *)object;

        if (self->is_fast && self->b->current) {
                PyObject *value = look_up(self, args, PyVectorcall_NARGS(n), keywords);

                if (value || PyErr_Occurred())
                        return value;
        }
        return PyObject_Vectorcall(self->slow, args, n, keywords);
}

/* ---- the object */

static PyObject *function_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"slow", "load", "bound", NULL};
        PyObject *slow, *load, *bound;
        struct function *self;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO:Function", names, &slow, &load, &bound))
                return NULL;
        self = (struct function *)type->tp_alloc(type, 0);
        if (!self)
                return NULL;
        self->vectorcall = function_vectorcall;
        self->b = binding_of(type);
        Py_INCREF(slow);
        self->slow = slow;
        Py_INCREF(load);
        self->load = load;
        Py_INCREF(bound);
        self->bound = bound;
        return (PyObject *)self;
}

static int function_traverse(PyObject *object, visitproc visit, void *arg)
{
        struct function *self = (struct function *)object;

        Py_VISIT(Py_TYPE(object));
        Py_VISIT(self->dict);
        Py_VISIT(self->slow);
        Py_VISIT(self->load);
        Py_VISIT(self->bound);
        for (Py_ssize_t i = 0; i < self->n_parameters; i++)
                Py_VISIT(self->parameters[i].value);
        return 0;
}

/* What makes circles; the rest is needed by calls that finalizers make. */
static int function_clear(PyObject *object)
{
        struct function *self = (struct function *)object;

        self->is_fast = false;
        Py_CLEAR(self->dict);
        for (Py_ssize_t i = 0; i < self->n_parameters; i++)
                Py_CLEAR(self->parameters[i].value);
        return 0;
}

static void function_dealloc(PyObject *object)
{
        struct function *self = (struct function *)object;
        PyTypeObject *type = Py_TYPE(object);

        PyObject_GC_UnTrack(object);
        if (self->weak)
                PyObject_ClearWeakRefs(object);
        function_clear(object);
        for (Py_ssize_t i = 0; i < self->n_parameters; i++)
                Py_XDECREF(self->parameters[i].name);
        PyMem_Free(self->parameters);
        PyMem_Free(self->cache);
        PyMem_Free(self->name);
        Py_XDECREF(self->code);
        Py_XDECREF(self->slow);
        Py_XDECREF(self->load);
        Py_XDECREF(self->bound);
        type->tp_free(object);
        Py_DECREF(type);
}

/* ---- prepare() */

static char *copy_text(const char *text, Py_ssize_t n)
{
        char *copy = PyMem_Malloc((size_t)n + 1);

        if (!copy)
                return (void *)PyErr_NoMemory();
        memcpy(copy, text, (size_t)n);
        copy[n] = '\0';
        return copy;
}

/* (name, kind, ignored, required, default). Kinds come in their order. */
static int add_parameter(struct function *self, PyObject *item)
{
        struct parameter *p = &self->parameters[self->n_parameters];
        PyObject *name, *value;
        int kind, is_ignored, is_required;

        if (!PyTuple_Check(item)) {
                PyErr_SetString(PyExc_TypeError, "a parameter is a tuple");
                return -1;
        }
        if (!PyArg_ParseTuple(item, "UippO", &name, &kind, &is_ignored, &is_required, &value))
                return -1;
        if (kind != POSITIONAL_ONLY && kind != POSITIONAL_OR_KEYWORD && kind != KEYWORD_ONLY) {
                PyErr_SetString(PyExc_ValueError, "*args and **kwargs are for the slow path");
                return -1;
        }
        Py_INCREF(name);
        PyUnicode_InternInPlace(&name);
        p->name = name;
        p->is_ignored = is_ignored;
        p->value = is_required ? NULL : value;
        Py_XINCREF(p->value);
        self->n_parameters++;
        self->n_unnamed += kind == POSITIONAL_ONLY;
        self->n_positional += kind != KEYWORD_ONLY;
        return 0;
}

static int add_parameters(struct function *self, PyObject *parameters)
{
        Py_ssize_t n = PyTuple_GET_SIZE(parameters);

        if (n > PARAMETERS_MAX) {
                PyErr_SetString(PyExc_ValueError, "too many parameters for the fast path");
                return -1;
        }
        self->parameters = PyMem_Calloc((size_t)n + 1, sizeof(*self->parameters));
        if (!self->parameters) {
                PyErr_NoMemory();
                return -1;
        }
        for (Py_ssize_t i = 0; i < n; i++)
                if (add_parameter(self, PyTuple_GET_ITEM(parameters, i)))
                        return -1;
        return 0;
}

static PyObject *function_prepare(PyObject *object, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"cache", "name", "code", "parameters", NULL};
        struct function *self = (struct function *)object;
        PyObject *code, *parameters;
        const char *cache, *name;
        Py_ssize_t n_name;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "ss#OO!:prepare", names, &cache, &name,
                                         &n_name, &code, &PyTuple_Type, &parameters))
                return NULL;
        if (self->cache) {
                PyErr_SetString(PyExc_RuntimeError, "it is prepared already");
                return NULL;
        }
        if (!PyBytes_CheckExact(code) && !PyUnicode_CheckExact(code)) {
                PyErr_SetString(PyExc_TypeError, "a function's code is told by str or bytes");
                return NULL;
        }
        self->cache = copy_text(cache, (Py_ssize_t)strlen(cache));
        self->name = self->cache ? copy_text(name, n_name) : NULL;
        if (!self->name || add_parameters(self, parameters))
                return NULL;
        self->n_name = (size_t)n_name;
        Py_INCREF(code);
        self->code = code;
        self->is_fast = true;
        Py_RETURN_NONE;
}

/* Pickled by its name, as any function. */
static PyObject *function_reduce(PyObject *object, PyObject *ignored)
{
        (void)ignored;
        return PyObject_GetAttrString(object, "__qualname__");
}

static PyObject *function_get(PyObject *object, PyObject *instance, PyObject *owner)
{
        (void)owner;
        if (!instance || instance == Py_None) {
                Py_INCREF(object);
                return object;
        }
        return method_new(((struct function *)object)->b, object, instance);
}

static PyObject *function_repr(PyObject *object)
{
        PyObject *name = PyObject_GetAttrString(object, "__qualname__"), *text;

        if (!name)
                return NULL;
        text = PyUnicode_FromFormat("<cached function %S>", name);
        Py_DECREF(name);
        return text;
}

static PyMethodDef methods[] = {
        {"prepare", (PyCFunction)(void (*)(void))function_prepare, METH_VARARGS | METH_KEYWORDS,
         "prepare(cache, name, code, parameters)\n\nFrom now on hits with plain values are looked "
         "for without `slow`."},
        {"__reduce__", function_reduce, METH_NOARGS, NULL},
        {NULL, NULL, 0, NULL},
};

static PyMemberDef members[] = {
        {"__dictoffset__", T_PYSSIZET, offsetof(struct function, dict), READONLY, NULL},
        {"__weaklistoffset__", T_PYSSIZET, offsetof(struct function, weak), READONLY, NULL},
        {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct function, vectorcall), READONLY, NULL},
        {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef attributes[] = {
        {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
        {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_doc, "Function(slow, load, bound)\n\nslow: what a call comes to that is no hit "
                    "here. load(entry): the "
                    "value of an entry that is not plain, or NotImplemented. "
                    "bound(object, name): an attribute of the function as a method of an object."},
        {Py_tp_new, function_new},
        {Py_tp_dealloc, function_dealloc},
        {Py_tp_traverse, function_traverse},
        {Py_tp_clear, function_clear},
        {Py_tp_call, PyVectorcall_Call},
        {Py_tp_descr_get, function_get},
        {Py_tp_repr, function_repr},
        {Py_tp_methods, methods},
        {Py_tp_members, members},
        {Py_tp_getset, attributes},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.Function",
        .basicsize = sizeof(struct function),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | FLAGS_VECTORCALL |
                 Py_TPFLAGS_METHOD_DESCRIPTOR,
        .slots = slots,
};

/* ---- the module */

static PyObject *use_client(PyObject *module, PyObject *client)
{
        struct binding *b = PyModule_GetState(module);
        PyObject *before = b->current;

        if (client != Py_None && !PyObject_TypeCheck(client, b->client_type)) {
                PyErr_SetString(PyExc_TypeError, "a Client, or None");
                return NULL;
        }
        b->current = client == Py_None ? NULL : client;
        Py_XINCREF(b->current);
        Py_XDECREF(before);
        Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
        {"use_client", use_client, METH_O,
         "use_client(client)\n\nThe handle by which functions look for hits from now on; None: "
         "they "
         "do not."},
        {NULL, NULL, 0, NULL},
};

int function_add(PyObject *module, struct binding *b)
{
        if (!binding_add_type(module, &spec) || method_add(module, b))
                return -1;
        return PyModule_AddFunctions(module, functions);
}
