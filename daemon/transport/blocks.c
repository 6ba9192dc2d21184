/* SPDX-License-Identifier: MIT */
/*
 * Buffer blocks
 *
 * Most memory is taken in blocks of one size. A few returned ones are kept, the last returned is
 * the next given (its lines are still in the cache). So those at the bottom are what was not
 * needed, and go. Of each larger size one is kept, too: new pages cost about as much as filling
 * them.
 *
 * From a block's size on, memory is mapped and not malloc's: the heap would keep what was taken in
 * a rush for as long as any small thing lies above it. Owns the spare ones only; who got memory
 * returns it, with its size.
 */

#include "transport/blocks.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LARGE_MAX large_size(BLOCKS_CLASSES - 1)

/* Powers of two, and a little more: values and messages of 1 MiB come with a header. */
static size_t large_size(unsigned k)
{
        return ((size_t)2 * BLOCK_SIZE << k) + BLOCK_SIZE;
}

#if defined(__SANITIZE_ADDRESS__)
#define HEAP_ONLY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HEAP_ONLY 1
#endif
#endif

#ifdef HEAP_ONLY /* where every byte beyond the end is seen */
static void *map(size_t n)
{
        return malloc(n);
}

static void unmap(void *p, size_t n)
{
        (void)n;
        free(p);
}

static void *remap(void *p, size_t n_old, size_t n)
{
        (void)n_old;
        return realloc(p, n);
}
#else
static void *map(size_t n)
{
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        return p == MAP_FAILED ? NULL : p;
}

static void unmap(void *p, size_t n)
{
        (void)munmap(p, n);
}

static void *remap(void *p, size_t n_old, size_t n)
{
        void *q = mremap(p, n_old, n, MREMAP_MAYMOVE);

        return q == MAP_FAILED ? NULL : q;
}
#endif

static unsigned class_of(size_t n)
{
        unsigned k = 0;

        while (large_size(k) < n)
                k++;
        return k;
}

/* What is really taken for @n bytes. */
static size_t real_size(size_t n)
{
        if (n <= BLOCK_SIZE || n > LARGE_MAX)
                return n;
        return large_size(class_of(n));
}

void blocks_init(struct blocks *b)
{
        *b = (struct blocks){0};
}

bool blocks_have_spare(const struct blocks *b)
{
        bool found = b->n_spare > 0;

        for (unsigned k = 0; k < BLOCKS_CLASSES; k++)
                found |= b->large[k] != NULL;
        return found;
}

/* The first @n, which were returned before the others. */
static void free_blocks(struct blocks *b, unsigned n)
{
        for (unsigned i = 0; i < n; i++) {
                unmap(b->spare[i], BLOCK_SIZE);
                b->bytes -= BLOCK_SIZE;
        }
        b->n_spare -= n;
        memmove(b->spare, b->spare + n, b->n_spare * sizeof(b->spare[0]));
        b->n_low = b->n_spare;
}

static void free_large(struct blocks *b)
{
        for (unsigned k = 0; k < BLOCKS_CLASSES; k++) {
                if (!b->large[k])
                        continue;
                unmap(b->large[k], large_size(k));
                b->bytes -= large_size(k);
                b->large[k] = NULL;
        }
}

bool blocks_trim(struct blocks *b)
{
        bool idle = !b->used && !b->used_large;

        free_blocks(b, b->n_low);
        if (!b->used_large)
                free_large(b);
        b->used = b->used_large = false;
        return idle;
}

void blocks_done(struct blocks *b)
{
        free_blocks(b, b->n_spare);
        free_large(b);
        assert(b->bytes == 0);
}

void *blocks_get(struct blocks *b)
{
        b->used = true;
        if (b->n_spare > 0) {
                void *block = b->spare[--b->n_spare];

                if (b->n_spare < b->n_low)
                        b->n_low = b->n_spare;
                return block;
        }
        return blocks_alloc(b, BLOCK_SIZE);
}

void blocks_put(struct blocks *b, void *block)
{
        if (b->n_spare < BLOCKS_SPARE_MAX)
                b->spare[b->n_spare++] = block;
        else
                blocks_release(b, block, BLOCK_SIZE);
}

void *blocks_alloc(struct blocks *b, size_t n)
{
        size_t n_real = real_size(n);
        void *p;

        if (n_real >= large_size(0) && n_real <= LARGE_MAX) {
                void **spare = &b->large[class_of(n_real)];

                b->used_large = true;
                p = *spare;
                *spare = NULL;
                if (p)
                        return p;
        }
        p = n_real < BLOCK_SIZE ? malloc(n_real) : map(n_real);
        if (p)
                b->bytes += n_real;
        return p;
}

void *blocks_realloc(struct blocks *b, void *p, size_t n_old, size_t n)
{
        size_t old_real = real_size(n_old), n_real = real_size(n);
        void *q;

        assert(n_old > BLOCK_SIZE && n > BLOCK_SIZE);
        if (n_real == old_real)
                return p;
        q = remap(p, old_real, n_real);
        if (!q)
                return NULL;
        b->bytes += n_real - old_real;
        return q;
}

void blocks_release(struct blocks *b, void *p, size_t n)
{
        size_t n_real = real_size(n);

        if (n_real >= large_size(0) && n_real <= LARGE_MAX && !b->large[class_of(n_real)]) {
                b->large[class_of(n_real)] = p;
                return;
        }
        if (n_real < BLOCK_SIZE)
                free(p);
        else
                unmap(p, n_real);
        b->bytes -= n_real;
}
