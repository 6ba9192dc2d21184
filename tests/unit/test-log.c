/* SPDX-License-Identifier: MIT */
/*
 * The log: what an entry of the journal looks like whatever peers put into it, that nobody who
 * reads the log is waited for, where lines go when the journal is not there, and how many lines a
 * peer can cause. The journal is a socket in a directory of the test's own; time is a number.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/log-journal.h"

#define SEC           UINT64_C(1000000000)
#define DATAGRAMS_MAX 100000 /* more than any queue of a socket holds */

/* ---- entries */

struct text {
        char bytes[LOG_JOURNAL_ENTRY_MAX + 1];
        size_t n;
};

static void format(struct text *t, const struct log_entry *e)
{
        memset(t->bytes, 0x7e, sizeof(t->bytes));
        t->n = log_journal_format(t->bytes, e);
        assert_true(t->n <= LOG_JOURNAL_ENTRY_MAX);
        assert_int_equal(t->bytes[t->n], 0x7e);
        t->bytes[t->n] = '\0';
        assert_int_equal(strlen(t->bytes), t->n);
}

/* The value of a field, of which there is one; NULL: there is none. */
static const char *field(const struct text *t, const char *name)
{
        static char value[LOG_JOURNAL_ENTRY_MAX];
        const char *found = NULL;
        size_t n_name = strlen(name);

        for (const char *at = t->bytes; *at; at = strchr(at, '\n') + 1) {
                assert_non_null(strchr(at, '\n'));
                if (strncmp(at, name, n_name) != 0 || at[n_name] != '=')
                        continue;
                assert_null(found);
                found = at + n_name + 1;
        }
        if (!found)
                return NULL;
        (void)snprintf(value, sizeof(value), "%.*s", (int)strcspn(found, "\n"), found);
        return value;
}

static unsigned count_fields(const struct text *t)
{
        unsigned n = 0;

        for (const char *at = t->bytes; *at; at++)
                n += *at == '\n';
        return n;
}

static void entry_has_every_field(void **state)
{
        const struct log_fields f = {.event = LOG_EVENT_TAKEN_OVER,
                                     .has_uid = true,
                                     .uid = 4294967294u,
                                     .pid = 2147483647,
                                     .realm = "uid:1000",
                                     .numbers = {{LOG_NUMBER_ENTRIES_KEPT, 12},
                                                 {LOG_NUMBER_ENTRIES_DROPPED, UINT64_MAX}}};
        struct text t;

        (void)state;
        format(&t, &(struct log_entry){LOG_WARNING, "h\xc3\xa4llo", &f, 17});
        assert_string_equal(t.bytes, "MESSAGE=h\xc3\xa4llo\n"
                                     "PRIORITY=4\n"
                                     "SYSLOG_IDENTIFIER=cached\n"
                                     "SYSLOG_FACILITY=3\n"
                                     "MESSAGE_ID=e02a612c8b114dd1a2e641ef318fc1e1\n"
                                     "CACHED_KIND=TAKEN_OVER\n"
                                     "CACHED_UID=4294967294\n"
                                     "CACHED_PID=2147483647\n"
                                     "CACHED_REALM=uid:1000\n"
                                     "CACHED_ENTRIES_KEPT=12\n"
                                     "CACHED_ENTRIES_DROPPED=18446744073709551615\n"
                                     "CACHED_SUPPRESSED=17\n");
}

static void entry_says_only_what_is_known(void **state)
{
        const struct log_fields nothing = {0}, root = {.has_uid = true};
        struct text t;

        (void)state;
        format(&t, &(struct log_entry){LOG_ERR, "", &nothing, 0});
        assert_string_equal(t.bytes,
                            "MESSAGE=\nPRIORITY=3\nSYSLOG_IDENTIFIER=cached\nSYSLOG_FACILITY=3\n");
        format(&t, &(struct log_entry){LOG_ERR, "x", &root, 0}); /* of another pid namespace */
        assert_string_equal(field(&t, "CACHED_UID"), "0");
        assert_null(field(&t, "CACHED_PID"));
}

static void no_value_forges_a_field(void **state)
{
        const char *hostile = "a\nPRIORITY=0\n\nMESSAGE\n\x08\x01\r\x1b[2J\xff\xc3(\xc2\x9b\x7f\t=";
        const char *plain = "a?PRIORITY=0?\?MESSAGE????\?[2J?\?(???\?=";
        const struct log_fields f = {.event = LOG_EVENT_KIND_VIOLATION,
                                     .realm = hostile,
                                     .config_error = "/a\nb=c\xff:7: \n"};
        struct text t;

        (void)state;
        format(&t, &(struct log_entry){LOG_INFO, hostile, &f, 0});
        assert_int_equal(count_fields(&t), 9);
        assert_string_equal(field(&t, "PRIORITY"), "6");
        assert_string_equal(field(&t, "MESSAGE"), plain);
        assert_string_equal(field(&t, "CACHED_REALM"), plain);
        assert_string_equal(field(&t, "CONFIG_FILE"), "/a?b=c?");
        assert_string_equal(field(&t, "CONFIG_LINE"), "7");
}

/* All as long as can be: nothing is left out, and nobody's character is cut in half. */
static void entry_is_bounded(void **state)
{
        struct log_fields f = {.event = LOG_EVENT_HANDOVER_FAILED,
                               .has_uid = true,
                               .uid = 4294967294u,
                               .pid = 2147483647};
        static const char euro[3] = {'\xe2', '\x82', '\xac'};
        static char message[5000], realm[5000], error[5000];
        struct text t;

        (void)state;
        for (size_t shift = 0; shift < 3; shift++) {
                for (size_t i = 0; i + 3 < sizeof(message); i += 3) {
                        memcpy(message + i, euro, sizeof(euro));
                        memcpy(realm + i, euro, sizeof(euro));
                }
                memset(message, 'm', shift);
                memset(message + shift, '?', (3 - shift) % 3);
                memset(error, 'e', 1024);
                error[0] = '/';
                memcpy(error + 1024, ":4294967295: x", 15);
                f.realm = realm;
                f.config_error = error;
                for (size_t i = 0; i < LOG_NUMBERS_MAX; i++) {
                        f.numbers[i].name = LOG_NUMBER_DESCRIPTORS_DROPPED;
                        f.numbers[i].value = UINT64_MAX;
                }
                format(&t, &(struct log_entry){LOG_DEBUG, message, &f, UINT32_MAX});
                assert_int_equal(count_fields(&t), 11 + LOG_NUMBERS_MAX + 1);
                assert_int_equal(strlen(field(&t, "MESSAGE")), LOG_MESSAGE_MAX - 1);
                assert_int_equal(strlen(field(&t, "CACHED_REALM")), 256);
                assert_int_equal(strlen(field(&t, "CONFIG_FILE")), 1024);
                assert_string_equal(field(&t, "CONFIG_LINE"), "4294967295");
                assert_string_equal(field(&t, "CACHED_SUPPRESSED"), "4294967295");
                assert_string_equal(field(&t, "CACHED_REALM") + 255, "?");
        }
}

static void config_place(const char *error, const char *file, const char *line)
{
        const struct log_fields f = {.config_error = error};
        const char *got;
        struct text t;

        format(&t, &(struct log_entry){LOG_ERR, "x", &f, 0});
        got = field(&t, "CONFIG_FILE");
        assert_true(file ? got && strcmp(got, file) == 0 : !got);
        got = field(&t, "CONFIG_LINE");
        assert_true(line ? got && strcmp(got, line) == 0 : !got);
}

static void mistake_in_a_configuration_has_its_place(void **state)
{
        static char too_long[3000] = "/";

        (void)state;
        config_place("/etc/cached/cached.conf:12: unknown setting", "/etc/cached/cached.conf",
                     "12");
        config_place("/etc/a: cannot be opened: no", "/etc/a", NULL);
        config_place("/etc/a: 12: x", "/etc/a", NULL);
        config_place("/etc/a:+1: x", "/etc/a", NULL);
        config_place("/etc/a:7", "/etc/a", NULL);
        config_place("/etc/a:", "/etc/a", NULL);
        config_place("out of memory: 1:", NULL, NULL);
        config_place("/etc/a", NULL, NULL);
        config_place("", NULL, NULL);
        memset(too_long + 1, 'x', 2000);
        memcpy(too_long + 2001, ":1: y", 6);
        config_place(too_long, NULL, NULL); /* a part of it would name another file */
}

/* ---- a journal, and a stderr */

struct world {
        struct log log;
        char dir[32], path[64];
        int journal;      /* -1: nobody is there */
        int err, old_err; /* what stderr gets */
};

static void open_journal(struct world *w)
{
        struct sockaddr_un addr = {.sun_family = AF_UNIX};

        (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", w->path);
        w->journal = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        assert_true(w->journal >= 0);
        assert_int_equal(bind(w->journal, (struct sockaddr *)&addr, sizeof(addr)), 0);
}

static void close_journal(struct world *w)
{
        if (w->journal >= 0)
                close(w->journal);
        w->journal = -1;
}

static int set_up(void **state)
{
        struct world *w = calloc(1, sizeof(*w));
        int p[2];

        assert_non_null(w);
        assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
        assert_int_equal(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
        w->err = p[0];
        w->old_err = dup(STDERR_FILENO);
        assert_true(dup2(p[1], STDERR_FILENO) == STDERR_FILENO);
        close(p[1]);
        strcpy(w->dir, "/tmp/test-log-XXXXXX");
        assert_non_null(mkdtemp(w->dir));
        (void)snprintf(w->path, sizeof(w->path), "%s/journal", w->dir);
        open_journal(w);
        log_init(&w->log, LOG_INFO);
        assert_false(w->log.journal || w->log.native);
        w->log.journal = true; /* stderr is a stream to it */
        log_use_journal(&w->log, w->path);
        assert_true(w->log.native);
        *state = w;
        return 0;
}

static int tear_down(void **state)
{
        struct world *w = *state;

        log_done(&w->log);
        assert_false(w->log.native);
        close_journal(w);
        (void)unlink(w->path);
        assert_int_equal(rmdir(w->dir), 0);
        assert_true(dup2(w->old_err, STDERR_FILENO) == STDERR_FILENO);
        close(w->old_err);
        close(w->err);
        free(w);
        return 0;
}

/* False: there is no entry. An empty datagram is none. */
static bool receive(const struct world *w, struct text *t)
{
        ssize_t n;

        do
                n = recv(w->journal, t->bytes, sizeof(t->bytes) - 1, MSG_DONTWAIT | MSG_TRUNC);
        while (n == 0);
        if (n < 0)
                return false;
        assert_true((size_t)n < sizeof(t->bytes));
        t->n = (size_t)n;
        t->bytes[n] = '\0';
        return true;
}

static void expect(const struct world *w, const char *message)
{
        struct text t;

        assert_true(receive(w, &t));
        assert_string_equal(field(&t, "MESSAGE"), message);
}

static void expect_nothing(const struct world *w)
{
        struct text t;

        assert_false(receive(w, &t));
}

static const char *stderr_text(const struct world *w)
{
        static char text[70000];
        ssize_t n = read(w->err, text, sizeof(text) - 1);

        text[n > 0 ? n : 0] = '\0';
        return text;
}

/* ---- where lines go */

static void lines_go_to_the_journal(void **state)
{
        struct world *w = *state;
        struct text t;

        errno = 4711;
        log_write(&w->log, LOG_WARNING, "%d and\nmore", 1);
        log_event(&w->log, LOG_INFO, LOG_EVENT(READY), "ready");
        log_write(&w->log, LOG_DEBUG, "not this one");
        assert_int_equal(errno, 4711);
        assert_true(receive(w, &t));
        assert_string_equal(field(&t, "MESSAGE"), "1 and?more");
        assert_string_equal(field(&t, "PRIORITY"), "4");
        assert_null(field(&t, "MESSAGE_ID"));
        assert_true(receive(w, &t));
        assert_string_equal(field(&t, "MESSAGE_ID"), "a27927df4b214ba0ae5c28ce49328269");
        expect_nothing(w);
        assert_string_equal(stderr_text(w), "");
}

static void long_line_is_cut(void **state)
{
        struct world *w = *state;
        static char longer[5000];
        struct text t;

        memset(longer, 'x', sizeof(longer) - 1);
        log_write(&w->log, LOG_INFO, "%s", longer);
        assert_true(receive(w, &t));
        assert_int_equal(strlen(field(&t, "MESSAGE")), LOG_MESSAGE_MAX - 1);
        close_journal(w);
        log_write(&w->log, LOG_INFO, "%s", longer);
        assert_int_equal(strlen(stderr_text(w)), 3 + LOG_MESSAGE_MAX - 1 + 1);
}

static void absent_journal_leaves_stderr(void **state)
{
        struct world *w = *state;

        close_journal(w); /* its socket's file is there */
        log_write(&w->log, LOG_WARNING, "refused\n<0>forged");
        assert_string_equal(stderr_text(w), "<4>refused?<0>forged\n");
        assert_int_equal(unlink(w->path), 0);
        log_event(&w->log, LOG_ERR, LOG_EVENT(STOPPING), "missing");
        assert_string_equal(stderr_text(w), "<3>missing\n");
        open_journal(w);
        log_write(&w->log, LOG_INFO, "back");
        expect(w, "back");
        assert_string_equal(stderr_text(w), "");
        assert_int_equal(w->log.lost, 0);
}

static void plain_stderr_has_plain_lines(void **state)
{
        struct world *w = *state;

        log_done(&w->log);
        log_init(&w->log, LOG_DEBUG);
        log_write(&w->log, LOG_ERR, "a");
        log_event(&w->log, LOG_INFO, LOG_EVENT(READY), "b");
        log_peer(&w->log, LOG_DEBUG, LOG_KIND_STALL, SEC, NULL, "c\x1b");
        assert_string_equal(stderr_text(w), "cached: error: a\ncached: b\ncached: debug: c?\n");
        expect_nothing(w);
}

static void stderr_is_the_journal_by_number(void **state)
{
        char stream[64];
        struct log l;
        struct stat st;

        (void)state;
        assert_int_equal(fstat(STDERR_FILENO, &st), 0);
        for (unsigned other = 0; other < 2; other++) {
                (void)snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
                               (unsigned long long)st.st_ino + other);
                assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
                log_init(&l, -1);
                assert_int_equal(l.journal, !other);
                assert_int_equal(l.native, !other);
                if (!other)
                        assert_string_equal(l.journal_path, "/run/systemd/journal/socket");
                log_done(&l);
        }
        assert_int_equal(unsetenv("JOURNAL_STREAM"), 0);
}

/* ---- nobody is waited for */

/* How many lines the journal took before it was full. */
static unsigned fill(struct world *w)
{
        unsigned n = 0;

        while (w->log.lost == 0 && n < DATAGRAMS_MAX) {
                log_write(&w->log, LOG_INFO, "line %u", n);
                n++;
        }
        assert_true(n < DATAGRAMS_MAX);
        return n - 1;
}

static void full_journal_is_not_waited_for(void **state)
{
        struct world *w = *state;
        unsigned n = fill(w), got = 0;
        struct text t;

        for (unsigned i = 0; i < 41; i++) /* the note that lines were lost finds no room, too */
                log_event(&w->log, LOG_ERR, LOG_EVENT(STOPPING), "lost");
        assert_int_equal(w->log.lost, 42);
        assert_string_equal(stderr_text(w), "");
        while (receive(w, &t))
                got++;
        assert_int_equal(got, n);
        log_write(&w->log, LOG_INFO, "found");
        assert_true(receive(w, &t));
        assert_string_equal(field(&t, "MESSAGE"), "42 log lines were lost before this one");
        assert_string_equal(field(&t, "CACHED_LOST"), "42");
        assert_string_equal(field(&t, "MESSAGE_ID"), "ff826488ad0646ecb50eb8dc9c71e1d6");
        expect(w, "found");
        expect_nothing(w);
        assert_int_equal(w->log.lost, 0);
}

static void full_stderr_is_not_waited_for(void **state)
{
        struct world *w = *state;
        unsigned n;

        assert_int_equal(fcntl(STDERR_FILENO, F_SETFL, 0), 0); /* as others leave it: it blocks */
        close_journal(w);
        n = fill(w);
        assert_true(n > 0);
        log_write(&w->log, LOG_INFO, "lost");
        assert_int_equal(w->log.lost, 2);
        while (*stderr_text(w))
                ;
        log_write(&w->log, LOG_INFO, "found");
        assert_string_equal(stderr_text(w), "<4>2 log lines were lost before this one\n<6>found\n");
}

struct reader {
        struct world *w;
        int begin;
        unsigned n_read;
        _Atomic bool all_read; /* but for the empty datagram behind them */
};

static void *read_all(void *arg)
{
        struct reader *r = arg;
        char byte, entry[LOG_JOURNAL_ENTRY_MAX];
        ssize_t n;

        assert_int_equal(read(r->begin, &byte, 1), 1);
        while ((n = recv(r->w->journal, entry, sizeof(entry), MSG_PEEK)) > 0) {
                assert_int_equal(recv(r->w->journal, entry, sizeof(entry), 0), n);
                r->n_read++;
        }
        assert_int_equal(n, 0);
        r->all_read = true;
        assert_int_equal(recv(r->w->journal, entry, sizeof(entry), 0), 0);
        return NULL;
}

/* The journal looks up whose an entry is while the process is there. */
static void end_waits_until_all_is_read(void **state)
{
        struct world *w = *state;
        struct reader r = {.w = w};
        pthread_t thread;
        int begin[2];

        assert_int_equal(fcntl(w->journal, F_SETFL, 0), 0);
        assert_int_equal(pipe2(begin, O_CLOEXEC), 0);
        r.begin = begin[0];
        assert_int_equal(pthread_create(&thread, NULL, read_all, &r), 0);
        for (unsigned i = 0; i < 5; i++)
                log_write(&w->log, LOG_ERR, "line");
        assert_int_equal(write(begin[1], "", 1), 1);
        log_done(&w->log);
        assert_true(r.all_read);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(r.n_read, 5);
        close(begin[0]);
        close(begin[1]);
}

static void end_does_not_wait_for_long(void **state)
{
        struct world *w = *state;
        struct timespec a, b;

        log_write(&w->log, LOG_ERR, "line");
        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &a), 0);
        log_done(&w->log);
        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &b), 0);
        assert_true(b.tv_sec - a.tv_sec < 10); /* of a loaded machine */
        expect(w, "line");
}

/* ---- how many lines a peer can cause */

static unsigned count(const struct world *w)
{
        struct text t;
        unsigned n = 0;

        while (receive(w, &t))
                n++;
        return n;
}

static void peers_lines_are_few(void **state)
{
        struct world *w = *state;
        const struct log_fields f = {.has_uid = true, .uid = 7, .pid = 8};
        uint64_t now = 100 * SEC;
        struct text t;

        for (unsigned i = 0; i < 1000; i++)
                log_peer(&w->log, LOG_INFO, LOG_KIND_VIOLATION, now + i, &f, "bad");
        log_peer(&w->log, LOG_INFO, LOG_KIND_REFUSED, now, NULL, "another kind");
        assert_true(receive(w, &t));
        assert_string_equal(field(&t, "MESSAGE_ID"), "dd96f730e2564a8fafa1b7d48d3e47ef");
        assert_string_equal(field(&t, "CACHED_KIND"), "VIOLATION");
        assert_string_equal(field(&t, "CACHED_UID"), "7");
        assert_string_equal(field(&t, "CACHED_PID"), "8");
        assert_null(field(&t, "CACHED_SUPPRESSED"));
        for (unsigned i = 1; i < 5; i++)
                expect(w, "bad");
        expect(w, "another kind");
        expect_nothing(w);
        log_peer(&w->log, LOG_INFO, LOG_KIND_VIOLATION, now + 10 * SEC, &f, "bad");
        expect_nothing(w);
        log_peer(&w->log, LOG_INFO, LOG_KIND_VIOLATION, now + 10 * SEC + 1, &f, "bad");
        assert_true(receive(w, &t));
        assert_string_equal(field(&t, "MESSAGE"), "bad (996 similar lines were left out before)");
        assert_string_equal(field(&t, "CACHED_SUPPRESSED"), "996");
        log_peer(&w->log, LOG_INFO, LOG_KIND_VIOLATION, now + 10 * SEC + 2, &f, "bad");
        expect(w, "bad");
}

/* What was left out is said, also behind a text that would take all the room. */
static void long_text_makes_room_for_the_number(void **state)
{
        struct world *w = *state;
        static char longer[5000];
        struct text t;
        const char *message;

        memset(longer, 'x', sizeof(longer) - 1);
        for (unsigned i = 0; i < 6; i++)
                log_peer(&w->log, LOG_INFO, LOG_KIND_STALL, SEC, NULL, "%s", longer);
        assert_int_equal(count(w), 5);
        log_peer(&w->log, LOG_INFO, LOG_KIND_STALL, 12 * SEC, NULL, "%s", longer);
        assert_true(receive(w, &t));
        message = field(&t, "MESSAGE");
        assert_int_equal(strlen(message), LOG_MESSAGE_MAX - 1);
        assert_non_null(strstr(message, "xx (1 similar lines were left out before)"));
}

/* A peer's debug lines take nothing from what is logged. */
static void what_is_not_logged_does_not_count(void **state)
{
        struct world *w = *state;

        for (unsigned i = 0; i < 100; i++)
                log_peer(&w->log, LOG_DEBUG, LOG_KIND_DISPATCH, SEC, NULL, "debug");
        log_peer(&w->log, LOG_ERR, LOG_KIND_DISPATCH, SEC, NULL, "error");
        expect(w, "error");
        expect_nothing(w);
}

static void start_has_bounds_of_its_own(void **state)
{
        struct world *w = *state;

        for (unsigned i = 0; i < 5000; i++) {
                log_peer(&w->log, LOG_INFO, LOG_KIND_PASSED, LOG_AT_START, NULL, "passed");
                log_peer(&w->log, LOG_INFO, LOG_KIND_DROPPED, LOG_AT_START, NULL, "dropped");
                (void)count(w); /* its queue may hold ten only */
        }
        assert_int_equal(w->log.rates[LOG_KIND_PASSED].n, 32);
        assert_int_equal(w->log.rates[LOG_KIND_PASSED].suppressed, 5000 - 32);
        assert_int_equal(w->log.rates[LOG_KIND_DROPPED].n, 64);
        assert_int_equal(w->log.lost, 0);
}

#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(entry_has_every_field),
                cmocka_unit_test(entry_says_only_what_is_known),
                cmocka_unit_test(no_value_forges_a_field),
                cmocka_unit_test(entry_is_bounded),
                cmocka_unit_test(mistake_in_a_configuration_has_its_place),
                IN_A_WORLD(lines_go_to_the_journal),
                IN_A_WORLD(long_line_is_cut),
                IN_A_WORLD(absent_journal_leaves_stderr),
                IN_A_WORLD(plain_stderr_has_plain_lines),
                IN_A_WORLD(stderr_is_the_journal_by_number),
                IN_A_WORLD(full_journal_is_not_waited_for),
                IN_A_WORLD(full_stderr_is_not_waited_for),
                IN_A_WORLD(end_waits_until_all_is_read),
                IN_A_WORLD(end_does_not_wait_for_long),
                IN_A_WORLD(peers_lines_are_few),
                IN_A_WORLD(long_text_makes_room_for_the_number),
                IN_A_WORLD(what_is_not_logged_does_not_count),
                IN_A_WORLD(start_has_bounds_of_its_own),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
