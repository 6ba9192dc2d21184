/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_PREPARED_H
#define CLIENT_PREPARED_H

/*
 * Buffers that were made ahead: their pages are there, so that to fill one costs no faults. Bounded
 * by bytes. Part of a pool, and under its guard.
 */

#include <stdbool.h>
#include <stdint.h>

struct cached_buffer;

/* Zeroed memory: none. */
struct prepared {
        uint64_t max_bytes;
        uint64_t n_bytes; /* also of those that are being made */
        struct cached_buffer *first;
};

void prepared_done(struct prepared *p);
/* All that there are, to be freed elsewhere. */
struct prepared prepared_take_all(struct prepared *p);
/* In a child; @is_whole: as pool_inherit(). */
void prepared_inherit(struct prepared *p, bool is_whole);

/* How many of a size class there are. */
uint64_t prepared_count(const struct prepared *p, uint64_t n_class);
/* Room for one more, which is then counted. */
bool prepared_reserve(struct prepared *p, uint64_t n_class);
void prepared_unreserve(struct prepared *p, uint64_t n_class);
/* One that room was reserved for. */
void prepared_put(struct prepared *p, struct cached_buffer *b);
/* NULL: none of that class. */
struct cached_buffer *prepared_take(struct prepared *p, uint64_t n_class);

#endif
