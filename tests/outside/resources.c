/* SPDX-License-Identifier: MIT */
/*
 * Resources of libcached against a daemon, driven by a test: a command a line, an answer a line.
 * See `commands` for them; an answer is a code and a text. Resources are named by numbers, in the
 * order in which they were acquired. Options of acquiring are words NAME=VALUE.
 */

#include <cached.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS         12
#define RESOURCES_MAX 4096
#define THREADS_MAX   16
#define INSISTS_MAX   1000

struct driver {
        cached_options *o;
        cached *c;
        cached_resource *r[RESOURCES_MAX];
        unsigned n;
        char **words;        /* of the command that acquires */
        atomic_uint n_made;  /* objects that this process has made */
        atomic_bool hangs;   /* whoever is told of that, for ever */
        atomic_uint n_ended; /* and those of which it was told that they are over */
        /* A call that another thread makes. */
        pthread_t behind;
        cached_resource *waits_for; /* its lock; NULL: the key's object */
        char cache[64], key[64];
        int behind_code;
        atomic_bool is_ending; /* that the whole ends is told */
        bool is_slow;
        const cached_resource_options *insists; /* what is over is acquired again by these */
};

static void say(int code, const char *text)
{
        printf("%d %s\n", code, text);
        (void)fflush(stdout);
}

static void say_number(int code, uint64_t n)
{
        printf("%d %" PRIu64 "\n", code, n);
        (void)fflush(stdout);
}

static void say_error(int code, cached_reply *r)
{
        say(code, r ? cached_reply_error(r) : cached_strerror(code));
        cached_reply_free(r);
}

/* ---- acquiring */

/* The value of NAME=VALUE; NULL: there is none. */
static const char *option(char **words, const char *name)
{
        size_t n = strlen(name);

        for (unsigned i = 0; i < WORDS; i++)
                if (strncmp(words[i], name, n) == 0 && words[i][n] == '=')
                        return words[i] + n + 1;
        return NULL;
}

static uint64_t number_option(char **words, const char *name, uint64_t otherwise)
{
        const char *text = option(words, name);

        return text ? strtoull(text, NULL, 10) : otherwise;
}

static int connect_to(const char *path)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
        if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
                abort();
        return fd;
}

/* What option `from` says: unix:PATH, file:PATH, pipe. */
static int open_from(const char *from)
{
        int ends[2];

        if (strncmp(from, "unix:", 5) == 0)
                return connect_to(from + 5);
        if (strncmp(from, "file:", 5) == 0)
                return open(from + 5, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (pipe2(ends, O_CLOEXEC) < 0)
                abort();
        (void)close(ends[0]);
        return ends[1];
}

static int create(cached_resource *r, void *data)
{
        struct driver *d = data;
        const char *from = option(d->words, "from"), *why = option(d->words, "fail");

        (void)usleep((useconds_t)number_option(d->words, "slow", 0) * 1000);
        if (option(d->words, "die"))
                (void)raise(SIGKILL);
        if (why) {
                cached_resource_give_reason(r, why);
                return -1;
        }
        atomic_fetch_add(&d->n_made, 1);
        if (cached_resource_data(r)) {
                uint64_t *l = cached_resource_data(r);

                l[0] = number_option(d->words, "first", 1);
                return 0;
        }
        if (from)
                return cached_resource_give_fd(r, open_from(from));
        return cached_resource_give_object(r,
                                           (void *)(uintptr_t)number_option(d->words, "first", 1));
}

/* Good as long as the file is not there. */
static int validate(cached_resource *r, void *data)
{
        const struct driver *d = data;
        const char *path = option(d->words, "bad");

        if (path && access(path, F_OK) == 0) {
                cached_resource_give_reason(r, "it is bad");
                return -1;
        }
        return 0;
}

static int on_release(cached_resource *r, void *data)
{
        struct driver *d = data;

        (void)r;
        atomic_fetch_add(&d->n_ended, 1);
        while (atomic_load(&d->hangs))
                (void)pause();
        if (d->insists && atomic_load(&d->n_ended) < INSISTS_MAX) {
                cached_resource *again = NULL;

                (void)cached_resource_acquire_local(d->c, d->cache, d->key, strlen(d->key),
                                                    d->insists, &again, NULL);
                cached_resource_release(again);
        }
        return 0;
}

static cached_resource_options *options_of(struct driver *d, char **w)
{
        cached_resource_options *o = cached_resource_options_new();
        cached_policy *p = cached_policy_new();

        if (!o || !p)
                abort();
        d->words = w;
        atomic_store(&d->hangs, option(w, "hangs") != NULL);
        if (!option(w, "manual"))
                (void)cached_resource_options_set_create(o, create, d);
        if (option(w, "bad"))
                (void)cached_resource_options_set_validate(o, validate, d);
        (void)cached_resource_options_set_on_release(o, on_release, d);
        (void)cached_resource_options_set_wait_ms(o,
                                                  (uint32_t)number_option(w, "wait", UINT32_MAX));
        (void)cached_resource_options_set_pool(o, (uint32_t)number_option(w, "pool", 0));
        (void)cached_resource_options_set_read_only(o, option(w, "ro") != NULL);
        (void)cached_resource_options_set_no_create(o, option(w, "only") != NULL);
        if (option(w, "ttl"))
                (void)cached_policy_set_ttl_ms(p, number_option(w, "ttl", 0));
        if (option(w, "max"))
                (void)cached_policy_set_max_entries(p, number_option(w, "max", 0));
        if (option(w, "ttl") || option(w, "max"))
                (void)cached_resource_options_set_policy(o, p);
        cached_policy_free(p);
        return o;
}

/* KIND CACHE KEY [SIZE or OPTIONS]: the number of the resource. */
static void run_acquire(struct driver *d, char **w)
{
        cached_resource_options *o = options_of(d, w);
        cached_resource *r = NULL;
        cached_reply *reply = NULL;
        int code;

        if (strcmp(w[0], "segment") == 0)
                code = cached_resource_acquire_segment(d->c, w[1], w[2], strlen(w[2]),
                                                       (size_t)number_option(w, "size", 4096), o,
                                                       &r, &reply);
        else if (strcmp(w[0], "descriptor") == 0)
                code = cached_resource_acquire_descriptor(d->c, w[1], w[2], strlen(w[2]), o, &r,
                                                          &reply);
        else
                code = cached_resource_acquire_local(d->c, w[1], w[2], strlen(w[2]), o, &r, &reply);
        cached_resource_options_free(o);
        if (r) {
                d->r[d->n++] = r;
                cached_reply_free(reply);
                say_number(code, d->n - 1);
        } else {
                say_error(code, reply);
        }
}

static cached_resource *named(const struct driver *d, const char *word)
{
        unsigned i = (unsigned)strtoul(word, NULL, 10);

        return i < d->n ? d->r[i] : NULL;
}

static void run_publish(struct driver *d, char **w)
{
        cached_reply *reply = NULL;
        int code = cached_resource_publish(named(d, w[1]), &reply);

        say_error(code, reply);
}

static void run_give(struct driver *d, char **w)
{
        cached_resource *r = named(d, w[1]);

        if (option(w, "size"))
                say(cached_resource_give_size(r, (size_t)number_option(w, "size", 0)), "");
        else if (option(w, "from"))
                say(cached_resource_give_fd(r, open_from(option(w, "from"))), "");
        else
                say(cached_resource_give_object(r, (void *)(uintptr_t)7), "");
}

static void run_reason(struct driver *d, char **w)
{
        cached_resource_give_reason(named(d, w[1]), w[2]);
        say(0, "");
}

static void run_release(struct driver *d, char **w)
{
        unsigned i = (unsigned)strtoul(w[1], NULL, 10);

        cached_resource_release(named(d, w[1]));
        d->r[i] = NULL;
        say(0, "");
}

static void run_invalidate(struct driver *d, char **w)
{
        say(cached_resource_invalidate(named(d, w[1]), *w[2] ? w[2] : NULL), "");
}

/* ---- looking */

static void run_instance(struct driver *d, char **w)
{
        say_number(0, cached_resource_instance(named(d, w[1])));
}

static void run_left(struct driver *d, char **w)
{
        say_number(0, (uint64_t)cached_resource_has_left(named(d, w[1])));
}

static void run_size(struct driver *d, char **w)
{
        say_number(cached_resource_is_read_only(named(d, w[1])),
                   cached_resource_size(named(d, w[1])));
}

/* Its descriptor in this process. */
static void run_file(struct driver *d, char **w)
{
        say_number(0, (uint64_t)cached_resource_file(named(d, w[1])));
}

static void run_object(struct driver *d, char **w)
{
        say_number(0, (uintptr_t)cached_resource_object(named(d, w[1])));
}

static void run_made(struct driver *d, char **w)
{
        (void)w;
        say_number(0, atomic_load(&d->n_made));
}

static void run_ended(struct driver *d, char **w)
{
        (void)w;
        say_number(0, atomic_load(&d->n_ended));
}

static void run_drop(struct driver *d, char **w)
{
        cached_reply *reply = NULL;
        uint64_t holders = 0;
        int code = cached_resource_drop(d->c, w[1], w[2], strlen(w[2]), &reply);

        (void)cached_reply_u64(reply, "holders", &holders);
        cached_reply_free(reply);
        say_number(code, holders);
}

/* How many holders the first one of the cache has. */
static void run_list(struct driver *d, char **w)
{
        cached_reply *reply = NULL;
        int code = cached_resource_list(d->c, *w[1] ? w[1] : NULL, 0, 0, &reply);
        char text[128];

        (void)snprintf(text, sizeof(text), "%zu %zu", cached_reply_count(reply, "resources"),
                       cached_reply_count(reply, "resources[0].holders"));
        cached_reply_free(reply);
        say(code, text);
}

/* ---- using */

static volatile uint64_t *words_of(const cached_resource *r)
{
        return cached_resource_data(r);
}

static void run_get(struct driver *d, char **w)
{
        say_number(0, words_of(named(d, w[1]))[strtoul(w[2], NULL, 10)]);
}

static void run_add(struct driver *d, char **w)
{
        volatile uint64_t *l = words_of(named(d, w[1]));

        l[0] = l[0] + 1;
        (void)cached_resource_changed(named(d, w[1]));
        say_number(0, l[0]);
}

static void run_generation(struct driver *d, char **w)
{
        say_number(0, cached_resource_generation(named(d, w[1])));
}

/* R TEXT: sends a line, and says the one that comes back. */
static void run_talk(struct driver *d, char **w)
{
        int fd = cached_resource_fd(named(d, w[1]));
        char line[512];
        size_t n = 0;

        if (dprintf(fd, "%s\n", w[2]) < 0) {
                say(errno, "");
                return;
        }
        while (n < sizeof(line) - 1 && read(fd, line + n, 1) == 1 && line[n] != '\n')
                n++;
        line[n] = '\0';
        say(0, line);
}

static void run_lock(struct driver *d, char **w)
{
        cached_reply *reply = NULL;
        int code = cached_resource_lock(named(d, w[1]),
                                        *w[2] ? (uint32_t)strtoul(w[2], NULL, 10) : UINT32_MAX,
                                        &reply);
        uint64_t pid = 0;

        if (reply && cached_reply_u64(reply, "holder_pid", &pid) == CACHED_OK && pid) {
                cached_reply_free(reply);
                say_number(code, pid);
                return;
        }
        say_error(code, reply);
}

static void run_unlock(struct driver *d, char **w)
{
        say(cached_resource_unlock(named(d, w[1])), "");
}

/* ---- many at once */

struct counting {
        struct driver *d;
        const char *cache, *key;
        cached_resource *r; /* NULL: each acquires for itself */
        unsigned n, n_ok;
        int code;
};

static int count_once(struct counting *g, cached_resource *r)
{
        int code = cached_resource_lock(r, UINT32_MAX, NULL);

        if (code != CACHED_OK && code != CACHED_OWNER_DIED)
                return code;
        /* Two steps, so that whoever else is at it is seen. */
        volatile uint64_t *l = words_of(r);
        uint64_t seen = l[1];
        for (volatile int i = 0; i < 20; i++)
                ;
        l[1] = seen + 1;
        g->n_ok++;
        return cached_resource_unlock(r);
}

static void *count(void *data)
{
        struct counting *g = data;
        cached_resource *r = g->r;

        if (!r)
                g->code = cached_resource_acquire_segment(g->d->c, g->cache, g->key, strlen(g->key),
                                                          4096, NULL, &r, NULL);
        for (unsigned i = 0; g->code == CACHED_OK && i < g->n; i++)
                g->code = count_once(g, r);
        if (!g->r)
                cached_resource_release(r);
        return NULL;
}

/* CACHE KEY N THREADS: each counts N times in a segment that is there. */
static void run_count(struct driver *d, char **w)
{
        unsigned n_threads = (unsigned)strtoul(w[4], NULL, 10), n_ok = 0;
        struct counting g[THREADS_MAX];
        pthread_t threads[THREADS_MAX];
        int code = CACHED_OK;

        if (n_threads > THREADS_MAX)
                abort();
        for (unsigned i = 0; i < n_threads; i++) {
                g[i] = (struct counting){.d = d,
                                         .cache = w[1],
                                         .key = w[2],
                                         .n = (unsigned)strtoul(w[3], NULL, 10)};
                if (pthread_create(&threads[i], NULL, count, &g[i]) != 0)
                        abort();
        }
        for (unsigned i = 0; i < n_threads; i++) {
                (void)pthread_join(threads[i], NULL);
                n_ok += g[i].n_ok;
                if (code == CACHED_OK)
                        code = g[i].code;
        }
        say_number(code, n_ok);
}

struct getting {
        struct driver *d;
        const cached_resource_options *o;
        char **w;
        int code;
};

static void *get_local(void *data)
{
        struct getting *g = data;
        cached_resource *r = NULL;

        g->code = cached_resource_acquire_local(g->d->c, g->w[1], g->w[2], strlen(g->w[2]), g->o,
                                                &r, NULL);
        cached_resource_release(r);
        return NULL;
}

/* CACHE KEY: eight threads at once want the local object. */
static void run_crowd(struct driver *d, char **w)
{
        struct getting g[8];
        pthread_t threads[8];
        cached_resource_options *o = options_of(d, w);
        int code = CACHED_OK;

        for (unsigned i = 0; i < 8; i++) {
                g[i] = (struct getting){d, o, w, 0};
                if (pthread_create(&threads[i], NULL, get_local, &g[i]) != 0)
                        abort();
        }
        for (unsigned i = 0; i < 8; i++) {
                (void)pthread_join(threads[i], NULL);
                if (code == CACHED_OK)
                        code = g[i].code;
        }
        cached_resource_options_free(o);
        say_number(code, atomic_load(&d->n_made));
}

/* ---- processes */

/* R: a child uses what it has no right to, and acquires for itself. */
static void run_fork(struct driver *d, char **w)
{
        cached_resource *r = named(d, w[1]);
        pid_t pid = fork();
        int status = 0;

        if (pid == 0) {
                cached_resource *own = NULL;
                int code = cached_resource_lock(r, 0, NULL) == CACHED_ERR_USAGE ? 0 : 1;

                if (code == 0)
                        code = cached_resource_acquire_segment(d->c, w[2], w[3], strlen(w[3]), 8,
                                                               NULL, &own, NULL);
                if (code == 0)
                        code = cached_resource_lock(own, 0, NULL) == CACHED_DEADLINE ? 0 : 2;
                cached_resource_release(own);
                cached_resource_release(r);
                cached_free(d->c);
                _exit(code);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
                abort();
        say(WEXITSTATUS(status), "");
}

/* A child that lives on when this process is killed. Its pid. */
static void run_leave_child(struct driver *d, char **w)
{
        pid_t pid = fork();

        (void)d;
        (void)w;
        if (pid == 0) {
                (void)close(STDIN_FILENO);
                (void)close(STDOUT_FILENO);
                (void)pause();
                _exit(0);
        }
        say_number(0, (uint64_t)pid);
}

/* Orderly: says how many objects it was told of. */
static void run_end(struct driver *d, char **w)
{
        (void)w;
        for (unsigned i = 0; i < d->n; i++)
                cached_resource_release(d->r[i]);
        d->n = 0;
        cached_free(d->c);
        d->c = NULL;
        say_number(0, atomic_load(&d->n_ended));
}

/* ---- a handle that is freed under calls */

static void *wait_behind(void *data)
{
        struct driver *d = data;
        cached_resource *r = NULL;

        if (d->waits_for)
                d->behind_code = cached_resource_lock(d->waits_for, UINT32_MAX, NULL);
        else
                d->behind_code = cached_resource_acquire_segment(d->c, d->cache, d->key,
                                                                 strlen(d->key), 8, NULL, &r, NULL);
        if (r)
                abort();
        return NULL;
}

/* R, or CACHE KEY: another thread waits for the lock, or for the segment. */
static void run_behind(struct driver *d, char **w)
{
        d->waits_for = *w[2] ? NULL : named(d, w[1]);
        (void)snprintf(d->cache, sizeof(d->cache), "%s", w[1]);
        (void)snprintf(d->key, sizeof(d->key), "%s", w[2]);
        if (pthread_create(&d->behind, NULL, wait_behind, d) != 0)
                abort();
        say(0, "");
}

/* CACHE KEY: a local object that is acquired again by the function that hears of its end; the
 * handle is freed. How often that was called. */
static void run_insist(struct driver *d, char **w)
{
        cached_resource_options *o = options_of(d, w);
        cached_resource *r = NULL;

        (void)snprintf(d->cache, sizeof(d->cache), "%s", w[1]);
        (void)snprintf(d->key, sizeof(d->key), "%s", w[2]);
        d->insists = o;
        if (cached_resource_acquire_local(d->c, d->cache, d->key, strlen(d->key), o, &r, NULL) !=
            CACHED_OK)
                abort();
        cached_resource_release(r);
        cached_free(d->c);
        d->c = NULL;
        d->insists = NULL;
        cached_resource_options_free(o);
        say_number(0, atomic_load(&d->n_ended));
}

static int make_whole(cached_resource *r, void *data)
{
        struct driver *d = data;
        cached_resource *part = NULL;

        if (cached_resource_acquire_segment(d->c, d->cache, "part", 4, 8, NULL, &part, NULL) !=
            CACHED_NOT_FOUND)
                abort();
        if (cached_resource_publish(part, NULL) != CACHED_OK)
                abort();
        return cached_resource_give_object(r, part);
}

static int end_whole(cached_resource *r, void *data)
{
        struct driver *d = data;

        atomic_store(&d->is_ending, true);
        if (d->is_slow)
                (void)usleep(100000);
        cached_resource_release(cached_resource_object(r));
        atomic_fetch_add(&d->n_ended, 1);
        return 0;
}

/* CACHE KEY [in-use|dropped]: a local object that has another resource as a part; the handle is
 * freed, perhaps as the end of what was dropped is told. Likewise. */
static void run_whole(struct driver *d, char **w)
{
        cached_resource_options *o = cached_resource_options_new();
        cached_resource *r = NULL;

        (void)snprintf(d->cache, sizeof(d->cache), "%s", w[1]);
        if (cached_resource_options_set_create(o, make_whole, d) != CACHED_OK ||
            cached_resource_options_set_on_release(o, end_whole, d) != CACHED_OK ||
            cached_resource_acquire_local(d->c, d->cache, w[2], strlen(w[2]), o, &r, NULL) !=
                    CACHED_OK)
                abort();
        d->is_slow = strcmp(w[3], "dropped") == 0;
        if (strcmp(w[3], "in-use") != 0)
                cached_resource_release(r);
        if (d->is_slow && cached_resource_drop(d->c, d->cache, w[2], strlen(w[2]), NULL) != 0)
                abort();
        while (d->is_slow && !atomic_load(&d->is_ending))
                (void)usleep(1000);
        cached_free(d->c);
        d->c = NULL;
        if (strcmp(w[3], "in-use") == 0)
                cached_resource_release(r);
        cached_resource_options_free(o);
        say_number(0, atomic_load(&d->n_ended));
}

/* The handle goes, and what that call has got. */
static void run_free(struct driver *d, char **w)
{
        (void)w;
        cached_free(d->c);
        d->c = NULL;
        (void)pthread_join(d->behind, NULL);
        for (unsigned i = 0; i < d->n; i++)
                cached_resource_release(d->r[i]);
        d->n = 0;
        say_number(d->behind_code, atomic_load(&d->n_ended));
}

/* ---- commands */

/* Another handle in place of this one. */
static void run_anew(struct driver *d, char **w)
{
        cached *old = d->c;

        (void)w;
        for (unsigned i = 0; i < d->n; i++)
                cached_resource_release(d->r[i]);
        d->n = 0;
        cached_free(old);
        if (cached_new(d->o, &d->c) != CACHED_OK)
                abort();
        say(0, "");
}

/* TOKEN: a handle of that session in place of this one, which has no resources yet. */
static void run_session(struct driver *d, char **w)
{
        cached_session *s = NULL;
        cached *c = NULL;
        cached_reply *reply = NULL;
        int code = cached_session_attach(d->c, w[1], &s, &reply);

        if (code == CACHED_OK)
                code = cached_session_handle(s, &c);
        cached_session_free(s);
        if (code == CACHED_OK) {
                cached_free(d->c);
                d->c = c;
        }
        say_error(code, reply);
}

static const struct command {
        const char *name;
        void (*run)(struct driver *d, char **w);
} commands[] = {
        {"segment", run_acquire},
        {"descriptor", run_acquire},
        {"local", run_acquire},
        {"publish", run_publish},
        {"give", run_give},
        {"reason", run_reason},
        {"release", run_release},
        {"invalidate", run_invalidate},
        {"instance", run_instance},
        {"left", run_left},
        {"size", run_size},
        {"object", run_object},
        {"made", run_made},
        {"ended", run_ended},
        {"drop", run_drop},
        {"list", run_list},
        {"get", run_get},
        {"add", run_add},
        {"generation", run_generation},
        {"talk", run_talk},
        {"lock", run_lock},
        {"unlock", run_unlock},
        {"count", run_count},
        {"crowd", run_crowd},
        {"fork", run_fork},
        {"child", run_leave_child},
        {"end", run_end},
        {"file", run_file},
        {"anew", run_anew},
        {"session", run_session},
        {"behind", run_behind},
        {"free", run_free},
        {"insist", run_insist},
        {"whole", run_whole},
};

static void run(struct driver *d, char *line)
{
        char *w[WORDS], *rest = line;

        for (unsigned i = 0; i < WORDS; i++) {
                char *word = strsep(&rest, " ");

                w[i] = word ? word : line + strlen(line);
        }
        for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
                if (strcmp(commands[i].name, w[0]) == 0) {
                        commands[i].run(d, w);
                        return;
                }
        say(-1, "no such command");
}

int main(int argc, char **argv)
{
        cached_options *o = cached_options_new();
        struct driver d = {0};
        char line[1024];

        if (argc != 3 || !o || cached_options_set_socket(o, argv[1]) != CACHED_OK ||
            cached_options_set_timeout_ms(o, (uint32_t)strtoul(argv[2], NULL, 10)) != CACHED_OK ||
            cached_new(o, &d.c) != CACHED_OK)
                return EXIT_FAILURE;
        d.o = o;
        while (fgets(line, sizeof(line), stdin)) {
                line[strcspn(line, "\n")] = '\0';
                run(&d, line);
        }
        for (unsigned i = 0; d.c && i < d.n; i++)
                cached_resource_release(d.r[i]);
        cached_free(d.c);
        cached_options_free(o);
        return EXIT_SUCCESS;
}
