/* SPDX-License-Identifier: MIT */
/*
 * Epoch file
 *
 * One page beside the socket, mapped by readers: the instance of the daemon whose arenas count. It
 * is written before anything is answered, and stays when the daemon ends, since readers may still
 * hold its arenas then: the next daemon writes its own number into the same file, and all that
 * hangs on the old one is over at that instant.
 *
 * A file that is there is used if it is what we would have made: regular, ours, mode 0644, of one
 * name, one page long, with the right words at its start. Anything else (a link is never followed)
 * is replaced by a rename; what stands there and cannot be, such as a directory, stays, and no
 * client is offered a mapping.
 *
 * Whoever may write into the socket's directory can take the file away. That is so for the socket,
 * too.
 */

#include "transport/epochfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/page.h"

#define MODE 0644

static int fail(int r, char *err, size_t n_err, const char *path, const char *what)
{
        (void)snprintf(err, n_err, "%s: %s: %s", path, what, strerror(-r));
        return r;
}

static bool is_ours(int fd)
{
        struct epoch_page p;
        struct stat st;

        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
            (st.st_mode & 07777) != MODE || st.st_nlink != 1 || st.st_size != EPOCH_SIZE)
                return false;
        return pread(fd, &p, sizeof(p), 0) == (ssize_t)sizeof(p) && p.magic == EPOCH_MAGIC &&
               p.version == EPOCH_VERSION;
}

/* -1: what is there is not what it should be, or nothing is. */
static int open_old(const char *path)
{
        int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);

        if (fd >= 0 && !is_ours(fd)) {
                close(fd);
                fd = -1;
        }
        return fd;
}

static int fill(int fd, uint64_t instance)
{
        const struct epoch_page p = {.magic = EPOCH_MAGIC,
                                     .version = EPOCH_VERSION,
                                     .instance = instance};
        int r;

        if (fchmod(fd, MODE) < 0) /* whatever the umask */
                return -errno;
        r = posix_fallocate(fd, 0, EPOCH_SIZE); /* no store into the map may meet a full disk */
        if (r != 0)
                return -r;
        if (pwrite(fd, &p, sizeof(p), 0) != (ssize_t)sizeof(p))
                return errno ? -errno : -EIO;
        return 0;
}

/* Whole before anybody sees it. */
static int make_new(const char *path, uint64_t instance)
{
        char *temp = NULL;
        int fd, r;

        if (asprintf(&temp, "%s.XXXXXX", path) < 0)
                return -ENOMEM;
        fd = mkostemp(temp, O_CLOEXEC);
        if (fd < 0) {
                r = -errno;
                free(temp);
                return r;
        }
        r = fill(fd, instance);
        if (r == 0 && rename(temp, path) < 0)
                r = -errno;
        if (r < 0) {
                (void)unlink(temp);
                close(fd);
        }
        free(temp);
        return r < 0 ? r : fd;
}

int epochfile_init(struct epochfile *e, const char *socket_path, uint64_t instance, char *err,
                   size_t n_err)
{
        char *path = NULL;
        void *map;
        int fd, r = 0;

        *e = (struct epochfile){.fd = -1};
        if (asprintf(&path, "%s.epoch", socket_path) < 0)
                return fail(-ENOMEM, err, n_err, socket_path, "no memory");
        fd = open_old(path);
        if (fd < 0)
                fd = make_new(path, instance);
        if (fd < 0) {
                r = fail(fd, err, n_err, path, "cannot make it");
                goto out;
        }
        map = mmap(NULL, EPOCH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) {
                r = fail(-errno, err, n_err, path, "cannot map it");
                close(fd);
                goto out;
        }
        e->fd = fd;
        e->page = map;
        atomic_store_explicit(&e->page->instance, instance, memory_order_seq_cst);
out:
        free(path);
        return r;
}

/* Zeros where there is none that is as it should be. */
static struct epoch_page peek(const char *socket_path)
{
        struct epoch_page p = {0};
        char *path = NULL;
        int fd;

        if (asprintf(&path, "%s.epoch", socket_path) < 0)
                return p;
        fd = open_old(path);
        free(path);
        if (fd < 0)
                return p;
        if (pread(fd, &p, sizeof(p), 0) != (ssize_t)sizeof(p))
                p = (struct epoch_page){0};
        close(fd);
        return p;
}

uint64_t epochfile_peek(const char *socket_path)
{
        struct epoch_page p = peek(socket_path);

        return atomic_load_explicit(&p.instance, memory_order_relaxed);
}

uint32_t epochfile_attempts(const char *socket_path)
{
        return peek(socket_path).n_attempts;
}

void epochfile_begin_attempt(struct epochfile *e)
{
        if (e->page)
                e->page->n_attempts += e->page->n_attempts < UINT32_MAX;
}

void epochfile_end_attempt(struct epochfile *e)
{
        if (e->page)
                e->page->n_attempts = 0;
}

void epochfile_begin_tenure(struct epochfile *e)
{
        if (e->page)
                (void)atomic_fetch_add_explicit(&e->page->tenure, 1, memory_order_release);
}

void epochfile_set(struct epochfile *e, uint64_t instance)
{
        if (e->page)
                atomic_store_explicit(&e->page->instance, instance, memory_order_seq_cst);
}

void epochfile_done(struct epochfile *e)
{
        if (!e->page)
                return;
        munmap(e->page, EPOCH_SIZE);
        close(e->fd);
        *e = (struct epochfile){.fd = -1};
}
