/* SPDX-License-Identifier: MIT */
/*
 * Tags, variants and clearing by prefix
 *
 * What was cleared is gone at once, for the store and for mapped readers, and counts as nothing; no
 * entry is touched by that, however many there are; it leaves before anything else does. Ids that
 * come back, entries with several tags, the limit on tags, caches that are cleared meanwhile.
 * Variants go with what led to them, at any depth. A sweep finds what compaction moves.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "proto/arena-read.h"
#include "store-check.h"
#include "store/internal.h"

#define NOW UINT64_C(100000)
#define MIB (UINT64_C(1) << 20)

static struct store *make_store(uint32_t max_tags)
{
        const struct store_params p = {.arena_size = 256 * MIB,
                                       .budget = 128 * MIB,
                                       .uid_share = 128 * MIB,
                                       .large_threshold = 64 * 1024,
                                       .max_caches = 4,
                                       .max_entries = 1 << 20,
                                       .max_tags = max_tags,
                                       .seed = {5, 6}};
        struct store *s = NULL;
        uint32_t id;

        assert_int_equal(store_new(&p, &s), 0);
        assert_int_equal(store_cache_create(s, "c", 1, &id), 0);
        assert_int_equal(store_cache_create(s, "d", 1, &id), 0);
        return s;
}

static void limit(struct store *s, uint64_t max_entries, uint64_t max_bytes)
{
        const struct store_policy p = {.ttl_ms = STORE_NEVER,
                                       .max_entries = max_entries,
                                       .max_bytes = max_bytes};

        store_cache_set_policy(s, 1, &p, &p, false, NOW);
}

struct what {
        const char *key, *value, *tags, *of; /* tags: a letter each */
        bool vary;
        uint64_t ttl_ms;
        uint64_t n_value; /* 0: the value's length */
};

static int put_at(struct store *s, uint32_t cache, struct what x, uint64_t now)
{
        static const char zeros[100000];
        struct store_text tags[8];
        struct store_put p = {.cache = cache,
                              .key = x.key,
                              .n_key = strlen(x.key),
                              .value = x.n_value ? zeros
                                       : x.value ? x.value
                                                 : "v",
                              .n_value = x.n_value ? x.n_value : strlen(x.value ? x.value : "v"),
                              .ttl_ms = x.ttl_ms ? x.ttl_ms : STORE_NEVER,
                              .vary = x.vary,
                              .tags = tags};
        struct store_refusal why;
        struct store_entry e;

        for (; x.tags && x.tags[p.n_tags]; p.n_tags++)
                tags[p.n_tags] = (struct store_text){&x.tags[p.n_tags], 1};
        if (x.of)
                p.variant_of = (struct store_text){x.of, strlen(x.of)};
        return store_put(s, &p, now, &e, &why);
}

#define put(s, ...) assert_int_equal(put_at((s), 1, (struct what){__VA_ARGS__}, NOW), 0)

static void put_many(struct store *s, const char *name, unsigned n, const char *tags)
{
        for (unsigned i = 0; i < n; i++) {
                char key[32];

                snprintf(key, sizeof(key), "%s%u", name, i);
                put(s, key, .tags = tags);
        }
}

static bool has(struct store *s, const char *key)
{
        struct store_entry e;

        return store_get(s, 1, key, strlen(key), NOW, false, &e) == 0;
}

static unsigned count(struct store *s, const char *name, unsigned n)
{
        unsigned found = 0;

        for (unsigned i = 0; i < n; i++) {
                char key[32];

                snprintf(key, sizeof(key), "%s%u", name, i);
                found += has(s, key);
        }
        return found;
}

static uint64_t clear(struct store *s, const char *tag)
{
        uint64_t n;

        assert_int_equal(store_clear_tag(s, 1, tag, 1, NOW, &n), 0);
        return n;
}

static struct store_cache_info info(struct store *s)
{
        struct store_cache_info i;

        assert_int_equal(store_cache_info(s, 1, &i), 0);
        return i;
}

static void settle(struct store *s)
{
        while (store_maintain(s, NOW, 100))
                ;
        store_check(s);
}

/* ---- tags */

static void what_has_the_tag_goes_and_nothing_else(void **state)
{
        struct store *s = make_store(0);
        uint64_t raw, held;

        (void)state;
        put_many(s, "plain", 10, NULL);
        raw = info(s).bytes_raw;
        held = info(s).bytes_held;
        put_many(s, "a", 500, "A");
        put_many(s, "few", 3, "F");
        assert_int_equal(info(s).tags, 2);
        assert_int_equal(clear(s, "X"), 0);
        assert_int_equal(clear(s, "A"), 500);
        assert_int_equal(clear(s, "A"), 0);
        assert_int_equal(info(s).entries, 13);
        assert_int_equal(store_entries(s), 13);
        assert_int_equal(info(s).tags, 1);
        store_check(s);
        assert_int_equal(count(s, "a", 500), 0);
        assert_int_equal(clear(s, "F"), 3);
        assert_int_equal(info(s).entries, 10);
        assert_int_equal(info(s).bytes_raw, raw);
        assert_int_equal(info(s).bytes_held, held);
        assert_int_equal(count(s, "plain", 10), 10);
        settle(s);
        assert_int_equal(store_charged(s), held);
        assert_int_equal(info(s).counters.departed[CAUSE_CLEARED], 503);
        assert_int_equal(info(s).counters.clears, 4);
        assert_int_equal(s->a.t->n_tag_ids, 0);
        store_free(s);
}

/* The same number of steps, whatever has the tag: nothing is dropped and nothing is visited. */
static void clearing_takes_constant_time(void **state)
{
        static const unsigned sizes[] = {1000, 100000};

        (void)state;
        for (unsigned i = 0; i < 2; i++) {
                struct store *s = make_store(0);
                unsigned extra;

                put_many(s, "a", sizes[i], "A");
                store_maintain(s, NOW, 0);
                extra = s->extra;
                assert_int_equal(clear(s, "A"), sizes[i]);
                assert_int_equal(s->drops, 0);
                assert_int_equal(s->extra, extra);
                assert_int_equal(s->a.t->n_entries, sizes[i]);
                assert_int_equal(store_entries(s), 0);
                assert_int_equal(count(s, "a", 300), 0);
                settle(s);
                assert_int_equal(store_charged(s), 0);
                store_free(s);
        }
}

static void a_limit_is_exact_right_after(void **state)
{
        struct store *s = make_store(0);

        (void)state;
        limit(s, 200, STORE_UNLIMITED);
        put_many(s, "old", 50, NULL); /* the first to leave, if anything but the cleared had to */
        put_many(s, "a", 150, "A");
        assert_int_equal(clear(s, "A"), 150);
        for (unsigned i = 0; i < 150; i++) {
                char key[32];

                snprintf(key, sizeof(key), "new%u", i);
                put(s, key);
                assert_int_equal(info(s).entries, 51 + i);
                assert_true(s->a.t->n_entries <= 200);
        }
        assert_int_equal(count(s, "old", 50), 50);
        assert_int_equal(info(s).counters.departed[CAUSE_MAX_ENTRIES], 0);
        put(s, "one more");
        assert_int_equal(info(s).entries, 200);
        assert_int_equal(count(s, "old", 50), 49);
        settle(s);
        store_free(s);
}

static void what_was_cleared_leaves_first(void **state)
{
        struct store *s = make_store(0);
        uint64_t budget;

        (void)state;
        put_many(s, "old", 100, NULL);
        put_many(s, "a", 300, "A");
        clear(s, "A");
        budget = store_charged(s);
        store_set_budget(s, budget, budget);
        put_many(s, "new", 300, NULL);
        assert_true(store_charged(s) <= budget);
        assert_int_equal(count(s, "old", 100), 100);
        assert_int_equal(count(s, "new", 300), 300);
        store_set_budget(s, budget, budget / 2); /* and where one writer reaches its share */
        settle(s);
        store_free(s);
}

/* What two cleared tags have in common is not counted twice. */
static void several_tags(void **state)
{
        struct store *s = make_store(0);

        (void)state;
        put_many(s, "ab", 100, "AB");
        put_many(s, "bc", 100, "BC");
        put_many(s, "b", 100, "B");
        put_many(s, "c", 100, "C");
        put_many(s, "x", 100, "XYZUVWST");
        assert_int_equal(clear(s, "A"), 100);
        assert_int_equal(info(s).entries, 400);
        clear(s, "B"); /* some of whose entries are gone: those with one tag are counted at once */
        assert_int_equal(info(s).entries, 300);
        store_check(s);
        assert_int_equal(count(s, "bc", 100), 0); /* each look-up drops one */
        assert_int_equal(info(s).entries, 200);
        clear(s, "C");
        assert_int_equal(info(s).entries, 100);
        store_check(s);
        settle(s);
        assert_int_equal(info(s).entries, 100);
        assert_int_equal(count(s, "x", 100), 100);
        assert_int_equal(clear(s, "Z"), 100);
        assert_int_equal(info(s).entries, 0);
        assert_int_equal(info(s).bytes_held, 0);
        settle(s);
        assert_int_equal(store_charged(s), 0);
        store_free(s);
}

static void a_tag_that_comes_again_is_another_one(void **state)
{
        struct store *s = make_store(0);

        (void)state;
        put_many(s, "a", 100, "A");
        clear(s, "A");
        put(s, "a0", .tags = "A");
        put(s, "new", .tags = "A");
        assert_true(has(s, "a0") && has(s, "new") && !has(s, "a1"));
        assert_int_equal(info(s).entries, 2);
        assert_int_equal(clear(s, "A"), 2);
        assert_false(has(s, "a0") || has(s, "new"));
        settle(s);
        assert_int_equal(s->a.t->n_tag_ids, 0);
        put(s, "again", .tags = "A"); /* and its id is one that was used before */
        assert_int_equal(s->a.t->tag_high, 2);
        settle(s);
        assert_true(has(s, "again"));
        store_free(s);
}

static void tags_are_of_a_cache_and_go_with_it(void **state)
{
        struct store *s = make_store(0);
        uint64_t n;

        (void)state;
        put_many(s, "a", 200, "AB");
        assert_int_equal(put_at(s, 2, (struct what){"k", .tags = "A"}, NOW), 0);
        clear(s, "B");
        put_many(s, "b", 100, "A");
        assert_int_equal(store_clear(s, 1, NOW, &n), 0);
        assert_int_equal(n, 100);
        assert_int_equal(info(s).tags, 0);
        assert_int_equal(s->a.t->n_tags, 1);
        store_check(s);
        put_many(s, "c", 100, "A");
        assert_int_equal(clear(s, "A"), 100);
        assert_int_equal(store_clear_tag(s, 2, "A", 1, NOW, &n), 0);
        assert_int_equal(n, 1);
        settle(s);
        assert_int_equal(store_charged(s), 0);
        assert_int_equal(store_clear_tag(s, 9, "A", 1, NOW, &n), STORE_E_NO_CACHE);
        store_free(s);
}

static void as_many_tags_as_are_allowed(void **state)
{
        struct store *s = make_store(3);

        (void)state;
        put(s, "a", .tags = "AB");
        put(s, "n", .vary = true);
        put(s, "v", .of = "n"); /* counts as one */
        assert_int_equal(put_at(s, 1, (struct what){"b", .tags = "C"}, NOW), STORE_E_TAGS);
        assert_int_equal(put_at(s, 1, (struct what){"b", .tags = "AC"}, NOW), STORE_E_TAGS);
        store_check(s);
        put(s, "b", .tags = "AB");
        put_many(s, "x", 100, "A");
        clear(s, "A"); /* nothing is reclaimed yet: what stands in the way goes at once */
        put(s, "b", .tags = "C");
        put(s, "c", .tags = "D");
        assert_int_equal(put_at(s, 1, (struct what){"d", .tags = "E"}, NOW), STORE_E_TAGS);
        assert_int_equal(store_delete(s, 1, "n", 1, NOW), 0);
        put(s, "d", .tags = "E");
        settle(s);
        store_free(s);
}

static void explained(void **state)
{
        struct store *s = make_store(0);
        struct store_fate fate;
        size_t n;

        (void)state;
        put_many(s, "a", 100, "A");
        put(s, "k", .tags = "XY");
        assert_int_equal(store_explain(s, 1, "k", 1, NOW, &fate), 0);
        assert_true(fate.live && fate.entry.n_tags == 2);
        assert_memory_equal(store_tag_name(s, fate.entry.tags[1].id, &n), "Y", 1);
        assert_int_equal(n, 1);
        clear(s, "A");
        for (unsigned i = 0; i < 2; i++) {
                assert_int_equal(store_explain(s, 1, "a7", 2, NOW + 30, &fate), 0);
                assert_true(!fate.live && fate.known && fate.cause == CAUSE_CLEARED);
                assert_int_equal(fate.age_ms, 30);
                settle(s);
        }
        store_free(s);
}

/* ---- mapped readers, in lock-step */

static void mapped_readers_see_the_same(void **state)
{
        struct store *s = make_store(0);
        off_t size = lseek(store_arena_fd(s), 0, SEEK_END);
        void *base = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED | MAP_NORESERVE,
                          store_arena_fd(s), 0);
        uint64_t rng = 88172645463325252u, n_misses = 0, n_hits = 0;
        struct arena_map map;

        (void)state;
        assert_ptr_not_equal(base, MAP_FAILED);
        assert_null(arena_map_init(base, (uint64_t)size, &map));
        for (unsigned step = 0; step < 100000; step++) {
                static const char *const tags[] = {"A", "AB", "BC", "CDE", "F", NULL};
                char key[8], buf[256];
                struct arena_query q = {.cache = 1,
                                        .name_hash = arena_name_hash("c", 1),
                                        .key = key,
                                        .now_ms = NOW};
                struct arena_hit hit;
                enum arena_result r;
                bool dead;

                rng ^= rng << 13;
                rng ^= rng >> 7;
                rng ^= rng << 17;
                snprintf(key, sizeof(key), "k%u", (unsigned)(rng >> 20) % 300);
                q.n_key = (uint32_t)strlen(key);
                if (rng % 8 == 0) {
                        put(s, key, .tags = tags[(rng >> 40) % 6],
                            .n_value = 1 + (rng >> 44) % 200);
                } else if (rng % 256 == 1) {
                        const char tag[2] = {(char)('A' + (rng >> 40) % 6), 0};

                        s->extra = rng >> 50 & 1 ? 0 : 2048; /* not always at once */
                        clear(s, tag);
                } else if (rng % 16 == 2) {
                        store_maintain(s, NOW, (unsigned)(rng >> 40) % 40);
                }
                /* The mapped one first: the other one drops what is dead. */
                r = arena_read(&map, &q, buf, sizeof(buf), &hit);
                dead = !has(s, key);
                assert_int_equal(r, dead ? ARENA_MISS : ARENA_HIT);
                n_misses += dead;
                n_hits += !dead;
        }
        assert_true(n_misses > 1000 && n_hits > 1000);
        settle(s);
        munmap(base, (size_t)size);
        store_free(s);
}

/* A reader that found the entry before it was cleared, and looks on when its id means another tag:
 * what it found then does not count. */
static void an_id_that_comes_back_deceives_nobody(void **state)
{
        struct store *s = make_store(0);
        off_t size = lseek(store_arena_fd(s), 0, SEEK_END);
        void *base = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED | MAP_NORESERVE,
                          store_arena_fd(s), 0);
        struct arena_query q = {.cache = 1,
                                .name_hash = arena_name_hash("c", 1),
                                .key = "k",
                                .n_key = 1,
                                .now_ms = NOW};
        struct arena_map map;
        struct arena_hit hit;
        char buf[64];

        (void)state;
        assert_ptr_not_equal(base, MAP_FAILED);
        assert_null(arena_map_init(base, (uint64_t)size, &map));
        put(s, "k", .tags = "A");
        arena_aim(&map, &q);
        assert_non_null(q.aim.first.chunk);
        clear(s, "A");
        put(s, "other", .tags = "B");
        assert_int_equal(s->a.t->tag_high, 1); /* the same id, and it is not dead */
        assert_int_equal(arena_read(&map, &q, buf, sizeof(buf), &hit), ARENA_MISS);
        munmap(base, (size_t)size);
        store_free(s);
}

/* ---- variants */

static void variants_go_with_what_led_to_them(void **state)
{
        struct store *s = make_store(0);

        (void)state;
        assert_int_equal(put_at(s, 1, (struct what){"v1", .of = "n"}, NOW), STORE_E_NO_NODE);
        put(s, "n");
        assert_int_equal(put_at(s, 1, (struct what){"v1", .of = "n"}, NOW), STORE_E_NO_NODE);
        put(s, "n", "LANG", .vary = true);
        put(s, "v1", .of = "n", .tags = "A");
        put(s, "v2", .of = "n");
        put(s, "n", "LANG", .vary = true); /* the same */
        assert_true(has(s, "v1") && has(s, "v2"));
        assert_int_equal(info(s).tags, 1);
        put(s, "n", "PATH", .vary = true);
        assert_false(has(s, "v1") || has(s, "v2"));
        put(s, "v1", .of = "n");
        put(s, "n"); /* no node any more */
        assert_false(has(s, "v1"));
        put(s, "n", "LANG", .vary = true, .tags = "B");
        put(s, "v1", .of = "n");
        assert_int_equal(clear(s, "B"), 1);
        assert_false(has(s, "n") || has(s, "v1"));
        put(s, "n", "LANG", .vary = true);
        put(s, "v1", .of = "n");
        assert_int_equal(store_delete(s, 1, "n", 1, NOW), 0);
        assert_false(has(s, "v1"));
        assert_int_equal(put_at(s, 1, (struct what){"n", "LANG", .vary = true, .ttl_ms = 10}, NOW),
                         0);
        put(s, "v1", .of = "n");
        put(s, "v2", .of = "n");
        while (store_maintain(s, NOW + 10, 100)) /* it expires */
                ;
        assert_false(has(s, "v1") || has(s, "v2"));
        settle(s);
        assert_int_equal(info(s).entries, 0);
        assert_int_equal(s->a.t->n_tag_ids, 0);
        store_free(s);
}

/* A chain of them, longer than any stack: a step of upkeep drops one. */
static void at_any_depth(void **state)
{
        enum { DEPTH = 20000 };
        struct store *s = make_store(0);
        unsigned n_turns = 0;
        char key[32], of[32];

        (void)state;
        put(s, "n0", "input", .vary = true);
        for (unsigned i = 1; i < DEPTH; i++) {
                snprintf(key, sizeof(key), "n%u", i);
                snprintf(of, sizeof(of), "n%u", i - 1);
                put(s, key, "input", .vary = true, .of = of);
        }
        put(s, "beside", "input", .vary = true);
        assert_int_equal(store_delete(s, 1, "n0", 2, NOW), 0);
        assert_false(has(s, "n1"));
        for (; store_maintain(s, NOW, 100); n_turns++)
                assert_true(s->drops <= 100);
        assert_true(n_turns >= DEPTH / 100 - 2);
        assert_int_equal(info(s).entries, 1);
        settle(s);
        store_free(s);
}

/* Room for a larger value of the variant takes what led to it: then it is not stored, and the old
 * one is gone, too. */
static void room_that_takes_what_led_to_it(void **state)
{
        struct store *s = make_store(0);

        (void)state;
        put(s, "n", "input", .vary = true);
        put(s, "v", .of = "n");
        limit(s, STORE_UNLIMITED, 4900);
        assert_int_equal(put_at(s, 1, (struct what){"v", .of = "n", .n_value = 4200}, NOW),
                         STORE_E_NO_NODE);
        assert_false(has(s, "n") || has(s, "v"));
        store_check(s);
        put(s, "n", "input", .vary = true);
        put(s, "v", .of = "n", .tags = "A");
        put(s, "v", .n_value = 4200, .tags = "A"); /* one of its own */
        assert_true(has(s, "v") && !has(s, "n"));
        settle(s);
        assert_true(has(s, "v"));
        assert_int_equal(info(s).counters.departed[CAUSE_CLEARED], 2);
        store_free(s);
}

static void the_input_that_multiplies(void **state)
{
        struct store *s = make_store(0);
        struct store_input in[STORE_INPUTS_MAX];

        (void)state;
        assert_int_equal(store_inputs(s, 1, "n", 1, NOW, in), 0);
        put(s, "n", "LANG", .vary = true);
        assert_int_equal(store_inputs(s, 1, "n", 1, NOW, in), 1);
        assert_int_equal(in[0].variants, 0);
        for (unsigned i = 0; i < 5; i++) {
                char key[32], leaf[32];

                snprintf(key, sizeof(key), "lang%u", i);
                put(s, key, "PATH", .vary = true, .of = "n");
                for (unsigned j = 0; j < 90 + i; j++) {
                        snprintf(leaf, sizeof(leaf), "leaf%u.%u", i, j);
                        put(s, leaf, .of = key);
                }
        }
        assert_int_equal(store_inputs(s, 1, "n", 1, NOW, in), 2);
        assert_memory_equal(in[0].name, "PATH", in[0].n_name);
        assert_int_equal(in[0].variants, 94);
        assert_memory_equal(in[1].name, "LANG", in[1].n_name);
        assert_int_equal(in[1].variants, 5);
        assert_int_equal(store_inputs(s, 1, "leaf0.0", 7, NOW, in), 0);
        store_free(s);
}

/* ---- prefixes */

static void a_prefix(void **state)
{
        struct store *s = make_store(0);
        struct store_sweep sw, other;

        (void)state;
        put_many(s, "ab", 3000, NULL);
        put_many(s, "ac", 3000, "A");
        for (unsigned i = 0; i < 3000; i++) { /* so that compaction has something to move */
                char key[32];

                snprintf(key, sizeof(key), "fill%u", i);
                put(s, key, .n_value = 4000);
        }
        for (unsigned i = 0; i < 3000; i++) {
                char key[32];

                snprintf(key, sizeof(key), "fill%u", i);
                if (i % 16)
                        assert_int_equal(store_delete(s, 1, key, strlen(key), NOW), 0);
        }
        assert_int_equal(store_sweep_begin(s, 1, "ab", 2, &sw), 0);
        assert_int_equal(store_sweep_begin(s, 1, "zz", 2, &other), 0);
        put(s, "ab7", "new");
        while (store_sweep_step(&sw, NOW, 50))
                store_maintain(s, NOW, 20);
        assert_int_equal(sw.entries, 2999);
        store_sweep_end(&sw);
        store_sweep_end(&sw);
        assert_false(store_sweep_step(&other, NOW, 1000000));
        assert_int_equal(other.entries, 0);
        store_sweep_end(&other);
        assert_int_equal(count(s, "ab", 3000), 1);
        assert_int_equal(count(s, "ac", 3000), 3000);
        assert_int_equal(store_sweep_begin(s, 3, "ab", 2, &sw), STORE_E_NO_CACHE);
        settle(s);
        store_free(s);
}

/* Moves what is ahead of the sweep's place to behind it: it is dropped instead. */
static void compaction_hides_nothing_from_a_sweep(void **state)
{
        struct store *s = make_store(0);
        struct store_sweep sw;
        uint64_t n = 0;
        bool moved = false;

        (void)state;
        for (unsigned i = 0; i < 60000; i++) {
                char key[32];

                snprintf(key, sizeof(key), "%s%u", i % 9 == 5 ? "ab" : "x", i);
                put(s, key, .n_value = 100);
        }
        assert_int_equal(store_sweep_begin(s, 1, "ab", 2, &sw), 0);
        assert_true(store_sweep_step(&sw, NOW, 30000)); /* half of it is behind us */
        for (unsigned i = 0; i < 60000; i++) {
                char key[32];

                snprintf(key, sizeof(key), "x%u", i);
                if (i % 9 != 5 && i % 9 != 7)
                        assert_int_equal(store_delete(s, 1, key, strlen(key), NOW), 0);
        }
        n = sw.entries;
        while (store_maintain(s, NOW, 1000))
                ;
        moved = sw.entries > n;
        assert_true(moved); /* else this test shows nothing */
        while (store_sweep_step(&sw, NOW, 1000))
                ;
        store_sweep_end(&sw);
        for (unsigned i = 5; i < 60000; i += 9) {
                char key[32];

                snprintf(key, sizeof(key), "ab%u", i);
                assert_false(has(s, key));
        }
        settle(s);
        store_free(s);
}

static void a_sweep_of_what_is_cleared_meanwhile(void **state)
{
        struct store *s = make_store(0);
        struct store_sweep sw, left;
        uint64_t n;

        (void)state;
        put_many(s, "ab", 1000, NULL);
        assert_int_equal(store_sweep_begin(s, 1, "a", 1, &left), 0); /* the store goes before it */
        assert_int_equal(store_sweep_begin(s, 1, "a", 1, &sw), 0);
        assert_true(store_sweep_step(&sw, NOW, 100));
        assert_int_equal(store_clear(s, 1, NOW, &n), 0);
        assert_false(store_sweep_step(&sw, NOW, 100));
        put_many(s, "ab", 10, NULL);
        assert_false(store_sweep_step(&sw, NOW, 100));
        store_sweep_end(&sw);
        assert_int_equal(count(s, "ab", 10), 10);
        settle(s);
        store_free(s);
        store_sweep_end(&left);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(what_has_the_tag_goes_and_nothing_else),
                cmocka_unit_test(clearing_takes_constant_time),
                cmocka_unit_test(a_limit_is_exact_right_after),
                cmocka_unit_test(what_was_cleared_leaves_first),
                cmocka_unit_test(several_tags),
                cmocka_unit_test(a_tag_that_comes_again_is_another_one),
                cmocka_unit_test(tags_are_of_a_cache_and_go_with_it),
                cmocka_unit_test(as_many_tags_as_are_allowed),
                cmocka_unit_test(explained),
                cmocka_unit_test(mapped_readers_see_the_same),
                cmocka_unit_test(an_id_that_comes_back_deceives_nobody),
                cmocka_unit_test(variants_go_with_what_led_to_them),
                cmocka_unit_test(at_any_depth),
                cmocka_unit_test(room_that_takes_what_led_to_it),
                cmocka_unit_test(the_input_that_multiplies),
                cmocka_unit_test(a_prefix),
                cmocka_unit_test(compaction_hides_nothing_from_a_sweep),
                cmocka_unit_test(a_sweep_of_what_is_cleared_meanwhile),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
