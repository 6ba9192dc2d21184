/* SPDX-License-Identifier: MIT */

/*
 * Small text files of the kernel
 *
 * What cannot be read or understood is no limit; callers say what they could not find out. Paths
 * are arguments, so that tests bring their own files.
 */

#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Version 1 writes "no limit" as a page-aligned number close to 2^63. */
#define CGROUP1_UNLIMITED (UINT64_C(1) << 62)

int proc_read(const char *path, char *buf, size_t n_buf)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        size_t n = 0;
        ssize_t r = 0;

        if (fd < 0)
                return -errno;
        while (n < n_buf - 1 && (r = read(fd, buf + n, n_buf - 1 - n)) > 0)
                n += (size_t)r;
        r = r < 0 ? -errno : 0;
        close(fd);
        if (r < 0)
                return (int)r;
        if (n > 0 && buf[n - 1] == '\n')
                n--;
        buf[n] = '\0';
        return 0;
}

/* A number, or a word for none. What follows it is ignored. */
static bool parse_number(const char *text, uint64_t *ret)
{
        char *end;
        unsigned long long n;

        text += strspn(text, " \t");
        if (strncmp(text, "unlimited", 9) == 0 || strncmp(text, "max", 3) == 0) {
                *ret = UINT64_MAX;
                return true;
        }
        if (*text < '0' || *text > '9')
                return false;
        n = strtoull(text, &end, 10);
        *ret = n;
        return true;
}

/* The text behind the line's @name, or NULL. */
static const char *find_line(const char *text, const char *name)
{
        size_t n = strlen(name);

        while (text) {
                if (strncmp(text, name, n) == 0)
                        return text + n;
                text = strchr(text, '\n');
                text = text ? text + 1 : NULL;
        }
        return NULL;
}

int proc_limit(const char *limits_path, const char *name, uint64_t *ret)
{
        char text[4096];
        const char *line;
        int r = proc_read(limits_path, text, sizeof(text));

        if (r < 0)
                return r;
        line = find_line(text, name);
        return line && parse_number(line, ret) ? 0 : -ENODATA;
}

int proc_meminfo(const char *meminfo_path, const char *name, uint64_t *ret)
{
        char text[8192];
        const char *line;
        uint64_t kib;
        int r = proc_read(meminfo_path, text, sizeof(text));

        if (r < 0)
                return r;
        line = find_line(text, name);
        if (!line || *line != ':' || !parse_number(line + 1, &kib) || kib > UINT64_MAX / 1024)
                return -ENODATA;
        *ret = kib * 1024;
        return 0;
}

static void lower(uint64_t *limit, const char *root, const char *group, const char *file)
{
        char path[PATH_MAX], text[64];
        uint64_t n;
        int k = snprintf(path, sizeof(path), "%s%s/%s", root, group, file);

        if (k > 0 && (size_t)k < sizeof(path) && proc_read(path, text, sizeof(text)) == 0 &&
            parse_number(text, &n) && n < *limit)
                *limit = n;
}

/* From the group up to the root. Cuts @group. */
static void walk(struct proc_cgroup *found, const char *root, char *group, bool v1)
{
        for (;;) {
                char *slash;

                lower(&found->max, root, group, v1 ? "memory.limit_in_bytes" : "memory.max");
                if (!v1)
                        lower(&found->high, root, group, "memory.high");
                slash = strrchr(group, '/');
                if (!slash)
                        return;
                *slash = '\0';
        }
}

/* "memory" in a comma-separated list. */
static bool has_memory(const char *controllers)
{
        for (const char *p = controllers; (p = strstr(p, "memory")) != NULL; p += 6)
                if ((p == controllers || p[-1] == ',') && (p[6] == ',' || p[6] == '\0'))
                        return true;
        return false;
}

struct proc_cgroup proc_cgroup(const char *proc_cgroup_path, const char *root)
{
        struct proc_cgroup found = {UINT64_MAX, UINT64_MAX};
        char text[8192], v1_root[PATH_MAX], *rest = text, *line;

        if (proc_read(proc_cgroup_path, text, sizeof(text)) < 0)
                return found;
        snprintf(v1_root, sizeof(v1_root), "%s/memory", root);
        while ((line = strsep(&rest, "\n")) != NULL) { /* NUMBER:CONTROLLERS:/GROUP */
                const char *number = strsep(&line, ":"), *controllers = strsep(&line, ":");

                if (!line || line[0] != '/' || strstr(line, ".."))
                        continue;
                if (strcmp(number, "0") == 0 && !*controllers)
                        walk(&found, root, line, false);
                else if (has_memory(controllers))
                        walk(&found, v1_root, line, true);
        }
        if (found.max >= CGROUP1_UNLIMITED)
                found.max = UINT64_MAX;
        return found;
}
