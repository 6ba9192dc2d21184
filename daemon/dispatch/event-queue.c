/* SPDX-License-Identifier: MIT */
/*
 * Events on their way to one subscriber
 *
 * An event is made once and waited for by many: each queue holds a ref. It has copies of all it
 * tells, so it is of bounded size, and what becomes of its cache does not matter.
 *
 * A queue is a ring that grows by doubling and is freed when it is empty. An event that finds it
 * full is counted by the one before it: so what was lost is told in its place, and needs no room.
 *
 * Knows no connections; how an event looks on the wire is not known here, either.
 */
#include "dispatch/event-queue.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_ROOM 16u

static_assert(STORE_KEY_MAX <= UINT8_MAX, "lengths of keys");

/* ---- events */

/* What is too long is cut: it never is, texts were checked before. */
static size_t length_of(const struct store_text *from, size_t max)
{
        if (!from->text)
                return 0;
        return from->n < max ? from->n : max;
}

static void copy_text(char *to, const struct store_text *from, size_t n)
{
        if (n > 0)
                memcpy(to, from->text, n);
        to[n] = '\0';
}

struct event *event_new(const struct event_facts *facts)
{
        size_t n_text = length_of(&facts->text, EVENT_TEXT_MAX);
        struct event *e = malloc(sizeof(*e) + n_text + 1);

        if (!e)
                return NULL;
        e->refs = 1;
        e->kind = facts->kind;
        e->cause = facts->cause;
        e->resource = facts->resource;
        e->left = facts->left;
        e->cache_id = facts->cache_id;
        e->when_ms = facts->when_ms;
        e->version = facts->version;
        e->n = facts->n;
        e->has_key = facts->key != NULL;
        e->has_text = facts->text.text != NULL;
        e->n_key = (uint8_t)(facts->n_key < STORE_KEY_MAX ? facts->n_key : STORE_KEY_MAX);
        if (facts->key)
                memcpy(e->key, facts->key, e->n_key);
        copy_text(e->cache, &facts->cache, length_of(&facts->cache, STORE_CACHE_NAME_MAX));
        copy_text(e->text, &facts->text, n_text);
        e->pinned = facts->policy && facts->policy->pinned;
        if (facts->policy)
                e->policy = facts->policy->policy;
        return e;
}

struct event *event_ref(struct event *e)
{
        e->refs++;
        return e;
}

struct event *event_unref(struct event *e)
{
        if (e && --e->refs == 0)
                free(e);
        return NULL;
}

/* ---- queues */

static struct queued_event *item_at(const struct event_queue *q, uint32_t i)
{
        return &q->items[(q->first + i) & (q->n_room - 1)];
}

static bool grow(struct event_queue *q)
{
        uint32_t n_room = q->n_room > 0 ? 2 * q->n_room : FIRST_ROOM;
        struct queued_event *items = malloc(n_room * sizeof(*items));

        if (!items)
                return false;
        for (uint32_t i = 0; i < q->n; i++)
                items[i] = *item_at(q, i);
        free(q->items);
        q->items = items;
        q->first = 0;
        q->n_room = n_room;
        return true;
}

void event_queue_push(struct event_queue *q, struct event *e, uint64_t max)
{
        if (!e || q->n >= max || (q->n == q->n_room && !grow(q))) {
                uint64_t *lost = q->n > 0 ? &item_at(q, q->n - 1)->lost : &q->lost;

                (*lost)++;
                return;
        }
        q->n++;
        *item_at(q, q->n - 1) = (struct queued_event){.event = event_ref(e)};
}

bool event_queue_next(const struct event_queue *q, struct event **ret, uint64_t *ret_lost)
{
        if (q->lost == 0 && q->n == 0)
                return false;
        *ret_lost = q->lost;
        *ret = q->lost > 0 ? NULL : item_at(q, 0)->event;
        return true;
}

static void free_ring(struct event_queue *q)
{
        free(q->items);
        q->items = NULL;
        q->first = q->n_room = 0;
}

void event_queue_pop(struct event_queue *q)
{
        struct queued_event *item;

        if (q->lost > 0) {
                q->lost = 0;
                return;
        }
        item = item_at(q, 0);
        event_unref(item->event);
        q->lost = item->lost;
        q->first++;
        if (--q->n == 0)
                free_ring(q);
}

void event_queue_filter(struct event_queue *q, bool (*keep)(void *ctx, const struct event *e),
                        void *ctx)
{
        uint32_t kept = 0;

        for (uint32_t i = 0; i < q->n; i++) {
                struct queued_event item = *item_at(q, i);

                if (keep(ctx, item.event)) {
                        *item_at(q, kept++) = item;
                        continue;
                }
                event_unref(item.event);
                if (kept > 0)
                        item_at(q, kept - 1)->lost += item.lost;
                else
                        q->lost += item.lost;
        }
        q->n = kept;
        if (kept == 0)
                free_ring(q);
}

void event_queue_done(struct event_queue *q)
{
        for (uint32_t i = 0; i < q->n; i++)
                event_unref(item_at(q, i)->event);
        free_ring(q);
        q->n = 0;
        q->lost = 0;
}
