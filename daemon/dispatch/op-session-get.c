/* SPDX-License-Identifier: MIT */
/*
 * SessionGet: the values of some keys, or of all, as one body.
 */
#include "dispatch/reply.h"
#include "dispatch/session-message.h"

static enum status get_some(struct request *r, const struct session_ref *ref,
                            struct session_item *items)
{
        const Cached__V1__SessionGet *msg = r->msg->session_get;
        struct session_item *answer;
        struct session_items_room room;
        enum status status = decode_session_items(r, msg->n_keys, &answer);
        if (status == STATUS_OK)
                status = session_items_room(r, msg->n_keys, &room);
        for (size_t i = 0; status == STATUS_OK && i < msg->n_keys; i++)
                status = decode_session_key(r, msg->keys[i], &items[i]);
        if (status == STATUS_OK)
                status = decode_session_sort(r, items, msg->n_keys);
        if (status != STATUS_OK)
                return status;
        session_items_find(&ref->record, items, msg->n_keys);
        for (size_t i = 0; i < msg->n_keys; i++)
                answer[items[i].place] = items[i];
        return session_answer_items(r,
                                    &(struct session_items_reply){
                                            .items = answer,
                                            .n = msg->n_keys,
                                            .version = ref->record.version,
                                            .values = !msg->without_values,
                                            .with_status = true,
                                    },
                                    &room);
}

static enum status get_all(struct request *r, const struct session_ref *ref)
{
        const Cached__V1__SessionGet *msg = r->msg->session_get;
        uint32_t n = ref->record.n_items, i = 0;
        struct session_item *items = bump_alloc_array(&r->d->bump, (size_t)n + 1, sizeof(*items));
        if (!items)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for %u items: ask for some of them",
                                   (unsigned)n);
        struct session_items_room room;
        enum status status = session_items_room(r, n, &room);
        if (status != STATUS_OK)
                return status;
        for (const uint8_t *at = NULL; i < n && session_record_next(&ref->record, &at, &items[i]);)
                i++;
        return session_answer_items(r,
                                    &(struct session_items_reply){
                                            .items = items,
                                            .n = i,
                                            .version = ref->record.version,
                                            .values = !msg->without_values,
                                    },
                                    &room);
}

enum status op_session_get(struct request *r)
{
        const Cached__V1__SessionGet *msg = r->msg->session_get;
        struct session_ref ref;
        struct session_item *items;
        enum status status = decode_session_items(r, msg->n_keys, &items);
        if (status == STATUS_OK)
                status = session_of_token(r, &msg->token, &ref);
        if (status != STATUS_OK)
                return status;
        return msg->n_keys > 0 ? get_some(r, &ref, items) : get_all(r, &ref);
}
