/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_REPLY_H
#define CACHED_REPLY_H

/*
 * Replies: what came back from a call
 *
 * Most calls have a place for one. It tells the code, an error in words, the value if there is one,
 * and every field of the daemon's message by its path (cached_reply_u64() and the like).
 *
 * Threads: one is read by any one thread at a time, also after its handle is gone. Fork: plain
 * memory.
 */

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/*
 * cached_reply_free() - frees a reply and all that was read from it
 * @r:  may be NULL
 */
void cached_reply_free(cached_reply *r);

/*
 * cached_reply_code() - the code that the call returned
 * @r:  NULL: there was no memory for it
 *
 * Return: a code; CACHED_ERR_NOMEM if @r is NULL.
 */
int cached_reply_code(const cached_reply *r);

/*
 * cached_reply_error() - one sentence for people: what is wrong and what to do
 * @r:  may be NULL
 *
 * Return: never NULL, valid until cached_reply_free(); "" after CACHED_OK, and mostly after
 * CACHED_NOT_FOUND. After CACHED_NEGATIVE the reason that the entry's writer gave.
 */
const char *cached_reply_error(const cached_reply *r);

/*
 * cached_reply_value() - the value that a get found
 * @r:         may be NULL
 * @ret_size:  bytes; untouched if there is no value; may be NULL
 *
 * Return: owned by the reply, valid until cached_reply_free(); not NULL for an empty value. NULL:
 * not a get, or no hit.
 */
const void *cached_reply_value(const cached_reply *r, size_t *ret_size);

/*
 * cached_reply_own_value() - the value that a get found, for who changes it
 * @r:         of a handle with cached_options_set_own_values(); may be NULL
 * @ret_size:  bytes; untouched if NULL is returned; may be NULL
 *
 * Return: as cached_reply_value(); what is written there is seen in this reply alone. NULL also
 * where the value is shown in place and may only be read.
 */
void *cached_reply_own_value(cached_reply *r, size_t *ret_size);

/*
 * cached_reply_version() - the version of the entry that was found, stored or touched
 * @r:  may be NULL
 *
 * Return: a number that grows with each store of the realm; 0: the reply has no entry.
 */
uint64_t cached_reply_version(const cached_reply *r);

/*
 * cached_reply_ttl_ms() - how long the entry still lives
 * @r:  may be NULL
 *
 * Return: milliseconds from when the daemon answered; CACHED_NEVER; 0: the reply has no entry.
 */
uint64_t cached_reply_ttl_ms(const cached_reply *r);

/*
 * cached_reply_fresh_ms() - how long the entry is still fresh
 * @r:  may be NULL
 *
 * Return: milliseconds from when the daemon answered; as cached_reply_ttl_ms() where the entry is
 * never stale; 0: it is stale, or the reply has no entry.
 */
uint64_t cached_reply_fresh_ms(const cached_reply *r);

/*
 * cached_reply_is_stale() - whether the entry's TTL has passed
 * @r:  may be NULL
 *
 * A policy may have entries served for some time after that, so that nobody waits while one caller
 * computes the value anew.
 *
 * Return: 1: it has, and the value is served all the same; 0: it has not, or the reply has no
 * entry.
 */
int cached_reply_is_stale(const cached_reply *r);

/*
 * cached_reply_flags() - the flags that the entry was stored with
 * @r:  may be NULL
 *
 * Return: 0 also if the reply has no entry.
 */
uint32_t cached_reply_flags(const cached_reply *r);

/*
 * cached_reply_encoding() - how the value is encoded
 * @r:  may be NULL
 *
 * Return: CACHED_ENCODING_RAW (also if the reply has no entry, and for what was decoded),
 * CACHED_ENCODING_LZ4, or one that this library does not know yet.
 */
int cached_reply_encoding(const cached_reply *r);

/*
 * cached_reply_raw_size() - the size of the value after decoding, as its writer said
 * @r:  may be NULL
 *
 * Return: bytes; the stored size if it is not encoded; 0: the reply has no entry. Not to be trusted
 * with memory: a writer may have lied.
 */
uint64_t cached_reply_raw_size(const cached_reply *r);

/*
 * cached_reply_cost_us() - what computing the value took, as its writer said
 * @r:  may be NULL
 *
 * Return: microseconds; 0: unknown, or the reply has no entry.
 */
uint64_t cached_reply_cost_us(const cached_reply *r);

/*
 * cached_reply_uid() - who stored the entry
 * @r:  may be NULL
 *
 * Return: a uid; UINT32_MAX: the reply has no entry.
 */
uint32_t cached_reply_uid(const cached_reply *r);

/*
 * cached_reply_n_items() - how many items a get_many or set_many was answered with
 * @r:  may be NULL
 *
 * Return: as many as keys were sent; 0: another reply, or a failure.
 */
size_t cached_reply_n_items(const cached_reply *r);

/*
 * cached_reply_item_code() - the code of one item
 * @r:  may be NULL
 * @i:  from 0
 *
 * Return: a status of the daemon, CACHED_OK or another; CACHED_ERR_USAGE: there is no item @i.
 */
int cached_reply_item_code(const cached_reply *r, size_t i);

/*
 * cached_reply_item_value() - the value of one item of a get_many
 * @r:         may be NULL
 * @i:         from 0
 * @ret_size:  bytes; untouched if there is no value; may be NULL
 *
 * Its other fields: cached_reply_u64() with "items[I].entry.version" and so on.
 *
 * Return: owned by the reply, valid until cached_reply_free(); not NULL for an empty value. NULL:
 * no such item, or no hit.
 */
const void *cached_reply_item_value(const cached_reply *r, size_t i, size_t *ret_size);

/*
 * Any field of the reply's result by its path in proto/cached.proto, for example
 * "daemon.uptime_ms", "caches[3].name", "entries[0].entry.version". CACHED_NOT_FOUND: absent, out
 * of range or unset (a oneof member that is not chosen, a message that is not there), or the reply
 * has no result at all; CACHED_ERR_USAGE: no such path or another type. A plain field that is not
 * on the wire is 0 or "".
 */

/*
 * cached_reply_u64() - a number, an enum or a bool
 * @r:     may be NULL
 * @path:  any string
 * @ret:   untouched on failure
 *
 * Return: CACHED_OK, CACHED_NOT_FOUND, CACHED_ERR_USAGE; see above.
 */
int cached_reply_u64(const cached_reply *r, const char *path, uint64_t *ret);

/*
 * cached_reply_text() - a string, or the name of an enum's value
 * @r:     may be NULL
 * @path:  any string
 * @ret:   UTF-8 as far as its writer kept to it; valid until cached_reply_free(); untouched on
 *         failure
 *
 * Return: CACHED_OK, CACHED_NOT_FOUND (also an enum's value without a name), CACHED_ERR_USAGE; see
 * above.
 */
int cached_reply_text(const cached_reply *r, const char *path, const char **ret);

/*
 * cached_reply_bytes() - a field of bytes
 * @r:         may be NULL
 * @path:      any string
 * @ret:       never NULL on success, valid until cached_reply_free(); untouched on failure
 * @ret_size:  bytes; untouched on failure
 *
 * Return: CACHED_OK, CACHED_NOT_FOUND, CACHED_ERR_USAGE; see above.
 */
int cached_reply_bytes(const cached_reply *r, const char *path, const void **ret, size_t *ret_size);

/*
 * cached_reply_count() - how many elements a repeated field has
 * @r:     may be NULL
 * @path:  any string; without an index at its end
 *
 * Return: the number; for a field that is not repeated 1 if it is there; 0: none, or no such path.
 */
size_t cached_reply_count(const cached_reply *r, const char *path);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
