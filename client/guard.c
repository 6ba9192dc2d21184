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
 * wrapped around. The pid is kept in a page that is wiped on fork, since asking for it twice would
 * be a tenth of what a call costs this library. It does not know about vfork or about clone without
 * CLONE_THREAD that shares memory.
 */

#include "client/guard.h"

#include <assert.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
        FREE = 0,
        HELD = 1,
        CONTENDED = 2,
};

/* It is held for less time than a thread takes to fall asleep and wake up. */
#define SPINS 50

static uint64_t word_of(uint32_t pid, uint32_t state)
{
        return (uint64_t)pid << 32 | state;
}

static uint32_t *futex_of(struct guard *g)
{
        uint32_t *half = (uint32_t *)(void *)&g->word;

        return __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? half : half + 1;
}

void guard_self_init(struct guard_self *s)
{
        size_t n = (size_t)sysconf(_SC_PAGESIZE);
        void *page = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        s->pid = NULL;
        if (page == MAP_FAILED)
                return;
        if (madvise(page, n, MADV_WIPEONFORK) == 0)
                s->pid = page;
        else
                (void)munmap(page, n);
}

void guard_self_done(struct guard_self *s)
{
        if (s->pid)
                (void)munmap((void *)s->pid, (size_t)sysconf(_SC_PAGESIZE));
        s->pid = NULL;
}

uint32_t guard_pid(const struct guard_self *self)
{
        uint32_t pid = self->pid ? atomic_load_explicit(self->pid, memory_order_relaxed) : 0;

        if (pid != 0)
                return pid;
        pid = (uint32_t)getpid();
        if (self->pid)
                atomic_store_explicit(self->pid, pid, memory_order_relaxed);
        return pid;
}

enum guard_found guard_lock(struct guard *g, const struct guard_self *self)
{
        uint32_t pid = guard_pid(self);
        uint32_t want = HELD;
        uint64_t seen = word_of(pid, FREE);
        unsigned spins = SPINS;

        for (;;) {
                uint32_t owner = (uint32_t)(seen >> 32), state = (uint32_t)seen;

                if (owner != pid || state == FREE) {
                        if (!atomic_compare_exchange_weak_explicit(&g->word, &seen,
                                                                   word_of(pid, want),
                                                                   memory_order_acquire,
                                                                   memory_order_relaxed))
                                continue;
                        if (owner == 0 || owner == pid)
                                return GUARD_MINE;
                        return state == FREE ? GUARD_FORKED : GUARD_TORN;
                }
                if (spins > 0) {
                        spins--;
                        seen = atomic_load_explicit(&g->word, memory_order_relaxed);
                        continue;
                }
                if (state == HELD &&
                    !atomic_compare_exchange_weak_explicit(&g->word, &seen, word_of(pid, CONTENDED),
                                                           memory_order_relaxed,
                                                           memory_order_relaxed))
                        continue;
                (void)syscall(SYS_futex, futex_of(g), FUTEX_WAIT_PRIVATE, CONTENDED, NULL, NULL, 0);
                /* Whoever slept cannot know whether others still do. */
                want = CONTENDED;
                seen = atomic_load_explicit(&g->word, memory_order_relaxed);
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
