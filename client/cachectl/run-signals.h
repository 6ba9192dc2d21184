/* SPDX-License-Identifier: MIT */
#ifndef RUN_SIGNALS_H
#define RUN_SIGNALS_H

/*
 * Signals that reach us while a command runs
 */

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

struct signals {
        int fd;           /* readable when one came */
        sigset_t outside; /* what was blocked before: the command's own mask */
        bool interrupted; /* somebody wanted the command to end */
        bool by_terminal; /* Ctrl-C was pressed */
};

/* Negative errno. */
int signals_init(struct signals *s);

/* Signals do again what they did. */
void signals_done(struct signals *s);

/* Takes those that came; hands on to @pid what it did not get by itself. @pid 0: it is gone. */
void signals_take(struct signals *s, pid_t pid);

/* Ends this process as an unhandled signal does. Returns if it is ignored. */
void signals_die(int number);

#endif
