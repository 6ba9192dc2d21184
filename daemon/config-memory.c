/* SPDX-License-Identifier: MIT */
/*
 * Memory that shares are of
 *
 * The machine's physical memory, or what the control group (version 2) leaves of it. Version 1
 * groups are not looked at. What cannot be read does not limit.
 */

#include "config-memory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config-value.h"
#include "config.h"

/* A small file as text without its last newline; 0 or -errno. */
static int read_small(const char *path, char *buf, size_t n_buf)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = read(fd, buf, n_buf - 1);
        close(fd);
        if (n < 0)
                return -errno;
        if (n > 0 && buf[n - 1] == '\n')
                n--;
        buf[n] = '\0';
        return 0;
}

uint64_t memory_cgroup_limit(const char *proc_cgroup, const char *root)
{
        char lines[8192], path[PATH_MAX], text[VALUE_TEXT_MAX];
        uint64_t lowest = UINT64_MAX;
        char *group, *slash;

        if (read_small(proc_cgroup, lines, sizeof(lines)) < 0)
                return lowest;
        group = strncmp(lines, "0::/", 4) == 0 ? lines : strstr(lines, "\n0::/");
        if (!group)
                return lowest;
        group = strchr(group, '/');
        group[strcspn(group, "\n")] = '\0';
        for (;;) {
                uint64_t limit;
                int n = snprintf(path, sizeof(path), "%s%s/memory.max", root, group);

                if (n > 0 && (size_t)n < sizeof(path) &&
                    read_small(path, text, sizeof(text)) == 0 &&
                    value_parse_count(text, &limit) == 0 && limit < lowest)
                        lowest = limit;
                slash = strrchr(group, '/');
                if (!slash)
                        return lowest;
                *slash = '\0';
        }
}

uint64_t config_memory_bytes(void)
{
        uint64_t limit = memory_cgroup_limit("/proc/self/cgroup", "/sys/fs/cgroup");
        long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
        uint64_t physical = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;

        return limit < physical ? limit : physical;
}
