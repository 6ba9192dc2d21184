/* SPDX-License-Identifier: MIT */
/*
 * Socket file
 *
 * Who holds the lock on `<socket>.lock` owns the name. A lock ends with its process, so a crash
 * leaves nothing that stops the next start; the socket file that is left then is replaced, by the
 * owner of the lock only, so that two starting daemons cannot remove each other's. The lock file is
 * removed at a clean end while still locked; whoever had opened it before sees that its name is
 * gone and opens it again.
 *
 * The socket is bound under a umask that lets only ourselves connect, and opened to others
 * afterwards. Where the directory belongs to somebody else the name may stand for anything at any
 * moment: mode and group are set through a descriptor of the very file that was bound.
 */

#include "transport/sockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define LOCK_SUFFIX   ".lock"
#define LOCK_ATTEMPTS 10 /* each lost to a daemon that ended at this moment */

#define FAIL(code, ...)                                                                            \
        do {                                                                                       \
                (void)snprintf(err, n_err, __VA_ARGS__);                                           \
                return -(code);                                                                    \
        } while (0)

/* What stands at the path may be replaced only if it is a socket. */
static int check_path(const char *path, char *err, size_t n_err)
{
        struct sockaddr_un addr;
        struct stat st;

        if (path[0] == '\0')
                FAIL(EINVAL, "the socket path is empty");
        if (strlen(path) >= sizeof(addr.sun_path))
                FAIL(ENAMETOOLONG,
                     "the socket path is %zu bytes long, at most %zu fit into a socket address: %s",
                     strlen(path), sizeof(addr.sun_path) - 1, path);
        if (lstat(path, &st) < 0) {
                int code = errno;
                if (code == ENOENT && path[strlen(path) - 1] != '/')
                        return 0;
                FAIL(code, "%s: %s", path, strerror(code));
        }
        if (S_ISDIR(st.st_mode))
                FAIL(EISDIR, "%s is a directory: give the name of a socket in it", path);
        if (!S_ISSOCK(st.st_mode))
                FAIL(EEXIST, "%s exists and is not a socket: remove it or choose another path",
                     path);
        return 0;
}

static int read_pid(int fd)
{
        char buf[16];
        ssize_t n = pread(fd, buf, sizeof(buf) - 1, 0);

        if (n <= 0)
                return 0;
        buf[n] = '\0';
        return atoi(buf);
}

static int open_lock(const char *lock_path, const char *path, char *err, size_t n_err)
{
        int fd = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

        if (fd >= 0)
                return fd;
        if (errno == ENOENT)
                FAIL(ENOENT, "%s: its directory is missing: %s", path, strerror(ENOENT));
        FAIL(errno, "%s: cannot create it: %s", lock_path, strerror(errno));
}

/* Takes the lock; the descriptor is returned. */
static int take_lock(const char *lock_path, const char *path, char *err, size_t n_err)
{
        for (int i = 0; i < LOCK_ATTEMPTS; i++) {
                struct stat ours, there;
                int fd = open_lock(lock_path, path, err, n_err);

                if (fd < 0)
                        return fd;
                if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                        int code = errno, pid = read_pid(fd);
                        close(fd);
                        if (code != EWOULDBLOCK)
                                FAIL(code, "%s: cannot lock it: %s", lock_path, strerror(code));
                        if (pid > 0)
                                FAIL(EADDRINUSE,
                                     "another cached (pid %d) serves this socket already: %s", pid,
                                     path);
                        FAIL(EADDRINUSE, "another cached serves this socket already: %s", path);
                }
                if (fstat(fd, &ours) == 0 && lstat(lock_path, &there) == 0 &&
                    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino) {
                        /* A second name would be another's file, linked to by whom the
                         * directory belongs to. */
                        if (ours.st_nlink == 1 && ftruncate(fd, 0) == 0)
                                (void)!dprintf(fd, "%d\n", (int)getpid());
                        return fd;
                }
                close(fd); /* its owner removed it between our open() and our lock */
        }
        FAIL(EAGAIN, "%s: its lock changes all the time", path);
}

/* With the lock held: a socket that still answers belongs to a program that knows no lock. */
static int remove_stale(const char *path, const struct sockaddr_un *addr, char *err, size_t n_err)
{
        struct ucred cred = {0};
        socklen_t n = sizeof(cred);
        struct stat st;
        int fd, r, code;

        if (lstat(path, &st) < 0)
                return 0;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                FAIL(errno, "cannot create a socket: %s", strerror(errno));
        r = connect(fd, (const struct sockaddr *)addr, sizeof(*addr));
        code = r < 0 ? errno : 0;
        if (r == 0)
                (void)getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n);
        close(fd);
        if (code == ECONNREFUSED) {
                if (unlink(path) < 0 && errno != ENOENT)
                        FAIL(errno, "%s: cannot remove the stale socket: %s", path,
                             strerror(errno));
                return 0;
        }
        if (code == 0)
                FAIL(EADDRINUSE, "another program (pid %d) listens on this socket already: %s",
                     (int)cred.pid, path);
        if (code == EAGAIN || code == EPROTOTYPE)
                FAIL(EADDRINUSE, "another program listens on this socket already: %s", path);
        FAIL(code, "%s: cannot tell whether somebody listens there: %s", path, strerror(code));
}

/* The socket at the path, as a descriptor that only names it. Never what a link there leads to, nor
 * what others could have put there: the directory may not be ours. */
static int open_socket(const char *path, struct stat *ret)
{
        int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), code = ESTALE;
        struct stat st;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                code = errno;
        else if (S_ISSOCK(st.st_mode) && st.st_uid == geteuid() && st.st_nlink == 1)
                code = 0;
        if (code != 0) {
                close(fd);
                return -code;
        }
        *ret = st;
        return fd;
}

/* chmod() of what an O_PATH descriptor names. */
static int chmod_path_fd(int fd, mode_t mode)
{
        char link[sizeof("/proc/self/fd/") + 16];

        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        if (chmod(link, mode) == 0)
                return 0;
#ifdef SYS_fchmodat2
        if (errno == ENOENT && syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
                return 0; /* no /proc */
#endif
        return -errno;
}

/* @fd names the socket, or is the error of opening it. Consumes it. */
static int set_access(int fd, const struct sockfile_access *access)
{
        int r = 0;

        if (fd < 0)
                return fd;
        if (access->has_gid &&
            fchownat(fd, "", (uid_t)-1, access->gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        if (r == 0)
                r = chmod_path_fd(fd, access->mode & 0777);
        close(fd);
        return r;
}

static int bind_socket(struct sockfile *s, const struct sockaddr_un *addr,
                       const struct sockfile_access *access, int fd, char *err, size_t n_err)
{
        mode_t old = umask(0177);
        int r = bind(fd, (const struct sockaddr *)addr, sizeof(*addr)), code = errno, path_fd;
        struct stat st = {0};

        umask(old);
        if (r < 0)
                FAIL(code, "%s: cannot bind the socket: %s", s->path, strerror(code));
        path_fd = open_socket(s->path, &st);
        if (path_fd >= 0) {
                s->dev = st.st_dev;
                s->ino = st.st_ino;
        }
        r = set_access(path_fd, access);
        if (r < 0)
                FAIL(-r, "%s: cannot set its group and mode: %s", s->path, strerror(-r));
        if (listen(fd, SOMAXCONN) < 0)
                FAIL(errno, "%s: cannot listen: %s", s->path, strerror(errno));
        return 0;
}

int sockfile_init(struct sockfile *s, const char *path, const struct sockfile_access *access,
                  int *ret_fd, char *err, size_t n_err)
{
        struct sockaddr_un addr = {.sun_family = AF_UNIX};
        int fd, r;

        *s = (struct sockfile){.lock_fd = -1};
        r = check_path(path, err, n_err);
        if (r < 0)
                return r;
        memcpy(addr.sun_path, path, strlen(path) + 1);
        s->path = strdup(path);
        if (!s->path || asprintf(&s->lock_path, "%s%s", path, LOCK_SUFFIX) < 0) {
                s->lock_path = NULL;
                sockfile_done(s);
                FAIL(ENOMEM, "out of memory");
        }
        s->lock_fd = take_lock(s->lock_path, path, err, n_err);
        r = s->lock_fd < 0 ? s->lock_fd : remove_stale(path, &addr, err, n_err);
        if (r < 0) {
                sockfile_done(s);
                return r;
        }
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0) {
                r = -errno;
                sockfile_done(s);
                FAIL(-r, "cannot create a socket: %s", strerror(-r));
        }
        r = bind_socket(s, &addr, access, fd, err, n_err);
        if (r < 0) {
                close(fd);
                sockfile_done(s);
                return r;
        }
        *ret_fd = fd;
        return 0;
}

/* Whether @fd is the lock at the path. */
static bool is_lock(const char *lock_path, int fd)
{
        struct stat ours, there;

        return fstat(fd, &ours) == 0 && lstat(lock_path, &there) == 0 && S_ISREG(ours.st_mode) &&
               ours.st_dev == there.st_dev && ours.st_ino == there.st_ino && ours.st_nlink == 1;
}

int sockfile_adopt(struct sockfile *s, const char *path, int lock_fd, char *err, size_t n_err)
{
        struct stat st = {0};
        int fd;

        *s = (struct sockfile){.lock_fd = lock_fd};
        s->path = strdup(path);
        if (!s->path || asprintf(&s->lock_path, "%s%s", path, LOCK_SUFFIX) < 0) {
                s->lock_path = NULL;
                sockfile_let_go(s);
                FAIL(ENOMEM, "out of memory");
        }
        if (!is_lock(s->lock_path, lock_fd)) {
                int r = -ESTALE;

                (void)snprintf(err, n_err, "%s is not the lock that was handed over", s->lock_path);
                sockfile_let_go(s);
                return r;
        }
        /* It was locked by opening it once, by whoever had it first: the lock came with it. */
        if (ftruncate(lock_fd, 0) == 0 && lseek(lock_fd, 0, SEEK_SET) == 0)
                (void)!dprintf(lock_fd, "%d\n", (int)getpid());
        fd = open_socket(path, &st);
        if (fd >= 0) {
                s->dev = st.st_dev;
                s->ino = st.st_ino;
                close(fd);
        }
        return 0;
}

void sockfile_let_go(struct sockfile *s)
{
        if (s->lock_path && s->lock_fd >= 0)
                close(s->lock_fd);
        free(s->path);
        free(s->lock_path);
        *s = (struct sockfile){.lock_fd = -1};
}

int sockfile_set_access(const struct sockfile *s, const struct sockfile_access *access)
{
        struct stat st = {0};
        int fd;

        if (!s->path)
                return 0;
        fd = open_socket(s->path, &st);
        if (fd >= 0 && (st.st_dev != s->dev || st.st_ino != s->ino)) {
                close(fd);
                return -ESTALE;
        }
        return set_access(fd, access);
}

bool sockfile_is_exposed(const struct sockfile *s, char *ret_why, size_t n_why)
{
        char *copy = s->path ? strdup(s->path) : NULL;
        struct stat st;
        bool found = false;

        if (copy && stat(dirname(copy), &st) == 0) {
                bool foreign = st.st_uid != 0 && st.st_uid != geteuid();
                bool open = (st.st_mode & S_IWOTH) && !(st.st_mode & S_ISVTX);

                found = foreign || open;
                if (foreign)
                        (void)snprintf(ret_why, n_why,
                                       "the directory of %s belongs to uid %u, who can put another "
                                       "socket in its place",
                                       s->path, (unsigned)st.st_uid);
                else if (open)
                        (void)snprintf(ret_why, n_why,
                                       "the directory of %s can be written by everybody and is not "
                                       "sticky: anyone can put another socket in its place",
                                       s->path);
        }
        free(copy);
        return found;
}

void sockfile_remove(struct sockfile *s)
{
        struct stat st;

        if (s->ino != 0 && lstat(s->path, &st) == 0 && st.st_dev == s->dev && st.st_ino == s->ino)
                (void)unlink(s->path);
        s->ino = 0;
}

void sockfile_done(struct sockfile *s)
{
        if (s->path)
                sockfile_remove(s);
        if (s->lock_path && s->lock_fd >= 0) {
                (void)unlink(s->lock_path);
                close(s->lock_fd);
        }
        free(s->path);
        free(s->lock_path);
        *s = (struct sockfile){.lock_fd = -1};
}
