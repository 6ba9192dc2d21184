/* SPDX-License-Identifier: MIT */
/*
 * Block allocator: spans of equal chunks
 *
 * The arena is cut into spans of 1 MiB. A span in use belongs to one size class and holds chunks of
 * that size side by side: no headers, O(1), and a block's place gives its record. Classes step by 8
 * bytes up to 512, then by a sixteenth of a power of two, so a chunk wastes at most 1/16 (4 bytes
 * on average for small ones). A span's memory becomes resident as its high-water mark moves, in
 * steps that grow with it.
 *
 * Against fragmentation:
 *  - spans of a class that have free chunks are kept in four lists by how full they are; new blocks
 * go to the fullest, so that sparse ones empty by themselves;
 *  - when the store finds that too much is resident, unused spans go back to the kernel, then the
 * sparsest span is drained: its blocks are moved elsewhere, one per step, and the span is freed.
 *
 * Freeing touches only the table: the bytes of a freed chunk stay until it is used again. Whoever
 * frees a block has made it unreachable first.
 */

#include "arena/alloc.h"

#include <errno.h>
#include <string.h>

#define SMALL_MAX     512u
#define SMALL_STEP    8u
#define N_SMALL       57u /* 64, 72, … 512 */
#define COMMIT_MIN    8192u
#define COMMIT_MAX    65536u
#define REC_COMMIT    8192u
#define QUARTILE_FULL N_QUARTILES

#define DRAIN_RETRY (UINT64_C(128) << 10)

static unsigned class_of(uint32_t n)
{
        unsigned top, step;

        if (n <= ARENA_CHUNK_MIN)
                return 0;
        if (n <= SMALL_MAX)
                return (n - ARENA_CHUNK_MIN + SMALL_STEP - 1) / SMALL_STEP;
        /* 2^top < n <= 2^(top+1), cut into 16 steps. */
        top = 31 - (unsigned)__builtin_clz(n - 1);
        step = (n - 1 - (UINT32_C(1) << top)) >> (top - 4);
        return N_SMALL + (top - 9) * 16 + step;
}

static uint32_t class_size(unsigned class)
{
        unsigned top;

        if (class < N_SMALL)
                return ARENA_CHUNK_MIN + class * SMALL_STEP;
        top = 9 + (class - N_SMALL) / 16;
        return (UINT32_C(1) << top) + (((class - N_SMALL) % 16 + 1) << (top - 4));
}

uint32_t alloc_chunk_size(uint32_t n)
{
        return class_size(class_of(n));
}

static uint32_t chunks_per_span(unsigned class)
{
        return ARENA_SPAN_SIZE / class_size(class);
}

/* ---- lists of spans */

static void list_push(struct arena *a, uint32_t *head, uint32_t span)
{
        struct table_span *s = &a->spans[span];

        s->prev = TABLE_NONE;
        s->next = *head;
        if (*head != TABLE_NONE)
                a->spans[*head].prev = span;
        *head = span;
}

static void list_remove(struct arena *a, uint32_t *head, uint32_t span)
{
        struct table_span *s = &a->spans[span];

        if (s->prev == TABLE_NONE)
                *head = s->next;
        else
                a->spans[s->prev].next = s->next;
        if (s->next != TABLE_NONE)
                a->spans[s->next].prev = s->prev;
}

static unsigned quartile_of(const struct table_span *s)
{
        uint32_t n = chunks_per_span(s->class);

        return s->n_used == n ? QUARTILE_FULL : s->n_used * N_QUARTILES / n;
}

/* Puts an active span on the list where its fill belongs. */
static void requeue(struct arena *a, uint32_t span)
{
        struct table_span *s = &a->spans[span];
        unsigned q = quartile_of(s);

        if (s->state != SPAN_ACTIVE || q == s->quartile)
                return;
        if (s->quartile != QUARTILE_FULL)
                list_remove(a, &a->t->quartiles[s->class][s->quartile], span);
        s->quartile = (uint8_t)q;
        if (q != QUARTILE_FULL)
                list_push(a, &a->t->quartiles[s->class][q], span);
}

/* ---- spans */

static int span_take(struct arena *a, unsigned class, uint32_t *ret)
{
        struct table_header *t = a->t;
        uint32_t *from = t->span_free != TABLE_NONE ? &t->span_free : &t->span_empty;
        uint32_t span = *from;
        struct table_span *s;

        if (span == TABLE_NONE) {
                int r;

                if (t->span_high == a->h->n_spans)
                        return -ENOMEM;
                span = t->span_high;
                r = memfile_commit(&a->table, t->spans_off + span * sizeof(*s), sizeof(*s));
                if (r == 0)
                        r = memfile_commit(&a->mem, a->h->span_table_off + span * sizeof(uint32_t),
                                           sizeof(uint32_t));
                if (r < 0)
                        return r;
                t->span_high++;
        } else {
                list_remove(a, from, span);
        }
        s = &a->spans[span];
        s->state = SPAN_ACTIVE;
        s->class = (uint8_t) class;
        s->quartile = 0;
        s->n_used = 0;
        s->high = 0;
        s->free_head = TABLE_NONE;
        __atomic_store_n(&a->span_chunk[span], class_size(class), __ATOMIC_RELAXED);
        list_push(a, &t->quartiles[class][0], span);
        *ret = span;
        return 0;
}

/* The last block left. Its memory is kept for the next span that is needed; compaction decides. */
static void span_retire(struct arena *a, uint32_t span)
{
        struct table_header *t = a->t;
        struct table_span *s = &a->spans[span];

        if (s->state == SPAN_ACTIVE && s->quartile != QUARTILE_FULL)
                list_remove(a, &t->quartiles[s->class][s->quartile], span);
        if (t->draining == span)
                t->draining = TABLE_NONE;
        s->state = SPAN_UNUSED;
        list_push(a, s->committed ? &t->span_free : &t->span_empty, span);
}

bool alloc_release_unused(struct arena *a)
{
        struct table_header *t = a->t;
        uint32_t span = t->span_free;
        struct table_span *s;

        if (span == TABLE_NONE)
                return false;
        s = &a->spans[span];
        list_remove(a, &t->span_free, span);
        memfile_release(&a->mem, a->h->spans_off + (uint64_t)span * ARENA_SPAN_SIZE,
                        ARENA_SPAN_SIZE);
        memfile_release(&a->table, t->recs_off + span * RECS_PER_SPAN_BYTES, RECS_PER_SPAN_BYTES);
        t->committed_bytes -= s->committed;
        t->rec_bytes -= s->rec_committed;
        s->committed = 0;
        s->rec_committed = 0;
        list_push(a, &t->span_empty, span);
        return true;
}

/* Makes chunk number s->high resident, and its record. */
static int span_commit(struct arena *a, uint32_t span)
{
        struct table_header *t = a->t;
        struct table_span *s = &a->spans[span];
        uint32_t need = (s->high + 1) * class_size(s->class);
        uint32_t rec_need = (s->high + 1) * (uint32_t)sizeof(struct table_rec);

        if (need > s->committed) {
                uint32_t step = s->committed < COMMIT_MIN   ? COMMIT_MIN
                                : s->committed > COMMIT_MAX ? COMMIT_MAX
                                                            : s->committed;
                uint32_t to = s->committed + step;
                int r;

                if (to < need)
                        to = (need + 4095) & ~UINT32_C(4095);
                if (to > ARENA_SPAN_SIZE)
                        to = ARENA_SPAN_SIZE;
                r = memfile_commit(&a->mem,
                                   a->h->spans_off + (uint64_t)span * ARENA_SPAN_SIZE +
                                           s->committed,
                                   to - s->committed);
                if (r < 0)
                        return r;
                t->committed_bytes += to - s->committed;
                s->committed = to;
        }
        if (rec_need > s->rec_committed) {
                uint32_t to = s->rec_committed == 0 ? 4096 : s->rec_committed + REC_COMMIT;
                int r;

                if (to > RECS_PER_SPAN_BYTES)
                        to = RECS_PER_SPAN_BYTES;
                r = memfile_commit(&a->table,
                                   t->recs_off + span * RECS_PER_SPAN_BYTES + s->rec_committed,
                                   to - s->rec_committed);
                if (r < 0)
                        return r;
                t->rec_bytes += to - s->rec_committed;
                s->rec_committed = to;
        }
        return 0;
}

/* ---- blocks */

/* The fullest span of the class that has room, or a new one. */
static int span_choose(struct arena *a, unsigned class, uint32_t *ret)
{
        for (unsigned q = N_QUARTILES; q-- > 0;)
                if (a->t->quartiles[class][q] != TABLE_NONE) {
                        *ret = a->t->quartiles[class][q];
                        return 0;
                }
        return span_take(a, class, ret);
}

int alloc_block(struct arena *a, uint32_t n, uint32_t *ret_handle)
{
        unsigned class = class_of(n);
        struct table_span *s;
        struct table_rec *rec;
        uint32_t span, chunk;
        int r;

        assert(n > 0 && n <= BLOCK_MAX);
        r = span_choose(a, class, &span);
        if (r < 0)
                return r;
        s = &a->spans[span];
        if (s->free_head != TABLE_NONE) {
                chunk = s->free_head;
                s->free_head = arena_rec(a, handle_make(span, chunk))->next;
        } else {
                r = span_commit(a, span);
                if (r < 0) {
                        if (s->n_used == 0)
                                span_retire(a, span);
                        return r;
                }
                chunk = s->high++;
        }
        s->n_used++;
        a->t->used_bytes += class_size(class);
        requeue(a, span);
        *ret_handle = handle_make(span, chunk);
        rec = arena_rec(a, *ret_handle);
        *rec = (struct table_rec){.heap_pos = TABLE_NONE};
        return 0;
}

void alloc_free(struct arena *a, uint32_t handle)
{
        uint32_t span = handle_span(handle);
        struct table_span *s = &a->spans[span];
        struct table_rec *rec = arena_rec(a, handle);

        rec_set_stamp(rec, 0);
        rec->next = s->free_head;
        s->free_head = handle_chunk(handle);
        s->n_used--;
        a->t->used_bytes -= class_size(s->class);
        if (s->n_used == 0)
                span_retire(a, span);
        else
                requeue(a, span);
}

/* ---- giving memory back */

uint64_t alloc_waste(const struct arena *a)
{
        return a->t->committed_bytes - a->t->used_bytes;
}

/* A span worth draining: it can give back a good part of what it holds. */
static uint32_t drain_choose(struct arena *a, bool hard)
{
        unsigned n = hard ? N_QUARTILES : N_QUARTILES - 1;

        for (unsigned q = 0; q < n; q++)
                for (unsigned c = 0; c < N_CLASSES; c++) {
                        uint32_t span = a->t->quartiles[c][q];

                        /* A young span looks sparse, but nothing behind its high-water mark is
                         * resident; what a span wastes is what lies below it. */
                        for (unsigned tries = 0; span != TABLE_NONE && tries < 4; tries++) {
                                const struct table_span *s = &a->spans[span];
                                uint64_t live = (uint64_t)s->n_used * class_size(c);

                                if (s->committed > live + live / (hard ? 16 : 3) + COMMIT_MAX)
                                        return span;
                                span = s->next;
                        }
                }
        return TABLE_NONE;
}

uint32_t alloc_drain_next(struct arena *a, bool hard)
{
        struct table_header *t = a->t;
        struct table_span *s;

        if (t->draining == TABLE_NONE) {
                uint64_t waste = alloc_waste(a);

                /* Nothing was worth it lately: do not search again before more is wasted. */
                if (waste < t->drain_not_below) {
                        if (waste + DRAIN_RETRY < t->drain_not_below)
                                t->drain_not_below = waste + DRAIN_RETRY;
                        return ARENA_NONE;
                }
                t->draining = drain_choose(a, hard);
                if (t->draining == TABLE_NONE) {
                        t->drain_not_below = waste + DRAIN_RETRY;
                        return ARENA_NONE;
                }
                t->drain_not_below = 0;
                s = &a->spans[t->draining];
                list_remove(a, &t->quartiles[s->class][s->quartile], t->draining);
                s->state = SPAN_DRAINING;
                t->drain_cursor = 0;
        }
        s = &a->spans[t->draining];
        for (; t->drain_cursor < s->high; t->drain_cursor++) {
                uint32_t handle = handle_make(t->draining, t->drain_cursor);

                if (alloc_is_live(a, handle))
                        return handle;
        }
        assert(s->n_used == 0); /* then it was retired, and is no longer being drained */
        return ARENA_NONE;
}

/* ---- adopting */

/* What can be said of a span that somebody else described: nothing but that its memory is there. */
static bool span_is_sound(const struct arena *a, uint32_t span)
{
        const struct table_span *s = &a->spans[span];
        uint32_t size = __atomic_load_n(&a->span_chunk[span], __ATOMIC_RELAXED);

        return (s->state == SPAN_ACTIVE || s->state == SPAN_DRAINING) && size >= ARENA_CHUNK_MIN &&
               size <= ARENA_SPAN_SIZE && class_size(class_of(size)) == size &&
               s->committed <= ARENA_SPAN_SIZE && s->rec_committed <= RECS_PER_SPAN_BYTES;
}

uint32_t alloc_n_chunks(const struct arena *a, uint32_t span)
{
        const struct table_span *s = &a->spans[span];
        uint32_t n, n_recs = s->rec_committed / (uint32_t)sizeof(struct table_rec);

        if (!span_is_sound(a, span))
                return 0;
        n = s->committed / a->span_chunk[span];
        return n < n_recs ? n : n_recs;
}

bool alloc_has(const struct arena *a, uint32_t handle)
{
        uint32_t span = handle_span(handle);

        return span >= 1 && span < a->t->span_high &&
               handle_chunk(handle) < alloc_n_chunks(a, span);
}

int alloc_adopt_map(struct arena *a, uint32_t span)
{
        const struct table_span *s = &a->spans[span];

        if (alloc_n_chunks(a, span) == 0)
                return 0;
        if (memfile_recommit(&a->mem, a->h->spans_off + (uint64_t)span * ARENA_SPAN_SIZE,
                             s->committed) < 0 ||
            memfile_recommit(&a->table, a->t->recs_off + span * RECS_PER_SPAN_BYTES,
                             s->rec_committed) < 0)
                return -ENOMEM;
        return 0;
}

void alloc_adopt(struct arena *a)
{
        struct table_header *t = a->t;

        t->span_free = t->span_empty = TABLE_NONE;
        t->used_bytes = t->committed_bytes = t->rec_bytes = 0;
        t->drain_cursor = 0;
        t->drain_not_below = 0;
        if (t->draining >= t->span_high)
                t->draining = TABLE_NONE;
        for (unsigned c = 0; c < N_CLASSES; c++)
                for (unsigned q = 0; q < N_QUARTILES; q++)
                        t->quartiles[c][q] = TABLE_NONE;
}

/* Nothing in it counts: its memory goes back, also what a torn step made resident and did not
 * count. */
static void span_forget(struct arena *a, uint32_t span)
{
        struct table_span *s = &a->spans[span];

        if (s->state != SPAN_UNUSED || s->committed != 0 || s->rec_committed != 0) {
                memfile_release(&a->mem, a->h->spans_off + (uint64_t)span * ARENA_SPAN_SIZE,
                                ARENA_SPAN_SIZE);
                memfile_release(&a->table, a->t->recs_off + span * RECS_PER_SPAN_BYTES,
                                RECS_PER_SPAN_BYTES);
        }
        *s = (struct table_span){.state = SPAN_UNUSED, .free_head = TABLE_NONE};
        list_push(a, &a->t->span_empty, span);
}

void alloc_adopt_span(struct arena *a, uint32_t span)
{
        struct table_header *t = a->t;
        struct table_span *s = &a->spans[span];
        uint32_t n = alloc_n_chunks(a, span), size = a->span_chunk[span];

        while (n > 0 && !alloc_is_live(a, handle_make(span, n - 1)))
                n--;
        if (n == 0) {
                if (t->draining == span)
                        t->draining = TABLE_NONE;
                span_forget(a, span);
                return;
        }
        s->class = (uint8_t)class_of(size);
        s->high = n;
        s->n_used = 0;
        s->free_head = TABLE_NONE;
        while (n-- > 0) {
                struct table_rec *rec = arena_rec(a, handle_make(span, n));

                if (rec_stamp(rec) != 0) {
                        s->n_used++;
                        continue;
                }
                rec->next = s->free_head;
                s->free_head = n;
        }
        t->used_bytes += (uint64_t)s->n_used * size;
        t->committed_bytes += s->committed;
        t->rec_bytes += s->rec_committed;
        s->state = t->draining == span ? SPAN_DRAINING : SPAN_ACTIVE;
        s->quartile = QUARTILE_FULL; /* on no list */
        requeue(a, span);
}
