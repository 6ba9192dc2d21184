/* SPDX-License-Identifier: MIT */

/*
 * Keys of commands
 *
 * One list of everything that the output is taken to depend on. Text that comes from the command
 * line, the environment and the file system is bytes here: none of it need be UTF-8. MEMO.md has
 * the list.
 */

#include "memo-key.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WHAT         "cachectl memo"
#define THIS_VERSION 1

static void add_string(cached_key *k, const char *text)
{
        if (text)
                (void)cached_key_add_bytes(k, text, strlen(text));
        else
                (void)cached_key_add_null(k);
}

static void add_file(cached_key *k, const struct memo_file *f)
{
        (void)cached_key_begin_list(k);
        add_string(k, f->name);
        (void)cached_key_add_bool(k, f->unreadable);
        if (f->unreadable)
                (void)cached_key_add_bytes(k, f->id, sizeof(f->id));
        else
                (void)cached_key_add_bytes(k, f->digest, sizeof(f->digest));
        (void)cached_key_end(k);
}

static void add_all(cached_key *k, const struct memo_parts *parts, const char *cwd)
{
        (void)cached_key_add_text(k, WHAT, strlen(WHAT));
        (void)cached_key_add_int(k, THIS_VERSION);
        (void)cached_key_add_uint(k, geteuid());
        add_string(k, cwd);
        (void)cached_key_begin_list(k);
        for (char **arg = parts->argv; *arg; arg++)
                add_string(k, *arg);
        (void)cached_key_end(k);
        add_file(k, &parts->program);
        (void)cached_key_begin_list(k);
        for (size_t i = 0; i < parts->n_watched; i++)
                add_file(k, &parts->watched[i]);
        (void)cached_key_end(k);
        (void)cached_key_begin_list(k);
        for (size_t i = 0; i < parts->n_env; i++) {
                add_string(k, parts->env[i]);
                add_string(k, getenv(parts->env[i]));
        }
        (void)cached_key_end(k);
        if (parts->has_input)
                (void)cached_key_add_bytes(k, parts->input, sizeof(parts->input));
        else
                (void)cached_key_add_null(k);
}

int memo_key(const struct memo_parts *parts, uint8_t ret[CACHED_KEY_SIZE])
{
        char *cwd = getcwd(NULL, 0);
        cached_key *k;
        int r = 0;

        if (!cwd)
                return -errno;
        k = cached_key_new();
        add_all(k, parts, cwd);
        if (cached_key_finish(k, ret) != CACHED_OK)
                r = -ENOMEM;
        cached_key_free(k);
        free(cwd);
        return r;
}
