/* SPDX-License-Identifier: MIT */
/*
 * Memoized functions
 *
 * Looks up, computes on a miss, stores. Nothing is kept between calls, and while the function runs
 * neither a lock nor a connection of the pool's slots is held: it may do what it likes, also
 * memoize.
 *
 * Who is to compute is the daemon's affair (lease.c): one caller on the whole machine, while the
 * others wait for its value. What that answers decides what happens here; whenever it is no answer,
 * this caller computes, as if it were alone.
 *
 * Only two things can fail: the program's arguments, which is seen before anything happens, and the
 * function. Whatever else goes wrong is noted in the result, and the function runs. A look-up that
 * failed tells that a store would fail, too; it is tried all the same where the computation took so
 * long that the daemon may be back, and one more attempt is nothing beside it.
 *
 * The key is that of KEYS.md: name, code and arguments. The arguments go in as the digest of their
 * own sequence, so that the caller's builder stays as it is.
 */

#include <cached.h>
#include <stdlib.h>
#include <string.h>

#include "client/code-id.h"
#include "client/deadline.h"
#include "client/entries.h"
#include "client/key.h"
#include "client/lease.h"
#include "client/memo.h"
#include "client/options.h"
#include "client/reply.h"
#include "client/result.h"
#include "client/running.h"
#include "proto/wire.h"

/* A computation that is worth an attempt to store although the look-up failed. */
#define WORTH_ANYWAY_US 1000000u

static const struct cached_memo_options defaults = {.wait_ms = OPTIONS_DEFAULT_WAIT_MS,
                                                    .lease = {.wait_ms = CACHED_NEVER}};

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

/* An encoding that another program knows is a miss, and so is the name of an input where a value is
 * wanted. */
static int memo_judge(int code, const cached_reply *reply, bool may_be_node)
{
        if (code == CACHED_OK && (cached_reply_encoding(reply) != CACHED_ENCODING_RAW ||
                                  (reply_entry(reply)->vary && !may_be_node)))
                return CACHED_NOT_FOUND;
        return code;
}

static void memo_note_wait(struct memo *m, const cached_reply *reply)
{
        const Cached__V1__Lease *l = reply_lease(reply);

        if (!l)
                return;
        m->r->waited_ms = l->waited_ms;
        m->r->holder_pid = l->holder_pid;
}

/* What was said when the value was computed is said again. */
static void memo_replay(struct memo *m, const cached_reply *reply)
{
        const cached_messages *list = NULL;
        int code = cached_reply_messages(reply, &list);

        if (code == CACHED_OK)
                record_replay(&m->record, list);
        else if (code != CACHED_NOT_FOUND)
                m->r->cache_code = failure_set(&m->r->why, code,
                                               "the messages that are stored with the value are "
                                               "damaged: none of them is replayed");
}

static void memo_take_hit(struct memo *m, cached_reply *reply)
{
        bool is_stale = reply_is_stale(reply);

        result_take_reply(m->r, reply);
        m->r->is_stale = is_stale;
        memo_replay(m, reply);
}

/* That the values of this cache are to be computed anew. */
static bool memo_is_to_warm(const struct memo *m)
{
        struct warm *w = m->c->pool->warm;

        return w && warm_has(m->c->options.warm, m->cache) &&
               warm_first(w, m->cache, m->key, sizeof(m->key));
}

int memo_look_up(struct memo *m)
{
        struct cached_lease_options how = m->o->lease;
        struct lease_want w = {.cache = m->cache,
                               .key = m->key,
                               .n_key = sizeof(m->key),
                               .o = &how,
                               .patience_ms = m->o->wait_ms,
                               .is_own = true,
                               .with_messages = record_is_heard(&m->record)};
        cached_reply *reply;
        int code;

        if (memo_is_to_warm(m))
                how.refresh = true;
        code = lease_get(m->c, &w, &reply, &m->lease);
        code = memo_judge(code, reply, m->record.vary != NULL);
        if (code == CACHED_NEGATIVE && cached_lease_state(m->lease) == CACHED_LEASE_GRANTED)
                code = CACHED_NOT_FOUND;
        memo_note_wait(m, reply);
        (void)memo_note(m, code == CACHED_NEGATIVE ? CACHED_OK : code, reply);
        if (code == CACHED_NEGATIVE)
                (void)failure_set(&m->r->why, code, "%s", cached_reply_error(reply));
        if (code == CACHED_OK && cached_lease_state(m->lease) == CACHED_LEASE_GRANTED)
                m->old = reply;
        else if (code == CACHED_OK)
                memo_take_hit(m, reply);
        else
                cached_reply_free(reply);
        return code;
}

/* --------------------------------------------------------------------------------------- public */

/* CACHED_OK: a hit; CACHED_NOT_FOUND: a miss; else why there is no cache, as the result has it. */
static int memo_ask(struct memo *m, cached_compute compute, const uint8_t *arguments)
{
        struct cached_result *r = m->r;

        if (!m->c)
                r->cache_code = failure_set(&r->why, CACHED_ERR_USAGE, "there is no handle");
        else if (arguments && memo_make_key(m, compute, arguments))
                return m->record.vary ? memo_look_up_vary(m) : memo_look_up(m);
        else if (arguments)
                r->cache_code = failure_set(&r->why, CACHED_ERR_USAGE,
                                            "nothing identifies the code of %s: link its object "
                                            "with --build-id, or give it a version",
                                            m->name);
        m->c = NULL;
        return r->cache_code;
}

/* ------------------------------------------------------------------------------------- storing */

/* Nothing is stored, and that is no failure. */
static void memo_say(struct memo *m, const char *text)
{
        if (!m->r->is_negative)
                (void)failure_set(&m->r->why, CACHED_NOT_FOUND, "%s %s", m->name, text);
        m->r->cache_code = CACHED_NOT_FOUND;
}

/* It is not stored without what was said, and without what it depends on. */
static int memo_add_messages(struct memo *m, struct cached_set_options *o)
{
        const struct vary *v = m->record.vary;
        int code = m->record.code;

        if (code != CACHED_OK)
                (void)failure_set(
                        &m->r->why, code,
                        "what %s said cannot be recorded, and so its value is not stored: "
                        "%s",
                        m->name,
                        code == CACHED_ERR_NOMEM ? "there is no memory for it" : "it is too much");
        else if (v && v->is_too_long)
                code = failure_set(&m->r->why, CACHED_LIMIT,
                                   "%s read more than %d inputs: nothing is stored", m->name,
                                   VARY_MAX);
        else if (!o->is_negative &&
                 !messages_encode(&m->record.messages, &o->messages, &o->n_messages))
                code = failure_nomem(&m->r->why);
        if (code != CACHED_OK) {
                m->r->cache_code = code;
                (void)cached_lease_end(m->lease, m->r->why.text);
        }
        return code;
}

/* What the function gave, to the cache. @found: what the look-up came to */
static int memo_store(struct memo *m, int found, uint64_t cost_us)
{
        struct cached_result *r = m->r;
        struct cached_set_options o = {.has_ttl = m->o->has_ttl,
                                       .ttl_ms = m->o->ttl_ms,
                                       .is_negative = r->is_negative,
                                       .cost_us = cost_us};
        struct failure reason = r->why;
        size_t n = 0;
        const void *value = cached_result_value(r, &n);
        cached_reply *reply;
        int code;

        if (r->is_negative) {
                value = reason.text;
                n = wire_utf8_prefix(value, strlen(value));
                o.has_ttl |= r->negative_ttl_ms != 0;
                o.ttl_ms = r->negative_ttl_ms ? r->negative_ttl_ms : o.ttl_ms;
        }
        if (!m->lease && found != CACHED_NOT_FOUND && found != CACHED_LIMIT &&
            cost_us < WORTH_ANYWAY_US)
                return r->cache_code;
        code = memo_add_messages(m, &o);
        if (code != CACHED_OK)
                return code;
        if (m->record.vary)
                code = memo_store_vary(m, value, n, &o, &reply);
        else if (m->lease)
                code = lease_set(m->lease, value, n, &o, r->is_declined, m->o->wait_ms, &reply);
        else
                code = entries_set(m->c, m->cache, m->key, sizeof(m->key), value, n, &o,
                                   m->o->wait_ms, &reply);
        free(o.messages);
        (void)memo_note(m, code, reply);
        if (r->is_negative)
                r->why = reason;
        cached_reply_free(reply);
        return code;
}

/* Likewise, where something is to be said before. */
static void memo_keep(struct memo *m, int found, uint64_t cost_us)
{
        struct cached_result *r = m->r;
        bool is_outer = cached_lease_state(m->lease) == CACHED_LEASE_YOURS;

        if (r->is_declined && !m->lease) {
                memo_say(m, "declined: nothing is stored");
        } else if (r->is_negative && pool_leases(m->c->pool) != POOL_LEASES_YES) {
                /* It would be taken for a value. */
                r->cache_code = CACHED_UNSUPPORTED;
        } else if (memo_store(m, found, cost_us) == CACHED_OK && (r->is_declined || is_outer)) {
                memo_say(m, r->is_declined ? "declined: nothing is stored"
                                           : "ran for itself: its outer run stores");
        }
}

/* ------------------------------------------------------------------------------------- computing
 */

/*
 * What may be served though computing it anew failed: what is stored now, since it may have been
 * cleared while the function ran. What the look-up brought stands for it only where nobody can be
 * asked. NULL: nothing.
 */
static cached_reply *memo_get_old(struct memo *m)
{
        struct get_how how = {.is_own = true,
                              .no_touch = true,
                              .with_messages = record_is_heard(&m->record),
                              .patience_ms = m->o->wait_ms};
        cached_reply *old = m->old, *reply;
        int code;

        m->old = NULL;
        code = entries_get(m->c, m->cache, m->key, sizeof(m->key), how, &reply);
        code = memo_judge(code, reply, false);
        if (code == CACHED_OK && (old || reply_is_stale(reply))) {
                cached_reply_free(old);
                return reply;
        }
        cached_reply_free(reply);
        if (code == CACHED_OK || code == CACHED_NOT_FOUND || code == CACHED_NEGATIVE) {
                cached_reply_free(old);
                old = NULL;
        }
        return old;
}

/*
 * The function failed, with the reason in the result. Whoever waits may try; where the policy says
 * so, what was there before serves on, for this caller, too. True: it does.
 */
static bool memo_fail(struct memo *m)
{
        struct failure why = m->r->why;
        cached_reply *reply = NULL;

        if (m->old || (m->lease && m->lease->is_held)) {
                lease_end_now(m->lease, why.text, m->o->wait_ms);
                reply = memo_get_old(m);
        }
        result_reset(m->r);
        if (reply)
                memo_take_hit(m, reply);
        m->r->why = why;
        m->r->cache_code = CACHED_NOT_FOUND;
        return reply != NULL;
}

/* With its place on the stack of what this thread computes. */
static int memo_call(struct memo *m, cached_compute compute, void *data)
{
        const struct running *top = running_top();
        struct running here = {.pool = m->c ? m->c->pool : NULL,
                               .record = &m->record,
                               .lease = m->lease && m->lease->is_held ? m->lease : NULL};
        int code;

        if (m->lease)
                here.owner = m->lease->owner;
        else if (top && top->pool == here.pool && running_is_ours(top))
                here.owner = top->owner;
        running_push(&here);
        code = compute(data, m->r);
        running_pop(&here);
        return code;
}

/* Without its inputs it cannot be told what its value is. */
static int memo_fail_of_input(struct memo *m)
{
        const struct vary *v = m->record.vary;

        (void)cached_lease_end(m->lease, v->why.text);
        result_reset(m->r);
        result_fail(m->r);
        m->r->why = v->why;
        m->r->cache_code = CACHED_NOT_FOUND;
        return v->code;
}

static int memo_compute(struct memo *m, cached_compute compute, void *data, int found)
{
        struct cached_result *r = m->r;
        struct failure before = r->why;
        uint64_t start_ns = deadline_now_ns(), cost_us;
        int code;

        r->why.text[0] = '\0';
        code = memo_call(m, compute, data);
        if (m->record.vary && m->record.vary->code != CACHED_OK)
                return memo_fail_of_input(m);
        cost_us = (deadline_now_ns() - start_ns) / 1000u;
        if (code != CACHED_OK) {
                if (!r->has_reason || r->is_negative)
                        (void)failure_set(&r->why, code,
                                          "%s failed with code %d: nothing is stored", m->name,
                                          code);
                return memo_fail(m) ? CACHED_OK : code;
        }
        r->has_value = !r->is_negative;
        if (!r->is_negative) {
                r->has_reason = false;
                r->why = before;
        }
        if (m->c)
                memo_keep(m, found, cost_us);
        return r->is_negative ? CACHED_NEGATIVE : CACHED_OK;
}

/* @arguments: NULL: there was no memory for their digest. */
static int memo_run(struct memo *m, cached_compute compute, void *data, const uint8_t *arguments)
{
        const struct vary *v = m->record.vary;
        int code = memo_ask(m, compute, arguments);

        if (v && v->code != CACHED_OK)
                code = memo_fail_of_input(m);
        else if (code == CACHED_NEGATIVE)
                m->r->is_hit = true;
        else if (code != CACHED_OK || m->old)
                code = memo_compute(m, compute, data, code);
        cached_reply_free(m->old);
        cached_lease_free(m->lease);
        return code;
}

static int memo_prepare_and_run(struct memo *m, cached_compute compute, void *data)
{
        uint8_t arguments[KEY_DIGEST_SIZE];
        struct cached_result *r = m->r;
        int code;

        if (!m->name || !m->name[0] || !compute) {
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

/* @m: all that is in the caller's arguments; *ret: as the public calls have it */
static int memoize(struct memo *m, cached_compute compute, void *data, cached_result **ret)
{
        int code;

        m->r = result_new();
        if (ret)
                *ret = m->r;
        if (!m->r)
                return CACHED_ERR_NOMEM;
        m->record.show = m->o->on_message;
        m->record.data = m->o->on_message_data;
        code = memo_prepare_and_run(m, compute, data);
        record_done(&m->record);
        if (!ret)
                cached_result_free(m->r);
        return code;
}

int cached_memoize(cached *c, const char *name, cached_key *arguments, cached_compute compute,
                   void *data, const cached_memo_options *o, cached_result **ret)
{
        struct memo m = {.c = c, .name = name, .arguments = arguments, .o = o ? o : &defaults};

        return memoize(&m, compute, data, ret);
}

int cached_memoize_vary(cached *c, const char *name, cached_key *arguments,
                        const cached_inputs *inputs, cached_compute compute, void *data,
                        const cached_memo_options *o, cached_result **ret)
{
        struct memo m = {.c = c, .name = name, .arguments = arguments, .o = o ? o : &defaults};
        int code;

        m.record.vary = vary_new(inputs);
        if (!m.record.vary) {
                if (ret)
                        *ret = NULL;
                return CACHED_ERR_NOMEM;
        }
        code = memoize(&m, compute, data, ret);
        (void)vary_free(m.record.vary);
        return code;
}

int cached_progress(const char *text, double fraction)
{
        const struct running *r = running_top();
        uint32_t permille = 0;

        while (r && !(r->lease && running_is_ours(r)))
                r = r->outer;
        if (!r)
                return CACHED_NOT_FOUND;
        if (fraction >= 1)
                permille = 1000;
        else if (fraction > 0)
                permille = (uint32_t)(fraction * 1000);
        return cached_lease_progress(r->lease, text, permille);
}
