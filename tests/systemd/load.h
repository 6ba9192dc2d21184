/* SPDX-License-Identifier: MIT */
#ifndef LOAD_H
#define LOAD_H

/*
 * What the loads on a service have in common: values that say whose they are, clocks, and lines
 * of commands
 */

#include <cached.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The longest restart, in a sanitizer's build on a busy machine. */
#define LOAD_TIMEOUT_MS 20000

#define LOAD_VALUE_MIN 32u
#define LOAD_VALUE_MAX (64u << 10)
#define LOAD_CODES     80u /* the library's end below 80 */

/* How calls of one kind ended. */
struct load_tally {
        atomic_ullong codes[LOAD_CODES];
        atomic_ullong wrong; /* values that were never stored so, or are gone */
};

uint64_t load_now_ns(void); /* CLOCK_MONOTONIC */
void load_sleep_us(uint64_t us);
uint64_t load_random(uint64_t *state);

/* Prints, and ends the process with status 1. */
_Noreturn void load_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A handle that waits for as long as a restart may take in a sanitizer's build. */
cached *load_handle(const char *socket, bool mapped);

/* A value of @n bytes, at least LOAD_VALUE_MIN: its key, its number, its length and a checksum. */
void load_make(uint8_t *value, uint64_t key, uint64_t seq, size_t n);
/* Its number; 0: it is not a value of that key, whole and as it was stored. */
uint64_t load_look(const void *value, size_t n, uint64_t key);

/* Memory that children share. */
void *load_shared(size_t n);
/* Starts a process that ends with this one. Gives its id to the parent, 0 to the child. */
int load_fork(void);

void load_count(struct load_tally *t, int code);
void load_print_tally(const char *name, struct load_tally *t);
void load_keep_larger(atomic_ullong *at, uint64_t value);

/* Reads a line of words; false: the input has ended. Words that are not there are "". */
#define LOAD_WORDS 4
bool load_command(char *words[LOAD_WORDS]);
bool load_is(char *const words[LOAD_WORDS], const char *name);
/* Ends a line of JSON on the standard output. */
void load_answer(void);

int load_ask(int argc, char **argv);
int load_first(int argc, char **argv);
int load_write(int argc, char **argv);
int load_mix(int argc, char **argv);
int load_keep(int argc, char **argv);

#endif
