/* SPDX-License-Identifier: MIT */
/*
 * Arena set-up: sizes and offsets of the two memory files
 *
 * Both are created once at their full virtual size, so nothing is ever remapped. Sizes follow from
 * the virtual size of the spans and the number of caches; what is not used is not resident. The
 * small fixed parts are committed at once, everything else as it grows.
 */

#include "arena/arena.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/idheap.h"

#define PAGE       4096u
#define SPAN_BYTES ((uint64_t)ARENA_SPAN_SIZE)
#define LISTS_MAX  65536u
#define LARGE_MAX  1048576u
#define GENS_PER_CACHE                                                                             \
        8u /* so that all caches can be cleared a few times before any of it is reclaimed */
#define HEAP_ITEMS_PER_PAGE 448 /* see expiry.c */

static uint64_t page_up(uint64_t n)
{
        return (n + PAGE - 1) & ~(uint64_t)(PAGE - 1);
}

/* Lays the next part behind the ones before it. */
static uint64_t lay(uint64_t *end, uint64_t n)
{
        uint64_t off = *end;

        *end += page_up(n);
        return off;
}

static uint32_t span_count(uint64_t size)
{
        uint64_t n;

        if (size == 0) {
                long pages = sysconf(_SC_PHYS_PAGES);

                size = 2 * (pages > 0 ? (uint64_t)pages * PAGE : UINT64_C(1) << 32);
        }
        n = size / SPAN_BYTES + 2;
        return n < 64 ? 64 : n > ARENA_SPANS_MAX ? ARENA_SPANS_MAX : (uint32_t)n;
}

void arena_lay_mem(struct arena_header *h, uint32_t n_spans, uint32_t max_caches)
{
        uint64_t end = PAGE;

        h->n_spans = n_spans;
        h->cache_dir_max = max_caches + 1;
        /* Every chunk could be used at once, with room to spare for uneven buckets. */
        h->index_max_buckets = (uint64_t)n_spans * (SPAN_BYTES / ARENA_CHUNK_MIN) / 4;
        h->cache_dir_off = lay(&end, sizeof(struct arena_cache) * h->cache_dir_max);
        h->owners_off = lay(&end, sizeof(uint32_t) * ARENA_OWNERS_MAX);
        h->dead_tags_off = lay(&end, ARENA_TAGS_MAX / 8);
        h->span_table_off = lay(&end, sizeof(uint32_t) * n_spans);
        h->index_off = lay(&end, sizeof(struct arena_bucket) * h->index_max_buckets);
        end = (end + SPAN_BYTES - 1) & ~(SPAN_BYTES - 1);
        h->spans_off = lay(&end, SPAN_BYTES * n_spans);
        end = (end + EXTENT_SIZE_MAX - 1) & ~(uint64_t)(EXTENT_SIZE_MAX - 1);
        h->extents_size = extents_lay(n_spans);
        h->extents_off = lay(&end, h->extents_size);
        h->size = end;
}

void arena_lay_table(struct table_header *t, uint32_t n_spans, uint32_t max_caches)
{
        uint64_t end = page_up(sizeof(*t));

        t->max_caches = max_caches;
        t->max_gens = GENS_PER_CACHE * max_caches + 64;
        t->max_lists = LISTS_MAX;
        t->max_large = LARGE_MAX;
        for (t->n_names = 64; t->n_names < 2 * max_caches;)
                t->n_names *= 2;
        t->max_pages = (uint32_t)((uint64_t)n_spans * (SPAN_BYTES / ARENA_CHUNK_MIN) /
                                          HEAP_ITEMS_PER_PAGE +
                                  4 * (uint64_t)t->max_gens);
        t->owners_off = lay(&end, sizeof(struct table_owner) * ARENA_OWNERS_MAX);
        t->names_off = lay(&end, sizeof(uint32_t) * t->n_names);
        t->caches_off = lay(&end, sizeof(struct table_cache) * (max_caches + 1));
        t->gens_off = lay(&end, sizeof(struct table_gen) * t->max_gens);
        t->lists_off = lay(&end, sizeof(struct table_list) * t->max_lists);
        t->spans_off = lay(&end, sizeof(struct table_span) * n_spans);
        t->departed_off = lay(&end, sizeof(struct table_departed) * N_DEPARTED);
        t->large_off = lay(&end, sizeof(struct table_large) * t->max_large);
        t->gen_heap_off = lay(&end, sizeof(struct idheap_item) * t->max_gens);
        t->pages_off = lay(&end, (uint64_t)PAGE * t->max_pages);
        t->page_table_off = lay(&end, sizeof(struct table_page) * t->max_pages);
        t->tags_off = lay(&end, sizeof(struct table_tag) * (ARENA_TAGS_MAX - 1));
        t->recs_off = lay(&end, RECS_PER_SPAN_BYTES * n_spans);
        t->size = end;
}

static int create_mem(struct arena *a, const struct arena_params *p)
{
        struct arena_header h = {
                .magic = ARENA_MAGIC,
                .layout_version = ARENA_LAYOUT_VERSION,
                .instance = p->instance,
                .seed = {p->seed[0], p->seed[1]},
        };
        int r;

        arena_lay_mem(&h, span_count(p->size), p->max_caches);
        r = memfile_init(&a->mem, "cached:arena", h.size);
        if (r < 0)
                return r;
        /* Header, directories and span table: what every reader touches first. */
        r = memfile_commit(&a->mem, 0, h.span_table_off + page_up(sizeof(uint32_t)));
        if (r < 0)
                return r;
        memcpy(a->mem.base, &h, sizeof(h));
        return 0;
}

static int create_table(struct arena *a, const struct arena_params *p, uint32_t n_spans)
{
        struct table_header t = {
                .magic = TABLE_MAGIC,
                .layout_version = ARENA_LAYOUT_VERSION,
                .instance = p->instance,
                .boot = {p->boot[0], p->boot[1]},
                .gen_free = TABLE_NONE,
                .dying_head = TABLE_NONE,
                .dying_tail = TABLE_NONE,
                .list_free = TABLE_NONE,
                .oldest_list = TABLE_NONE,
                .page_free = TABLE_NONE,
                .chunk_pages = {TABLE_NONE, TABLE_NONE},
                .large_free = TABLE_NONE,
                .large_head = TABLE_NONE,
                .large_tail = TABLE_NONE,
                .span_high = 1, /* span 0 stays unused: handle 0 is "none" */
                .span_free = TABLE_NONE,
                .span_empty = TABLE_NONE,
                .draining = TABLE_NONE,
        };
        uint64_t size;
        const char *wrong;
        int r;

        for (unsigned i = 0; i < N_CLASSES; i++)
                for (unsigned q = 0; q < N_QUARTILES; q++)
                        t.quartiles[i][q] = TABLE_NONE;
        if (p->label)
                memcpy(t.label, p->label, strnlen(p->label, sizeof(t.label) - 1));
        arena_lay_table(&t, n_spans, p->max_caches);
        wrong = memfile_look(a->mem.fd, &size, &t.arena_ino);
        if (wrong)
                return -EIO;
        r = memfile_init(&a->table, "cached:table", t.size);
        if (r < 0)
                return r;
        r = memfile_commit(&a->table, 0, page_up(sizeof(t)));
        if (r == 0)
                r = memfile_commit(&a->table, t.names_off, sizeof(uint32_t) * t.n_names);
        if (r == 0)
                r = memfile_commit(&a->table, t.departed_off,
                                   sizeof(struct table_departed) * N_DEPARTED);
        if (r < 0)
                return r;
        memcpy(a->table.base, &t, sizeof(t));
        return 0;
}

void arena_set_pointers(struct arena *a)
{
        uint8_t *m = a->mem.base, *t = a->table.base;

        a->h = (struct arena_header *)(void *)m;
        a->t = (struct table_header *)(void *)t;
        a->cache_dir = (struct arena_cache *)(void *)(m + a->h->cache_dir_off);
        a->owner_uids = (uint32_t *)(void *)(m + a->h->owners_off);
        a->dead_tags = (_Atomic uint32_t *)(void *)(m + a->h->dead_tags_off);
        a->span_chunk = (uint32_t *)(void *)(m + a->h->span_table_off);
        a->buckets = (struct arena_bucket *)(void *)(m + a->h->index_off);
        a->spans_base = m + a->h->spans_off;
        a->owners = (struct table_owner *)(void *)(t + a->t->owners_off);
        a->names = (uint32_t *)(void *)(t + a->t->names_off);
        a->caches = (struct table_cache *)(void *)(t + a->t->caches_off);
        a->gens = (struct table_gen *)(void *)(t + a->t->gens_off);
        a->lists = (struct table_list *)(void *)(t + a->t->lists_off);
        a->spans = (struct table_span *)(void *)(t + a->t->spans_off);
        a->departed = (struct table_departed *)(void *)(t + a->t->departed_off);
        a->large = (struct table_large *)(void *)(t + a->t->large_off);
        a->gen_heap = (struct idheap_item *)(void *)(t + a->t->gen_heap_off);
        a->pages = t + a->t->pages_off;
        a->page_table = (struct table_page *)(void *)(t + a->t->page_table_off);
        a->tags = (struct table_tag *)(void *)(t + a->t->tags_off);
        a->recs = t + a->t->recs_off;
}

int arena_init(struct arena *a, const struct arena_params *p)
{
        int r;

        *a = (struct arena){.mem.fd = -1, .table.fd = -1};
        r = create_mem(a, p);
        if (r == 0)
                r = create_table(a, p, ((struct arena_header *)(void *)a->mem.base)->n_spans);
        if (r < 0) {
                arena_done(a);
                return r;
        }
        arena_set_pointers(a);
        r = extents_init(a);
        if (r < 0)
                arena_done(a);
        return r;
}

void arena_leave(struct arena *a)
{
        extents_done(a);
        memfile_done(&a->mem);
        memfile_done(&a->table);
        a->h = NULL; /* nothing is there to be retired any more */
}

void arena_done(struct arena *a)
{
        if (a->h)
                atomic_store_explicit(&a->h->retired, 1, memory_order_release);
        arena_leave(a);
}

int arena_commit_element(struct memfile *m, uint64_t off, uint64_t i, uint64_t size)
{
        uint64_t from = off + i * size, last = from + size - 1;

        /* Its first page is there already if the element before it reaches into it. */
        if (i > 0 && from % PAGE != 0 && last / PAGE == from / PAGE)
                return 0;
        return memfile_commit(m, from, size);
}
