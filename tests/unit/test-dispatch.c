/* SPDX-License-Identifier: MIT */
/*
 * Dispatch, in process: without memory
 *
 * For each kind of request, the i-th allocation fails, for every i until none does: the request is
 * answered with NO_MEMORY or the connection closes, nothing has changed, the next request works,
 * and nothing leaks (which the sanitizer sees).
 *
 * The linker sends the allocations of what is linked statically through the functions below.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cmocka.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);

#define WORLD_MALLOC __real_malloc
#define WORLD_CALLOC __real_calloc
#include "dispatch-world.h"

/* ---- failing allocations */

void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

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

void *__wrap_realloc(void *p, size_t n)
{
        return fail_now() ? NULL : __real_realloc(p, n);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
        return fail_now() ? NULL : __real_reallocarray(p, n, size);
}

/* ---- allocation failure */

#define SWEEP_MAX 2000 /* allocations of one request, at most */

/* Runs @step on a new connection with the i-th allocation failing, for every i until none fails. */
static void sweep(struct world *w, struct reply (*step)(struct world *w, struct conn *c),
                  void (*check)(struct world *w, bool done))
{
        for (unsigned i = 1; i < SWEEP_MAX; i++) {
                struct conn *c = connect_as(w, UID, "", 1);
                fail_in = i;
                failed = false;
                struct reply r = step(w, c);
                fail_in = 0;
                bool done = status_is(r.m, STATUS_OK);
                if (!done && !c->closed) {
                        assert_true(status_is(r.m, STATUS_NO_MEMORY));
                        assert_true(r.m && r.m->error[0] != '\0');
                        assert_true(r.m && r.m->id == w->id);
                }
                reply_done(&r);
                c->n_out = 0; /* the start of a reply that could not be completed */
                fake_conn_free(c);
                if (check)
                        check(w, done);
                if (!failed) {
                        assert_true(done);
                        return;
                }
        }
        fail_msg("more than %d allocations", SWEEP_MAX);
}

/* As call(), but a frame that the connection was closed in the middle of counts as none. */
static struct reply try_call(struct world *w, struct conn *c, Cached__V1__Request *m,
                             const void *body, uint64_t n_body)
{
        m->id = ++w->id;
        send_request(c, m, body, n_body);
        struct reply none = {0};
        if (c->n_out == 0)
                return none;
        struct frame_header h = frame_header_read(c->out);
        if (c->closed && c->n_out < FRAME_HEADER_SIZE + h.n_message + h.n_body)
                return none;
        return take_reply(c);
}

static struct reply step_open(struct world *w, struct conn *c)
{
        Cached__V1__OpenCache open = CACHED__V1__OPEN_CACHE__INIT;
        open.cache = (char *)"opened";
        Cached__V1__Request m = REQUEST(OPEN_CACHE, open_cache, &open);
        return try_call(w, c, &m, NULL, 0);
}

static struct reply step_set(struct world *w, struct conn *c)
{
        Cached__V1__Set set = set_of("c", "small");
        Cached__V1__Request m = REQUEST(SET, set, &set);
        return try_call(w, c, &m, "new", 3);
}

static void check_set(struct world *w, bool done)
{
        assert_value(w, "c", "small", done ? "new" : "old");
        if (!done)
                return;
        assert_int_equal(set_text(w, w->c, "c", "small", "old"), STATUS_OK);
}

static struct reply step_set_large(struct world *w, struct conn *c)
{
        uint8_t *body = __real_malloc(150000);
        memset(body, 'n', 150000);
        Cached__V1__Set set = set_of("c", "large");
        Cached__V1__Request m = REQUEST(SET, set, &set);
        struct reply r = try_call(w, c, &m, body, 150000);
        free(body);
        return r;
}

static void check_set_large(struct world *w, bool done)
{
        struct reply r = send_get(w, w->c, "c", "large");
        assert_int_equal(r.m->status, done ? STATUS_OK : STATUS_NOT_FOUND);
        assert_int_equal(r.n_body, done ? 150000 : 0);
        reply_done(&r);
}

static struct reply step_get(struct world *w, struct conn *c)
{
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        get.cache = (char *)"c";
        get.key = key_of("large");
        Cached__V1__Request m = REQUEST(GET, get, &get);
        return try_call(w, c, &m, NULL, 0);
}

static struct reply step_get_many(struct world *w, struct conn *c)
{
        ProtobufCBinaryData keys[300];
        for (size_t i = 0; i < 300; i++)
                keys[i] = i % 100 == 99 ? key_of("large") : key_of("small");
        Cached__V1__GetMany get = CACHED__V1__GET_MANY__INIT;
        get.cache = (char *)"c";
        get.keys = keys;
        get.n_keys = 300;
        Cached__V1__Request m = REQUEST(GET_MANY, get_many, &get);
        return try_call(w, c, &m, NULL, 0);
}

static struct reply step_set_many(struct world *w, struct conn *c)
{
        static const char body[6000];
        struct many many;
        const char *const keys[] = {"p", "q", "r", "s"};
        many_init(&many, keys, (uint64_t[]){1, 5000, 999, 0});
        Cached__V1__Request m = REQUEST(SET_MANY, set_many, &many.msg);
        struct reply r = try_call(w, c, &m, body, sizeof(body));
        for (size_t i = 0; status_is(r.m, STATUS_OK) && i < 4; i++) {
                enum status status = (enum status)r.m->set_many->items[i]->status;
                assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
        }
        return r;
}

static struct reply step_stats(struct world *w, struct conn *c)
{
        Cached__V1__Stats stats = CACHED__V1__STATS__INIT;
        stats.cache = (char *)"c";
        Cached__V1__Request m = REQUEST(STATS, stats, &stats);
        return try_call(w, c, &m, NULL, 0);
}

static struct reply step_list(struct world *w, struct conn *c)
{
        Cached__V1__ListEntries list = CACHED__V1__LIST_ENTRIES__INIT;
        list.cache = (char *)"c";
        Cached__V1__Request m = REQUEST(LIST_ENTRIES, list_entries, &list);
        return try_call(w, c, &m, NULL, 0);
}

static struct reply step_config(struct world *w, struct conn *c)
{
        Cached__V1__GetConfig get = CACHED__V1__GET_CONFIG__INIT;
        Cached__V1__Request m = REQUEST(GET_CONFIG, get_config, &get);
        return try_call(w, c, &m, NULL, 0);
}

static void test_every_allocation_may_fail(void **state)
{
        struct world *w = *state;
        assert_int_equal(set_text(w, w->c, "c", "small", "old"), STATUS_OK);
        sweep(w, step_open, NULL);
        sweep(w, step_set, check_set);
        sweep(w, step_set_large, check_set_large);
        sweep(w, step_get, NULL);
        sweep(w, step_get_many, NULL);
        sweep(w, step_set_many, NULL);
        sweep(w, step_stats, NULL);
        sweep(w, step_list, NULL);
        sweep(w, step_config, NULL);
        assert_int_equal(set_text(w, w->c, "c", "small", "newest"), STATUS_OK);
        assert_value(w, "c", "small", "newest");
}

/* Also without memory for what a client needs that looks entries up by itself. */
static void test_every_allocation_of_a_hello_may_fail(void **state)
{
        struct world *w = *state;
        int epoch = memfd_create("epoch", MFD_CLOEXEC);
        assert_int_equal(fchmod(epoch, 0644), 0);
        dispatcher_offer_mapping(w->server.dispatcher, epoch);
        for (unsigned i = 1; i < SWEEP_MAX; i++) {
                struct conn *c = fake_conn_new(&w->server, 77); /* a realm that is not there yet */
                Cached__V1__Hello hello = CACHED__V1__HELLO__INIT;
                hello.protocol_min = hello.protocol_max = 1;
                hello.features = CACHED__V1__FEATURE__FEATURE_MAPPED;
                Cached__V1__Request m = REQUEST(HELLO, hello, &hello);
                fail_in = i;
                failed = false;
                struct reply r = try_call(w, c, &m, NULL, 0);
                fail_in = 0;
                bool done = status_is(r.m, STATUS_OK);
                if (!done && !c->closed)
                        assert_true(status_is(r.m, STATUS_NO_MEMORY));
                if (done && !failed)
                        assert_int_equal(c->n_fds, 4);
                if (done)
                        assert_int_equal(c->n_fds > 0, r.m->hello->mapping != NULL);
                if (done && failed) /* it did without: also fine, but the realm must work */
                        assert_int_equal(set_text(w, c, "c", "k", "v"), STATUS_OK);
                reply_done(&r);
                c->n_out = 0;
                fake_conn_free(c);
                if (!failed) {
                        assert_true(done);
                        dispatcher_offer_mapping(w->server.dispatcher, -1);
                        close(epoch);
                        return;
                }
        }
        fail_msg("more than %d allocations", SWEEP_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_every_allocation_may_fail),
                TEST(test_every_allocation_of_a_hello_may_fail),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
