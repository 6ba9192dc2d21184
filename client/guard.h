/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_GUARD_H
#define CLIENT_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Zeroed memory is a guard that nobody holds. */
struct guard {
        _Atomic uint64_t word; /* pid << 32 | state */
};

/*
 * Who we are, without a system call each time: a page that the kernel empties in a child. NULL:
 * there is none, and the kernel is asked.
 */
struct guard_self {
        _Atomic uint32_t *pid;
};

void guard_self_init(struct guard_self *s);
void guard_self_done(struct guard_self *s);
uint32_t guard_pid(const struct guard_self *s);

/* What guard_lock() found. */
enum guard_found {
        GUARD_MINE,   /* nothing unusual */
        GUARD_FORKED, /* the first lock in this process; at the fork nobody held it: the data is
                         whole */
        GUARD_TORN,   /* likewise, but somebody held it: the data may be half changed */
};

enum guard_found guard_lock(struct guard *g, const struct guard_self *self);
void guard_unlock(struct guard *g);

#endif
