/* SPDX-License-Identifier: MIT */

/*
 * Files in keys
 *
 * A file's identity (device, inode, size, mtime, ctime) stands for its content as long as nobody
 * can have changed it without the identity's changing too. Time stamps are coarse, a tick of the
 * kernel's clock or as much as two seconds on some file systems: a file that was changed a moment
 * ago may be changed again within the same stamp. So an identity whose stamps are that young is not
 * *settled*: its digest is used, and neither remembered nor trusted later. ctime cannot be set
 * back, so that restoring an mtime hides nothing.
 *
 * Content is read, never mapped: a truncation meanwhile would be a SIGBUS.
 *
 * Pipes and devices are refused before they are read: it might block, and take what belongs to
 * others.
 */

#include "memo-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define ID_VERSION 1
/* FAT keeps time in steps of two seconds. */
#define SETTLE_S 2
/* Below that, reading is as fast as asking for the digest. */
#define LARGE (64 * 1024)
/* How much is hashed at once; in parallel from the second size on, where threads pay. */
#define BLOCK       (256 * 1024)
#define LARGE_BLOCK (8 * 1024 * 1024)
/* A file that is written to all the time is given up. */
#define ATTEMPTS 3

static void pack(uint8_t *out, uint64_t v, int n)
{
        for (int i = 0; i < n; i++)
                out[i] = (uint8_t)(v >> (8 * i));
}

static void make_id(const struct stat *st, uint8_t id[FILE_ID_SIZE])
{
        id[0] = ID_VERSION;
        pack(id + 1, st->st_dev, 8);
        pack(id + 9, st->st_ino, 8);
        pack(id + 17, (uint64_t)st->st_size, 8);
        pack(id + 25, (uint64_t)st->st_mtim.tv_sec, 8);
        pack(id + 33, (uint64_t)st->st_mtim.tv_nsec, 4);
        pack(id + 37, (uint64_t)st->st_ctim.tv_sec, 8);
        pack(id + 45, (uint64_t)st->st_ctim.tv_nsec, 4);
}

/* @now was taken before @st. */
static bool is_settled(const struct stat *st, const struct timespec *now)
{
        time_t newest =
                st->st_mtim.tv_sec > st->st_ctim.tv_sec ? st->st_mtim.tv_sec : st->st_ctim.tv_sec;

        return newest < now->tv_sec - SETTLE_S;
}

static int take_id(struct memo_file *f, int fd)
{
        struct timespec now;
        struct stat st;

        (void)clock_gettime(CLOCK_REALTIME, &now);
        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        make_id(&st, f->id);
        f->settled = is_settled(&st, &now);
        f->large = st.st_size >= LARGE;
        return 0;
}

static int look(struct memo_file *f, const char *name, int flags)
{
        int fd = open(name, flags | O_CLOEXEC), r;

        if (fd < 0)
                return -errno;
        r = take_id(f, fd);
        (void)close(fd);
        return r;
}

/* Non-blocking: opening a pipe waits for a writer. */
#define READ_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY)

int file_look(struct memo_file *f, const char *name)
{
        *f = (struct memo_file){.name = name};
        return look(f, name, READ_FLAGS);
}

int file_look_program(struct memo_file *f, const char *name)
{
        int r = file_look(f, name);

        if (r != -EACCES)
                return r;
        f->unreadable = true;
        return look(f, name, O_PATH);
}

static size_t read_block(int fd, uint8_t *block, size_t size, off_t at, int *error)
{
        size_t n = 0;

        while (n < size) {
                ssize_t got = pread(fd, block + n, size - n, at + (off_t)n);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        *error = -errno;
                if (got <= 0)
                        break;
                n += (size_t)got;
        }
        return n;
}

int file_digest(int fd, uint8_t ret[CACHED_KEY_SIZE])
{
        cached_key *k = cached_key_new();
        size_t size = BLOCK, n;
        uint8_t *block;
        struct stat st;
        off_t at = 0;
        int r = 0;

        if (fstat(fd, &st) == 0 && st.st_size >= LARGE_BLOCK) {
                size = LARGE_BLOCK;
                (void)cached_key_set_threads(k, 0);
        }
        block = malloc(size);
        if (!block)
                r = -ENOMEM;
        (void)cached_key_begin_bytes(k);
        while (r == 0) {
                n = read_block(fd, block, size, at, &r);
                if (r < 0)
                        break;
                (void)cached_key_feed(k, block, n);
                at += (off_t)n;
                if (n < size)
                        break;
        }
        (void)cached_key_end(k);
        if (r == 0 && cached_key_finish(k, ret) != CACHED_OK)
                r = -ENOMEM;
        cached_key_free(k);
        free(block);
        return r;
}

/* 1: it changed on the way. */
static int read_once(struct memo_file *f)
{
        uint8_t before[FILE_ID_SIZE];
        int fd = open(f->name, READ_FLAGS | O_CLOEXEC), r;
        bool settled;

        if (fd < 0)
                return -errno;
        r = take_id(f, fd);
        settled = f->settled;
        memcpy(before, f->id, sizeof(before));
        if (r == 0)
                r = file_digest(fd, f->digest);
        if (r == 0)
                r = take_id(f, fd);
        (void)close(fd);
        /* As it was before: reading may have taken the seconds that it lacked. */
        f->settled = settled;
        if (r == 0 && memcmp(before, f->id, sizeof(before)) != 0)
                return 1;
        return r;
}

int file_read(struct memo_file *f)
{
        int r = 1;

        if (f->unreadable)
                return 0;
        for (int i = 0; i < ATTEMPTS && r == 1; i++)
                r = read_once(f);
        f->known = r == 0;
        return r == 1 ? -EBUSY : r;
}

bool file_has_changed(const struct memo_file *f)
{
        struct memo_file now;

        if ((f->unreadable ? file_look_program : file_look)(&now, f->name) < 0 ||
            now.unreadable != f->unreadable)
                return true;
        if (memcmp(now.id, f->id, sizeof(f->id)) == 0 && f->settled)
                return false;
        if (f->unreadable)
                return memcmp(now.id, f->id, sizeof(f->id)) != 0;
        return file_read(&now) < 0 || memcmp(now.digest, f->digest, sizeof(f->digest)) != 0;
}
