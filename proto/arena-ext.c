/* SPDX-License-Identifier: MIT */
/*
 * What an extension block says
 *
 * The bytes may be nonsense: a field counts if the block has all of it.
 */

#include "proto/arena-ext.h"

#include <string.h>

#include "proto/racy.h"

bool arena_ext_take(const uint8_t *from, uint32_t n_max, struct arena_ext_copy *ret)
{
        struct arena_ext x;

        if (n_max < sizeof(x))
                return false;
        racy_copy(&x, from, sizeof(x));
        if (x.n_bytes < sizeof(x) || x.n_bytes > EXT_SIZE_MAX || x.n_bytes > n_max)
                return false;
        memcpy(ret->bytes, &x, sizeof(x));
        racy_copy(ret->bytes + sizeof(x), from + sizeof(x), x.n_bytes - sizeof(x));
        ret->n = x.n_bytes;
        return true;
}

/* The tags are the last field. Whether the bit is read before or after a tag was cleared: either
 * counts, as long as the bucket's counter is the same afterwards, see ARENA.md, "Tags". */
enum arena_life arena_ext_life(const struct arena_map *m, const struct arena_ext_copy *ext)
{
        struct arena_ext x;
        uint32_t n, at;

        memcpy(&x, ext->bytes, sizeof(x));
        if (!(x.fields & EXT_TAGS))
                return LIFE_HERE;
        at = arena_ext_offset(x.fields, EXT_TAGS);
        if (at + sizeof(n) > ext->n)
                return LIFE_NONSENSE;
        memcpy(&n, ext->bytes + at, sizeof(n));
        at += sizeof(n);
        if (n > ARENA_ENTRY_TAGS || n * sizeof(struct arena_tag) > ext->n - at)
                return LIFE_NONSENSE;
        for (; n > 0; n--, at += sizeof(struct arena_tag)) {
                uint32_t id;

                memcpy(&id, ext->bytes + at, sizeof(id));
                if (id >= ARENA_TAGS_MAX)
                        return LIFE_NONSENSE;
                if (atomic_load_explicit(&m->dead_tags[id / 32], memory_order_relaxed) >> id % 32 &
                    1)
                        return LIFE_DEAD;
        }
        return LIFE_HERE;
}

/* Takes the next field, if the block has it and it is whole. */
static bool take_field(const uint8_t **p, const uint8_t *end, void *to, size_t n)
{
        if ((size_t)(end - *p) < n)
                return false;
        memcpy(to, *p, n);
        *p += n;
        return true;
}

static uint16_t marks_of(uint32_t marks)
{
        return (marks & MARK_NEGATIVE ? ARENA_HIT_NEGATIVE : 0) |
               (marks & MARK_VARY ? ARENA_HIT_VARY : 0);
}

/* Fields that are not whole end it: the counter will tell whether that counts. */
void arena_ext_read(const struct arena_ext_copy *ext, struct arena_hit *hit)
{
        const uint8_t *p = ext->bytes, *end = p + ext->n;
        uint32_t encoding = 0, marks = 0;
        struct arena_ext x;

        if (!take_field(&p, end, &x, sizeof(x)) ||
            (x.fields & EXT_FLAGS && !take_field(&p, end, &hit->flags, 4)) ||
            (x.fields & EXT_COST && !take_field(&p, end, &hit->cost_us, 8)) ||
            (x.fields & EXT_ENCODING &&
             (!take_field(&p, end, &hit->raw_size, 8) || !take_field(&p, end, &encoding, 4))))
                return;
        hit->encoding = encoding < UINT16_MAX ? (uint16_t)encoding : UINT16_MAX;
        if (x.fields & EXT_FRESH) {
                if (!take_field(&p, end, &hit->fresh, sizeof(hit->fresh)))
                        return;
                hit->marks |= ARENA_HIT_WINDOW;
        }
        if (x.fields & EXT_MARKS) {
                if (!take_field(&p, end, &marks, 4))
                        return;
                hit->marks |= marks_of(marks);
        }
        if (x.fields & EXT_MESSAGES && take_field(&p, end, &hit->n_messages, 8))
                hit->marks |= ARENA_HIT_MESSAGES;
}
