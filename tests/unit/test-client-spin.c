/* SPDX-License-Identifier: MIT */
/*
 * Looking for a reply before sleeping for it: only while there is traffic, for a bounded time, less
 * and less often when that is in vain, and not at all where it is off.
 *
 * One thread is both sides: what the daemon does, and how fast time goes, is in recv() and
 * clock_gettime(), which the linker sends here.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/conn.h"
#include "client/handle.h"
#include "proto/frame.h"

#define WAIT_MS  5000u
#define LOOK_NS  UINT64_C(1000) /* each look at the clock takes so long */
#define PAUSE_NS UINT64_C(2000000)

ssize_t __real_recv(int fd, void *to, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *to, size_t n, int flags);
int __wrap_clock_gettime(clockid_t id, struct timespec *ret);

static struct {
        uint64_t now_ns;
        int daemon;           /* its end of the socket */
        unsigned reply_after; /* looks in vain, then it is there; 0: only when it is slept for */
        unsigned looks, sleeps;
} world;

static void reply(void)
{
        static const uint8_t message[] = {0x08, 1}; /* Reply{id: 1} */
        uint8_t frame[FRAME_HEADER_SIZE + sizeof(message)];

        frame_header_write(frame, sizeof(message), 0);
        memcpy(frame + FRAME_HEADER_SIZE, message, sizeof(message));
        assert_int_equal(send(world.daemon, frame, sizeof(frame), 0), sizeof(frame));
}

ssize_t __wrap_recv(int fd, void *to, size_t n, int flags)
{
        if (flags & MSG_DONTWAIT) {
                if (++world.looks == world.reply_after)
                        reply();
        } else {
                world.sleeps++;
                reply();
        }
        return __real_recv(fd, to, n, flags);
}

int __wrap_clock_gettime(clockid_t id, struct timespec *ret)
{
        (void)id;
        world.now_ns += LOOK_NS;
        *ret = (struct timespec){(time_t)(world.now_ns / 1000000000u),
                                 (long)(world.now_ns % 1000000000u)};
        return 0;
}

static struct conn *connect_to_world(bool spins)
{
        struct conn *c = conn_new();
        int ends[2];

        assert_non_null(c);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        conn_attach(c, ends[0]);
        c->spin.is_on = spins;
        world.now_ns = UINT64_C(1000000000);
        world.daemon = ends[1];
        return c;
}

static void disconnect(struct conn *c)
{
        close(world.daemon);
        conn_free(c);
}

/* One reply, that is there after so many looks. */
static void receive(struct conn *c, unsigned reply_after)
{
        struct cached_reply *r = NULL;
        struct failure f;
        uint64_t n_body;

        world.looks = world.sleeps = 0;
        world.reply_after = reply_after;
        assert_int_equal(conn_recv_message(c, deadline_in_ms(WAIT_MS), true, &f, &r, &n_body),
                         CACHED_OK);
        assert_int_equal(r->message->id, 1);
        cached_reply_free(r);
}

static void test_who_has_traffic_looks(void **state)
{
        struct conn *c = connect_to_world(true);

        (void)state;
        receive(c, 0);
        assert_int_equal(world.looks, 0); /* nobody knows yet */
        assert_int_equal(world.sleeps, 1);
        for (int i = 0; i < 100; i++) {
                receive(c, 5);
                assert_int_equal(world.looks, 5);
                assert_int_equal(world.sleeps, 0);
        }
        world.now_ns += PAUSE_NS;
        receive(c, 5);
        assert_int_equal(world.looks, 0);
        assert_int_equal(world.sleeps, 1);
        receive(c, 1);
        assert_int_equal(world.looks, 1);
        assert_int_equal(world.sleeps, 0);
        disconnect(c);
}

static void test_in_vain_it_becomes_rare(void **state)
{
        struct conn *c = connect_to_world(true);
        unsigned n_looked = 0, last = 0, gap = 0;

        (void)state;
        receive(c, 0);
        for (unsigned i = 1; i <= 20000; i++) {
                receive(c, 0);
                assert_int_equal(world.sleeps, 1);
                assert_in_range(world.looks, 0, SPIN_NS / LOOK_NS + 1);
                if (world.looks == 0)
                        continue;
                n_looked++;
                assert_true(i - last > gap || gap >= SPIN_SKIP_MAX);
                gap = i - last;
                last = i;
        }
        assert_in_range(n_looked, 12, 18); /* 1, 2, 4 … 4096, 4096 … apart */
        assert_int_equal(gap, SPIN_SKIP_MAX + 1);
        /* Those that are in time bring it back, by and by. */
        do
                receive(c, 1);
        while (world.looks == 0);
        assert_int_equal(c->spin.next, SPIN_SKIP_MAX / 2);
        for (unsigned i = 0; i < 12; i++)
                receive(c, 1);
        assert_int_equal(c->spin.next, 0);
        receive(c, 0);
        assert_true(world.looks > 1);
        receive(c, 1); /* skipped */
        assert_int_equal(world.looks, 0);
        receive(c, 1);
        assert_int_equal(world.looks, 1);
        disconnect(c);
}

/* A megabyte takes the daemon longer than it is polled for otherwise: it is polled for as well. */
static void test_a_copy_has_its_time(void **state)
{
        const unsigned n_late = (unsigned)(SPIN_NS / LOOK_NS) + 20;
        struct conn *c = connect_to_world(true);

        (void)state;
        receive(c, 0);
        for (int i = 0; i < 100; i++) {
                spin_expect_copy(&c->spin, UINT64_C(1) << 20);
                receive(c, n_late);
                assert_int_equal(world.looks, n_late);
                assert_int_equal(world.sleeps, 0);
        }
        receive(c, n_late); /* only that one reply */
        assert_in_range(world.looks, 1, SPIN_NS / LOOK_NS + 1);
        assert_int_equal(world.sleeps, 1);
        disconnect(c);
}

static void test_off(void **state)
{
        struct conn *c = connect_to_world(false);

        (void)state;
        for (int i = 0; i < 100; i++) {
                receive(c, 1);
                assert_int_equal(world.looks, 0);
                assert_int_equal(world.sleeps, 1);
        }
        disconnect(c);
}

static void test_the_option(void **state)
{
        cached_options *o = cached_options_new();
        cached *c = NULL;

        (void)state;
        assert_non_null(o);
        assert_int_equal(cached_options_set_spin(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        assert_true(c->options.spins == (sysconf(_SC_NPROCESSORS_CONF) > 1));
        cached_free(c);
        assert_int_equal(cached_options_set_spin(o, 0), CACHED_OK);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        assert_false(c->options.spins);
        cached_free(c);
        cached_options_free(o);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_who_has_traffic_looks),
                cmocka_unit_test(test_in_vain_it_becomes_rare),
                cmocka_unit_test(test_a_copy_has_its_time),
                cmocka_unit_test(test_off),
                cmocka_unit_test(test_the_option),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
