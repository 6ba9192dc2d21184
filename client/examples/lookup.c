/* SPDX-License-Identifier: MIT */
/*
 * lookup - a value from the cache, or else computed and stored
 *
 * Usage: lookup [NUMBER]
 *
 * The cache makes the program faster and never makes it fail: whatever goes wrong on the way to the
 * daemon counts as a miss.
 *
 *      cc lookup.c $(pkg-config --cflags --libs cached) -o lookup
 */

#include <cached.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHE "example-lookup"

/* What is slow to compute. */
static uint64_t sum_of_squares(uint64_t n)
{
        uint64_t sum = 0;

        for (uint64_t i = 1; i <= n; i++)
                sum += i * i;
        return sum;
}

/* The key stands for the function and its argument. */
static int make_key(uint64_t n, uint8_t key[CACHED_KEY_SIZE])
{
        const char *name = "sum_of_squares";
        cached_key *k = cached_key_new();
        int code;

        cached_key_add_text(k, name, strlen(name));
        cached_key_add_uint(k, n);
        code = cached_key_finish(k, key);
        cached_key_free(k);
        return code;
}

static int look_up(cached *c, const uint8_t *key, uint64_t *sum)
{
        cached_reply *r;
        size_t n = 0;
        const void *value;
        int found;

        cached_get(c, CACHE, key, CACHED_KEY_SIZE, &r);
        value = cached_reply_value(r, &n);
        found = value && n == sizeof(*sum);
        if (found)
                memcpy(sum, value, n);
        cached_reply_free(r);
        return found;
}

static void store(cached *c, const uint8_t *key, uint64_t sum)
{
        size_t n_key = CACHED_KEY_SIZE, n = sizeof(sum);
        cached_reply *r;

        if (cached_set(c, CACHE, key, n_key, &sum, n, NULL, &r))
                fprintf(stderr, "lookup: %s\n", cached_reply_error(r));
        cached_reply_free(r);
}

int main(int argc, char **argv)
{
        const char *text = argc > 1 ? argv[1] : "1000";
        uint64_t n = strtoull(text, NULL, 10), sum;
        uint8_t key[CACHED_KEY_SIZE];
        cached *c;
        int found;

        if (make_key(n, key) || cached_new(NULL, &c))
                return EXIT_FAILURE;
        found = look_up(c, key, &sum);
        if (!found) {
                sum = sum_of_squares(n);
                store(c, key, sum);
        }
        printf("%" PRIu64 "%s\n", sum, found ? " (cached)" : "");
        cached_free(c);
        return EXIT_SUCCESS;
}
