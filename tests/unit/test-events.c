/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions and schedules, in process: who is told what, in which order; what is lost and where
 * that is told; a peer that does not read; memory that runs out; schedules by both clocks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* Allocations fail from this one on; 0: none does. */
static unsigned fail_from, n_allocations;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);

static bool fails(void)
{
        return fail_from != 0 && ++n_allocations >= fail_from;
}

void *__wrap_malloc(size_t n)
{
        return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
        return fails() ? NULL : __real_calloc(n, size);
}

#define WORLD_MALLOC __real_malloc
#define WORLD_CALLOC __real_calloc
#include "dispatch-world.h"

#include "dispatch/dispatcher.h"

#define STORED  CACHED__V1__EVENT_KIND__EVENT_STORED
#define DELETED CACHED__V1__EVENT_KIND__EVENT_DELETED
#define CLEARED CACHED__V1__EVENT_KIND__EVENT_CLEARED
#define EXPIRED CACHED__V1__EVENT_KIND__EVENT_EXPIRED
#define EVICTED CACHED__V1__EVENT_KIND__EVENT_EVICTED
#define POLICY  CACHED__V1__EVENT_KIND__EVENT_POLICY
#define REFRESH CACHED__V1__EVENT_KIND__EVENT_REFRESH

#define EVENTS   ((uint64_t)CACHED__V1__FEATURE__FEATURE_EVENTS)
#define N_QUEUED 1000 /* limits.events_queued */
#define MS       UINT64_C(1000000)
#define N_OUTPUT (64 * 1024) /* of a subscriber, before its queue fills */

/* ---- subscribing */

static struct reply try_subscribe(struct world *w, struct conn *c, const char *cache, size_t n,
                                  const int *kinds)
{
        Cached__V1__Subscribe msg = CACHED__V1__SUBSCRIBE__INIT;
        Cached__V1__EventKind list[8];
        for (size_t i = 0; i < n; i++)
                list[i] = (Cached__V1__EventKind)kinds[i];
        msg.cache = (char *)cache;
        msg.n_kinds = n;
        msg.kinds = list;
        Cached__V1__Request m = REQUEST(SUBSCRIBE, subscribe, &msg);
        return call(w, c, &m, NULL, 0);
}

#define SUBSCRIBE(w, c, cache, ...)                                                                \
        do {                                                                                       \
                const int kinds_[] = {__VA_ARGS__};                                                \
                struct reply r_ =                                                                  \
                        try_subscribe(w, c, cache, sizeof(kinds_) / sizeof(kinds_[0]), kinds_);    \
                assert_int_equal(r_.m->status, STATUS_OK);                                         \
                assert_int_equal(r_.m->result_case, CACHED__V1__REPLY__RESULT__NOT_SET);           \
                reply_done(&r_);                                                                   \
        } while (0)

static void end_turn(struct world *w)
{
        while (dispatcher_maintain(w->server.dispatcher, server_now_ms(&w->server), 1000))
                ;
}

static struct reply take_event(struct conn *c)
{
        struct reply r = take_reply(c);
        assert_int_equal(r.m->result_case, CACHED__V1__REPLY__RESULT_EVENT);
        assert_int_equal(r.m->id, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.n_body, 0);
        return r;
}

static void assert_entry(struct conn *c, int kind, const char *cache, const char *key)
{
        struct reply r = take_event(c);
        const Cached__V1__EntryEvent *e = r.m->event->entry;
        assert_int_equal(r.m->event->kind_case, CACHED__V1__EVENT__KIND_ENTRY);
        assert_int_equal(e->kind, kind);
        assert_string_equal(e->cache, cache);
        assert_int_equal(e->key.len, strlen(key));
        assert_memory_equal(e->key.data, key, e->key.len);
        assert_true((e->version != 0) == (kind == (int)STORED));
        assert_true((e->cause != 0) == (kind == (int)EVICTED));
        reply_done(&r);
}

static void assert_lost(struct conn *c, uint64_t n)
{
        struct reply r = take_event(c);
        assert_int_equal(r.m->event->kind_case, CACHED__V1__EVENT__KIND_LOST);
        assert_int_equal(r.m->event->lost->events, n);
        reply_done(&r);
}

static enum status delete_key(struct world *w, struct conn *c, const char *cache, const char *key)
{
        Cached__V1__Delete msg = CACHED__V1__DELETE__INIT;
        msg.cache = (char *)cache;
        msg.key = key_of(key);
        Cached__V1__Request m = REQUEST(DELETE, delete_, &msg);
        struct reply r = call(w, c, &m, NULL, 0);
        enum status status = (enum status)r.m->status;
        reply_done(&r);
        return status;
}

static void clear(struct world *w, struct conn *c, const char *cache)
{
        Cached__V1__Clear msg = CACHED__V1__CLEAR__INIT;
        msg.cache = (char *)(cache ? cache : "");
        msg.all = !cache;
        Cached__V1__Request m = REQUEST(CLEAR, clear, &msg);
        struct reply r = call(w, c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
}

static struct reply open_with(struct world *w, struct conn *c, const char *cache,
                              uint64_t max_entries)
{
        Cached__V1__OpenCache msg = CACHED__V1__OPEN_CACHE__INIT;
        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        policy.entries_limit_case = CACHED__V1__POLICY__ENTRIES_LIMIT_MAX_ENTRIES;
        policy.max_entries = max_entries;
        msg.cache = (char *)cache;
        msg.policy = &policy;
        Cached__V1__Request m = REQUEST(OPEN_CACHE, open_cache, &msg);
        struct reply r = call(w, c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        return r;
}

static void test_what_is_refused(void **state)
{
        struct world *w = *state;
        const int unknown[] = {STORED, 10}, none[] = {0}, negative[] = {-1}, one[] = {STORED};
        struct conn *c = connect_as(w, UID, "", EVENTS);
        assert_failure(try_subscribe(w, c, "", 2, unknown), STATUS_INVALID,
                       "kind 10 of events is unknown: use EVENT_STORED (1) to "
                       "EVENT_RESOURCE_LEFT (9)");
        assert_failure(try_subscribe(w, c, "", 1, none), STATUS_INVALID, "kind 0 of events");
        assert_failure(try_subscribe(w, c, "", 1, negative), STATUS_INVALID, "kind -1 of events");
        assert_failure(try_subscribe(w, c, "a\x01", 1, one), STATUS_INVALID, "control character");
        assert_failure(try_subscribe(w, c, "a", 0, one), STATUS_INVALID, "names a cache and no");
        assert_failure(try_subscribe(w, w->c, "", 1, one), STATUS_INVALID,
                       "FEATURE_EVENTS was not agreed in Hello");
        assert_int_equal(set_text(w, w->c, "t", "k", "v"), STATUS_OK);
        end_turn(w);
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

static void test_a_reader_may_and_realms_are_apart(void **state)
{
        struct world *w = *state;
        struct conn *reader = connect_as(w, 2000, "shared", EVENTS);
        struct conn *writer = connect_as(w, 2001, "shared", 0);
        struct conn *own = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, reader, "", STORED, DELETED, CLEARED, EXPIRED, EVICTED, POLICY, REFRESH);
        SUBSCRIBE(w, own, "", STORED, DELETED, CLEARED, EXPIRED, EVICTED, POLICY, REFRESH);
        assert_int_equal(set_text(w, writer, "t", "shared", "v"), STATUS_OK);
        assert_int_equal(set_text(w, w->c, "t", "own", "v"), STATUS_OK);
        end_turn(w);
        assert_entry(reader, STORED, "t", "shared");
        assert_entry(own, STORED, "t", "own");
        assert_int_equal(reader->n_out + own->n_out, 0);
        assert_true(reader->kicks > 0);
        fake_conn_free(reader);
        fake_conn_free(writer);
        fake_conn_free(own);
}

static void test_so_many_of_a_uid(void **state)
{
        struct world *w = *state;
        const int kinds[] = {STORED};
        struct conn *c[4];
        w->server.cfg->limits.subscribers_per_uid = 3;
        for (size_t i = 0; i < 4; i++)
                c[i] = connect_as(w, UID, "", EVENTS);
        for (size_t i = 0; i < 3; i++)
                SUBSCRIBE(w, c[i], "", STORED);
        assert_failure(try_subscribe(w, c[3], "", 1, kinds), STATUS_LIMIT,
                       "as limits.subscribers_per_uid allows, 3: close idle subscriptions");
        SUBSCRIBE(w, c[0], "", DELETED); /* in the place of its own */
        struct conn *other = connect_as(w, UID + 1, "", EVENTS);
        SUBSCRIBE(w, other, "", STORED);
        struct reply r = try_subscribe(w, c[1], "", 0, kinds);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        SUBSCRIBE(w, c[3], "", STORED);
        fake_conn_free(c[3]);
        SUBSCRIBE(w, c[1], "", STORED);
        for (size_t i = 0; i < 3; i++)
                fake_conn_free(c[i]);
        fake_conn_free(other);
        assert_null(w->server.dispatcher->subscriptions.first);
}

/* ---- what is told */

static void test_each_kind_in_order(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", STORED, DELETED, CLEARED, EXPIRED, EVICTED);
        struct reply r = open_with(w, w->c, "t", 2);
        reply_done(&r);
        for (const char *key = "a\0b\0c\0"; *key; key += 2)
                assert_int_equal(set_text(w, w->c, "t", key, "value"), STATUS_OK);
        assert_int_equal(set_text(w, w->c, "t", "c", "again"), STATUS_OK);
        assert_int_equal(delete_key(w, w->c, "t", "b"), STATUS_OK);
        assert_int_equal(delete_key(w, w->c, "t", "b"), STATUS_NOT_FOUND);
        Cached__V1__Set set = set_of("t", "short");
        set.ttl_case = CACHED__V1__SET__TTL_TTL_MS;
        set.ttl_ms = 5;
        r = send_set(w, w->c, &set, "v", 1);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        w->server.now_ns += 10 * MS;
        assert_value(w, "t", "short", NULL);
        clear(w, w->c, "t");
        clear(w, w->c, NULL);
        end_turn(w);
        assert_entry(c, STORED, "t", "a");
        assert_entry(c, STORED, "t", "b");
        assert_entry(c, EVICTED, "t", "a");
        assert_entry(c, STORED, "t", "c");
        assert_entry(c, STORED, "t", "c");
        assert_entry(c, DELETED, "t", "b");
        assert_entry(c, STORED, "t", "short");
        assert_entry(c, EXPIRED, "t", "short");
        for (unsigned all = 0; all < 2; all++) {
                r = take_event(c);
                assert_int_equal(r.m->event->kind_case, CACHED__V1__EVENT__KIND_CLEARED);
                assert_string_equal(r.m->event->cleared->cache, all ? "" : "t");
                assert_int_equal(r.m->event->cleared->entries, all ? 0 : 1);
                assert_int_equal(r.m->event->cleared->which_case,
                                 CACHED__V1__CLEAR_EVENT__WHICH__NOT_SET);
                reply_done(&r);
        }
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

static void test_facts_of_an_entry(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", STORED, EVICTED);
        struct reply r = open_with(w, w->c, "t", 1);
        reply_done(&r);
        Cached__V1__Set set = set_of("t", "a");
        r = send_set(w, w->c, &set, "12345", 5);
        uint64_t version = r.m->entry->version;
        reply_done(&r);
        assert_int_equal(set_text(w, w->c, "t", "b", ""), STATUS_OK);
        w->server.now_ns += 250 * MS;
        end_turn(w);
        r = take_event(c);
        assert_int_equal(r.m->event->entry->version, version);
        assert_int_equal(r.m->event->entry->size, 5);
        assert_true(r.m->event->entry->age_ms >= 250 && r.m->event->entry->age_ms < 260);
        reply_done(&r);
        r = take_event(c);
        assert_int_equal(r.m->event->entry->cause, CACHED__V1__FATE__FATE_EVICTED_MAX_ENTRIES);
        reply_done(&r);
        assert_entry(c, STORED, "t", "b");
        fake_conn_free(c);
}

/* The function that clearing by tag and by prefix calls. */
static void test_clears_of_a_part(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "t", CLEARED);
        assert_int_equal(set_text(w, w->c, "t", "k", "v"), STATUS_OK);
        struct request r = {
                .d = w->server.dispatcher,
                .who = {.realm = w->server.dispatcher->realms.first,
                        .cfg = w->server.cfg,
                        .now_ms = server_now_ms(&w->server)},
        };
        const struct cache_ref ref = {.name = "t", .n_name = 1}, id = {.id = 1},
                               unknown = {.name = "u", .n_name = 1};
        const struct subscribe_clear clears[] = {
                {.ref = &ref, .tag = {.text = "the tag...", .n = 7}, .entries = 3},
                {.ref = &id, .prefix = {.data = (const uint8_t *)"pre\0fix", .n = 7}},
                {.ref = &unknown, .tag = {.text = "tag", .n = 3}},
        };
        for (size_t i = 0; i < 3; i++)
                subscribe_cleared(&r, &clears[i]);
        end_turn(w);
        struct reply e = take_event(c);
        assert_int_equal(e.m->event->cleared->which_case, CACHED__V1__CLEAR_EVENT__WHICH_TAG);
        assert_string_equal(e.m->event->cleared->tag, "the tag");
        assert_int_equal(e.m->event->cleared->entries, 3);
        reply_done(&e);
        e = take_event(c);
        assert_int_equal(e.m->event->cleared->which_case, CACHED__V1__CLEAR_EVENT__WHICH_PREFIX);
        assert_int_equal(e.m->event->cleared->prefix.len, 7);
        assert_memory_equal(e.m->event->cleared->prefix.data, "pre\0fix", 7);
        assert_string_equal(e.m->event->cleared->cache, "t");
        reply_done(&e);
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

static void test_many_and_large_values(void **state)
{
        struct world *w = *state;
        static const char *const keys[4] = {"a", "b", "", "d"};
        static const uint64_t sizes[4] = {1, 2, 3, 4};
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", STORED);
        struct many many;
        many_init(&many, keys, sizes);
        Cached__V1__Request m = REQUEST(SET_MANY, set_many, &many.msg);
        struct reply r = call(w, w->c, &m, "0123456789", 10);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        size_t n = 1 << 20;
        uint8_t *body = calloc(1, n);
        assert_non_null(body);
        Cached__V1__Set set = set_of("c", "large");
        r = send_set(w, w->c, &set, body, n);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        free(body);
        end_turn(w);
        assert_entry(c, STORED, "c", "a");
        assert_entry(c, STORED, "c", "b");
        assert_entry(c, STORED, "c", "d"); /* the one without a key was refused */
        r = take_event(c);
        assert_int_equal(r.m->event->entry->size, n);
        reply_done(&r);
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

static void test_filters_and_replacing(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "later", STORED, CLEARED); /* which is not there yet */
        static const char *const caches[] = {"late", "later", "laterr"};
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(set_text(w, w->c, caches[i], "k", "v"), STATUS_OK);
        assert_int_equal(delete_key(w, w->c, "later", "k"), STATUS_OK);
        clear(w, w->c, "late");
        clear(w, w->c, NULL);
        /* What was queued and is not asked for any more is not sent. */
        SUBSCRIBE(w, c, "later", STORED);
        end_turn(w);
        assert_entry(c, STORED, "later", "k");
        assert_int_equal(c->n_out, 0);
        clear(w, w->c, NULL);
        assert_int_equal(set_text(w, w->c, "later", "k", "v"), STATUS_OK);
        struct reply r = try_subscribe(w, c, "", 0, NULL);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        assert_int_equal(set_text(w, w->c, "later", "k", "v"), STATUS_OK);
        end_turn(w);
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

static void test_own_changes_are_told_after_their_reply(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", STORED);
        assert_int_equal(set_text(w, c, "t", "k", "v"), STATUS_OK); /* the reply stands first */
        end_turn(w);
        assert_entry(c, STORED, "t", "k");
        fake_conn_free(c);
}

static void test_policies_are_told_once(void **state)
{
        struct world *w = *state;
        struct conn *both = connect_as(w, UID, "", EVENTS),
                    *opener = connect_as(w, UID, "", EVENTS),
                    *other = connect_as(w, UID, "", EVENTS);
        struct reply r = open_with(w, both, "t", 5);
        reply_done(&r);
        r = open_with(w, opener, "t", 5);
        reply_done(&r);
        SUBSCRIBE(w, both, "", POLICY, STORED);
        SUBSCRIBE(w, other, "u", POLICY);
        assert_int_equal(set_text(w, w->c, "t", "k", "v"), STATUS_OK);
        for (uint64_t n = 6; n <= 7; n++) {
                r = open_with(w, w->c, "t", n);
                reply_done(&r);
        }
        r = open_with(w, w->c, "t", 7); /* no change */
        reply_done(&r);
        end_turn(w);
        assert_entry(both, STORED, "t", "k");
        for (uint64_t n = 6; n <= 7; n++) { /* each, as it was then */
                r = take_event(both);
                assert_int_equal(r.m->event->kind_case, CACHED__V1__EVENT__KIND_POLICY_CHANGED);
                assert_string_equal(r.m->event->policy_changed->name, "t");
                assert_int_equal(r.m->event->policy_changed->policy->max_entries, n);
                reply_done(&r);
        }
        r = take_event(opener); /* what holds now */
        assert_int_equal(r.m->event->policy_changed->policy->max_entries, 7);
        reply_done(&r);
        assert_int_equal(both->n_out + opener->n_out + other->n_out, 0);
        fake_conn_free(both);
        fake_conn_free(opener);
        fake_conn_free(other);
}

/* ---- who does not read */

static void store_numbered(struct world *w, unsigned from, unsigned to)
{
        char key[16];
        for (unsigned i = from; i < to; i++) {
                snprintf(key, sizeof(key), "%u", i);
                assert_int_equal(set_text(w, w->c, "t", key, "v"), STATUS_OK);
        }
}

static void assert_numbered(struct conn *c, unsigned from, unsigned to)
{
        char key[16];
        for (unsigned i = from; i < to; i++) {
                snprintf(key, sizeof(key), "%u", i);
                assert_entry(c, STORED, "t", key);
        }
}

static void test_overflow_is_told_once_in_its_place(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", STORED);
        c->queued_for_long = N_OUTPUT; /* it reads nothing */
        store_numbered(w, 0, 1);
        end_turn(w);
        assert_true(c->await_drain);
        store_numbered(w, 1, N_QUEUED + 7);
        assert_int_equal(dispatcher_next_deadline(w->server.dispatcher), UINT64_MAX);
        end_turn(w);
        assert_int_equal(c->n_out, 0);
        c->queued_for_long = 0;
        c->await_drain = false;
        dispatch_handler.on_drained(c);
        store_numbered(w, N_QUEUED + 7, N_QUEUED + 10);
        end_turn(w);
        /* The ring was full again as those came, but for what could be sent. */
        assert_numbered(c, 0, N_QUEUED);
        assert_lost(c, 7);
        assert_numbered(c, N_QUEUED + 7, N_QUEUED + 10);
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

/* A turn in which more happens than a queue holds loses nothing to who reads. */
static void test_a_full_queue_is_sent_at_once(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", STORED);
        w->server.cfg->limits.events_queued = 16;
        store_numbered(w, 0, 500);
        assert_true(c->n_out > 0);
        end_turn(w);
        assert_numbered(c, 0, 500);
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

/* But not between the reply's reservation and the reply. */
static void test_own_events_wait_for_the_end_of_the_turn(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", STORED);
        w->server.cfg->limits.events_queued = 2;
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(set_text(w, c, "t", "k", "v"), STATUS_OK);
        end_turn(w);
        assert_entry(c, STORED, "t", "k");
        assert_entry(c, STORED, "t", "k");
        assert_lost(c, 3);
        fake_conn_free(c);
}

static void test_nothing_follows_a_last_reply(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", STORED);
        store_numbered(w, 0, 3);
        conn_close(c);
        end_turn(w);
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

/* Whatever allocation fails: the change is made or refused, what is not told is counted. */
static void test_memory_runs_out(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", DELETED);
        for (unsigned i = 1; i <= 3; i++) {
                store_numbered(w, 0, 1);
                end_turn(w); /* nothing else is to be done */
                fail_from = i;
                n_allocations = 0;
                /* No harness in between: only the event is allocated. */
                const struct cache_ref ref = {.name = "t", .n_name = 1};
                struct request r = {
                        .d = w->server.dispatcher,
                        .who = {.realm = w->server.dispatcher->realms.first,
                                .cfg = w->server.cfg,
                                .now_ms = server_now_ms(&w->server)},
                };
                subscribe_deleted(&r, &ref, (struct key_ref){(const uint8_t *)"0", 1});
                (void)subscribe_flush(w->server.dispatcher, server_now_ms(&w->server));
                fail_from = 0;
                /* It cannot be sent: tried again later, and not at once. */
                assert_true(dispatcher_next_deadline(w->server.dispatcher) >
                            server_now_ms(&w->server));
                w->server.now_ns += 200 * MS;
                end_turn(w);
                if (i < 3)
                        assert_lost(c, 1);
                else
                        assert_entry(c, DELETED, "t", "0");
                assert_int_equal(c->n_out, 0);
        }
        fake_conn_free(c);
}

static void test_subscribing_without_memory(void **state)
{
        struct world *w = *state;
        const int kinds[] = {STORED};
        bool done = false;
        for (unsigned i = 1; !done; i++) {
                struct conn *c = connect_as(w, UID, "", EVENTS);
                Cached__V1__Subscribe msg = CACHED__V1__SUBSCRIBE__INIT;
                msg.n_kinds = 1;
                msg.kinds = (Cached__V1__EventKind *)kinds;
                Cached__V1__Request m = REQUEST(SUBSCRIBE, subscribe, &msg);
                m.id = ++w->id;
                fail_from = i;
                n_allocations = 0;
                send_request(c, &m, NULL, 0);
                fail_from = 0;
                struct reply r = maybe_reply(c);
                if (r.m) {
                        done = status_is(r.m, STATUS_OK);
                        assert_true(done || status_is(r.m, STATUS_NO_MEMORY));
                } else {
                        assert_true(c->closed);
                }
                reply_done(&r);
                assert_true(i < 50);
                fake_conn_free(c);
                assert_null(w->server.dispatcher->subscriptions.first);
        }
}

/* ---- schedules */

#define HOUR_MS UINT64_C(3600000)

static void reload(struct world *w, const char *text)
{
        struct config *cfg = fake_config(text);
        dispatcher_reconfigure(w->server.dispatcher, cfg);
        config_free(w->server.cfg);
        w->server.cfg = cfg;
        end_turn(w);
}

static int schedules_up(void **state)
{
        static const char text[] =
                CONFIG "[schedule hourly]\ncache = t\nrealm = uid:1000\nevery = 1h\n"
                       "[schedule nightly]\ncache = t\nrealm = uid:1000\nevery = 2h\nat = 04:30\n"
                       "[schedule other]\ncache = u\nrealm = shared\nevery = 1m\n";
        struct world *w;
        assert_int_equal(setenv("TZ", "UTC0", 1), 0);
        assert_int_equal(world_up(state), 0);
        w = *state;
        w->server.wall_ms = 3 * (int64_t)HOUR_MS; /* 03:00 on January 1st, 1970 */
        w->server.now_ns = 1000 * HOUR_MS * MS;
        reload(w, text);
        return 0;
}

static void advance(struct world *w, uint64_t ms)
{
        w->server.now_ns += ms * MS;
        w->server.wall_ms += (int64_t)ms;
        end_turn(w);
}

static void assert_refresh(struct conn *c, const char *schedule)
{
        struct reply r = take_event(c);
        assert_int_equal(r.m->event->kind_case, CACHED__V1__EVENT__KIND_REFRESH);
        assert_string_equal(r.m->event->refresh->cache, "t");
        assert_string_equal(r.m->event->refresh->schedule, schedule);
        reply_done(&r);
}

static uint64_t sleeps_ms(struct world *w)
{
        return dispatcher_next_deadline(w->server.dispatcher) - server_now_ms(&w->server);
}

static void test_schedules(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        assert_int_equal(dispatcher_next_deadline(w->server.dispatcher), UINT64_MAX);
        advance(w, 10 * HOUR_MS); /* nobody waits: it is not told later */
        SUBSCRIBE(w, c, "t", REFRESH);
        end_turn(w);
        assert_int_equal(c->n_out, 0);
        w->server.wall_ms = 3 * (int64_t)HOUR_MS;
        end_turn(w);
        assert_true(sleeps_ms(w) <= HOUR_MS && sleeps_ms(w) > HOUR_MS - 1000);
        advance(w, HOUR_MS - 1000);
        assert_int_equal(c->n_out, 0);
        advance(w, 1000); /* 04:00; 1011 hours since boot */
        assert_refresh(c, "hourly");
        assert_int_equal(c->n_out, 0);
        assert_true(sleeps_ms(w) > HOUR_MS / 2 - 1000 && sleeps_ms(w) <= HOUR_MS / 2);
        advance(w, HOUR_MS / 2); /* 04:30 */
        assert_refresh(c, "nightly");
        assert_int_equal(c->n_out, 0);
        advance(w, HOUR_MS / 2); /* 05:00, 1012 hours */
        assert_refresh(c, "hourly");
        assert_refresh(c, "nightly");
        advance(w, 24 * HOUR_MS); /* told once, however often it came */
        assert_refresh(c, "hourly");
        assert_refresh(c, "nightly");
        assert_int_equal(c->n_out, 0);
        SUBSCRIBE(w, c, "u", REFRESH); /* that schedule is another realm's */
        end_turn(w);
        assert_true(dispatcher_next_deadline(w->server.dispatcher) == UINT64_MAX);
        advance(w, 24 * HOUR_MS);
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
        assert_int_equal(dispatcher_next_deadline(w->server.dispatcher), UINT64_MAX);
}

static void test_the_wall_clock_is_set(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", REFRESH);
        end_turn(w);
        w->server.wall_ms -= 2 * (int64_t)HOUR_MS; /* 01:00 */
        advance(w, HOUR_MS + HOUR_MS / 2);         /* 02:30 */
        assert_refresh(c, "hourly");
        assert_int_equal(c->n_out, 0);
        w->server.wall_ms += 3 * (int64_t)HOUR_MS; /* 05:30: what was leapt over is told */
        advance(w, HOUR_MS / 4);
        assert_true(sleeps_ms(w) <= HOUR_MS / 4);
        advance(w, HOUR_MS / 4);
        assert_refresh(c, "hourly");
        assert_refresh(c, "nightly");
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

static void test_a_reload_changes_schedules(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        SUBSCRIBE(w, c, "", REFRESH);
        advance(w, HOUR_MS / 2);
        reload(w, CONFIG "[schedule soon]\ncache = t\nrealm = uid:1000\nevery = 10m\n");
        assert_int_equal(c->n_out, 0); /* what lies before it does not count */
        advance(w, HOUR_MS / 6);
        assert_refresh(c, "soon");
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

/* Who subscribed while there were none is not asked for what had come before. */
static void test_a_reload_brings_the_first_schedule(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS);
        reload(w, CONFIG);
        SUBSCRIBE(w, c, "", REFRESH);
        advance(w, 30 * HOUR_MS);
        reload(w, CONFIG "[schedule soon]\ncache = t\nrealm = uid:1000\nevery = 10m\nat = 04:30\n");
        assert_int_equal(c->n_out, 0);
        advance(w, HOUR_MS / 6);
        assert_refresh(c, "soon");
        assert_int_equal(c->n_out, 0);
        fake_conn_free(c);
}

#define SCHEDULES(name) cmocka_unit_test_setup_teardown(name, schedules_up, world_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_what_is_refused),
                TEST(test_a_reader_may_and_realms_are_apart),
                TEST(test_so_many_of_a_uid),
                TEST(test_each_kind_in_order),
                TEST(test_facts_of_an_entry),
                TEST(test_clears_of_a_part),
                TEST(test_many_and_large_values),
                TEST(test_filters_and_replacing),
                TEST(test_own_changes_are_told_after_their_reply),
                TEST(test_policies_are_told_once),
                TEST(test_overflow_is_told_once_in_its_place),
                TEST(test_a_full_queue_is_sent_at_once),
                TEST(test_own_events_wait_for_the_end_of_the_turn),
                TEST(test_nothing_follows_a_last_reply),
                TEST(test_memory_runs_out),
                TEST(test_subscribing_without_memory),
                SCHEDULES(test_schedules),
                SCHEDULES(test_the_wall_clock_is_set),
                SCHEDULES(test_a_reload_changes_schedules),
                SCHEDULES(test_a_reload_brings_the_first_schedule),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
