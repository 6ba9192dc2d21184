/* SPDX-License-Identifier: MIT */
#pragma once

/* pidfd_open(), also where glibc is older than 2.36 and has the system call's number alone. */

#if __has_include(<sys/pidfd.h>)
#include <sys/pidfd.h>
#else
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static inline int pidfd_open(pid_t pid, unsigned flags)
{
        return (int)syscall(SYS_pidfd_open, pid, flags);
}
#endif
