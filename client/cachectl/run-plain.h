/* SPDX-License-Identifier: MIT */
#ifndef RUN_PLAIN_H
#define RUN_PLAIN_H

/*
 * Runs a command to its end, with our own stdin, stdout and stderr: nothing of it passes through us
 */

#include <stdbool.h>

struct plain {
        const char *path; /* of the program */
        char **argv;
        bool default_sigpipe;
        bool dies_with_us; /* see struct program_start */
        int kept;          /* a descriptor that it inherits under its number; 0: none */
        int news;          /* told() is called once when it can be read meanwhile; -1: nothing */
        void (*told)(void *data);
        void *data;
};

struct plain_end {
        int status;       /* the exit status; 128 + N after signal N */
        int signal;       /* 0, or that which ended it */
        bool by_terminal; /* Ctrl-C was pressed */
};

/* Negative errno: it was not started. */
int plain_run(const struct plain *plain, struct plain_end *ret);

#endif
