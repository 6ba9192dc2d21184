/* SPDX-License-Identifier: MIT */
/*
 * Changes of tags and variants that a process may die in, see the header
 */

#include "torn-tags.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void put_related(struct world *w, unsigned n, const char *tags, const char *of, bool vary)
{
        struct store_text texts[8];
        uint8_t key[16];
        struct store_put p = {.cache = 2,
                              .key = key,
                              .n_key = (size_t)snprintf((char *)key, sizeof(key), "tag%u", n),
                              .value = w->buf,
                              .n_value = 4,
                              .ttl_ms = STORE_NEVER,
                              .vary = vary,
                              .tags = texts,
                              .uid = 1000 + n % 3};
        struct store_refusal why;
        struct store_entry e;

        for (; *tags; tags++)
                texts[p.n_tags++] = model_tag((unsigned)(*tags - 'A'));
        p.variant_of = (struct store_text){of, of ? strlen(of) : 0};
        world_fill(w->buf, 4, 1);
        assert_int_equal(store_put(w->s, &p, w->now, &e, &why), 0);
}

void torn_tag_many(struct world *w)
{
        for (unsigned i = 0; i < 150; i++)
                put_related(w, i, i % 3 ? "AB" : "A", NULL, false);
        put_related(w, 200, "", NULL, true);
        for (unsigned i = 201; i < 300; i++)
                put_related(w, i, i % 2 ? "C" : "", "tag200", false);
        for (unsigned i = 300; i < 310; i++)
                put_related(w, i, "D", NULL, false);
}

void torn_put_with_tags(struct world *w)
{
        put_related(w, 400, "AEF", NULL, false);
        put_related(w, 401, "G", "tag200", false);
}

void torn_other_tags(struct world *w)
{
        put_related(w, 7, "BC", NULL, false);
        put_related(w, 305, "", NULL, false);
}

static void clear_tag(struct world *w, unsigned tag)
{
        uint64_t n;

        assert_int_equal(store_clear_tag(w->s, 2, model_tag(tag).text, model_tag(tag).n, w->now,
                                         &n),
                         0);
        assert_true(n > 0);
}

void torn_clear_tag_of_many(struct world *w)
{
        clear_tag(w, 0);
}

void torn_clear_small_tag(struct world *w)
{
        clear_tag(w, 3);
}

void torn_tag_and_clear(struct world *w)
{
        torn_tag_many(w);
        clear_tag(w, 1);
        clear_tag(w, 0);
        put_related(w, 500, "A", NULL, false);
}

void torn_delete_node(struct world *w)
{
        (void)store_delete(w->s, 2, "tag200", 6, w->now);
}

void torn_another_node(struct world *w)
{
        put_related(w, 200, "", NULL, false);
}
