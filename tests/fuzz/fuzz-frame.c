/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: frame headers
 *
 * A header that passes the check promises lengths within the limits, whose sum cannot overflow;
 * writing it again yields the same twelve bytes.
 */

#include <assert.h>
#include <string.h>

#include "fuzz.h"
#include "proto/frame.h"

#define MAX_MESSAGE (UINT64_C(1) << 20)
#define MAX_BODY    (UINT64_C(1) << 30)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        uint8_t again[FRAME_HEADER_SIZE];

        for (; n >= FRAME_HEADER_SIZE; data++, n--) {
                struct frame_header h = frame_header_read(data);
                const char *wrong = frame_header_check(h, MAX_MESSAGE, MAX_BODY);

                frame_header_write(again, h.n_message, h.n_body);
                assert(memcmp(again, data, FRAME_HEADER_SIZE) == 0);
                assert((wrong == NULL) ==
                       (h.n_message >= 1 && h.n_message <= MAX_MESSAGE && h.n_body <= MAX_BODY));
        }
        return 0;
}
