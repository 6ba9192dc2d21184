/* SPDX-License-Identifier: MIT */
#ifndef ARENA_IMAGE_H
#define ARENA_IMAGE_H

/*
 * An arena as a fuzzer's input: a few kilobytes that say what stands in a few megabytes of zeros
 *
 * u32 size of the image, modulo IMAGE_MAX + 1; then pieces until the input ends, little-endian:
 *
 *   IMAGE_BYTES  u32 offset, u16 n, n bytes         what stands in the image there
 *   IMAGE_QUERY  u32 cache, u64 hash of its name, u64 now, u8 n_key - 1 modulo 64, the key
 *                (128 more: the messages, too)
 *   IMAGE_FIND   u64 hash of a cache's name
 *
 * A piece that the input's end cuts is ignored, and so is one that begins with another byte (that
 * byte alone: the next one may begin a piece).
 */

#define IMAGE_MAX   (16u << 20)
#define IMAGE_BYTES 'b'
#define IMAGE_QUERY 'q'
#define IMAGE_FIND  'f'

#endif
