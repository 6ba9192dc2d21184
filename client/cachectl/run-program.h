/* SPDX-License-Identifier: MIT */
#ifndef RUN_PROGRAM_H
#define RUN_PROGRAM_H

/*
 * The program that a command names: found, started, or put in our own place
 */

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* What a shell's command not found, or found and not executable, exits with. */
enum { PROGRAM_NOT_EXECUTABLE = 126, PROGRAM_NOT_FOUND = 127 };

/*
 * The file that execvp() would run for @name: itself if there is a slash in it, else the first
 * executable file of that name in $PATH. *ret is freed by the caller. Negative errno: -ENOENT, or
 * why it cannot be executed.
 */
int program_find(const char *name, char **ret);

/* 126 or 127, for a negative errno of these functions. */
int program_status(int error);

/* How the program starts. */
struct program_start {
        const char *path;
        char **argv;
        int fds[3];           /* become its stdin, stdout and stderr; borrowed */
        int kept;             /* stays open in it under its number; 0: none */
        const sigset_t *mask; /* its blocked signals */
        bool default_sigpipe; /* else it inherits what we have */
        bool dies_with_us;    /* however we end it is killed; not so what it has started */
};

/* Negative errno. */
int program_spawn(const struct program_start *s, pid_t *ret);

/* Becomes the program, with the descriptors 0 to 2 as they are. Returns only to fail: -errno. */
int program_become(const char *path, char **argv, bool default_sigpipe);

#endif
