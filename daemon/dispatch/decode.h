/* SPDX-License-Identifier: MIT */
#ifndef DECODE_H
#define DECODE_H

/*
 * Decode: fields of requests into arguments of services. See decode.c.
 *
 * Everything comes from messages that were unpacked with the dispatcher's bump allocator.
 */

#include <stddef.h>
#include <stdint.h>

#include "dispatch/dispatcher.h"
#include "services/policy.h"

/* The length of a string field, zero bytes inside included. */
size_t decode_length(const char *text);

enum status decode_cache(struct request *r, uint32_t id, const char *name, struct cache_ref *ret);
/* A name, not an id: for requests that may create the cache. */
enum status decode_cache_name(struct request *r, const char *name, struct cache_ref *ret);
enum status decode_tag(struct request *r, const char *tag, struct store_text *ret);
enum status decode_key(struct request *r, const ProtobufCBinaryData *key, struct key_ref *ret);

/* What Set and Touch have in common; TTL_POLICY where the request has none. */
enum status decode_ttl(struct request *r, bool has_ms, uint64_t ttl_ms, bool has_never, bool never,
                       uint64_t *ret);

/* All of @set but its cache, with a value of @n_value bytes (which is not set). */
enum status decode_set(struct request *r, const Cached__V1__Set *set, uint64_t n_value,
                       struct store_put *ret);

/* When the value is there: is it what an entry with these marks may say? */
enum status decode_marked(struct request *r, const struct store_put *put);

/* @policy NULL: nothing is set. */
enum status decode_policy(struct request *r, const Cached__V1__Policy *policy,
                          struct store_policy *ret, struct policy_fields *ret_set);

/* 0 stands for the largest allowed. */
uint32_t decode_page_size(const struct request *r, uint32_t page_size);

#endif
