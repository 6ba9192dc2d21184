/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_OPTIONS_H
#define CLIENT_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "client/lease-options.h"
#include "proto/cached.pb-c.h"

#define SESSION_TOKEN_SIZE 16

#define OPTIONS_DEFAULT_TIMEOUT_MS      5000
#define OPTIONS_DEFAULT_MAX_CONNECTIONS 4
#define OPTIONS_DEFAULT_WAIT_MS         250
#define OPTIONS_DEFAULT_PREPARED_BYTES  (UINT64_C(256) << 20)

struct cached_options {
        char *socket;      /* NULL: found out */
        char *realm;       /* NULL: the user's own */
        char *client_name; /* NULL: the program's name */
        uint32_t timeout_ms;
        uint32_t max_connections;
        uint32_t service_uid;
        bool has_service_uid;
        uint64_t pack_min;       /* smaller values are not packed; 0: none are */
        bool keep_encoded;       /* values come as they were stored */
        bool own_values;         /* values of replies may be written to */
        bool no_map;             /* every look-up goes over the socket */
        uint32_t n_views;        /* are kept for the next look */
        uint64_t prepared_bytes; /* in buffers that are ready, at most */
        bool no_spin;            /* replies are waited for asleep */
        bool spins;              /* a handle's: they are not, and there are processors for it */
        char *warm;              /* a handle's: $CACHED_WARM; NULL: not set */
        bool has_session;        /* a handle's: its caches are this session's own */
        uint8_t session[SESSION_TOKEN_SIZE];
};

struct cached_policy {
        bool has_ttl, has_max_entries, has_max_bytes;
        uint64_t ttl_ms, max_entries, max_bytes;
        /* 0: not set. */
        uint64_t stale_for_ms, stale_if_error_ms;
        uint32_t refresh_ahead_permille, expire_jitter_permille;
};

struct cached_set_options {
        bool has_ttl, has_expected_version;
        uint64_t ttl_ms; /* CACHED_NEVER: never */
        uint64_t expected_version;
        uint64_t raw_size, cost_us;
        uint32_t flags;
        int mode, encoding;
        bool is_negative;
        char **tags; /* owned */
        size_t n_tags;
        uint8_t *messages; /* as they travel; owned */
        size_t n_messages;
        /* Set by the library alone. */
        uint64_t lease_id; /* 0: none */
        bool share_only;
        /* Likewise; borrowed. */
        bool is_vary;
        const uint8_t *variant_of;
        size_t n_variant_of;
};

struct cached_memo_options {
        char *version; /* NULL: the build-id */
        char *cache;   /* NULL: the function's name */
        bool has_ttl;
        uint64_t ttl_ms;
        uint32_t wait_ms; /* 0: the handle's timeout */
        struct cached_lease_options lease;
        cached_on_message on_message; /* NULL: none */
        void *on_message_data;
};

void options_done(struct cached_options *o);
/* False: out of memory; *ret is then untouched. `o` may be NULL: the defaults. */
bool options_copy(const struct cached_options *o, struct cached_options *ret);

/* What a handle takes from its process's environment. False: out of memory. */
bool options_read_environment(struct cached_options *o);

/* NULL in, nothing set out. */
void policy_to_message(const struct cached_policy *p, Cached__V1__Policy *ret);
/* All fields but cache, cache_id and key. Points at what `o` owns. */
void set_options_to_message(const struct cached_set_options *o, Cached__V1__Set *ret);
/* Whether the library may pack the value: it is neither packed already nor to be read by the
 * daemon.
 */
bool set_options_are_plain(const struct cached_set_options *o);
/* What goes behind each value; 0 bytes: nothing. */
struct iovec set_options_messages(const struct cached_set_options *o);
/* The arguments of a touch. */
void touch_ttl_to_message(uint64_t ttl_ms, int keep_ttl, Cached__V1__Touch *ret);

#endif
