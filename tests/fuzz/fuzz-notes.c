/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the notes of an object, among which its build-id is looked for
 *
 * Input: a byte, the alignment; the notes.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "client/code-id.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct code_id id = {.n = 0};
        uint8_t *notes;

        if (n == 0)
                return 0;
        /* Aligned as those of an object are, and no longer than they are. */
        notes = malloc(n);
        assert(notes);
        memcpy(notes, data + 1, n - 1);
        if (code_id_in_notes(notes, n - 1, data[0], &id))
                assert(id.n > 0 && id.n <= CODE_ID_MAX);
        else
                assert(id.n == 0);
        free(notes);
        return 0;
}
