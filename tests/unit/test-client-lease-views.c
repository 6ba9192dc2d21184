/* SPDX-License-Identifier: MIT */
/*
 * Large values for who waits: they come as memory files, on the one connection on which many wait,
 * among other replies. Whose waiter has given up, found no room for the descriptor, was in a
 * process that forked, or lost its connection: nothing is left open, and the daemon is told of each
 * view once.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "fake-lease.h"

#include "client/handle.h"

#include <sys/resource.h>
#include <sys/wait.h>

#define LARGE ((size_t)5 << 20)
#define N     6

static cached_lease *granted(cached *c, const char *key)
{
        cached_lease *l;

        assert_int_equal(cached_get_or_lease(c, "t", key, strlen(key), NULL, NULL, &l),
                         CACHED_NOT_FOUND);
        assert_int_equal(cached_lease_state(l), CACHED_LEASE_GRANTED);
        return l;
}

struct asker {
        pthread_t thread;
        cached *c;
        const char *key;
        const cached_lease_options *o;
        int code;
        cached_reply *r;
        atomic_bool is_done;
};

static void *run_asker(void *data)
{
        struct asker *a = data;
        cached_lease *l;

        a->code = cached_get_or_lease(a->c, "t", a->key, strlen(a->key), a->o, &a->r, &l);
        cached_lease_free(l);
        atomic_store(&a->is_done, true);
        return NULL;
}

static void start(struct asker *a, cached *c, const char *key, const cached_lease_options *o)
{
        *a = (struct asker){.c = c, .key = key, .o = o};
        assert_int_equal(pthread_create(&a->thread, NULL, run_asker, a), 0);
}

static void finish(struct asker *a, const void *value, size_t n)
{
        size_t n_is = 0;

        pthread_join(a->thread, NULL);
        assert_int_equal(a->code, CACHED_OK);
        assert_non_null(cached_reply_value(a->r, &n_is));
        assert_int_equal(n_is, n);
        assert_memory_equal(cached_reply_value(a->r, NULL), value, n);
        cached_reply_free(a->r);
}

static unsigned views_out(struct leases *s)
{
        unsigned n = 0;

        pthread_mutex_lock(&s->store.lock);
        for (size_t i = 0; i < VIEWS_MAX; i++)
                n += s->views[i] != 0;
        pthread_mutex_unlock(&s->store.lock);
        return n;
}

static void until(unsigned (*count)(struct leases *), struct leases *s, unsigned n)
{
        uint64_t end = now_ms() + PATIENCE_MS;

        while (count(s) != n) {
                assert_true(now_ms() < end);
                usleep(1000);
        }
}

/* A value of LARGE bytes, stored and as a file. */
static uint8_t *large_new(struct leases *s, int seals)
{
        Cached__V1__Set m = CACHED__V1__SET__INIT;
        uint8_t *bytes = malloc(LARGE);

        assert_non_null(bytes);
        for (size_t i = 0; i < LARGE; i++)
                bytes[i] = (uint8_t)(i * 7 >> 3);
        s->file = memfd_create("large", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        s->n_file = LARGE;
        assert_int_equal(write(s->file, bytes, LARGE), LARGE);
        assert_int_equal(fcntl(s->file, F_ADD_SEALS, seals), 0);
        m.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "k"};
        assert_int_equal(store_put(&s->store, &m, bytes, LARGE), CACHED_OK);
        s->store.n = 0; /* not yet */
        return bytes;
}

/* Whoever waits for the key has it. */
static void give(struct fake *d, const char *key, const void *value, size_t n)
{
        struct leases *s = d->data;
        struct fake_lease *l;

        pthread_mutex_lock(&s->store.lock);
        l = lease_find(s, key, strlen(key));
        assert(l);
        l->id = 0;
        if (!strcmp(key, "k"))
                s->store.n = 1;
        lease_share(d, l, value, n);
        pthread_mutex_unlock(&s->store.lock);
}

struct world {
        struct leases s;
        struct fake d;
        uint8_t *bytes;
        cached *c, *other;
        cached_lease *large, *small;
};

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static void world_start(struct world *w, int seals)
{
        leases_start(&w->d, &w->s);
        w->d.features |= CACHED__V1__FEATURE__FEATURE_FILES;
        w->d.instance = 7;
        w->bytes = large_new(&w->s, seals);
        w->c = client_new(w->d.path, PATIENCE_MS);
        w->other = client_new(w->d.path, PATIENCE_MS);
        w->large = granted(w->other, "k");
        w->small = granted(w->other, "s");
}

static void world_stop(struct world *w)
{
        cached_lease_free(w->large);
        cached_lease_free(w->small);
        cached_free(w->other);
        cached_free(w->c);
        until(views_out, &w->s, 0);
        close(w->s.file);
        w->s.store.n = 1;
        leases_stop(&w->d, &w->s);
        free(w->bytes);
}

/* Many threads wait for large and small ones; each has its own. */
static void test_a_many(void **state)
{
        static struct world w;
        struct asker large[N], small[N];

        world_start(&w, SEALS);
        for (int i = 0; i < N; i++) {
                start(&large[i], w.c, "k", NULL);
                start(&small[i], w.c, "s", NULL);
        }
        until(leases_waiting, &w.s, 2 * N);
        give(&w.d, "k", NULL, 0);
        give(&w.d, "s", "small", 5);
        for (int i = 0; i < N; i++) {
                finish(&large[i], w.bytes, LARGE);
                pthread_join(small[i].thread, NULL);
                assert_int_equal(small[i].code, CACHED_OK);
                cached_reply_free(small[i].r);
        }
        assert_int_equal(atomic_load(&w.s.n_files), N);
        world_stop(&w);
}

/* A buffer is stored under the lease as it lies, and who waits gets it. One that cannot be stored
 * leaves the lease held. */
static void test_a_buffer_under_a_lease(void **state)
{
        static struct world w;
        cached_buffer *b = NULL;

        world_start(&w, SEALS);
        assert_int_equal(cached_buffer_new(w.other, 100, &b), CACHED_OK);
        memcpy(cached_buffer_data(b), "small", 5);
        assert_int_equal(cached_lease_set_buffer(w.small, b, 101, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_set_buffer(NULL, b, 5, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_lease_set_buffer(w.small, NULL, 5, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(atomic_load(&w.s.last_lease_id), 0);
        assert_int_equal(cached_lease_set_buffer(w.small, b, 5, NULL, NULL), CACHED_OK);
        assert_int_not_equal(atomic_load(&w.s.last_lease_id), 0);
        assert_int_equal(cached_lease_set_buffer(w.small, b, 5, NULL, NULL), CACHED_ERR_USAGE);
        cached_buffer_free(b);
        world_stop(&w);
}

/* It was waited for, and is not asked for again. What is at hand does not come twice. */
static void test_a_unchanged(void **state)
{
        static struct world w;
        struct asker a;
        cached_reply *r;
        cached_lease *l;

        world_start(&w, SEALS);
        start(&a, w.c, "k", NULL);
        until(leases_waiting, &w.s, 1);
        give(&w.d, "k", NULL, 0);
        pthread_join(a.thread, NULL);
        assert_int_equal(cached_get_or_lease(w.c, "t", "k", 1, NULL, &r, &l), CACHED_OK);
        assert_int_equal(atomic_load(&w.s.n_unchanged), 1);
        assert_ptr_equal(cached_reply_value(r, NULL), cached_reply_value(a.r, NULL));
        cached_reply_free(a.r);
        assert_memory_equal(cached_reply_value(r, NULL), w.bytes, LARGE);
        cached_reply_free(r);
        assert_int_equal(atomic_load(&w.s.n_files), 1);
        world_stop(&w);
}

/* ----------------------------------------------------------------------------- what goes wrong */

static int stop(void *data, const cached_lease *l)
{
        return atomic_fetch_add((atomic_uint *)data, 1) > 1;
}

/* What comes for who has given up goes back, and the others' is theirs. */
static void test_b_given_up(void **state)
{
        static struct world w;
        cached_lease_options *o = cached_lease_options_new();
        atomic_uint n_calls = 0;
        struct asker gone, stays;

        world_start(&w, SEALS);
        assert_int_equal(cached_lease_options_set_waiting(o, stop, &n_calls, 1), CACHED_OK);
        start(&stays, w.c, "s", NULL);
        until(leases_waiting, &w.s, 1);
        start(&gone, w.c, "k", o);
        pthread_join(gone.thread, NULL);
        assert_int_equal(gone.code, CACHED_NOT_FOUND);
        cached_reply_free(gone.r);
        until(leases_waiting, &w.s, 2);
        give(&w.d, "k", NULL, 0);
        until(views_out, &w.s, 0);
        assert_int_equal(atomic_load(&w.s.n_files), 1);
        assert_int_equal(atomic_load(&w.s.n_releases), 1);
        give(&w.d, "s", "small", 5);
        finish(&stays, "small", 5);
        cached_lease_options_free(o);
        world_stop(&w);
}

/* No room in the table of descriptors: then the bytes come, another way. */
static void test_b_without_descriptors(void **state)
{
        static struct world w;
        struct rlimit old, none;
        struct asker a, b;

        world_start(&w, SEALS);
        start(&a, w.c, "k", NULL);
        start(&b, w.c, "s", NULL);
        until(leases_waiting, &w.s, 2);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        none = (struct rlimit){3, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        give(&w.d, "k", NULL, 0);
        pthread_join(a.thread, NULL);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(a.code, CACHED_OK);
        assert_memory_equal(cached_reply_value(a.r, NULL), w.bytes, LARGE);
        assert_int_equal(atomic_load(&w.s.store.n_gets), 1);
        cached_reply_free(a.r);
        give(&w.d, "s", "small", 5);
        finish(&b, "small", 5);
        world_stop(&w);
}

/* The frame with the descriptor ends in its middle, and the connection with it: asked again. */
static void test_b_breaks(void **state)
{
        static struct world w;
        struct asker a;

        world_start(&w, SEALS);
        start(&a, w.c, "k", NULL);
        until(leases_waiting, &w.s, 1);
        w.s.n_cut = 5;
        pthread_mutex_lock(&w.s.store.lock);
        for (int i = 0; i < LEASES_MAX; i++)
                if (w.s.waits[i].id) {
                        assert_true(lease_say_file(&w.d, w.s.waits[i].fd, w.s.waits[i].id));
                        (void)shutdown(w.s.waits[i].fd, SHUT_RDWR);
                        w.s.waits[i].id = 0;
                }
        memset(w.s.views, 0, sizeof(w.s.views)); /* nobody can tell of it */
        w.s.n_cut = 0;
        pthread_mutex_unlock(&w.s.store.lock);
        until(leases_waiting, &w.s, 1);
        give(&w.d, "k", NULL, 0);
        finish(&a, w.bytes, LARGE);
        world_stop(&w);
}

static void wrong(bool no_file, int seals, const char *error)
{
        static struct world w;
        struct asker a;

        world_start(&w, seals);
        w.s.no_file = no_file;
        start(&a, w.c, "k", NULL);
        until(leases_waiting, &w.s, 1);
        give(&w.d, "k", NULL, 0);
        pthread_join(a.thread, NULL);
        assert_int_equal(a.code, CACHED_ERR_BAD_REPLY);
        assert_string_equal(cached_reply_error(a.r), error);
        cached_reply_free(a.r);
        if (no_file)
                memset(w.s.views, 0, sizeof(w.s.views));
        world_stop(&w);
}

static void test_b_wrong(void **state)
{
        wrong(true, SEALS, "the daemon's reply is to have a memory file, or none, and has not");
        wrong(false, F_SEAL_SHRINK, "the daemon sent a descriptor that is no sealed memory file");
}

/* A child that is forked when its parent's file has come, to a thread that reads for it: the file
 * is the parent's. */
struct forking {
        struct world *w;
        const struct asker *reader;
        unsigned n_calls;
        pid_t pid;
};

static int give_and_fork(void *data, const cached_lease *l)
{
        struct forking *f = data;
        uint64_t end = now_ms() + PATIENCE_MS;

        if (f->n_calls++ != 1)
                return 0;
        give(&f->w->d, "k", NULL, 0);
        while (!atomic_load(&f->reader->is_done)) {
                assert_true(now_ms() < end);
                usleep(1000);
        }
        f->pid = fork();
        return 0;
}

static void test_c_fork(void **state)
{
        static struct world w;
        cached_lease_options *o = cached_lease_options_new();
        struct forking f = {.w = &w};
        struct asker reader;
        cached_reply *r;
        cached_lease *l;
        int code, status;

        world_start(&w, SEALS);
        assert_int_equal(cached_lease_options_set_waiting(o, give_and_fork, &f, 1), CACHED_OK);
        f.reader = &reader;
        start(&reader, w.c, "k", NULL);
        until(leases_waiting, &w.s, 1);
        code = cached_get_or_lease(w.c, "t", "k", 1, o, &r, &l);
        if (f.pid == 0) {
                size_t n = 0;
                bool is = code == CACHED_OK && cached_reply_value(r, &n) && n == LARGE &&
                          !memcmp(cached_reply_value(r, NULL), w.bytes, LARGE);

                cached_reply_free(r);
                cached_free(w.c);
                _exit(is ? 0 : 1);
        }
        assert_int_equal(waitpid(f.pid, &status, 0), f.pid);
        assert_int_equal(status, 0);
        /* It asked for itself, and has told of nothing. */
        assert_int_equal(atomic_load(&w.s.store.n_gets), 1);
        assert_int_equal(atomic_load(&w.s.n_releases), 0);
        assert_int_equal(code, CACHED_OK);
        assert_memory_equal(cached_reply_value(r, NULL), w.bytes, LARGE);
        cached_reply_free(r);
        finish(&reader, w.bytes, LARGE);
        cached_lease_options_free(o);
        world_stop(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_many, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_buffer_under_a_lease, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_unchanged, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_given_up, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_without_descriptors, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_breaks, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_wrong, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_fork, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
