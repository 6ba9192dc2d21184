/* SPDX-License-Identifier: MIT */
/*
 * The kernel's id of this run of the machine: 32 hexadecimal digits with dashes
 */

#include "base/boot.h"

#include <ctype.h>
#include <fcntl.h>
#include <unistd.h>

#define PATH   "/proc/sys/kernel/random/boot_id"
#define DIGITS 32u

void boot_id_read(uint64_t ret[2])
{
        uint64_t id[2] = {0, 0};
        char text[64];
        unsigned n = 0;
        ssize_t got;
        int fd = open(PATH, O_RDONLY | O_CLOEXEC);

        ret[0] = ret[1] = 0;
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
                ret[1] = id[1];
        }
}
