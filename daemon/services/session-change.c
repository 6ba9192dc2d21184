/* SPDX-License-Identifier: MIT */
/*
 * Session change: one record and what is to happen to it make the next one
 *
 * What is there is copied, item after item but for those that are changed or left out; new keys
 * come behind. So the old record is whole until the new one takes its place, which the store does
 * in one step: no change of several items is ever seen, or left by a crash, in part.
 *
 * A lane remembers only what changed something: whatever changed nothing can be carried out anew.
 */
#include "services/session-change.h"

#include "services/session-private.h"

static uint8_t *put_varint(uint8_t *to, uint64_t x)
{
        for (; x >= 0x80; x >>= 7)
                *to++ = (uint8_t)(x | 0x80);
        *to++ = (uint8_t)x;
        return to;
}

static uint8_t *put_bytes(uint8_t *to, const void *bytes, size_t n)
{
        if (n > 0)
                memcpy(to, bytes, n);
        return to + n;
}

/* Without its value, if that is NULL. */
static uint8_t *put_item(uint8_t *to, const struct session_item *item)
{
        to = put_varint(to, item->version);
        *to++ = (uint8_t)((item->n_key - 1) | (item->flags != 0 ? ITEM_HAS_FLAGS : 0));
        to = put_varint(to, item->n_value);
        if (item->flags != 0) {
                session_put(to, item->flags, 4);
                to += 4;
        }
        to = put_bytes(to, item->key, item->n_key);
        return item->value ? put_bytes(to, item->value, item->n_value) : to;
}

/* ---- what was carried out before */

static bool find_lane(const struct session_record *r, uint64_t lane, struct session_lane *ret)
{
        for (const uint8_t *at = NULL; session_record_lane(r, &at, ret);)
                if (ret->lane == lane)
                        return true;
        return false;
}

/* The answer of the first time, which is in the lane. */
static void recall(const struct session_lane *lane, struct session_change *c,
                   struct session_result *ret)
{
        ret->again = true;
        ret->version = lane->version;
        for (size_t i = 0; c->kind == SESSION_DELETE_ITEMS && i < c->n_items; i++)
                c->items[i].found = i / 8 < lane->n_answer && (lane->answer[i / 8] >> (i % 8)) & 1;
        if (c->n_items == 0)
                return;
        ret->item = c->items[0];
        ret->item.version = lane->version;
        ret->item.value = NULL;
        ret->item.n_value = 0;
        if (c->kind == SESSION_APPEND_ITEM && lane->n_answer == 4)
                ret->item.n_value = (uint32_t)session_take(lane->answer, 4);
        if (c->kind == SESSION_INCREMENT_ITEM && lane->n_answer <= sizeof(ret->text)) {
                memcpy(ret->text, lane->answer, lane->n_answer);
                ret->item.value = (const uint8_t *)ret->text;
                ret->item.n_value = lane->n_answer;
        }
}

static int look_back(const struct session_record *r, struct session_change *c,
                     struct session_result *ret)
{
        struct session_lane lane;
        if (!c->has_operation)
                return SESSION_CHANGE_OK;
        if (!find_lane(r, c->lane, &lane))
                return c->repeated && r->forgot ? SESSION_CHANGE_E_UNKNOWN : SESSION_CHANGE_OK;
        if (c->number > lane.number)
                return SESSION_CHANGE_OK;
        if (!c->repeated)
                return SESSION_CHANGE_E_NUMBER;
        if (c->number < lane.number)
                return SESSION_CHANGE_E_UNKNOWN;
        recall(&lane, c, ret);
        return SESSION_CHANGE_OK;
}

/* What is to be remembered of it. Returns its length. */
static size_t make_answer(const struct session_change *c, const struct session_result *result,
                          uint8_t *to)
{
        size_t n = 0;
        switch (c->kind) {
        case SESSION_DELETE_ITEMS:
                n = (c->n_items + 7) / 8;
                memset(to, 0, n);
                for (size_t i = 0; i < c->n_items; i++)
                        to[i / 8] |= (uint8_t)(c->items[i].found << (i % 8));
                break;
        case SESSION_INCREMENT_ITEM:
                n = result->item.n_value;
                memcpy(to, result->text, n);
                break;
        case SESSION_APPEND_ITEM:
                n = 4;
                session_put(to, result->item.n_value, 4);
                break;
        case SESSION_SET_ITEMS:
        case SESSION_CLEAR_ITEMS:
                break;
        }
        return n;
}

/* The lanes of the new record: those that were there, the one used least recently first, and that
 * of this change behind them. */
static uint8_t *put_lanes(const struct session_record *r, const struct session_change *c,
                          const struct session_result *result, uint8_t *record, uint8_t *to)
{
        struct session_lane lane;
        bool known = c->has_operation && find_lane(r, c->lane, &lane);
        bool skip = c->has_operation && !known && r->n_lanes == SESSION_LANES;
        uint8_t n_lanes = 1;
        if (!c->has_operation)
                return put_bytes(to, r->lanes, (size_t)(r->items - r->lanes));
        if (skip)
                record[HEAD_FLAGS] |= SESSION_FORGOT;
        for (const uint8_t *at = NULL; session_record_lane(r, &at, &lane); skip = false) {
                if (skip || lane.lane == c->lane)
                        continue;
                to = put_bytes(to, lane.begin, (size_t)(lane.end - lane.begin));
                n_lanes++;
        }
        record[HEAD_N_LANES] = n_lanes;
        uint8_t *head = to;
        session_put(head, c->lane, 8);
        session_put(head + 8, c->number, 8);
        to = put_varint(head + LANE_HEAD, result->version);
        size_t n = make_answer(c, result, to);
        session_put(head + 16, n, 2);
        return to + n;
}

/* ---- what each kind does to an item */

struct next {
        struct session_change *c;
        uint32_t n_items;
        uint64_t n_stored;
        size_t n_found; /* of the change's items, in the old record */
};

static int check_mode(const struct session_change *c, struct session_result *ret)
{
        const struct session_item *there = c->items[0].found ? &ret->item : NULL;
        if (there && c->mode == SESSION_ADD_ONLY)
                return SESSION_CHANGE_E_EXISTS;
        if (!there && (c->mode == SESSION_REPLACE_ONLY || c->compare))
                return SESSION_CHANGE_E_MISSING;
        if (there && c->compare && there->version != c->expected_version)
                return SESSION_CHANGE_E_VERSION;
        return SESSION_CHANGE_OK;
}

static int count_on(const struct session_change *c, struct session_result *ret)
{
        struct session_number before = c->start, sum;
        int k = SESSION_NUMBER_OK;
        if (c->items[0].found)
                k = session_number_read(ret->item.value, ret->item.n_value, c->by.is_real, &before);
        else if (!c->has_start)
                return SESSION_CHANGE_E_MISSING;
        if (k == SESSION_NUMBER_OK)
                k = session_number_add(&before, &c->by, &sum);
        if (k != SESSION_NUMBER_OK)
                return k == SESSION_NUMBER_E_TEXT ? SESSION_CHANGE_E_TEXT
                                                  : SESSION_CHANGE_E_OVERFLOW;
        ret->item.n_value = (uint32_t)session_number_write(&sum, ret->text);
        ret->item.value = (const uint8_t *)ret->text;
        return SESSION_CHANGE_OK;
}

/* What the item of increment and append will be: ret->item, which is what is there now. */
static int make_item(const struct session_change *c, struct session_result *ret)
{
        if (c->kind == SESSION_INCREMENT_ITEM)
                return count_on(c, ret);
        uint64_t n = (uint64_t)ret->item.n_value + c->items[0].n_value;
        if (c->append_max > 0 && n > c->append_max)
                n = c->append_max;
        if (n > UINT32_MAX) {
                ret->would_be = n;
                return SESSION_CHANGE_E_STORED;
        }
        ret->item.n_value = (uint32_t)n;
        return SESSION_CHANGE_OK;
}

/* The end of what was there and what is appended, as much as there is room for. */
static uint8_t *put_appended(uint8_t *to, const struct session_result *result,
                             const struct session_item *old, const struct session_item *more)
{
        struct session_item head = result->item;
        head.value = NULL;
        to = put_item(to, &head);
        size_t n_more = more->n_value < head.n_value ? more->n_value : head.n_value;
        size_t n_old = head.n_value - n_more;
        if (n_old > 0)
                to = put_bytes(to, old->value + old->n_value - n_old, n_old);
        return put_bytes(to, more->value + more->n_value - n_more, n_more);
}

static uint8_t *put_changed(uint8_t *to, const struct session_change *c,
                            const struct session_result *result, const struct session_item *old,
                            const struct session_item *wanted)
{
        struct session_item item = *wanted;
        item.version = result->version;
        if (c->kind == SESSION_APPEND_ITEM)
                return put_appended(to, result, old, wanted);
        if (c->kind == SESSION_INCREMENT_ITEM)
                item = result->item;
        return put_item(to, &item);
}

/* Of each of the change's items: is it there? Of a single one also what it is: ret->item. Only a
 * record that nobody of us wrote has a key twice: the first one counts. */
static void look(const struct session_record *r, struct next *next, struct session_result *ret)
{
        struct session_change *c = next->c;
        struct session_item item;
        for (size_t i = 0; i < c->n_items; i++)
                c->items[i].found = false;
        next->n_items = r->n_items;
        next->n_stored = r->n_stored;
        for (const uint8_t *at = NULL;
             next->n_found < c->n_items && session_record_next(r, &at, &item);) {
                struct session_item *wanted = session_items_search(c->items, c->n_items, &item);
                if (!wanted || wanted->found)
                        continue;
                ret->item = item;
                wanted->found = true;
                next->n_found++;
                next->n_items--;
                next->n_stored -= (uint64_t)item.n_key + item.n_value;
        }
}

/* What remains of it within the bounds? */
static int check_bounds(const struct session_record *r, struct next *next,
                        struct session_result *ret)
{
        const struct session_change *c = next->c;
        bool one = c->kind == SESSION_INCREMENT_ITEM || c->kind == SESSION_APPEND_ITEM;
        for (size_t i = 0; c->kind != SESSION_DELETE_ITEMS && i < c->n_items; i++) {
                next->n_items++;
                next->n_stored += (uint64_t)c->items[i].n_key +
                                  (one ? ret->item.n_value : c->items[i].n_value);
        }
        if (next->n_items > r->n_items &&
            (next->n_items > c->max_keys || next->n_items > SESSION_ITEMS_MAX)) {
                ret->would_be = next->n_items;
                return SESSION_CHANGE_E_KEYS;
        }
        if (next->n_stored > r->n_stored && next->n_stored > c->max_stored) {
                ret->would_be = next->n_stored;
                return SESSION_CHANGE_E_STORED;
        }
        return SESSION_CHANGE_OK;
}

/* @n_found of the change's items are there. Whatever lies between them stays as it is. */
static uint8_t *put_items(const struct session_record *r, struct session_change *c,
                          const struct session_result *result, size_t n_found, uint8_t *to)
{
        struct session_item item;
        bool deletes = c->kind == SESSION_DELETE_ITEMS;
        const uint8_t *at = r->items, *from = at;
        if (c->kind == SESSION_CLEAR_ITEMS)
                return to;
        while (n_found > 0) {
                const uint8_t *begin = at;
                if (!session_record_next(r, &at, &item))
                        break;
                struct session_item *wanted = session_items_search(c->items, c->n_items, &item);
                if (!wanted || wanted->done)
                        continue;
                to = put_bytes(to, from, (size_t)(begin - from));
                if (!deletes)
                        to = put_changed(to, c, result, &item, wanted);
                wanted->done = true;
                from = at;
                n_found--;
        }
        to = put_bytes(to, from, (size_t)(r->bytes + r->n - from));
        /* New ones in the order in which they were named, which sorting has changed. */
        for (size_t place = 0; !deletes && place < c->n_items; place++) {
                const struct session_item *wanted = &c->items[c->items[place].moved];
                if (!wanted->done)
                        to = put_changed(to, c, result, &(struct session_item){0}, wanted);
        }
        return to;
}

size_t session_change_room(const struct session_record *r, const struct session_change *c)
{
        size_t n = r->n + LANE_HEAD + VARINT_MAX + c->n_items / 8 + 1 + SESSION_NUMBER_ROOM;
        for (size_t i = 0; i < c->n_items; i++)
                n += (size_t)ITEM_OVERHEAD + c->items[i].n_key + c->items[i].n_value;
        return n;
}

/* What becomes of the items? *ret_nothing: nothing changes. */
static int decide(const struct session_record *r, struct next *next, struct session_result *ret,
                  bool *ret_nothing)
{
        struct session_change *c = next->c;
        int k = SESSION_CHANGE_OK;
        look(r, next, ret);
        switch (c->kind) {
        case SESSION_SET_ITEMS:
                if (c->mode != SESSION_ANY || c->compare)
                        k = check_mode(c, ret);
                break;
        case SESSION_DELETE_ITEMS:
                *ret_nothing = next->n_found == 0;
                break;
        case SESSION_CLEAR_ITEMS:
                *ret_nothing = r->n_items == 0;
                next->n_items = 0;
                next->n_stored = 0;
                break;
        case SESSION_INCREMENT_ITEM:
        case SESSION_APPEND_ITEM:
                if (!c->items[0].found) {
                        ret->item = c->items[0];
                        ret->item.n_value = 0;
                }
                k = make_item(c, ret);
                break;
        }
        if (k == SESSION_CHANGE_OK && !*ret_nothing)
                k = check_bounds(r, next, ret);
        return k;
}

int session_change(const struct session_record *r, struct session_change *c, uint8_t *to,
                   struct session_result *ret)
{
        struct next next = {.c = c};
        bool nothing = false;
        *ret = (struct session_result){.version = r->version};
        int k = look_back(r, c, ret);
        if (k != SESSION_CHANGE_OK || ret->again)
                return k;
        k = decide(r, &next, ret, &nothing);
        if (k != SESSION_CHANGE_OK || nothing)
                return k;
        ret->version = r->version + 1;
        ret->item.version = ret->version;
        uint8_t *at = put_bytes(to, r->bytes, (size_t)(r->lanes - r->bytes));
        session_put(to + HEAD_VERSION, ret->version, 8);
        session_put(to + HEAD_N_ITEMS, next.n_items, 4);
        at = put_lanes(r, c, ret, to, at);
        at = put_items(r, c, ret, next.n_found, at);
        ret->n = (size_t)(at - to);
        return SESSION_CHANGE_OK;
}
