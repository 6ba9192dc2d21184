/* SPDX-License-Identifier: MIT */
/*
 * Realms: who gets which role where; the limit on realms; when an unused realm goes and what keeps
 * it; budgets of one realm and of all, and who gives way under the global one.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "realm/access.h"
#include "realm/realm.h"
#include "store/store.h"

#define OVERFLOW_UID 65534
#define NOW          UINT64_C(1000000)
#define KIB          UINT64_C(1024)

static struct config *make_config(const char *text)
{
        char path[] = "/tmp/test-realm-XXXXXX", err[CONFIG_ERR_MAX] = "";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
        struct config *cfg = NULL;
        if (config_load(path, &cfg, err, sizeof(err)) != 0)
                fail_msg("%s", err);
        unlink(path);
        return cfg;
}

static struct access_peer peer_of(uid_t uid)
{
        return (struct access_peer){.uid = uid, .gid = (gid_t)uid, .overflow_uid = OVERFLOW_UID};
}

static int role_of(const struct config *cfg, const struct access_peer *peer, const char *name,
                   enum role *ret)
{
        *ret = ACCESS_NONE;
        return access_role(cfg, peer, name, ret);
}

#define assert_role(cfg, peer, name, role_)                                                        \
        do {                                                                                       \
                enum role role__;                                                                  \
                assert_int_equal(role_of(cfg, peer, name, &role__), ACCESS_OK);                    \
                assert_int_equal(role__, role_);                                                   \
        } while (0)
#define assert_refused(cfg, peer, name, why)                                                       \
        do {                                                                                       \
                enum role role__;                                                                  \
                assert_int_equal(role_of(cfg, peer, name, &role__), why);                          \
                assert_int_equal(role__, ACCESS_NONE);                                             \
        } while (0)

static void test_everybody_is_admin_of_the_own_realm_only(void **state)
{
        struct config *cfg = make_config("");
        struct access_peer p = peer_of(1000);
        assert_role(cfg, &p, "uid:1000", ACCESS_ADMIN);
        assert_refused(cfg, &p, "uid:1001", ACCESS_E_DENIED);
        assert_refused(cfg, &p, "uid:0", ACCESS_E_DENIED);
        assert_refused(cfg, &p, "uid:01000", ACCESS_E_DENIED); /* one spelling */
        assert_refused(cfg, &p, "nowhere", ACCESS_E_DENIED);
        config_free(cfg);
}

static void test_root_enters_every_realm(void **state)
{
        struct config *cfg = make_config("[realm shared]\nreaders = 1000\n");
        struct access_peer p = peer_of(0);
        assert_role(cfg, &p, "uid:0", ACCESS_ADMIN);
        assert_role(cfg, &p, "uid:1000", ACCESS_ADMIN);
        assert_role(cfg, &p, "shared", ACCESS_ADMIN);
        assert_refused(cfg, &p, "nowhere", ACCESS_E_UNKNOWN);
        assert_refused(cfg, &p, "uid:", ACCESS_E_UNKNOWN);
        assert_refused(cfg, &p, "uid:-1", ACCESS_E_UNKNOWN);
        assert_refused(cfg, &p, "uid:007", ACCESS_E_UNKNOWN);
        assert_refused(cfg, &p, "uid:4294967295", ACCESS_E_UNKNOWN);
        assert_refused(cfg, &p, "uid:99999999999999999999999", ACCESS_E_UNKNOWN);
        config_free(cfg);
}

static void test_the_highest_role_counts(void **state)
{
        struct config *cfg = make_config("[realm shared]\n"
                                         "readers = 1000, 1001, @50\n"
                                         "writers = 1001, @60\n"
                                         "admins = 1002, @70\n");
        const gid_t gids[] = {5, 50, 60};
        struct access_peer p = peer_of(1000);
        assert_role(cfg, &p, "shared", ACCESS_READER);
        p.gids = gids;
        p.n_gids = 2;
        assert_role(cfg, &p, "shared", ACCESS_READER);
        p.n_gids = 3;
        assert_role(cfg, &p, "shared", ACCESS_WRITER);
        p.gid = 70; /* the primary group counts, too */
        assert_role(cfg, &p, "shared", ACCESS_ADMIN);
        p = peer_of(1001);
        assert_role(cfg, &p, "shared", ACCESS_WRITER);
        p = peer_of(1002);
        assert_role(cfg, &p, "shared", ACCESS_ADMIN);
        p = peer_of(1003);
        assert_refused(cfg, &p, "shared", ACCESS_E_DENIED);
        config_free(cfg);
}

static void test_the_overflow_uid_is_refused(void **state)
{
        struct config *cfg = make_config("[realm shared]\nreaders = 65534\n");
        struct access_peer p = peer_of(OVERFLOW_UID);
        assert_refused(cfg, &p, "uid:65534", ACCESS_E_OVERFLOW);
        assert_refused(cfg, &p, "shared", ACCESS_E_OVERFLOW);
        assert_true(access_overflow_uid() > 0);
        config_free(cfg);
}

/* ---- realms and their life */

static void put(struct realm *r, uint32_t uid, unsigned key, size_t n, int expected)
{
        uint32_t cache;
        if (store_cache_find(r->store, "c", 1, &cache) != 0)
                assert_int_equal(store_cache_create(r->store, "c", 1, &cache), 0);
        uint8_t *value = calloc(1, n);
        assert_non_null(value);
        struct store_put p = {
                .cache = cache,
                .key = &key,
                .n_key = sizeof(key),
                .value = value,
                .n_value = n,
                .raw_size = n,
                .ttl_ms = STORE_NEVER,
                .uid = uid,
        };
        struct store_entry e;
        struct store_refusal refusal;
        assert_int_equal(store_put(r->store, &p, NOW, &e, &refusal), expected);
        realm_settle(r);
        free(value);
}

static void test_a_realm_is_made_once_and_the_limit_holds(void **state)
{
        struct config *cfg = make_config("[limits]\nrealms = 2\n");
        struct realms rs;
        struct realm *a, *b, *c, *again;
        realms_init(&rs, cfg, 1);
        assert_int_equal(realm_enter(&rs, "uid:1", &a), 0);
        assert_int_equal(realm_enter(&rs, "uid:1", &again), 0);
        assert_ptr_equal(a, again);
        assert_int_equal(realm_enter(&rs, "uid:2", &b), 0);
        assert_ptr_not_equal(a, b);
        assert_int_equal(realm_enter(&rs, "uid:3", &c), REALM_E_LIMIT);
        assert_int_equal(rs.n, 2);
        realm_leave(a, NOW);
        realm_leave(a, NOW);
        realm_leave(b, NOW);
        realms_done(&rs);
        config_free(cfg);
}

static void maintain_all(struct realms *rs, uint64_t now)
{
        for (int i = 0; realms_maintain(rs, now, 1000); i++)
                assert_true(i < 1000);
}

#define ENDED_SIZE 64

static void note_end(void *ctx, struct realm *r)
{
        char *ended = ctx;
        size_t n = strlen(ended);
        assert_non_null(r->store);
        snprintf(ended + n, ENDED_SIZE - n, "%s", r->name);
}

static void test_an_unused_realm_goes_after_a_while(void **state)
{
        char ended[ENDED_SIZE] = "";
        struct config *cfg = make_config("[limits]\nrealms = 2\n");
        struct realms rs;
        struct realm *a, *b, *c;
        realms_init(&rs, cfg, 1);
        rs.ends = note_end;
        rs.ends_ctx = ended;
        assert_int_equal(realm_enter(&rs, "uid:1", &a), 0);
        assert_int_equal(realm_enter(&rs, "uid:2", &b), 0);
        maintain_all(&rs, NOW + 10 * REALM_IDLE_MS); /* connected realms stay */
        assert_int_equal(rs.n, 2);

        realm_leave(a, NOW);
        assert_true(realms_next_deadline(&rs) <= NOW + REALM_IDLE_MS);
        maintain_all(&rs, NOW + REALM_IDLE_MS - 1);
        assert_int_equal(rs.n, 2);
        assert_string_equal(ended, "");
        maintain_all(&rs, NOW + REALM_IDLE_MS);
        assert_int_equal(rs.n, 1);
        assert_ptr_equal(rs.first, b);
        assert_string_equal(ended, "uid:1");                /* who keeps something by it is told */
        assert_int_equal(realm_enter(&rs, "uid:3", &c), 0); /* the limit counts what is there */
        realm_leave(b, NOW);
        realm_leave(c, NOW);
        maintain_all(&rs, NOW + REALM_IDLE_MS);
        assert_int_equal(rs.n, 0);
        assert_true(realms_next_deadline(&rs) == UINT64_MAX);
        realms_done(&rs);
        config_free(cfg);
}

static void test_entries_and_pinned_policies_keep_a_realm(void **state)
{
        struct config *cfg = make_config("");
        struct realms rs;
        struct realm *entries, *pinned;
        realms_init(&rs, cfg, 1);
        assert_int_equal(realm_enter(&rs, "uid:1", &entries), 0);
        assert_int_equal(realm_enter(&rs, "uid:2", &pinned), 0);
        put(entries, 1, 1, 100, 0);
        uint32_t cache;
        assert_int_equal(store_cache_create(pinned->store, "p", 1, &cache), 0);
        struct store_policy policy = {.ttl_ms = 5, .max_entries = 6, .max_bytes = 7};
        store_cache_set_policy(pinned->store, cache, &policy, &policy, true, NOW);
        realm_leave(entries, NOW);
        realm_leave(pinned, NOW);
        maintain_all(&rs, NOW + 5 * REALM_IDLE_MS);
        assert_int_equal(rs.n, 2);
        /* Nothing to do means no wake-up for it. */
        assert_true(realms_next_deadline(&rs) > NOW + 5 * REALM_IDLE_MS);

        struct realm *again;
        assert_int_equal(realm_enter(&rs, "uid:2", &again), 0);
        assert_ptr_equal(again, pinned);
        store_cache_set_policy(pinned->store, cache, &policy, &policy, false, NOW);
        realm_leave(again, NOW);
        maintain_all(&rs, NOW + REALM_IDLE_MS);
        assert_int_equal(rs.n, 1);
        realms_done(&rs);
        config_free(cfg);
}

/* ---- budgets */

static void test_a_named_realm_has_its_own_budget_and_a_reload_applies(void **state)
{
        struct config *cfg = make_config("[memory]\nrealm_budget = 2M\nuid_share = 50%\n"
                                         "[realm small]\nreaders = 1\nbudget = 1M\n");
        struct config *next = make_config("[memory]\nrealm_budget = 4M\nuid_share = 100%\n");
        struct realms rs;
        struct realm *small, *own;
        struct store_stats s;
        realms_init(&rs, cfg, 1);
        assert_int_equal(realm_enter(&rs, "small", &small), 0);
        assert_int_equal(realm_enter(&rs, "uid:1", &own), 0);
        store_stats(small->store, &s);
        assert_int_equal(s.budget, 1024 * KIB);
        assert_int_equal(s.uid_share, 512 * KIB);
        store_stats(own->store, &s);
        assert_int_equal(s.budget, 2048 * KIB);
        realms_reconfigure(&rs, next);
        store_stats(small->store, &s);
        assert_int_equal(s.budget, 4096 * KIB); /* no longer named: the general one */
        assert_int_equal(s.uid_share, 4096 * KIB);
        realm_leave(small, NOW);
        realm_leave(own, NOW);
        realms_done(&rs);
        config_free(cfg);
        config_free(next);
}

static void test_the_largest_realm_gives_way(void **state)
{
        struct config *cfg =
                make_config("[memory]\nrealm_budget = 1M\nglobal_budget = 1M\nuid_share = 100%\n");
        struct realms rs;
        struct realm *big, *little;
        realms_init(&rs, cfg, 1);
        assert_int_equal(realm_enter(&rs, "uid:1", &big), 0);
        assert_int_equal(realm_enter(&rs, "uid:2", &little), 0);
        for (unsigned i = 0; i < 90; i++)
                put(big, 1, i, 10000, 0);
        uint64_t before = store_entries(big->store);
        assert_int_equal(before, 90);
        for (unsigned i = 0; i < 20; i++)
                put(little, 2, i, 10000, 0);
        assert_int_equal(store_entries(little->store), 20);
        assert_true(store_entries(big->store) < before);
        assert_true(rs.pool.total <= 1024 * KIB);
        assert_true(rs.pool.total == store_charged(big->store) + store_charged(little->store));

        /* One that wants everything shares with the other at half each, about. */
        for (unsigned i = 0; i < 500; i++)
                put(little, 2, i, 10000, 0);
        assert_true(rs.pool.total <= 1024 * KIB);
        uint64_t a = store_charged(big->store), b = store_charged(little->store);
        assert_true(a > 400 * KIB && b > 400 * KIB);

        uint32_t cache;
        struct store_cache_info info;
        assert_int_equal(store_cache_find(big->store, "c", 1, &cache), 0);
        assert_int_equal(store_cache_info(big->store, cache, &info), 0);
        assert_int_equal(info.counters.departed[CAUSE_GLOBAL_BUDGET], 90 - info.entries);
        realm_leave(big, NOW);
        realm_leave(little, NOW);
        realms_done(&rs);
        assert_int_equal(rs.pool.total, 0);
        config_free(cfg);
}

static void test_more_than_the_global_budget_is_refused(void **state)
{
        struct config *cfg = make_config("[memory]\nrealm_budget = 4M\nglobal_budget = 256K\n");
        struct realms rs;
        struct realm *r;
        realms_init(&rs, cfg, 1);
        assert_int_equal(realm_enter(&rs, "uid:1", &r), 0);
        put(r, 1, 1, 1000, 0);
        struct store_want want = {.bytes = 1 * KIB, .later = 256 * KIB};
        struct store_refusal why;
        assert_int_equal(charge_make_room(&r->charge, &want, NOW, &why), -ENOSPC);
        assert_int_equal(why.cause, CAUSE_GLOBAL_BUDGET);
        assert_int_equal(why.limit, 256 * KIB);
        assert_int_equal(store_entries(r->store), 1); /* it could not help: nothing was evicted */
        want = (struct store_want){.bytes = 256 * KIB};
        assert_int_equal(charge_make_room(&r->charge, &want, NOW, &why), 0);
        assert_int_equal(store_entries(r->store), 0);
        realm_leave(r, NOW);
        realms_done(&rs);
        config_free(cfg);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_everybody_is_admin_of_the_own_realm_only),
                cmocka_unit_test(test_root_enters_every_realm),
                cmocka_unit_test(test_the_highest_role_counts),
                cmocka_unit_test(test_the_overflow_uid_is_refused),
                cmocka_unit_test(test_a_realm_is_made_once_and_the_limit_holds),
                cmocka_unit_test(test_an_unused_realm_goes_after_a_while),
                cmocka_unit_test(test_entries_and_pinned_policies_keep_a_realm),
                cmocka_unit_test(test_a_named_realm_has_its_own_budget_and_a_reload_applies),
                cmocka_unit_test(test_the_largest_realm_gives_way),
                cmocka_unit_test(test_more_than_the_global_budget_is_refused),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
