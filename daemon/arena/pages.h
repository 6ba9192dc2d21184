/* SPDX-License-Identifier: MIT */
#ifndef PAGES_H
#define PAGES_H

/*
 * Pages and parts of pages of the table, for expiry heaps. See pages.c.
 */

#include "arena/arena.h"

#define POOL_PAGE_SIZE 4096u

/* Whole pages. 0, -ENOMEM. */
int page_alloc(struct arena *a, uint32_t *ret_page);
void page_free(struct arena *a, uint32_t page);
/* All of them, whoever had them. */
void pages_forget(struct arena *a);

static inline void *page_at(const struct arena *a, uint32_t page)
{
        return a->pages + (uint64_t)page * POOL_PAGE_SIZE;
}

/* A sixteenth (class 0) or a quarter (class 1) of a page. A chunk's number says nothing about its
 * class: callers know it. */
static inline uint32_t chunk_size(unsigned class)
{
        return class == 0 ? POOL_PAGE_SIZE / 16 : POOL_PAGE_SIZE / 4;
}

int chunk_alloc(struct arena *a, unsigned class, uint32_t *ret_chunk);
void chunk_free(struct arena *a, unsigned class, uint32_t chunk);

static inline void *chunk_at(const struct arena *a, unsigned class, uint32_t chunk)
{
        return (uint8_t *)page_at(a, chunk >> 4) + (chunk & 15) * chunk_size(class);
}

#endif
