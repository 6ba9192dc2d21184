/* SPDX-License-Identifier: MIT */
#ifndef MEMO_RECORD_H
#define MEMO_RECORD_H

/*
 * What a command printed: written while it runs, read when it is replayed. MEMO.md has the format.
 * Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_HEADER_SIZE 16

enum { RECORD_STDOUT = 0, RECORD_STDERR = 1, RECORD_STREAMS = 2 };

enum {
        RECORD_OK = 0,
        RECORD_E_TOO_LARGE, /* the record would be larger than its limit */
        RECORD_E_DAMAGED,   /* these bytes are no record, or one of another version */
};

/* ---- writing */

struct record_buffer {
        uint8_t *bytes;
        size_t n, capacity;
};

struct record {
        struct record_buffer output; /* room for the header, then what was printed */
        struct record_buffer runs;   /* the runs that have ended */
        size_t limit;                /* of the whole record, in bytes */
        unsigned stream;             /* of the run that goes on */
        uint64_t n_run;              /* its bytes so far; 0: there is none */
        int failed;                  /* 0, RECORD_E_TOO_LARGE or -ENOMEM: sticky, nothing is kept */
};

void record_init(struct record *r, size_t limit);
void record_done(struct record *r);

/* Never fails: a record that cannot be kept is dropped at once, and record_finish() says why. */
void record_add(struct record *r, unsigned stream, const void *bytes, size_t n);

/* Puts the record together. *ret_bytes belongs to @r. RECORD_E_TOO_LARGE, or -ENOMEM. */
int record_finish(struct record *r, uint8_t status, const void **ret_bytes, size_t *ret_n);

/* ---- reading */

struct record_view {
        uint8_t status; /* the command's exit status */
        const uint8_t *output;
        uint64_t n_output; /* what is left of it */
        const uint8_t *runs;
        size_t n_runs; /* in bytes, likewise */
};

/* Checks all of it, so that record_next() cannot fail. Borrows @bytes. RECORD_E_DAMAGED. */
int record_open(const void *bytes, size_t n, struct record_view *ret);

/* The next run. False: that was the last one. */
bool record_next(struct record_view *v, unsigned *ret_stream, const void **ret_bytes,
                 size_t *ret_n);

#endif
