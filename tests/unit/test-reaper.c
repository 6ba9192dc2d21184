/* SPDX-License-Identifier: MIT */
/*
 * The reaper: what it takes is freed when it is told to, when much waits, when it ends, and at once
 * where little is to be freed, too much waits or no thread can be had. Never twice, and always.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/reaper.h"

#define MIB ((size_t)1 << 20)

static bool no_threads;
static unsigned n_threads;

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
        if (no_threads)
                return EAGAIN;
        n_threads++;
        return __real_pthread_create(t, a, f, arg);
}

static struct reaper *reaper(uint64_t limit)
{
        struct reaper *r = NULL;

        assert_int_equal(reaper_new(&r), 0);
        reaper_set_limit(r, limit);
        return r;
}

/* Numbers above all others, so that nobody gets them meanwhile. */
static int file(void)
{
        static int next = 600;
        int fd = memfd_create("reaper", MFD_CLOEXEC), high;

        assert_true(fd >= 0);
        high = fcntl(fd, F_DUPFD_CLOEXEC, next++);
        assert_true(high >= 0);
        close(fd);
        return high;
}

static bool is_open(int fd)
{
        return fcntl(fd, F_GETFD) >= 0;
}

/* Nothing waits any more. */
static void wait_for(struct reaper *r)
{
        for (int i = 0; reaper_pending(r) > 0; i++) {
                assert_true(i < 20000);
                (void)nanosleep(&(struct timespec){0, 1000000}, NULL);
        }
}

static void test_when_it_is_told_to(void **state)
{
        struct reaper *r = reaper(64 * MIB);
        int fd[3] = {file(), file(), file()};
        void *map = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        (void)state;
        n_threads = 0;
        reaper_kick(r); /* nothing is there */
        reaper_take(r, fd[0], map, MIB);
        reaper_take(r, fd[1], NULL, 2 * MIB);
        assert_int_equal(reaper_pending(r), 3 * MIB);
        assert_true(is_open(fd[0]) && is_open(fd[1]));
        assert_int_equal(n_threads, 0);
        reaper_kick(r);
        wait_for(r);
        assert_false(is_open(fd[0]) || is_open(fd[1]));
        assert_int_equal(msync(map, MIB, MS_ASYNC), -1);
        assert_int_equal(errno, ENOMEM); /* it is not mapped */
        assert_int_equal(n_threads, 1);
        /* The thread is still there, and is woken. */
        reaper_take(r, fd[2], NULL, MIB);
        reaper_kick(r);
        wait_for(r);
        assert_false(is_open(fd[2]));
        assert_int_equal(n_threads, 1);
        assert_null(reaper_free(r));
}

static void test_at_once(void **state)
{
        struct reaper *r = reaper(2 * MIB);
        int little = file(), fits = file(), more = file(), none = file();

        (void)state;
        reaper_take(r, little, NULL, 4096);
        assert_false(is_open(little));
        reaper_take(r, fits, NULL, 2 * MIB);
        reaper_take(r, more, NULL, MIB);
        assert_true(is_open(fits));
        assert_false(is_open(more));
        assert_int_equal(reaper_pending(r), 2 * MIB);
        reaper_take(NULL, none, NULL, 5 * MIB);
        assert_false(is_open(none));
        reaper_free(r);
        assert_false(is_open(fits));
}

/* A loop that has no time does not keep hundreds of megabytes. */
static void test_much_does_not_wait(void **state)
{
        struct reaper *r = reaper(1024 * MIB);
        int fd[3] = {file(), file(), file()};

        (void)state;
        for (int i = 0; i < 3; i++)
                reaper_take(r, fd[i], NULL, 30 * MIB);
        wait_for(r);
        for (int i = 0; i < 3; i++)
                assert_false(is_open(fd[i]));
        reaper_free(r);
}

static void test_when_it_ends(void **state)
{
        (void)state;
        for (int i = 0; i < 100; i++) {
                struct reaper *r = reaper(1024 * MIB);
                int one = file(), two = file();

                reaper_take(r, one, NULL, MIB);
                if (i % 2)
                        reaper_kick(r);
                reaper_take(r, two, NULL, MIB);
                reaper_free(r);
                assert_false(is_open(one) || is_open(two));
        }
        reaper_free(NULL);
}

static void test_without_a_thread(void **state)
{
        struct reaper *r = reaper(1024 * MIB);
        int fd[4] = {file(), file(), file(), file()};

        (void)state;
        no_threads = true;
        reaper_take(r, fd[0], NULL, MIB);
        reaper_take(r, fd[1], NULL, MIB);
        assert_true(is_open(fd[0]));
        reaper_kick(r);
        assert_false(is_open(fd[0]) || is_open(fd[1]));
        assert_int_equal(reaper_pending(r), 0);
        reaper_take(r, fd[2], NULL, MIB);
        no_threads = false;
        reaper_take(r, fd[3], NULL, MIB);
        reaper_kick(r);
        wait_for(r);
        assert_false(is_open(fd[2]) || is_open(fd[3]));
        reaper_take(r, file(), NULL, MIB);
        no_threads = true; /* there is one already, or it is done here */
        reaper_free(r);
        no_threads = false;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_when_it_is_told_to), cmocka_unit_test(test_at_once),
                cmocka_unit_test(test_much_does_not_wait), cmocka_unit_test(test_when_it_ends),
                cmocka_unit_test(test_without_a_thread),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
