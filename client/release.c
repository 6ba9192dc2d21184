/* SPDX-License-Identifier: MIT */
/*
 * Telling of released views; see release.h
 *
 * The request is one-way: nobody waits for an answer, and none comes. Whoever holds the numbers
 * guards them.
 */

#include "client/release.h"

#include <cached.h>
#include <stdlib.h>
#include <string.h>

#include "client/call.h"

#define FIRST_SIZE 16u
/* In one request. */
#define IDS_MAX 1024u

void release_done(struct release *r)
{
        free(r->ids);
        *r = (struct release){0};
}

static bool release_reserve(struct release *r, size_t n)
{
        size_t size = r->size ? r->size : FIRST_SIZE;
        uint64_t *ids;

        if (r->size - r->n >= n)
                return true;
        while (size - r->n < n)
                size *= 2;
        ids = reallocarray(r->ids, size, sizeof(*ids));
        if (!ids)
                return false;
        r->ids = ids;
        r->size = size;
        return true;
}

void release_add(struct release *r, uint64_t instance, uint64_t id)
{
        if (r->instance != instance)
                r->n = 0;
        r->instance = instance;
        if (release_reserve(r, 1))
                r->ids[r->n++] = id;
}

void release_move(struct release *from, struct release *to)
{
        if (to->n == 0) {
                struct release empty = *to;

                *to = *from;
                *from = empty;
        } else if (from->n > 0 && from->instance == to->instance && release_reserve(to, from->n)) {
                memcpy(to->ids + to->n, from->ids, from->n * sizeof(*from->ids));
                to->n += from->n;
        }
        from->n = 0;
}

void release_pack(struct release *r, struct conn *conn, struct buffer *out)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Release m = CACHED__V1__RELEASE__INIT;
        size_t done = 0;
        struct failure f;

        if (!conn->has_files || conn->instance != r->instance) {
                r->n = 0;
                return;
        }
        request.op_case = CACHED__V1__REQUEST__OP_RELEASE;
        request.release = &m;
        m.one_way = 1;
        while (done < r->n) {
                m.view_ids = r->ids + done;
                m.n_view_ids = r->n - done < IDS_MAX ? r->n - done : IDS_MAX;
                request.id = conn->next_id;
                if (call_pack(conn, &request, 0, out, &f) != CACHED_OK)
                        break;
                conn->next_id++;
                done += m.n_view_ids;
        }
        r->n -= done;
        if (r->n > 0)
                memmove(r->ids, r->ids + done, r->n * sizeof(*r->ids));
}
