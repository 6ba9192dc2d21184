/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_LEASE_OPTIONS_H
#define CLIENT_LEASE_OPTIONS_H

#include <cached.h>
#include <stdbool.h>
#include <stdint.h>

struct cached_lease_options {
        uint64_t wait_ms; /* CACHED_NEVER: no end */
        uint32_t hold_ms;
        bool refresh, want_failure;
        cached_waiting waiting;
        void *data;
        uint32_t every_ms;
        const struct cached_lease *outer;
};

#endif
