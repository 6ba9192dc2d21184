/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, in process: what is refused
 *
 * The order of requests and what breaks it; versions, realms and roles; every argument out of its
 * range, with its status and the words of its error. After each refusal the connection goes on,
 * unless the protocol was broken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "dispatch-world.h"

/* ---- order */

static void test_a_hello_says_what_holds(void **state)
{
        struct world *w = *state;
        struct conn *c = fake_conn_new(&w->server, 1001);
        struct reply r = say_hello(w, c, "", UINT64_MAX);
        assert_int_equal(r.m->id, w->id);
        const Cached__V1__HelloResult *h = r.m->hello;
        assert_string_equal(h->realm, "uid:1001");
        assert_int_equal(h->role, ACCESS_ADMIN);
        assert_int_equal(h->protocol, 1);
        assert_int_equal(h->uid, 1001);
        assert_int_equal(h->instance, 4711);
        assert_int_equal(h->features, CACHED__V1__FEATURE__FEATURE_EVENTS |
                                              CACHED__V1__FEATURE__FEATURE_LZ4 |
                                              CACHED__V1__FEATURE__FEATURE_FILES |
                                              CACHED__V1__FEATURE__FEATURE_LEASES |
                                              CACHED__V1__FEATURE__FEATURE_SESSIONS |
                                              CACHED__V1__FEATURE__FEATURE_RESOURCES);
        assert_int_equal(h->file_bytes, 64 * 1024);
        assert_int_equal(h->max_lz4_bytes, 4 * 1024 * 1024);
        assert_int_equal(h->max_keys_per_request, 300);
        assert_int_equal(h->max_message_bytes, 64 * 1024);
        reply_done(&r);
        fake_conn_free(c);
}

static void assert_violation(struct conn *c, struct reply r, const char *words)
{
        assert_int_equal(r.m->id, 0);
        assert_failure(r, STATUS_PROTOCOL, words);
        assert_true(c->closed);
}

static void test_what_breaks_the_order_closes(void **state)
{
        struct world *w = *state;
        Cached__V1__Ping ping = CACHED__V1__PING__INIT;
        Cached__V1__Request m = REQUEST(PING, ping, &ping);

        struct conn *c = fake_conn_new(&w->server, UID);
        assert_violation(c, call(w, c, &m, NULL, 0), "first request on a connection is Hello");
        fake_conn_free(c);

        c = connect_as(w, UID, "", 0);
        assert_violation(c, say_hello(w, c, "", 0), "Hello was sent before");
        fake_conn_free(c);

        c = connect_as(w, UID, "", 0);
        m.id = w->id; /* that of its Hello */
        assert_violation(c, call(w, c, &m, NULL, 0), "count upwards");
        fake_conn_free(c);

        c = connect_as(w, UID, "", 0);
        m.id = 0;
        send_request(c, &m, NULL, 0);
        assert_violation(c, take_reply(c), "no id");
        fake_conn_free(c);

        c = connect_as(w, UID, "", 0);
        fake_conn_frame(c, (const uint8_t *)"\xff\xff\xff", 3, NULL, 0, INLINE_MAX);
        assert_violation(c, take_reply(c), "not a Request");
        fake_conn_free(c);

        c = connect_as(w, UID, "", 0);
        dispatch_handler.on_violation(c, "a length lies");
        struct reply r = take_reply(c);
        assert_int_equal(r.m->id, 0);
        assert_failure(r, STATUS_PROTOCOL, "a length lies");
        fake_conn_free(c);
}

static void test_versions_must_meet(void **state)
{
        struct world *w = *state;
        const uint32_t ranges[][2] = {{2, 3}, {0, 0}, {3, 1}};
        for (size_t i = 0; i < 3; i++) {
                struct conn *c = fake_conn_new(&w->server, UID);
                Cached__V1__Hello hello = CACHED__V1__HELLO__INIT;
                hello.protocol_min = ranges[i][0];
                hello.protocol_max = ranges[i][1];
                Cached__V1__Request m = REQUEST(HELLO, hello, &hello);
                assert_failure(call(w, c, &m, NULL, 0), STATUS_VERSION, "speaks version 1");
                assert_true(c->closed);
                fake_conn_free(c);
        }
}

static void test_an_unknown_request_is_unsupported(void **state)
{
        struct world *w = *state;
        Cached__V1__Request m = CACHED__V1__REQUEST__INIT;
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_UNSUPPORTED, "does not know");
        m.id = 0;
        assert_failure(call(w, w->c, &m, "body", 4), STATUS_UNSUPPORTED, "does not know");
        /* A field number of the future, with an id: 0x08 id, then field 99, length 0. */
        uint8_t bytes[] = {0x08, (uint8_t)++w->id, 0x9a, 0x06, 0x00};
        fake_conn_frame(w->c, bytes, sizeof(bytes), NULL, 0, INLINE_MAX);
        struct reply r = take_reply(w->c);
        assert_int_equal(r.m->id, w->id);
        assert_failure(r, STATUS_UNSUPPORTED, "does not know");
        assert_false(w->c->closed);
        assert_int_equal(set_text(w, w->c, "c", "k", "v"), STATUS_OK);
}

static void test_a_body_where_none_belongs_is_refused(void **state)
{
        struct world *w = *state;
        Cached__V1__Ping ping = CACHED__V1__PING__INIT;
        Cached__V1__Request m = REQUEST(PING, ping, &ping);
        assert_failure(call(w, w->c, &m, "x", 1), STATUS_INVALID, "ping takes no body");
        m.id = 0;
        uint8_t *body = calloc(1, 2 * INLINE_MAX); /* decided on before it arrives */
        assert_failure(call(w, w->c, &m, body, 2 * INLINE_MAX), STATUS_INVALID, "takes no body");
        free(body);
        assert_false(w->c->closed);
}

static void test_a_deadline_that_passed_is_told(void **state)
{
        struct world *w = *state;
        Cached__V1__Ping ping = CACHED__V1__PING__INIT;
        Cached__V1__Request m = REQUEST(PING, ping, &ping);
        m.deadline_ms = 5;
        m.id = ++w->id;
        uint8_t msg[64];
        size_t n = cached__v1__request__pack(&m, msg);
        w->c->arrival_ns = w->server.now_ns;
        w->server.now_ns += 5000000;
        dispatch_handler.on_frame(w->c, msg, n, NULL, 0, NULL);
        assert_failure(take_reply(w->c), STATUS_DEADLINE, "deadline_ms is 5");
        m.id = ++w->id;
        n = cached__v1__request__pack(&m, msg);
        w->c->arrival_ns = w->server.now_ns - 4999999;
        dispatch_handler.on_frame(w->c, msg, n, NULL, 0, NULL);
        struct reply r = take_reply(w->c);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
}

static void test_nothing_new_begins_when_stopping(void **state)
{
        struct world *w = *state;
        w->server.stopping = true;
        assert_int_equal(set_text(w, w->c, "c", "k", "v"), STATUS_SHUTTING_DOWN);
        w->server.stopping = false;
        assert_value(w, "c", "k", NULL);
}

/* ---- realms and roles */

static void test_who_may_not_enter_is_told_why(void **state)
{
        struct world *w = *state;
        struct conn *c = fake_conn_new(&w->server, UID);
        assert_failure(say_hello(w, c, "uid:1", 0), STATUS_DENIED, "may not enter");
        assert_failure(say_hello(w, c, "shared", 0), STATUS_DENIED, "may not enter");
        assert_failure(say_hello(w, c, "nowhere", 0), STATUS_DENIED, "may not enter");
        assert_failure(say_hello(w, c, "a\nb", 0), STATUS_INVALID, "control character");
        struct reply r = say_hello(w, c, "", 0); /* a Hello that failed may be sent again */
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        fake_conn_free(c);

        c = fake_conn_new(&w->server, 0);
        assert_failure(say_hello(w, c, "nowhere", 0), STATUS_INVALID, "no realm 'nowhere'");
        r = say_hello(w, c, "uid:1000", 0);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        fake_conn_free(c);

        c = fake_conn_new(&w->server, 65534);
        assert_failure(say_hello(w, c, "", 0), STATUS_DENIED, "PrivateUsers");
        assert_true(c->closed);
        fake_conn_free(c);
}

static void test_the_limit_of_realms_is_told(void **state)
{
        struct world *w = *state;
        struct conn *a = connect_as(w, 1, "", 0), *b = connect_as(w, 2, "", 0);
        struct conn *c = fake_conn_new(&w->server, 3);
        assert_failure(say_hello(w, c, "", 0), STATUS_LIMIT, "limits.realms, 3");
        fake_conn_free(a);
        fake_conn_free(b);
        fake_conn_free(c);
}

static void test_roles_bound_what_a_peer_may(void **state)
{
        struct world *w = *state;
        struct conn *reader = connect_as(w, 2000, "shared", 0);
        struct conn *writer = connect_as(w, 2001, "shared", 0);
        struct conn *admin = connect_as(w, 2002, "shared", 0);
        Cached__V1__Set set = set_of("c", "k");
        assert_failure(send_set(w, reader, &set, "v", 1), STATUS_DENIED,
                       "set needs the role writer");
        uint8_t *body = calloc(1, 2 * INLINE_MAX);
        assert_failure(send_set(w, reader, &set, body, 2 * INLINE_MAX), STATUS_DENIED, "writer");
        free(body);
        assert_int_equal(set_text(w, writer, "c", "k", "v"), STATUS_OK);
        struct reply r = send_get(w, reader, "c", "k");
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.m->entry->uid, 2001);
        reply_done(&r);
        assert_value(w, "c", "k", NULL); /* another realm */

        Cached__V1__Clear clear = CACHED__V1__CLEAR__INIT;
        clear.all = 1;
        Cached__V1__Request m = REQUEST(CLEAR, clear, &clear);
        assert_failure(call(w, writer, &m, NULL, 0), STATUS_DENIED, "role admin");
        Cached__V1__SetPolicy policy = CACHED__V1__SET_POLICY__INIT;
        policy.cache = (char *)"c";
        m = REQUEST(SET_POLICY, set_policy, &policy);
        assert_failure(call(w, writer, &m, NULL, 0), STATUS_DENIED, "role admin");
        m = REQUEST(CLEAR, clear, &clear);
        r = call(w, admin, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.m->clear->entries, 1);
        assert_int_equal(r.m->clear->caches, 1);
        reply_done(&r);

        /* A reload takes roles away at once. */
        struct config *cfg = fake_config("[realm shared]\nreaders = 2001\n");
        dispatcher_reconfigure(w->server.dispatcher, cfg);
        assert_true(reader->closed && admin->closed && !writer->closed && !w->c->closed);
        assert_int_equal(set_text(w, writer, "c", "k", "v"), STATUS_DENIED);
        dispatcher_reconfigure(w->server.dispatcher, w->server.cfg);
        config_free(cfg);
        fake_conn_free(reader);
        fake_conn_free(writer);
        fake_conn_free(admin);
}

/* ---- arguments */

static void test_cache_names_out_of_range(void **state)
{
        struct world *w = *state;
        char longest[130];
        memset(longest, 'a', sizeof(longest));
        longest[129] = '\0';
        const struct {
                const char *name, *words;
        } bad[] = {
                {"", "names no cache"},
                {longest, "longer than 128"},
                {"a\xff", "not UTF-8"},
                {"\xc0\xaf", "not UTF-8"},
                {"\xed\xa0\x80", "not UTF-8"},
                {"\xf4\x90\x80\x80", "not UTF-8"},
                {"\xe2\x82", "not UTF-8"},
                {"a\tb", "control character"},
                {"\x7f", "control character"},
                {"\xc2\x85", "control character"},
                {"a\x1b[1m", "control character"},
        };
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                Cached__V1__Set set = set_of(bad[i].name, "k");
                assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, bad[i].words);
                assert_failure(send_get(w, w->c, bad[i].name, "k"), STATUS_INVALID, bad[i].words);
        }
        longest[128] = '\0';
        assert_int_equal(set_text(w, w->c, longest, "k", "v"), STATUS_OK);
        assert_int_equal(set_text(w, w->c, "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x8d\xb0", "k", "v"),
                         STATUS_OK);

        /* A zero byte inside, which no C string can hold: Get{cache: "a\0b", key: "k"}. */
        uint8_t bytes[] = {0x08, (uint8_t)++w->id, 0x72, 8, 0x12, 3, 'a', 0, 'b', 0x1a, 1, 'k'};
        fake_conn_frame(w->c, bytes, sizeof(bytes), NULL, 0, INLINE_MAX);
        assert_failure(take_reply(w->c), STATUS_INVALID, "control character");
}

static void test_keys_out_of_range(void **state)
{
        struct world *w = *state;
        char key[66];
        memset(key, 'k', sizeof(key));
        key[65] = '\0';
        Cached__V1__Set set = set_of("c", key);
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "longer than 64");
        assert_failure(send_get(w, w->c, "c", key), STATUS_INVALID, "longer than 64");
        set = set_of("c", "");
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "key is empty");
        assert_failure(send_get(w, w->c, "c", ""), STATUS_INVALID, "key is empty");
        Cached__V1__Delete del = CACHED__V1__DELETE__INIT;
        del.cache = (char *)"c";
        Cached__V1__Request m = REQUEST(DELETE, delete_, &del);
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, "key is empty");
        Cached__V1__Explain explain = CACHED__V1__EXPLAIN__INIT;
        explain.cache = (char *)"c";
        m = REQUEST(EXPLAIN, explain, &explain);
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, "key is empty");
        key[64] = '\0';
        assert_int_equal(set_text(w, w->c, "c", key, "v"), STATUS_OK);
        assert_value(w, "c", key, "v");
}

static void test_ttls_out_of_range(void **state)
{
        struct world *w = *state;
        const struct {
                uint64_t ttl_ms;
                const char *words;
        } bad[] = {
                {0, "ttl_ms is 0"},
                {UINT64_MAX, "negative"},
                {(uint64_t)INT64_MAX + 1, "negative"},
                {INT64_MAX, "longer than 10 years"},
                {UINT64_C(315360000001), "longer than 10 years"},
        };
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                Cached__V1__Set set = set_of("c", "k");
                set.ttl_case = CACHED__V1__SET__TTL_TTL_MS;
                set.ttl_ms = bad[i].ttl_ms;
                assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, bad[i].words);
                Cached__V1__Touch touch = CACHED__V1__TOUCH__INIT;
                touch.cache = (char *)"c";
                touch.key = key_of("k");
                touch.ttl_case = CACHED__V1__TOUCH__TTL_TTL_MS;
                touch.ttl_ms = bad[i].ttl_ms;
                Cached__V1__Request m = REQUEST(TOUCH, touch, &touch);
                assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, bad[i].words);
                Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
                policy.ttl_case = CACHED__V1__POLICY__TTL_TTL_MS;
                policy.ttl_ms = bad[i].ttl_ms;
                Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
                open.cache = (char *)"c";
                open.policy = &policy;
                m = REQUEST(OPEN_CACHE, open_cache, &open);
                assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, bad[i].words);
        }
        Cached__V1__Set set = set_of("c", "k");
        set.ttl_case = CACHED__V1__SET__TTL_NEVER_EXPIRES;
        set.never_expires = 0;
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "never_expires is false");
        assert_value(w, "c", "k", NULL);
        set.ttl_case = CACHED__V1__SET__TTL_TTL_MS;
        set.ttl_ms = UINT64_C(315360000000);
        struct reply r = send_set(w, w->c, &set, "v", 1);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.m->entry->ttl_ms, UINT64_C(315360000000));
        reply_done(&r);
}

static void test_other_arguments_of_set_out_of_range(void **state)
{
        struct world *w = *state;
        Cached__V1__Set set = set_of("c", "k");
        set.mode = (Cached__V1__SetMode)3;
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "mode 3 is unknown");
        set.mode = (Cached__V1__SetMode)-1;
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "mode -1 is unknown");
        set = set_of("c", "k");
        set.encoding = (Cached__V1__Encoding)2;
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "encoding 2 is unknown");
        set.encoding = CACHED__V1__ENCODING__ENCODING_RAW;
        set.raw_size = 2;
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "raw_size is 2");
        set.encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
        assert_failure(send_set(w, w->c, &set, "", 0), STATUS_INVALID, "no LZ4 block of 0 bytes");
        set.raw_size = 100000;
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "no LZ4 block of 1 bytes");
        set = set_of("c", "k");
        set.compare_case = CACHED__V1__SET__COMPARE_EXPECTED_VERSION;
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "expected_version is 0");
        set.expected_version = 1;
        set.mode = CACHED__V1__SET_MODE__SET_ADD_ONLY;
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "exclude each other");
        set = set_of(NULL, "k");
        set.cache_id = 77;
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_INVALID, "cache_id 77 is unknown");
        /* None of them made the cache. */
        struct reply r = send_get(w, w->c, "c", "k");
        assert_int_equal(r.m->status, STATUS_NOT_FOUND);
        assert_string_equal(r.m->error, "");
        reply_done(&r);
        Cached__V1__ListCaches list = CACHED__V1__LIST_CACHES__INIT;
        Cached__V1__Request m = REQUEST(LIST_CACHES, list_caches, &list);
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->list_caches->n_caches, 0);
        reply_done(&r);
}

static void test_values_out_of_range(void **state)
{
        struct world *w = *state;
        size_t n = 3 * 1024 * 1024;
        uint8_t *body = calloc(1, n);
        Cached__V1__Set set = set_of("c", "k");
        assert_failure(send_set(w, w->c, &set, body, n), STATUS_TOO_LARGE, "limits.value_bytes");
        set.encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
        set.raw_size = n;
        assert_failure(send_set(w, w->c, &set, body, 100000), STATUS_TOO_LARGE, "decoded");
        free(body);

        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        policy.bytes_limit_case = CACHED__V1__POLICY__BYTES_LIMIT_MAX_BYTES;
        policy.max_bytes = 1000;
        Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
        open.cache = (char *)"tiny";
        open.policy = &policy;
        Cached__V1__Request m = REQUEST(OPEN_CACHE, open_cache, &open);
        struct reply r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        set = set_of("tiny", "k");
        char value[1000] = {0};
        assert_failure(send_set(w, w->c, &set, value, sizeof(value)), STATUS_TOO_LARGE,
                       "max_bytes");
        assert_int_equal(set_text(w, w->c, "tiny", "k", "fits"), STATUS_OK);
}

static void test_policies_out_of_range(void **state)
{
        struct world *w = *state;
        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
        open.cache = (char *)"c";
        open.policy = &policy;
        Cached__V1__Request m = REQUEST(OPEN_CACHE, open_cache, &open);
        policy.entries_limit_case = CACHED__V1__POLICY__ENTRIES_LIMIT_MAX_ENTRIES;
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, "max_entries is 0");
        policy.max_entries = UINT64_MAX;
        m.id = 0;
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, "max_entries is 0 or negative");
        policy = (Cached__V1__Policy)CACHED__V1__POLICY__INIT;
        policy.bytes_limit_case = CACHED__V1__POLICY__BYTES_LIMIT_MAX_BYTES;
        m.id = 0;
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, "max_bytes is 0");

        Cached__V1__SetPolicy pin = CACHED__V1__SET_POLICY__INIT;
        Cached__V1__PolicyField fields[] = {(Cached__V1__PolicyField)9};
        pin.cache = (char *)"c";
        pin.reset = fields;
        pin.n_reset = 1;
        m = REQUEST(SET_POLICY, set_policy, &pin);
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, "policy field 9");
        fields[0] = CACHED__V1__POLICY_FIELD__POLICY_MAX_BYTES;
        policy.max_bytes = 5;
        pin.policy = &policy;
        m.id = 0;
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, "both set and in reset");
        pin.n_reset = 0;
        pin.unpin = 1;
        m.id = 0;
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, "unpin takes no policy");
}

static void test_the_limit_of_caches_is_told(void **state)
{
        struct world *w = *state;
        char name[] = "0";
        for (int i = 0; i < 6; i++, name[0]++)
                assert_int_equal(set_text(w, w->c, name, "k", "v"), STATUS_OK);
        Cached__V1__Set set = set_of(name, "k");
        assert_failure(send_set(w, w->c, &set, "v", 1), STATUS_LIMIT,
                       "(6; limits.caches_per_realm)");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_a_hello_says_what_holds),
                TEST(test_what_breaks_the_order_closes),
                TEST(test_versions_must_meet),
                TEST(test_an_unknown_request_is_unsupported),
                TEST(test_a_body_where_none_belongs_is_refused),
                TEST(test_a_deadline_that_passed_is_told),
                TEST(test_nothing_new_begins_when_stopping),
                TEST(test_who_may_not_enter_is_told_why),
                TEST(test_the_limit_of_realms_is_told),
                TEST(test_roles_bound_what_a_peer_may),
                TEST(test_cache_names_out_of_range),
                TEST(test_keys_out_of_range),
                TEST(test_ttls_out_of_range),
                TEST(test_other_arguments_of_set_out_of_range),
                TEST(test_values_out_of_range),
                TEST(test_policies_out_of_range),
                TEST(test_the_limit_of_caches_is_told),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
