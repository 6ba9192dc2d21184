/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, in process: sessions and who is attached to them. Connections that end at the same time
 * as their sessions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "dispatch-world.h"
#include "dispatch/dispatcher.h"

#define EVENTS ((uint64_t)CACHED__V1__FEATURE__FEATURE_EVENTS)
#define MS     UINT64_C(1000000)

struct token {
        uint8_t bytes[SESSION_TOKEN];
};

static ProtobufCBinaryData data_of(const struct token *t)
{
        return (ProtobufCBinaryData){.len = sizeof(t->bytes), .data = (uint8_t *)t->bytes};
}

static void end_turn(struct world *w)
{
        while (dispatcher_maintain(w->server.dispatcher, server_now_ms(&w->server), 1000))
                ;
}

/* ---- requests in short */

static Cached__V1__OpenSession open_of(uint64_t idle_ms, bool bound)
{
        Cached__V1__OpenSession m = CACHED__V1__OPEN_SESSION__INIT;
        m.idle_case = CACHED__V1__OPEN_SESSION__IDLE_IDLE_MS;
        m.idle_ms = idle_ms;
        m.bound_case = bound ? CACHED__V1__OPEN_SESSION__BOUND_GRACE_MS
                             : CACHED__V1__OPEN_SESSION__BOUND__NOT_SET;
        m.grace_ms = bound ? 500 : 0;
        return m;
}

static struct token session_new(struct world *w, struct conn *c, Cached__V1__OpenSession open)
{
        Cached__V1__Request m = REQUEST(OPEN_SESSION, open_session, &open);
        struct reply r = call(w, c, &m, NULL, 0);
        struct token t = {0};
        assert_true(status_is(r.m, STATUS_OK));
        memcpy(t.bytes, r.m->session->token.data, sizeof(t.bytes));
        reply_done(&r);
        return t;
}

static struct token session_attached(struct world *w, struct conn *c, uint64_t idle_ms, bool bound)
{
        Cached__V1__OpenSession open = open_of(idle_ms, bound);
        open.attach = open.want_events = true;
        return session_new(w, c, open);
}

/* A use, as every request with its token. False: it is no more. */
static bool look(struct world *w, const struct token *t, uint64_t *ret_version,
                 uint64_t *ret_attached)
{
        Cached__V1__AttachSession attach = CACHED__V1__ATTACH_SESSION__INIT;
        attach.token = data_of(t);
        Cached__V1__Request m = REQUEST(ATTACH_SESSION, attach_session, &attach);
        struct reply r = call(w, w->c, &m, NULL, 0);
        bool is_there = status_is(r.m, STATUS_OK);
        assert_true(is_there || status_is(r.m, STATUS_NOT_FOUND));
        *ret_version = is_there ? r.m->session->version : 0;
        *ret_attached = is_there ? r.m->session->attached : 0;
        reply_done(&r);
        return is_there;
}

static bool is_there(struct world *w, const struct token *t)
{
        uint64_t version, attached;
        return look(w, t, &version, &attached);
}

/* ---- ends that meet */

/* The session has expired, and its only connection ends before anybody has seen that. */
static void test_it_ends_with_its_session(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", EVENTS), *other = connect_as(w, UID, "", EVENTS);
        struct token t = session_attached(w, c, 1000, true);
        struct token u = session_attached(w, c, 1000, false);
        struct token v = session_attached(w, c, 100000, true);
        w->server.now_ns += 1000 * MS;
        fake_conn_free(c);
        assert_false(is_there(w, &t) || is_there(w, &u));
        assert_true(is_there(w, &v));
        end_turn(w);
        /* And after all of them. */
        (void)session_attached(w, other, 1000, false);
        w->server.now_ns += 1000 * MS;
        fake_conn_free(other);
        assert_int_equal(w->server.dispatcher->attachments.n, 0);
        assert_false(is_there(w, &v)); /* its grace is over */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_it_ends_with_its_session),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
