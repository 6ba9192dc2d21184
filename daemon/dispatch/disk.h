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

/* Whether a line of /proc/PID/mountinfo (see proc(5)) says so. */
bool disk_line_has(const char *line, uint64_t dev);

#endif
