/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the mapped reader over any bytes
 *
 * The image (arena-image.h) ends where its memory ends: the next page is not mapped, nor is the one
 * before, what lies between image and page is poisoned, and all of it is read-only while the reader
 * looks. The buffers for values end likewise. Whatever stands in the image, a look-up says the same
 * twice, and a hit is one: key and value lie in the chunk behind the handle, or the value where the
 * chunk says, as ARENA.md says.
 */

#undef NDEBUG /* what is asserted is also done */
#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arena-image.h"
#include "fuzz.h"
#include "proto/arena-read.h"

#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

#define PAGE      4096u
#define ALIGN     64u /* of what lies in an arena; a mapping is aligned to pages */
#define N_QUERIES 32u

/* ---- memory that ends where a page does */

struct fence {
        uint8_t *map, *at;
        size_t n_map, n;
};

static size_t round_up(size_t n, size_t to)
{
        return (n + to - 1) / to * to;
}

static void fence_init(struct fence *f, size_t n)
{
        f->n = n;
        f->n_map = round_up(n, PAGE) + 2 * PAGE;
        f->map =
                mmap(NULL, f->n_map, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        assert(f->map != MAP_FAILED);
        f->at = f->map + f->n_map - PAGE - round_up(n, ALIGN);
        assert(mprotect(f->map + PAGE, f->n_map - 2 * PAGE, PROT_READ | PROT_WRITE) == 0);
}

/* After what stands in it is there. */
static void fence_close(struct fence *f, int protection)
{
        ASAN_POISON_MEMORY_REGION(f->map + PAGE, (size_t)(f->at - f->map) - PAGE);
        ASAN_POISON_MEMORY_REGION(f->at + f->n, round_up(f->n, ALIGN) - f->n);
        assert(mprotect(f->map + PAGE, f->n_map - 2 * PAGE, protection) == 0);
}

static void fence_done(struct fence *f)
{
        ASAN_UNPOISON_MEMORY_REGION(f->map, f->n_map);
        assert(munmap(f->map, f->n_map) == 0);
}

/* ---- the input */

struct input {
        const uint8_t *p, *end;
};

/* A number of @n bytes; 0 and the end of the input if it is not there. */
static uint64_t take(struct input *in, unsigned n)
{
        uint64_t v = 0;

        if ((size_t)(in->end - in->p) < n) {
                in->p = in->end;
                return 0;
        }
        memcpy(&v, in->p, n);
        in->p += n;
        return v;
}

static void take_bytes(struct input *in, struct fence *image)
{
        uint64_t off = take(in, 4);
        uint64_t n = take(in, 2);

        if ((uint64_t)(in->end - in->p) < n)
                n = (uint64_t)(in->end - in->p);
        if (off <= image->n && n <= image->n - off)
                memcpy(image->at + off, in->p, n);
        in->p += n;
}

static bool take_query(struct input *in, struct arena_query *ret)
{
        struct arena_query q = {0};

        q.cache = (uint32_t)take(in, 4);
        q.name_hash = take(in, 8);
        q.now_ms = take(in, 8);
        q.n_key = (uint32_t)take(in, 1);
        q.want_messages = q.n_key & 128;
        q.n_key = q.n_key % 64 + 1;
        if ((uint64_t)(in->end - in->p) < q.n_key)
                return false;
        q.key = in->p;
        in->p += q.n_key;
        *ret = q;
        return true;
}

/* ---- what must hold */

/* It may be served, and is what its moments say. */
static void check_window(const struct arena_query *q, const struct arena_hit *hit)
{
        if (!(hit->marks & ARENA_HIT_WINDOW)) {
                assert(!(hit->marks & (ARENA_HIT_STALE | ARENA_HIT_DUE)));
                return;
        }
        assert(q->now_ms < hit->fresh.serve);
        assert(!(hit->marks & ARENA_HIT_STALE) == (q->now_ms < hit->fresh.fresh));
        assert(!(hit->marks & ARENA_HIT_DUE) == (q->now_ms < hit->fresh.refresh));
}

/* The hit's key and value stand in the image, where the layout says. */
static void check_hit(const struct arena_map *m, const struct arena_query *q,
                      const struct arena_hit *hit, const uint8_t *value)
{
        uint32_t span = hit->handle >> ARENA_CHUNK_SHIFT, n_chunk;
        uint64_t off = (uint64_t)(m->spans - m->base), n_ext = 0, n_left_out = 0;
        struct arena_entry e;
        struct arena_ext x;

        assert(hit->handle != ARENA_NONE && span < m->n_spans);
        memcpy(&n_chunk, &m->span_chunk[span], 4);
        off += (uint64_t)span * ARENA_SPAN_SIZE;
        assert(off + ARENA_SPAN_SIZE <= m->size);
        assert((uint64_t)n_chunk * ((hit->handle & ARENA_CHUNK_MASK) + 1) <= ARENA_SPAN_SIZE);
        off += (uint64_t)n_chunk * (hit->handle & ARENA_CHUNK_MASK);
        memcpy(&e, m->base + off, sizeof(e));
        if (e.sizes & ENTRY_EXT) {
                memcpy(&x, m->base + off + sizeof(e), sizeof(x));
                n_ext = x.n_bytes;
        }
        assert(sizeof(e) + n_ext + q->n_key + (e.sizes >> 10) <= n_chunk);
        assert(memcmp(m->base + off + sizeof(e) + n_ext, q->key, q->n_key) == 0);
        assert(hit->deadline_ms > q->now_ms);
        check_window(q, hit);
        if (!q->want_messages)
                n_left_out = arena_hit_messages(hit);
        off += sizeof(e) + n_ext + q->n_key;
        if (e.sizes & ENTRY_EXTENT && !(e.sizes & ENTRY_LARGE)) {
                struct arena_extent at;

                assert(e.sizes >> 10 == sizeof(at));
                memcpy(&at, m->base + off, sizeof(at));
                off = (uint64_t)(m->extents - m->base) + at.offset;
                assert(at.offset <= m->n_extents && off <= m->size && at.size <= m->size - off);
                assert(hit->n_value == at.size - n_left_out);
        } else if (e.sizes & ENTRY_LARGE) {
                assert(arena_hit_messages(hit) <= hit->large.size);
        } else {
                assert(hit->n_value == (e.sizes >> 10) - n_left_out);
        }
        if (value)
                assert(memcmp(m->base + off, value, hit->n_value) == 0);
}

/* Looks up with a buffer of @n bytes. */
static enum arena_result read_with(const struct arena_map *m, const struct arena_query *q, size_t n,
                                   struct arena_hit *ret)
{
        struct arena_query whole = *q, begun = *q;
        struct arena_hit again;
        enum arena_result r;
        struct fence buf;

        fence_init(&buf, n);
        fence_close(&buf, PROT_READ | PROT_WRITE);
        r = arena_read(m, q, buf.at, n, ret);
        if (r == ARENA_HIT || r == ARENA_TOO_LONG) {
                assert(r == ARENA_HIT ? ret->n_value <= n : ret->n_value > n);
                check_hit(m, q, ret, r == ARENA_HIT ? buf.at : NULL);
        }
        if (r == ARENA_LARGE_VALUE)
                check_hit(m, q, ret, NULL);
        assert(r <= ARENA_BROKEN);
        /* One that finds everything out by itself, and one that was begun before. */
        whole.aim.gen = 0;
        assert(arena_read(m, &whole, buf.at, n, &again) == r);
        arena_aim(m, &begun);
        assert(arena_read(m, &begun, buf.at, n, &again) == r);
        fence_done(&buf);
        return r;
}

static void look_up(const struct arena_map *m, const struct arena_query *q)
{
        struct arena_hit hit, short_hit;
        enum arena_result r = read_with(m, q, 0, &hit);

        if (r != ARENA_TOO_LONG)
                return;
        assert(read_with(m, q, hit.n_value, &short_hit) == ARENA_HIT);
        assert(short_hit.version == hit.version);
        assert(read_with(m, q, hit.n_value - 1, &short_hit) == ARENA_TOO_LONG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct input in = {data, data + n};
        struct arena_query q[N_QUERIES];
        uint64_t find = 0;
        unsigned n_q = 0;
        struct arena_map m;
        struct fence image;

        fence_init(&image, take(&in, 4) % (IMAGE_MAX + 1));
        while (in.p < in.end) {
                switch (*in.p++) {
                case IMAGE_BYTES:
                        take_bytes(&in, &image);
                        break;
                case IMAGE_QUERY:
                        if (n_q < N_QUERIES && take_query(&in, &q[n_q]))
                                n_q++;
                        break;
                case IMAGE_FIND:
                        find = take(&in, 8);
                        break;
                default:
                        break;
                }
        }
        fence_close(&image, PROT_READ);
        if (!arena_map_init(image.at, image.n, &m)) {
                uint32_t id = arena_find_cache(&m, find);

                assert(id < m.cache_dir_max);
                for (unsigned i = 0; i < n_q; i += ARENA_AHEAD_MAX)
                        arena_ahead(&m, &q[i],
                                    n_q - i < ARENA_AHEAD_MAX ? n_q - i : ARENA_AHEAD_MAX);
                for (unsigned i = 0; i < n_q; i++)
                        look_up(&m, &q[i]);
        }
        fence_done(&image);
        return 0;
}
