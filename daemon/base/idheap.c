/* SPDX-License-Identifier: MIT */
/*
 * Binary min-heap with stored positions, see the header
 *
 * For the few hundred caches and lists of a realm; the entries themselves are in expiry.c's heap,
 * which is made for millions.
 */

#include "base/idheap.h"

static void place(const struct idheap *h, uint32_t i, struct idheap_item item)
{
        h->items[i] = item;
        *h->pos(h->ctx, item.id) = i;
}

static void sift_up(const struct idheap *h, uint32_t i, struct idheap_item item)
{
        while (i > 0) {
                uint32_t parent = (i - 1) / 2;

                if (h->items[parent].key <= item.key)
                        break;
                place(h, i, h->items[parent]);
                i = parent;
        }
        place(h, i, item);
}

static void sift_down(const struct idheap *h, uint32_t i, struct idheap_item item)
{
        for (;;) {
                uint32_t child = 2 * i + 1;

                if (child >= *h->n)
                        break;
                if (child + 1 < *h->n && h->items[child + 1].key < h->items[child].key)
                        child++;
                if (h->items[child].key >= item.key)
                        break;
                place(h, i, h->items[child]);
                i = child;
        }
        place(h, i, item);
}

void idheap_put(const struct idheap *h, uint32_t id, uint64_t key)
{
        uint32_t *pos = h->pos(h->ctx, id);
        struct idheap_item item = {.key = key, .id = id};

        if (*pos == IDHEAP_NONE) {
                sift_up(h, (*h->n)++, item);
                return;
        }
        if (key < h->items[*pos].key)
                sift_up(h, *pos, item);
        else
                sift_down(h, *pos, item);
}

void idheap_drop(const struct idheap *h, uint32_t id)
{
        uint32_t *pos = h->pos(h->ctx, id);
        uint32_t i = *pos;
        struct idheap_item last;

        if (i == IDHEAP_NONE)
                return;
        *pos = IDHEAP_NONE;
        last = h->items[--*h->n];
        if (i == *h->n)
                return;
        /* The last item takes the hole's place, wherever it belongs from there. */
        if (i > 0 && h->items[(i - 1) / 2].key > last.key)
                sift_up(h, i, last);
        else
                sift_down(h, i, last);
}
