/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_PIPELINE_H
#define CACHED_PIPELINE_H

/*
 * Pipelines: many requests in flight, from one thread
 *
 *         for (i = 0; i < n; i++)
 *                 code = cached_pipeline_get(p, "thumbnails", key[i], n_key[i], i);
 *         while (cached_pipeline_in_flight(p) > 0) {
 *                 code = cached_pipeline_next(p, &i, &reply);
 *                 show(i, code, reply);
 *                 cached_reply_free(reply);
 *         }
 *
 * The order of the replies is not that of the requests: each has the number that its request was
 * given.
 */

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library itself is built with hidden visibility */
#endif

typedef struct cached_pipeline cached_pipeline; /* many requests in flight, one thread */

/* ---- pipelines that wait */

/*
 * cached_pipeline_new() - a pipeline with a connection of its own, which the first request makes
 * @c:  its options are used; it must outlive the pipeline
 *
 * Each request that a pipeline accepts comes out of cached_pipeline_next() exactly once. A pipeline
 * is used by one thread at a time, independent of the handle; several pipelines of a handle do not
 * disturb each other. It repeats nothing by itself, and does not survive a fork.
 *
 * Caches that the handle has opened with cached_open_cache() travel as numbers: shorter and faster.
 *
 * Return: owned by the caller, freed with cached_pipeline_free(); NULL: out of memory, or @c is
 * NULL.
 */
cached_pipeline *cached_pipeline_new(cached *c);

/*
 * cached_pipeline_free() - closes the connection and frees what was not collected
 * @p:  may be NULL. What was not answered yet may or may not happen; what was not sent does not
 */
void cached_pipeline_free(cached_pipeline *p);

/*
 * cached_pipeline_get() - asks for an entry
 * @p:      by one thread at a time
 * @cache:  borrowed for the call
 * @key:    @n_key bytes, borrowed for the call
 * @tag:    comes back with the reply; any number
 *
 * It is sent when enough has gathered, or when the pipeline waits. Where as many are in flight as
 * the daemon takes, replies are awaited and kept for cached_pipeline_next(); whoever never calls
 * that gathers them.
 *
 * Return: CACHED_OK: accepted. Else it was not, and its tag does not come back: CACHED_ERR_USAGE,
 * CACHED_ERR_NOMEM; CACHED_TOO_LARGE; CACHED_LIMIT: 65536 losses are not collected yet;
 * CACHED_ERR_AGAIN: a pipeline that does not wait is full; or, while connecting or waiting, one of
 * the common codes.
 */
int cached_pipeline_get(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                        uint64_t tag);

/*
 * cached_pipeline_set() - stores an entry
 * @p:      by one thread at a time
 * @cache:  borrowed for the call, as all pointers
 * @key:    @n_key bytes
 * @value:  @n_value bytes; a small one is copied, a large one sent before the call returns
 * @o:      NULL: the defaults
 * @tag:    comes back with the reply; any number
 *
 * Return: as cached_pipeline_get(); CACHED_UNSUPPORTED: the daemon is too old for what @o asks
 * for. Where that is not known yet cached_pipeline_next() tells.
 */
int cached_pipeline_set(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                        const void *value, size_t n_value, const cached_set_options *o,
                        uint64_t tag);

/*
 * cached_pipeline_delete() - removes an entry
 * @p:      by one thread at a time
 * @cache:  borrowed for the call
 * @key:    @n_key bytes, borrowed for the call
 * @tag:    comes back with the reply; any number
 *
 * Return: as cached_pipeline_get().
 */
int cached_pipeline_delete(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                           uint64_t tag);

/*
 * cached_pipeline_peek() - asks for an entry, without counting as a use, a hit or a miss
 * @p:      by one thread at a time
 * @cache:  borrowed for the call
 * @key:    @n_key bytes, borrowed for the call
 * @tag:    comes back with the reply; any number
 *
 * Return: as cached_pipeline_get().
 */
int cached_pipeline_peek(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                         uint64_t tag);

/*
 * cached_pipeline_touch() - uses an entry, and may give it a new time to live; see cached_touch()
 * @p:         by one thread at a time
 * @cache:     borrowed for the call
 * @key:       @n_key bytes, borrowed for the call
 * @ttl_ms:    milliseconds from now, 1 to 10 years, or CACHED_NEVER
 * @keep_ttl:  not 0: @ttl_ms is ignored, the time to live stays
 * @tag:       comes back with the reply; any number
 *
 * Return: as cached_pipeline_get().
 */
int cached_pipeline_touch(cached_pipeline *p, const char *cache, const void *key, size_t n_key,
                          uint64_t ttl_ms, int keep_ttl, uint64_t tag);

/*
 * cached_pipeline_get_many() - asks for several entries of one cache; see cached_get_many()
 * @p:       by one thread at a time
 * @cache:   borrowed for the call, as all pointers
 * @n:       how many; the daemon's limit is HelloResult's max_keys_per_request
 * @keys:    @n pointers; may be NULL if @n is 0
 * @n_keys:  @n lengths in bytes; may be NULL if @n is 0
 * @tag:     comes back with the one reply to all of them; any number
 *
 * Return: as cached_pipeline_get().
 */
int cached_pipeline_get_many(cached_pipeline *p, const char *cache, size_t n,
                             const void *const *keys, const size_t *n_keys, uint64_t tag);

/*
 * cached_pipeline_set_many() - stores several entries of one cache; see cached_set_many()
 * @p:         by one thread at a time
 * @cache:     borrowed for the call, as all pointers
 * @n:         how many; the daemon's limit is HelloResult's max_keys_per_request
 * @keys:      @n pointers; may be NULL if @n is 0, as the other three
 * @n_keys:    @n lengths in bytes
 * @values:    @n pointers; each may be NULL if its length is 0; small ones are copied, large ones
 *             sent before the call returns
 * @n_values:  @n lengths in bytes; together at most HelloResult's max_value_bytes
 * @o:         for all of them; NULL: the defaults
 * @tag:       comes back with the one reply to all of them; any number
 *
 * Return: as cached_pipeline_get().
 */
int cached_pipeline_set_many(cached_pipeline *p, const char *cache, size_t n,
                             const void *const *keys, const size_t *n_keys,
                             const void *const *values, const size_t *n_values,
                             const cached_set_options *o, uint64_t tag);

/*
 * cached_pipeline_flush() - sends what has gathered
 * @p:  by one thread at a time
 *
 * Only needed to have requests on their way while doing something else: cached_pipeline_next() does
 * it when it would have to wait.
 *
 * Return: CACHED_OK; or why the connection broke, which each request will tell again as it is
 * collected; CACHED_ERR_USAGE: @p is NULL.
 */
int cached_pipeline_flush(cached_pipeline *p);

/*
 * cached_pipeline_in_flight() - requests that were accepted and not collected yet
 * @p:  by one thread at a time; may be NULL
 *
 * Return: how often cached_pipeline_next() can be called until nothing is left.
 */
size_t cached_pipeline_in_flight(const cached_pipeline *p);

/*
 * cached_pipeline_next() - collects one request: whichever reply comes next
 * @p:        by one thread at a time
 * @ret_tag:  whose it is; may be NULL
 * @ret:      its reply, owned by the caller; NULL: not interested
 *
 * When the connection breaks or nothing comes within the handle's timeout, every request in flight
 * is lost, and comes out of this call one by one with that code. Requests that follow make a new
 * connection.
 *
 * Return: the request's code: what cached_get(), cached_set() and so on would have returned,
 * CACHED_ERR_NOMEM if there was no memory for its reply. CACHED_ERR_USAGE: nothing is in flight;
 * then @ret_tag is untouched, and *ret is a reply that says so. From a pipeline that does not wait,
 * CACHED_ERR_AGAIN: nothing has finished, or nothing is in flight; then @ret_tag is untouched and
 * *ret is NULL.
 */
int cached_pipeline_next(cached_pipeline *p, uint64_t *ret_tag, cached_reply **ret);

/*
 * ---- pipelines that do not wait, in an event loop of the caller's
 *
 * A pipeline made by cached_pipeline_new_nonblocking() never waits, in no call: not to connect, to
 * send, to receive. All there is to do is
 *
 *   1. to have the loop wait for cached_pipeline_fd() to become readable (level-triggered, which
 *      is what poll(), epoll and libevent do unless told otherwise). It is one descriptor for the
 *      whole life of the pipeline, whatever becomes of its connections, and it has the deadline in
 *      it: no timer is needed, and nothing to be registered anew;
 *   2. when it is readable, to call cached_pipeline_dispatch(), and then cached_pipeline_next()
 *      until that returns CACHED_ERR_AGAIN;
 *   3. to take it out of the loop before cached_pipeline_free(), which closes it.
 *
 * Requests may be made at any time, also while results are collected. They leave with the next
 * dispatch, for which the descriptor becomes readable at once; cached_pipeline_flush() saves that
 * turn of the loop. client/examples/ has a loop of poll() and one of libevent.
 *
 * What else is different from a pipeline that waits: requests are accepted before there is a
 * connection, and beyond what the daemon takes at a time; values of any size are copied. Where the
 * connection fails at once, a request is refused with that code; where it fails later, or where the
 * request turns out to be too large, it was accepted and comes out with its failure. When 65536
 * requests or 64 MiB of them wait, the code is CACHED_ERR_AGAIN: collect first. The handle's
 * timeout is how long the next reply may take.
 */

/*
 * cached_pipeline_new_nonblocking() - a pipeline that never waits
 * @c:    its options are used; it must outlive the pipeline
 * @ret:  owned by the caller, freed with cached_pipeline_free(); untouched on failure
 *
 * Beside its connection it has two descriptors, from the start.
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM: no memory or no descriptors; CACHED_ERR_USAGE: @c or @ret is
 * NULL.
 */
int cached_pipeline_new_nonblocking(cached *c, cached_pipeline **ret);

/*
 * cached_pipeline_fd() - the descriptor to wait for
 * @p:  by one thread at a time; may be NULL
 *
 * Readable when cached_pipeline_dispatch() has something to do; never to be read, written or
 * closed. It says nothing about results that were not collected after the last dispatch.
 *
 * Return: the same number until cached_pipeline_free(), which closes it; -1: @p is NULL, or one
 * that waits.
 */
int cached_pipeline_fd(const cached_pipeline *p);

/*
 * cached_pipeline_wants() - what the requests in flight wait for
 * @p:  by one thread at a time; may be NULL
 *
 * The descriptor covers both already: nothing has to be registered for writing. It is for those who
 * make requests: while CACHED_WANT_WRITE is set after a dispatch, the daemon takes no more, and
 * what is asked for gathers in memory.
 *
 * Return: CACHED_WANT_READ: the daemon's replies; CACHED_WANT_WRITE: that it takes what is to be
 * sent, or the connection; both; 0: nothing, or @p is NULL or one that waits.
 */
int cached_pipeline_wants(const cached_pipeline *p);

/*
 * cached_pipeline_dispatch() - does what can be done without waiting
 * @p:  by one thread at a time
 *
 * Connects, sends, receives, sees whether the deadline passed: a bounded part of it, if there is
 * much (then the descriptor stays readable). May be called at any time. Replies are collected with
 * cached_pipeline_next().
 *
 * Return: CACHED_OK; or why the connection broke or did not come about, which each request that was
 * in flight tells as it is collected, so that it need not be looked at; CACHED_ERR_USAGE: @p is
 * NULL, or one that waits.
 */
int cached_pipeline_dispatch(cached_pipeline *p);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
