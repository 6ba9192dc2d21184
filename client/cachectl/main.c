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

#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

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

enum {
        GLOBAL_SOCKET,
        GLOBAL_JSON,
        GLOBAL_REALM,
        GLOBAL_TIMEOUT,
        GLOBAL_SERVICE_UID,
        GLOBAL_SESSION,
        GLOBAL_HELP,
        GLOBAL_VERSION
};

static const struct args_option globals[ARGS_MAX_OPTIONS] = {
        [GLOBAL_SOCKET] = {"socket", 0, "PATH",
                           "the daemon's socket; else $CACHED_SOCKET, the system's, yours"},
        [GLOBAL_JSON] = {"json", 0, NULL, "print one JSON document instead of a table"},
        [GLOBAL_REALM] = {"realm", 0, "NAME", "the realm to work in (default: your own)"},
        [GLOBAL_TIMEOUT] = {"timeout", 0, "D",
                            "give up on the daemon after this long (default: 30s)"},
        [GLOBAL_SERVICE_UID] = {"service-uid", 0, "UID",
                                "trust a daemon of this uid, too, not only root's and yours"},
        [GLOBAL_SESSION] = {"session", 0, "TOKEN",
                            "work on the caches of that session alone; see `cachectl session`"},
        [GLOBAL_HELP] = {"help", 'h', NULL, "print this help"},
        /* Only before the verb: some have an option of this name. */
        [GLOBAL_VERSION] = {"version", 'V', NULL, "print the version of cachectl"},
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

                /* Nobody shall repeat with `del` what was meant otherwise. */
                if (verbs[i]->removes && d > 1)
                        continue;
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
        if (a->n_words > n && !verb->command && !verb->goes_on)
                return ctl_usage(ctl, "'%s' is one argument too many", a->words[n]);
        return EXIT_DONE;
}

static int set_service_uid(struct ctl *ctl, const char *text)
{
        const char *wrong;
        uint64_t uid;

        if (!text)
                return EXIT_DONE;
        wrong = units_parse_count(text, &uid);
        if (wrong)
                return ctl_usage(ctl, "--service-uid '%s': %s; `id -u USER` prints it", text,
                                 wrong);
        if (uid >= UINT32_MAX)
                return ctl_usage(ctl, "--service-uid '%s': a uid is at most 4294967294", text);
        ctl->has_service_uid = true;
        ctl->service_uid = (uint32_t)uid;
        return EXIT_DONE;
}

static int set_globals(struct ctl *ctl, const struct args *a)
{
        const char *timeout = a->globals[GLOBAL_TIMEOUT], *wrong;
        uint64_t ms;

        ctl->json = a->globals[GLOBAL_JSON] != NULL;
        ctl->socket = a->globals[GLOBAL_SOCKET];
        ctl->realm = a->globals[GLOBAL_REALM];
        ctl->session = a->globals[GLOBAL_SESSION];
        ctl->timeout_ms = DEFAULT_TIMEOUT_MS;
        if (ctl->socket && !*ctl->socket)
                return ctl_usage(ctl, "--socket '': it is empty");
        if (ctl->socket && strlen(ctl->socket) > SOCKET_PATH_MAX)
                return ctl_usage(
                        ctl, "--socket '%s': it is too long: a socket's path has at most %zu bytes",
                        ctl->socket, SOCKET_PATH_MAX);
        if (set_service_uid(ctl, a->globals[GLOBAL_SERVICE_UID]) != EXIT_DONE)
                return EXIT_USAGE;
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

/* Without the last, which is there before the verb only. */
static void globals_of_verbs(struct args_option ret[ARGS_MAX_OPTIONS])
{
        memcpy(ret, globals, sizeof(globals));
        ret[GLOBAL_VERSION] = (struct args_option){NULL};
}

/* `cachectl help [VERB]` */
static int help(struct ctl *ctl, const struct args *a)
{
        struct args_option of_verbs[ARGS_MAX_OPTIONS];
        const struct verb *verb;

        if (a->n_words > 2)
                return ctl_usage(ctl, "'%s' is one argument too many: help takes a verb",
                                 a->words[2]);
        if (a->n_words < 2 || a->words[1][0] == '-') {
                help_overview(verbs, globals);
                return EXIT_DONE;
        }
        verb = find_verb(a->words[1]);
        if (!verb)
                return unknown_verb(ctl, a->words[1]);
        globals_of_verbs(of_verbs);
        help_verb(verb, of_verbs);
        return EXIT_DONE;
}

static int run_verb(struct ctl *ctl, const struct verb *verb, struct args *a)
{
        struct args_option of_verbs[ARGS_MAX_OPTIONS];
        const char *wrong;
        int status;

        globals_of_verbs(of_verbs);
        ctl->verb = verb->name;
        a->command = verb->command;
        /* For the widths and the printability of what is in a table; numbers stay as they are.
         * Where another program does the printing, it would only cost time. */
        if (!verb->command)
                (void)setlocale(LC_CTYPE, "");
        wrong = args_parse(a->n_words, a->words, of_verbs, verb->options, a);
        if (wrong)
                return wrong_args(ctl, wrong);
        if (a->globals[GLOBAL_HELP]) {
                const struct verb *const one[] = {verb, NULL};

                if (a->globals[GLOBAL_JSON])
                        return help_json(ctl, one, of_verbs);
                help_verb(verb, of_verbs);
                return EXIT_DONE;
        }
        status = set_globals(ctl, a);
        if (status == EXIT_DONE)
                status = check_words(ctl, verb, a);
        if (status == EXIT_DONE && ctl->session && !verb->caches)
                status = ctl_usage(ctl, "--session does not apply");
        if (status == EXIT_DONE)
                status = verb->run(ctl, a);
        ctl_done(ctl);
        return status;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
        struct args_option of_verbs[ARGS_MAX_OPTIONS];
        struct args a = {.n_words = 0};
        const struct verb *verb;
        const char *wrong;
        int status;

        wrong = args_parse(argc, argv, globals, NULL, &a);
        if (wrong)
                return wrong_args(ctl, wrong);
        if (a.globals[GLOBAL_VERSION]) {
                puts("cachectl " VERSION);
                return EXIT_DONE;
        }
        if (a.n_words > 0 && strcmp(a.words[0], "help") == 0)
                return help(ctl, &a);
        if (a.n_words > 0) {
                verb = find_verb(a.words[0]);
                status = verb ? run_verb(ctl, verb, &a) : unknown_verb(ctl, a.words[0]);
                args_done(&a);
                return status;
        }
        if (!a.globals[GLOBAL_HELP])
                return ctl_usage(ctl, "a verb is missing");
        if (a.globals[GLOBAL_JSON]) {
                globals_of_verbs(of_verbs);
                return help_json(ctl, verbs, of_verbs);
        }
        help_overview(verbs, globals);
        return EXIT_DONE;
}

/* A descriptor that is closed would be the next socket, and what is printed would go into it. What
 * stands in for it fails as a closed one does. */
static bool open_standard_descriptors(void)
{
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
                if (fcntl(fd, F_GETFD) >= 0)
                        continue;
                if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
                        return false;
        }
        return true;
}

int main(int argc, char **argv)
{
        struct ctl ctl = {.verb = NULL};
        int status, flushed;

        if (!open_standard_descriptors())
                return EXIT_USAGE;
        /* A message is put together from pieces and written as one. */
        (void)setvbuf(stderr, NULL, _IOLBF, BUFSIZ);
        ctl.sigpipe_ignored = signal(SIGPIPE, SIG_IGN) == SIG_IGN;
        status = run(&ctl, argc, argv);
        flushed = output_flush(&ctl);
        return status != EXIT_DONE ? status : flushed;
}
