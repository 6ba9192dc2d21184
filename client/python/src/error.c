/* SPDX-License-Identifier: MIT */
/*
 * Failures of libcached as exceptions
 */

#include "binding.h"

PyObject *raise_text(struct binding *b, int code, const char *text)
{
        PyObject *error, *number;

        if (code == CACHED_ERR_NOMEM)
                return PyErr_NoMemory();
        error = PyObject_CallFunction(b->error, "s", text && *text ? text : cached_strerror(code));
        if (!error)
                return NULL;
        number = PyLong_FromLong(code);
        if (number && !PyObject_SetAttrString(error, "code", number))
                PyErr_SetObject(b->error, error);
        Py_XDECREF(number);
        Py_DECREF(error);
        return NULL;
}

PyObject *raise_code(struct binding *b, int code, const cached_reply *r)
{
        return raise_text(b, code, cached_reply_error(r));
}

PyObject *raise_reply(struct binding *b, int code, cached_reply *r)
{
        raise_code(b, code, r);
        cached_reply_free(r);
        return NULL;
}
