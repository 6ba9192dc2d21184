/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, in process: sessions and who is attached to them. Connections that end at the same time
 * as their sessions; memory that runs out: what failed has changed nothing, and what was missed is
 * told.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* The n-th allocation from now fails; 0: none does. From then on all of them, if so. */
static unsigned fail_in;
static bool fail_on, failed;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);

static bool fail_now(void)
{
        if (fail_in == 0 || --fail_in > 0)
                return false;
        fail_in = fail_on ? 1 : 0;
        failed = true;
        errno = ENOMEM;
        return true;
}

void *__wrap_malloc(size_t n)
{
        return fail_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
        return fail_now() ? NULL : __real_calloc(n, size);
}

#define WORLD_MALLOC __real_malloc
#define WORLD_CALLOC __real_calloc
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

/* ---- memory that runs out */

#define SWEEP_MAX 500 /* allocations of one request, at most */

struct sweep {
        struct world *w;
        struct token t;
};

/* Sends it on @c while allocations fail. A connection that was closed for want of memory may have
 * got no reply. */
static struct reply try_call(struct world *w, struct conn *c, Cached__V1__Request *m,
                             const void *body, uint64_t n_body)
{
        m->id = ++w->id;
        send_request(c, m, body, n_body);
        assert_true(c->n_out > 0 || c->closed);
        return maybe_reply(c);
}

static struct reply step_open(struct sweep *s, struct conn *c)
{
        Cached__V1__OpenSession open = open_of(10000, true);
        open.attach = open.want_events = true;
        Cached__V1__Request m = REQUEST(OPEN_SESSION, open_session, &open);
        return try_call(s->w, c, &m, NULL, 0);
}

static struct reply step_attach(struct sweep *s, struct conn *c)
{
        Cached__V1__AttachSession attach = CACHED__V1__ATTACH_SESSION__INIT;
        attach.token = data_of(&s->t);
        attach.stay = true;
        Cached__V1__Request m = REQUEST(ATTACH_SESSION, attach_session, &attach);
        return try_call(s->w, c, &m, NULL, 0);
}

#define N_KEYS 300 /* limits.keys_per_request: the reply does not fit where others do */

static void name_keys(char names[N_KEYS][100], char *keys[N_KEYS])
{
        for (int i = 0; i < N_KEYS; i++) {
                snprintf(names[i], sizeof(names[i]), "%090d", i);
                keys[i] = names[i];
        }
}

static struct reply step_set(struct sweep *s, struct conn *c)
{
        static char names[N_KEYS][100];
        char *keys[N_KEYS];
        Cached__V1__SessionItem items[N_KEYS], *ptrs[N_KEYS];
        name_keys(names, keys);
        for (size_t i = 0; i < N_KEYS; i++) {
                cached__v1__session_item__init(&items[i]);
                items[i].key = keys[i];
                items[i].size = 1;
                ptrs[i] = &items[i];
        }
        Cached__V1__SessionSet set = CACHED__V1__SESSION_SET__INIT;
        set.token = data_of(&s->t);
        set.items = ptrs;
        set.n_items = N_KEYS;
        Cached__V1__Request m = REQUEST(SESSION_SET, session_set, &set);
        return try_call(s->w, c, &m, names, N_KEYS);
}

static struct reply step_delete(struct sweep *s, struct conn *c)
{
        static char names[N_KEYS][100];
        char *keys[N_KEYS];
        name_keys(names, keys);
        Cached__V1__SessionDelete delete = CACHED__V1__SESSION_DELETE__INIT;
        delete.token = data_of(&s->t);
        delete.keys = keys;
        delete.n_keys = N_KEYS;
        Cached__V1__Request m = REQUEST(SESSION_DELETE, session_delete, &delete);
        return try_call(s->w, c, &m, NULL, 0);
}

static struct reply step_increment(struct sweep *s, struct conn *c)
{
        Cached__V1__SessionIncrement increment = CACHED__V1__SESSION_INCREMENT__INIT;
        increment.token = data_of(&s->t);
        increment.key = (char *)"n";
        increment.by_case = CACHED__V1__SESSION_INCREMENT__BY_INTEGER;
        increment.integer = 1;
        increment.start_case = CACHED__V1__SESSION_INCREMENT__START_START_INTEGER;
        Cached__V1__Request m = REQUEST(SESSION_INCREMENT, session_increment, &increment);
        return try_call(s->w, c, &m, NULL, 0);
}

static struct reply step_append(struct sweep *s, struct conn *c)
{
        Cached__V1__SessionAppend append = CACHED__V1__SESSION_APPEND__INIT;
        append.token = data_of(&s->t);
        append.key = (char *)"list";
        Cached__V1__Request m = REQUEST(SESSION_APPEND, session_append, &append);
        return try_call(s->w, c, &m, "12345", 5);
}

static struct reply step_get(struct sweep *s, struct conn *c)
{
        Cached__V1__SessionGet get = CACHED__V1__SESSION_GET__INIT;
        get.token = data_of(&s->t);
        Cached__V1__Request m = REQUEST(SESSION_GET, session_get, &get);
        return try_call(s->w, c, &m, NULL, 0);
}

static struct reply step_list(struct sweep *s, struct conn *c)
{
        Cached__V1__ListSessions list = CACHED__V1__LIST_SESSIONS__INIT;
        Cached__V1__Request m = REQUEST(LIST_SESSIONS, list_sessions, &list);
        return try_call(s->w, c, &m, NULL, 0);
}

static uint64_t n_sessions(struct world *w)
{
        Cached__V1__Stats stats = CACHED__V1__STATS__INIT;
        Cached__V1__Request m = REQUEST(STATS, stats, &stats);
        struct reply r = call(w, w->c, &m, NULL, 0);
        uint64_t n = r.m->stats->realm->sessions;
        reply_done(&r);
        return n;
}

/* Runs @step on a new connection with the i-th allocation failing, for every i until none fails.
 * Whatever failed has changed nothing: no session, and nobody is attached. */
static void sweep(struct sweep *s, struct reply (*step)(struct sweep *s, struct conn *c),
                  bool changes)
{
        uint64_t version, before, attached, n = n_sessions(s->w);
        assert_true(look(s->w, &s->t, &before, &attached));
        for (unsigned i = 1; i < SWEEP_MAX; i++) {
                struct conn *c = connect_as(s->w, UID, "", EVENTS);
                fail_in = i;
                failed = false;
                struct reply r = step(s, c);
                fail_in = 0;
                bool done = status_is(r.m, STATUS_OK);
                assert_true(done || c->closed || status_is(r.m, STATUS_NO_MEMORY));
                reply_done(&r);
                assert_true(look(s->w, &s->t, &version, &attached));
                assert_int_equal(version, before + (done && changes));
                if (!done) {
                        assert_int_equal(attached, 0);
                        assert_int_equal(n_sessions(s->w), n);
                        assert_int_equal(s->w->server.dispatcher->attachments.n, 0);
                }
                before = version;
                fake_conn_free(c);
                if (!failed) {
                        assert_true(done);
                        return;
                }
                n = n_sessions(s->w);
        }
        fail_msg("more than %d allocations", SWEEP_MAX);
}

static void test_every_allocation_may_fail(void **state)
{
        struct world *w = *state;
        struct sweep s = {.w = w, .t = session_new(w, w->c, open_of(100000, true))};
        sweep(&s, step_open, false);
        sweep(&s, step_attach, false);
        sweep(&s, step_set, true);
        sweep(&s, step_get, false);
        sweep(&s, step_increment, true);
        sweep(&s, step_append, true);
        sweep(&s, step_delete, true);
        sweep(&s, step_list, false);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_it_ends_with_its_session),
                TEST(test_every_allocation_may_fail),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
