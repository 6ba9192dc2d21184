/* SPDX-License-Identifier: MIT */
#ifndef RESOURCE_SCENE_H
#define RESOURCE_SCENE_H

/*
 * A table of resources with some holders in one space, and payloads with lock words. Each payload
 * must be released once; what is told and the words are seen by the test.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "services/resource.h"

#define SCENE_HOLDERS 8
#define WORD_DIED     (UINT32_C(1) << 30)
#define WORD_WAITERS  (UINT32_C(1) << 31)

struct scene_payload {
        uint32_t word;
        struct scene *scene;
};

struct scene {
        struct resources t;
        struct resource_party party;
        struct resource_holder *holders[SCENE_HOLDERS];
        int spaces[2]; /* of which only the addresses count */
        uint64_t now, next_id;
        unsigned payloads; /* that are not released */
        unsigned created, left[N_RESOURCE_CAUSES];
        void (*on_left)(void *ctx, struct resource *r);
        void *on_left_ctx;
};

static inline uint32_t scene_word_try(void *ctx, void *payload, uint32_t number, bool *ret_died)
{
        struct scene_payload *p = payload;
        uint32_t owner = p->word & RESOURCE_NUMBER_MAX;
        (void)ctx;
        if (owner != 0) {
                p->word |= WORD_WAITERS;
                return owner;
        }
        *ret_died = p->word & WORD_DIED;
        p->word = (p->word & WORD_WAITERS) | number;
        return 0;
}

static inline void scene_word_write(void *ctx, void *payload, uint32_t number, bool waiters,
                                    bool died)
{
        struct scene_payload *p = payload;
        (void)ctx;
        p->word = number | (waiters ? WORD_WAITERS : 0) | (died ? WORD_DIED : 0);
}

static inline uint32_t scene_word_owner(void *ctx, void *payload)
{
        (void)ctx;
        return ((struct scene_payload *)payload)->word & RESOURCE_NUMBER_MAX;
}

static inline void scene_release(void *ctx, void *payload)
{
        struct scene *s = ctx;
        s->payloads--;
        free(payload);
}

static inline void scene_created(void *ctx, const struct resource *r)
{
        struct scene *s = ctx;
        assert(r->n_holders == 1);
        s->created++;
}

static inline void scene_left(void *ctx, struct resource *r)
{
        struct scene *s = ctx;
        s->left[r->cause]++;
        if (s->on_left)
                s->on_left(s->on_left_ctx, r);
}

static inline void scene_changed(void *ctx, struct resource *r)
{
        (void)ctx;
        assert(r->cause == 0);
}

static inline void scene_init(struct scene *s)
{
        const struct resource_hooks hooks = {.word_try = scene_word_try,
                                             .word_write = scene_word_write,
                                             .word_owner = scene_word_owner,
                                             .release = scene_release,
                                             .created = scene_created,
                                             .left = scene_left,
                                             .changed = scene_changed,
                                             .ctx = s};
        const struct resource_bounds bounds = {.holders = 64,
                                               .waiters = 100,
                                               .resources = 1000,
                                               .space_resources = 1000,
                                               .space_bytes = 1000000,
                                               .grace_ms = 10000};
        memset(s, 0, sizeof(*s));
        s->now = 1000000;
        resources_init(&s->t, 7, 0, &hooks);
        resources_set_bounds(&s->t, &bounds);
        resource_party_init(&s->party, s);
}

/* Number @i comes, or comes anew. */
static inline void scene_holder(struct scene *s, unsigned i)
{
        int r = resource_holder_open(&s->t, &s->spaces[0], 1000, (pid_t)(100 + i), ++s->next_id,
                                     s->now, s, &s->holders[i]);
        assert(r == 0);
        (void)r;
}

static inline void *scene_payload(struct scene *s)
{
        struct scene_payload *p = calloc(1, sizeof(*p));
        assert(p);
        p->scene = s;
        s->payloads++;
        return p;
}

static inline uint32_t *scene_word(struct resource *r)
{
        return &((struct scene_payload *)r->payload)->word;
}

static inline struct resource_where scene_where(struct scene *s, const char *key)
{
        return (struct resource_where){.space = &s->spaces[0],
                                       .cache = 1,
                                       .key = (const uint8_t *)key,
                                       .n_key = strlen(key)};
}

static inline struct resource_ask scene_ask(struct scene *s, unsigned holder, uint8_t kind)
{
        return (struct resource_ask){.party = &s->party,
                                     .holder = s->holders[holder],
                                     .kind = (enum resource_kind)kind,
                                     .policy = {.ttl_ms = RESOURCE_NEVER}};
}

/* All is given back. */
static inline void scene_done(struct scene *s)
{
        resource_party_done(&s->t, &s->party, s->now);
        resources_done(&s->t);
        assert(s->payloads == 0);
}

#endif
