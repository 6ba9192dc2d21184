/* SPDX-License-Identifier: MIT */

/*
 * doctor: which socket is used, and what lies at the other places
 *
 * Where a client connects is decided by the library alone: it is asked to connect, and says where
 * that led. The other places of its list are then looked at one by one, to explain the choice and
 * to find a second daemon. The list itself is the library's own, from the same source file.
 *
 * Nothing is changed: a stale socket is reported and left to the next daemon, which replaces it.
 */

#include "doctor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static bool listed(const struct doctor *d, const char *path)
{
        for (size_t i = 0; i < d->n_sockets; i++)
                if (strcmp(d->sockets[i].at.path, path) == 0)
                        return true;
        return false;
}

static void list(struct doctor *d, const struct sockpaths *paths)
{
        for (size_t i = 0; i < paths->n; i++)
                if (!listed(d, paths->at[i].path))
                        d->sockets[d->n_sockets++].at = paths->at[i];
}

/* As the library looks at it. */
static bool unsafe_dir(const char *path)
{
        char dir[sizeof(((struct sockpath *)NULL)->path)];
        struct stat st;
        char *slash;

        snprintf(dir, sizeof(dir), "%s", path);
        slash = strrchr(dir, '/');
        if (!slash)
                return true;
        *slash = '\0';
        return lstat(dir, &st) == 0 &&
               (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077) != 0);
}

/* Does somebody listen? Does not wait: a full backlog is an answer, too. */
static void look_at(struct doctor_socket *s)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        socklen_t n = sizeof(s->peer);
        int fd;

        s->stat_error = lstat(s->at.path, &s->st) < 0 ? errno : 0;
        s->unsafe = s->at.kind == SOCKPATH_OF_USER_TMP && unsafe_dir(s->at.path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
                s->error = errno;
                return;
        }
        memcpy(a.sun_path, s->at.path, sizeof(a.sun_path));
        if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &s->peer, &n) < 0)
                s->error = errno;
        close(fd);
}

/* @other: of a daemon that is only looked at; our realm may be unknown there, and any uid may run
 * it.
 */
static int make_client(struct doctor *d, const char *path, const struct doctor_socket *other,
                       cached **ret)
{
        cached_options *o = cached_options_new();
        uint32_t ms =
                d->ctl->timeout_ms < DOCTOR_TIMEOUT_MS ? d->ctl->timeout_ms : DOCTOR_TIMEOUT_MS;
        int r = o ? CACHED_OK : CACHED_ERR_NOMEM;

        if (r == CACHED_OK)
                r = cached_options_set_socket(o, path);
        if (r == CACHED_OK && !other)
                r = cached_options_set_realm(o, d->ctl->realm);
        if (r == CACHED_OK)
                r = cached_options_set_client_name(o, "cachectl doctor");
        if (r == CACHED_OK)
                r = cached_options_set_timeout_ms(o, ms);
        if (r == CACHED_OK && other)
                r = cached_options_set_service_uid(o, other->peer.uid);
        else if (r == CACHED_OK && d->ctl->has_service_uid)
                r = cached_options_set_service_uid(o, d->ctl->service_uid);
        if (r == CACHED_OK)
                r = cached_new(o, ret);
        cached_options_free(o);
        return r;
}

int doctor_connect(struct doctor *d, const struct doctor_socket *s, cached **ret,
                   cached_reply **ret_hello)
{
        cached_reply *hello = NULL;
        cached *c;
        int r = make_client(d, s->at.path, s, &c);

        if (r != CACHED_OK)
                return r;
        r = cached_connect(c, &hello);
        if (r != CACHED_OK) {
                cached_reply_free(hello);
                cached_free(c);
                return r;
        }
        *ret = c;
        *ret_hello = hello;
        return r;
}

static void connect_as_clients_do(struct doctor *d)
{
        const char *path;

        d->code = make_client(d, d->ctl->socket, NULL, &d->client);
        if (d->code != CACHED_OK)
                return;
        d->code = cached_connect(d->client, &d->hello);
        path = cached_socket_path(d->client);
        for (size_t i = 0; i < d->n_sockets && d->code == CACHED_OK; i++)
                if (strcmp(d->sockets[i].at.path, path) == 0)
                        d->used = &d->sockets[i];
}

void doctor_look_around(struct doctor *d)
{
        struct sockpaths paths;

        if (sockpaths_resolve(d->ctl->socket, &paths) == 0)
                list(d, &paths);
        d->n_tried = d->n_sockets;
        sockpaths_chain(&paths);
        list(d, &paths);
        for (size_t i = 0; i < d->n_sockets; i++)
                look_at(&d->sockets[i]);
        connect_as_clients_do(d);
}

/* ------------------------------------------------------------------------------------ findings */

static const char *how_named(const struct doctor *d)
{
        return d->ctl->socket ? "--socket names it" : "$CACHED_SOCKET names it";
}

static const char *kind_name(const struct doctor_socket *s)
{
        return s->at.kind == SOCKPATH_OF_SYSTEM ? "the system's socket" : "your own socket";
}

static const char *why_not(const struct doctor_socket *s)
{
        if (s->unsafe)
                return "its directory is not yours alone";
        return strerror(s->error);
}

static void check_used(struct doctor *d)
{
        const struct doctor_socket *s = d->used;

        if (s->at.kind == SOCKPATH_NAMED)
                doctor_say(d, DOCTOR_OK, "socket", "%s: %s", s->at.path, how_named(d));
        else if (s == &d->sockets[0])
                doctor_say(d, DOCTOR_OK, "socket", "%s: %s, which comes first", s->at.path,
                           kind_name(s));
        else
                doctor_say(d, DOCTOR_OK, "socket", "%s: %s, since %s gives: %s", s->at.path,
                           kind_name(s), d->sockets[0].at.path, why_not(&d->sockets[0]));
}

/* Where nothing answers: each place with its reason. */
static void check_tried(struct doctor *d)
{
        char *text = NULL;
        size_t n = 0;
        FILE *f;

        if (d->n_tried == 0) {
                doctor_say(d, DOCTOR_PROBLEM, "socket", "$CACHED_SOCKET is too long for a socket");
                doctor_advise(d, "use a path of at most %zu bytes",
                              sizeof(((struct sockpath *)NULL)->path) - 1);
                return;
        }
        f = open_memstream(&text, &n);
        if (!f) {
                d->no_memory = true;
                return;
        }
        for (size_t i = 0; i < d->n_tried; i++)
                fprintf(f, "%s%s: %s", i ? "; " : "", d->sockets[i].at.path,
                        d->sockets[i].error || d->sockets[i].unsafe ? why_not(&d->sockets[i])
                                                                    : "somebody listens");
        if (fclose(f) == 0)
                doctor_say(d, DOCTOR_NOTE, "socket", "%s%s%s", text,
                           d->sockets[0].at.kind == SOCKPATH_NAMED ? " — " : "",
                           d->sockets[0].at.kind == SOCKPATH_NAMED ? how_named(d) : "");
        else
                d->no_memory = true;
        free(text);
}

static void check_relative(struct doctor *d)
{
        if (d->n_tried == 0 || d->sockets[0].at.path[0] == '/')
                return;
        doctor_say(d, DOCTOR_WARNING, "socket",
                   "%s is relative: it names another socket in every "
                   "directory",
                   d->sockets[0].at.path);
        doctor_advise(d, "give the whole path");
}

/* The instance tells daemons apart; the same socket may have two names. */
static void check_other(struct doctor *d, const struct doctor_socket *s)
{
        uint64_t ours, theirs;
        cached_reply *hello;
        char user[DOCTOR_NAME_SIZE];
        cached *c;
        int r = doctor_connect(d, s, &c, &hello);

        if (r != CACHED_OK) {
                doctor_say(d, DOCTOR_NOTE, "others",
                           "somebody listens on %s, too, but does not answer: %s", s->at.path,
                           cached_strerror(r));
                return;
        }
        if (cached_reply_u64(hello, "instance", &theirs) == CACHED_OK &&
            cached_reply_u64(d->hello, "instance", &ours) == CACHED_OK && ours != theirs) {
                doctor_say(d, DOCTOR_WARNING, "others",
                           "a second daemon (pid %ld, %s) answers on %s: what a program stores in "
                           "one is a miss for those that use the other",
                           (long)s->peer.pid, doctor_user(user, s->peer.uid), s->at.path);
                doctor_advise(
                        d, "keep one of them: stop the other (systemctl [--user] stop cached, or "
                           "kill its pid), or set $CACHED_SOCKET alike for every program");
        }
        cached_reply_free(hello);
        cached_free(c);
}

static void check_others(struct doctor *d)
{
        size_t before = d->n_findings;

        for (size_t i = 0; i < d->n_sockets; i++) {
                const struct doctor_socket *s = &d->sockets[i];

                if (s == d->used || s->unsafe)
                        continue;
                if (s->error == 0)
                        check_other(d, s);
                else if (s->error == EACCES && s->stat_error == 0 &&
                         s->at.kind == SOCKPATH_OF_SYSTEM) {
                        doctor_say(d, DOCTOR_WARNING, "others",
                                   "%s is there, but not for you: programs of other users meet "
                                   "there",
                                   s->at.path);
                        doctor_advise(d, "see `permissions`; or ignore it, if your programs are "
                                         "meant to keep to themselves");
                }
        }
        if (d->n_findings == before)
                doctor_say(d, DOCTOR_OK, "others", "no second daemon");
}

static void check_stale(struct doctor *d)
{
        for (size_t i = 0; i < d->n_sockets; i++) {
                const struct doctor_socket *s = &d->sockets[i];
                bool tried = i < d->n_tried && !d->used;

                if (s->error != ECONNREFUSED || s->stat_error != 0)
                        continue;
                if (!S_ISSOCK(s->st.st_mode)) {
                        doctor_say(d, tried ? DOCTOR_PROBLEM : DOCTOR_WARNING, "stale",
                                   "%s is not a socket", s->at.path);
                        doctor_advise(d,
                                      "remove it: no daemon replaces a file that is not its own");
                        continue;
                }
                doctor_say(d, tried ? DOCTOR_WARNING : DOCTOR_NOTE, "stale",
                           "nobody listens on %s: a daemon was killed and left it", s->at.path);
                if (tried)
                        doctor_advise(d, "start the daemon again; it replaces the file by itself");
        }
}

void doctor_check_sockets(struct doctor *d)
{
        check_relative(d);
        if (d->used) {
                check_used(d);
                check_others(d);
        } else {
                check_tried(d);
        }
        check_stale(d);
}
