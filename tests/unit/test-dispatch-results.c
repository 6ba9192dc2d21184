/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, in process: what requests do
 *
 * Entries and conditions; bodies inline and through a sink; many entries at once and the bounds of
 * one reply; policies, pins and the events they cause; listings, explanations, statistics, clients
 * and the configuration.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "dispatch-world.h"

/* ---- entries */

static void test_a_set_is_what_a_get_returns(void **state)
{
        struct world *w = *state;
        Cached__V1__Set set = set_of("c", "k");
        set.flags = 7;
        set.cost_us = 1234567;
        set.ttl_case = CACHED__V1__SET__TTL_TTL_MS;
        set.ttl_ms = 5000;
        struct reply r = send_set(w, w->c, &set, "value", 5);
        assert_int_equal(r.m->status, STATUS_OK);
        uint64_t version = r.m->entry->version;
        assert_true(version > 0);
        reply_done(&r);

        w->server.now_ns += UINT64_C(1000000000);
        r = send_get(w, w->c, "c", "k");
        const Cached__V1__EntryInfo *e = r.m->entry;
        assert_int_equal(r.n_body, 5);
        assert_memory_equal(r.body, "value", 5);
        assert_int_equal(e->version, version);
        assert_int_equal(e->size, 5);
        assert_int_equal(e->flags, 7);
        assert_int_equal(e->cost_us, 1234567);
        assert_int_equal(e->uid, UID);
        assert_int_equal(e->raw_size, 5);
        assert_in_range(e->ttl_ms, 3999, 4000);
        reply_done(&r);
        w->server.now_ns += UINT64_C(4000000000);
        assert_value(w, "c", "k", NULL);
        assert_int_equal(set_text(w, w->c, "c", "empty", ""), STATUS_OK);
        assert_value(w, "c", "empty", "");
}

static void test_conditions_hold(void **state)
{
        struct world *w = *state;
        Cached__V1__Set set = set_of("new", "k");
        set.mode = CACHED__V1__SET_MODE__SET_REPLACE_ONLY;
        struct reply r = send_set(w, w->c, &set, "1", 1);
        assert_int_equal(r.m->status, STATUS_NOT_FOUND);
        reply_done(&r);
        set.mode = CACHED__V1__SET_MODE__SET_ADD_ONLY;
        r = send_set(w, w->c, &set, "1", 1);
        assert_int_equal(r.m->status, STATUS_OK);
        uint64_t version = r.m->entry->version;
        reply_done(&r);
        assert_failure(send_set(w, w->c, &set, "2", 1), STATUS_EXISTS, "already stored");
        set.mode = CACHED__V1__SET_MODE__SET_ANY;
        set.compare_case = CACHED__V1__SET__COMPARE_EXPECTED_VERSION;
        set.expected_version = version + 1;
        assert_failure(send_set(w, w->c, &set, "2", 1), STATUS_VERSION_MISMATCH, "is not");
        assert_value(w, "new", "k", "1");
        set.expected_version = version;
        r = send_set(w, w->c, &set, "2", 1);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_true(r.m->entry->version > version);
        reply_done(&r);
        assert_value(w, "new", "k", "2");
}

static void fill(uint8_t *body, size_t n)
{
        for (size_t i = 0; i < n; i++)
                body[i] = (uint8_t)(i * 7 + i / 251);
}

static void test_bodies_of_every_kind_come_back(void **state)
{
        struct world *w = *state;
        /* Inline; through plain memory; inline and through a sink into a file of their own. */
        const size_t sizes[] = {0,     1,      INLINE_MAX, INLINE_MAX + 1, 65536,
                                99999, 102399, 102400,     1024 * 1024,    2 * 1024 * 1024};
        uint8_t *body = malloc(2 * 1024 * 1024);
        fill(body, 2 * 1024 * 1024);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                Cached__V1__Set set = set_of("c", "k");
                struct reply r = send_set(w, w->c, &set, body, sizes[i]);
                assert_int_equal(r.m->status, STATUS_OK);
                assert_int_equal(r.m->entry->size, sizes[i]);
                reply_done(&r);
                r = send_get(w, w->c, "c", "k");
                assert_int_equal(r.m->status, STATUS_OK);
                assert_int_equal(r.n_body, sizes[i]);
                assert_memory_equal(r.body, body, sizes[i]);
                reply_done(&r);
        }
        free(body);
}

static void test_uploads_of_a_uid_are_bounded(void **state)
{
        struct world *w = *state;
        struct conn *other = connect_as(w, UID, "", 0);
        Cached__V1__Set set = set_of("c", "k");
        Cached__V1__Request m = REQUEST(SET, set, &set);
        uint8_t msg[64];
        m.id = ++w->id;
        size_t n = cached__v1__request__pack(&m, msg);
        struct body_sink first, second;
        dispatch_handler.on_body(w->c, msg, n, 2 * 1024 * 1024, &first);
        assert_non_null(first.dst);
        m.id = ++w->id;
        n = cached__v1__request__pack(&m, msg);
        dispatch_handler.on_body(other, msg, n, 1024 * 1024 + 1, &second);
        assert_null(second.dst);
        assert_failure(take_reply(other), STATUS_LIMIT, "upload_bytes_per_uid");
        /* The first never completes: what it held is free again. */
        dispatch_handler.drop_sink(w->c, first.ctx);
        m.id = ++w->id;
        n = cached__v1__request__pack(&m, msg);
        dispatch_handler.on_body(other, msg, n, 1024 * 1024 + 1, &second);
        assert_non_null(second.dst);
        dispatch_handler.drop_sink(other, second.ctx);
        fake_conn_free(other);
        assert_value(w, "c", "k", NULL);
}

static void test_touch_delete_and_clear(void **state)
{
        struct world *w = *state;
        assert_int_equal(set_text(w, w->c, "c", "k", "v"), STATUS_OK);
        Cached__V1__Touch touch = CACHED__V1__TOUCH__INIT;
        touch.cache = (char *)"c";
        touch.key = key_of("k");
        touch.ttl_case = CACHED__V1__TOUCH__TTL_TTL_MS;
        touch.ttl_ms = 1000;
        Cached__V1__Request m = REQUEST(TOUCH, touch, &touch);
        struct reply r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.m->entry->ttl_ms, 1000);
        reply_done(&r);
        touch.ttl_case = CACHED__V1__TOUCH__TTL_NEVER_EXPIRES;
        touch.never_expires = 1;
        m.id = 0;
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->entry->ttl_case, CACHED__V1__ENTRY_INFO__TTL__NOT_SET);
        reply_done(&r);

        Cached__V1__Delete del = CACHED__V1__DELETE__INIT;
        del.cache = (char *)"c";
        del.key = key_of("k");
        m = REQUEST(DELETE, delete_, &del);
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        m.id = 0;
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_NOT_FOUND);
        reply_done(&r);

        assert_int_equal(set_text(w, w->c, "c", "a", "v"), STATUS_OK);
        assert_int_equal(set_text(w, w->c, "c", "b", "v"), STATUS_OK);
        Cached__V1__Clear clear = CACHED__V1__CLEAR__INIT;
        clear.cache = (char *)"c";
        m = REQUEST(CLEAR, clear, &clear);
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->clear->entries, 2);
        reply_done(&r);
        assert_value(w, "c", "a", NULL);
        clear.all = 1;
        m.id = 0;
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID,
                       "names a cache and asks for all");
}

/* ---- many at once */

static struct reply get_many(struct world *w, const char *cache, size_t n,
                             ProtobufCBinaryData *keys)
{
        Cached__V1__GetMany get = CACHED__V1__GET_MANY__INIT;
        get.cache = (char *)cache;
        get.keys = keys;
        get.n_keys = n;
        Cached__V1__Request m = REQUEST(GET_MANY, get_many, &get);
        return call(w, w->c, &m, NULL, 0);
}

static void test_get_many_keeps_the_order(void **state)
{
        struct world *w = *state;
        assert_int_equal(set_text(w, w->c, "c", "a", "1"), STATUS_OK);
        assert_int_equal(set_text(w, w->c, "c", "b", "22"), STATUS_OK);
        assert_int_equal(set_text(w, w->c, "c", "e", ""), STATUS_OK);
        ProtobufCBinaryData keys[] = {key_of("b"), key_of("x"), key_of("e"), key_of("a"),
                                      key_of("b")};
        struct reply r = get_many(w, "c", 5, keys);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.m->get_many->n_items, 5);
        Cached__V1__GetManyItem **items = r.m->get_many->items;
        assert_int_equal(items[0]->status, STATUS_OK);
        assert_int_equal(items[1]->status, STATUS_NOT_FOUND);
        assert_null(items[1]->entry);
        assert_int_equal(items[2]->entry->size, 0);
        assert_int_equal(items[3]->entry->size, 1);
        assert_int_equal(r.n_body, 5);
        assert_memory_equal(r.body, "22122", 5);
        reply_done(&r);
        r = get_many(w, "unknown", 1, keys);
        assert_int_equal(r.m->get_many->items[0]->status, STATUS_NOT_FOUND);
        reply_done(&r);
        assert_failure(get_many(w, "c", 0, keys), STATUS_INVALID, "no keys");
        keys[3].len = 0;
        assert_failure(get_many(w, "c", 5, keys), STATUS_INVALID, "key 3: the key is empty");
}

static void test_get_many_bounds_what_it_copies(void **state)
{
        struct world *w = *state;
        /* Small ones up to limits.output_bytes (64 KiB); large ones are attached, not copied. */
        uint8_t *body = malloc(200000);
        fill(body, 200000);
        const struct {
                const char *key;
                size_t n;
        } values[] = {{"a", 40000}, {"b", 30000}, {"L", 200000}, {"c", 20000}, {"M", 110000}};
        ProtobufCBinaryData keys[5];
        for (size_t i = 0; i < 5; i++) {
                Cached__V1__Set set = set_of("c", values[i].key);
                struct reply r = send_set(w, w->c, &set, body, values[i].n);
                assert_int_equal(r.m->status, STATUS_OK);
                reply_done(&r);
                keys[i] = key_of(values[i].key);
        }
        struct reply r = get_many(w, "c", 5, keys);
        assert_int_equal(r.m->status, STATUS_OK);
        const enum status expected[] = {STATUS_OK, STATUS_TOO_LARGE, STATUS_OK, STATUS_OK,
                                        STATUS_OK};
        const uint8_t *at = r.body;
        for (size_t i = 0; i < 5; i++) {
                const Cached__V1__GetManyItem *item = r.m->get_many->items[i];
                assert_int_equal(item->status, expected[i]);
                assert_int_equal(item->entry->size, values[i].n);
                if (expected[i] != STATUS_OK)
                        continue;
                assert_memory_equal(at, body, values[i].n);
                at += values[i].n;
        }
        assert_int_equal(at - r.body, r.n_body);
        reply_done(&r);
        free(body);
}

static void test_too_many_keys_are_refused(void **state)
{
        struct world *w = *state;
        ProtobufCBinaryData keys[301];
        for (size_t i = 0; i < 301; i++)
                keys[i] = key_of("k");
        assert_failure(get_many(w, "c", 301, keys), STATUS_LIMIT, "limits.keys_per_request, 300");
        struct reply r = get_many(w, "c", 300, keys);
        assert_int_equal(r.m->get_many->n_items, 300);
        reply_done(&r);

        /* A megabyte of empty keys: bounded before it costs a hundred times its size. */
        size_t n = 2 + 11 + 600000;
        uint8_t *msg = calloc(1, n);
        uint8_t *p = msg;
        *p++ = 0x08;
        *p++ = (uint8_t)(w->id = 100); /* below 128 */
        *p++ = 0x7a;                   /* get_many, length-delimited */
        size_t rest = n - 7;
        for (int i = 0; i < 3; i++, rest >>= 7)
                *p++ = (uint8_t)(rest & 0x7f) | (i < 2 ? 0x80 : 0);
        size_t n_keys = (size_t)(msg + n - p) / 2;
        for (size_t i = 0; i < n_keys; i++)
                *p++ = 0x1a, *p++ = 0;
        n = (size_t)(p - msg);
        rest = n - 6;
        for (int i = 0; i < 3; i++, rest >>= 7)
                msg[3 + i] = (uint8_t)(rest & 0x7f) | (i < 2 ? 0x80 : 0);
        fake_conn_frame(w->c, msg, n, NULL, 0, INLINE_MAX);
        r = take_reply(w->c);
        assert_int_equal(r.m->id, 100);
        assert_failure(r, STATUS_LIMIT, "too many fields");
        free(msg);
        assert_int_equal(set_text(w, w->c, "c", "k", "v"), STATUS_OK);
}

static struct reply set_many(struct world *w, struct many *many, const void *body, uint64_t n)
{
        Cached__V1__Request m = REQUEST(SET_MANY, set_many, &many->msg);
        return call(w, w->c, &m, body, n);
}

static void test_set_many_answers_each_item(void **state)
{
        struct world *w = *state;
        struct many many;
        const char *const keys[] = {"a", "", "b", "a"};
        many_init(&many, keys, (uint64_t[]){1, 2, 3, 0});
        struct reply r = set_many(w, &many, "122333", 6);
        assert_int_equal(r.m->status, STATUS_OK);
        Cached__V1__SetManyItem **items = r.m->set_many->items;
        assert_int_equal(r.m->set_many->n_items, 4);
        assert_int_equal(items[0]->status, STATUS_OK);
        assert_int_equal(items[1]->status, STATUS_INVALID);
        assert_non_null(strstr(items[1]->error, "key is empty"));
        assert_int_equal(items[2]->status, STATUS_OK);
        assert_true(items[3]->version > items[2]->version);
        reply_done(&r);
        assert_value(w, "c", "a", "");
        assert_value(w, "c", "b", "333");
}

static void test_set_many_as_a_whole_out_of_range(void **state)
{
        struct world *w = *state;
        struct many many;
        const char *const keys[] = {"a", "b", "c", "d"};
        const uint64_t sizes[] = {1, 1, 1, 1};
        many_init(&many, keys, sizes);
        assert_failure(set_many(w, &many, "12345", 5), STATUS_INVALID, "sizes add up to 4");
        many.sizes[2] = UINT64_MAX; /* wraps to the right sum */
        many.sizes[3] = 4;
        assert_failure(set_many(w, &many, "12345", 5), STATUS_INVALID, "sizes add up to");
        many_init(&many, keys, sizes);
        many.msg.n_sizes = 3;
        assert_failure(set_many(w, &many, "1234", 4), STATUS_INVALID, "4 sets but 3 sizes");
        many_init(&many, keys, sizes);
        many.sets[1].cache = (char *)"d";
        assert_failure(set_many(w, &many, "1234", 4), STATUS_INVALID, "set 1 names a cache");
        many_init(&many, keys, sizes);
        many.msg.n_sets = many.msg.n_sizes = 0;
        assert_failure(set_many(w, &many, "", 0), STATUS_INVALID, "no sets");
        assert_value(w, "c", "a", NULL);
}

static void test_set_many_with_a_long_body(void **state)
{
        struct world *w = *state;
        size_t n = 300000;
        uint8_t *body = malloc(n);
        fill(body, n);
        struct many many;
        const char *const keys[] = {"a", "b", "c", "d"};
        many_init(&many, keys, (uint64_t[]){10, 150000, 0, 149990});
        struct reply r = set_many(w, &many, body, n);
        assert_int_equal(r.m->status, STATUS_OK);
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(r.m->set_many->items[i]->status, STATUS_OK);
        reply_done(&r);
        r = send_get(w, w->c, "c", "d");
        assert_int_equal(r.n_body, 149990);
        assert_memory_equal(r.body, body + 150010, 149990);
        reply_done(&r);
        free(body);
}

/* ---- policies and events */

static struct reply open_cache(struct world *w, struct conn *c, const char *cache,
                               uint64_t max_entries)
{
        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        policy.entries_limit_case = CACHED__V1__POLICY__ENTRIES_LIMIT_MAX_ENTRIES;
        policy.max_entries = max_entries;
        Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
        open.cache = (char *)cache;
        open.policy = max_entries > 0 ? &policy : NULL;
        Cached__V1__Request m = REQUEST(OPEN_CACHE, open_cache, &open);
        return call(w, c, &m, NULL, 0);
}

static void assert_opened(struct world *w, struct conn *c, uint64_t asked, uint64_t in_force,
                          bool pinned)
{
        struct reply r = open_cache(w, c, "c", asked);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.m->cache->policy->max_entries, in_force);
        assert_int_equal(r.m->cache->pinned, pinned);
        reply_done(&r);
}

static void test_the_newest_open_wins_unless_pinned(void **state)
{
        struct world *w = *state;
        struct reply r = open_cache(w, w->c, "c", 0);
        assert_true(r.m->cache->created);
        assert_int_equal(r.m->cache->policy->entries_limit_case,
                         CACHED__V1__POLICY__ENTRIES_LIMIT__NOT_SET);
        uint32_t id = r.m->cache->cache_id;
        assert_true(id > 0);
        reply_done(&r);
        assert_opened(w, w->c, 10, 10, false);
        assert_opened(w, w->c, 0, 10, false);
        assert_opened(w, w->c, 20, 20, false);

        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        policy.ttl_case = CACHED__V1__POLICY__TTL_TTL_MS;
        policy.ttl_ms = 99;
        Cached__V1__SetPolicy pin = CACHED__V1__SET_POLICY__INIT;
        pin.cache = (char *)"c";
        pin.policy = &policy;
        Cached__V1__Request m = REQUEST(SET_POLICY, set_policy, &pin);
        r = call(w, w->c, &m, NULL, 0);
        assert_true(r.m->cache->pinned);
        assert_int_equal(r.m->cache->policy->ttl_ms, 99);
        assert_int_equal(r.m->cache->policy->max_entries, 20); /* what is absent stays */
        reply_done(&r);
        assert_opened(w, w->c, 30, 20, true);

        Cached__V1__PolicyField reset[] = {CACHED__V1__POLICY_FIELD__POLICY_MAX_ENTRIES};
        pin.policy = NULL;
        pin.reset = reset;
        pin.n_reset = 1;
        m.id = 0;
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->cache->policy->entries_limit_case,
                         CACHED__V1__POLICY__ENTRIES_LIMIT__NOT_SET);
        assert_int_equal(r.m->cache->policy->ttl_ms, 99);
        reply_done(&r);

        pin.n_reset = 0;
        pin.unpin = 1;
        m.id = 0;
        r = call(w, w->c, &m, NULL, 0);
        assert_false(r.m->cache->pinned);
        /* What was opened last while it was pinned is in force now. */
        assert_int_equal(r.m->cache->policy->ttl_case, CACHED__V1__POLICY__TTL__NOT_SET);
        assert_int_equal(r.m->cache->policy->max_entries, 30);
        assert_int_equal(r.m->cache->cache_id, id);
        assert_int_equal(r.m->cache->opens, 5);
        assert_int_equal(r.m->cache->policy_changes, 5);
        reply_done(&r);
        assert_opened(w, w->c, 40, 40, false);

        Cached__V1__Get get = CACHED__V1__GET__INIT; /* the id stands for the name */
        get.cache_id = id;
        get.key = key_of("k");
        m = REQUEST(GET, get, &get);
        assert_int_equal(set_text(w, w->c, "c", "k", "v"), STATUS_OK);
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.n_body, 1);
        reply_done(&r);
}

static void test_holders_are_told_of_a_change(void **state)
{
        struct world *w = *state;
        struct dispatcher *d = w->server.dispatcher;
        struct conn *a = connect_as(w, UID, "", 1), *b = connect_as(w, UID, "", 1);
        struct conn *deaf = connect_as(w, UID, "", 0), *other = connect_as(w, 1, "", 1);
        struct conn *all[] = {a, b, deaf, other};
        for (size_t i = 0; i < 4; i++) {
                struct reply r = open_cache(w, all[i], "c", 1);
                reply_done(&r);
        }
        dispatcher_maintain(d, server_now_ms(&w->server), 100);
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(all[i]->n_out, 0); /* nothing changed since they opened it */

        assert_opened(w, a, 2, 2, false);
        assert_opened(w, a, 3, 3, false);
        assert_true(dispatcher_next_deadline(d) <= server_now_ms(&w->server));
        dispatcher_maintain(d, server_now_ms(&w->server), 100);
        struct reply r = take_reply(b);
        assert_int_equal(r.m->id, 0);
        assert_int_equal(r.m->result_case, CACHED__V1__REPLY__RESULT_EVENT);
        assert_string_equal(r.m->event->policy_changed->name, "c");
        assert_int_equal(r.m->event->policy_changed->policy->max_entries, 3); /* one, the newest */
        reply_done(&r);
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(all[i]->n_out, 0);
        assert_int_equal(b->kicks, 1);

        /* Who does not read is told once the output has drained. */
        b->queued_for_long = 64 * 1024;
        assert_opened(w, a, 4, 4, false);
        dispatcher_maintain(d, server_now_ms(&w->server), 100);
        assert_int_equal(b->n_out, 0);
        assert_true(dispatcher_next_deadline(d) > server_now_ms(&w->server));
        assert_opened(w, a, 5, 5, false);
        b->queued_for_long = 0;
        w->server.now_ns += 1000000000;
        dispatcher_maintain(d, server_now_ms(&w->server), 100);
        r = take_reply(b);
        assert_int_equal(r.m->event->policy_changed->policy->max_entries, 5);
        assert_int_equal(b->n_out, 0);
        reply_done(&r);
        b->queued_for_long = 64 * 1024; /* and who goes meanwhile is forgotten */
        assert_opened(w, a, 6, 6, false);
        for (size_t i = 0; i < 4; i++)
                fake_conn_free(all[i]);
        w->server.now_ns += 1000000000;
        dispatcher_maintain(d, server_now_ms(&w->server), 100);
}

/* ---- inspection */

static void test_listings_go_page_by_page(void **state)
{
        struct world *w = *state;
        char key[] = "aa";
        for (int i = 0; i < 25; i++, key[1]++)
                assert_int_equal(set_text(w, w->c, "c", key, "v"), STATUS_OK);
        assert_int_equal(set_text(w, w->c, "d", "k", "v"), STATUS_OK);
        Cached__V1__ListEntries list = CACHED__V1__LIST_ENTRIES__INIT;
        list.cache = (char *)"c";
        list.page_size = 1000; /* more than limits.page_entries, 10 */
        bool seen[256] = {false};
        size_t n = 0;
        do {
                Cached__V1__Request m = REQUEST(LIST_ENTRIES, list_entries, &list);
                struct reply r = call(w, w->c, &m, NULL, 0);
                assert_int_equal(r.m->status, STATUS_OK);
                assert_true(r.m->list_entries->n_entries <= 10);
                for (size_t i = 0; i < r.m->list_entries->n_entries; i++, n++) {
                        const Cached__V1__ListedEntry *e = r.m->list_entries->entries[i];
                        assert_int_equal(e->key.len, 2);
                        assert_false(seen[e->key.data[1]]);
                        seen[e->key.data[1]] = true;
                        assert_true(e->charge > 0);
                }
                list.cursor = r.m->list_entries->next;
                reply_done(&r);
        } while (list.cursor != 0);
        assert_int_equal(n, 25);

        Cached__V1__ListCaches caches = CACHED__V1__LIST_CACHES__INIT;
        caches.page_size = 1;
        Cached__V1__Request m = REQUEST(LIST_CACHES, list_caches, &caches);
        struct reply r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->list_caches->n_caches, 1);
        assert_string_equal(r.m->list_caches->caches[0]->name, "c");
        assert_int_equal(r.m->list_caches->caches[0]->entries, 25);
        caches.cursor = r.m->list_caches->next;
        assert_true(caches.cursor != 0);
        reply_done(&r);
        m.id = 0;
        caches.page_size = 5;
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->list_caches->n_caches, 1);
        assert_string_equal(r.m->list_caches->caches[0]->name, "d");
        assert_int_equal(r.m->list_caches->next, 0);
        reply_done(&r);
        m.id = 0;
        caches.cursor = UINT64_MAX; /* a cursor of nobody's: the end */
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->list_caches->n_caches, 0);
        assert_int_equal(r.m->list_caches->next, 0);
        reply_done(&r);
}

static void assert_fate(struct world *w, const char *cache, const char *key, int fate,
                        const char *words)
{
        Cached__V1__Explain explain = CACHED__V1__EXPLAIN__INIT;
        explain.cache = (char *)cache;
        explain.key = key_of(key);
        Cached__V1__Request m = REQUEST(EXPLAIN, explain, &explain);
        struct reply r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.m->explain->fate, fate);
        assert_non_null(strstr(r.m->explain->text, words));
        reply_done(&r);
}

static void test_explain_says_why(void **state)
{
        struct world *w = *state;
        assert_fate(w, "c", "k", CACHED__V1__FATE__FATE_NO_CACHE, "no cache");
        Cached__V1__Set set = set_of("c", "k");
        set.ttl_case = CACHED__V1__SET__TTL_TTL_MS;
        set.ttl_ms = 1000;
        struct reply r = send_set(w, w->c, &set, "v", 1);
        reply_done(&r);
        assert_fate(w, "c", "k", CACHED__V1__FATE__FATE_LIVE, "expires in");
        assert_fate(w, "c", "x", CACHED__V1__FATE__FATE_NEVER_STORED, "never stored");
        w->server.now_ns += UINT64_C(2000000000);
        while (dispatcher_maintain(w->server.dispatcher, server_now_ms(&w->server), 100))
                ;
        assert_fate(w, "c", "k", CACHED__V1__FATE__FATE_EXPIRED, "TTL had passed");
        Cached__V1__Delete del = CACHED__V1__DELETE__INIT;
        del.cache = (char *)"c";
        del.key = key_of("d");
        assert_int_equal(set_text(w, w->c, "c", "d", "v"), STATUS_OK);
        assert_fate(w, "c", "d", CACHED__V1__FATE__FATE_LIVE, "never expires");
        Cached__V1__Request m = REQUEST(DELETE, delete_, &del);
        r = call(w, w->c, &m, NULL, 0);
        reply_done(&r);
        assert_fate(w, "c", "d", CACHED__V1__FATE__FATE_DELETED, "was deleted");
}

static void test_statistics_add_up(void **state)
{
        struct world *w = *state;
        assert_int_equal(set_text(w, w->c, "c", "k", "value"), STATUS_OK);
        assert_int_equal(set_text(w, w->c, "d", "k", "value"), STATUS_OK);
        assert_value(w, "c", "k", "value");
        assert_value(w, "c", "x", NULL);
        Cached__V1__Stats stats = CACHED__V1__STATS__INIT;
        stats.cache = (char *)"c";
        Cached__V1__Request m = REQUEST(STATS, stats, &stats);
        struct reply r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        const Cached__V1__StatsResult *s = r.m->stats;
        assert_string_equal(s->cache->name, "c");
        assert_int_equal(s->cache->entries, 1);
        assert_int_equal(s->cache->hits, 1);
        assert_int_equal(s->cache->misses, 1);
        assert_int_equal(s->cache->stores, 1);
        assert_int_equal(s->total->entries, 2);
        assert_int_equal(s->total->bytes_held, s->realm->bytes_charged);
        assert_string_equal(s->realm->name, "uid:1000");
        assert_int_equal(s->realm->caches, 2);
        assert_int_equal(s->realm->budget_bytes, 8 * 1024 * 1024);
        assert_int_equal(s->daemon->budget_bytes, 16 * 1024 * 1024);
        assert_true(s->daemon->resident_bytes > 0);
        assert_int_equal(s->daemon->pid, getpid());
        bool found = false;
        for (size_t i = 0; i < s->daemon->n_latencies; i++) {
                const Cached__V1__Latency *l = s->daemon->latencies[i];
                if (strcmp(l->request, "set") != 0)
                        continue;
                found = true;
                assert_int_equal(l->count, 2);
                assert_int_equal(l->sum_ns, 200); /* the fake's clock */
                assert_int_equal(l->max_ns, 100);
                assert_int_equal(l->n_bucket_ns, 1);
                assert_int_equal(l->bucket_count[0], 2);
        }
        assert_true(found);
        reply_done(&r);
        stats.cache = (char *)"unknown";
        m.id = 0;
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_NOT_FOUND);
        reply_done(&r);
}

static void test_clients_see_their_realm_and_root_sees_all(void **state)
{
        struct world *w = *state;
        struct conn *same = connect_as(w, UID, "", 0), *root = connect_as(w, 0, "", 0);
        struct conn *silent = fake_conn_new(&w->server, UID); /* no Hello yet */
        Cached__V1__ListClients list = CACHED__V1__LIST_CLIENTS__INIT;
        Cached__V1__Request m = REQUEST(LIST_CLIENTS, list_clients, &list);
        struct reply r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->list_clients->n_clients, geteuid() == UID ? 3 : 2);
        assert_string_equal(r.m->list_clients->clients[0]->name, "test");
        assert_int_equal(r.m->list_clients->clients[0]->pid, 1234);
        reply_done(&r);
        m.id = 0;
        r = call(w, root, &m, NULL, 0);
        assert_int_equal(r.m->list_clients->n_clients, 3);
        reply_done(&r);
        fake_conn_free(same);
        fake_conn_free(root);
        fake_conn_free(silent);
}

static void test_the_configuration_is_shown_and_reloaded(void **state)
{
        struct world *w = *state;
        Cached__V1__GetConfig get = CACHED__V1__GET_CONFIG__INIT;
        Cached__V1__Request m = REQUEST(GET_CONFIG, get_config, &get);
        struct reply r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_true(r.m->config->n_settings > 20);
        assert_int_equal(r.m->config->n_files, 1);
        reply_done(&r);

        Cached__V1__ReloadConfig reload = CACHED__V1__RELOAD_CONFIG__INIT;
        m = REQUEST(RELOAD_CONFIG, reload_config, &reload);
        if (geteuid() != UID) {
                assert_failure(call(w, w->c, &m, NULL, 0), STATUS_DENIED, "only root");
                assert_int_equal(w->server.reloads, 0);
        }
        struct conn *root = connect_as(w, 0, "", 0);
        m.id = 0;
        w->server.reload_error = "a.conf:3: unknown setting 'x'";
        assert_failure(call(w, root, &m, NULL, 0), STATUS_CONFIG, "a.conf:3: unknown setting");
        w->server.reload_error = NULL;
        m.id = 0;
        r = call(w, root, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(w->server.reloads, 2);
        reply_done(&r);
        fake_conn_free(root);
}

static void test_a_refusal_is_a_frame(void **state)
{
        uint8_t out[DISPATCH_REFUSAL_MAX];
        size_t n = dispatch_refusal(STATUS_LIMIT, "too many connections", out, sizeof(out));
        struct frame_header h = frame_header_read(out);
        assert_int_equal(n, FRAME_HEADER_SIZE + h.n_message);
        Cached__V1__Reply *m =
                cached__v1__reply__unpack(NULL, h.n_message, out + FRAME_HEADER_SIZE);
        assert_non_null(m);
        assert_int_equal(m->id, 0);
        assert_int_equal(m->status, STATUS_LIMIT);
        assert_string_equal(m->error, "too many connections");
        cached__v1__reply__free_unpacked(m, NULL);
        assert_int_equal(dispatch_refusal(STATUS_LIMIT, "too many connections", out, 20), 0);
        assert_int_equal(dispatch_refusal(STATUS_LIMIT, "", out, 3), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_a_set_is_what_a_get_returns),
                TEST(test_conditions_hold),
                TEST(test_bodies_of_every_kind_come_back),
                TEST(test_uploads_of_a_uid_are_bounded),
                TEST(test_touch_delete_and_clear),
                TEST(test_get_many_keeps_the_order),
                TEST(test_get_many_bounds_what_it_copies),
                TEST(test_too_many_keys_are_refused),
                TEST(test_set_many_answers_each_item),
                TEST(test_set_many_as_a_whole_out_of_range),
                TEST(test_set_many_with_a_long_body),
                TEST(test_the_newest_open_wins_unless_pinned),
                TEST(test_holders_are_told_of_a_change),
                TEST(test_listings_go_page_by_page),
                TEST(test_explain_says_why),
                TEST(test_statistics_add_up),
                TEST(test_clients_see_their_realm_and_root_sees_all),
                TEST(test_the_configuration_is_shown_and_reloaded),
                TEST(test_a_refusal_is_a_frame),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
