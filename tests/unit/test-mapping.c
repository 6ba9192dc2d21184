/* SPDX-License-Identifier: MIT */
/*
 * Mapping: what the readers of a realm can cost other realms and the machine. Uses beyond what a
 * turn takes; readers that leave with full rings; mappings that outlive connections and the daemon;
 * the count of arenas while a takeover is under way.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "log.h"
#include "proto/layout.h"
#include "proto/page.h"
#include "realm/mapping.h"
#include "realm/readers.h"
#include "realm/realm.h"
#include "store/store.h"

#define NOW UINT64_C(1000000)
#define SEC UINT64_C(1000)

struct world {
        struct config *cfg;
        struct realms rs;
        int epoch_fd;
};

static struct config *make_config(const char *text)
{
        char path[] = "/tmp/test-mapping-XXXXXX", err[CONFIG_ERR_MAX] = "";
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

static void begin(struct world *w, const char *text)
{
        *w = (struct world){.cfg = make_config(text)};
        w->epoch_fd = memfd_create("epoch", MFD_CLOEXEC);
        assert_true(w->epoch_fd >= 0);
        assert_int_equal(ftruncate(w->epoch_fd, EPOCH_SIZE), 0);
        assert_int_equal(fchmod(w->epoch_fd, 0644), 0);
        realms_init(&w->rs, w->cfg, 7);
        realms_offer_mapping(&w->rs, w->epoch_fd);
}

static void end(struct world *w)
{
        realms_done(&w->rs);
        close(w->epoch_fd);
        config_free(w->cfg);
}

/* A client of a realm with its page; everything else that it got is closed. */
struct one {
        struct realm *realm;
        struct reader *reader;
        struct client_page *page;
        int arena_fd;
};

static int join(struct world *w, const char *name, struct one *ret)
{
        struct mapping m;
        void *p;
        int r;

        *ret = (struct one){.arena_fd = -1};
        assert_int_equal(realm_enter(&w->rs, name, &ret->realm), 0);
        r = realm_map(ret->realm, true, &m);
        if (r != 0) {
                realm_leave(ret->realm, NOW);
                return r;
        }
        ret->reader = m.reader;
        p = mmap(NULL, CLIENT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, m.fds[MAPPING_PAGE],
                 0);
        assert_ptr_not_equal(p, MAP_FAILED);
        ret->page = p;
        ret->arena_fd = m.fds[MAPPING_ARENA];
        m.fds[MAPPING_ARENA] = -1;
        mapping_close(&m);
        return 0;
}

static void part(struct one *o)
{
        realm_unmap(o->realm, o->reader, NOW);
        realm_leave(o->realm, NOW);
        munmap(o->page, CLIENT_PAGE_SIZE);
}

static void forget(const struct one *o)
{
        close(o->arena_fd);
}

/* As full as can be, of nothing. */
static void fill(struct one *o)
{
        uint32_t bit = o->reader->bit;

        for (unsigned i = 0; i < PAGE_RINGS; i++)
                o->page->ring[i].head += PAGE_RING_SLOTS;
        atomic_fetch_or(&o->realm->readers->map->words[bit / 64], UINT64_C(1) << bit % 64);
}

static uint32_t n_taken(const struct one *o)
{
        return o->page->ring[0].tail + o->page->ring[1].tail;
}

static void a_flood_in_one_realm_is_its_own(void **state)
{
        enum { N = 12 };
        struct world w;
        struct one many[N], other;
        uint32_t before = 0, after = 0;

        (void)state;
        begin(&w, "");
        assert_int_equal(join(&w, "uid:1002", &other), 0);
        for (unsigned i = 0; i < N; i++)
                assert_int_equal(join(&w, "uid:1001", &many[i]), 0);
        for (unsigned turn = 0; turn < 20; turn++) {
                for (unsigned i = 0; i < N; i++)
                        fill(&many[i]);
                other.page->touches[0][other.page->ring[0].head % PAGE_RING_SLOTS].handle = 77;
                other.page->ring[0].head++;
                atomic_fetch_or(&other.realm->readers->map->words[0], 1);
                /* As requests of both come, the other realm's last. */
                for (unsigned i = 0; i < N; i++)
                        realm_drain(many[i].realm, NOW + turn);
                realm_drain(other.realm, NOW + turn);
                assert_int_equal(n_taken(&other), turn + 1);
                before = after;
                after = 0;
                (void)realms_drain(&w.rs, NOW + turn);
                for (unsigned i = 0; i < N; i++)
                        after += n_taken(&many[i]);
                if (turn > 0) /* counted in what is gone from the rings, lost ones too */
                        assert_true(after > before);
        }
        for (unsigned i = 0; i < N; i++) {
                part(&many[i]);
                forget(&many[i]);
        }
        part(&other);
        forget(&other);
        end(&w);
}

static void who_left_with_full_rings_still_counts(void **state)
{
        struct world w;
        struct one first, second, third;

        (void)state;
        begin(&w, "[limits]\nmapped_clients_per_realm = 2\n");
        assert_int_equal(join(&w, "uid:1001", &first), 0);
        assert_int_equal(join(&w, "uid:1001", &second), 0);
        assert_int_equal(join(&w, "uid:1001", &third), MAPPING_E_OFF);
        fill(&first);
        fill(&second);
        w.rs.slots = first.realm->readers->slots = 0; /* of this turn nothing is left */
        part(&first);
        part(&second);
        assert_int_equal(join(&w, "uid:1001", &third), MAPPING_E_OFF);
        assert_true(realms_drain(&w.rs, NOW));
        while (realms_drain(&w.rs, NOW))
                continue;
        assert_int_equal(join(&w, "uid:1001", &third), 0);
        part(&third);
        forget(&first);
        forget(&second);
        forget(&third);
        end(&w);
}

/* Bits without uses behind them: a turn looks at so many pages, and says that more is left. */
static void bits_without_uses_are_bounded_too(void **state)
{
        enum { N = 100, ROUNDS = 1000 };
        static struct one many[N];
        struct world w;
        unsigned round = 0;

        (void)state;
        begin(&w, "");
        for (unsigned i = 0; i < N; i++)
                assert_int_equal(join(&w, "uid:1001", &many[i]), 0);
        (void)realms_drain(&w.rs, NOW);
        while (round < ROUNDS && w.rs.slots + many[0].realm->readers->slots > 0) {
                for (unsigned i = 0; i < 2; i++)
                        atomic_store(&many[0].realm->readers->map->words[i], UINT64_MAX);
                realm_drain(many[0].realm, NOW);
                round++;
        }
        assert_in_range(round, 2, ROUNDS - 1);
        assert_true(realms_drain(&w.rs, NOW));
        for (unsigned i = 0; i < N; i++) {
                part(&many[i]);
                forget(&many[i]);
        }
        end(&w);
}

/* ---- mappings that live on */

static bool is_watched(struct world *w, uint64_t *now)
{
        for (unsigned i = 0; i < 30; i++) {
                *now += SEC;
                if (realms_holes_due(&w->rs) == UINT64_MAX)
                        return false;
                (void)realms_check_holes(&w->rs, *now);
        }
        return realms_holes_due(&w->rs) <= *now + SEC;
}

static void a_mapping_that_was_taken_along_is_watched(void **state)
{
        struct world w;
        struct one o;
        uint64_t now = NOW;

        (void)state;
        begin(&w, "");
        assert_int_equal(join(&w, "uid:1001", &o), 0);
        realm_drain(o.realm, now);
        assert_true(is_watched(&w, &now));
        part(&o);
        assert_true(is_watched(&w, &now)); /* the descriptor is there still */
        forget(&o);
        assert_false(is_watched(&w, &now)); /* and nobody wakes for what nobody has */
        end(&w);
}

static uint64_t held(const struct one *o)
{
        struct stat st;

        assert_int_equal(fstat(o->arena_fd, &st), 0);
        return (uint64_t)st.st_blocks * 512;
}

/* Reads where nothing is. */
static void walk(const struct one *o, uint64_t n)
{
        struct arena_header h;
        const volatile uint8_t *p;

        assert_int_equal(pread(o->arena_fd, &h, sizeof(h), 0), sizeof(h));
        p = mmap(NULL, n, PROT_READ, MAP_SHARED | MAP_NORESERVE, o->arena_fd,
                 (off_t)(h.extents_off - n));
        assert_ptr_not_equal(p, MAP_FAILED);
        for (uint64_t at = 0; at < n; at += 4096)
                (void)p[at];
        munmap((void *)(uintptr_t)p, n);
}

/* Whenever it happens: it is noticed within a second, and then it takes a bounded number of turns,
 * of about a millisecond each. */
static void what_a_walk_takes_is_given_back_within_a_second(void **state)
{
        enum { MIB = 1 << 20, WALK = 128 * MIB };
        struct world w;
        struct one o;
        uint64_t now = NOW;

        (void)state;
        begin(&w, "");
        assert_int_equal(join(&w, "uid:1001", &o), 0);
        realm_drain(o.realm, now);
        for (uint64_t i = 0; i < 60; i++) {
                uint64_t before = held(&o);

                if (i % 20 == 19) {
                        walk(&o, WALK);
                        assert_true(held(&o) >= before + WALK / 2);
                }
                now += i * 37 % SEC;
                assert_true(realms_holes_due(&w.rs) <= now + SEC);
                if (now < realms_holes_due(&w.rs))
                        now = realms_holes_due(&w.rs);
                for (unsigned turns = 1; realms_check_holes(&w.rs, now); turns++)
                        assert_true(turns < WALK / MIB);
                assert_true(held(&o) <= before + MIB / 4);
        }
        part(&o);
        forget(&o);
        end(&w);
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

static uint32_t n_noted(const struct world *w)
{
        struct epoch_page p;

        assert_int_equal(pread(w->epoch_fd, &p, sizeof(p), 0), sizeof(p));
        return p.n_arenas;
}

static void adopt(struct world *w, const struct gifts *gifts, unsigned n, bool is_whole)
{
        struct given given = {0};
        struct log log;

        log_init(&log, -1);
        realms_init(&w->rs, w->cfg, 7);
        realms_offer_mapping(&w->rs, w->epoch_fd);
        for (unsigned i = 0; i < n; i++)
                assert_null(given_add(&given, gifts->names[i], gifts->fds[i]));
        assert_int_equal(realms_adopt(&w->rs, &given, TAKEOVER_PASSED, NOW, &log), is_whole);
}

static void the_count_of_arenas_outlives_a_takeover_that_is_killed(void **state)
{
        struct world w;
        struct one a, b;
        struct gifts gifts = {.n = 0};

        (void)state;
        begin(&w, "");
        assert_int_equal(join(&w, "uid:1001", &a), 0);
        assert_int_equal(join(&w, "uid:1002", &b), 0);
        assert_int_equal(n_noted(&w), 2);
        assert_true(realms_each_file(&w.rs, take, &gifts));
        part(&a);
        part(&b);
        realms_let_go(&w.rs);
        realms_done(&w.rs);
        assert_int_equal(gifts.n, 4);
        /* One of the two is missing. Until its readers know, two is what the next one has to find.
         */
        adopt(&w, &gifts, 2, false);
        close(gifts.fds[2]);
        close(gifts.fds[3]);
        assert_int_equal(n_noted(&w), 2);
        realms_renumber(&w.rs, 8);
        realms_adopted(&w.rs, NOW);
        assert_int_equal(n_noted(&w), 1);
        forget(&a);
        forget(&b);
        end(&w);
}

static void readers_of_the_daemon_before_are_watched(void **state)
{
        struct world w;
        struct one a;
        struct gifts gifts = {.n = 0};
        uint64_t now = NOW;

        (void)state;
        begin(&w, "");
        assert_int_equal(join(&w, "uid:1001", &a), 0);
        assert_true(realms_each_file(&w.rs, take, &gifts));
        part(&a);
        realms_let_go(&w.rs);
        realms_done(&w.rs);
        adopt(&w, &gifts, 2, true);
        realms_adopted(&w.rs, now);
        assert_true(is_watched(&w, &now));
        forget(&a);
        assert_false(is_watched(&w, &now));
        end(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_flood_in_one_realm_is_its_own),
                cmocka_unit_test(who_left_with_full_rings_still_counts),
                cmocka_unit_test(bits_without_uses_are_bounded_too),
                cmocka_unit_test(a_mapping_that_was_taken_along_is_watched),
                cmocka_unit_test(what_a_walk_takes_is_given_back_within_a_second),
                cmocka_unit_test(the_count_of_arenas_outlives_a_takeover_that_is_killed),
                cmocka_unit_test(readers_of_the_daemon_before_are_watched),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
