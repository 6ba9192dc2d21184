/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_WATCH_H
#define CLIENT_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "client/guard.h"

/* One descriptor, readable when a socket is ready or a moment has come. */
struct watch {
        int fd; /* for the caller's event loop; -1: there is no watch */
        int timer;
        const struct guard_self *self; /* borrowed */
        uint32_t pid;                  /* who made it; in a child it belongs to the parent */
        uint32_t events;               /* of the socket: EPOLLIN, EPOLLOUT; 0: there is none */
        uint64_t alarm_ns;             /* CLOCK_MONOTONIC; UINT64_MAX: none is set */
        bool rang;                     /* that moment has come, and the descriptor says so */
};

#define WATCH_NONE ((struct watch){.fd = -1, .timer = -1})

/* Negative errno. `self` is used as long as the watch lives. */
int watch_init(struct watch *w, const struct guard_self *self);
void watch_done(struct watch *w);

/* Is this process the one that made it? */
bool watch_is_ours(const struct watch *w);

/* Ready when one of `events` comes true. False: out of memory. Before a socket is closed, 0 events.
 */
bool watch_socket(struct watch *w, int fd, uint32_t events);

/* Looks at the clock; watch_alarm() ends the ringing. */
void watch_look(struct watch *w);

/* Ready at `at_ns`, or somewhat earlier; UINT64_MAX: needed no more. */
void watch_alarm(struct watch *w, uint64_t at_ns);

#endif
