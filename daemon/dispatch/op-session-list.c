/* SPDX-License-Identifier: MIT */
/*
 * ListSessions: a page of the realm's sessions, without what they hold. A page ends at page_size or
 * when the message is full, whichever comes first; it may be short, since the sessions of others
 * count.
 */
#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/reply.h"
#include "dispatch/session-message.h"

#define FIELD_OVERHEAD 8 /* tag and length of one item, at most */

struct page {
        struct request *r;
        Cached__V1__SessionInfo **items;
        size_t n, room;
        bool out_of_memory;
};

static bool visit(void *ctx, const struct session_ref *ref)
{
        struct page *p = ctx;
        struct session_message *m = bump_alloc(&p->r->d->bump, sizeof(*m));
        if (!m) {
                p->out_of_memory = true;
                return false;
        }
        session_message_init(m, p->r, ref);
        size_t n = cached__v1__session_info__get_packed_size(&m->info) + FIELD_OVERHEAD;
        if (n > p->room)
                return false;
        p->room -= n;
        p->items[p->n++] = &m->info;
        return true;
}

enum status op_list_sessions(struct request *r)
{
        const Cached__V1__ListSessions *msg = r->msg->list_sessions;
        uint32_t max = decode_page_size(r, msg->page_size);
        uint64_t cursor = msg->cursor;
        struct page p = {
                .r = r,
                .items = bump_alloc_array(&r->d->bump, max, sizeof(*p.items)),
                .room = (size_t)r->d->cfg->limits.message_bytes - REPLY_SMALL,
        };
        bool all = r->client->role >= ACCESS_ADMIN;
        if (p.items)
                session_list(&r->who, all, max, &cursor, visit, &p);
        if (!p.items || (p.out_of_memory && p.n == 0))
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the listing: try again later");
        Cached__V1__ListSessionsResult result = CACHED__V1__LIST_SESSIONS_RESULT__INIT;
        result.n_sessions = p.n;
        result.sessions = p.items;
        result.next = cursor;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_LIST_SESSIONS;
        reply.list_sessions = &result;
        return reply_message(r, &reply);
}
