/* SPDX-License-Identifier: MIT */
/*
 * Discovered inputs
 *
 * A function that reads its inputs by cached_input() is memoized by what it has read: each key
 * names the first input that the function reads there, or has the value; the next key is made of
 * the key, the input's name and its present value. So a look-up follows what a run did, step by
 * step, and an input that is read under some condition only matters on that branch.
 *
 * Within one call each input is read once, whoever asks: what the look-up saw is what the run sees.
 * Paths are bounded (VARY_MAX); a longer one is not stored.
 *
 * A nested call's inputs are inputs of the outer computations of the thread, too: its value depends
 * on them whether it ran or was a hit. They read them by their own getters, or, without one, take
 * the value that the inner call saw: such an outer call is computed each time, which is never
 * wrong.
 *
 * This knows paths and getters. What is looked up and stored there is memoize.c's and
 * vary-store.c's.
 */

#include "client/vary.h"

#include <stdlib.h>
#include <string.h>

#include "client/key-bytes.h"
#include "client/key-tree.h"
#include "client/key.h"
#include "client/record.h"
#include "client/result.h"
#include "client/running.h"
#include "proto/wire.h"

struct getter {
        char *name; /* owned; NULL: of all others */
        cached_getter get;
        void *data;
};

struct cached_inputs {
        struct getter *list; /* owned */
        size_t n;
};

/* ------------------------------------------------------------------------------------- registry */

cached_inputs *cached_inputs_new(void)
{
        return calloc(1, sizeof(cached_inputs));
}

void cached_inputs_free(cached_inputs *in)
{
        if (!in)
                return;
        for (size_t i = 0; i < in->n; i++)
                free(in->list[i].name);
        free(in->list);
        free(in);
}

static const struct getter *getter_find(const cached_inputs *in, const char *name)
{
        const struct getter *other = NULL;

        for (size_t i = 0; in && i < in->n; i++) {
                const struct getter *g = &in->list[i];

                if (!g->name)
                        other = g;
                else if (name && strcmp(g->name, name) == 0)
                        return g;
        }
        return other;
}

static bool has_getter(const cached_inputs *in, const char *name)
{
        const struct getter *g = getter_find(in, name);

        return g && !g->name == !name;
}

int cached_inputs_add(cached_inputs *in, const char *name, cached_getter get, void *data)
{
        struct getter *list;
        char *copy = NULL;

        if (!in || !get || has_getter(in, name) ||
            (name && wire_cache_name_fault(name, strlen(name))))
                return CACHED_ERR_USAGE;
        if (name)
                copy = strdup(name);
        list = name && !copy ? NULL : realloc(in->list, (in->n + 1) * sizeof(*list));
        if (!list) {
                free(copy);
                return CACHED_ERR_NOMEM;
        }
        in->list = list;
        list[in->n++] = (struct getter){copy, get, data};
        return CACHED_OK;
}

/* ------------------------------------------------------------------------------------- one call */

struct vary *vary_new(const cached_inputs *inputs)
{
        struct vary *v = calloc(1, sizeof(*v));

        if (v)
                v->inputs = inputs;
        return v;
}

static struct vary_input *input_free(struct vary_input *in)
{
        if (in) {
                free(in->name);
                cached_result_free(in->out);
                free(in);
        }
        return NULL;
}

struct vary *vary_free(struct vary *v)
{
        if (!v)
                return NULL;
        for (unsigned i = 0; i < v->n_read; i++)
                (void)input_free(v->read[i]);
        free(v);
        return NULL;
}

void vary_begin(struct vary *v, const uint8_t key[KEY_DIGEST_SIZE])
{
        memcpy(v->looked.at[0].key, key, KEY_DIGEST_SIZE);
        memcpy(v->run.at[0].key, key, KEY_DIGEST_SIZE);
}

void vary_key(const uint8_t parent[KEY_DIGEST_SIZE], const char *name, const void *value, size_t n,
              uint8_t ret[KEY_DIGEST_SIZE])
{
        static const char type[] = "cached-variant";
        struct key_hash h;

        key_hash_init(&h, KEY_PURPOSE_KEY);
        key_bytes_u8(&h, KEY_TAG_NAMED);
        key_tree_write(&h, (const uint8_t *)type, sizeof(type) - 1, 1);
        key_bytes_u8(&h, KEY_TAG_BYTES);
        key_tree_write(&h, parent, KEY_DIGEST_SIZE, 1);
        key_bytes_u8(&h, KEY_TAG_TEXT);
        key_tree_write(&h, (const uint8_t *)name, strlen(name), 1);
        key_bytes_u8(&h, KEY_TAG_BYTES);
        key_tree_write(&h, value, n, 1);
        key_bytes_u8(&h, KEY_TAG_END);
        key_hash_end(&h, ret);
}

/* False: the path is as long as can be. */
static bool path_go(struct vary_path *p, const struct vary_input *in)
{
        struct vary_step *at = &p->at[p->n];
        const void *value;
        size_t n = 0;

        if (p->n == VARY_MAX)
                return false;
        value = cached_result_value(in->out, &n);
        at->input = in;
        vary_key(at->key, in->name, value, n, at[1].key);
        at[1].input = NULL;
        p->n++;
        return true;
}

static bool path_has(const struct vary_path *p, const struct vary_input *in)
{
        for (unsigned i = 0; i < p->n; i++)
                if (p->at[i].input == in)
                        return true;
        return false;
}

unsigned vary_common(const struct vary *v)
{
        unsigned i = 0;

        while (i < v->looked.n && i < v->run.n && v->looked.at[i].input == v->run.at[i].input)
                i++;
        return i;
}

/* -------------------------------------------------------------------------------------- reading */

static struct vary_input *input_find(const struct vary *v, const char *name)
{
        for (unsigned i = 0; i < v->n_read; i++)
                if (strcmp(v->read[i]->name, name) == 0)
                        return v->read[i];
        return NULL;
}

static struct vary_input *input_new(const char *name)
{
        struct vary_input *in = calloc(1, sizeof(*in));

        if (!in)
                return NULL;
        in->name = strdup(name);
        in->out = result_new();
        return in->name && in->out ? in : input_free(in);
}

static int vary_fail(struct vary *v, int code, const char *name)
{
        if (code == CACHED_ERR_NOMEM)
                (void)failure_nomem(&v->why);
        else
                (void)failure_set(&v->why, code,
                                  "the input %s cannot be read: its getter failed with code %d",
                                  name, code);
        return v->code = code;
}

/* Keeps it. */
static int input_keep(struct vary *v, struct vary_input *in, const struct vary_input **ret)
{
        if (v->n_read == sizeof(v->read) / sizeof(*v->read)) {
                (void)input_free(in);
                v->is_too_long = true;
                return CACHED_LIMIT;
        }
        v->read[v->n_read++] = in;
        *ret = in;
        return CACHED_OK;
}

static bool is_being_read(const struct vary *v, const char *name)
{
        for (const struct vary_reading *r = v->reading; r; r = r->outer)
                if (strcmp(r->name, name) == 0)
                        return true;
        return false;
}

static int getter_call(struct vary *v, const struct getter *g, const char *name, cached_result *out)
{
        const struct vary_reading here = {name, v->reading};
        int code;

        v->reading = &here;
        code = g->get(g->data, name, out);
        v->reading = here.outer;
        return code;
}

/* CACHED_NOT_FOUND: nobody knows it; CACHED_LIMIT; any other: the call fails. */
static int vary_read(struct vary *v, const char *name, const struct vary_input **ret)
{
        const struct getter *g = getter_find(v->inputs, name);
        struct vary_input *in = input_find(v, name);
        int code;

        if (in) {
                *ret = in;
                return CACHED_OK;
        }
        if (!g)
                return CACHED_NOT_FOUND;
        in = input_new(name);
        if (!in)
                return vary_fail(v, CACHED_ERR_NOMEM, name);
        in->out->has_value = true;
        code = getter_call(v, g, name, in->out);
        if (code != CACHED_OK) {
                (void)input_free(in);
                return vary_fail(v, code, name);
        }
        return input_keep(v, in, ret);
}

/* As it was seen elsewhere. */
static int vary_borrow(struct vary *v, const struct vary_input *from, const struct vary_input **ret)
{
        struct vary_input *in = input_new(from->name);
        const void *value;
        size_t n = 0;

        value = cached_result_value(from->out, &n);
        if (!in || cached_result_set(in->out, value, n) != CACHED_OK) {
                (void)input_free(in);
                return vary_fail(v, CACHED_ERR_NOMEM, from->name);
        }
        return input_keep(v, in, ret);
}

/* What a run has read now. */
static void run_note(struct vary *v, const struct vary_input *in)
{
        if (!path_has(&v->run, in) && !path_go(&v->run, in))
                v->is_too_long = true;
}

/* An inner computation depends on it, and so do those from `at` on. */
static void note_outer(const struct running *at, const struct vary_input *from)
{
        for (; at && running_is_ours(at); at = at->outer) {
                struct vary *v = at->record->vary;
                const struct vary_input *in;
                int code;

                /* What its own getter reads on the way is noted when that is through. */
                if (!v || is_being_read(v, from->name))
                        continue;
                code = vary_read(v, from->name, &in);
                if (code == CACHED_NOT_FOUND)
                        code = vary_borrow(v, from, &in);
                if (code == CACHED_OK)
                        run_note(v, in);
        }
}

int vary_step(struct vary *v, const char *name, size_t n_name, bool is_lasting,
              uint8_t key[KEY_DIGEST_SIZE])
{
        char text[WIRE_CACHE_NAME_MAX + 1];
        const struct vary_input *in;
        int code;

        if (wire_cache_name_fault(name, n_name))
                return CACHED_LIMIT;
        memcpy(text, name, n_name);
        text[n_name] = '\0';
        code = vary_read(v, text, &in);
        if (code == CACHED_NOT_FOUND || code == CACHED_LIMIT)
                return CACHED_LIMIT;
        if (code != CACHED_OK)
                return code;
        note_outer(running_top(), in);
        if (path_has(&v->looked, in) || !path_go(&v->looked, in))
                return CACHED_LIMIT;
        v->looked.at[v->looked.n - 1].is_lasting = is_lasting;
        memcpy(key, v->looked.at[v->looked.n].key, KEY_DIGEST_SIZE);
        return CACHED_OK;
}

int cached_input(const char *name, const void **ret, size_t *ret_size)
{
        const struct running *top = running_top();
        const struct vary_input *in = NULL;
        struct vary *v;
        int code;

        if (!name || !top || !top->record->vary || !running_is_ours(top) ||
            wire_cache_name_fault(name, strlen(name)))
                return CACHED_ERR_USAGE;
        v = top->record->vary;
        /* Its getters are called in a look-up as well, where there is nothing to read. */
        if (v->reading)
                return CACHED_ERR_USAGE;
        code = vary_read(v, name, &in);
        if (code == CACHED_NOT_FOUND)
                return CACHED_ERR_USAGE;
        if (code != CACHED_OK)
                return code;
        run_note(v, in);
        note_outer(top->outer, in);
        if (ret)
                *ret = cached_result_value(in->out, ret_size);
        else if (ret_size)
                (void)cached_result_value(in->out, ret_size);
        return CACHED_OK;
}
