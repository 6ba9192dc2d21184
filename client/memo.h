/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MEMO_H
#define CLIENT_MEMO_H

#include <cached.h>
#include <stdint.h>

#include "client/lease.h"
#include "client/options.h"
#include "client/record.h"
#include "client/result.h"
#include "client/vary.h"

/* One call of cached_memoize() or cached_memoize_vary(). */
struct memo {
        cached *c; /* NULL: there is no cache */
        const char *name, *cache;
        cached_key *arguments;
        const struct cached_memo_options *o;
        uint8_t key[CACHED_KEY_SIZE]; /* with inputs: where the look-up has come to */
        struct cached_result *r;
        cached_lease *lease; /* what the look-up came to, if there is something to compute; owned */
        cached_reply *old;   /* a value that is computed anew; owned */
        struct record record;
};

/*
 * memo_look_up() - looks one key up, and waits for who computes it
 *
 * Return: CACHED_OK: a hit, also if it is to be computed anew; CACHED_NOT_FOUND: a miss;
 * CACHED_NEGATIVE: there is no value; else the cache cannot be asked.
 */
int memo_look_up(struct memo *m);

/* vary-store.c: the same where inputs are discovered, from m->key on to where there is a value, or
 * nothing. A getter that failed is in m->record.vary->code. */
int memo_look_up_vary(struct memo *m);

/* The value of such a run: it and what leads to it. As cached_set(). */
int memo_store_vary(struct memo *m, const void *value, size_t n, struct cached_set_options *o,
                    cached_reply **ret);

#endif
