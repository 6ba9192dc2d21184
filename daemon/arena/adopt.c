/* SPDX-License-Identifier: MIT */
/*
 * Adopting the files of an arena
 *
 * They come from a predecessor of the same uid, alive or killed at any instant: so what a header
 * says is checked, not believed. Where things lie follows from two numbers (spans and caches); the
 * offsets that stand in the headers must be exactly those that follow. How far each array is in use
 * must be within the array; that much of it is made resident, since a hole that memory is short for
 * would be a SIGBUS later.
 *
 * What the arrays hold is for others to check: alloc.c for spans, extents.c for extents, the store
 * for the rest.
 */

#include "arena/adopt.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/idheap.h"

#define PAGE       4096u
#define SPANS_MIN  64u
#define CACHES_MAX 131000u /* so that a generation's index fits its 20 bits */

static const char *read_header(int fd, void *to, size_t n)
{
        return pread(fd, to, n, 0) == (ssize_t)n ? NULL : "it is smaller than a header";
}

static int refuse(struct arena_refusal *ret, enum arena_refused why, const char *detail)
{
        ret->why = why;
        ret->detail = detail;
        return ARENA_E_REFUSED;
}

/* ---- headers */

/* Of a header and its copy, holes between fields included. */
static bool is_same(const void *a, const void *b, size_t n)
{
        return memcmp(a, b, n) == 0;
}

static int check_mem(const struct arena_header *h, struct arena_refusal *ret)
{
        struct arena_header expected;

        if (h->magic != ARENA_MAGIC)
                return refuse(ret, REFUSED_FILES, "it is no arena");
        if (h->layout_version != ARENA_LAYOUT_VERSION)
                return refuse(ret, REFUSED_VERSION, "its layout is of another version");
        if (h->feature_bits != 0)
                return refuse(ret, REFUSED_VERSION, "it has features that are not known here");
        if (atomic_load_explicit(&h->retired, memory_order_relaxed) != 0)
                return refuse(ret, REFUSED_RETIRED, "it was given up before");
        if (h->n_spans < SPANS_MIN || h->n_spans > ARENA_SPANS_MAX || h->cache_dir_max < 1 ||
            h->cache_dir_max > CACHES_MAX + 1)
                return refuse(ret, REFUSED_BROKEN, "its numbers of spans or caches are impossible");
        memcpy(&expected, h, sizeof(expected));
        arena_lay_mem(&expected, h->n_spans, h->cache_dir_max - 1);
        if (!is_same(&expected, h, sizeof(expected)))
                return refuse(ret, REFUSED_BROKEN, "its parts do not lie where they belong");
        return 0;
}

static int check_table(const struct table_header *t, const struct arena_header *h,
                       struct arena_refusal *ret)
{
        struct table_header expected;

        if (t->magic != TABLE_MAGIC)
                return refuse(ret, REFUSED_FILES, "it is no table");
        if (t->layout_version != ARENA_LAYOUT_VERSION || t->feature_bits != 0)
                return refuse(ret, REFUSED_VERSION, "the table's layout is of another version");
        memcpy(&expected, t, sizeof(expected));
        arena_lay_table(&expected, h->n_spans, h->cache_dir_max - 1);
        if (!is_same(&expected, t, sizeof(expected)))
                return refuse(ret, REFUSED_BROKEN,
                              "the table's parts do not lie where they belong");
        return 0;
}

static bool are_in_use_within(const struct arena_header *h, const struct table_header *t)
{
        uint64_t n = atomic_load_explicit(&h->n_buckets, memory_order_relaxed);
        uint64_t max = h->index_max_buckets;

        return t->span_high >= 1 && t->span_high <= h->n_spans && t->gen_high <= t->max_gens &&
               t->n_caches <= t->max_caches && t->n_owners <= ARENA_OWNERS_MAX &&
               t->tag_high < ARENA_TAGS_MAX && t->large_high <= t->max_large &&
               t->page_high <= t->max_pages && n >= 1 && n <= max && t->index_bytes % PAGE == 0 &&
               t->index_bytes <= max * sizeof(struct arena_bucket) &&
               t->index_bytes / sizeof(struct arena_bucket) >= n;
}

const char *arena_peek_table(int table_fd, struct table_header *ret)
{
        uint64_t size, ino;
        const char *wrong = memfile_look(table_fd, &size, &ino);

        if (!wrong)
                wrong = read_header(table_fd, ret, sizeof(*ret));
        if (wrong)
                return wrong;
        if (ret->magic != TABLE_MAGIC)
                return "it is no table";
        return ret->layout_version == ARENA_LAYOUT_VERSION ? NULL
                                                           : "its layout is of another version";
}

/* ---- mapping */

static int map_both(struct arena *a, int *mem_fd, int *table_fd, const uint64_t boot[2],
                    struct arena_refusal *ret)
{
        struct arena_header h;
        struct table_header t;
        uint64_t size, ino;
        const char *wrong;
        int r;

        wrong = memfile_look(*mem_fd, &size, &ino);
        if (!wrong)
                wrong = read_header(*mem_fd, &h, sizeof(h));
        if (wrong)
                return refuse(ret, REFUSED_FILES, wrong);
        r = check_mem(&h, ret);
        if (r != 0)
                return r;
        wrong = memfile_look(*table_fd, &size, &size);
        if (!wrong)
                wrong = read_header(*table_fd, &t, sizeof(t));
        if (wrong)
                return refuse(ret, REFUSED_FILES, wrong);
        r = check_table(&t, &h, ret);
        if (r != 0)
                return r;
        if (t.arena_ino != ino || t.instance != h.instance)
                return refuse(ret, REFUSED_PAIR, "arena and table do not belong together");
        if (t.boot[0] != boot[0] || t.boot[1] != boot[1])
                return refuse(ret, REFUSED_BOOT,
                              "it is from before the machine was started, or from another "
                              "time namespace");
        if (!are_in_use_within(&h, &t))
                return refuse(ret, REFUSED_BROKEN, "more is in use than there is");
        wrong = memfile_adopt(&a->mem, *mem_fd, h.size);
        if (wrong)
                return refuse(ret, REFUSED_FILES, wrong);
        *mem_fd = -1;
        wrong = memfile_adopt(&a->table, *table_fd, t.size);
        if (wrong)
                return refuse(ret, REFUSED_FILES, wrong);
        *table_fd = -1;
        arena_set_pointers(a);
        return 0;
}

struct part {
        uint64_t off, n;
};

static int commit_parts(struct memfile *m, const struct part *p, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (p[i].n > 0 && memfile_recommit(m, p[i].off, p[i].n) < 0)
                        return -ENOMEM;
        return 0;
}

static int commit(struct arena *a)
{
        const struct table_header *t = a->t;
        const struct part mem[] = {
                {0, a->h->span_table_off + (uint64_t)t->span_high * sizeof(uint32_t)},
                {a->h->index_off, t->index_bytes},
        };
        const struct part table[] = {
                {0, sizeof(*t)},
                {t->owners_off, t->n_owners * sizeof(struct table_owner)},
                {t->names_off, t->n_names * sizeof(uint32_t)},
                {t->caches_off, ((uint64_t)t->n_caches + 1) * sizeof(struct table_cache)},
                {t->gens_off, t->gen_high * sizeof(struct table_gen)},
                {t->spans_off, t->span_high * sizeof(struct table_span)},
                {t->departed_off, N_DEPARTED * sizeof(struct table_departed)},
                {t->large_off, t->large_high * sizeof(struct table_large)},
                {t->tags_off, t->tag_high * sizeof(struct table_tag)},
                {t->gen_heap_off, t->gen_high * sizeof(struct idheap_item)},
        };
        int r = commit_parts(&a->mem, mem, sizeof(mem) / sizeof(mem[0]));

        return r < 0 ? r : commit_parts(&a->table, table, sizeof(table) / sizeof(table[0]));
}

/* Whatever layout the rest has: the word that ends an arena is at the same place in all. */
static bool retire(int fd)
{
        uint64_t size, ino, magic = 0;
        uint32_t one = 1;

        return !memfile_look(fd, &size, &ino) && !read_header(fd, &magic, sizeof(magic)) &&
               magic == ARENA_MAGIC &&
               pwrite(fd, &one, sizeof(one), offsetof(struct arena_header, retired)) ==
                       (ssize_t)sizeof(one);
}

int arena_adopt(struct arena *a, int mem_fd, int table_fd, const uint64_t boot[2],
                struct arena_refusal *ret)
{
        int r;

        *a = (struct arena){.mem.fd = -1, .table.fd = -1};
        *ret = (struct arena_refusal){0};
        r = map_both(a, &mem_fd, &table_fd, boot, ret);
        if (r == 0)
                r = commit(a);
        if (r == 0)
                r = extents_init(a);
        if (r == 0)
                return 0;
        ret->retired = retire(a->mem.base ? a->mem.fd : mem_fd);
        arena_leave(a);
        *a = (struct arena){.mem.fd = -1, .table.fd = -1}; /* nothing points to what was mapped */
        if (mem_fd >= 0)
                close(mem_fd);
        if (table_fd >= 0)
                close(table_fd);
        return r;
}
