/* SPDX-License-Identifier: MIT */
/*
 * Taking a store over: one that was left in order goes on as if nothing had been; what is not
 * whole is dropped and counted; files that do not fit are refused, and their readers are told.
 *
 * Deaths in the middle of a change are in test-recover-torn.c.
 */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/arena-read.h"
#include "store-check.h"
#include "store-world.h"
#include "store/internal.h"
#include "store/recover.h"

/* Duplicates of a store's descriptors, as a successor gets them. */
struct files {
        struct store_files f;
        int large[1024];
};

static void files_of(const struct store *s, struct files *ret)
{
        uint32_t cursor = 0;
        int fd;

        ret->f = (struct store_files){.arena = dup(store_arena_fd(s)),
                                      .table = dup(store_table_fd(s)),
                                      .large = ret->large};
        while ((fd = store_large_next(s, &cursor)) >= 0)
                ret->large[ret->f.n_large++] = dup(fd);
}

/* The store changes hands. */
static void hand_over(struct world *w, struct store_adopted *report)
{
        struct store_params p = world_store_params(w);
        uint64_t entries = store_entries(w->s);
        struct files files;

        files_of(w->s, &files);
        w->s = store_leave(w->s);
        assert_int_equal(store_adopt(&p, &files.f, w->now, &w->s, report), 0);
        assert_int_equal(store_entries(w->s), entries);
        assert_int_equal(report->large_unused, 0);
        for (unsigned i = 0; i < N_DROPPED; i++)
                assert_int_equal(report->dropped[i], 0);
        store_check(w->s);
}

static void run(unsigned n_keys, unsigned value_max, uint64_t budget, uint64_t uid_share)
{
        const struct world_params p = {.n_keys = n_keys,
                                       .value_max = value_max,
                                       .budget = budget,
                                       .uid_share = uid_share,
                                       .global = UINT64_MAX,
                                       .arena_size = UINT64_C(256) << 20};
        struct store_adopted report;
        struct world w;

        world_init(&w, &p);
        for (w.op = 0; w.op < 20000; w.op++) {
                world_step(&w);
                if (w.op % 97 == 0)
                        hand_over(&w, &report);
                if (w.op % 1000 == 999)
                        world_settle(&w);
        }
        world_done(&w);
}

static void test_goes_on_as_if_nothing_had_been(void **state)
{
        (void)state;
        run(400, 200, 100000, UINT64_MAX);
}

static void test_goes_on_with_large_values(void **state)
{
        (void)state;
        run(300, WORLD_VALUE_MAX, 400000, 250000);
}

/* ---- what is refused */

static struct store *make_store(void)
{
        const struct store_params p = {.arena_size = 1,
                                       .budget = 1 << 24,
                                       .uid_share = 1 << 24,
                                       .large_threshold = 20000,
                                       .max_caches = 4,
                                       .max_entries = 1000,
                                       .seed = {5, 6},
                                       .instance = 77,
                                       .boot = {1, 2},
                                       .label = "user-1000"};
        struct store *s = NULL;
        uint32_t id;

        assert_int_equal(store_new(&p, &s), 0);
        assert_int_equal(store_cache_create(s, "c", 1, &id), 0);
        return s;
}

static void put(struct store *s, unsigned n, uint32_t uid, struct large *large)
{
        char key[16];
        struct store_put p = {.cache = 1,
                              .key = key,
                              .n_key = (size_t)snprintf(key, sizeof(key), "k%u", n),
                              .value = "value",
                              .n_value = 5,
                              .large = large,
                              .ttl_ms = 1000 + n,
                              .uid = uid};
        struct store_refusal why;
        struct store_entry e;

        assert_int_equal(store_put(s, &p, 100, &e, &why), 0);
}

static struct large *make_large(void)
{
        struct large *l = NULL;

        assert_int_equal(large_new(30000, &l), 0);
        memset(l->map, 7, 30000);
        assert_int_equal(large_seal(l), 0);
        return l;
}

static int adopt(const struct store_files *f, uint64_t boot, struct store **ret,
                 struct store_adopted *report)
{
        const struct store_params p = {.budget = 1 << 24,
                                       .uid_share = 1 << 24,
                                       .large_threshold = 20000,
                                       .max_caches = 9,
                                       .max_entries = 1000,
                                       .boot = {boot, 2}};

        return store_adopt(&p, f, 100, ret, report);
}

static bool is_retired(int arena)
{
        uint32_t word = 0;

        assert_int_equal(pread(arena, &word, 4, offsetof(struct arena_header, retired)), 4);
        return word != 0;
}

static void assert_refused(struct store *left, const struct files *files, uint64_t boot,
                           enum arena_refused why)
{
        int arena = dup(store_arena_fd(left));
        struct store_adopted report;
        struct store *s = NULL;

        store_leave(left);
        assert_int_equal(adopt(&files->f, boot, &s, &report), STORE_E_REFUSED);
        assert_null(s);
        assert_int_equal(report.refused, why);
        assert_non_null(report.detail);
        assert_true(report.retired && is_retired(arena));
        close(arena);
}

static void write_at(int fd, size_t off, uint32_t word)
{
        assert_int_equal(pwrite(fd, &word, 4, (off_t)off), 4);
}

static void test_another_version_is_refused(void **state)
{
        static const size_t places[] = {offsetof(struct arena_header, layout_version),
                                        offsetof(struct arena_header, feature_bits)};

        (void)state;
        for (unsigned i = 0; i < 4; i++) {
                struct store *s = make_store();
                struct files files;

                files_of(s, &files);
                write_at(i < 2 ? files.f.arena : files.f.table, places[i % 2], 99);
                assert_refused(s, &files, 1, REFUSED_VERSION);
        }
}

static void test_another_boot_is_refused(void **state)
{
        struct store *s = make_store();
        struct files files;

        (void)state;
        files_of(s, &files);
        assert_refused(s, &files, 5, REFUSED_BOOT);
}

static void test_files_that_do_not_belong_together_are_refused(void **state)
{
        struct store *s = make_store(), *other = make_store();
        struct files files;

        (void)state;
        files_of(s, &files);
        close(files.f.table);
        files.f.table = dup(store_table_fd(other));
        assert_refused(s, &files, 1, REFUSED_PAIR);
        store_free(other);
}

static void test_nonsense_in_headers_is_refused(void **state)
{
        (void)state;
        for (size_t off = offsetof(struct arena_header, size); off < 104; off += 4) {
                struct store *s = make_store();
                struct files files;
                uint32_t word;

                if (off >= offsetof(struct arena_header, instance) &&
                    off < offsetof(struct arena_header, cache_dir_off)) {
                        store_free(s); /* any number will do there */
                        continue;
                }
                files_of(s, &files);
                assert_int_equal(pread(files.f.arena, &word, 4, (off_t)off), 4);
                write_at(files.f.arena, off, word ^ 0x10);
                assert_refused(s, &files, 1, REFUSED_BROKEN);
        }
}

static void test_files_of_another_kind_are_refused(void **state)
{
        struct store *s = make_store();
        struct store_adopted report;
        struct store_files f = {.arena = -1, .table = -1};
        int ends[2];

        (void)state;
        assert_int_equal(adopt(&f, 1, &s, &report), STORE_E_REFUSED);
        assert_int_equal(report.refused, REFUSED_FILES);
        assert_int_equal(pipe(ends), 0);
        f = (struct store_files){.arena = ends[0], .table = ends[1]};
        assert_int_equal(adopt(&f, 1, &s, &report), STORE_E_REFUSED);
        assert_int_equal(report.refused, REFUSED_FILES);
        assert_false(report.retired);
        f = (struct store_files){.arena = memfd_create("open", MFD_ALLOW_SEALING),
                                 .table = dup(store_table_fd(s))};
        assert_int_equal(adopt(&f, 1, &s, &report), STORE_E_REFUSED);
        assert_int_equal(report.refused, REFUSED_FILES);
        store_free(s);
}

/* ---- what is dropped */

static void test_a_large_value_is_known_by_its_file(void **state)
{
        struct store *s = make_store();
        struct store_adopted report;
        struct store_entry e;
        struct files files;

        (void)state;
        for (unsigned i = 0; i < 3; i++) {
                struct large *l = make_large();

                put(s, i, 1000, l);
                large_unref(l);
        }
        files_of(s, &files);
        store_leave(s);
        assert_int_equal(files.f.n_large, 3);
        close(files.large[1]); /* one is lost, another one turns up that nobody knows */
        files.large[1] = files.large[0];
        files.large[0] = memfd_create("foreign", MFD_CLOEXEC);
        assert_int_equal(adopt(&files.f, 1, &s, &report), 0);
        assert_int_equal(report.kept, 2);
        assert_int_equal(report.dropped[DROPPED_LARGE], 1);
        assert_int_equal(report.large_unused, 1);
        assert_int_equal(report.large_kept, 2);
        assert_int_equal(store_get(s, 1, "k0", 2, 100, true, &e), 0);
        assert_int_equal(e.n_value, 30000);
        assert_int_equal(e.value[29999], 7);
        assert_int_equal(store_get(s, 1, "k1", 2, 100, true, &e), STORE_E_MISS);
        assert_int_equal(store_get(s, 1, "k2", 2, 100, true, &e), 0);
        store_check(s);
        store_free(s);
}

static void test_entries_of_an_unknown_writer_are_dropped(void **state)
{
        struct store *s = make_store();
        struct store_adopted report;
        struct store_entry e;
        struct files files;

        (void)state;
        put(s, 1, 1000, NULL);
        put(s, 2, 1001, NULL);
        files_of(s, &files);
        s->a.owner_uids[1] = 0;
        store_leave(s);
        assert_int_equal(adopt(&files.f, 1, &s, &report), 0);
        assert_int_equal(report.dropped[DROPPED_OWNER], 1);
        assert_int_equal(store_get(s, 1, "k1", 2, 100, true, &e), 0);
        assert_int_equal(e.uid, 1000);
        assert_int_equal(store_get(s, 1, "k2", 2, 100, true, &e), STORE_E_MISS);
        store_check(s);
        store_free(s);
}

static void test_a_cache_that_lost_its_name_is_empty(void **state)
{
        struct store *s = make_store();
        struct store_adopted report;
        struct store_cache_info info;
        struct files files;
        uint32_t id;

        (void)state;
        assert_int_equal(store_cache_create(s, "d", 1, &id), 0);
        put(s, 1, 1000, NULL);
        files_of(s, &files);
        s->a.caches[1].n_name = 0;
        store_leave(s);
        assert_int_equal(adopt(&files.f, 1, &s, &report), 0);
        assert_int_equal(report.n_caches_lost, 1);
        assert_int_equal(store_cache_find(s, "d", 1, &id), 0);
        assert_int_equal(id, 2);
        assert_int_equal(store_cache_info(s, 1, &info), 0);
        assert_int_equal(info.entries, 0);
        while (store_maintain(s, 100, 10))
                ;
        store_check(s);
        store_free(s);
}

/* Moments follow from the policy with every store. */
static void test_a_cache_whose_policy_is_nonsense_is_empty(void **state)
{
        (void)state;
        for (unsigned i = 0; i < 2; i++) {
                struct store *s = make_store();
                struct table_cache *c = &s->a.caches[1];
                struct table_policy *p = i == 0 ? &c->policy : &c->opened;
                struct store_put again = {
                        .cache = 1, .key = "k1", .n_key = 2, .value = "value", .n_value = 5};
                struct store_adopted report;
                struct store_refusal why;
                struct store_entry e;
                struct files files;

                put(s, 1, 1000, NULL);
                files_of(s, &files);
                p->ttl_ms = 0;
                p->expire_jitter = 300;
                store_leave(s);
                assert_int_equal(adopt(&files.f, 1, &s, &report), 0);
                assert_int_equal(report.n_caches_lost, 1);
                assert_int_equal(store_get(s, 1, "k1", 2, 100, true, &e), STORE_E_MISS);
                assert_int_equal(store_put(s, &again, 100, &e, &why), 0);
                assert_true(e.deadline == STORE_NEVER);
                store_check(s);
                store_free(s);
        }
}

/* ---- what stays */

static void test_what_is_known_of_a_store_stays(void **state)
{
        struct store *s = make_store();
        struct store_adopted report;
        struct store_peek peek;
        struct store_entry e;
        struct files files;
        uint64_t version;
        int arena;

        (void)state;
        put(s, 1, 1000, NULL);
        assert_int_equal(store_get(s, 1, "k1", 2, 100, true, &e), 0);
        version = e.version;
        files_of(s, &files);
        arena = dup(files.f.arena);
        assert_int_equal(store_peek(files.f.table, &peek), 0);
        assert_string_equal(peek.label, "user-1000");
        assert_int_equal(peek.instance, 77);
        assert_int_equal(store_peek(0, &peek), STORE_E_REFUSED);
        store_leave(s);
        assert_int_equal(adopt(&files.f, 1, &s, &report), 0);
        assert_int_equal(report.instance, 77);
        assert_int_equal(store_max_caches(s), 4);
        assert_false(is_retired(arena));
        assert_int_equal(store_cache_counters(s, 1)->hits, 1);
        assert_int_equal(store_get(s, 1, "k1", 2, 1100, false, &e), 0);
        assert_int_equal(e.version, version);
        assert_int_equal(e.deadline, 1101); /* boottime goes on */
        assert_int_equal(store_get(s, 1, "k1", 2, 1101, false, &e), STORE_E_MISS);
        put(s, 2, 1000, NULL);
        assert_int_equal(store_get(s, 1, "k2", 2, 100, false, &e), 0);
        assert_true(e.version > version);
        store_free(s);
        assert_true(is_retired(arena));
        close(arena);
}

/* ---- the order of use */

#define N_RANKS 300u

/* In this order, whatever lies between them. */
static uint64_t stamp_of_rank(unsigned rank)
{
        static const uint64_t bases[] = {1, UINT64_C(3) << 20, (UINT64_C(3) << 20) + 5000,
                                         UINT64_C(1) << 44, UINT64_MAX - 10000000};
        unsigned base = rank * 5 / N_RANKS;

        return bases[base] + (base == 3 ? (uint64_t)rank << 30 : rank * (1 + base));
}

static unsigned number_of(const struct store *s, uint32_t handle)
{
        const struct arena_entry *b = arena_block(&s->a, handle);
        char key[16] = "";

        memcpy(key, entry_key(b), entry_n_key(b));
        return (unsigned)strtoul(key + 1, NULL, 10);
}

static void test_the_order_of_use_stays(void **state)
{
        unsigned numbers[N_RANKS], rank = 0;
        struct store *s = make_store();
        struct store_adopted report;
        struct table_list *l;
        struct files files;

        (void)state;
        for (unsigned i = 0; i < N_RANKS; i++)
                put(s, i, 1000, NULL);
        l = &s->a.lists[s->a.t->oldest_list];
        for (uint32_t h = l->tail; h != ARENA_NONE; h = arena_rec(&s->a, h)->prev) {
                unsigned n = number_of(s, h), at = n * 37 % N_RANKS;

                numbers[at] = n;
                rec_set_stamp(arena_rec(&s->a, h), stamp_of_rank(at));
        }
        files_of(s, &files);
        store_leave(s);
        assert_int_equal(adopt(&files.f, 1, &s, &report), 0);
        l = &s->a.lists[s->a.t->oldest_list];
        for (uint32_t h = l->tail; h != ARENA_NONE; h = arena_rec(&s->a, h)->prev)
                assert_int_equal(number_of(s, h), numbers[rank++]);
        assert_int_equal(rank, N_RANKS);
        store_check(s);
        store_free(s);
}

/* ---- readers look on */

#define N_READ 500u

struct reading {
        struct arena_map map;
        atomic_bool ends;
        uint64_t hits;
};

/* Each key is there all the time, with the value that tells it. */
static void *read_on(void *ctx)
{
        struct reading *r = ctx;

        for (unsigned i = 0; !atomic_load(&r->ends); i = (i + 1) % N_READ) {
                char key[16], value[64];
                struct arena_query q = {.cache = 1,
                                        .name_hash = arena_name_hash("c", 1),
                                        .key = key,
                                        .n_key = (uint32_t)snprintf(key, sizeof(key), "k%u", i),
                                        .now_ms = 100};
                struct arena_hit hit;

                if (arena_read(&r->map, &q, value, sizeof(value), &hit) != ARENA_HIT ||
                    hit.n_value != q.n_key || memcmp(value, key, q.n_key) != 0)
                        return r;
                r->hits++;
        }
        return NULL;
}

static void test_readers_hit_while_a_store_changes_hands(void **state)
{
        struct store *s = make_store();
        struct reading reading = {.hits = 0};
        struct store_adopted report;
        uint64_t size = s->a.mem.size;
        pthread_t thread;
        void *base, *failed;

        (void)state;
        for (unsigned i = 0; i < N_READ; i++) {
                char key[16];
                struct store_put p = {.cache = 1,
                                      .key = key,
                                      .n_key = (size_t)snprintf(key, sizeof(key), "k%u", i),
                                      .value = key,
                                      .ttl_ms = STORE_NEVER,
                                      .uid = 1};
                struct store_refusal why;
                struct store_entry e;

                p.n_value = p.n_key;
                assert_int_equal(store_put(s, &p, 100, &e, &why), 0);
        }
        base = mmap(NULL, size, PROT_READ, MAP_SHARED, store_arena_fd(s), 0);
        assert_true(base != MAP_FAILED);
        assert_null(arena_map_init(base, size, &reading.map));
        assert_int_equal(pthread_create(&thread, NULL, read_on, &reading), 0);
        for (unsigned i = 0; i < 20; i++) {
                struct files files;

                files_of(s, &files);
                s = store_leave(s);
                assert_int_equal(adopt(&files.f, 1, &s, &report), 0);
                assert_int_equal(report.kept, N_READ);
        }
        atomic_store(&reading.ends, true);
        assert_int_equal(pthread_join(thread, &failed), 0);
        assert_null(failed);
        assert_true(reading.hits > 0);
        munmap(base, size);
        store_free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_goes_on_as_if_nothing_had_been),
                cmocka_unit_test(test_goes_on_with_large_values),
                cmocka_unit_test(test_what_is_known_of_a_store_stays),
                cmocka_unit_test(test_the_order_of_use_stays),
                cmocka_unit_test(test_another_version_is_refused),
                cmocka_unit_test(test_another_boot_is_refused),
                cmocka_unit_test(test_files_that_do_not_belong_together_are_refused),
                cmocka_unit_test(test_nonsense_in_headers_is_refused),
                cmocka_unit_test(test_files_of_another_kind_are_refused),
                cmocka_unit_test(test_a_large_value_is_known_by_its_file),
                cmocka_unit_test(test_entries_of_an_unknown_writer_are_dropped),
                cmocka_unit_test(test_a_cache_that_lost_its_name_is_empty),
                cmocka_unit_test(test_a_cache_whose_policy_is_nonsense_is_empty),
                cmocka_unit_test(test_readers_hit_while_a_store_changes_hands),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
