/* SPDX-License-Identifier: MIT */
/*
 * Conditions on CLOCK_MONOTONIC, as deadlines are
 */

#include "client/condition.h"

bool condition_init(pthread_mutex_t *mutex, pthread_cond_t *cond)
{
        pthread_condattr_t attr;
        bool done;

        if (pthread_condattr_init(&attr) != 0)
                return false;
        done = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0 &&
               pthread_cond_init(cond, &attr) == 0;
        (void)pthread_condattr_destroy(&attr);
        if (!done)
                return false;
        if (pthread_mutex_init(mutex, NULL) == 0)
                return true;
        (void)pthread_cond_destroy(cond);
        return false;
}

void condition_done(pthread_mutex_t *mutex, pthread_cond_t *cond)
{
        (void)pthread_mutex_destroy(mutex);
        (void)pthread_cond_destroy(cond);
}

bool condition_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, struct deadline d)
{
        struct timespec t;

        if (deadline_is_now(d))
                return false;
        if (deadline_is_never(d))
                return pthread_cond_wait(cond, mutex) == 0;
        t = (struct timespec){(time_t)(d.at_ns / 1000000000u), (long)(d.at_ns % 1000000000u)};
        return pthread_cond_timedwait(cond, mutex, &t) == 0;
}
