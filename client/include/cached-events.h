/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_EVENTS_H
#define CACHED_EVENTS_H

/*
 * Events: what happens to entries, caches and resources, as it happens
 *
 *         code = cached_subscribe(c, "thumbnails", CACHED_EVENT_DELETED | CACHED_EVENT_CLEARED,
 *                                 &e, NULL);
 *         while ((code = cached_events_next(e, UINT32_MAX, &event)) == CACHED_OK)
 *                 if (cached_event_kind(event) == CACHED_EVENT_LOST)
 *                         forget_all();
 *                 else
 *                         forget(event);
 *         cached_events_free(e);
 *
 * A subscription has a connection of its own. What happened after cached_subscribe() returned is
 * told, in order, or it is told that something was not kept: CACHED_EVENT_LOST. The daemon keeps a
 * bounded number for who does not read; this library keeps none but the one that was handed out
 * last, beside what one read from the socket brought.
 *
 * Reconnecting: when the daemon ends, is restarted, or hands over to another one, the subscription
 * makes a connection again by itself, in cached_events_next(), however long that takes, with
 * pauses from 10 ms to 1 s between attempts. The first event after it has succeeded is
 * CACHED_EVENT_LOST with an unknown number (cached_event_lost() is UINT64_MAX): from there on
 * everything is told again. Who keeps something that events invalidate drops all of it then.
 *
 * Threads: a subscription is used by one thread at a time; what is read from an event belongs to
 * the subscription and is valid until the next cached_events_next(). Fork: a subscription does not
 * survive: in the child it may only be freed, which leaves the parent's alone.
 */

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library itself is built with hidden visibility */
#endif

typedef struct cached_events cached_events; /* a subscription */
typedef struct cached_event cached_event;   /* what happened */

/* What can happen: bits, for cached_subscribe(); an event is one of them. */
#define CACHED_EVENT_STORED  1u   /* an entry was stored, or replaced */
#define CACHED_EVENT_DELETED 2u   /* an entry was deleted */
#define CACHED_EVENT_CLEARED 4u   /* a cache was cleared, a tag of it, a prefix, or all caches */
#define CACHED_EVENT_EXPIRED 8u   /* an entry was found to have expired: some time after it did */
#define CACHED_EVENT_EVICTED 16u  /* an entry made room for others */
#define CACHED_EVENT_POLICY  32u  /* a cache's policy changed */
#define CACHED_EVENT_REFRESH 64u  /* a schedule asks for values to be computed anew */
#define CACHED_EVENT_ALL     127u /* all of these: what happens to entries and their caches */
#define CACHED_EVENT_LOST    128u /* some were not kept; told in any case, and not to be asked for */
#define CACHED_EVENT_SESSION 256u /* of a session: only from cached_session_watch() */
/* Of resources (cached-resource.h), but for those of sessions. Not in CACHED_EVENT_ALL, to which
 * they are added: CACHED_EVENT_ALL | CACHED_EVENT_RESOURCES. */
#define CACHED_EVENT_RESOURCE_CREATED 512u  /* one is there */
#define CACHED_EVENT_RESOURCE_LEFT    1024u /* it has left its cache, for whatever cause */
#define CACHED_EVENT_RESOURCES        1536u /* both */

/*
 * cached_subscribe() - asks to be told what happens from now on
 * @c:      its options are used; it must outlive the subscription. Closing it ends no subscription
 * @cache:  of this cache only, which need not exist yet; NULL or "": of all caches of the realm
 * @kinds:  CACHED_EVENT_* bits
 * @ret:    owned by the caller, freed with cached_events_free(); untouched on failure
 * @reply:  the error, on failure; else *reply is NULL. NULL: not interested
 *
 * Return: CACHED_OK; CACHED_UNSUPPORTED also where the daemon is too old for it; or one of the
 * common codes.
 */
int cached_subscribe(cached *c, const char *cache, uint32_t kinds, cached_events **ret,
                     cached_reply **reply);

/*
 * cached_events_free() - ends a subscription
 * @e:  may be NULL
 */
void cached_events_free(cached_events *e);

/*
 * cached_events_fd() - the descriptor to wait for, in an event loop of the caller's
 * @e:  by one thread at a time; may be NULL
 *
 * Readable when cached_events_next() has something to do: then that is called with a timeout of 0
 * until it returns CACHED_ERR_AGAIN. Never to be read, written or closed; it stays the same over
 * reconnects, and no timer is needed beside it.
 *
 * Return: the same number until cached_events_free(), which closes it; -1: @e is NULL.
 */
int cached_events_fd(const cached_events *e);

/*
 * cached_events_next() - the next event
 * @e:           by one thread at a time
 * @timeout_ms:  how long to wait for one; 0: not at all; UINT32_MAX: as long as it takes
 * @ret:         owned by the subscription, valid until the next call; untouched on failure
 *
 * Return: CACHED_OK; CACHED_ERR_AGAIN: none came in time, perhaps since the daemon is away
 * (cached_events_error()); CACHED_ERR_USAGE: a pointer is NULL, or the subscription is that of the
 * process that forked this one; another of the common codes: a connection came about and the daemon
 * refuses the subscription (CACHED_DENIED, CACHED_UNSUPPORTED, CACHED_ERR_UNTRUSTED ...), or the
 * handle is closed and the connection has broken (CACHED_ERR_CLOSED). A later call tries again.
 */
int cached_events_next(cached_events *e, uint32_t timeout_ms, const cached_event **ret);

/*
 * cached_events_error() - one sentence for people: why there is no connection now
 * @e:  may be NULL
 *
 * Return: valid until the next call of cached_events_next() or cached_events_free(); "": there is
 * one.
 */
const char *cached_events_error(const cached_events *e);

/*
 * ---- one event
 *
 * What an event of a kind does not have is NULL, "" or 0.
 */

/*
 * cached_event_kind() - what happened
 * @v:  may be NULL
 *
 * Return: one of CACHED_EVENT_*; 0 for NULL.
 */
uint32_t cached_event_kind(const cached_event *v);

/*
 * cached_event_cache() - the cache that it happened in
 * @v:  may be NULL
 *
 * Return: its name; "" for CACHED_EVENT_LOST, and where all caches of the realm were cleared.
 */
const char *cached_event_cache(const cached_event *v);

/*
 * cached_event_key() - the key of the entry, or of the resource
 * @v:         may be NULL
 * @ret_size:  bytes; untouched if there is no key; may be NULL
 *
 * Return: NULL unless an entry was stored, deleted, evicted or has expired, or a resource came or
 * left.
 */
const void *cached_event_key(const cached_event *v, size_t *ret_size);

/*
 * cached_event_version() - the version of the entry that was stored
 * @v:  may be NULL
 *
 * Return: 0 unless it is CACHED_EVENT_STORED.
 */
uint64_t cached_event_version(const cached_event *v);

/*
 * cached_event_size() - the size of the value that was stored
 * @v:  may be NULL
 *
 * Return: bytes, as stored; 0 unless it is CACHED_EVENT_STORED.
 */
uint64_t cached_event_size(const cached_event *v);

/*
 * cached_event_cause() - why an entry was evicted
 * @v:  may be NULL
 *
 * Return: as "fate" of cached_explain(): "FATE_EVICTED_MAX_BYTES" ...; "" for other events, and a
 * cause that this library does not know.
 */
const char *cached_event_cause(const cached_event *v);

/*
 * cached_event_tag() - the tag that was cleared
 * @v:  may be NULL
 *
 * Return: NULL unless entries with a tag were cleared.
 */
const char *cached_event_tag(const cached_event *v);

/*
 * cached_event_prefix() - the prefix of keys that was cleared
 * @v:         may be NULL
 * @ret_size:  bytes; untouched if there is no prefix; may be NULL
 *
 * Return: NULL unless entries were cleared by prefix.
 */
const void *cached_event_prefix(const cached_event *v, size_t *ret_size);

/*
 * cached_event_entries() - how many entries were cleared
 * @v:  may be NULL
 *
 * Return: 0 unless it is CACHED_EVENT_CLEARED.
 */
uint64_t cached_event_entries(const cached_event *v);

/*
 * cached_event_age_ms() - how long ago it happened, when the daemon sent it
 * @v:  may be NULL
 *
 * Return: milliseconds.
 */
uint64_t cached_event_age_ms(const cached_event *v);

/*
 * cached_event_lost() - how many events were not kept, in this place
 * @v:  may be NULL
 *
 * Return: UINT64_MAX: it is not known, since the connection had broken; 0 unless it is
 * CACHED_EVENT_LOST.
 */
uint64_t cached_event_lost(const cached_event *v);

/*
 * cached_event_schedule() - the name of the schedule that asks for a refresh
 * @v:  may be NULL
 *
 * Return: as in the daemon's configuration; "" unless it is CACHED_EVENT_REFRESH.
 */
const char *cached_event_schedule(const cached_event *v);

/*
 * cached_event_instance() - the number of the resource that came or left
 * @v:  may be NULL
 *
 * Return: as of cached_resource_list(): never used twice; 0 for other events.
 */
uint64_t cached_event_instance(const cached_event *v);

/*
 * cached_event_resource_cause() - why a resource has left its cache
 * @v:  may be NULL
 *
 * More of it, in cached_event_reply(): "instance.resource" (its kind), "instance.reason" (what
 * cached_resource_invalidate() was given), "instance.holders" (who had it, and are told).
 *
 * Return: CACHED_RESOURCE_EXPIRED ... as of cached_resource_has_left(), perhaps one that is not
 * known here; 0 for other events.
 */
int cached_event_resource_cause(const cached_event *v);

/*
 * cached_event_reply() - the event as the daemon sent it, for cached_reply_u64() and its kin
 * @v:  may be NULL
 *
 * Return: fields of Event: "policy_changed.policy.ttl_ms", "entry.key" ... Valid as long as the
 * event; NULL for one that this library made (CACHED_EVENT_LOST of an unknown number).
 */
const cached_reply *cached_event_reply(const cached_event *v);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
