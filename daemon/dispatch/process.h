/* SPDX-License-Identifier: MIT */
#ifndef PROCESS_H
#define PROCESS_H

/*
 * Processes: whose connections these are, and what is to be done when one ends. See process.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/list.h"

#define PROCESS_BUCKETS 256u

struct client;
struct dispatcher;
struct peer_watch;

struct processes {
        struct list buckets[PROCESS_BUCKETS]; /* by pid: those that can be watched */
};

struct process {
        struct list of_bucket;
        struct list ends;         /* of who is told, by `node` */
        struct peer_watch *watch; /* NULL: it cannot be watched, and ends with its connection */
        pid_t pid;
        unsigned refs;
        bool ended;
};

/* Somebody who is told, once. */
struct process_end {
        struct list node;
        void (*on_end)(void *ctx);
        void *ctx;
};

void processes_init(struct processes *all);

/* That of the client's connection, watched from the first call on: client->process, which the
 * client keeps. It may have ended. 0; -ESRCH: it had before this; -EMFILE, -ENFILE: no descriptor
 * to watch it by; -ENOMEM … */
int process_of(struct client *client, struct process **ret);

/* That of a predecessor's client, by its mark: a reference. 0; -ESRCH: it has ended; -errno. */
struct process_mark;
int process_again(struct dispatcher *d, pid_t pid, const struct process_mark *mark,
                  struct process **ret);

/* One that outlives its connections. */
struct process *process_ref(struct process *p);
struct process *process_unref(struct process *p); /* NULL is fine; returns NULL */

/* @end is the caller's, who may undo it at any time, also when nothing was done. */
void process_listen(struct process *p, struct process_end *end, void (*on_end)(void *ctx),
                    void *ctx);
void process_unlisten(struct process_end *end);

#endif
