/* SPDX-License-Identifier: MIT */
/*
 * Keys: the builder against the vectors, what it refuses, buffers and threads, memory that ends
 *
 * The vectors are those that every language shares; a Python program checks them, too. Each is
 * built plainly and then by other calls, in other orders and other pieces, for the same key.
 */
#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <assert.h>
#include <cached.h>
#include <cmocka.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "client/vary.h"
#include "key-json.h"

#define MIB ((size_t)1 << 20)

/* ---- memory that ends: the i-th allocation from now on fails; 0: none */

/* Volatile: with all sources before it the compiler knows that malloc() changes no variables. */
static volatile unsigned long allocations, failing;

static bool fails(void)
{
        return __atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED) == failing;
}

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_malloc(size_t n)
{
        return fails() ? NULL : __real_malloc(n);
}

void *__real_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_realloc(void *p, size_t n)
{
        return fails() ? NULL : __real_realloc(p, n);
}

void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
        return fails() ? NULL : __real_reallocarray(p, n, size);
}

/* Threads that cannot be had: how many can; helpers are counted. */
static unsigned threads_left = 1000, threads_made;
static bool helper_takes_signals;

struct start {
        void *(*f)(void *);
        void *arg;
};

static void *run_helper(void *arg)
{
        struct start s = *(struct start *)arg;
        sigset_t set;

        free(arg);
        pthread_sigmask(SIG_BLOCK, NULL, &set);
        if (!sigismember(&set, SIGTERM) || !sigismember(&set, SIGUSR1))
                __atomic_store_n(&helper_takes_signals, true, __ATOMIC_RELAXED);
        return s.f(s.arg);
}

int __real_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg);
int __wrap_pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*f)(void *), void *arg)
{
        struct start *s;

        if (threads_left == 0)
                return EAGAIN;
        threads_left--;
        threads_made++;
        s = __real_malloc(sizeof(*s));
        assert(s);
        *s = (struct start){f, arg};
        return __real_pthread_create(t, a, run_helper, s);
}

/* ---- the vectors */

static void to_hex(const uint8_t digest[CACHED_KEY_SIZE], char ret[2 * CACHED_KEY_SIZE + 1])
{
        for (size_t i = 0; i < CACHED_KEY_SIZE; i++)
                snprintf(ret + 2 * i, 3, "%02x", digest[i]);
}

/* The key of the items as hexadecimal digits, or "" and the error is in the builder. */
static void build(cached_key *k, const json_t *items, uint64_t random,
                  char ret[2 * CACHED_KEY_SIZE + 1])
{
        struct key_json j = {random};
        uint8_t digest[CACHED_KEY_SIZE];

        assert_int_equal(cached_key_reset(k), CACHED_OK);
        key_json_add_items(&j, k, items);
        ret[0] = '\0';
        if (cached_key_finish(k, digest) == CACHED_OK)
                to_hex(digest, ret);
}

static json_t *load_vectors(void)
{
        json_error_t error;
        json_t *root = json_load_file(KEY_VECTORS, JSON_ALLOW_NUL, &error);

        if (!root)
                fail_msg("%s:%d: %s", KEY_VECTORS, error.line, error.text);
        return root;
}

static void vectors_have_their_keys(void **state)
{
        json_t *root = load_vectors(), *v;
        cached_key *k = cached_key_new();
        char hex[2 * CACHED_KEY_SIZE + 1];
        size_t i;

        (void)state;
        assert_true(json_array_size(json_object_get(root, "vectors")) >= 80);
        json_array_foreach(json_object_get(root, "vectors"), i, v)
        {
                const char *name = json_string_value(json_object_get(v, "name"));
                const char *want = json_string_value(json_object_get(v, "key"));

                for (uint64_t random = 0; random < 5; random++) {
                        cached_key_set_threads(k, random % 3);
                        build(k, json_object_get(v, "items"), random, hex);
                        if (strcmp(hex, want) != 0)
                                fail_msg("%s (variation %d): %s%s instead of %s", name, (int)random,
                                         hex, cached_key_error(k), want);
                        assert_string_equal(cached_key_error(k), "");
                }
        }
        cached_key_free(k);
        json_decref(root);
}

static void invalid_vectors_are_refused(void **state)
{
        json_t *root = load_vectors(), *v;
        cached_key *k = cached_key_new();
        char hex[2 * CACHED_KEY_SIZE + 1];
        size_t i;

        (void)state;
        assert_true(json_array_size(json_object_get(root, "invalid")) >= 30);
        json_array_foreach(json_object_get(root, "invalid"), i, v)
        {
                for (uint64_t random = 0; random < 4; random++) {
                        build(k, json_object_get(v, "items"), random, hex);
                        if (hex[0])
                                fail_msg("%s: has a key",
                                         json_string_value(json_object_get(v, "name")));
                        assert_int_equal(cached_key_add_null(k), CACHED_ERR_USAGE);
                        assert_true(strlen(cached_key_error(k)) > 20);
                }
        }
        cached_key_free(k);
        json_decref(root);
}

/* ---- what is particular to C */

static void finish(cached_key *k, uint8_t ret[CACHED_KEY_SIZE])
{
        if (cached_key_finish(k, ret) != CACHED_OK)
                fail_msg("%s", cached_key_error(k));
}

static void finish_goes_on(void **state)
{
        cached_key *k = cached_key_new(), *other = cached_key_new();
        uint8_t a[CACHED_KEY_SIZE], b[CACHED_KEY_SIZE], c[CACHED_KEY_SIZE];

        (void)state;
        cached_key_add_text(k, "prefix", 6);
        finish(k, a);
        finish(k, b);
        assert_memory_equal(a, b, sizeof(a));
        cached_key_add_int(k, 1);
        finish(k, b);
        assert_memory_not_equal(a, b, sizeof(a));
        cached_key_add_text(other, "prefix", 6);
        cached_key_add_int(other, 1);
        finish(other, c);
        assert_memory_equal(b, c, sizeof(b));
        /* What was begun and not finished is forgotten by a reset. */
        cached_key_begin_map(other);
        cached_key_add_int(other, 1);
        cached_key_begin_bytes(other);
        cached_key_feed(other, "abc", 3);
        assert_int_equal(cached_key_reset(other), CACHED_OK);
        cached_key_add_text(other, "prefix", 6);
        finish(other, c);
        assert_memory_equal(a, c, sizeof(a));
        cached_key_free(k);
        cached_key_free(other);
}

static void floats_and_doubles_agree(void **state)
{
        cached_key *k = cached_key_new();
        uint8_t a[CACHED_KEY_SIZE], b[CACHED_KEY_SIZE];

        (void)state;
        cached_key_add_double(k, 0.1f);
        finish(k, a);
        cached_key_reset(k);
        cached_key_add_double(k, (double)0.1f);
        finish(k, b);
        assert_memory_equal(a, b, sizeof(a));
        cached_key_reset(k);
        cached_key_add_double(k, 0.1);
        finish(k, b);
        assert_memory_not_equal(a, b, sizeof(a));
        cached_key_reset(k);
        cached_key_add_double(k, NAN);
        finish(k, a);
        cached_key_reset(k);
        cached_key_add_double(k, -NAN);
        finish(k, b);
        assert_memory_equal(a, b, sizeof(a));
        cached_key_free(k);
}

/* ---- errors */

static void assert_error(cached_key *k, const char *part)
{
        uint8_t digest[CACHED_KEY_SIZE] = {42};

        if (!strstr(cached_key_error(k), part))
                fail_msg("the error is \"%s\", without \"%s\"", cached_key_error(k), part);
        assert_int_equal(cached_key_finish(k, digest), CACHED_ERR_USAGE);
        assert_int_equal(digest[0], 42);
        assert_true(strstr(cached_key_error(k), part) != NULL);
        assert_int_equal(cached_key_reset(k), CACHED_OK);
        assert_string_equal(cached_key_error(k), "");
        assert_int_equal(cached_key_finish(k, digest), CACHED_OK);
        cached_key_reset(k);
}

static void errors_are_exact(void **state)
{
        cached_key *k = cached_key_new();
        uint8_t digest[CACHED_KEY_SIZE];

        (void)state;
        cached_key_end(k);
        assert_error(k, "nothing is open");
        cached_key_begin_list(k);
        assert_int_equal(cached_key_finish(k, digest), CACHED_ERR_USAGE);
        assert_error(k, "still open");
        cached_key_begin_bytes(k);
        assert_int_equal(cached_key_finish(k, digest), CACHED_ERR_USAGE);
        assert_error(k, "still open");
        cached_key_begin_bytes(k);
        cached_key_add_null(k);
        assert_error(k, "fed in pieces");
        cached_key_feed(k, "a", 1);
        assert_error(k, "nothing can be fed here");
        cached_key_begin_map(k);
        cached_key_add_int(k, 1);
        cached_key_end(k);
        assert_error(k, "after a key");
        cached_key_add_int(k, 1);
        cached_key_add_text(k, "Gr\xfc\xdf", 4);
        assert_error(k, "item 2: text is not UTF-8 at byte 2");
        cached_key_add_text(k, NULL, 1);
        assert_error(k, "NULL");
        cached_key_add_text(k, "a", (size_t)-1);
        assert_error(k, "no memory is that long");
        cached_key_add_bytes(k, NULL, 1);
        assert_error(k, "NULL");
        cached_key_add_uuid(k, NULL);
        assert_error(k, "NULL");
        cached_key_add_integer(k, 0, NULL, 1);
        assert_error(k, "NULL");
        cached_key_add_array(k, "<f8", 3, 1, NULL, "", 0);
        assert_error(k, "NULL");
        cached_key_add_array(k, "<f8", 3, SIZE_MAX, NULL, "", 0);
        assert_error(k, "dimensions");
        cached_key_begin_named(k, NULL, 0);
        assert_error(k, "the type's name is empty");
        cached_key_finish(k, NULL);
        assert_error(k, "32 bytes");
        for (int i = 0; i < 65; i++)
                cached_key_begin_list(k);
        assert_error(k, "too deep: 64");
        cached_key_free(k);
}

static void null_pointers_of_no_length_are_fine(void **state)
{
        cached_key *k = cached_key_new();
        uint8_t a[CACHED_KEY_SIZE], b[CACHED_KEY_SIZE];

        (void)state;
        for (int i = 0; i < 2; i++) {
                const char *none = i ? "" : NULL;

                cached_key_reset(k);
                cached_key_add_text(k, none, 0);
                cached_key_add_bytes(k, none, 0);
                cached_key_add_integer(k, 1, none, 0);
                cached_key_add_array(k, "<f8", 3, 0, NULL, none, 0);
                cached_key_add_time_zone(k, 0, 0, 0, 0, 0, none, 0);
                cached_key_begin_bytes(k);
                cached_key_feed(k, none, 0);
                cached_key_end(k);
                finish(k, i ? b : a);
        }
        assert_memory_equal(a, b, sizeof(a));
        cached_key_free(k);
}

static void no_builder_is_an_error(void **state)
{
        uint8_t digest[CACHED_KEY_SIZE];
        uint64_t dims[1] = {0};

        (void)state;
        assert_int_equal(cached_key_reset(NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_set_threads(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_null(NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_bool(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_int(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_uint(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_integer(NULL, 0, "", 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_double(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_text(NULL, "", 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_bytes(NULL, "", 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_uuid(NULL, digest), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_decimal(NULL, "1", 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_date(NULL, 1, 1, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_duration(NULL, 1, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_add_array(NULL, "a", 1, 1, dims, "", 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_begin_bytes(NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_begin_list(NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_begin_named(NULL, "a", 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_feed(NULL, "", 0), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_end(NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_key_finish(NULL, digest), CACHED_ERR_USAGE);
        assert_true(strlen(cached_key_error(NULL)) > 0);
        cached_key_free(NULL);
}

static void too_many_members_are_refused(void **state)
{
        cached_key *k = cached_key_new();
        int code = CACHED_OK, n = 0;

        (void)state;
        cached_key_begin_set(k);
        while (code == CACHED_OK && n <= CACHED_KEY_MEMBERS_MAX)
                code = cached_key_add_int(k, n++);
        assert_int_equal(code, CACHED_ERR_USAGE);
        assert_int_equal(n, CACHED_KEY_MEMBERS_MAX + 1);
        assert_error(k, "4194304 is the most");
        cached_key_free(k);
}

/* ---- large buffers */

static void hash_in_pieces(cached_key *k, const uint8_t *bytes, size_t n, size_t piece,
                           uint8_t ret[CACHED_KEY_SIZE])
{
        cached_key_reset(k);
        cached_key_begin_bytes(k);
        for (size_t at = 0; at < n; at += piece)
                cached_key_feed(k, bytes + at, n - at < piece ? n - at : piece);
        cached_key_end(k);
        finish(k, ret);
}

static void pieces_and_threads_change_nothing(void **state)
{
        const size_t sizes[] = {MIB - 1, MIB,         MIB + 1, 2 * MIB - 1,
                                2 * MIB, 2 * MIB + 1, 3 * MIB, 7 * MIB + 5};
        const size_t pieces[] = {4095, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 7, 8 * MIB};
        uint8_t *bytes = __real_malloc(8 * MIB), a[CACHED_KEY_SIZE], b[CACHED_KEY_SIZE];
        cached_key *k = cached_key_new();

        (void)state;
        key_json_by_rule(bytes, 8 * MIB);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                cached_key_set_threads(k, 1);
                cached_key_reset(k);
                cached_key_add_bytes(k, bytes, sizes[i]);
                finish(k, a);
                for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
                        cached_key_set_threads(k, (unsigned)(p % 4));
                        hash_in_pieces(k, bytes, sizes[i], pieces[p], b);
                        assert_memory_equal(a, b, sizeof(a));
                }
        }
        cached_key_free(k);
        free(bytes);
}

/* More than is hashed at a time. Zeros that nobody has written to take no memory. */
static void the_largest_change_nothing(void **state)
{
        const size_t n = 257 * MIB + 1;
        uint8_t a[CACHED_KEY_SIZE], b[CACHED_KEY_SIZE];
        uint8_t *zeros = mmap(NULL, n, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cached_key *k = cached_key_new();

        (void)state;
        assert_ptr_not_equal(zeros, MAP_FAILED);
        cached_key_set_threads(k, 2);
        cached_key_add_bytes(k, zeros, n);
        finish(k, a);
        hash_in_pieces(k, zeros, n, 100 * MIB + 1, b);
        assert_memory_equal(a, b, sizeof(a));
        cached_key_free(k);
        munmap(zeros, n);
}

static void helpers_are_bounded_and_take_no_signals(void **state)
{
        uint8_t *bytes = __real_malloc(20 * MIB), a[CACHED_KEY_SIZE], b[CACHED_KEY_SIZE];
        const struct {
                unsigned threads, size_mib, available, made;
        } rows[] = {
                {1, 20, 1000, 0}, {2, 20, 1000, 1}, {4, 1, 1000, 0},    {4, 2, 1000, 1},
                {4, 3, 1000, 2},  {4, 20, 1000, 3}, {16, 20, 1000, 15}, {UINT32_MAX, 20, 1000, 15},
                {8, 20, 0, 0},    {8, 20, 2, 2},
        };
        cached_key *k = cached_key_new();

        (void)state;
        key_json_by_rule(bytes, 20 * MIB);
        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                threads_left = 1000;
                cached_key_set_threads(k, 1);
                cached_key_reset(k);
                cached_key_add_bytes(k, bytes, rows[i].size_mib * MIB);
                finish(k, a);
                threads_left = rows[i].available;
                threads_made = 0;
                cached_key_set_threads(k, rows[i].threads);
                cached_key_reset(k);
                cached_key_add_bytes(k, bytes, rows[i].size_mib * MIB);
                finish(k, b);
                assert_memory_equal(a, b, sizeof(a));
                assert_int_equal(threads_made, rows[i].made);
        }
        threads_left = 1000;
        assert_false(helper_takes_signals);
        cached_key_free(k);
        free(bytes);
}

/* ---- memory that ends */

/* A bit of everything that allocates. */
static int build_much(const uint8_t *bytes)
{
        cached_key *k = cached_key_new();
        uint8_t digest[CACHED_KEY_SIZE];
        int code;

        if (!k)
                return CACHED_ERR_NOMEM;
        cached_key_begin_map(k);
        for (int i = 0; i < 40; i++) {
                cached_key_add_int(k, i);
                cached_key_begin_set(k);
                cached_key_add_int(k, i);
                cached_key_end(k);
        }
        cached_key_end(k);
        cached_key_begin_bytes(k);
        for (size_t at = 0; at < MIB + 1; at += 65536)
                cached_key_feed(k, bytes + at, 65536);
        cached_key_end(k);
        code = cached_key_finish(k, digest);
        if (code != CACHED_OK)
                assert_string_equal(strstr(cached_key_error(k), "out of memory"), "out of memory");
        cached_key_free(k);
        return code;
}

static void every_allocation_may_fail(void **state)
{
        uint8_t *bytes = __real_malloc(2 * MIB);
        unsigned long refused = 0;

        (void)state;
        key_json_by_rule(bytes, 2 * MIB);
        for (unsigned long i = 1;; i++) {
                int code;

                allocations = 0;
                failing = i;
                code = build_much(bytes);
                failing = 0;
                if (allocations < i) {
                        assert_int_equal(code, CACHED_OK);
                        break;
                }
                assert_int_equal(code, CACHED_ERR_NOMEM);
                refused++;
        }
        assert_true(refused >= 50);
        free(bytes);
}

/* What the library makes by itself is what the builder makes of KEYS.md's items. */
static void variants_have_the_keys_of_their_items(void **state)
{
        static const size_t sizes[] = {0, 1, 32, (1u << 20) + 1};
        uint8_t parent[KEY_DIGEST_SIZE], ours[KEY_DIGEST_SIZE], theirs[KEY_DIGEST_SIZE];
        uint8_t *value = __real_malloc((1u << 20) + 1);

        memset(parent, 7, sizeof(parent));
        memset(value, 'v', (1u << 20) + 1);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
                cached_key *k = cached_key_new();

                assert_int_equal(cached_key_begin_named(k, "cached-variant", 14), CACHED_OK);
                assert_int_equal(cached_key_add_bytes(k, parent, sizeof(parent)), CACHED_OK);
                assert_int_equal(cached_key_add_text(k, "mode", 4), CACHED_OK);
                assert_int_equal(cached_key_add_bytes(k, value, sizes[i]), CACHED_OK);
                assert_int_equal(cached_key_end(k), CACHED_OK);
                assert_int_equal(cached_key_finish(k, theirs), CACHED_OK);
                cached_key_free(k);
                vary_key(parent, "mode", value, sizes[i], ours);
                assert_memory_equal(ours, theirs, sizeof(ours));
                /* The next step of the path. */
                memcpy(parent, ours, sizeof(parent));
        }
        free(value);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(vectors_have_their_keys),
                cmocka_unit_test(invalid_vectors_are_refused),
                cmocka_unit_test(variants_have_the_keys_of_their_items),
                cmocka_unit_test(finish_goes_on),
                cmocka_unit_test(floats_and_doubles_agree),
                cmocka_unit_test(errors_are_exact),
                cmocka_unit_test(null_pointers_of_no_length_are_fine),
                cmocka_unit_test(no_builder_is_an_error),
                cmocka_unit_test(too_many_members_are_refused),
                cmocka_unit_test(pieces_and_threads_change_nothing),
                cmocka_unit_test(the_largest_change_nothing),
                cmocka_unit_test(helpers_are_bounded_and_take_no_signals),
                cmocka_unit_test(every_allocation_may_fail),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
