/* SPDX-License-Identifier: MIT */
/*
 * cached._binding: libcached as a Python module
 *
 * What is in it is for the package's own Python files, not for its users.
 */

#include "binding.h"

static int traverse(PyObject *module, visitproc visit, void *arg)
{
        struct binding *b = PyModule_GetState(module);
        Py_VISIT(b->error);
        Py_VISIT(b->client_type);
        Py_VISIT(b->method_type);
        Py_VISIT(b->current);
        Py_VISIT(b->entry_type);
        Py_VISIT(b->buffer_type);
        Py_VISIT(b->lease_type);
        Py_VISIT(b->holder_type);
        Py_VISIT(b->session_type);
        Py_VISIT(b->session_item_type);
        Py_VISIT(b->session_events_type);
        Py_VISIT(b->text_type);
        return 0;
}

static int clear(PyObject *module)
{
        struct binding *b = PyModule_GetState(module);
        Py_CLEAR(b->error);
        Py_CLEAR(b->client_type);
        Py_CLEAR(b->method_type);
        Py_CLEAR(b->current);
        Py_CLEAR(b->entry_type);
        Py_CLEAR(b->buffer_type);
        Py_CLEAR(b->lease_type);
        Py_CLEAR(b->holder_type);
        Py_CLEAR(b->session_type);
        Py_CLEAR(b->session_item_type);
        Py_CLEAR(b->session_events_type);
        Py_CLEAR(b->text_type);
        return 0;
}

static void module_free(void *module)
{
        struct binding *b = PyModule_GetState(module);

        clear(module);
        if (b) {
                cached_key_free(b->spare_key);
                b->spare_key = NULL;
                resources_end(b);
        }
}

/* Codes, by the names that cached.h has for them, without the prefix. */
static int add_codes(PyObject *module)
{
        static const struct {
                const char *name;
                long value;
        } codes[] = {
                {"OK", CACHED_OK},
                {"NOT_FOUND", CACHED_NOT_FOUND},
                {"EXISTS", CACHED_EXISTS},
                {"VERSION_MISMATCH", CACHED_VERSION_MISMATCH},
                {"INVALID", CACHED_INVALID},
                {"TOO_LARGE", CACHED_TOO_LARGE},
                {"NO_SPACE", CACHED_NO_SPACE},
                {"LIMIT", CACHED_LIMIT},
                {"DENIED", CACHED_DENIED},
                {"UNSUPPORTED", CACHED_UNSUPPORTED},
                {"DEADLINE", CACHED_DEADLINE},
                {"NO_MEMORY", CACHED_NO_MEMORY},
                {"SHUTTING_DOWN", CACHED_SHUTTING_DOWN},
                {"PROTOCOL", CACHED_PROTOCOL},
                {"VERSION", CACHED_VERSION},
                {"CONFIG", CACHED_CONFIG},
                {"INTERNAL", CACHED_INTERNAL},
                {"OUTCOME_UNKNOWN", CACHED_OUTCOME_UNKNOWN},
                {"SUPERSEDED", CACHED_SUPERSEDED},
                {"NEGATIVE", CACHED_NEGATIVE},
                {"ERR_UNREACHABLE", CACHED_ERR_UNREACHABLE},
                {"ERR_TIMEOUT", CACHED_ERR_TIMEOUT},
                {"ERR_DISCONNECTED", CACHED_ERR_DISCONNECTED},
                {"ERR_NOMEM", CACHED_ERR_NOMEM},
                {"ERR_BAD_REPLY", CACHED_ERR_BAD_REPLY},
                {"ERR_UNTRUSTED", CACHED_ERR_UNTRUSTED},
                {"ERR_USAGE", CACHED_ERR_USAGE},
                {"ERR_FORBIDDEN", CACHED_ERR_FORBIDDEN},
                {"ERR_CLOSED", CACHED_ERR_CLOSED},
                {"ERR_AGAIN", CACHED_ERR_AGAIN},
                {"ERR_CREATION", CACHED_ERR_CREATION},
                {"OWNER_DIED", CACHED_OWNER_DIED},
                {"LEASE_NONE", CACHED_LEASE_NONE},
                {"LEASE_GRANTED", CACHED_LEASE_GRANTED},
                {"LEASE_YOURS", CACHED_LEASE_YOURS},
                {"LEASE_BUSY", CACHED_LEASE_BUSY},
                {"LEASE_TIMEOUT", CACHED_LEASE_TIMEOUT},
                {"LEASE_CYCLE", CACHED_LEASE_CYCLE},
                {"LEASE_FAILED", CACHED_LEASE_FAILED},
                {"LEASE_UNSTORABLE", CACHED_LEASE_UNSTORABLE},
                {"SET_ANY", CACHED_SET_ANY},
                {"SET_ADD_ONLY", CACHED_SET_ADD_ONLY},
                {"SET_REPLACE_ONLY", CACHED_SET_REPLACE_ONLY},
        };

        for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
                if (PyModule_AddIntConstant(module, codes[i].name, codes[i].value))
                        return -1;
        return 0;
}

static int add_never(PyObject *module)
{
        PyObject *never = PyLong_FromUnsignedLongLong(CACHED_NEVER);

        if (!PyModule_AddObject(module, "NEVER", never))
                return 0;
        Py_XDECREF(never);
        return -1;
}

static int (*const parts[])(PyObject *module, struct binding *b) = {
        buffer_add, client_add,  entry_add,     function_add, key_add,
        lease_add,  session_add, resources_add, value_add,
};

static int exec(PyObject *module)
{
        struct binding *b = PyModule_GetState(module);

        b->error = PyErr_NewExceptionWithDoc(
                "cached.CacheError",
                "The cache could not do what was asked for.\n\n"
                "code: a number of cached._binding; str() says what happened and what to do.",
                NULL, NULL);
        if (!b->error || PyModule_AddType(module, (PyTypeObject *)b->error))
                return -1;
        if (PyModule_AddStringConstant(module, "library_version", cached_version()))
                return -1;
        if (add_codes(module) || add_never(module))
                return -1;
        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
                if (parts[i](module, b))
                        return -1;
        return 0;
}

static PyModuleDef_Slot slots[] = {
        {Py_mod_exec, exec},
        {0, NULL},
};

static PyModuleDef definition = {
        PyModuleDef_HEAD_INIT,
        .m_name = "cached._binding",
        .m_doc = "libcached, for the package's own use",
        .m_size = sizeof(struct binding),
        .m_slots = slots,
        .m_traverse = traverse,
        .m_clear = clear,
        .m_free = module_free,
};

PyMODINIT_FUNC PyInit__binding(void)
{
        return PyModuleDef_Init(&definition);
}

struct binding *binding_of(PyTypeObject *type)
{
        return PyType_GetModuleState(type);
}

PyTypeObject *binding_add_type(PyObject *module, PyType_Spec *spec)
{
        PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
        if (!type)
                return NULL;
        if (PyModule_AddType(module, (PyTypeObject *)type))
                Py_CLEAR(type);
        return (PyTypeObject *)type;
}
