/* SPDX-License-Identifier: MIT */
#ifndef VERB_H
#define VERB_H

/*
 * A verb of cachectl is one of these, in a file of its own, and a row in verbs.def
 */

#include "args.h"
#include "ctl.h"

struct verb {
        const char *name;
        const char *synopsis; /* its words and options, for the usage line */
        const char *summary;  /* one line, for `cachectl --help` */
        const char *about;    /* NULL, or more of it */
        const char *words[ARGS_MAX_WORDS + 1];
        int n_required; /* so many of the words must be given */
        bool command;   /* the words are a command line, of any length; see struct args */
        bool goes_on;   /* any number of words may follow: it checks them itself */
        bool caches;    /* it is about caches, also those of a session (--session) */
        bool removes;   /* what is stored: only a near miss of its name is taken for it */
        struct args_option options[ARGS_MAX_OPTIONS];
        const char *json;      /* the fields of its --json */
        const char *not_found; /* what exit status 1 means; NULL: it does not happen */
        const char
                *statuses; /* NULL, or its exit statuses where they are not those of the others */
        const char *example;

        /* Checks the words and values, connects, and does it. Returns an exit status. */
        int (*run)(struct ctl *ctl, const struct args *a);
};

#define VERB(name) extern const struct verb verb_##name;
#include "verbs.def"
#undef VERB

#endif
