/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#define CACHED_H

/*
 * libcached: the client of `cached`, the cache that all processes of a machine share
 *
 * Everything here is plain C functions on opaque types; no macro or inline is needed, so that any
 * language's foreign function interface can use it. The library never exits, prints, raises or
 * handles signals, or changes global state.
 *
 * Results: every call that talks to the daemon returns a code: CACHED_OK (0), a status of the
 * daemon (1 to 63, the numbers of proto/status.def) or a failure of the client side (64 and more).
 * cached_strerror() gives the words for any of them. CACHED_NOT_FOUND is an answer, not a failure.
 *
 * Replies: calls take `cached_reply **ret`. NULL: not interested. Else *ret is set on *every*
 * return, also on failure (then it carries the error text), unless memory for it could not be had:
 * then it is NULL and the code is CACHED_ERR_NOMEM. The caller owns it and frees it with
 * cached_reply_free(). A reply refers to nothing but itself: it outlives the handle and may be read
 * from any thread.
 *
 * Threads: a handle may be used from many threads at once. Each call has a connection to itself
 * while it runs; the handle makes as many as are needed at the same time, up to a limit
 * (cached_options_set_max_connections()), and keeps them. A program with one thread has one.
 * Options, policies, replies and pipelines are used by one thread at a time.
 *
 * Fork: a handle works on in the child, also if other threads of the parent were using it: the
 * child's calls make connections of their own and leave the parent's alone. Replies and
 * options are plain memory. A pipeline does not survive: in the child it may only be freed, which
 * leaves the parent's alone. Not so between vfork() and exec(), where the child has the parent's
 * memory: call nothing there.
 *
 * Signal handlers call nothing of this, and no call is left by longjmp() or by cancelling its
 * thread: what it holds would be held for ever.
 *
 * Deadlines: a call that talks to the daemon returns within the handle's timeout, connecting and
 * waiting for a connection included (cached_options_set_timeout_ms(), cached_with_timeout()). While
 * it waits, signals are handled as usual and do not end it.
 *
 * Reconnecting: when the connection has broken, the call makes another one by itself. If the
 * connection breaks under a call, its request is sent again where that cannot do harm: if it
 * changes nothing; if the daemon cannot have read it in full; and else with its old number, by
 * which the same daemon knows whether it was carried out, and then only gives its answer again.
 * Where the daemon was restarted meanwhile, or has forgotten, the code is CACHED_OUTCOME_UNKNOWN;
 * where it is gone or does not remember at all, CACHED_ERR_DISCONNECTED.
 *
 * Look-ups without the daemon: cached_get(), cached_peek() and cached_get_many() read the daemon's
 * memory by themselves where they may (cached_options_set_mapped()): a hit then takes no system
 * call, and hits go on while the daemon is away. What "to connect" and "to time out" means here
 * concerns the calls that need the daemon.
 *
 * A daemon that is away: after a connection could not be made, calls that would need one fail at
 * once, with the same code, for a pause that doubles from 10 ms to 1 s as long as attempts fail.
 * When a call ends with CACHED_ERR_TIMEOUT and no call that began later was answered, the daemon
 * counts as silent: from then on a call waits a millisecond at most for it to greet a new
 * connection, and fails with CACHED_ERR_TIMEOUT, until it does. So a daemon that is stopped costs
 * one timeout, and not one a call. cached_connect() tries in any case.
 *
 * Arguments: memory that is passed in is borrowed for the call and never kept, unless said
 * otherwise. Strings end in a zero byte. A cache's name is 1 to 128 bytes of UTF-8, a key 1 to 64
 * bytes, any bytes; what is outside is answered with CACHED_INVALID. A key may be NULL only if its
 * length is 0.
 *
 * Errors: every call that takes `cached_reply **ret` may return, beside what its own comment names:
 * CACHED_INVALID, CACHED_LIMIT, CACHED_DENIED, CACHED_UNSUPPORTED, CACHED_DEADLINE,
 * CACHED_NO_MEMORY, CACHED_SHUTTING_DOWN, CACHED_PROTOCOL, CACHED_VERSION, CACHED_INTERNAL,
 * CACHED_OUTCOME_UNKNOWN from the daemon, and CACHED_ERR_UNREACHABLE, _TIMEOUT, _DISCONNECTED,
 * _NOMEM, _BAD_REPLY, _UNTRUSTED, _USAGE, _FORBIDDEN, _CLOSED from this library: "the common codes"
 * below. cached_reply_error() says what happened and what to do.
 */

#include <stddef.h>
#include <stdint.h>

#include "cached-key.h" /* builds keys */

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library itself is built with hidden visibility */
#endif

typedef struct cached cached;                         /* a handle */
typedef struct cached_options cached_options;         /* how a handle finds and uses a daemon */
typedef struct cached_set_options cached_set_options; /* how an entry is stored */
typedef struct cached_reply cached_reply;             /* what came back from one call */
typedef struct cached_view cached_view;               /* a value that is looked at in place */
typedef struct cached_buffer cached_buffer;           /* memory that becomes a value */
typedef struct cached_messages cached_messages;       /* what was recorded with a value */

/* Codes. 0 to 63 are the daemon's statuses; 64 and more come from this library. */
#define CACHED_OK               0
#define CACHED_NOT_FOUND        1
#define CACHED_EXISTS           2
#define CACHED_VERSION_MISMATCH 3
#define CACHED_INVALID          4
#define CACHED_TOO_LARGE        5
#define CACHED_NO_SPACE         6
#define CACHED_LIMIT            7
#define CACHED_DENIED           8
#define CACHED_UNSUPPORTED      9
#define CACHED_DEADLINE         10
#define CACHED_NO_MEMORY        11
#define CACHED_SHUTTING_DOWN    12
#define CACHED_PROTOCOL         13
#define CACHED_VERSION          14
#define CACHED_CONFIG           15
#define CACHED_INTERNAL         16
#define CACHED_OUTCOME_UNKNOWN  17
#define CACHED_SUPERSEDED       18 /* a store under a lease came too late */
#define CACHED_NEGATIVE         19 /* what is stored is that there is no value */
#define CACHED_ERR_UNREACHABLE  64 /* no daemon answers on the socket */
#define CACHED_ERR_TIMEOUT                                                                         \
        65 /* the call's deadline passed; a change may or may not have happened */
#define CACHED_ERR_DISCONNECTED 66 /* the connection broke before the reply; likewise */
#define CACHED_ERR_NOMEM        67 /* out of memory in this process */
#define CACHED_ERR_BAD_REPLY    68 /* the daemon's bytes make no sense; the connection was dropped */
#define CACHED_ERR_UNTRUSTED    69 /* the socket's daemon runs as a uid that is not trusted */
#define CACHED_ERR_USAGE        70 /* an argument is wrong; nothing was sent */
#define CACHED_ERR_FORBIDDEN                                                                       \
        71 /* the system's socket is there but may not be opened by this user */
#define CACHED_ERR_CLOSED                                                                          \
        72 /* the handle was closed, before the call or under it; a change may have happened */
#define CACHED_ERR_AGAIN                                                                           \
        73 /* a pipeline that does not wait: nothing has finished yet, or it is full */
#define CACHED_ERR_CREATION                                                                        \
        74 /* whose turn it was to make a resource could not, or its check fails */
#define CACHED_OWNER_DIED 75 /* locked, and who had the lock before was killed with it */

#define CACHED_NEVER UINT64_MAX /* a ttl that never ends */

/* Modes of a set. */
#define CACHED_SET_ANY          0
#define CACHED_SET_ADD_ONLY     1
#define CACHED_SET_REPLACE_ONLY 2

/* Encodings of a value. */
#define CACHED_ENCODING_RAW 0
#define CACHED_ENCODING_LZ4 1

/* What a pipeline waits for: bits of cached_pipeline_wants(). */
#define CACHED_WANT_READ  1
#define CACHED_WANT_WRITE 2

/* ---- handle */

/*
 * cached_version() - the version of this library, for people: "0.1.0"
 *
 * Return: static text. Any thread; fork-safe.
 */
const char *cached_version(void);

/*
 * cached_strerror() - what a code means, in a few words
 * @code:  any number, also one that is no code
 *
 * Return: static text, never NULL. Any thread; fork-safe.
 */
const char *cached_strerror(int code);

/*
 * cached_options_new() - the options of a handle, all at their defaults
 *
 * Return: owned by the caller, freed with cached_options_free(); NULL: out of memory.
 */
cached_options *cached_options_new(void);

/*
 * cached_options_free() - frees options; handles that were made with them keep copies
 * @o:  may be NULL
 */
void cached_options_free(cached_options *o);

/*
 * cached_options_set_socket() - the daemon's socket, and no other
 * @o:     by one thread at a time
 * @path:  copied; NULL or "": find it out. Then $CACHED_SOCKET is the only one, if it is set; else
 *         the first that answers of /run/cached/cached.sock, $XDG_RUNTIME_DIR/cached/cached.sock,
 *         /run/user/UID/cached/cached.sock and /tmp/cached-UID/cached.sock. The environment is
 *         read by cached_new(), and not in a set-uid program.
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM or CACHED_ERR_USAGE (@o is NULL), and nothing changed.
 */
int cached_options_set_socket(cached_options *o, const char *path);

/*
 * cached_options_set_realm() - the realm to work in
 * @o:      by one thread at a time
 * @realm:  copied; NULL or "": the user's own. A name of the daemon's configuration, or "uid:N"
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM or CACHED_ERR_USAGE (@o is NULL), and nothing changed.
 * Whether the realm may be entered turns out when connecting.
 */
int cached_options_set_realm(cached_options *o, const char *realm);

/*
 * cached_options_set_client_name() - what `cachectl clients` shows for this handle
 * @o:     by one thread at a time
 * @name:  copied; NULL or "": the program's name. UTF-8; cut after 64 bytes
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM or CACHED_ERR_USAGE (@o is NULL), and nothing changed.
 */
int cached_options_set_client_name(cached_options *o, const char *name);

/*
 * cached_options_set_timeout_ms() - how long a call may take, in milliseconds
 * @o:   by one thread at a time
 * @ms:  default 5000; 0: as long as it takes
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_options_set_timeout_ms(cached_options *o, uint32_t ms);

/*
 * cached_options_set_max_connections() - how many connections the handle's calls may share
 * @o:  by one thread at a time
 * @n:  1 to 64, default 4; so many calls of different threads can be with the daemon at once, and
 *      others wait. Pipelines have their own beside these
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL or @n is out of range, and nothing changed.
 */
int cached_options_set_max_connections(cached_options *o, uint32_t n);

/*
 * cached_options_set_compression() - from which size on values are stored as LZ4 blocks
 * @o:          by one thread at a time
 * @min_bytes:  default 4096; 0: none are
 *
 * It saves the daemon's memory where a value becomes shorter by an eighth or more, and is given up
 * early where it does not; values over HelloResult's max_lz4_bytes (4 MiB by default) stay as they
 * are. The caller's thread does it, before the request is sent: about 1 ms for 1 MiB that is worth
 * it, 70 us for 1 MiB that is not. It concerns cached_set(), cached_set_many(), cached_memoize(),
 * and pipelines once they are connected; never values that the caller has encoded.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_options_set_compression(cached_options *o, uint64_t min_bytes);

/*
 * cached_options_set_decode() - whether values come plain or as they were stored
 * @o:   by one thread at a time
 * @on:  not 0 (default): what is stored as an LZ4 block is decoded; the reply is as if it had been
 *       stored plain, and a block that is damaged is a miss. 0: cached_reply_encoding() says what
 *       the value is
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_options_set_decode(cached_options *o, int on);

/*
 * cached_options_set_mapped() - whether look-ups read the daemon's memory themselves
 * @o:   by one thread at a time
 * @on:  not 0 (default): where daemon and kernel allow it, cached_get(), cached_peek() and
 *       cached_get_many() find entries in shared memory, without a system call, and ask the daemon
 *       only for what cannot be decided there. Their answers are the same. 0: they always ask
 *
 * A mapping goes on serving while the daemon is stopped or gone, but for entries that expire, and
 * until another daemon, which did not take its memory over, answers on the socket. It takes address
 * space, as much as twice the machine's memory, and four descriptors while connecting; a child
 * after fork has no part of it and gets its own with its first call.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_options_set_mapped(cached_options *o, int on);

/*
 * cached_options_set_own_values() - whether the values of replies may be written to
 * @o:   by one thread at a time
 * @on:  0 (default): they are to be read. Not 0: each reply's value is its own, and one that is
 * shown in place is mapped so that writing to it changes the reply alone: cached_reply_own_value()
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_options_set_own_values(cached_options *o, int on);

/*
 * cached_options_set_view_cache() - how many large values are kept for the next look at them
 * @o:         by one thread at a time
 * @n_values:  default 16, at most 4096; 0: none are
 *
 * A value that is kept is held: where it has left the cache it is charged to this user until it is
 * let go of, which happens with one of the next calls.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL or @n_values is too large, and nothing changed.
 */
int cached_options_set_view_cache(cached_options *o, uint32_t n_values);

/*
 * cached_options_set_prepared_bytes() - how much memory prepared buffers may take
 * @o:          by one thread at a time
 * @max_bytes:  default 256 MiB, for all buffers of cached_buffers_prepare() together
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_options_set_prepared_bytes(cached_options *o, uint64_t max_bytes);

/*
 * cached_options_set_spin() - whether a reply is looked for before the caller sleeps for it
 * @o:   by one thread at a time
 * @on:  not 0 (default): where calls follow each other within a millisecond, a call or a waiting
 *       pipeline looks for its reply for up to 50 microseconds, which is mostly enough, and then
 *       sleeps; in vain, it does so less and less often. Between two looks it offers its processor
 * to others. Not on a machine of one processor. 0: it sleeps at once
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_options_set_spin(cached_options *o, int on);

/*
 * cached_options_set_service_uid() - the uid that the daemon may run as
 * @o:    by one thread at a time
 * @uid:  trusted beside 0 and the caller's own effective uid, which always are. On the system's
 *        socket the owner of the directory /run/cached, which only root can make, is trusted too.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_options_set_service_uid(cached_options *o, uint32_t uid);

/*
 * cached_new() - a handle; connects to nothing yet
 * @o:    copied; NULL: the defaults
 * @ret:  owned by the caller, freed with cached_free(); untouched on failure
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM; CACHED_ERR_USAGE: @ret is NULL, or the socket's path is too
 * long (107 bytes at most).
 */
int cached_new(const cached_options *o, cached **ret);

/*
 * cached_with_timeout() - another handle on the same connections, with a timeout of its own
 * @c:    any thread
 * @ms:   how long its calls may take, as of cached_options_set_timeout_ms()
 * @ret:  owned by the caller, freed with cached_free(), before or after @c; untouched on failure
 *
 * The limit on connections, the back-off and being closed are shared, too.
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM; CACHED_ERR_USAGE: @c or @ret is NULL.
 */
int cached_with_timeout(cached *c, uint32_t ms, cached **ret);

/*
 * cached_close() - ends a handle's calls and closes its connections
 * @c:  any thread, also while calls of others are inside; may be NULL. Closes the handles that
 *      share its connections, too
 *
 * Calls that wait for the daemon return soon (at most some 20 ms), and later ones at once, with
 * CACHED_ERR_CLOSED; whether a change that they asked for happened is unknown. Pipelines keep the
 * connection that they have and make no other. The handle is still to be freed. In a child after
 * fork it closes the child's handle only.
 */
void cached_close(cached *c);

/*
 * cached_free() - closes a handle, waits until the calls inside have left, and frees it
 * @c:  may be NULL; no call may begin any more, and its pipelines are freed first. A handle made by
 *      cached_with_timeout() is not closed, since others share its connections: its calls end as
 *      they would. Also in a child after fork, where it leaves the parent's connections alone
 */
void cached_free(cached *c);

/*
 * cached_connect() - makes the connection now, or looks whether it still stands
 * @c:    any thread
 * @ret:  fields of HelloResult: "version", "realm", "role", "uid", "max_value_bytes" ... The bit of
 *        value 8 (FEATURE_MAPPED) in "features" tells whether look-ups read shared memory, see
 *        cached_options_set_mapped()
 *
 * Never needed: every call connects by itself. It tries also while other calls fail at once because
 * the daemon was away.
 *
 * Return: CACHED_OK or one of the common codes.
 */
int cached_connect(cached *c, cached_reply **ret);

/*
 * cached_socket_path() - the socket that answered last; before that, the first that is tried
 * @c:  any thread
 *
 * Return: owned by the handle, valid until cached_free(); NULL if @c is NULL.
 */
const char *cached_socket_path(const cached *c);

/* ---- entries */

/*
 * cached_set_options_new() - how to store: as the cache's policy says, over whatever is there
 *
 * Return: owned by the caller, freed with cached_set_options_free(); NULL: out of memory.
 */
cached_set_options *cached_set_options_new(void);

/*
 * cached_set_options_free() - frees set options
 * @o:  may be NULL
 */
void cached_set_options_free(cached_set_options *o);

/*
 * cached_set_options_set_ttl_ms() - how long the entry lives, instead of what the policy says
 * @o:   by one thread at a time
 * @ms:  milliseconds from the store, 1 to 10 years, or CACHED_NEVER
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL. The range is checked by the daemon.
 */
int cached_set_options_set_ttl_ms(cached_set_options *o, uint64_t ms);

/*
 * cached_set_options_set_mode() - whether the key may, must or must not be stored already
 * @o:     by one thread at a time
 * @mode:  CACHED_SET_ANY (default), CACHED_SET_ADD_ONLY, CACHED_SET_REPLACE_ONLY
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL or there is no such mode, and nothing changed.
 */
int cached_set_options_set_mode(cached_set_options *o, int mode);

/*
 * cached_set_options_set_expected_version() - store only over exactly this version (compare and
 * set)
 * @o:        by one thread at a time
 * @version:  what cached_reply_version() told
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_set_options_set_expected_version(cached_set_options *o, uint64_t version);

/*
 * cached_set_options_set_flags() - 32 bits that are kept with the entry and mean what the writer
 * wants
 * @o:      by one thread at a time
 * @flags:  default 0
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_set_options_set_flags(cached_set_options *o, uint32_t flags);

/*
 * cached_set_options_set_encoding() - says how the value is encoded; encodes nothing
 * @o:         by one thread at a time
 * @encoding:  CACHED_ENCODING_RAW (default; the library may pack the value by itself,
 *             cached_options_set_compression()), CACHED_ENCODING_LZ4 (the value is one LZ4 block)
 * @raw_size:  bytes after decoding; ignored with CACHED_ENCODING_RAW
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL or there is no such encoding, and nothing
 * changed.
 */
int cached_set_options_set_encoding(cached_set_options *o, int encoding, uint64_t raw_size);

/*
 * cached_set_options_set_cost_us() - what computing the value took, for the statistics of time
 * saved
 * @o:   by one thread at a time
 * @us:  microseconds; default 0: unknown
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_set_options_set_cost_us(cached_set_options *o, uint64_t us);

/*
 * cached_set_options_add_tag() - a name by which the entry can be cleared: cached_clear_tag()
 * @o:    by one thread at a time
 * @tag:  copied; UTF-8 without control characters, 1 to 128 bytes. An entry has up to 8
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM; CACHED_ERR_USAGE: a pointer is NULL, or there are 64
 * already. Then nothing changed. Tags and their number are checked by the daemon.
 */
int cached_set_options_add_tag(cached_set_options *o, const char *tag);

/*
 * cached_set_options_set_negative() - says that what is stored is that there is no value
 * @o:   by one thread at a time
 * @on:  not 0: what is stored as the value is the reason, up to 1024 bytes of UTF-8; see
 *       cached_set_negative(). 0 (default): it is a value
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_set_options_set_negative(cached_set_options *o, int on);

/*
 * cached_get() - looks up one entry; counts as a use of it
 * @c:      any thread
 * @cache:  an unknown one is a miss
 * @key:    @n_key bytes
 * @ret:    on a hit: cached_reply_value(), cached_reply_version(), ...; valid until
 *          cached_reply_free(), whatever becomes of the entry
 *
 * A value that was stored as an LZ4 block is decoded (cached_options_set_decode()). One of more
 * than 4 MiB that lies in a memory file is not copied: then the reply shows it in place, and it
 * cannot be written to (cached_get_view() gives one that can).
 *
 * Return: CACHED_OK: hit; CACHED_NOT_FOUND: miss; CACHED_NEGATIVE: what is stored is that there is
 * no value, and cached_reply_error() is the reason; or one of the common codes.
 */
int cached_get(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret);

/*
 * cached_get_mapped() - as cached_get(), as far as that takes no request and no wait
 * @c:      any thread
 * @cache:  an unknown one is a miss
 * @key:    @n_key bytes
 * @ret:    as of cached_get(); NULL with CACHED_ERR_AGAIN
 *
 * For callers that have to give something up before they wait, such as an interpreter's lock. What
 * only the daemon has, values that lie in memory files, and values that are due to be computed anew
 * are left to others.
 *
 * Return: as cached_get(); CACHED_ERR_AGAIN: it is for cached_get() or cached_get_or_lease() to
 * decide, and was not counted.
 */
int cached_get_mapped(cached *c, const char *cache, const void *key, size_t n_key,
                      cached_reply **ret);

/*
 * cached_peek() - as cached_get(), but counts neither as a use nor as a hit or miss
 * @c:      any thread
 * @cache:  an unknown one is a miss
 * @key:    @n_key bytes
 * @ret:    as of cached_get()
 *
 * Return: as cached_get().
 */
int cached_peek(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret);

/*
 * cached_get_many() - looks up several entries of one cache in one request
 * @c:       any thread
 * @cache:   an unknown one is a miss for every key
 * @n:       how many; the daemon's limit is HelloResult's max_keys_per_request
 * @keys:    @n pointers; may be NULL if @n is 0
 * @n_keys:  @n lengths in bytes; may be NULL if @n is 0
 * @ret:     @n items, in order: cached_reply_item_code() is CACHED_OK, CACHED_NOT_FOUND, or
 *           CACHED_TOO_LARGE for a value that did not fit into this reply (get it alone)
 *
 * Return: CACHED_OK: the items tell; CACHED_TOO_LARGE: the request is; or one of the common codes.
 */
int cached_get_many(cached *c, const char *cache, size_t n, const void *const *keys,
                    const size_t *n_keys, cached_reply **ret);

/*
 * cached_set() - stores one entry
 * @c:      any thread
 * @cache:  created with an empty policy if it is unknown
 * @key:    @n_key bytes
 * @value:  @n_value bytes, sent from where they lie; may be NULL if @n_value is 0. More than 4 MiB
 *          are copied into a memory file, which the daemon keeps
 * @o:      NULL: the defaults
 * @ret:    cached_reply_version() is the new entry's
 *
 * Return: CACHED_OK; CACHED_EXISTS (add only), CACHED_NOT_FOUND (replace only, or an expected
 * version where nothing is), CACHED_VERSION_MISMATCH; CACHED_TOO_LARGE, CACHED_NO_SPACE; or one of
 * the common codes. After CACHED_OUTCOME_UNKNOWN, CACHED_ERR_TIMEOUT, _DISCONNECTED, _NOMEM,
 * _BAD_REPLY and _CLOSED it may have been stored or not; after any other failure nothing changed.
 */
int cached_set(cached *c, const char *cache, const void *key, size_t n_key, const void *value,
               size_t n_value, const cached_set_options *o, cached_reply **ret);

/*
 * cached_set_negative() - stores that there is no value, and why
 * @c:       any thread
 * @cache:   created with an empty policy if it is unknown
 * @key:     @n_key bytes
 * @reason:  up to 1024 bytes of UTF-8: for whoever asks
 * @o:       as of cached_set(); NULL: the defaults. A time to live of its own is mostly wanted:
 *           cached_set_options_set_ttl_ms()
 * @ret:     cached_reply_version() is the new entry's
 *
 * Whoever gets the key is answered with CACHED_NEGATIVE and the reason.
 *
 * Return: as cached_set().
 */
int cached_set_negative(cached *c, const char *cache, const void *key, size_t n_key,
                        const char *reason, const cached_set_options *o, cached_reply **ret);

/*
 * cached_set_many() - stores several entries of one cache in one request; not a transaction
 * @c:         any thread
 * @cache:     created with an empty policy if it is unknown
 * @n:         how many; the daemon's limit is HelloResult's max_keys_per_request
 * @keys:      @n pointers; may be NULL if @n is 0, as the other three
 * @n_keys:    @n lengths in bytes
 * @values:    @n pointers; each may be NULL if its length is 0
 * @n_values:  @n lengths in bytes; together at most HelloResult's max_many_bytes
 * @o:         for all of them; NULL: the defaults
 * @ret:       @n items, in order: cached_reply_item_code() is what cached_set() would have returned
 *
 * Return: CACHED_OK: the items tell; CACHED_TOO_LARGE: the request is; or one of the common codes.
 */
int cached_set_many(cached *c, const char *cache, size_t n, const void *const *keys,
                    const size_t *n_keys, const void *const *values, const size_t *n_values,
                    const cached_set_options *o, cached_reply **ret);

/*
 * cached_touch() - uses an entry without reading it, and may give it a new time to live
 * @c:         any thread
 * @cache:     an unknown one is a miss
 * @key:       @n_key bytes
 * @ttl_ms:    milliseconds from now, 1 to 10 years, or CACHED_NEVER
 * @keep_ttl:  not 0: @ttl_ms is ignored, the time to live stays
 * @ret:       cached_reply_version(), cached_reply_ttl_ms(), ...; no value
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: no such entry; or one of the common codes.
 */
int cached_touch(cached *c, const char *cache, const void *key, size_t n_key, uint64_t ttl_ms,
                 int keep_ttl, cached_reply **ret);

/*
 * cached_delete() - removes one entry
 * @c:      any thread
 * @cache:  an unknown one is a miss
 * @key:    @n_key bytes
 * @ret:    says nothing beyond the code
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: no such entry; or one of the common codes.
 */
int cached_delete(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret);

/*
 * cached_clear() - removes all entries of a cache; the cache and its policy stay
 * @c:      any thread
 * @cache:  its name
 * @ret:    fields of ClearResult: "entries", how many there were, and "resources" that left
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: no such cache; or one of the common codes.
 */
int cached_clear(cached *c, const char *cache, cached_reply **ret);

/*
 * cached_clear_tag() - removes those entries of a cache that have a tag
 * @c:      any thread
 * @cache:  its name
 * @tag:    as of cached_set_options_add_tag(); one that no entry has is no failure
 * @ret:    field of ClearResult: "entries", how many there were
 *
 * Takes the same time however many there are: once it has returned nobody gets one of them.
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: no such cache; or one of the common codes.
 */
int cached_clear_tag(cached *c, const char *cache, const char *tag, cached_reply **ret);

/*
 * cached_clear_prefix() - removes those entries of a cache whose key begins with these bytes
 * @c:       any thread
 * @cache:   its name
 * @prefix:  @n_prefix bytes, at least 1
 * @ret:     fields of ClearResult: "entries", how many there were, and "resources" that left
 *
 * The daemon goes through the whole cache for it, and ends with what was there when it began. For
 * caches whose keys are text; what is made by cached_key_finish() has no such beginning.
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: no such cache; or one of the common codes.
 */
int cached_clear_prefix(cached *c, const char *cache, const void *prefix, size_t n_prefix,
                        cached_reply **ret);

/*
 * cached_clear_all() - removes all entries of all caches of the realm; for its admins
 * @c:    any thread
 * @ret:  fields of ClearResult: "entries", "caches", "resources"
 *
 * Return: CACHED_OK or one of the common codes; CACHED_DENIED: not an admin.
 */
int cached_clear_all(cached *c, cached_reply **ret);

/* ---- inspection */

/*
 * cached_ping() - asks whether the daemon is there
 * @c:    any thread
 * @ret:  fields of PingResult: "uptime_ms", "instance"
 *
 * Return: CACHED_OK or one of the common codes.
 */
int cached_ping(cached *c, cached_reply **ret);

/*
 * cached_list_caches() - one page of the realm's caches with their statistics
 * @c:          any thread
 * @page_size:  caches; 0: as many as the daemon allows
 * @cursor:     0: from the start; else "next" of the page before, which is 0 on the last one
 * @ret:        fields of ListCachesResult: "caches[0].name", "caches[0].hits" ... "next"
 *
 * Return: CACHED_OK or one of the common codes.
 */
int cached_list_caches(cached *c, uint32_t page_size, uint64_t cursor, cached_reply **ret);

/*
 * cached_list_entries() - one page of a cache's entries, without their values
 * @c:          any thread
 * @cache:      its name
 * @page_size:  entries; 0: as many as the daemon allows
 * @cursor:     0: from the start; else "next" of the page before, which is 0 on the last one
 * @ret:        fields of ListEntriesResult: "entries[0].key", "entries[0].entry.size",
 *              "entries[0].entry.tags[0]" ... "next". A page may be short or empty though others
 * follow
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: no such cache; or one of the common codes.
 */
int cached_list_entries(cached *c, const char *cache, uint32_t page_size, uint64_t cursor,
                        cached_reply **ret);

/*
 * cached_explain() - why a key is a hit or a miss
 * @c:      any thread
 * @cache:  its name, also an unknown one
 * @key:    @n_key bytes
 * @ret:    fields of ExplainResult: "fate" (as text: FATE_EXPIRED ...), "age_ms", "text";
 *          "inputs[0].name", "inputs[0].variants" of a key with variants; "computing.pid",
 *          "computing.age_ms", "computing.waiters" ... while somebody computes it
 *
 * Return: CACHED_OK or one of the common codes.
 */
int cached_explain(cached *c, const char *cache, const void *key, size_t n_key, cached_reply **ret);

/*
 * cached_stats() - statistics of a cache, the realm and the daemon
 * @c:      any thread
 * @cache:  NULL: no cache in particular
 * @ret:    fields of StatsResult: "cache.hits", "total.entries", "realm.bytes_charged",
 *          "daemon.uptime_ms" ...
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: no such cache; or one of the common codes.
 */
int cached_stats(cached *c, const char *cache, cached_reply **ret);

/*
 * cached_list_clients() - who is connected to the realm; for root and the daemon's own uid: to all
 * @c:    any thread
 * @ret:  fields of ListClientsResult: "clients[0].pid", "clients[0].name" ...
 *
 * Return: CACHED_OK or one of the common codes.
 */
int cached_list_clients(cached *c, cached_reply **ret);

/*
 * cached_list_computations() - one page of what is being computed in the realm, under a lease
 * @c:          any thread
 * @page_size:  computations; 0: as many as the daemon allows
 * @cursor:     0: from the start; else "next" of the page before, which is 0 on the last one
 * @ret:        fields of ListLeasesResult: "computations[0].cache", "computations[0].pid",
 *              "computations[0].age_ms", "computations[0].progress" ... "next"
 *
 * Return: CACHED_OK or one of the common codes.
 */
int cached_list_computations(cached *c, uint32_t page_size, uint64_t cursor, cached_reply **ret);

/*
 * cached_get_config() - every setting of the daemon and where it comes from
 * @c:    any thread
 * @ret:  fields of ConfigResult: "settings[0].name", "settings[0].value", "files[0]" ...
 *
 * Return: CACHED_OK or one of the common codes.
 */
int cached_get_config(cached *c, cached_reply **ret);

/*
 * cached_reload_config() - lets the daemon read its configuration again; for root and the daemon's
 * own uid
 * @c:    any thread
 * @ret:  as of cached_get_config()
 *
 * Return: CACHED_OK; CACHED_CONFIG: a file is wrong (the error says which line), the old
 * configuration stays; CACHED_DENIED; or one of the common codes.
 */
int cached_reload_config(cached *c, cached_reply **ret);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#include "cached-events.h"   /* what happens to entries, as it happens */
#include "cached-large.h"    /* values of megabytes and gigabytes, in place */
#include "cached-lease.h"    /* computed by one caller, for all */
#include "cached-memoize.h"  /* memoizes functions */
#include "cached-messages.h" /* what they said while they ran */
#include "cached-pipeline.h" /* many requests in flight, from one thread */
#include "cached-policy.h"   /* how much a cache keeps, and how long */
#include "cached-reply.h"    /* what came back from a call */
#include "cached-resource.h" /* live objects that processes share */
#include "cached-session.h"  /* a dictionary for one user */
#include "cached-vary.h"     /* those that find out what they depend on */

#endif
