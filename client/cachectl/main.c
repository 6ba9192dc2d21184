/* SPDX-License-Identifier: MIT */

/*
 * cachectl: the command line of `cached`
 *
 * Finds the verb, parses its words and options by the verb's own rows, and runs it. The verbs know
 * nothing of argv, and nothing of the protocol: they use the public client library.
 */

#include "args.h"
#include "ctl.h"
#include "help.h"
#include "output.h"
#include "suggest.h"
#include "units.h"
#include "verb.h"

#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* Longer than any request should take; `--timeout` is for scripts that would rather go on without.
 */
#define DEFAULT_TIMEOUT_MS 30000
#define MAX_TIMEOUT_MS     (24 * 3600 * UINT64_C(1000))

/* What the kernel's address of a socket can hold. */
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

/* A word as far as this from a verb's name was hardly meant to be it. */
#define MAX_TYPING_ERRORS 2

static const struct verb *const verbs[] = {
#define VERB(name) &verb_##name,
#include "verbs.def"
#undef VERB
        NULL,
};

enum { GLOBAL_SOCKET, GLOBAL_JSON, GLOBAL_REALM, GLOBAL_TIMEOUT, GLOBAL_HELP };

static const struct args_option globals[ARGS_MAX_OPTIONS] = {
        [GLOBAL_SOCKET] = {"socket", 0, "PATH",
                           "the daemon's socket; else $CACHED_SOCKET, the system's, yours"},
        [GLOBAL_JSON] = {"json", 0, NULL, "print one JSON document instead of a table"},
        [GLOBAL_REALM] = {"realm", 0, "NAME", "the realm to work in (default: your own)"},
        [GLOBAL_TIMEOUT] = {"timeout", 0, "D",
                            "give up on the daemon after this long (default: 30s)"},
        [GLOBAL_HELP] = {"help", 'h', NULL, "print this help"},
};

static const struct verb *find_verb(const char *name)
{
        for (size_t i = 0; verbs[i]; i++)
                if (strcmp(verbs[i]->name, name) == 0)
                        return verbs[i];
        return NULL;
}

static const struct verb *nearest_verb(const char *name)
{
        const struct verb *nearest = NULL;
        unsigned best = MAX_TYPING_ERRORS + 1;

        for (size_t i = 0; verbs[i]; i++) {
                unsigned d = suggest_distance(name, verbs[i]->name);

                /* As many errors as letters is no resemblance. */
                if (d < best && d < strlen(name)) {
                        best = d;
                        nearest = verbs[i];
                }
        }
        return nearest;
}

static int unknown_verb(struct ctl *ctl, const char *name)
{
        const struct verb *nearest = nearest_verb(name);

        if (nearest)
                return ctl_usage(ctl, "there is no verb '%s'; did you mean '%s'?", name,
                                 nearest->name);
        return ctl_usage(ctl, "there is no verb '%s'", name);
}

static int check_words(struct ctl *ctl, const struct verb *verb, const struct args *a)
{
        int n = 0;

        while (verb->words[n])
                n++;
        if (a->n_words < verb->n_required)
                return ctl_usage(ctl, "%s is missing", verb->words[a->n_words]);
        if (a->n_words > n && !verb->command)
                return ctl_usage(ctl, "'%s' is one argument too many", a->words[n]);
        return EXIT_DONE;
}

static int set_globals(struct ctl *ctl, const struct args *a)
{
        const char *timeout = a->globals[GLOBAL_TIMEOUT], *wrong;
        uint64_t ms;

        ctl->json = a->globals[GLOBAL_JSON] != NULL;
        ctl->socket = a->globals[GLOBAL_SOCKET];
        ctl->realm = a->globals[GLOBAL_REALM];
        ctl->timeout_ms = DEFAULT_TIMEOUT_MS;
        if (ctl->socket && !*ctl->socket)
                return ctl_usage(ctl, "--socket '': it is empty");
        if (ctl->socket && strlen(ctl->socket) > SOCKET_PATH_MAX)
                return ctl_usage(
                        ctl, "--socket '%s': it is too long: a socket's path has at most %zu bytes",
                        ctl->socket, SOCKET_PATH_MAX);
        if (!timeout)
                return EXIT_DONE;
        wrong = units_parse_duration_ms(timeout, &ms);
        if (wrong)
                return ctl_usage(ctl, "--timeout '%s': %s; " UNITS_DURATION_HINT, timeout, wrong);
        if (ms == 0 || ms > MAX_TIMEOUT_MS)
                return ctl_usage(ctl, "--timeout '%s': it is 1ms to 24h", timeout);
        ctl->timeout_ms = (uint32_t)ms;
        ctl->timeout_given = true;
        return EXIT_DONE;
}

static int wrong_args(struct ctl *ctl, const char *wrong)
{
        int status = ctl_usage(ctl, "%s", wrong);

        if (wrong != args_no_memory)
                free((char *)wrong);
        return status;
}

static int run_verb(struct ctl *ctl, const struct verb *verb, struct args *a)
{
        const char *wrong;
        int status;

        ctl->verb = verb->name;
        a->command = verb->command;
        /* For the widths and the printability of what is in a table; numbers stay as they are.
         * Where another program does the printing, it would only cost time. */
        if (!verb->command)
                (void)setlocale(LC_CTYPE, "");
        wrong = args_parse(a->n_words, a->words, globals, verb->options, a);
        if (wrong)
                return wrong_args(ctl, wrong);
        if (a->globals[GLOBAL_HELP]) {
                const struct verb *const one[] = {verb, NULL};

                if (a->globals[GLOBAL_JSON])
                        return help_json(ctl, one, globals);
                help_verb(verb, globals);
                return EXIT_DONE;
        }
        status = set_globals(ctl, a);
        if (status == EXIT_DONE)
                status = check_words(ctl, verb, a);
        if (status == EXIT_DONE)
                status = verb->run(ctl, a);
        ctl_done(ctl);
        return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
        struct args a = {.n_words = 0};
        const struct verb *verb;
        const char *wrong;
        int status;

        wrong = args_parse(argc, argv, globals, NULL, &a);
        if (wrong)
                return wrong_args(ctl, wrong);
        if (a.n_words > 0) {
                verb = find_verb(a.words[0]);
                status = verb ? run_verb(ctl, verb, &a) : unknown_verb(ctl, a.words[0]);
                args_done(&a);
                return status;
        }
        if (!a.globals[GLOBAL_HELP])
                return ctl_usage(ctl, "a verb is missing");
        if (a.globals[GLOBAL_JSON])
                return help_json(ctl, verbs, globals);
        help_overview(verbs, globals);
        return EXIT_DONE;
}

int main(int argc, char **argv)
{
        struct ctl ctl = {.verb = NULL};
        int status, flushed;

        ctl.sigpipe_ignored = signal(SIGPIPE, SIG_IGN) == SIG_IGN;
        status = run(&ctl, argc, argv);
        flushed = output_flush(&ctl);
        return status != EXIT_DONE ? status : flushed;
}
