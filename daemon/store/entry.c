/* SPDX-License-Identifier: MIT */
/*
 * Packing entries, see proto/layout.h for the bits
 */

#include "store/entry.h"

#include <string.h>

unsigned entry_ext_fields(const struct entry_extra *x)
{
        return (x->flags ? EXT_FLAGS : 0) | (x->cost_us ? EXT_COST : 0) |
               (x->encoding ? EXT_ENCODING : 0) | (x->fresh.fresh ? EXT_FRESH : 0) |
               (x->marks ? EXT_MARKS : 0) | (x->n_messages ? EXT_MESSAGES : 0) |
               (x->n_tags ? EXT_TAGS : 0);
}

uint32_t entry_ext_size(unsigned fields, unsigned n_tags)
{
        if (fields == 0)
                return 0;
        return arena_ext_offset(fields, EXT_TAGS) +
               (fields & EXT_TAGS ? 4u + n_tags * (uint32_t)sizeof(struct arena_tag) : 0u);
}

static uint8_t *put(uint8_t *p, const void *v, size_t n)
{
        memcpy(p, v, n);
        return p + n;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
        return put(p, &v, 4);
}

static uint8_t *put64(uint8_t *p, uint64_t v)
{
        return put(p, &v, 8);
}

static const uint8_t *get(const uint8_t *p, void *v, size_t n)
{
        memcpy(v, p, n);
        return p + n;
}

static uint8_t *write_ext(uint8_t *p, const struct entry *e)
{
        const struct entry_extra *v = &e->x;
        unsigned fields = entry_ext_fields(v);
        struct arena_ext x = {.n_bytes = (uint16_t)entry_ext_size(fields, v->n_tags),
                              .fields = (uint16_t)fields};

        if (fields == 0)
                return p;
        p = put(p, &x, sizeof(x));
        if (fields & EXT_FLAGS)
                p = put32(p, v->flags);
        if (fields & EXT_COST)
                p = put64(p, v->cost_us);
        if (fields & EXT_ENCODING)
                p = put32(put64(p, v->raw_size), v->encoding);
        if (fields & EXT_FRESH)
                p = put(p, &v->fresh, sizeof(v->fresh));
        if (fields & EXT_MARKS)
                p = put32(p, v->marks);
        if (fields & EXT_MESSAGES)
                p = put64(p, v->n_messages);
        if (fields & EXT_TAGS)
                p = put(put32(p, v->n_tags), v->tags, v->n_tags * sizeof(v->tags[0]));
        return p;
}

void entry_write(struct arena_entry *b, const struct entry *e)
{
        uint32_t kind = (e->large ? ENTRY_LARGE : 0) | (e->extent ? ENTRY_EXTENT : 0) |
                        (e->x.encoding ? ENTRY_ENCODED : 0);
        uint8_t *p = write_ext((uint8_t *)(b + 1), e);

        if (p != (uint8_t *)(b + 1))
                kind |= ENTRY_EXT;
        b->gen = e->gen;
        b->version_lo = (uint32_t)e->version;
        b->deadline_lo = (uint32_t)e->deadline;
        b->hi = (uint32_t)(e->version >> 32) << 20 | (uint32_t)(e->deadline >> 32) << 12 | e->owner;
        b->sizes = e->n_stored << 10 | (e->n_key - 1) << 4 | kind;
        memcpy(p, e->key, e->n_key);
        if (e->n_stored && e->stored)
                memcpy(p + e->n_key, e->stored, e->n_stored);
}

/* Of a block that this daemon wrote, or checked: the numbers in it are its own. */
static void read_ext(const uint8_t *p, struct entry_extra *ret)
{
        struct arena_ext x;
        uint32_t encoding = 0, n_tags = 0;

        p = get(p, &x, sizeof(x));
        if (x.fields & EXT_FLAGS)
                p = get(p, &ret->flags, 4);
        if (x.fields & EXT_COST)
                p = get(p, &ret->cost_us, 8);
        if (x.fields & EXT_ENCODING)
                p = get(get(p, &ret->raw_size, 8), &encoding, 4);
        if (x.fields & EXT_FRESH)
                p = get(p, &ret->fresh, sizeof(ret->fresh));
        if (x.fields & EXT_MARKS)
                p = get(p, &ret->marks, 4);
        if (x.fields & EXT_MESSAGES)
                p = get(p, &ret->n_messages, 8);
        if (x.fields & EXT_TAGS) {
                p = get(p, &n_tags, 4);
                ret->tags = (const void *)p;
        }
        ret->encoding = (uint8_t)encoding;
        ret->n_tags = (uint8_t)n_tags;
}

void entry_read(const struct arena_entry *b, struct entry *ret)
{
        const uint8_t *p = (const uint8_t *)(b + 1);

        /* Field by field: as one initialiser it would be a loop over zeros, which costs more than
         * the rest. */
        ret->gen = b->gen;
        ret->version = (uint64_t)(b->hi >> 20) << 32 | b->version_lo;
        ret->deadline = entry_deadline(b);
        ret->owner = entry_owner(b);
        ret->n_key = entry_n_key(b);
        ret->n_stored = entry_n_stored(b);
        ret->large = b->sizes & ENTRY_LARGE;
        ret->extent = b->sizes & ENTRY_EXTENT;
        ret->x = (struct entry_extra){0};
        if (b->sizes & ENTRY_EXT) {
                read_ext(p, &ret->x);
                p += entry_n_ext(b);
        }
        ret->key = p;
        ret->stored = p + ret->n_key;
}

void entry_set_deadline(struct arena_entry *b, uint64_t deadline)
{
        b->deadline_lo = (uint32_t)deadline;
        b->hi = (b->hi & 0xfff00fff) | (uint32_t)(deadline >> 32) << 12;
}

void entry_set_fresh(struct arena_entry *b, const struct arena_fresh *f)
{
        memcpy(entry_fresh_at(b), f, sizeof(*f));
}
