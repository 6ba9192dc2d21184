/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CODE_ID_H
#define CLIENT_CODE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longer ones are cut: 20 bytes are usual. */
#define CODE_ID_MAX 64

struct code_id {
        uint8_t bytes[CODE_ID_MAX];
        size_t n;
};

/* The build-id of the object that the address lies in. False: no object, or it has none. */
bool code_id_find(const void *address, struct code_id *ret);

/* The same, by the way of C libraries that do not find an object by address. For tests. */
bool code_id_find_by_walk(const void *address, struct code_id *ret);

/* The build-id among the notes at @at, which are aligned to 4 or 8. False: there is none. */
bool code_id_in_notes(const uint8_t *at, size_t n, size_t align, struct code_id *ret);

#endif
