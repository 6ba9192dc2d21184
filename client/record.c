/* SPDX-License-Identifier: MIT */
/*
 * Recorded messages of memoized functions
 *
 * What a function says goes into the record of every computation that its thread is in, since each
 * of them, when it is a hit some day, must say all of it again. It is shown once: to the innermost
 * computation whose options have somebody to show it to. A replay does the same, with the call that
 * is the hit as the innermost.
 *
 * So a run that fails stores nothing, and what was said in it is still part of what the outer ones
 * said. A record that cannot be whole (memory, RECORD_BYTES_MAX) is none: then its value is not
 * stored, because a hit would be silent where the run was not.
 */

#include "client/record.h"

#include <string.h>

#include "client/running.h"
#include "proto/wire.h"

void record_done(struct record *r)
{
        messages_done(&r->messages);
}

static void record_add(struct record *r, const char *type, size_t n_type, const void *data,
                       size_t n)
{
        if (r->code != CACHED_OK)
                return;
        if (n_type + n > RECORD_BYTES_MAX - r->messages.n_bytes)
                r->code = CACHED_TOO_LARGE;
        else
                r->code = messages_add(&r->messages, type, n_type, data, n);
        if (r->code != CACHED_OK)
                messages_done(&r->messages);
}

/* @at: with this computation and those around it. */
static void say(const struct running *at, const struct record *own, const char *type, size_t n_type,
                const void *data, size_t n)
{
        const struct record *shown = own && own->show ? own : NULL;

        for (; at && running_is_ours(at); at = at->outer) {
                record_add(at->record, type, n_type, data, n);
                if (!shown && at->record->show)
                        shown = at->record;
        }
        if (shown)
                shown->show(shown->data, type, data, n);
}

void record_replay(const struct record *own, const struct cached_messages *m)
{
        for (size_t i = 0; i < m->n; i++)
                say(running_top(), own, messages_type(m, i), m->list[i].n_type, messages_data(m, i),
                    m->list[i].n);
}

bool record_is_heard(const struct record *own)
{
        const struct running *top = running_top();

        return own->show || (top && running_is_ours(top));
}

int cached_message(const char *type, const void *data, size_t n)
{
        const struct running *top = running_top();
        size_t n_type;

        if (!type || (!data && n > 0))
                return CACHED_ERR_USAGE;
        n_type = strlen(type);
        if (wire_utf8_prefix(type, n_type) < n_type)
                return CACHED_ERR_USAGE;
        if (!top || !running_is_ours(top))
                return CACHED_NOT_FOUND;
        say(top, NULL, type, n_type, data ? data : "", n);
        return top->record->code;
}
