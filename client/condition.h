/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CONDITION_H
#define CLIENT_CONDITION_H

/*
 * A mutex, and a condition that threads wait for with deadlines
 */

#include <pthread.h>
#include <stdbool.h>

#include "client/deadline.h"

/* False: no memory. */
bool condition_init(pthread_mutex_t *mutex, pthread_cond_t *cond);
void condition_done(pthread_mutex_t *mutex, pthread_cond_t *cond);

/* With the mutex. False: the deadline passed. */
bool condition_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, struct deadline d);

#endif
