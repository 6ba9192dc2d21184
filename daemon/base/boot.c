/* SPDX-License-Identifier: MIT */
/*
 * The kernel's id of this run of the machine: 32 hexadecimal digits with dashes
 *
 * In a time namespace boottime is shifted. By how much becomes part of the id; nothing is changed
 * where it is not.
 */

#include "base/boot.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PATH         "/proc/sys/kernel/random/boot_id"
#define PATH_OFFSETS "/proc/self/timens_offsets"
#define DIGITS       32u

/* Nanoseconds; 0 also where the kernel has no time namespaces. */
static uint64_t boottime_offset(void)
{
        char text[256] = "";
        const char *line;
        long long s = 0;
        long ns = 0;
        ssize_t got;
        int fd = open(PATH_OFFSETS, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return 0;
        got = read(fd, text, sizeof(text) - 1);
        close(fd);
        if (got <= 0)
                return 0;
        line = strstr(text, "boottime");
        if (!line || sscanf(line, "boottime %lld %ld", &s, &ns) != 2)
                return 0;
        return (uint64_t)s * 1000000000u + (uint64_t)ns;
}

void boot_id_read(uint64_t ret[2])
{
        uint64_t id[2] = {0, 0};
        char text[64];
        unsigned n = 0;
        ssize_t got;
        int fd = open(PATH, O_RDONLY | O_CLOEXEC);

        ret[0] = 0;
        ret[1] = boottime_offset();
        if (fd < 0)
                return;
        got = read(fd, text, sizeof(text));
        close(fd);
        for (ssize_t i = 0; i < got && n < DIGITS; i++) {
                int c = tolower((unsigned char)text[i]);

                if (!isxdigit(c))
                        continue;
                id[n / 16] = id[n / 16] << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
                n++;
        }
        if (n == DIGITS) {
                ret[0] = id[0];
                ret[1] ^= id[1];
        }
}
