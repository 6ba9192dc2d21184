/* SPDX-License-Identifier: MIT */
/*
 * Method: a decorated function, bound to an object
 *
 * As the interpreter's own bound methods, but for attributes: obj.method.clear(1) is about the call
 * obj.method(1), so these are asked of the function with the object.
 */

#include <string.h>

#include "function.h"

/* Calls with so many arguments take no memory from the heap. */
#define ARGUMENTS_FEW 8

struct method {
        PyObject_HEAD vectorcallfunc vectorcall;
        PyObject *function, *object, *weak;
};

static PyObject *call_with(const struct method *self, PyObject *const *args, size_t n,
                           PyObject *keywords)
{
        size_t n_all = n + (keywords ? (size_t)PyTuple_GET_SIZE(keywords) : 0);
        PyObject *few[ARGUMENTS_FEW + 1], **all = few, *result;

        if (n_all > ARGUMENTS_FEW)
                all = PyMem_Malloc((n_all + 1) * sizeof(*all));
        if (!all)
                return PyErr_NoMemory();
        all[0] = self->object;
        if (n_all)
                memcpy(all + 1, args, n_all * sizeof(*all));
        result = PyObject_Vectorcall(self->function, all, n + 1, keywords);
        if (all != few)
                PyMem_Free(all);
        return result;
}

static PyObject *method_vectorcall(PyObject *object, PyObject *const *args, size_t n,
                                   PyObject *keywords)
{
        const struct method *self = (const struct method *)object;
        size_t n_args = (size_t)PyVectorcall_NARGS(n);
        PyObject **before, *kept, *result;

        if (!(n & PY_VECTORCALL_ARGUMENTS_OFFSET))
                return call_with(self, args, n_args, keywords);
        before = (PyObject **)args - 1; /* the caller lends this place */
        kept = *before;
        *before = self->object;
        result = PyObject_Vectorcall(self->function, before, n_args + 1, keywords);
        *before = kept;
        return result;
}

PyObject *method_new(struct binding *b, PyObject *function, PyObject *object)
{
        struct method *self = (struct method *)b->method_type->tp_alloc(b->method_type, 0);

        if (!self)
                return NULL;
        self->vectorcall = method_vectorcall;
        Py_INCREF(function);
        self->function = function;
        Py_INCREF(object);
        self->object = object;
        return (PyObject *)self;
}

static int method_traverse(PyObject *object, visitproc visit, void *arg)
{
        struct method *self = (struct method *)object;

        Py_VISIT(Py_TYPE(object));
        Py_VISIT(self->function);
        Py_VISIT(self->object);
        return 0;
}

static void method_dealloc(PyObject *object)
{
        struct method *self = (struct method *)object;
        PyTypeObject *type = Py_TYPE(object);

        PyObject_GC_UnTrack(object);
        if (self->weak)
                PyObject_ClearWeakRefs(object);
        Py_XDECREF(self->function);
        Py_XDECREF(self->object);
        type->tp_free(object);
        Py_DECREF(type);
}

static PyObject *method_getattr(PyObject *object, PyObject *name)
{
        struct method *self = (struct method *)object;
        PyObject *value = PyObject_GenericGetAttr(object, name);

        if (value || !PyErr_ExceptionMatches(PyExc_AttributeError))
                return value;
        PyErr_Clear();
        return PyObject_CallFunctionObjArgs(((struct function *)self->function)->bound,
                                            self->object, name, NULL);
}

static PyObject *method_repr(PyObject *object)
{
        struct method *self = (struct method *)object;
        PyObject *name = PyObject_GetAttrString(self->function, "__qualname__"), *text;

        if (!name)
                return NULL;
        text = PyUnicode_FromFormat("<bound cached function %S of %R>", name, self->object);
        Py_DECREF(name);
        return text;
}

static PyObject *method_compare(PyObject *a, PyObject *b, int op)
{
        bool is_equal;

        if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b))
                Py_RETURN_NOTIMPLEMENTED;
        is_equal = ((struct method *)a)->function == ((struct method *)b)->function &&
                   ((struct method *)a)->object == ((struct method *)b)->object;
        return PyBool_FromLong(is_equal == (op == Py_EQ));
}

static Py_hash_t method_hash(PyObject *object)
{
        struct method *self = (struct method *)object;
        Py_hash_t h = _Py_HashPointer(self->function) ^ _Py_HashPointer(self->object);

        return h == -1 ? -2 : h;
}

static PyMemberDef members[] = {
        {"__func__", T_OBJECT, offsetof(struct method, function), READONLY, "the function"},
        {"__self__", T_OBJECT, offsetof(struct method, object), READONLY, "the object"},
        {"__weaklistoffset__", T_PYSSIZET, offsetof(struct method, weak), READONLY, NULL},
        {"__vectorcalloffset__", T_PYSSIZET, offsetof(struct method, vectorcall), READONLY, NULL},
        {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_dealloc, method_dealloc},
        {Py_tp_traverse, method_traverse},
        {Py_tp_call, PyVectorcall_Call},
        {Py_tp_getattro, method_getattr},
        {Py_tp_repr, method_repr},
        {Py_tp_hash, method_hash},
        {Py_tp_richcompare, method_compare},
        {Py_tp_members, members},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.Method",
        .basicsize = sizeof(struct method),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | FLAGS_VECTORCALL,
        .slots = slots,
};

int method_add(PyObject *module, struct binding *b)
{
        b->method_type = binding_add_type(module, &spec);
        Py_XINCREF(b->method_type);
        return b->method_type ? 0 : -1;
}
