/* SPDX-License-Identifier: MIT */
/*
 * Configuration: every value that is accepted, every mistake with its exact message, files,
 * drop-ins, owners, shares of memory, and running out of memory at each allocation.
 */

#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <cmocka.h>

#include "config-memory.h"
#include "config-value.h"
#include "config.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* ---- helpers */

static struct config *accept_text(const char *text)
{
        struct config *cfg = NULL;
        char err[CONFIG_ERR_MAX] = "";
        int r = config_parse("f.conf", text, strlen(text), &cfg, err, sizeof(err));

        if (r != 0)
                print_error("refused: %s\n", err);
        assert_int_equal(r, 0);
        assert_non_null(cfg);
        return cfg;
}

static void refuse_bytes(const char *text, size_t n, const char *message)
{
        struct config *untouched = (struct config *)&n, *cfg = untouched;
        char err[CONFIG_ERR_MAX] = "";

        assert_int_equal(config_parse("f.conf", text, n, &cfg, err, sizeof(err)), -EINVAL);
        assert_string_equal(err, message);
        assert_ptr_equal(cfg, untouched);
}

static void refuse_text(const char *text, const char *message)
{
        refuse_bytes(text, strlen(text), message);
}

static void write_file(const char *path, const char *text)
{
        FILE *f = fopen(path, "we");

        assert_non_null(f);
        assert_true(fputs(text, f) >= 0);
        assert_int_equal(fclose(f), 0);
        assert_int_equal(chmod(path, 0600), 0);
}

/* A fresh directory as the working directory, so that paths in messages are short and known. */
static int enter_folder(void **state)
{
        char *folder = strdup("/tmp/test-config-XXXXXX");

        *state = folder; /* leave_folder() frees it */
        return folder && mkdtemp(folder) ? chdir(folder) : -1;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *place)
{
        return remove(path);
}

static int leave_folder(void **state)
{
        char *folder = *state;
        int r = chdir("/");

        if (r == 0)
                r = nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
        free(folder);
        return r;
}

static void refuse_file(const char *path, int error, const char *message)
{
        struct config *cfg = NULL;
        char err[CONFIG_ERR_MAX] = "";

        assert_int_equal(config_load(path, &cfg, err, sizeof(err)), error);
        assert_string_equal(err, message);
        assert_null(cfg);
}

/* As root: goes on as a user who owns the folder but is not root. Else one is that already. */
static void become_nobody(void)
{
        if (geteuid() != 0)
                return;
        assert_int_equal(chown(".", 65534, 65534), 0);
        assert_int_equal(seteuid(65534), 0);
}

static void become_oneself(void)
{
        assert_int_equal(seteuid(getuid()), 0);
}

struct found {
        const char *wanted;
        char value[256], source[256];
        bool is_default;
        unsigned n, n_all;
};

static int find_setting(void *ctx, const char *name, const char *value, bool is_default,
                        const char *source)
{
        struct found *f = ctx;

        f->n_all++;
        if (strcmp(name, f->wanted) != 0)
                return 0;
        f->n++;
        snprintf(f->value, sizeof(f->value), "%s", value);
        snprintf(f->source, sizeof(f->source), "%s", source);
        f->is_default = is_default;
        return 0;
}

static void check_setting(const struct config *cfg, const char *name, const char *value,
                          const char *source)
{
        struct found f = {.wanted = name};

        assert_int_equal(config_for_each_setting(cfg, find_setting, &f), 0);
        assert_int_equal(f.n, 1);
        assert_string_equal(f.value, value);
        assert_string_equal(f.source, source);
        assert_int_equal(f.is_default, !*source);
}

/* ---- values */

static void test_a01_sizes(void **state)
{
        static const struct {
                const char *text;
                uint64_t bytes;
        } good[] = {
                {"0", 0},
                {"1", 1},
                {"64K", 65536},
                {"16M", 16 * MIB},
                {"2G", 2 * GIB},
                {"1T", UINT64_C(1) << 40},
                {"007", 7},
                {"18446744073709551615", UINT64_MAX},
                {"16777215T", UINT64_C(16777215) << 40},
                {"1.5M", MIB + MIB / 2},
                {"0.25K", 256},
        };
        static const char *const bad[] = {"",   "K",   "-1",     "+1",         " 1",   "1 ",
                                          "1k", "10Q", "1KB",    "1.G",        "0x10", "1G2",
                                          ".5", "1.5", "1.5.5G", "1.0000001G", "1.3K"};
        static const char *const large[] = {"18446744073709551616", "16777216T",
                                            "99999999999999999999999G"};
        uint64_t n = 42;

        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
                assert_int_equal(value_parse_size(good[i].text, &n), 0);
                assert_true(n == good[i].bytes);
        }
        n = 42;
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                assert_int_equal(value_parse_size(bad[i], &n), VALUE_E_SYNTAX);
        for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++)
                assert_int_equal(value_parse_size(large[i], &n), VALUE_E_RANGE);
        assert_int_equal(n, 42);
}

static void test_a02_durations(void **state)
{
        uint64_t ms = 42;

        assert_int_equal(value_parse_duration("250ms", &ms), 0);
        assert_int_equal(ms, 250);
        assert_int_equal(value_parse_duration("10s", &ms), 0);
        assert_int_equal(ms, 10000);
        assert_int_equal(value_parse_duration("5m", &ms), 0);
        assert_int_equal(ms, 300000);
        assert_int_equal(value_parse_duration("1h", &ms), 0);
        assert_int_equal(ms, 3600000);
        assert_int_equal(value_parse_duration("7d", &ms), 0);
        assert_int_equal(ms, 604800000);
        assert_int_equal(value_parse_duration("1500", &ms), 0);
        assert_int_equal(ms, 1500);
        assert_int_equal(value_parse_duration("10M", &ms), VALUE_E_SYNTAX);
        assert_int_equal(value_parse_duration("1w", &ms), VALUE_E_SYNTAX);
        assert_int_equal(value_parse_duration("999999999999999999d", &ms), VALUE_E_RANGE);
        assert_int_equal(ms, 1500);
}

static void test_a03_shown_values_parse_to_themselves(void **state)
{
        static const uint64_t values[] = {0, 1, 1023, 1024, 1025, 1000 << 10, MIB, GIB, UINT64_MAX};
        char text[VALUE_TEXT_MAX];
        uint64_t n;

        for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
                value_format_size(values[i], text);
                assert_int_equal(value_parse_size(text, &n), 0);
                assert_true(n == values[i]);
                value_format_duration(values[i], text);
                assert_int_equal(value_parse_duration(text, &n), 0);
                assert_true(n == values[i]);
        }
        value_format_size(1000 << 10, text);
        assert_string_equal(text, "1000K");
        value_format_duration(90000, text);
        assert_string_equal(text, "90s");
}

static void test_a04_distance(void **state)
{
        assert_int_equal(value_distance("", ""), 0);
        assert_int_equal(value_distance("abc", ""), 3);
        assert_int_equal(value_distance("", "abc"), 3);
        assert_int_equal(value_distance("abc", "abc"), 0);
        assert_int_equal(value_distance("abc", "acb"), 1);
        assert_int_equal(value_distance("conections", "connections"), 1);
        assert_int_equal(value_distance("kitten", "sitting"), 3);
}

/* ---- what is accepted */

static void test_b01_defaults(void **state)
{
        struct config *cfg = accept_text("");
        struct found f = {.wanted = ""};
        uint64_t memory = config_memory_bytes();

        assert_true(memory > 0);
        assert_int_equal(cfg->log_level, LOG_INFO);
        assert_int_equal(cfg->socket_mode, 0600);
        assert_string_equal(cfg->socket_group, "");
        assert_false(cfg->has_socket_gid);
        assert_true(cfg->realm_budget.bytes >= GIB && cfg->realm_budget.bytes >= memory / 4);
        assert_true(cfg->global_budget.bytes >= 1280 * MIB);
        assert_true(cfg->global_budget.bytes >= memory / 2);
        assert_int_equal(config_share_of(&cfg->uid_share, 12345), 12345);
        assert_int_equal(cfg->large_threshold, 4 << 20);
#define LIMIT(name, default, min, max, ...)                                                        \
        assert_true(cfg->limits.name == (default));                                                \
        assert_in_range(cfg->limits.name, min, max);
#include "limits.def"
#undef LIMIT
        assert_int_equal(cfg->n_realms, 0);
        config_for_each_setting(cfg, find_setting, &f);
        assert_true(f.n_all > 15);
        config_free(cfg);
        assert_null(config_free(NULL));
}

static void test_b02_values_and_where_they_come_from(void **state)
{
        struct config *cfg = accept_text("; comment\n"
                                         "[daemon]\n"
                                         "log_level = debug ; why\n"
                                         "socket_mode: 0660\r\n"
                                         "socket_group = 12\n"
                                         "\n"
                                         "[limits]\n"
                                         "frame_ms = 90s\n"
                                         "connections=10\n"
                                         "message_bytes = 2M\n"
                                         "[memory]\n"
                                         "realm_budget = 16M\n"
                                         "global_budget = 100%\n"
                                         "uid_share = 50%");

        assert_int_equal(cfg->log_level, LOG_DEBUG);
        assert_int_equal(cfg->socket_mode, 0660);
        assert_true(cfg->has_socket_gid);
        assert_int_equal(cfg->socket_gid, 12);
        assert_int_equal(cfg->limits.frame_ms, 90000);
        assert_int_equal(cfg->limits.connections, 10);
        assert_int_equal(cfg->limits.message_bytes, 2 * MIB);
        assert_int_equal(cfg->realm_budget.bytes, 16 * MIB);
        assert_true(cfg->global_budget.bytes >= config_memory_bytes());
        assert_int_equal(config_share_of(&cfg->uid_share, 1001), 500);
        check_setting(cfg, "daemon.log_level", "debug", "f.conf:3");
        check_setting(cfg, "daemon.socket_mode", "0660", "f.conf:4");
        check_setting(cfg, "limits.frame_ms", "90s", "f.conf:8");
        check_setting(cfg, "memory.realm_budget", "16M", "f.conf:12");
        check_setting(cfg, "memory.uid_share", "50%", "f.conf:14");
        check_setting(cfg, "memory.large_threshold", "4M", "");
        config_free(cfg);
}

static void test_b03_realms(void **state)
{
        struct config *cfg = accept_text("\xef\xbb\xbf[realm team.1]\n"
                                         "readers = 7, root, 5, 7,\n"
                                         "    @root, @9,\n"
                                         "    6\n"
                                         "budget = 3G\n"
                                         "[memory]\n"
                                         "realm_budget = 64M\n"
                                         "[realm empty]\n");
        const struct config_realm *r = config_find_realm(cfg, "team.1");

        assert_non_null(r);
        assert_int_equal(r->readers.n_uids, 4);
        assert_int_equal(r->readers.uids[0], 0);
        assert_int_equal(r->readers.uids[1], 5);
        assert_int_equal(r->readers.uids[2], 6);
        assert_int_equal(r->readers.uids[3], 7);
        assert_int_equal(r->readers.n_gids, 2);
        assert_int_equal(r->readers.gids[0], 0);
        assert_int_equal(r->readers.gids[1], 9);
        assert_int_equal(r->writers.n_uids + r->writers.n_gids, 0);
        assert_true(r->budget == 3 * GIB);
        check_setting(cfg, "realm.team.1.readers", "7, root, 5, 7, @root, @9, 6", "f.conf:2");
        check_setting(cfg, "realm.team.1.budget", "3G", "f.conf:5");
        check_setting(cfg, "realm.empty.admins", "", "");
        check_setting(cfg, "realm.empty.budget", "64M", "");
        assert_int_equal(config_find_realm(cfg, "empty")->budget, 64 * MIB);
        assert_null(config_find_realm(cfg, "other"));
        config_free(cfg);
}

static void test_b05_schedules(void **state)
{
        struct config *cfg = accept_text("[schedule night.1]\n"
                                         "cache = my cache\n"
                                         "realm = team\n"
                                         "at = 04:05\n"
                                         "[schedule often]\n"
                                         "every = 90s\n"
                                         "cache=x\n"
                                         "[realm team]\n"
                                         "[schedule night.1]\n"
                                         "every = 1d\n");
        const struct config_schedule *s = cfg->schedules;

        assert_int_equal(cfg->n_schedules, 2);
        assert_string_equal(s[0].name, "night.1");
        assert_string_equal(s[0].cache, "my cache");
        assert_string_equal(s[0].realm, "team");
        assert_int_equal(s[0].at_minute, 4 * 60 + 5);
        assert_int_equal(s[0].every_ms, 24 * 3600 * 1000);
        assert_string_equal(s[1].name, "often");
        assert_null(s[1].realm);
        assert_int_equal(s[1].every_ms, 90 * 1000);
        assert_int_equal(s[1].at_minute, CONFIG_AT_NEVER);
        check_setting(cfg, "schedule.night.1.at", "04:05", "f.conf:4");
        check_setting(cfg, "schedule.night.1.every", "1d", "f.conf:10");
        check_setting(cfg, "schedule.often.cache", "x", "f.conf:7");
        check_setting(cfg, "schedule.often.realm", "", "");
        check_setting(cfg, "schedule.often.at", "", "");
        config_free(cfg);
        cfg = accept_text("[schedule a]\ncache = c\nevery = 366d\nrealm = uid:4294967294\n"
                          "at = 23:59\n[schedule b]\ncache = c\nat = 00:00\n");
        assert_int_equal(cfg->schedules[0].at_minute, 24 * 60 - 1);
        assert_int_equal(cfg->schedules[1].at_minute, 0);
        config_free(cfg);
}

static void test_b04_share_of(void **state)
{
        struct config_share all = {.percent = 100}, third = {.percent = 33}, bytes = {.bytes = 10};

        assert_true(config_share_of(&all, UINT64_MAX) == UINT64_MAX);
        assert_int_equal(config_share_of(&third, 1000), 330);
        assert_int_equal(config_share_of(&bytes, 1000), 10);
        assert_int_equal(config_share_of(&bytes, 5), 5);
}

/* ---- what is refused */

static void test_c01_unknown_names(void **state)
{
        refuse_text(
                "[limits]\nconections = 5\n",
                "f.conf:2: unknown setting 'conections' in [limits]; did you mean 'connections'?");
        refuse_text("[limits]\n\n\nzzz = 5\n", "f.conf:4: unknown setting 'zzz' in [limits]");
        refuse_text("[limits]\nlog_level = info\n",
                    "f.conf:2: 'log_level' is a setting of [daemon], not of [limits]");
        refuse_text("[limit]\nconnections = 5\n",
                    "f.conf:1: unknown section [limit]; did you mean [limits]?");
        refuse_text("[foobar]\n",
                    "f.conf:1: unknown section [foobar]; there are [daemon], [memory], "
                    "[sessions], [limits], [realm NAME] and [schedule NAME]");
        refuse_text(
                "connections = 5\n",
                "f.conf:1: 'connections' stands before any section; begin with [daemon], [memory], "
                "[sessions], [limits], [realm NAME] or [schedule NAME]");
        refuse_text("[realm a]\nreader = 5\n",
                    "f.conf:2: unknown setting 'reader' in [realm NAME]; did you mean 'readers'?");
}

static void test_c02_values(void **state)
{
        refuse_text("[memory]\nlarge_threshold = 10Q\n",
                    "f.conf:2: '10Q' is not a size: use a number with K, M, G or T");
        refuse_text("[memory]\nlarge_threshold =\n",
                    "f.conf:2: '' is not a size: use a number with K, M, G or T");
        refuse_text("[memory]\nlarge_threshold = 5M\n",
                    "f.conf:2: large_threshold = 5M is out of range: 4K to 4M");
        refuse_text("[memory]\nrealm_budget = 0%\n",
                    "f.conf:2: realm_budget = 0% is out of range: 64K to 16T, or 1% to 100%");
        refuse_text("[memory]\nrealm_budget = 1K\n",
                    "f.conf:2: realm_budget = 1K is out of range: 64K to 16T, or 1% to 100%");
        refuse_text("[memory]\nuid_share = half\n",
                    "f.conf:2: 'half' is not a size or share: use a number with K, M, G, T or %");
        refuse_text("[limits]\nconnections = 0\n",
                    "f.conf:2: connections = 0 is out of range: 1 to 1000000");
        refuse_text(
                "[limits]\nconnections = 99999999999999999999999\n",
                "f.conf:2: connections = 99999999999999999999999 is out of range: 1 to 1000000");
        refuse_text("[limits]\nconnections = -1\n", "f.conf:2: '-1' is not a whole number");
        refuse_text("[limits]\nconnections = 5K\n", "f.conf:2: '5K' is not a whole number");
        refuse_text("[limits]\nframe_ms = 5x\n",
                    "f.conf:2: '5x' is not a duration: use a number with ms, s, m, h or d");
        refuse_text("[limits]\nframe_ms = 2h\n",
                    "f.conf:2: frame_ms = 2h is out of range: 100ms to 1h");
        refuse_text("[daemon]\nsocket_mode = 0888\n",
                    "f.conf:2: '0888' is not a mode: use octal digits, as in 0660");
        refuse_text("[daemon]\nsocket_mode = 1777\n",
                    "f.conf:2: socket_mode = 1777 is out of range: 0000 to 0777");
        refuse_text("[daemon]\nlog_level = loud\n",
                    "f.conf:2: 'loud' is not a log level: use error, warning, info or debug");
        refuse_text("[daemon]\nsocket_group = no-such-group-x\n",
                    "f.conf:2: unknown group 'no-such-group-x'");
}

static void test_c03_realms(void **state)
{
        refuse_text("[realm]\n", "f.conf:1: [realm] needs a name: [realm NAME]");
        refuse_text("[realm a b]\n",
                    "f.conf:1: 'a b' is no realm name: use 1 to 40 letters, digits, "
                    "'.', '_', '-'");
        refuse_text("[realm uid:7]\n", "f.conf:1: 'uid:7' is no realm name: use 1 to 40 letters, "
                                       "digits, '.', '_', '-'");
        refuse_text("[realm a]\nreaders = no-such-user-x\n",
                    "f.conf:2: unknown user 'no-such-user-x'; write @name for a group");
        refuse_text("[realm a]\nreaders = root,\n  @no-such-group-x\n",
                    "f.conf:3: unknown group 'no-such-group-x'");
        refuse_text("[realm a]\nreaders = 1,,2\n", "f.conf:2: a user name is missing");
        refuse_text("[realm a]\nreaders = @\n", "f.conf:2: a group name is missing");
        refuse_text("[realm a]\nreaders = 4294967295\n",
                    "f.conf:2: user id 4294967295 is out of range: 0 to 4294967294");
        refuse_text("[realm a]\nbudget = 1\n", "f.conf:2: budget = 1 is out of range: 64K to 16T");
        refuse_text("[limits]\nrealms = 1\n[realm a]\n[realm b]\n",
                    "f.conf: 2 realms, but limits.realms is 1");
}

static void test_c05_schedules(void **state)
{
        static const char *const no_times[] = {"4:05",  "04:5",   "24:00", "04:60", "0405",
                                               "04.05", "04:05:", "+4:05", "04:-5", " "};
        char text[512], reason[512];

        refuse_text("[schedule]\n", "f.conf:1: [schedule] needs a name: [schedule NAME]");
        refuse_text("[schedule a b]\n", "f.conf:1: 'a b' is no schedule name: use 1 to 40 letters, "
                                        "digits, '.', '_', '-'");
        refuse_text("[shedule]\n",
                    "f.conf:1: unknown section [shedule]; there are [daemon], "
                    "[memory], [sessions], [limits], [realm NAME] and [schedule NAME]");
        refuse_text("\n[schedule a]\nevery = 1h\n", "f.conf:2: [schedule a] names no cache: add a "
                                                    "line `cache = NAME`");
        refuse_text("[schedule a]\ncache = c\n",
                    "f.conf:1: [schedule a] does not say when: add a line `every = 1h`, "
                    "`at = 04:00`, or both");
        refuse_text("[schedule a]\ncache = c\nevery = 999ms\n",
                    "f.conf:3: every = 999ms is out of range: 1s to 366d");
        refuse_text("[schedule a]\nevery = 367d\n",
                    "f.conf:2: every = 367d is out of range: 1s to 366d");
        refuse_text("[schedule a]\nevery = often\n",
                    "f.conf:2: 'often' is not a duration: use a number with ms, s, m, h or d");
        for (size_t i = 0; i < sizeof(no_times) / sizeof(no_times[0]); i++) {
                const char *shown = *no_times[i] == ' ' ? "" : no_times[i];

                snprintf(text, sizeof(text), "[schedule a]\nat = %s\n", no_times[i]);
                snprintf(reason, sizeof(reason),
                         "f.conf:2: '%s' is not a time of the day: use HH:MM, 00:00 to 23:59",
                         shown);
                refuse_text(text, reason);
        }
        refuse_text("[schedule a]\ncache =\n", "f.conf:2: cache has 0 bytes: a cache's name has 1 "
                                               "to 128");
        snprintf(text, sizeof(text), "[schedule a]\ncache = %0129d\n", 0);
        refuse_text(text, "f.conf:2: cache has 129 bytes: a cache's name has 1 to 128");
        refuse_text("[schedule a]\ncache = a\tb\n",
                    "f.conf:2: there is a tab in the name of the cache");
        refuse_text("[schedule a]\ncache = c\nat = 00:00\nrealm = nowhere\n",
                    "f.conf:4: there is no realm 'nowhere': name one that has a section [realm "
                    "NAME], or a user's, uid:N");
        refuse_text("[schedule a]\nrealm =\n", "f.conf:2: realm is empty: name a realm of the "
                                               "configuration, or uid:N, or leave it out for the "
                                               "daemon's own");
        for (const char *uid = "uid:\0uid:x\0uid:4294967295\0uid:-1\0uid:01\0uid:1x\0"; *uid;
             uid += strlen(uid) + 1) {
                snprintf(text, sizeof(text), "[schedule a]\nrealm = %s\n", uid);
                snprintf(reason, sizeof(reason),
                         "f.conf:2: '%s' is no user's realm: use uid: and a number", uid);
                refuse_text(text, reason);
        }
        refuse_text("[schedule a]\nevry = 1h\n", "f.conf:2: unknown setting 'evry' in [schedule "
                                                 "NAME]; did you mean 'every'?");
        refuse_text("[schedule a]\nreaders = 1\n",
                    "f.conf:2: unknown setting 'readers' in [schedule NAME]; a schedule has cache, "
                    "realm, every and at");
        refuse_text("[schedule a]\nat = 01:00\nat = 02:00\n",
                    "f.conf:3: 'at' was already set at line 2");
        refuse_text("[schedule a]\ncache = c\n  d = 2\n",
                    "f.conf:3: the line is indented: it would go on with 'cache', which is no "
                    "list");
}

static void test_c04_lines(void **state)
{
        char text[4096];

        refuse_text("[limits]\nconnections = 5\nrealms = 7\nconnections = 6\n",
                    "f.conf:4: 'connections' was already set at line 2");
        refuse_text("[realm a]\nbudget = 1G\n[realm b]\n[realm a]\nbudget = 1G\n",
                    "f.conf:5: 'budget' was already set at line 2");
        refuse_text("[limits]\nconnections\n", "f.conf:2: neither 'name = value' nor '[section]'");
        refuse_text("[limits\nconnections = 1\n", "f.conf:1: the section's name has no ']'");
        refuse_text("[limits] x\n", "f.conf:1: 'x' after the section's name");
        refuse_text(
                "[limits]\nconnections = 5\n  realms = 7\n",
                "f.conf:3: the line is indented: it would go on with 'connections', which is no "
                "list");
        refuse_bytes("[limits]\nconn\0ections = 5\n", 25,
                     "f.conf:2: a NUL byte: this is not a text "
                     "file");
        refuse_text("[limits]\nc\x1b[2Jx = 5\n",
                    "f.conf:2: byte 2 of the line is a control character or not UTF-8");
        refuse_text("[daemon]\nsocket_group = \xc3\x28\n",
                    "f.conf:2: byte 16 of the line is a control character or not UTF-8");
        snprintf(text, sizeof(text), "[daemon]\nsocket_group = %0300d\n", 0);
        refuse_text(text,
                    "f.conf:2: the line has 315 bytes, at most 199 are read; a list may go on in "
                    "an indented line");
        snprintf(text, sizeof(text), "[realm %060d]\n", 0);
        refuse_text(text, "f.conf:1: the section's name is longer than 49 bytes");
        snprintf(text, sizeof(text), "[daemon]\nsocket_group = %065d\n", 0);
        refuse_text(text, "f.conf:2: socket_group is too long: at most 64 bytes");
}

/* ---- files */

static void test_d01_drop_ins_override_in_the_order_of_names(void **state)
{
        struct config *cfg;
        char err[CONFIG_ERR_MAX];

        write_file("c.conf", "[limits]\nconnections = 1\nrealms = 1\n[realm a]\nreaders = 1, 2\n");
        assert_int_equal(mkdir("c.conf.d", 0700), 0);
        write_file("c.conf.d/20.conf", "[limits]\nconnections = 20\n");
        write_file("c.conf.d/10.conf", "[limits]\nconnections = 10\nrealms = 10\n");
        write_file("c.conf.d/30.conf.bak", "nonsense\n");
        write_file("c.conf.d/.40.conf", "nonsense\n");
        write_file("c.conf.d/50.conf", "[realm a]\nreaders = 3\n");
        assert_int_equal(config_load("c.conf", &cfg, err, sizeof(err)), 0);
        assert_int_equal(cfg->limits.connections, 20);
        assert_int_equal(cfg->limits.realms, 10);
        assert_int_equal(cfg->n_realms, 1);
        assert_int_equal(cfg->realms[0].readers.n_uids, 1);
        assert_int_equal(cfg->realms[0].readers.uids[0], 3);
        assert_int_equal(cfg->n_files, 4);
        assert_string_equal(cfg->files[0], "c.conf");
        assert_string_equal(cfg->files[3], "c.conf.d/50.conf");
        check_setting(cfg, "limits.connections", "20", "c.conf.d/20.conf:2");
        config_free(cfg);

        write_file("c.conf.d/60.conf", "[limits]\n\nx = 1\n");
        refuse_file("c.conf", -EINVAL, "c.conf.d/60.conf:3: unknown setting 'x' in [limits]");
}

static void test_d02_files_that_cannot_be_read(void **state)
{
        refuse_file("none.conf", -ENOENT, "none.conf: cannot be opened: No such file or directory");
        refuse_file("", -ENOENT, ": cannot be opened: No such file or directory");
        assert_int_equal(mkdir("dir.conf", 0700), 0);
        refuse_file("dir.conf", -EINVAL, "dir.conf: is a directory, not a file");
        assert_int_equal(mkfifo("pipe.conf", 0600), 0);
        refuse_file("pipe.conf", -EINVAL, "pipe.conf: is something special, not a file");
        write_file("big.conf", "");
        assert_int_equal(truncate("big.conf", 2 * MIB), 0);
        refuse_file("big.conf", -EINVAL, "big.conf: is larger than 1M");
        write_file("file.conf", "");
        write_file("file.conf.d", "");
        refuse_file("file.conf", -ENOTDIR, "file.conf.d: cannot be opened: Not a directory");
}

static void test_d03_files_without_permission(void **state)
{
        write_file("secret.conf", "");
        assert_int_equal(chmod("secret.conf", 0), 0);
        become_nobody();
        refuse_file("secret.conf", -EACCES, "secret.conf: cannot be opened: Permission denied");
        become_oneself();
}

static void test_d04_root_reads_only_what_root_wrote(void **state)
{
        struct config *cfg = NULL;
        char err[CONFIG_ERR_MAX];

        if (geteuid() != 0)
                skip(); /* only root can give files away */
        write_file("c.conf", "");
        assert_int_equal(chown("c.conf", 12345, 0), 0);
        refuse_file("c.conf", -EINVAL,
                    "c.conf: belongs to uid 12345; run as root, cached reads only root's files");
        assert_int_equal(chown("c.conf", 0, 0), 0);
        assert_int_equal(chmod("c.conf", 0646), 0);
        refuse_file("c.conf", -EINVAL,
                    "c.conf: everybody may write to it; run as root, cached refuses that");
        assert_int_equal(chmod("c.conf", 0644), 0);
        assert_int_equal(mkdir("c.conf.d", 0700), 0);
        assert_int_equal(chmod("c.conf.d", 0777), 0);
        refuse_file("c.conf", -EINVAL,
                    "c.conf.d: everybody may write to it; run as root, cached refuses that");
        assert_int_equal(chmod("c.conf.d", 0755), 0);
        assert_int_equal(config_load("c.conf", &cfg, err, sizeof(err)), 0);
        config_free(cfg);
}

static void test_d05_default_file_may_be_missing(void **state)
{
        struct config *cfg = NULL;
        char err[CONFIG_ERR_MAX] = "", path[PATH_MAX], folder[PATH_MAX];

        become_nobody(); /* root's is a path of the system */
        assert_non_null(getcwd(folder, sizeof(folder)));
        assert_int_equal(setenv("XDG_CONFIG_HOME", folder, 1), 0);
        assert_int_equal(config_default_path(path, sizeof(path)), 0);
        assert_int_equal(config_load(NULL, &cfg, err, sizeof(err)), 0);
        assert_int_equal(cfg->n_files, 0);
        config_free(cfg);
        assert_int_equal(mkdir("cached", 0700), 0);
        write_file("cached/cached.conf", "[limits]\nrealms = 3\n");
        assert_int_equal(config_load(NULL, &cfg, err, sizeof(err)), 0);
        assert_int_equal(cfg->limits.realms, 3);
        config_free(cfg);
        become_oneself();
}

static void test_d06_names_in_messages_are_printable(void **state)
{
        refuse_file("a\nb\x80.conf", -ENOENT,
                    "a?b?.conf: cannot be opened: No such file or directory");
}

static void test_d07_control_groups_limit_memory(void **state)
{
        assert_int_equal(mkdir("cg", 0700), 0);
        assert_int_equal(mkdir("cg/a", 0700), 0);
        assert_int_equal(mkdir("cg/a/b", 0700), 0);
        write_file("self", "1:name=systemd:/x\n0::/a/b\n");
        assert_true(memory_cgroup_limit("self", "cg") == UINT64_MAX);
        write_file("cg/a/b/memory.max", "max\n");
        assert_true(memory_cgroup_limit("self", "cg") == UINT64_MAX);
        write_file("cg/a/memory.max", "1048576\n");
        assert_int_equal(memory_cgroup_limit("self", "cg"), MIB);
        write_file("cg/a/b/memory.max", "4096\n");
        assert_int_equal(memory_cgroup_limit("self", "cg"), 4096);
        write_file("cg/memory.max", "17\n");
        assert_int_equal(memory_cgroup_limit("self", "cg"), 17);
        assert_true(memory_cgroup_limit("missing", "cg") == UINT64_MAX);
        write_file("self", "4:memory:/a\n");
        assert_true(memory_cgroup_limit("self", "cg") == UINT64_MAX);
}

/* ---- out of memory */

/* Allocations until one fails; 0: none fails. The test's own state, not the product's. */
static unsigned fail_at;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
char *__real_strdup(const char *s);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);
char *__wrap_strdup(const char *s);

static bool fails_now(void)
{
        return fail_at > 0 && --fail_at == 0;
}

void *__wrap_malloc(size_t n)
{
        return fails_now() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
        return fails_now() ? NULL : __real_calloc(n, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
        return fails_now() ? NULL : __real_reallocarray(p, n, size);
}

char *__wrap_strdup(const char *s)
{
        return fails_now() ? NULL : __real_strdup(s);
}

static void test_e01_each_allocation_may_fail(void **state)
{
        struct config *cfg = NULL;
        char err[CONFIG_ERR_MAX];
        unsigned n = 0;
        int r;

        write_file("c.conf", "[daemon]\nsocket_group = root\n[realm a]\nreaders = root, 5\n"
                             "budget = 1G\n[realm b]\nadmins = @root\n[schedule s]\ncache = c\n"
                             "realm = a\nat = 04:00\n[schedule t]\ncache = d\nevery = 1h\n");
        assert_int_equal(mkdir("c.conf.d", 0700), 0);
        write_file("c.conf.d/1.conf", "[realm a]\nreaders = 6\n");
        do {
                err[0] = '\0';
                fail_at = ++n;
                r = config_load("c.conf", &cfg, err, sizeof(err));
                if (fail_at > 0)
                        break; /* the load has fewer allocations than that */
                assert_int_equal(r, -ENOMEM);
                assert_string_equal(err, "out of memory while reading the configuration");
                assert_null(cfg);
        } while (n < 1000);
        fail_at = 0;
        assert_int_equal(r, 0);
        assert_in_range(n, 15, 999);
        config_free(cfg);
}

int main(void)
{
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_a01_sizes),
                cmocka_unit_test(test_a02_durations),
                cmocka_unit_test(test_a03_shown_values_parse_to_themselves),
                cmocka_unit_test(test_a04_distance),
                cmocka_unit_test(test_b01_defaults),
                cmocka_unit_test(test_b02_values_and_where_they_come_from),
                cmocka_unit_test(test_b03_realms),
                cmocka_unit_test(test_b04_share_of),
                cmocka_unit_test(test_b05_schedules),
                cmocka_unit_test(test_c01_unknown_names),
                cmocka_unit_test(test_c02_values),
                cmocka_unit_test(test_c03_realms),
                cmocka_unit_test(test_c05_schedules),
                cmocka_unit_test(test_c04_lines),
                IN_FOLDER(test_d01_drop_ins_override_in_the_order_of_names),
                IN_FOLDER(test_d02_files_that_cannot_be_read),
                IN_FOLDER(test_d03_files_without_permission),
                IN_FOLDER(test_d04_root_reads_only_what_root_wrote),
                IN_FOLDER(test_d05_default_file_may_be_missing),
                IN_FOLDER(test_d06_names_in_messages_are_printable),
                IN_FOLDER(test_d07_control_groups_limit_memory),
                IN_FOLDER(test_e01_each_allocation_may_fail),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
