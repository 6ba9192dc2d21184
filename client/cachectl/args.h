/* SPDX-License-Identifier: MIT */
#ifndef ARGS_H
#define ARGS_H

/*
 * Command line words and options, described by rows
 *
 * An option is one row: getopt, the help text and the verb's code all use the same one.
 */

#include <stdbool.h>
#include <stddef.h>

#define ARGS_MAX_OPTIONS 20 /* of one verb, and of the global ones */
#define ARGS_MAX_WORDS   4

struct args_option {
        const char *name;  /* of the long form; NULL ends a list */
        char letter;       /* of the short form, or 0 */
        const char *value; /* what stands for its value in the help; NULL: takes none */
        const char *text;  /* one line of help */
        bool repeats;      /* each value that is given counts, not only the last */
};

struct args_list {
        const char **values; /* borrowed from argv; the array is from malloc() */
        size_t n;
};

/* What was given. Everything is borrowed from argv. */
struct args {
        const char
                *globals[ARGS_MAX_OPTIONS]; /* by the row's index; NULL: not given; "" for a flag */
        const char *options[ARGS_MAX_OPTIONS];
        struct args_list lists[ARGS_MAX_OPTIONS]; /* of the options that repeat */
        char **words;
        int n_words;
        int n_behind; /* so many of them, the last ones, stand behind `--` */
        bool command; /* the words are a command line: the first one ends the options */
};

/*
 * Parses argv[1] and on. With @options NULL it stops at the first word (the verb) and leaves it and
 * the rest in a->words; with a->command set likewise, and a->n_behind is 0. Else options and words
 * may come in any order, and `--` ends the options. Moves words about in argv. What @a holds
 * already stays unless it is given again.
 *
 * Returns NULL, or what is wrong, which the caller frees (or a constant when memory is out: compare
 * with args_no_memory).
 */
const char *args_parse(int argc, char **argv, const struct args_option *globals,
                       const struct args_option *options, struct args *a);

void args_done(struct args *a);

extern const char args_no_memory[];

#endif
