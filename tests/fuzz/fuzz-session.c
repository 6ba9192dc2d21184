/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: records of sessions
 *
 * The first byte says which change is made; the rest is the record. One that is taken is walked,
 * and what the change makes of it is a whole record again, within the room that was asked for.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "services/session-change.h"

static void change(const struct session_record *r, uint8_t which)
{
        static const uint8_t key[] = "a", value[] = "12345";
        struct session_item item = {.key = key, .n_key = 1, .value = value, .n_value = 5};
        struct session_change c = {
                .kind = which % (SESSION_APPEND_ITEM + 1),
                .items = &item,
                .n_items = which % (SESSION_APPEND_ITEM + 1) == SESSION_CLEAR_ITEMS ? 0 : 1,
                .by.integer = 1,
                .has_start = which & 0x10,
                .append_max = which & 0x20 ? 3 : 0,
                .has_operation = which & 0x40,
                .repeated = which & 0x80,
                .lane = which & 0x08,
                .number = 2,
                .max_keys = UINT64_MAX,
                .max_stored = UINT64_MAX,
        };
        struct session_result result;
        assert(session_items_sort(&item, 1));
        size_t room = session_change_room(r, &c);
        uint8_t *to = malloc(room);
        assert(to);
        if (session_change(r, &c, to, &result) == SESSION_CHANGE_OK && result.n > 0) {
                struct session_record next;
                assert(result.n <= room);
                bool whole = session_record_read(to, result.n, &next);
                assert(whole);
                assert(next.version == result.version);
        }
        free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        if (n == 0)
                return 0;
        uint8_t *bytes = malloc(n);
        struct session_record r;
        assert(bytes);
        memcpy(bytes, data + 1, n - 1);
        if (session_record_read(bytes, n - 1, &r)) {
                struct session_item item;
                uint32_t n_items = 0;
                for (const uint8_t *at = NULL; session_record_next(&r, &at, &item);) {
                        assert(item.n_key >= 1 && item.n_key <= SESSION_ITEM_KEY);
                        n_items++;
                }
                assert(n_items == r.n_items);
                change(&r, data[0]);
        }
        free(bytes);
        return 0;
}
