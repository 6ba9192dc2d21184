/* SPDX-License-Identifier: MIT */
#ifndef PROC_H
#define PROC_H

/*
 * What the kernel tells in small text files. Nothing is remembered between calls.
 */

#include <stddef.h>
#include <stdint.h>

/* The file as text without its last newline, cut to the buffer. 0 or -errno. */
int proc_read(const char *path, char *buf, size_t n_buf);

/* The soft limit of a line of /proc/PID/limits, such as "Max open files"; UINT64_MAX: unlimited.
 * 0 or -errno. */
int proc_limit(const char *limits_path, const char *name, uint64_t *ret);

/* A line of /proc/meminfo, such as "MemTotal", in bytes. 0 or -errno. */
int proc_meminfo(const char *meminfo_path, const char *name, uint64_t *ret);

/* The lowest memory limits of the control group of a process and of those around it, of version 2
 * or 1; UINT64_MAX: none. @high is where the kernel begins to slow the group down. @proc_cgroup is
 * /proc/PID/cgroup, @root is /sys/fs/cgroup. */
struct proc_cgroup {
        uint64_t max, high;
};
struct proc_cgroup proc_cgroup(const char *proc_cgroup, const char *root);

#endif
