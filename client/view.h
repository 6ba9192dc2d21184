/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_VIEW_H
#define CLIENT_VIEW_H

/*
 * Looking at values in place: struct cached_view of the public header, and gets of large values,
 * which look and copy
 */

#include <cached.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/failure.h"
#include "client/view-file.h"

/* Memory of one's own, or a share of a value. */
struct cached_view {
        struct view_file *file; /* a reference; NULL: none */
        uint8_t *data;          /* never NULL */
        uint64_t n;
        uint64_t version;
        bool is_mapped; /* `data` is a mapping of this view's own */
        uint8_t *heap;  /* likewise, malloc's */
};

/*
 * view_new() - a view of a value
 * @file:  a reference, consumed in any case
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM with *f set.
 */
int view_new(struct view_file *file, int mode, struct failure *f, struct cached_view **ret);
/* @heap: malloc's, consumed in any case. NULL: out of memory. */
struct cached_view *view_new_own(uint8_t *heap, uint64_t n, uint64_t version);

/* Copies in memory of our own are kept for the next look from this size on. */
#define VIEW_COPY_MIN (UINT64_C(64) << 10)
/* Up to this size a get's value is a copy; what is longer is shown in place. */
#define VIEW_GET_COPY_MAX (UINT64_C(4) << 20)

/* What is to be found, and how. */
struct view_want {
        const char *cache;
        const void *key;
        size_t n_key;
        bool no_touch;
        bool only_large;    /* the arena was asked for what lies in itself */
        bool keeps;         /* a copy is kept for the next look */
        bool with_messages; /* what is at hand does not have them: the daemon is asked */
        uint32_t patience_ms;
};

/* What was found: a reference to a value, or memory that has it; or neither: then the reply has a
 * body. */
struct view_found {
        struct view_file *file;
        uint8_t *heap;
        uint64_t n;
        uint64_t version;
};

/*
 * view_look() - finds a value without the daemon
 *
 * Return: false: it has to be asked, nothing happened. Else *ret_code is the get's; *ret_reply is
 * set if there was memory for it, and has no body.
 */
bool view_look(cached *c, const struct view_want *w, struct view_found *ret,
               struct cached_reply **ret_reply, int *ret_code);

/* Looks whether one of the values that are kept still is what its entry has, and lets go of it
 * otherwise. Cheap; from every call. */
void view_tend(cached *c);

/*
 * view_get() - a get of a value that a memory file may have
 * @is_own:  the value can be written to
 *
 * Return: as cached_get().
 */
int view_get(cached *c, const struct view_want *w, bool is_own, cached_reply **ret);

/*
 * view_take() - the value of a reply to a Get that came without it: reply_is_without_body()
 * @have:  what it may say that is unchanged; consumed; may be NULL
 *
 * Afterwards it is as view_get()'s. Return: CACHED_OK; else *f is set, and the reply can only be
 * freed.
 */
int view_take(cached *c, const struct view_want *w, struct view_file *have, bool is_own,
              struct cached_reply *r, struct failure *f);

#endif
