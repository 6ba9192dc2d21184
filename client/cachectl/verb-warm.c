/* SPDX-License-Identifier: MIT */

/*
 * warm: run a command that computes anew what it finds in a cache
 *
 * The library does it, in the processes of the command: $CACHED_WARM names the caches whose hits
 * count as due. Everybody else is served the old values meanwhile. Here the command is run, and the
 * cache's counters are looked at before and after.
 *
 * The command has our own stdin, stdout and stderr; nothing of it passes through us.
 */

#include "fields.h"
#include "output.h"
#include "run-plain.h"
#include "run-program.h"
#include "run-signals.h"
#include "units.h"
#include "verb.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { OPT_QUIET };

#define VARIABLE   "CACHED_WARM"
#define MS_PER_SEC UINT64_C(1000)
#define NS_PER_MS  1000000
/* As with memo: a command is not to wait for a daemon that does not answer. */
#define TIMEOUT_MS 5000

struct warm {
        struct ctl *ctl;
        char **caches;
        int n_caches;
        char **argv;
        char *path;
        bool quiet;
        uint64_t instance;
        uint64_t *stores; /* of each cache, before */
        uint64_t started_ms;
};

static uint64_t now_ms(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * MS_PER_SEC + (uint64_t)t.tv_nsec / NS_PER_MS;
}

/* CACHE… -- COMMAND… */
static int split(struct warm *w, const struct args *a)
{
        int n = 0, status;

        w->caches = a->words;
        while (n < a->n_words && strcmp(a->words[n], "--") != 0)
                n++;
        if (n == a->n_words)
                return ctl_usage(w->ctl, "`--` is missing between CACHE and COMMAND");
        if (n == 0)
                return ctl_usage(w->ctl, "CACHE is missing before `--`");
        if (n + 1 == a->n_words)
                return ctl_usage(w->ctl, "COMMAND is missing after `--`");
        w->n_caches = n;
        w->argv = a->words + n + 1;
        for (int i = 0; i < n; i++) {
                /* Unless it was said before that no option follows. */
                if (a->words[i][0] == '-' && strcmp(a->words[-1], "--") != 0)
                        return ctl_usage(w->ctl, "'%s': options stand before CACHE", a->words[i]);
                status = ctl_check_cache(w->ctl, a->words[i]);
                if (status != EXIT_DONE)
                        return status;
                if (strchr(a->words[i], ':'))
                        return ctl_usage(w->ctl,
                                         "CACHE '%s': a cache with a colon in its name cannot be "
                                         "named in $" VARIABLE,
                                         a->words[i]);
        }
        return EXIT_DONE;
}

/* Names with colons between them. */
static int set_variable(struct warm *w)
{
        size_t size = 1;
        char *text, *to;
        int r;

        for (int i = 0; i < w->n_caches; i++)
                size += strlen(w->caches[i]) + 1;
        text = calloc(1, size);
        if (!text)
                return ctl_no_memory(w->ctl);
        to = text;
        for (int i = 0; i < w->n_caches; i++) {
                if (i > 0)
                        *to++ = ':';
                to = stpcpy(to, w->caches[i]);
        }
        r = setenv(VARIABLE, text, 1);
        free(text);
        return r < 0 ? ctl_no_memory(w->ctl) : EXIT_DONE;
}

static int cannot_run(struct warm *w, int error)
{
        if (error == -ENOENT)
                ctl_note(w->ctl, "there is no command '%s'", w->argv[0]);
        else
                ctl_note(w->ctl, "cannot execute '%s': %s", w->argv[0], strerror(-error));
        return program_status(error);
}

/* ---- the counters */

/* How many were stored so far; an unknown cache has none yet. False: the daemon does not tell. */
static bool count_stores(struct warm *w, const char *cache, uint64_t *ret)
{
        cached_reply *reply = NULL;
        int r = cached_stats(w->ctl->client, cache, &reply);

        *ret = r == CACHED_OK ? fields_u64(reply, "cache.", "stores") : 0;
        cached_reply_free(reply);
        return r == CACHED_OK || r == CACHED_NOT_FOUND;
}

/* False: the daemon is away, and the command runs plainly. Why is not the command's matter. */
static bool look_before(struct warm *w)
{
        struct ctl *ctl = w->ctl;
        int r;

        r = ctl_dial(ctl, "cachectl warm", ctl->timeout_given ? ctl->timeout_ms : TIMEOUT_MS,
                     &ctl->client, &ctl->hello);
        if (r != CACHED_OK) {
                if (!w->quiet)
                        ctl_note(ctl, "without the cache: %s",
                                 ctl->hello ? cached_reply_error(ctl->hello) : cached_strerror(r));
                return false;
        }
        w->instance = fields_u64(ctl->hello, "", "instance");
        for (int i = 0; i < w->n_caches; i++)
                if (!count_stores(w, w->caches[i], &w->stores[i]))
                        return false;
        return true;
}

/* The counters are those of one daemon's life. */
static bool is_same_daemon(struct warm *w)
{
        cached_reply *reply = NULL;
        int r = cached_ping(w->ctl->client, &reply);
        bool same = r == CACHED_OK && fields_u64(reply, "", "instance") == w->instance;

        cached_reply_free(reply);
        return same;
}

static void report(struct warm *w, uint64_t took_ms)
{
        char took[UNITS_BUFFER_SIZE];
        uint64_t now;

        units_format_ms(took, took_ms);
        for (int i = 0; i < w->n_caches; i++) {
                if (!count_stores(w, w->caches[i], &now) || !is_same_daemon(w)) {
                        ctl_note(w->ctl,
                                 "%s: the daemon was restarted or is away: how many entries were "
                                 "stored in %s is not known",
                                 w->caches[i], took);
                        continue;
                }
                now = now > w->stores[i] ? now - w->stores[i] : 0;
                ctl_note(w->ctl, "%s: %" PRIu64 " %s stored in %s", w->caches[i], now,
                         now == 1 ? "entry" : "entries", took);
        }
}

/* ---- the command */

static int run_and_report(struct warm *w)
{
        struct plain plain = {
                .path = w->path,
                .argv = w->argv,
                .default_sigpipe = !w->ctl->sigpipe_ignored,
                .news = -1,
        };
        struct plain_end end;
        int r;

        w->started_ms = now_ms();
        r = plain_run(&plain, &end);
        if (r < 0)
                return cannot_run(w, r);
        if (!w->quiet)
                report(w, now_ms() - w->started_ms);
        /* So that a shell script ends with what it runs: Ctrl-C was meant for both. */
        if (end.by_terminal && end.signal == SIGINT)
                signals_die(SIGINT);
        return end.status;
}

/* In our place, as if we had never been here. */
static int become(struct warm *w)
{
        ctl_done(w->ctl);
        return cannot_run(w, program_become(w->path, w->argv, !w->ctl->sigpipe_ignored));
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct warm w = {.ctl = ctl, .argv = a->words, .quiet = a->options[OPT_QUIET] != NULL};
        int status, r;

        if (ctl->json)
                return ctl_usage(ctl, "--json does not apply: what is printed is the command's");
        status = split(&w, a);
        if (status == EXIT_DONE)
                status = set_variable(&w);
        if (status != EXIT_DONE)
                return status;
        r = program_find(w.argv[0], &w.path);
        if (r < 0)
                return cannot_run(&w, r);
        w.stores = calloc((size_t)w.n_caches, sizeof(*w.stores));
        if (!w.stores)
                status = ctl_no_memory(ctl);
        else
                status = look_before(&w) ? run_and_report(&w) : become(&w);
        free(w.stores);
        free(w.path);
        return status;
}

static const char statuses[] = "  that of COMMAND; 128+N after signal N\n"
                               "  2    wrong usage\n"
                               "  126  COMMAND cannot be executed\n"
                               "  127  there is no such command\n";

const struct verb verb_warm = {
        .name = "warm",
        .synopsis = "[--quiet] CACHE… -- COMMAND…",
        .summary = "Run a command that computes a cache's values anew",
        .about = "COMMAND runs with $CACHED_WARM set to the names of the caches. In its processes "
                 "the library's cached_memoize() computes anew what it meets in one of them, each "
                 "value once, and stores it, while everybody else is served the old values. So a "
                 "cache is filled before anyone waits, by the program that would use it. At the "
                 "end it says on stderr how many entries were stored in the cache meanwhile, by "
                 "whomever. Where no daemon answers, COMMAND runs plainly. For commands of "
                 "`cachectl "
                 "memo` there is `cachectl memo --refresh`.\n\n"
                 "A [schedule] in the daemon's configuration says when: see the example of "
                 "`cachectl monitor --help`, and cached.conf(5).",
        .words = {"CACHE", "COMMAND"},
        .n_required = 1,
        .command = true,
        .options = {[OPT_QUIET] = {"quiet", 'q', NULL, "do not say how many entries were stored"}},
        .json = "nothing; what is printed is the command's, and --json is refused.",
        .statuses = statuses,
        .example = "cachectl warm reports -- ./nightly-reports --all",
        .run = run,
};
