/* SPDX-License-Identifier: MIT */
/*
 * Variants: entries that another entry leads to
 *
 * An entry with `vary` is a node: its value is the name of an input, and for each value of that
 * input there may be another entry, its variant. Those have a tag of their own kind, named by the
 * node's key. When the node leaves, or something else comes in its place, that tag is cleared: in
 * constant time, as any tag. Upkeep then drops the variants, and of those that are nodes the
 * variants' tags are cleared in turn: no step leads to another one, however deep they go.
 *
 * The tag is cleared before the node leaves the index: a process that dies in between leaves a node
 * without variants, and never variants without their node, which another node under that key would
 * bring back. A variant is stored only while its node is there.
 */

#include <string.h>

#include "store/internal.h"

static bool is_node(const struct arena_entry *b)
{
        struct entry e;

        if (!(b->sizes & ENTRY_EXT))
                return false;
        entry_read(b, &e);
        return e.x.marks & MARK_VARY;
}

uint32_t node_find(const struct store *s, uint32_t gen, const void *key, size_t n_key, uint64_t now)
{
        const struct arena_entry *b;
        struct index_slot slot;
        struct index_key k;
        uint32_t handle;

        index_key_init(s, &k, gen, key, (uint32_t)n_key);
        handle = index_find(s, &k, &slot);
        if (handle == ARENA_NONE)
                return ARENA_NONE;
        b = arena_block(&s->a, handle);
        return entry_deadline(b) > now && is_node(b) && !tags_are_dead(s, handle) ? handle
                                                                                  : ARENA_NONE;
}

static uint32_t variants_of(const struct store *s, const struct arena_entry *b)
{
        return tag_find(s, b->gen, TAG_NODE, entry_key(b), entry_n_key(b));
}

void node_leaves(struct store *s, uint32_t handle, uint64_t now)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        uint32_t id = is_node(b) ? variants_of(s, b) : 0;

        if (id != 0)
                tag_die(s, id, now);
}

/* The same input, so that its variants are as good as before. */
static bool is_same_node(const struct arena_entry *a, const struct arena_entry *b)
{
        struct entry x, y;

        entry_read(a, &x);
        entry_read(b, &y);
        return x.x.marks & y.x.marks & MARK_VARY && !(x.large | x.extent | y.large | y.extent) &&
               x.x.encoding == y.x.encoding && x.n_stored == y.n_stored &&
               memcmp(x.stored, y.stored, x.n_stored) == 0;
}

void node_replaced(struct store *s, uint32_t old, uint32_t handle, uint64_t now)
{
        const struct arena_entry *a = arena_block(&s->a, old);

        if (a->sizes & ENTRY_EXT && !is_same_node(a, arena_block(&s->a, handle)))
                node_leaves(s, old, now);
}

/* ---- what they depend on */

#define NODES_MAX      512u /* that are looked at */
#define CHILDREN_MAX   64u  /* of each */
#define INPUT_NAME_MAX 128u

struct walk {
        struct store *s;
        uint64_t now;
        uint32_t nodes[NODES_MAX]; /* level by level */
        unsigned n_nodes, n_inputs;
        struct store_input *inputs;
};

static void meet(struct walk *w, const struct entry *e, uint64_t variants)
{
        struct store_input *at = w->inputs, *end = at + w->n_inputs;

        if (e->large || e->extent || e->x.encoding != 0 || e->n_stored > INPUT_NAME_MAX)
                return;
        while (at < end &&
               (at->n_name != e->n_stored || memcmp(at->name, e->stored, at->n_name) != 0))
                at++;
        if (at == end) {
                if (w->n_inputs == STORE_INPUTS_MAX)
                        return;
                *at = (struct store_input){.name = e->stored, .n_name = e->n_stored};
                w->n_inputs++;
        }
        if (variants > at->variants)
                at->variants = variants;
}

static void look_at(struct walk *w, uint32_t handle)
{
        const struct store *s = w->s;
        const struct arena_entry *b = arena_block(&s->a, handle);
        uint32_t id = variants_of(s, b), child = id ? tag_at(s, id)->head : ARENA_NONE;
        struct entry e;

        entry_read(b, &e);
        meet(w, &e, id ? tag_at(s, id)->all.n_entries : 0);
        for (unsigned i = 0; child != ARENA_NONE && i < CHILDREN_MAX; i++) {
                const struct arena_entry *c = arena_block(&s->a, child);
                const struct arena_tag *tags;
                unsigned n;

                if (w->n_nodes < NODES_MAX && is_node(c) && entry_deadline(c) > w->now &&
                    !tags_are_dead(s, child))
                        w->nodes[w->n_nodes++] = child;
                tags = tags_of(s, child, &n);
                child = tags[n - 1].next; /* what it is a variant of is the last one */
        }
}

unsigned store_inputs(struct store *s, uint32_t cache, const void *key, size_t n_key, uint64_t now,
                      struct store_input *ret)
{
        struct walk w = {.s = s, .now = now, .inputs = ret};
        const struct table_cache *c = cache_at(s, cache);

        if (!c)
                return 0;
        w.nodes[0] = node_find(s, cache_gen(s, c)->id, key, n_key, now);
        w.n_nodes = w.nodes[0] != ARENA_NONE;
        for (unsigned i = 0; i < w.n_nodes; i++)
                look_at(&w, w.nodes[i]);
        for (unsigned i = 1; i < w.n_inputs; i++) {
                struct store_input x = ret[i];
                unsigned j = i;

                for (; j > 0 && ret[j - 1].variants < x.variants; j--)
                        ret[j] = ret[j - 1];
                ret[j] = x;
        }
        return w.n_inputs;
}
