/* SPDX-License-Identifier: MIT */
/*
 * Remembered outcomes
 *
 * The log of one client, the registry of all, and both behind dispatch: what was carried out is
 * told again, what was not is carried out, what is forgotten is unknown; bounds by size, count, uid
 * and time; and without memory nothing happens twice. Then values that are decoded for plain
 * clients, without memory.
 *
 * The linker sends the allocations of what is linked statically through the functions below.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <lz4.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);

#define WORLD_MALLOC __real_malloc
#define WORLD_CALLOC __real_calloc
#include "dispatch-world.h"
#include "dispatch/outcome-log.h"
#include "dispatch/outcomes.h"

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);

static unsigned fail_in; /* 0: never; n: the n-th allocation from now fails */
static bool failed;

static bool fail_now(void)
{
        if (fail_in == 0 || --fail_in > 0)
                return false;
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

/* ---- the log */

#define N_MOST 1024

static uint8_t message_byte(uint64_t id)
{
        return (uint8_t)(id * 31 + 7);
}

static void add(struct outcome_log *log, uint64_t id, size_t n)
{
        uint8_t msg[2048];
        assert_true(n <= sizeof(msg));
        memset(msg, message_byte(id), n);
        outcome_log_add(log, id, msg, n, N_MOST);
}

/* What is found is what was added. */
static int find(const struct outcome_log *log, uint64_t id, size_t n)
{
        const uint8_t *msg;
        size_t found;
        int r = outcome_log_find(log, id, &msg, &found);
        if (r != OUTCOME_FOUND)
                return r;
        assert_int_equal(found, n);
        for (size_t i = 0; i < n; i++)
                assert_int_equal(msg[i], message_byte(id));
        return r;
}

static void test_a_log_keeps_the_last_half_at_least(void **state)
{
        (void)state;
        for (size_t n = 1; n < N_MOST / 4; n += 13) {
                struct outcome_log log = {0};
                size_t most = N_MOST / (16 + n), least = N_MOST / 2 / (16 + n + 15);
                for (uint64_t id = 1; id <= 200; id++) {
                        add(&log, id, n);
                        uint64_t known = 0;
                        while (known < id && find(&log, id - known, n) == OUTCOME_FOUND)
                                known++;
                        assert_true(known <= most && (known >= least || known == id));
                        for (uint64_t old = id - known; old > 0; old--)
                                assert_int_equal(find(&log, old, n), OUTCOME_E_UNKNOWN);
                        assert_int_equal(find(&log, id + 1, n), OUTCOME_E_NEVER);
                }
                outcome_log_done(&log);
        }
}

static void test_a_log_tells_never_from_unknown(void **state)
{
        (void)state;
        struct outcome_log log = {.forgotten = 10};
        assert_int_equal(find(&log, 10, 1), OUTCOME_E_UNKNOWN);
        assert_int_equal(find(&log, 11, 1), OUTCOME_E_NEVER);
        add(&log, 12, 5);
        add(&log, 5, 5); /* repeated, carried out now */
        add(&log, 14, N_MOST);
        assert_int_equal(find(&log, 12, 5), OUTCOME_FOUND);
        assert_int_equal(find(&log, 5, 5), OUTCOME_FOUND);
        assert_int_equal(find(&log, 11, 1), OUTCOME_E_NEVER);
        assert_int_equal(find(&log, 13, 1), OUTCOME_E_NEVER);
        assert_int_equal(find(&log, 14, 1), OUTCOME_E_UNKNOWN);
        outcome_log_done(&log);
}

static void test_a_log_without_memory(void **state)
{
        (void)state;
        struct outcome_log log = {0};
        fail_in = 1;
        add(&log, 1, 5);
        assert_int_equal(find(&log, 1, 5), OUTCOME_E_UNKNOWN);
        add(&log, 2, 5);
        assert_int_equal(find(&log, 2, 5), OUTCOME_FOUND);
        uint64_t id = 3;
        for (failed = false, fail_in = 1; !failed; id++) /* to the end of the page */
                add(&log, id, 100);
        assert_int_equal(find(&log, id - 1, 100), OUTCOME_E_UNKNOWN);
        assert_int_equal(find(&log, id - 2, 100), OUTCOME_FOUND);
        assert_int_equal(find(&log, id, 100), OUTCOME_E_NEVER);
        outcome_log_done(&log);
}

static void test_the_size_of_a_log_may_change(void **state)
{
        (void)state;
        struct outcome_log log = {0};
        uint8_t msg[100] = {1};
        const uint8_t *at;
        size_t n;
        for (uint64_t id = 1; id < 500; id++) {
                outcome_log_add(&log, id, msg, sizeof(msg), 1024 << (id / 50 % 3));
                assert_int_equal(outcome_log_find(&log, id, &at, &n), OUTCOME_FOUND);
        }
        outcome_log_done(&log);
}

/* ---- the registry */

static const struct outcome_bounds bounds = {.clients = 50, .clients_per_uid = 20, .ms = 60000};

static struct outcome_client *enter(struct outcomes *o, uid_t uid, uint64_t realm, uint64_t n)
{
        uint8_t id[CLIENT_ID_SIZE] = {0};
        struct outcome_client *oc;
        memcpy(id, &n, sizeof(n));
        assert_int_equal(outcomes_find(o, uid, realm, id, 1, &oc), 0);
        outcomes_enter(o, oc, (struct client *)o); /* any pointer */
        return oc;
}

static bool is_known(struct outcomes *o, uid_t uid, uint64_t realm, uint64_t n)
{
        uint8_t id[CLIENT_ID_SIZE] = {0};
        size_t before = o->n;
        struct outcome_client *oc;
        memcpy(id, &n, sizeof(n));
        assert_int_equal(outcomes_find(o, uid, realm, id, 1, &oc), 0);
        bool known = o->n == before;
        if (!known) {
                /* It was made by asking: it goes again as the youngest, at once. */
                const struct outcome_bounds none = {.clients = SIZE_MAX,
                                                    .clients_per_uid = SIZE_MAX,
                                                    .ms = UINT64_MAX / 2};
                outcomes_leave(o, oc, 0, 0, &none);
                list_unlink(&oc->ended_node);
                list_append(o->ended.next, &oc->ended_node);
                outcomes_expire(o, 1, 1);
                assert_int_equal(o->n, before);
        }
        return known;
}

static void test_clients_that_left_are_bounded(void **state)
{
        (void)state;
        struct outcomes o;
        assert_int_equal(outcomes_init(&o), 0);
        outcomes_leave(&o, enter(&o, 1, 1, 0), 5, 1000, &bounds);
        for (uint64_t i = 0; i < 1000; i++)
                outcomes_leave(&o, enter(&o, 2, 1, i), 5, 1000 + i, &bounds);
        assert_int_equal(o.n, 21);
        assert_true(is_known(&o, 1, 1, 0));
        assert_false(is_known(&o, 2, 1, 979));
        assert_true(is_known(&o, 2, 1, 980));
        assert_false(is_known(&o, 2, 2, 980));
        assert_false(is_known(&o, 3, 1, 980));
        for (uid_t uid = 10; uid < 100; uid++)
                outcomes_leave(&o, enter(&o, uid, 1, 0), 5, 2000, &bounds);
        assert_int_equal(o.n, 50);
        /* Who comes again is not counted, and not forgotten. */
        struct outcome_client *oc = enter(&o, 99, 1, 0);
        assert_int_equal(oc->last_id, 5);
        outcomes_expire(&o, UINT64_MAX - 1, 60000);
        assert_int_equal(o.n, 1);
        outcomes_leave(&o, oc, 9, 3000, &bounds);
        outcomes_done(&o);
}

static void test_clients_that_left_are_forgotten_in_time(void **state)
{
        (void)state;
        struct outcomes o;
        assert_int_equal(outcomes_init(&o), 0);
        assert_true(outcomes_next_deadline(&o, 60000) == UINT64_MAX);
        outcomes_leave(&o, enter(&o, 1, 1, 1), 5, 1000, &bounds);
        outcomes_leave(&o, enter(&o, 1, 1, 2), 5, 1500, &bounds);
        assert_int_equal(outcomes_next_deadline(&o, 60000), 62000);
        outcomes_expire(&o, 60999, 60000);
        assert_int_equal(o.n, 2);
        outcomes_expire(&o, 61000, 60000);
        assert_int_equal(o.n, 1);
        outcomes_expire(&o, 62500, 60000);
        assert_int_equal(o.n, 0);
        assert_null(o.accounts);
        outcomes_done(&o);
}

/* ---- behind dispatch */

static uint8_t client_id[CLIENT_ID_SIZE] = "sixteen bytes..";

/* Not greeted yet if it returns false. */
static bool greet(struct world *w, struct conn *c)
{
        Cached__V1__Hello hello = CACHED__V1__HELLO__INIT;
        hello.protocol_min = hello.protocol_max = 1;
        hello.client_id = (ProtobufCBinaryData){.len = sizeof(client_id), .data = client_id};
        Cached__V1__Request m = REQUEST(HELLO, hello, &hello);
        m.id = ++w->id;
        send_request(c, &m, NULL, 0);
        struct reply r = maybe_reply(c);
        bool ok = status_is(r.m, STATUS_OK);
        if (ok)
                assert_true(r.m->hello->features & CACHED__V1__FEATURE__FEATURE_REPEAT);
        reply_done(&r);
        return ok;
}

static struct conn *come(struct world *w)
{
        struct conn *c = fake_conn_new(&w->server, UID);
        assert_true(greet(w, c));
        return c;
}

/* Add-only, so that a second time shows. The status; 255: no reply. */
static int add_once(struct conn *c, uint64_t id, const char *key, bool repeated, uint64_t *ret_v)
{
        Cached__V1__Set set = set_of("c", key);
        set.mode = CACHED__V1__SET_MODE__SET_ADD_ONLY;
        Cached__V1__Request m = REQUEST(SET, set, &set);
        m.id = id;
        m.repeated = repeated;
        send_request(c, &m, "v", 1);
        struct reply r = maybe_reply(c);
        int status = r.m ? (int)r.m->status : 255;
        if (r.m && r.m->entry)
                *ret_v = r.m->entry->version;
        reply_done(&r);
        return status;
}

static void test_the_older_connection_ends(void **state)
{
        struct world *w = *state;
        struct conn *a = come(w);
        uint64_t va = 0, vb = 0, id = ++w->id;
        assert_int_equal(add_once(a, id, "k", false, &va), STATUS_OK);
        struct conn *b = come(w);
        assert_true(a->aborted);
        assert_false(b->closed);
        assert_int_equal(add_once(b, id, "k", true, &vb), STATUS_OK);
        assert_true(va > 0 && va == vb);
        assert_int_equal(add_once(b, ++w->id, "k", false, &vb), STATUS_EXISTS);
        fake_conn_free(a); /* after the new one was greeted: it has left before */
        assert_int_equal(add_once(b, ++w->id, "l", false, &vb), STATUS_OK);
        fake_conn_free(b);
        struct conn *c = come(w);
        assert_int_equal(add_once(c, w->id - 1, "l", true, &va), STATUS_OK);
        assert_true(va == vb);
        fake_conn_free(c);
}

static void test_what_was_refused_on_the_way_is_told_again(void **state)
{
        struct world *w = *state;
        struct conn *c = come(w);
        uint64_t id = ++w->id;
        uint8_t *body = calloc(1, INLINE_MAX * 10);
        assert_non_null(body);
        Cached__V1__Set set = set_of("c", "k");
        set.ttl_case = CACHED__V1__SET__TTL_TTL_MS; /* 0 ms, which is INVALID */
        Cached__V1__Request m = REQUEST(SET, set, &set);
        for (unsigned i = 0; i < 3; i++) {
                m.id = id;
                m.repeated = i > 0;
                send_request(c, &m, body, INLINE_MAX * 10);
                assert_failure(take_reply(c), STATUS_INVALID, "ttl");
                fake_conn_free(c);
                c = come(w);
        }
        fake_conn_free(c);
        free(body);
}

static void test_a_daemon_that_stops_still_tells(void **state)
{
        struct world *w = *state;
        struct conn *c = come(w);
        uint64_t v = 0, again = 0, id = ++w->id;
        assert_int_equal(add_once(c, id, "k", false, &v), STATUS_OK);
        uint64_t never = ++w->id;
        struct conn *d = come(w);
        w->server.stopping = true;
        assert_int_equal(add_once(d, id, "k", true, &again), STATUS_OK);
        assert_true(v == again);
        assert_int_equal(add_once(d, never, "l", true, &again), STATUS_SHUTTING_DOWN);
        w->server.stopping = false;
        fake_conn_free(c);
        fake_conn_free(d);
}

/* The i-th allocation of a Hello, a Set, and coming again fails: it happens once, or is unknown. */
static void test_without_memory_nothing_happens_twice(void **state)
{
        struct world *w = *state;
        for (unsigned i = 1;; i++) {
                char key[16];
                snprintf(key, sizeof(key), "k%u", i);
                memcpy(client_id, &i, sizeof(i));
                struct conn *c = fake_conn_new(&w->server, UID);
                uint64_t v = 0, again = 0;
                int first = 255;
                fail_in = i;
                failed = false;
                uint64_t id = 0;
                if (greet(w, c))
                        first = add_once(c, id = ++w->id, key, false, &v);
                fail_in = 0;
                bool all = !failed;
                fake_conn_free(c);
                if (id > 0) {
                        c = come(w);
                        int second = add_once(c, id, key, true, &again);
                        if (first == STATUS_OK && second == STATUS_OK)
                                assert_true(v == again);
                        else if (first == STATUS_OK)
                                assert_int_equal(second, STATUS_OUTCOME_UNKNOWN);
                        else /* not carried out before */
                                assert_true(second == STATUS_OK || second == STATUS_NO_MEMORY);
                        fake_conn_free(c);
                }
                if (all)
                        return;
        }
}

static void test_every_allocation_of_decoding_may_fail(void **state)
{
        struct world *w = *state;
        enum { N = 100000 };
        static uint8_t zeros[N];
        char packed[N];
        int n = LZ4_compress_default((const char *)zeros, packed, N, N);
        assert_true(n > 0);
        Cached__V1__Set set = set_of("c", "z");
        set.encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
        set.raw_size = N;
        struct reply r = send_set(w, w->c, &set, packed, (uint64_t)n);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);

        Cached__V1__GetMany many = CACHED__V1__GET_MANY__INIT;
        ProtobufCBinaryData keys[2] = {key_of("z"), key_of("z")};
        many.cache = (char *)"c";
        many.keys = keys;
        many.n_keys = 1;
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        get.cache = (char *)"c";
        get.key = key_of("z");
        Cached__V1__Request ms[2] = {REQUEST(GET, get, &get), REQUEST(GET_MANY, get_many, &many)};
        for (unsigned which = 0; which < 2; which++) {
                for (unsigned i = 1;; i++) {
                        struct conn *c = connect_as(w, UID, "", 0);
                        ms[which].id = ++w->id;
                        fail_in = i;
                        failed = false;
                        send_request(c, &ms[which], NULL, 0);
                        fail_in = 0;
                        if (!failed) {
                                r = take_reply(c);
                                assert_int_equal(r.n_body, N);
                                assert_memory_equal(r.body, zeros, N);
                                assert_true(c->yields > 0);
                                reply_done(&r);
                        }
                        c->n_out = 0;
                        fake_conn_free(c);
                        if (!failed)
                                break;
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a_log_keeps_the_last_half_at_least),
                cmocka_unit_test(test_a_log_tells_never_from_unknown),
                cmocka_unit_test(test_a_log_without_memory),
                cmocka_unit_test(test_the_size_of_a_log_may_change),
                cmocka_unit_test(test_clients_that_left_are_bounded),
                cmocka_unit_test(test_clients_that_left_are_forgotten_in_time),
                TEST(test_the_older_connection_ends),
                TEST(test_what_was_refused_on_the_way_is_told_again),
                TEST(test_a_daemon_that_stops_still_tells),
                TEST(test_without_memory_nothing_happens_twice),
                TEST(test_every_allocation_of_decoding_may_fail),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
