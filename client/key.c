/* SPDX-License-Identifier: MIT */
/*
 * The builder of keys
 *
 * Items are hashed as they come; nothing of them is kept. What is open forms a stack of levels, of
 * a fixed depth, in the builder itself, so that only maps, sets and buffers that are fed allocate
 * memory. A list, tuple or named type writes to the hash of what it is in. Map and set cannot,
 * since the order of their members is known at the end only: each member gets a digest of its own,
 * and what is sorted, compared and written are the digests. Two members are taken to be equal when
 * their digests are.
 *
 * Invariants: a level's `out` is its own `member` for map and set, else that of the level below,
 * and the builder's `hash` at the bottom; a buffer that is being fed (`feeding`) is always on top.
 * After an error nothing of this means anything but `code` and `error`.
 *
 * This file does not know what values look like: that is in key-values.c and its like.
 */
#include "client/key.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire.h"

static_assert(CACHED_KEY_SIZE == KEY_DIGEST_SIZE, "the header tells the size");

struct level {
        enum key_tag tag;
        struct key_hash *out;                /* where the items of this level go */
        struct key_hash member;              /* of map and set: the member that is written now */
        uint8_t (*members)[KEY_DIGEST_SIZE]; /* of map and set; of a map: key, value, key ... */
        size_t n_members, members_capacity;
};

struct cached_key {
        struct key_hash hash;
        unsigned threads;
        int code; /* the error that sticks */
        char error[256];
        uint64_t n_items;    /* begun on the top level */
        size_t depth;        /* levels in use */
        bool feeding;        /* a buffer is open */
        uint64_t n_elements; /* of that buffer: its length is a multiple of this */
        struct key_hash *buffer_out;
        struct key_tree buffer;
        struct level levels[CACHED_KEY_DEPTH_MAX];
};

/* ---- errors */

int key_fail(struct cached_key *k, int code, const char *format, ...)
{
        va_list args;
        int n = 0;

        if (k->code != CACHED_OK)
                return k->code;
        k->code = code;
        if (k->n_items > 0)
                n = snprintf(k->error, sizeof(k->error),
                             "item %llu: ", (unsigned long long)k->n_items);
        va_start(args, format);
        (void)vsnprintf(k->error + n, sizeof(k->error) - (size_t)n, format, args);
        va_end(args);
        return code;
}

int key_fail_nomem(struct cached_key *k)
{
        return key_fail(k, CACHED_ERR_NOMEM, "%s", cached_strerror(CACHED_ERR_NOMEM));
}

const char *cached_key_error(const cached_key *k)
{
        return k ? k->error : "the builder is NULL: there was no memory for it";
}

/* ---- life */

/* Empty, with nothing to free. The levels need no initialisation: a level has when it is pushed. */
static void begin(struct cached_key *k)
{
        key_hash_init(&k->hash, KEY_PURPOSE_KEY);
        k->code = CACHED_OK;
        k->error[0] = '\0';
        k->n_items = 0;
        k->depth = 0;
        k->feeding = false;
        key_tree_init(&k->buffer);
}

static void release(struct cached_key *k)
{
        for (size_t i = 0; i < k->depth; i++)
                free(k->levels[i].members);
        key_tree_done(&k->buffer);
}

cached_key *cached_key_new(void)
{
        struct cached_key *k = malloc(sizeof(*k));

        if (!k)
                return NULL;
        k->threads = 1;
        begin(k);
        return k;
}

void cached_key_free(cached_key *k)
{
        if (!k)
                return;
        release(k);
        free(k);
}

int cached_key_reset(cached_key *k)
{
        if (!k)
                return CACHED_ERR_USAGE;
        release(k);
        begin(k);
        return CACHED_OK;
}

int cached_key_set_threads(cached_key *k, unsigned n)
{
        if (!k)
                return CACHED_ERR_USAGE;
        if (k->code != CACHED_OK)
                return k->code;
        k->threads = n > 0 ? n : key_processors();
        return CACHED_OK;
}

int cached_key_finish(cached_key *k, uint8_t *ret)
{
        struct key_hash copy;

        if (!k)
                return CACHED_ERR_USAGE;
        if (k->code != CACHED_OK)
                return k->code;
        if (!ret)
                return key_fail(k, CACHED_ERR_USAGE,
                                "the result is NULL: pass a buffer of %d bytes", CACHED_KEY_SIZE);
        if (k->feeding || k->depth > 0)
                return key_fail(k, CACHED_ERR_USAGE,
                                "%zu items are still open: close each with cached_key_end() first",
                                k->depth + (k->feeding ? 1 : 0));
        copy = k->hash;
        key_hash_end(&copy, ret);
        return CACHED_OK;
}

/* ---- items */

static struct level *top(struct cached_key *k)
{
        return k->depth > 0 ? &k->levels[k->depth - 1] : NULL;
}

static bool has_members(const struct level *l)
{
        return l && (l->tag == KEY_TAG_MAP || l->tag == KEY_TAG_SET);
}

int key_check_ready(struct cached_key *k)
{
        if (!k)
                return CACHED_ERR_USAGE;
        if (k->code != CACHED_OK)
                return k->code;
        if (k->feeding)
                return key_fail(k, CACHED_ERR_USAGE,
                                "an item inside bytes that are fed in pieces: close them with "
                                "cached_key_end() first");
        if (k->depth == 0)
                k->n_items++;
        return CACHED_OK;
}

/* The size of a C string is often passed as -1; that and its like are no lengths. */
int key_check_bytes(struct cached_key *k, const char *what, const void *bytes, size_t n)
{
        if (n > PTRDIFF_MAX)
                return key_fail(k, CACHED_ERR_USAGE, "%s of %zu bytes: no memory is that long",
                                what, n);
        if (!bytes && n > 0)
                return key_fail(k, CACHED_ERR_USAGE, "%s of %zu bytes is NULL: pass a pointer",
                                what, n);
        return CACHED_OK;
}

int key_check_text(struct cached_key *k, const char *what, const char *text, size_t n, size_t min,
                   size_t max)
{
        size_t valid;

        if (key_check_bytes(k, what, text, n) != CACHED_OK)
                return k->code;
        if (n < min)
                return key_fail(k, CACHED_ERR_USAGE, "%s is empty: give it %zu to %zu bytes", what,
                                min, max);
        if (n > max)
                return key_fail(k, CACHED_ERR_USAGE, "%s is too long, %zu bytes: %zu are the most",
                                what, n, max);
        valid = n > 0 ? wire_utf8_prefix(text, n) : 0;
        if (valid < n)
                return key_fail(k, CACHED_ERR_USAGE,
                                "%s is not UTF-8 at byte %zu: encode it as UTF-8, or add it with "
                                "cached_key_add_bytes()",
                                what, valid);
        return CACHED_OK;
}

int key_item_begin(struct cached_key *k, enum key_tag tag, struct key_hash **ret)
{
        struct level *l = top(k);
        struct key_hash *out = l ? l->out : &k->hash;

        if (has_members(l)) {
                if (l->n_members == CACHED_KEY_MEMBERS_MAX)
                        return key_fail(k, CACHED_ERR_USAGE,
                                        "a map or set has too many members, %d is the most (a pair "
                                        "counts twice): add the data as a list, an array or bytes",
                                        CACHED_KEY_MEMBERS_MAX);
                key_hash_init(out, KEY_PURPOSE_MEMBER);
        }
        key_bytes_u8(out, tag);
        *ret = out;
        return CACHED_OK;
}

int key_item_start(struct cached_key *k, enum key_tag tag, struct key_hash **ret)
{
        int e = key_check_ready(k);

        return e == CACHED_OK ? key_item_begin(k, tag, ret) : e;
}

int key_item_end(struct cached_key *k)
{
        struct level *l = top(k);

        if (!has_members(l))
                return CACHED_OK;
        if (l->n_members == l->members_capacity) {
                size_t capacity = l->members_capacity ? 2 * l->members_capacity : 16;
                void *members = reallocarray(l->members, capacity, sizeof(*l->members));

                if (!members)
                        return key_fail_nomem(k);
                l->members = members;
                l->members_capacity = capacity;
        }
        key_hash_end(&l->member, l->members[l->n_members++]);
        return CACHED_OK;
}

/* ---- buffers */

void key_write_bytes(const struct cached_key *k, struct key_hash *out, const void *bytes, size_t n)
{
        key_tree_write(out, bytes, n, k->threads);
}

int cached_key_add_bytes(cached_key *k, const void *bytes, size_t n)
{
        struct key_hash *out = NULL;
        int e = key_check_ready(k);

        if (e == CACHED_OK)
                e = key_check_bytes(k, "bytes", bytes, n);
        if (e == CACHED_OK)
                e = key_item_begin(k, KEY_TAG_BYTES, &out);
        if (e != CACHED_OK)
                return e;
        key_write_bytes(k, out, bytes, n);
        return key_item_end(k);
}

int key_buffer_begin(struct cached_key *k, struct key_hash *out, uint64_t n_elements)
{
        k->feeding = true;
        k->n_elements = n_elements;
        k->buffer_out = out;
        return CACHED_OK;
}

int cached_key_begin_bytes(cached_key *k)
{
        struct key_hash *out = NULL;
        int e = key_item_start(k, KEY_TAG_BYTES, &out);

        return e == CACHED_OK ? key_buffer_begin(k, out, 1) : e;
}

int cached_key_feed(cached_key *k, const void *bytes, size_t n)
{
        if (!k)
                return CACHED_ERR_USAGE;
        if (k->code != CACHED_OK)
                return k->code;
        if (!k->feeding)
                return key_fail(k, CACHED_ERR_USAGE,
                                "nothing can be fed here: call cached_key_begin_bytes() or "
                                "cached_key_begin_array() first");
        if (key_check_bytes(k, "a piece", bytes, n) != CACHED_OK)
                return k->code;
        switch (key_tree_add(&k->buffer, bytes, n, k->threads)) {
        case 0:
                return CACHED_OK;
        case -ENOMEM:
                return key_fail_nomem(k);
        default:
                return key_fail(k, CACHED_ERR_USAGE, "the pieces are too long together");
        }
}

static int end_buffer(struct cached_key *k)
{
        uint64_t n = k->buffer.n;

        if (k->n_elements == 0 ? n > 0 : n % k->n_elements != 0)
                return key_fail(k, CACHED_ERR_USAGE,
                                "the array has %llu bytes for %llu elements: pass its whole data, "
                                "with the extents that belong to it",
                                (unsigned long long)n, (unsigned long long)k->n_elements);
        key_tree_end(&k->buffer, k->buffer_out);
        k->feeding = false;
        return key_item_end(k);
}

/* ---- what holds other items */

/* The level's item has begun, and ends with it. */
static int push(struct cached_key *k, enum key_tag tag)
{
        struct level *l;
        struct key_hash *out = NULL;
        int e;

        if (k->depth == CACHED_KEY_DEPTH_MAX)
                return key_fail(
                        k, CACHED_ERR_USAGE,
                        "too deep: %d levels of lists, maps and the like are the most; does "
                        "the value contain itself?",
                        CACHED_KEY_DEPTH_MAX);
        e = key_item_begin(k, tag, &out);
        if (e != CACHED_OK)
                return e;
        l = &k->levels[k->depth++];
        l->tag = tag;
        l->members = NULL;
        l->n_members = l->members_capacity = 0;
        l->out = has_members(l) ? &l->member : out;
        return CACHED_OK;
}

static int begin_level(struct cached_key *k, enum key_tag tag)
{
        int e = key_check_ready(k);

        return e == CACHED_OK ? push(k, tag) : e;
}

int cached_key_begin_list(cached_key *k)
{
        return begin_level(k, KEY_TAG_LIST);
}

int cached_key_begin_tuple(cached_key *k)
{
        return begin_level(k, KEY_TAG_TUPLE);
}

int cached_key_begin_map(cached_key *k)
{
        return begin_level(k, KEY_TAG_MAP);
}

int cached_key_begin_set(cached_key *k)
{
        return begin_level(k, KEY_TAG_SET);
}

int cached_key_begin_named(cached_key *k, const char *name, size_t n)
{
        int e = key_check_ready(k);

        if (e == CACHED_OK)
                e = key_check_text(k, "the type's name", name, n, 1, CACHED_KEY_NAME_MAX);
        if (e == CACHED_OK)
                e = push(k, KEY_TAG_NAMED);
        if (e == CACHED_OK)
                key_write_bytes(k, top(k)->out, name, n);
        return e;
}

/* Of two digests, and of two pairs: a map has no equal keys. */
static int compare_digests(const void *a, const void *b)
{
        return memcmp(a, b, KEY_DIGEST_SIZE);
}

/* Sorts the members, and writes number and members to @out. @step: digests that belong together. */
static int write_members(struct cached_key *k, struct level *l, struct key_hash *out, size_t step)
{
        size_t n = l->n_members / step;

        if (l->n_members % step != 0)
                return key_fail(k, CACHED_ERR_USAGE,
                                "a map ends after a key: add the key's value first");
        if (n > 1)
                qsort(l->members, n, step * KEY_DIGEST_SIZE, compare_digests);
        for (size_t i = 1; i < n; i++)
                if (!compare_digests(l->members[(i - 1) * step], l->members[i * step]))
                        return key_fail(k, CACHED_ERR_USAGE,
                                        step == 2
                                                ? "a map has the same key twice: leave one out, or "
                                                  "add a list of tuples"
                                                : "a set has the same member twice: leave one out, "
                                                  "or add a list");
        key_bytes_u64(out, n);
        key_hash_add(out, l->members, l->n_members * KEY_DIGEST_SIZE);
        return CACHED_OK;
}

int cached_key_end(cached_key *k)
{
        struct level *l, *below;
        struct key_hash *out = NULL;

        if (!k)
                return CACHED_ERR_USAGE;
        if (k->code != CACHED_OK)
                return k->code;
        if (k->feeding)
                return end_buffer(k);
        l = top(k);
        if (!l)
                return key_fail(k, CACHED_ERR_USAGE,
                                "cached_key_end() without a beginning: nothing is open");
        below = k->depth > 1 ? l - 1 : NULL;
        out = below ? below->out : &k->hash;
        if (has_members(l)) {
                int e = write_members(k, l, out, l->tag == KEY_TAG_MAP ? 2 : 1);

                if (e != CACHED_OK)
                        return e;
        } else {
                key_bytes_u8(out, KEY_TAG_END);
        }
        free(l->members);
        k->depth--;
        return key_item_end(k);
}
