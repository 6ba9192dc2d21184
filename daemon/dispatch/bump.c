/* SPDX-License-Identifier: MIT */
/*
 * Bump allocator
 *
 * What unpacking a request and building its reply allocates lives exactly as long as the request:
 * so take it from one block, and forget it all at once. Requests that need more than the first
 * block get further chunks from malloc, which reset gives back; a bound keeps a message of a few
 * bytes per item from costing a hundred times its size.
 *
 * Each allocation is preceded by its size: that is how the length of a string that protobuf-c
 * unpacked is known although it may contain zero bytes.
 */
#include "dispatch/bump.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN      alignof(max_align_t)
#define CHUNK_SIZE ((size_t)256 * 1024) /* few mallocs for a large request; guess, not measured */

struct bump_chunk {
        struct bump_chunk *next;
        alignas(max_align_t) unsigned char bytes[];
};

static_assert(sizeof(size_t) <= ALIGN, "the size fits before an aligned block");

static void *pb_alloc(void *ctx, size_t n)
{
        return bump_alloc(ctx, n);
}

static void pb_free(void *ctx, void *p)
{
        (void)ctx;
        (void)p;
}

int bump_init(struct bump *b, size_t n_first, size_t limit)
{
        unsigned char *first = malloc(n_first);
        if (!first)
                return -ENOMEM;
        *b = (struct bump){
                .allocator = {.alloc = pb_alloc, .free = pb_free, .allocator_data = b},
                .first = first,
                .n_first = n_first,
                .limit = limit,
        };
        bump_reset(b);
        return 0;
}

void bump_reset(struct bump *b)
{
        while (b->more) {
                struct bump_chunk *next = b->more->next;
                free(b->more);
                b->more = next;
        }
        b->at = b->first;
        b->end = b->first + b->n_first;
        b->used_more = 0;
        b->out_of_memory = false;
        b->over_limit = false;
}

void bump_done(struct bump *b)
{
        bump_reset(b);
        free(b->first);
        b->first = b->at = b->end = NULL;
}

void bump_swap(struct bump *a, struct bump *b)
{
        struct bump c = *a;
        *a = *b;
        *b = c;
        a->allocator.allocator_data = a;
        b->allocator.allocator_data = b;
}

/* Makes a chunk with room for @n bytes the one in use. */
static bool bump_grow(struct bump *b, size_t n)
{
        size_t size = n > CHUNK_SIZE ? n : CHUNK_SIZE;
        if (n > b->limit - b->used_more) {
                b->over_limit = true;
                return false;
        }
        struct bump_chunk *chunk = malloc(sizeof(*chunk) + size);
        if (!chunk) {
                b->out_of_memory = true;
                return false;
        }
        chunk->next = b->more;
        b->more = chunk;
        b->used_more += size < b->limit - b->used_more ? size : b->limit - b->used_more;
        b->at = chunk->bytes;
        b->end = chunk->bytes + size;
        return true;
}

void *bump_alloc(struct bump *b, size_t n)
{
        if (n > PTRDIFF_MAX - 2 * ALIGN) {
                b->over_limit = true;
                return NULL;
        }
        size_t need = ALIGN + ((n + ALIGN - 1) & ~(ALIGN - 1));
        if (need > (size_t)(b->end - b->at) && !bump_grow(b, need))
                return NULL;
        unsigned char *p = b->at + ALIGN;
        memcpy(p - sizeof(n), &n, sizeof(n));
        b->at += need;
        return p;
}

void *bump_alloc_array(struct bump *b, size_t n, size_t size)
{
        size_t bytes;
        if (__builtin_mul_overflow(n, size, &bytes)) {
                b->over_limit = true;
                return NULL;
        }
        return bump_alloc(b, bytes);
}

size_t bump_size(const void *p)
{
        size_t n;
        memcpy(&n, (const unsigned char *)p - sizeof(n), sizeof(n));
        return n;
}
