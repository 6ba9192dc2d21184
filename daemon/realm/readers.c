/* SPDX-License-Identifier: MIT */
/*
 * Readers
 *
 * Each has a bit in the realm's dirty map, which it sets when it has noted a use. So a drain looks
 * at as many words as 64 times fit into the readers there are, and at the pages of those that used
 * something. The bit is cleared before the ring is looked at. A reader that found its bit set, just
 * before it was cleared, may have noted a use that the daemon did not see yet, and sets no bit
 * again; so pages that were emptied are looked at once more a turn later.
 *
 * The uses of all rings are merged by the time marks in them: order between readers is exact to a
 * tick of the coarse clock. Of what is left when a drain has taken as much as it may, the bits are
 * kept here.
 *
 * A reader that left stays until its rings are empty, as they were when it left.
 *
 * Whose bit is set in the map, and whose is not, is up to everybody who has it mapped: that is the
 * realm's clients, who can at worst delay that each other's uses are seen, until a request that
 * asks for all (Drain); and one that fills its rings as fast as they are emptied takes what a turn
 * allows to all of the realm.
 */
#include "realm/readers.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROWTH   64u /* bits */
#define TAKE_MAX 128u

int readers_new(struct store *s, struct readers **ret)
{
        struct readers *rs = calloc(1, sizeof(*rs));
        if (!rs)
                return -ENOMEM;
        rs->store = s;
        int r = memfile_init(&rs->map_file, "cached:dirty", DIRTY_MAP_SIZE);
        if (r == 0 && fcntl(rs->map_file.fd, F_ADD_SEALS, F_SEAL_SEAL) < 0)
                r = -errno;
        if (r == 0)
                r = memfile_commit(&rs->map_file, 0, DIRTY_MAP_SIZE);
        if (r < 0) {
                readers_free(rs);
                return r;
        }
        rs->map = (struct dirty_map *)(void *)rs->map_file.base;
        *ret = rs;
        return 0;
}

struct readers *readers_free(struct readers *rs)
{
        if (!rs)
                return NULL;
        for (uint32_t i = 0; i < rs->n_at; i++)
                reader_free(rs->at[i]);
        memfile_done(&rs->map_file);
        free(rs->at);
        free(rs->look);
        free(rs->emptied);
        free(rs->heap);
        free(rs);
        return NULL;
}

/* ---- coming and going */

static void *grow_array(void *old, size_t n_old, size_t n_new, size_t size)
{
        uint8_t *p = reallocarray(old, n_new, size);
        if (p)
                memset(p + n_old * size, 0, (n_new - n_old) * size);
        return p;
}

static int grow(struct readers *rs)
{
        uint32_t n = rs->n_at, to = n + GROWTH;
        if (to > DIRTY_MAP_CLIENTS)
                return -ENOSPC;
        struct reader **at = grow_array(rs->at, n, to, sizeof(*at));
        if (at)
                rs->at = at;
        uint64_t *look = grow_array(rs->look, n / 64, to / 64, sizeof(*look));
        if (look)
                rs->look = look;
        uint64_t *emptied = grow_array(rs->emptied, n / 64, to / 64, sizeof(*emptied));
        if (emptied)
                rs->emptied = emptied;
        struct idheap_item *heap = grow_array(rs->heap, (size_t)n * PAGE_RINGS,
                                              (size_t)to * PAGE_RINGS, sizeof(*heap));
        if (heap)
                rs->heap = heap;
        if (!at || !look || !emptied || !heap)
                return -ENOMEM;
        rs->n_at = to;
        return 0;
}

static int find_bit(struct readers *rs, uint32_t *ret)
{
        uint32_t bit = 0;
        while (bit < rs->n_at && rs->at[bit])
                bit++;
        int r = bit == rs->n_at ? grow(rs) : 0;
        if (r == 0)
                *ret = bit;
        return r;
}

int readers_join(struct readers *rs, struct reader **ret, int *ret_page_fd, int *ret_map_fd)
{
        uint32_t bit;
        int r = find_bit(rs, &bit);
        if (r < 0)
                return r;
        int map_fd = fcntl(rs->map_file.fd, F_DUPFD_CLOEXEC, 3);
        if (map_fd < 0)
                return -errno;
        r = reader_new(bit, ret, ret_page_fd);
        if (r < 0) {
                (void)close(map_fd);
                return r;
        }
        rs->at[bit] = *ret;
        rs->n++;
        *ret_map_fd = map_fd;
        return 0;
}

static void set(uint64_t *bits, uint32_t bit)
{
        bits[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static void look_later(struct readers *rs, uint32_t bit)
{
        set(rs->look, bit);
        rs->any_look = true;
}

void readers_leave(struct readers *rs, struct reader *r)
{
        assert(rs->at[r->bit] == r && !r->gone);
        reader_end(r);
        look_later(rs, r->bit);
        rs->n--;
        rs->n_gone++;
}

/* Of those that left, the ones with nothing left in their rings. */
static void bury(struct readers *rs)
{
        for (uint32_t i = 0; i < rs->n_at && rs->n_gone > 0; i++) {
                struct reader *r = rs->at[i];
                bool empty = true;
                for (unsigned k = 0; r && k < PAGE_RINGS; k++)
                        empty &= reader_ring_is_empty(r, k);
                if (!r || !r->gone || !empty)
                        continue;
                reader_count(r, rs->store);
                rs->at[i] = reader_free(r);
                rs->n_gone--;
        }
}

/* ---- draining */

static uint32_t *heap_pos(void *ctx, uint32_t id)
{
        const struct readers *rs = ctx;
        return &rs->at[id / PAGE_RINGS]->ring[id % PAGE_RINGS].heap_pos;
}

static struct idheap heap_of(struct readers *rs)
{
        return (struct idheap){.items = rs->heap, .n = &rs->n_heap, .pos = heap_pos, .ctx = rs};
}

/* Puts the rings of one reader into the heap that hold something. */
static void look_at(struct readers *rs, const struct idheap *h, uint32_t bit, uint64_t now_ms,
                    unsigned *slots)
{
        struct reader *r = rs->at[bit];
        for (unsigned i = 0; r && i < PAGE_RINGS; i++) {
                if (!reader_look(r, i, now_ms, slots, &rs->n_lost))
                        continue;
                set(rs->emptied, bit);
                rs->any_emptied = true;
                idheap_put(h, bit * PAGE_RINGS + i, r->ring[i].time_ms);
        }
}

/* Of what some bits say, as many as there are slots for: a bit without a use behind it, which is
 * anybody's to set, costs as much as one with. What is not reached keeps its bits here. */
static void gather_some(struct readers *rs, const struct idheap *h, uint32_t word, uint64_t bits,
                        uint64_t now_ms, unsigned *slots)
{
        for (; bits != 0 && *slots > 0; bits &= bits - 1) {
                (*slots)--;
                look_at(rs, h, word * 64 + (uint32_t)__builtin_ctzll(bits), now_ms, slots);
        }
        if (bits == 0)
                return;
        rs->look[word] |= bits;
        rs->any_look = true;
}

static void gather_all(struct readers *rs, const struct idheap *h, uint64_t now_ms, unsigned *slots)
{
        for (uint32_t i = 0; i < rs->n_at; i++)
                look_at(rs, h, i, now_ms, slots);
}

static void gather(struct readers *rs, const struct idheap *h, bool all, uint64_t now_ms,
                   unsigned *slots)
{
        bool look = rs->any_look || all;
        rs->any_look = false;
        for (uint32_t i = 0; i < rs->n_at / 64; i++) {
                uint64_t w = atomic_load_explicit(&rs->map->words[i], memory_order_relaxed);
                if (w == 0 && !look)
                        continue;
                if (w != 0)
                        w = atomic_exchange_explicit(&rs->map->words[i], 0, memory_order_seq_cst);
                w |= rs->look[i];
                rs->look[i] = 0;
                if (!all)
                        gather_some(rs, h, i, w, now_ms, slots);
        }
        if (all)
                gather_all(rs, h, now_ms, slots);
}

/* The oldest uses there are, from one ring, up to where another one's turn is. */
static void take(struct readers *rs, const struct idheap *h, uint64_t now_ms, unsigned *slots)
{
        uint32_t id = rs->heap[0].id;
        struct reader *r = rs->at[id / PAGE_RINGS];
        unsigned ring = id % PAGE_RINGS;
        struct store_use uses[TAKE_MAX];
        idheap_drop(h, id);
        uint64_t until = rs->n_heap > 0 ? rs->heap[0].key : UINT64_MAX;
        unsigned n = reader_take(r, ring, until, now_ms, uses, TAKE_MAX, slots);
        store_used(rs->store, uses, n);
        if (!reader_ring_is_empty(r, ring))
                idheap_put(h, id, r->ring[ring].time_ms);
}

bool readers_drain(struct readers *rs, bool all, uint64_t now_ms, unsigned *slots)
{
        const struct idheap h = heap_of(rs);
        gather(rs, &h, all, now_ms, slots);
        while (rs->n_heap > 0 && *slots > 0)
                take(rs, &h, now_ms, slots);
        bool left = rs->n_heap > 0 || rs->any_look;
        while (rs->n_heap > 0) {
                look_later(rs, rs->heap[0].id / PAGE_RINGS);
                idheap_drop(&h, rs->heap[0].id);
        }
        if (rs->n_gone > 0)
                bury(rs);
        return left;
}

void readers_count(struct readers *rs)
{
        for (uint32_t i = 0; i < rs->n_at; i++)
                if (rs->at[i])
                        reader_count(rs->at[i], rs->store);
}

void readers_turn_end(struct readers *rs)
{
        if (!rs->any_emptied)
                return;
        for (uint32_t i = 0; i < rs->n_at / 64; i++) {
                rs->look[i] |= rs->emptied[i];
                rs->emptied[i] = 0;
        }
        rs->any_look = true;
        rs->any_emptied = false;
}

/* ---- numbers */

uint64_t readers_prepared(const struct readers *rs)
{
        uint64_t n = 0;

        for (uint32_t i = 0; rs && i < rs->n_at; i++) {
                const struct reader *r = rs->at[i];
                uint64_t more;

                if (!r || r->gone)
                        continue;
                more = atomic_load_explicit(&r->page->prepared_bytes, memory_order_relaxed);
                /* A client may write anything there. */
                if (__builtin_add_overflow(n, more, &n))
                        return UINT64_MAX;
        }
        return n;
}
