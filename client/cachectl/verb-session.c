/* SPDX-License-Identifier: MIT */

/* session: dictionaries that only those see who have their token */

#include "output.h"
#include "session.h"
#include "suggest.h"
#include "verb.h"

#include <string.h>

#define MAX_TYPING_ERRORS 2

/* What can be done: the words behind it, and which options it takes. */
static const struct doing {
        const char *name;
        int n_required, n_words;
        unsigned options; /* bits of enum session_option */
        int (*run)(struct session_run *run);
} doings[] = {
#define OPTION(name) (1u << SESSION_OPT_##name)
        {"new", 0, 0, OPTION(LABEL) | OPTION(IDLE) | OPTION(GRACE), session_new},
        {"ls", 0, 0, 0, session_ls},
        {"show", 1, 1, 0, session_show},
        {"get", 1, 2, OPTION(OUTPUT), session_get},
        {"set", 3, 3, OPTION(IF_ABSENT) | OPTION(IF_VERSION), session_set},
        {"del", 2, 2, 0, session_del},
        {"keys", 1, 1, 0, session_keys},
        {"incr", 2, 3, OPTION(START), session_incr},
        {"append", 3, 3, OPTION(MAX_BYTES), session_append},
        {"clear", 1, 1, 0, session_clear},
        {"close", 1, 1, 0, session_close},
#undef OPTION
        {NULL, 0, 0, 0, NULL},
};

static const char *const word_names[] = {"TOKEN", "KEY", "VALUE"};

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
                return ctl_usage(ctl, "'%s' is nothing that a session can; did you mean '%s'?",
                                 what, nearest);
        return ctl_usage(ctl, "'%s' is nothing that a session can", what);
}

static int check(struct ctl *ctl, const struct doing *d, const struct args *a)
{
        int n = a->n_words - 1;

        if (n > 0 && n < d->n_required && session_lacks_token(a->words[1]))
                return session_report_lack(ctl, a->words[1]);
        if (n < d->n_required)
                return ctl_usage(ctl, "%s: %s is missing", d->name, word_names[n]);
        if (n > d->n_words)
                return ctl_usage(ctl, "%s: there is one argument too many", d->name);
        for (unsigned i = 0; verb_session.options[i].name; i++)
                if (a->options[i] && !(d->options & 1u << i))
                        return ctl_usage(ctl, "--%s does not apply to %s",
                                         verb_session.options[i].name, d->name);
        return EXIT_DONE;
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct session_run r = {.ctl = ctl, .args = a};
        const struct doing *d = doings;
        int status;

        while (d->name && strcmp(d->name, a->words[0]) != 0)
                d++;
        if (!d->name)
                return unknown(ctl, a->words[0]);
        status = check(ctl, d, a);
        r.key = a->n_words > 2 ? a->words[2] : NULL;
        r.value = a->n_words > 3 ? a->words[3] : NULL;
        if (status == EXIT_DONE && a->n_words > 1)
                status = session_take_token(ctl, a->words[1], r.token);
        if (status == EXIT_DONE && r.key)
                status = session_check_key(ctl, r.key);
        if (status == EXIT_DONE)
                status = d->run(&r);
        cached_session_free(r.session);
        explicit_bzero(r.token, sizeof(r.token));
        return status;
}

static const char about[] =
        "`new` opens a session and prints its token: 32 hexadecimal digits, which nothing prints "
        "again. Who has the token reads and changes the session, nobody else. As TOKEN, `@` "
        "stands for $CACHED_SESSION, and `@FILE` for the first line of FILE: a token on a command "
        "line can be read by everybody in the list of processes.\n\n"
        "A KEY is 1 to 128 bytes of UTF-8 without control characters. `get` prints the value of "
        "one byte for byte, with nothing added; without KEY, a table of all, values that are no "
        "text as their sizes. `keys` prints the keys in the order in which they were first set. "
        "`set` stores VALUE, or what stdin says where it is `-`. `append` puts it behind what is "
        "there.\n\n"
        "`incr` adds VALUE (default: 1) to the number that is there as text, and prints the sum; "
        "with a point or an exponent in VALUE they count as real numbers. What begins with `-` "
        "needs `--` before it: `cachectl session incr @ stock -- -3`.\n\n"
        "`show` and `ls` tell what is known of a session or of all of the realm (root and admins "
        "see everybody's), and never tokens, keys or values. `clear` deletes all keys, `close` "
        "ends the session.";

const struct verb verb_session = {
        .name = "session",
        .synopsis =
                "new [--label T] [--idle D|never] [--grace D] | ls | show TOKEN | "
                "get TOKEN [KEY [-o FILE | --output FILE]] | set TOKEN KEY VALUE|- [--if-absent | "
                "--if-version N] | del TOKEN KEY | keys TOKEN | "
                "incr TOKEN KEY [VALUE] [--start N] | append TOKEN KEY VALUE|- "
                "[--max-bytes S] | clear TOKEN | close TOKEN",
        .summary = "Keep a dictionary that only those see who have its token",
        .about = about,
        .words = {"new|ls|show|get|set|del|keys|incr|append|clear|close", "TOKEN", "KEY", "VALUE"},
        .n_required = 1,
        .options =
                {
                        [SESSION_OPT_LABEL] = {"label", 0, "T",
                                               "new: what people know it by; up to 64 bytes"},
                        [SESSION_OPT_IDLE] =
                                {"idle", 0, "D|never",
                                 "new: it ends when it was not used for so long: 1ms to 3650d "
                                 "(default: the daemon's sessions.idle)"},
                        [SESSION_OPT_GRACE] =
                                {"grace", 0, "D",
                                 "new: it ends, too, when nothing was attached to it for so long: "
                                 "0s to 1h"},
                        [SESSION_OPT_OUTPUT] =
                                {"output", 'o', "FILE",
                                 "get: write the value there, all or nothing; `-` is stdout"},
                        [SESSION_OPT_IF_ABSENT] =
                                {"if-absent", 0, NULL,
                                 "set: only where the key has no value; prints the one that it "
                                 "has then"},
                        [SESSION_OPT_IF_VERSION] =
                                {"if-version", 0, "N",
                                 "set: only over exactly this version of the key"},
                        [SESSION_OPT_START] =
                                {"start", 0, "N",
                                 "incr: what a key without a value counts as (default: 0)"},
                        [SESSION_OPT_MAX_BYTES] =
                                {"max-bytes", 0, "S",
                                 "append: drop the value's first bytes, as many as are beyond"},
                },
        .json = "new, show, close: token (new alone), id, label, uid, age_ms, unused_ms, idle_ms "
                "(null: "
                "never ends by that), grace_ms (null: likewise), keys, bytes, charge, version, "
                "attached, caches; ls: sessions, a list of the same without tokens. get: version, "
                "items: a list of key, version, size, flags, and value or value_base64; get KEY: "
                "key, found, and the same; keys: version, keys. set: key, stored, version, and "
                "with "
                "--if-absent value or value_base64; append: key, size, version; incr: key, value, "
                "version; del: key, deleted; clear: version.",
        .not_found = "no such session or key; or `set` stored nothing, since the key has a value "
                     "or another version",
        .example = "export CACHED_SESSION=$(cachectl session new --label upload)\n"
                   "  cachectl session set @ state ready && cachectl session get @ state",
        .run = run,
};
