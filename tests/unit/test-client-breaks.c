/* SPDX-License-Identifier: MIT */
/*
 * libcached and a daemon that lies, dawdles and dies
 *
 * Replies that cannot be: garbage, wrong lengths, ids, kinds and sums; a connection that ends at
 * every byte of a reply; what is sent again and what is not; deadlines; events and farewells.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "client-harness.h"

#include "client/call.h"

/* --------------------------------------------------------------------------- impossible replies */

enum lie {
        LIE_NO_MESSAGE,
        LIE_LONG_MESSAGE,
        LIE_LONG_BODY,
        LIE_NOT_PROTOBUF,
        LIE_ID,
        LIE_ID_OF_HELLO,
        LIE_KIND,
        LIE_NO_RESULT,
        LIE_STATUS_LARGE,
        LIE_STATUS_NEGATIVE,
        LIE_SIZE_SMALL,
        LIE_SIZE_LARGE,
        LIE_BODY_OF_MISS,
        LIE_UNASKED,
        LIE_EVENT_WITH_BODY,
        LIE_ITEMS_SMALL,
        LIE_ITEMS_LARGE,
        LIE_ITEMS_OVERFLOW,
        LIE_ITEM_WITHOUT_ENTRY,
        N_LIES,
};

static void lie_with_items(struct fake *d, int fd, uint64_t id, enum lie lie)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__GetManyResult result = CACHED__V1__GET_MANY_RESULT__INIT;
        Cached__V1__GetManyItem a = CACHED__V1__GET_MANY_ITEM__INIT, b = a;
        Cached__V1__GetManyItem *items[] = {&a, &b};
        Cached__V1__EntryInfo entry_a = CACHED__V1__ENTRY_INFO__INIT, entry_b = entry_a;

        entry_a.size = 4;
        entry_b.size = lie == LIE_ITEMS_SMALL ? 3 : lie == LIE_ITEMS_LARGE ? 5 : 4;
        if (lie == LIE_ITEMS_OVERFLOW)
                entry_b.size = UINT64_MAX - 3;
        a.entry = &entry_a;
        b.entry = lie == LIE_ITEM_WITHOUT_ENTRY ? NULL : &entry_b;
        result.n_items = 2;
        result.items = items;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_GET_MANY;
        m.get_many = &result;
        fake_reply(d, fd, &m, "12345678", lie == LIE_ITEMS_OVERFLOW ? 0 : 8);
}

static void lie_with_header(struct fake *d, int fd, uint32_t n_message, uint64_t n_body)
{
        uint8_t head[FRAME_HEADER_SIZE + 64] = {0};

        frame_header_write(head, n_message, n_body);
        fake_write(d, fd, head, sizeof(head));
}

static void lie_about_get(struct fake *d, int fd, uint64_t id, enum lie lie)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        size_t n_body = 8;

        entry.size = lie == LIE_SIZE_SMALL ? 7 : lie == LIE_SIZE_LARGE ? 9 : 8;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        m.entry = &entry;
        switch (lie) {
        case LIE_ID:
                m.id = id + 1;
                break;
        case LIE_ID_OF_HELLO:
                m.id = 1;
                break;
        case LIE_NO_RESULT:
                m.result_case = CACHED__V1__REPLY__RESULT__NOT_SET;
                n_body = 0;
                break;
        case LIE_STATUS_LARGE:
                m.status = (Cached__V1__Status)CACHED_ERR_TIMEOUT;
                n_body = 0;
                break;
        case LIE_STATUS_NEGATIVE:
                m.status = (Cached__V1__Status)-1;
                n_body = 0;
                break;
        case LIE_BODY_OF_MISS:
                m.status = CACHED__V1__STATUS__NOT_FOUND;
                break;
        case LIE_UNASKED:
                m.id = 0;
                break;
        case LIE_EVENT_WITH_BODY:
                m.id = 0;
                m.result_case = CACHED__V1__REPLY__RESULT_EVENT;
                m.event = &event;
                break;
        default:
                break;
        }
        fake_reply(d, fd, &m, "12345678", n_body);
}

static void serve_lie(struct fake *d, int fd, int nth)
{
        enum lie lie = *(enum lie *)d->data;
        struct fake_request r;
        uint64_t id;

        if (!fake_hello(d, fd) || !fake_read_request(d, fd, &r))
                return;
        id = r.m->id;
        fake_request_done(&r);
        if (lie == LIE_NO_MESSAGE)
                lie_with_header(d, fd, 0, 0);
        else if (lie == LIE_LONG_MESSAGE)
                lie_with_header(d, fd, (64u << 20) + 1, 0);
        else if (lie == LIE_LONG_BODY)
                lie_with_header(d, fd, 8, d->max_value + 1);
        else if (lie == LIE_NOT_PROTOBUF)
                fake_write(d, fd, "\5\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff", 17);
        else if (lie == LIE_KIND)
                fake_reply_ping(d, fd, id);
        else if (lie >= LIE_ITEMS_SMALL)
                lie_with_items(d, fd, id, lie);
        else
                lie_about_get(d, fd, id, lie);
        /* Not the end of the stream decides, but the lie. */
        (void)fake_readable(d, fd);
}

static void test_f_lies(void **state)
{
        for (int i = 0; i < N_LIES; i++) {
                const void *keys[] = {"a", "b"};
                size_t n_keys[] = {1, 1};
                enum lie lie = (enum lie)i;
                struct fake d;
                cached_reply *r;
                cached *c;
                int code;

                fake_start(&d, serve_lie, &lie);
                c = client_new(d.path, PATIENCE_MS);
                code = lie >= LIE_ITEMS_SMALL ? cached_get_many(c, "x", 2, keys, n_keys, &r)
                                              : cached_get(c, "x", "k", 1, &r);
                if (code != CACHED_ERR_BAD_REPLY || cached_reply_code(r) != code)
                        fail_msg("lie %d: code %d, %s", i, code, cached_reply_error(r));
                assert_true(strlen(cached_reply_error(r)) > 0);
                assert_null(cached_reply_value(r, NULL));
                assert_int_equal(cached_reply_n_items(r), 0);
                cached_reply_free(r);
                assert_int_equal(atomic_load(&d.n_connections), 1);
                cached_free(c);
                fake_unlisten(&d);
        }
}

/* ------------------------------------------------------------------------------- broken streams */

struct cut {
        size_t at;      /* bytes of the reply that arrive on the first connection */
        size_t n_frame; /* out: of how many */
        bool of_hello;
};

static void serve_cut(struct fake *d, int fd, int nth)
{
        struct cut *cut = d->data;
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;
        struct fake_request r;
        uint8_t *frame;

        if (nth > 0 || (!cut->of_hello && !fake_hello(d, fd))) {
                serve_good(d, fd, nth);
                return;
        }
        if (!fake_read_request(d, fd, &r))
                return;
        entry.version = 1234567;
        entry.size = r.m->op_case == CACHED__V1__REQUEST__OP_SET ? 0 : 5;
        m.id = r.m->id;
        m.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        m.entry = &entry;
        fake_request_done(&r);
        frame = cut->of_hello ? fake_hello_frame(d, m.id, &cut->n_frame)
                              : fake_frame(&m, "hello", entry.size, &cut->n_frame);
        fake_write(d, fd, frame, cut->at);
        free(frame);
}

static int run_cut(struct cut *cut, bool set, int *ret_n_connections)
{
        struct fake d;
        cached *c;
        int code;

        fake_start(&d, serve_cut, cut);
        c = client_new(d.path, PATIENCE_MS);
        code = set ? cached_set(c, "x", "k", 1, "v", 1, NULL, NULL)
                   : cached_get(c, "x", "hello", 5, NULL);
        *ret_n_connections = atomic_load(&d.n_connections);
        /* Whatever it was, the next call has a connection again, unless it is to wait for one. */
        if (cut->of_hello)
                assert_int_equal(cached_connect(c, NULL), CACHED_OK);
        assert_int_equal(cached_get(c, "x", "hello", 5, NULL), CACHED_OK);
        cached_free(c);
        fake_unlisten(&d);
        return code;
}

/* A get is sent again on another connection; a set whose reply is cut is not. */
static void test_g_cut_at_every_byte(void **state)
{
        struct cut cut = {.n_frame = 1};
        int n;

        for (cut.at = 0; cut.at < cut.n_frame; cut.at++) {
                assert_int_equal(run_cut(&cut, false, &n), CACHED_OK);
                assert_int_equal(n, 2);
        }
        assert_true(cut.n_frame >= 20);
        cut = (struct cut){.n_frame = 1};
        for (cut.at = 0; cut.at < cut.n_frame; cut.at++) {
                assert_int_equal(run_cut(&cut, true, &n), CACHED_ERR_DISCONNECTED);
                assert_int_equal(n, 1);
        }
        assert_true(cut.n_frame >= 20);
        cut = (struct cut){.n_frame = 1, .of_hello = true};
        for (cut.at = 0; cut.at < cut.n_frame; cut.at++)
                assert_int_equal(run_cut(&cut, false, &n), CACHED_ERR_DISCONNECTED);
        assert_true(cut.n_frame >= 20);
}

/* The first connection takes a part of a large set and ends: nothing can have happened. */
static void serve_part_of_set(struct fake *d, int fd, int nth)
{
        uint8_t some[20];

        if (!fake_hello(d, fd))
                return;
        if (nth == 0)
                (void)fake_read(d, fd, some, sizeof(some));
        else
                serve_good_rest(d, fd);
}

static void test_g_unsent_set_is_sent_again(void **state)
{
        static uint8_t value[4u << 20];
        uint64_t sum = 0;
        uint32_t x = 1;
        struct good g = {0};
        struct fake d;
        cached *c;

        /* Nothing that is worth packing. */
        for (size_t i = 0; i < sizeof(value); i++) {
                x = x * 1664525u + 1013904223u;
                value[i] = (uint8_t)(x >> 24);
                sum += value[i];
        }
        fake_start(&d, serve_part_of_set, &g);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_set(c, "x", "k", 1, value, sizeof(value), NULL, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 2);
        assert_int_equal(atomic_load(&g.n_sets), 1);
        assert_int_equal(g.n_last_body, sizeof(value));
        assert_true(g.body_sum == sum);
        cached_free(c);
        fake_unlisten(&d);
}

/* Each connection ends after one request, while the client is idle: as when a daemon is restarted.
 */
static void serve_one(struct fake *d, int fd, int nth)
{
        struct fake_request r;

        if (!fake_hello(d, fd) || !fake_read_request(d, fd, &r))
                return;
        good_answer(d, fd, &r);
        fake_request_done(&r);
}

static void test_g_idle_break_is_not_seen(void **state)
{
        struct good g = {0};
        struct fake d;
        cached *c;

        fake_start(&d, serve_one, &g);
        c = client_new(d.path, PATIENCE_MS);
        for (unsigned i = 1; i <= 20; i++) {
                char byte;

                assert_int_equal(cached_set(c, "x", "k", 1, "v", 1, NULL, NULL), CACHED_OK);
                assert_int_equal(atomic_load(&g.n_sets), i);
                /* Until the end has arrived. */
                assert_int_equal(recv(c->pool->slots[0].conn->fd, &byte, 1, MSG_PEEK), 0);
        }
        assert_int_equal(cached_connect(c, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 21);
        cached_free(c);
        fake_unlisten(&d);
}

static void serve_farewell(struct fake *d, int fd, int nth)
{
        struct fake_request r;
        int status = *(int *)d->data;

        if (!fake_hello(d, fd))
                return;
        if (nth > 0) {
                serve_good_rest(d, fd);
                return;
        }
        if (!fake_read_request(d, fd, &r))
                return;
        fake_request_done(&r);
        fake_reply_status(d, fd, 0, status, "because");
}

static int run_farewell(int status, bool set, int expected_connections)
{
        struct fake d;
        cached_reply *r;
        cached *c;
        int code;

        fake_start(&d, serve_farewell, &status);
        c = client_new(d.path, PATIENCE_MS);
        code = set ? cached_set(c, "x", "k", 1, "v", 1, NULL, &r) : cached_ping(c, &r);
        if (code != CACHED_OK)
                assert_string_equal(cached_reply_error(r), "because");
        cached_reply_free(r);
        assert_int_equal(atomic_load(&d.n_connections), expected_connections);
        cached_free(c);
        fake_unlisten(&d);
        return code;
}

static void test_g_farewells(void **state)
{
        assert_int_equal(run_farewell(CACHED_PROTOCOL, false, 1), CACHED_PROTOCOL);
        assert_int_equal(run_farewell(CACHED_LIMIT, true, 1), CACHED_LIMIT);
        assert_int_equal(run_farewell(CACHED_SHUTTING_DOWN, true, 1), CACHED_SHUTTING_DOWN);
        assert_int_equal(run_farewell(CACHED_SHUTTING_DOWN, false, 2), CACHED_OK);
}

/* A daemon that gives way to another, and the other one. */
static void serve_and_give_way(struct fake *d, int fd, int nth)
{
        struct fake_request r;

        if (nth > 0) {
                if (fake_hello(d, fd))
                        serve_good_rest(d, fd);
                return;
        }
        if (!fake_read_request(d, fd, &r))
                return;
        fake_request_done(&r);
        fake_reply_status(d, fd, 0, CACHED_SHUTTING_DOWN, "another one comes");
}

static void test_g2_a_greeting_that_came_too_late(void **state)
{
        struct fake d;
        cached *c;

        fake_start(&d, serve_and_give_way, NULL);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_set(c, "x", "k", 1, "v", 1, NULL, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 2);
        cached_free(c);
        fake_unlisten(&d);
}

/* It is turned away before it said anything, as by a limit on connections. */
static void serve_refusal(struct fake *d, int fd, int nth)
{
        fake_reply_status(d, fd, 0, CACHED_LIMIT, "too many connections");
}

static void test_g_refused_connection(void **state)
{
        struct fake d;
        cached_reply *r;
        cached *c;

        fake_start(&d, serve_refusal, NULL);
        c = client_new(d.path, PATIENCE_MS);
        for (int i = 0; i < 50; i++) {
                /* Most of them are told what the last attempt was told. */
                assert_int_equal(cached_ping(c, &r), CACHED_LIMIT);
                assert_ptr_equal(strstr(cached_reply_error(r), "too many connections"),
                                 cached_reply_error(r));
                cached_reply_free(r);
        }
        cached_free(c);
        fake_unlisten(&d);
}

static void serve_events(struct fake *d, int fd, int nth)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        Cached__V1__CacheInfo info = CACHED__V1__CACHE_INFO__INIT;
        struct fake_request r;

        if (!fake_hello(d, fd))
                return;
        event.kind_case = CACHED__V1__EVENT__KIND_POLICY_CHANGED;
        event.policy_changed = &info;
        m.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        m.event = &event;
        while (fake_read_request(d, fd, &r)) {
                for (int i = 0; i < 3; i++)
                        fake_reply(d, fd, &m, NULL, 0);
                good_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

static void test_g_events_are_passed_over(void **state)
{
        struct fake d;
        cached *c;

        fake_start(&d, serve_events, NULL);
        c = client_new(d.path, PATIENCE_MS);
        for (int i = 0; i < 3; i++)
                assert_int_equal(cached_get(c, "x", "k", 1, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 1);
        cached_free(c);
        fake_unlisten(&d);
}

/* ------------------------------------------------------------------------------------ deadlines */

/* Says Hello and then nothing, or a byte of a reply now and then. */
static void serve_silence(struct fake *d, int fd, int nth)
{
        bool drip = *(bool *)d->data;
        struct fake_request r;
        struct pollfd stop = {.fd = d->stop[0], .events = POLLIN};

        if (!fake_hello(d, fd) || !fake_read_request(d, fd, &r))
                return;
        fake_request_done(&r);
        if (!drip) {
                (void)fake_readable(d, fd);
                return;
        }
        for (int i = 0; poll(&stop, 1, 20) == 0 && fake_write(d, fd, i == 0 ? "\100" : "\0", 1);
             i++)
                ;
}

static void test_h_timeout(void **state)
{
        for (int i = 0; i < 2; i++) {
                bool drip = i == 1;
                struct fake d;
                cached_reply *r;
                uint64_t start, took;
                cached *c;

                fake_start(&d, serve_silence, &drip);
                c = client_new(d.path, 300);
                start = now_ms();
                assert_int_equal(cached_get(c, "x", "k", 1, &r), CACHED_ERR_TIMEOUT);
                took = now_ms() - start;
                assert_in_range(took, 299, 1500);
                cached_reply_free(r);
                assert_null(c->pool->slots[0].conn);
                cached_free(c);
                fake_unlisten(&d);
        }
}

/* Nobody accepts, and the backlog is full. */
static void test_h_full_backlog(void **state)
{
        cached *c[3];
        struct fake d;
        uint64_t start;

        fake_listen(&d, 0);
        for (int i = 0; i < 3; i++) {
                c[i] = client_new(d.path, 200);
                start = now_ms();
                assert_int_equal(cached_ping(c[i], NULL), CACHED_ERR_TIMEOUT);
                assert_in_range(now_ms() - start, 195, 1500);
                cached_free(c[i]);
        }
        fake_unlisten(&d);
}

/* The daemon does not read: a large set gets stuck in sending. */
static void serve_deaf(struct fake *d, int fd, int nth)
{
        struct pollfd stop = {.fd = d->stop[0], .events = POLLIN};

        if (fake_hello(d, fd))
                (void)poll(&stop, 1, -1);
}

static void test_h_timeout_in_sending(void **state)
{
        static uint8_t value[4u << 20];
        struct fake d;
        uint64_t start;
        cached *c;

        fake_start(&d, serve_deaf, NULL);
        c = client_new(d.path, 300);
        start = now_ms();
        assert_int_equal(cached_set(c, "x", "k", 1, value, sizeof(value), NULL, NULL),
                         CACHED_ERR_TIMEOUT);
        assert_in_range(now_ms() - start, 299, 1500);
        cached_free(c);
        fake_unlisten(&d);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_f_lies, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_cut_at_every_byte, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_unsent_set_is_sent_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_idle_break_is_not_seen, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_farewells, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g2_a_greeting_that_came_too_late, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_g_refused_connection, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_events_are_passed_over, setup, teardown),
                cmocka_unit_test_setup_teardown(test_h_timeout, setup, teardown),
                cmocka_unit_test_setup_teardown(test_h_full_backlog, setup, teardown),
                cmocka_unit_test_setup_teardown(test_h_timeout_in_sending, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
