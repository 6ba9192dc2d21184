/* SPDX-License-Identifier: MIT */
/*
 * Records of resources: there and back, cut at every byte, any byte another one, and random ones.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "services/resource-record.h"

static const uint8_t key_64[STORE_KEY_MAX] = "0123456789abcdef";
static const char cache_128[STORE_CACHE_NAME_MAX] = "a name with a \0 in it";

static struct resource_kept instance(enum resource_kind kind)
{
        return (struct resource_kept){
                .kind = RESOURCE_KEPT_INSTANCE,
                .instance = {.where = {.key = key_64, .n_key = 7},
                             .number = UINT64_C(0x0123456789abcdef),
                             .size = kind == RESOURCE_KIND_SEGMENT ? 4096 : 0,
                             .since = 1,
                             .used = 2,
                             .expires = RESOURCE_NEVER,
                             .pool = kind == RESOURCE_KIND_LOCAL ? 0 : 3,
                             .uid = 1000,
                             .pid = 4711,
                             .kind = (uint8_t)kind,
                             .read_only = kind == RESOURCE_KIND_SEGMENT,
                             .owner_died = true,
                             .lock_owner = 5},
                .cache = "cache",
                .n_cache = 5,
                .fd = kind == RESOURCE_KIND_LOCAL ? 0 : 8,
                .place = kind == RESOURCE_KIND_LOCAL ? RESOURCE_PLACE_NONE : 17,
                .dev = 18,
                .ino = UINT64_MAX,
        };
}

static struct resource_kept holder(void)
{
        return (struct resource_kept){
                .kind = RESOURCE_KEPT_HOLDER,
                .holder = UINT64_MAX,
                .holder_uid = (uid_t)-2,
                .holder_number = RESOURCE_NUMBER_MAX,
                .pid = 0x7fffffff,
                .process = {.start = 12, .ino = 13},
                .since = 14,
        };
}

static struct resource_kept hold(void)
{
        return (struct resource_kept){
                .kind = RESOURCE_KEPT_HOLD,
                .instance.number = 1,
                .holder = 2,
                .holder_uid = 3,
                .count = UINT32_MAX,
                .since = 5,
        };
}

struct written {
        uint8_t key[RESOURCE_KEPT_KEY], bytes[RESOURCE_KEPT_MAX];
        size_t n_key, n;
};

static struct written written(const struct resource_kept *k)
{
        struct written w = {.n_key = 0};
        w.n_key = resource_record_key(k, w.key);
        w.n = resource_record_write(k, w.bytes);
        return w;
}

/* Exactly so many bytes, so that a sanitizer sees who reads more. */
static bool reads(const struct written *w, size_t n_key, size_t n)
{
        uint8_t *key = malloc(n_key + 1), *bytes = malloc(n + 1);
        struct resource_kept k;
        assert_non_null(key);
        assert_non_null(bytes);
        key = realloc(key, n_key > 0 ? n_key : 1);
        bytes = realloc(bytes, n > 0 ? n : 1);
        memcpy(key, w->key, n_key);
        memcpy(bytes, w->bytes, n);
        bool whole = resource_record_read(key, n_key, bytes, n, &k);
        if (whole) { /* there is one way only to write it */
                struct written again = written(&k);
                assert_int_equal(again.n_key, n_key);
                assert_int_equal(again.n, n);
                assert_memory_equal(again.key, key, n_key);
                assert_memory_equal(again.bytes, bytes, n);
        }
        free(key);
        free(bytes);
        return whole;
}

static void all_of_it_comes_back(void **state)
{
        (void)state;
        struct resource_kept k = instance(RESOURCE_KIND_SEGMENT), r;
        struct written w = written(&k);
        assert_true(resource_record_read(w.key, w.n_key, w.bytes, w.n, &r));
        assert_int_equal(r.kind, RESOURCE_KEPT_INSTANCE);
        assert_int_equal(r.instance.number, k.instance.number);
        assert_int_equal(r.instance.size, 4096);
        assert_int_equal(r.instance.since, 1);
        assert_int_equal(r.instance.used, 2);
        assert_true(r.instance.expires == RESOURCE_NEVER);
        assert_int_equal(r.instance.pool, 3);
        assert_int_equal(r.instance.uid, 1000);
        assert_int_equal(r.instance.pid, 4711);
        assert_int_equal(r.instance.kind, RESOURCE_KIND_SEGMENT);
        assert_true(r.instance.read_only && r.instance.owner_died && !r.hidden);
        assert_int_equal(r.instance.lock_owner, 5);
        assert_int_equal(r.instance.where.n_key, 7);
        assert_memory_equal(r.instance.where.key, key_64, 7);
        assert_int_equal(r.n_cache, 5);
        assert_memory_equal(r.cache, "cache", 5);
        assert_int_equal(r.fd, 8);
        assert_int_equal(r.place, 17);
        assert_int_equal(r.dev, 18);
        assert_true(r.ino == UINT64_MAX);

        k = holder();
        w = written(&k);
        assert_true(resource_record_read(w.key, w.n_key, w.bytes, w.n, &r));
        assert_int_equal(r.kind, RESOURCE_KEPT_HOLDER);
        assert_true(r.holder == UINT64_MAX && r.holder_uid == (uid_t)-2);
        assert_int_equal(r.holder_number, RESOURCE_NUMBER_MAX);
        assert_int_equal(r.pid, 0x7fffffff);
        assert_true(r.process.start == 12 && r.process.ino == 13 && r.since == 14);

        k = hold();
        w = written(&k);
        assert_true(resource_record_read(w.key, w.n_key, w.bytes, w.n, &r));
        assert_int_equal(r.kind, RESOURCE_KEPT_HOLD);
        assert_true(r.instance.number == 1 && r.holder == 2 && r.holder_uid == 3);
        assert_true(r.count == UINT32_MAX && r.since == 5);
}

static void the_longest_one(void **state)
{
        (void)state;
        struct resource_kept k = instance(RESOURCE_KIND_DESCRIPTOR), r;
        k.instance.where.n_key = STORE_KEY_MAX;
        k.cache = cache_128;
        k.n_cache = STORE_CACHE_NAME_MAX;
        k.hidden = true;
        struct written w = written(&k);
        assert_int_equal(w.n, RESOURCE_KEPT_MAX);
        assert_true(resource_record_read(w.key, w.n_key, w.bytes, w.n, &r));
        assert_true(r.hidden);
        assert_memory_equal(r.cache, cache_128, sizeof(cache_128));
        assert_memory_equal(r.instance.where.key, key_64, sizeof(key_64));
}

static struct written any(unsigned which)
{
        struct resource_kept k = hold();
        if (which < 3)
                k = instance((enum resource_kind)(RESOURCE_KIND_SEGMENT + which));
        else if (which == 3)
                k = holder();
        return written(&k);
}

static void one_that_is_cut_is_none(void **state)
{
        (void)state;
        for (unsigned which = 0; which < 5; which++) {
                struct written w = any(which);
                assert_true(reads(&w, w.n_key, w.n));
                for (size_t n = 0; n < w.n; n++)
                        assert_false(reads(&w, w.n_key, n));
                for (size_t n = 0; n < w.n_key; n++)
                        assert_false(reads(&w, n, w.n));
                if (w.n < sizeof(w.bytes))
                        assert_false(reads(&w, w.n_key, w.n + 1));
        }
}

/* What says something that cannot be. */
static void nonsense_is_none(void **state)
{
        (void)state;
        static const struct {
                unsigned which;
                size_t at;
                uint8_t byte;
        } rows[] = {
                {0, 0, 2},                 /* of another layout */
                {0, 1, 0},                 /* kind */
                {0, 1, 4},     {0, 2, 8},  /* flags */
                {0, 2, 7},                 /* a session's cache without a session */
                {0, 3, 0},     {0, 3, 9},  /* its descriptor */
                {0, 4, 0},     {0, 4, 65}, /* lengths */
                {0, 5, 0},     {0, 5, 129}, {0, 6, 1},    {0, 7, 1}, {0, 23, 0x80}, /* pid */
                {0, 31, 0x80},                                                      /* size */
                {1, 2, 1},                                /* a descriptor that is read-only */
                {1, 24, 1},                               /* and has a size */
                {2, 3, 1},                                /* a local one with a descriptor */
                {2, 8, 1},                                /* in a pool */
                {2, 24, 1},    {3, 1, 1},   {3, 7, 0x40}, /* number of a holder */
                {3, 15, 0x80}, {4, 3, 1},   {4, 12, 1},   /* count */
        };
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct written w = any(rows[i].which);
                w.bytes[rows[i].at] = rows[i].byte;
                if (reads(&w, w.n_key, w.n))
                        fail_msg("row %zu is taken", i);
        }
}

static void any_byte_may_be_another(void **state)
{
        (void)state;
        for (unsigned which = 0; which < 5; which++) {
                const struct written good = any(which);
                for (size_t at = 0; at < good.n + good.n_key; at++) {
                        for (unsigned byte = 0; byte < 256; byte++) {
                                struct written w = good;
                                if (at < good.n)
                                        w.bytes[at] = (uint8_t)byte;
                                else
                                        w.key[at - good.n] = (uint8_t)byte;
                                (void)reads(&w, w.n_key, w.n);
                        }
                }
        }
}

static void random_bytes(void **state)
{
        (void)state;
        uint64_t seed = 42;
        for (unsigned i = 0; i < 20000; i++) {
                struct written w = any(i % 5);
                for (unsigned n = 0; n < 1 + i % 9; n++) {
                        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
                        w.bytes[(seed >> 40) % w.n] = (uint8_t)(seed >> 33);
                }
                (void)reads(&w, w.n_key, (size_t)(seed >> 20) % (w.n + 1));
                (void)reads(&w, w.n_key, w.n);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(all_of_it_comes_back),    cmocka_unit_test(the_longest_one),
                cmocka_unit_test(one_that_is_cut_is_none), cmocka_unit_test(nonsense_is_none),
                cmocka_unit_test(any_byte_may_be_another), cmocka_unit_test(random_bytes),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
