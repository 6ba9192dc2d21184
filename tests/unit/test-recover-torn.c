/* SPDX-License-Identifier: MIT */
/*
 * Taking over from a process that died in the middle of a change
 *
 * Each kind of change is done by a child on copies of the store's files, and the child dies before
 * its k-th store into them, for many k; or it does random operations and is killed at a random
 * moment. Then: what the change does not concern is there, in the same order of use; what it
 * concerns is as before, as after, or gone; the store is consistent, and goes on beside a model.
 *
 * CACHED_LONG=1: a thousand deaths of each kind.
 */

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store-check.h"
#include "store-copy.h"
#include "store-look.h"
#include "store-world.h"
#include "store/internal.h"
#include "store/recover.h"
#include "torn-caches.h"
#include "torn-tags.h"
#include "torn.h"

#define NOW          UINT64_C(100000)
#define SHORT_CHANGE 32u /* stores */

/* What was freed need not be kept for long: forking is the longer the more memory there is. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
        return "quarantine_size_mb=2";
}

static bool is_long(void)
{
        return getenv("CACHED_LONG") != NULL;
}

/* ---- taking over from a child */

/* In a child: the store lies in the copies from now on. */
static void live_in(const struct store *s, const struct store_copies *c)
{
        const struct memfile *m[] = {&s->a.mem, &s->a.table};
        const int fds[] = {c->arena, c->table};

        for (unsigned i = 0; i < 2; i++)
                if (mmap(m[i]->base, m[i]->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                         fds[i], 0) == MAP_FAILED ||
                    dup2(fds[i], m[i]->fd) < 0)
                        _exit(99);
}

/* Made before the process forks: whoever gives descriptors back has it. */
static struct large *spare_large;

/* Takes the copies over; the original's large values are given along. */
static struct store *adopt(struct world *w, const struct store *original,
                           const struct store_copies *c, struct store_adopted *report)
{
        struct store_params p = world_store_params(w);
        struct store_files f = {.arena = c->arena, .table = c->table};
        struct store *s = NULL;
        uint32_t cursor = 0;
        int large[64], fd;

        f.large = large;
        if (spare_large)
                large[f.n_large++] = dup(spare_large->fd);
        while ((fd = store_large_next(original, &cursor)) >= 0)
                large[f.n_large++] = dup(fd);
        assert_int_equal(store_adopt(&p, &f, w->now, &s, report), 0);
        return s;
}

/* ---- before, after, and what was found */

/* Everything but the stamp. */
static bool is_same(const struct seen_entry *a, const struct seen_entry *b)
{
        struct seen_entry x = *a, y = *b;

        x.stamp = y.stamp = 0;
        return memcmp(&x, &y, sizeof(x)) == 0;
}

/* The next one from i on that is the same before, after and now. */
static size_t next_untouched(const struct seen *v, size_t i, const struct seen_sorted *one,
                             const struct seen_sorted *other)
{
        for (; i < v->n; i++) {
                const struct seen_entry *a = seen_find(one, &v->e[i]),
                                        *b = seen_find(other, &v->e[i]);

                if (a && b && is_same(&v->e[i], a) && is_same(a, b))
                        break;
        }
        return i;
}

/* The order of what is untouched, but for one that was used. */
static void check_order(const struct seen *before, const struct seen *after,
                        const struct seen *found, const struct seen_sorted *b,
                        const struct seen_sorted *a, const struct seen_sorted *f)
{
        const struct seen_entry *used = NULL;
        size_t i = 0, j = 0;

        for (;; i++, j++) { /* the one whose place before and after differs */
                i = next_untouched(before, i, a, f);
                j = next_untouched(after, j, b, f);
                if (i == before->n || j == after->n)
                        break;
                if (!is_same(&before->e[i], &after->e[j])) {
                        used = &before->e[i];
                        break;
                }
        }
        for (i = j = 0;; i++, j++) {
                i = next_untouched(before, i, a, f);
                if (i < before->n && used && is_same(&before->e[i], used))
                        i = next_untouched(before, i + 1, a, f);
                j = next_untouched(found, j, b, a);
                if (j < found->n && used && is_same(&found->e[j], used))
                        j = next_untouched(found, j + 1, b, a);
                assert_true((i == before->n) == (j == found->n));
                if (i == before->n)
                        return;
                assert_true(is_same(&before->e[i], &found->e[j]));
        }
}

static void check_found(const struct seen *before, const struct seen *after,
                        const struct seen *found)
{
        struct seen_sorted b = seen_sort(before), a = seen_sort(after), f = seen_sort(found);

        for (size_t i = 0; i < found->n; i++) {
                const struct seen_entry *x = seen_find(&b, &found->e[i]),
                                        *y = seen_find(&a, &found->e[i]);

                assert_true((x && is_same(x, &found->e[i])) || (y && is_same(y, &found->e[i])));
        }
        for (size_t i = 0; i < before->n; i++) {
                const struct seen_entry *y = seen_find(&a, &before->e[i]);

                if (y && is_same(y, &before->e[i]))
                        assert_non_null(seen_find(&f, y));
        }
        check_order(before, after, found, &b, &a, &f);
        free(b.e);
        free(a.e);
        free(f.e);
}

/* A mapped reader that looks before somebody takes over, and afterwards by the same mapping. */
struct onlooker {
        struct store_look look;
        struct store *names; /* it has all caches */
        struct seen_sorted before, after;
};

static void onlooker_init(struct onlooker *o, const struct store_copies *c, struct store *names,
                          uint64_t now, const struct seen *before, const struct seen *after)
{
        store_look_init(&o->look, c->arena);
        o->names = names;
        o->before = seen_sort(before);
        o->after = seen_sort(after);
        store_look_torn(&o->look, names, now, &o->before, &o->after);
}

static void onlooker_done(struct onlooker *o, uint64_t now, const struct seen *found)
{
        struct seen_sorted f = seen_sort(found);

        store_look_whole(&o->look, o->names, now, &f, &o->before);
        store_look_whole(&o->look, o->names, now, &f, &o->after);
        store_look_done(&o->look);
        free(f.e);
        free(o->before.e);
        free(o->after.e);
}

static void check_policies(struct store *before, struct store *after, struct store *found)
{
        for (uint32_t c = 1; c <= store_n_caches(before); c++) {
                struct store_cache_info b, a, f;

                bool was = store_cache_info(before, c, &b) == 0;
                bool will = store_cache_info(after, c, &a) == 0;

                if (!was || !will) { /* it was removed, or made where another one was */
                        if (store_cache_info(found, c, &f) == 0)
                                assert_string_equal(f.name, was ? b.name : a.name);
                        continue;
                }
                assert_int_equal(store_cache_info(found, c, &f), 0);
                assert_string_equal(f.name, b.name);
                if (memcmp(&f.policy, &b.policy, sizeof(f.policy)) != 0) {
                        assert_memory_equal(&f.policy, &a.policy, sizeof(f.policy));
                        assert_memory_equal(&f.opened, &a.opened, sizeof(f.opened));
                        assert_true(f.pinned == a.pinned);
                }
        }
}

/* A store that was taken over goes on: every reply as the model says. */
static void go_on(struct world *from, struct store *s, unsigned n_ops)
{
        struct world w = *from;
        uint64_t n;

        w.s = s;
        w.m = malloc(sizeof(*w.m));
        *w.m = *from->m;
        s->p.ctx = &w;
        /* The model knows of no others. */
        for (uint32_t c = MODEL_CACHES + 1; c <= store_n_caches(s); c++)
                (void)store_clear(s, c, w.now, &n);
        while (store_maintain(s, w.now, 1000)) /* what was cleared is counted when it is gone */
                ;
        world_model_of(&w);
        for (unsigned i = 0; i < n_ops; i++)
                world_step(&w);
        if (n_ops > 0)
                world_settle(&w);
        store_check(s);
        free(w.m);
}

/* ---- the changes */

struct change {
        const char *name;
        void (*prepare)(struct world *w);
        void (*run)(struct world *w);
        bool removes; /* a cache */
};

static void put(struct world *w, uint32_t cache, unsigned n, uint64_t size, uint64_t ttl,
                struct large *large)
{
        uint8_t key[16];
        struct store_put p = {.cache = cache,
                              .key = key,
                              .n_key = (size_t)snprintf((char *)key, sizeof(key), "key%u", n),
                              .value = w->buf,
                              .n_value = size,
                              .large = large,
                              .ttl_ms = ttl,
                              .flags = n % 3,
                              .cost_us = n % 5,
                              .uid = 1000 + n % 3};
        struct store_refusal why;
        struct store_entry e;

        world_fill(w->buf, size, n * 31 + (uint32_t)size);
        assert_int_equal(store_put(w->s, &p, w->now, &e, &why), 0);
}

static void delete (struct world *w, uint32_t cache, unsigned n)
{
        char key[16];

        (void)store_delete(w->s, cache, key, (size_t)snprintf(key, sizeof(key), "key%u", n),
                           w->now);
}

static struct large *make_large(uint64_t n)
{
        struct large *l = NULL;

        assert_int_equal(large_new(n, &l), 0);
        world_fill(l->map, n, 9);
        assert_int_equal(large_seal(l), 0);
        return l;
}

static void nothing(struct world *w)
{
        (void)w;
}

static void put_new(struct world *w)
{
        put(w, 1, 9001, 120, STORE_NEVER, NULL);
}

static void put_new_with_ttl(struct world *w)
{
        put(w, 1, 9002, 90, 5000, NULL);
}

static void replace(struct world *w)
{
        put(w, 1, 11, 77, 4000, NULL);
}

static void use(struct world *w)
{
        struct store_entry e;

        assert_int_equal(store_get(w->s, 1, "key17", 5, w->now, true, &e), 0);
}

static void new_deadline(struct world *w)
{
        struct store_entry e;

        assert_int_equal(store_touch(w->s, 1, "key18", 5, UINT64_C(1) << 35, w->now, &e), 0);
}

static void new_moments(struct world *w)
{
        struct store_entry e;

        assert_int_equal(store_touch(w->s, 4, "key8", 4, UINT64_C(1) << 35, w->now, &e), 0);
        assert_true(e.fresh.fresh == w->now + (UINT64_C(1) << 35) && e.deadline > e.fresh.serve);
}

static void no_moments(struct world *w)
{
        struct store_entry e;

        assert_int_equal(store_touch(w->s, 4, "key9", 4, STORE_NEVER, w->now, &e), 0);
}

static void begin_refresh(struct world *w)
{
        uint64_t version;

        assert_int_equal(store_refresh_begin(w->s, 4, "key10", 5, w->now, &version), 0);
}

static void fail_to_refresh(struct world *w)
{
        struct store_entry e;

        assert_int_equal(store_get(w->s, 4, "key10", 5, w->now, false, &e), 0);
        assert_true(e.fresh.refresh == STORE_NEVER && e.fresh.serve < e.deadline);
        assert_int_equal(store_refresh_end(w->s, 4, "key10", 5, e.version, w->now + 77777, true),
                         0);
}

static void delete_one(struct world *w)
{
        delete (w, 1, 19);
}

static void clear_many(struct world *w)
{
        uint64_t n;

        assert_int_equal(store_clear(w->s, 1, w->now, &n), 0);
        assert_true(n > 64);
}

static void clear_few(struct world *w)
{
        uint64_t n;

        assert_int_equal(store_clear(w->s, 2, w->now, &n), 0);
        assert_true(n > 0 && n < 64);
}

static void set_policy(struct world *w)
{
        const struct store_policy p = {12345, 1000000, 777777777, 5, 6, 7, 8},
                                  o = {54321, 2000000, 888888888, 50, 60, 70, 80};

        store_cache_set_policy(w->s, 1, &o, &p, true, w->now);
}

static void make_cache(struct world *w)
{
        uint32_t id;

        assert_int_equal(store_cache_create(w->s, "another", 7, &id), 0);
        put(w, id, 5, 50, STORE_NEVER, NULL);
}

static void limit_entries(struct world *w)
{
        const struct store_policy p = {.ttl_ms = STORE_NEVER,
                                       .max_entries = 30,
                                       .max_bytes = STORE_UNLIMITED};

        store_cache_set_policy(w->s, 2, &p, &p, false, w->now);
}

static void put_and_evict(struct world *w)
{
        for (unsigned i = 0; i < 25; i++)
                put(w, 2, 100 + i, 30, STORE_NEVER, NULL);
}

static void prepare_large(struct world *w)
{
        (void)w;
        spare_large = make_large(25000);
}

static void put_large(struct world *w)
{
        put(w, 3, 77, 0, STORE_NEVER, spare_large);
}

static void replace_large(struct world *w)
{
        put(w, 3, 1, 0, STORE_NEVER, spare_large);
}

static void delete_large(struct world *w)
{
        delete (w, 3, 1);
}

static void replace_large_by_small(struct world *w)
{
        put(w, 3, 2, 400, STORE_NEVER, NULL);
}

static void put_extent(struct world *w)
{
        put(w, 4, 310, 6500, 9000, NULL);
}

static void replace_extent(struct world *w)
{
        put(w, 4, 301, 6100, STORE_NEVER, NULL);
}

static void delete_extent(struct world *w)
{
        delete (w, 4, 302);
}

static void grow(struct world *w)
{
        for (unsigned i = 0; i < 40; i++)
                put(w, 4, 5000 + i, 40, STORE_NEVER, NULL);
}

static void delete_most(struct world *w)
{
        for (unsigned i = 0; i < 800; i++)
                if (i % 8 != 3)
                        delete (w, 1, i);
}

static void shrink(struct world *w)
{
        for (unsigned i = 0; i < 40; i++)
                (void)index_shrink(w->s);
}

static void give_memory_back(struct world *w)
{
        (void)store_maintain(w->s, w->now, 150);
}

static void clear_first(struct world *w)
{
        clear_many(w);
}

static void expire(struct world *w)
{
        w->now += 1000000;
        (void)store_maintain(w->s, w->now, 60);
}

static const struct change changes[] = {
        {"a new key", nothing, put_new, false},
        {"a new key that expires", nothing, put_new_with_ttl, false},
        {"another value", nothing, replace, false},
        {"a look-up", nothing, use, false},
        {"another deadline", nothing, new_deadline, false},
        {"other moments", nothing, new_moments, false},
        {"moments that never come", nothing, no_moments, false},
        {"a value that is computed anew", nothing, begin_refresh, false},
        {"a computation that failed", begin_refresh, fail_to_refresh, false},
        {"a deletion", nothing, delete_one, false},
        {"clearing a large cache", nothing, clear_many, false},
        {"clearing a small cache", nothing, clear_few, false},
        {"another policy", nothing, set_policy, false},
        {"a new cache", nothing, make_cache, false},
        {"a cache that is removed", torn_make_cache, torn_remove_cache, true},
        {"reclaiming what was removed", torn_make_and_remove, give_memory_back, false},
        {"a new cache where one was removed", torn_remove_and_reclaim, torn_make_again, false},
        {"evictions", limit_entries, put_and_evict, false},
        {"a large value", prepare_large, put_large, false},
        {"a large value for another", prepare_large, replace_large, false},
        {"a large value that goes", nothing, delete_large, false},
        {"a small value for a large one", nothing, replace_large_by_small, false},
        {"a value in an extent", nothing, put_extent, false},
        {"another value in an extent", nothing, replace_extent, false},
        {"an extent that becomes free", nothing, delete_extent, false},
        {"growth", nothing, grow, false},
        {"shrinking", delete_most, shrink, false},
        {"memory that goes back", delete_most, give_memory_back, false},
        {"reclaiming what was cleared", clear_first, give_memory_back, false},
        {"expiry", nothing, expire, false},
        {"new keys with tags", torn_tag_many, torn_put_with_tags, false},
        {"other tags", torn_tag_many, torn_other_tags, false},
        {"clearing a tag", torn_tag_many, torn_clear_tag_of_many, false},
        {"clearing a tag of few", torn_tag_many, torn_clear_small_tag, false},
        {"reclaiming what was cleared by tag", torn_tag_and_clear, give_memory_back, false},
        {"what led to variants is deleted", torn_tag_many, torn_delete_node, false},
        {"what led to variants is replaced", torn_tag_many, torn_another_node, false},
};

static void base_world(struct world *w)
{
        const struct world_params p = {.n_keys = 400,
                                       .value_max = 2000,
                                       .budget = UINT64_C(1) << 30,
                                       .uid_share = STORE_UNLIMITED,
                                       .global = STORE_UNLIMITED,
                                       .arena_size = UINT64_C(256) << 20};
        const struct store_policy windows = {.ttl_ms = STORE_NEVER,
                                             .max_entries = STORE_UNLIMITED,
                                             .max_bytes = STORE_UNLIMITED,
                                             .stale_for_ms = 1000,
                                             .stale_if_error_ms = UINT64_C(1) << 33,
                                             .refresh_ahead = 500};

        world_init(w, &p);
        w->now = NOW;
        for (unsigned i = 0; i < 800; i++)
                put(w, 1, i, 100 + i % 7 * 600, i % 3 ? STORE_NEVER : 1000 + i, NULL);
        for (unsigned i = 0; i < 30; i++)
                put(w, 2, i, 100, STORE_NEVER, NULL);
        for (unsigned i = 0; i < 3; i++) {
                struct large *l = make_large(21000 + i * 5000);

                put(w, 3, i, 0, i ? STORE_NEVER : 7000, l);
                large_unref(l);
        }
        store_cache_set_policy(w->s, 4, &windows, &windows, false, w->now);
        w->m->policy[4] = windows;
        for (unsigned i = 0; i < 100; i++)
                put(w, 4, i, 20, 100000 + i, NULL);
        for (unsigned i = 0; i < 3; i++)
                put(w, 4, 300 + i, 6000 + i * 4000, i ? STORE_NEVER : 7000, NULL);
        for (unsigned i = 0; i < 800; i += 5)
                delete (w, 1, i);
        while (store_maintain(w->s, w->now, 100))
                ;
}

struct child {
        struct world *w;
        const struct change *change;
};

static void run_change(void *ctx)
{
        const struct child *c = ctx;

        c->change->run(c->w);
}

/* The change in a child, on copies. Returns how many stores were made, if the child was not killed.
 */
static unsigned long die_at(struct world *w, const struct change *change, unsigned long at,
                            struct store_copies *ret)
{
        unsigned long *shared =
                mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        const struct torn_range ranges[] = {{w->s->a.mem.base, w->s->a.mem.size},
                                            {w->s->a.table.base, w->s->a.table.size}};
        struct child child = {w, change};
        unsigned long count;
        int status;
        pid_t pid;

        store_copies_init(ret, w->s);
        pid = fork();
        if (pid == 0) {
                live_in(w->s, ret);
                *shared = torn_run(ranges, 2, at, run_change, &child);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
        count = WIFEXITED(status) ? *shared : 0;
        munmap(shared, 4096);
        return count;
}

struct tally {
        unsigned long deaths, seen[INTENT_POLICY + 1], dropped;
};

static void check_death(struct world *w, const struct change *change, unsigned long at,
                        const struct seen *before, struct store *after_store,
                        const struct seen *after, unsigned n_ops, struct tally *tally)
{
        struct store_adopted report;
        struct store_copies c;
        struct onlooker o;
        struct seen found;
        struct store *s;

        (void)die_at(w, change, at, &c);
        onlooker_init(&o, &c, change->removes ? w->s : after_store, w->now, before, after);
        s = adopt(w, w->s, &c, &report);
        assert_true(report.torn <= INTENT_POLICY);
        tally->deaths++;
        tally->seen[report.torn]++;
        for (unsigned i = 0; i < N_DROPPED; i++) {
                tally->dropped += report.dropped[i];
                assert_true(report.dropped[i] <= (i == DROPPED_TORN));
        }
        assert_int_equal(report.n_caches_lost, 0);
        seen_init(&found, s);
        check_found(before, after, &found);
        onlooker_done(&o, w->now, &found);
        check_policies(w->s, after_store, s);
        seen_done(&found);
        store_check(s);
        go_on(w, s, n_ops);
        store_free(s);
}

static void run_deaths(const struct change *change, struct tally *tally)
{
        unsigned long n, count, wanted = is_long() ? 1000 : 6;
        struct store_adopted report;
        struct store_copies c;
        struct seen before, after;
        struct store *after_store;
        struct world w;

        base_world(&w);
        change->prepare(&w);
        seen_init(&before, w.s);
        n = die_at(&w, change, 0, &c);
        after_store = adopt(&w, w.s, &c, &report);
        seen_init(&after, after_store);
        assert_true(n > 0);
        if (n <= SHORT_CHANGE)
                wanted = n; /* each place */
        count = n < wanted ? n : wanted;
        for (unsigned long i = 0; i < count; i++) {
                /* Each of them, or some from all over, and some from where long values are there.
                 */
                unsigned long at = n <= wanted ? i + 1
                                   : i % 2     ? n - world_random(&w, SHORT_CHANGE)
                                               : 1 + i * n / count + world_random(&w, n / count);

                check_death(&w, change, at, &before, after_store, &after,
                            is_long()     ? 1000
                            : i % 10 == 0 ? 50
                                          : 0,
                            tally);
        }
        if (is_long() || getenv("VERBOSE"))
                printf("%s: %lu stores, %lu deaths\n", change->name, n, count);
        seen_done(&before);
        seen_done(&after);
        store_free(after_store);
        world_done(&w);
        spare_large = large_unref(spare_large);
}

static void test_death_between_two_stores(void **state)
{
        struct tally tally = {0};

        (void)state;
        if (!torn_works())
                skip();
        for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
                run_deaths(&changes[i], &tally);
        for (unsigned i = INTENT_INSERT; is_long() && i <= INTENT_POLICY; i++)
                assert_true(tally.seen[i] > 0);
        if (is_long() || getenv("VERBOSE"))
                for (unsigned i = 0; i <= INTENT_POLICY; i++)
                        printf("intent %u: %lu of %lu deaths\n", i, tally.seen[i], tally.deaths);
}

/* ---- at any moment */

/* Random operations without end; *at: the number of the one that is under way. */
static void run_forever(struct world *w, volatile uint64_t *at)
{
        for (;;) {
                *at = *at + 1;
                world_step(w);
        }
}

/* The original follows the one that was killed: what the operation found, and what it would have
 * left. */
static void follow(struct world *w, uint64_t n, struct seen *before, struct seen *after)
{
        for (uint64_t i = 1; i < n; i++)
                world_step(w);
        seen_init(before, w->s);
        if (n > 0)
                world_step(w);
        seen_init(after, w->s);
}

static void kill_once(struct world *w, unsigned n_ops)
{
        volatile uint64_t *at =
                mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct seen before, after, found;
        struct store_adopted report;
        struct store_copies c;
        struct onlooker o;
        struct store *s;
        int status;
        pid_t pid;

        store_copies_init(&c, w->s);
        pid = fork();
        if (pid == 0) {
                live_in(w->s, &c);
                run_forever(w, at);
        }
        usleep((unsigned)world_random(&(struct world){.rng = (uint64_t)pid * 7919 + 1}, 4000));
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        follow(w, *at, &before, &after);
        onlooker_init(&o, &c, w->s, w->now, &before, &after);
        s = adopt(w, w->s, &c, &report);
        seen_init(&found, s);
        check_found(&before, &after, &found);
        onlooker_done(&o, w->now, &found);
        store_check(s);
        go_on(w, s, n_ops);
        store_free(s);
        seen_done(&before);
        seen_done(&after);
        seen_done(&found);
        munmap((void *)(uintptr_t)at, 4096);
}

static void test_death_at_any_moment(void **state)
{
        const struct world_params p = {.n_keys = 400,
                                       .value_max = 5000,
                                       .budget = 300000,
                                       .uid_share = 250000,
                                       .global = STORE_UNLIMITED,
                                       .arena_size = UINT64_C(256) << 20};
        struct world w;

        (void)state;
        world_init(&w, &p);
        for (unsigned i = 0; i < (is_long() ? 1000u : 20u); i++)
                kill_once(&w, is_long() ? 2000 : 200);
        world_done(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_death_at_any_moment),
                cmocka_unit_test(test_death_between_two_stores),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
