/* SPDX-License-Identifier: MIT */
#ifndef WIRE_H
#define WIRE_H

/*
 * The ranges that PROTOCOL.md gives for names, keys and times. Pure.
 *
 * Each check returns NULL, or a sentence that says what is wrong and what to do.
 */

#include <stddef.h>
#include <stdint.h>

#define WIRE_KEY_MAX        64
#define WIRE_CACHE_NAME_MAX 128
#define WIRE_CLIENT_MAX     64
#define WIRE_REALM_MAX      128
#define WIRE_TAG_MAX        128
#define WIRE_TAGS_MAX       8                                       /* of an entry */
#define WIRE_TTL_MS_MAX     (UINT64_C(10) * 365 * 24 * 3600 * 1000) /* 10 years of 365 days */

/* @n: what the peer sent, also where it has zero bytes inside. */
const char *wire_cache_name_fault(const char *name, size_t n);
const char *wire_client_name_fault(const char *name, size_t n);
const char *wire_realm_name_fault(const char *name, size_t n);
const char *wire_tag_fault(const char *tag, size_t n);
const char *wire_key_fault(size_t n);
const char *wire_ttl_fault(uint64_t ttl_ms);

/*
 * How many bytes of @text, from its beginning, are whole characters of UTF-8: shortest form, no
 * surrogates, up to U+10FFFF. Control characters count.
 */
size_t wire_utf8_prefix(const char *text, size_t n);

#endif
