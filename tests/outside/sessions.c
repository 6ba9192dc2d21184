/* SPDX-License-Identifier: MIT */
/*
 * Sessions of libcached against a daemon, driven by a test: a command a line, an answer a line. See
 * `commands` for them; an answer is a code and a text.
 */

#include <cached.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS       5
#define THREADS_MAX 16

struct driver {
        cached *c;
        cached_session *s;
        cached *own; /* for the session's own caches */
        cached_events *events;
};

static void say(int code, const char *text, size_t n)
{
        printf("%d %.*s\n", code, (int)n, text);
        (void)fflush(stdout);
}

/* The value, or why there is none. */
static void say_reply(int code, cached_reply *r)
{
        size_t n = 0;
        const char *text = cached_reply_value(r, &n);

        if (!text) {
                text = cached_reply_error(r);
                n = strlen(text);
        }
        say(code, text, n);
        cached_reply_free(r);
}

/* ---- life */

static void run_open(struct driver *d, char **w)
{
        cached_session_options *o = cached_session_options_new();
        cached_reply *r = NULL;
        int code = cached_session_options_set_label(o, w[1]);

        if (code != CACHED_OK) {
                say(code, "", 0);
                cached_session_options_free(o);
                return;
        }
        if (*w[2])
                (void)cached_session_options_set_idle_ms(o, strtoull(w[2], NULL, 10));
        if (*w[3])
                (void)cached_session_options_set_grace_ms(o, strtoull(w[3], NULL, 10));
        cached_session_free(d->s);
        d->s = NULL;
        code = cached_session_open(d->c, o, &d->s, &r);
        cached_session_options_free(o);
        if (code == CACHED_OK)
                say(code, cached_session_token(d->s), 32);
        else
                say(code, cached_reply_error(r), strlen(cached_reply_error(r)));
        cached_reply_free(r);
}

static void run_attach(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code;

        cached_session_free(d->s);
        d->s = NULL;
        code = cached_session_attach(d->c, w[1], &d->s, &r);
        say_reply(code, r);
}

static void run_info(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_session_info(d->s, &r);
        uint64_t number = 0;
        const char *text = "";
        char digits[32];

        if (cached_reply_u64(r, w[1], &number) == CACHED_OK) {
                (void)snprintf(digits, sizeof(digits), "%" PRIu64, number);
                text = digits;
        } else {
                (void)cached_reply_text(r, w[1], &text);
        }
        say(code, text, strlen(text));
        cached_reply_free(r);
}

static void run_close(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_session_close(d->s, &r);

        (void)w;
        say_reply(code, r);
}

/* ---- values */

static void run_get(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_session_get(d->s, w[1], &r);

        say_reply(code, r);
}

/* All as KEY=VALUE, or the keys alone. */
static void say_items(int code, cached_reply *r)
{
        char text[4096] = "";
        size_t used = 0;

        for (size_t i = 0; code == CACHED_OK && i < cached_reply_n_items(r); i++) {
                const void *value = NULL;
                size_t n = 0;
                const char *key = cached_session_item(r, i, &value, &n);

                used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", i ? " " : "",
                                         key ? key : "?");
                if (value)
                        used += (size_t)snprintf(text + used, sizeof(text) - used, "=%.*s", (int)n,
                                                 (const char *)value);
        }
        if (code == CACHED_OK)
                say(code, text, used);
        else
                say(code, cached_reply_error(r), strlen(cached_reply_error(r)));
        cached_reply_free(r);
}

static void run_all(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_session_get_all(d->s, &r);

        (void)w;
        say_items(code, r);
}

static void run_keys(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_session_keys(d->s, &r);

        (void)w;
        say_items(code, r);
}

static void run_some(struct driver *d, char **w)
{
        const char *keys[] = {w[1], w[2]};
        cached_reply *r = NULL;
        int code = cached_session_get_many(d->s, 2, keys, &r);

        say_items(code, r);
}

static void run_has(struct driver *d, char **w)
{
        int code = cached_session_contains(d->s, w[1]);

        say(code, "", 0);
}

static void run_set(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_session_set(d->s, w[1], w[2], strlen(w[2]), &r);

        say_reply(code, r);
}

/* Two keys, one value. */
static void run_both(struct driver *d, char **w)
{
        const char *keys[] = {w[1], w[2]};
        const void *values[] = {w[3], w[3]};
        size_t n[] = {strlen(w[3]), strlen(w[3])};
        cached_reply *r = NULL;
        int code = cached_session_set_many(d->s, 2, keys, values, n, &r);

        say_reply(code, r);
}

static void run_absent(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_session_set_if_absent(d->s, w[1], w[2], strlen(w[2]), &r);

        say_reply(code, r);
}

/* What was read before, if nobody else has set it since. `w[3]`: somebody has. */
static void run_swap(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        uint64_t version = 0;
        int code = cached_session_get(d->s, w[1], &r);

        if (code == CACHED_OK)
                code = cached_reply_u64(r, "items[0].version", &version);
        cached_reply_free(r);
        r = NULL;
        if (code == CACHED_OK && *w[3])
                code = cached_session_set(d->s, w[1], w[3], strlen(w[3]), NULL);
        if (code == CACHED_OK)
                code = cached_session_compare_and_set(d->s, w[1], version, w[2], strlen(w[2]), &r);
        say_reply(code, r);
}

static void run_delete(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_session_delete(d->s, w[1], &r);

        say_reply(code, r);
}

static void run_clear(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_session_clear(d->s, &r);

        (void)w;
        say_reply(code, r);
}

static void run_append(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code =
                cached_session_append(d->s, w[1], w[2], strlen(w[2]), strtoull(w[3], NULL, 10), &r);

        say_reply(code, r);
}

/* `w[3]`: without a start. */
static void run_add(struct driver *d, char **w)
{
        const int64_t start = 0;
        int64_t sum = 0;
        cached_reply *r = NULL;
        int code = cached_session_increment(d->s, w[1], strtoll(w[2], NULL, 10),
                                            *w[3] ? NULL : &start, &sum, &r);
        char text[32];

        if (code != CACHED_OK) {
                say_reply(code, r);
                return;
        }
        cached_reply_free(r);
        say(code, text, (size_t)snprintf(text, sizeof(text), "%" PRId64, sum));
}

static void run_real(struct driver *d, char **w)
{
        const double start = 0;
        double sum = 0;
        cached_reply *r = NULL;
        int code = cached_session_increment_real(d->s, w[1], strtod(w[2], NULL), &start, &sum, &r);
        char text[64];

        if (code != CACHED_OK) {
                say_reply(code, r);
                return;
        }
        cached_reply_free(r);
        say(code, text, (size_t)snprintf(text, sizeof(text), "%.17g", sum));
}

/* ---- many changes */

struct counting {
        cached_session *s;
        const char *key;
        unsigned n, n_ok;
        int code; /* of the first that failed */
};

/* A call that found no daemon has done nothing: it is made again. */
static int count_one(cached_session *s, const char *key)
{
        const int64_t start = 0;
        int code = CACHED_ERR_UNREACHABLE;

        for (int tries = 0; tries < 4000 && code == CACHED_ERR_UNREACHABLE; tries++) {
                if (tries > 0)
                        (void)usleep(5000);
                code = cached_session_increment(s, key, 1, &start, NULL, NULL);
        }
        return code;
}

static void *count(void *data)
{
        struct counting *g = data;

        for (unsigned i = 0; i < g->n; i++) {
                int code = count_one(g->s, g->key);

                if (code == CACHED_OK)
                        g->n_ok++;
                else if (g->code == CACHED_OK)
                        g->code = code;
        }
        return NULL;
}

/* KEY N [THREADS]: how many were counted, by all threads. */
static void run_count(struct driver *d, char **w)
{
        unsigned n_threads = *w[3] ? (unsigned)strtoul(w[3], NULL, 10) : 1, n_ok = 0;
        struct counting g[THREADS_MAX];
        pthread_t threads[THREADS_MAX];
        int code = CACHED_OK;
        char text[32];

        if (n_threads > THREADS_MAX)
                n_threads = THREADS_MAX;
        for (unsigned i = 0; i < n_threads; i++) {
                g[i] = (struct counting){d->s, w[1], (unsigned)strtoul(w[2], NULL, 10), 0, 0};
                if (pthread_create(&threads[i], NULL, count, &g[i]) != 0)
                        abort();
        }
        for (unsigned i = 0; i < n_threads; i++) {
                (void)pthread_join(threads[i], NULL);
                n_ok += g[i].n_ok;
                if (code == CACHED_OK)
                        code = g[i].code;
        }
        say(code, text, (size_t)snprintf(text, sizeof(text), "%u", n_ok));
}

/* KEY N: as `count`, in a child that has nothing but the session object. */
static void run_fork(struct driver *d, char **w)
{
        struct counting g = {d->s, w[1], (unsigned)strtoul(w[2], NULL, 10), 0, 0};
        pid_t pid = fork();
        int status = 0;

        if (pid == 0) {
                (void)count(&g);
                _exit(g.n_ok == g.n ? 0 : g.code);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
                abort();
        say(WEXITSTATUS(status), "", 0);
}

/* ---- caches of its own, and events */

static int own_handle(struct driver *d)
{
        cached_free(d->own);
        d->own = NULL;
        return cached_session_handle(d->s, &d->own);
}

static void run_cache_get(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = own_handle(d);

        if (code == CACHED_OK)
                code = cached_get(d->own, w[1], w[2], strlen(w[2]), &r);
        say_reply(code, r);
}

static void run_cache_set(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = own_handle(d);

        if (code == CACHED_OK)
                code = cached_set(d->own, w[1], w[2], strlen(w[2]), w[3], strlen(w[3]), NULL, &r);
        say_reply(code, r);
}

/* The same name, of the realm. */
static void run_realm_get(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_get(d->c, w[1], w[2], strlen(w[2]), &r);

        say_reply(code, r);
}

static void run_realm_set(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code = cached_set(d->c, w[1], w[2], strlen(w[2]), w[3], strlen(w[3]), NULL, &r);

        say_reply(code, r);
}

static int compute(void *data, cached_result *out)
{
        ++*(unsigned *)data;
        return cached_result_set(out, "computed", 8);
}

/* NAME: a memoized function, twice, of the session: how often it ran. */
static void run_memo(struct driver *d, char **w)
{
        unsigned n = 0;
        char text[32];
        int code = own_handle(d);

        for (int i = 0; i < 2 && code == CACHED_OK; i++) {
                cached_key *k = cached_key_new();
                cached_result *r = NULL;

                (void)cached_key_add_uint(k, 1);
                code = cached_memoize(d->own, w[1], k, compute, &n, NULL, &r);
                cached_key_free(k);
                cached_result_free(r);
        }
        say(code, text, (size_t)snprintf(text, sizeof(text), "%u", n));
}

static void run_watch(struct driver *d, char **w)
{
        cached_reply *r = NULL;
        int code;

        (void)w;
        cached_events_free(d->events);
        d->events = NULL;
        code = cached_session_watch(d->s, &d->events, &r);
        say(code, cached_reply_error(r), r ? strlen(cached_reply_error(r)) : 0);
        cached_reply_free(r);
}

/* MS: kind of the next event, what happened, and its keys. */
static void run_next(struct driver *d, char **w)
{
        const cached_event *v = NULL;
        int code = cached_events_next(d->events, (uint32_t)strtoul(w[1], NULL, 10), &v);
        char text[1024] = "";
        size_t used = 0, n;

        if (code == CACHED_OK) {
                const cached_reply *r = cached_event_reply(v);

                used = (size_t)snprintf(text, sizeof(text), "%u %d", (unsigned)cached_event_kind(v),
                                        cached_session_event(v));
                n = r ? cached_reply_count(r, "session.keys") : 0;
                for (size_t i = 0; i < n; i++) {
                        const char *key = "?";
                        char path[64];

                        (void)snprintf(path, sizeof(path), "session.keys[%zu]", i);
                        (void)cached_reply_text(r, path, &key);
                        used += (size_t)snprintf(text + used, sizeof(text) - used, " %s", key);
                }
        }
        say(code, text, used);
}

static const struct {
        const char *name;
        void (*run)(struct driver *d, char **w);
} commands[] = {
        {"open", run_open},           /* LABEL [IDLE_MS [GRACE_MS]] */
        {"attach", run_attach},       /* TOKEN */
        {"info", run_info},           /* FIELD */
        {"close", run_close},         /* */
        {"get", run_get},             /* KEY */
        {"all", run_all},             /* */
        {"keys", run_keys},           /* */
        {"some", run_some},           /* KEY KEY */
        {"has", run_has},             /* KEY */
        {"set", run_set},             /* KEY VALUE */
        {"both", run_both},           /* KEY KEY VALUE */
        {"absent", run_absent},       /* KEY VALUE */
        {"swap", run_swap},           /* KEY VALUE [VALUE-MEANWHILE] */
        {"delete", run_delete},       /* KEY */
        {"clear", run_clear},         /* */
        {"append", run_append},       /* KEY VALUE [MAX_BYTES] */
        {"add", run_add},             /* KEY NUMBER [nostart] */
        {"real", run_real},           /* KEY NUMBER */
        {"count", run_count},         /* KEY N [THREADS] */
        {"fork", run_fork},           /* KEY N */
        {"cache-get", run_cache_get}, /* CACHE KEY */
        {"cache-set", run_cache_set}, /* CACHE KEY VALUE */
        {"realm-get", run_realm_get}, /* CACHE KEY */
        {"realm-set", run_realm_set}, /* CACHE KEY VALUE */
        {"memo", run_memo},           /* NAME */
        {"watch", run_watch},         /* */
        {"next", run_next},           /* TIMEOUT_MS */
};

static bool run(struct driver *d, char *line)
{
        char *w[WORDS + 1], *save = NULL, empty[] = "";

        for (unsigned i = 0; i < WORDS; i++) {
                w[i] = strtok_r(i == 0 ? line : NULL, " \n", &save);
                if (!w[i])
                        w[i] = empty;
        }
        for (unsigned i = 0; i < sizeof(commands) / sizeof(*commands); i++)
                if (strcmp(commands[i].name, w[0]) == 0) {
                        commands[i].run(d, w);
                        return true;
                }
        fprintf(stderr, "sessions: no command %s\n", w[0]);
        return false;
}

int main(int argc, char **argv)
{
        cached_options *o = cached_options_new();
        struct driver d = {0};
        char line[4096];
        bool ok = argc == 3;

        if (!ok || cached_options_set_socket(o, argv[1]) != CACHED_OK ||
            cached_options_set_timeout_ms(o, (uint32_t)strtoul(argv[2], NULL, 10)) != CACHED_OK ||
            cached_new(o, &d.c) != CACHED_OK) {
                fprintf(stderr, "usage: sessions SOCKET TIMEOUT_MS\n");
                return 2;
        }
        cached_options_free(o);
        while (ok && fgets(line, sizeof(line), stdin))
                ok = run(&d, line);
        cached_events_free(d.events);
        cached_free(d.own);
        cached_session_free(d.s);
        cached_free(d.c);
        return ok ? 0 : 2;
}
