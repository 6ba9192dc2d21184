/* SPDX-License-Identifier: MIT */

/* Is cached installed as a service here */

#include "service.h"

#include <stdio.h>
#include <unistd.h>

bool service_is_installed(void)
{
        /* Where systemd looks for units that stay. */
        static const char *const dirs[] = {"/etc/systemd/system", "/usr/local/lib/systemd/system",
                                           "/usr/lib/systemd/system", "/lib/systemd/system"};
        char path[64];

        if (access("/run/systemd/system", F_OK) < 0)
                return false; /* sd_booted(3) */
        for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
                (void)snprintf(path, sizeof(path), "%s/cached.socket", dirs[i]);
                if (access(path, F_OK) == 0)
                        return true;
        }
        return false;
}
