/* SPDX-License-Identifier: MIT */
/*
 * The store's invariants, checked the slow way
 *
 * Every live chunk is in exactly one recency list and exactly once in the index, in one of its two
 * buckets; lists are ordered by stamp; heaps are heaps and records know their place in them; counts
 * and sums in headers are what a walk finds. Each tag of an entry has it in its list, once. Each
 * value in an extent has a place of its own, and each place that is in use has an entry, a holder,
 * or a value that is arriving. Each cache is found by its name, and has a live generation that is
 * its own; of those that were removed as many can be used again as have nothing that is dying.
 */

#include "store-check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

#define CHECK(x)                                                                                   \
        do {                                                                                       \
                if (!(x)) {                                                                        \
                        fprintf(stderr, "%s:%d: the store is inconsistent: %s\n", __FILE__,        \
                                __LINE__, #x);                                                     \
                        abort();                                                                   \
                }                                                                                  \
        } while (0)

/* A leftist heap: keys and ranks below @root, and the way back up. Returns its number of nodes. */
static uint64_t check_heap(const struct linkheap *h, uint32_t root, uint32_t up, uint64_t least,
                           uint32_t *ret_rank)
{
        const struct linkheap_node *n;
        uint32_t left, right;
        uint64_t count;

        *ret_rank = 0;
        if (root == LINKHEAP_NONE)
                return 0;
        n = linkheap_node(h, root);
        CHECK(n->up == up && n->key >= least);
        count = 1 + check_heap(h, n->left, root, n->key, &left) +
                check_heap(h, n->right, root, n->key, &right);
        CHECK(left >= right && n->rank == right + 1);
        *ret_rank = n->rank;
        return count;
}

static struct linkheap lists_heap(const struct store *s, size_t node_off)
{
        return (struct linkheap){(uint8_t *)s->a.lists + node_off, sizeof(struct table_list)};
}

#define LISTS_HEAP(s, node) lists_heap(s, offsetof(struct table_list, node))

static uint64_t check_list(struct store *s, uint32_t list)
{
        const struct table_list *l = &s->a.lists[list];
        uint64_t n = 0, stamp = UINT64_MAX;
        uint32_t prev = ARENA_NONE;

        for (uint32_t h = l->head; h != ARENA_NONE; h = arena_rec(&s->a, h)->next) {
                const struct table_rec *r = arena_rec(&s->a, h);
                const struct arena_entry *b = arena_block(&s->a, h);

                CHECK(r->prev == prev);
                CHECK(rec_stamp(r) != 0 && rec_stamp(r) < stamp);
                CHECK(gen_index(b->gen) == l->gen && entry_owner(b) == l->owner);
                stamp = rec_stamp(r);
                prev = h;
                n++;
        }
        CHECK(l->tail == prev);
        CHECK(n == l->n_entries);
        CHECK(n > 0 && lru_list_find(s, l->gen, l->owner) == list);
        stamp = rec_stamp(arena_rec(&s->a, l->tail));
        CHECK(l->of_gen.rank != 0 && l->of_gen.key == stamp);
        CHECK((l->of_realm.rank != 0) == (l->of_owner.rank != 0));
        CHECK(l->of_realm.rank != 0 || s->a.gens[l->gen].state == GEN_DYING);
        CHECK(l->of_realm.rank == 0 || (l->of_realm.key == stamp && l->of_owner.key == stamp));
        return n;
}

static uint64_t check_gen_lists(struct store *s, const struct linkheap *h, uint32_t root)
{
        if (root == LINKHEAP_NONE)
                return 0;
        return check_list(s, root) + check_gen_lists(s, h, linkheap_node(h, root)->left) +
               check_gen_lists(s, h, linkheap_node(h, root)->right);
}

/* The same lists are in the heaps of the owners and of the realm. */
static void check_list_heaps(struct store *s)
{
        struct linkheap realm = LISTS_HEAP(s, of_realm), owner = LISTS_HEAP(s, of_owner);
        uint64_t in_owners = 0;
        uint32_t rank;

        for (uint32_t i = 0; i < s->a.t->n_owners; i++)
                in_owners += check_heap(&owner, s->a.owners[i].lists, LINKHEAP_NONE, 0, &rank);
        CHECK(check_heap(&realm, s->a.t->oldest_list, LINKHEAP_NONE, 0, &rank) == in_owners);
}

static void check_entry(struct store *s, uint32_t handle, uint64_t *n_heap)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        const struct table_gen *g = &s->a.gens[gen_index(b->gen)];
        struct index_key k;
        struct index_slot slot;

        CHECK(g->state != GEN_FREE && g->id == b->gen);
        index_key_of(s, &k, handle);
        CHECK(index_find(s, &k, &slot) == handle);
        if (g->state == GEN_LIVE) {
                CHECK((arena_rec(&s->a, handle)->heap_pos != TABLE_NONE) ==
                      (entry_deadline(b) != ENTRY_NEVER));
                *n_heap += entry_deadline(b) != ENTRY_NEVER;
        }
}

/* Free places are listed by what is resident, those in use if that is more than they need; sums. */
static uint64_t check_place_lists(const struct extents *x, const struct extent_kind *k)
{
        uint64_t listed = 0;

        for (unsigned list = 0; list < EXTENT_LISTS; list++) {
                uint32_t prev = EXTENT_NONE;

                for (uint32_t i = k->first[list]; i != EXTENT_NONE; i = x->places[i].next) {
                        CHECK(i >= k->base && i < k->base + k->high && x->places[i].list == list);
                        CHECK(x->places[i].prev == prev);
                        prev = i;
                        listed++;
                }
                CHECK(k->last[list] == prev);
                if (list >= 1 && list < EXTENT_CLASSES)
                        CHECK((k->free_classes >> (list - 1) & 1) == (prev != EXTENT_NONE));
        }
        return listed;
}

static void check_place(const struct extent_place *p)
{
        unsigned class = (p->committed + EXTENT_CLASS_PAGES - 1) / EXTENT_CLASS_PAGES;

        CHECK(p->committed >= p->needed);
        CHECK(p->is_warm == (p->state == PLACE_FREE && p->committed > 0));
        if (p->state == PLACE_FREE)
                CHECK(p->needed == 0 && p->list == class);
        else
                CHECK(p->list == (p->committed > p->needed ? EXTENT_LIST_REST : EXTENT_LIST_NONE));
}

static void check_places(struct store *s)
{
        const struct extents *x = &s->a.extents;
        uint64_t committed = 0, needed = 0, filling = 0, n_warm = 0;
        uint32_t newer = EXTENT_NONE;

        for (unsigned j = 0; j < EXTENT_KINDS; j++) {
                const struct extent_kind *k = &x->kinds[j];
                uint64_t listed = check_place_lists(x, k);

                for (uint32_t i = k->base; i < k->base + k->high; i++) {
                        const struct extent_place *p = &x->places[i];

                        check_place(p);
                        n_warm += p->is_warm;
                        listed -= p->list != EXTENT_LIST_NONE;
                        committed += p->committed * UINT64_C(4096);
                        needed += p->needed * UINT64_C(4096);
                        filling += p->state == PLACE_FILLING ? p->needed * UINT64_C(4096) : 0;
                }
                CHECK(listed == 0);
        }
        for (uint32_t i = x->newest; i != EXTENT_NONE; i = x->places[i].older) {
                CHECK(x->places[i].is_warm && x->places[i].newer == newer);
                newer = i;
                n_warm--;
        }
        CHECK(n_warm == 0 && x->oldest == newer);
        CHECK(committed == x->committed && needed == x->needed && filling == x->filling);
}

/* Each entry's extent is inside, full, and its own. Returns what is charged beyond the entries, and
 * what is charged of the entries' as held. */
static uint64_t check_extents(struct store *s, uint64_t *ret_held)
{
        const struct extents *x = &s->a.extents;
        uint8_t *owned = calloc(x->n_places, 1);
        uint64_t gone = 0;

        *ret_held = 0;
        CHECK(owned);
        check_places(s);
        for (uint32_t i = 1; i < s->a.t->span_high; i++)
                for (uint32_t c = 0; s->a.spans[i].state != SPAN_UNUSED && c < s->a.spans[i].high;
                     c++) {
                        uint32_t h = handle_make(i, c);
                        struct arena_extent e;
                        struct entry entry;
                        uint32_t place;

                        if (!alloc_is_live(&s->a, h) ||
                            !(arena_block(&s->a, h)->sizes & ENTRY_EXTENT))
                                continue;
                        entry_read(arena_block(&s->a, h), &entry);
                        e = entry_extent(&entry);
                        place = extents_place(&s->a, &e);
                        CHECK(place != EXTENT_NONE && e.size > 0);
                        CHECK(extents_name(&s->a, place, e.size).offset == e.offset);
                        CHECK(!owned[place]++);
                        CHECK(x->places[place].state == PLACE_FULL);
                        CHECK(x->places[place].size == (e.size + 4095) / 4096);
                }
        for (uint32_t i = 0; i < x->n_places; i++) {
                const struct extent_place *p = &x->places[i];

                CHECK((p->state == PLACE_FULL) == owned[i]);
                CHECK(p->state != PLACE_GONE || p->holders > 0);
                *ret_held += p->holders ? p->needed * UINT64_C(4096) : 0;
                gone += p->state == PLACE_GONE ? p->needed * UINT64_C(4096) : 0;
        }
        free(owned);
        return gone;
}

/* Large values: who holds them, what that charges, and the list of those that may leave. Returns
 * what is charged beyond the entries. */
static uint64_t check_large(struct store *s)
{
        uint64_t held, gone = check_extents(s, &held), bytes = 0, free_to_leave = 0, listed = 0,
                       n = 0;

        for (struct large *l = s->files; l; l = l->next) {
                bool stored = l->id != LARGE_NO_ID;

                n++;
                CHECK(l->store == s && l->held == (l->refs > stored));
                CHECK(!stored || s->large[l->id] == l);
                bytes += l->size;
                held += l->held ? large_charge(l->size) : 0;
                gone += stored ? 0 : large_charge(l->size);
                free_to_leave += stored && !l->held;
        }
        for (uint32_t i = s->a.t->large_head; i != TABLE_NONE; i = s->a.large[i].next) {
                const struct arena_entry *b = arena_block(&s->a, s->a.large[i].handle);
                struct entry e;

                entry_read(b, &e);
                CHECK(e.large && entry_large(&e).id == i && !s->large[i]->held);
                listed++;
        }
        CHECK(listed == free_to_leave);
        CHECK(held == s->held && bytes == s->a.t->large_bytes);
        CHECK(n <= s->n_files && (s->arriving > 0 || n == s->n_files));
        return gone + s->arriving;
}

static void check_owners(struct store *s)
{
        uint64_t charged = 0, held = 0, arriving = 0;

        for (uint32_t i = 0; i < s->a.t->n_owners; i++) {
                charged += s->a.owners[i].charged;
                held += s->a.owners[i].held;
                arriving += s->a.owners[i].arriving;
        }
        CHECK(charged == s->a.t->charged && held == s->held && arriving == s->arriving);
}

static void check_gens(struct store *s, uint64_t *ret_heap)
{
        uint64_t entries = 0, charged = 0, reclaiming = 0;
        struct linkheap h = LISTS_HEAP(s, of_gen);

        *ret_heap = 0;
        for (uint32_t i = 0; i < s->a.t->gen_high; i++) {
                const struct table_gen *g = &s->a.gens[i];
                uint64_t n;
                uint32_t rank;

                if (g->state == GEN_FREE)
                        continue;
                (void)check_heap(&h, g->lists, LINKHEAP_NONE, 0, &rank);
                n = check_gen_lists(s, &h, g->lists);
                CHECK(n == g->n_entries);
                entries += n;
                charged += g->bytes_held;
                if (g->state == GEN_DYING) {
                        reclaiming += g->bytes_held;
                } else {
                        reclaiming += g->dead.held;
                        *ret_heap += g->n_heap;
                }
                CHECK(g->state != GEN_LIVE || (g->n_heap > 0) == (g->heap_pos != IDHEAP_NONE));
        }
        CHECK(entries == s->a.t->n_entries);
        CHECK(charged + check_large(s) == s->a.t->charged);
        CHECK(reclaiming == s->a.t->reclaiming);
}

/* The list of a tag, and that all of it are entries of its generation that have the tag. */
static void check_tag_list(struct store *s, uint32_t id)
{
        const struct table_tag *tag = tag_at(s, id);
        struct table_sums all = {0}, shared = {0};
        uint32_t prev = ARENA_NONE;

        for (uint32_t h = tag->head; h != ARENA_NONE;) {
                unsigned n;
                const struct arena_tag *tags = tags_of(s, h, &n), *at = NULL;
                struct entry e;

                for (unsigned i = 0; i < n; i++) {
                        CHECK(tag_at(s, tags[i].id)->kind == TAG_NAMED || i + 1 == n);
                        if (tags[i].id == id) {
                                CHECK(!at);
                                at = &tags[i];
                        }
                }
                CHECK(at && at->prev == prev);
                CHECK(alloc_is_live(&s->a, h) && arena_block(&s->a, h)->gen == tag->gen);
                entry_read(arena_block(&s->a, h), &e);
                entry_resolve(s, &e);
                all.n_entries++;
                all.held += store_block_charge(s, h);
                all.raw += e.n_key + e.x.raw_size + e.x.n_messages;
                if (n > 1) {
                        shared.n_entries++;
                        shared.held += store_block_charge(s, h);
                        shared.raw += e.n_key + e.x.raw_size + e.x.n_messages;
                }
                prev = h;
                h = at->next;
        }
        CHECK(all.n_entries > 0);
        CHECK(memcmp(&all, &tag->all, sizeof(all)) == 0);
        CHECK(memcmp(&shared, &tag->shared, sizeof(shared)) == 0);
}

/* Records, what readers see, and queues. Returns how many entries' tags are in lists. */
static uint64_t check_tags(struct store *s)
{
        const struct table_header *t = s->a.t;
        uint32_t n_ids = 0, n_live = 0, n_dying = 0, n_free = 0, prev = 0;
        uint64_t n_listed = 0;

        for (uint32_t id = 1; id <= t->tag_high; id++) {
                const struct table_tag *tag = tag_at(s, id);
                const struct table_gen *g = &s->a.gens[gen_index(tag->gen)];
                bool bit = atomic_load(&s->a.dead_tags[id / 32]) >> id % 32 & 1;

                CHECK(bit == (tag->state == TAG_DYING));
                if (tag->state == TAG_FREE)
                        continue;
                CHECK(g->id == tag->gen && g->state != GEN_FREE);
                check_tag_list(s, id);
                n_listed += tag->all.n_entries;
                n_ids++;
                n_dying += tag->state == TAG_DYING;
                n_live += tag->state == TAG_LIVE && g->state == GEN_LIVE;
                CHECK((tag_find(s, tag->gen, tag->kind, tag->name, tag->n_name) == id) ==
                      (tag->state == TAG_LIVE));
                CHECK(tag->kind == TAG_NAMED || tag->state == TAG_DYING || g->state == GEN_DYING ||
                      node_find(s, tag->gen, tag->name, tag->n_name, 0) != ARENA_NONE);
        }
        for (uint32_t id = t->tag_free; id != 0; id = tag_at(s, id)->next, n_free++)
                CHECK(tag_at(s, id)->state == TAG_FREE);
        for (uint32_t id = t->dying_tag_head; id != 0; id = tag_at(s, id)->next, n_dying--) {
                CHECK(tag_at(s, id)->state == TAG_DYING && tag_at(s, id)->prev == prev);
                prev = id;
        }
        CHECK(n_dying == 0 && t->dying_tag_tail == prev);
        CHECK(n_ids == t->n_tag_ids && n_live == t->n_tags && n_ids + n_free == t->tag_high);
        return n_listed;
}

/* What counts as cleared by tag in a generation, by its entries one by one. */
static void check_dead(struct store *s, uint32_t gen, const struct table_sums *dead)
{
        const struct table_gen *g = &s->a.gens[gen];
        uint32_t n_dying = 0, prev = 0;

        for (uint32_t id = g->dying_tags; id != 0; id = tag_at(s, id)->gen_next, n_dying++) {
                CHECK(tag_at(s, id)->state == TAG_DYING && tag_at(s, id)->gen_prev == prev);
                CHECK(gen_index(tag_at(s, id)->gen) == gen);
                prev = id;
        }
        CHECK(g->state == GEN_DYING || memcmp(dead, &g->dead, sizeof(*dead)) == 0);
}

static void add_dead(struct store *s, uint32_t handle, struct table_sums *dead, uint64_t *n_tags)
{
        unsigned n;
        const struct arena_tag *tags = tags_of(s, handle, &n);
        bool is_counted = false;
        struct entry e;

        *n_tags += n;
        for (unsigned i = 0; i < n; i++) {
                const struct table_tag *tag = tag_at(s, tags[i].id);

                is_counted |= tag->state == TAG_DYING && (n == 1 || tag->counted);
        }
        if (!is_counted)
                return;
        entry_read(arena_block(&s->a, handle), &e);
        entry_resolve(s, &e);
        dead->n_entries++;
        dead->held += store_block_charge(s, handle);
        dead->raw += e.n_key + e.x.raw_size + e.x.n_messages;
}

static void check_all_tags(struct store *s)
{
        struct table_sums *dead = calloc(s->a.t->gen_high + 1, sizeof(*dead));
        uint64_t n_tags = 0;

        CHECK(dead);
        for (uint32_t i = 1; i < s->a.t->span_high; i++)
                for (uint32_t c = 0; s->a.spans[i].state != SPAN_UNUSED && c < s->a.spans[i].high;
                     c++) {
                        uint32_t h = handle_make(i, c);

                        if (alloc_is_live(&s->a, h))
                                add_dead(s, h, &dead[gen_index(arena_block(&s->a, h)->gen)],
                                         &n_tags);
                }
        for (uint32_t i = 0; i < s->a.t->gen_high; i++)
                if (s->a.gens[i].state != GEN_FREE)
                        check_dead(s, i, &dead[i]);
        CHECK(check_tags(s) == n_tags);
        free(dead);
}

static void check_index(struct store *s)
{
        uint64_t n = atomic_load(&s->a.h->n_buckets), used = 0;

        for (uint64_t b = 0; b < n; b++) {
                CHECK(atomic_load(&s->a.buckets[b].seq) % 2 == 0);
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                        used += atomic_load(&s->a.buckets[b].handle[i]) != ARENA_NONE;
        }
        CHECK(used == s->a.t->n_entries);
        CHECK(s->a.t->intent.op == INTENT_NONE);
}

static void check_caches(struct store *s)
{
        uint32_t n = s->a.t->n_caches, n_named = 0, n_removed = 0, n_reusable = 0;
        uint8_t *dies = calloc((size_t)n + 1, 1);

        CHECK(dies);
        for (uint32_t i = s->a.t->dying_head; i != TABLE_NONE; i = s->a.gens[i].next)
                dies[s->a.gens[i].cache] = 1;
        for (uint32_t id = 1; id <= n; id++) {
                const struct table_cache *c = &s->a.caches[id];
                const struct table_gen *g = &s->a.gens[c->gen];
                uint32_t found;

                CHECK(g->state == GEN_LIVE && g->cache == id);
                CHECK(s->a.cache_dir[id].generation == g->id);
                CHECK(c->in_use || (c->n_name == 0 && g->n_entries == 0));
                CHECK(!c->in_use ||
                      (store_cache_find(s, c->name, c->n_name, &found) == 0 && found == id));
                n_removed += !c->in_use;
        }
        for (uint32_t i = 0; i < s->a.t->n_names; i++)
                n_named += s->a.names[i] != 0;
        for (uint32_t id = s->reusable; id != 0; id = s->a.gens[s->a.caches[id].gen].next) {
                CHECK(id <= n && !s->a.caches[id].in_use && !dies[id]);
                dies[id] = 1; /* once */
                n_reusable++;
        }
        CHECK(n_removed == s->n_removed && n_named == n - n_removed);
        for (uint32_t id = 1; id <= n; id++)
                CHECK(s->a.caches[id].in_use || dies[id]);
        CHECK(n_reusable <= n_removed);
        free(dies);
}

void store_check(struct store *s)
{
        uint64_t used = 0, committed = 0, charge = 0, live = 0, n_heap = 0, in_heaps;

        check_gens(s, &in_heaps);
        check_caches(s);
        check_list_heaps(s);
        check_owners(s);
        check_index(s);
        check_all_tags(s);
        for (uint32_t i = 1; i < s->a.t->span_high; i++) {
                const struct table_span *sp = &s->a.spans[i];
                uint32_t n = 0;

                committed += sp->committed;
                if (sp->state == SPAN_UNUSED)
                        continue;
                for (uint32_t c = 0; c < sp->high; c++) {
                        uint32_t h = handle_make(i, c);

                        if (!alloc_is_live(&s->a, h))
                                continue;
                        n++;
                        charge += store_block_charge(s, h);
                        check_entry(s, h, &n_heap);
                }
                CHECK(n == sp->n_used && n > 0);
                CHECK((uint64_t)sp->high * s->a.span_chunk[i] <= sp->committed);
                used += (uint64_t)n * s->a.span_chunk[i];
                live += n;
        }
        CHECK(used == s->a.t->used_bytes);
        CHECK(committed == s->a.t->committed_bytes);
        CHECK(charge + check_large(s) == s->a.t->charged);
        CHECK(live == s->a.t->n_entries);
        CHECK(n_heap == in_heaps);
}
