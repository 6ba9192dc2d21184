/* SPDX-License-Identifier: MIT */
/*
 * Packing entries, see proto/layout.h for the bits
 */

#include "store/entry.h"

#include <string.h>

uint32_t entry_ext_size(uint32_t flags, uint64_t cost_us, bool encoded)
{
        uint32_t n = (flags ? 4u : 0u) + (cost_us ? 8u : 0u) + (encoded ? 12u : 0u);

        return n ? n + (uint32_t)sizeof(struct arena_ext) : 0;
}

static uint8_t *put32(uint8_t *p, uint32_t v)
{
        memcpy(p, &v, 4);
        return p + 4;
}

static uint8_t *put64(uint8_t *p, uint64_t v)
{
        memcpy(p, &v, 8);
        return p + 8;
}

static const uint8_t *get32(const uint8_t *p, uint32_t *v)
{
        memcpy(v, p, 4);
        return p + 4;
}

static const uint8_t *get64(const uint8_t *p, uint64_t *v)
{
        memcpy(v, p, 8);
        return p + 8;
}

static uint8_t *write_ext(uint8_t *p, const struct entry *e)
{
        uint32_t n = entry_ext_size(e->flags, e->cost_us, e->encoding != 0);
        struct arena_ext x = {.n_bytes = (uint16_t)n};

        if (n == 0)
                return p;
        x.fields = (uint16_t)((e->flags ? EXT_FLAGS : 0) | (e->cost_us ? EXT_COST : 0) |
                              (e->encoding ? EXT_ENCODING : 0));
        memcpy(p, &x, sizeof(x));
        p += sizeof(x);
        if (e->flags)
                p = put32(p, e->flags);
        if (e->cost_us)
                p = put64(p, e->cost_us);
        if (e->encoding)
                p = put32(put64(p, e->raw_size), e->encoding);
        return p;
}

void entry_write(struct arena_entry *b, const struct entry *e)
{
        uint32_t kind = (e->large ? ENTRY_LARGE : 0) | (e->extent ? ENTRY_EXTENT : 0) |
                        (e->encoding ? ENTRY_ENCODED : 0);
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

void entry_read(const struct arena_entry *b, struct entry *ret)
{
        const uint8_t *p = (const uint8_t *)(b + 1);

        *ret = (struct entry){
                .gen = b->gen,
                .version = (uint64_t)(b->hi >> 20) << 32 | b->version_lo,
                .deadline = entry_deadline(b),
                .owner = entry_owner(b),
                .n_key = entry_n_key(b),
                .n_stored = entry_n_stored(b),
                .large = b->sizes & ENTRY_LARGE,
                .extent = b->sizes & ENTRY_EXTENT,
        };
        if (b->sizes & ENTRY_EXT) {
                struct arena_ext x;
                const uint8_t *q = p + sizeof(x);
                uint32_t encoding = 0;

                memcpy(&x, p, sizeof(x));
                if (x.fields & EXT_FLAGS)
                        q = get32(q, &ret->flags);
                if (x.fields & EXT_COST)
                        q = get64(q, &ret->cost_us);
                if (x.fields & EXT_ENCODING)
                        (void)get32(get64(q, &ret->raw_size), &encoding);
                ret->encoding = (uint8_t)encoding;
                p += x.n_bytes;
        }
        ret->key = p;
        ret->stored = p + ret->n_key;
}

void entry_set_deadline(struct arena_entry *b, uint64_t deadline)
{
        b->deadline_lo = (uint32_t)deadline;
        b->hi = (b->hi & 0xfff00fff) | (uint32_t)(deadline >> 32) << 12;
}
