/* SPDX-License-Identifier: MIT */
/*
 * Large values and sessions, of which each has to be there again
 *
 *     load keep SOCKET LARGE SESSIONS
 *
 *     fill     stores so many values in memory files of their own, and opens so many sessions with
 *              a value each
 *     check    how many are there, and how many are wrong
 */
#include <stdlib.h>
#include <string.h>

#include "load.h"

#define LARGE_SIZE (64u << 10) /* what a memory file has at least, to be kept as one */

struct keeper {
        cached *c;
        uint64_t n_large, n_sessions;
        char (*tokens)[CACHED_SESSION_TOKEN_LENGTH + 1];
};

static int set_large(struct keeper *k, uint64_t key)
{
        cached_buffer *b = NULL;
        int code = cached_buffer_new(k->c, LARGE_SIZE, &b);

        if (code == CACHED_OK) {
                load_make(cached_buffer_data(b), key, 1, LARGE_SIZE);
                code = cached_set_buffer(k->c, "large", &key, sizeof(key), b, LARGE_SIZE, NULL,
                                         NULL);
        }
        cached_buffer_free(b);
        return code;
}

static int open_session(struct keeper *k, uint64_t i)
{
        cached_session *s = NULL;
        int code = cached_session_open(k->c, NULL, &s, NULL);

        if (code == CACHED_OK)
                code = cached_session_set(s, "number", &i, sizeof(i), NULL);
        if (code == CACHED_OK)
                memcpy(k->tokens[i], cached_session_token(s), sizeof(k->tokens[i]));
        cached_session_free(s);
        return code;
}

static void fill(struct keeper *k)
{
        int code = CACHED_OK;

        for (uint64_t i = 0; i < k->n_large && code == CACHED_OK; i++)
                code = set_large(k, i);
        for (uint64_t i = 0; i < k->n_sessions && code == CACHED_OK; i++)
                code = open_session(k, i);
        if (code != CACHED_OK)
                load_die("keep: %s", cached_strerror(code));
}

static bool has_large(struct keeper *k, uint64_t key, unsigned long long *wrong)
{
        cached_view *v = NULL;
        int code = cached_get_view(k->c, "large", &key, sizeof(key), CACHED_VIEW_READ, &v, NULL);
        bool right =
                code == CACHED_OK && load_look(cached_view_data(v), cached_view_size(v), key) == 1;

        *wrong += code == CACHED_OK && !right;
        cached_view_release(v);
        return right;
}

static bool has_session(struct keeper *k, uint64_t i, unsigned long long *wrong)
{
        cached_session *s = NULL;
        cached_reply *r = NULL;
        int code = cached_session_attach(k->c, k->tokens[i], &s, NULL);
        uint64_t number = 0;
        const void *value = NULL;
        size_t n = 0;

        if (code == CACHED_OK)
                code = cached_session_get(s, "number", &r);
        if (code == CACHED_OK)
                value = cached_reply_value(r, &n);
        if (value && n == sizeof(number))
                memcpy(&number, value, n);
        *wrong += code == CACHED_OK && number != i;
        cached_reply_free(r);
        cached_session_free(s);
        return code == CACHED_OK && number == i;
}

static void check(struct keeper *k)
{
        unsigned long long large = 0, sessions = 0, wrong = 0;

        for (uint64_t i = 0; i < k->n_large; i++)
                large += has_large(k, i, &wrong);
        for (uint64_t i = 0; i < k->n_sessions; i++)
                sessions += has_session(k, i, &wrong);
        printf("{\"large\": %llu, \"sessions\": %llu, \"wrong\": %llu}", large, sessions, wrong);
}

int load_keep(int argc, char **argv)
{
        struct keeper k = {0};
        char *words[LOAD_WORDS];

        if (argc != 5)
                load_die("keep SOCKET LARGE SESSIONS");
        k.n_large = strtoull(argv[3], NULL, 10);
        k.n_sessions = strtoull(argv[4], NULL, 10);
        k.tokens = calloc(k.n_sessions + 1, sizeof(*k.tokens));
        if (!k.tokens)
                load_die("no memory");
        k.c = load_handle(argv[2], false);
        while (load_command(words)) {
                if (load_is(words, "fill"))
                        fill(&k);
                else if (load_is(words, "check"))
                        check(&k);
                else
                        load_die("keep: no command %s", words[0]);
                load_answer();
        }
        cached_free(k.c);
        free(k.tokens);
        return 0;
}
