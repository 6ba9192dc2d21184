/* SPDX-License-Identifier: MIT */
/*
 * Sessions: their life, and reading them
 *
 * A session object is a token and a handle: nothing is kept between calls. What changes a session
 * is in session-change.c.
 */

#include "client/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_MAX 64

/* ------------------------------------------------------------------------------------- options */

cached_session_options *cached_session_options_new(void)
{
        cached_session_options *o = calloc(1, sizeof(*o));

        if (o)
                o->grace_ms = CACHED_NEVER;
        return o;
}

void cached_session_options_free(cached_session_options *o)
{
        if (!o)
                return;
        free(o->label);
        free(o);
}

int cached_session_options_set_label(cached_session_options *o, const char *label)
{
        char *copy;

        if (!o || !label || strlen(label) > LABEL_MAX)
                return CACHED_ERR_USAGE;
        copy = strdup(label);
        if (!copy)
                return CACHED_ERR_NOMEM;
        free(o->label);
        o->label = copy;
        return CACHED_OK;
}

int cached_session_options_set_idle_ms(cached_session_options *o, uint64_t ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->idle_ms = ms;
        return CACHED_OK;
}

int cached_session_options_set_grace_ms(cached_session_options *o, uint64_t ms)
{
        if (!o)
                return CACHED_ERR_USAGE;
        o->grace_ms = ms;
        return CACHED_OK;
}

static void options_to_message(const cached_session_options *o, Cached__V1__OpenSession *ret)
{
        if (!o)
                return;
        if (o->label)
                ret->label = o->label;
        if (o->idle_ms == CACHED_NEVER) {
                ret->idle_case = CACHED__V1__OPEN_SESSION__IDLE_NEVER_IDLE;
                ret->never_idle = 1;
        } else if (o->idle_ms > 0) {
                ret->idle_case = CACHED__V1__OPEN_SESSION__IDLE_IDLE_MS;
                ret->idle_ms = o->idle_ms;
        }
        if (o->grace_ms != CACHED_NEVER) {
                ret->bound_case = CACHED__V1__OPEN_SESSION__BOUND_GRACE_MS;
                ret->grace_ms = o->grace_ms;
        }
}

/* ---------------------------------------------------------------------------------------- life */

static int digit_of(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* False: it is no token's text. */
static bool token_parse(const char *text, uint8_t ret[SESSION_TOKEN_SIZE])
{
        if (strnlen(text, CACHED_SESSION_TOKEN_LENGTH + 1) != CACHED_SESSION_TOKEN_LENGTH)
                return false;
        for (size_t i = 0; i < SESSION_TOKEN_SIZE; i++) {
                int high = digit_of(text[2 * i]), low = digit_of(text[2 * i + 1]);

                if (high < 0 || low < 0)
                        return false;
                ret[i] = (uint8_t)(high << 4 | low);
        }
        return true;
}

static cached_session *session_new(cached *c, const uint8_t *token)
{
        cached_session *s = calloc(1, sizeof(*s));

        if (!s)
                return NULL;
        s->handle = c;
        memcpy(s->token, token, sizeof(s->token));
        for (size_t i = 0; i < sizeof(s->token); i++)
                (void)snprintf(s->text + 2 * i, 3, "%02x", token[i]);
        return s;
}

int session_hand_out(int code, cached_reply *r, cached_reply **reply)
{
        if (code == CACHED_ERR_NOMEM || !reply) {
                cached_reply_free(r);
                r = NULL;
        }
        if (reply)
                *reply = r;
        return code;
}

int cached_session_open(cached *c, const cached_session_options *o, cached_session **ret,
                        cached_reply **reply)
{
        Cached__V1__OpenSession m = CACHED__V1__OPEN_SESSION__INIT;
        struct call call = session_call(CACHED__V1__REQUEST__OP_OPEN_SESSION);
        cached_reply *r = NULL;
        const ProtobufCBinaryData *token;
        int code;

        if (!c || !ret)
                return call_refuse("cached_session_open() needs a handle and a place for the "
                                   "session",
                                   reply);
        options_to_message(o, &m);
        call.request.open_session = &m;
        code = call_run(c, &call, &r);
        if (code != CACHED_OK)
                return session_hand_out(code, r, reply);
        token = &r->message->session->token;
        if (token->len != SESSION_TOKEN_SIZE) {
                cached_reply_free(r);
                return call_refuse_reply("the daemon opened a session without a token", reply);
        }
        *ret = session_new(c, token->data);
        /* A session that nobody can name ends by itself. */
        return session_hand_out(*ret ? CACHED_OK : CACHED_ERR_NOMEM, r, reply);
}

int cached_session_attach(cached *c, const char *token, cached_session **ret, cached_reply **reply)
{
        uint8_t bytes[SESSION_TOKEN_SIZE];
        cached_session *s;
        int code;

        if (!c || !token || !ret)
                return call_refuse("cached_session_attach() needs a handle, a token and a place "
                                   "for the session",
                                   reply);
        if (!token_parse(token, bytes))
                return call_refuse("that is no token of a session: one has 32 digits 0 to 9 and a "
                                   "to f, in small letters",
                                   reply);
        s = session_new(c, bytes);
        if (!s)
                return session_hand_out(CACHED_ERR_NOMEM, NULL, reply);
        code = cached_session_info(s, reply);
        if (code == CACHED_OK)
                *ret = s;
        else
                cached_session_free(s);
        return code;
}

void cached_session_free(cached_session *s)
{
        if (s)
                explicit_bzero(s, sizeof(*s));
        free(s);
}

const char *cached_session_token(const cached_session *s)
{
        return s ? s->text : NULL;
}

int cached_session_info(cached_session *s, cached_reply **ret)
{
        Cached__V1__AttachSession m = CACHED__V1__ATTACH_SESSION__INIT;
        struct call call = session_call(CACHED__V1__REQUEST__OP_ATTACH_SESSION);

        if (!s)
                return call_refuse("cached_session_info() needs a session", ret);
        m.token = session_token(s);
        call.request.attach_session = &m;
        call.idempotent = true;
        return call_run(s->handle, &call, ret);
}

int cached_session_close(cached_session *s, cached_reply **ret)
{
        Cached__V1__CloseSession m = CACHED__V1__CLOSE_SESSION__INIT;
        struct call call = session_call(CACHED__V1__REQUEST__OP_CLOSE_SESSION);

        if (!s)
                return call_refuse("cached_session_close() needs a session", ret);
        m.token = session_token(s);
        call.request.close_session = &m;
        return call_run(s->handle, &call, ret);
}

int cached_session_is_over(const cached_reply *r)
{
        return r && r->code == CACHED_NOT_FOUND && r->message &&
               r->message->result_case == CACHED__V1__REPLY__RESULT__NOT_SET;
}

int cached_session_list(cached *c, uint32_t page_size, uint64_t cursor, cached_reply **ret)
{
        Cached__V1__ListSessions m = CACHED__V1__LIST_SESSIONS__INIT;
        struct call call = session_call(CACHED__V1__REQUEST__OP_LIST_SESSIONS);

        if (!c)
                return call_refuse("cached_session_list() needs a handle", ret);
        m.page_size = page_size;
        m.cursor = cursor;
        call.request.list_sessions = &m;
        call.idempotent = true;
        return call_run(c, &call, ret);
}

/* ------------------------------------------------------------------------------------- reading */

/* No keys: all. */
static int get(cached_session *s, const char *const *keys, size_t n, bool without_values,
               cached_reply **ret)
{
        Cached__V1__SessionGet m = CACHED__V1__SESSION_GET__INIT;
        struct call call = session_call(CACHED__V1__REQUEST__OP_SESSION_GET);
        cached_reply *r = NULL;
        int code;

        m.token = session_token(s);
        m.n_keys = n;
        m.keys = (char **)(uintptr_t)keys;
        m.without_values = without_values;
        call.request.session_get = &m;
        call.idempotent = true;
        code = call_run(s->handle, &call, &r);
        if (code == CACHED_OK && ((n > 0 && r->message->session_items->n_items != n) ||
                                  (!without_values && !reply_has_session_values(r)))) {
                cached_reply_free(r);
                return call_refuse_reply("the daemon's reply does not have the values that it was "
                                         "asked for",
                                         ret);
        }
        return session_hand_out(code, r, ret);
}

int session_no_value(cached_reply *r, const char *key, cached_reply **ret)
{
        char text[256];

        (void)snprintf(text, sizeof(text), "the session has no value for the key '%s'", key);
        return session_hand_out(reply_fail(r, CACHED_NOT_FOUND, text) ? CACHED_NOT_FOUND
                                                                      : CACHED_ERR_NOMEM,
                                r, ret);
}

/* The reply about one key is that key's. */
static int one(int code, const char *key, cached_reply *r, cached_reply **ret)
{
        const Cached__V1__SessionItems *m = code == CACHED_OK ? r->message->session_items : NULL;

        if (m && m->items[0]->status != CACHED__V1__STATUS__OK)
                return session_no_value(r, key, ret);
        return session_hand_out(code, r, ret);
}

int cached_session_get(cached_session *s, const char *key, cached_reply **ret)
{
        cached_reply *r = NULL;
        int code;

        if (!s || !key)
                return call_refuse("cached_session_get() needs a session and a key", ret);
        code = get(s, &key, 1, false, &r);
        return one(code, key, r, ret);
}

int cached_session_contains(cached_session *s, const char *key)
{
        cached_reply *r = NULL;
        int code;

        if (!s || !key)
                return CACHED_ERR_USAGE;
        code = get(s, &key, 1, true, &r);
        return one(code, key, r, NULL);
}

int cached_session_get_many(cached_session *s, size_t n, const char *const *keys,
                            cached_reply **ret)
{
        if (!s || n == 0 || !keys)
                return call_refuse("cached_session_get_many() needs a session and keys", ret);
        for (size_t i = 0; i < n; i++)
                if (!keys[i])
                        return call_refuse("cached_session_get_many(): a key is NULL", ret);
        return get(s, keys, n, false, ret);
}

int cached_session_get_all(cached_session *s, cached_reply **ret)
{
        return s ? get(s, NULL, 0, false, ret)
                 : call_refuse("cached_session_get_all() needs a session", ret);
}

int cached_session_keys(cached_session *s, cached_reply **ret)
{
        return s ? get(s, NULL, 0, true, ret)
                 : call_refuse("cached_session_keys() needs a session", ret);
}

const char *cached_session_item(const cached_reply *r, size_t i, const void **ret_value,
                                size_t *ret_size)
{
        const Cached__V1__SessionItem *item;

        if (!r || !r->message ||
            r->message->result_case != CACHED__V1__REPLY__RESULT_SESSION_ITEMS ||
            i >= r->message->session_items->n_items)
                return NULL;
        item = r->message->session_items->items[i];
        if (ret_size)
                *ret_size = (size_t)item->size;
        if (ret_value)
                *ret_value = cached_reply_item_value(r, i, NULL);
        return item->key;
}

/* ------------------------------------------------------------------------- more than values */

int cached_session_handle(cached_session *s, cached **ret)
{
        struct cached_options o;
        int code;

        if (!s || !ret)
                return CACHED_ERR_USAGE;
        if (!options_copy(&s->handle->options, &o))
                return CACHED_ERR_NOMEM;
        /* Nothing that is at hand may be another session's, or the realm's: so all of it, and the
         * connections, are of its own. */
        o.no_map = true;
        o.n_views = 0;
        o.has_session = true;
        memcpy(o.session, s->token, sizeof(o.session));
        code = cached_new(&o, ret);
        options_done(&o);
        return code;
}

int cached_session_watch(cached_session *s, cached_events **ret, cached_reply **reply)
{
        if (reply)
                *reply = NULL;
        if (!s || !ret)
                return call_refuse("cached_session_watch() needs a session and a place for the "
                                   "subscription",
                                   reply);
        return events_watch_session(s->handle, s->token, ret, reply);
}
