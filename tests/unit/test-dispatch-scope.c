/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, in process: caches of sessions. They are apart by session, go with it, and nothing of
 * them is seen from outside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dispatch-world.h"
#include "dispatch/dispatcher.h"
#include "dispatch/peek.h"
#include "realm/realm.h"
#include "realm/session-caches.h"

#define LEASES ((uint64_t)CACHED__V1__FEATURE__FEATURE_LEASES)

struct token {
        uint8_t bytes[16];
};

static struct dispatcher *dispatcher_of(struct world *w)
{
        return w->server.dispatcher;
}

static struct realm *realm_of(struct world *w)
{
        struct realm *first = dispatcher_of(w)->realms.first;
        return first->parent ? first->parent : first;
}

static struct token session_new(struct world *w)
{
        Cached__V1__OpenSession open = CACHED__V1__OPEN_SESSION__INIT;
        open.idle_case = CACHED__V1__OPEN_SESSION__IDLE_IDLE_MS;
        open.idle_ms = 10000;
        Cached__V1__Request m = REQUEST(OPEN_SESSION, open_session, &open);
        struct reply r = call(w, w->c, &m, NULL, 0);
        struct token t;
        assert_true(status_is(r.m, STATUS_OK));
        assert_int_equal(r.m->session->token.len, sizeof(t.bytes));
        memcpy(t.bytes, r.m->session->token.data, sizeof(t.bytes));
        reply_done(&r);
        return t;
}

static void session_end(struct world *w, const struct token *t)
{
        Cached__V1__CloseSession end = CACHED__V1__CLOSE_SESSION__INIT;
        end.token = (ProtobufCBinaryData){.len = sizeof(t->bytes), .data = (uint8_t *)t->bytes};
        Cached__V1__Request m = REQUEST(CLOSE_SESSION, close_session, &end);
        struct reply r = call(w, w->c, &m, NULL, 0);
        assert_true(status_is(r.m, STATUS_OK));
        reply_done(&r);
}

static uint64_t caches_of(struct world *w, const struct token *t)
{
        Cached__V1__AttachSession attach = CACHED__V1__ATTACH_SESSION__INIT;
        attach.token = (ProtobufCBinaryData){.len = sizeof(t->bytes), .data = (uint8_t *)t->bytes};
        Cached__V1__Request m = REQUEST(ATTACH_SESSION, attach_session, &attach);
        struct reply r = call(w, w->c, &m, NULL, 0);
        assert_true(status_is(r.m, STATUS_OK));
        uint64_t n = r.m->session->caches;
        reply_done(&r);
        return n;
}

static void end_turn(struct world *w)
{
        for (unsigned i = 0; i < 100; i++)
                if (!dispatcher_maintain(dispatcher_of(w), server_now_ms(&w->server), 1000))
                        return;
        fail_msg("upkeep does not end");
}

static struct reply ask(struct world *w, struct conn *c, const struct token *t,
                        Cached__V1__Request *m, const char *body)
{
        m->session = (ProtobufCBinaryData){.len = t ? sizeof(t->bytes) : 0,
                                           .data = (uint8_t *)(t ? t->bytes : NULL)};
        return call(w, c, m, body, body ? strlen(body) : 0);
}

static enum status status_of(struct reply r)
{
        enum status status = (enum status)r.m->status;
        reply_done(&r);
        return status;
}

static struct reply set_in(struct world *w, const struct token *t, const char *cache, uint32_t id,
                           const char *value)
{
        Cached__V1__Set set = set_of(cache, "k");
        set.cache_id = id;
        Cached__V1__Request m = REQUEST(SET, set, &set);
        return ask(w, w->c, t, &m, value);
}

static void store_in(struct world *w, const struct token *t, const char *cache, const char *value)
{
        assert_int_equal(status_of(set_in(w, t, cache, 0, value)), STATUS_OK);
}

static struct reply get_in(struct world *w, const struct token *t, const char *cache, uint32_t id)
{
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        get.cache = (char *)cache;
        get.cache_id = id;
        get.key = key_of("k");
        Cached__V1__Request m = REQUEST(GET, get, &get);
        return ask(w, w->c, t, &m, NULL);
}

static void assert_value_in(struct world *w, const struct token *t, const char *cache,
                            const char *expected)
{
        struct reply r = get_in(w, t, cache, 0);
        assert_true(status_is(r.m, expected ? STATUS_OK : STATUS_NOT_FOUND));
        if (expected) {
                assert_int_equal(r.n_body, strlen(expected));
                assert_memory_equal(r.body, expected, r.n_body);
        }
        reply_done(&r);
}

static uint32_t open_in(struct world *w, const struct token *t, const char *cache)
{
        Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
        open.cache = (char *)cache;
        Cached__V1__Request m = REQUEST(OPEN_CACHE, open_cache, &open);
        struct reply r = ask(w, w->c, t, &m, NULL);
        assert_true(status_is(r.m, STATUS_OK));
        assert_string_equal(r.m->cache->name, cache);
        uint32_t id = r.m->cache->cache_id;
        reply_done(&r);
        return id;
}

static void test_caches_of_one_name_are_apart(void **state)
{
        struct world *w = *state;
        struct token a = session_new(w), b = session_new(w);
        store_in(w, NULL, "c", "the realm's");
        store_in(w, &a, "c", "of a");
        assert_value_in(w, &b, "c", NULL);
        store_in(w, &b, "c", "of b");
        assert_value_in(w, NULL, "c", "the realm's");
        assert_value_in(w, &a, "c", "of a");
        assert_value_in(w, &b, "c", "of b");
        /* Nor does an id lead to another one's. */
        uint32_t id = open_in(w, &a, "c");
        assert_int_equal(status_of(get_in(w, &a, NULL, id)), STATUS_OK);
        assert_failure(get_in(w, &b, NULL, id), STATUS_INVALID, "is unknown");
        assert_failure(set_in(w, &b, NULL, id, "x"), STATUS_INVALID, "is unknown");
        uint32_t home = session_caches_home(realm_of(w)->sessions);
        assert_failure(get_in(w, &b, NULL, home), STATUS_INVALID, "is unknown");
        assert_value_in(w, &a, "c", "of a");
        /* The cache of the sessions themselves has no name that anybody could say. */
        store_in(w, &a, "sessions", "x");
        assert_value_in(w, &a, "sessions", "x");
        assert_int_equal(caches_of(w, &a), 2);
}

static void test_nothing_is_seen_from_outside(void **state)
{
        struct world *w = *state;
        struct token a = session_new(w), b = session_new(w);
        Cached__V1__ListCaches list = CACHED__V1__LIST_CACHES__INIT;
        Cached__V1__Request m = REQUEST(LIST_CACHES, list_caches, &list);
        store_in(w, &a, "one", "x");
        store_in(w, &a, "two", "x");
        store_in(w, &b, "three", "x");
        struct reply r = ask(w, w->c, NULL, &m, NULL);
        assert_int_equal(r.m->list_caches->n_caches, 0);
        reply_done(&r);
        m.id = 0;
        r = ask(w, w->c, &a, &m, NULL);
        assert_int_equal(r.m->list_caches->n_caches, 2);
        assert_string_equal(r.m->list_caches->caches[0]->name, "one");
        assert_string_equal(r.m->list_caches->caches[1]->name, "two");
        reply_done(&r);

        Cached__V1__Stats stats = CACHED__V1__STATS__INIT;
        Cached__V1__Request of = REQUEST(STATS, stats, &stats);
        r = ask(w, w->c, NULL, &of, NULL);
        assert_int_equal(r.m->stats->realm->caches, 0);
        assert_int_equal(r.m->stats->realm->entries, 0);
        assert_int_equal(r.m->stats->realm->bytes_charged, 0);
        assert_int_equal(r.m->stats->realm->sessions, 2);
        assert_int_equal(r.m->stats->realm->session_caches, 3);
        assert_true(r.m->stats->realm->session_bytes > 0);
        assert_true(r.m->stats->realm->session_budget_bytes > 0);
        assert_int_equal(r.m->stats->total->entries, 0);
        reply_done(&r);
        of.id = 0;
        assert_failure(ask(w, w->c, &a, &of, NULL), STATUS_INVALID, "about one of its caches");
        of.id = 0;
        stats.cache = (char *)"one";
        r = ask(w, w->c, &a, &of, NULL);
        assert_string_equal(r.m->stats->cache->name, "one");
        assert_int_equal(r.m->stats->cache->entries, 1);
        assert_int_equal(r.m->stats->total->entries, 2);
        reply_done(&r);
        of.id = 0;
        assert_int_equal(status_of(ask(w, w->c, &b, &of, NULL)), STATUS_NOT_FOUND);
}

/* Every kind of request: with a token that is none's, and where none may be. */
static void test_a_token_is_checked_by_every_request(void **state)
{
        struct world *w = *state;
        struct token a = session_new(w), guess = {{9}};
        Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        Cached__V1__GetMany get_many = CACHED__V1__GET_MANY__INIT;
        Cached__V1__Set set = set_of("c", "k");
        Cached__V1__SetMany set_many = CACHED__V1__SET_MANY__INIT;
        Cached__V1__Touch touch = CACHED__V1__TOUCH__INIT;
        Cached__V1__Delete delete = CACHED__V1__DELETE__INIT;
        Cached__V1__Clear clear = CACHED__V1__CLEAR__INIT;
        Cached__V1__ListCaches list = CACHED__V1__LIST_CACHES__INIT;
        Cached__V1__ListEntries entries = CACHED__V1__LIST_ENTRIES__INIT;
        Cached__V1__Explain explain = CACHED__V1__EXPLAIN__INIT;
        Cached__V1__Stats stats = CACHED__V1__STATS__INIT;
        Cached__V1__Ping ping = CACHED__V1__PING__INIT;
        Cached__V1__SetPolicy policy = CACHED__V1__SET_POLICY__INIT;
        Cached__V1__ListLeases leases = CACHED__V1__LIST_LEASES__INIT;
        Cached__V1__Subscribe subscribe = CACHED__V1__SUBSCRIBE__INIT;
        open.cache = get.cache = get_many.cache = set_many.cache = touch.cache = delete.cache =
                clear.cache = entries.cache = explain.cache = stats.cache = policy.cache =
                        (char *)"c";
        get.key = touch.key = delete.key = explain.key = key_of("k");
        Cached__V1__Request with[] = {
                REQUEST(OPEN_CACHE, open_cache, &open),
                REQUEST(GET, get, &get),
                REQUEST(GET_MANY, get_many, &get_many),
                REQUEST(SET, set, &set),
                REQUEST(SET_MANY, set_many, &set_many),
                REQUEST(TOUCH, touch, &touch),
                REQUEST(DELETE, delete_, &delete),
                REQUEST(CLEAR, clear, &clear),
                REQUEST(LIST_CACHES, list_caches, &list),
                REQUEST(LIST_ENTRIES, list_entries, &entries),
                REQUEST(EXPLAIN, explain, &explain),
                REQUEST(STATS, stats, &stats),
        };
        Cached__V1__Request without[] = {
                REQUEST(PING, ping, &ping),
                REQUEST(SET_POLICY, set_policy, &policy),
                REQUEST(LIST_LEASES, list_leases, &leases),
                REQUEST(SUBSCRIBE, subscribe, &subscribe),
        };
        for (unsigned i = 0; i < sizeof(with) / sizeof(with[0]); i++) {
                struct reply r = ask(w, w->c, &guess, &with[i], NULL);
                assert_true(status_is(r.m, STATUS_NOT_FOUND));
                assert_string_equal(r.m->error,
                                    "there is no session with this token in the realm (any more): "
                                    "open one");
                reply_done(&r);
        }
        for (unsigned i = 0; i < sizeof(without) / sizeof(without[0]); i++)
                assert_failure(ask(w, w->c, &a, &without[i], NULL), STATUS_INVALID,
                               "leave the session out");
        assert_int_equal(store_n_caches(realm_of(w)->store), 0);
        assert_int_equal(store_n_caches(realm_of(w)->sessions->store), 2);
}

static void test_they_end_with_the_session(void **state)
{
        struct world *w = *state;
        struct token a = session_new(w), b = session_new(w);
        struct store *s = realm_of(w)->sessions->store;
        struct store_stats stats;
        uint32_t id = open_in(w, &a, "c");
        store_in(w, &a, "c", "old");
        store_in(w, &b, "c", "of b");
        session_end(w, &a);
        assert_value_in(w, &a, "c", NULL);
        end_turn(w);
        store_stats(s, &stats);
        assert_int_equal(stats.caches, 3);
        assert_int_equal(stats.entries, 2);
        assert_value_in(w, &b, "c", "of b");
        /* Its id is another one's: nothing of what was there is. */
        struct token c = session_new(w);
        assert_int_equal(open_in(w, &c, "d"), id);
        assert_value_in(w, &c, "d", NULL);
        assert_failure(get_in(w, &b, NULL, id), STATUS_INVALID, "is unknown");
        /* Expiry ends a session, too. */
        w->server.now_ns += UINT64_C(20000) * 1000000;
        end_turn(w);
        store_stats(s, &stats);
        assert_int_equal(stats.caches, 2);
        assert_int_equal(stats.entries, 0);
}

static void test_clear_all_is_of_the_session(void **state)
{
        struct world *w = *state;
        struct token a = session_new(w), b = session_new(w);
        Cached__V1__Clear clear = CACHED__V1__CLEAR__INIT;
        Cached__V1__Request m = REQUEST(CLEAR, clear, &clear);
        clear.all = true;
        store_in(w, NULL, "c", "the realm's");
        store_in(w, &a, "c", "of a");
        store_in(w, &a, "d", "of a");
        store_in(w, &b, "c", "of b");
        struct reply r = ask(w, w->c, &a, &m, NULL);
        assert_int_equal(r.m->clear->entries, 2);
        assert_int_equal(r.m->clear->caches, 2);
        reply_done(&r);
        assert_value_in(w, &a, "c", NULL);
        assert_value_in(w, NULL, "c", "the realm's");
        assert_value_in(w, &b, "c", "of b");
        assert_int_equal(status_of(get_in(w, &a, "c", 0)), STATUS_NOT_FOUND); /* it is there yet */
        m.id = 0;
        r = ask(w, w->c, NULL, &m, NULL);
        assert_int_equal(r.m->clear->caches, 1);
        reply_done(&r);
        assert_value_in(w, &b, "c", "of b");
}

static void test_names_and_numbers_are_bounded(void **state)
{
        struct world *w = *state;
        struct token a = session_new(w);
        char name[102];
        memset(name, 'n', sizeof(name));
        name[100] = '\0';
        store_in(w, &a, name, "x");
        assert_value_in(w, &a, name, "x");
        name[100] = 'n';
        name[101] = '\0';
        assert_failure(set_in(w, &a, name, 0, "x"), STATUS_INVALID, "1 to 100 bytes");
        store_set_limits(realm_of(w)->sessions->store, 4, 1000, STORE_EXTENT_MAX, 10);
        store_in(w, &a, "two", "x");
        assert_failure(set_in(w, &a, "three", 0, "x"), STATUS_LIMIT,
                       "(2; limits.session_caches_per_realm when the realm was made)");
}

static Cached__V1__Request lease_request(Cached__V1__Get *get, Cached__V1__LeaseAsk *lease)
{
        get->cache = (char *)"c";
        get->key = key_of("k");
        get->lease = lease;
        return REQUEST(GET, get, get);
}

/* A cache stays until nobody computes for it: else its id could be another's meanwhile. */
static void test_leases_are_in_scope(void **state)
{
        struct world *w = *state;
        struct token a = session_new(w), b = session_new(w);
        struct conn *c = connect_as(w, UID, "", LEASES);
        Cached__V1__LeaseAsk lease = CACHED__V1__LEASE_ASK__INIT;
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        Cached__V1__Request m = lease_request(&get, &lease);
        struct reply r = ask(w, c, &a, &m, NULL);
        assert_int_equal(r.m->lease->state, CACHED__V1__LEASE_STATE__LEASE_GRANTED);
        uint64_t id = r.m->lease->lease_id;
        reply_done(&r);
        m.id = 0;
        r = ask(w, c, &b, &m, NULL);
        assert_int_equal(r.m->lease->state, CACHED__V1__LEASE_STATE__LEASE_GRANTED);
        uint64_t of_b = r.m->lease->lease_id;
        reply_done(&r);

        Cached__V1__ListLeases list = CACHED__V1__LIST_LEASES__INIT;
        Cached__V1__Request all = REQUEST(LIST_LEASES, list_leases, &list);
        r = ask(w, c, NULL, &all, NULL);
        assert_int_equal(r.m->list_leases->n_computations, 0);
        reply_done(&r);

        Cached__V1__EndLease end = CACHED__V1__END_LEASE__INIT;
        Cached__V1__Request over = REQUEST(END_LEASE, end_lease, &end);
        end.lease_id = of_b;
        assert_int_equal(status_of(ask(w, c, &a, &over, NULL)), STATUS_NOT_FOUND);
        over.id = 0;
        assert_int_equal(status_of(ask(w, c, NULL, &over, NULL)), STATUS_NOT_FOUND);
        over.id = 0;
        assert_int_equal(status_of(ask(w, c, &b, &over, NULL)), STATUS_OK);

        Cached__V1__Set set = set_of("c", "k");
        Cached__V1__Request put = REQUEST(SET, set, &set);
        set.lease_id = id;
        assert_int_equal(status_of(ask(w, c, &b, &put, "x")), STATUS_SUPERSEDED);
        put.id = 0;
        assert_int_equal(status_of(ask(w, c, &a, &put, "x")), STATUS_OK);
        assert_value_in(w, &a, "c", "x");

        /* One that is computed when the session ends. */
        get.key = key_of("l");
        m.id = 0;
        r = ask(w, c, &a, &m, NULL);
        assert_int_equal(r.m->lease->state, CACHED__V1__LEASE_STATE__LEASE_GRANTED);
        set.lease_id = r.m->lease->lease_id;
        set.key = key_of("l");
        reply_done(&r);
        session_end(w, &a);
        end_turn(w);
        put.id = 0;
        assert_int_equal(status_of(ask(w, c, &a, &put, "x")), STATUS_NOT_FOUND);
        fake_conn_free(c);
        w->server.now_ns += UINT64_C(2000) * 1000000;
        end_turn(w);
        assert_int_equal(session_caches_due(realm_of(w)->sessions), STORE_NEVER);
        struct store_stats stats;
        store_stats(realm_of(w)->sessions->store, &stats);
        assert_int_equal(stats.caches, 3);
}

/* A value that is long comes in portions; what becomes of its session in between counts. */
static void test_long_values(void **state)
{
        struct world *w = *state;
        struct token a = session_new(w);
        char *value = malloc(300001);
        assert_non_null(value);
        memset(value, 'v', 300000);
        value[300000] = '\0';
        store_in(w, &a, "c", value);
        assert_value_in(w, &a, "c", value);
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        get.cache = (char *)"c";
        get.key = key_of("k");
        get.as_file = true;
        struct conn *c = connect_as(w, UID, "", CACHED__V1__FEATURE__FEATURE_FILES);
        Cached__V1__Request m = REQUEST(GET, get, &get);
        struct reply r = ask(w, c, &a, &m, NULL); /* bytes, not a file */
        assert_int_equal(r.n_body, 300000);
        assert_int_equal(r.m->entry->view_id, 0);
        reply_done(&r);
        fake_conn_free(c);
        free(value);
        assert_value(w, "c", "k", NULL);
}

/* Hints go to the realm's own store. */
static void test_no_hint_is_taken_from_it(void **state)
{
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        uint8_t msg[100], token[16] = {1};
        struct peek p;
        (void)state;
        get.cache = (char *)"c";
        get.key = key_of("k");
        Cached__V1__Request m = REQUEST(GET, get, &get);
        assert_true(peek_key(msg, cached__v1__request__pack(&m, msg), &p));
        m.session = (ProtobufCBinaryData){.len = sizeof(token), .data = token};
        assert_false(peek_key(msg, cached__v1__request__pack(&m, msg), &p));
}

static void test_readers_have_no_sessions(void **state)
{
        struct world *w = *state;
        struct token a = session_new(w);
        struct conn *c = connect_as(w, 2000, "shared", 0);
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        get.cache = (char *)"c";
        get.key = key_of("k");
        Cached__V1__Request m = REQUEST(GET, get, &get);
        assert_failure(ask(w, c, &a, &m, NULL), STATUS_DENIED, "writer");
        fake_conn_free(c);
        c = connect_as(w, 2001, "shared", 0); /* another realm's token */
        m.id = 0;
        assert_int_equal(status_of(ask(w, c, &a, &m, NULL)), STATUS_NOT_FOUND);
        fake_conn_free(c);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, world_up, world_down)
        const struct CMUnitTest tests[] = {
                T(test_caches_of_one_name_are_apart),
                T(test_nothing_is_seen_from_outside),
                T(test_a_token_is_checked_by_every_request),
                T(test_they_end_with_the_session),
                T(test_clear_all_is_of_the_session),
                T(test_names_and_numbers_are_bounded),
                T(test_leases_are_in_scope),
                T(test_long_values),
                T(test_no_hint_is_taken_from_it),
                T(test_readers_have_no_sessions),
        };
#undef T
        return cmocka_run_group_tests(tests, NULL, NULL);
}
