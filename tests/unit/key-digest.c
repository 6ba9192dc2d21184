/* SPDX-License-Identifier: MIT */
/*
 * key-digest [THREADS]: the keys of items in the notation of proto/key-vectors.json
 *
 * Reads lines: a number, which chooses among calls that must come to the same (0: the plain ones),
 * a space, an array of items. For each it writes the key in hexadecimal digits, or "error: " and
 * the builder's text. Linked with libcached.so, so it makes what applications make.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "key-json.h"

static void answer(cached_key *k, char *line)
{
        uint8_t digest[CACHED_KEY_SIZE];
        json_error_t error;
        char *items_text;
        struct key_json j = {strtoull(line, &items_text, 10)};
        json_t *items = json_loads(items_text, JSON_ALLOW_NUL, &error);

        if (!items) {
                printf("not JSON: %s\n", error.text);
                return;
        }
        cached_key_reset(k);
        key_json_add_items(&j, k, items);
        if (cached_key_finish(k, digest) != CACHED_OK) {
                printf("error: %s\n", cached_key_error(k));
        } else {
                for (size_t i = 0; i < sizeof(digest); i++)
                        printf("%02x", digest[i]);
                printf("\n");
        }
        json_decref(items);
}

int main(int argc, char **argv)
{
        cached_key *k = cached_key_new();
        char *line = NULL;
        size_t size = 0;

        if (!k)
                return 1;
        if (argc > 1)
                cached_key_set_threads(k, (unsigned)strtoul(argv[1], NULL, 10));
        while (getline(&line, &size, stdin) > 0)
                answer(k, line);
        free(line);
        cached_key_free(k);
        return fflush(stdout) == 0 ? 0 : 1;
}
