/* SPDX-License-Identifier: MIT */
#ifndef RUN_COMMAND_H
#define RUN_COMMAND_H

/*
 * Runs a command to its end: what it prints goes to our own stdout and stderr as it comes, and into
 * a record
 */

#include "memo-record.h"

#include <stdbool.h>
#include <stdint.h>

struct command {
        const char *path; /* of the program */
        char **argv;
        int input; /* its stdin; borrowed */
        bool default_sigpipe;
        bool spinner;      /* where there is a terminal */
        const char *title; /* what the spinner says */
        struct record *record;
        void (*dropped)(void *data); /* called once when nothing will be recorded; NULL: nothing */
        void *data;                  /* for it */
};

struct command_end {
        int status;       /* the exit status; 128 + N after signal N */
        int signal;       /* 0, or that which ended it */
        bool interrupted; /* it was asked to end, whatever it made of it */
        bool by_terminal; /* by Ctrl-C */
        int lost;         /* 0, or why not all of its output could be written: an errno */
        uint64_t took_us;
};

/* Negative errno: it was not started. */
int command_run(const struct command *command, struct command_end *ret);

#endif
