/* SPDX-License-Identifier: MIT */
/*
 * The handle of a session's own caches: whatever it asks about a cache says whose that is, in calls
 * and in pipelines of both kinds, whenever the request was packed; what cannot say so is refused,
 * and a daemon that would not hear it is asked nothing.
 *
 * The daemon here counts what it is asked about a session's caches, and about the realm's.
 */

#include "client/session.h"
#include "loop-harness.h"

static const uint8_t token[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255};

struct counts {
        struct good good;
        atomic_uint n_own, n_realm;
};

/* A daemon, and a session's handle. */
struct scope {
        struct counts counts;
        struct fake d;
        cached *c, *own;
};

static void serve_counting(struct fake *d, int fd, int nth)
{
        struct counts *counts = d->data;
        struct fake_request r;
        bool ok = fake_hello(d, fd);

        while (ok && fake_read_request(d, fd, &r)) {
                const ProtobufCBinaryData *s = &r.m->session;

                assert(s->len == 0 || (s->len == 16 && !memcmp(s->data, token, 16)));
                atomic_fetch_add(s->len ? &counts->n_own : &counts->n_realm, 1);
                ok = good_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

static void scope_connect(struct scope *s)
{
        cached_session session = {0};

        s->c = client_new(s->d.path, PATIENCE_MS);
        session.handle = s->c;
        memcpy(session.token, token, sizeof(token));
        assert_int_equal(cached_session_handle(&session, &s->own), CACHED_OK);
}

#define FEATURES                                                                                   \
        (CACHED__V1__FEATURE__FEATURE_SESSIONS | CACHED__V1__FEATURE__FEATURE_EVENTS |             \
         CACHED__V1__FEATURE__FEATURE_LEASES)

static void scope_serve(struct scope *s, uint64_t features)
{
        s->d.features = features;
        s->d.data = &s->counts;
        s->d.serve = serve_counting;
        assert(pthread_create(&s->d.thread, NULL, fake_run, &s->d) == 0);
}

static void scope_start(struct scope *s, uint64_t features)
{
        memset(s, 0, sizeof(*s));
        fake_listen(&s->d, 64);
        scope_serve(s, features);
        scope_connect(s);
}

static void scope_end(struct scope *s)
{
        cached_free(s->own);
        cached_free(s->c);
        fake_unlisten(&s->d);
}

static void expect_asked(struct scope *s, unsigned own, unsigned realm)
{
        assert_int_equal(atomic_exchange(&s->counts.n_own, 0), own);
        assert_int_equal(atomic_exchange(&s->counts.n_realm, 0), realm);
}

/* --------------------------------------------------------------------------------------- calls */

static void test_a_calls(void **state)
{
        const void *keys[] = {"a", "b"}, *values[] = {"a", "b"};
        const size_t sizes[] = {1, 1};
        struct scope s;

        scope_start(&s, FEATURES);
        assert_int_equal(cached_set(s.own, "x", "k", 1, "v", 1, NULL, NULL), CACHED_OK);
        assert_int_equal(cached_get(s.own, "x", "k", 1, NULL), CACHED_OK);
        assert_int_equal(cached_peek(s.own, "x", "k", 1, NULL), CACHED_OK);
        assert_int_equal(cached_touch(s.own, "x", "k", 1, 1000, 0, NULL), CACHED_OK);
        assert_int_equal(cached_delete(s.own, "x", "k", 1, NULL), CACHED_OK);
        assert_int_equal(cached_get_many(s.own, "x", 2, keys, sizes, NULL), CACHED_OK);
        assert_int_equal(cached_set_many(s.own, "x", 2, keys, sizes, values, sizes, NULL, NULL),
                         CACHED_OK);
        assert_int_equal(cached_list_entries(s.own, "x", 0, 0, NULL), CACHED_OK);
        assert_int_equal(cached_stats(s.own, "x", NULL), CACHED_OK);
        assert_int_equal(cached_open_cache(s.own, "x", NULL, NULL), CACHED_OK);
        assert_int_equal(cached_get(s.own, "x", "k", 1, NULL), CACHED_OK);
        expect_asked(&s, 11, 0);
        /* Of these the daemon here knows nothing. */
        assert_int_equal(cached_clear(s.own, "x", NULL), CACHED_UNSUPPORTED);
        assert_int_equal(cached_list_caches(s.own, 0, 0, NULL), CACHED_UNSUPPORTED);
        assert_int_equal(cached_explain(s.own, "x", "k", 1, NULL), CACHED_UNSUPPORTED);
        expect_asked(&s, 3, 0);
        assert_int_equal(atomic_load(&s.counts.good.n_by_id), 1);
        /* What is about no cache is about the realm. */
        assert_int_equal(cached_ping(s.own, NULL), CACHED_OK);
        assert_int_equal(cached_stats(s.own, NULL, NULL), CACHED_OK);
        expect_asked(&s, 0, 2);
        scope_end(&s);
}

/* Values that are looked at in place: each look asks, and comes with bytes of its own. */
static void test_b_views(void **state)
{
        struct scope s;

        scope_start(&s, FEATURES);
        for (int i = 0; i < 2; i++) {
                cached_view *v = NULL;

                assert_int_equal(cached_get_view(s.own, "x", "big", 3, CACHED_VIEW_READ, &v, NULL),
                                 CACHED_OK);
                assert_int_equal(cached_view_size(v), BIG);
                cached_view_release(v);
                expect_asked(&s, 1, 0);
        }
        scope_end(&s);
}

/* Nothing of it can say whose cache is meant, so that it would be the realm's. */
static void test_c_refused(void **state)
{
        struct scope s;
        cached_events *e;
        cached_reply *r;

        scope_start(&s, FEATURES);
        assert_int_equal(cached_subscribe(s.own, "x", CACHED_EVENT_ALL, &e, &r),
                         CACHED_UNSUPPORTED);
        assert_non_null(strstr(cached_reply_error(r), "handle of the session"));
        cached_reply_free(r);
        assert_int_equal(cached_set_policy(s.own, "x", NULL, CACHED_POLICY_TTL, 0, &r),
                         CACHED_UNSUPPORTED);
        assert_non_null(strstr(cached_reply_error(r), "handle of the session"));
        cached_reply_free(r);
        expect_asked(&s, 0, 0);
        scope_end(&s);
}

/* ----------------------------------------------------------------------------------- pipelines */

static void enqueue_all(cached_pipeline *p)
{
        const void *keys[] = {"a", "b"};
        const size_t sizes[] = {1, 1};

        enqueue_get(p, 0);
        assert_int_equal(cached_pipeline_set(p, "x", "k", 1, "v", 1, NULL, 1), CACHED_OK);
        assert_int_equal(cached_pipeline_delete(p, "x", "k", 1, 2), CACHED_OK);
        assert_int_equal(cached_pipeline_get_many(p, "x", 2, keys, sizes, 3), CACHED_OK);
}

static void test_d_pipeline(void **state)
{
        struct scope s;
        cached_pipeline *p;
        uint64_t tag;

        scope_start(&s, FEATURES);
        p = cached_pipeline_new(s.own);
        enqueue_all(p);
        for (uint64_t i = 0; i < 4; i++) {
                assert_int_equal(cached_pipeline_next(p, &tag, NULL), CACHED_OK);
                assert_int_equal(tag, i);
        }
        expect_asked(&s, 4, 0);
        cached_pipeline_free(p);
        scope_end(&s);
}

static void test_e_loop(void **state)
{
        struct scope s;
        cached_pipeline *p;

        scope_start(&s, FEATURES);
        p = pipeline_new(s.own);
        enqueue_all(p);
        for (uint64_t i = 0; i < 4; i++)
                expect(p, i, CACHED_OK);
        expect_asked(&s, 4, 0);
        cached_pipeline_free(p);
        scope_end(&s);
}

/* Requests are packed while there is no connection yet. */
static void ask_before_it_is_connected(uint64_t features, int expected, unsigned n_own)
{
        struct scope s = {0};
        cached_pipeline *p;
        int fds[16], n;

        fake_listen(&s.d, 0);
        n = fill_backlog(&s.d, fds);
        scope_connect(&s);
        p = pipeline_new(s.own);
        enqueue_all(p);
        assert_int_equal(cached_pipeline_wants(p), CACHED_WANT_WRITE);
        close_all(fds, n);
        scope_serve(&s, features);
        for (uint64_t i = 0; i < 4; i++)
                expect(p, i, expected);
        expect_asked(&s, n_own, 0);
        cached_pipeline_free(p);
        scope_end(&s);
}

static void test_f_loop_before_it_is_connected(void **state)
{
        ask_before_it_is_connected(FEATURES, CACHED_OK, 4);
}

/* -------------------------------------------------------------------- a daemon that is too old */

static void test_g_too_old(void **state)
{
        struct scope s;
        cached_pipeline *p;
        cached_reply *r;

        scope_start(&s, 0);
        assert_int_equal(cached_set(s.own, "x", "k", 1, "v", 1, NULL, &r), CACHED_UNSUPPORTED);
        assert_non_null(strstr(cached_reply_error(r), "too old"));
        cached_reply_free(r);
        cached_free(s.own);
        cached_free(s.c);

        scope_connect(&s);
        p = cached_pipeline_new(s.own);
        assert_int_equal(cached_pipeline_get(p, "x", "k", 1, 7), CACHED_UNSUPPORTED);
        cached_pipeline_free(p);
        expect_asked(&s, 0, 0);
        scope_end(&s);
        ask_before_it_is_connected(0, CACHED_UNSUPPORTED, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_a_calls),    TEST(test_b_views), TEST(test_c_refused),
                TEST(test_d_pipeline), TEST(test_e_loop),  TEST(test_f_loop_before_it_is_connected),
                TEST(test_g_too_old),
        };

        return cmocka_run_group_tests_name("client-session-caches", tests, NULL, NULL);
}
