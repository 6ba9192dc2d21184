/* SPDX-License-Identifier: MIT */

/*
 * Memo: a command's output from the cache, or from the command
 *
 * What is wrong with the command line is found first, so that it is wrong whether or not a daemon
 * is there. After that nothing that has to do with the cache fails: where it cannot help, the
 * command takes our place, as if it had been called by itself, and where it cannot store, nothing
 * is stored.
 *
 * One run of a command is enough. Who finds that it runs waits for its result (memo-wait.c); the
 * right to run it is a lease of the daemon's, which ends with us, however we end. Without it the
 * command runs all the same.
 *
 * A result is stored only if it is whole and certain: the command came to its end by itself, nobody
 * asked it to stop, all it printed was written and recorded, and the files that the key stands for
 * are still what they were.
 */

#include "memo.h"

#include "key.h"
#include "memo-cache.h"
#include "memo-input.h"
#include "memo-key.h"
#include "memo-nest.h"
#include "memo-record.h"
#include "memo-wait.h"
#include "run-command.h"
#include "run-program.h"
#include "run-signals.h"
#include "units.h"
#include "utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long a daemon that does not answer may hold a command up; and for records that take long. */
#define TIMEOUT_MS    1000
#define TIMEOUT_MAX   60000
#define BYTES_PER_MS  (256 * 1024)
#define SIGNAL_STATUS 128
#define TITLE_SIZE    160
/* A wait that may be one of a circle of them ends after this. */
#define CIRCLE_MS UINT64_C(60000)

struct memo {
        struct ctl *ctl;
        const struct memo_options *options;
        char **argv;
        char *path; /* of the program */
        struct memo_parts parts;
        struct memo_file **files; /* all of them: the program's, and those that are watched */
        size_t n_files;
        struct memo_cache cache;
        int input; /* the command's stdin; -1: our own */
        uint8_t key[CACHED_KEY_SIZE];
        char title[TITLE_SIZE];     /* the command's words in one line */
        struct cached_lease *lease; /* the right to run it; NULL: there is none */
};

/* --------------------------------------------------------------------------------- what is asked
 */

static int compare_names(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Each name once, in order: so that the order on the command line makes no difference. */
static int sort_names(const struct args_list *list, const char ***ret, size_t *ret_n)
{
        const char **names = calloc(list->n + 1, sizeof(*names));
        size_t n = 0;

        if (!names)
                return -ENOMEM;
        for (size_t i = 0; i < list->n; i++)
                names[i] = list->values[i];
        qsort(names, list->n, sizeof(*names), compare_names);
        for (size_t i = 0; i < list->n; i++)
                if (n == 0 || strcmp(names[n - 1], names[i]) != 0)
                        names[n++] = names[i];
        *ret = names;
        *ret_n = n;
        return 0;
}

static int watch_failed(struct memo *m, const char *name, int error)
{
        if (error == -EISDIR)
                return ctl_usage(m->ctl, "--watch '%s': it is a directory; name the files in it",
                                 name);
        if (error == -EINVAL)
                return ctl_usage(m->ctl, "--watch '%s': it is not a regular file", name);
        return ctl_usage(m->ctl, "--watch '%s': %s", name, strerror(-error));
}

static int look_at_watched(struct memo *m)
{
        const char **names = NULL;
        size_t n = 0;
        int status = EXIT_DONE, r;

        if (sort_names(&m->options->watch, &names, &n) < 0)
                return ctl_no_memory(m->ctl);
        m->parts.watched = calloc(n + 1, sizeof(*m->parts.watched));
        m->files = calloc(n + 1, sizeof(struct memo_file *));
        if (!m->parts.watched || !m->files) {
                free(names);
                return ctl_no_memory(m->ctl);
        }
        for (size_t i = 0; status == EXIT_DONE && i < n; i++) {
                r = file_look(&m->parts.watched[i], names[i]);
                if (r < 0)
                        status = watch_failed(m, names[i], r);
                else
                        m->files[m->n_files++] = &m->parts.watched[i];
        }
        m->parts.n_watched = m->n_files;
        free(names);
        return status;
}

static int cannot_run(struct memo *m, int error)
{
        ctl_note(m->ctl, "cannot run '%s': %s", m->argv[0],
                 error == -ENOENT && !strchr(m->argv[0], '/') ? "there is no such command"
                                                              : strerror(-error));
        return program_status(error);
}

/* Everything that can be wrong with the command line. */
static int look(struct memo *m)
{
        int status, r;

        r = program_find(m->argv[0], &m->path);
        if (r == 0)
                r = file_look_program(&m->parts.program, m->path);
        if (r < 0)
                return cannot_run(m, r);
        status = look_at_watched(m);
        if (status == EXIT_DONE && sort_names(&m->options->env, &m->parts.env, &m->parts.n_env) < 0)
                status = ctl_no_memory(m->ctl);
        if (status == EXIT_DONE)
                m->files[m->n_files++] = &m->parts.program;
        return status;
}

/* ------------------------------------------------------------------------------- without a cache
 */

/* What may interest, and is no trouble. */
__attribute__((format(printf, 2, 3))) static void tell(struct memo *m, const char *format, ...)
{
        char *text = NULL;
        va_list ap;

        if (!m->options->verbose)
                return;
        va_start(ap, format);
        if (vasprintf(&text, format, ap) >= 0)
                ctl_note(m->ctl, "%s", text);
        va_end(ap);
        free(text);
}

/* Why something was not stored that was expected to be. */
__attribute__((format(printf, 2, 3))) static void warn(struct memo *m, const char *format, ...)
{
        char *text = NULL;
        va_list ap;

        if (m->options->quiet)
                return;
        va_start(ap, format);
        if (vasprintf(&text, format, ap) >= 0)
                ctl_note(m->ctl, "%s", text);
        va_end(ap);
        free(text);
}

/* The command takes our place. */
static int become(struct memo *m)
{
        int r = 0;

        if (m->input < 0 && !m->options->input)
                m->input = input_empty();
        if (m->input >= 0 && dup2(m->input, STDIN_FILENO) < 0)
                r = -errno;
        if (r == 0)
                r = program_become(m->path, m->argv, !m->ctl->sigpipe_ignored);
        return cannot_run(m, r);
}

/* ---------------------------------------------------------------------------------------- a hit */

static int write_all(int fd, const uint8_t *p, size_t n)
{
        while (n > 0) {
                struct pollfd writable = {.fd = fd, .events = POLLOUT};
                ssize_t wrote = write(fd, p, n);

                if (wrote < 0 && errno == EAGAIN)
                        (void)poll(&writable, 1, -1); /* somebody made it non-blocking */
                else if (wrote < 0 && errno != EINTR)
                        return -errno;
                if (wrote > 0) {
                        p += wrote;
                        n -= (size_t)wrote;
                }
        }
        return 0;
}

static void note_lost(struct memo *m, int error)
{
        ctl_note(m->ctl, "cannot write the output: %s", strerror(error));
}

static int replay(struct memo *m, struct record_view *v)
{
        const void *bytes;
        unsigned stream;
        size_t n;
        int r = 0;

        while (r == 0 && record_next(v, &stream, &bytes, &n)) {
                r = write_all(stream == RECORD_STDERR ? STDERR_FILENO : STDOUT_FILENO, bytes, n);
                if (r == -EBADF && stream == RECORD_STDERR)
                        r = 0; /* closed: nobody wants it */
        }
        if (r == 0)
                return v->status;
        if (r != -EPIPE) {
                note_lost(m, -r);
                return EXIT_USAGE;
        }
        /* As the command would have ended. */
        if (!m->ctl->sigpipe_ignored)
                signals_die(SIGPIPE);
        return SIGNAL_STATUS + SIGPIPE;
}

/* Replays what is in the reply, if that is a hit. @w: how it came; NULL: at once. */
static bool serve(struct memo *m, const cached_reply *reply, const struct memo_wait *w,
                  int *ret_status)
{
        char hex[KEY_FORMAT_SIZE], time[UNITS_BUFFER_SIZE];
        struct record_view v;
        const void *bytes;
        size_t n = 0;

        bytes = cached_reply_value(reply, &n);
        /* A failure is a hit only for those who asked for failures. */
        if (!bytes || record_open(bytes, n, &v) != RECORD_OK ||
            (v.status != 0 && !m->options->failures))
                return false;
        if (w && w->pid)
                tell(m, "a hit, after %s of waiting for pid %u: %s hex:%s",
                     units_format_ms(time, w->waited_ms), (unsigned)w->pid, m->options->cache,
                     key_format_hex(hex, m->key, sizeof(m->key)));
        else
                tell(m, "a hit%s, which saves %s: %s hex:%s",
                     cached_reply_is_stale(reply) ? ", stale" : "",
                     units_format_us(time, cached_reply_cost_us(reply)), m->options->cache,
                     key_format_hex(hex, m->key, sizeof(m->key)));
        *ret_status = replay(m, &v);
        return true;
}

/* --------------------------------------------------------------------------------------- a miss */

/* The run has no result that others can have, and so they shall not wait for it. */
static void let_go(struct memo *m, const char *reason)
{
        if (m->lease)
                (void)cached_lease_end(m->lease, reason);
}

/* A record's. */
static void on_dropped(void *data)
{
        let_go(data, "its output is too large to be stored");
}

static bool has_changed(struct memo *m)
{
        char *path = NULL;
        bool changed;

        /* Another program of that name may be found by now. */
        changed = program_find(m->argv[0], &path) < 0 || strcmp(path, m->path) != 0;
        free(path);
        if (changed) {
                warn(m, "not stored: '%s' changed while the command ran", m->path);
                return true;
        }
        for (size_t i = 0; i < m->n_files; i++) {
                if (!file_has_changed(m->files[i]))
                        continue;
                warn(m, "not stored: '%s' changed while the command ran", m->files[i]->name);
                return true;
        }
        return false;
}

static void store(struct memo *m, struct record *record, const struct command_end *end)
{
        char size[UNITS_BUFFER_SIZE], hex[KEY_FORMAT_SIZE];
        const void *bytes;
        size_t n;
        int r;

        r = record_finish(record, (uint8_t)end->status, &bytes, &n);
        if (r == RECORD_E_TOO_LARGE)
                warn(m, "not stored: the output is larger than %s%s",
                     units_format_bytes(size, record->limit),
                     record->limit < m->options->max_output ? ", which is all that the daemon takes"
                                                            : "; --max-output changes that");
        else if (r < 0)
                warn(m, "not stored: out of memory");
        else if (!has_changed(m)) {
                if (memo_cache_set(&m->cache, m->key, m->lease, bytes, n, m->options->ttl_ms,
                                   end->took_us))
                        tell(m, "stored: %s hex:%s", m->options->cache,
                             key_format_hex(hex, m->key, sizeof(m->key)));
                else if (memo_cache_is_away(&m->cache) || m->cache.code == CACHED_SUPERSEDED)
                        tell(m, "not stored: %s", m->cache.why);
                else
                        warn(m, "not stored: the daemon refused: %s", m->cache.why);
        }
}

/* Not stored, without a word from store(): who waits runs it then. */
static void give_up(struct memo *m, const struct command_end *end)
{
        char reason[64];

        /* Somebody did not want this run, which says nothing of the next one. */
        if (end->interrupted) {
                let_go(m, NULL);
                return;
        }
        (void)snprintf(reason, sizeof(reason), "the command failed with status %d", end->status);
        let_go(m, end->status ? reason : "its output could not be written");
}

static bool is_to_be_stored(struct memo *m, const struct command_end *end)
{
        if (end->lost && end->lost != EPIPE)
                note_lost(m, end->lost);
        if (end->lost || end->signal || end->interrupted)
                return false;
        if (end->status != 0 && !m->options->failures) {
                tell(m, "not stored: the command failed with status %d", end->status);
                return false;
        }
        return true;
}

/* The command's words in one line, as far as a spinner can show them. */
static void make_title(char title[TITLE_SIZE], char **argv)
{
        size_t n = 0;

        for (; *argv && n < TITLE_SIZE - 1; argv++) {
                int k = snprintf(title + n, TITLE_SIZE - n, "%s%s", n ? " " : "", *argv);

                if (k < 0)
                        break;
                n += (size_t)k;
        }
        for (char *p = title; *p; p++) /* one line */
                if ((unsigned char)*p < ' ')
                        *p = ' ';
        if (n < TITLE_SIZE && !*argv)
                return;
        title[TITLE_SIZE - sizeof("…")] = '\0';
        utf8_cut(title);
        n = strlen(title);
        (void)snprintf(title + n, TITLE_SIZE - n, "…");
}

/* What runs inside of this run shall not wait for it. False: no memory, or too many of them. */
static bool mark_running(struct memo *m)
{
        char *list = memo_nest_add(getenv(MEMO_NEST_VARIABLE), m->key);
        bool done = list && setenv(MEMO_NEST_VARIABLE, list, 1) == 0;

        free(list);
        return done;
}

static int run(struct memo *m)
{
        uint64_t limit = m->options->max_output;
        struct command command = {
                .path = m->path,
                .argv = m->argv,
                .input = m->input,
                .default_sigpipe = !m->ctl->sigpipe_ignored,
                .spinner = !m->options->quiet,
                .title = m->title,
                .dropped = on_dropped,
                .data = m,
        };
        struct command_end end;
        struct record record;
        int r;

        if (m->lease && !mark_running(m)) {
                let_go(m, NULL);
                m->lease = NULL;
        }
        if (m->lease)
                memo_wait_tell(m->ctl, m->lease, m->argv, m->title);
        if (limit > m->cache.max_value)
                limit = m->cache.max_value;
        record_init(&record, limit);
        command.record = &record;
        r = command_run(&command, &end);
        if (r == 0 && is_to_be_stored(m, &end))
                store(m, &record, &end);
        else if (r == 0)
                give_up(m, &end);
        /* Where it was not stored after all. */
        let_go(m, "it was not stored");
        record_done(&record);
        if (r < 0)
                return cannot_run(m, r);
        /* So that a shell script ends with what it runs: Ctrl-C was meant for both. */
        if (end.by_terminal && end.signal == SIGINT)
                signals_die(SIGINT);
        /* The command knows nothing of what was lost. */
        if (end.status == 0 && end.lost && end.lost != EPIPE)
                return EXIT_USAGE;
        return end.status;
}

/* ---------------------------------------------------------------------------------------- all of
 * it */

/* Negative errno: there can be no key. */
static int find_digests(struct memo *m)
{
        struct memo_file **fresh = calloc(m->n_files, sizeof(struct memo_file *));
        size_t n_fresh = 0;
        int r = fresh ? 0 : -ENOMEM;

        memo_cache_recall(&m->cache, m->files, m->n_files);
        for (size_t i = 0; r == 0 && i < m->n_files; i++) {
                if (m->files[i]->known)
                        continue;
                r = file_read(m->files[i]);
                fresh[n_fresh++] = m->files[i];
                if (r < 0)
                        warn(m, "not stored: '%s': %s", m->files[i]->name,
                             r == -EBUSY ? "it changes while it is read" : strerror(-r));
        }
        if (r == 0)
                memo_cache_remember(&m->cache, fresh, n_fresh);
        free(fresh);
        return r;
}

static int take_input(struct memo *m)
{
        m->input = m->options->input ? input_spool(STDIN_FILENO) : input_empty();
        if (m->input < 0) {
                ctl_note(m->ctl, "cannot keep the input: %s", strerror(-m->input));
                return EXIT_USAGE;
        }
        m->parts.has_input = m->options->input;
        return EXIT_DONE;
}

static int find_key(struct memo *m)
{
        int r = find_digests(m);

        if (r == 0 && m->parts.has_input)
                r = file_digest(m->input, m->parts.input);
        if (r < 0)
                return r;
        r = memo_key(&m->parts, m->key);
        if (r < 0)
                tell(m, "without the cache: %s", strerror(-r));
        return r;
}

static uint32_t timeout_ms(const struct memo *m)
{
        uint64_t ms = TIMEOUT_MS + m->options->max_output / BYTES_PER_MS;

        if (m->ctl->timeout_given)
                return m->ctl->timeout_ms;
        return ms < TIMEOUT_MAX ? (uint32_t)ms : TIMEOUT_MAX;
}

/* Why we run what somebody else runs or has run, too. */
static void tell_why(struct memo *m, cached_lease *l)
{
        unsigned pid = cached_lease_holder_pid(l);

        switch (cached_lease_state(l)) {
        case CACHED_LEASE_BUSY:
        case CACHED_LEASE_TIMEOUT:
                tell(m, "not waiting any longer for pid %u, which runs it, too", pid);
                break;
        case CACHED_LEASE_FAILED:
        case CACHED_LEASE_UNSTORABLE:
                tell(m, "there is nothing to share of the run of pid %u: %s", pid,
                     cached_lease_reason(l));
                break;
        default:
                break;
        }
}

/* A memo inside of the run of its own command. */
static int run_inside(struct memo *m)
{
        cached_reply *reply = memo_cache_get(&m->cache, m->key);
        int status;

        if (reply && serve(m, reply, NULL, &status)) {
                cached_reply_free(reply);
                return status;
        }
        cached_reply_free(reply);
        tell(m, "without the cache: this is part of a run of the same command");
        return become(m);
}

/* What is stored, or what somebody else's run leads to, or our own run. */
static int share(struct memo *m)
{
        struct memo_wait w = {.ctl = m->ctl,
                              .cache = &m->cache,
                              .key = m->key,
                              .title = m->title,
                              .wait_ms = m->options->wait_ms,
                              .refresh = m->options->refresh,
                              .quiet = m->options->quiet,
                              .verbose = m->options->verbose};
        cached_reply *reply;
        cached_lease *lease;
        int status = EXIT_DONE;
        bool granted, is_served;

        if (w.wait_ms > CIRCLE_MS && memo_nest_may_circle(getenv(MEMO_NEST_VARIABLE), m->key))
                w.wait_ms = CIRCLE_MS;
        memo_wait(&w, &reply, &lease);
        granted = cached_lease_state(lease) == CACHED_LEASE_GRANTED;
        /* What comes with the lease is to be made anew. */
        is_served = reply && !granted && serve(m, reply, &w, &status);
        cached_reply_free(reply);
        if (!is_served && memo_cache_is_away(&m->cache)) {
                tell(m, "without the cache: %s", m->cache.why);
                status = become(m);
        } else if (!is_served) {
                tell_why(m, lease);
                m->lease = granted ? lease : NULL;
                status = run(m);
        }
        cached_lease_free(lease);
        return status;
}

static int memo(struct memo *m)
{
        int status = look(m);

        if (status != EXIT_DONE)
                return status;
        if (!memo_cache_open(&m->cache, m->ctl, m->options->cache, timeout_ms(m))) {
                tell(m, "without the cache: %s", m->cache.why);
                return become(m);
        }
        /* Not before: input that is only passed on need not be read to its end first. */
        status = take_input(m);
        if (status != EXIT_DONE)
                return status;
        if (find_key(m) < 0)
                return become(m);
        make_title(m->title, m->argv);
        return memo_nest_has(getenv(MEMO_NEST_VARIABLE), m->key) ? run_inside(m) : share(m);
}

/* A descriptor that we open must not become anybody's stdout. */
static void fill_standard_fds(void)
{
        for (int fd = 0; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0)
                        (void)!open("/dev/null", O_RDWR); /* takes the lowest that is free */
}

int memo_run(struct ctl *ctl, const struct memo_options *options, char **argv)
{
        struct memo m = {.ctl = ctl, .options = options, .argv = argv, .input = -1};
        int status;

        m.parts.argv = argv;
        fill_standard_fds();
        status = memo(&m);
        memo_cache_done(&m.cache);
        if (m.input >= 0)
                (void)close(m.input);
        free(m.parts.watched);
        free(m.parts.env);
        free(m.files);
        free(m.path);
        return status;
}
