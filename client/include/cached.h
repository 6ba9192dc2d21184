/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#define CACHED_H

/*
 * libcached: the client of `cached`, the cache that all processes of a machine share
 *
 * Everything here is plain C functions on opaque types; no macro or inline is needed, so that any
 * language's foreign function interface can use it.
 *
 * Results: every call that talks to the daemon returns a code: CACHED_OK (0), a status of the daemon
 * (1 to 63, the numbers of proto/status.def) or a failure of the client side (64 and more).
 * cached_strerror() gives the words for any of them. CACHED_NOT_FOUND is an answer, not a failure.
 *
 * Replies: calls take `cached_reply **ret`. NULL: not interested. Else *ret is set on *every* return,
 * also on failure (then it carries the error text), unless memory for it could not be had: then it is
 * NULL and the code is CACHED_ERR_NOMEM. The caller owns it and frees it with cached_reply_free(). A
 * reply refers to nothing but itself: it outlives the handle and may be read from any thread.
 *
 * Threads: a handle may be used from many threads at once. Options, policies, replies and pipelines are
 * used by one thread at a time.
 *
 * The library never exits, prints, raises or handles signals, or changes global state.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library itself is built with hidden visibility */
#endif

typedef struct cached cached;
typedef struct cached_options cached_options;
typedef struct cached_policy cached_policy;
typedef struct cached_set_options cached_set_options;
typedef struct cached_reply cached_reply;
typedef struct cached_pipeline cached_pipeline;

/* Codes. 0 to 63 are the daemon's statuses; 64 and more come from this library. */
#define CACHED_OK 0
#define CACHED_NOT_FOUND 1
#define CACHED_EXISTS 2
#define CACHED_VERSION_MISMATCH 3
#define CACHED_INVALID 4
#define CACHED_TOO_LARGE 5
#define CACHED_NO_SPACE 6
#define CACHED_LIMIT 7
#define CACHED_DENIED 8
#define CACHED_UNSUPPORTED 9
#define CACHED_DEADLINE 10
#define CACHED_NO_MEMORY 11
#define CACHED_SHUTTING_DOWN 12
#define CACHED_PROTOCOL 13
#define CACHED_VERSION 14
#define CACHED_CONFIG 15
#define CACHED_INTERNAL 16
#define CACHED_ERR_UNREACHABLE 64  /* no daemon answers on the socket */
#define CACHED_ERR_TIMEOUT 65      /* the call's deadline passed; a change may or may not have happened */
#define CACHED_ERR_DISCONNECTED 66 /* the connection broke before the reply; likewise */
#define CACHED_ERR_NOMEM 67        /* out of memory in this process */
#define CACHED_ERR_BAD_REPLY 68    /* the daemon's bytes make no sense; the connection was dropped */
#define CACHED_ERR_UNTRUSTED 69    /* the socket's daemon runs as a uid that is not trusted */
#define CACHED_ERR_USAGE 70        /* an argument is wrong; nothing was sent */
#define CACHED_ERR_FORBIDDEN 71    /* the system's socket is there but may not be opened by this user */

#define CACHED_NEVER UINT64_MAX /* a ttl that never ends */

/* Modes of a set. */
#define CACHED_SET_ANY 0
#define CACHED_SET_ADD_ONLY 1
#define CACHED_SET_REPLACE_ONLY 2

/* Encodings of a value. */
#define CACHED_ENCODING_RAW 0
#define CACHED_ENCODING_LZ4 1

/* Fields of a policy, for cached_set_policy(): bits of reset_fields. */
#define CACHED_POLICY_TTL 1u
#define CACHED_POLICY_MAX_ENTRIES 2u
#define CACHED_POLICY_MAX_BYTES 4u

/* ---- handle */

const char *cached_version(void);
const char *cached_strerror(int code);

cached_options *cached_options_new(void);
void cached_options_free(cached_options *o);
int cached_options_set_socket(cached_options *o, const char *path);
int cached_options_set_realm(cached_options *o, const char *realm);
int cached_options_set_client_name(cached_options *o, const char *name);
int cached_options_set_timeout_ms(cached_options *o, uint32_t ms);
int cached_options_set_service_uid(cached_options *o, uint32_t uid);

int cached_new(const cached_options *o, cached **ret);
void cached_free(cached *c);
int cached_connect(cached *c, cached_reply **ret);
const char *cached_socket_path(const cached *c);

/* ---- caches and policies */

cached_policy *cached_policy_new(void);
void cached_policy_free(cached_policy *p);
int cached_policy_set_ttl_ms(cached_policy *p, uint64_t ms);
int cached_policy_set_max_entries(cached_policy *p, uint64_t n);
int cached_policy_set_max_bytes(cached_policy *p, uint64_t n);

int cached_open_cache(cached *c, const char *cache, const cached_policy *p, cached_reply **ret);
int cached_set_policy(cached *c, const char *cache, const cached_policy *p, uint32_t reset_fields, int unpin,
                      cached_reply **ret);

/* ---- entries */

cached_set_options *cached_set_options_new(void);
void cached_set_options_free(cached_set_options *o);
int cached_set_options_set_ttl_ms(cached_set_options *o, uint64_t ms);
int cached_set_options_set_mode(cached_set_options *o, int mode);
int cached_set_options_set_expected_version(cached_set_options *o, uint64_t version);
int cached_set_options_set_flags(cached_set_options *o, uint32_t flags);
int cached_set_options_set_encoding(cached_set_options *o, int encoding, uint64_t raw_size);
int cached_set_options_set_cost_us(cached_set_options *o, uint64_t us);

int cached_get(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret);
int cached_peek(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret);
int cached_get_many(cached *c, const char *cache, size_t n, const void *const *keys, const size_t *n_keys,
                    cached_reply **ret);
int cached_set(cached *c, const char *cache, const void *key, size_t n_key, const void *value, size_t n_value,
               const cached_set_options *o, cached_reply **ret);
int cached_set_many(cached *c, const char *cache, size_t n, const void *const *keys, const size_t *n_keys,
                    const void *const *values, const size_t *n_values, const cached_set_options *o,
                    cached_reply **ret);
int cached_touch(cached *c, const char *cache, const void *key, size_t n_key, uint64_t ttl_ms, int keep_ttl,
                 cached_reply **ret);
int cached_delete(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret);
int cached_clear(cached *c, const char *cache, cached_reply **ret);
int cached_clear_all(cached *c, cached_reply **ret);

/* ---- inspection */

int cached_ping(cached *c, cached_reply **ret);
int cached_list_caches(cached *c, uint32_t page_size, uint64_t cursor, cached_reply **ret);
int cached_list_entries(cached *c, const char *cache, uint32_t page_size, uint64_t cursor, cached_reply **ret);
int cached_explain(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret);
int cached_stats(cached *c, const char *cache, cached_reply **ret);
int cached_list_clients(cached *c, cached_reply **ret);
int cached_get_config(cached *c, cached_reply **ret);
int cached_reload_config(cached *c, cached_reply **ret);

/* ---- replies */

void cached_reply_free(cached_reply *r);
int cached_reply_code(const cached_reply *r);
const char *cached_reply_error(const cached_reply *r);
const void *cached_reply_value(const cached_reply *r, size_t *ret_size);
uint64_t cached_reply_version(const cached_reply *r);
uint64_t cached_reply_ttl_ms(const cached_reply *r);
uint32_t cached_reply_flags(const cached_reply *r);
int cached_reply_encoding(const cached_reply *r);
uint64_t cached_reply_raw_size(const cached_reply *r);
uint64_t cached_reply_cost_us(const cached_reply *r);
uint32_t cached_reply_uid(const cached_reply *r);

size_t cached_reply_n_items(const cached_reply *r);
int cached_reply_item_code(const cached_reply *r, size_t i);
const void *cached_reply_item_value(const cached_reply *r, size_t i, size_t *ret_size);

/*
 * Any field of the reply's result by its path in proto/cached.proto, for example "daemon.uptime_ms",
 * "caches[3].name", "entries[0].entry.version". CACHED_NOT_FOUND: absent, out of range or unset (a
 * oneof member that is not chosen); CACHED_ERR_USAGE: no such path or another type.
 */
int cached_reply_u64(const cached_reply *r, const char *path, uint64_t *ret);
int cached_reply_text(const cached_reply *r, const char *path, const char **ret);
int cached_reply_bytes(const cached_reply *r, const char *path, const void **ret, size_t *ret_size);
size_t cached_reply_count(const cached_reply *r, const char *path);

/* ---- pipelines: many requests in flight, from one thread */

cached_pipeline *cached_pipeline_new(cached *c);
void cached_pipeline_free(cached_pipeline *p);
int cached_pipeline_get(cached_pipeline *p, const char *cache, const void *key, size_t n_key, uint64_t tag);
int cached_pipeline_set(cached_pipeline *p, const char *cache, const void *key, size_t n_key, const void *value,
                        size_t n_value, const cached_set_options *o, uint64_t tag);
int cached_pipeline_delete(cached_pipeline *p, const char *cache, const void *key, size_t n_key, uint64_t tag);
int cached_pipeline_flush(cached_pipeline *p);
size_t cached_pipeline_in_flight(const cached_pipeline *p);
int cached_pipeline_next(cached_pipeline *p, uint64_t *ret_tag, cached_reply **ret);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
