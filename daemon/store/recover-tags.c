/* SPDX-License-Identifier: MIT */
/*
 * Taking over the tags of a store
 *
 * A tag's record says its name, the generation that it belongs to, and whether it was cleared. All
 * else (lists, sums, which names are found, what readers see) is made anew from these and from the
 * ids in the entries. Entries with a tag that was cleared are dropped, so that none of them is
 * dying afterwards; until they have left the index, readers see that their tag is dead.
 *
 * An entry with an id that means nothing is dropped, and so are variants that nothing leads to.
 */

#include <string.h>

#include "store/recovery.h"

static bool is_whole(const struct store *s, const struct table_tag *tag)
{
        const struct table_gen *g;

        if (tag->state != TAG_LIVE && tag->state != TAG_DYING)
                return false;
        if (tag->kind >= N_TAG_KINDS || tag->n_name == 0 ||
            tag->n_name > (tag->kind == TAG_NODE ? STORE_KEY_MAX : TAG_NAME_MAX) ||
            gen_index(tag->gen) >= s->a.t->gen_high)
                return false;
        g = &s->a.gens[gen_index(tag->gen)];
        return g->id == tag->gen && g->state != GEN_FREE;
}

void recover_tags(struct recovery *r)
{
        struct store *s = r->s;
        struct table_header *t = s->a.t;
        uint32_t n = 0;
        /* The number in the header stays as it is: whoever comes after us needs it. */
        struct idhash h = tags_hash(s, &n);

        for (uint32_t i = 0; i < t->gen_high; i++) {
                struct table_gen *g = &s->a.gens[i];

                g->dead = (struct table_sums){0};
                g->n_tags[TAG_NAMED] = g->n_tags[TAG_NODE] = g->dying_tags = 0;
                g->n_shared_dying = 0;
        }
        t->dying_tag_head = t->dying_tag_tail = 0;
        for (uint32_t id = 1; id <= t->tag_high; id++) {
                struct table_tag *tag = tag_at(s, id);

                idhash_grow(&h);
                if (!is_whole(s, tag) ||
                    (tag->state == TAG_LIVE &&
                     tag_find_in(s, &h, tag->gen, tag->kind, tag->name, tag->n_name) != 0))
                        tag->state = TAG_FREE;
                tag->head = ARENA_NONE;
                tag->counted = 0;
                tag->all = tag->shared = (struct table_sums){0};
                if (tag->state == TAG_LIVE)
                        idhash_add(&h, id - 1,
                                   tag_hash_of(s, tag->gen, tag->kind, tag->name, tag->n_name));
                if (tag->state == TAG_DYING)
                        tag_show(s, id, true);
        }
}

/* The tag of what it is a variant of is the last one, and no id is there twice. */
static bool are_sound(const struct store *s, const struct entry *e)
{
        for (unsigned i = 0; i < e->x.n_tags; i++) {
                uint32_t id = e->x.tags[i].id;

                if (id == 0 || id > s->a.t->tag_high || tag_at(s, id)->state == TAG_FREE ||
                    tag_at(s, id)->gen != e->gen ||
                    (tag_at(s, id)->kind == TAG_NODE && i + 1 < e->x.n_tags))
                        return false;
                for (unsigned j = 0; j < i; j++)
                        if (e->x.tags[j].id == id)
                                return false;
        }
        return e->x.n_tags > 0;
}

bool recover_tags_of(struct recovery *r, const struct entry *e, enum store_dropped *ret_why)
{
        struct store *s = r->s;
        uint32_t cache = s->a.gens[gen_index(e->gen)].cache;
        uint64_t at = UINT64_MAX;

        *ret_why = DROPPED_TAG;
        if (!are_sound(s, e))
                return false;
        for (unsigned i = 0; i < e->x.n_tags; i++) {
                const struct table_tag *tag = tag_at(s, e->x.tags[i].id);

                if (tag->state == TAG_DYING && tag->cleared_at < at)
                        at = tag->cleared_at;
        }
        if (at == UINT64_MAX)
                return true;
        *ret_why = N_DROPPED;
        departed_add(s, cache, e->key, e->n_key, CAUSE_CLEARED, at < r->now ? at : r->now);
        cache_counters(&s->a.caches[cache])->departed[CAUSE_CLEARED]++;
        return false;
}

static void count(struct store *s, const struct table_tag *tag)
{
        struct table_gen *g = &s->a.gens[gen_index(tag->gen)];

        s->a.t->n_tag_ids++;
        if (g->state != GEN_LIVE)
                return;
        g->n_tags[tag->kind]++;
        s->a.t->n_tags++;
}

void recover_tags_end(struct recovery *r)
{
        struct store *s = r->s;
        struct table_header *t = s->a.t;
        struct idhash h = tags_hash(s, &t->tag_high);

        t->tag_free = t->n_tag_ids = t->n_tags = 0;
        for (uint32_t id = t->tag_high; id > 0; id--) {
                struct table_tag *tag = tag_at(s, id);

                if (tag->state == TAG_LIVE && tag->all.n_entries > 0) {
                        count(s, tag);
                        continue;
                }
                if (tag->state == TAG_LIVE)
                        idhash_remove(&h, id - 1);
                tag->state = TAG_FREE;
                tag->next = t->tag_free;
                t->tag_free = id;
        }
        for (uint32_t i = 0; i < ARENA_TAGS_MAX / 32; i++)
                if (atomic_load_explicit(&s->a.dead_tags[i], memory_order_relaxed) != 0)
                        atomic_store_explicit(&s->a.dead_tags[i], 0, memory_order_release);
        for (uint32_t id = 1; id <= t->tag_high; id++) {
                const struct table_tag *tag = tag_at(s, id);

                if (tag->state == TAG_LIVE && tag->kind == TAG_NODE &&
                    s->a.gens[gen_index(tag->gen)].state == GEN_LIVE &&
                    node_find(s, tag->gen, tag->name, tag->n_name, 0) == ARENA_NONE)
                        tag_die(s, id, r->now);
        }
}
