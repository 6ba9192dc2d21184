/* SPDX-License-Identifier: MIT */
/*
 * Values that are stored as memory files
 *
 * Three ways lead to one request: a buffer that was filled in place, a descriptor, and plain memory
 * that is so long that the daemon would have to make a memory file of it anyway. Then the bytes are
 * copied once, into a file that is handed over, instead of twice and through a socket.
 *
 * A file that is read into a memory file goes through the kernel alone where it can (sendfile), and
 * else in pieces: what this process holds of it at a time is bounded.
 *
 * A daemon that takes no memory files gets the same bytes as a body.
 */

#include "client/set-file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "client/call.h"
#include "client/entries.h"
#include "client/membuf.h"
#include "client/memfd.h"

/* One call of the kernel's, and one piece where it has to be read. */
#define SEND_MAX  ((size_t)1 << 30)
#define PIECE_MAX ((size_t)256 << 10)

/* ---------------------------------------------------------------------------------- the request */

/* What is to be stored: a value and what is behind it. What `data` has is the same as what is in
 * the file, one after the other. */
struct whole {
        int fd;
        struct iovec data[2];
        size_t n_iov;
};

static int whole_send(cached *c, const char *cache, Cached__V1__Set *m, const struct whole *w,
                      uint32_t patience_ms, cached_reply **ret)
{
        struct call call = call_init(CACHED__V1__REQUEST__OP_SET);

        call.request.set = m;
        call.cache = cache;
        call.cache_id = &m->cache_id;
        call.cache_name = &m->cache;
        call.body = w->data;
        call.n_body_iov = w->n_iov;
        for (size_t i = 0; i < w->n_iov; i++)
                call.n_body += w->data[i].iov_len;
        call.file = w->fd;
        call.needs_leases = set_needs_leases(m);
        call.patience_ms = patience_ms;
        return call_run(c, &call, ret);
}

/* ------------------------------------------------------------------------------- plain memory */

static int write_all(int fd, uint64_t start, const uint8_t *from, size_t n, struct failure *f)
{
        size_t at = 0;

        while (at < n) {
                ssize_t put = pwrite(fd, from + at, n - at, (off_t)(start + at));

                if (put < 0 && errno == EINTR)
                        continue;
                if (put <= 0)
                        return memfd_failed(f, "there is no memory for the value",
                                            put < 0 ? errno : ENOSPC);
                at += (size_t)put;
        }
        return CACHED_OK;
}

bool set_file_try(cached *c, const char *cache, Cached__V1__Set *m, const void *value, size_t n,
                  struct iovec behind, uint32_t patience_ms, cached_reply **ret, int *ret_code)
{
        struct whole w = {-1, {{(void *)(uintptr_t)value, n}, behind}, behind.iov_len ? 2 : 1};
        uint64_t n_all = (uint64_t)n + behind.iov_len;
        struct failure f;
        int code;

        if (n < SET_FILE_MIN || pool_files(c->pool) == POOL_FILES_NO ||
            memfd_new(n_all, &f, &w.fd) != CACHED_OK)
                return false;
        memfd_make_huge(w.fd, n_all, false);
        code = write_all(w.fd, 0, value, n, &f);
        if (code == CACHED_OK)
                code = write_all(w.fd, n, behind.iov_base, behind.iov_len, &f);
        if (code == CACHED_OK)
                code = memfd_seal(w.fd, &f);
        if (code == CACHED_OK)
                *ret_code = whole_send(c, cache, m, &w, patience_ms, ret);
        (void)close(w.fd);
        if (code != CACHED_OK || *ret_code != CACHED_LIMIT)
                return code == CACHED_OK;
        /* The daemon may have no room for one more descriptor: bytes it takes. */
        m->source_case = CACHED__V1__SET__SOURCE__NOT_SET;
        if (ret)
                cached_reply_free(*ret);
        return false;
}

/* --------------------------------------------------------------------------------- buffers */

int cached_set_buffer(cached *c, const char *cache, const void *key, size_t n_key,
                      cached_buffer *buffer, uint64_t n_value, const cached_set_options *o,
                      cached_reply **ret)
{
        struct iovec behind = set_options_messages(o);
        Cached__V1__Set m;
        struct whole w;
        struct failure f;
        int code;

        if (!c || !cache || (!key && n_key > 0) || !buffer)
                return call_refuse(
                        "cached_set_buffer() needs a handle, a cache, a key and a buffer", ret);
        if (n_value == 0)
                return entries_set(c, cache, key, n_key, NULL, 0, o, 0, ret);
        code = membuf_put_behind(buffer, n_value, behind, &f);
        if (code == CACHED_OK)
                code = membuf_seal(buffer, n_value + behind.iov_len, &f);
        if (code != CACHED_OK)
                return call_fail(code, &f, ret);
        set_options_to_message(o, &m);
        m.key = (ProtobufCBinaryData){n_key, (uint8_t *)(uintptr_t)key};
        w = (struct whole){buffer->fd,
                           {{buffer->data, (size_t)n_value + behind.iov_len}, {NULL, 0}},
                           1};
        return whole_send(c, cache, &m, &w, 0, ret);
}

/* ---------------------------------------------------------------------------- descriptors */

/* What is to be read, and how far that has come. */
struct source {
        int fd;
        bool has_offset; /* else it is read from where it is */
        uint64_t offset;
        uint64_t n_done;
};

static int source_failed(const struct source *s, ssize_t got, int error, struct failure *f)
{
        if (got == 0)
                return failure_set(f, CACHED_ERR_USAGE,
                                   "the file is shorter than the value is said to be: it ends "
                                   "after %" PRIu64 " bytes",
                                   s->n_done);
        return failure_set(f, CACHED_ERR_USAGE, "the file cannot be read: %s", strerror(error));
}

/* Whether it is worth another try. */
static bool source_waits(const struct source *s, int error)
{
        struct pollfd p = {.fd = s->fd, .events = POLLIN};

        if (error == EINTR)
                return true;
        if (error != EAGAIN)
                return false;
        (void)poll(&p, 1, -1);
        return true;
}

static int source_read(struct source *s, void *to, size_t n, struct failure *f)
{
        uint8_t *p = to;

        while (n > 0) {
                ssize_t got = s->has_offset ? pread(s->fd, p, n, (off_t)(s->offset + s->n_done))
                                            : read(s->fd, p, n);

                if (got < 0 && source_waits(s, errno))
                        continue;
                if (got <= 0)
                        return source_failed(s, got, errno, f);
                p += got;
                n -= (size_t)got;
                s->n_done += (uint64_t)got;
        }
        return CACHED_OK;
}

/* In pieces through this process. */
static int source_copy_pieces(struct source *s, int to, uint64_t n, struct failure *f)
{
        uint8_t *piece = malloc(PIECE_MAX);
        int code = piece ? CACHED_OK : failure_nomem(f);

        while (code == CACHED_OK && s->n_done < n) {
                uint64_t at = s->n_done;
                size_t now = n - at < PIECE_MAX ? (size_t)(n - at) : PIECE_MAX;

                code = source_read(s, piece, now, f);
                for (size_t put = 0; code == CACHED_OK && put < now;) {
                        ssize_t r = pwrite(to, piece + put, now - put, (off_t)(at + put));

                        if (r < 0 && errno == EINTR)
                                continue;
                        if (r <= 0)
                                code = memfd_failed(f, "there is no memory for the value",
                                                    r < 0 ? errno : ENOSPC);
                        else
                                put += (size_t)r;
                }
        }
        free(piece);
        return code;
}

/*
 * By the kernel alone, as far as it goes: not from everything. An error may be either side's; then
 * the pieces tell which.
 */
static void source_send(struct source *s, int to, uint64_t n)
{
        while (s->has_offset && s->n_done < n) {
                off_t from = (off_t)(s->offset + s->n_done);
                size_t now = n - s->n_done < SEND_MAX ? (size_t)(n - s->n_done) : SEND_MAX;
                ssize_t put = sendfile(to, s->fd, &from, now);

                if (put < 0 && errno == EINTR)
                        continue;
                if (put <= 0)
                        return;
                s->n_done += (uint64_t)put;
        }
}

/* A sealed memory file with the bytes of the source, and more behind them. */
static int source_to_memfd(struct source *s, uint64_t n, struct iovec behind, struct failure *f,
                           int *ret_fd)
{
        int fd = -1, code = memfd_new(n + behind.iov_len, f, &fd);

        if (code != CACHED_OK)
                return code;
        source_send(s, fd, n);
        code = source_copy_pieces(s, fd, n, f);
        if (code == CACHED_OK)
                code = write_all(fd, n, behind.iov_base, behind.iov_len, f);
        if (code == CACHED_OK)
                code = memfd_seal(fd, f);
        if (code != CACHED_OK) {
                (void)close(fd);
                return code;
        }
        *ret_fd = fd;
        return CACHED_OK;
}

/* Hands a sealed memory file over. It is mapped for a daemon that wants to have the bytes. */
static int set_sealed(cached *c, const char *cache, const void *key, size_t n_key, int fd,
                      uint64_t n, const cached_set_options *o, cached_reply **ret)
{
        struct whole w = {fd, {{NULL, (size_t)n}, {NULL, 0}}, 1};
        Cached__V1__Set m;
        struct failure f;
        void *data = MAP_FAILED;
        int code;

        if (n <= SIZE_MAX)
                data = mmap(NULL, (size_t)n, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED)
                return call_fail(memfd_failed(&f, "the value cannot be mapped", errno), &f, ret);
        w.data[0].iov_base = data;
        set_options_to_message(o, &m);
        m.key = (ProtobufCBinaryData){n_key, (uint8_t *)(uintptr_t)key};
        code = whole_send(c, cache, &m, &w, 0, ret);
        (void)munmap(data, (size_t)n);
        return code;
}

/* A short one: read, and stored like any memory. */
static int set_short(cached *c, const char *cache, const void *key, size_t n_key, struct source *s,
                     size_t n, const cached_set_options *o, cached_reply **ret)
{
        struct failure f;
        void *value = malloc(n + 1);
        int code = value ? source_read(s, value, n, &f) : failure_nomem(&f);

        code = code == CACHED_OK ? entries_set(c, cache, key, n_key, value, n, o, 0, ret)
                                 : call_fail(code, &f, ret);
        free(value);
        return code;
}

int cached_set_fd(cached *c, const char *cache, const void *key, size_t n_key, int fd,
                  uint64_t offset, uint64_t size, const cached_set_options *o, cached_reply **ret)
{
        struct source s = {.fd = fd, .offset = offset};
        struct iovec behind = set_options_messages(o);
        struct failure f;
        int copy = -1, code;

        if (!c || !cache || (!key && n_key > 0) || fd < 0)
                return call_refuse(
                        "cached_set_fd() needs a handle, a cache, a key and a descriptor", ret);
        if (offset > INT64_MAX || size > INT64_MAX - offset || behind.iov_len > INT64_MAX - size)
                return call_refuse("no file has so many bytes", ret);
        if (offset == 0 && size >= SET_FD_MIN && behind.iov_len == 0 && memfd_is_sealed(fd, size))
                return set_sealed(c, cache, key, n_key, fd, size, o, ret);
        s.has_offset = lseek(fd, 0, SEEK_CUR) >= 0;
        if (!s.has_offset && offset > 0)
                return call_refuse("a pipe or a socket has no offset: it must be 0", ret);
        if (size < SET_FILE_MIN)
                return set_short(c, cache, key, n_key, &s, (size_t)size, o, ret);
        code = source_to_memfd(&s, size, behind, &f, &copy);
        if (code != CACHED_OK)
                return call_fail(code, &f, ret);
        code = set_sealed(c, cache, key, n_key, copy, size + behind.iov_len, o, ret);
        (void)close(copy);
        return code;
}
