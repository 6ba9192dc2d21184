/* SPDX-License-Identifier: MIT */
/*
 * Values as LZ4 blocks: which are packed, that each comes back as it was by every call, blocks that
 * are damaged or lie about their size, what the daemon does not take packed, and no memory.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "fail-alloc.h"
#include "fake-store.h"

#include "client/pack.h"

#include <lz4.h>

#define MAX ((size_t)4 << 20)

/* Packs to about a third. */
static void fill_text(uint8_t *p, size_t n)
{
        uint32_t x = 12345;

        for (size_t i = 0; i < n; i++) {
                x = x * 1664525u + 1013904223u;
                p[i] = (i / 16) % 3 ? "{\"name\":\"value\"}"[i % 16] : (uint8_t)(x >> 24);
        }
}

static void fill_noise(uint8_t *p, size_t n)
{
        uint32_t x = 1;

        for (size_t i = 0; i < n; i++) {
                x = x * 1664525u + 1013904223u;
                p[i] = (uint8_t)(x >> 24);
        }
}

/* ------------------------------------------------------------------------------------- one value
 */

/* True if it was packed; then it was worth it, and comes back. */
static bool packs(struct packing which, const uint8_t *value, size_t n)
{
        struct packed p;
        uint8_t *back;

        if (!packed_init(&p, which, value, n))
                return false;
        assert_true(p.n > 0 && p.n <= n - n / 8);
        back = malloc(n ? n : 1);
        assert_non_null(back);
        assert_true(pack_undo(p.bytes, p.n, back, n));
        assert_memory_equal(back, value, n);
        assert_false(pack_undo(p.bytes, p.n, back, n - 1));
        free(back);
        packed_done(&p);
        packed_done(&p);
        return true;
}

static void test_a_sizes(void **state)
{
        struct packing which = {4096, MAX};
        uint8_t *text = malloc(MAX + 1);

        assert_non_null(text);
        fill_text(text, MAX + 1);
        assert_false(packs(which, text, 4095));
        assert_true(packs(which, text, 4096));
        assert_true(packs(which, text, 65536));
        assert_true(packs(which, text, 131071));
        assert_true(packs(which, text, 131072));
        assert_true(packs(which, text, MAX));
        assert_false(packs(which, text, MAX + 1));
        assert_false(packs((struct packing){0, MAX}, text, 65536));
        assert_false(packs((struct packing){4096, 0}, text, 65536));
        /* From one byte on, if somebody wants that. */
        for (size_t n = 0; n < 300; n++)
                (void)packs((struct packing){1, MAX}, text, n);
        memset(text, 'x', 300);
        assert_true(packs((struct packing){1, MAX}, text, 300));
        assert_false(packs((struct packing){1, MAX}, NULL, 0));
        free(text);
}

static void test_a_not_worth_it(void **state)
{
        struct packing which = {1, MAX};
        uint8_t *v = malloc(MAX);

        assert_non_null(v);
        fill_noise(v, MAX);
        assert_false(packs(which, v, 5000));
        assert_false(packs(which, v, 1 << 20));
        /* Just enough of it is, and just not. */
        memset(v, 0, 8000 * 13 / 100);
        assert_true(packs(which, v, 8000));
        fill_noise(v, 8000);
        memset(v, 0, 8000 * 12 / 100);
        assert_false(packs(which, v, 8000));
        /* Large: the first part decides, also against the rest. */
        fill_noise(v, 65536);
        memset(v + 65536, 0, MAX - 65536);
        assert_false(packs(which, v, MAX));
        /* And what begins well is given up later. */
        memset(v, 0, 65536);
        fill_noise(v + 65536, MAX - 65536);
        assert_false(packs(which, v, MAX));
        free(v);
}

static void test_a_impossible(void **state)
{
        uint8_t to[16];

        assert_true(pack_is_possible(1, 255));
        assert_false(pack_is_possible(1, 1000));
        assert_false(pack_is_possible(1, UINT64_MAX));
        assert_false(pack_is_possible(0, 1000));
        assert_false(pack_is_possible(SIZE_MAX, 1));
        assert_false(pack_undo("", 0, to, 4));
        assert_false(pack_undo("\xff\xff\xff", 3, to, 16));
        assert_false(pack_undo("\x10x", 2, to, UINT64_MAX));
        assert_true(pack_undo("\x10x", 2, to, 1));
        assert_false(pack_undo("\x10x", 2, to, 2));
}

/* ------------------------------------------------------------------------------------- the calls
 */

static cached *client_with(const char *path, uint64_t min, int decode)
{
        cached_options *o = cached_options_new();
        cached *c;

        assert_int_equal(cached_options_set_socket(o, path), CACHED_OK);
        assert_int_equal(cached_options_set_timeout_ms(o, PATIENCE_MS), CACHED_OK);
        assert_int_equal(cached_options_set_compression(o, min), CACHED_OK);
        assert_int_equal(cached_options_set_decode(o, decode), CACHED_OK);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        cached_options_free(o);
        return c;
}

static void assert_value(const void *value, size_t n, const void *expected, size_t n_expected)
{
        assert_non_null(value);
        assert_int_equal(n, n_expected);
        assert_memory_equal(value, expected, n);
}

static void assert_reply_value(const cached_reply *r, const void *expected, size_t n_expected)
{
        size_t n = 0;
        const void *value = cached_reply_value(r, &n);

        assert_value(value, n, expected, n_expected);
}

/* Entry @i of the store is packed, or not, and stands for @n bytes. */
static void assert_stored(struct store *s, size_t i, bool packed, size_t n)
{
        struct stored e = store_at(s, i);

        assert_int_equal(e.encoding, packed ? CACHED_ENCODING_LZ4 : CACHED_ENCODING_RAW);
        assert_int_equal(packed ? e.raw_size : e.n, n);
        if (packed)
                assert_true(e.n <= n - n / 8);
}

static void test_b_get_and_set(void **state)
{
        static uint8_t text[200000];
        static struct store s;
        struct fake d;
        cached_reply *r;
        cached *c;
        uint64_t u;

        fill_text(text, sizeof(text));
        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_set(c, "x", "a", 1, text, 4095, NULL, NULL), CACHED_OK);
        assert_int_equal(cached_set(c, "x", "b", 1, text, 4096, NULL, NULL), CACHED_OK);
        assert_int_equal(cached_set(c, "x", "c", 1, text, sizeof(text), NULL, NULL), CACHED_OK);
        assert_stored(&s, 0, false, 4095);
        assert_stored(&s, 1, true, 4096);
        assert_stored(&s, 2, true, sizeof(text));

        assert_int_equal(cached_get(c, "x", "b", 1, &r), CACHED_OK);
        assert_reply_value(r, text, 4096);
        assert_int_equal(cached_reply_encoding(r), CACHED_ENCODING_RAW);
        assert_int_equal(cached_reply_raw_size(r), 4096);
        assert_int_equal(cached_reply_version(r), 1);
        assert_int_equal(cached_reply_u64(r, "size", &u), CACHED_OK);
        assert_int_equal(u, 4096);
        cached_reply_free(r);
        assert_int_equal(cached_peek(c, "x", "c", 1, &r), CACHED_OK);
        assert_reply_value(r, text, sizeof(text));
        cached_reply_free(r);
        assert_int_equal(cached_get(c, "x", "c", 1, NULL), CACHED_OK);
        cached_free(c);
        store_stop(&d, &s);
}

static void test_b_off(void **state)
{
        static uint8_t text[200000];
        static struct store s;
        cached_set_options *o = cached_set_options_new();
        struct fake d;
        cached_reply *r;
        cached *c;

        fill_text(text, sizeof(text));
        s = (struct store){0};
        store_start(&d, &s);
        c = client_with(d.path, 0, 1);
        assert_int_equal(cached_set(c, "x", "a", 1, text, sizeof(text), NULL, NULL), CACHED_OK);
        assert_stored(&s, 0, false, sizeof(text));
        cached_free(c);
        /* The caller's own encoding is left alone, both ways. */
        c = client_with(d.path, 1, 0);
        assert_int_equal(cached_set_options_set_encoding(o, CACHED_ENCODING_LZ4, 5000), CACHED_OK);
        assert_int_equal(cached_set(c, "x", "a", 1, text, 4500, o, NULL), CACHED_OK);
        assert_int_equal(store_at(&s, 0).n, 4500);
        assert_int_equal(store_at(&s, 0).raw_size, 5000);
        assert_int_equal(cached_get(c, "x", "a", 1, &r), CACHED_OK);
        assert_reply_value(r, text, 4500);
        assert_int_equal(cached_reply_encoding(r), CACHED_ENCODING_LZ4);
        assert_int_equal(cached_reply_raw_size(r), 5000);
        cached_reply_free(r);
        cached_set_options_free(o);
        cached_free(c);
        store_stop(&d, &s);
}

/* What the store holds under a key of one letter. */
static void plant(struct store *s, char key, const void *value, size_t n, int encoding,
                  uint64_t raw_size)
{
        Cached__V1__Set m = CACHED__V1__SET__INIT;

        m.key = (ProtobufCBinaryData){1, (uint8_t *)&key};
        m.encoding = (Cached__V1__Encoding)encoding;
        m.raw_size = raw_size;
        assert_int_equal(store_put(s, &m, value, n), CACHED_OK);
}

static void plant_zeros(struct store *s, char key, size_t n, uint64_t raw_size)
{
        char *zeros = calloc(1, n + 1), *block = malloc((size_t)LZ4_compressBound((int)n));
        int got;

        assert_true(zeros && block);
        got = LZ4_compress_default(zeros, block, (int)n, LZ4_compressBound((int)n));
        assert_true(got > 0);
        plant(s, key, block, (size_t)got, CACHED_ENCODING_LZ4, raw_size);
        free(zeros);
        free(block);
}

static void test_c_damaged(void **state)
{
        static struct store s;
        struct fake d;
        cached_reply *r;
        cached *c;

        s = (struct store){0};
        plant_zeros(&s, 'a', 1000, 1000);
        plant_zeros(&s, 'b', 1000, 999);
        plant_zeros(&s, 'c', 1000, 1001);
        plant_zeros(&s, 'd', 1000, UINT64_MAX);
        plant(&s, 'e', "\xff\xff\xff\xff", 4, CACHED_ENCODING_LZ4, 500);
        plant(&s, 'f', "anything", 8, 7, 500);
        plant_zeros(&s, 'g', 0, 0);
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        for (const char *k = "abcde"; *k; k++) {
                int code = cached_get(c, "x", k, 1, &r);

                assert_int_equal(code, *k == 'a' ? CACHED_OK : CACHED_NOT_FOUND);
                assert_int_equal(cached_reply_code(r), code);
                assert_int_equal(cached_reply_value(r, NULL) != NULL, *k == 'a');
                assert_int_equal(cached_reply_version(r), *k == 'a');
                assert_int_equal(*cached_reply_error(r) == '\0', *k == 'a');
                cached_reply_free(r);
        }
        /* One that is unknown here is the caller's. */
        assert_int_equal(cached_get(c, "x", "f", 1, &r), CACHED_OK);
        assert_int_equal(cached_reply_encoding(r), 7);
        assert_memory_equal(cached_reply_value(r, NULL), "anything", 8);
        cached_reply_free(r);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        cached_free(c);
        store_stop(&d, &s);
}

static void test_c_many(void **state)
{
        static const char keys[] = "abcdefgh";
        static struct store s;
        const void *key[8];
        size_t n_key[8], n;
        struct fake d;
        cached_reply *r;
        cached *c;

        s = (struct store){0};
        plant_zeros(&s, 'a', 1000, 1000);
        plant(&s, 'b', "plain", 5, CACHED_ENCODING_RAW, 0);
        plant_zeros(&s, 'c', 1000, 5);
        plant_zeros(&s, 'd', 100000, 100000);
        plant_zeros(&s, 'e', 1000, UINT64_MAX);
        plant(&s, 'g', "", 0, CACHED_ENCODING_RAW, 0);
        plant(&s, 'h', "last", 4, CACHED_ENCODING_RAW, 0);
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        for (size_t i = 0; i < 8; i++) {
                key[i] = keys + i;
                n_key[i] = 1;
        }
        assert_int_equal(cached_get_many(c, "x", 8, key, n_key, &r), CACHED_OK);
        for (size_t i = 0; i < 8; i++)
                assert_int_equal(cached_reply_item_code(r, i),
                                 strchr("cef", keys[i]) ? CACHED_NOT_FOUND : CACHED_OK);
        assert_non_null(cached_reply_item_value(r, 0, &n));
        assert_int_equal(n, 1000);
        assert_memory_equal(cached_reply_item_value(r, 1, &n), "plain", 5);
        assert_int_equal(n, 5);
        assert_null(cached_reply_item_value(r, 2, &n));
        assert_non_null(cached_reply_item_value(r, 3, &n));
        assert_int_equal(n, 100000);
        assert_int_equal(((const char *)cached_reply_item_value(r, 3, NULL))[99999], 0);
        assert_null(cached_reply_item_value(r, 4, NULL));
        assert_non_null(cached_reply_item_value(r, 6, &n));
        assert_int_equal(n, 0);
        assert_memory_equal(cached_reply_item_value(r, 7, &n), "last", 4);
        assert_int_equal(n, 4);
        cached_reply_free(r);
        /* All damaged: nothing is left, and all is well. */
        assert_int_equal(cached_get_many(c, "x", 1, key + 2, n_key, &r), CACHED_OK);
        assert_int_equal(cached_reply_item_code(r, 0), CACHED_NOT_FOUND);
        cached_reply_free(r);
        cached_free(c);
        store_stop(&d, &s);
}

/* More than a reply may unfold to: the rest is to be asked for alone. */
static void test_c_many_large(void **state)
{
        static struct store s;
        const void *key[4] = {"a", "a", "a", "b"};
        size_t n_key[4] = {1, 1, 1, 1}, n;
        struct fake d;
        cached_reply *r;
        cached *c;

        s = (struct store){0};
        /* A block cannot be told to be a lie by its size alone. */
        plant_zeros(&s, 'a', 2u << 20, 300u << 20);
        s.at[0].value = realloc(s.at[0].value, 2u << 20);
        assert_non_null(s.at[0].value);
        memset(s.at[0].value, 0, 2u << 20);
        s.at[0].n = 2u << 20;
        plant(&s, 'b', "plain", 5, CACHED_ENCODING_RAW, 0);
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_get_many(c, "x", 4, key, n_key, &r), CACHED_OK);
        assert_int_equal(cached_reply_item_code(r, 0), CACHED_NOT_FOUND);
        assert_int_equal(cached_reply_item_code(r, 1), CACHED_NOT_FOUND);
        assert_int_equal(cached_reply_item_code(r, 2), CACHED_TOO_LARGE);
        assert_memory_equal(cached_reply_item_value(r, 3, &n), "plain", 5);
        cached_reply_free(r);
        cached_free(c);
        store_stop(&d, &s);
}

static void test_d_set_many(void **state)
{
        static uint8_t text[9000], noise[9000];
        static struct store s;
        const void *key[4] = {"a", "b", "c", "d"}, *value[4] = {text, noise, "", text};
        size_t n_key[4] = {1, 1, 1, 1}, n_value[4] = {9000, 9000, 0, 4000}, n = 0;
        struct fake d;
        cached_reply *r;
        cached *c;

        fill_text(text, sizeof(text));
        fill_noise(noise, sizeof(noise));
        s = (struct store){0};
        store_start(&d, &s);
        d.max_lz4 = MAX;
        c = client_new(d.path, PATIENCE_MS);
        /* Not before it is known what the daemon takes: an item cannot be sent again. */
        assert_int_equal(cached_set_many(c, "x", 4, key, n_key, value, n_value, NULL, NULL),
                         CACHED_OK);
        assert_stored(&s, 0, false, 9000);
        assert_int_equal(cached_set_many(c, "x", 4, key, n_key, value, n_value, NULL, NULL),
                         CACHED_OK);
        assert_stored(&s, 0, true, 9000);
        assert_stored(&s, 1, false, 9000);
        assert_stored(&s, 2, false, 0);
        assert_stored(&s, 3, false, 4000);
        assert_int_equal(cached_get_many(c, "x", 4, key, n_key, &r), CACHED_OK);
        for (size_t i = 0; i < 4; i++) {
                const void *got = cached_reply_item_value(r, i, &n);

                assert_value(got, n, value[i], n_value[i]);
        }
        cached_reply_free(r);
        cached_free(c);
        store_stop(&d, &s);
}

static void test_d_pipeline(void **state)
{
        static uint8_t text[9000];
        static struct store s;
        struct fake d;
        cached_pipeline *p;
        cached_reply *r;
        cached *c;

        fill_text(text, sizeof(text));
        s = (struct store){0};
        store_start(&d, &s);
        d.max_lz4 = MAX;
        c = client_new(d.path, PATIENCE_MS);
        p = cached_pipeline_new(c);
        for (int i = 0; i < 2; i++) {
                assert_int_equal(cached_pipeline_set(p, "x", "a", 1, text, 9000, NULL, 1),
                                 CACHED_OK);
                assert_int_equal(cached_pipeline_get(p, "x", "a", 1, 2), CACHED_OK);
                assert_int_equal(cached_pipeline_next(p, NULL, NULL), CACHED_OK);
                assert_int_equal(cached_pipeline_next(p, NULL, &r), CACHED_OK);
                assert_reply_value(r, text, 9000);
                assert_int_equal(cached_reply_encoding(r), CACHED_ENCODING_RAW);
                cached_reply_free(r);
                assert_stored(&s, 0, i > 0, 9000);
        }
        pthread_mutex_lock(&s.lock);
        s.at[0].raw_size--;
        pthread_mutex_unlock(&s.lock);
        assert_int_equal(cached_pipeline_get(p, "x", "a", 1, 3), CACHED_OK);
        assert_int_equal(cached_pipeline_next(p, NULL, &r), CACHED_NOT_FOUND);
        assert_null(cached_reply_value(r, NULL));
        cached_reply_free(r);
        cached_pipeline_free(p);
        cached_free(c);
        store_stop(&d, &s);
}

/* A daemon that takes less, and says so; or has learned of it since. */
static void test_e_refused(void **state)
{
        static uint8_t text[200000];
        static struct store s;
        struct fake d;
        cached_reply *r;
        cached *c;

        fill_text(text, sizeof(text));
        s = (struct store){.refuse_raw_over = 100000};
        store_start(&d, &s);
        d.max_lz4 = 150000;
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_set(c, "x", "a", 1, text, sizeof(text), NULL, &r), CACHED_OK);
        assert_int_equal(cached_reply_version(r), 2);
        cached_reply_free(r);
        assert_int_equal(atomic_load(&s.n_sets), 2); /* not known yet */
        assert_stored(&s, 0, false, sizeof(text));
        assert_int_equal(cached_set(c, "x", "b", 1, text, sizeof(text), NULL, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&s.n_sets), 3); /* known */
        assert_int_equal(cached_set(c, "x", "c", 1, text, 120000, NULL, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&s.n_sets), 5); /* lowered */
        assert_stored(&s, 2, false, 120000);
        assert_int_equal(cached_set(c, "x", "d", 1, text, 90000, NULL, NULL), CACHED_OK);
        assert_stored(&s, 3, true, 90000);
        cached_free(c);
        store_stop(&d, &s);
}

/* Without memory to pack, a value goes as it is; without memory to unpack, there is none. */
static void test_f_no_memory(void **state)
{
        static uint8_t text[9000];
        static struct store s;
        size_t n_raw = 0, n_failed = 0;
        struct fake d;
        cached_reply *r;
        cached *c;

        fill_text(text, sizeof(text));
        s = (struct store){0};
        store_start(&d, &s);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        for (long i = 1, done = 0; !done; i++) {
                int code;

                fail_after = i;
                code = cached_set(c, "x", "a", 1, text, sizeof(text), NULL, &r);
                done = fail_after > 0;
                fail_after = 0;
                assert_true(code == CACHED_OK || code == CACHED_ERR_NOMEM);
                cached_reply_free(r);
                n_raw += code == CACHED_OK && store_at(&s, 0).encoding == CACHED_ENCODING_RAW;
        }
        assert_true(n_raw > 0);
        for (long i = 1, done = 0; !done; i++) {
                int code;

                fail_after = i;
                code = cached_get(c, "x", "a", 1, &r);
                done = fail_after > 0;
                fail_after = 0;
                if (code == CACHED_OK) {
                        assert_reply_value(r, text, sizeof(text));
                } else {
                        assert_int_equal(code, CACHED_ERR_NOMEM);
                        assert_null(cached_reply_value(r, NULL));
                        n_failed++;
                }
                cached_reply_free(r);
        }
        assert_true(n_failed > 0);
        cached_free(c);
        store_stop(&d, &s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_sizes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_not_worth_it, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_impossible, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_get_and_set, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_off, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_damaged, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_many, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_many_large, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_set_many, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_pipeline, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_no_memory, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
