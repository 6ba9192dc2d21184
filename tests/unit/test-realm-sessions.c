/* SPDX-License-Identifier: MIT */
/*
 * The hidden realm beside each, which holds its sessions: when it comes and goes, what it may hold,
 * that it gives way to nobody, and what another process finds of it.
 */
#include <fcntl.h>
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
#include "log.h"
#include "realm/given.h"
#include "realm/realm.h"
#include "realm/session-caches.h"
#include "store/large.h"
#include "store/store.h"

#define NOW UINT64_C(1000000)
#define MIB (UINT64_C(1) << 20)

static struct config *make_config(const char *text)
{
        char err[CONFIG_ERR_MAX] = "";
        struct config *cfg = NULL;
        if (config_parse("test", text, strlen(text), &cfg, err, sizeof(err)) != 0)
                fail_msg("%s", err);
        return cfg;
}

static struct realm *enter(struct realms *rs, const char *name, struct realm **ret_sessions)
{
        struct realm *r;
        assert_int_equal(realm_enter(rs, name, &r), 0);
        assert_int_equal(realm_sessions(r, ret_sessions), 0);
        return r;
}

static int put(struct realm *r, uint32_t cache, const void *key, size_t n_key, uint64_t n_value,
               uint64_t now)
{
        uint8_t *value = calloc(1, n_value + 1);
        struct store_put p = {.cache = cache,
                              .key = key,
                              .n_key = n_key,
                              .value = value,
                              .n_value = n_value,
                              .ttl_ms = 1000,
                              .uid = 1000};
        struct store_refusal why;
        struct store_entry e;
        int k = store_put(r->store, &p, now, &e, &why);
        realm_settle(r);
        free(value);
        return k;
}

/* A session with a cache of its own, which has a value. */
static void add_session(struct realm *r, uint8_t n, uint64_t now)
{
        uint8_t name[SESSION_KEY_SIZE + 1];
        uint32_t cache;
        memset(name, n, SESSION_KEY_SIZE);
        name[SESSION_KEY_SIZE] = 'c';
        assert_int_equal(put(r, session_caches_home(r), name, SESSION_KEY_SIZE, 10, now), 0);
        assert_int_equal(session_caches_create(r, (char *)name, sizeof(name), &cache), 0);
        assert_int_equal(put(r, cache, "k", 1, 100, now), 0);
}

static void maintain_all(struct realms *rs, uint64_t now)
{
        for (int i = 0; realms_maintain(rs, now, 1000); i++)
                assert_true(i < 1000);
}

static void test_it_is_no_realm_of_its_own(void **state)
{
        struct config *cfg = make_config("[limits]\nrealms = 1\n");
        struct realm *a, *sessions, *again;
        struct realms rs;
        (void)state;
        realms_init(&rs, cfg, 1);
        a = enter(&rs, "uid:1", &sessions);
        assert_int_equal(realm_sessions(a, &again), 0);
        assert_ptr_equal(again, sessions);
        assert_string_equal(sessions->name, "sessions of uid:1");
        assert_ptr_equal(sessions->parent, a);
        assert_int_equal(rs.n - rs.n_hidden, 1);
        assert_int_equal(realm_enter(&rs, "uid:2", &again), REALM_E_LIMIT);
        assert_int_equal(realms_least_caches(&rs, false), cfg->limits.caches_per_realm);
        realm_leave(a, NOW);
        maintain_all(&rs, NOW + REALM_IDLE_MS - 1);
        assert_int_equal(rs.n, 2);
        maintain_all(&rs, NOW + REALM_IDLE_MS);
        assert_int_equal(rs.n, 0);
        assert_int_equal(rs.n_hidden, 0);
        assert_true(realms_next_deadline(&rs) == UINT64_MAX);
        realms_done(&rs);
        config_free(cfg);
}

/* It keeps the realm, which nobody is in, as long as a session is there. */
static void test_sessions_keep_the_realm(void **state)
{
        struct config *cfg = make_config("");
        struct realm *a, *sessions;
        struct realms rs;
        uint64_t now = NOW + 2 * REALM_IDLE_MS;
        (void)state;
        realms_init(&rs, cfg, 1);
        a = enter(&rs, "uid:1", &sessions);
        realm_leave(a, NOW);
        assert_int_equal(put(sessions, session_caches_home(sessions), "0123456789abcdef", 16, 9,
                             now),
                         0);
        maintain_all(&rs, now);
        assert_int_equal(rs.n, 2);
        maintain_all(&rs, now + 1000);
        assert_int_equal(rs.n, 0);
        realms_done(&rs);
        config_free(cfg);
}

static void test_it_has_a_budget_and_limits_of_its_own(void **state)
{
        struct config *cfg = make_config("[memory]\nrealm_budget = 8M\nsession_budget = 1M\n"
                                         "uid_share = 50%\nlarge_threshold = 4K\n"
                                         "[limits]\nsession_caches_per_realm = 3\n"
                                         "sessions_per_realm = 5\n");
        struct config *next = make_config("[memory]\nsession_budget = 2M\n"
                                          "[limits]\nsessions_per_realm = 2\n");
        struct realm *a, *sessions;
        struct store_stats s;
        struct realms rs;
        (void)state;
        realms_init(&rs, cfg, 1);
        a = enter(&rs, "uid:1", &sessions);
        store_stats(sessions->store, &s);
        assert_int_equal(s.budget, MIB);
        assert_int_equal(s.uid_share, MIB / 2);
        assert_int_equal(store_max_caches(sessions->store), 5); /* two are no session's */
        assert_int_equal(realm_max_caches(sessions), 3);
        assert_false(store_is_apart(sessions->store, 5000));
        for (uint8_t i = 0; i < 3; i++)
                add_session(sessions, i, NOW);
        /* What is over the limit leaves, and its caches are to be removed. */
        realms_reconfigure(&rs, next);
        realms_limit_sessions(&rs, NOW);
        maintain_all(&rs, NOW);
        store_stats(sessions->store, &s);
        assert_int_equal(s.budget, 2 * MIB);
        assert_true(session_caches_due(sessions) <= NOW);
        assert_int_not_equal(session_caches_take_gone(sessions, NOW), 0);
        assert_int_equal(session_caches_take_gone(sessions, NOW), 0);
        realm_leave(a, NOW);
        realms_done(&rs);
        config_free(cfg);
        config_free(next);
}

/* Others give way to sessions, and sessions to nobody but themselves. */
static void test_it_gives_way_to_nobody(void **state)
{
        struct config *cfg = make_config("[memory]\nrealm_budget = 2M\nglobal_budget = 2M\n"
                                         "session_budget = 4M\nuid_share = 100%\n");
        struct realm *a, *sessions;
        struct realms rs;
        uint32_t cache, home;
        (void)state;
        realms_init(&rs, cfg, 1);
        a = enter(&rs, "uid:1", &sessions);
        home = session_caches_home(sessions);
        assert_int_equal(store_cache_create(a->store, "c", 1, &cache), 0);
        for (uint32_t i = 0; i < 100; i++)
                assert_int_equal(put(sessions, home, &i, 4, 10000, NOW), 0);
        for (uint32_t i = 0; i < 400; i++)
                assert_int_equal(put(a, cache, &i, 4, 10000, NOW), 0);
        assert_int_equal(store_entries(sessions->store), 100);
        assert_true(rs.pool.total <= 2 * MIB);
        assert_false(charge_is_over(&rs.pool));
        /* All of it: then the oldest of its own leave, within the global budget. */
        for (uint32_t i = 100; i < 400; i++)
                assert_int_equal(put(sessions, home, &i, 4, 10000, NOW), 0);
        assert_int_equal(store_entries(a->store), 0);
        assert_true(rs.pool.total <= 2 * MIB);
        assert_true(store_entries(sessions->store) > 150);
        assert_false(charge_is_over(&rs.pool));
        /* What cannot be is refused, not tried for ever. */
        uint32_t i = 1;
        assert_int_equal(put(a, cache, &i, 4, 100000, NOW), STORE_E_NO_SPACE);
        realm_leave(a, NOW);
        realms_done(&rs);
        assert_int_equal(rs.pool.total, 0);
        config_free(cfg);
}

static int put_large(struct realm *r, uint32_t cache, uint32_t key)
{
        struct store_put p = {.cache = cache,
                              .key = &key,
                              .n_key = sizeof(key),
                              .ttl_ms = STORE_NEVER,
                              .uid = 1000};
        struct store_refusal why;
        struct store_entry e;
        assert_int_equal(large_new(4096, &p.large), 0);
        assert_int_equal(large_seal(p.large), 0);
        int k = store_put(r->store, &p, NOW, &e, &why);
        realm_settle(r);
        large_unref(p.large);
        return k;
}

/* A long value in a session's cache takes a descriptor, and these are everybody's: who has the most
 * gives way, as in other caches. No session is one. */
static void test_its_descriptors_are_everybodys(void **state)
{
        struct config *cfg = make_config("[limits]\nlarge_values = 4\n");
        struct realm *a, *sessions;
        struct realms rs;
        uint32_t cache, its;
        (void)state;
        realms_init(&rs, cfg, 1);
        a = enter(&rs, "uid:1", &sessions);
        add_session(sessions, 1, NOW);
        its = session_caches_home(sessions) + 1;
        assert_int_equal(store_cache_create(a->store, "c", 1, &cache), 0);
        for (uint32_t i = 0; i < 6; i++)
                assert_int_equal(put_large(sessions, its, i), 0);
        assert_int_equal(store_files(sessions->store), 4);
        assert_int_equal(put_large(a, cache, 1), 0);
        assert_int_equal(put_large(a, cache, 2), 0);
        assert_int_equal(store_files(sessions->store), 2);
        assert_int_equal(store_files(a->store), 2);
        assert_int_equal(store_entries(sessions->store), 2 + 2);
        realm_leave(a, NOW);
        realms_done(&rs);
        config_free(cfg);
}

/* ---- from one process to the next */

struct gifts {
        int fds[8];
        char names[8][GIVEN_NAME_MAX + 1];
        unsigned n;
};

static bool take(void *ctx, const char *name, int fd)
{
        struct gifts *g = ctx;
        snprintf(g->names[g->n], sizeof(g->names[0]), "%s", name);
        g->fds[g->n++] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return true;
}

static void leave(struct realms *rs, struct realm *r, struct gifts *gifts)
{
        assert_true(realms_each_file(rs, take, gifts));
        realm_leave(r, NOW);
        realms_let_go(rs);
        realms_done(rs);
}

/* Those of @gifts from @first on. */
static void adopt(struct realms *rs, const struct config *cfg, const struct gifts *gifts,
                  unsigned first, unsigned n, uint64_t now)
{
        struct given given = {0};
        struct log log;
        log_init(&log, -1);
        realms_init(rs, cfg, 1);
        for (unsigned i = 0; i < gifts->n; i++) {
                if (i < first || i >= first + n)
                        close(gifts->fds[i]);
                else
                        assert_null(given_add(&given, gifts->names[i], gifts->fds[i]));
        }
        (void)realms_adopt(rs, &given, TAKEOVER_PASSED, now, &log);
        realms_adopted(rs, now);
}

static struct realm *parent_in(const struct realms *rs)
{
        assert_int_equal(rs->n, 2);
        assert_int_equal(rs->n_hidden, 1);
        struct realm *r = rs->first->parent ? rs->first->parent : rs->first;
        assert_ptr_equal(r->sessions->parent, r);
        assert_string_equal(r->name, "uid:1");
        assert_int_equal(rs->takeover.realms_dropped, 0);
        return r;
}

static void test_a_successor_has_both(void **state)
{
        struct config *cfg = make_config("");
        struct realm *a, *sessions;
        struct gifts gifts = {.n = 0};
        struct realms rs;
        uint8_t key[SESSION_KEY_SIZE];
        (void)state;
        realms_init(&rs, cfg, 1);
        a = enter(&rs, "uid:1", &sessions);
        add_session(sessions, 1, NOW);
        add_session(sessions, 2, NOW + 500);
        leave(&rs, a, &gifts);
        assert_int_equal(gifts.n, 4);

        adopt(&rs, cfg, &gifts, 0, 4, NOW + 600);
        a = parent_in(&rs);
        assert_int_equal(rs.takeover.realms_kept, 1);
        assert_true(rs.first->sessions == NULL || rs.first->parent == NULL);
        for (uint8_t n = 1; n <= 2; n++) {
                memset(key, n, sizeof(key));
                assert_true(session_is_there(a->sessions, key, NOW + 600));
                assert_int_equal(session_caches_count(a->sessions, key), 1);
        }
        assert_int_equal(session_caches_due(a->sessions), STORE_NEVER);
        /* They end as they would have: one is told of it, and its cache is to go. */
        maintain_all(&rs, NOW + 1000);
        memset(key, 1, sizeof(key));
        assert_false(session_is_there(a->sessions, key, NOW + 1000));
        assert_int_equal(session_caches_count(a->sessions, key), 0);
        assert_true(session_caches_due(a->sessions) <= NOW + 1000);
        realms_done(&rs);
        config_free(cfg);
}

/* Its realm was lost, or had nothing in it: an empty one is made. */
static void test_a_parent_that_did_not_come_is_made_anew(void **state)
{
        struct config *cfg = make_config("[limits]\nrealms = 1\n");
        struct realm *a, *sessions;
        (void)state;
        for (unsigned first = 0; first <= 2; first += 2) {
                struct gifts gifts = {.n = 0};
                struct realms rs;
                realms_init(&rs, cfg, 1);
                a = enter(&rs, "uid:1", &sessions);
                add_session(sessions, 1, NOW);
                leave(&rs, a, &gifts);
                adopt(&rs, cfg, &gifts, first, 2, NOW);
                if (rs.n_hidden == 0) { /* the parent came, and its sessions did not */
                        assert_int_equal(rs.n, 1);
                        assert_int_equal(realm_sessions(rs.first, &sessions), 0);
                } else {
                        assert_int_equal(rs.takeover.realms_kept, 0);
                        a = parent_in(&rs);
                        assert_int_equal(store_entries(a->store), 0);
                        assert_int_equal(store_entries(a->sessions->store), 2);
                }
                realms_done(&rs);
        }
        config_free(cfg);
}

/* A process that dies before it removed a session's caches leaves it to the next one. */
static void test_what_was_to_be_removed_still_is(void **state)
{
        struct config *cfg = make_config("");
        struct realm *a, *sessions;
        struct gifts gifts = {.n = 0};
        struct realms rs;
        uint8_t key[SESSION_KEY_SIZE];
        uint32_t cache;
        (void)state;
        realms_init(&rs, cfg, 1);
        a = enter(&rs, "uid:1", &sessions);
        add_session(sessions, 1, NOW);
        add_session(sessions, 2, NOW);
        memset(key, 1, sizeof(key));
        assert_int_equal(store_delete(sessions->store, session_caches_home(sessions), key,
                                      sizeof(key), NOW),
                         0);
        session_ended(sessions, key);
        leave(&rs, a, &gifts);
        adopt(&rs, cfg, &gifts, 0, 4, NOW);
        a = parent_in(&rs);
        cache = session_caches_take_gone(a->sessions, NOW);
        assert_int_not_equal(cache, 0);
        assert_int_equal(store_cache_remove(a->sessions->store, cache, NOW), 0);
        assert_int_equal(session_caches_take_gone(a->sessions, NOW), 0);
        memset(key, 2, sizeof(key));
        assert_int_equal(session_caches_count(a->sessions, key), 1);
        realms_done(&rs);
        config_free(cfg);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_it_is_no_realm_of_its_own),
                cmocka_unit_test(test_sessions_keep_the_realm),
                cmocka_unit_test(test_it_has_a_budget_and_limits_of_its_own),
                cmocka_unit_test(test_it_gives_way_to_nobody),
                cmocka_unit_test(test_its_descriptors_are_everybodys),
                cmocka_unit_test(test_a_successor_has_both),
                cmocka_unit_test(test_a_parent_that_did_not_come_is_made_anew),
                cmocka_unit_test(test_what_was_to_be_removed_still_is),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
