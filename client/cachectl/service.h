/* SPDX-License-Identifier: MIT */
#ifndef SERVICE_H
#define SERVICE_H

#include <stdbool.h>

/* systemd runs here, and knows of the system's socket: to start that unit is how a daemon begins.
 */
bool service_is_installed(void);

#endif
