/* SPDX-License-Identifier: MIT */
/*
 * Attach
 *
 * A session that somebody is attached to has a place in a table, found by its key, with one
 * attachment for each such connection; both are plain memory and go with the connections. That a
 * session is bound, and until when it lives, is in its record.
 *
 * What a connection is to be told waits in one queue, in the order in which it happened, and is
 * sent at the end of the turn, or, where that is full and it reads, at once. Once the queue has
 * limits.events_queued in it, each attachment puts SESSION_LOST behind them, which it has by
 * itself, and nothing more until that was sent.
 *
 * An event with many keys is told as several of the same version, so that none is large.
 */
#include "dispatch/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "dispatch/dispatcher.h"
#include "dispatch/reply.h"
#include "realm/realm.h"

#define KEYS_AT_ONCE  32u
#define EVENT_OUTPUT  ((uint64_t)64 * 1024) /* that waits for who does not read */
#define EVENTS_A_TURN 1000u                 /* of all connections */
#define RETRY_MS      100                   /* after memory ran out */
#define FIRST_BUCKETS ((size_t)64)

struct attachment;

struct session_news {
        struct list node;              /* of the client's queue */
        struct attachment *lost;       /* whose SESSION_LOST this is; else NULL */
        uint8_t key[SESSION_KEY_SIZE]; /* of the session */
        Cached__V1__SessionChange change;
        uint64_t version, when_ms;
        unsigned n_keys;
        const char *keys; /* one behind the other, each with its end, in the same piece of memory */
};

struct attachment {
        struct attached_session *session;
        struct attached_client *by;
        struct list of_session, of_client;
        bool wants_events;
        struct session_news lost; /* its node is linked while that waits */
};

struct attached_session {
        struct attached_session *next; /* of the bucket */
        struct realm *hidden;
        uint8_t key[SESSION_KEY_SIZE];
        struct list attachments;
        uint64_t n;
};

struct attached_client {
        struct client *client;
        struct list attachments;
        struct list queue;
        uint64_t n_queued;
        struct list due_node;
        bool waits; /* for its output to drain */
};

void attachments_init(struct attachments *a)
{
        *a = (struct attachments){0};
        list_init(&a->due);
}

void attachments_done(struct attachments *a)
{
        free(a->buckets);
        a->buckets = NULL;
}

/* ---- the table */

/* Keys are digests: any part of them is a hash. */
static size_t bucket_of(const struct attachments *a, const uint8_t *key)
{
        uint64_t x;
        memcpy(&x, key, sizeof(x));
        return (size_t)x & (a->n_buckets - 1);
}

static struct attached_session **find_place(const struct attachments *a, const struct realm *hidden,
                                            const uint8_t *key)
{
        struct attached_session **at = &a->buckets[bucket_of(a, key)];
        while (*at && ((*at)->hidden != hidden || memcmp((*at)->key, key, SESSION_KEY_SIZE) != 0))
                at = &(*at)->next;
        return at;
}

static struct attached_session *find_session(const struct attachments *a,
                                             const struct realm *hidden, const uint8_t *key)
{
        return a->n > 0 ? *find_place(a, hidden, key) : NULL;
}

static int grow(struct attachments *a)
{
        if (a->n < a->n_buckets)
                return 0;
        struct attachments wider = *a;
        wider.n_buckets = a->n_buckets > 0 ? 2 * a->n_buckets : FIRST_BUCKETS;
        wider.buckets = calloc(wider.n_buckets, sizeof(struct attached_session *));
        if (!wider.buckets)
                return a->n_buckets > 0 ? 0 : -ENOMEM;
        for (size_t i = 0; i < a->n_buckets; i++) {
                struct attached_session *next;
                for (struct attached_session *s = a->buckets[i]; s; s = next) {
                        struct attached_session **to = &wider.buckets[bucket_of(&wider, s->key)];
                        next = s->next;
                        s->next = *to;
                        *to = s;
                }
        }
        free(a->buckets);
        a->buckets = wider.buckets;
        a->n_buckets = wider.n_buckets;
        return 0;
}

static int need_session(struct attachments *a, const struct session_ref *ref,
                        struct attached_session **ret)
{
        int k = grow(a);
        if (k < 0)
                return k;
        struct attached_session **at = find_place(a, ref->realm, ref->key);
        if (!*at) {
                struct attached_session *s = calloc(1, sizeof(*s));
                if (!s)
                        return -ENOMEM;
                s->hidden = ref->realm;
                memcpy(s->key, ref->key, SESSION_KEY_SIZE);
                list_init(&s->attachments);
                *at = s;
                a->n++;
        }
        *ret = *at;
        return 0;
}

static void drop_session(struct attachments *a, struct attached_session *s)
{
        *find_place(a, s->hidden, s->key) = s->next;
        a->n--;
        free(s);
}

/* ---- clients */

static int need_client(struct client *client, struct attached_client **ret)
{
        struct attached_client *ac = client->attached;
        if (!ac) {
                ac = calloc(1, sizeof(*ac));
                if (!ac)
                        return -ENOMEM;
                ac->client = client;
                list_init(&ac->attachments);
                list_init(&ac->queue);
                list_init(&ac->due_node);
                client->attached = ac;
        }
        *ret = ac;
        return 0;
}

static struct attachment *find_attachment(const struct attached_client *ac,
                                          const struct attached_session *s)
{
        /* Most sessions have one connection, most connections one session. */
        const struct list *of_session = &s->attachments;
        for (struct list *at = of_session->next; at != of_session; at = at->next) {
                struct attachment *t = LIST_ENTRY(at, struct attachment, of_session);
                if (t->by == ac)
                        return t;
        }
        return NULL;
}

static void drop_news(struct attached_client *ac, struct session_news *news)
{
        list_unlink(&news->node);
        ac->n_queued--;
        if (!news->lost)
                free(news);
}

static void drop_attachment(struct dispatcher *d, struct attachment *t)
{
        struct attached_client *ac = t->by;
        list_unlink(&t->of_session);
        list_unlink(&t->of_client);
        t->session->n--;
        if (!list_is_empty(&t->lost.node)) {
                list_unlink(&t->lost.node);
                ac->n_queued--;
        }
        quota_give(&d->attachments.quota, conn_peer(ac->client->conn)->uid, 1);
        free(t);
}

static int add(struct attached_client *ac, struct attached_session *s, bool want_events)
{
        struct client *client = ac->client;
        struct dispatcher *d = client->d;
        uid_t uid = conn_peer(client->conn)->uid;
        int k = quota_take(&d->attachments.quota, uid, 1, d->cfg->limits.sessions_per_uid);
        if (k != 0)
                return k == QUOTA_E_LIMIT ? ATTACH_E_LIMIT : k;
        struct attachment *t = calloc(1, sizeof(*t));
        if (!t) {
                quota_give(&d->attachments.quota, uid, 1);
                return -ENOMEM;
        }
        t->session = s;
        t->by = ac;
        t->wants_events = want_events;
        t->lost.lost = t;
        t->lost.change = CACHED__V1__SESSION_CHANGE__SESSION_LOST;
        memcpy(t->lost.key, s->key, SESSION_KEY_SIZE);
        list_init(&t->lost.node);
        list_append(&s->attachments, &t->of_session);
        list_append(&ac->attachments, &t->of_client);
        s->n++;
        return ATTACH_OK;
}

int attach_begin(struct client *client, const struct session_ref *ref, bool want_events)
{
        struct attachments *a = &client->d->attachments;
        struct attached_client *ac;
        struct attached_session *s;
        int k = need_client(client, &ac);
        if (k == 0)
                k = need_session(a, ref, &s);
        if (k != 0)
                return k;
        struct attachment *t = find_attachment(ac, s);
        if (t)
                t->wants_events = want_events;
        else
                k = add(ac, s, want_events);
        if (k != 0 && s->n == 0)
                drop_session(a, s);
        return k;
}

/* Whoever was the last one leaves a session that is bound to its grace. Looking for it may show
 * that it has expired, which is told here: by then it is in no table any more. */
static void leave(struct dispatcher *d, struct attachment *t, uint64_t now_ms)
{
        struct attached_session *s = t->session;
        struct realm *hidden = s->hidden;
        struct session_ref ref;
        drop_attachment(d, t);
        if (s->n > 0)
                return;
        memcpy(ref.key, s->key, SESSION_KEY_SIZE);
        drop_session(&d->attachments, s);
        /* After a handover there is no store any more: it is another daemon's. */
        if (hidden->store && session_look(hidden, ref.key, now_ms, &ref))
                (void)session_bind(&ref, false, now_ms);
}

void attach_end(struct client *client, const struct session_ref *ref, uint64_t now_ms)
{
        struct dispatcher *d = client->d;
        struct attached_session *s = find_session(&d->attachments, ref->realm, ref->key);
        struct attachment *t = s && client->attached ? find_attachment(client->attached, s) : NULL;
        if (t)
                leave(d, t, now_ms);
}

void attach_leave(struct client *client, uint64_t now_ms)
{
        struct attached_client *ac = client->attached;
        if (!ac)
                return;
        /* From the first one each time: others may leave their store for one that is written anew.
         */
        while (!list_is_empty(&ac->attachments))
                leave(client->d,
                      LIST_ENTRY(list_pop(&ac->attachments), struct attachment, of_client), now_ms);
        while (!list_is_empty(&ac->queue))
                drop_news(ac, LIST_ENTRY(list_pop(&ac->queue), struct session_news, node));
        list_unlink(&ac->due_node);
        client->attached = NULL;
        free(ac);
}

uint64_t attach_count(const struct dispatcher *d, const struct session_ref *ref)
{
        const struct attached_session *s = find_session(&d->attachments, ref->realm, ref->key);
        return s ? s->n : 0;
}

/* ---- sending */

/* False: no memory. */
static bool send_news(struct client *client, const struct session_news *news, uint64_t now_ms)
{
        char id[SESSION_ID];
        char *keys[KEYS_AT_ONCE];
        char *at = (char *)news->keys; /* only read, as everything below */
        Cached__V1__SessionEvent told = CACHED__V1__SESSION_EVENT__INIT;
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        session_id(news->key, id);
        for (unsigned i = 0; i < news->n_keys; i++) {
                keys[i] = at;
                at += strlen(at) + 1;
        }
        told.id = id;
        told.change = news->change;
        told.keys = keys;
        told.n_keys = news->n_keys;
        told.version = news->version;
        told.age_ms = now_ms > news->when_ms ? now_ms - news->when_ms : 0;
        event.kind_case = CACHED__V1__EVENT__KIND_SESSION;
        event.session = &told;
        reply.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        reply.event = &event;
        struct request r;
        r.d = client->d;
        r.client = client;
        if (reply_reserve(&r, protobuf_c_message_get_packed_size(&reply.base), 0) != STATUS_OK)
                return false;
        reply_queue(&r, &reply, NULL, 0, 0);
        return true;
}

enum sent { SENT_ALL, SENT_FULL, SENT_ENOUGH, SENT_MEMORY };

static enum sent send_queue(struct attached_client *ac, uint64_t now_ms, unsigned *budget)
{
        struct client *client = ac->client;
        uint64_t max = client->d->cfg->limits.output_bytes;
        if (max > EVENT_OUTPUT)
                max = EVENT_OUTPUT;
        while (!list_is_empty(&ac->queue)) {
                struct session_news *news = LIST_ENTRY(ac->queue.next, struct session_news, node);
                struct conn_info conn;
                conn_info(client->conn, &conn);
                if (conn.queued >= max && !conn.closing)
                        return SENT_FULL;
                if (*budget == 0)
                        return SENT_ENOUGH;
                /* Nothing comes after its last reply. */
                if (!conn.closing && !send_news(client, news, now_ms))
                        return SENT_MEMORY;
                drop_news(ac, news);
                --*budget;
        }
        return SENT_ALL;
}

static void mark_due(struct attached_client *ac)
{
        if (!ac->waits && list_is_empty(&ac->due_node))
                list_append(&ac->client->d->attachments.due, &ac->due_node);
}

static enum sent flush_one(struct attached_client *ac, uint64_t now_ms, unsigned *budget)
{
        unsigned before = *budget;
        enum sent sent = send_queue(ac, now_ms, budget);
        list_unlink(&ac->due_node);
        if (sent == SENT_FULL) {
                ac->waits = true;
                conn_await_drain(ac->client->conn);
        } else if (sent != SENT_ALL) {
                mark_due(ac);
        }
        if (*budget < before)
                conn_kick(ac->client->conn);
        return sent;
}

bool attach_flush(struct dispatcher *d, uint64_t now_ms)
{
        struct attachments *a = &d->attachments;
        unsigned budget = EVENTS_A_TURN;
        d->running = NULL;
        if (list_is_empty(&a->due) || now_ms < a->retry_ms)
                return false;
        a->retry_ms = 0;
        while (!list_is_empty(&a->due) && budget > 0) {
                struct attached_client *ac =
                        LIST_ENTRY(a->due.next, struct attached_client, due_node);
                if (flush_one(ac, now_ms, &budget) == SENT_MEMORY) {
                        a->retry_ms = now_ms + RETRY_MS;
                        return false;
                }
        }
        return !list_is_empty(&a->due);
}

uint64_t attach_next_deadline(const struct dispatcher *d)
{
        return list_is_empty(&d->attachments.due) ? STORE_NEVER : d->attachments.retry_ms;
}

void attach_drained(struct client *client)
{
        struct attached_client *ac = client->attached;
        if (!ac || !ac->waits)
                return;
        ac->waits = false;
        if (!list_is_empty(&ac->queue))
                mark_due(ac);
}

/* ---- telling */

/* With up to KEYS_AT_ONCE keys from *at on, which is moved on. NULL: no memory. */
static struct session_news *make_news(const uint8_t *key, const struct attach_news *what,
                                      uint64_t now_ms, size_t *at)
{
        bool only_found = what->change == CACHED__V1__SESSION_CHANGE__SESSION_DELETED;
        size_t n_bytes = 0, end = *at;
        unsigned n_keys = 0;
        for (; end < what->n_items && n_keys < KEYS_AT_ONCE; end++) {
                if (only_found && !what->items[end].found)
                        continue;
                n_bytes += what->items[end].n_key + 1;
                n_keys++;
        }
        struct session_news *news = malloc(sizeof(*news) + n_bytes);
        if (news) {
                *news = (struct session_news){
                        .change = what->change,
                        .version = what->version,
                        .when_ms = now_ms,
                        .n_keys = n_keys,
                };
                memcpy(news->key, key, SESSION_KEY_SIZE);
                char *to = (char *)(news + 1);
                news->keys = to;
                for (size_t i = *at; i < end; i++) {
                        const struct session_item *item = &what->items[i];
                        if (only_found && !item->found)
                                continue;
                        memcpy(to, item->key, item->n_key);
                        to[item->n_key] = '\0';
                        to += item->n_key + 1;
                }
        }
        *at = end;
        return news;
}

static bool is_end(Cached__V1__SessionChange change)
{
        return change == CACHED__V1__SESSION_CHANGE__SESSION_CLOSED ||
               change == CACHED__V1__SESSION_CHANGE__SESSION_EXPIRED ||
               change == CACHED__V1__SESSION_CHANGE__SESSION_EVICTED;
}

static void push(struct attachment *t, const struct attach_news *what, uint64_t now_ms, size_t *at)
{
        struct attached_client *ac = t->by;
        struct dispatcher *d = ac->client->d;
        uint64_t max = d->cfg->limits.events_queued;
        if (ac->n_queued >= max && !ac->waits && ac->client != d->running) {
                unsigned budget = EVENTS_A_TURN;
                (void)flush_one(ac, now_ms, &budget);
        }
        struct session_news *news = NULL;
        bool fits = list_is_empty(&t->lost.node) && ac->n_queued < max;
        if (fits || is_end(what->change)) /* which each session has once */
                news = make_news(t->session->key, what, now_ms, at);
        else
                *at = what->n_items;
        if (!news && !list_is_empty(&t->lost.node))
                return; /* that it missed something waits for it already */
        if (!news) {
                news = &t->lost;
                news->when_ms = now_ms;
                news->version = what->version;
        }
        list_append(&ac->queue, &news->node);
        ac->n_queued++;
        mark_due(ac);
}

void attach_tell(struct dispatcher *d, const struct realm *hidden, const uint8_t *key,
                 const struct attach_news *news, uint64_t now_ms)
{
        struct attached_session *s = find_session(&d->attachments, hidden, key);
        if (__builtin_expect(!s, 1))
                return;
        bool ends = is_end(news->change);
        struct list *next;
        for (struct list *n = s->attachments.next; n != &s->attachments; n = next) {
                struct attachment *t = LIST_ENTRY(n, struct attachment, of_session);
                next = n->next;
                size_t at = 0;
                do
                        if (t->wants_events)
                                push(t, news, now_ms, &at);
                while (t->wants_events && at < news->n_items);
                if (ends)
                        drop_attachment(d, t);
        }
        if (ends)
                drop_session(&d->attachments, s);
}

void attach_departed(void *dispatcher, struct realm *hidden, const uint8_t *key,
                     enum store_cause cause, uint64_t now_ms)
{
        const struct attach_news news = {
                .change = cause == CAUSE_EXPIRED ? CACHED__V1__SESSION_CHANGE__SESSION_EXPIRED
                                                 : CACHED__V1__SESSION_CHANGE__SESSION_EVICTED,
        };
        attach_tell(dispatcher, hidden, key, &news, now_ms);
}
