/* SPDX-License-Identifier: MIT */
#ifndef MEMO_NEST_H
#define MEMO_NEST_H

/*
 * Memos inside of memos: which runs we are a part of
 *
 * A list of keys in hexadecimal, with colons between them, in a variable of the environment. Pure.
 */

#include <cached.h>
#include <stdbool.h>
#include <stdint.h>

#define MEMO_NEST_VARIABLE "CACHED_MEMO_RUNNING"

/* Whether the run of this key is one that we are a part of. @list: may be NULL, and may be
 * anything: what is no key is none. */
bool memo_nest_has(const char *list, const uint8_t key[CACHED_KEY_SIZE]);

/* Whether a wait for this key could be part of a circle of waits. */
bool memo_nest_may_circle(const char *list, const uint8_t key[CACHED_KEY_SIZE]);

/* The list for the run of this key, freed by the caller. NULL: out of memory, or it is too long. */
char *memo_nest_add(const char *list, const uint8_t key[CACHED_KEY_SIZE]);

#endif
