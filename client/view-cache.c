/* SPDX-License-Identifier: MIT */
/*
 * The places of view-cache.h
 *
 * They are few: a look at each is cheaper than any index. A value that takes the place of an older
 * one of the same entry takes its slot; else the slot goes that was used least recently, whether
 * others still look at its value or not: what they look at stays with them.
 */

#include "client/view-cache.h"

#include <stdlib.h>
#include <string.h>

/* How many places are looked at for the next one that is unused. */
#define LOOKS_MAX 16u

bool view_cache_init(struct view_cache *v, unsigned n_slots)
{
        *v = (struct view_cache){0};
        if (n_slots == 0)
                return true;
        v->slots = calloc(n_slots, sizeof(*v->slots));
        if (!v->slots)
                return false;
        v->n_slots = n_slots;
        return true;
}

void view_cache_done(struct view_cache *v)
{
        free(v->slots);
        *v = (struct view_cache){0};
}

static struct view_file *slot_use(struct view_slot *s, uint64_t now_ns)
{
        s->used_ns = now_ns;
        return view_file_ref(s->file);
}

struct view_file *view_cache_find(struct view_cache *v, uint64_t instance, uint64_t version,
                                  uint64_t now_ns)
{
        for (unsigned i = 0; i < v->n_slots; i++) {
                struct view_slot *s = &v->slots[i];

                if (s->file && s->file->version == version && s->file->instance == instance)
                        return slot_use(s, now_ns);
        }
        return NULL;
}

static struct view_slot *slot_of(struct view_cache *v, const char *cache, const void *key,
                                 size_t n_key)
{
        for (unsigned i = 0; i < v->n_slots; i++) {
                struct view_slot *s = &v->slots[i];

                if (s->file && s->n_key == n_key && !memcmp(s->key, key, n_key) &&
                    !strcmp(s->cache, cache))
                        return s;
        }
        return NULL;
}

struct view_file *view_cache_find_key(struct view_cache *v, const char *cache, const void *key,
                                      size_t n_key, uint64_t now_ns)
{
        struct view_slot *s = slot_of(v, cache, key, n_key);

        return s ? slot_use(s, now_ns) : NULL;
}

struct view_file *view_cache_put(struct view_cache *v, struct view_file *file, const char *cache,
                                 const void *key, size_t n_key, uint64_t now_ns)
{
        size_t n_cache = strlen(cache);
        struct view_slot *s;
        struct view_file *old;

        if (v->n_slots == 0 || n_cache > VIEW_NAME_MAX || n_key > VIEW_KEY_MAX)
                return NULL;
        s = slot_of(v, cache, key, n_key);
        if (!s) {
                s = &v->slots[0];
                for (unsigned i = 0; i < v->n_slots && s->file; i++)
                        if (!v->slots[i].file || v->slots[i].used_ns < s->used_ns)
                                s = &v->slots[i];
        }
        old = s->file;
        s->file = view_file_ref(file);
        s->used_ns = now_ns;
        s->n_key = (uint32_t)n_key;
        memcpy(s->cache, cache, n_cache + 1);
        memcpy(s->key, key, n_key);
        return old;
}

struct view_file *view_cache_take(struct view_cache *v, unsigned slot)
{
        struct view_file *file = v->slots[slot].file;

        v->slots[slot].file = NULL;
        return file;
}

struct view_slot *view_cache_next(struct view_cache *v)
{
        for (unsigned i = 0; i < LOOKS_MAX && i < v->n_slots; i++) {
                struct view_slot *s = &v->slots[v->next++ % v->n_slots];

                if (s->file && view_file_is_unused(s->file))
                        return s;
        }
        return NULL;
}
