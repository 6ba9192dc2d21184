/* SPDX-License-Identifier: MIT */
/*
 * Sessions in the store: who finds one, what counts as a use, and one that fills the whole budget.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config.h"
#include "realm/realm.h"
#include "services/session.h"

#define NOW UINT64_C(1000000)

struct world {
        struct config *cfg;
        struct realms realms;
        struct caller who;
        uint8_t token[SESSION_TOKEN];
        struct verdict v;
};

static void begin(struct world *w, const char *text)
{
        const struct session_open what = {.label = "", .idle_ms = 1000};
        char err[CONFIG_ERR_MAX] = "";
        struct session_ref ref;
        *w = (struct world){0};
        if (config_parse("test", text, strlen(text), &w->cfg, err, sizeof(err)) != 0)
                fail_msg("%s", err);
        realms_init(&w->realms, w->cfg, 1);
        w->who = (struct caller){.cfg = w->cfg, .uid = 1000, .now_ms = NOW};
        assert_int_equal(realm_enter(&w->realms, "uid:1000", &w->who.realm), 0);
        assert_int_equal(session_open(&w->who, &what, w->token, &ref, &w->v), STATUS_OK);
}

static void end(struct world *w)
{
        realm_leave(w->who.realm, w->who.now_ms);
        realms_done(&w->realms);
        config_free(w->cfg);
}

static enum status find(struct world *w, struct session_ref *ret)
{
        return session_find(&w->who, w->token, sizeof(w->token), ret, &w->v);
}

static enum status change(struct world *w, enum session_change_kind kind, enum session_mode mode,
                          const void *value, uint32_t n_value)
{
        struct session_item item = {.key = (const uint8_t *)"key",
                                    .n_key = 3,
                                    .value = value,
                                    .n_value = n_value};
        struct session_change c = {.kind = kind, .items = &item, .n_items = 1, .mode = mode};
        struct session_result result;
        struct session_ref ref;
        enum status status =
                session_find_to_change(&w->who, w->token, sizeof(w->token), &ref, &w->v);
        if (status != STATUS_OK)
                return status;
        assert_true(session_items_sort(&item, 1));
        return session_apply(&w->who, &ref, &c, &result, &w->v);
}

/* Half of the token's digest is the key; the other half has to be right, too. */
static void test_the_other_half(void **state)
{
        (void)state;
        struct world w;
        struct session_ref ref;
        begin(&w, "");
        assert_int_equal(find(&w, &ref), STATUS_OK);
        uint8_t *verifier = (uint8_t *)(uintptr_t)ref.record.verifier;
        for (unsigned i = 0; i < SESSION_VERIFIER; i++) {
                verifier[i] ^= 1;
                assert_int_equal(find(&w, &ref), STATUS_NOT_FOUND);
                verifier[i] ^= 1;
        }
        assert_int_equal(find(&w, &ref), STATUS_OK);
        w.token[15] ^= 1;
        assert_int_equal(find(&w, &ref), STATUS_NOT_FOUND);
        assert_int_equal(session_find(&w.who, w.token, 15, &ref, &w.v), STATUS_NOT_FOUND);
        end(&w);
}

/* Whatever becomes of a request with its token, the session was used. */
static void test_uses(void **state)
{
        (void)state;
        struct world w;
        struct session_ref ref;
        begin(&w, "");
        for (unsigned turn = 0; turn < 5; turn++) {
                w.who.now_ms += 900;
                switch (turn) {
                case 0:
                        assert_int_equal(find(&w, &ref), STATUS_OK);
                        break;
                case 1:
                        assert_int_equal(change(&w, SESSION_SET_ITEMS, SESSION_ANY, "x", 1),
                                         STATUS_OK);
                        break;
                case 2: /* refused */
                        assert_int_equal(change(&w, SESSION_SET_ITEMS, SESSION_ADD_ONLY, "x", 1),
                                         STATUS_EXISTS);
                        break;
                case 3:
                        assert_int_equal(change(&w, SESSION_DELETE_ITEMS, SESSION_ANY, NULL, 0),
                                         STATUS_OK);
                        break;
                default: /* nothing is changed */
                        assert_int_equal(change(&w, SESSION_DELETE_ITEMS, SESSION_ANY, NULL, 0),
                                         STATUS_OK);
                        break;
                }
        }
        w.who.now_ms += 999;
        assert_true(session_look(w.who.realm->sessions, ref.key, w.who.now_ms, &ref));
        w.who.now_ms += 1;
        assert_int_equal(find(&w, &ref), STATUS_NOT_FOUND);
        end(&w);
}

/* While it is replaced it is there twice, and nothing can leave for that but itself. It must not,
 * and what is refused leaves it as it was. */
static void test_as_large_as_the_budget(void **state)
{
        (void)state;
        struct world w;
        struct session_ref ref;
        begin(&w, "[memory]\nsession_budget = 64K\n[limits]\nsession_bytes = 64K\n");
        uint8_t *value = calloc(1, 65536);
        uint32_t n_stored = 0;
        unsigned n_refused = 0;
        for (uint32_t n = 1024; n <= 64000; n += 1024) {
                enum status status = change(&w, SESSION_SET_ITEMS, SESSION_ANY, value, n);
                if (status == STATUS_OK)
                        n_stored = n;
                else
                        n_refused++;
                assert_int_equal(find(&w, &ref), STATUS_OK);
                assert_int_equal(ref.record.n_stored, n_stored + 3);
        }
        assert_true(n_stored >= 32768 && n_refused > 0);
        free(value);
        end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_the_other_half),
                cmocka_unit_test(test_uses),
                cmocka_unit_test(test_as_large_as_the_budget),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
