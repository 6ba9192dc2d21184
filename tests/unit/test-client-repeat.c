/* SPDX-License-Identifier: MIT */
/*
 * libcached and requests that are sent again: a daemon that dies at every byte of a request and of
 * its reply, and remembers or forgets; another daemon in its place; one that remembers nothing; the
 * numbers that requests keep; that no client_id serves two.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "client-harness.h"

#include <sys/wait.h>

#include "client/handle.h"

/* A daemon that ends its first connections within the first request, as a test says. */
struct mortal {
        struct good good; /* first: for the functions that count */
        size_t n_read;    /* bytes of the request that are read before the end; SIZE_MAX: all */
        size_t n_reply;   /* bytes of its reply that are sent */
        int n_deaths;     /* connections that end so */
        bool other;       /* what follows is another instance */
        /* What was seen. */
        size_t n_frame, n_reply_frame;
        uint64_t ids[8];
        bool repeated[8];
        uint64_t hello_ids[8];
        uint8_t client_ids[8][16];
        int n_asked, n_done;
};

static void die_in_request(struct fake *d, int fd, struct mortal *m)
{
        uint8_t *some = malloc(m->n_read + 1);

        assert(some);
        (void)fake_read(d, fd, some, m->n_read);
        free(some);
}

/* Carried out once per id, as a daemon that remembers does it. */
static bool mortal_answer(struct fake *d, int fd, struct mortal *m, const struct fake_request *r,
                          size_t n_sent)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;
        uint8_t *frame;
        bool ok;

        m->ids[m->n_asked] = r->m->id;
        m->repeated[m->n_asked] = r->m->repeated;
        if (!r->m->repeated)
                m->n_done++;
        m->n_asked++;
        entry.version = 100 + r->m->id;
        reply.id = r->m->id;
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &entry;
        frame = fake_frame(&reply, NULL, 0, &m->n_reply_frame);
        ok = fake_write(d, fd, frame, n_sent < m->n_reply_frame ? n_sent : m->n_reply_frame);
        free(frame);
        return ok;
}

static void serve_mortal(struct fake *d, int fd, int nth)
{
        struct mortal *m = d->data;
        struct fake_request r;

        if (nth > 0 && m->other)
                d->instance++;
        if (!fake_hello(d, fd))
                return;
        m->hello_ids[nth] = d->hello_id;
        memcpy(m->client_ids[nth], d->client_id, 16);
        if (nth < m->n_deaths && m->n_read < SIZE_MAX) {
                die_in_request(d, fd, m);
                return;
        }
        while (fake_read_request(d, fd, &r)) {
                bool dies = nth < m->n_deaths;

                m->n_frame =
                        FRAME_HEADER_SIZE + cached__v1__request__get_packed_size(r.m) + r.n_body;
                (void)mortal_answer(d, fd, m, &r, dies ? m->n_reply : SIZE_MAX);
                fake_request_done(&r);
                if (dies)
                        return;
        }
}

static int run_mortal(struct mortal *m, uint64_t features, char *text, size_t n_text)
{
        struct fake d;
        cached_reply *r;
        cached *c;
        int code;

        fake_listen(&d, 16);
        d.instance = 77;
        d.features = features;
        d.serve = serve_mortal;
        d.data = m;
        assert_int_equal(pthread_create(&d.thread, NULL, fake_run, &d), 0);
        c = client_new(d.path, PATIENCE_MS);
        code = cached_set(c, "x", "k", 1, "value", 5, NULL, &r);
        if (code == CACHED_OK)
                assert_int_equal(cached_reply_version(r), 100 + m->ids[m->n_asked - 1]);
        if (text)
                (void)snprintf(text, n_text, "%s", cached_reply_error(r));
        cached_reply_free(r);
        cached_free(c);
        fake_unlisten(&d);
        return code;
}

#define REPEAT CACHED__V1__FEATURE__FEATURE_REPEAT

/* The reply is cut: the change is asked for again, and made once. */
static void test_a_dies_in_its_reply(void **state)
{
        size_t n_reply_frame = 1;

        for (size_t at = 0; at < n_reply_frame; at++) {
                struct mortal m = {.n_read = SIZE_MAX, .n_reply = at, .n_deaths = 1};

                assert_int_equal(run_mortal(&m, REPEAT, NULL, 0), CACHED_OK);
                n_reply_frame = m.n_reply_frame;
                assert_int_equal(m.n_asked, 2);
                assert_int_equal(m.n_done, 1);
                assert_false(m.repeated[0]);
                assert_true(m.repeated[1]);
                assert_int_equal(m.ids[1], m.ids[0]);
                assert_true(m.hello_ids[1] > m.ids[0]);
                assert_memory_equal(m.client_ids[0], m.client_ids[1], 16);
        }
        assert_true(n_reply_frame >= 15);
}

/* The request is cut: whatever part of it was read, it ends up done once. */
static void test_a_dies_in_the_request(void **state)
{
        struct mortal whole = {0};

        assert_int_equal(run_mortal(&whole, REPEAT, NULL, 0), CACHED_OK);
        assert_true(whole.n_frame >= 20);
        for (size_t at = 0; at <= whole.n_frame; at++) {
                struct mortal m = {.n_read = at, .n_deaths = 1};

                assert_int_equal(run_mortal(&m, REPEAT, NULL, 0), CACHED_OK);
                assert_int_equal(m.n_asked, 1);
        }
}

static void test_b_dies_again_and_again(void **state)
{
        struct mortal twice = {.n_read = SIZE_MAX, .n_deaths = 2};
        struct mortal always = {.n_read = SIZE_MAX, .n_deaths = 8};
        char text[256];

        assert_int_equal(run_mortal(&twice, REPEAT, NULL, 0), CACHED_OK);
        assert_int_equal(twice.n_asked, 3);
        assert_int_equal(twice.n_done, 1);
        assert_int_equal(twice.ids[2], twice.ids[0]);
        assert_int_equal(run_mortal(&always, REPEAT, text, sizeof(text)), CACHED_ERR_DISCONNECTED);
        assert_int_equal(always.n_asked, 3);
        assert_non_null(strstr(text, "unknown"));
}

static void test_b_another_instance(void **state)
{
        struct mortal m = {.n_read = SIZE_MAX, .n_deaths = 1, .other = true};
        char text[256];

        assert_int_equal(run_mortal(&m, REPEAT, text, sizeof(text)), CACHED_OUTCOME_UNKNOWN);
        assert_int_equal(m.n_asked, 1);
        assert_non_null(strstr(text, "restarted"));
}

/* A daemon that does not remember is not asked, and not connected to for that. */
static void test_b_no_memory_of_it(void **state)
{
        struct mortal m = {.n_read = SIZE_MAX, .n_deaths = 1};
        char text[256];

        assert_int_equal(run_mortal(&m, 0, text, sizeof(text)), CACHED_ERR_DISCONNECTED);
        assert_int_equal(m.n_asked, 1);
        assert_int_equal(m.hello_ids[1], 0);
        assert_non_null(strstr(text, "unknown"));
}

/* ---------------------------------------------------------------------------------- who asks */

struct seen {
        struct parallel p;
        pthread_mutex_t lock;
        uint8_t ids[64][16];
        int n;
};

static void serve_seen(struct fake *d, int fd, int nth)
{
        struct seen *s = d->data;
        struct fake_request r;
        bool ok;

        if (!fake_read_request(d, fd, &r))
                return;
        assert(r.m->op_case == CACHED__V1__REQUEST__OP_HELLO);
        pthread_mutex_lock(&s->lock);
        assert(r.m->hello->client_id.len == 16 && s->n < 64);
        memcpy(s->ids[s->n++], r.m->hello->client_id.data, 16);
        pthread_mutex_unlock(&s->lock);
        {
                size_t n;
                uint8_t *frame = fake_hello_frame(d, r.m->id, &n);

                ok = fake_write(d, fd, frame, n);
                free(frame);
        }
        fake_request_done(&r);
        if (ok)
                serve_good_rest(d, fd);
}

static void *ping_often(void *data)
{
        for (int i = 0; i < 50; i++)
                if (cached_ping(data, NULL) != CACHED_OK)
                        return data;
        return NULL;
}

/* Connections of one handle, of another one, of a child: each its own. */
static void test_c_client_ids_differ(void **state)
{
        struct seen s = {.lock = PTHREAD_MUTEX_INITIALIZER};
        cached *c[2];
        struct fake d;
        int status;
        pid_t pid;

        parallel_start(&d, &s.p, serve_seen);
        for (int k = 0; k < 2; k++) {
                pthread_t threads[8];

                c[k] = client_of_size(d.path, PATIENCE_MS, 8);
                for (int i = 0; i < 8; i++)
                        assert_int_equal(pthread_create(&threads[i], NULL, ping_often, c[k]), 0);
                for (int i = 0; i < 8; i++) {
                        void *bad;

                        pthread_join(threads[i], &bad);
                        assert_null(bad);
                }
        }
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(cached_ping(c[0], NULL));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        for (int k = 0; k < 2; k++)
                cached_free(c[k]);
        parallel_stop(&d, &s.p);
        assert_true(s.n >= 3);
        for (int i = 0; i < s.n; i++)
                for (int k = 0; k < i; k++)
                        assert_memory_not_equal(s.ids[i], s.ids[k], 16);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_dies_in_its_reply, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_dies_in_the_request, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_dies_again_and_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_another_instance, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_no_memory_of_it, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_client_ids_differ, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
