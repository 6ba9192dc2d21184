/* SPDX-License-Identifier: MIT */
/*
 * Taking a store over where memory is short
 *
 * Each allocation of a takeover fails in turn, then each of its mappings, then each stretch of a
 * file that is made resident. What comes of it is an error with nothing left over, of which readers
 * of the arena are told, or the whole store. Once more for the stretches where no thread can be had
 * that maps ahead.
 *
 * The linker sends what the store allocates through here.
 */

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/layout.h"
#include "store-check.h"
#include "store-copy.h"
#include "store-world.h"
#include "store/internal.h"
#include "store/recover.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);
int __real_madvise(void *at, size_t n, int advice);
int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);
int __wrap_madvise(void *at, size_t n, int advice);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg);

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif

enum what { ALLOCATION, MAPPING, COMMITMENT };

static enum what failing;
static unsigned fail_in; /* 0: never; n: the n-th of its kind from now fails */
static bool failed;
static pthread_mutex_t fail_lock = PTHREAD_MUTEX_INITIALIZER; /* a thread maps ahead */
static bool without_threads;
static unsigned n_threads;
static bool is_astray; /* see lead_astray() */

static bool fail_now(enum what what)
{
        bool now;

        pthread_mutex_lock(&fail_lock);
        now = what == failing && fail_in > 0 && --fail_in == 0;
        failed |= now;
        pthread_mutex_unlock(&fail_lock);
        if (now)
                errno = ENOMEM;
        return now;
}

void *__wrap_malloc(size_t n)
{
        return fail_now(ALLOCATION) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
        return fail_now(ALLOCATION) ? NULL : __real_calloc(n, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
        return fail_now(ALLOCATION) ? NULL : __real_reallocarray(p, n, size);
}

void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
        return fail_now(MAPPING) ? MAP_FAILED : __real_mmap64(at, n, prot, flags, fd, off);
}

int __wrap_madvise(void *at, size_t n, int advice)
{
        if ((advice == MADV_POPULATE_READ || advice == MADV_POPULATE_WRITE) && fail_now(COMMITMENT))
                return -1;
        return __real_madvise(at, n, advice);
}

int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*run)(void *), void *arg)
{
        if (without_threads)
                return EAGAIN;
        n_threads++;
        return __real_pthread_create(t, a, run, arg);
}

/* ---- the store that is taken over */

static void world_begin(struct world *w)
{
        const struct world_params p = {.n_keys = 400,
                                       .value_max = WORLD_VALUE_MAX,
                                       .budget = 600000,
                                       .uid_share = STORE_UNLIMITED,
                                       .global = STORE_UNLIMITED,
                                       .arena_size = UINT64_C(256) << 20};

        world_init(w, &p);
        for (w->op = 0; w->op < 3000; w->op++)
                world_step(w);
}

static unsigned count_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        unsigned n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static bool is_retired(int arena)
{
        uint32_t word = 0;

        assert_int_equal(pread(arena, &word, 4, offsetof(struct arena_header, retired)), 4);
        return word != 0;
}

/* The large values' files are the original's. */
static void copies_of(const struct store *original, struct store_files *f, int large[64])
{
        struct store_copies c;
        uint32_t cursor = 0;
        int fd;

        store_copies_init(&c, original);
        *f = (struct store_files){.arena = c.arena, .table = c.table, .large = large};
        while (f->n_large < 64 && (fd = store_large_next(original, &cursor)) >= 0)
                large[f->n_large++] = dup(fd);
}

/* In the copy, some bucket names with an entry's tag, before it, a block of the last span: who
 * looks for the one meets the other, in a span whose turn has not come. */
static void lead_astray(int arena, const struct store *original)
{
        const struct arena_header *h = original->a.h;
        uint8_t *base = mmap(NULL, h->size, PROT_READ | PROT_WRITE, MAP_SHARED, arena, 0);
        struct arena_bucket *b;
        uint32_t last = ARENA_NONE;
        unsigned to = 1;

        assert_true(base != MAP_FAILED);
        b = (struct arena_bucket *)(void *)(base + h->index_off);
        for (uint64_t n = 0; n < h->n_buckets; n++)
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                        last = b[n].handle[i] > last ? b[n].handle[i] : last;
        while (b->handle[0] == ARENA_NONE || handle_span(b->handle[0]) == handle_span(last))
                b++;
        while (b->handle[to] != ARENA_NONE)
                to++;
        assert_in_range(to, 1, ARENA_BUCKET_SLOTS - 1);
        b->tag[to] = b->tag[0];
        b->handle[to] = b->handle[0];
        b->handle[0] = last;
        munmap(base, h->size);
}

static void check_whole(struct store *original, struct store *s)
{
        struct seen before, now;

        seen_init(&before, original);
        seen_init(&now, s);
        assert_int_equal(before.n, now.n);
        for (size_t i = 0; i < now.n; i++) {
                before.e[i].stamp = now.e[i].stamp = 0; /* given out anew, in the same order */
                assert_memory_equal(&before.e[i], &now.e[i], sizeof(now.e[i]));
        }
        seen_done(&before);
        seen_done(&now);
        store_check(s);
}

/* Whether there was something that could fail. */
static bool adopt_failing(struct world *w, enum what what, unsigned at)
{
        struct store_params p = world_store_params(w);
        struct store_adopted report;
        unsigned n_fds = count_fds();
        struct store *s = NULL;
        struct store_files f;
        int large[64], r, arena;

        copies_of(w->s, &f, large);
        assert_true(f.n_large > 0);
        arena = dup(f.arena);
        if (is_astray)
                lead_astray(arena, w->s);
        failing = what;
        failed = false;
        fail_in = at;
        r = store_adopt(&p, &f, w->now, &s, &report);
        fail_in = 0;
        if (r == 0) {
                check_whole(w->s, s);
                assert_false(is_retired(arena));
                assert_false(failed && without_threads); /* which try again */
                store_leave(s);
        } else {
                assert_true(failed);
                assert_null(s);
                assert_true(r == -ENOMEM || (r == STORE_E_REFUSED && report.detail));
                assert_true(report.retired == is_retired(arena));
                if (what == ALLOCATION && at > 2) /* after those of its own two structs */
                        assert_true(report.retired);
        }
        close(arena);
        assert_int_equal(count_fds(), n_fds);
        return failed;
}

/* Gives how many there are. */
static unsigned each_fails(enum what what, unsigned least)
{
        struct world w;
        unsigned n = 0;

        world_begin(&w);
        while (adopt_failing(&w, what, n + 1))
                n++;
        assert_in_range(n, least, 10000);
        /* The original has lived through all of it. */
        store_check(w.s);
        world_done(&w);
        return n;
}

static void test_each_allocation(void **state)
{
        (void)state;
        each_fails(ALLOCATION, 8);
}

static void test_each_mapping(void **state)
{
        (void)state;
        each_fails(MAPPING, 4);
}

static void test_each_stretch_that_is_made_resident(void **state)
{
        (void)state;
        n_threads = 0;
        each_fails(COMMITMENT, 12);
        assert_true(n_threads > 0);
}

static void test_each_stretch_without_a_thread(void **state)
{
        unsigned n;

        (void)state;
        n_threads = 0;
        without_threads = true;
        n = each_fails(COMMITMENT, 12);
        is_astray = true;
        each_fails(COMMITMENT, n + 2); /* the block's span and its records, out of turn */
        without_threads = is_astray = false;
        assert_int_equal(n_threads, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_each_allocation),
                cmocka_unit_test(test_each_mapping),
                cmocka_unit_test(test_each_stretch_that_is_made_resident),
                cmocka_unit_test(test_each_stretch_without_a_thread),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
