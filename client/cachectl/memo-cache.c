/* SPDX-License-Identifier: MIT */

/*
 * Memo and the daemon
 *
 * What another uid has stored is a miss: in a shared realm it could be anything.
 *
 * Digests live in a cache of their own under the file's identity; what is remembered there is true
 * for ever, and leaves after DIGEST_TTL only because files go.
 */

#include "memo-cache.h"

#include "fields.h"

#include <stdio.h>
#include <string.h>

#define DIGEST_TTL_MS (UINT64_C(30) * 86400 * 1000)
/* In one request; far below what a daemon takes by default. */
#define BATCH             256
#define N_CODES_OF_DAEMON 64

static bool failed(struct memo_cache *c, int code, const cached_reply *reply)
{
        const char *why = reply ? cached_reply_error(reply) : "";

        c->code = code;
        (void)snprintf(c->why, sizeof(c->why), "%s", *why ? why : cached_strerror(code));
        return false;
}

bool memo_cache_open(struct memo_cache *c, const struct ctl *ctl, const char *name,
                     uint32_t timeout_ms)
{
        cached_reply *hello = NULL;
        int r;

        *c = (struct memo_cache){.name = name};
        r = ctl_dial(ctl, "cachectl memo", timeout_ms, &c->client, &hello);
        if (r == CACHED_OK) {
                c->max_value = fields_u64(hello, "", "max_value_bytes");
                c->uid = fields_u64(hello, "", "uid");
        } else
                (void)failed(c, r, hello);
        cached_reply_free(hello);
        return r == CACHED_OK;
}

void memo_cache_done(struct memo_cache *c)
{
        cached_free(c->client);
        c->client = NULL;
}

bool memo_cache_is_away(const struct memo_cache *c)
{
        return c->code >= N_CODES_OF_DAEMON || c->code == CACHED_SHUTTING_DOWN ||
               c->code == CACHED_DEADLINE;
}

/* What of a reply is ours; it is freed otherwise. */
static cached_reply *take(struct memo_cache *c, int code, cached_reply *reply)
{
        if (code == CACHED_OK && cached_reply_uid(reply) == c->uid &&
            cached_reply_encoding(reply) == CACHED_ENCODING_RAW)
                return reply;
        if (code != CACHED_OK && code != CACHED_NOT_FOUND && code != CACHED_NEGATIVE)
                (void)failed(c, code, reply);
        cached_reply_free(reply);
        return NULL;
}

cached_reply *memo_cache_get(struct memo_cache *c, const uint8_t key[CACHED_KEY_SIZE])
{
        cached_reply *reply = NULL;
        int r;

        r = cached_get(c->client, c->name, key, CACHED_KEY_SIZE, &reply);
        return take(c, r, reply);
}

void memo_cache_ask(struct memo_cache *c, const uint8_t key[CACHED_KEY_SIZE],
                    const cached_lease_options *o, cached_reply **ret, cached_lease **ret_lease)
{
        cached_reply *reply = NULL;
        int r;

        r = cached_get_or_lease(c->client, c->name, key, CACHED_KEY_SIZE, o, &reply, ret_lease);
        *ret = take(c, r, reply);
}

bool memo_cache_set(struct memo_cache *c, const uint8_t key[CACHED_KEY_SIZE], cached_lease *lease,
                    const void *record, size_t n, uint64_t ttl_ms, uint64_t took_us)
{
        cached_set_options *o = cached_set_options_new();
        cached_reply *reply = NULL;
        int r = o ? CACHED_OK : CACHED_ERR_NOMEM;

        if (r == CACHED_OK && ttl_ms > 0)
                r = cached_set_options_set_ttl_ms(o, ttl_ms);
        if (r == CACHED_OK)
                r = cached_set_options_set_cost_us(o, took_us);
        if (r == CACHED_OK && lease)
                r = cached_lease_set(lease, record, n, o, &reply);
        else if (r == CACHED_OK)
                r = cached_set(c->client, c->name, key, CACHED_KEY_SIZE, record, n, o, &reply);
        if (r != CACHED_OK)
                (void)failed(c, r, reply);
        cached_reply_free(reply);
        cached_set_options_free(o);
        return r == CACHED_OK;
}

/* Files of one request, as the library takes them. */
struct batch {
        const void *keys[BATCH], *values[BATCH];
        size_t n_keys[BATCH], n_values[BATCH];
        struct memo_file *files[BATCH];
        size_t n;
};

static void batch_add(struct batch *b, struct memo_file *f)
{
        b->keys[b->n] = f->id;
        b->n_keys[b->n] = sizeof(f->id);
        b->values[b->n] = f->digest;
        b->n_values[b->n] = sizeof(f->digest);
        b->files[b->n++] = f;
}

static void recall_batch(struct memo_cache *c, struct batch *b)
{
        cached_reply *reply = NULL;
        int r;

        r = cached_get_many(c->client, MEMO_DIGESTS, b->n, b->keys, b->n_keys, &reply);
        if (r != CACHED_OK)
                (void)failed(c, r, reply);
        for (size_t i = 0; r == CACHED_OK && i < b->n; i++) {
                char prefix[FIELDS_PATH_SIZE];
                size_t n = 0;
                const void *digest = cached_reply_item_value(reply, i, &n);

                if (!digest || n != CACHED_KEY_SIZE ||
                    fields_u64(reply, fields_item(prefix, "items", i), "entry.uid") != c->uid)
                        continue;
                memcpy(b->files[i]->digest, digest, CACHED_KEY_SIZE);
                b->files[i]->known = true;
        }
        cached_reply_free(reply);
        b->n = 0;
}

void memo_cache_recall(struct memo_cache *c, struct memo_file *const *files, size_t n)
{
        struct batch b = {.n = 0};

        for (size_t i = 0; i < n && !memo_cache_is_away(c); i++) {
                if (files[i]->large && !files[i]->unreadable)
                        batch_add(&b, files[i]);
                if (b.n == BATCH)
                        recall_batch(c, &b);
        }
        if (b.n > 0)
                recall_batch(c, &b);
}

static void remember_batch(struct memo_cache *c, struct batch *b, const cached_set_options *o)
{
        cached_reply *reply = NULL;
        int r;

        r = cached_set_many(c->client, MEMO_DIGESTS, b->n, b->keys, b->n_keys, b->values,
                            b->n_values, o, &reply);
        if (r != CACHED_OK)
                (void)failed(c, r, reply);
        cached_reply_free(reply);
        b->n = 0;
}

void memo_cache_remember(struct memo_cache *c, struct memo_file *const *files, size_t n)
{
        cached_set_options *o = cached_set_options_new();
        struct batch b = {.n = 0};

        if (!o || cached_set_options_set_ttl_ms(o, DIGEST_TTL_MS) != CACHED_OK)
                n = 0;
        for (size_t i = 0; i < n && !memo_cache_is_away(c); i++) {
                if (files[i]->large && files[i]->settled && files[i]->known)
                        batch_add(&b, files[i]);
                if (b.n == BATCH)
                        remember_batch(c, &b, o);
        }
        if (b.n > 0)
                remember_batch(c, &b, o);
        cached_set_options_free(o);
}
