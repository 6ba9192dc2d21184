/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, in process: stale windows, recorded messages, negative entries and names of inputs
 *
 * The fields of policies and their ranges; what an entry says of itself in each of its times; which
 * bytes who gets that asks for messages or does not, packed or plain, in a block and apart.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <lz4.h>

#include <cmocka.h>

#include "dispatch-world.h"

/* ---- policies */

static struct reply open_with(struct world *w, Cached__V1__Policy *policy)
{
        Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
        open.cache = (char *)"c";
        open.policy = policy;
        Cached__V1__Request m = REQUEST(OPEN_CACHE, open_cache, &open);
        return call(w, w->c, &m, NULL, 0);
}

static void test_windows_out_of_range(void **state)
{
        struct world *w = *state;
        static const struct {
                Cached__V1__Policy policy;
                const char *words;
        } bad[] = {
                {{.stale_for_ms = UINT64_C(315360000001)}, "stale_for_ms is negative or longer"},
                {{.stale_for_ms = UINT64_MAX}, "stale_for_ms is negative or longer than 10 years"},
                {{.stale_if_error_ms = UINT64_C(315360000001)}, "stale_if_error_ms is negative"},
                {{.refresh_ahead_permille = 1000}, "refresh_ahead_permille is negative or more"},
                {{.expire_jitter_permille = 1001}, "expire_jitter_permille is negative or more"},
                {{.expire_jitter_permille = UINT32_MAX}, "1 to 1000 thousandths, or 0 (off)"},
        };
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
                policy.stale_for_ms = bad[i].policy.stale_for_ms;
                policy.stale_if_error_ms = bad[i].policy.stale_if_error_ms;
                policy.refresh_ahead_permille = bad[i].policy.refresh_ahead_permille;
                policy.expire_jitter_permille = bad[i].policy.expire_jitter_permille;
                assert_failure(open_with(w, &policy), STATUS_INVALID, bad[i].words);
        }
        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        policy.stale_for_ms = policy.stale_if_error_ms = UINT64_C(315360000000);
        policy.refresh_ahead_permille = 999;
        policy.expire_jitter_permille = 1000;
        struct reply r = open_with(w, &policy);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
}

static void assert_windows(const Cached__V1__Policy *p, uint64_t stale_for, uint64_t stale_if_error,
                           uint32_t refresh_ahead, uint32_t jitter)
{
        assert_int_equal(p->stale_for_ms, stale_for);
        assert_int_equal(p->stale_if_error_ms, stale_if_error);
        assert_int_equal(p->refresh_ahead_permille, refresh_ahead);
        assert_int_equal(p->expire_jitter_permille, jitter);
}

static void test_windows_are_set_told_and_reset(void **state)
{
        struct world *w = *state;
        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        policy.stale_for_ms = 1;
        policy.stale_if_error_ms = 2;
        policy.refresh_ahead_permille = 3;
        policy.expire_jitter_permille = 4;
        struct reply r = open_with(w, &policy);
        assert_windows(r.m->cache->policy, 1, 2, 3, 4);
        assert_int_equal(r.m->cache->policy_changes, 1);
        reply_done(&r);
        r = open_with(w, &policy);
        assert_int_equal(r.m->cache->policy_changes, 1); /* it is the same */
        reply_done(&r);
        policy.expire_jitter_permille = 5; /* any of them makes it another one */
        r = open_with(w, &policy);
        assert_int_equal(r.m->cache->policy_changes, 2);
        reply_done(&r);

        /* What is absent stays; what is named goes. */
        Cached__V1__Policy some = CACHED__V1__POLICY__INIT;
        some.stale_for_ms = 10;
        Cached__V1__PolicyField fields[] = {CACHED__V1__POLICY_FIELD__POLICY_STALE_IF_ERROR,
                                            CACHED__V1__POLICY_FIELD__POLICY_EXPIRE_JITTER};
        Cached__V1__SetPolicy pin = CACHED__V1__SET_POLICY__INIT;
        pin.cache = (char *)"c";
        pin.policy = &some;
        pin.reset = fields;
        pin.n_reset = 2;
        Cached__V1__Request m = REQUEST(SET_POLICY, set_policy, &pin);
        r = call(w, w->c, &m, NULL, 0);
        assert_windows(r.m->cache->policy, 10, 0, 3, 0);
        reply_done(&r);
        fields[0] = CACHED__V1__POLICY_FIELD__POLICY_REFRESH_AHEAD;
        fields[1] = CACHED__V1__POLICY_FIELD__POLICY_STALE_FOR;
        m.id = 0;
        assert_failure(call(w, w->c, &m, NULL, 0), STATUS_INVALID, "both set and in reset");
        pin.policy = NULL;
        m.id = 0;
        r = call(w, w->c, &m, NULL, 0);
        assert_windows(r.m->cache->policy, 0, 0, 0, 0);
        reply_done(&r);

        Cached__V1__Stats stats = CACHED__V1__STATS__INIT;
        stats.cache = (char *)"c";
        m = REQUEST(STATS, stats, &stats);
        r = call(w, w->c, &m, NULL, 0);
        assert_windows(r.m->stats->cache->policy, 0, 0, 0, 0);
        reply_done(&r);
        pin.reset = NULL;
        pin.n_reset = 0;
        pin.unpin = 1;
        m = REQUEST(SET_POLICY, set_policy, &pin);
        r = call(w, w->c, &m, NULL, 0);
        assert_windows(r.m->cache->policy, 1, 2, 3, 5);
        reply_done(&r);
}

/* ---- time */

static void after_ms(struct world *w, uint64_t ms)
{
        w->server.now_ns += ms * 1000000;
}

static void assert_times(struct world *w, bool stale, uint64_t fresh_ms, uint64_t ttl_ms)
{
        struct reply r = send_get(w, w->c, "c", "k");
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.m->entry->stale, stale);
        assert_int_equal(r.m->entry->fresh_case, CACHED__V1__ENTRY_INFO__FRESH_FRESH_MS);
        assert_int_equal(r.m->entry->fresh_ms, fresh_ms);
        assert_int_equal(r.m->entry->ttl_ms, ttl_ms);
        reply_done(&r);
}

static void test_an_entry_becomes_stale_and_goes(void **state)
{
        struct world *w = *state;
        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        policy.ttl_case = CACHED__V1__POLICY__TTL_TTL_MS;
        policy.ttl_ms = 100;
        policy.stale_for_ms = 30;
        policy.stale_if_error_ms = 80;
        struct reply r = open_with(w, &policy);
        reply_done(&r);
        assert_int_equal(set_text(w, w->c, "c", "k", "v"), STATUS_OK);
        assert_times(w, false, 100, 180);
        after_ms(w, 99);
        assert_times(w, false, 1, 81);
        after_ms(w, 1);
        assert_times(w, true, 0, 80);
        after_ms(w, 29);
        assert_times(w, true, 0, 51);
        after_ms(w, 1);
        assert_value(w, "c", "k", NULL);
        /* It is there, for who fails to compute it anew; for others the key is free. */
        Cached__V1__Set set = set_of("c", "k");
        set.mode = CACHED__V1__SET_MODE__SET_REPLACE_ONLY;
        r = send_set(w, w->c, &set, "x", 1);
        assert_int_equal(r.m->status, STATUS_NOT_FOUND);
        reply_done(&r);
        set.mode = CACHED__V1__SET_MODE__SET_ADD_ONLY;
        r = send_set(w, w->c, &set, "new", 3);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        assert_times(w, false, 100, 180);
        after_ms(w, 179);
        assert_value(w, "c", "k", NULL);
        Cached__V1__Explain explain = CACHED__V1__EXPLAIN__INIT;
        explain.cache = (char *)"c";
        explain.key = key_of("k");
        Cached__V1__Request m = REQUEST(EXPLAIN, explain, &explain);
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->explain->fate, CACHED__V1__FATE__FATE_LIVE);
        assert_true(r.m->explain->entry->stale);
        reply_done(&r);
        after_ms(w, 1);
        m.id = 0;
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->explain->fate, CACHED__V1__FATE__FATE_EXPIRED);
        reply_done(&r);
}

/* ---- messages */

static struct reply get_with_messages(struct world *w, struct conn *c, const char *key)
{
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        get.cache = (char *)"c";
        get.key = key_of(key);
        get.with_messages = true;
        Cached__V1__Request m = REQUEST(GET, get, &get);
        return call(w, c, &m, NULL, 0);
}

static void assert_body(struct reply r, const uint8_t *body, size_t n, size_t n_messages)
{
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.n_body, n);
        assert_memory_equal(r.body, body, n);
        assert_int_equal(r.m->entry->messages_size, n_messages);
        reply_done(&r);
}

/* From a few bytes to a memory file; none of it value, and nearly all. */
static void test_messages_come_to_who_wants_them(void **state)
{
        struct world *w = *state;
        const size_t sizes[][2] = {{10, 4},          {4, 4},           {30000, 29000},
                                   {300000, 250000}, {300000, 10},     {300000, 300000},
                                   {1048576, 77},    {1048576, 999999}};
        uint8_t *body = malloc(1048576);
        for (size_t i = 0; i < 1048576; i++)
                body[i] = (uint8_t)(i * 7 + i / 251);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                size_t n = sizes[i][0], n_messages = sizes[i][1];
                Cached__V1__Set set = set_of("c", "k");
                set.messages_size = n_messages;
                struct reply r = send_set(w, w->c, &set, body, n);
                assert_int_equal(r.m->status, STATUS_OK);
                assert_int_equal(r.m->entry->size, n - n_messages);
                assert_int_equal(r.m->entry->raw_size, n - n_messages);
                reply_done(&r);
                assert_body(send_get(w, w->c, "c", "k"), body, n - n_messages, n_messages);
                assert_body(get_with_messages(w, w->c, "k"), body, n, n_messages);
                ProtobufCBinaryData key = key_of("k");
                Cached__V1__GetMany many = CACHED__V1__GET_MANY__INIT;
                many.cache = (char *)"c";
                many.keys = &key;
                many.n_keys = 1;
                Cached__V1__Request m = REQUEST(GET_MANY, get_many, &many);
                r = call(w, w->c, &m, NULL, 0);
                assert_int_equal(r.m->get_many->items[0]->entry->size, n - n_messages);
                assert_int_equal(r.n_body, n - n_messages);
                assert_memory_equal(r.body, body, n - n_messages);
                reply_done(&r);
        }
        free(body);
        Cached__V1__Set set = set_of("c", "k");
        set.messages_size = 6;
        assert_failure(send_set(w, w->c, &set, "value", 5), STATUS_INVALID,
                       "messages_size is 6 but the value has 5 bytes");
}

/* The daemon unpacks the value, and leaves what is behind it. */
static void test_messages_of_packed_values(void **state)
{
        struct world *w = *state;
        struct conn *able = connect_as(w, UID, "", CACHED__V1__FEATURE__FEATURE_LZ4);
        const size_t raws[] = {100, 70000, 2000000}, said[] = {5, 30000, 100000};
        for (size_t i = 0; i < 9; i++) {
                size_t n = raws[i % 3], n_messages = said[i / 3];
                uint8_t *raw = calloc(1, n + n_messages), *packed = malloc(n + n_messages + 4096);
                for (size_t k = 0; k < n; k += 1 + k % 97)
                        raw[k] = (uint8_t)k;
                memset(raw + n, 's', n_messages);
                int n_packed =
                        LZ4_compress_default((char *)raw, (char *)packed, (int)n, (int)(n + 4096));
                assert_true(n_packed > 0);
                memcpy(packed + n_packed, raw + n, n_messages);
                Cached__V1__Set set = set_of("c", "k");
                set.encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
                set.raw_size = n;
                set.messages_size = n_messages;
                struct reply r = send_set(w, w->c, &set, packed, (size_t)n_packed + n_messages);
                assert_int_equal(r.m->status, STATUS_OK);
                reply_done(&r);
                assert_body(send_get(w, w->c, "c", "k"), raw, n, n_messages);
                assert_body(get_with_messages(w, w->c, "k"), raw, n + n_messages, n_messages);
                assert_body(send_get(w, able, "c", "k"), packed, (size_t)n_packed, n_messages);
                assert_body(get_with_messages(w, able, "k"), packed, (size_t)n_packed + n_messages,
                            n_messages);
                free(raw);
                free(packed);
        }
        fake_conn_free(able);
        /* Room for a block must be there without them. */
        Cached__V1__Set set = set_of("c", "k");
        set.encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
        set.raw_size = 1000;
        set.messages_size = 9;
        assert_failure(send_set(w, w->c, &set, "123456789", 9), STATUS_INVALID,
                       "no LZ4 block of 0");
}

/* ---- what means something to the daemon */

static void test_that_there_is_no_value_is_an_answer(void **state)
{
        struct world *w = *state;
        Cached__V1__Set set = set_of("c", "k");
        set.negative = true;
        set.ttl_case = CACHED__V1__SET__TTL_TTL_MS;
        set.ttl_ms = 50;
        struct reply r = send_set(w, w->c, &set, "no such h\xc3\xb6st", 13);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_true(r.m->entry->negative);
        reply_done(&r);
        r = send_get(w, w->c, "c", "k");
        assert_int_equal(r.m->status, STATUS_NEGATIVE);
        assert_string_equal(r.m->error, "no such h\xc3\xb6st");
        assert_true(r.m->entry->negative && r.m->entry->ttl_ms == 50 && r.n_body == 0);
        reply_done(&r);
        assert_int_equal(set_text(w, w->c, "c", "other", "value"), STATUS_OK);
        ProtobufCBinaryData keys[] = {key_of("k"), key_of("other")};
        Cached__V1__GetMany many = CACHED__V1__GET_MANY__INIT;
        many.cache = (char *)"c";
        many.keys = keys;
        many.n_keys = 2;
        Cached__V1__Request m = REQUEST(GET_MANY, get_many, &many);
        r = call(w, w->c, &m, NULL, 0);
        assert_int_equal(r.m->get_many->items[0]->status, CACHED__V1__STATUS__NEGATIVE);
        assert_int_equal(r.m->get_many->items[1]->status, CACHED__V1__STATUS__OK);
        assert_int_equal(r.n_body, 5);
        reply_done(&r);
        after_ms(w, 50);
        assert_value(w, "c", "k", NULL);
        /* The longest reason, and none. */
        char longest[1025];
        memset(longest, 'x', 1024);
        longest[1024] = 0;
        r = send_set(w, w->c, &set, longest, 1024);
        reply_done(&r);
        r = send_get(w, w->c, "c", "k");
        assert_string_equal(r.m->error, longest);
        reply_done(&r);
        r = send_set(w, w->c, &set, "", 0);
        reply_done(&r);
        r = send_get(w, w->c, "c", "k");
        assert_int_equal(r.m->status, STATUS_NEGATIVE);
        assert_string_equal(r.m->error, "");
        reply_done(&r);
}

static void test_marks_out_of_range(void **state)
{
        struct world *w = *state;
        uint8_t body[2048] = {0};
        memset(body, 'x', sizeof(body));
        Cached__V1__Set set = set_of("c", "k");
        set.negative = true;
        assert_failure(send_set(w, w->c, &set, body, 1025), STATUS_INVALID, "up to 1024 bytes");
        assert_failure(send_set(w, w->c, &set, "a\nb", 3), STATUS_INVALID, "control character");
        assert_failure(send_set(w, w->c, &set, "a\0b", 3), STATUS_INVALID, "control character");
        assert_failure(send_set(w, w->c, &set, "\xff", 1), STATUS_INVALID, "is not UTF-8");
        set.messages_size = 1;
        assert_failure(send_set(w, w->c, &set, "ab", 2), STATUS_INVALID, "has no messages");
        set.messages_size = 0;
        set.encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
        set.raw_size = 5;
        assert_failure(send_set(w, w->c, &set, "ab", 2), STATUS_INVALID, "leave the encoding out");
        set.encoding = CACHED__V1__ENCODING__ENCODING_RAW;
        set.raw_size = 0;
        set.source_case = CACHED__V1__SET__SOURCE_FILE_SIZE;
        set.file_size = 5;
        assert_failure(send_set(w, w->c, &set, NULL, 0), STATUS_INVALID, "send it as the body");
        set.source_case = CACHED__V1__SET__SOURCE__NOT_SET;
        set.vary = true;
        assert_failure(send_set(w, w->c, &set, "ab", 2), STATUS_INVALID, "exclude each other");
        set.negative = false;
        assert_failure(send_set(w, w->c, &set, "", 0), STATUS_INVALID, "1 to 128 bytes");
        assert_failure(send_set(w, w->c, &set, body, 129), STATUS_INVALID, "1 to 128 bytes");
        assert_failure(send_set(w, w->c, &set, "a\tb", 3), STATUS_INVALID, "control character");
        assert_failure(send_set(w, w->c, &set, "\xc0\x80", 2), STATUS_INVALID, "is not UTF-8");
        struct reply r = send_set(w, w->c, &set, body, 128);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        r = send_get(w, w->c, "c", "k");
        assert_true(r.m->status == CACHED__V1__STATUS__OK && r.m->entry->vary && r.n_body == 128);
        reply_done(&r);
        /* In a SetMany each item stands for itself. */
        struct many many;
        const char *const keys[4] = {"1", "2", "3", "4"};
        const uint64_t sizes[4] = {1, 2, 1, 2};
        many_init(&many, keys, sizes);
        many.sets[0].negative = many.sets[1].negative = true;
        many.sets[2].vary = true;
        many.sets[3].messages_size = 3;
        Cached__V1__Request m = REQUEST(SET_MANY, set_many, &many.msg);
        r = call(w, w->c, &m,
                 "a\n"
                 "bcde",
                 6);
        assert_int_equal(r.m->set_many->items[0]->status, CACHED__V1__STATUS__OK);
        assert_int_equal(r.m->set_many->items[1]->status, CACHED__V1__STATUS__INVALID);
        assert_int_equal(r.m->set_many->items[2]->status, CACHED__V1__STATUS__OK);
        assert_int_equal(r.m->set_many->items[3]->status, CACHED__V1__STATUS__INVALID);
        reply_done(&r);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_windows_out_of_range),
                TEST(test_windows_are_set_told_and_reset),
                TEST(test_an_entry_becomes_stale_and_goes),
                TEST(test_messages_come_to_who_wants_them),
                TEST(test_messages_of_packed_values),
                TEST(test_that_there_is_no_value_is_an_answer),
                TEST(test_marks_out_of_range),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
