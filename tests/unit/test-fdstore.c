/* SPDX-License-Identifier: MIT */
/*
 * What the service manager keeps: random lives of realms, large values and resources beside a
 * manager that handles its messages whenever it likes, or is asleep. It never has more than it may,
 * never two of one name, and, when all is quiet, exactly what there is.
 */
#include <errno.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "config.h"
#include "fdstore.h"
#include "log.h"
#include "notify.h"
#include "realm/offer.h"
#include "realm/realm.h"
#include "store/large.h"

#define MOST      12 /* descriptors */
#define REALMS    4
#define VALUES    20
#define RESOURCES 4

/* ---- a descriptor that the kernel does not pass on (ETOOMANYREFS) */

static int stuck = -1; /* -1: none */

ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
        int sent = -1;

        if (CMSG_FIRSTHDR(msg))
                memcpy(&sent, CMSG_DATA(CMSG_FIRSTHDR(msg)), sizeof(int));
        if (sent >= 0 && sent == stuck) {
                errno = ETOOMANYREFS;
                return -1;
        }
        return __real_sendmsg(fd, msg, flags);
}

/* ---- a manager */

struct kept {
        char name[16];
        ino_t ino;
};

struct manager {
        int fd;
        char path[64];
        struct kept kept[MOST];
        size_t n;
        unsigned n_added, n_removed;
};

static void manager_init(struct manager *m)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};

        *m = (struct manager){.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0)};
        (void)snprintf(m->path, sizeof(m->path), "/tmp/test-fdstore-%d", (int)getpid());
        (void)unlink(m->path);
        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", m->path);
        assert_int_equal(bind(m->fd, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(setenv("NOTIFY_SOCKET", m->path, 1), 0);
}

static void manager_done(struct manager *m)
{
        (void)unlink(m->path);
        close(m->fd);
}

static void add(struct manager *m, const char *name, int fd)
{
        struct stat st;

        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        assert_true(m->n < MOST);
        for (size_t i = 0; i < m->n; i++) {
                assert_string_not_equal(m->kept[i].name, name);
                assert_true(m->kept[i].ino != st.st_ino);
        }
        m->kept[m->n].ino = st.st_ino;
        (void)snprintf(m->kept[m->n++].name, sizeof(m->kept[0].name), "%s", name);
        m->n_added++;
}

static void remove_name(struct manager *m, const char *name)
{
        for (size_t i = 0; i < m->n; i++) {
                if (strcmp(m->kept[i].name, name) != 0)
                        continue;
                m->kept[i] = m->kept[--m->n];
                m->n_removed++;
                return;
        }
        fail_msg("%s was never there", name);
}

/* One message. False: there is none. */
static bool hear(struct manager *m)
{
        union {
                struct cmsghdr align;
                char bytes[CMSG_SPACE(sizeof(int))];
        } control;
        char text[512] = "", name[16] = "";
        struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
        struct msghdr msg = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof(control.bytes)};
        ssize_t n = recvmsg(m->fd, &msg, MSG_CMSG_CLOEXEC);
        int fd = -1;

        if (n < 0) {
                assert_int_equal(errno, EAGAIN);
                return false;
        }
        if (CMSG_FIRSTHDR(&msg))
                memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
        if (sscanf(text, "FDSTORE=1\nFDNAME=%15s\nFDPOLL=0", name) == 1)
                add(m, name, fd);
        else if (sscanf(text, "FDSTOREREMOVE=1\nFDNAME=%15s", name) == 1)
                remove_name(m, name);
        else
                assert_string_equal(text, "BARRIER=1");
        if (fd >= 0)
                close(fd);
        return true;
}

/* ---- a world */

struct world {
        struct manager manager;
        struct notify notify;
        struct event_base *base;
        struct log log;
        struct fdstore *fdstore;
        struct config *cfg;
        struct realms realms;
        struct realm *realm[REALMS];
        int resource[RESOURCES];
        uint32_t slot[RESOURCES]; /* KEEPER_NONE: not there, or -1 */
        uint64_t now;
        uint64_t random;
};

static unsigned dice(struct world *w, unsigned n)
{
        w->random ^= w->random << 13;
        w->random ^= w->random >> 7;
        w->random ^= w->random << 17;
        return (unsigned)(w->random % n);
}

static void world_init(struct world *w, uint64_t seed)
{
        char err[CONFIG_ERR_MAX], most[16];
        char text[] = "[memory]\nglobal_budget = 64M\nrealm_budget = 64M\n";

        *w = (struct world){.random = seed * 2654435761u + 1, .now = 100000};
        manager_init(&w->manager);
        (void)snprintf(most, sizeof(most), "%d", MOST);
        assert_int_equal(setenv("FDSTORE", most, 1), 0);
        assert_int_equal(config_parse("test", text, sizeof(text) - 1, &w->cfg, err, sizeof(err)),
                         0);
        assert_int_equal(notify_init(&w->notify, err, sizeof(err)), 0);
        assert_true(w->notify.fd >= 0);
        w->base = event_base_new();
        log_init(&w->log, LOG_ERR);
        assert_int_equal(fdstore_new(w->base, &w->notify, &w->log, &w->fdstore), 0);
        fdstore_set_limit(w->fdstore, 2 << 20);
        realms_init(&w->realms, w->cfg, 1);
        w->realms.keeper = fdstore_keeper(w->fdstore);
        for (unsigned i = 0; i < RESOURCES; i++)
                w->resource[i] = -1, w->slot[i] = KEEPER_NONE;
}

static void world_done(struct world *w)
{
        for (unsigned i = 0; i < RESOURCES; i++)
                if (w->resource[i] >= 0)
                        close(w->resource[i]);
        for (unsigned i = 0; i < REALMS; i++)
                if (w->realm[i])
                        realm_leave(w->realm[i], w->now);
        w->realms.keeper = NULL;
        w->fdstore = fdstore_free(w->fdstore);
        realms_done(&w->realms);
        event_base_free(w->base);
        notify_done(&w->notify);
        config_free(w->cfg);
        manager_done(&w->manager);
}

static void turn(struct world *w)
{
        w->now += 1 + dice(w, 300);
        if (realms_offer_due(&w->realms, w->now) <= w->now)
                (void)realms_offer(&w->realms, w->now, false);
        fdstore_turn(w->fdstore, w->now);
        (void)event_base_loop(w->base, EVLOOP_NONBLOCK);
}

/* ---- what happens */

static struct realm *a_realm(struct world *w)
{
        unsigned i = dice(w, REALMS);
        char name[16];

        if (!w->realm[i]) {
                (void)snprintf(name, sizeof(name), "uid:%u", i);
                assert_int_equal(realm_enter(&w->realms, name, &w->realm[i]), 0);
        }
        return w->realm[i];
}

static void put_value(struct world *w)
{
        struct store *s = a_realm(w)->store;
        struct large *l;
        struct store_refusal why;
        struct store_entry e;
        uint32_t cache;
        uint8_t key = (uint8_t)dice(w, VALUES);

        assert_in_range(store_cache_create(s, "c", 1, &cache), 0, STORE_E_EXISTS);
        assert_int_equal(store_cache_find(s, "c", 1, &cache), 0);
        assert_int_equal(large_new(1 << 20, &l), 0);
        assert_int_equal(large_seal(l), 0);
        assert_int_equal(store_put(s,
                                   &(struct store_put){.cache = cache,
                                                       .key = &key,
                                                       .n_key = 1,
                                                       .large = l,
                                                       .n_value = 1 << 20,
                                                       .raw_size = 1 << 20,
                                                       .ttl_ms = STORE_NEVER,
                                                       .uid = 1},
                                   w->now, &e, &why),
                         0);
        large_unref(l);
        realm_settle(a_realm(w));
}

static void delete_value(struct world *w)
{
        struct store *s = a_realm(w)->store;
        uint32_t cache;
        uint8_t key = (uint8_t)dice(w, VALUES);

        if (store_cache_find(s, "c", 1, &cache) == 0)
                (void)store_delete(s, cache, &key, 1, w->now);
}

/* Left by its client, and empty, it goes after ten minutes. */
static void end_realm(struct world *w)
{
        unsigned i = dice(w, REALMS);
        uint32_t cache;
        uint64_t n;

        if (!w->realm[i])
                return;
        if (store_cache_find(w->realm[i]->store, "c", 1, &cache) == 0)
                assert_int_equal(store_clear(w->realm[i]->store, cache, w->now, &n), 0);
        realm_leave(w->realm[i], w->now);
        w->realm[i] = NULL;
        if (dice(w, 2) == 0)
                return; /* somebody will come back to it */
        for (w->now += 2 * REALM_IDLE_MS; realms_maintain(&w->realms, w->now, 1000);)
                ;
}

static void change_resource(struct world *w)
{
        const struct keeper *k = fdstore_keeper(w->fdstore);
        unsigned i = dice(w, RESOURCES);

        if (w->resource[i] < 0)
                w->resource[i] = memfd_create("resource", MFD_CLOEXEC);
        if (w->slot[i] == KEEPER_NONE) {
                w->slot[i] = k->put(k->ctx, NULL, i, w->resource[i]);
                return;
        }
        k->drop(k->ctx, w->slot[i], NULL);
        w->slot[i] = KEEPER_NONE;
        close(w->resource[i]);
        w->resource[i] = -1;
}

/* ---- and what has to hold */

static bool has(const struct world *w, int fd)
{
        struct stat st;

        assert_int_equal(fstat(fd, &st), 0);
        for (size_t i = 0; i < w->manager.n; i++)
                if (w->manager.kept[i].ino == st.st_ino)
                        return true;
        return false;
}

static void quiet(struct world *w)
{
        for (unsigned i = 0; i < 60; i++) {
                w->now += 1000;
                turn(w);
                while (hear(&w->manager))
                        ;
                (void)event_base_loop(w->base, EVLOOP_NONBLOCK);
        }
}

static void check(struct world *w)
{
        struct fdstore_stats stats;
        size_t n = 0, n_large = 0;

        quiet(w);
        fdstore_stats(w->fdstore, &stats);
        assert_int_equal(stats.waiting, 0);
        assert_int_equal(stats.leaving, 0);
        assert_int_equal(stats.leaving_bytes, 0);
        assert_int_equal(stats.kept, w->manager.n);
        for (const struct realm *r = w->realms.first; r; r = r->next) {
                assert_true(has(w, store_arena_fd(r->store)));
                n += 2;
                n_large += store_files(r->store);
        }
        for (unsigned i = 0; i < RESOURCES; i++) {
                if (w->slot[i] == KEEPER_NONE)
                        continue;
                assert_true(has(w, w->resource[i]));
                n++;
        }
        /* As many large values as there is room for, and nothing else. */
        assert_int_equal(w->manager.n, n + n_large < MOST ? n + n_large : MOST);
}

static void run(uint64_t seed)
{
        struct world w;

        world_init(&w, seed);
        for (unsigned i = 0; i < 1000; i++) {
                switch (dice(&w, 16)) {
                case 0:
                case 12:
                        end_realm(&w);
                        break;
                case 1:
                case 13:
                        change_resource(&w);
                        break;
                case 2:
                case 3:
                        delete_value(&w);
                        break;
                case 4:
                case 5:
                case 14:
                case 15:
                        put_value(&w);
                        break;
                case 6:
                        w.now += 2000;
                        turn(&w);
                        break;
                case 7:
                case 8:
                        (void)hear(&w.manager);
                        break;
                default:
                        turn(&w);
                }
                if (i % 50 == 49)
                        check(&w);
        }
        assert_true(w.manager.n_added > 20 && w.manager.n_removed > 10);
        world_done(&w);
}

static void test_random_lives(void **state)
{
        (void)state;
        for (uint64_t seed = 1; seed <= 20; seed++)
                run(seed);
}

/* One descriptor that cannot be sent now is no reason for the others to wait. */
static void test_one_that_is_stuck(void **state)
{
        struct world w;
        const struct keeper *k;

        (void)state;
        world_init(&w, 1);
        k = fdstore_keeper(w.fdstore);
        for (unsigned i = 0; i < RESOURCES; i++) {
                w.resource[i] = memfd_create("resource", MFD_CLOEXEC);
                w.slot[i] = k->put(k->ctx, NULL, i, w.resource[i]);
                assert_int_not_equal(w.slot[i], KEEPER_NONE);
        }
        stuck = w.resource[0];
        quiet(&w);
        assert_int_equal(w.manager.n, RESOURCES - 1);
        assert_false(has(&w, stuck));
        stuck = -1;
        quiet(&w);
        assert_int_equal(w.manager.n, RESOURCES);
        world_done(&w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_one_that_is_stuck),
                cmocka_unit_test(test_random_lives),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
