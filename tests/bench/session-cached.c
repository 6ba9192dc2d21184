/* SPDX-License-Identifier: MIT */
/*
 * Sessions through libcached
 *
 * As an application would use it: each call waits for its reply, so one request is in flight.
 */
#include <cached-session.h>
#include <cached.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "session-load.h"

#define KEYS_MAX 1000

struct mine {
        struct session_client base;
        cached *handle;
        cached_session **sessions;
        uint64_t n;
        size_t n_value; /* of the latest call */
};

static int check(int code)
{
        if (code == CACHED_OK)
                return 0;
        fprintf(stderr, "bench-session: %s\n", cached_strerror(code));
        return -EBADMSG;
}

/* The key without its length. */
static const char *key_text(const char key[SESSION_KEY], char buf[SESSION_KEY + 1])
{
        memcpy(buf, key, SESSION_KEY);
        buf[SESSION_KEY] = '\0';
        return buf;
}

static void mine_disconnect(struct session_client *c)
{
        struct mine *m = (struct mine *)c;
        for (uint64_t i = 0; m->sessions && i < m->n; i++)
                cached_session_free(m->sessions[i]);
        free(m->sessions);
        cached_free(m->handle);
        free(m);
}

static int mine_connect(const char *path, uint64_t n, struct session_client **ret)
{
        struct mine *m = calloc(1, sizeof(*m));
        cached_options *o = cached_options_new();
        int code = m && o ? cached_options_set_socket(o, path) : CACHED_ERR_NOMEM;
        if (m) {
                m->base.type = &session_cached;
                m->n = n;
                m->sessions = calloc(n, sizeof(*m->sessions));
        }
        if (code == CACHED_OK && !m->sessions)
                code = CACHED_ERR_NOMEM;
        if (code == CACHED_OK)
                code = cached_new(o, &m->handle);
        if (code == CACHED_OK)
                code = cached_connect(m->handle, NULL);
        cached_options_free(o);
        if (code != CACHED_OK) {
                if (m)
                        mine_disconnect(&m->base);
                return check(code);
        }
        *ret = &m->base;
        return 0;
}

static int mine_open(struct session_client *c, uint64_t session, uint64_t idle_ms)
{
        struct mine *m = (struct mine *)c;
        cached_session_options *o = cached_session_options_new();
        int code = o ? cached_session_options_set_idle_ms(o, idle_ms ? idle_ms : CACHED_NEVER)
                     : CACHED_ERR_NOMEM;
        if (code == CACHED_OK)
                code = cached_session_open(m->handle, o, &m->sessions[session], NULL);
        cached_session_options_free(o);
        m->n_value = 0;
        return check(code);
}

static int mine_fill(struct session_client *c, uint64_t session, unsigned n_keys, const void *value,
                     size_t n_value)
{
        struct mine *m = (struct mine *)c;
        static char texts[KEYS_MAX][SESSION_KEY + 1];
        const char *keys[KEYS_MAX];
        const void *values[KEYS_MAX];
        size_t n_values[KEYS_MAX];
        if (n_keys > KEYS_MAX)
                return -E2BIG;
        for (unsigned i = 0; i < n_keys; i++) {
                session_key(i, texts[i]);
                keys[i] = texts[i];
                values[i] = value;
                n_values[i] = n_value;
        }
        m->n_value = 0;
        return check(cached_session_set_many(m->sessions[session], n_keys, keys, values, n_values,
                                             NULL));
}

static int mine_get(struct session_client *c, uint64_t session, const char key[SESSION_KEY])
{
        struct mine *m = (struct mine *)c;
        cached_reply *reply = NULL;
        char text[SESSION_KEY + 1];
        int code = cached_session_get(m->sessions[session], key_text(key, text), &reply);
        m->n_value = 0;
        if (code == CACHED_OK)
                (void)cached_reply_value(reply, &m->n_value);
        cached_reply_free(reply);
        return check(code);
}

static int mine_set(struct session_client *c, uint64_t session, const char key[SESSION_KEY],
                    const void *value, size_t n_value)
{
        struct mine *m = (struct mine *)c;
        char text[SESSION_KEY + 1];
        m->n_value = 0;
        return check(cached_session_set(m->sessions[session], key_text(key, text), value, n_value,
                                        NULL));
}

static int mine_all(struct session_client *c, uint64_t session)
{
        struct mine *m = (struct mine *)c;
        cached_reply *reply = NULL;
        int code = cached_session_get_all(m->sessions[session], &reply);
        size_t n;
        m->n_value = 0;
        for (size_t i = 0; cached_session_item(reply, i, NULL, &n); i++)
                m->n_value += n;
        cached_reply_free(reply);
        return check(code);
}

static int mine_end(struct session_client *c, uint64_t session)
{
        struct mine *m = (struct mine *)c;
        m->n_value = 0;
        return check(cached_session_close(m->sessions[session], NULL));
}

static int mine_next(struct session_client *c, size_t *ret)
{
        *ret = ((struct mine *)c)->n_value;
        return 0;
}

const struct session_type session_cached = {
        .name = "cached",
        .max_window = 1,
        .connect = mine_connect,
        .disconnect = mine_disconnect,
        .open = mine_open,
        .fill = mine_fill,
        .get = mine_get,
        .set = mine_set,
        .all = mine_all,
        .end = mine_end,
        .next = mine_next,
};
