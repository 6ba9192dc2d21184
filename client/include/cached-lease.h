/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_LEASE_H
#define CACHED_LEASE_H

/*
 * Leases: the right to compute a missing value, held by one caller on the whole machine
 *
 * cached_memoize() does all of this by itself; this is for those who compute outside a function of
 * C, for example bindings. Included by cached.h.
 *
 *     cached_lease *l;
 *     cached_reply *r;
 *     int code = cached_get_or_lease(c, "reports", key, n_key, NULL, &r, &l);
 *
 *     if (code == CACHED_NOT_FOUND) {
 *             n = compute(&value);
 *             cached_lease_set(l, value, n, NULL, NULL);
 *     }
 *     cached_lease_free(l);
 *     cached_reply_free(r);
 *
 * One caller gets the lease, in whichever process and language. All others wait for what it stores,
 * unless their options say otherwise. The lease ends when its holder stores, gives up, closes the
 * handle or ends in whatever way; then whoever has waited longest gets it. So nobody waits for
 * somebody who is no more, and nobody has to look after the lease of a process that was killed.
 *
 * Whoever computes may need other values that somebody computes. That leads nowhere where two wait
 * for each other. The daemon sees that, and one of them gets CACHED_LEASE_CYCLE instead of waiting,
 * if it is told what belongs to one computation: cached_lease_options_set_outer(), and the same
 * handle. A computation that goes on in several threads, or that asks for its own key without
 * saying so, can wait for itself for ever: give such a wait an end.
 *
 * A daemon that knows no leases, that is away, or at which the user may only read: look-ups are
 * answered as by cached_get(), and a miss comes without a lease.
 *
 * Threads: any number wait with one handle, on one connection. A lease is used by one thread at a
 * time, and by any.
 *
 * Fork: a lease stays with the process that got it. In a child it only takes memory: what it
 * would store is not stored.
 */

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

typedef struct cached_lease cached_lease;                 /* the right to compute, or who has it */
typedef struct cached_lease_options cached_lease_options; /* how to ask for it */

/* States of a lease: what to do. */
#define CACHED_LEASE_NONE    0 /* nothing: there is a value, or there are no leases */
#define CACHED_LEASE_GRANTED 1 /* compute and store, or give up */
#define CACHED_LEASE_YOURS   2 /* the outer computation has it already: compute; that one stores */
#define CACHED_LEASE_BUSY    3 /* another one computes, and this one was not to wait */
#define CACHED_LEASE_TIMEOUT 4 /* likewise, and the wait is over */
#define CACHED_LEASE_CYCLE                                                                         \
        5 /* who computes waits for this computation: compute without a lease                      \
           */
#define CACHED_LEASE_FAILED     6 /* who computed gave up, for cached_lease_reason() */
#define CACHED_LEASE_UNSTORABLE 7 /* it was computed, and the daemon did not take it */

/*
 * cached_waiting - told while a call waits for somebody else's computation
 * @data:    what cached_lease_options_set_waiting() was given
 * @holder:  who computes, as far as that is known by now: see the functions of a lease. Borrowed
 * for the call
 *
 * Runs in the thread that waits, without locks held.
 *
 * Return: 0; any other number: the call does not wait any longer, as if its time were over.
 */
typedef int (*cached_waiting)(void *data, const cached_lease *holder);

/* ---- options */

/*
 * cached_lease_options_new() - how to ask for a lease: all at the defaults
 *
 * Return: owned by the caller, freed with cached_lease_options_free(); NULL: out of memory.
 */
cached_lease_options *cached_lease_options_new(void);

/*
 * cached_lease_options_free() - frees options
 * @o:  may be NULL
 */
void cached_lease_options_free(cached_lease_options *o);

/*
 * cached_lease_options_set_wait_ms() - how long to wait for somebody else's computation
 * @o:   by one thread at a time
 * @ms:  0: not at all; CACHED_NEVER (default): as long as somebody computes
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_lease_options_set_wait_ms(cached_lease_options *o, uint64_t ms);

/*
 * cached_lease_options_set_hold_ms() - after how long the lease goes to the next one
 * @o:   by one thread at a time
 * @ms:  0 (default): it is held for as long as its holder lives
 *
 * For computations that may get stuck. What is stored later is taken all the same.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_lease_options_set_hold_ms(cached_lease_options *o, uint32_t ms);

/*
 * cached_lease_options_set_refresh() - whether a value that is there is to be computed anew
 * @o:   by one thread at a time
 * @on:  0 (default): only when it is due; else: it counts as due. The value comes with the lease,
 * or without if somebody else has it
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_lease_options_set_refresh(cached_lease_options *o, int on);

/*
 * cached_lease_options_set_want_failure() - whether the failure of who computes ends the wait
 * @o:   by one thread at a time
 * @on:  0 (default): the next one is to try; else: CACHED_LEASE_FAILED, with the reason
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_lease_options_set_want_failure(cached_lease_options *o, int on);

/*
 * cached_lease_options_set_waiting() - what to call while the call waits
 * @o:         by one thread at a time
 * @f:         NULL (default): nothing
 * @data:      for @f
 * @every_ms:  it is called when the wait begins, when the holder tells its progress, and each time
 * so much has passed; 0: not as time passes
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_lease_options_set_waiting(cached_lease_options *o, cached_waiting f, void *data,
                                     uint32_t every_ms);

/*
 * cached_lease_options_set_outer() - the computation that asks
 * @o:      by one thread at a time
 * @outer:  its lease, of the same handle or of one that was derived with it; borrowed until the
 * options are freed or given another. NULL (default): the cached_memoize() that this thread is in,
 * if any; else a computation of its own
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_lease_options_set_outer(cached_lease_options *o, const cached_lease *outer);

/* ---- the call */

/*
 * cached_get_or_lease() - looks up one entry; on a miss, the right to compute it
 * @c:          any thread
 * @cache:      an unknown one is a miss
 * @key:        @n_key bytes
 * @n_key:      1 to 64
 * @o:          NULL: the defaults
 * @ret:        as with cached_get(); may be NULL
 * @ret_lease:  on *every* return: the lease; NULL where the state is CACHED_LEASE_NONE. Owned by
 * the caller, freed with cached_lease_free(), before the handle is
 *
 * A value that is not due comes without the daemon where the handle is mapped, as with
 * cached_get(). While somebody else computes the call waits, beyond the handle's timeout; that is
 * for a daemon that does not answer.
 *
 * Return: CACHED_OK: there is a value; with CACHED_LEASE_GRANTED it is to be computed anew, and can
 * be used until then. CACHED_NOT_FOUND: there is none, cached_lease_state() says what to do;
 * without a lease compute and cached_set(). CACHED_NEGATIVE: somebody stored that there is none.
 * Else as cached_get(); CACHED_LIMIT: too many leases, or too many wait.
 */
int cached_get_or_lease(cached *c, const char *cache, const void *key, size_t n_key,
                        const cached_lease_options *o, cached_reply **ret,
                        cached_lease **ret_lease);

/* ---- leases */

/*
 * cached_lease_set() - stores the value; the lease ends
 * @l:      whatever its state is: where it is not CACHED_LEASE_GRANTED the value is stored without
 * a lease, and with CACHED_LEASE_YOURS not at all
 * @value:  @n bytes, copied; may be NULL if @n is 0
 * @n:      bytes
 * @o:      as with cached_set(); NULL: the defaults
 * @ret:    as with cached_set(); may be NULL
 *
 * All who wait get the value before this returns, or soon afterwards.
 *
 * Return: as cached_set(); CACHED_SUPERSEDED: the entry was cleared, deleted or stored by somebody
 * else meanwhile, or the lease was lost with its connection: it is not stored. In all cases but
 * CACHED_ERR_USAGE the lease has ended.
 */
int cached_lease_set(cached_lease *l, const void *value, size_t n, const cached_set_options *o,
                     cached_reply **ret);

/*
 * cached_lease_set_buffer() - as cached_lease_set(), of what is in a buffer, without a copy
 * @l:        as of cached_lease_set()
 * @buffer:   filled; nobody writes to it during the call
 * @n_value:  bytes from its start, at most its size
 * @o:        as with cached_set(); NULL: the defaults
 * @ret:      as with cached_set(); may be NULL
 *
 * The buffer becomes what cached_set_buffer() says, also if the call fails later.
 *
 * Return: as cached_lease_set(); CACHED_ERR_USAGE and CACHED_ERR_NOMEM also as
 * cached_set_buffer(): then the lease is still held.
 */
int cached_lease_set_buffer(cached_lease *l, cached_buffer *buffer, uint64_t n_value,
                            const cached_set_options *o, cached_reply **ret);

/*
 * cached_lease_share() - gives the value to those who wait, and stores nothing; the lease ends
 * @l:      CACHED_LEASE_GRANTED; with any other state nothing happens
 * @value:  @n bytes; may be NULL if @n is 0
 * @n:      bytes
 * @o:      as with cached_set(); NULL: the defaults
 * @ret:    as with cached_set(); may be NULL
 *
 * Return: as cached_lease_set().
 */
int cached_lease_share(cached_lease *l, const void *value, size_t n, const cached_set_options *o,
                       cached_reply **ret);

/*
 * cached_lease_progress() - tells those who wait, and `cachectl`, how far the computation is
 * @l:         CACHED_LEASE_GRANTED; with any other state nothing happens
 * @text:      UTF-8; what is too long (256 bytes) is cut. NULL: none
 * @permille:  0 to 1000; 0: not known
 *
 * Costs no round trip. Nobody is told that it did not arrive.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @l is NULL; CACHED_ERR_DISCONNECTED: the lease was lost.
 */
int cached_lease_progress(cached_lease *l, const char *text, uint32_t permille);

/*
 * cached_lease_end() - gives the lease up
 * @l:       CACHED_LEASE_GRANTED; with any other state nothing happens
 * @reason:  the computation failed, and why: UTF-8; what is too long (1024 bytes) is cut. NULL or
 * "": it did not, the next one may try at once
 *
 * Costs no round trip.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @l is NULL; CACHED_ERR_DISCONNECTED: it was lost before.
 */
int cached_lease_end(cached_lease *l, const char *reason);

/*
 * cached_lease_free() - frees a lease; one that is still held is given up
 * @l:  may be NULL
 */
void cached_lease_free(cached_lease *l);

/*
 * cached_lease_state() - what to do
 * @l:  may be NULL
 *
 * Return: one of the CACHED_LEASE_* states; a later daemon may have others: compute then, without
 * a lease.
 */
int cached_lease_state(const cached_lease *l);

/*
 * cached_lease_holder_pid() - the process that computes, or computed
 * @l:  may be NULL
 *
 * Return: its number in the daemon's namespace; 0: none is known.
 */
uint32_t cached_lease_holder_pid(const cached_lease *l);

/*
 * cached_lease_holder_uid() - whose process that is
 * @l:  may be NULL
 *
 * Return: a uid; UINT32_MAX: none is known.
 */
uint32_t cached_lease_holder_uid(const cached_lease *l);

/*
 * cached_lease_holder_name() - what that process calls itself
 * @l:  may be NULL
 *
 * Return: never NULL, valid as long as the lease.
 */
const char *cached_lease_holder_name(const cached_lease *l);

/*
 * cached_lease_age_ms() - for how long it has computed
 * @l:  may be NULL
 *
 * Return: milliseconds.
 */
uint64_t cached_lease_age_ms(const cached_lease *l);

/*
 * cached_lease_permille() - how far it is, as it says
 * @l:  may be NULL
 *
 * Return: 0 to 1000; 0: not known.
 */
uint32_t cached_lease_permille(const cached_lease *l);

/*
 * cached_lease_text() - what it says of its progress
 * @l:  may be NULL
 *
 * Return: never NULL, valid as long as the lease.
 */
const char *cached_lease_text(const cached_lease *l);

/*
 * cached_lease_reason() - why it failed (CACHED_LEASE_FAILED), or why the daemon did not store what
 * it computed (CACHED_LEASE_UNSTORABLE)
 * @l:  may be NULL
 *
 * Return: never NULL, valid as long as the lease.
 */
const char *cached_lease_reason(const cached_lease *l);

/*
 * cached_lease_waited_ms() - for how long the call waited
 * @l:  may be NULL
 *
 * Return: milliseconds.
 */
uint64_t cached_lease_waited_ms(const cached_lease *l);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
