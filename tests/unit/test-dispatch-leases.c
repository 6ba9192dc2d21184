/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, in process: who waits for a lease and cannot be answered at once, and whose process
 * ends
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dispatch-world.h"
#include "dispatch/process.h"

#define LEASES ((uint64_t)CACHED__V1__FEATURE__FEATURE_LEASES)

/* Two clients that may have leases. */
struct two {
        struct world *w;
        struct conn *a, *b;
};

static struct two two_new(struct world *w)
{
        return (struct two){w, connect_as(w, UID, "", LEASES), connect_as(w, UID, "", LEASES)};
}

static void ask(struct two *t, struct conn *c)
{
        Cached__V1__LeaseAsk lease = CACHED__V1__LEASE_ASK__INIT;
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        get.cache = (char *)"c";
        get.key = key_of("k");
        get.lease = &lease;
        Cached__V1__Request m = REQUEST(GET, get, &get);
        m.id = ++t->w->id;
        send_request(c, &m, NULL, 0);
}

/* The id of the lease that the next reply grants. */
static uint64_t granted(struct conn *c)
{
        struct reply r = take_reply(c);
        assert_true(status_is(r.m, STATUS_NOT_FOUND));
        assert_int_equal(r.m->lease->state, CACHED__V1__LEASE_STATE__LEASE_GRANTED);
        uint64_t id = r.m->lease->lease_id;
        reply_done(&r);
        return id;
}

static void store(struct two *t, struct conn *c, uint64_t lease)
{
        Cached__V1__Set set = set_of("c", "k");
        set.lease_id = lease;
        struct reply r = send_set(t->w, c, &set, "v", 1);
        assert_true(status_is(r.m, STATUS_OK));
        reply_done(&r);
}

static void end_turn(struct two *t)
{
        (void)dispatcher_maintain(t->w->server.dispatcher, server_now_ms(&t->w->server), 64);
}

/* What the entry says of itself is as of then. */
static void test_an_answer_comes_after_the_value_has_become_stale(void **state)
{
        struct two t = two_new(*state);
        Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        open.cache = (char *)"c";
        open.policy = &policy;
        policy.ttl_case = CACHED__V1__POLICY__TTL_TTL_MS;
        policy.ttl_ms = 100;
        policy.stale_for_ms = 1000;
        Cached__V1__Request m = REQUEST(OPEN_CACHE, open_cache, &open);
        struct reply r = call(t.w, t.a, &m, NULL, 0);
        reply_done(&r);
        ask(&t, t.a);
        uint64_t lease = granted(t.a);
        ask(&t, t.b);
        t.b->queued_for_long = 1 << 20; /* it does not read */
        store(&t, t.a, lease);
        assert_true(t.b->await_drain);
        assert_int_equal(t.b->n_out, 0);
        t.w->server.now_ns += UINT64_C(300) * 1000000;
        t.b->queued_for_long = 0;
        dispatch_handler.on_drained(t.b);
        end_turn(&t);
        r = take_reply(t.b);
        assert_true(status_is(r.m, STATUS_OK));
        assert_int_equal(r.n_body, 1);
        assert_int_equal(r.m->lease->waited_ms, 300);
        assert_int_equal(r.m->entry->fresh_case, CACHED__V1__ENTRY_INFO__FRESH_FRESH_MS);
        assert_int_equal(r.m->entry->fresh_ms, 0);
        assert_int_equal(r.m->entry->ttl_ms, 800);
        reply_done(&r);
        fake_conn_free(t.a);
        fake_conn_free(t.b);
}

/* A peer that broke the protocol has had its last reply. What it waited for goes to the next. */
static void test_nothing_follows_a_last_reply(void **state)
{
        struct two t = two_new(*state);
        ask(&t, t.a);
        uint64_t lease = granted(t.a);
        ask(&t, t.b);
        fake_conn_frame(t.b, (const uint8_t *)"\xff", 1, NULL, 0, INLINE_MAX);
        assert_failure(take_reply(t.b), STATUS_PROTOCOL, "");
        assert_true(t.b->closed);
        struct conn *last = connect_as(t.w, UID, "", LEASES);
        ask(&t, last);
        /* Its holder gives up: the one that ends is first in the line. */
        Cached__V1__EndLease end = CACHED__V1__END_LEASE__INIT;
        end.lease_id = lease;
        Cached__V1__Request m = REQUEST(END_LEASE, end_lease, &end);
        struct reply r = call(t.w, t.a, &m, NULL, 0);
        assert_true(status_is(r.m, STATUS_OK));
        reply_done(&r);
        assert_int_equal(t.b->n_out, 0);
        store(&t, last, granted(last));
        assert_int_equal(t.b->n_out, 0);
        fake_conn_free(last);
        fake_conn_free(t.a);
        fake_conn_free(t.b);
}

/* All of its connections end, and so do its leases; who asks now is told. */
static void test_a_process_ends(void **state)
{
        struct two t = two_new(*state);
        struct peer_watch *watch = NULL;
        struct conn *last = connect_as(t.w, UID, "", LEASES);
        t.a->ret_watch = &watch;
        last->peer.pid += PROCESS_BUCKETS; /* which hash to the same */
        ask(&t, t.a);
        uint64_t lease = granted(t.a);
        ask(&t, t.b);
        ask(&t, last);
        watch->on_end(watch->ctx);
        assert_true(t.a->finished);
        assert_true(t.b->finished);
        assert_false(last->finished);
        ask(&t, t.a);
        assert_failure(take_reply(t.a), STATUS_INVALID, "open another connection");
        /* What it had sent before still counts. */
        store(&t, t.a, lease);
        struct reply r = take_reply(last);
        assert_true(status_is(r.m, STATUS_OK));
        reply_done(&r);
        fake_conn_free(t.a);
        fake_conn_free(t.b);
        fake_conn_free(last);
}

/* Without a descriptor to watch it by there is no lease, and another time there may be. */
static void test_a_process_that_is_not_watched(void **state)
{
        struct two t = two_new(*state);
        t.a->watch_error = -EMFILE;
        ask(&t, t.a);
        assert_failure(take_reply(t.a), STATUS_LIMIT, "RLIMIT_NOFILE");
        t.a->watch_error = -ESRCH;
        ask(&t, t.a);
        assert_failure(take_reply(t.a), STATUS_INVALID, "open another connection");
        t.a->watch_error = 0;
        ask(&t, t.a);
        (void)granted(t.a);
        fake_conn_free(t.a);
        fake_conn_free(t.b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_nothing_follows_a_last_reply),
                TEST(test_a_process_ends),
                TEST(test_a_process_that_is_not_watched),
                TEST(test_an_answer_comes_after_the_value_has_become_stale),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
