/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_SESSION_H
#define CACHED_SESSION_H

/*
 * Sessions: a dictionary for one user, shared by all processes that have its token
 *
 *     cached_session_open(c, NULL, &s, NULL);
 *     give_to_the_browser(cached_session_token(s));
 *     ...
 *     cached_session_attach(c, token, &s, NULL);
 *     cached_session_increment(s, "visits", 1, &zero, &visits, NULL);
 *     cached_session_free(s);
 *
 * A value that depends on the one that was read:
 *
 *     do {
 *             uint64_t version;
 *
 *             cached_session_get(s, "cart", &r);
 *             cached_reply_u64(r, "items[0].version", &version);
 *             ... another cart, of cached_reply_value() ...
 *             cached_reply_free(r);
 *             code = cached_session_compare_and_set(s, "cart", version, cart, n, NULL);
 *     } while (code == CACHED_VERSION_MISMATCH);
 *
 * Who has the token sees the session, from any process and in any language; nobody else does. Keys
 * are text of 1 to 128 bytes, values any bytes, at most limits.session_keys and
 * limits.session_bytes of them. A session ends when it is closed, when nobody used it for as long
 * as its options say, and, if they say so, some time after the last connection that was attached to
 * it has gone (cached_session_watch()). It survives a daemon that is replaced (cached --handover),
 * and one that was killed if its descriptors were preserved, as a service manager does.
 *
 * What depends on a value can be changed safely by several at once: numbers are counted up in the
 * daemon, a value can be set only if there is none or if it is the one that was read. Such a change
 * is carried out once, also when the connection breaks and it has to be sent again; where that can
 * not be told any more the code is CACHED_OUTCOME_UNKNOWN.
 *
 * A session that has ended, that never was and that is another realm's: all calls return
 * CACHED_NOT_FOUND, and cached_reply_error() says the same of each. A key without a value is
 * CACHED_NOT_FOUND, too: cached_session_is_over() tells the one from the other.
 *
 * Every call may return one of the common codes; CACHED_UNSUPPORTED where the daemon is too old for
 * sessions. Where a call takes @ret for a reply, that is owned by the caller, freed with
 * cached_reply_free(), and set on failure, too, unless memory ran out; NULL: not interested.
 *
 * Threads: any number may use one object. Fork: a child may use it; it is a token and a handle.
 */

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

typedef struct cached_session cached_session;                 /* one session, by its token */
typedef struct cached_session_options cached_session_options; /* how to open one */

#define CACHED_SESSION_TOKEN_LENGTH 32 /* hexadecimal digits of a token's text */

/* ---- options */

/*
 * cached_session_options_new() - how to open a session: all at the defaults
 *
 * Return: owned by the caller, freed with cached_session_options_free(); NULL: out of memory.
 */
cached_session_options *cached_session_options_new(void);

/*
 * cached_session_options_free() - frees options
 * @o:  may be NULL
 */
void cached_session_options_free(cached_session_options *o);

/*
 * cached_session_options_set_label() - what people see of it in listings
 * @o:      by one thread at a time
 * @label:  up to 64 bytes of UTF-8 without control characters; copied; default: ""
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: a pointer is NULL, or it is longer.
 */
int cached_session_options_set_label(cached_session_options *o, const char *label);

/*
 * cached_session_options_set_idle_ms() - after how long without use it ends
 * @o:   by one thread at a time
 * @ms:  1 ms to 10 years; CACHED_NEVER: never; 0 (default): what the daemon's configuration says
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_session_options_set_idle_ms(cached_session_options *o, uint64_t ms);

/*
 * cached_session_options_set_grace_ms() - how long it lives without anybody who is attached
 * @o:   by one thread at a time
 * @ms:  0 to 1 hour; CACHED_NEVER (default): it needs nobody. See cached_session_watch()
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_session_options_set_grace_ms(cached_session_options *o, uint64_t ms);

/* ---- life */

/*
 * cached_session_open() - begins a session, which is empty
 * @c:      must outlive the object
 * @o:      NULL: all at the defaults
 * @ret:    owned by the caller, freed with cached_session_free(); untouched on failure
 * @reply:  what is known of it: fields of SessionInfo. NULL: not interested
 *
 * Return: CACHED_OK; CACHED_LIMIT: the user has too many.
 */
int cached_session_open(cached *c, const cached_session_options *o, cached_session **ret,
                        cached_reply **reply);

/*
 * cached_session_attach() - the session of a token
 * @c:      must outlive the object
 * @token:  its text, as cached_session_token() returned it somewhere
 * @ret:    owned by the caller, freed with cached_session_free(); untouched on failure
 * @reply:  what is known of it: fields of SessionInfo. NULL: not interested
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND; CACHED_ERR_USAGE: that is no token's text.
 */
int cached_session_attach(cached *c, const char *token, cached_session **ret, cached_reply **reply);

/*
 * cached_session_free() - frees the object; the session goes on
 * @s:  may be NULL
 */
void cached_session_free(cached_session *s);

/*
 * cached_session_token() - what to give to whoever is to see the session
 * @s:  may be NULL
 *
 * As secret as what is in it: not for logs, nor for arguments of commands.
 *
 * Return: 32 hexadecimal digits, valid as long as the object; NULL for NULL.
 */
const char *cached_session_token(const cached_session *s);

/*
 * cached_session_info() - what is known of a session: a use of it
 * @s:    by any thread
 * @ret:  fields of SessionInfo: "label", "keys", "bytes", "unused_ms", "id" ...
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND.
 */
int cached_session_info(cached_session *s, cached_reply **ret);

/*
 * cached_session_close() - ends a session, with its caches, for everybody
 * @s:    by any thread; it is still to be freed
 * @ret:  what it was: fields of SessionInfo
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND.
 */
int cached_session_close(cached_session *s, cached_reply **ret);

/*
 * cached_session_is_over() - whether CACHED_NOT_FOUND was about the session and not about a key
 * @r:  a reply of one of the calls here; may be NULL
 *
 * Return: 1: there is no such session; else 0.
 */
int cached_session_is_over(const cached_reply *r);

/*
 * cached_session_list() - the sessions of the realm: of the user, for an admin all
 * @c:          by any thread
 * @page_size:  0: as many as the daemon allows
 * @cursor:     0: from the start; else "next" of the page before
 * @ret:        fields of ListSessionsResult: "sessions[0].label" ..., "next". No tokens
 *
 * Return: CACHED_OK.
 */
int cached_session_list(cached *c, uint32_t page_size, uint64_t cursor, cached_reply **ret);

/* ---- values */

/*
 * cached_session_get() - the value of a key
 * @s:    by any thread
 * @key:  1 to 128 bytes of UTF-8
 * @ret:  cached_reply_value() has it; "items[0].version" and "items[0].flags" belong to it
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: it has none, and cached_reply_error() names it.
 */
int cached_session_get(cached_session *s, const char *key, cached_reply **ret);

/*
 * cached_session_get_many() - the values of some keys, read at one moment
 * @s:     by any thread
 * @n:     how many, at least 1
 * @keys:  no two are the same
 * @ret:   cached_session_item() has each, in this order
 *
 * Return: CACHED_OK, also where keys have no values.
 */
int cached_session_get_many(cached_session *s, size_t n, const char *const *keys,
                            cached_reply **ret);

/*
 * cached_session_get_all() - all keys and values, read at one moment
 * @s:    by any thread
 * @ret:  cached_session_item() has each, in the order in which the keys were first set
 *
 * Return: CACHED_OK.
 */
int cached_session_get_all(cached_session *s, cached_reply **ret);

/*
 * cached_session_keys() - all keys, without their values
 * @s:    by any thread
 * @ret:  cached_session_item() has each key, in the order in which they were first set
 *
 * Return: CACHED_OK.
 */
int cached_session_keys(cached_session *s, cached_reply **ret);

/*
 * cached_session_item() - one key of a reply
 * @r:           a reply of cached_session_get(), _get_many(), _get_all() or _keys(); may be NULL
 * @i:           from 0 to cached_reply_n_items() - 1
 * @ret_value:   NULL where there is none; borrowed from the reply. NULL: not interested
 * @ret_size:    bytes of the value, told where values are not. NULL: not interested
 *
 * Return: the key, borrowed from the reply; NULL: there is no such item.
 */
const char *cached_session_item(const cached_reply *r, size_t i, const void **ret_value,
                                size_t *ret_size);

/*
 * cached_session_contains() - whether a key has a value
 * @s:    by any thread
 * @key:  1 to 128 bytes of UTF-8
 *
 * Return: CACHED_OK: it has; CACHED_NOT_FOUND: it has none, or there is no such session.
 */
int cached_session_contains(cached_session *s, const char *key);

/*
 * cached_session_set() - sets a key's value
 * @s:        by any thread
 * @key:      1 to 128 bytes of UTF-8
 * @value:    may be NULL if @n_value is 0
 * @n_value:  bytes
 * @ret:      "version" is the session's
 *
 * Return: CACHED_OK; CACHED_TOO_LARGE, CACHED_LIMIT: the session would be beyond its bounds.
 */
int cached_session_set(cached_session *s, const char *key, const void *value, size_t n_value,
                       cached_reply **ret);

/*
 * cached_session_set_many() - sets several keys, all or none
 * @s:         by any thread
 * @n:         how many, at least 1
 * @keys:      no two are the same
 * @values:    of each; NULL where it has 0 bytes
 * @n_values:  bytes of each
 * @ret:       "version" is the session's
 *
 * Return: CACHED_OK; CACHED_TOO_LARGE, CACHED_LIMIT: as cached_session_set().
 */
int cached_session_set_many(cached_session *s, size_t n, const char *const *keys,
                            const void *const *values, const size_t *n_values, cached_reply **ret);

/*
 * cached_session_set_if_absent() - sets a key's value unless it has one
 * @s:        by any thread
 * @key:      1 to 128 bytes of UTF-8
 * @value:    may be NULL if @n_value is 0
 * @n_value:  bytes
 * @ret:      with CACHED_EXISTS: cached_reply_value() has the value that is there
 *
 * Return: CACHED_OK: it was set; CACHED_EXISTS: somebody was first; CACHED_OUTCOME_UNKNOWN.
 */
int cached_session_set_if_absent(cached_session *s, const char *key, const void *value,
                                 size_t n_value, cached_reply **ret);

/*
 * cached_session_compare_and_set() - sets a key's value if it still is the one that was read
 * @s:        by any thread
 * @key:      1 to 128 bytes of UTF-8
 * @version:  "items[0].version" of the reply that read it
 * @value:    may be NULL if @n_value is 0
 * @n_value:  bytes
 * @ret:      with CACHED_VERSION_MISMATCH: "items[0].version" is the one that is there
 *
 * Return: CACHED_OK; CACHED_VERSION_MISMATCH; CACHED_NOT_FOUND: it has no value;
 * CACHED_OUTCOME_UNKNOWN.
 */
int cached_session_compare_and_set(cached_session *s, const char *key, uint64_t version,
                                   const void *value, size_t n_value, cached_reply **ret);

/*
 * cached_session_set_with_flags() - sets a key's value, and says what it is
 * @s:        by any thread
 * @key:      1 to 128 bytes of UTF-8
 * @flags:    the writer's own, for readers: "items[0].flags" of cached_session_get(); 0: as
 *            cached_session_set()
 * @value:    may be NULL if @n_value is 0
 * @n_value:  bytes
 * @ret:      "version" is the session's
 *
 * Counting and appending keep a key's flags. Those that the languages agree on are in VALUES.md.
 *
 * Return: as cached_session_set().
 */
int cached_session_set_with_flags(cached_session *s, const char *key, uint32_t flags,
                                  const void *value, size_t n_value, cached_reply **ret);

/*
 * cached_session_set_many_with_flags() - sets several keys, all or none, and says what they are
 * @s:         by any thread
 * @n:         how many, at least 1
 * @keys:      no two are the same
 * @flags:     of each, as of cached_session_set_with_flags(); NULL: all are 0
 * @values:    of each; NULL where it has 0 bytes
 * @n_values:  bytes of each
 * @ret:       "version" is the session's
 *
 * Return: as cached_session_set_many().
 */
int cached_session_set_many_with_flags(cached_session *s, size_t n, const char *const *keys,
                                       const uint32_t *flags, const void *const *values,
                                       const size_t *n_values, cached_reply **ret);

/*
 * cached_session_set_if_absent_with_flags() - sets a key's value and flags unless it has one
 * @s:        by any thread
 * @key:      1 to 128 bytes of UTF-8
 * @flags:    as of cached_session_set_with_flags()
 * @value:    may be NULL if @n_value is 0
 * @n_value:  bytes
 * @ret:      with CACHED_EXISTS: cached_reply_value() and "items[0].flags" are what is there
 *
 * Return: as cached_session_set_if_absent().
 */
int cached_session_set_if_absent_with_flags(cached_session *s, const char *key, uint32_t flags,
                                            const void *value, size_t n_value, cached_reply **ret);

/*
 * cached_session_compare_and_set_with_flags() - sets a value and flags if the value is still the
 * same
 * @s:        by any thread
 * @key:      1 to 128 bytes of UTF-8
 * @version:  "items[0].version" of the reply that read it
 * @flags:    as of cached_session_set_with_flags()
 * @value:    may be NULL if @n_value is 0
 * @n_value:  bytes
 * @ret:      with CACHED_VERSION_MISMATCH: "items[0].version" is the one that is there
 *
 * Return: as cached_session_compare_and_set().
 */
int cached_session_compare_and_set_with_flags(cached_session *s, const char *key, uint64_t version,
                                              uint32_t flags, const void *value, size_t n_value,
                                              cached_reply **ret);

/*
 * cached_session_delete() - a key has no value any more
 * @s:    by any thread
 * @key:  1 to 128 bytes of UTF-8
 * @ret:  "version" is the session's
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: it had none.
 */
int cached_session_delete(cached_session *s, const char *key, cached_reply **ret);

/*
 * cached_session_clear() - no key has a value any more; the session goes on
 * @s:    by any thread
 * @ret:  "version" is the session's
 *
 * Return: CACHED_OK.
 */
int cached_session_clear(cached_session *s, cached_reply **ret);

/*
 * cached_session_increment() - adds to a whole number
 * @s:        by any thread
 * @key:      its value is decimal text of 64 bits with sign, and becomes that
 * @by:       negative: subtracts
 * @start:    what it counts as if it has no value; NULL: then the call fails
 * @ret_sum:  the new number; untouched on failure. NULL: not interested
 * @ret:      cached_reply_value() has it as text
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: it has no value, and @start is NULL; CACHED_INVALID: its
 * value is no such number, or the sum is too large for one; CACHED_OUTCOME_UNKNOWN.
 */
int cached_session_increment(cached_session *s, const char *key, int64_t by, const int64_t *start,
                             int64_t *ret_sum, cached_reply **ret);

/*
 * cached_session_increment_real() - adds to a real number
 * @s:        by any thread
 * @key:      its value is the text of a binary64 number, and becomes the shortest that is
 * @by:       finite
 * @start:    what it counts as if it has no value; NULL: then the call fails
 * @ret_sum:  the new number; untouched on failure. NULL: not interested
 * @ret:      cached_reply_value() has it as text
 *
 * Return: as cached_session_increment().
 */
int cached_session_increment_real(cached_session *s, const char *key, double by,
                                  const double *start, double *ret_sum, cached_reply **ret);

/*
 * cached_session_append() - puts bytes behind a key's value
 * @s:          by any thread
 * @key:        1 to 128 bytes of UTF-8; without a value it gets these
 * @value:      may be NULL if @n_value is 0
 * @n_value:    bytes
 * @max_bytes:  the value keeps its last so many bytes; 0: all
 * @ret:        "items[0].size" is the new size
 *
 * Return: CACHED_OK; CACHED_TOO_LARGE, CACHED_LIMIT: as cached_session_set();
 * CACHED_OUTCOME_UNKNOWN.
 */
int cached_session_append(cached_session *s, const char *key, const void *value, size_t n_value,
                          uint64_t max_bytes, cached_reply **ret);

/* ---- more than values */

/*
 * cached_session_handle() - a handle for the session's own caches
 * @s:    need not outlive the result
 * @ret:  owned by the caller, freed with cached_free(); untouched on failure
 *
 * What is stored with it, memoized functions too, belongs to the session alone and ends with it.
 * It has connections of its own, with the options of the session's handle, and look-ups ask the
 * daemon. All else is as with other handles; but a session's caches have no subscriptions and no
 * pinned policies (CACHED_UNSUPPORTED), and what is not about caches is about the realm, as with
 * the session's handle.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: a pointer is NULL; CACHED_ERR_NOMEM.
 */
int cached_session_handle(cached_session *s, cached **ret);

/*
 * cached_session_watch() - stays attached to a session, and is told of its changes
 * @s:      need not outlive the result; the handle that it was made with must
 * @ret:    owned by the caller, freed with cached_events_free(); untouched on failure
 * @reply:  the error, on failure; else *reply is NULL. NULL: not interested
 *
 * A connection of its own, as of cached_subscribe(), and what is said there holds here: as long as
 * it stands the session is attached; it comes again by itself in cached_events_next(), and after
 * CACHED_EVENT_LOST everything may be another. Events are CACHED_EVENT_SESSION;
 * cached_session_event() tells what happened. When the session has ended, after the event that says
 * so if there was a connection, cached_events_next() returns CACHED_NOT_FOUND.
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: there is no such session.
 */
int cached_session_watch(cached_session *s, cached_events **ret, cached_reply **reply);

/* What happened to a session. */
#define CACHED_SESSION_SET     1 /* keys have other values */
#define CACHED_SESSION_DELETED 2 /* keys have no values any more */
#define CACHED_SESSION_CLEARED 3 /* all of them */
#define CACHED_SESSION_CLOSED  4 /* it is no more */
#define CACHED_SESSION_EXPIRED 5 /* likewise */
#define CACHED_SESSION_EVICTED 6 /* likewise */
#define CACHED_SESSION_LOST    7 /* something that was not kept for who did not read */

/*
 * cached_session_event() - what an event of a session says
 * @v:  may be NULL
 *
 * The keys: cached_reply_text() of cached_event_reply(), "session.keys[0]" ..., and
 * cached_reply_count() of "session.keys".
 *
 * Return: one of CACHED_SESSION_*; 0: it is no event of a session, or of a kind that is not known.
 */
int cached_session_event(const cached_event *v);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
