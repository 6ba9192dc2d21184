/* SPDX-License-Identifier: MIT */
/*
 * batch - stores and reads many keys at once
 *
 * Usage: batch [COUNT]
 *
 * Two ways. cached_set_many() and cached_get_many() put up to max_keys_per_request keys of one
 * cache into one request: the fewest messages. A pipeline keeps any number of requests of any kind
 * on their way, with one reply each: here to delete what was stored.
 *
 *      cc batch.c $(pkg-config --cflags --libs cached) -o batch
 */

#include <cached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHE    "example-batch"
#define PER_CALL 100

/* Keys and values of one request, and the pointers to them that the library wants. */
struct batch {
        char key[PER_CALL][32], value[PER_CALL][32];
        const void *keys[PER_CALL], *values[PER_CALL];
        size_t n_keys[PER_CALL], n_values[PER_CALL];
        size_t n;
};

static void batch_fill(struct batch *b, unsigned first, unsigned end)
{
        b->n = 0;
        for (unsigned i = first; i < end && b->n < PER_CALL; i++, b->n++) {
                b->keys[b->n] = b->key[b->n];
                b->values[b->n] = b->value[b->n];
                b->n_keys[b->n] = (size_t)sprintf(b->key[b->n], "number-%u", i);
                b->n_values[b->n] = (size_t)sprintf(b->value[b->n], "%u", i * i);
        }
}

/* Prints why a call failed. */
static int failed(const char *what, const cached_reply *r)
{
        fprintf(stderr, "batch: %s: %s\n", what, cached_reply_error(r));
        return -1;
}

static int store(cached *c, unsigned count)
{
        struct batch b;
        unsigned stored = 0, requests = 0;

        for (unsigned first = 0; first < count; first += PER_CALL, requests++) {
                cached_reply *r;

                batch_fill(&b, first, count);
                if (cached_set_many(c, CACHE, b.n, b.keys, b.n_keys, b.values, b.n_values, NULL,
                                    &r) != CACHED_OK) {
                        (void)failed("set", r);
                        cached_reply_free(r);
                        return -1;
                }
                for (size_t i = 0; i < cached_reply_n_items(r); i++)
                        stored += cached_reply_item_code(r, i) == CACHED_OK;
                cached_reply_free(r);
        }
        printf("stored %u values with %u requests\n", stored, requests);
        return 0;
}

/* An item is a hit, a miss, or, where the values do not fit into one reply, to be asked for alone.
 */
static int look_up(cached *c, unsigned count)
{
        struct batch b;
        unsigned found = 0, missing = 0, requests = 0;

        for (unsigned first = 0; first < count; first += PER_CALL, requests++) {
                cached_reply *r;

                batch_fill(&b, first, count);
                if (cached_get_many(c, CACHE, b.n, b.keys, b.n_keys, &r) != CACHED_OK) {
                        (void)failed("get", r);
                        cached_reply_free(r);
                        return -1;
                }
                for (size_t i = 0; i < cached_reply_n_items(r); i++) {
                        size_t n = 0;
                        const void *value = cached_reply_item_value(r, i, &n);

                        if (value && n == b.n_values[i] && !memcmp(value, b.values[i], n))
                                found++;
                        else
                                missing++;
                }
                cached_reply_free(r);
        }
        printf("found %u values with %u requests, %u are missing\n", found, requests, missing);
        return 0;
}

/* All requests first, then all replies: the library sends and receives as it sees fit. */
static int delete_all(cached *c, unsigned count)
{
        cached_pipeline *p = cached_pipeline_new(c);
        unsigned deleted = 0;

        if (!p)
                return -1;
        for (unsigned i = 0; i < count; i++) {
                char key[32];
                size_t n = (size_t)sprintf(key, "number-%u", i);
                int code = cached_pipeline_delete(p, CACHE, key, n, i);

                if (code != CACHED_OK) {
                        fprintf(stderr, "batch: delete: %s\n", cached_strerror(code));
                        break;
                }
        }
        while (cached_pipeline_in_flight(p) > 0)
                deleted += cached_pipeline_next(p, NULL, NULL) == CACHED_OK;
        cached_pipeline_free(p);
        printf("deleted %u values through a pipeline\n", deleted);
        return deleted == count ? 0 : -1;
}

int main(int argc, char **argv)
{
        unsigned count = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 1000;
        cached *c;
        int r;

        if (cached_new(NULL, &c) != CACHED_OK)
                return EXIT_FAILURE;
        r = store(c, count);
        if (r == 0)
                r = look_up(c, count);
        if (r == 0)
                r = delete_all(c, count);
        cached_free(c);
        return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
