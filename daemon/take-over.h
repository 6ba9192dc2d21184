/* SPDX-License-Identifier: MIT */
#ifndef TAKE_OVER_H
#define TAKE_OVER_H

/*
 * Take over: this process takes a running daemon's place; the side that receives. See take-over.c,
 * and PROTOCOL.md, "Handover".
 */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "dispatch/handover-wire.h"
#include "realm/given.h"

struct log;

#define TAKE_OVER_ERR_MAX 512

struct take_over {
        int fd;                 /* connected to the daemon; -1: done with */
        int peer_fd;            /* a pidfd of it; -1: the kernel has none */
        pid_t pid;              /* the daemon's */
        int listen_fd, lock_fd; /* received; -1: not, or taken */
        uint64_t instance;
        struct given given;
        uint64_t last_id;
        char version[64]; /* of the daemon, for people */
        size_t n_fds;     /* that wait to be given names */
        int fds[HANDOVER_BATCH];
};

/* Connects to the daemon at @path and receives everything. It still owns all of it: nothing may be
 * written into the files before take_over_confirm(). 0, or a negative errno and a sentence in @err;
 * the daemon goes on then. */
int take_over_begin(struct take_over *t, const char *path, struct log *log, char *err,
                    size_t n_err);

/* From now on all of it belongs to this process. 0; else as above, and the daemon goes on. */
int take_over_confirm(struct take_over *t, char *err, size_t n_err);

/* Closes what was not taken out of it. */
void take_over_done(struct take_over *t);

#endif
