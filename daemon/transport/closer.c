/* SPDX-License-Identifier: MIT */
/*
 * Closer, see closer.h
 *
 * The queue below is the only thing that threads of the daemon share, and its lock the only one.
 * The loop never waits for it longer than it takes to link a list; threads hold it only while they
 * choose a job.
 *
 * If no thread can be started the job waits until the next one is submitted: the descriptors stay
 * open, the loop goes on.
 */

#include "transport/closer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define END_WAIT_MS 500 /* closing normally takes microseconds */

struct closer {
        pthread_mutex_t lock;
        pthread_cond_t changed; /* a thread has ended */
        struct closer_job *pending, *pending_last;
        struct closer_job *finished;
        struct closer_job *running[CLOSER_THREADS_MAX];
        unsigned n_threads;
        int event_fd;
};

int closer_new(struct closer **ret)
{
        struct closer *c = calloc(1, sizeof(*c));
        pthread_condattr_t attr;

        if (!c)
                return -ENOMEM;
        c->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (c->event_fd < 0) {
                int r = -errno;
                free(c);
                return r;
        }
        pthread_mutex_init(&c->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&c->changed, &attr);
        pthread_condattr_destroy(&attr);
        *ret = c;
        return 0;
}

static bool is_running(const struct closer *c, const void *owner)
{
        for (unsigned i = 0; i < CLOSER_THREADS_MAX; i++) {
                if (c->running[i] && c->running[i]->owner == owner)
                        return true;
        }
        return false;
}

/* Unlinks the first job whose owner has none at work. Locked. */
static struct closer_job *take_job(struct closer *c)
{
        struct closer_job *prev = NULL;

        for (struct closer_job *j = c->pending; j; prev = j, j = j->next) {
                if (is_running(c, j->owner))
                        continue;
                if (prev)
                        prev->next = j->next;
                else
                        c->pending = j->next;
                if (c->pending_last == j)
                        c->pending_last = prev;
                j->next = NULL;
                return j;
        }
        return NULL;
}

static void *run_jobs(void *arg)
{
        struct closer *c = arg;
        struct closer_job *j;

        pthread_mutex_lock(&c->lock);
        while ((j = take_job(c))) {
                unsigned slot = 0;

                while (c->running[slot]) /* one is free: there are as many as threads */
                        slot++;
                c->running[slot] = j;
                pthread_mutex_unlock(&c->lock);
                for (size_t i = 0; i < j->n_fds; i++)
                        close(j->fds[i]);
                pthread_mutex_lock(&c->lock);
                c->running[slot] = NULL;
                j->next = c->finished;
                c->finished = j;
                eventfd_write(c->event_fd, 1);
        }
        c->n_threads--;
        pthread_cond_broadcast(&c->changed);
        pthread_mutex_unlock(&c->lock);
        return NULL;
}

/* Locked. */
static void start_thread(struct closer *c)
{
        pthread_attr_t attr;
        pthread_t thread;
        sigset_t all, old;

        if (c->n_threads == CLOSER_THREADS_MAX)
                return;
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        (void)pthread_attr_setstacksize(&attr, 128 * 1024); /* refused: the default does too */
        sigfillset(&all);                                   /* signals are for the loop's thread */
        pthread_sigmask(SIG_SETMASK, &all, &old);
        if (pthread_create(&thread, &attr, run_jobs, c) == 0)
                c->n_threads++;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
}

struct closer_job *closer_job_new(void *owner, const int *fds, size_t n_fds)
{
        struct closer_job *j = malloc(sizeof(*j) + n_fds * sizeof(int));

        if (!j)
                return NULL;
        *j = (struct closer_job){.owner = owner, .n_fds = n_fds};
        memcpy(j->fds, fds, n_fds * sizeof(int));
        return j;
}

void closer_submit(struct closer *c, struct closer_job *job)
{
        pthread_mutex_lock(&c->lock);
        job->next = NULL;
        if (c->pending_last)
                c->pending_last->next = job;
        else
                c->pending = job;
        c->pending_last = job;
        if (!is_running(c, job->owner))
                start_thread(c);
        pthread_mutex_unlock(&c->lock);
}

struct closer_job *closer_collect(struct closer *c)
{
        struct closer_job *jobs;
        eventfd_t n;

        (void)eventfd_read(c->event_fd, &n);
        pthread_mutex_lock(&c->lock);
        jobs = c->finished;
        c->finished = NULL;
        pthread_mutex_unlock(&c->lock);
        return jobs;
}

int closer_fd(const struct closer *c)
{
        return c->event_fd;
}

static void free_jobs(struct closer_job *j)
{
        while (j) {
                struct closer_job *next = j->next;
                free(j);
                j = next;
        }
}

struct closer *closer_free(struct closer *c)
{
        struct timespec until;
        bool idle;

        if (!c)
                return NULL;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += END_WAIT_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000L;
        until.tv_nsec %= 1000000000L;
        pthread_mutex_lock(&c->lock);
        while (c->n_threads > 0 && pthread_cond_timedwait(&c->changed, &c->lock, &until) == 0)
                ;
        idle = c->n_threads == 0;
        pthread_mutex_unlock(&c->lock);
        free_jobs(closer_collect(c));
        if (!idle) /* a thread that hangs in close() still refers to it */
                return NULL;
        for (struct closer_job *j = c->pending; j; j = j->next) { /* no thread could be started */
                for (size_t i = 0; i < j->n_fds; i++)
                        close(j->fds[i]);
        }
        free_jobs(c->pending);
        close(c->event_fd);
        pthread_cond_destroy(&c->changed);
        pthread_mutex_destroy(&c->lock);
        free(c);
        return NULL;
}
