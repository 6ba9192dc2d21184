/* SPDX-License-Identifier: MIT */

/*
 * What `cachectl doctor` reads in /proc and /sys, from files made here: limits, memory, and control
 * groups of both versions, nested, absent and damaged.
 */

#include "proc.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define TEXT_MAX 512

/* A file below the current directory, with the directories on its way. */
static void put(const char *path, const char *text)
{
        char dir[TEXT_MAX];
        FILE *f;

        snprintf(dir, sizeof(dir), "%s", path);
        for (char *p = dir; (p = strchr(p, '/')) != NULL; *p++ = '/') {
                *p = '\0';
                (void)mkdir(dir, 0700);
        }
        f = fopen(path, "w");
        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
}

static int enter(void **state)
{
        char dir[] = "/tmp/test-proc-XXXXXX";

        if (!mkdtemp(dir) || chdir(dir) < 0)
                return -1;
        *state = strdup(dir);
        return *state ? 0 : -1;
}

static int leave(void **state)
{
        char command[TEXT_MAX];
        int r;

        snprintf(command, sizeof(command), "rm -rf %s", (char *)*state);
        r = chdir("/") < 0 || system(command) != 0; /* NOLINT(cert-env33-c): a name of ours */
        free(*state);
        return r ? -1 : 0;
}

static void a_file_is_text(void **state)
{
        char buf[8];

        put("a", "four\n");
        assert_int_equal(proc_read("a", buf, sizeof(buf)), 0);
        assert_string_equal(buf, "four");
        put("a", "");
        assert_int_equal(proc_read("a", buf, sizeof(buf)), 0);
        assert_string_equal(buf, "");
        put("a", "longer than that");
        assert_int_equal(proc_read("a", buf, sizeof(buf)), 0);
        assert_string_equal(buf, "longer ");
        assert_int_equal(proc_read("none", buf, sizeof(buf)), -ENOENT);
        assert_int_equal(proc_read("/", buf, sizeof(buf)), -EISDIR);
}

static void limits_by_name(void **state)
{
        uint64_t n = 7;

        put("limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n"
            "Max file size             unlimited            unlimited            bytes     \n"
            "Max open files            1024                 524288               files     \n");
        assert_int_equal(proc_limit("limits", "Max open files", &n), 0);
        assert_int_equal(n, 1024);
        assert_int_equal(proc_limit("limits", "Max file size", &n), 0);
        assert_true(n == UINT64_MAX);
        n = 7;
        assert_int_equal(proc_limit("limits", "Max nothing", &n), -ENODATA);
        assert_int_equal(proc_limit("limits", "Limit", &n), -ENODATA);
        assert_int_equal(proc_limit("none", "Max open files", &n), -ENOENT);
        assert_int_equal(n, 7);
}

static void memory_is_in_kib(void **state)
{
        uint64_t n = 7;

        put("meminfo",
            "MemTotal:       24576 kB\nMemAvailable:    1024 kB\nSwapFree:              0 kB\n"
            "Huge: 99999999999999999999999 kB\nNone:\n");
        assert_int_equal(proc_meminfo("meminfo", "MemTotal", &n), 0);
        assert_int_equal(n, 24576 * 1024);
        assert_int_equal(proc_meminfo("meminfo", "SwapFree", &n), 0);
        assert_int_equal(n, 0);
        n = 7;
        assert_int_equal(proc_meminfo("meminfo", "Mem", &n), -ENODATA);
        assert_int_equal(proc_meminfo("meminfo", "Huge", &n), -ENODATA);
        assert_int_equal(proc_meminfo("meminfo", "None", &n), -ENODATA);
        assert_int_equal(n, 7);
}

static void the_lowest_limit_counts(void **state)
{
        struct proc_cgroup g;

        put("cgroup", "0::/system.slice/cached.service\n");
        put("sys/system.slice/cached.service/memory.max", "max\n");
        g = proc_cgroup("cgroup", "sys");
        assert_true(g.max == UINT64_MAX && g.high == UINT64_MAX);
        put("sys/system.slice/memory.max", "2000\n");
        put("sys/system.slice/cached.service/memory.high", "500\n");
        g = proc_cgroup("cgroup", "sys");
        assert_true(g.max == 2000 && g.high == 500);
        put("sys/system.slice/cached.service/memory.max", "1000\n");
        assert_int_equal(proc_cgroup("cgroup", "sys").max, 1000);
        put("sys/memory.max", "900\n");
        assert_int_equal(proc_cgroup("cgroup", "sys").max, 900);
}

static void version_1_has_limits_too(void **state)
{
        put("cgroup", "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/\n");
        assert_true(proc_cgroup("cgroup", "sys").max == UINT64_MAX);
        put("sys/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        assert_true(proc_cgroup("cgroup", "sys").max == UINT64_MAX);
        put("sys/memory/a/memory.limit_in_bytes", "4096\n");
        assert_int_equal(proc_cgroup("cgroup", "sys").max, 4096);
        /* A controller whose name only begins alike. */
        put("cgroup", "4:memoryless:/a/b\n");
        assert_true(proc_cgroup("cgroup", "sys").max == UINT64_MAX);
}

static void damage_is_no_limit(void **state)
{
        static const char *const texts[] = {"",           "\n",  "0",
                                            "0:",         "0::", "0::x",
                                            "x:y:z:/",    "::",  "0::/../../a\n",
                                            "memory:/a/b"};

        put("sys/memory.max", "not a number\n");
        put("a/memory.max", "1\n");
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                put("cgroup", texts[i]);
                assert_true(proc_cgroup("cgroup", "sys").max == UINT64_MAX);
        }
        assert_true(proc_cgroup("none", "sys").max == UINT64_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_file_is_text, enter, leave),
                cmocka_unit_test_setup_teardown(limits_by_name, enter, leave),
                cmocka_unit_test_setup_teardown(memory_is_in_kib, enter, leave),
                cmocka_unit_test_setup_teardown(the_lowest_limit_counts, enter, leave),
                cmocka_unit_test_setup_teardown(version_1_has_limits_too, enter, leave),
                cmocka_unit_test_setup_teardown(damage_is_no_limit, enter, leave),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
