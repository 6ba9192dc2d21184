/* SPDX-License-Identifier: MIT */
#ifndef RESOURCE_H
#define RESOURCE_H

/*
 * What the parts of `cachectl resource` share
 */

#include "args.h"
#include "ctl.h"
#include "verb.h"

#include <cached-resource.h>

#define RESOURCE_MISSING    "no such resource in this cache"
#define RESOURCE_CAUSE_SIZE 32

enum resource_option {
        RESOURCE_OPT_SEGMENT,
        RESOURCE_OPT_FILL,
        RESOURCE_OPT_FD,
        RESOURCE_OPT_LOCAL,
        RESOURCE_OPT_READ_ONLY,
        RESOURCE_OPT_NO_CREATE,
        RESOURCE_OPT_POOL,
        RESOURCE_OPT_TTL,
        RESOURCE_OPT_LOCK,
        RESOURCE_OPT_WAIT,
        RESOURCE_OPT_CONFLICT,
};

/* As in the protocol. */
enum resource_kind { RESOURCE_ANY, RESOURCE_SEGMENT, RESOURCE_DESCRIPTOR, RESOURCE_LOCAL };

extern const char *const resource_kinds[]; /* by enum resource_kind; NULL ends them */

/* One run: the words behind what is to be done. */
struct resource_run {
        struct ctl *ctl;
        const struct args *args;
        const char *cache; /* NULL: none was given */
        struct key key;    /* n is 0: likewise */
        char **argv;       /* COMMAND and its arguments; NULL: none */
};

/* Each checks its options, connects and does it. An exit status. */
int resource_ls(struct resource_run *run);
int resource_show(struct resource_run *run);
int resource_drop(struct resource_run *run);
int resource_hold(struct resource_run *run);

/* Looks which kind is there. EXIT_NOT_FOUND, reported: none. */
int resource_find_kind(struct resource_run *run, enum resource_kind *ret);

/* Why it left: one of CACHED_RESOURCE_* as a word, and as people read it. */
const char *resource_cause_text(int cause);
const char *resource_cause_words(char buf[RESOURCE_CAUSE_SIZE], int cause);

/* "segment", or what kind of file it is, or "local". @prefix: of a ResourceInfo. */
const char *resource_kind_text(const cached_reply *r, const char *prefix);

/* What `hold` has of the resource. */
struct resource_held {
        struct resource_run *run;
        cached_resource *resource;
        enum resource_kind kind;
        bool created, locked, owner_died;
        bool is_alone; /* nobody else uses it meanwhile */
        char what[64]; /* of a descriptor: its kind; else empty */
};

/* Until stdin ends, a signal comes, or it leaves its cache. An exit status. */
int resource_wait(const struct resource_held *h);

/* Runs run->argv, whose program is the file @path. Gives the resource back, and may end the
 * process. An exit status. */
int resource_run_command(struct resource_held *h, const char *path);

#endif
