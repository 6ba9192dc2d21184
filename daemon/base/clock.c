/* SPDX-License-Identifier: MIT */
/*
 * The daemon's clock
 *
 * CLOCK_BOOTTIME plus, in a test build, an offset that a tester moves. A test may move the offset
 * back; the reading does not follow (the store relies on time that never goes back).
 */

#include "base/clock.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

static uint64_t read_clock(clockid_t id)
{
        struct timespec ts = {0};

        (void)clock_gettime(id, &ts); /* cannot fail for these clocks */
        return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

void clock_init(struct clock *c)
{
        *c = (struct clock){0};
}

uint64_t clock_boottime_ms(void)
{
        return read_clock(CLOCK_BOOTTIME) / NSEC_PER_MSEC;
}

int64_t clock_wall_ms(void)
{
        return (int64_t)(read_clock(CLOCK_REALTIME) / NSEC_PER_MSEC);
}

uint64_t clock_cpu_ns(void)
{
        return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t clock_monotonic_ns(void)
{
        return read_clock(CLOCK_MONOTONIC);
}

#ifdef CACHED_TEST_CLOCK

int clock_init_fd(struct clock *c, int fd)
{
        struct stat st;
        void *map;

        clock_init(c);
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(int64_t))
                return -EINVAL;
        map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
                return -errno;
        c->offset_ms = map;
        return 0;
}

void clock_done(struct clock *c)
{
        if (c->offset_ms)
                munmap((void *)c->offset_ms, sizeof(int64_t));
        c->offset_ms = NULL;
}

bool clock_is_shifted(const struct clock *c)
{
        return c->offset_ms != NULL;
}

int64_t clock_offset_ms(const struct clock *c)
{
        return c->fake_offset_ms + (c->offset_ms ? *c->offset_ms : 0);
}

uint64_t clock_now_ns(struct clock *c)
{
        uint64_t now = read_clock(CLOCK_BOOTTIME) + (uint64_t)clock_offset_ms(c) * NSEC_PER_MSEC;

        if (now > c->last_ns)
                c->last_ns = now;
        return c->last_ns;
}

#else

void clock_done(struct clock *c)
{
        (void)c;
}

bool clock_is_shifted(const struct clock *c)
{
        (void)c;
        return false;
}

int64_t clock_offset_ms(const struct clock *c)
{
        (void)c;
        return 0;
}

uint64_t clock_now_ns(struct clock *c)
{
        (void)c;
        return read_clock(CLOCK_BOOTTIME);
}

#endif
