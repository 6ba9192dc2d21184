/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_KEY_H
#define CLIENT_KEY_H

/*
 * The builder behind cached-key.h, for the files that add items to it
 *
 * Adding one: key_check_ready(), then what its arguments need, then key_item_begin(); what that
 * gives is written to; key_item_end(). Each returns CACHED_OK or the error that sticks.
 */

#include <cached.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/key-bytes.h"
#include "client/key-hash.h"
#include "client/key-tree.h"

/* The first byte of each item: KEYS.md. Append-only; what is not here is reserved. */
enum key_tag {
        KEY_TAG_END = 0x00,
        KEY_TAG_NULL = 0x01,
        KEY_TAG_FALSE = 0x02,
        KEY_TAG_TRUE = 0x03,
        KEY_TAG_INTEGER = 0x04,
        KEY_TAG_DOUBLE = 0x05,
        KEY_TAG_TEXT = 0x06,
        KEY_TAG_BYTES = 0x07,
        KEY_TAG_LIST = 0x10,
        KEY_TAG_TUPLE = 0x11,
        KEY_TAG_MAP = 0x12,
        KEY_TAG_SET = 0x13,
        KEY_TAG_NAMED = 0x14,
        KEY_TAG_DATE = 0x20,
        KEY_TAG_TIME = 0x21,
        KEY_TAG_TIME_ZONE = 0x22,
        KEY_TAG_DATETIME = 0x23,
        KEY_TAG_DATETIME_ZONE = 0x24,
        KEY_TAG_DURATION = 0x25,
        KEY_TAG_DECIMAL = 0x30,
        KEY_TAG_UUID = 0x31,
        KEY_TAG_ARRAY = 0x32,
};

/* Whether an item may come now. The only one of these that takes NULL, which is an error. */
int key_check_ready(struct cached_key *k);

/* Text of an argument: UTF-8 of @min to @max bytes. @what: how the error calls it. */
int key_check_text(struct cached_key *k, const char *what, const char *text, size_t n, size_t min,
                   size_t max);
/* Bytes of an argument: not NULL, and of a length that memory can have. */
int key_check_bytes(struct cached_key *k, const char *what, const void *bytes, size_t n);

/* *ret: the hash that the item goes to, its tag written. */
int key_item_begin(struct cached_key *k, enum key_tag tag, struct key_hash **ret);
int key_item_end(struct cached_key *k);

/* key_check_ready() and key_item_begin(), for an item that any argument will do for. */
int key_item_start(struct cached_key *k, enum key_tag tag, struct key_hash **ret);

/* Makes an error stick, unless one does; returns the one that sticks. The text gets the number of
 * the item of the top level in front of it. */
int key_fail(struct cached_key *k, int code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
int key_fail_nomem(struct cached_key *k);

/* Length and bytes. */
void key_write_bytes(const struct cached_key *k, struct key_hash *out, const void *bytes, size_t n);

/* The item that has begun, with @out, goes on with bytes that are fed, and ends with them.
 * @n_elements: their number is a multiple of it (0: it is 0). */
int key_buffer_begin(struct cached_key *k, struct key_hash *out, uint64_t n_elements);

#endif
