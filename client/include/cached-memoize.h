/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_MEMOIZE_H
#define CACHED_MEMOIZE_H

/*
 * Memoizing a function: it runs once for the same arguments, and every process of the machine has
 * the result
 *
 *         static int count(void *data, cached_result *out)
 *         {
 *                 uint64_t n = count_primes(*(uint64_t *)data);
 *                 return cached_result_set(out, &n, sizeof(n));
 *         }
 *
 *         cached_key *k = cached_key_new();
 *         cached_key_add_uint(k, limit);
 *         code = cached_memoize(c, "count_primes", k, count, &limit, NULL, &r);
 *         if (code == CACHED_OK)
 *                 memcpy(&n, cached_result_value(r, NULL), sizeof(n));
 *         cached_result_free(r);
 *
 * Keys: the key is made of the function's name, of what identifies its code, and of the arguments
 * (proto/KEYS.md). The code's identity is the version that the program gives; without one it is the
 * build-id of the program or shared object that holds the function, so that any change of that
 * object makes every key another one. Functions that the object calls in others are not part of it:
 * whoever changes those gives a version. Where there is neither (a linker that was told
 * --build-id=none, a callback that an FFI made), the function runs each time, and
 * cached_result_error() says so. Name, version and arguments must tell apart what should be told
 * apart: two functions of one object under one name share their values.
 *
 * The cache never breaks the program: whatever is wrong with it (no daemon, one that is slow,
 * stopped or full, no memory), the function runs and its value is what the caller gets. The daemon
 * is waited for no longer than cached_memo_options_set_wait_ms() says, and once it is known to be
 * away for next to nothing (cached.h, "A daemon that is away").
 *
 * Once on the whole machine: callers that miss the same key at the same time, in any threads,
 * processes and languages, wait while one of them runs the function, and get its value. When that
 * one fails, or its process ends in whatever way, one of the others runs it. How long a caller
 * waits for another one is up to it: cached_memo_options_set_lease_wait_ms(); then, and whenever
 * the daemon cannot say who is to run it, the function runs here. So it does where waiting would
 * never end: a function that needs a value whose function waits for this one. To see that, the
 * daemon has to know what is part of what: nested calls of one thread, by one handle, are; what a
 * function has other threads do is not, and needs a bound where it may come back.
 *
 * Values whose time is over may be served on while one caller computes them anew (the cache's
 * policy says for how long): all others get the old value at once. If that fails, so does this one.
 *
 * Failures of the function are never stored. Its code reaches the caller as it is: use numbers
 * below 0, or CACHED_ERR_CALLER and above, which are no codes of the library or the daemon. That
 * there is no value can be stored by asking for it: cached_result_set_negative(). The function
 * returns; it is not left by longjmp() or an exception.
 *
 * Values: what the caller gets is its own, aligned as malloc() does it, writable, and changing it
 * changes the entry for nobody, the first time as any other time. An empty value is a value.
 *
 * Threads: any number may call with one handle; options may be shared, as long as nobody changes
 * them. The function runs in the caller's thread, without locks held and without a connection
 * taken, so it may call cached_memoize() itself, also with the same handle.
 *
 * Fork: as for any call. What a child computes of a run that began in its parent is not stored.
 *
 * Filling a cache again: where the environment has $CACHED_WARM with names of caches, separated by
 * colons, when the handle is made, their values are computed anew even if they are there, each
 * once.
 */

#include "cached-lease.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library itself is built with hidden visibility */
#endif

typedef struct cached_result cached_result;             /* what a memoized function gave */
typedef struct cached_memo_options cached_memo_options; /* how to memoize */

#define CACHED_ERR_CALLER 256 /* codes from here on, and below 0, are the program's own */

/*
 * cached_compute - the function that is memoized
 * @data:  what cached_memoize() was given
 * @out:   takes the value: cached_result_set() or cached_result_take(); without either it is empty.
 *         Borrowed for the call
 *
 * Return: CACHED_OK; any other code: it failed, and nothing is stored.
 */
typedef int (*cached_compute)(void *data, cached_result *out);

/* ---- options */

/*
 * cached_memo_options_new() - how to memoize: all at the defaults
 *
 * Return: owned by the caller, freed with cached_memo_options_free(); NULL: out of memory.
 */
cached_memo_options *cached_memo_options_new(void);

/*
 * cached_memo_options_free() - frees options
 * @o:  may be NULL; no call that uses them is running
 */
void cached_memo_options_free(cached_memo_options *o);

/*
 * cached_memo_options_set_version() - what identifies the function's code
 * @o:        by one thread at a time
 * @version:  UTF-8, copied; another version is another key. NULL or "" (default): the build-id of
 *            the object that holds the function
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM or CACHED_ERR_USAGE (@o is NULL), and nothing changed.
 */
int cached_memo_options_set_version(cached_memo_options *o, const char *version);

/*
 * cached_memo_options_set_cache() - the cache that holds the values
 * @o:      by one thread at a time
 * @cache:  its name, copied; NULL or "" (default): the function's name. What is not said here, its
 *          policy says
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM or CACHED_ERR_USAGE (@o is NULL), and nothing changed.
 */
int cached_memo_options_set_cache(cached_memo_options *o, const char *cache);

/*
 * cached_memo_options_set_ttl_ms() - how long values live, instead of what the policy says
 * @o:   by one thread at a time
 * @ms:  milliseconds from the store, 1 to 10 years, or CACHED_NEVER
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL. The range is checked by the daemon, which does
 * not store what is outside.
 */
int cached_memo_options_set_ttl_ms(cached_memo_options *o, uint64_t ms);

/*
 * cached_memo_options_set_wait_ms() - how long a look-up may take, and how long a store
 * @o:   by one thread at a time
 * @ms:  default 250, whatever the handle's timeout is; 10 ms are added for each MB of a value on
 *       its way. 0: the handle's timeout
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_memo_options_set_wait_ms(cached_memo_options *o, uint32_t ms);

/*
 * cached_memo_options_set_lease_wait_ms() - how long to wait for another caller that runs the
 * function
 * @o:   by one thread at a time
 * @ms:  0: not at all, it runs here; CACHED_NEVER (default): as long as that one is at it
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_memo_options_set_lease_wait_ms(cached_memo_options *o, uint64_t ms);

/*
 * cached_memo_options_set_hold_ms() - after how long another caller may run the function as well
 * @o:   by one thread at a time
 * @ms:  0 (default): when this one has ended, in whatever way
 *
 * For functions that may get stuck. What they give later is stored all the same.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_memo_options_set_hold_ms(cached_memo_options *o, uint32_t ms);

/*
 * cached_memo_options_set_refresh() - whether values that are there are computed anew
 * @o:   by one thread at a time
 * @on:  0 (default): when they are due; else: with each call, unless another caller is at it, which
 * then gets the value that is there
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_memo_options_set_refresh(cached_memo_options *o, int on);

/*
 * cached_memo_options_set_waiting() - what to call while another caller runs the function
 * @o:         by one thread at a time
 * @f:         for example to show who computes, and for how long. NULL (default): nothing
 * @data:      for @f
 * @every_ms:  it is called when the wait begins, when the other one calls cached_progress(), and
 * each time so much has passed; 0: not as time passes
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_memo_options_set_waiting(cached_memo_options *o, cached_waiting f, void *data,
                                    uint32_t every_ms);

/* ---- the call */

/*
 * cached_memoize() - the value of a function for these arguments: from the cache, or computed and
 * stored
 * @c:          any thread; NULL: there is no cache, it is computed
 * @name:       the function's: UTF-8 without control characters, 1 to 128 bytes
 * @arguments:  what was added to it is what the function depends on; for one that depends on
 * nothing an empty builder. Stays as it is. NULL: there was no memory for it; it is computed
 * @compute:    runs on a miss, within this call
 * @data:       for @compute; may be NULL
 * @o:          NULL: the defaults
 * @ret:        on *every* return, unless memory for it could not be had (then NULL): the value, or
 *              the error; owned by the caller, freed with cached_result_free(). NULL: not
 *              interested
 *
 * The time that the function took is stored with the value, for the statistics of time saved.
 * Where the look-up failed, the value is stored only if computing it took a second or more.
 *
 * Return: CACHED_OK; CACHED_NEGATIVE: there is no value, and cached_result_error() has the reason
 * that the function gave for it; what @compute returned, if that is another; CACHED_ERR_USAGE: an
 * argument is wrong or cannot be part of a key (cached_key_error()), CACHED_ERR_NOMEM: no memory
 * for *ret: in both cases nothing was computed. Never a failure of the cache:
 * cached_result_cache_code().
 */
int cached_memoize(cached *c, const char *name, cached_key *arguments, cached_compute compute,
                   void *data, const cached_memo_options *o, cached_result **ret);

/*
 * cached_progress() - tells those who wait for the function that runs how far it is
 * @text:      UTF-8; what is too long (256 bytes) is cut. NULL: none
 * @fraction:  0 to 1; 0: not known
 *
 * Called by a memoized function, in the thread that it was called in. It is about the innermost one
 * that others may wait for.
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: there is none; CACHED_ERR_DISCONNECTED: nobody waits for it
 * any more. None of it matters to the function.
 */
int cached_progress(const char *text, double fraction);

/*
 * ---- results
 *
 * Used by one thread at a time; plain memory over fork.
 */

/*
 * cached_result_set() - the function's value
 * @out:    what the function was given
 * @value:  @n bytes, copied; may be NULL if @n is 0
 * @n:      bytes
 *
 * Called again, it replaces the value.
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM, CACHED_ERR_USAGE: a pointer is NULL; then the value that was
 * set before stays.
 */
int cached_result_set(cached_result *out, const void *value, size_t n);

/*
 * cached_result_take() - the function's value, without a copy
 * @out:    what the function was given
 * @value:  from malloc() or its kin; the result owns it from now on, also if this fails. May be
 *          NULL if @n is 0
 * @n:      bytes
 *
 * Called again, it replaces the value.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: a pointer is NULL; then the value that was set before stays.
 */
int cached_result_take(cached_result *out, void *value, size_t n);

/*
 * cached_result_decline() - this value is not to be stored
 * @out:  what the function was given
 *
 * The caller gets it, and all who wait for it.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @out is NULL.
 */
int cached_result_decline(cached_result *out);

/*
 * cached_result_set_negative() - there is no value, and that is what is to be stored
 * @out:     what the function was given
 * @reason:  UTF-8, up to 500 bytes, copied: what callers get as cached_result_error()
 * @ttl_ms:  for how long; 0: for as long as a value
 *
 * The function returns CACHED_OK then. To be called instead of cached_result_set(); of both, the
 * later one counts.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: a pointer is NULL.
 */
int cached_result_set_negative(cached_result *out, const char *reason, uint64_t ttl_ms);

/*
 * cached_result_set_reason() - why the function fails
 * @out:     what the function was given
 * @reason:  UTF-8, up to 500 bytes, copied: what the caller gets as cached_result_error(), and what
 *           those who wait are told that ask for it
 *
 * The function returns another code than CACHED_OK then.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: a pointer is NULL.
 */
int cached_result_set_reason(cached_result *out, const char *reason);

/*
 * cached_result_value() - the value
 * @r:         may be NULL
 * @ret_size:  bytes; untouched if there is no value; may be NULL
 *
 * Return: owned by the result, writable, valid until cached_result_free(); not NULL for an empty
 * value. NULL: the call failed.
 */
void *cached_result_value(cached_result *r, size_t *ret_size);

/*
 * cached_result_is_hit() - whether the value came from the cache
 * @r:  may be NULL
 *
 * Return: 1: the function did not run, or it failed and the value is an old one that the cache's
 * policy serves on then (cached_result_cache_code() is CACHED_NOT_FOUND); else 0.
 */
int cached_result_is_hit(const cached_result *r);

/*
 * cached_result_is_stale() - whether the value's time to live has passed
 * @r:  may be NULL
 *
 * Return: 1: it is served on, by the cache's policy; else 0.
 */
int cached_result_is_stale(const cached_result *r);

/*
 * cached_result_waited_ms() - for how long the call waited for another caller that ran the function
 * @r:  may be NULL
 *
 * Return: milliseconds.
 */
uint64_t cached_result_waited_ms(const cached_result *r);

/*
 * cached_result_holder_pid() - the process that ran the function while this call waited
 * @r:  may be NULL
 *
 * Return: its number in the daemon's namespace; 0: none is known.
 */
uint32_t cached_result_holder_pid(const cached_result *r);

/*
 * cached_result_cache_code() - how the cache did
 * @r:  may be NULL
 *
 * Return: CACHED_OK: it was a hit, or the value is stored now; CACHED_NOT_FOUND: the function
 * failed (also if there was an old value to return, which is then a hit), or declined, and so
 * nothing was to be stored; CACHED_SUPERSEDED: the entry was cleared while it ran; else why the
 * value is not: a status of the daemon or a code of the library, as cached_get() and cached_set()
 * give it; CACHED_ERR_USAGE: there is no handle, or nothing identifies the function's code;
 * CACHED_ERR_NOMEM if @r is NULL.
 */
int cached_result_cache_code(const cached_result *r);

/*
 * cached_result_error() - one sentence for people: why the call failed; else why the value was not
 * stored
 * @r:  may be NULL
 *
 * Return: never NULL, valid until cached_result_free(); "" if all went well.
 */
const char *cached_result_error(const cached_result *r);

/*
 * cached_result_free() - frees a result and its value
 * @r:  may be NULL
 */
void cached_result_free(cached_result *r);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
