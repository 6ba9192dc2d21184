/* SPDX-License-Identifier: MIT */
#ifndef CLOSER_H
#define CLOSER_H

/*
 * Closer: closes descriptors whose close() may hang, on threads of its own
 *
 * Each job belongs to an owner (in practice: a uid). One owner has at most one thread at work, so
 * that an owner's descriptor that hangs for ever costs one thread and holds up that owner's jobs
 * only. At most CLOSER_THREADS_MAX owners can do so at the same time; after that, jobs of others
 * wait too. A thread ends when there is nothing to do.
 */

#include <stddef.h>

#define CLOSER_THREADS_MAX 8

struct closer;

struct closer_job {
        struct closer_job *next;
        void *owner; /* compared only, never followed */
        size_t n_fds;
        int fds[];
};

int closer_new(struct closer **ret);

/* Waits a bounded time for jobs to end; what hangs on is left to the end of the process. The
 * finished jobs that were not collected are freed. NULL is fine; returns NULL. */
struct closer *closer_free(struct closer *c);

/* An eventfd, borrowed: readable when finished jobs can be collected. */
int closer_fd(const struct closer *c);

/* NULL: no memory. */
struct closer_job *closer_job_new(void *owner, const int *fds, size_t n_fds);

/* Consumes the job. */
void closer_submit(struct closer *c, struct closer_job *job);

/* Takes the chain of finished jobs; the caller frees each with free(). NULL: none. */
struct closer_job *closer_collect(struct closer *c);

#endif
