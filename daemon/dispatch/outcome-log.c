/* SPDX-License-Identifier: MIT */
/*
 * Outcome log
 *
 * Two pages of half the allowed size each. Outcomes are appended to the one in use; when it is full
 * the other one is forgotten and takes its place. So at least half of the size is always
 * remembered, nothing wraps around, and adding is a copy. Pages are allocated when they are first
 * needed: a client that changes nothing has none.
 *
 * An id that is not found was never carried out if it is larger than all that may be missing: the
 * last id of a page that was forgotten, and ids that could not be kept for want of memory. Every
 * doubt is decided for "unknown".
 *
 * What the messages mean is not known here.
 */
#include "dispatch/outcome-log.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct outcome {
        uint64_t id;
        uint64_t n; /* bytes that follow, then padding; 0: the reply was too long to keep */
};

struct outcome_page {
        size_t used, size;
        uint64_t last; /* the largest id in it */
        struct outcome first[];
};

static size_t space_for(size_t n)
{
        const size_t unit = sizeof(struct outcome);
        return unit + (n + unit - 1) / unit * unit;
}

static void forget(struct outcome_log *log, uint64_t id)
{
        if (id > log->forgotten)
                log->forgotten = id;
}

/* Makes an empty page the one in use. False: no memory, nothing changed. */
static bool turn_page(struct outcome_log *log, size_t size)
{
        struct outcome_page *next = log->older;
        if (!next || next->size != size) {
                next = malloc(sizeof(*next) + size);
                if (!next)
                        return false;
        }
        if (log->older) {
                forget(log, log->older->last);
                if (log->older != next)
                        free(log->older);
        }
        *next = (struct outcome_page){.size = size};
        log->older = log->page;
        log->page = next;
        return true;
}

void outcome_log_add(struct outcome_log *log, uint64_t id, const uint8_t *msg, size_t n,
                     size_t n_most)
{
        size_t size = n_most / 2 / sizeof(struct outcome) * sizeof(struct outcome);
        if (n > size || space_for(n) > size)
                n = 0;
        size_t need = space_for(n);
        struct outcome_page *page = log->page;
        if (__builtin_expect(!page || need > page->size - page->used, 0)) {
                if (need > size || !turn_page(log, size)) {
                        forget(log, id);
                        return;
                }
                page = log->page;
        }
        uint8_t *at = (uint8_t *)page->first + page->used;
        const struct outcome outcome = {.id = id, .n = n};
        memcpy(at, &outcome, sizeof(outcome));
        if (n > 0)
                memcpy(at + sizeof(outcome), msg, n);
        page->used += need;
        if (id > page->last)
                page->last = id;
}

/* The outcome of @id in @page (NULL is fine), else NULL. */
static const struct outcome *find_in(const struct outcome_page *page, uint64_t id)
{
        if (!page)
                return NULL;
        const uint8_t *start = (const uint8_t *)page->first;
        for (size_t at = 0; at < page->used;) {
                const struct outcome *o = (const struct outcome *)(const void *)(start + at);
                if (o->id == id)
                        return o;
                at += space_for(o->n);
        }
        return NULL;
}

int outcome_log_find(const struct outcome_log *log, uint64_t id, const uint8_t **ret_msg,
                     size_t *ret_n)
{
        const struct outcome *o = find_in(log->page, id);
        if (!o)
                o = find_in(log->older, id);
        if (!o)
                return id > log->forgotten ? OUTCOME_E_NEVER : OUTCOME_E_UNKNOWN;
        if (o->n == 0)
                return OUTCOME_E_UNKNOWN;
        *ret_msg = (const uint8_t *)(o + 1);
        *ret_n = o->n;
        return OUTCOME_FOUND;
}

void outcome_log_done(struct outcome_log *log)
{
        assert(log->page || !log->older);
        free(log->page);
        free(log->older);
        *log = (struct outcome_log){0};
}
