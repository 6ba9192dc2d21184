/* SPDX-License-Identifier: MIT */
#ifndef RUN_ORDER_H
#define RUN_ORDER_H

/*
 * Two pipes from one command, and in which order it wrote to them
 */

#include <stdbool.h>
#include <stdint.h>

#define ORDER_PIPES 2

struct order {
        int epoll;
        int writers[ORDER_PIPES]; /* our own hold of the command's ends; -1: given up */
        bool exact;               /* one write at a time fits into each pipe */
        unsigned tokens;          /* reads that may still be paid for; see run-order.c */
        uint64_t filled_ms;       /* when tokens were added last */
};

/*
 * Makes the pipes. *ret_readers are non-blocking and the caller's; the command gets o->writers,
 * which order_release() closes here once it runs no more. Negative errno, and nothing is left
 * behind.
 */
int order_init(struct order *o, int ret_readers[ORDER_PIPES]);
void order_done(struct order *o);

/* The pipe that has something to read, or its end, and has had it longest; -1: none. Each is told
 * once for each write (or run of them), to be read as order_read_on() says. */
int order_next(struct order *o);

/*
 * After a read. Whether to read on until the pipe is empty; else one read was what order_next()
 * told of, and what follows will be told again.
 */
bool order_read_on(struct order *o);

/* When both pipes were found empty: order may become exact again. */
void order_idle(struct order *o);

/* The command is gone: the ends of what it left are seen from now on. */
void order_release(struct order *o);

#endif
