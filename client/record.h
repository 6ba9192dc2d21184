/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_RECORD_H
#define CLIENT_RECORD_H

/*
 * What a computation says and reads while it runs: part of a struct running, see record.c
 */

#include <cached.h>
#include <stdbool.h>
#include <stddef.h>

#include "client/messages.h"

struct vary;

/* Of one run, at most. */
#define RECORD_BYTES_MAX ((size_t)256 << 20)

/* Zeroed memory: nothing was said, and nobody is shown anything. */
struct record {
        struct cached_messages messages;
        int code;               /* other than CACHED_OK: why it is not whole, and has none */
        cached_on_message show; /* NULL: nobody */
        void *data;
        struct vary *vary; /* NULL: inputs are not discovered; borrowed */
};

void record_done(struct record *r);

/* Says all of `m` again, as if the thread's computations had: `own` is shown it if it wants to be.
 */
void record_replay(const struct record *own, const struct cached_messages *m);

/* Whether anybody would hear a replay. */
bool record_is_heard(const struct record *own);

#endif
