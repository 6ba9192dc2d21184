/* SPDX-License-Identifier: MIT */
/*
 * Activation
 *
 * A user's socket must lie where nobody else can put one of his own: clients trust what they find
 * there. So its directory belongs to the user and is closed to all others, or it is refused, above
 * all in /tmp.
 */

#include "activation.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "log.h"
#include "realm/given.h"

#define SYSTEM_DIR  "/run/cached"
#define SOCKET_NAME "cached.sock"

#define FAIL(code, ...)                                                                            \
        do {                                                                                       \
                (void)snprintf(err, n_err, __VA_ARGS__);                                           \
                return -(code);                                                                    \
        } while (0)

#ifdef HAVE_SYSTEMD
static int take_socket(int fd, char *path, size_t n_path, char *err, size_t n_err)
{
        struct sockaddr_un addr = {0};
        socklen_t n_addr = sizeof(addr);
        int flags;

        if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0)
                FAIL(EINVAL, "the descriptor that the service manager passed is not a listening "
                             "Unix stream "
                             "socket (ListenStream= with a path)");
        flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                FAIL(errno, "the passed socket: %s", strerror(errno));
        (void)getsockname(fd, (struct sockaddr *)&addr, &n_addr);
        (void)snprintf(path, n_path, "%.*s", (int)sizeof(addr.sun_path),
                       addr.sun_path[0] ? addr.sun_path : "(passed socket)");
        return 0;
}

/* What is no socket is given, or closed. */
static void sort_out(int fd, const char *name, struct given *given, struct log *log)
{
        const char *fault;

        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
                given->n_refused++;
                log_peer(log, LOG_WARNING, LOG_KIND_PASSED, LOG_AT_START, NULL,
                         "the passed descriptor '%s' is not open", name);
                return;
        }
        fault = given_add_passed(given, name, fd);
        if (fault)
                log_peer(log, LOG_WARNING, LOG_KIND_PASSED, LOG_AT_START, NULL,
                         "the passed descriptor '%s' was closed: %s", name, fault);
}

/* Nothing to listen on: what another version kept, under a name that is unknown here. */
static bool is_connected(int fd)
{
        struct sockaddr_storage peer;
        socklen_t n = sizeof(peer);

        return getpeername(fd, (struct sockaddr *)&peer, &n) == 0;
}

static void free_names(char **names)
{
        for (char **at = names; at && *at; at++)
                free(*at);
        free(names);
}

int activation_take(int *ret_fd, char *path, size_t n_path, struct given *given, struct log *log,
                    char *err, size_t n_err)
{
        char **names = NULL;
        int n = sd_listen_fds_with_names(1, &names), socket_fd = -1, n_sockets = 0, r;

        if (n < 0)
                FAIL(-n, "the service manager passed sockets in a form that cannot be read: %s",
                     strerror(-n));
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;
                uint32_t number;

                /* Memory is asked for first: that never blocks. A resource's is not asked at all.
                 */
                if (given_parse(names[i], &number) == GIVEN_RESOURCE || given_is_memory(fd) ||
                    sd_is_socket(fd, AF_UNSPEC, 0, -1) <= 0 || is_connected(fd)) {
                        sort_out(fd, names[i], given, log);
                        continue;
                }
                n_sockets++;
                (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
                if (n_sockets == 1)
                        socket_fd = fd;
                else
                        close(fd);
        }
        free_names(names);
        if (n_sockets == 0)
                return 1;
        r = 0;
        if (n_sockets > 1)
                (void)snprintf(err, n_err,
                               "the service manager passed %d sockets: exactly one listening Unix "
                               "stream socket is wanted",
                               n_sockets);
        else
                r = take_socket(socket_fd, path, n_path, err, n_err);
        if (n_sockets > 1 || r < 0) {
                close(socket_fd);
                return r < 0 ? r : -EINVAL;
        }
        *ret_fd = socket_fd;
        return 0;
}
#else
int activation_take(int *ret_fd, char *path, size_t n_path, struct given *given, struct log *log,
                    char *err, size_t n_err)
{
        (void)ret_fd;
        (void)path;
        (void)n_path;
        (void)given;
        (void)log;
        if (getenv("LISTEN_FDS"))
                FAIL(ENOTSUP,
                     "sockets were passed by a service manager, but this build has no libsystemd");
        return 1;
}
#endif

/* Makes @dir if it is missing. Only root's may be open to others' eyes. */
static int check_dir(const char *dir, bool is_system, char *err, size_t n_err)
{
        struct stat st;
        mode_t mode = is_system ? 0755 : 0700, old = umask(0);
        int r = mkdir(dir, mode);

        umask(old);
        if (r < 0 && errno != EEXIST)
                FAIL(errno, "%s: cannot create the directory: %s", dir, strerror(errno));
        if (lstat(dir, &st) < 0)
                FAIL(errno, "%s: %s", dir, strerror(errno));
        if (!S_ISDIR(st.st_mode))
                FAIL(ENOTDIR, "%s is not a directory: remove it or choose a path with --socket",
                     dir);
        if (is_system) {
                if (st.st_mode & (S_IWGRP | S_IWOTH))
                        FAIL(EPERM, "%s is writable by others (mode %04o): chmod it to 0755", dir,
                             (unsigned)(st.st_mode & 07777));
                return 0;
        }
        if (st.st_uid != geteuid())
                FAIL(EPERM,
                     "%s belongs to uid %u, not to you (uid %u): remove it or choose a path with "
                     "--socket",
                     dir, (unsigned)st.st_uid, (unsigned)geteuid());
        if ((st.st_mode & 07777) != 0700)
                FAIL(EPERM, "%s has mode %04o, it must be 0700: chmod 0700 it", dir,
                     (unsigned)(st.st_mode & 07777));
        return 0;
}

static bool is_dir(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The user's directory: the first of the chain whose parent exists. */
static int user_dir(char *dir, size_t n_dir)
{
        const char *runtime = getenv("XDG_RUNTIME_DIR");
        char parent[64];
        int n;

        if (runtime && runtime[0] == '/' && is_dir(runtime)) {
                n = snprintf(dir, n_dir, "%s/cached", runtime);
                return n < 0 || (size_t)n >= n_dir ? -ENAMETOOLONG : 0;
        }
        (void)snprintf(parent, sizeof(parent), "/run/user/%u", (unsigned)geteuid());
        if (is_dir(parent))
                (void)snprintf(dir, n_dir, "%s/cached", parent);
        else
                (void)snprintf(dir, n_dir, "/tmp/cached-%u", (unsigned)geteuid());
        return 0;
}

int activation_socket_path(char *path, size_t n_path, char *err, size_t n_err)
{
        const char *given = getenv("CACHED_SOCKET");
        bool is_system = geteuid() == 0;
        char dir[ACTIVATION_PATH_MAX - 32];
        int r;

        if (given && given[0] != '\0') {
                if ((size_t)snprintf(path, n_path, "%s", given) >= n_path)
                        FAIL(ENAMETOOLONG, "$CACHED_SOCKET is too long");
                return 0;
        }
        if (is_system)
                (void)snprintf(dir, sizeof(dir), "%s", SYSTEM_DIR);
        else if (user_dir(dir, sizeof(dir)) < 0)
                FAIL(ENAMETOOLONG, "$XDG_RUNTIME_DIR is too long");
        r = check_dir(dir, is_system, err, n_err);
        if (r < 0)
                return r;
        if ((size_t)snprintf(path, n_path, "%s/%s", dir, SOCKET_NAME) >= n_path)
                FAIL(ENAMETOOLONG, "%s: the path is too long", dir);
        return 0;
}
