/* SPDX-License-Identifier: MIT */
/*
 * Mapped reads of libcached among threads and across forks: a mapping that is taken away under
 * readers, counts that are exact whoever counted, children that map for themselves, and hits that
 * wait for no daemon.
 */

#include "client-harness.h"

#include <sched.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "map-world.h"

/* Where the parent has what it mapped. */
struct places {
        void *part[MAP_PARTS];
};

static struct places places_of(cached *c)
{
        struct places p;

        memcpy(p.part, c->pool->map.live->part, sizeof(p.part));
        return p;
}

static bool is_there(const struct places *p)
{
        unsigned char resident;

        for (unsigned i = 0; i < MAP_PARTS; i++)
                if (mincore(p->part[i], 4096, &resident) == 0)
                        return true;
        return false;
}

static int child_of(cached *c, const struct places *of_parent)
{
        /* Not the parent's mapping, which is not there; after a call one of its own. */
        if (atomic_load(&c->pool->map.w->current))
                return 8;
        if (is_there(of_parent))
                return 9;
        for (int i = 0; i < 3; i++)
                if (get_is(c, "a", "1", 1) != CACHED_OK)
                        return 10;
        if (cached_set(c, CACHE, "a", 1, "2", 1, NULL, NULL) != CACHED_OK)
                return 11;
        if (get_is(c, "a", "2", 1) != CACHED_OK)
                return 12;
        if (!pool_is_mapped(c->pool))
                return 13;
        if (set(c, "a", "1", 1, 0) != CACHED_OK)
                return 14;
        cached_free(c);
        return 0;
}

static void wait_child(pid_t pid)
{
        int status;

        assert_true(pid > 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_a_child_maps_for_itself(void **state)
{
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        for (int i = 0; i < 5; i++) {
                int n_gets = atomic_load(&w.n_gets);
                struct places places;
                pid_t pid;

                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
                assert_int_equal(atomic_load(&w.n_gets), n_gets);
                places = places_of(c);
                assert_true(is_there(&places));
                pid = fork();
                if (pid == 0)
                        _exit(child_of(c, &places));
                wait_child(pid);
        }
        /* One that only frees, and one that only forks on. */
        {
                struct places places = places_of(c);
                pid_t pid = fork();

                if (pid == 0) {
                        pid_t grandchild = fork();

                        if (grandchild == 0)
                                _exit(child_of(c, &places));
                        wait_child(grandchild);
                        cached_free(c);
                        _exit(0);
                }
                wait_child(pid);
        }
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        cached_free(c);
        world_stop(&d, &w);
}

/* ---- threads */

struct crowd {
        cached *c;
        atomic_bool stop;
        atomic_uint n_hits, n_wrong;
};

static void *crowd_get(void *data)
{
        struct crowd *t = data;
        unsigned i = (unsigned)(uintptr_t)&i / 64;

        while (!atomic_load(&t->stop)) {
                char key[8] = {'k', (char)('0' + i++ % 8)};
                cached_reply *r;
                int code = cached_get(t->c, CACHE, key, 2, &r);
                size_t n = 0;
                const uint8_t *v = cached_reply_value(r, &n);

                if (code != CACHED_OK || n < 1 || v[0] != (uint8_t)key[1] ||
                    v[n - 1] != (uint8_t)key[1])
                        atomic_fetch_add(&t->n_wrong, 1);
                else
                        atomic_fetch_add(&t->n_hits, 1);
                cached_reply_free(r);
        }
        return NULL;
}

static void crowd_run(cached *c, struct world *w, unsigned n_threads)
{
        struct crowd t = {.c = c};
        pthread_t threads[24];
        uint8_t value[1000];
        uint32_t before = atomic_load(&counter_of(w, 1)->hits);

        for (unsigned i = 0; i < n_threads; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, crowd_get, &t), 0);
        for (unsigned i = 0; atomic_load(&t.n_hits) < 20000; i++) {
                char key[3] = {'k', (char)('0' + i % 8), 0};

                memset(value, key[1], sizeof(value));
                assert_int_equal(set(c, key, value, 1 + i * 37 % sizeof(value), 0), CACHED_OK);
        }
        atomic_store(&t.stop, true);
        for (unsigned i = 0; i < n_threads; i++)
                pthread_join(threads[i], NULL);
        assert_int_equal(atomic_load(&t.n_wrong), 0);
        assert_int_equal(atomic_load(&counter_of(w, 1)->hits) - before, atomic_load(&t.n_hits));
}

static void test_many_threads(void **state)
{
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        for (const char *i = "01234567"; *i; i++) {
                char key[3] = {'k', *i, 0};

                assert_int_equal(set(c, key, i, 1, 0), CACHED_OK);
        }
        assert_int_equal(get_is(c, "k1", "1", 1), CACHED_OK);
        world_meet(&w);
        crowd_run(c, &w, 1);
        crowd_run(c, &w, 4);
        /* More than there are lanes. */
        crowd_run(c, &w, 24);
        assert_int_equal(atomic_load(&w.n_gets), 0);
        cached_free(c);
        world_stop(&d, &w);
}

/* The mapping is taken away and replaced under readers, again and again; in the end it is closed.
 */
static void test_threads_while_mappings_change(void **state)
{
        struct crowd t = {0};
        pthread_t threads[6];
        struct fake d;
        struct world w;

        world_start(&d, &w);
        t.c = mapped_new(&d, 1);
        for (const char *i = "01234567"; *i; i++) {
                char key[3] = {'k', *i, 0};

                assert_int_equal(set(t.c, key, i, 1, 0), CACHED_OK);
        }
        for (unsigned i = 0; i < 6; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, crowd_get, &t), 0);
        for (int i = 0; i < 50; i++) {
                unsigned n = atomic_load(&t.n_hits);
                const struct mapping *mp;

                pool_lock(t.c->pool);
                mp = t.c->pool->map.live;
                pool_unlock(t.c->pool);
                pool_end_mapping(t.c->pool, mp);
                assert_int_equal(cached_ping(t.c, NULL), CACHED_OK);
                while (atomic_load(&t.n_hits) < n + 50)
                        sched_yield();
        }
        assert_true(atomic_load(&w.n_maps) > 10);
        atomic_store(&t.stop, true);
        for (unsigned i = 0; i < 6; i++)
                pthread_join(threads[i], NULL);
        assert_int_equal(atomic_load(&t.n_wrong), 0);
        cached_close(t.c);
        assert_int_equal(cached_get(t.c, CACHE, "k1", 2, NULL), CACHED_ERR_CLOSED);
        cached_free(t.c);
        world_stop(&d, &w);
}

/* What a service manager does while a daemon starts again: it listens, and nobody greets. Hits do
 * not wait for that, and neither do they make calls fail once there is a daemon. */
static void test_hits_while_a_daemon_starts(void **state)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        struct fake d;
        struct world w;
        uint64_t begin;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        parallel_stop(&d, &w.parallel);
        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", d.path);
        assert_int_equal(mkdir(d.dir, 0700), 0);
        d.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(d.listener, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(d.listener, 64), 0);
        begin = now_ms();
        for (int i = 0; i < 20000; i++)
                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_in_range(now_ms() - begin, 0, PATIENCE_MS / 8);
        /* One connection waits for the greeting; the handle does not count the daemon as silent. */
        assert_non_null(c->pool->slots[0].conn);
        assert_false(c->pool->slots[0].greeted);
        assert_int_equal(c->pool->backoff.n_failures, 0);
        cached_free(c);
        (void)close(d.listener);
        d.serve = NULL;
        w.parallel.n = 0;
        assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, d.stop) == 0);
        d.listener = dup(d.stop[0]);
        world_stop(&d, &w);
}

struct breaker {
        int fd;
};

static void *break_soon(void *arg)
{
        const struct breaker *b = arg;

        (void)nanosleep(&(struct timespec){0, 3000000}, NULL);
        (void)shutdown(b->fd, SHUT_RDWR);
        return NULL;
}

/* Milliseconds until hits that have no room for their uses know that nobody drains the ring. */
static uint64_t until_orphan(cached *c)
{
        struct breaker b = {c->pool->map.conn->fd};
        uint64_t begin = now_ms(), took;
        pthread_t thread;

        assert_int_equal(pthread_create(&thread, NULL, break_soon, &b), 0);
        do {
                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
                took = now_ms() - begin;
        } while (!atomic_load(&c->pool->map.live->is_orphan) && took < PATIENCE_MS);
        pthread_join(thread, NULL);
        return took;
}

/* A hit that waits for the daemon to make room sees that it has died. The quickest of some: others
 * may have the processors. */
static void test_a_wait_for_room_ends_with_the_daemon(void **state)
{
        uint64_t quickest = UINT64_MAX;
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        for (int i = 0; i < 10; i++) {
                uint64_t took;

                assert_int_equal(cached_ping(c, NULL), CACHED_OK);
                pthread_mutex_lock(&w.lock); /* it drains nothing */
                took = until_orphan(c);
                pthread_mutex_unlock(&w.lock);
                quickest = took < quickest ? took : quickest;
        }
        assert_in_range(quickest, 0, 40);
        cached_free(c);
        world_stop(&d, &w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_child_maps_for_itself, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_threads, setup, teardown),
                cmocka_unit_test_setup_teardown(test_threads_while_mappings_change, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_hits_while_a_daemon_starts, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_wait_for_room_ends_with_the_daemon, setup,
                                                teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
