/* SPDX-License-Identifier: MIT */
/*
 * Dying between any two stores, see the header
 *
 * A store into a read-only page faults; the handler makes that page writable and sets the trap flag
 * of the processor; the store is carried out, and the trap handler makes the page read-only again.
 */

#include "torn.h"

#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE      4096u
#define OPEN_MAX_ 8u
#define TRAP_FLAG 0x100

/* Signal handlers have no context of their own. */
static struct {
        struct torn_range ranges[4];
        size_t n;
        unsigned long count, at;
        void *open[OPEN_MAX_];
        unsigned n_open;
} torn;

#ifdef __x86_64__

static bool is_ours(const uint8_t *p)
{
        for (size_t i = 0; i < torn.n; i++) {
                const uint8_t *base = torn.ranges[i].base;

                if (p >= base && p < base + torn.ranges[i].size)
                        return true;
        }
        return false;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
        ucontext_t *uc = context;
        void *page = (void *)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1));

        if (!is_ours(info->si_addr) || torn.n_open == OPEN_MAX_) {
                signal(sig, SIG_DFL);
                return;
        }
        /* One that goes over the end of a page faults twice. */
        if (torn.n_open == 0 && ++torn.count == torn.at)
                kill(getpid(), SIGKILL);
        torn.open[torn.n_open++] = page;
        mprotect(page, PAGE, PROT_READ | PROT_WRITE);
        uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
        ucontext_t *uc = context;

        (void)sig;
        (void)info;
        while (torn.n_open > 0)
                mprotect(torn.open[--torn.n_open], PAGE, PROT_READ);
        uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

unsigned long torn_run(const struct torn_range *ranges, size_t n_ranges, unsigned long at,
                       void (*fn)(void *ctx), void *ctx)
{
        struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO},
                         trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};

        memset(&torn, 0, sizeof(torn));
        memcpy(torn.ranges, ranges, n_ranges * sizeof(*ranges));
        torn.n = n_ranges;
        torn.at = at;
        sigaction(SIGSEGV, &fault, NULL);
        sigaction(SIGTRAP, &trap, NULL);
        for (size_t i = 0; i < n_ranges; i++)
                mprotect(ranges[i].base, ranges[i].size, PROT_READ);
        fn(ctx);
        for (size_t i = 0; i < n_ranges; i++)
                mprotect(ranges[i].base, ranges[i].size, PROT_READ | PROT_WRITE);
        return torn.count;
}

static void three_stores(void *ctx)
{
        volatile uint64_t *p = ctx;

        p[0] = 1;
        p[100] = 2;
        p[0] = 3;
}

bool torn_works(void)
{
        int status;
        pid_t pid = fork();

        if (pid == 0) {
                struct torn_range r = {NULL, PAGE};

                r.base =
                        mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
                _exit(torn_run(&r, 1, 0, three_stores, r.base) == 3 ? 0 : 1);
        }
        return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
               WEXITSTATUS(status) == 0;
}

#else

bool torn_works(void)
{
        return false;
}

unsigned long torn_run(const struct torn_range *ranges, size_t n_ranges, unsigned long at,
                       void (*fn)(void *ctx), void *ctx)
{
        (void)ranges;
        (void)n_ranges;
        (void)at;
        fn(ctx);
        return 0;
}

#endif
