/* SPDX-License-Identifier: MIT */

/* memo: run a command once, then serve what it printed from the cache */

#include "memo.h"
#include "units.h"
#include "verb.h"

#include <string.h>

#define DEFAULT_CACHE      "memo"
#define DEFAULT_MAX_OUTPUT (UINT64_C(64) << 20)
/* It is kept in memory while the command runs. */
#define MAX_OUTPUT_MAX (UINT64_C(64) << 30)

enum {
        OPT_TTL,
        OPT_CACHE,
        OPT_WATCH,
        OPT_ENV,
        OPT_STDIN,
        OPT_FAILURES,
        OPT_MAX_OUTPUT,
        OPT_WAIT,
        OPT_REFRESH,
        OPT_QUIET,
        OPT_VERBOSE,
};

static int check_env(struct ctl *ctl, const struct args_list *names)
{
        for (size_t i = 0; i < names->n; i++)
                if (!*names->values[i] || strchr(names->values[i], '='))
                        return ctl_usage(ctl,
                                         "--env '%s': it takes the name of a variable; the value "
                                         "is that of the environment",
                                         names->values[i]);
        return EXIT_DONE;
}

static int check_watch(struct ctl *ctl, const struct args_list *names)
{
        for (size_t i = 0; i < names->n; i++)
                if (!*names->values[i])
                        return ctl_usage(ctl, "--watch '': it is empty");
        return EXIT_DONE;
}

static int parse_wait(struct ctl *ctl, const char *text, uint64_t *ret_ms)
{
        const char *wrong = units_parse_duration_ms(text, ret_ms);

        if (wrong)
                return ctl_usage(ctl, "--wait '%s': %s; " UNITS_DURATION_HINT ", or 0s", text,
                                 wrong);
        if (*ret_ms > TTL_MAX_MS)
                return ctl_usage(ctl, "--wait '%s': it is at most 3650d", text);
        return EXIT_DONE;
}

static int parse_options(struct ctl *ctl, const struct args *a, struct memo_options *o)
{
        int status = EXIT_DONE;

        if (ctl->json)
                return ctl_usage(ctl, "--json does not apply: what is printed is the command's");
        if (a->options[OPT_CACHE])
                status = ctl_check_cache(ctl, o->cache);
        if (status == EXIT_DONE && a->options[OPT_TTL])
                status = ctl_parse_ttl(ctl, "ttl", a->options[OPT_TTL], &o->ttl_ms);
        if (status == EXIT_DONE && a->options[OPT_MAX_OUTPUT])
                status = ctl_parse_size(ctl, "max-output", a->options[OPT_MAX_OUTPUT],
                                        &o->max_output);
        if (status == EXIT_DONE && o->max_output > MAX_OUTPUT_MAX)
                status = ctl_usage(ctl, "--max-output '%s': it is at most 64G",
                                   a->options[OPT_MAX_OUTPUT]);
        if (status == EXIT_DONE && a->options[OPT_WAIT])
                status = parse_wait(ctl, a->options[OPT_WAIT], &o->wait_ms);
        if (status == EXIT_DONE && o->quiet && o->verbose)
                status = ctl_usage(ctl, "--quiet and --verbose exclude each other");
        if (status == EXIT_DONE)
                status = check_env(ctl, &o->env);
        return status == EXIT_DONE ? check_watch(ctl, &o->watch) : status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct memo_options o = {
                .cache = a->options[OPT_CACHE] ? a->options[OPT_CACHE] : DEFAULT_CACHE,
                .watch = a->lists[OPT_WATCH],
                .env = a->lists[OPT_ENV],
                .input = a->options[OPT_STDIN] != NULL,
                .failures = a->options[OPT_FAILURES] != NULL,
                .max_output = DEFAULT_MAX_OUTPUT,
                .wait_ms = CACHED_NEVER,
                .refresh = a->options[OPT_REFRESH] != NULL,
                .quiet = a->options[OPT_QUIET] != NULL,
                .verbose = a->options[OPT_VERBOSE] != NULL,
        };
        int status = parse_options(ctl, a, &o);

        return status == EXIT_DONE ? memo_run(ctl, &o, a->words) : status;
}

static const char about[] =
        "The first run goes as if COMMAND had been called by itself, and its output is recorded. "
        "Every\n"
        "later one is answered from the cache: the same bytes to stdout and stderr, in the same "
        "order,\n"
        "and the same exit status, in a few milliseconds. Only that: files that COMMAND writes are "
        "not\n"
        "written again.\n"
        "\n"
        "A run is another one, and not answered by the first, if anything of this differs: the "
        "words of\n"
        "COMMAND, the working directory, the user, the program's file (its content, not what it "
        "loads),\n"
        "the files named by --watch (their content), the variables named by --env, and with "
        "--stdin what\n"
        "comes in. Name what the output depends on, or give it a --ttl: the cache cannot know.\n"
        "\n"
        "While one run goes on, others of the same command wait for it, and print what it printed. "
        "If\n"
        "it is killed or interrupted, one of them runs COMMAND; if it fails, or its output is not "
        "stored\n"
        "for another reason, all of them do.\n"
        "\n"
        "Stored is what came to an end by itself with status 0 (--cache-failures: any status). "
        "Not\n"
        "stored is what was interrupted, ended by a signal, printed more than --max-output, or "
        "whose\n"
        "files changed meanwhile. Where no daemon answers, COMMAND runs as if memo was not there.\n"
        "Without --stdin, COMMAND reads nothing: its stdin is /dev/null.";

static const char statuses[] =
        "  that of COMMAND; 128+N after signal N\n"
        "  2    wrong usage, a file to watch that cannot be read, or output that\n"
        "       cannot be written\n"
        "  126  COMMAND cannot be executed\n"
        "  127  there is no such command\n";

const struct verb verb_memo = {
        .name = "memo",
        .synopsis = "[--ttl D] [--cache NAME] [--watch FILE]… [--env NAME]… [--stdin] "
                    "[--cache-failures] [--max-output S] [--wait D] [--refresh] [--quiet] "
                    "[--verbose] [--] COMMAND…",
        .summary = "Run a command once, then serve its output from the cache",
        .about = about,
        .words = {"COMMAND"},
        .n_required = 1,
        .command = true,
        .options = {[OPT_TTL] = {"ttl", 0, "D", "forget it after this long: 1ms to 3650d"},
                    [OPT_CACHE] = {"cache", 0, "NAME", "where it is kept (default: memo)"},
                    [OPT_WATCH] = {"watch", 'w', "FILE",
                                   "run anew when its content changes; any number of them", true},
                    [OPT_ENV] = {"env", 'e', "NAME",
                                 "run anew when this variable changes; any number of them", true},
                    [OPT_STDIN] = {"stdin", 'i', NULL,
                                   "give it our stdin, all of which is part of the key"},
                    [OPT_FAILURES] = {"cache-failures", 0, NULL,
                                      "store, and serve, what failed as well"},
                    [OPT_MAX_OUTPUT] = {"max-output", 0, "S",
                                        "do not store what is larger (default: 64M)"},
                    [OPT_WAIT] = {"wait", 0, "D",
                                  "run it, too, when another run takes longer; 0s: at once "
                                  "(default: wait for its end)"},
                    [OPT_REFRESH] = {"refresh", 0, NULL,
                                     "run it now, also if its output is stored, which others get "
                                     "until it ends; not if another run goes on"},
                    [OPT_QUIET] = {"quiet", 'q', NULL,
                                   "no spinner, and no word about what is not stored"},
                    [OPT_VERBOSE] = {"verbose", 'v', NULL,
                                     "say on stderr whether it was a hit, and its key"}},
        .json = "nothing; what is printed is the command's, and --json is refused.",
        .statuses = statuses,
        .example = "cachectl memo --ttl 1h -- curl -sS https://example.org/prices.json\n"
                   "  cachectl memo --watch data.csv --env LANG -- ./report.py data.csv\n"
                   "  cachectl memo --refresh -- ./nightly-report  # for cron: nobody waits\n"
                   "  sort huge.txt | cachectl memo --stdin -- sha256sum",
        .run = run,
};
