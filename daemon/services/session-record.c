/* SPDX-License-Identifier: MIT */
/*
 * Session record: head, label, lanes, items, one behind the other
 *
 * Items are in the order in which their keys were first set, and looked up by walking: a session
 * has some ten of them, and a table would cost more than it saves. Small numbers take one byte, so
 * that an item costs three bytes beside its key and value.
 *
 * A record is checked from end to end before anything of it is used, since it may come from memory
 * that another process left; after that it is walked without further checks of its bounds.
 */
#include "services/session-record.h"

#include <stdlib.h>

#include "services/session-private.h"

_Static_assert(HEAD_VERIFIER + SESSION_VERIFIER == SESSION_RECORD_HEAD, "the head has no gap");
_Static_assert(HEAD_UNTIL + 8 == SESSION_RECORD_HEAD + SESSION_RECORD_BOUND, "nor its rest");

/* At most 64 bits, seven a byte, the lowest first. False: it does not end within @end. */
static bool take_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
        uint64_t x = 0;
        for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
                uint8_t byte = *(*at)++;
                x |= (uint64_t)(byte & 0x7f) << shift;
                if (!(byte & 0x80)) {
                        *ret = x;
                        return true;
                }
        }
        return false;
}

static bool take_item(const uint8_t **at, const uint8_t *end, struct session_item *ret)
{
        uint64_t n_value;
        *ret = (struct session_item){.found = true};
        if (!take_varint(at, end, &ret->version) || *at == end)
                return false;
        uint8_t n_key = *(*at)++;
        ret->n_key = (n_key & ~ITEM_HAS_FLAGS) + 1u;
        if (!take_varint(at, end, &n_value) || n_value > UINT32_MAX)
                return false;
        ret->n_value = (uint32_t)n_value;
        if (n_key & ITEM_HAS_FLAGS) {
                if (end - *at < 4)
                        return false;
                ret->flags = (uint32_t)session_take(*at, 4);
                *at += 4;
        }
        if ((uint64_t)(end - *at) < (uint64_t)ret->n_key + ret->n_value)
                return false;
        ret->key = *at;
        ret->value = *at + ret->n_key;
        *at = ret->value + ret->n_value;
        return true;
}

static bool take_lane(const uint8_t **at, const uint8_t *end, struct session_lane *ret)
{
        ret->begin = *at;
        if (end - *at < (ptrdiff_t)LANE_HEAD)
                return false;
        ret->lane = session_take(*at, 8);
        ret->number = session_take(*at + 8, 8);
        ret->n_answer = (uint16_t)session_take(*at + 16, 2);
        *at += LANE_HEAD;
        if (!take_varint(at, end, &ret->version) || end - *at < ret->n_answer)
                return false;
        ret->answer = *at;
        *at += ret->n_answer;
        ret->end = *at;
        return true;
}

static bool read_head(const uint8_t *b, size_t n, struct session_record *r)
{
        if (n < SESSION_RECORD_HEAD || b[HEAD_LAYOUT] != SESSION_LAYOUT ||
            (b[HEAD_FLAGS] & ~(SESSION_BOUND | SESSION_FORGOT)) != 0 ||
            b[HEAD_N_LABEL] > SESSION_LABEL_MAX || b[HEAD_N_LANES] > SESSION_LANES)
                return false;
        *r = (struct session_record){
                .bytes = b,
                .n = n,
                .verifier = b + HEAD_VERIFIER,
                .n_label = b[HEAD_N_LABEL],
                .bound = b[HEAD_FLAGS] & SESSION_BOUND,
                .forgot = b[HEAD_FLAGS] & SESSION_FORGOT,
                .created_ms = session_take(b + HEAD_CREATED, 8),
                .idle_ms = session_take(b + HEAD_IDLE, 8),
                .version = session_take(b + HEAD_VERSION, 8),
                .n_items = (uint32_t)session_take(b + HEAD_N_ITEMS, 4),
                .n_lanes = b[HEAD_N_LANES],
        };
        size_t n_head = SESSION_RECORD_HEAD + (r->bound ? SESSION_RECORD_BOUND : 0);
        if (r->n_items > SESSION_ITEMS_MAX || n < n_head + r->n_label)
                return false;
        r->label = b + n_head;
        if (r->bound) {
                r->grace_ms = (uint32_t)session_take(b + HEAD_GRACE, 4);
                r->until_ms = session_take(b + HEAD_UNTIL, 8);
        }
        return true;
}

bool session_record_read(const void *bytes, size_t n, struct session_record *ret)
{
        if (!read_head(bytes, n, ret))
                return false;
        const uint8_t *at = ret->label + ret->n_label, *end = ret->bytes + n;
        ret->lanes = at;
        struct session_lane lane;
        for (unsigned i = 0; i < ret->n_lanes; i++)
                if (!take_lane(&at, end, &lane))
                        return false;
        ret->items = at;
        struct session_item item;
        for (uint32_t i = 0; i < ret->n_items; i++) {
                if (!take_item(&at, end, &item))
                        return false;
                ret->n_stored += (uint64_t)item.n_key + item.n_value;
        }
        return at == end;
}

bool session_record_next(const struct session_record *r, const uint8_t **at,
                         struct session_item *ret)
{
        const uint8_t *end = r->bytes + r->n;
        if (!*at)
                *at = r->items;
        return *at < end && take_item(at, end, ret);
}

bool session_record_lane(const struct session_record *r, const uint8_t **at,
                         struct session_lane *ret)
{
        if (!*at)
                *at = r->lanes;
        return *at < r->items && take_lane(at, r->items, ret);
}

static int compare_keys(const void *a, const void *b)
{
        const struct session_item *x = a, *y = b;
        int c = memcmp(x->key, y->key, x->n_key < y->n_key ? x->n_key : y->n_key);
        return c != 0 ? c : (x->n_key > y->n_key) - (x->n_key < y->n_key);
}

bool session_items_sort(struct session_item *items, size_t n)
{
        for (size_t i = 0; i < n; i++)
                items[i].place = (uint32_t)i;
        if (n > 1)
                qsort(items, n, sizeof(*items), compare_keys);
        for (size_t i = 1; i < n; i++)
                if (compare_keys(&items[i - 1], &items[i]) == 0)
                        return false;
        for (size_t i = 0; i < n; i++)
                items[items[i].place].moved = (uint32_t)i;
        return true;
}

struct session_item *session_items_search(struct session_item *items, size_t n,
                                          const struct session_item *what)
{
        if (n == 1) /* mostly */
                return items->n_key == what->n_key &&
                                       memcmp(items->key, what->key, what->n_key) == 0
                               ? items
                               : NULL;
        return n == 0 ? NULL : bsearch(what, items, n, sizeof(*items), compare_keys);
}

void session_items_find(const struct session_record *r, struct session_item *items, size_t n)
{
        struct session_item item;
        size_t n_missing = n;
        for (size_t i = 0; i < n; i++)
                items[i].found = false;
        for (const uint8_t *at = NULL; n_missing > 0 && session_record_next(r, &at, &item);) {
                struct session_item *wanted = session_items_search(items, n, &item);
                if (wanted && !wanted->found) {
                        item.place = wanted->place;
                        item.moved = wanted->moved;
                        *wanted = item;
                        n_missing--;
                }
        }
}

size_t session_record_new(const struct session_record_new *what, uint8_t *to)
{
        size_t n = SESSION_RECORD_HEAD;
        memset(to, 0, SESSION_RECORD_HEAD);
        to[HEAD_LAYOUT] = SESSION_LAYOUT;
        to[HEAD_FLAGS] = what->bound ? SESSION_BOUND : 0;
        to[HEAD_N_LABEL] = (uint8_t)what->n_label;
        session_put(to + HEAD_CREATED, what->created_ms, 8);
        session_put(to + HEAD_IDLE, what->idle_ms, 8);
        memcpy(to + HEAD_VERIFIER, what->verifier, SESSION_VERIFIER);
        if (what->bound) {
                session_put(to + HEAD_GRACE, what->grace_ms, 4);
                session_put(to + HEAD_UNTIL, what->until_ms, 8);
                n += SESSION_RECORD_BOUND;
        }
        if (what->n_label > 0)
                memcpy(to + n, what->label, what->n_label);
        return n + what->n_label;
}

void session_record_bind(const struct session_record *r, uint64_t until_ms, uint8_t *to)
{
        memcpy(to, r->bytes, r->n);
        session_put(to + HEAD_UNTIL, until_ms, 8);
}
