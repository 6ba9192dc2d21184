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
#define WIRE_NEGATIVE_MAX   1024
#define WIRE_INPUT_NAME_MAX 128
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
/* Of sessions. */
#define WIRE_SESSION_KEY_MAX      128
#define WIRE_SESSION_LABEL_MAX    64
#define WIRE_SESSION_GRACE_MS_MAX (UINT64_C(3600) * 1000)
const char *wire_session_key_fault(const char *key, size_t n);
const char *wire_session_label_fault(const char *label, size_t n);
/* Fields of a policy, where 0 is none. */
const char *wire_stale_for_fault(uint64_t ms);
const char *wire_stale_if_error_fault(uint64_t ms);
const char *wire_refresh_ahead_fault(uint64_t permille);
const char *wire_expire_jitter_fault(uint64_t permille);
/* What stands for a value that there is not; and the name of an input. */
const char *wire_negative_fault(const char *text, size_t n);
const char *wire_input_name_fault(const char *name, size_t n);

/* Why a lease was given up; how far its computation is. */
#define WIRE_REASON_MAX   1024
#define WIRE_PROGRESS_MAX 256
const char *wire_reason_fault(const char *text, size_t n);
const char *wire_progress_fault(const char *text, size_t n);

/*
 * How many bytes of @text, from its beginning, are whole characters of UTF-8: shortest form, no
 * surrogates, up to U+10FFFF. Control characters count.
 */
size_t wire_utf8_prefix(const char *text, size_t n);

#endif
