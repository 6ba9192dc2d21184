/* SPDX-License-Identifier: MIT */
#ifndef STATUS_H
#define STATUS_H

/* The statuses of the protocol as plain numbers, from status.def. */

enum status {
#define STATUS(number, name, exit_status, meaning) STATUS_##name = number,
#include "proto/status.def"
#undef STATUS
};

#endif
