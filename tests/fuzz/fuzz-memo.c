/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the records of `cachectl memo`
 *
 * Any bytes are refused, or they are a record: its runs add up to the output, in order and without
 * a gap, and writing them again gives a record that says the same, though perhaps in fewer runs.
 */

#include <assert.h>
#include <string.h>

#include "fuzz.h"
#include "memo-record.h"

/* Adds the runs of @v to @r, and returns how many changes of the stream there were. */
static size_t copy_runs(struct record_view v, struct record *r)
{
        const uint8_t *expected = v.output;
        uint64_t n_output = v.n_output, sum = 0;
        unsigned stream, last = RECORD_STREAMS;
        const void *bytes;
        size_t n, changes = 0;

        while (record_next(&v, &stream, &bytes, &n)) {
                assert(stream < RECORD_STREAMS && n > 0 && bytes == expected);
                expected += n;
                sum += n;
                changes += stream != last;
                last = stream;
                record_add(r, stream, bytes, n);
        }
        assert(sum == n_output && v.n_output == 0 && v.n_runs == 0);
        return changes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct record_view v, again;
        struct record first, second;
        const void *bytes;
        size_t n_bytes, changes;

        if (record_open(data, n, &v) != RECORD_OK)
                return 0;
        record_init(&first, n + RECORD_HEADER_SIZE);
        record_init(&second, 0);
        changes = copy_runs(v, &first);
        assert(record_finish(&first, v.status, &bytes, &n_bytes) == RECORD_OK && n_bytes <= n);
        assert(record_open(bytes, n_bytes, &again) == RECORD_OK);
        assert(again.status == v.status && again.n_output == v.n_output);
        assert(memcmp(again.output, v.output, v.n_output) == 0);
        assert(copy_runs(again, &second) == changes);
        record_done(&second);
        record_done(&first);
        return 0;
}
