/* SPDX-License-Identifier: MIT */
#ifndef RUN_SPINNER_H
#define RUN_SPINNER_H

/*
 * A sign of life on the terminal, with the time that has passed
 */

#include <stdbool.h>
#include <stdint.h>

struct spinner {
        bool on;
        bool drawn;
        uint64_t started_ms, next_ms;
        unsigned turn;
        const char *what; /* borrowed */
};

/* On stderr, if that is a terminal that can. @what: what runs. */
void spinner_init(struct spinner *s, bool wanted, const char *what);

/* How long poll() may sleep; -1: as long as it wants. */
int spinner_timeout_ms(const struct spinner *s);

void spinner_tick(struct spinner *s);

/* Takes it off the screen, for good. */
void spinner_end(struct spinner *s);

/* The same for a signal handler that ends us, after something was drawn. */
void spinner_erase(void);

#endif
