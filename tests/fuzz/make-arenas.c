/* SPDX-License-Identifier: MIT */
/*
 * Makes the corpus of fuzz-arena: real arenas, in small
 *
 *     make-arenas FOLDER
 *
 * A store writes each arena. Its parts then move together (everything is addressed by offset), so
 * that few megabytes hold it, and what is not zero goes into the file; see arena-image.h. To be run
 * again when the layout changes: with arenas of another version the target sees headers only.
 */

#undef NDEBUG /* what is asserted is also done */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arena-image.h"
#include "proto/arena-read.h"
#include "store/internal.h"

#define NOW  1000u
#define PAGE 4096u

struct scene {
        const char *name;
        void (*make)(struct store *s);
        unsigned n_keys; /* that are asked for: key_of() 0 to n_keys - 1 */
        void (*lie)(uint8_t *image, struct arena_header *h); /* NULL: it is as the store left it */
};

/* ---- what happens in the stores */

/* Keys of all lengths. */
static size_t key_of(unsigned i, uint8_t *ret_key)
{
        size_t n = 1 + i % STORE_KEY_MAX;

        memset(ret_key, 'a' + (int)(i % 26), n);
        ret_key[0] = (uint8_t)i;
        return n;
}

static void put(struct store *s, unsigned i, struct store_put p)
{
        uint8_t key[STORE_KEY_MAX], *zeros = calloc(1, p.n_value + 1);
        struct store_refusal why;
        struct store_entry e;

        assert(zeros);
        p.cache = 1;
        p.key = key;
        p.n_key = key_of(i, key);
        /* Zeros take no place in the file. */
        if (!p.value && !p.large)
                p.value = zeros;
        if (p.ttl_ms == 0)
                p.ttl_ms = STORE_NEVER;
        assert(store_put(s, &p, NOW, &e, &why) == 0);
        free(zeros);
}

static void make_plain(struct store *s)
{
        put(s, 0, (struct store_put){.value = "value", .n_value = 5});
        put(s, 1, (struct store_put){.value = "", .n_value = 0});
        put(s, 2, (struct store_put){.n_value = 300, .uid = 1000});
}

static void make_extended(struct store *s)
{
        put(s, 0, (struct store_put){.value = "flags", .n_value = 5, .flags = 7, .ttl_ms = 10});
        put(s, 1, (struct store_put){.value = "cost", .n_value = 4, .cost_us = 12345});
        put(s, 2,
            (struct store_put){.value = "packed",
                               .n_value = 6,
                               .encoding = 1,
                               .raw_size = 100,
                               .flags = 1,
                               .cost_us = 2});
        /* The longest head: all of the extension and a key of 64 bytes. */
        put(s, 63, (struct store_put){.n_value = 1, .encoding = 1, .flags = 1, .cost_us = 2});
}

/* At the time of the queries: fresh; due; stale; kept; never any of them; and without a window. */
static void make_windows(struct store *s)
{
        static const struct store_policy policy = {.ttl_ms = STORE_NEVER,
                                                   .max_entries = STORE_UNLIMITED,
                                                   .max_bytes = STORE_UNLIMITED,
                                                   .stale_for_ms = 2,
                                                   .stale_if_error_ms = 100,
                                                   .refresh_ahead = 500};
        uint8_t key[STORE_KEY_MAX];
        struct store_entry e;
        uint64_t version;

        store_cache_set_policy(s, 1, &policy, &policy, false, NOW);
        put(s, 0, (struct store_put){.value = "fresh", .n_value = 5, .ttl_ms = 20});
        put(s, 1, (struct store_put){.value = "due", .n_value = 3, .ttl_ms = 8, .flags = 1});
        put(s, 2, (struct store_put){.value = "stale", .n_value = 5, .ttl_ms = 4, .cost_us = 1});
        put(s, 3, (struct store_put){.value = "kept", .n_value = 4, .ttl_ms = 3});
        put(s, 4, (struct store_put){.value = "never", .n_value = 5, .ttl_ms = 4});
        assert(store_touch(s, 1, key, key_of(4, key), STORE_NEVER, NOW, &e) == 0);
        put(s, 5, (struct store_put){.value = "at it", .n_value = 5, .ttl_ms = 4});
        assert(store_refresh_begin(s, 1, key, key_of(5, key), NOW, &version) == 0);
        put(s, 6, (struct store_put){.value = "none", .n_value = 4});
        put(s, 7, (struct store_put){.value = "gone", .n_value = 4, .ttl_ms = 1});
        assert(store_delete(s, 1, key, key_of(7, key), NOW) == 0);
}

static void make_marks(struct store *s)
{
        put(s, 0, (struct store_put){.value = "no such host", .n_value = 12, .negative = true});
        put(s, 1, (struct store_put){.value = "LANG", .n_value = 4, .vary = true, .flags = 9});
        put(s, 2, (struct store_put){.value = "", .n_value = 0, .negative = true});
}

/* All of them, some of them, and with everything else. */
static void make_messages(struct store *s)
{
        struct store_put p = {.n_value = 2 << 20, .n_messages = 30};
        static const struct store_policy policy = {.ttl_ms = 1000,
                                                   .max_entries = STORE_UNLIMITED,
                                                   .max_bytes = STORE_UNLIMITED,
                                                   .refresh_ahead = 1};

        store_cache_set_policy(s, 1, &policy, &policy, false, NOW);
        put(s, 0, (struct store_put){.value = "value|said", .n_value = 10, .n_messages = 4});
        put(s, 1, (struct store_put){.value = "said", .n_value = 4, .n_messages = 4});
        put(s, 2, (struct store_put){.n_value = (1 << 20) + 1, .n_messages = 77, .flags = 3});
        assert(large_new(p.n_value, &p.large) == 0);
        put(s, 3, p);
        large_unref(p.large);
        put(s, 4,
            (struct store_put){.value = "packed|said",
                               .n_value = 11,
                               .n_messages = 4,
                               .encoding = 1,
                               .raw_size = 100,
                               .flags = 1,
                               .cost_us = 2,
                               .ttl_ms = 500});
}

static void make_long(struct store *s)
{
        struct store_put p = {.n_value = 2 << 20};

        put(s, 0, (struct store_put){.n_value = 70000});
        put(s, 1, (struct store_put){.n_value = 200000});
        assert(large_new(p.n_value, &p.large) == 0);
        put(s, 2, p);
        large_unref(p.large);
}

static void make_extents(struct store *s)
{
        put(s, 0, (struct store_put){.n_value = 70000});
        put(s, 1, (struct store_put){.n_value = (1 << 20) + 1, .flags = 3});
        put(s, 2, (struct store_put){.value = "small", .n_value = 5});
}

static void make_grown(struct store *s)
{
        for (unsigned i = 0; i < 100; i++)
                put(s, i, (struct store_put){.n_value = i % 40, .ttl_ms = i % 3 ? 0 : i + 1});
}

static void make_cleared(struct store *s)
{
        uint64_t n;

        make_grown(s);
        assert(store_clear(s, 1, NOW, &n) == 0);
        put(s, 1, (struct store_put){.value = "new", .n_value = 3});
}

/* Tags, and an entry that leads to another one. */
static void make_tagged(struct store *s)
{
        static const struct store_text tags[] = {{"red", 3}, {"blue", 4}};
        uint8_t key[STORE_KEY_MAX];

        put(s, 0, (struct store_put){.value = "v", .n_value = 1, .tags = tags, .n_tags = 1});
        put(s, 1,
            (struct store_put){.value = "w",
                               .n_value = 1,
                               .tags = tags,
                               .n_tags = 2,
                               .flags = 1,
                               .cost_us = 1});
        put(s, 2, (struct store_put){.value = "LANG", .n_value = 4, .vary = true});
        put(s, 3,
            (struct store_put){.value = "x",
                               .n_value = 1,
                               .tags = &tags[1],
                               .n_tags = 1,
                               .variant_of = {(const char *)key, key_of(2, key)}});
        put(s, 4, (struct store_put){.value = "plain", .n_value = 5});
}

static void make_cleared_tag(struct store *s)
{
        uint64_t n;

        make_tagged(s);
        s->extra = 0; /* nothing leaves at once */
        assert(store_clear_tag(s, 1, "red", 3, NOW, &n) == 0 && n == 2);
}

static void make_killed(struct store *s)
{
        make_plain(s);
        for (uint64_t b = 0; b < s->a.h->n_buckets; b++)
                atomic_fetch_add(&s->a.buckets[b].seq, 1);
}

static void make_retired(struct store *s)
{
        make_plain(s);
        atomic_store(&s->a.h->retired, 1);
}

/* ---- lies, each for one check of the reader */

static struct arena_bucket *bucket_of(uint8_t *image, const struct arena_header *h, uint64_t i)
{
        return (struct arena_bucket *)(void *)(image + h->index_off) + i;
}

/* Every handle gets these bits. */
static void lie_handles(uint8_t *image, const struct arena_header *h, uint32_t bits)
{
        for (uint64_t b = 0; b < h->n_buckets; b++)
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++)
                        if (bucket_of(image, h, b)->handle[i] != ARENA_NONE)
                                bucket_of(image, h, b)->handle[i] |= bits;
}

/* Chunks that lie beyond the last span. */
static void lie_chunk(uint8_t *image, struct arena_header *h)
{
        uint32_t *sizes = (uint32_t *)(void *)(image + h->span_table_off);

        for (uint32_t i = 0; i < h->n_spans; i++)
                sizes[i] = ARENA_SPAN_SIZE;
        lie_handles(image, h, ARENA_CHUNK_MASK);
}

/* Spans that there are not, with something like a chunk's size where theirs would be. */
static void lie_span(uint8_t *image, struct arena_header *h)
{
        uint32_t far = ARENA_SPANS_MAX - 1;

        ((uint32_t *)(void *)(image + h->span_table_off))[far] = ARENA_CHUNK_MIN;
        lie_handles(image, h, far << ARENA_CHUNK_SHIFT);
}

/* Values that are longer than their chunks. */
static void lie_size(uint8_t *image, struct arena_header *h)
{
        const uint32_t *sizes = (const uint32_t *)(const void *)(image + h->span_table_off);

        for (uint64_t b = 0; b < h->n_buckets; b++)
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                        uint32_t handle = bucket_of(image, h, b)->handle[i];
                        uint32_t span = handle >> ARENA_CHUNK_SHIFT;
                        uint64_t off = h->spans_off + (uint64_t)span * ARENA_SPAN_SIZE +
                                       (uint64_t)sizes[span] * (handle & ARENA_CHUNK_MASK);

                        if (handle != ARENA_NONE)
                                ((struct arena_entry *)(void *)(image + off))->sizes |=
                                        ENTRY_SIZE_MAX << 10;
                }
}

/* The first byte of each entry's extension, if it has one. */
static void each_ext(uint8_t *image, const struct arena_header *h, void (*lie)(struct arena_ext *x))
{
        const uint32_t *sizes = (const uint32_t *)(const void *)(image + h->span_table_off);

        for (uint64_t b = 0; b < h->n_buckets; b++)
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                        uint32_t handle = bucket_of(image, h, b)->handle[i];
                        uint32_t span = handle >> ARENA_CHUNK_SHIFT;
                        uint64_t off = h->spans_off + (uint64_t)span * ARENA_SPAN_SIZE +
                                       (uint64_t)sizes[span] * (handle & ARENA_CHUNK_MASK);
                        const struct arena_entry *e = (const void *)(image + off);

                        if (handle != ARENA_NONE && e->sizes & ENTRY_EXT)
                                lie((struct arena_ext *)(void *)(image + off + sizeof(*e)));
                }
}

/* Fields that the block has no room for. */
static void more_fields(struct arena_ext *x)
{
        x->fields = EXT_KNOWN;
}

static void lie_fields(uint8_t *image, struct arena_header *h)
{
        each_ext(image, h, more_fields);
}

/* What it says in its last field is more: messages. */
static void more_messages(struct arena_ext *x)
{
        memset((uint8_t *)x + x->n_bytes - 8, 0xff, 8);
}

static void lie_messages(uint8_t *image, struct arena_header *h)
{
        each_ext(image, h, more_messages);
}

/* Tags that no id is as large as. */
static void lie_tag(uint8_t *image, struct arena_header *h)
{
        const uint32_t *sizes = (const uint32_t *)(const void *)(image + h->span_table_off);

        for (uint64_t b = 0; b < h->n_buckets; b++)
                for (unsigned i = 0; i < ARENA_BUCKET_SLOTS; i++) {
                        uint32_t handle = bucket_of(image, h, b)->handle[i];
                        uint32_t span = handle >> ARENA_CHUNK_SHIFT, id = ARENA_TAGS_MAX;
                        uint8_t *entry = image + h->spans_off + (uint64_t)span * ARENA_SPAN_SIZE +
                                         (uint64_t)sizes[span] * (handle & ARENA_CHUNK_MASK);
                        struct arena_ext x;

                        if (handle == ARENA_NONE)
                                continue;
                        memcpy(&x, entry + ENTRY_HEADER_SIZE, sizeof(x));
                        if (((struct arena_entry *)(void *)entry)->sizes & ENTRY_EXT &&
                            x.fields & EXT_TAGS) /* the last one's */
                                memcpy(entry + ENTRY_HEADER_SIZE + x.n_bytes -
                                               sizeof(struct arena_tag),
                                       &id, sizeof(id));
                }
}

/* An extent that ends outside. */
static void lie_extent(uint8_t *image, struct arena_header *h)
{
        (void)image;
        h->extents_size -= 8;
}

static void lie_buckets(uint8_t *image, struct arena_header *h)
{
        (void)image;
        h->n_buckets = UINT64_C(1) << 40;
}

static const struct scene scenes[] = {
        {"plain", make_plain, 4, NULL},
        {"extended", make_extended, 4, NULL},
        {"windows", make_windows, 8, NULL},
        {"marks", make_marks, 3, NULL},
        {"messages", make_messages, 5, NULL},
        {"lie-fields", make_windows, 8, lie_fields},
        {"lie-messages", make_messages, 5, lie_messages},
        {"long", make_long, 3, NULL},
        {"extents", make_extents, 3, NULL},
        {"grown", make_grown, 16, NULL},
        {"cleared", make_cleared, 3, NULL},
        {"tagged", make_tagged, 6, NULL},
        {"cleared-tag", make_cleared_tag, 6, NULL},
        {"killed", make_killed, 3, NULL},
        {"retired", make_retired, 1, NULL},
        {"lie-chunk", make_plain, 3, lie_chunk},
        {"lie-span", make_plain, 3, lie_span},
        {"lie-size", make_plain, 3, lie_size},
        {"lie-buckets", make_plain, 3, lie_buckets},
        {"lie-extent", make_extents, 3, lie_extent},
        {"lie-tag", make_tagged, 6, lie_tag},
};

/* ---- the image */

static struct store *store_make(void)
{
        struct store_params p = {
                .arena_size = 8 << 20,
                .budget = 8 << 20,
                .uid_share = 8 << 20,
                .large_threshold = 2 << 20,
                .max_caches = 3,
                .max_entries = 1 << 20,
                .seed = {7, 8},
                .instance = 9,
        };
        struct store *s;
        uint32_t id;

        assert(store_new(&p, &s) == 0);
        assert(store_cache_create(s, "c", 1, &id) == 0 && id == 1);
        return s;
}

/* Copies a part to the image's end so far. */
static uint64_t add_part(uint8_t *image, uint64_t *end, const void *part, size_t n)
{
        uint64_t off = *end;

        assert(off + n <= IMAGE_MAX);
        memcpy(image + off, part, n);
        *end += (n + 63) / 64 * 64;
        return off;
}

static uint64_t image_of(const struct store *s, uint8_t *image)
{
        const struct arena *a = &s->a;
        uint64_t end = sizeof(struct arena_header);
        struct arena_header h;

        memcpy(&h, a->h, sizeof(h));
        h.n_spans = a->t->span_high;
        h.index_max_buckets = h.n_buckets;
        h.cache_dir_off =
                add_part(image, &end, a->cache_dir, sizeof(*a->cache_dir) * h.cache_dir_max);
        h.owners_off = add_part(image, &end, a->owner_uids, sizeof(uint32_t) * ARENA_OWNERS_MAX);
        h.dead_tags_off = add_part(image, &end, (const void *)a->dead_tags, ARENA_TAGS_MAX / 8);
        h.span_table_off = add_part(image, &end, a->span_chunk, sizeof(uint32_t) * h.n_spans);
        h.index_off = add_part(image, &end, a->buckets, sizeof(*a->buckets) * h.n_buckets);
        h.spans_off = add_part(image, &end, a->spans_base, (size_t)ARENA_SPAN_SIZE * h.n_spans);
        /* At most the first place is in use. */
        assert(a->extents.kinds[1].high == 0 && a->extents.kinds[2].high == 0);
        h.extents_size = a->extents.committed;
        h.extents_off = add_part(image, &end, extents_at(a, 0), h.extents_size);
        h.size = end;
        memcpy(image, &h, sizeof(h));
        return end;
}

/* ---- the file */

static void write_number(FILE *f, uint64_t v, unsigned n)
{
        assert(fwrite(&v, 1, n, f) == n);
}

static void write_image(FILE *f, const uint8_t *image, uint64_t size)
{
        for (uint64_t i = 0; i < size;) {
                uint64_t n = 0, zeros = 0;

                if (image[i] == 0) {
                        i++;
                        continue;
                }
                /* A piece costs seven bytes: shorter gaps belong to it. */
                for (; i + n < size && n < UINT16_MAX && zeros < 8; n++)
                        zeros = image[i + n] ? 0 : zeros + 1;
                n -= zeros;
                fputc(IMAGE_BYTES, f);
                write_number(f, i, 4);
                write_number(f, n, 2);
                assert(fwrite(image + i, 1, n, f) == n);
                i += n;
        }
}

static void write_query(FILE *f, unsigned i, bool want_messages)
{
        uint8_t key[STORE_KEY_MAX];
        size_t n = key_of(i, key);

        fputc(IMAGE_QUERY, f);
        write_number(f, 1, 4);
        write_number(f, arena_name_hash("c", 1), 8);
        write_number(f, NOW + 5, 8);
        write_number(f, (n - 1) | (want_messages ? 128 : 0), 1);
        assert(fwrite(key, 1, n, f) == n);
}

/* The image says what the store says. */
static void check(const uint8_t *image, uint64_t size, struct store *s, unsigned n_keys)
{
        static const char *const words[] = {"hit", "miss"};
        unsigned n[2] = {0};
        struct arena_map m;

        assert(!arena_map_init(image, size, &m));
        for (unsigned i = 0; i < n_keys; i++) {
                struct arena_query q = {.cache = 1,
                                        .name_hash = arena_name_hash("c", 1),
                                        .now_ms = NOW + 5};
                uint8_t key[STORE_KEY_MAX];
                enum arena_result r;
                struct store_entry e;
                struct arena_hit hit;

                q.n_key = (uint32_t)key_of(i, key);
                q.key = key;
                r = arena_read(&m, &q, NULL, 0, &hit);
                if (r == ARENA_BUSY || r == ARENA_RETIRED)
                        continue;
                if (store_get(s, 1, key, q.n_key, NOW + 5, false, &e) == 0) {
                        assert(r == ARENA_HIT || r == ARENA_TOO_LONG || r == ARENA_LARGE_VALUE);
                        n[0]++;
                } else {
                        assert(r == ARENA_MISS);
                        n[1]++;
                }
        }
        printf("%u %s, %u %s, ", n[0], words[0], n[1], words[1]);
}

static void make(const struct scene *scene, const char *folder)
{
        struct store *s = store_make();
        uint8_t *image = aligned_alloc(PAGE, IMAGE_MAX);
        char path[4096];
        uint64_t size;
        FILE *f;

        assert(image && snprintf(path, sizeof(path), "%s/%s", folder, scene->name) > 0);
        memset(image, 0, IMAGE_MAX);
        scene->make(s);
        size = image_of(s, image);
        if (scene->lie)
                scene->lie(image, (struct arena_header *)(void *)image);
        else
                check(image, size, s, scene->n_keys);
        f = fopen(path, "wbe");
        assert(f);
        write_number(f, size, 4);
        fputc(IMAGE_FIND, f);
        write_number(f, arena_name_hash("c", 1), 8);
        /* Before the bytes, so that cutting the end leaves something to ask. */
        for (unsigned i = 0; i < scene->n_keys; i++)
                write_query(f, i, i % 2);
        write_image(f, image, size);
        printf("%s: %ld bytes for %lu\n", scene->name, ftell(f), (unsigned long)size);
        assert(fclose(f) == 0);
        free(image);
        store_free(s);
}

int main(int argc, char **argv)
{
        if (argc != 2) {
                fprintf(stderr, "usage: make-arenas FOLDER\n");
                return 2;
        }
        for (unsigned i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++)
                make(&scenes[i], argv[1]);
        return 0;
}
