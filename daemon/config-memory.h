/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_MEMORY_H
#define CONFIG_MEMORY_H

/*
 * Memory that shares are of
 */

#include <stdint.h>

/* The lowest memory.max on the way from the group that @proc_cgroup (a file in the format of
 * /proc/self/cgroup) names up to @root; UINT64_MAX if none limits or nothing can be read. */
uint64_t memory_cgroup_limit(const char *proc_cgroup, const char *root);

#endif
