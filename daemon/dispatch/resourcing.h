/* SPDX-License-Identifier: MIT */
#ifndef RESOURCING_H
#define RESOURCING_H

/*
 * Resourcing: resources as a part of the dispatcher
 *
 *   resourcing       its place there: its bounds, what the table of resources asks for, turns
 *   holding          holders, their connections and their processes
 *   resource-answer  what is said of an instance; parked requests are answered, holders told
 *   op-resource      getting, creating
 *   op-lock          using, giving back
 *   op-resource-list looking, dropping
 *   keeping          what a successor has to know, restoring: what a predecessor knew
 *   op-reclaim       what holders had of that
 */

#include "dispatch/dispatcher.h"
#include "realm/keeper.h"

struct client;
struct holding;
struct kept;
struct segment_head;

#define RESOURCING_GRACE_MS UINT64_C(10000) /* of holders whose connection is lost */

/* What an instance is here: its payload. */
struct resource_object {
        struct dispatcher *d;
        struct realm *realm;       /* stays while there are any in it */
        struct kept *kept;         /* NULL: local */
        struct segment_head *head; /* NULL: it has no lock word */
        uint64_t number;           /* of the instance, once it is published */
        unsigned refs;             /* the table's, and of frames that it goes with */
        uint32_t place;            /* in its name; RESOURCE_PLACE_NONE: it has none */
        uint32_t slot;             /* with the keeper; KEEPER_NONE */
        uint64_t named_ms;         /* when it got its name */
        uint8_t kind;              /* of its descriptor: enum fd_kind; 0: none */
        bool hung_up;
        bool keepable;     /* nobody who has a copy of its descriptor may hang because of it */
        uint64_t dev, ino; /* its file */
        char what[64];     /* of a descriptor: its kind */
        /* Of a session's cache: what the session calls it. It may be gone before its resources. */
        char cache[STORE_CACHE_NAME_MAX + 1];
};

/* A realm is freed: nobody has been connected to it for a long time. */
void resourcing_realm_ends(void *dispatcher, struct realm *realm);

/* 0 or -errno. */
int resourcing_init(struct dispatcher *d);
/* All connections are gone. */
void resourcing_done(struct dispatcher *d);
/* The configuration is another one. */
void resourcing_reconfigure(struct dispatcher *d);
/* The daemon, or its part in everything, ends: who waits is told so; and goes on after all. */
void resourcing_close(struct dispatcher *d);
void resourcing_open(struct dispatcher *d);

/* The connection ends. */
void resourcing_leave(struct client *client, uint64_t now_ms);
/* The client's output was sent. */
void resourcing_drained(struct client *client);

/* Answers who is to be answered, and tells who is to be told, for a while. */
void resourcing_flush(struct dispatcher *d);
/* Looks at deadlines, answers and tells. True: there is more to do. */
bool resourcing_maintain(struct dispatcher *d, uint64_t now_ms);

static inline bool resourcing_has_decided(const struct dispatcher *d)
{
        return __builtin_expect(!list_is_empty(&d->resources.decided) ||
                                        !list_is_empty(&d->resources.events),
                                0);
}

/* A session's cache is removed from the realm that holds it. */
void resourcing_cache_ends(struct dispatcher *d, const struct realm *hidden, uint32_t cache,
                           uint64_t now_ms);
/* One cache was cleared, or with @ref NULL all of the realm; of it what begins with @prefix. How
 * many left. */
uint64_t resourcing_cleared(struct request *r, const struct cache_ref *ref, struct key_ref prefix);

/* ---- caches, as the table knows them
 *
 * Its space is the realm. A session's cache is apart in the realm that the session belongs to, with
 * the id that it has in the realm that holds sessions. */

static inline uint32_t resourcing_cache(const struct request *r, uint32_t cache)
{
        return r->who.realm->hidden && cache != 0 ? cache | RESOURCE_APART : cache;
}

/* The request is about this cache, of the table: is of its session, or of no session. */
bool resourcing_is_in_scope(const struct request *r, uint32_t cache);
/* What the cache of @res is called, in @buf. */
void resourcing_cache_name(const struct realm *realm, const struct resource *res, char *buf,
                           size_t n_buf);

/* @cache 0: of all of the realm. */
struct resource_gauge resourcing_gauge(const struct request *r, uint32_t cache);

/* ---- objects */

/* Of an instance that is to be there. NULL: no memory. */
struct resource_object *resource_object_new(struct dispatcher *d,
                                            const struct resource_where *where);
/* Checks the request's descriptor as that of a segment of @size bytes, and keeps it in @o. */
enum status resource_take_segment(struct request *r, struct resource_object *o, uint64_t size,
                                  bool read_only);
/* For conn_keep_fd(), with the object: it leaves. */
void resource_hung_up(void *object);
/* The cache of a request, made if it is unknown, with what holds for it: for @where, @ret. */
enum status resource_open_cache(struct request *r, uint32_t cache_id, const char *cache,
                                const Cached__V1__Policy *given, struct resource_where *where,
                                struct resource_policy *ret);
void resource_object_unref(struct resource_object *o);

/* ---- holders */

/* The request's, by its id, for @ret; NOT_FOUND with a text is INVALID here: see holding.c. */
enum status holding_find(struct request *r, uint64_t id, struct resource_holder **ret);
/* With an instance that it holds, or held until it left. NOT_FOUND: it is gone. */
enum status holding_find_instance(struct request *r, uint64_t id, uint64_t instance,
                                  struct resource_holder **ret_holder, struct resource **ret);
/* The connection's, made when it is needed. NULL: no memory. */
struct resource_party *resourcing_party(struct client *client);
/* How many instances it holds; 0 for NULL. */
uint64_t holding_count(const struct holding *h);
/* What the client of a holder is called; "" where it has none. */
const char *holding_name(const struct resource_holder *h);
/* It can be told again what has left. */
void holding_drained(struct holding *h);
/* The connection ends: its holder goes on for a while, if its process does. */
void holding_leave(struct client *client, uint64_t now_ms);
/* What is left of holders that the table has ended. */
void holding_sweep(struct dispatcher *d, uint64_t now_ms);
void holding_done(struct dispatcher *d);

/* ---- answers */

/* Fills @to, initialised by the caller; it borrows. */
void resource_describe(const struct request *r, Cached__V1__ResourceInfo *to,
                       const struct resource *res);
/* Queues @info, and with it the descriptor of @res unless that is NULL. */
enum status resource_answer_with(struct request *r, Cached__V1__ResourceInfo *info,
                                 const struct resource *res);
/* It is not to be answered: what it got is given back. */
void resource_waiter_drop(struct dispatcher *d, struct resource_waiter *w);
/* The reply that @k, an enum resource_answer or -ENOMEM, means for an Acquire or Lock. */
enum status resource_refusal(struct request *r, int k, const struct resource_reply *why);

#endif
