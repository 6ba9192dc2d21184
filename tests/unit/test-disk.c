/* SPDX-License-Identifier: MIT */
/* Whose files nobody hangs on: by the table of mounts alone. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmocka.h>

#include "dispatch/disk.h"

static void test_lines(void **state)
{
        (void)state;
        const uint64_t dev = makedev(8, 1);

        assert_true(disk_line_has("36 35 8:1 / / rw,noatime shared:1 - ext4 /dev/sda1 rw\n", dev));
        assert_true(disk_line_has("36 35 8:1 / / rw - tmpfs tmpfs rw", dev));
        assert_true(disk_line_has("36 35 8:1 / /a\\040b rw shared:1 master:2 - xfs x rw", dev));
        assert_false(disk_line_has("36 35 8:2 / / rw - ext4 /dev/sda1 rw", dev));
        assert_false(disk_line_has("36 35 8:1 / / rw - fuse.sshfs a rw", dev));
        assert_false(disk_line_has("36 35 8:1 / / rw - nfs4 a rw", dev));
        assert_false(disk_line_has("36 35 8:1 / / rw - fuse - ext4 rw", dev));
        assert_false(disk_line_has("36 35 8:1 / / rw - ext44 a rw", dev));
        assert_false(disk_line_has("36 35 8:1 / / rw -", dev));
        assert_false(disk_line_has("36 35 8 / / rw - ext4 a rw", dev));
        assert_false(disk_line_has("", dev));
        assert_false(disk_line_has(" - ext4 ", 0));
}

static void test_this_machine(void **state)
{
        (void)state;
        struct stat st;
        char path[] = "/dev/shm/test-disk-XXXXXX";
        int fd = mkstemp(path);

        if (fd < 0)
                skip();
        assert_int_equal(fstat(fd, &st), 0);
        unlink(path);
        close(fd);
        assert_true(disk_has(st.st_dev));
        assert_int_equal(stat("/proc", &st), 0);
        assert_false(disk_has(st.st_dev));
        assert_false(disk_has(makedev(4095, 1048575)));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_this_machine),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
