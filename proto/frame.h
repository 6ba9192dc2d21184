/* SPDX-License-Identifier: MIT */
#ifndef FRAME_H
#define FRAME_H

/*
 * The frame header, see PROTOCOL.md: u32 message length, u64 body length, little-endian. Pure.
 */

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define FRAME_HEADER_SIZE 12

struct frame_header {
        uint32_t n_message;
        uint64_t n_body;
};

static inline void frame_header_write(uint8_t out[FRAME_HEADER_SIZE], uint32_t n_message,
                                      uint64_t n_body)
{
        for (int i = 0; i < 4; i++)
                out[i] = (uint8_t)(n_message >> (8 * i));
        for (int i = 0; i < 8; i++)
                out[4 + i] = (uint8_t)(n_body >> (8 * i));
}

static inline struct frame_header frame_header_read(const uint8_t in[FRAME_HEADER_SIZE])
{
        struct frame_header h = {0, 0};
        for (int i = 0; i < 4; i++)
                h.n_message |= (uint32_t)in[i] << (8 * i);
        for (int i = 0; i < 8; i++)
                h.n_body |= (uint64_t)in[4 + i] << (8 * i);
        return h;
}

/* NULL: fine. Else a sentence that says what is wrong. */
static inline const char *frame_header_check(struct frame_header h, uint64_t max_message,
                                             uint64_t max_body)
{
        if (h.n_message == 0)
                return "a frame without a message: its first 4 bytes, the message length, are 0";
        if (h.n_message > max_message)
                return "the frame's message is longer than max_message_bytes: is this peer "
                       "speaking "
                       "another protocol? A value belongs into the frame's body";
        if (h.n_body > max_body)
                return "the frame's body is longer than max_value_bytes";
        return NULL;
}

#endif
