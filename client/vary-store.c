/* SPDX-License-Identifier: MIT */
/*
 * Discovered inputs in the cache: PROTOCOL.md, "Variants"
 *
 * An entry with `vary` is a node: its value is the name of the input to read next. A look-up reads
 * and goes on until it finds a value, or nothing: there is the lease, so runs whose inputs differ
 * do not wait for each other.
 *
 * A run stores its value and, from there upwards, every node that leads to it: who waited at the
 * node where the lease is wakes up when that is stored, and finds what is below it. Nodes that were
 * there already are stored again, as they are, which gives them the time to live of what is new:
 * the daemon drops variants with their node. Where the run took another way than the look-up did,
 * the node at the fork comes first, since storing it clears what hung there.
 *
 * Where the run did not come by the key that it has the lease of, that lease is given up.
 */

#include <string.h>

#include "client/entries.h"
#include "client/memo.h"
#include "client/reply.h"

/* --------------------------------------------------------------------------------------- look-up
 */

static const Cached__V1__EntryInfo *node_of(const cached_reply *reply)
{
        const Cached__V1__EntryInfo *e = reply ? reply_entry(reply) : NULL;

        return e && e->vary ? e : NULL;
}

/* From a node to the next key. */
static int step(struct memo *m, const cached_reply *node)
{
        struct vary *v = m->record.vary;
        const void *name;
        size_t n = 0;
        int code;

        name = cached_reply_value(node, &n);
        code = vary_step(v, name, n, m->key);
        if (code == CACHED_LIMIT)
                m->r->cache_code = failure_set(&m->r->why, CACHED_LIMIT,
                                               "what is stored of %s depends on more than %d "
                                               "inputs, or on one that it does not have",
                                               m->name, VARY_MAX);
        return code;
}

int memo_look_up_vary(struct memo *m)
{
        vary_begin(m->record.vary, m->key);
        for (;;) {
                int code = memo_look_up(m);
                cached_reply *node = m->old ? m->old : m->r->reply;

                if (code != CACHED_OK || !node_of(node))
                        return code;
                code = step(m, node);
                cached_reply_free(m->old);
                m->old = NULL;
                /* Nobody computes a node. */
                cached_lease_free(m->lease);
                m->lease = NULL;
                result_reset(m->r);
                if (code != CACHED_OK)
                        return code;
        }
}

/* ---------------------------------------------------------------------------------------- store */

/* What is stored of one run. */
struct storing {
        struct memo *m;
        const struct vary_path *run;
        const struct cached_set_options *o;
        const void *value;
        size_t n;
        cached_reply **ret;
};

static bool is_leased(const struct memo *m, const uint8_t *key)
{
        return m->lease && m->lease->is_held && memcmp(m->key, key, sizeof(m->key)) == 0;
}

/* The value at the end of the path, or the node at one of its steps. */
static int store_at(struct storing *s, unsigned i, cached_reply **ret)
{
        struct cached_set_options o = {.has_ttl = s->o->has_ttl, .ttl_ms = s->o->ttl_ms};
        const struct vary_step *at = &s->run->at[i];
        const void *value = s->value;
        struct memo *m = s->m;
        size_t n = s->n;

        if (at->input) {
                o.is_vary = true;
                value = at->input->name;
                n = strlen(at->input->name);
        } else {
                o = *s->o;
        }
        if (i > 0) {
                o.variant_of = s->run->at[i - 1].key;
                o.n_variant_of = KEY_DIGEST_SIZE;
        }
        if (is_leased(m, at->key))
                return lease_set(m->lease, value, n, &o, false, m->o->wait_ms, ret);
        return entries_set(m->c, m->cache, at->key, KEY_DIGEST_SIZE, value, n, &o, m->o->wait_ms,
                           ret);
}

/* The next one's reply takes the place of the one before. */
static int store_next(struct storing *s, unsigned i)
{
        cached_reply_free(*s->ret);
        *s->ret = NULL;
        return store_at(s, i, s->ret);
}

/* Those who wait there try for themselves. */
static void give_up(struct memo *m)
{
        if (m->lease && m->lease->is_held)
                (void)cached_lease_end(m->lease, NULL);
}

/* A value that is not stored is shared where the lease is its own. */
static int share(struct storing *s)
{
        struct memo *m = s->m;

        if (is_leased(m, s->run->at[s->run->n].key))
                return lease_set(m->lease, s->value, s->n, s->o, true, m->o->wait_ms, s->ret);
        give_up(m);
        return CACHED_OK;
}

int memo_store_vary(struct memo *m, const void *value, size_t n, struct cached_set_options *o,
                    cached_reply **ret)
{
        struct vary *v = m->record.vary;
        struct storing s = {.m = m, .run = &v->run, .o = o, .value = value, .n = n, .ret = ret};
        unsigned fork = vary_common(v), last = v->run.n;
        bool is_forked = fork < v->looked.n && fork < last;
        int code = CACHED_OK;

        *ret = NULL;
        if (m->r->is_declined)
                return share(&s);
        if (is_forked)
                code = store_next(&s, fork);
        for (unsigned i = last + 1; code == CACHED_OK && i-- > 0;)
                if (!is_forked || i != fork)
                        code = store_next(&s, i);
        give_up(m);
        return code;
}
