/* SPDX-License-Identifier: MIT */
/*
 * Memoized functions
 *
 * Looks up, computes on a miss, stores. Nothing is kept between calls, and while the function runs
 * neither a lock nor a connection is held: it may do what it likes, also memoize.
 *
 * Only two things can fail: the program's arguments, which is seen before anything happens, and the
 * function. Whatever else goes wrong is noted in the result, and the function runs. A look-up that
 * failed tells that a store would fail, too; it is tried all the same where the computation took so
 * long that the daemon may be back, and one more attempt is nothing beside it.
 *
 * The key is that of KEYS.md: name, code and arguments. The arguments go in as the digest of their
 * own sequence, so that the caller's builder stays as it is.
 *
 * Concurrent misses of one key all compute; there is no agreement between callers.
 */

#include <cached.h>
#include <string.h>

#include "client/code-id.h"
#include "client/deadline.h"
#include "client/entries.h"
#include "client/key.h"
#include "client/options.h"
#include "client/result.h"
#include "proto/wire.h"

/* A computation that is worth an attempt to store although the look-up failed. */
#define WORTH_ANYWAY_US 1000000u

/* One call of cached_memoize(). */
struct memo {
        cached *c; /* NULL: there is no cache */
        const char *name, *cache;
        cached_key *arguments;
        const struct cached_memo_options *o;
        uint8_t key[CACHED_KEY_SIZE];
        struct cached_result *r;
};

static const struct cached_memo_options defaults = {.wait_ms = OPTIONS_DEFAULT_WAIT_MS};

/* ------------------------------------------------------------------------------------------ key */

static void hash_item(struct key_hash *h, enum key_tag tag, const void *bytes, size_t n)
{
        key_bytes_u8(h, (uint8_t)tag);
        key_tree_write(h, bytes, n, 1);
}

/* No builder is what a program has that found no memory for one: not a function without arguments.
 */
static int arguments_digest(const struct memo *m, uint8_t ret[KEY_DIGEST_SIZE], struct failure *f)
{
        int code;

        if (!m->arguments)
                return failure_set(f, CACHED_ERR_NOMEM,
                                   "the arguments of %s: %s; without any, pass an empty one",
                                   m->name, cached_key_error(NULL));
        code = cached_key_finish(m->arguments, ret);
        return code == CACHED_OK ? code
                                 : failure_set(f, code, "the arguments of %s: %s", m->name,
                                               cached_key_error(m->arguments));
}

/* CACHED_ERR_USAGE: the program is wrong. */
static int memo_check(const struct memo *m, struct failure *f)
{
        const char *fault = wire_cache_name_fault(m->name, strlen(m->name));
        const char *version = m->o->version;

        /* The same rules hold for the name of a function and that of a cache. */
        if (!fault)
                fault = wire_cache_name_fault(m->cache, strlen(m->cache));
        if (fault)
                return failure_set(f, CACHED_ERR_USAGE, "cached_memoize(): %s", fault);
        if (version && wire_utf8_prefix(version, strlen(version)) < strlen(version))
                return failure_set(f, CACHED_ERR_USAGE, "the version of %s is not UTF-8", m->name);
        return CACHED_OK;
}

/* False: nothing identifies the code. */
static bool memo_make_key(struct memo *m, cached_compute compute, const uint8_t *arguments)
{
        const char *version = m->o->version;
        struct code_id id;
        struct key_hash h;

        if (!version && !code_id_find((const void *)(uintptr_t)compute, &id))
                return false;
        key_hash_init(&h, KEY_PURPOSE_KEY);
        hash_item(&h, KEY_TAG_TEXT, m->name, strlen(m->name));
        if (version)
                hash_item(&h, KEY_TAG_TEXT, version, strlen(version));
        else
                hash_item(&h, KEY_TAG_BYTES, id.bytes, id.n);
        hash_item(&h, KEY_TAG_BYTES, arguments, KEY_DIGEST_SIZE);
        key_hash_end(&h, m->key);
        return true;
}

/* ---------------------------------------------------------------------------------------- cache */

static int memo_note(struct memo *m, int code, const cached_reply *reply)
{
        m->r->cache_code = code;
        m->r->why.text[0] = '\0';
        if (code != CACHED_OK)
                (void)failure_set(&m->r->why, code, "%s",
                                  reply ? cached_reply_error(reply) : cached_strerror(code));
        return code;
}

/* CACHED_OK: a hit; CACHED_NOT_FOUND: a miss; else the cache cannot be asked. */
static int memo_look_up(struct memo *m)
{
        struct get_how how = {.is_own = true, .patience_ms = m->o->wait_ms};
        cached_reply *reply;
        int code = entries_get(m->c, m->cache, m->key, sizeof(m->key), how, &reply);

        /* An encoding that another program knows. */
        if (code == CACHED_OK && cached_reply_encoding(reply) != CACHED_ENCODING_RAW)
                code = CACHED_NOT_FOUND;
        code = memo_note(m, code, reply);
        if (code == CACHED_OK)
                result_take_reply(m->r, reply);
        else
                cached_reply_free(reply);
        return code;
}

static void memo_store(struct memo *m, uint64_t cost_us)
{
        struct cached_set_options o = {.has_ttl = m->o->has_ttl,
                                       .ttl_ms = m->o->ttl_ms,
                                       .cost_us = cost_us};
        size_t n = 0;
        const void *value = cached_result_value(m->r, &n);
        cached_reply *reply;
        int code = entries_set(m->c, m->cache, m->key, sizeof(m->key), value, n, &o, m->o->wait_ms,
                               &reply);

        (void)memo_note(m, code, reply);
        cached_reply_free(reply);
}

/* --------------------------------------------------------------------------------------- public */

/* CACHED_OK: a hit; CACHED_NOT_FOUND: a miss; else why there is no cache, as the result has it. */
static int memo_ask(struct memo *m, cached_compute compute, const uint8_t *arguments)
{
        struct cached_result *r = m->r;

        if (!m->c)
                r->cache_code = failure_set(&r->why, CACHED_ERR_USAGE, "there is no handle");
        else if (arguments && memo_make_key(m, compute, arguments))
                return memo_look_up(m);
        else if (arguments)
                r->cache_code = failure_set(&r->why, CACHED_ERR_USAGE,
                                            "nothing identifies the code of %s: link its object "
                                            "with --build-id, or give it a version",
                                            m->name);
        m->c = NULL;
        return r->cache_code;
}

/* @arguments: NULL: there was no memory for their digest. */
static int memo_run(struct memo *m, cached_compute compute, void *data, const uint8_t *arguments)
{
        struct cached_result *r = m->r;
        uint64_t start_ns, cost_us;
        int code, found = memo_ask(m, compute, arguments);

        if (found == CACHED_OK)
                return CACHED_OK;
        start_ns = deadline_now_ns();
        code = compute(data, r);
        cost_us = (deadline_now_ns() - start_ns) / 1000u;
        if (code != CACHED_OK) {
                result_fail(r);
                r->cache_code = CACHED_NOT_FOUND;
                (void)failure_set(&r->why, code, "%s failed with code %d: nothing is stored",
                                  m->name, code);
                return code;
        }
        r->has_value = true;
        if (m->c && (found == CACHED_NOT_FOUND || cost_us >= WORTH_ANYWAY_US))
                memo_store(m, cost_us);
        return CACHED_OK;
}

static int memo_prepare_and_run(struct memo *m, cached_compute compute, void *data)
{
        uint8_t arguments[KEY_DIGEST_SIZE];
        struct cached_result *r = m->r;
        int code;

        if (!m->name || !compute) {
                r->cache_code = CACHED_ERR_USAGE;
                (void)failure_set(&r->why, CACHED_ERR_USAGE,
                                  "cached_memoize() needs a function and its name");
                return CACHED_ERR_USAGE;
        }
        m->cache = m->o->cache ? m->o->cache : m->name;
        code = memo_check(m, &r->why);
        if (code == CACHED_OK)
                code = arguments_digest(m, arguments, &r->why);
        r->cache_code = code;
        if (code != CACHED_OK && code != CACHED_ERR_NOMEM)
                return code;
        return memo_run(m, compute, data, code == CACHED_OK ? arguments : NULL);
}

int cached_memoize(cached *c, const char *name, cached_key *arguments, cached_compute compute,
                   void *data, const cached_memo_options *o, cached_result **ret)
{
        struct memo m = {.c = c,
                         .name = name,
                         .arguments = arguments,
                         .o = o ? o : &defaults,
                         .r = result_new()};
        int code;

        if (ret)
                *ret = m.r;
        if (!m.r)
                return CACHED_ERR_NOMEM;
        code = memo_prepare_and_run(&m, compute, data);
        if (!ret)
                cached_result_free(m.r);
        return code;
}
