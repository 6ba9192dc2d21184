/* SPDX-License-Identifier: MIT */

/*
 * Records of what a command printed
 *
 * A header of fixed size, all output in the order of arrival, then the runs: how many bytes in a
 * row belong to which stream. So the output lies in one piece, is appended as it comes, and is
 * written from where it lies; a chatty command costs a byte or two for each change of the stream.
 *
 * Memory is bounded by the limit: output and runs count alike, and what goes beyond it drops the
 * record while the command goes on.
 *
 * The reader trusts nothing: it walks all runs before it hands out the first, and what does not add
 * up exactly is damaged.
 */

#include "memo-record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * The header, little-endian:
 *   0  4  "memo"
 *   4  1  version
 *   5  1  exit status
 *   6  2  zero
 *   8  8  bytes of output, which follow; after them, to the end, the runs
 */
#define MAGIC        "memo"
#define VERSION_AT   4
#define STATUS_AT    5
#define ZERO_AT      6
#define N_OUTPUT_AT  8
#define THIS_VERSION 1

#define FIRST_CAPACITY 4096
#define VARINT_MAX     10

/* -------------------------------------------------------------------------------------- writing */

static int buffer_append(struct record_buffer *b, const void *bytes, size_t n)
{
        if (n > b->capacity - b->n) {
                /* Far from overflow: the limit of a record is. */
                size_t capacity = FIRST_CAPACITY + b->capacity + b->capacity / 2;
                uint8_t *grown;

                if (capacity < b->n + n)
                        capacity = b->n + n;
                grown = realloc(b->bytes, capacity);
                if (!grown)
                        return -ENOMEM;
                b->bytes = grown;
                b->capacity = capacity;
        }
        memcpy(b->bytes + b->n, bytes, n);
        b->n += n;
        return 0;
}

static void buffer_done(struct record_buffer *b)
{
        free(b->bytes);
        *b = (struct record_buffer){NULL, 0, 0};
}

void record_init(struct record *r, size_t limit)
{
        static const uint8_t header[RECORD_HEADER_SIZE];

        *r = (struct record){.limit = limit < SIZE_MAX / 4 ? limit : SIZE_MAX / 4};
        if (r->limit < RECORD_HEADER_SIZE)
                r->failed = RECORD_E_TOO_LARGE;
        else
                r->failed = buffer_append(&r->output, header, sizeof(header));
}

void record_done(struct record *r)
{
        buffer_done(&r->output);
        buffer_done(&r->runs);
}

static void fail(struct record *r, int why)
{
        record_done(r);
        r->failed = why;
}

static size_t varint_write(uint8_t out[VARINT_MAX], uint64_t v)
{
        size_t n = 0;

        for (; v >= 128; v >>= 7)
                out[n++] = (uint8_t)(v | 128);
        out[n++] = (uint8_t)v;
        return n;
}

/* Writes the run that went on, if there is one. */
static int end_run(struct record *r)
{
        uint8_t varint[VARINT_MAX];
        size_t n;

        if (r->n_run == 0)
                return 0;
        n = varint_write(varint, r->n_run << 1 | r->stream);
        r->n_run = 0;
        return buffer_append(&r->runs, varint, n);
}

void record_add(struct record *r, unsigned stream, const void *bytes, size_t n)
{
        int error = 0;

        if (n == 0 || r->failed)
                return;
        if (r->stream != stream)
                error = end_run(r);
        /* The run that begins here counts in full, so that record_finish() has room for it. */
        if (error == 0 && (n > r->limit || r->output.n + r->runs.n + VARINT_MAX > r->limit - n)) {
                fail(r, RECORD_E_TOO_LARGE);
                return;
        }
        if (error == 0)
                error = buffer_append(&r->output, bytes, n);
        if (error < 0) {
                fail(r, error);
                return;
        }
        r->stream = stream;
        r->n_run += n;
}

int record_finish(struct record *r, uint8_t status, const void **ret_bytes, size_t *ret_n)
{
        uint64_t n_output;

        if (!r->failed && end_run(r) < 0)
                fail(r, -ENOMEM);
        if (r->failed)
                return r->failed;
        n_output = r->output.n - RECORD_HEADER_SIZE;
        if (r->runs.n > 0 && buffer_append(&r->output, r->runs.bytes, r->runs.n) < 0) {
                fail(r, -ENOMEM);
                return -ENOMEM;
        }
        memcpy(r->output.bytes, MAGIC, sizeof(MAGIC) - 1);
        r->output.bytes[VERSION_AT] = THIS_VERSION;
        r->output.bytes[STATUS_AT] = status;
        for (int i = 0; i < 8; i++)
                r->output.bytes[N_OUTPUT_AT + i] = (uint8_t)(n_output >> (8 * i));
        *ret_bytes = r->output.bytes;
        *ret_n = r->output.n;
        return RECORD_OK;
}

/* -------------------------------------------------------------------------------------- reading */

/* Bytes read; 0: there is no number in its shortest form that fits into 64 bits. */
static size_t varint_read(const uint8_t *p, size_t n, uint64_t *ret)
{
        uint64_t v = 0;

        for (size_t i = 0; i < n && i < VARINT_MAX; i++) {
                if (i == VARINT_MAX - 1 && p[i] > 1)
                        return 0;
                v |= (uint64_t)(p[i] & 127) << (7 * i);
                if (p[i] & 128)
                        continue;
                if (i > 0 && p[i] == 0)
                        return 0;
                *ret = v;
                return i + 1;
        }
        return 0;
}

static bool runs_add_up(const uint8_t *runs, size_t n_runs, uint64_t n_output)
{
        while (n_runs > 0) {
                uint64_t run, n;
                size_t k = varint_read(runs, n_runs, &run);

                n = k ? run >> 1 : 0;
                if (n == 0 || n > n_output)
                        return false;
                n_output -= n;
                runs += k;
                n_runs -= k;
        }
        return n_output == 0;
}

int record_open(const void *bytes, size_t n, struct record_view *ret)
{
        const uint8_t *p = bytes;
        uint64_t n_output = 0;

        if (n < RECORD_HEADER_SIZE || memcmp(p, MAGIC, sizeof(MAGIC) - 1) != 0 ||
            p[VERSION_AT] != THIS_VERSION || p[ZERO_AT] != 0 || p[ZERO_AT + 1] != 0)
                return RECORD_E_DAMAGED;
        for (int i = 0; i < 8; i++)
                n_output |= (uint64_t)p[N_OUTPUT_AT + i] << (8 * i);
        p += RECORD_HEADER_SIZE;
        n -= RECORD_HEADER_SIZE;
        if (n_output > n || !runs_add_up(p + n_output, n - n_output, n_output))
                return RECORD_E_DAMAGED;
        *ret = (struct record_view){
                .status = ((const uint8_t *)bytes)[STATUS_AT],
                .output = p,
                .n_output = n_output,
                .runs = p + n_output,
                .n_runs = n - n_output,
        };
        return RECORD_OK;
}

bool record_next(struct record_view *v, unsigned *ret_stream, const void **ret_bytes, size_t *ret_n)
{
        uint64_t run;
        size_t k = varint_read(v->runs, v->n_runs, &run);

        if (k == 0)
                return false;
        *ret_stream = run & 1 ? RECORD_STDERR : RECORD_STDOUT;
        *ret_bytes = v->output;
        *ret_n = run >> 1;
        v->output += run >> 1;
        v->n_output -= run >> 1;
        v->runs += k;
        v->n_runs -= k;
        return true;
}
