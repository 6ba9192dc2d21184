/* SPDX-License-Identifier: MIT */
/*
 * Reaper
 *
 * The last close() of a memory file gives its pages back one by one: 0.16 ms a MiB, during which a
 * loop would stand still. So it is done on a thread that is there while there is something to do.
 * The queue and its lock are all that it shares with the loop, which never waits for it longer than
 * it takes to link a job.
 *
 * What waits is memory that nobody is charged for any more, so it is bounded: beyond the limit, and
 * where no thread can be had, the caller frees it himself and is slowed down by as much.
 */

#include "base/reaper.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define AT_ONCE_MAX ((size_t)256 * 1024) /* 40 us, as much as starting a thread may take */

struct job {
        struct job *next;
        int fd;
        void *map;
        size_t size;
};

struct reaper {
        pthread_mutex_t lock;
        pthread_cond_t idle; /* the thread has ended */
        struct job *first, *last;
        uint64_t pending, limit; /* bytes */
        bool running;
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

        if (!r)
                return -ENOMEM;
        pthread_mutex_init(&r->lock, NULL);
        pthread_cond_init(&r->idle, NULL);
        *ret = r;
        return 0;
}

static void *run(void *arg)
{
        struct reaper *r = arg;
        struct job *j;

        pthread_mutex_lock(&r->lock);
        while ((j = r->first)) {
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

        if (r->running)
                return true;
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

static bool submit(struct reaper *r, struct job *j)
{
        bool taken;

        pthread_mutex_lock(&r->lock);
        taken = r->limit >= r->pending && j->size <= r->limit - r->pending && need_thread(r);
        if (taken) {
                if (r->last)
                        r->last->next = j;
                else
                        r->first = j;
                r->last = j;
                r->pending += j->size;
        }
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
        while (r->running) /* closing a memory file takes long, but not for ever */
                pthread_cond_wait(&r->idle, &r->lock);
        pthread_mutex_unlock(&r->lock);
        pthread_cond_destroy(&r->idle);
        pthread_mutex_destroy(&r->lock);
        free(r);
        return NULL;
}
