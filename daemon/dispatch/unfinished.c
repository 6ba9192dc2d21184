/* SPDX-License-Identifier: MIT */
/*
 * Unfinished
 *
 * A request of thousands of items would hold up everybody for milliseconds. So an operation may
 * stop after a portion; its frame then stays at the front of its connection's input and comes
 * again, after others had their turns, until the operation is done. Meanwhile what was unpacked of
 * it, and what it noted, stays in the bump allocator that it began with: the dispatcher works with
 * another one. No later request of the connection is begun before.
 *
 * That memory is bounded by how many requests may be unfinished at the same time: while there are
 * so many no large frame is begun; it comes again, like an unfinished one. (Of a frame of up to
 * FRAME_SHORT bytes little can be made; it is carried out to its end if it cannot be kept, but for
 * Drain, which says so.)
 *
 * If the connection ends in between, some of it was carried out and nobody knows how much: should
 * the client come again and repeat the request, the answer is "unknown".
 */
#include "dispatch/unfinished.h"

#include <stdlib.h>

#include "dispatch/repeat.h"

#define UNFINISHED_MAX 4 /* some 1.5 MiB each, of hostile messages up to 6 MiB */
#define FRAME_SHORT    ((uint64_t)16 * 1024)
#define BUMP_FIRST     ((size_t)64 * 1024)

bool unfinished_may_keep(const struct dispatcher *d)
{
        return d->n_unfinished < UNFINISHED_MAX;
}

bool unfinished_may_begin(const struct dispatcher *d, uint64_t n_frame)
{
        return n_frame <= FRAME_SHORT || unfinished_may_keep(d);
}

bool unfinished_keep(struct request *r, uint64_t busy_ns)
{
        struct dispatcher *d = r->d;
        struct unfinished *u;
        if (!unfinished_may_keep(d))
                return false;
        u = malloc(sizeof(*u));
        if (!u)
                return false;
        if (bump_init(&u->bump, BUMP_FIRST, d->bump.limit) < 0) {
                free(u);
                return false;
        }
        bump_swap(&u->bump, &d->bump);
        u->request = *r;
        u->busy_ns = busy_ns;
        r->client->unfinished = u;
        d->n_unfinished++;
        return true;
}

struct request *unfinished_resume(struct client *client, const uint8_t *body, struct upload *upload)
{
        struct unfinished *u = client->unfinished;
        struct request *r = &u->request;
        bump_swap(&u->bump, &client->d->bump);
        r->body = body;
        r->upload = upload;
        r->again = false;
        return r;
}

void unfinished_pause(struct client *client, uint64_t busy_ns)
{
        struct unfinished *u = client->unfinished;
        bump_swap(&u->bump, &client->d->bump);
        u->busy_ns += busy_ns;
}

uint64_t unfinished_finish(struct client *client)
{
        struct unfinished *u = client->unfinished;
        uint64_t busy_ns = u->busy_ns;
        bump_done(
                &u->bump); /* the fresh one: its own is the dispatcher's now, and is reset there */
        free(u);
        client->unfinished = NULL;
        client->d->n_unfinished--;
        return busy_ns;
}

void unfinished_drop(struct client *client)
{
        if (!client->unfinished)
                return;
        repeat_forget(client, client->unfinished->request.id);
        if (client->unfinished->request.sweep)
                clear_end_sweep(&client->unfinished->request);
        client->unfinished->request.filling = upload_free(client->unfinished->request.filling);
        unfinished_finish(client);
}
