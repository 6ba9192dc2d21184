/* SPDX-License-Identifier: MIT */
/*
 * Pages of the table
 *
 * What expiry heaps are made of: whole pages for the heaps of large caches, parts of pages for
 * small ones, so that a cache with one entry that expires does not hold a page for it. A page that
 * is cut has a bit for each chunk in use; those with a free one are on a list of their class, and
 * one whose last chunk is freed is a page again.
 *
 * A page that is not in use is not resident, but for a few that are kept warm.
 */

#include "arena/pages.h"

#include <errno.h>

#define PAGES_KEPT 16

/* ---- whole pages */

int page_alloc(struct arena *a, uint32_t *ret_page)
{
        struct table_header *t = a->t;
        uint32_t page = t->page_free;
        int r;

        if (page == TABLE_NONE) {
                if (t->page_high == t->max_pages)
                        return -ENOMEM;
                page = t->page_high;
                r = arena_commit_element(&a->table, t->page_table_off, page,
                                         sizeof(struct table_page));
                if (r < 0)
                        return r;
        }
        r = memfile_commit(&a->table, t->pages_off + (uint64_t)page * POOL_PAGE_SIZE,
                           POOL_PAGE_SIZE);
        if (r < 0)
                return r;
        if (page == t->page_high)
                t->page_high++;
        else
                t->page_free = a->page_table[page].next;
        t->n_pages++;
        *ret_page = page;
        return 0;
}

void page_free(struct arena *a, uint32_t page)
{
        struct table_header *t = a->t;

        a->page_table[page] = (struct table_page){.next = t->page_free};
        t->page_free = page;
        t->n_pages--;
        /* A few warm ones are kept: a heap whose size moves about a page boundary must not call the
         * kernel each time. */
        if (t->page_high - t->n_pages > PAGES_KEPT)
                memfile_release(&a->table, t->pages_off + (uint64_t)page * POOL_PAGE_SIZE,
                                POOL_PAGE_SIZE);
}

void pages_forget(struct arena *a)
{
        struct table_header *t = a->t;

        memfile_release(&a->table, t->pages_off, (uint64_t)t->page_high * POOL_PAGE_SIZE);
        t->page_high = 0;
        t->n_pages = 0;
        t->page_free = TABLE_NONE;
        for (unsigned i = 0; i < N_PAGE_CLASSES; i++)
                t->chunk_pages[i] = TABLE_NONE;
}

/* ---- parts of pages */

static uint16_t all_used(unsigned class)
{
        return (uint16_t)((UINT32_C(1) << (POOL_PAGE_SIZE / chunk_size(class))) - 1);
}

static void list_push(struct arena *a, unsigned class, uint32_t page)
{
        uint32_t *head = &a->t->chunk_pages[class];

        a->page_table[page].prev = TABLE_NONE;
        a->page_table[page].next = *head;
        if (*head != TABLE_NONE)
                a->page_table[*head].prev = page;
        *head = page;
}

static void list_remove(struct arena *a, unsigned class, uint32_t page)
{
        const struct table_page *p = &a->page_table[page];

        if (p->prev == TABLE_NONE)
                a->t->chunk_pages[class] = p->next;
        else
                a->page_table[p->prev].next = p->next;
        if (p->next != TABLE_NONE)
                a->page_table[p->next].prev = p->prev;
}

int chunk_alloc(struct arena *a, unsigned class, uint32_t *ret_chunk)
{
        uint32_t page = a->t->chunk_pages[class], i;
        struct table_page *p;

        if (page == TABLE_NONE) {
                int r = page_alloc(a, &page);

                if (r < 0)
                        return r;
                a->page_table[page] = (struct table_page){.class = (uint16_t) class};
                list_push(a, class, page);
        }
        p = &a->page_table[page];
        i = (uint32_t)__builtin_ctz(~(uint32_t)p->used);
        p->used |= (uint16_t)(1u << i);
        if (p->used == all_used(class))
                list_remove(a, class, page);
        *ret_chunk = page << 4 | i;
        return 0;
}

void chunk_free(struct arena *a, unsigned class, uint32_t chunk)
{
        uint32_t page = chunk >> 4;
        struct table_page *p = &a->page_table[page];

        assert(p->class == class && (p->used >> (chunk & 15) & 1));
        if (p->used == all_used(class))
                list_push(a, class, page);
        p->used &= (uint16_t) ~(1u << (chunk & 15));
        if (p->used == 0) {
                list_remove(a, class, page);
                page_free(a, page);
        }
}
