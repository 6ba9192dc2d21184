/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_NAMES_H
#define CLIENT_NAMES_H

/*
 * The ids that stand for cache names on one connection, as OpenCache told them. A small table that
 * is searched from its latest hit; a cache that finds no room in it is sent by name.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NAMES_MAX 128

struct name {
        char *name;
        uint32_t id; /* 0: known to have none yet */
};

struct names {
        struct name *at;
        uint32_t n, latest;
};

static inline struct name *names_find(struct names *t, const char *name)
{
        if (t->n == 0)
                return NULL;
        if (!strcmp(t->at[t->latest].name, name))
                return &t->at[t->latest];
        for (uint32_t i = 0; i < t->n; i++)
                if (!strcmp(t->at[i].name, name)) {
                        t->latest = i;
                        return &t->at[i];
                }
        return NULL;
}

/* The entry of the name, a new one if need be. NULL: no room or no memory. */
static inline struct name *names_put(struct names *t, const char *name, uint32_t id)
{
        struct name *n = names_find(t, name);

        if (!n) {
                char *copy;

                if (t->n == NAMES_MAX)
                        return NULL;
                if (!t->at)
                        t->at = calloc(NAMES_MAX, sizeof(*t->at));
                copy = t->at ? strdup(name) : NULL;
                if (!copy)
                        return NULL;
                n = &t->at[t->n++];
                n->name = copy;
        }
        n->id = id;
        return n;
}

static inline uint32_t names_id(struct names *t, const char *name)
{
        const struct name *n = names_find(t, name);

        return n ? n->id : 0;
}

static inline void names_done(struct names *t)
{
        for (uint32_t i = 0; i < t->n; i++)
                free(t->at[i].name);
        free(t->at);
        *t = (struct names){0};
}

#endif
