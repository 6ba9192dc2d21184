/* SPDX-License-Identifier: MIT */
/*
 * Taking over the order of use
 *
 * Entries that are kept are gathered with their stamps, sorted, and linked anew from the one that
 * was not used for longest on. Following the old links would cost a wait for memory at each.
 *
 * There is room for all chunks that there are from the start, in huge pages where the machine has
 * them: what is not used of it costs nothing, and sorting goes to thousands of places in turn,
 * which are as many pages if they are small.
 */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "store/recovery.h"

#define AHEAD 24u /* records that are asked for ahead */

static struct recovered *room_new(size_t n)
{
        void *p = mmap(NULL, n * sizeof(struct recovered), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
                return NULL;
        (void)madvise(p, n * sizeof(struct recovered), MADV_HUGEPAGE);
        return p;
}

static void room_free(struct recovered *p, size_t n)
{
        if (p)
                munmap(p, n * sizeof(*p));
}

int order_begin(struct recovery *r)
{
        const struct store *s = r->s;

        r->max_kept = 1;
        for (uint32_t i = 1; i < s->a.t->span_high; i++)
                r->max_kept += alloc_n_chunks(&s->a, i);
        r->kept = room_new(r->max_kept);
        return r->kept ? 0 : -ENOMEM;
}

void order_add(struct recovery *r, uint32_t handle, uint32_t list)
{
        assert(r->n_kept < r->max_kept);
        r->kept[r->n_kept++] =
                (struct recovered){rec_stamp(arena_rec(&r->s->a, handle)), handle, list};
}

void order_end(struct recovery *r)
{
        room_free(r->kept, r->max_kept);
}

#define PART_BITS  11u
#define N_PARTS    (1u << PART_BITS)
#define DIGIT_BITS 8u
#define N_DIGITS   (1u << DIGIT_BITS)

/* By some bits of what stamps have beyond the least of them. */
struct digit {
        uint64_t least;
        unsigned shift;
        uint32_t n; /* values: a power of two */
};

static uint32_t digit_of(const struct digit *d, const struct recovered *k)
{
        return (uint32_t)((k->stamp - d->least) >> d->shift) & (d->n - 1);
}

/* Stable. *ret_ends: d->n places, where what has each value ends. */
static void sort_by_digit(const struct recovered *from, struct recovered *to, size_t n,
                          const struct digit *d, size_t *ret_ends)
{
        size_t sum = 0;

        memset(ret_ends, 0, d->n * sizeof(*ret_ends));
        for (size_t i = 0; i < n; i++)
                ret_ends[digit_of(d, &from[i])]++;
        for (uint32_t v = 0; v < d->n; v++) {
                size_t count = ret_ends[v];

                ret_ends[v] = sum;
                sum += count;
        }
        for (size_t i = 0; i < n; i++)
                to[ret_ends[digit_of(d, &from[i])]++] = from[i];
}

/* Sorts what is in @at by the lowest @bits, digit by digit; each takes it to the other array. */
static void sort_part(struct recovered *at, struct recovered *other, size_t n, uint64_t least,
                      unsigned bits)
{
        size_t ends[N_DIGITS];

        for (unsigned shift = 0; n > 0 && shift < bits; shift += DIGIT_BITS) {
                const struct digit d = {least, shift, N_DIGITS};
                struct recovered *was = at;

                sort_by_digit(at, other, n, &d, ends);
                at = other;
                other = was;
        }
}

static unsigned bits_of(uint64_t n)
{
        return n == 0 ? 0 : 64 - (unsigned)__builtin_clzll(n);
}

/* First into parts by the highest bits, which takes them all over memory once; then each part,
 * which the processor's cache holds unless most stamps are close together. */
static int sort_by_stamp(struct recovery *r)
{
        uint64_t least = UINT64_MAX, most = 0;
        struct recovered *to, *was = r->kept;
        size_t ends[N_PARTS], begin = 0;
        struct digit d;

        if (r->n_kept == 0)
                return 0;
        to = room_new(r->max_kept);
        if (!to)
                return -ENOMEM;
        for (size_t i = 0; i < r->n_kept; i++) {
                least = was[i].stamp < least ? was[i].stamp : least;
                most = was[i].stamp > most ? was[i].stamp : most;
        }
        d = (struct digit){least, bits_of(most - least), N_PARTS};
        d.shift = d.shift > PART_BITS ? d.shift - PART_BITS : 0;
        sort_by_digit(was, to, r->n_kept, &d, ends);
        for (uint32_t p = 0; p < N_PARTS; p++) {
                sort_part(to + begin, was + begin, ends[p] - begin, least, d.shift);
                begin = ends[p];
        }
        /* After an odd number of digits all parts are back where they came from. */
        if ((d.shift + DIGIT_BITS - 1) / DIGIT_BITS % 2 == 0) {
                r->kept = to;
                to = was;
        }
        room_free(to, r->max_kept);
        return 0;
}

/* From the one that was not used for longest on. Stamps are given out anew, without gaps: none of
 * them grows, so that whoever takes over from us in the middle of this finds the same order. */
static void put_in_order(struct recovery *r)
{
        struct store *s = r->s;

        for (size_t i = 0; i < r->n_kept; i++) {
                const struct recovered *k = &r->kept[i];
                struct entry e;

                if (i + AHEAD < r->n_kept)
                        __builtin_prefetch(arena_rec(&s->a, r->kept[i + AHEAD].handle), 1);
                lru_push(s, k->list & ~RECOVERED_LARGE, k->handle);
                if (k->list & RECOVERED_LARGE) {
                        entry_read(arena_block(&s->a, k->handle), &e);
                        large_table_enlist(s, entry_large(&e).id);
                }
        }
}

int recover_order(struct recovery *r)
{
        int n = sort_by_stamp(r);

        if (n == 0)
                put_in_order(r);
        return n;
}
