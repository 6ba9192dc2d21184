/* SPDX-License-Identifier: MIT */
/*
 * Mapped reads of libcached against a store in this process: the answers are those of the socket,
 * what is noted for the daemon is what happened, and neither a daemon that is silent, gone or
 * another one nor files that are not what they should be do harm.
 */

#include "client-harness.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>

#include "map-world.h"

/* What a reply says, all of it. */
static void replies_agree(const cached_reply *a, const cached_reply *b)
{
        static const char *const numbers[] = {"version",  "size",          "flags",
                                              "encoding", "raw_size",      "cost_us",
                                              "uid",      "no_such_field", "entry.version"};
        size_t n_a = 1, n_b = 2;
        const void *v_a = cached_reply_value(a, &n_a), *v_b = cached_reply_value(b, &n_b);

        assert_int_equal(cached_reply_code(a), cached_reply_code(b));
        assert_string_equal(cached_reply_error(a), cached_reply_error(b));
        assert_int_equal(v_a == NULL, v_b == NULL);
        if (v_a) {
                assert_int_equal(n_a, n_b);
                assert_memory_equal(v_a, v_b, n_a);
        }
        assert_int_equal(cached_reply_version(a), cached_reply_version(b));
        assert_int_equal(cached_reply_flags(a), cached_reply_flags(b));
        assert_int_equal(cached_reply_encoding(a), cached_reply_encoding(b));
        assert_int_equal(cached_reply_raw_size(a), cached_reply_raw_size(b));
        assert_int_equal(cached_reply_cost_us(a), cached_reply_cost_us(b));
        assert_int_equal(cached_reply_uid(a), cached_reply_uid(b));
        assert_int_equal(cached_reply_ttl_ms(a) == CACHED_NEVER,
                         cached_reply_ttl_ms(b) == CACHED_NEVER);
        for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
                uint64_t x = 3, y = 3;

                assert_int_equal(cached_reply_u64(a, numbers[i], &x),
                                 cached_reply_u64(b, numbers[i], &y));
                assert_int_equal(x, y);
        }
}

static void same_for(cached *mapped, cached *plain, const char *key)
{
        cached_reply *a, *b;
        int code = cached_get(mapped, CACHE, key, strlen(key), &a);

        assert_int_equal(code, cached_get(plain, CACHE, key, strlen(key), &b));
        replies_agree(a, b);
        cached_reply_free(a);
        cached_reply_free(b);
        assert_int_equal(cached_get(mapped, CACHE, key, strlen(key), NULL), code);
        code = cached_peek(mapped, CACHE, key, strlen(key), &a);
        assert_int_equal(code, cached_peek(plain, CACHE, key, strlen(key), &b));
        replies_agree(a, b);
        cached_reply_free(a);
        cached_reply_free(b);
}

static void test_answers_are_those_of_the_socket(void **state)
{
        static const size_t sizes[] = {0, 1, 100, 255, 256, 257, 560, 561, 4000, 4097, 300000};
        static uint8_t bytes[300000];
        struct fake d;
        struct world w;
        cached *c, *plain;
        int n_gets;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        plain = mapped_new(&d, 0);
        fill(bytes, sizeof(bytes));
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
                cached_set_options *o = cached_set_options_new();
                char key[20];

                (void)snprintf(key, sizeof(key), "key-%zu", i);
                cached_set_options_set_flags(o, (uint32_t)i % 3);
                cached_set_options_set_cost_us(o, i % 2 * 1000);
                if (i % 3 == 0)
                        cached_set_options_set_ttl_ms(o, 100000);
                assert_int_equal(cached_set(c, CACHE, key, strlen(key), bytes, sizes[i], o, NULL),
                                 CACHED_OK);
                cached_set_options_free(o);
        }
        memset(bytes, 'z', 50000);
        assert_int_equal(set(c, "packs", bytes, 50000, 0), CACHED_OK);
        n_gets = atomic_load(&w.n_gets);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
                char key[20];

                (void)snprintf(key, sizeof(key), "key-%zu", i);
                same_for(c, plain, key);
        }
        same_for(c, plain, "packs");
        same_for(c, plain, "absent");
        /* The plain handle's alone. */
        assert_int_equal(atomic_load(&w.n_gets) - n_gets, 2 * (sizeof(sizes) / sizeof(*sizes) + 2));
        cached_free(c);
        cached_free(plain);
        world_stop(&d, &w);
}

/* What the arena does not decide: other keys than keys, caches that are not there, large values. */
static void test_the_rest_goes_over_the_socket(void **state)
{
        static uint8_t large[1100 << 10];
        struct fake d;
        struct world w;
        cached_reply *r;
        cached *c;
        size_t n;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(cached_get(c, "none yet", "k", 1, NULL), CACHED_NOT_FOUND);
        assert_int_equal(atomic_load(&w.n_gets), 1);
        assert_int_equal(cached_get(c, CACHE, "", 0, &r), CACHED_INVALID);
        cached_reply_free(r);
        assert_int_equal(cached_get(c, CACHE, large, 65, NULL), CACHED_INVALID);
        assert_int_equal(cached_get(c, CACHE, NULL, 2, NULL), CACHED_ERR_USAGE);
        fill(large, sizeof(large));
        assert_int_equal(cached_options_set_mapped(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(set(c, "large", large, sizeof(large), 0), CACHED_OK);
        atomic_store(&w.n_gets, 0);
        assert_int_equal(cached_get(c, CACHE, "large", 5, &r), CACHED_OK);
        assert_memory_equal(cached_reply_value(r, &n), large, sizeof(large));
        assert_int_equal(n, sizeof(large));
        cached_reply_free(r);
        assert_int_equal(atomic_load(&w.n_gets), 1);
        cached_free(c);
        world_stop(&d, &w);
}

static void test_uses_are_noted(void **state)
{
        struct page_touch *t;
        struct fake d;
        struct world w;
        cached_reply *r;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        assert_int_equal(cached_peek(c, CACHE, "a", 1, NULL), CACHED_OK);
        world_meet(&w);
        assert_int_equal(atomic_load(&w.page->ring[0].head) + atomic_load(&w.page->ring[1].head),
                         0);
        for (int i = 0; i < 3; i++)
                assert_int_equal(cached_get(c, CACHE, "a", 1, i ? NULL : &r), CACHED_OK);
        for (int i = 0; i < 5; i++)
                assert_int_equal(cached_get(c, CACHE, "b", 1, NULL), CACHED_NOT_FOUND);
        assert_int_equal(atomic_load(&counter_of(&w, 1)->hits), 3);
        assert_int_equal(atomic_load(&counter_of(&w, 1)->misses), 5);
        t = w.page->touches[atomic_load(&w.page->ring[0].head) > 0 ? 0 : 1];
        /* First the time, then the entry. */
        assert_int_equal(atomic_load(&t[0].handle), 0);
        assert_in_range(atomic_load(&t[0].version_lo), (uint32_t)world_now(&w) - 1000,
                        (uint32_t)world_now(&w));
        assert_int_not_equal(atomic_load(&t[1].handle), 0);
        assert_int_equal(atomic_load(&t[1].version_lo), (uint32_t)cached_reply_version(r));
        cached_reply_free(r);
        assert_true(atomic_load(&w.dirty->words[1]) & UINT64_C(1) << (MAP_BIT - 64));
        /* A request finds them drained. */
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_touches), 3);
        assert_int_equal(atomic_load(&w.dirty->words[1]), 0);
        cached_free(c);
        world_stop(&d, &w);
}

static void test_rings_are_drained(void **state)
{
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        for (int i = 0; i < 50000; i++)
                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_touches), 50000);
        assert_int_equal(atomic_load(&w.n_drains), 0);
        /* One, or a few where it was slow and a full ring asked again. */
        assert_in_range(atomic_load(&w.n_one_way), 50000 / PAGE_RING_SLOTS, 50000 / 2000);
        cached_free(c);
        world_stop(&d, &w);
}

/* A daemon that takes touches out bit by bit, slower than they come, is not asked for each bit. */
static void test_a_slow_daemon_is_asked_rarely(void **state)
{
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        world_meet(&w);
        w.keep_tails = true;
        for (unsigned i = 0; i < PAGE_RING_SLOTS + 10; i++)
                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        for (unsigned bit = 0; bit < 10; bit++) {
                for (unsigned i = 0; i < PAGE_RINGS; i++)
                        if (atomic_load(&w.page->ring[i].head) > 0)
                                atomic_fetch_add(&w.page->ring[i].tail, 50);
                for (unsigned i = 0; i < 55; i++)
                        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        }
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_in_range(atomic_load(&w.n_one_way), 1, 2);
        cached_free(c);
        world_stop(&d, &w);
}

/* As the daemon sees it, each place of a ring follows the one before, also where 32 bits end. */
static void test_rings_beyond_32_bits(void **state)
{
        const uint64_t start = (UINT64_C(1) << 32) - 100;
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        world_meet(&w);
        for (unsigned i = 0; i < PAGE_RINGS; i++) {
                atomic_store(&w.page->ring[i].head, start);
                atomic_store(&w.page->ring[i].tail, start);
        }
        for (int i = 0; i < 10000; i++)
                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_touches), 10000);
        assert_true(atomic_load(&w.page->ring[0].head) > UINT32_MAX ||
                    atomic_load(&w.page->ring[1].head) > UINT32_MAX);
        cached_free(c);
        world_stop(&d, &w);
}

static void test_a_silent_daemon_costs_touches_only(void **state)
{
        struct fake d;
        struct world w;
        cached *c;
        uint64_t begin;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        pthread_mutex_lock(&w.lock);
        begin = now_ms();
        for (int i = 0; i < 20000; i++)
                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_in_range(now_ms() - begin, 0, PATIENCE_MS / 2);
        assert_int_equal(atomic_load(&counter_of(&w, 1)->hits), 20000);
        pthread_mutex_unlock(&w.lock);
        /* Once it moves nothing is lost any more. */
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        atomic_store(&w.n_touches, 0);
        for (int i = 0; i < 20000; i++)
                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_touches), 20000);
        cached_free(c);
        world_stop(&d, &w);
}

/* cached_get_mapped() leaves to others what would take a request or a wait, and counts nothing
 * then. */
static void test_at_once(void **state)
{
        static uint8_t large[LARGE_MIN];
        unsigned n = 0, n_again = 0;
        struct fake d;
        struct world w;
        cached_reply *r;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(cached_get_mapped(NULL, CACHE, "a", 1, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_get_mapped(c, CACHE, "a", 1, &r), CACHED_ERR_AGAIN);
        assert_null(r);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        fill(large, sizeof(large));
        assert_int_equal(set(c, "large", large, sizeof(large), 0), CACHED_OK);
        assert_int_equal(cached_get_mapped(c, CACHE, "a", 1, &r), CACHED_OK);
        assert_memory_equal(cached_reply_value(r, NULL), "1", 1);
        cached_reply_free(r);
        world_meet(&w);
        assert_int_equal(cached_get_mapped(c, CACHE, "b", 1, NULL), CACHED_NOT_FOUND);
        assert_int_equal(cached_get_mapped(c, CACHE, "large", 5, &r), CACHED_ERR_AGAIN);
        assert_null(r);
        assert_int_equal(atomic_load(&counter_of(&w, 1)->hits), 1);
        assert_int_equal(atomic_load(&counter_of(&w, 1)->misses), 0);
        w.keep_tails = true;
        for (; n < PAGE_RING_SLOTS * PAGE_RINGS + 10; n++) {
                int code = cached_get_mapped(c, CACHE, "a", 1, &r);

                assert_true(code == CACHED_OK || (code == CACHED_ERR_AGAIN && !r));
                n_again += code == CACHED_ERR_AGAIN;
                cached_reply_free(r);
        }
        assert_true(n_again > 0);
        assert_int_equal(atomic_load(&counter_of(&w, 1)->hits), 1 + n - n_again);
        assert_int_equal(atomic_load(&w.n_gets) + atomic_load(&w.n_one_way), 0);
        cached_free(c);
        world_stop(&d, &w);
}

static void test_what_has_expired_is_a_miss(void **state)
{
        struct fake d;
        struct world w;
        cached_reply *r;
        cached *c;
        uint64_t begin;
        int code;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 100000), CACHED_OK);
        assert_int_equal(set(c, "b", "2", 1, 0), CACHED_OK);
        assert_int_equal(cached_get(c, CACHE, "a", 1, &r), CACHED_OK);
        assert_in_range(cached_reply_ttl_ms(r), 100000 - PATIENCE_MS, 100000);
        cached_reply_free(r);
        world_meet(&w);
        atomic_store(&w.store->a.h->clock_offset_ms, 100000);
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_NOT_FOUND);
        assert_int_equal(get_is(c, "b", "2", 1), CACHED_OK);
        atomic_store(&w.store->a.h->clock_offset_ms, 0);
        /* Never after its time, by the precise clock. */
        begin = world_now(&w);
        assert_int_equal(set(c, "c", "3", 1, 30), CACHED_OK);
        do {
                uint64_t asked = world_now(&w);

                code = get_is(c, "c", "3", 1);
                if (asked >= begin + 30 + 1000)
                        fail_msg("it is still there");
                if (code == CACHED_NOT_FOUND)
                        assert_in_range(world_now(&w), begin + 30, UINT64_MAX);
        } while (code == CACHED_OK);
        assert_int_equal(atomic_load(&w.n_gets), 0);
        cached_free(c);
        world_stop(&d, &w);
}

static void test_another_daemon_ends_the_mapping(void **state)
{
        struct fake d;
        struct world w;
        cached_reply *r;
        cached *c;
        uint64_t features = 0;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(cached_connect(c, &r), CACHED_OK);
        assert_int_equal(cached_reply_u64(r, "features", &features), CACHED_OK);
        assert_true(features & CACHED__V1__FEATURE__FEATURE_MAPPED);
        cached_reply_free(r);
        /* A cold one, whose store is not in this arena. */
        pthread_mutex_lock(&w.lock);
        atomic_store(&w.epoch->instance, MAP_INSTANCE + 1);
        pthread_mutex_unlock(&w.lock);
        atomic_store(&w.n_gets, 0);
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_gets), 1);
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_gets), 2);
        assert_int_equal(cached_connect(c, &r), CACHED_OK);
        assert_int_equal(cached_reply_u64(r, "features", &features), CACHED_OK);
        assert_false(features & CACHED__V1__FEATURE__FEATURE_MAPPED);
        cached_reply_free(r);
        cached_free(c);
        world_stop(&d, &w);
}

static void test_a_retired_arena(void **state)
{
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_gets), 0);
        atomic_store(&w.store->a.h->retired, 1);
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_gets), 1);
        cached_free(c);
        world_stop(&d, &w);
}

static void test_hits_without_a_daemon(void **state)
{
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        parallel_stop(&d, &w.parallel);
        for (int i = 0; i < 20000; i++)
                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(cached_ping(c, NULL), CACHED_ERR_UNREACHABLE);
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(get_is(c, "b", "1", 1), CACHED_NOT_FOUND);
        cached_free(c);
        d.serve = NULL;
        w.parallel.n = 0;
        assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, d.stop) == 0);
        d.listener = dup(d.stop[0]);
        world_stop(&d, &w);
}

/* The connection of the mapping breaks: the next call gets another, and with it a page. */
static void test_a_page_is_replaced(void **state)
{
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        for (int i = 0; i < 20; i++) {
                assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
                /* An unknown request, and what the fake daemon says to it, are no harm; a cut is.
                 */
                shutdown(c->pool->slots[0].conn->fd, SHUT_RDWR);
                assert_int_equal(cached_ping(c, NULL), CACHED_OK);
                assert_int_equal(atomic_load(&w.n_maps), i + 2);
        }
        assert_int_equal(atomic_load(&w.n_gets), 0);
        cached_free(c);
        world_stop(&d, &w);
}

/* Whether touching it costs no page fault. */
static bool is_mapped_in(const volatile void *p)
{
        uint64_t entry = 0;
        int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &entry, 8, (off_t)((uintptr_t)p / 4096 * 8)), 8);
        close(fd);
        return entry >> 63;
}

/* The look that fetches a large value waits anyway; the next one is the first that notes something,
 * and finds the memory for that. */
static void test_the_second_look_waits_for_no_page(void **state)
{
        const size_t large = (size_t)5 << 20;
        uint8_t *bytes = malloc(large);
        cached_view *view = NULL;
        struct map_visit v = {0};
        struct fake d;
        struct world w;
        uint64_t head;
        cached *c;

        (void)state;
        assert_non_null(bytes);
        fill(bytes, large);
        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "k", bytes, large, 0), CACHED_OK);
        assert_true(map_enter(&c->pool->map, &v));
        assert(v.mp);
        head = atomic_load(&v.mp->page->ring[v.ring].head);
        assert_false(is_mapped_in(v.mp->dirty_word));
        assert_int_equal(cached_get_view(c, CACHE, "k", 1, CACHED_VIEW_READ, &view, NULL),
                         CACHED_OK);
        assert_true(is_mapped_in(v.mp->dirty_word));
        assert_true(is_mapped_in(&v.mp->page->touches[v.ring][page_ring_slot(head)]));
        /* And nothing was noted by it. */
        assert_int_equal(atomic_load(&v.mp->page->ring[v.ring].head), head);
        assert_int_equal(atomic_load(v.mp->dirty_word) & v.mp->dirty_mask, 0);
        map_leave(&c->pool->map, &v);
        cached_view_release(view);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* ---- offers that are none */

static void refuses(struct fake *d, struct world *w)
{
        cached *c = mapped_new(d, 1);
        int n_gets = atomic_load(&w->n_gets);

        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        assert_int_equal(get_is(c, "a", "1", 1), CACHED_OK);
        assert_int_equal(atomic_load(&w->n_gets), n_gets + 1);
        assert_false(pool_is_mapped(c->pool));
        cached_free(c);
}

static void test_what_is_offered_is_checked(void **state)
{
        struct fake d;
        struct world w;
        cached *c;
        int fd;

        world_start(&d, &w);
        for (w.n_send = 0; w.n_send <= 8; w.n_send++)
                if (w.n_send != 4)
                        refuses(&d, &w);
        w.n_send = 4;
        for (w.first_part = 0; w.first_part <= 4; w.first_part++)
                if (w.first_part != 1)
                        refuses(&d, &w);
        w.first_part = 1;
        /* Not sealed; too short; another file altogether. */
        fd = w.dirty_fd;
        w.dirty_fd = world_memfd("dirty", DIRTY_MAP_SIZE, F_SEAL_GROW);
        refuses(&d, &w);
        close(w.dirty_fd);
        w.dirty_fd = world_memfd("dirty", DIRTY_MAP_SIZE - 4096, F_SEAL_GROW | F_SEAL_SHRINK);
        refuses(&d, &w);
        close(w.dirty_fd);
        w.dirty_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        refuses(&d, &w);
        close(w.dirty_fd);
        w.dirty_fd = fd;
        fd = w.arena_fd;
        w.arena_fd = w.page_fd;
        refuses(&d, &w);
        w.arena_fd = fd;
        w.epoch->magic++;
        refuses(&d, &w);
        w.epoch->magic--;
        /* In another time namespace, where the arena's deadlines mean other times. */
        for (w.clock_shift_ms = -10000; w.clock_shift_ms <= 10000; w.clock_shift_ms += 20000)
                refuses(&d, &w);
        w.clock_shift_ms = 0;
        c = mapped_new(&d, 1);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_true(pool_is_mapped(c->pool));
        cached_free(c);
        world_stop(&d, &w);
}

/* ---- many */

static void test_many(void **state)
{
        const void *keys[6] = {"a", "b", "large", "none", "packs", "empty"};
        const size_t n_keys[6] = {1, 1, 5, 4, 5, 5};
        static uint8_t large[1100 << 10], packs[50000];
        cached_reply *r, *p;
        cached *c, *plain;
        struct fake d;
        struct world w;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        plain = mapped_new(&d, 0);
        fill(large, sizeof(large));
        memset(packs, 'p', sizeof(packs));
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        assert_int_equal(set(c, "b", "22", 2, 50000), CACHED_OK);
        assert_int_equal(set(c, "large", large, sizeof(large), 0), CACHED_OK);
        assert_int_equal(set(c, "packs", packs, sizeof(packs), 0), CACHED_OK);
        assert_int_equal(set(c, "empty", "", 0, 0), CACHED_OK);
        atomic_store(&w.n_gets, 0);
        assert_int_equal(cached_get_many(c, CACHE, 6, keys, n_keys, &r), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_gets), 1);
        assert_int_equal(cached_get_many(plain, CACHE, 6, keys, n_keys, &p), CACHED_OK);
        assert_int_equal(cached_reply_n_items(r), 6);
        for (size_t i = 0; i < 6; i++) {
                size_t n = 1, m = 2;
                const void *v = cached_reply_item_value(r, i, &n);
                const void *u = cached_reply_item_value(p, i, &m);
                char path[40];
                uint64_t x = 1, y = 1;

                assert_int_equal(cached_reply_item_code(r, i), cached_reply_item_code(p, i));
                assert_int_equal(v == NULL, u == NULL);
                if (v) {
                        assert_int_equal(n, m);
                        assert_memory_equal(v, u, n);
                }
                (void)snprintf(path, sizeof(path), "items[%zu].entry.version", i);
                assert_int_equal(cached_reply_u64(r, path, &x), cached_reply_u64(p, path, &y));
                assert_int_equal(x, y);
        }
        cached_reply_free(r);
        cached_reply_free(p);
        assert_int_equal(atomic_load(&counter_of(&w, 1)->hits), 4);
        assert_int_equal(atomic_load(&counter_of(&w, 1)->misses), 1);
        atomic_store(&w.n_gets, 0);
        assert_int_equal(cached_get_many(c, CACHE, 2, keys, n_keys, &r), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_gets), 0);
        cached_reply_free(r);
        assert_int_equal(cached_get_many(c, CACHE, 0, keys, n_keys, &r), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_gets), 1);
        cached_reply_free(r);
        cached_free(c);
        cached_free(plain);
        world_stop(&d, &w);
}

/* More keys than a ring has room for. */
static void test_many_more_than_a_ring(void **state)
{
        static const void *keys[4096];
        static size_t n_keys[4096];
        struct fake d;
        struct world w;
        cached_reply *r;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        for (size_t i = 0; i < 4096; i++)
                keys[i] = "a", n_keys[i] = 1;
        for (int k = 0; k < 3; k++) {
                assert_int_equal(cached_get_many(c, CACHE, 4096, keys, n_keys, &r), CACHED_OK);
                for (size_t i = 0; i < 4096; i++) {
                        size_t n;

                        assert_memory_equal(cached_reply_item_value(r, i, &n), "1", 1);
                }
                cached_reply_free(r);
        }
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_touches), 3 * 4096);
        assert_int_equal(atomic_load(&w.n_gets), 0);
        cached_free(c);
        world_stop(&d, &w);
}

/* While a drain is asked for, the mapping is replaced twice: the third one may lie where the first
 * one's description lay, and its arena somewhere else. */
static void test_many_over_another_mapping(void **state)
{
        static const void *keys[4096];
        static size_t n_keys[4096];
        const struct mapping *first;
        struct fake d;
        struct world w;
        cached_reply *r;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(set(c, "a", "1", 1, 0), CACHED_OK);
        for (size_t i = 0; i < 4096; i++)
                keys[i] = "a", n_keys[i] = 1;
        first = c->pool->map.live;
        pthread_mutex_lock(&w.lock);
        w.claim = first->part[MAP_PART_ARENA];
        w.n_claim = first->size[MAP_PART_ARENA];
        atomic_store(&w.n_cuts, 1);
        pthread_mutex_unlock(&w.lock);
        shutdown(c->pool->slots[0].conn->fd, SHUT_RDWR);
        assert_int_equal(cached_get_many(c, CACHE, 4096, keys, n_keys, &r), CACHED_OK);
        for (size_t i = 0; i < 4096; i++) {
                size_t n;

                assert_memory_equal(cached_reply_item_value(r, i, &n), "1", 1);
        }
        cached_reply_free(r);
        assert_int_equal(atomic_load(&w.n_cuts), 0);
        assert_int_equal(atomic_load(&w.n_maps), 3);
        cached_free(c);
        munmap(w.claim, w.n_claim);
        world_stop(&d, &w);
}

/* More caches than the page has counters: the last ones are asked for on the socket. */
static void test_caches_beyond_the_counters(void **state)
{
        struct fake d;
        struct world w;
        cached *c;
        int n = 0;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        for (int round = 0; round < 2; round++)
                for (int i = 0; i < 290; i++) {
                        char cache[20];
                        int before = atomic_load(&w.n_gets);

                        (void)snprintf(cache, sizeof(cache), "cache-%d", i);
                        if (round == 0)
                                assert_int_equal(cached_set(c, cache, "k", 1, cache, 8, NULL, NULL),
                                                 CACHED_OK);
                        else
                                assert_int_equal(cached_get(c, cache, "k", 1, NULL), CACHED_OK);
                        n += atomic_load(&w.n_gets) - before;
                }
        assert_int_equal(n, 290 - PAGE_COUNTERS);
        cached_free(c);
        world_stop(&d, &w);
}

/* Whatever the memory is that the name lies in, and however long it is. */
static void test_a_cache_is_known_by_its_name(void **state)
{
        static const size_t lengths[] = {1, 2, 46, 47, 48, 49, 127, 128};
        enum { N = sizeof(lengths) / sizeof(*lengths), ROUNDS = 3 };
        char name[129], elsewhere[129];
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        for (unsigned round = 0; round <= ROUNDS; round++)
                for (unsigned i = 0; i < 2 * N; i++) {
                        cached_reply *r;
                        size_t n;

                        memset(name, 'a' + (int)(i / N), sizeof(name));
                        name[lengths[i % N]] = '\0';
                        if (round == 0) {
                                assert_int_equal(cached_set(c, name, "k", 1, name, strlen(name),
                                                            NULL, NULL),
                                                 CACHED_OK);
                                continue;
                        }
                        memcpy(elsewhere, name, sizeof(name));
                        assert_int_equal(cached_get(c, round % 2 ? name : elsewhere, "k", 1, &r),
                                         CACHED_OK);
                        assert_memory_equal(cached_reply_value(r, &n), name, strlen(name));
                        assert_int_equal(n, strlen(name));
                        cached_reply_free(r);
                }
        assert_int_equal(atomic_load(&w.n_gets), 0);
        world_meet(&w);
        for (uint32_t id = 1; id <= 2 * N; id++)
                assert_int_equal(atomic_load(&counter_of(&w, id)->hits), ROUNDS);
        cached_free(c);
        world_stop(&d, &w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_answers_are_those_of_the_socket, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_the_rest_goes_over_the_socket, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_uses_are_noted, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rings_are_drained, setup, teardown),
                cmocka_unit_test_setup_teardown(test_rings_beyond_32_bits, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_slow_daemon_is_asked_rarely, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_a_silent_daemon_costs_touches_only, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_at_once, setup, teardown),
                cmocka_unit_test_setup_teardown(test_what_has_expired_is_a_miss, setup, teardown),
                cmocka_unit_test_setup_teardown(test_another_daemon_ends_the_mapping, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_a_retired_arena, setup, teardown),
                cmocka_unit_test_setup_teardown(test_hits_without_a_daemon, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_page_is_replaced, setup, teardown),
                cmocka_unit_test_setup_teardown(test_the_second_look_waits_for_no_page, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_what_is_offered_is_checked, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_more_than_a_ring, setup, teardown),
                cmocka_unit_test_setup_teardown(test_many_over_another_mapping, setup, teardown),
                cmocka_unit_test_setup_teardown(test_caches_beyond_the_counters, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_cache_is_known_by_its_name, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
