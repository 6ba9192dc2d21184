/* SPDX-License-Identifier: MIT */
/*
 * Discovered inputs in the cache: PROTOCOL.md, "Variants"
 *
 * An entry with `vary` is a node: its value is the name of the input to read next. A look-up reads
 * and goes on until it finds a value, or nothing: there is the lease, so runs whose inputs differ
 * do not wait for each other.
 *
 * A run stores every node that leads to its value, from the first one down, and then the value: the
 * daemon takes a variant only where its node is. Nodes that were there already are stored again, as
 * they are, which keeps their variants and gives them the time to live of what is new; those that
 * never expire are left alone. Where the run took another way than the look-up did, another node
 * takes the place of the one at the fork, and what hung there goes.
 *
 * Who waits at a node wakes up when that is stored, and looks one step further. So that it finds
 * the run there, too, and does not begin one, the lease of the next key is taken before a node is
 * stored under a lease.
 *
 * Where the run did not come by the key that the look-up got the lease of, that lease is given up.
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
        code = vary_step(v, name, n, cached_reply_ttl_ms(node) == CACHED_NEVER, m->key);
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
        cached_lease *lease; /* of the key that comes next; NULL: none */
        bool is_own;         /* it is not the look-up's */
        cached_reply **ret;
};

static bool is_leased(const struct memo *m, const uint8_t *key)
{
        return m->lease && m->lease->is_held && memcmp(m->key, key, sizeof(m->key)) == 0;
}

/* What others would compute is computed already. NULL: there is something, or somebody. */
static cached_lease *lease_ahead(const struct memo *m, const uint8_t *key)
{
        struct cached_lease_options o = {.outer = m->lease};
        struct lease_want w = {.cache = m->cache,
                               .key = key,
                               .n_key = KEY_DIGEST_SIZE,
                               .o = &o,
                               .patience_ms = m->o->wait_ms};
        cached_lease *l = NULL;

        (void)lease_get(m->c, &w, NULL, &l);
        if (l && l->is_held)
                return l;
        cached_lease_free(l);
        return NULL;
}

static void lease_drop(struct storing *s)
{
        if (s->is_own)
                cached_lease_free(s->lease);
        s->lease = NULL;
        s->is_own = false;
}

/* The value at the end of the path, or the node at one of its steps. */
static int store_at(struct storing *s, unsigned i)
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
        cached_reply_free(*s->ret);
        *s->ret = NULL;
        if (s->lease)
                return lease_set(s->lease, value, n, &o, false, m->o->wait_ms, s->ret);
        return entries_set(m->c, m->cache, at->key, KEY_DIGEST_SIZE, value, n, &o, m->o->wait_ms,
                           s->ret);
}

/* With the lease of the key after it, if there is one of its own. */
static int store_next(struct storing *s, unsigned i)
{
        struct memo *m = s->m;
        cached_lease *ahead = NULL;
        int code;

        if (!s->lease && is_leased(m, s->run->at[i].key))
                s->lease = m->lease;
        if (s->lease && s->run->at[i].input)
                ahead = lease_ahead(m, s->run->at[i + 1].key);
        code = store_at(s, i);
        lease_drop(s);
        s->lease = ahead;
        s->is_own = ahead != NULL;
        return code;
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

/* @n_there: nodes of the path that need not be stored, if they never expire */
static int store_path(struct storing *s, unsigned n_there)
{
        const struct vary *v = s->m->record.vary;
        int code = CACHED_OK;

        for (unsigned i = 0; code == CACHED_OK && i <= s->run->n; i++)
                if (i >= n_there || !v->looked.at[i].is_lasting)
                        code = store_next(s, i);
        lease_drop(s);
        return code;
}

int memo_store_vary(struct memo *m, const void *value, size_t n, struct cached_set_options *o,
                    cached_reply **ret)
{
        struct vary *v = m->record.vary;
        struct storing s = {.m = m, .run = &v->run, .o = o, .value = value, .n = n, .ret = ret};
        unsigned n_there = vary_common(v);
        int code;

        *ret = NULL;
        if (m->r->is_declined)
                return share(&s);
        code = store_path(&s, n_there);
        /* A node has left meanwhile. */
        if (code == CACHED_NOT_FOUND && n_there > 0)
                code = store_path(&s, 0);
        give_up(m);
        return code;
}
