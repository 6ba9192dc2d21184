/* SPDX-License-Identifier: MIT */
#include "base/chains.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define BUCKETS_FIRST ((size_t)64)

static void link_add(struct chain_link **bucket, struct chain_link *l)
{
        l->next = *bucket;
        if (l->next)
                l->next->at = &l->next;
        l->at = bucket;
        *bucket = l;
}

/* Longer chains do where there is no memory for more buckets. */
static int grow(struct chains *c)
{
        size_t n = c->n_buckets ? 2 * c->n_buckets : BUCKETS_FIRST;
        if (c->n < c->n_buckets)
                return 0;
        struct chain_link **buckets = calloc(n, sizeof(struct chain_link *));
        if (!buckets)
                return c->n_buckets ? 0 : -ENOMEM;
        for (size_t i = 0; i < c->n_buckets; i++) {
                struct chain_link *next;
                for (struct chain_link *l = c->buckets[i]; l; l = next) {
                        next = l->next;
                        link_add(&buckets[l->hash & (n - 1)], l);
                }
        }
        free(c->buckets);
        c->buckets = buckets;
        c->n_buckets = n;
        return 0;
}

int chains_add(struct chains *c, struct chain_link *l, uint64_t hash)
{
        int r = grow(c);
        if (r < 0)
                return r;
        l->hash = hash;
        link_add(&c->buckets[hash & (c->n_buckets - 1)], l);
        c->n++;
        return 0;
}

void chains_remove(struct chains *c, struct chain_link *l)
{
        *l->at = l->next;
        if (l->next)
                l->next->at = l->at;
        c->n--;
}

void chains_done(struct chains *c)
{
        assert(c->n == 0);
        free(c->buckets);
        *c = (struct chains){0};
}
