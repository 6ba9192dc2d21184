/* SPDX-License-Identifier: MIT */
/*
 * Reaper
 *
 * The last close() of a memory file gives its pages back one by one: 0.16 ms a MiB, during which a
 * loop would stand still. So it is done on a thread, which starts when there is something to do and
 * ends when there was nothing for a second. The queue and its lock are all that it shares with the
 * loop, which never waits for it longer than it takes to link a job.
 *
 * Even to start or to wake a thread takes as long as a request, so the loop says when: after it has
 * answered. And nobody waits for what is freed, so the thread never runs instead of the loop where
 * both want the same processor, be the daemon's priority a real-time one.
 *
 * What waits is memory that nobody is charged for any more, so it is bounded: beyond the limit, and
 * where no thread can be had, the caller frees it himself and is slowed down by as much.
 */

#include "base/reaper.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE_MAX ((size_t)256 * 1024) /* 40 us, as much as starting a thread may take */
#define WAIT_MAX    ((uint64_t)64 << 20) /* so much does not wait for a kick */
#define LINGER_S    1

struct job {
        struct job *next;
        int fd;
        void *map;
        size_t size;
};

struct reaper {
        pthread_mutex_t lock;
        pthread_cond_t work; /* for the thread: there is some, or it is to end */
        pthread_cond_t idle; /* the thread has ended */
        struct job *first, *last;
        uint64_t pending, limit; /* bytes */
        uint64_t unkicked;       /* bytes that came since the last kick */
        bool running, waiting;   /* the thread is there; it has nothing to do */
        bool ending;
};

static void free_now(int fd, void *map, size_t size)
{
        if (map)
                munmap(map, size);
        if (fd >= 0)
                close(fd);
}

int reaper_new(struct reaper **ret)
{
        struct reaper *r = calloc(1, sizeof(*r));
        pthread_condattr_t attr;

        if (!r)
                return -ENOMEM;
        pthread_mutex_init(&r->lock, NULL);
        pthread_condattr_init(&attr);
        pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        pthread_cond_init(&r->work, &attr);
        pthread_condattr_destroy(&attr);
        pthread_cond_init(&r->idle, NULL);
        *ret = r;
        return 0;
}

/* Locked. False: there was nothing to do for long. */
static bool wait_for_work(struct reaper *r)
{
        struct timespec until;
        int e = 0;

        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += LINGER_S;
        r->waiting = true;
        while (!r->first && !r->ending && e == 0)
                e = pthread_cond_timedwait(&r->work, &r->lock, &until);
        r->waiting = false;
        return r->first != NULL;
}

static void *run(void *arg)
{
        struct reaper *r = arg;
        struct job *j;

        /* Never in front of the loop. Where that is refused it runs as the loop does. */
        (void)sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){0});
        pthread_mutex_lock(&r->lock);
        while (r->first || wait_for_work(r)) {
                j = r->first;
                r->first = j->next;
                if (!r->first)
                        r->last = NULL;
                pthread_mutex_unlock(&r->lock);
                free_now(j->fd, j->map, j->size);
                pthread_mutex_lock(&r->lock);
                r->pending -= j->size;
                free(j);
        }
        r->running = false;
        pthread_cond_broadcast(&r->idle);
        pthread_mutex_unlock(&r->lock);
        return NULL;
}

/* Locked. */
static bool need_thread(struct reaper *r)
{
        pthread_attr_t attr;
        pthread_t thread;
        sigset_t all, old;

        if (r->running) {
                if (r->waiting)
                        pthread_cond_signal(&r->work);
                return true;
        }
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        (void)pthread_attr_setstacksize(&attr, 128 * 1024); /* refused: the default does too */
        sigfillset(&all);                                   /* signals are for the loop's thread */
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r->running = pthread_create(&thread, &attr, run, r) == 0;
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        pthread_attr_destroy(&attr);
        return r->running;
}

static void link_job(struct reaper *r, struct job *j)
{
        if (r->last)
                r->last->next = j;
        else
                r->first = j;
        r->last = j;
        r->pending += j->size;
        r->unkicked += j->size;
}

/* Locked. What was linked is for the thread; where none can be had the caller does it all. */
static void kick(struct reaper *r)
{
        struct job *j;

        r->unkicked = 0;
        if (!r->first || need_thread(r))
                return;
        while ((j = r->first)) {
                r->first = j->next;
                free_now(j->fd, j->map, j->size);
                r->pending -= j->size;
                free(j);
        }
        r->last = NULL;
}

static bool submit(struct reaper *r, struct job *j)
{
        bool taken;

        pthread_mutex_lock(&r->lock);
        taken = r->limit >= r->pending && j->size <= r->limit - r->pending;
        if (taken)
                link_job(r, j);
        if (r->unkicked > WAIT_MAX)
                kick(r);
        pthread_mutex_unlock(&r->lock);
        return taken;
}

void reaper_take(struct reaper *r, int fd, void *map, size_t size)
{
        struct job *j = r && size > AT_ONCE_MAX ? malloc(sizeof(*j)) : NULL;

        if (j) {
                *j = (struct job){.fd = fd, .map = map, .size = size};
                if (submit(r, j))
                        return;
                free(j);
        }
        free_now(fd, map, size);
}

void reaper_kick(struct reaper *r)
{
        pthread_mutex_lock(&r->lock);
        if (r->unkicked > 0)
                kick(r);
        pthread_mutex_unlock(&r->lock);
}

void reaper_set_limit(struct reaper *r, uint64_t bytes)
{
        pthread_mutex_lock(&r->lock);
        r->limit = bytes;
        pthread_mutex_unlock(&r->lock);
}

uint64_t reaper_pending(struct reaper *r)
{
        uint64_t n;

        pthread_mutex_lock(&r->lock);
        n = r->pending;
        pthread_mutex_unlock(&r->lock);
        return n;
}

struct reaper *reaper_free(struct reaper *r)
{
        if (!r)
                return NULL;
        pthread_mutex_lock(&r->lock);
        r->ending = true;
        kick(r);
        if (r->waiting)
                pthread_cond_signal(&r->work);
        while (r->running) /* closing a memory file takes long, but not for ever */
                pthread_cond_wait(&r->idle, &r->lock);
        pthread_mutex_unlock(&r->lock);
        pthread_cond_destroy(&r->work);
        pthread_cond_destroy(&r->idle);
        pthread_mutex_destroy(&r->lock);
        free(r);
        return NULL;
}
