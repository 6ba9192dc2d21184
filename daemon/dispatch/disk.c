/* SPDX-License-Identifier: MIT */
/*
 * Disk
 *
 * Closing a file of FUSE or of a network file system asks its server, and waits. So which file
 * system a file is of is not asked of the file but looked up by its device in the table of mounts,
 * and only types that are known to need nobody else are let in. Who mounts another one in a
 * namespace of his own is not in our table.
 */
#include "dispatch/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

static bool needs_nobody(const char *type)
{
        static const char *const types[] = {"bcachefs", "btrfs",   "ext2",  "ext3",  "ext4", "f2fs",
                                            "jfs",      "overlay", "ramfs", "tmpfs", "xfs",  "zfs"};

        for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
                if (strcmp(type, types[i]) == 0)
                        return true;
        return false;
}

/* One line: numbers, device, paths (without blanks), options, a hyphen, the type. */
bool disk_line_has(const char *line, uint64_t dev)
{
        const char *rest = strstr(line, " - ");
        unsigned dev_major, dev_minor;
        char type[32];

        return rest && sscanf(line, "%*u %*u %u:%u ", &dev_major, &dev_minor) == 2 &&
               makedev(dev_major, dev_minor) == dev && sscanf(rest, " - %31s", type) == 1 &&
               needs_nobody(type);
}

bool disk_has(uint64_t dev)
{
        FILE *f = fopen("/proc/self/mountinfo", "re");
        char *line = NULL;
        size_t n = 0;
        bool found = false;

        if (!f)
                return false;
        while (!found && getline(&line, &n, f) > 0)
                found = disk_line_has(line, dev);
        free(line);
        (void)fclose(f);
        return found;
}
