/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_VARY_H
#define CLIENT_VARY_H

/*
 * Discovered inputs of memoized functions: see vary.c
 */

#include <cached.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/failure.h"
#include "client/key-hash.h"

/* Inputs of one run, and steps of one look-up. */
#define VARY_MAX 64

/* One input, as this call sees it. */
struct vary_input {
        char *name;         /* owned */
        cached_result *out; /* what its getter gave; owned */
};

/* Where a look-up or a run came by: a key, and the input that led on from it. */
struct vary_step {
        uint8_t key[KEY_DIGEST_SIZE];
        const struct vary_input *input; /* NULL: none, here it ended */
        bool is_lasting;                /* of a look-up: the node there never expires */
};

struct vary_path {
        struct vary_step at[VARY_MAX + 1];
        unsigned n; /* steps that led on; at[n] is where it ended */
};

/* A getter that is running. */
struct vary_reading {
        const char *name;
        const struct vary_reading *outer;
};

/* One call of cached_memoize_vary(). */
struct vary {
        const cached_inputs *inputs; /* borrowed */
        struct vary_input *read[2 * VARY_MAX];
        unsigned n_read;
        const struct vary_reading *reading; /* innermost first; NULL: none */
        struct vary_path looked, run;
        bool is_too_long; /* the run read more than VARY_MAX inputs */
        int code;         /* of a getter that failed, or no memory: the call fails with it */
        struct failure why;
};

struct vary *vary_new(const cached_inputs *inputs);
struct vary *vary_free(struct vary *v);

/* Both paths begin at this key. */
void vary_begin(struct vary *v, const uint8_t key[KEY_DIGEST_SIZE]);

/*
 * vary_step() - the look-up came to an entry that names an input: where to look next
 * @is_lasting:  it never expires
 *
 * Return: CACHED_OK, and `key` is the next; CACHED_LIMIT: too many, or nobody here knows that
 * input: there is nothing to be found; any other: the call fails with v->code.
 */
int vary_step(struct vary *v, const char *name, size_t n_name, bool is_lasting,
              uint8_t key[KEY_DIGEST_SIZE]);

/* How many steps of the look-up the run took as well. */
unsigned vary_common(const struct vary *v);

/* KEYS.md, "Variants". */
void vary_key(const uint8_t parent[KEY_DIGEST_SIZE], const char *name, const void *value, size_t n,
              uint8_t ret[KEY_DIGEST_SIZE]);

#endif
