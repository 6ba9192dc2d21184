/* SPDX-License-Identifier: MIT */
/*
 * The list of prepared.h. They are few and large: a list is enough.
 */

#include "client/prepared.h"

#include "client/membuf.h"

void prepared_done(struct prepared *p)
{
        struct cached_buffer *b;

        while ((b = p->first)) {
                p->first = b->next;
                membuf_free(b);
        }
        p->n_bytes = 0;
}

struct prepared prepared_take_all(struct prepared *p)
{
        struct prepared all = *p;

        p->first = NULL;
        for (const struct cached_buffer *b = all.first; b; b = b->next)
                p->n_bytes -= b->n_mapped;
        return all;
}

void prepared_inherit(struct prepared *p, bool is_whole)
{
        if (is_whole)
                prepared_done(p);
        p->first = NULL;
        p->n_bytes = 0;
}

uint64_t prepared_count(const struct prepared *p, uint64_t n_class)
{
        uint64_t n = 0;

        for (const struct cached_buffer *b = p->first; b; b = b->next)
                n += b->n_mapped == n_class;
        return n;
}

bool prepared_reserve(struct prepared *p, uint64_t n_class)
{
        if (n_class > p->max_bytes || p->n_bytes > p->max_bytes - n_class)
                return false;
        p->n_bytes += n_class;
        return true;
}

void prepared_unreserve(struct prepared *p, uint64_t n_class)
{
        p->n_bytes -= n_class;
}

void prepared_put(struct prepared *p, struct cached_buffer *b)
{
        b->next = p->first;
        p->first = b;
}

struct cached_buffer *prepared_take(struct prepared *p, uint64_t n_class)
{
        for (struct cached_buffer **at = &p->first; *at; at = &(*at)->next) {
                struct cached_buffer *b = *at;

                if (b->n_mapped != n_class)
                        continue;
                *at = b->next;
                b->next = NULL;
                p->n_bytes -= n_class;
                return b;
        }
        return NULL;
}
