/* SPDX-License-Identifier: MIT */
/*
 * Taking a store over from another process
 *
 * The predecessor left in order, or was killed between any two of its stores. Both are the same
 * here: nothing is believed. Four kinds of things are primary; each of them is changed by one
 * store, or announced in the intent record and finished here:
 *
 *   - the index, the blocks that it names, and the stamps in their records (recover-entries.c);
 *   - caches: names, policies, counters, and which generation is theirs;
 *   - generations: their ids, and which of them are dying;
 *   - writers' uids; which file is which large value; the last version that was given out.
 *
 * Everything else is made anew from these. So there is no difference between repairing and
 * checking, and killing the one who repairs does no harm: the next one starts again.
 *
 * What is not whole is dropped and counted; mapped readers look on and see each such change in
 * brackets, like any other. All of it is done at once, before the first request: some tenths of a
 * microsecond an entry.
 *
 * Not done here: finding the files, deciding which realm they belong to, and the epoch file.
 */

#include "store/recover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/recovery.h"

const char *store_dropped_text(enum store_dropped why)
{
        static const char *const texts[] = {
                [DROPPED_TORN] = "it was being changed",
                [DROPPED_BLOCK] = "its block lies nowhere or is in use twice",
                [DROPPED_ENTRY] = "its header does not fit its block",
                [DROPPED_PLACE] = "it is not where its key belongs",
                [DROPPED_GENERATION] = "it is of no cache",
                [DROPPED_OWNER] = "its writer is not known",
                [DROPPED_LARGE] = "its large value was not given back",
                [DROPPED_EXTENT] = "its value lies nowhere or where another one does",
                [DROPPED_TAG] = "its tags are not known",
                [DROPPED_LIMIT] = "too many combinations of cache and writer",
        };

        return why < N_DROPPED ? texts[why] : "unknown";
}

/* ---- generations */

/* Which of them the caches have is found out later: until then all that are in use are dying. */
static void recover_gens(struct recovery *r)
{
        struct store *s = r->s;
        const struct table_header *t = s->a.t;

        for (uint32_t i = 0; i < t->gen_high; i++) {
                struct table_gen *g = &s->a.gens[i];

                if (gen_index(g->id) != i) {
                        g->id = g->state == GEN_FREE && g->id == 0 ? 0 : i + 1;
                        g->state = GEN_FREE;
                }
                if (g->state != GEN_FREE && (g->cache == 0 || g->cache > t->n_caches))
                        g->state = GEN_FREE;
                if (g->state == GEN_FREE)
                        continue;
                if (g->state != GEN_DYING || g->cleared_at > r->now)
                        g->cleared_at = r->now;
                g->state = GEN_DYING;
                if (g->before != 0 && gen_index(g->before) >= t->gen_high)
                        g->before = 0;
        }
}

struct dying {
        uint64_t cleared_at;
        uint32_t gen;
};

static int by_time(const void *a, const void *b)
{
        const struct dying *x = a, *y = b;

        if (x->cleared_at != y->cleared_at)
                return x->cleared_at < y->cleared_at ? -1 : 1;
        return x->gen < y->gen ? -1 : x->gen > y->gen;
}

/* Those that are free, and those that are dying in the order in which they were cleared. */
static int list_gens(struct store *s)
{
        struct table_header *t = s->a.t;
        struct dying *d = calloc((size_t)t->gen_high + 1, sizeof(*d));
        uint32_t n = 0, *at = &t->dying_head;

        if (!d)
                return -ENOMEM;
        t->gen_free = t->dying_head = t->dying_tail = TABLE_NONE;
        for (uint32_t i = t->gen_high; i-- > 0;) {
                struct table_gen *g = &s->a.gens[i];

                g->next = TABLE_NONE;
                if (g->state == GEN_DYING)
                        d[n++] = (struct dying){g->cleared_at, i};
                if (g->state != GEN_FREE)
                        continue;
                g->next = t->gen_free;
                t->gen_free = i;
        }
        qsort(d, n, sizeof(*d), by_time);
        for (uint32_t i = 0; i < n; i++) {
                *at = t->dying_tail = d[i].gen;
                at = &s->a.gens[d[i].gen].next;
        }
        free(d);
        return 0;
}

/* ---- caches */

/* Names, the generation that is the cache's alone (then that one is live), and policies: none has a
 * TTL of 0, which moments could not follow from. */
static bool cache_is_whole(struct store *s, uint32_t id)
{
        struct table_cache *c = &s->a.caches[id];
        struct table_gen *g;

        if (c->n_name == 0 || c->n_name > STORE_CACHE_NAME_MAX || c->gen >= s->a.t->gen_high ||
            c->policy.ttl_ms == 0 || c->opened.ttl_ms == 0)
                return false;
        g = &s->a.gens[c->gen];
        if (g->state != GEN_DYING || g->cache != id)
                return false;
        memset(c->name + c->n_name, 0, sizeof(c->name) - c->n_name);
        if (!cache_name_add(s, id))
                return false;
        c->pinned = c->pinned != 0;
        g->state = GEN_LIVE;
        g->cleared_at = 0;
        return true;
}

/* The id must mean something, since those behind it keep theirs: an empty cache of a new name. */
static int cache_make_empty(struct recovery *r, uint32_t id)
{
        struct store *s = r->s;
        struct table_cache *c = &s->a.caches[id];
        uint32_t gen;
        int n = gen_alloc(s, id, &gen);

        if (n != 0)
                return n < 0 ? n : -ENOMEM;
        *c = (struct table_cache){
                .gen = gen,
                .in_use = 1,
                .policy = {.ttl_ms = STORE_NEVER,
                           .max_entries = STORE_UNLIMITED,
                           .max_bytes = STORE_UNLIMITED},
                .opened = {.ttl_ms = STORE_NEVER,
                           .max_entries = STORE_UNLIMITED,
                           .max_bytes = STORE_UNLIMITED},
        };
        for (unsigned tries = 0; tries < 1000; tries++) {
                n = snprintf(c->name, sizeof(c->name), "lost.%u.%u", id, tries);
                c->n_name = (uint16_t)n;
                if (cache_name_add(s, id)) {
                        r->report->n_caches_lost++;
                        return 0;
                }
        }
        return STORE_E_REFUSED; /* somebody wants it so */
}

/* Of a cache that was removed. Its generation, unless that was the cache's still, is kept. */
static bool removed_is_whole(struct store *s, uint32_t id)
{
        const struct table_cache *c = &s->a.caches[id];
        struct table_gen *g;

        if (c->n_name != 0 || c->gen >= s->a.t->gen_high)
                return false;
        g = &s->a.gens[c->gen];
        if (g->state != GEN_DYING || g->cache != id)
                return false;
        g->state = GEN_LIVE;
        g->cleared_at = 0;
        return true;
}

/* Records of caches that were removed: what they had is dying. Each can be used when the last of
 * that is gone. */
static int recover_removed(struct store *s, const uint8_t *is_whole)
{
        uint32_t n_caches = s->a.t->n_caches;
        uint32_t *last = calloc((size_t)n_caches + 1, sizeof(*last));
        int n = 0;

        if (!last)
                return -ENOMEM;
        for (uint32_t i = s->a.t->dying_head; i != TABLE_NONE; i = s->a.gens[i].next)
                last[s->a.gens[i].cache] = s->a.gens[i].id;
        for (uint32_t id = n_caches; n == 0 && id > 0; id--) {
                uint32_t gen = s->a.caches[id].gen;

                if (s->a.caches[id].in_use)
                        continue;
                if (!is_whole[id])
                        n = gen_alloc(s, id, &gen);
                if (n != 0)
                        break;
                cache_make_nameless(s, id, gen);
                s->a.gens[gen].before = last[id];
                s->n_removed++;
                if (last[id] == 0)
                        cache_was_last(s, id, 0);
        }
        free(last);
        return n > 0 ? -ENOMEM : n;
}

static int recover_caches(struct recovery *r)
{
        struct store *s = r->s;
        uint32_t n_caches = s->a.t->n_caches;
        uint8_t *is_whole;
        int n;

        if (r->intent.op == INTENT_POLICY && r->intent.old_handle >= 1 &&
            r->intent.old_handle <= n_caches)
                cache_take_staged(s, r->intent.old_handle);
        memset(s->a.names, 0, s->a.t->n_names * sizeof(*s->a.names));
        is_whole = calloc((size_t)n_caches + 1, 1);
        if (!is_whole)
                return -ENOMEM;
        for (uint32_t id = 1; id <= n_caches; id++)
                is_whole[id] =
                        s->a.caches[id].in_use ? cache_is_whole(s, id) : removed_is_whole(s, id);
        n = list_gens(s);
        if (n == 0)
                n = recover_removed(s, is_whole);
        for (uint32_t id = 1; n == 0 && id <= n_caches; id++)
                if (!is_whole[id] && s->a.caches[id].in_use)
                        n = cache_make_empty(r, id);
        free(is_whole);
        return n;
}

/* What readers see, once the entries are as the caches say. */
static void show_caches(struct store *s)
{
        uint32_t n = s->a.t->n_caches;

        for (uint32_t id = 1; id <= n; id++)
                cache_show(s, id);
        for (uint32_t id = 0; id < s->a.h->cache_dir_max; id++)
                if (id == 0 || id > n)
                        atomic_store_explicit(&s->a.cache_dir[id].generation, 0,
                                              memory_order_release);
}

/* ---- owners */

static void recover_owners(struct recovery *r)
{
        struct store *s = r->s;

        for (uint32_t i = 0; i < s->a.t->n_owners; i++) {
                if (s->a.owner_uids[i] == s->a.owners[i].uid)
                        continue;
                /* Whose entries these are cannot be said: none of them is kept. */
                r->bad_owner[i] = 1;
                __atomic_store_n(&s->a.owner_uids[i], s->a.owners[i].uid, __ATOMIC_RELAXED);
        }
        owner_rehash(s);
}

/* ---- what departed */

static void recover_departed(struct recovery *r)
{
        for (uint32_t i = 0; i < N_DEPARTED; i++) {
                struct table_departed *d = &r->s->a.departed[i];

                if ((d->when_cause & 0xff) >= N_CAUSES || d->when_cause >> 8 > r->now)
                        *d = (struct table_departed){0};
        }
}

/* ---- descriptors */

static int by_ino(const void *a, const void *b)
{
        const struct given_file *x = a, *y = b;

        return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static int gather_files(struct recovery *r, const struct store_files *f)
{
        if (f->n_large == 0)
                return 0;
        r->files = calloc(f->n_large, sizeof(*r->files));
        if (!r->files)
                return -ENOMEM;
        for (size_t i = 0; i < f->n_large; i++) {
                uint64_t size, ino;

                if (f->large[i] < 0)
                        continue;
                if (!memfile_look(f->large[i], &size, &ino)) {
                        r->files[r->n_files++] = (struct given_file){ino, f->large[i], i};
                        continue;
                }
                if (!f->share)
                        close(f->large[i]);
                r->report->large_unused++;
        }
        qsort(r->files, r->n_files, sizeof(*r->files), by_ino);
        return 0;
}

static void close_files(struct recovery *r, const struct store_files *f)
{
        for (size_t i = 0; i < r->n_files; i++) {
                if (r->files[i].fd < 0) {
                        f->large[r->files[i].at] = -1;
                        continue;
                }
                if (!f->share)
                        close(r->files[i].fd);
                r->report->large_unused++;
        }
        free(r->files);
}

/* ---- all of it */

static int recover(struct recovery *r)
{
        struct store *s = r->s;
        struct table_header *t = s->a.t;
        int n;

        r->intent = t->intent;
        r->report->torn = r->intent.op;
        recover_gens(r);
        recover_owners(r);
        recover_departed(r);
        n = recover_caches(r);
        if (n == 0) {
                recover_tags(r);
                n = recover_entries(r);
        }
        if (n != 0)
                return n;
        if (t->version < r->version || t->version > (UINT64_C(1) << 44) - 1)
                t->version = r->version;
        show_caches(s);
        t->intent = (struct table_intent){.op = INTENT_NONE};
        return 0;
}

/* What the struct holds beside the files; nothing has been looked for yet. */
static void begin(struct store *s, const struct store_params *p, uint64_t now)
{
        const struct arena_header *h = s->a.h;

        s->p = *p;
        s->p.label = NULL;
        s->p.seed[0] = h->seed[0];
        s->p.seed[1] = h->seed[1];
        s->p.instance = h->instance;
        if (s->p.max_caches > s->a.t->max_caches)
                s->p.max_caches = s->a.t->max_caches;
        store_bound_sizes(s);
        s->extra = EVICT_EXTRA;
        s->trim = s->a.t->n_caches > 0;      /* limits may have been lowered just before */
        s->listing_until = now + LISTING_MS; /* who was listing may go on */
        s->gen_heap = expiry_gen_heap(s);
}

static void close_all(const int *fds, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (fds[i] >= 0)
                        close(fds[i]);
}

static void close_large(const struct store_files *f)
{
        if (!f->share)
                close_all(f->large, f->n_large);
}

static int adopt_with(struct recovery *r, const struct store_params *p, const struct store_files *f)
{
        struct arena_refusal refusal;
        int n = arena_adopt(&r->s->a, f->arena, f->table, p->boot, &refusal);

        if (n == ARENA_E_REFUSED) {
                r->report->refused = refusal.why;
                r->report->detail = refusal.detail;
        }
        r->report->retired = n != 0 && refusal.retired;
        if (n == 0) {
                r->report->instance = r->s->a.h->instance;
                begin(r->s, p, r->now);
                n = gather_files(r, f);
        } else {
                n = n < 0 ? n : STORE_E_REFUSED;
        }
        if (n != 0) {
                close_large(f);
                return n;
        }
        n = recover(r);
        close_files(r, f);
        if (n == STORE_E_REFUSED) {
                r->report->refused = REFUSED_BROKEN;
                r->report->detail = "no name is left for a cache that lost its own";
        }
        return n;
}

int store_adopt(const struct store_params *p, const struct store_files *f, uint64_t now,
                struct store **ret, struct store_adopted *ret_report)
{
        const int both[] = {f->arena, f->table};
        struct recovery *r = calloc(1, sizeof(*r));
        struct store *s = calloc(1, sizeof(*s));
        int n;

        *ret_report = (struct store_adopted){0};
        if (!r || !s) {
                close_all(both, 2);
                close_large(f);
                free(r);
                free(s);
                return -ENOMEM;
        }
        s->a.mem.fd = s->a.table.fd = -1;
        *r = (struct recovery){.s = s, .now = now, .report = ret_report};
        n = adopt_with(r, p, f);
        free(r->confirmed);
        order_end(r);
        free(r);
        if (n != 0) {
                ret_report->retired |= s->a.h != NULL;
                store_free(s);
                return n;
        }
        *ret = s;
        return 0;
}

void store_renumber(struct store *s, uint64_t instance)
{
        __atomic_store_n(&s->a.h->instance, instance, __ATOMIC_RELEASE);
        s->a.t->instance = instance;
        s->p.instance = instance;
}

int store_peek(int table_fd, struct store_peek *ret)
{
        struct table_header t;

        static_assert(STORE_LABEL_SIZE == TABLE_LABEL_SIZE, "label");
        if (arena_peek_table(table_fd, &t))
                return STORE_E_REFUSED;
        *ret = (struct store_peek){.instance = t.instance, .arena_ino = t.arena_ino};
        memcpy(ret->label, t.label, sizeof(ret->label) - 1);
        return 0;
}
