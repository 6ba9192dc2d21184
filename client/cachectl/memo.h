/* SPDX-License-Identifier: MIT */
#ifndef MEMO_H
#define MEMO_H

/*
 * A command that runs once, and is replayed from then on
 */

#include "args.h"
#include "ctl.h"

struct memo_options {
        uint64_t ttl_ms; /* 0: as the cache's policy says */
        const char *cache;
        struct args_list watch, env;
        bool input;          /* stdin is the command's, and part of the key */
        bool failures;       /* they are stored and replayed, too */
        uint64_t max_output; /* bytes of a record */
        uint64_t wait_ms;    /* for a run that somebody else has begun; CACHED_NEVER: no end */
        bool refresh;        /* run it, also if its output is stored */
        bool quiet, verbose;
};

/* Returns the exit status: the command's, or 2, 126, 127 when it was not run. Does not return where
 * the command takes our place, or ends us by the signal that ended it. */
int memo_run(struct ctl *ctl, const struct memo_options *options, char **argv);

#endif
