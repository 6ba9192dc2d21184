/* SPDX-License-Identifier: MIT */
#ifndef BUCKET_H
#define BUCKET_H

/*
 * One bucket of the index: its slots, and the write side of the protocol with mapped readers
 */

#include "proto/layout.h"

typedef struct arena_bucket bucket_t;

static inline uint32_t slot_handle(const bucket_t *b, unsigned i)
{
        return atomic_load_explicit(&b->handle[i], memory_order_relaxed);
}

static inline uint16_t slot_tag(const bucket_t *b, unsigned i)
{
        return atomic_load_explicit(&b->tag[i], memory_order_relaxed);
}

static inline void write_begin(bucket_t *b)
{
        uint64_t seq = atomic_load_explicit(&b->seq, memory_order_relaxed);

        atomic_store_explicit(&b->seq, seq + 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_release);
}

static inline void write_end(bucket_t *b)
{
        uint64_t seq = atomic_load_explicit(&b->seq, memory_order_relaxed);

        atomic_store_explicit(&b->seq, seq + 1, memory_order_release);
}

/* Between write_begin() and write_end(). */
static inline void slot_set(bucket_t *b, unsigned i, uint16_t tag, uint32_t handle)
{
        atomic_store_explicit(&b->tag[i], tag, memory_order_relaxed);
        atomic_store_explicit(&b->handle[i], handle, memory_order_relaxed);
}

#endif
