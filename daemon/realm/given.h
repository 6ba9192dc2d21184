/* SPDX-License-Identifier: MIT */
#ifndef GIVEN_H
#define GIVEN_H

/*
 * Given: the descriptors that another daemon left, by their names. See given.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Names have at most 5 characters: a service manager gives all of them back in one string of
 * limited length. */
#define GIVEN_NAME_MAX 5

/* What a name says. The number is written in base 36, without zeros in front. */
enum given_kind {
        GIVEN_NONE = 0,
        GIVEN_ARENA,    /* a0: of the realm with that number */
        GIVEN_TABLE,    /* t0 */
        GIVEN_LARGE,    /* L0: a large value of any realm */
        GIVEN_RESOURCE, /* R0: of a resource; anything, which nobody has looked at */
        N_GIVEN_KINDS,
};

struct given_file {
        enum given_kind kind;
        uint32_t number;
        int fd; /* owned; -1: taken */
        uint64_t ino;
};

/* A descriptor as a service manager passed it. */
struct given_name {
        char *name;   /* owned */
        int fd;       /* borrowed; -1: it was closed. Numbers are used again: see `ino` */
        uint64_t ino; /* of a memory file; 0: it is none, or of a resource */
};

struct given {
        struct given_file *files;
        size_t n, n_allocated;
        uint64_t instance;         /* of the daemon that left them; 0: none of them says so */
        uint8_t *names;            /* that came, a bit each */
        size_t n_refused;          /* descriptors that were not taken in */
        struct given_name *passed; /* all of them, where a service manager passed them */
        size_t n_passed, n_passed_allocated;
};

/* The kind and number that a name says; GIVEN_NONE: it is none of ours. */
enum given_kind given_parse(const char *name, uint32_t *ret_number);
void given_name(char ret[GIVEN_NAME_MAX + 1], enum given_kind kind, uint32_t number);
/* Whether a number fits into a name. */
bool given_fits(uint32_t number);

/* Takes a descriptor in, and consumes it in any case. NULL: it is in; else why it was closed. */
const char *given_add(struct given *g, const char *name, int fd);

/* Likewise, and notes the name for given_take_names(), whatever becomes of the descriptor. */
const char *given_add_passed(struct given *g, const char *name, int fd);
/* The names, to be the caller's: with free() each, and the list. */
void given_take_names(struct given *g, struct given_name **ret, size_t *ret_n);

/* Whether this looks like a memory file of a daemon's: never blocks, whatever @fd is. */
bool given_is_memory(int fd);

/* Hands a descriptor out, to be the caller's. -1: there is none. */
int given_take(struct given *g, enum given_kind kind, uint32_t number);

/* Refuses all of them after all. */
void given_refuse(struct given *g);

/* Hands out any one of this kind, with its number; -1: there is none (any more). *at is 0 at the
 * start. */
int given_next(struct given *g, enum given_kind kind, size_t *at, uint32_t *ret_number);

/* Closes what nobody took. Fine on a zeroed one. */
void given_done(struct given *g);

#endif
