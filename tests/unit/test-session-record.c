/* SPDX-License-Identifier: MIT */
/*
 * Session records: numbers and their texts, every kind of change beside a simple model, what is
 * remembered of operations, limits, and records that are not whole.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "services/session-change.h"

/* ---- numbers */

static int read_text(const char *text, bool real, struct session_number *ret)
{
        return session_number_read((const uint8_t *)text, strlen(text), real, ret);
}

static void test_integers(void **state)
{
        (void)state;
        static const struct {
                const char *text;
                int k;
                int64_t value;
        } rows[] = {
                {"0", SESSION_NUMBER_OK, 0},
                {"-0", SESSION_NUMBER_OK, 0},
                {"007", SESSION_NUMBER_OK, 7},
                {"9223372036854775807", SESSION_NUMBER_OK, INT64_MAX},
                {"-9223372036854775808", SESSION_NUMBER_OK, INT64_MIN},
                {"9223372036854775808", SESSION_NUMBER_E_OVERFLOW, 0},
                {"-9223372036854775809", SESSION_NUMBER_E_OVERFLOW, 0},
                {"99999999999999999999999", SESSION_NUMBER_E_OVERFLOW, 0},
                {"", SESSION_NUMBER_E_TEXT, 0},
                {"-", SESSION_NUMBER_E_TEXT, 0},
                {"+1", SESSION_NUMBER_E_TEXT, 0},
                {" 1", SESSION_NUMBER_E_TEXT, 0},
                {"1 ", SESSION_NUMBER_E_TEXT, 0},
                {"1.0", SESSION_NUMBER_E_TEXT, 0},
                {"0x10", SESSION_NUMBER_E_TEXT, 0},
                {"1e3", SESSION_NUMBER_E_TEXT, 0},
        };
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct session_number x;
                assert_int_equal(read_text(rows[i].text, false, &x), rows[i].k);
                if (rows[i].k == SESSION_NUMBER_OK)
                        assert_true(!x.is_real && x.integer == rows[i].value);
        }
        /* A zero byte inside is no end. */
        struct session_number x;
        assert_int_equal(session_number_read((const uint8_t *)"1\0", 2, false, &x),
                         SESSION_NUMBER_E_TEXT);
}

static void test_reals(void **state)
{
        (void)state;
        static const struct {
                const char *text;
                int k;
                const char *again; /* as it is written */
        } rows[] = {
                {"1.5", SESSION_NUMBER_OK, "1.5"},
                {"-2e3", SESSION_NUMBER_OK, "-2000"},
                {"-2E+3", SESSION_NUMBER_OK, "-2000"},
                {"0.1", SESSION_NUMBER_OK, "0.1"},
                {"0.30000000000000004", SESSION_NUMBER_OK, "0.30000000000000004"},
                {"1e23", SESSION_NUMBER_OK, "1e+23"},
                {"5e-324", SESSION_NUMBER_OK, "5e-324"},
                {"1.7976931348623157e308", SESSION_NUMBER_OK, "1.7976931348623157e+308"},
                {"9007199254740993", SESSION_NUMBER_OK, "9007199254740992"},
                {"1e400", SESSION_NUMBER_E_OVERFLOW, NULL},
                {"-1e400", SESSION_NUMBER_E_OVERFLOW, NULL},
                {"1e-400", SESSION_NUMBER_OK, "0"},
                {"nan", SESSION_NUMBER_E_TEXT, NULL},
                {"inf", SESSION_NUMBER_E_TEXT, NULL},
                {"infinity", SESSION_NUMBER_E_TEXT, NULL},
                {"0x1p3", SESSION_NUMBER_E_TEXT, NULL},
                {"1,5", SESSION_NUMBER_E_TEXT, NULL},
                {"1.", SESSION_NUMBER_E_TEXT, NULL},
                {".5", SESSION_NUMBER_E_TEXT, NULL},
                {"1e", SESSION_NUMBER_E_TEXT, NULL},
                {"1e+", SESSION_NUMBER_E_TEXT, NULL},
                {" 1", SESSION_NUMBER_E_TEXT, NULL},
                {"1\n", SESSION_NUMBER_E_TEXT, NULL},
                {"", SESSION_NUMBER_E_TEXT, NULL},
        };
        for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
                struct session_number x;
                char text[SESSION_NUMBER_ROOM];
                assert_int_equal(read_text(rows[i].text, true, &x), rows[i].k);
                if (rows[i].k != SESSION_NUMBER_OK)
                        continue;
                assert_int_equal(session_number_write(&x, text), strlen(rows[i].again));
                assert_string_equal(text, rows[i].again);
        }
        char *longest = malloc(5000);
        struct session_number x;
        memset(longest, '1', 5000);
        assert_int_equal(session_number_read((uint8_t *)longest, 5000, true, &x),
                         SESSION_NUMBER_E_TEXT);
        free(longest);
}

static uint64_t next_random(uint64_t *seed)
{
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        return *seed;
}

static void test_random_reals_read_back(void **state)
{
        (void)state;
        uint64_t seed = 88172645463325252u;
        for (unsigned i = 0; i < 20000; i++) {
                uint64_t bits = next_random(&seed);
                struct session_number x = {.is_real = true}, back;
                memcpy(&x.real, &bits, 8);
                if (!__builtin_isfinite(x.real))
                        continue;
                char text[SESSION_NUMBER_ROOM];
                size_t n = session_number_write(&x, text);
                assert_true(n < sizeof(text));
                assert_int_equal(session_number_read((uint8_t *)text, n, true, &back),
                                 SESSION_NUMBER_OK);
                assert_memory_equal(&back.real, &x.real, 8);
        }
}

static void test_sums(void **state)
{
        (void)state;
        struct session_number most = {.integer = INT64_MAX}, one = {.integer = 1}, sum;
        struct session_number real = {.is_real = true, .real = 0.5};
        struct session_number huge = {.is_real = true, .real = 1.7976931348623157e308};
        assert_int_equal(session_number_add(&most, &one, &sum), SESSION_NUMBER_E_OVERFLOW);
        assert_int_equal(session_number_add(&one, &real, &sum), SESSION_NUMBER_OK);
        assert_true(sum.is_real && sum.real == 1.5);
        assert_int_equal(session_number_add(&real, &one, &sum), SESSION_NUMBER_E_TEXT);
        assert_int_equal(session_number_add(&huge, &huge, &sum), SESSION_NUMBER_E_OVERFLOW);
}

/* ---- a session beside its model */

#define MODEL_ITEMS 24u
#define MODEL_VALUE 64u

struct model_item {
        char key[SESSION_ITEM_KEY];
        uint32_t n_key, n_value, flags;
        uint8_t value[MODEL_VALUE];
        uint64_t version;
};

struct world {
        uint8_t *bytes; /* exactly as long as the record, so that a read beyond it shows */
        size_t n;
        struct session_record record;
        struct model_item items[MODEL_ITEMS];
        uint32_t n_items;
        uint64_t version;
};

static void begin(struct world *w, const char *label)
{
        static const uint8_t verifier[SESSION_VERIFIER] = "0123456789abcdef";
        uint8_t bytes[SESSION_RECORD_NEW_MAX];
        const struct session_record_new what = {
                .verifier = verifier,
                .label = label,
                .n_label = strlen(label),
                .bound = true,
                .grace_ms = 5000,
                .created_ms = 77,
                .idle_ms = SESSION_NEVER_IDLE,
        };
        *w = (struct world){.n = session_record_new(&what, bytes)};
        w->bytes = malloc(w->n);
        memcpy(w->bytes, bytes, w->n);
        assert_true(session_record_read(w->bytes, w->n, &w->record));
}

static void end(struct world *w)
{
        free(w->bytes);
}

static int apply(struct world *w, struct session_change *c, struct session_result *result)
{
        size_t room = session_change_room(&w->record, c);
        uint8_t *to = malloc(room);
        int k = session_change(&w->record, c, to, result);
        if (k != SESSION_CHANGE_OK || result->n == 0) {
                free(to);
                return k;
        }
        assert_true(result->n <= room);
        uint8_t *exact = malloc(result->n);
        memcpy(exact, to, result->n);
        free(to);
        free(w->bytes);
        w->bytes = exact;
        w->n = result->n;
        assert_true(session_record_read(w->bytes, w->n, &w->record));
        assert_int_equal(w->record.version, result->version);
        return k;
}

static struct session_change change_of(enum session_change_kind kind, struct session_item *items,
                                       size_t n)
{
        assert_true(session_items_sort(items, n));
        return (struct session_change){.kind = kind,
                                       .items = items,
                                       .n_items = n,
                                       .max_keys = 1000,
                                       .max_stored = 1 << 20};
}

static struct session_item item_of(const char *key, const char *value)
{
        return (struct session_item){
                .key = (const uint8_t *)key,
                .n_key = (uint32_t)strlen(key),
                .value = (const uint8_t *)value,
                .n_value = value ? (uint32_t)strlen(value) : 0,
        };
}

static int set(struct world *w, const char *key, const char *value, struct session_result *result)
{
        struct session_item item = item_of(key, value);
        struct session_change c = change_of(SESSION_SET_ITEMS, &item, 1);
        return apply(w, &c, result);
}

static void assert_value(struct world *w, const char *key, const char *value)
{
        struct session_item item = item_of(key, NULL);
        session_items_find(&w->record, &item, 1);
        assert_int_equal(item.found, value != NULL);
        if (!value)
                return;
        assert_int_equal(item.n_value, strlen(value));
        assert_memory_equal(item.value, value, strlen(value));
}

static struct model_item *model_find(struct world *w, const struct session_item *item)
{
        for (uint32_t i = 0; i < w->n_items; i++)
                if (w->items[i].n_key == item->n_key &&
                    memcmp(w->items[i].key, item->key, item->n_key) == 0)
                        return &w->items[i];
        return NULL;
}

static void model_set(struct world *w, const struct session_item *item, const uint8_t *value,
                      uint32_t n, uint32_t flags)
{
        struct model_item *m = model_find(w, item);
        if (!m) {
                m = &w->items[w->n_items++];
                memcpy(m->key, item->key, item->n_key);
                m->n_key = item->n_key;
        }
        if (n > 0)
                memmove(m->value, value, n);
        m->n_value = n;
        m->flags = flags;
        m->version = w->version;
}

static void model_delete(struct world *w, struct model_item *m)
{
        size_t i = (size_t)(m - w->items);
        memmove(m, m + 1, (w->n_items - i - 1) * sizeof(*m));
        w->n_items--;
}

static void assert_same(struct world *w)
{
        struct session_item item;
        const uint8_t *at = NULL;
        assert_int_equal(w->record.n_items, w->n_items);
        assert_int_equal(w->record.version, w->version);
        uint64_t stored = 0;
        for (uint32_t i = 0; i < w->n_items; i++) {
                const struct model_item *m = &w->items[i];
                assert_true(session_record_next(&w->record, &at, &item));
                assert_int_equal(item.n_key, m->n_key);
                assert_memory_equal(item.key, m->key, m->n_key);
                assert_int_equal(item.n_value, m->n_value);
                assert_memory_equal(item.value, m->value, m->n_value);
                assert_int_equal(item.flags, m->flags);
                assert_int_equal(item.version, m->version);
                stored += item.n_key + item.n_value;
        }
        assert_false(session_record_next(&w->record, &at, &item));
        assert_int_equal(w->record.n_stored, stored);
        assert_int_equal(w->record.n_label, 5);
        assert_memory_equal(w->record.label, "label", 5);
        assert_memory_equal(w->record.verifier, "0123456789abcdef", 16);
}

struct choice {
        char keys[4][SESSION_ITEM_KEY + 1];
        uint8_t values[4][MODEL_VALUE];
        struct session_item items[4];
        size_t n;
};

/* One to four different keys out of twenty, the longest of which is as long as one may be. */
static void choose(struct choice *c, uint64_t *seed, size_t max)
{
        unsigned key = (unsigned)(next_random(seed) % 20);
        c->n = 1 + next_random(seed) % max;
        for (size_t i = 0; i < c->n; i++) {
                size_t n = key % 7 == 0 ? SESSION_ITEM_KEY : 1 + key % 5;
                memset(c->keys[i], 'a' + (int)(key % 20), SESSION_ITEM_KEY);
                uint32_t n_value = (uint32_t)(next_random(seed) % 17);
                for (uint32_t j = 0; j < n_value; j++)
                        c->values[i][j] = (uint8_t)next_random(seed);
                c->items[i] = (struct session_item){
                        .key = (const uint8_t *)c->keys[i],
                        .n_key = (uint32_t)n,
                        .value = c->values[i],
                        .n_value = n_value,
                        .flags = next_random(seed) % 3 == 0 ? (uint32_t)next_random(seed) : 0,
                };
                key += 3;
        }
}

static void step_set(struct world *w, uint64_t *seed)
{
        struct choice choice;
        struct session_result result;
        choose(&choice, seed, 4);
        struct session_item named[4];
        memcpy(named, choice.items, sizeof(named));
        struct session_change c = change_of(SESSION_SET_ITEMS, choice.items, choice.n);
        assert_int_equal(apply(w, &c, &result), SESSION_CHANGE_OK);
        w->version++;
        for (size_t i = 0; i < choice.n; i++)
                model_set(w, &named[i], named[i].value, named[i].n_value, named[i].flags);
}

static void step_set_one(struct world *w, uint64_t *seed)
{
        struct choice choice;
        struct session_result result;
        choose(&choice, seed, 1);
        struct session_item named = choice.items[0];
        struct model_item *m = model_find(w, &named);
        struct session_change c = change_of(SESSION_SET_ITEMS, choice.items, 1);
        c.mode = next_random(seed) % 3;
        c.compare = next_random(seed) % 2;
        c.expected_version = m && next_random(seed) % 2 ? m->version : w->version / 2;
        int k = apply(w, &c, &result);
        if (m && c.mode == SESSION_ADD_ONLY) {
                assert_int_equal(k, SESSION_CHANGE_E_EXISTS);
                assert_int_equal(result.item.version, m->version);
                assert_memory_equal(result.item.value, m->value, m->n_value);
        } else if (!m && (c.compare || c.mode == SESSION_REPLACE_ONLY)) {
                assert_int_equal(k, SESSION_CHANGE_E_MISSING);
        } else if (m && c.compare && c.expected_version != m->version) {
                assert_int_equal(k, SESSION_CHANGE_E_VERSION);
                assert_int_equal(result.item.version, m->version);
        } else {
                assert_int_equal(k, SESSION_CHANGE_OK);
                w->version++;
                model_set(w, &named, named.value, named.n_value, named.flags);
        }
}

static void step_delete(struct world *w, uint64_t *seed)
{
        struct choice choice;
        struct session_result result;
        choose(&choice, seed, 4);
        struct session_change c = change_of(SESSION_DELETE_ITEMS, choice.items, choice.n);
        assert_int_equal(apply(w, &c, &result), SESSION_CHANGE_OK);
        bool any = false;
        for (size_t i = 0; i < choice.n; i++) {
                struct model_item *m = model_find(w, &choice.items[i]);
                assert_int_equal(choice.items[i].found, m != NULL);
                any |= m != NULL;
                if (m)
                        model_delete(w, m);
        }
        w->version += any;
        assert_int_equal(result.n > 0, any);
}

static void step_append(struct world *w, uint64_t *seed)
{
        struct choice choice;
        struct session_result result;
        choose(&choice, seed, 1);
        struct session_item named = choice.items[0];
        struct model_item *m = model_find(w, &named);
        struct session_change c = change_of(SESSION_APPEND_ITEM, choice.items, 1);
        c.append_max = 1 + next_random(seed) % 40;
        assert_int_equal(apply(w, &c, &result), SESSION_CHANGE_OK);
        uint8_t joined[2 * MODEL_VALUE + 1];
        uint32_t n = m ? m->n_value : 0, drop;
        if (m)
                memcpy(joined, m->value, n);
        memcpy(joined + n, named.value, named.n_value);
        n += named.n_value;
        drop = n > c.append_max ? n - (uint32_t)c.append_max : 0;
        w->version++;
        model_set(w, &named, joined + drop, n - drop, m ? m->flags : named.flags);
        assert_int_equal(result.item.n_value, n - drop);
}

static void step_increment(struct world *w, uint64_t *seed)
{
        struct choice choice;
        struct session_result result;
        choose(&choice, seed, 1);
        struct session_item named = choice.items[0];
        struct model_item *m = model_find(w, &named);
        struct session_change c = change_of(SESSION_INCREMENT_ITEM, choice.items, 1);
        c.items[0].n_value = 0;
        c.items[0].flags = 0;
        c.by.integer = (int64_t)(next_random(seed) % 1000) - 500;
        c.has_start = next_random(seed) % 2;
        c.start.integer = 100;
        struct session_number before = c.start;
        int k = apply(w, &c, &result);
        if (!m && !c.has_start) {
                assert_int_equal(k, SESSION_CHANGE_E_MISSING);
                return;
        }
        if (m && session_number_read(m->value, m->n_value, false, &before) != SESSION_NUMBER_OK) {
                assert_int_equal(k, SESSION_CHANGE_E_TEXT);
                return;
        }
        assert_int_equal(k, SESSION_CHANGE_OK);
        char text[32];
        int n = snprintf(text, sizeof(text), "%" PRId64, before.integer + c.by.integer);
        w->version++;
        model_set(w, &named, (uint8_t *)text, (uint32_t)n, m ? m->flags : 0);
        assert_int_equal(result.item.n_value, n);
        assert_memory_equal(result.item.value, text, n);
}

static void step_clear(struct world *w)
{
        struct session_change c = change_of(SESSION_CLEAR_ITEMS, NULL, 0);
        struct session_result result;
        assert_int_equal(apply(w, &c, &result), SESSION_CHANGE_OK);
        w->version += w->n_items > 0;
        w->n_items = 0;
}

static void test_model(void **state)
{
        (void)state;
        static struct world w;
        uint64_t seed = 20261201;
        begin(&w, "label");
        for (unsigned i = 0; i < 20000; i++) {
                uint64_t what = next_random(&seed) % 64;
                if (what == 0)
                        step_clear(&w);
                else if (what <= 15)
                        step_set(&w, &seed);
                else if (what <= 30)
                        step_set_one(&w, &seed);
                else if (what <= 40)
                        step_delete(&w, &seed);
                else if (what <= 50)
                        step_append(&w, &seed);
                else
                        step_increment(&w, &seed);
                assert_same(&w);
        }
        end(&w);
}

/* ---- operations */

static int count(struct world *w, uint64_t lane, uint64_t number, bool repeated,
                 struct session_result *result)
{
        struct session_item item = item_of("n", NULL);
        struct session_change c = change_of(SESSION_INCREMENT_ITEM, &item, 1);
        c.by.integer = 1;
        c.has_start = true;
        c.has_operation = true;
        c.lane = lane;
        c.number = number;
        c.repeated = repeated;
        return apply(w, &c, result);
}

static void test_remembered(void **state)
{
        (void)state;
        static struct world w;
        struct session_result result;
        begin(&w, "");
        assert_int_equal(count(&w, 7, 1, false, &result), SESSION_CHANGE_OK);
        assert_int_equal(count(&w, 7, 2, true, &result), SESSION_CHANGE_OK); /* was never there */
        assert_false(result.again);
        assert_value(&w, "n", "2");
        assert_int_equal(set(&w, "other", "x", &result), SESSION_CHANGE_OK);
        assert_int_equal(count(&w, 7, 2, true, &result), SESSION_CHANGE_OK);
        assert_true(result.again && result.n == 0);
        assert_int_equal(result.version, 2);
        assert_int_equal(result.item.n_value, 1);
        assert_memory_equal(result.item.value, "2", 1);
        assert_value(&w, "n", "2");
        assert_int_equal(count(&w, 7, 1, true, &result), SESSION_CHANGE_E_UNKNOWN);
        assert_int_equal(count(&w, 7, 2, false, &result), SESSION_CHANGE_E_NUMBER);
        assert_int_equal(count(&w, 7, 1, false, &result), SESSION_CHANGE_E_NUMBER);
        end(&w);
}

static void test_lanes_are_forgotten(void **state)
{
        (void)state;
        static struct world w;
        struct session_result result;
        begin(&w, "label");
        for (uint64_t lane = 0; lane < SESSION_LANES; lane++)
                assert_int_equal(count(&w, lane, 1, false, &result), SESSION_CHANGE_OK);
        assert_int_equal(w.record.n_lanes, SESSION_LANES);
        assert_false(w.record.forgot);
        /* Nothing was forgotten, so an unknown lane has certainly done nothing. */
        static struct world before;
        before = w;
        before.bytes = malloc(w.n);
        memcpy(before.bytes, w.bytes, w.n);
        assert_true(session_record_read(before.bytes, before.n, &before.record));
        assert_int_equal(count(&before, 1000, 1, true, &result), SESSION_CHANGE_OK);
        end(&before);

        /* Lane 0 is used again, so lane 1 is the one to go. */
        assert_int_equal(count(&w, 0, 2, false, &result), SESSION_CHANGE_OK);
        assert_false(w.record.forgot);
        assert_int_equal(count(&w, 1000, 1, false, &result), SESSION_CHANGE_OK);
        assert_int_equal(w.record.n_lanes, SESSION_LANES);
        assert_true(w.record.forgot);
        assert_int_equal(count(&w, 0, 2, true, &result), SESSION_CHANGE_OK);
        assert_true(result.again);
        assert_int_equal(count(&w, 1, 1, true, &result), SESSION_CHANGE_E_UNKNOWN);
        assert_int_equal(count(&w, 2, 1, true, &result), SESSION_CHANGE_OK);
        assert_true(result.again);
        assert_int_equal(count(&w, 1001, 1, true, &result), SESSION_CHANGE_E_UNKNOWN);
        assert_value(&w, "n", "66");
        end(&w);
}

static void test_answers(void **state)
{
        (void)state;
        static struct world w;
        struct session_result result;
        begin(&w, "label");
        assert_int_equal(set(&w, "b", "x", &result), SESSION_CHANGE_OK);
        struct session_item items[3];
        for (unsigned again = 0; again < 2; again++) {
                items[0] = item_of("c", NULL);
                items[1] = item_of("b", NULL);
                items[2] = item_of("a", NULL);
                struct session_change c = change_of(SESSION_DELETE_ITEMS, items, 3);
                c.has_operation = true;
                c.number = 1;
                c.repeated = again;
                assert_int_equal(apply(&w, &c, &result), SESSION_CHANGE_OK);
                assert_int_equal(result.again, again);
                assert_int_equal(result.version, 2);
                assert_true(!items[0].found && items[1].found && !items[2].found);
        }
        for (unsigned again = 0; again < 2; again++) {
                items[0] = item_of("k", "12345");
                struct session_change c = change_of(SESSION_APPEND_ITEM, items, 1);
                c.has_operation = true;
                c.number = 2;
                c.repeated = again;
                c.append_max = 3;
                assert_int_equal(apply(&w, &c, &result), SESSION_CHANGE_OK);
                assert_int_equal(result.again, again);
                assert_int_equal(result.item.n_value, 3);
        }
        assert_value(&w, "k", "345");
        end(&w);
}

/* ---- limits */

static void test_limits(void **state)
{
        (void)state;
        static struct world w;
        struct session_result result;
        struct session_item items[3];
        begin(&w, "label");
        items[0] = item_of("a", "1234");
        items[1] = item_of("b", "1234");
        struct session_change c = change_of(SESSION_SET_ITEMS, items, 2);
        c.max_keys = 1;
        assert_int_equal(apply(&w, &c, &result), SESSION_CHANGE_E_KEYS);
        assert_int_equal(result.would_be, 2);
        c.max_keys = 2;
        c.max_stored = 9;
        assert_int_equal(apply(&w, &c, &result), SESSION_CHANGE_E_STORED);
        assert_int_equal(result.would_be, 10);
        c.max_stored = 10;
        assert_int_equal(apply(&w, &c, &result), SESSION_CHANGE_OK);
        /* What is over a lowered limit may become less. */
        items[0] = item_of("a", "12");
        c = change_of(SESSION_SET_ITEMS, items, 1);
        c.max_keys = 1;
        c.max_stored = 1;
        assert_int_equal(apply(&w, &c, &result), SESSION_CHANGE_OK);
        items[0] = item_of("a", "3");
        c = change_of(SESSION_APPEND_ITEM, items, 1);
        c.max_stored = 8;
        assert_int_equal(apply(&w, &c, &result), SESSION_CHANGE_E_STORED);
        c.max_stored = 9;
        assert_int_equal(apply(&w, &c, &result), SESSION_CHANGE_OK);
        assert_value(&w, "a", "123");
        items[0] = item_of("x", NULL);
        items[1] = item_of("y", NULL);
        items[2] = item_of("x", NULL);
        assert_false(session_items_sort(items, 3));
        end(&w);
}

static void test_counting_on_nonsense(void **state)
{
        (void)state;
        static struct world w;
        struct session_result result;
        begin(&w, "label");
        assert_int_equal(set(&w, "n", "9223372036854775807", &result), SESSION_CHANGE_OK);
        assert_int_equal(count(&w, 1, 1, false, &result), SESSION_CHANGE_E_OVERFLOW);
        assert_int_equal(set(&w, "n", "1.5", &result), SESSION_CHANGE_OK);
        assert_int_equal(count(&w, 1, 1, false, &result), SESSION_CHANGE_E_TEXT);
        assert_value(&w, "n", "1.5");
        assert_int_equal(w.record.version, 2);
        assert_int_equal(w.record.n_lanes, 0); /* what changed nothing is not remembered */
        end(&w);
}

/* Nobody of us writes such a one, but who left the memory to us may have. */
static void test_a_key_twice(void **state)
{
        (void)state;
        static struct world w;
        struct session_result result;
        begin(&w, "");
        for (const char *key = "a\0b\0z\0"; *key; key += 2)
                assert_int_equal(set(&w, key, key, &result), SESSION_CHANGE_OK);
        *(uint8_t *)memchr(w.record.items, 'b', w.n - (size_t)(w.record.items - w.bytes)) = 'a';
        assert_true(session_record_read(w.bytes, w.n, &w.record));
        struct session_item items[] = {
                {.key = (const uint8_t *)"z",
                 .n_key = 1,
                 .value = (const uint8_t *)"1",
                 .n_value = 1},
                {.key = (const uint8_t *)"a",
                 .n_key = 1,
                 .value = (const uint8_t *)"1",
                 .n_value = 1},
        };
        struct session_change c = change_of(SESSION_SET_ITEMS, items, 2);
        assert_int_equal(apply(&w, &c, &result), SESSION_CHANGE_OK);
        assert_true(items[0].found && items[1].found);
        assert_int_equal(w.record.n_items, 3);
        assert_value(&w, "a", "1");
        assert_value(&w, "z", "1");
        end(&w);
}

/* Likewise: both are one then. */
static void test_a_lane_twice(void **state)
{
        (void)state;
        static struct world w;
        struct session_result result;
        begin(&w, "");
        for (uint64_t lane = 1; lane <= 3; lane++)
                assert_int_equal(count(&w, lane, 1, false, &result), SESSION_CHANGE_OK);
        *(uint8_t *)(uintptr_t)w.record.lanes = 2; /* was 1 */
        assert_true(session_record_read(w.bytes, w.n, &w.record));
        assert_int_equal(count(&w, 2, 2, false, &result), SESSION_CHANGE_OK);
        assert_int_equal(w.record.n_lanes, 2);
        assert_value(&w, "n", "4");
        end(&w);
}

/* Every record that is cut, and every one with a byte that is another one, is refused or can be
 * walked and changed within its memory. */
static void test_damaged(void **state)
{
        (void)state;
        static struct world w;
        struct session_result result;
        begin(&w, "label");
        assert_int_equal(set(&w, "first", "value", &result), SESSION_CHANGE_OK);
        assert_int_equal(count(&w, 1, 1, false, &result), SESSION_CHANGE_OK);
        assert_int_equal(set(&w, "last", "", &result), SESSION_CHANGE_OK);
        struct session_record r;
        for (size_t n = 0; n < w.n; n++) {
                uint8_t *cut = malloc(n + 1);
                memcpy(cut, w.bytes, n);
                assert_false(session_record_read(cut, n, &r));
                free(cut);
        }
        for (size_t i = 0; i < w.n * 8; i++) {
                w.bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
                if (session_record_read(w.bytes, w.n, &r)) {
                        struct session_item item = item_of("first", "v");
                        struct session_change c = change_of(SESSION_APPEND_ITEM, &item, 1);
                        uint8_t *to = malloc(session_change_room(&r, &c));
                        (void)session_change(&r, &c, to, &result);
                        free(to);
                }
                w.bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
        }
        end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_integers),
                cmocka_unit_test(test_reals),
                cmocka_unit_test(test_random_reals_read_back),
                cmocka_unit_test(test_sums),
                cmocka_unit_test(test_model),
                cmocka_unit_test(test_remembered),
                cmocka_unit_test(test_lanes_are_forgotten),
                cmocka_unit_test(test_answers),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_counting_on_nonsense),
                cmocka_unit_test(test_a_key_twice),
                cmocka_unit_test(test_a_lane_twice),
                cmocka_unit_test(test_damaged),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
