/* SPDX-License-Identifier: MIT */
#ifndef CACHED_PYTHON_VALUE_H
#define CACHED_PYTHON_VALUE_H

/*
 * Values as proto/VALUES.md has them: what the writer (value.c) and the reader (value-read.c) share
 */

#include "binding.h"
#include "cbor.h"

/* Flags of an entry. */
#define VALUE_RAW     UINT32_C(0)
#define VALUE_TEXT    UINT32_C(0x63760001)
#define VALUE_CBOR    UINT32_C(0x63760002)
#define VALUE_BUFFERS UINT32_C(0x63760003)

enum value_tag {
        TAG_BIG = 2,
        TAG_BIG_NEGATIVE = 3,
        TAG_SHARED = 28,
        TAG_REFERENCE = 29,
        TAG_SET = 258,
        TAG_WTF8 = 273,
        TAG_TUPLE = 51712,
        TAG_FROZENSET = 51713,
        TAG_BYTEARRAY = 51714,
        TAG_NAMED =
                51716, /* 51715: a buffer; these and the others are Python's part (_values.py) */
};

/* value-read.c: its functions of the module. */
PyObject *value_load(PyObject *module, PyObject *args);
PyObject *value_decode(PyObject *module, PyObject *args);

#endif
