/* SPDX-License-Identifier: MIT */
#ifndef BENCH_FIFO_H
#define BENCH_FIFO_H

/*
 * Tags of the requests in flight, for servers that answer in order. Bounded by the window.
 */

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct fifo_item {
        uint64_t tag;
        bool is_get;
};

struct fifo {
        struct fifo_item *items;
        unsigned cap, head, n;
};

static inline int fifo_init(struct fifo *f, unsigned cap)
{
        *f = (struct fifo){.items = calloc(cap, sizeof(struct fifo_item)), .cap = cap};
        return f->items ? 0 : -ENOMEM;
}

static inline void fifo_done(struct fifo *f)
{
        free(f->items);
        *f = (struct fifo){0};
}

static inline int fifo_push(struct fifo *f, uint64_t tag, bool is_get)
{
        if (f->n == f->cap)
                return -ENOBUFS;
        unsigned at = f->head + f->n++;
        f->items[at < f->cap ? at : at - f->cap] = (struct fifo_item){tag, is_get};
        return 0;
}

static inline int fifo_pop(struct fifo *f, struct fifo_item *ret)
{
        if (f->n == 0)
                return -ENODATA;
        *ret = f->items[f->head];
        f->head = f->head + 1 == f->cap ? 0 : f->head + 1;
        f->n--;
        return 0;
}

#endif
