/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_KEY_BYTES_H
#define CLIENT_KEY_BYTES_H

/* Numbers as they enter a key: fixed width, little-endian. */

#include "client/key-hash.h"

static inline void key_bytes_uint(struct key_hash *h, uint64_t value, size_t n_bytes)
{
        uint8_t bytes[8];

        for (size_t i = 0; i < n_bytes; i++)
                bytes[i] = (uint8_t)(value >> (8 * i));
        key_hash_add(h, bytes, n_bytes);
}

static inline void key_bytes_u64(struct key_hash *h, uint64_t value)
{
        key_bytes_uint(h, value, 8);
}

static inline void key_bytes_u32(struct key_hash *h, uint32_t value)
{
        key_bytes_uint(h, value, 4);
}

static inline void key_bytes_u8(struct key_hash *h, uint8_t value)
{
        key_bytes_uint(h, value, 1);
}

#endif
