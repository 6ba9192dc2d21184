/* SPDX-License-Identifier: MIT */

/*
 * The order of writes to two pipes
 *
 * A reader of two pipes that wakes up to find something in both cannot tell which came first; a
 * command that writes `a` to one, `b` to the other and `c` to the first has done so long before
 * anybody wakes up. Two facts of the kernel make it exact:
 *
 * - A pipe with room for a single write makes the next writer wait until that was read. (One page,
 *   and "packet mode", O_DIRECT, so that small writes do not share the page.)
 * - An edge-triggered epoll hands pipes out in the order in which they became readable.
 *
 * So at most one write to each pipe is under way, and which of the two is older is known. Whatever
 * one process writes, or several that wait for each other, comes in its order.
 *
 * It costs the writer a change of process for each write, some 10 to 50 µs. That is paid from a
 * bucket of tokens, one a read, refilled with the time: a millisecond gives one. A command that
 * writes more has its pipes widened, and then order is what the reader sees, in steps of what it
 * reads at once; when the bucket is half full again and the pipes are empty, it becomes exact once
 * more. So the cost is bounded by BURST reads, and a twentieth of the time after that.
 */

#include "run-order.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define BURST       100
#define PURSE       1000 /* no more is saved than that */
#define WORTH_WHILE 50   /* tokens to begin again with */
#define NARROW      4096 /* rounded up to a page by the kernel */
#define WIDE        (256 * 1024)
#define LESS_WIDE   (64 * 1024) /* where the user's pipes hold much already */
#define MS_PER_SEC  UINT64_C(1000)
#define NS_PER_MS   1000000

static uint64_t now_ms(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
        return (uint64_t)t.tv_sec * MS_PER_SEC + (uint64_t)t.tv_nsec / NS_PER_MS;
}

static void set_packets(int fd, bool on)
{
        int flags = fcntl(fd, F_GETFL);

        if (flags >= 0)
                (void)fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT);
}

/* Whoever has given up its hold cannot change the mode any more. */
static void widen(struct order *o)
{
        for (int i = 0; i < ORDER_PIPES; i++) {
                if (o->writers[i] < 0)
                        continue;
                set_packets(o->writers[i], false);
                if (fcntl(o->writers[i], F_SETPIPE_SZ, WIDE) < 0)
                        (void)fcntl(o->writers[i], F_SETPIPE_SZ, LESS_WIDE);
        }
        o->exact = false;
}

/* It fails where more than one write has come meanwhile. */
static void narrow(struct order *o)
{
        bool done = true;

        for (int i = 0; i < ORDER_PIPES; i++) {
                if (o->writers[i] < 0)
                        return;
                set_packets(o->writers[i], true);
                if (fcntl(o->writers[i], F_SETPIPE_SZ, NARROW) < 0)
                        done = false;
        }
        o->exact = done;
        if (!done)
                widen(o);
}

static void refill(struct order *o)
{
        uint64_t now = now_ms(), passed = now - o->filled_ms;

        o->filled_ms = now;
        o->tokens = passed >= PURSE - o->tokens ? PURSE : o->tokens + (unsigned)passed;
}

static int add_pipe(struct order *o, int which, int *ret_reader)
{
        struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u32 = (uint32_t)which};
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        if (fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ||
            epoll_ctl(o->epoll, EPOLL_CTL_ADD, fds[0], &event) < 0) {
                r = -errno;
                (void)close(fds[0]);
                (void)close(fds[1]);
                return r;
        }
        o->writers[which] = fds[1];
        *ret_reader = fds[0];
        return 0;
}

int order_init(struct order *o, int ret_readers[ORDER_PIPES])
{
        int readers[ORDER_PIPES] = {-1, -1}, r = 0;

        *o = (struct order){.writers = {-1, -1}, .tokens = BURST, .filled_ms = now_ms()};
        o->epoll = epoll_create1(EPOLL_CLOEXEC);
        if (o->epoll < 0)
                return -errno;
        for (int i = 0; i < ORDER_PIPES && r == 0; i++)
                r = add_pipe(o, i, &readers[i]);
        if (r < 0) {
                if (readers[0] >= 0)
                        (void)close(readers[0]);
                order_done(o);
                return r;
        }
        narrow(o);
        for (int i = 0; i < ORDER_PIPES; i++)
                ret_readers[i] = readers[i];
        return 0;
}

void order_release(struct order *o)
{
        if (o->exact)
                widen(o);
        for (int i = 0; i < ORDER_PIPES; i++) {
                if (o->writers[i] >= 0)
                        (void)close(o->writers[i]);
                o->writers[i] = -1;
        }
}

void order_done(struct order *o)
{
        order_release(o);
        if (o->epoll >= 0)
                (void)close(o->epoll);
        o->epoll = -1;
}

int order_next(struct order *o)
{
        struct epoll_event event;
        int r;

        do
                r = epoll_wait(o->epoll, &event, 1, 0);
        while (r < 0 && errno == EINTR);
        return r == 1 ? (int)event.data.u32 : -1;
}

bool order_read_on(struct order *o)
{
        bool was_exact = o->exact;

        if (!was_exact)
                return true;
        refill(o);
        if (o->tokens > 0)
                o->tokens--;
        else
                widen(o);
        return !o->exact;
}

void order_idle(struct order *o)
{
        if (o->exact)
                return;
        refill(o);
        if (o->tokens >= WORTH_WHILE)
                narrow(o);
}
