/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: a line of the table of mounts
 *
 * Any bytes are read, and none outside of the line. Whatever is let in names a type that is let in.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "dispatch/disk.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        char *line = malloc(n + 1);

        if (!line)
                return 0;
        if (n > 0)
                memcpy(line, data, n);
        line[n] = '\0';
        if (disk_line_has(line, makedev(8, 1)))
                assert(strstr(line, " - ") && strchr(line, ':'));
        free(line);
        return 0;
}
