/* SPDX-License-Identifier: MIT */
#ifndef KEY_JSON_H
#define KEY_JSON_H

/* The notation of proto/key-vectors.json, for the builder of keys. */

#include <cached.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct key_json {
        /* 0: each value in the plainest call. Else the calls vary, drawn from here: integers as
         * magnitudes with zeros in front, bytes and arrays in pieces, members of maps and sets in
         * another order. None of it may change a key. */
        uint64_t random;
};

/* Adds items, an array of them; stops at the builder's first error. Aborts if the notation is
 * wrong. */
void key_json_add_items(struct key_json *j, cached_key *k, const json_t *items);

/* Byte i is i mod 251. */
void key_json_by_rule(uint8_t *bytes, size_t n);

#endif
