/* SPDX-License-Identifier: MIT */
/*
 * How a connection comes about: find a socket that answers, look who answers, say Hello
 *
 * The daemon sees everything that is stored, so who it is matters more than where it is: its uid
 * must be 0, our own, or the service uid of the options. On the system's own socket the owner of
 * its directory counts as the service uid too, since only root can make that directory; so an
 * installation whose daemon runs as a user of its own needs no option in every client.
 *
 * Each step either waits until its deadline or, with DEADLINE_NOW, not at all: a call takes them
 * one after the other, a pipeline in somebody's event loop goes on where the turn before stopped.
 */

#include <cached.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "client/conn.h"
#include "client/listener.h"
#include "proto/frame.h"

#define PROTOCOL_VERSION 1
/* Of Hello.client, in bytes. */
#define CLIENT_NAME_MAX 64
/* How long a connect() that waits goes without looking whether it still should. */
#define DIAL_SLICE_NS 20000000u

/* ------------------------------------------------------------------------------------- dialling */

static int socket_set_timeout(int fd, int which, uint64_t ns)
{
        struct timeval t = {.tv_sec = (time_t)(ns / 1000000000u),
                            .tv_usec = (suseconds_t)(ns % 1000000000u / 1000u)};

        return setsockopt(fd, SOL_SOCKET, which, &t, sizeof(t)) < 0 ? -errno : 0;
}

int conn_set_timeout(struct conn *c, uint32_t ms, struct failure *f)
{
        int r;

        if (c->timeout_ms == ms)
                return CACHED_OK;
        r = socket_set_timeout(c->fd, SO_RCVTIMEO, (uint64_t)ms * 1000000u);
        if (r < 0)
                return failure_set(f, CACHED_ERR_DISCONNECTED, "setsockopt: %s", strerror(-r));
        c->timeout_ms = ms;
        return CACHED_OK;
}

/* One attempt. Negative errno. */
static int dial_once(int fd, const struct sockaddr_un *a, struct deadline d)
{
        uint64_t left = DIAL_SLICE_NS;
        int r = 0;

        if (!deadline_is_now(d)) {
                if (!deadline_is_never(d) && deadline_left_ns(d) < left)
                        left = deadline_left_ns(d);
                /* 0 would mean for ever, and less than a tick is none. */
                left = left < 1000000u ? 1000000u : left;
                r = socket_set_timeout(fd, SO_SNDTIMEO, left);
        }
        if (r == 0 && connect(fd, (const struct sockaddr *)a, sizeof(*a)) < 0)
                r = -errno;
        return r;
}

/*
 * A full backlog makes connect() wait, as long as SO_SNDTIMEO allows: a non-blocking one is refused
 * at once, and no poll tells when it is worth another try. Nothing wakes it from outside
 * either, so it waits in slices and looks at `stop` (may be NULL) between them. Negative errno;
 * -EAGAIN: deadline; -ECANCELED: stopped.
 */
static int dial(const char *path, struct deadline d, const atomic_bool *stop, int *ret_fd)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int flags = SOCK_STREAM | SOCK_CLOEXEC | (deadline_is_now(d) ? SOCK_NONBLOCK : 0);
        int r, fd = socket(AF_UNIX, flags, 0);

        if (fd < 0)
                return -errno;
        memcpy(a.sun_path, path, strlen(path) + 1);
        do {
                r = dial_once(fd, &a, d);
                if (r < 0 && stop && atomic_load(stop))
                        r = -ECANCELED;
        } while ((r == -EINTR || r == -EAGAIN) &&
                 (deadline_is_never(d) || deadline_left_ns(d) > 0));
        if (r < 0) {
                (void)close(fd);
                return r == -EINTR ? -EAGAIN : r;
        }
        *ret_fd = fd;
        return 0;
}

/* In /tmp anybody could have made the directory. */
static bool tmp_dir_is_ours(const char *path)
{
        char dir[sizeof(((struct sockpath *)NULL)->path)];
        struct stat st;
        char *slash;

        memcpy(dir, path, sizeof(dir));
        slash = strrchr(dir, '/');
        if (!slash)
                return false;
        *slash = '\0';
        return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() &&
               (st.st_mode & 077) == 0;
}

static int dial_failed(const struct sockpath *p, int error, struct failure *f)
{
        if (error == -ECANCELED)
                return failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        if (error == -EAGAIN)
                return failure_set(f, CACHED_ERR_TIMEOUT,
                                   "the daemon at %s does not accept connections in time", p->path);
        if (p->kind == SOCKPATH_NAMED && (error == -EACCES || error == -EPERM))
                return failure_set(f, CACHED_ERR_FORBIDDEN,
                                   "permission denied: add yourself to the group of %s (often: "
                                   "cached), or ask the administrator to let you in",
                                   p->path);
        if (error == -ENOENT)
                return failure_set(f, CACHED_ERR_UNREACHABLE, "no daemon answers: there is no %s",
                                   p->path);
        return failure_set(f, CACHED_ERR_UNREACHABLE, "no daemon answers on %s: %s", p->path,
                           strerror(-error));
}

static int none_answers(const struct sockpaths *paths, bool forbidden, struct failure *f)
{
        char list[FAILURE_TEXT_SIZE] = "";
        size_t n = 0;

        if (forbidden)
                return failure_set(f, CACHED_ERR_FORBIDDEN, "%s",
                                   cached_strerror(CACHED_ERR_FORBIDDEN));
        for (size_t i = 0; i < paths->n && n < sizeof(list); i++) {
                int k = snprintf(list + n, sizeof(list) - n, "%s%s", i > 0 ? ", " : "",
                                 paths->at[i].path);

                n += k > 0 ? (size_t)k : 0;
        }
        return failure_set(f, CACHED_ERR_UNREACHABLE, "no daemon answers on any of %.400s", list);
}

/*
 * The first that answers. That a path leads nowhere is a reason to try the next; that a daemon is
 * there but busy is not: another one would have other contents.
 */
static int dial_first(const struct sockpaths *paths, struct deadline d, const atomic_bool *stop,
                      struct failure *f, int *ret_fd, size_t *ret_which)
{
        bool forbidden = false;

        for (size_t i = 0; i < paths->n; i++) {
                const struct sockpath *p = &paths->at[i];
                int r;

                if (p->kind == SOCKPATH_OF_USER_TMP && !tmp_dir_is_ours(p->path))
                        continue;
                r = dial(p->path, d, stop, ret_fd);
                if (r == 0) {
                        *ret_which = i;
                        return CACHED_OK;
                }
                if (r == -EAGAIN && deadline_is_now(d))
                        return CONN_AGAIN;
                if (r == -ENOMEM || r == -ENOBUFS)
                        return failure_nomem(f);
                if (p->kind == SOCKPATH_NAMED || r == -EAGAIN || r == -ECANCELED || r == -EMFILE ||
                    r == -ENFILE)
                        return dial_failed(p, r, f);
                if (p->kind == SOCKPATH_OF_SYSTEM && (r == -EACCES || r == -EPERM))
                        forbidden = true;
        }
        return none_answers(paths, forbidden, f);
}

static int peer_check(int fd, const struct sockpath *p, const struct cached_options *o,
                      struct failure *f)
{
        struct ucred peer = {0};
        socklen_t n = sizeof(peer);
        struct stat st;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
                return failure_set(f, CACHED_ERR_UNTRUSTED, "who listens on %s is unknown: %s",
                                   p->path, strerror(errno));
        if (peer.uid == 0 || peer.uid == geteuid())
                return CACHED_OK;
        if (o->has_service_uid && peer.uid == o->service_uid)
                return CACHED_OK;
        if (p->kind == SOCKPATH_OF_SYSTEM && lstat(SOCKPATH_SYSTEM_DIR, &st) == 0 &&
            S_ISDIR(st.st_mode) && st.st_uid == peer.uid)
                return CACHED_OK;
        return failure_set(
                f, CACHED_ERR_UNTRUSTED,
                "the daemon at %s runs as uid %u, which is neither root nor this user: set "
                "the service uid if that is intended",
                p->path, (unsigned)peer.uid);
}

/* ---------------------------------------------------------------------------------------- Hello */

/* At most CLIENT_NAME_MAX bytes, not cut inside a character. */
static void client_name(const struct cached_options *o, char ret[CLIENT_NAME_MAX + 1])
{
        const char *name = o->client_name ? o->client_name : program_invocation_short_name;
        size_t n = strlen(name);

        if (n > CLIENT_NAME_MAX) {
                n = CLIENT_NAME_MAX;
                while (n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
                        n--;
        }
        memcpy(ret, name, n);
        ret[n] = '\0';
}

static uint64_t boottime_ms(void)
{
        struct timespec t = {0};

        (void)clock_gettime(CLOCK_BOOTTIME, &t);
        return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

static int hello_pack(struct conn *c, const struct cached_options *o, struct failure *f)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Hello hello = CACHED__V1__HELLO__INIT;
        char name[CLIENT_NAME_MAX + 1];
        size_t n;

        client_name(o, name);
        hello.protocol_min = hello.protocol_max = PROTOCOL_VERSION;
        hello.client = name;
        /* Values come as they were stored. */
        hello.features = CACHED__V1__FEATURE__FEATURE_LZ4 | CACHED__V1__FEATURE__FEATURE_LEASES |
                         CACHED__V1__FEATURE__FEATURE_RESOURCES;
        if (c->wants_events)
                hello.features |= CACHED__V1__FEATURE__FEATURE_EVENTS;
        if (c->wants_map)
                hello.features |= CACHED__V1__FEATURE__FEATURE_MAPPED;
        if (c->wants_files)
                hello.features |= CACHED__V1__FEATURE__FEATURE_FILES;
        c->takes_fds = c->wants_map;
        if (o->realm)
                hello.realm = o->realm;
        if (c->has_client_id)
                hello.client_id = (ProtobufCBinaryData){sizeof(c->client_id), c->client_id};
        request.id = c->hello_id = c->next_id++;
        c->hello_ms = boottime_ms();
        request.op_case = CACHED__V1__REQUEST__OP_HELLO;
        request.hello = &hello;
        n = cached__v1__request__get_packed_size(&request);
        if (!buffer_reserve(&c->out, FRAME_HEADER_SIZE + n))
                return failure_nomem(f);
        frame_header_write(c->out.data + c->out.end, (uint32_t)n, 0);
        (void)cached__v1__request__pack(&request, c->out.data + c->out.end + FRAME_HEADER_SIZE);
        c->out.end += FRAME_HEADER_SIZE + n;
        return CACHED_OK;
}

int conn_hello_send(struct conn *c, const struct cached_options *o, struct deadline d,
                    struct failure *f)
{
        int code;

        if (c->hello_state == CONN_HELLO_NEW) {
                code = hello_pack(c, o, f);
                if (code != CACHED_OK)
                        return code;
                c->hello_state = CONN_HELLO_SENDING;
        }
        while (buffer_n(&c->out) > 0) {
                struct iovec iov = {c->out.data + c->out.start, buffer_n(&c->out)};
                size_t n = 0;
                short ready;

                code = conn_send_some(c, &iov, 1, f, &n);
                if (code == CACHED_OK && n == 0)
                        code = conn_wait(c, POLLOUT, d, f, &ready);
                if (code != CACHED_OK)
                        return code;
                buffer_take(&c->out, n);
        }
        c->hello_state = CONN_HELLO_ASKED;
        return CACHED_OK;
}

/* Each part once. False: that is not what came. */
static bool offer_sort(struct conn *c, const Cached__V1__Mapping *m)
{
        struct map_offer in_order;

        map_offer_init(&in_order);
        if (c->has_bad_fds || c->n_fds != MAP_PARTS || m->n_parts != MAP_PARTS)
                return false;
        for (size_t i = 0; i < MAP_PARTS; i++) {
                int part = (int)m->parts[i] - CACHED__V1__MAP_PART__MAP_ARENA;

                if (part < 0 || part >= MAP_PARTS || in_order.fd[part] >= 0)
                        return false;
                in_order.fd[part] = c->offer.fd[i];
        }
        in_order.size[MAP_PART_ARENA] = m->arena_bytes;
        in_order.size[MAP_PART_EPOCH] = m->epoch_bytes;
        in_order.size[MAP_PART_PAGE] = m->page_bytes;
        in_order.size[MAP_PART_DIRTY] = m->dirty_map_bytes;
        in_order.dirty_bit = m->dirty_bit;
        c->offer = in_order;
        return true;
}

/* Whether boottime is the same here and there. It is not in a time namespace, and then neither are
 * the arena's deadlines. The daemon read its clock between our two readings. */
static bool offer_is_timely(const struct conn *c, const Cached__V1__Mapping *m)
{
        return m->boottime_ms >= c->hello_ms && m->boottime_ms <= boottime_ms();
}

/* What came along with the reply to Hello. */
static void hello_take_offer(struct conn *c, const Cached__V1__HelloResult *h)
{
        c->takes_fds = false;
        if (h && c->wants_map && h->features & CACHED__V1__FEATURE__FEATURE_MAPPED && h->mapping &&
            h->mapping->layout_version == ARENA_LAYOUT_VERSION && offer_is_timely(c, h->mapping) &&
            offer_sort(c, h->mapping))
                c->offer.max_keys = h->max_keys_per_request;
        else
                map_offer_done(&c->offer);
}

/* Kept for cached_connect(), which is asked again and again what the daemon said. */
static int hello_keep(struct conn *c, const struct cached_reply *r, struct failure *f)
{
        const Cached__V1__HelloResult *h = r->message->hello;

        c->n_hello = cached__v1__reply__get_packed_size(r->message);
        c->hello = malloc(c->n_hello);
        if (!c->hello)
                return failure_nomem(f);
        (void)cached__v1__reply__pack(r->message, c->hello);
        c->instance = h->instance;
        c->features = h->features;
        c->can_repeat = c->has_client_id && (h->features & CACHED__V1__FEATURE__FEATURE_REPEAT);
        c->max_message = h->max_message_bytes;
        c->max_value = h->max_value_bytes;
        c->max_lz4 = h->max_lz4_bytes;
        c->max_in_flight = h->max_requests_in_flight;
        c->has_files = c->wants_files && (h->features & CACHED__V1__FEATURE__FEATURE_FILES);
        c->max_upload = c->has_files ? h->max_upload_bytes : 0;
        c->file_bytes = h->file_bytes;
        c->has_leases = h->features & CACHED__V1__FEATURE__FEATURE_LEASES &&
                        h->role != CACHED__V1__ROLE__ROLE_READER;
        hello_take_offer(c, h);
        return CACHED_OK;
}

static int hello_check(struct conn *c, struct cached_reply *r, uint64_t n_body, struct failure *f)
{
        int code;

        if (conn_classify(r, n_body, f) != CONN_ASKED)
                return f->code;
        if (r->message->id != c->hello_id)
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon answered Hello with another id");
        code = reply_check(r, CACHED__V1__REQUEST__OP_HELLO, false, n_body, f);
        if (code != CACHED_OK)
                return code;
        if (r->code != CACHED_OK)
                return failure_set(f, r->code, "%s", cached_reply_error(r));
        if (r->message->hello->protocol != PROTOCOL_VERSION)
                return failure_set(f, CACHED_ERR_BAD_REPLY, "the daemon chose protocol %u, not %d",
                                   (unsigned)r->message->hello->protocol, PROTOCOL_VERSION);
        /* It would take what is about a session's caches for the realm's. */
        if (c->has_session &&
            !(r->message->hello->features & CACHED__V1__FEATURE__FEATURE_SESSIONS))
                return failure_set(f, CACHED_UNSUPPORTED,
                                   "the daemon is too old for sessions: update it");
        return hello_keep(c, r, f);
}

int conn_hello_receive(struct conn *c, struct deadline d, struct failure *f)
{
        struct cached_reply *r;
        uint64_t n_body;
        int code = conn_recv_message(c, d, false, f, &r, &n_body);

        if (code != CACHED_OK)
                return code;
        code = hello_check(c, r, n_body, f);
        cached_reply_free(r);
        if (code == CACHED_OK)
                c->hello_state = CONN_HELLO_DONE;
        return code;
}

int conn_hello(struct conn *c, const struct cached_options *o, struct deadline d, struct failure *f)
{
        if (c->hello_state < CONN_HELLO_ASKED) {
                struct failure why;
                int said, sent = conn_hello_send(c, o, d, f);

                /* A daemon that turns a connection away says why before it closes, whatever was
                 * sent. */
                if (sent == CACHED_ERR_DISCONNECTED) {
                        said = conn_hello_receive(c, d, &why);
                        if (said > CACHED_OK && said != CACHED_ERR_DISCONNECTED)
                                *f = why;
                        return f->code;
                }
                if (sent != CACHED_OK)
                        return sent;
        }
        return c->hello_state == CONN_HELLO_DONE ? CACHED_OK : conn_hello_receive(c, d, f);
}

void conn_hello_late(const struct conn *c, struct failure *f)
{
        struct ucred peer = {0};
        socklen_t n = sizeof(peer);
        char name[LISTENER_NAME_SIZE];
        enum listener who;

        if (getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
                return;
        who = listener_look(&peer, name);
        if (who == LISTENER_SYSTEMD || who == LISTENER_SYSTEMD_OF_USER)
                (void)failure_set(f, CACHED_ERR_TIMEOUT,
                                  "%s: systemd listens there, but the service does not start, or "
                                  "hangs: see `systemctl %sstatus cached.service`",
                                  cached_strerror(CACHED_ERR_TIMEOUT),
                                  who == LISTENER_SYSTEMD ? "" : "--user ");
        else if (who == LISTENER_OTHER)
                (void)failure_set(f, CACHED_ERR_TIMEOUT,
                                  "%s: pid %ld (%s) listens there for it, and may not start it",
                                  cached_strerror(CACHED_ERR_TIMEOUT), (long)peer.pid, name);
}

/* ------------------------------------------------------------------------------------- together */

int conn_dial_on(struct conn *c, const struct cached_options *o, const struct sockpaths *paths,
                 struct deadline d, const atomic_bool *stop, struct failure *f, size_t *ret_which)
{
        size_t which = 0;
        int fd = -1, code;

        /* Before anything can fail: requests may be packed for it while it has no socket yet. */
        c->has_session = o->has_session;
        memcpy(c->session, o->session, sizeof(c->session));
        code = dial_first(paths, d, stop, f, &fd, &which);
        if (code != CACHED_OK)
                return code;
        code = peer_check(fd, &paths->at[which], o, f);
        if (code != CACHED_OK) {
                (void)close(fd);
                return code;
        }
        conn_attach(c, fd);
        c->spin.is_on = o->spins;
        if (!deadline_is_now(d))
                code = conn_set_timeout(c, o->timeout_ms, f);
        if (code == CACHED_OK)
                *ret_which = which;
        return code;
}

int conn_dial(const struct cached_options *o, const struct sockpaths *paths, struct deadline d,
              const atomic_bool *stop, struct failure *f, struct conn **ret, size_t *ret_which)
{
        struct conn *c = conn_new();
        int code;

        if (!c)
                return failure_nomem(f);
        code = conn_dial_on(c, o, paths, d, stop, f, ret_which);
        if (code == CACHED_OK)
                *ret = c;
        else
                (void)conn_free(c);
        return code;
}

int conn_open(const struct cached_options *o, const struct sockpaths *paths, struct deadline d,
              struct failure *f, struct conn **ret, size_t *ret_which)
{
        struct conn *c = conn_new();
        size_t which = 0;
        int code;

        if (!c)
                return failure_nomem(f);
        code = conn_dial_on(c, o, paths, d, NULL, f, &which);
        if (code == CACHED_OK)
                code = conn_hello(c, o, d, f);
        if (code == CACHED_ERR_TIMEOUT && c->fd >= 0)
                conn_hello_late(c, f);
        if (code != CACHED_OK) {
                (void)conn_free(c);
                return code;
        }
        *ret = c;
        *ret_which = which;
        return CACHED_OK;
}
