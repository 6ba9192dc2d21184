/* SPDX-License-Identifier: MIT */

/* resource: live objects that processes share */

#include "resource.h"
#include "suggest.h"
#include "verb.h"

#include <string.h>

#define MAX_TYPING_ERRORS 2

/* What can be done: the words behind it, and which options it takes. */
static const struct doing {
        const char *name;
        int n_required, n_words;
        bool command;     /* and a command line */
        unsigned options; /* bits of enum resource_option */
        int (*run)(struct resource_run *run);
} doings[] = {
        {"ls", 0, 1, false, 0, resource_ls},
        {"show", 2, 2, false, 0, resource_show},
        {"hold", 2, 2, true, ~0u, resource_hold},
        {"drop", 2, 2, false, 0, resource_drop},
        {NULL, 0, 0, false, 0, NULL},
};

static const char *const word_names[] = {"CACHE", "KEY"};

static int unknown(struct ctl *ctl, const char *what)
{
        const char *nearest = NULL;
        unsigned best = MAX_TYPING_ERRORS + 1;

        for (const struct doing *d = doings; d->name; d++) {
                unsigned distance = suggest_distance(what, d->name);

                if (distance < best && distance < strlen(what)) {
                        best = distance;
                        nearest = d->name;
                }
        }
        if (nearest)
                return ctl_usage(ctl, "'%s' is nothing to do with resources; did you mean '%s'?",
                                 what, nearest);
        return ctl_usage(ctl, "'%s' is nothing to do with resources", what);
}

/* What stands behind the dashes is COMMAND, and never CACHE or KEY. */
static int take_command(struct resource_run *run, const struct doing *d)
{
        const struct args *a = run->args;
        int n = a->n_words - a->n_behind - 1;

        if (n < 0)
                return ctl_usage(run->ctl, "'%s' is missing before `--`", d->name);
        if (n < d->n_required)
                return ctl_usage(run->ctl, "%s: %s is missing before `--`", d->name, word_names[n]);
        if (n > d->n_words && a->n_behind == 0)
                return ctl_usage(run->ctl, "%s: `--` is missing before COMMAND", d->name);
        if (n > d->n_words)
                return ctl_usage(run->ctl, "%s: there is one argument too many before `--`",
                                 d->name);
        run->argv = a->n_behind ? a->words + d->n_words + 1 : NULL;
        return EXIT_DONE;
}

static int check(struct resource_run *run, const struct doing *d)
{
        const struct args *a = run->args;
        int n = a->n_words - 1;

        if (n < d->n_required && (!d->command || a->n_behind == 0))
                return ctl_usage(run->ctl, "%s: %s is missing", d->name, word_names[n]);
        if (n > d->n_words && !d->command)
                return ctl_usage(run->ctl, "%s: there is one argument too many", d->name);
        for (unsigned i = 0; verb_resource.options[i].name; i++)
                if (a->options[i] && !(d->options & 1u << i))
                        return ctl_usage(run->ctl, "--%s does not apply to %s",
                                         verb_resource.options[i].name, d->name);
        return d->command ? take_command(run, d) : EXIT_DONE;
}

static int take_words(struct resource_run *run)
{
        const struct args *a = run->args;
        const char *wrong = NULL;
        int status = EXIT_DONE;

        run->cache = a->n_words > 1 ? a->words[1] : NULL;
        if (run->cache)
                status = ctl_check_cache(run->ctl, run->cache);
        if (status == EXIT_DONE && a->n_words > 2)
                wrong = key_parse(a->words[2], &run->key);
        return wrong ? ctl_usage(run->ctl, "KEY '%s': %s", a->words[2], wrong) : status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct resource_run r = {.ctl = ctl, .args = a};
        const struct doing *d = doings;
        int status;

        while (d->name && strcmp(d->name, a->words[0]) != 0)
                d++;
        if (!d->name)
                return unknown(ctl, a->words[0]);
        status = check(&r, d);
        if (status == EXIT_DONE)
                status = take_words(&r);
        return status == EXIT_DONE ? d->run(&r) : status;
}

static const char about[] =
        "A resource is one live object that processes share under a CACHE and a KEY: memory (a "
        "segment), an open file (a descriptor: a connected socket, a pipe, a file …), or a name "
        "for what each process has of its own (local). It is made once, and leaves its cache when "
        "its time is over, when it is dropped or cleared, or when room is needed.\n\n"
        "`ls` lists those of the realm, or of CACHE; LOCKED is the process that has the lock. "
        "`show` tells all about one, each instance of a pool and each holder. `drop` takes it out "
        "of its cache: who holds it is told, and may use it on; the next one to ask makes "
        "another. With `--session TOKEN` all is about the caches of that session, and what is in "
        "them leaves with it.\n\n"
        "`hold` holds one, and makes it if it is not there: with --segment out of memory, with "
        "--fd out of a file that the shell has opened, with --local as a name alone. Without any "
        "of "
        "these it takes what is there, whatever it is. With COMMAND it is held, and with --lock "
        "locked, while that runs. COMMAND has the object as the descriptor $CACHED_RESOURCE_FD; "
        "that of a segment is a file of 4096 bytes of head and $CACHED_RESOURCE_SIZE bytes of "
        "data. Without COMMAND it is held until stdin ends (unless that is /dev/null), until a "
        "signal comes, or until it leaves its cache; a line says that it is held, and one that it "
        "has left, and why.\n\n"
        "A lock ends with `hold`. Who kills `hold` kills COMMAND, too, where that has the lock or "
        "an object of a pool: it does not go on beside the next one. What COMMAND has started goes "
        "on, and so does a set-user-ID program. (With flock(1) the command goes on, and keeps the "
        "lock.) If a signal ends COMMAND, or "
        "somebody kills `hold`, while it is "
        "locked, what it protects may be half changed: so a descriptor leaves its cache, and the "
        "next one to lock anything else is told, on stderr and with CACHED_OWNER_DIED=1 in the "
        "environment of its COMMAND.";

static const char statuses[] = "  hold with COMMAND: that of COMMAND; 128+N after signal N\n"
                               "  0    done\n"
                               "  1    no such cache or resource\n"
                               "  2    wrong usage\n"
                               "  3    the daemon is not reachable\n"
                               "  4    the daemon refused, or --wait is over; nothing was run\n"
                               "  N    --wait is over, with --conflict-exit-code N; nothing was "
                               "run\n"
                               "  126  COMMAND cannot be executed\n"
                               "  127  there is no such command\n";

const struct verb verb_resource = {
        .name = "resource",
        .synopsis = "ls [CACHE] | show CACHE KEY | drop CACHE KEY | "
                    "hold CACHE KEY [--segment S | --fd N | --local] [--fill FILE] [--read-only] "
                    "[--no-create] [--pool N] [--ttl D] [--lock] [--wait D] "
                    "[--conflict-exit-code N] [-- COMMAND…]",
        .summary = "Look at live objects that processes share, and hold one",
        .about = about,
        .words = {"ls|show|hold|drop", "CACHE", "KEY", "COMMAND"},
        .n_required = 1,
        .goes_on = true,
        .caches = true,
        .options =
                {
                        [RESOURCE_OPT_SEGMENT] = {"segment", 0, "S",
                                                  "hold: shared memory of so many bytes, if it is "
                                                  "to be made"},
                        [RESOURCE_OPT_FILL] = {"fill", 0, "FILE",
                                               "hold: what is made begins with the bytes of FILE"},
                        [RESOURCE_OPT_FD] = {"fd", 0, "N",
                                             "hold: the open descriptor N of the shell, if nobody "
                                             "has made one yet"},
                        [RESOURCE_OPT_LOCAL] = {"local", 0, NULL,
                                                "hold: a name alone, e.g. for its lock"},
                        [RESOURCE_OPT_READ_ONLY] = {"read-only", 0, NULL,
                                                    "hold: nobody can change the segment that is "
                                                    "made"},
                        [RESOURCE_OPT_NO_CREATE] = {"no-create", 0, NULL,
                                                    "hold: only what is there"},
                        [RESOURCE_OPT_POOL] = {"pool", 0, "N",
                                               "hold: one of up to N objects, for its own; 1 to "
                                               "4096"},
                        [RESOURCE_OPT_TTL] = {"ttl", 0, "D",
                                              "hold: how long those of the cache stay in it, if "
                                              "this makes the cache; 1ms to 3650d"},
                        [RESOURCE_OPT_LOCK] = {"lock", 0, NULL, "hold: and lock it"},
                        [RESOURCE_OPT_WAIT] = {"wait", 0, "D",
                                               "hold: give up when others make it, use it or lock "
                                               "it for longer; 0s: at once (default: wait)"},
                        [RESOURCE_OPT_CONFLICT] = {"conflict-exit-code", 0, "N",
                                                   "hold: the exit status when it gives up for "
                                                   "that, without a word (default: 4, with one)"},
                },
        .json = "ls: resources, a list of cache, key or key_hex, instance, kind (segment, "
                "descriptor, local), what (of a descriptor, else null), size, read_only, ttl_ms "
                "(what is left; null: it does not end), age_ms, unused_ms, uid and pid of who made "
                "it, locked_by (a pid, or null), waiters, holder_count, holders: a list of pid, "
                "uid, name, since_ms, holds, locked. show: cache, key or key_hex, instances: a "
                "list of the "
                "same. drop: cache, key or key_hex, resources, holders (that are told). hold: an "
                "object on each line: event; held: cache, key or key_hex, instance, created, kind, "
                "what, size, read_only, locked, owner_died; left: cause. With COMMAND, --json is "
                "refused.",
        .statuses = statuses,
        .example =
                "cachectl resource hold jobs lock --local --lock -- ./one-at-a-time\n"
                "  cachectl resource hold jobs lock --local --lock --wait 0s "
                "--conflict-exit-code 0 -- \\\n"
                "    ./skipped-while-one-runs\n"
                "  cachectl resource hold models bert --segment 400M --fill bert.bin --read-only\n"
                "  exec 3<>/dev/tcp/127.0.0.1/6379\n"
                "  cachectl resource hold db redis --fd 3 --lock -- \\\n"
                "    bash -c 'echo PING >&$CACHED_RESOURCE_FD; head -1 <&$CACHED_RESOURCE_FD'",
        .run = run,
};
