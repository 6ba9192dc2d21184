/* SPDX-License-Identifier: MIT */
#ifndef DISK_H
#define DISK_H

/*
 * Disk: is a file of a file system that the kernel itself serves? See disk.c.
 */

#include <stdbool.h>
#include <stdint.h>

/* @dev: as makedev() of statx(). Reads this process's table of mounts, and asks the file nothing.
 * False, too, where that cannot be read or the file system is not mounted here. */
bool disk_has(uint64_t dev);

/* The same of another table in the form of /proc/self/mountinfo: see proc_pid_mountinfo(5). */
bool disk_has_in(const char *mountinfo, uint64_t dev);

#endif
