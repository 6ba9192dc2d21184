/* SPDX-License-Identifier: MIT */
/*
 * A lock that knows about fork
 *
 * A child process inherits a mutex as it stood at the moment of the fork, held or not; if another
 * thread of the parent held it, nobody in the child ever releases it. pthread_atfork() would help,
 * but changes the whole process. So this lock carries the pid that it belongs to beside its state,
 * and a process that meets another pid takes it over in one compare-and-swap, which exactly one
 * thread wins. That thread is told, since the connection behind the lock is not its own either.
 *
 * States: 0 free, 1 held, 2 held and somebody may sleep. The futex is the low half of the word.
 * Pids are re-used, but not the pid of a living ancestor, and a handle passes on by fork alone: a
 * grandchild could only be confused with an ancestor that died before it, after the pid counter
 * wrapped around. It does not know about vfork or about clone without CLONE_THREAD that shares
 * memory.
 */

#include "client/guard.h"

#include <assert.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
        FREE = 0,
        HELD = 1,
        CONTENDED = 2,
};

static uint64_t word_of(uint32_t pid, uint32_t state)
{
        return (uint64_t)pid << 32 | state;
}

static uint32_t *futex_of(struct guard *g)
{
        uint32_t *half = (uint32_t *)(void *)&g->word;

        return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? half : half + 1;
}

enum guard_found guard_lock(struct guard *g)
{
        uint32_t pid = (uint32_t)getpid();
        uint32_t want = HELD;
        uint64_t seen = word_of(pid, FREE);

        for (;;) {
                uint32_t owner, state;

                if (atomic_compare_exchange_weak_explicit(&g->word, &seen, word_of(pid, want),
                                                          memory_order_acquire,
                                                          memory_order_relaxed)) {
                        owner = (uint32_t)(seen >> 32);
                        state = (uint32_t)seen;
                        if (owner == 0 || owner == pid)
                                return GUARD_MINE;
                        return state == FREE ? GUARD_FORKED : GUARD_TORN;
                }
                owner = (uint32_t)(seen >> 32);
                state = (uint32_t)seen;
                if (owner != pid || state == FREE)
                        continue;
                if (state == HELD &&
                    !atomic_compare_exchange_weak_explicit(&g->word, &seen, word_of(pid, CONTENDED),
                                                           memory_order_relaxed,
                                                           memory_order_relaxed))
                        continue;
                (void)syscall(SYS_futex, futex_of(g), FUTEX_WAIT_PRIVATE, CONTENDED, NULL, NULL, 0);
                /* Whoever slept cannot know whether others still do. */
                want = CONTENDED;
                seen = word_of(pid, FREE);
        }
}

void guard_unlock(struct guard *g)
{
        uint64_t was = atomic_load_explicit(&g->word, memory_order_relaxed);

        was = atomic_exchange_explicit(&g->word, was & ~(uint64_t)UINT32_MAX, memory_order_release);
        assert((uint32_t)was != FREE);
        if ((uint32_t)was == CONTENDED)
                (void)syscall(SYS_futex, futex_of(g), FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
