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
