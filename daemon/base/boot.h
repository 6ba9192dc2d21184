/* SPDX-License-Identifier: MIT */
#ifndef BOOT_H
#define BOOT_H

/*
 * Which run of the machine this is, and in which time namespace: boottime means nothing, or another
 * time, in another one
 */

#include <stdint.h>

/* What cannot be read counts as zero. */
void boot_id_read(uint64_t ret[2]);

#endif
