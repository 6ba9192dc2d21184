/* SPDX-License-Identifier: MIT */
/*
 * session - a counter and a list of visitors that several processes share, and nobody else sees
 *
 * Usage: session
 *
 * Without $CACHED_SESSION it opens a session and prints its token. Started with that as
 * $CACHED_SESSION in other terminals, again and again, each says how many there were, and who.
 * However many of them run at a time, no visit is lost or counted twice, also if the daemon is
 * replaced or killed meanwhile. (A token does not belong on a command line: there everybody can
 * read it.)
 *
 *      cc session.c $(pkg-config --cflags --libs cached) -o session
 */

#include <cached.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int failed(const char *what, cached_reply *r)
{
        fprintf(stderr, "session: %s: %s\n", what, cached_reply_error(r));
        cached_reply_free(r);
        return EXIT_FAILURE;
}

static int open_one(cached *c)
{
        cached_session_options *o = cached_session_options_new();
        cached_session *s = NULL;
        cached_reply *r = NULL;
        int code;

        if (!o)
                return EXIT_FAILURE;
        (void)cached_session_options_set_label(o, "example");
        (void)cached_session_options_set_idle_ms(o, 3600000);
        code = cached_session_open(c, o, &s, &r);
        cached_session_options_free(o);
        if (code != CACHED_OK)
                return failed("no session was opened", r);
        cached_reply_free(r);
        puts(cached_session_token(s));
        cached_session_free(s);
        return EXIT_SUCCESS;
}

/* Whoever is here for the first time says so in a cache of the session's own. */
static const char *greeting(cached_session *s)
{
        const char *words = "welcome";
        cached_reply *r = NULL;
        cached *own;

        if (cached_session_handle(s, &own) != CACHED_OK)
                return "hello";
        if (cached_get(own, "greeted", "everybody", 9, &r) == CACHED_OK)
                words = "welcome back";
        else
                (void)cached_set(own, "greeted", "everybody", 9, "yes", 3, NULL, NULL);
        cached_reply_free(r);
        cached_free(own);
        return words;
}

static int visit(cached_session *s)
{
        const int64_t none = 0;
        int64_t visits = 0;
        cached_reply *r = NULL;
        const void *list;
        size_t n = 0;
        char who[32];
        int n_who = snprintf(who, sizeof(who), " %ld", (long)getpid());

        if (cached_session_increment(s, "visits", 1, &none, &visits, &r) != CACHED_OK)
                return failed("the visit was not counted", r);
        cached_reply_free(r);
        if (cached_session_append(s, "visitors", who, (size_t)n_who, 60, &r) != CACHED_OK)
                return failed("the visitor was not listed", r);
        cached_reply_free(r);
        if (cached_session_get(s, "visitors", &r) != CACHED_OK)
                return failed("no list of visitors", r);
        list = cached_reply_value(r, &n);
        printf("%s: visit %" PRId64 ", latest visitors%.*s\n", greeting(s), visits, (int)n,
               (const char *)list);
        cached_reply_free(r);
        return EXIT_SUCCESS;
}

int main(void)
{
        const char *token = getenv("CACHED_SESSION");
        cached_session *s;
        cached_reply *r = NULL;
        cached *c;
        int status;

        if (cached_new(NULL, &c) != CACHED_OK)
                return EXIT_FAILURE;
        if (!token) {
                status = open_one(c);
        } else if (cached_session_attach(c, token, &s, &r) == CACHED_OK) {
                cached_reply_free(r);
                status = visit(s);
                cached_session_free(s);
        } else {
                status = failed("no such session", r);
        }
        cached_free(c);
        return status;
}
