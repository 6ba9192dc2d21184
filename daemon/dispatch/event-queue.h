/* SPDX-License-Identifier: MIT */
#ifndef EVENT_QUEUE_H
#define EVENT_QUEUE_H

/*
 * Events on their way to one subscriber. See event-queue.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cached.pb-c.h"
#include "store/store.h"

#define EVENT_TEXT_MAX 1024u

/* What happened; all pointers are borrowed. Fields that the kind has not are 0. */
struct event_facts {
        Cached__V1__EventKind kind;
        struct store_text cache; /* empty: all caches */
        const void *key;         /* of an entry; of CLEARED: the prefix, or NULL */
        size_t n_key;
        /* Of CLEARED: the tag; of REFRESH: the schedule's name; of RESOURCE_LEFT: the reason. */
        struct store_text text;
        uint64_t when_ms;
        uint64_t version; /* of RESOURCE_*: the instance */
        uint64_t n;       /* of STORED: bytes; of CLEARED: entries; of LEFT: holders */
        Cached__V1__Fate cause;
        Cached__V1__ResourceKind resource;     /* of RESOURCE_* */
        Cached__V1__ResourceCause left;        /* of RESOURCE_LEFT */
        uint32_t cache_id;                     /* of POLICY */
        const struct store_cache_info *policy; /* likewise: name and what is in force */
};

/* The same, kept for all who wait for it. */
struct event {
        unsigned refs;
        bool has_key, has_text, pinned;
        uint8_t n_key;
        Cached__V1__EventKind kind;
        Cached__V1__Fate cause;
        Cached__V1__ResourceKind resource;
        Cached__V1__ResourceCause left;
        uint32_t cache_id;
        uint64_t when_ms, version, n;
        struct store_policy policy;
        char cache[STORE_CACHE_NAME_MAX + 1];
        uint8_t key[STORE_KEY_MAX];
        char text[]; /* of at most EVENT_TEXT_MAX bytes */
};

/* The first ref is the caller's. NULL: no memory. */
struct event *event_new(const struct event_facts *facts);
struct event *event_ref(struct event *e);
struct event *event_unref(struct event *e); /* NULL is fine; returns NULL */

struct queued_event {
        struct event *event;
        uint64_t lost; /* that came after it and before the next one */
};

/* Zero is an empty one. */
struct event_queue {
        struct queued_event *items; /* a ring */
        uint32_t first, n, n_room;
        uint64_t lost; /* before the first one */
};

/* Adds a ref of @e, or counts it as lost: @e is NULL, there are @max already, or no memory. */
void event_queue_push(struct event_queue *q, struct event *e, uint64_t max);

/* What comes next: so many lost ones; or, if that is 0, the event, which is the queue's. False: it
 * is empty. */
bool event_queue_next(const struct event_queue *q, struct event **ret, uint64_t *ret_lost);
/* That was told. */
void event_queue_pop(struct event_queue *q);

/* Leaves only what @keep says; who is left keeps its place. */
void event_queue_filter(struct event_queue *q, bool (*keep)(void *ctx, const struct event *e),
                        void *ctx);

void event_queue_done(struct event_queue *q);

#endif
