/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_SPIN_H
#define CLIENT_SPIN_H

/*
 * Whether to look for a reply a little longer before going to sleep for it
 *
 * The other half of daemon/spin.h: falling asleep and being woken costs a client as much as it
 * costs the daemon, and a daemon that is awake answers in less time than that. So while a
 * connection has traffic (its last wait began less than SPIN_TRAFFIC_NS ago: the daemon has not
 * gone to sleep yet) a reply is polled for, for at most SPIN_NS. When that was in vain it is not
 * tried again for a while, twice as long each time: a daemon that is busy with others, or that
 * needs this very processor, has it soon. Between two looks the processor is offered to whoever
 * else wants it.
 *
 * A value that the daemon has to copy first takes it longer than that, always: so such a reply is
 * polled for longer, by what the copy takes. Else sets of 1 MiB were polled for in vain, and soon
 * all were slept for (median 150 to 200 us, where they take 90).
 *
 * On a machine of one processor nobody polls.
 *
 * Measured on a small virtual machine, client and daemon pinned to its two processors, with a
 * daemon that polls: the median of a get falls from 37 to 14 us, and since nobody is woken so does
 * the processor time that it takes, from 36 to 15 us here and from 41 to 16 us of the daemon's.
 * Offering the processor matters where it is shared: without it two threads on one processor get
 * fewer replies than if they slept, with it a third more.
 */

#include <stdbool.h>
#include <stdint.h>

#define SPIN_NS UINT64_C(50000)
/* The daemon takes so long to copy 16 bytes: 66 us for a MiB. */
#define SPIN_COPY_NS    UINT64_C(1)
#define SPIN_COPY_BYTES 16u
#define SPIN_TRAFFIC_NS UINT64_C(1000000)
#define SPIN_SKIP_MAX   4096u /* waits: a futile poll in so many cannot be measured */

struct spin {
        bool is_on;
        uint64_t last_ns; /* when the last wait began */
        uint64_t more_ns; /* the next reply is known to take so much longer */
        uint32_t skip;    /* waits to go without polling */
        uint32_t next;    /* how many to skip after the next failure */
};

/* A wait begins: poll? */
static inline bool spin_begin(struct spin *s, uint64_t now_ns)
{
        bool has_traffic = now_ns - s->last_ns < SPIN_TRAFFIC_NS;

        s->last_ns = now_ns;
        if (!has_traffic)
                return false;
        if (s->skip == 0)
                return true;
        s->skip--;
        return false;
}

/* The next reply comes when `n` bytes are copied. */
static inline void spin_expect_copy(struct spin *s, uint64_t n)
{
        s->more_ns = n / SPIN_COPY_BYTES * SPIN_COPY_NS;
}

/* How long to poll; asked once a wait. */
static inline uint64_t spin_ns(struct spin *s)
{
        uint64_t ns = SPIN_NS + s->more_ns;

        s->more_ns = 0;
        return ns;
}

static inline void spin_end(struct spin *s, bool found)
{
        if (found) {
                s->next /= 2; /* one lucky poll is no rhythm */
                return;
        }
        s->next = s->next == 0 ? 1 : s->next * 2;
        if (s->next > SPIN_SKIP_MAX)
                s->next = SPIN_SKIP_MAX;
        s->skip = s->next;
}

#endif
