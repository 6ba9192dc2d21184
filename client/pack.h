/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_PACK_H
#define CLIENT_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Smaller values are left as they are, unless the program says otherwise. */
#define PACK_DEFAULT_MIN 4096
/* What daemons take when nobody configures them, for before ours has said so. */
#define PACK_DEFAULT_MAX (UINT64_C(4) << 20)

/* Which values are tried, by their size in bytes. */
struct packing {
        uint64_t min; /* 0: none */
        uint64_t max;
};

/* A value as one LZ4 block, shorter by an eighth at least. */
struct packed {
        void *bytes; /* owned */
        size_t n;
};

/* The size of the block that was made in `to`, which has room for `n` bytes; 0: it is not worth it,
 * and `to` holds nothing in particular. */
size_t pack_to(struct packing which, const void *value, size_t n, void *to);
/* The same in memory of its own. False: the value is sent as it is, for whatever reason; there is
 * nothing to free then. */
bool packed_init(struct packed *p, struct packing which, const void *value, size_t n);
void packed_done(struct packed *p);

/* Whether a block of @n bytes may be as long as that when unpacked: no memory is wasted on a lie.
 */
bool pack_is_possible(size_t n, uint64_t raw_size);
/* False: it does not unpack to exactly @raw_size bytes. @to has room for them. */
bool pack_undo(const void *bytes, size_t n, uint8_t *to, uint64_t raw_size);

#endif
