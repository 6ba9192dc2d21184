/* SPDX-License-Identifier: MIT */

/*
 * Memos inside of memos
 *
 * A command that calls memo for itself, perhaps through others, would wait for its own end. So each
 * run tells what it starts which keys it holds.
 *
 * Two runs that need each other's command cannot be seen so: each waits for the other. Keys have an
 * order, and in each circle of waits there is one for a key that is smaller than one that is held.
 * Those get a bound (memo.c), all others need none.
 */

#include "memo-nest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORD_SIZE ((size_t)2 * CACHED_KEY_SIZE)
/* No command nests so deep; and the environment has bounds of its own. */
#define N_MAX 64

static void make_word(char word[WORD_SIZE + 1], const uint8_t key[CACHED_KEY_SIZE])
{
        static const char digits[] = "0123456789abcdef";

        for (size_t i = 0; i < CACHED_KEY_SIZE; i++) {
                word[2 * i] = digits[key[i] >> 4];
                word[2 * i + 1] = digits[key[i] & 15];
        }
        word[WORD_SIZE] = '\0';
}

/* The next word of the length of a key, and where the search goes on. NULL: there is none. */
static const char *next_word(const char **at)
{
        while (*at && **at) {
                const char *word = *at, *end = strchrnul(word, ':');

                *at = *end ? end + 1 : NULL;
                if ((size_t)(end - word) == WORD_SIZE)
                        return word;
        }
        return NULL;
}

bool memo_nest_has(const char *list, const uint8_t key[CACHED_KEY_SIZE])
{
        char word[WORD_SIZE + 1];
        const char *held;

        make_word(word, key);
        while ((held = next_word(&list)))
                if (memcmp(held, word, WORD_SIZE) == 0)
                        return true;
        return false;
}

bool memo_nest_may_circle(const char *list, const uint8_t key[CACHED_KEY_SIZE])
{
        char word[WORD_SIZE + 1];
        const char *held;

        make_word(word, key);
        while ((held = next_word(&list)))
                if (memcmp(held, word, WORD_SIZE) > 0)
                        return true;
        return false;
}

char *memo_nest_add(const char *list, const uint8_t key[CACHED_KEY_SIZE])
{
        char word[WORD_SIZE + 1], *with;

        make_word(word, key);
        if (!list || !*list)
                return strdup(word);
        if (strlen(list) > (N_MAX - 1) * (WORD_SIZE + 1))
                return NULL;
        return asprintf(&with, "%s:%s", list, word) < 0 ? NULL : with;
}
