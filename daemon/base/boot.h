/* SPDX-License-Identifier: MIT */
#ifndef BOOT_H
#define BOOT_H

/*
 * Which run of the machine this is: boottime means nothing in another one
 */

#include <stdint.h>

/* Zeros where it cannot be read. */
void boot_id_read(uint64_t ret[2]);

#endif
