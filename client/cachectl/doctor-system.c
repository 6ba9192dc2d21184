/* SPDX-License-Identifier: MIT */

/*
 * doctor: what the kernel can do, and what its clock costs
 *
 * Each feature is tried, not looked up by version: containers forbid calls that the kernel has.
 * They are tried by this process; the daemon may be confined more tightly.
 */

#include "doctor.h"
#include "proc.h"
#include "units.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

/* Newer than the headers of some supported systems. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

#define PAGE 4096

/* A reading that takes this long is a system call or a slow device. */
#define SLOW_CLOCK_NS 400
#define N_READINGS    1000

/* As the daemon makes its memory files. */
static int make_memfd(void)
{
        int fd = memfd_create("cachectl-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

        if (fd < 0 && errno == EINVAL)
                fd = memfd_create("cachectl-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd >= 0 && ftruncate(fd, PAGE) < 0) {
                close(fd);
                return -1;
        }
        return fd;
}

static bool can_memfd(void)
{
        int fd = make_memfd();

        return fd >= 0 && close(fd) == 0;
}

static bool can_seal(int seals)
{
        int fd = make_memfd(), r;

        if (fd < 0)
                return false;
        r = fcntl(fd, F_ADD_SEALS, seals);
        close(fd);
        return r == 0;
}

static bool can_seal_size(void)
{
        return can_seal(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
}

static bool can_seal_future(void)
{
        return can_seal(F_SEAL_FUTURE_WRITE);
}

static bool can_advise(int flags, int advice)
{
        int fd = flags & MAP_ANONYMOUS ? -1 : make_memfd(), r = -1;
        void *p = MAP_FAILED;

        if (fd >= 0 || flags & MAP_ANONYMOUS)
                p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
        if (p != MAP_FAILED) {
                r = madvise(p, PAGE, advice);
                munmap(p, PAGE);
        }
        if (fd >= 0)
                close(fd);
        return r == 0;
}

static bool can_populate_write(void)
{
        return can_advise(MAP_SHARED, MADV_POPULATE_WRITE);
}

static bool can_populate_read(void)
{
        return can_advise(MAP_SHARED, MADV_POPULATE_READ);
}

static bool can_wipe_on_fork(void)
{
        return can_advise(MAP_PRIVATE | MAP_ANONYMOUS, MADV_WIPEONFORK);
}

static bool can_pidfd(void)
{
        long fd = syscall(SYS_pidfd_open, getpid(), 0);

        return fd >= 0 && close((int)fd) == 0;
}

static bool can_peer_pidfd(void)
{
        int pair[2], fd = -1, r;
        socklen_t n = sizeof(fd);

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return false;
        r = getsockopt(pair[0], SOL_SOCKET, SO_PEERPIDFD, &fd, &n);
        if (r == 0)
                close(fd);
        close(pair[0]);
        close(pair[1]);
        return r == 0;
}

static const struct feature {
        const char *name, *since;
        bool (*works)(void);
        bool needed; /* without it there is no daemon */
} features[] = {
        {"memory files (memfd_create)", "3.17", can_memfd, true},
        {"seals against resizing", "3.17", can_seal_size, true},
        {"F_SEAL_FUTURE_WRITE", "5.1", can_seal_future, false},
        {"MADV_POPULATE_WRITE", "5.14", can_populate_write, false},
        {"MADV_POPULATE_READ", "5.14", can_populate_read, false},
        {"MADV_WIPEONFORK", "4.14", can_wipe_on_fork, false},
        {"pidfd_open", "5.3", can_pidfd, false},
        {"SO_PEERPIDFD", "6.5", can_peer_pidfd, false},
};

static void check_needed(struct doctor *d, const struct feature *f)
{
        char noexec[16];

        doctor_say(d, DOCTOR_PROBLEM, "kernel", "there are no %s, and no daemon works without",
                   f->name);
        if (proc_read("/proc/sys/vm/memfd_noexec", noexec, sizeof(noexec)) == 0 &&
            strcmp(noexec, "0") != 0)
                doctor_advise(d, "sysctl vm.memfd_noexec is %s: set it to 1 or 0", noexec);
        else
                doctor_advise(d,
                              "use Linux %s or newer, and allow the calls in the container's "
                              "seccomp profile",
                              f->since);
}

static void check_kernel(struct doctor *d)
{
        struct utsname un = {.release = ""};
        char missing[256] = "";
        size_t n = 0;

        (void)uname(&un);
        for (size_t i = 0; i < sizeof(features) / sizeof(features[0]); i++) {
                const struct feature *f = &features[i];

                if (f->works())
                        continue;
                if (f->needed) {
                        check_needed(d, f);
                        return;
                }
                n += (size_t)snprintf(missing + n, sizeof(missing) - n, "%s%s (Linux %s)",
                                      n ? ", " : "", f->name, f->since);
        }
        /* What is not needed has another way, which is slower or less sharp. */
        if (n)
                doctor_say(d, DOCTOR_OK, "kernel", "Linux %s: all that is needed; without %s",
                           un.release, missing);
        else
                doctor_say(d, DOCTOR_OK, "kernel",
                           "Linux %s: memory files, seals and all that is "
                           "used where it is there",
                           un.release);
}

static uint64_t read_clock(clockid_t clock)
{
        struct timespec ts = {0};

        clock_gettime(clock, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void check_clock(struct doctor *d)
{
        char source[64] = "unknown";
        uint64_t start = read_clock(CLOCK_BOOTTIME), each;

        (void)proc_read("/sys/devices/system/clocksource/clocksource0/current_clocksource", source,
                        sizeof(source));
        for (int i = 0; i < N_READINGS; i++)
                (void)read_clock(CLOCK_BOOTTIME);
        each = (read_clock(CLOCK_BOOTTIME) - start) / N_READINGS;
        if (each <= SLOW_CLOCK_NS) {
                doctor_say(d, DOCTOR_OK, "clock", "%s, %lluns a reading", source,
                           (unsigned long long)each);
                return;
        }
        doctor_say(d, DOCTOR_NOTE, "clock",
                   "%s: a reading takes %lluns, and each request needs some", source,
                   (unsigned long long)each);
        doctor_advise(d, "/sys/devices/system/clocksource/clocksource0/available_clocksource lists "
                         "others; tsc and kvm-clock are fast");
}

void doctor_check_system(struct doctor *d)
{
        check_kernel(d);
        check_clock(d);
}
