/* SPDX-License-Identifier: MIT */
/*
 * Buffers and descriptors of libcached, against a store in this process: what is filled in place is
 * the value, and the caller's memory stays its own; what others can still write to is refused and
 * unharmed; prepared buffers are bounded; files of any kind are stored, and short ones say so;
 * without memory or descriptors there is an exact failure, and nothing is left behind.
 */

#include "client-harness.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "map-world.h"

#define LARGE ((size_t)5 << 20)

/* ------------------------------------------------------------------------------ faults on demand
 */

struct fault {
        int in; /* the n-th call from now fails; 0: none does */
        int error;
};

static _Thread_local struct fault fault_mmap, fault_memfd, fault_ftruncate, fault_pwrite;
static _Thread_local struct fault fault_blocks; /* the file has `error` blocks more */

static bool fails(struct fault *f)
{
        if (f->in == 0 || --f->in > 0)
                return false;
        errno = f->error;
        return true;
}

void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
        return fails(&fault_mmap) ? MAP_FAILED : __real_mmap64(at, n, prot, flags, fd, off);
}

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags)
{
        return fails(&fault_memfd) ? -1 : __real_memfd_create(name, flags);
}

int __real_ftruncate64(int fd, off_t n);
int __wrap_ftruncate64(int fd, off_t n);
int __wrap_ftruncate64(int fd, off_t n)
{
        return fails(&fault_ftruncate) ? -1 : __real_ftruncate64(fd, n);
}

ssize_t __real_pwrite64(int fd, const void *from, size_t n, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *from, size_t n, off_t off);
ssize_t __wrap_pwrite64(int fd, const void *from, size_t n, off_t off)
{
        return fails(&fault_pwrite) ? -1 : __real_pwrite64(fd, from, n, off);
}

int __real_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st);
int __wrap_fstat64(int fd, struct stat *st)
{
        int r = __real_fstat64(fd, st);

        if (r == 0 && fails(&fault_blocks))
                st->st_blocks += fault_blocks.error;
        return r;
}

/* ------------------------------------------------------------------------------------- helpers */

static uint8_t *bytes_new(size_t n)
{
        uint8_t *bytes = malloc(n + 1);

        assert_non_null(bytes);
        fill(bytes, n);
        return bytes;
}

static cached_buffer *buffer_of(cached *c, const void *bytes, size_t n)
{
        cached_buffer *b = NULL;

        assert_int_equal(cached_buffer_new(c, n, &b), CACHED_OK);
        assert_int_equal(cached_buffer_size(b), n);
        memcpy(cached_buffer_data(b), bytes, n);
        return b;
}

static int set_buffer(cached *c, const char *key, cached_buffer *b, size_t n)
{
        return cached_set_buffer(c, CACHE, key, strlen(key), b, n, NULL, NULL);
}

/* The failure's text. */
static void set_buffer_says(cached *c, cached_buffer *b, size_t n, int code, const char *text)
{
        cached_reply *r;

        assert_int_equal(cached_set_buffer(c, CACHE, "k", 1, b, n, NULL, &r), code);
        assert_string_equal(cached_reply_error(r), text);
        cached_reply_free(r);
}

static int set_fd(cached *c, const char *key, int fd, uint64_t offset, uint64_t n)
{
        return cached_set_fd(c, CACHE, key, strlen(key), fd, offset, n, NULL, NULL);
}

static void set_fd_says(cached *c, int fd, uint64_t offset, uint64_t n, int code, const char *text)
{
        cached_reply *r;

        assert_int_equal(cached_set_fd(c, CACHE, "k", 1, fd, offset, n, NULL, &r), code);
        assert_string_equal(cached_reply_error(r), text);
        cached_reply_free(r);
}

/* A file of its own, without a name. */
static int file_of(const void *bytes, size_t n)
{
        int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, bytes, n, 0), n);
        return fd;
}

/* --------------------------------------------------------------------------------------- buffers
 */

static void test_a_filled_in_place(void **state)
{
        static const size_t sizes[] = {1, 4096, 5000, 1 << 20, 1234567, LARGE};
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
                size_t n = sizes[i];
                cached_buffer *b = buffer_of(c, bytes, n);
                uint8_t *data = cached_buffer_data(b);
                char key[20];

                (void)snprintf(key, sizeof(key), "key-%zu", i);
                assert_int_equal(set_buffer(c, key, b, n), CACHED_OK);
                assert_ptr_equal(cached_buffer_data(b), data);
                assert_memory_equal(data, bytes, n);
                /* The caller's own from here on. */
                memset(data, 3, n);
                assert_int_equal(get_is(c, key, bytes, n), CACHED_OK);
                assert_int_equal(set_buffer(c, "again", b, n), CACHED_OK);
                assert_int_equal(get_is(c, "again", bytes, n), CACHED_OK);
                cached_buffer_free(b);
                assert_int_equal(get_is(c, key, bytes, n), CACHED_OK);
        }
        assert_int_equal(atomic_load(&w.n_files_in), 2 * sizeof(sizes) / sizeof(*sizes));
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* A value that is shorter than its buffer: what is behind it stays memory. */
static void test_a_shorter_than_its_buffer(void **state)
{
        static const size_t lengths[] = {1, 4095, 4096, 4097, 100000, LARGE - 4096, LARGE - 1};
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
                size_t n = lengths[i];
                cached_buffer *b = buffer_of(c, bytes, LARGE);
                uint8_t *data = cached_buffer_data(b);

                assert_int_equal(set_buffer(c, "k", b, n), CACHED_OK);
                assert_memory_equal(data, bytes, n);
                for (size_t k = n; k < LARGE; k++)
                        assert_int_equal(data[k], 0);
                memset(data, 1, LARGE);
                assert_int_equal(get_is(c, "k", bytes, n), CACHED_OK);
                set_buffer_says(c, b, n + 1, CACHED_ERR_USAGE,
                                "the buffer was handed over with another length");
                cached_buffer_free(b);
        }
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

static void test_a_arguments(void **state)
{
        struct fake d;
        struct world w;
        cached_buffer *b = (cached_buffer *)&d;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(cached_buffer_new(c, 0, &b), CACHED_ERR_USAGE);
        assert_int_equal(cached_buffer_new(NULL, 1, &b), CACHED_ERR_USAGE);
        assert_int_equal(cached_buffer_new(c, 1, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_buffer_new(c, UINT64_MAX, &b), CACHED_ERR_NOMEM);
        assert_int_equal(cached_buffer_new(c, UINT64_C(1) << 60, &b), CACHED_ERR_NOMEM);
        assert_int_equal(cached_buffers_prepare(c, 0, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_buffers_prepare(NULL, 1, 1), CACHED_ERR_USAGE);
        assert_ptr_equal(b, (cached_buffer *)&d);
        b = buffer_of(c, "ab", 2);
        set_buffer_says(c, b, 3, CACHED_ERR_USAGE,
                        "the value is longer than the buffer that it is in");
        assert_int_equal(cached_set_buffer(c, NULL, "k", 1, b, 1, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_set_buffer(c, CACHE, "k", 1, NULL, 1, NULL, NULL),
                         CACHED_ERR_USAGE);
        /* Nothing is stored, and the buffer is as it was. */
        assert_int_equal(set_buffer(c, "k", b, 0), CACHED_OK);
        assert_int_equal(get_is(c, "k", "", 0), CACHED_OK);
        assert_int_equal(set_buffer(c, "k", b, 2), CACHED_OK);
        assert_int_equal(get_is(c, "k", "ab", 2), CACHED_OK);
        cached_buffer_free(b);
        cached_buffer_free(NULL);
        assert_null(cached_buffer_data(NULL));
        assert_int_equal(cached_buffer_size(NULL), 0);
        cached_free(c);
        world_stop(&d, &w);
}

/* A daemon without memory files gets the bytes. */
static void test_a_without_files(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached_buffer *b;
        cached *c;
        int fd;

        world_start(&d, &w);
        w.has_files = false;
        c = mapped_new(&d, 1);
        b = buffer_of(c, bytes, LARGE);
        assert_int_equal(set_buffer(c, "k", b, LARGE), CACHED_OK);
        assert_int_equal(get_is(c, "k", bytes, LARGE), CACHED_OK);
        cached_buffer_free(b);
        fd = file_of(bytes, LARGE);
        assert_int_equal(set_fd(c, "k", fd, 1, LARGE - 1), CACHED_OK);
        assert_int_equal(get_is(c, "k", bytes + 1, LARGE - 1), CACHED_OK);
        close(fd);
        assert_int_equal(atomic_load(&w.n_files_in), 0);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* Somebody else could still write to it. */
static void test_b_busy(void **state)
{
        static const char *const text =
                "the memory cannot be sealed, since something can still write to it: another "
                "mapping of it, in a forked process perhaps, or input that is on its way into it";
        uint8_t *bytes = bytes_new(LARGE);
        int hold[2], ready[2], status;
        struct fake d;
        struct world w;
        cached_buffer *b;
        cached *c;
        pid_t pid;
        char x;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        b = buffer_of(c, bytes, LARGE);
        assert_int_equal(pipe2(hold, O_CLOEXEC), 0);
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        /* As nobody should: the child is made to have the memory. */
        assert_int_equal(madvise(cached_buffer_data(b), LARGE, MADV_DOFORK), 0);
        pid = fork();
        if (pid == 0) {
                close(hold[1]);
                if (write(ready[1], "x", 1) != 1 || read(hold[0], &x, 1) != 0)
                        _exit(1);
                _exit(0);
        }
        assert_int_equal(read(ready[0], &x, 1), 1);
        set_buffer_says(c, b, LARGE, CACHED_ERR_USAGE, text);
        /* It is as it was: shared and open. */
        memcpy(cached_buffer_data(b), bytes + 1, LARGE - 1);
        set_buffer_says(c, b, LARGE - 1, CACHED_ERR_USAGE, text);
        close(hold[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(set_buffer(c, "k", b, LARGE - 1), CACHED_OK);
        assert_int_equal(get_is(c, "k", bytes + 1, LARGE - 1), CACHED_OK);
        cached_buffer_free(b);
        close(hold[0]);
        close(ready[0]);
        close(ready[1]);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* ---- fork: a child has no part of an open buffer, and shares one that was handed over */

#define child_assert(x)                                                                            \
        do {                                                                                       \
                if (!(x)) {                                                                        \
                        (void)fprintf(stderr, "%s:%d: child: %s\n", __FILE__, __LINE__, #x);       \
                        _exit(1);                                                                  \
                }                                                                                  \
        } while (0)

static void child_of_buffers(cached *c, cached_buffer *open_one, cached_buffer *done,
                             const uint8_t *bytes)
{
        cached_buffer *own = NULL;

        child_assert(cached_set_buffer(c, CACHE, "k", 1, open_one, LARGE, NULL, NULL) ==
                     CACHED_ERR_USAGE);
        cached_buffer_free(open_one);
        child_assert(!memcmp(cached_buffer_data(done), bytes, LARGE));
        memset(cached_buffer_data(done), 1, LARGE);
        child_assert(cached_set_buffer(c, CACHE, "child", 5, done, LARGE, NULL, NULL) == CACHED_OK);
        cached_buffer_free(done);
        child_assert(cached_buffer_new(c, LARGE, &own) == CACHED_OK);
        memcpy(cached_buffer_data(own), bytes, LARGE);
        child_assert(cached_set_buffer(c, CACHE, "own", 3, own, LARGE, NULL, NULL) == CACHED_OK);
        cached_buffer_free(own);
        cached_free(c);
}

static void test_b_fork(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        cached_buffer *open_one, *done;
        struct fake d;
        struct world w;
        cached *c;
        int status;
        pid_t pid;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        assert_int_equal(cached_buffers_prepare(c, LARGE, 2), CACHED_OK);
        open_one = buffer_of(c, bytes, LARGE);
        done = buffer_of(c, bytes, LARGE);
        assert_int_equal(cached_buffers_prepare(c, LARGE, 2), CACHED_OK);
        assert_int_equal(set_buffer(c, "k", done, LARGE), CACHED_OK);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                child_of_buffers(c, open_one, done, bytes);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_int_equal(get_is(c, "child", bytes, LARGE), CACHED_OK);
        assert_int_equal(get_is(c, "own", bytes, LARGE), CACHED_OK);
        assert_memory_equal(cached_buffer_data(done), bytes, LARGE);
        /* The child's copy of the descriptor was in nobody's way. */
        assert_int_equal(set_buffer(c, "open", open_one, LARGE), CACHED_OK);
        assert_int_equal(get_is(c, "open", bytes, LARGE), CACHED_OK);
        cached_buffer_free(open_one);
        cached_buffer_free(done);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* -------------------------------------------------------------------------------------- prepared
 */

static uint64_t prepared_bytes(struct world *w)
{
        uint64_t n;

        pthread_mutex_lock(&w->lock);
        n = w->page ? atomic_load(&w->page->prepared_bytes) : 0;
        pthread_mutex_unlock(&w->lock);
        return n;
}

static void test_c_prepared(void **state)
{
        struct fake d;
        struct world w;
        cached_options *o = cached_options_new();
        cached_buffer *b[5];
        cached *c;
        int n_fds;

        world_start(&d, &w);
        assert_int_equal(cached_options_set_socket(o, d.path), CACHED_OK);
        assert_int_equal(cached_options_set_prepared_bytes(o, 4 * LARGE), CACHED_OK);
        assert_int_equal(cached_options_set_prepared_bytes(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        cached_options_free(o);
        assert_int_equal(cached_buffers_prepare(c, LARGE, 3), CACHED_OK);
        /* Seen from when there is a mapping. */
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(prepared_bytes(&w), 3 * LARGE);
        n_fds = count_fds();
        for (int i = 0; i < 3; i++) {
                unsigned char there[LARGE / 4096];

                /* Nearly the same size is served, too; all pages are there. */
                assert_int_equal(cached_buffer_new(c, LARGE - (size_t)i * 1000, &b[i]), CACHED_OK);
                assert_int_equal(mincore(cached_buffer_data(b[i]), LARGE, there), 0);
                for (size_t k = 0; k < sizeof(there); k++)
                        assert_true(there[k] & 1);
        }
        assert_int_equal(count_fds(), n_fds);
        assert_int_equal(prepared_bytes(&w), 0);
        for (int i = 3; i < 5; i++)
                assert_int_equal(cached_buffer_new(c, LARGE, &b[i]), CACHED_OK);
        assert_int_equal(count_fds(), n_fds + 2);
        for (int i = 0; i < 5; i++)
                cached_buffer_free(b[i]);
        /* As many as there is room for. */
        assert_int_equal(cached_buffers_prepare(c, LARGE, 5), CACHED_ERR_AGAIN);
        assert_int_equal(prepared_bytes(&w), 4 * LARGE);
        assert_int_equal(cached_buffers_prepare(c, 4096, 1), CACHED_ERR_AGAIN);
        assert_int_equal(cached_buffers_prepare(c, LARGE, 2), CACHED_OK);
        assert_int_equal(prepared_bytes(&w), 2 * LARGE);
        assert_int_equal(cached_buffers_prepare(c, 4096, 1), CACHED_OK);
        assert_int_equal(prepared_bytes(&w), 2 * LARGE + 4096);
        assert_int_equal(cached_buffers_prepare(c, LARGE, 0), CACHED_OK);
        assert_int_equal(prepared_bytes(&w), 4096);
        cached_free(c);
        world_stop(&d, &w);
}

/* All of it is there and 0, and can be stored. */
static void check_prepared(cached *c, size_t n)
{
        unsigned char there[LARGE / 4096];
        struct stat st;
        cached_buffer *b = NULL;
        cached_view *v = NULL;
        uint8_t *data;

        assert_int_equal(cached_buffers_prepare(c, n, 1), CACHED_OK);
        assert_int_equal(cached_buffer_new(c, n, &b), CACHED_OK);
        data = cached_buffer_data(b);
        assert_int_equal(mincore(data, n, there), 0);
        for (size_t k = 0; k < n / 4096; k++) {
                assert_true(there[k] & 1);
                assert_int_equal(data[k * 4096], 0);
        }
        fill(data, n);
        assert_int_equal(set_buffer(c, "prepared", b, n), CACHED_OK);
        assert_int_equal(get_is(c, "prepared", data, n), CACHED_OK);
        cached_buffer_free(b);
        assert_int_equal(cached_get_view(c, CACHE, "prepared", 8, CACHED_VIEW_READ, &v, NULL),
                         CACHED_OK);
        if (cached_view_fd(v) >= 0) {
                assert_int_equal(fstat(cached_view_fd(v), &st), 0);
                assert_int_equal(st.st_size, n);
                assert_int_equal(st.st_blocks * 512, n); /* no byte more is taken */
        }
        cached_view_release(v);
}

/* What does not fill a huge page is made of a part of one, where that can be cut to its length. */
static void test_c_prepared_in_part(void **state)
{
        const size_t mib = (size_t)1 << 20;
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        check_prepared(c, mib / 2 - 16384);
        check_prepared(c, mib);
        check_prepared(c, 3 * mib);
        check_prepared(c, LARGE);
        /* It may not become longer: small pages do. */
        fault_ftruncate = (struct fault){2, EINVAL};
        check_prepared(c, mib);
        assert_int_equal(fault_ftruncate.in, 0);
        fault_ftruncate = (struct fault){3, ENOMEM};
        assert_int_equal(cached_buffers_prepare(c, mib, 1), CACHED_ERR_NOMEM);
        assert_int_equal(fault_ftruncate.in, 0);
        /* The kernel could not cut it: small pages take its place, and of nothing else. */
        fault_blocks = (struct fault){2, 2048};
        check_prepared(c, mib);
        assert_int_equal(fault_blocks.in, 0);
        fault_blocks = (struct fault){2, 2048};
        check_prepared(c, 3 * mib);
        assert_int_equal(fault_blocks.in, 0);
        fault_blocks = (struct fault){2, 2048};
        fault_ftruncate = (struct fault){4, ENOMEM};
        assert_int_equal(cached_buffers_prepare(c, mib, 1), CACHED_ERR_NOMEM);
        assert_int_equal(fault_ftruncate.in, 0);
        cached_free(c);
        world_stop(&d, &w);
}

/* ----------------------------------------------------------------------------------- descriptors
 */

static void test_d_files(void **state)
{
        uint8_t *bytes = bytes_new(2 * LARGE);
        struct fake d;
        struct world w;
        cached *c;
        int fd, files;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        fd = file_of(bytes, 2 * LARGE);
        assert_int_equal(lseek(fd, 77, SEEK_SET), 77);
        assert_int_equal(set_fd(c, "all", fd, 0, 2 * LARGE), CACHED_OK);
        assert_int_equal(get_is(c, "all", bytes, 2 * LARGE), CACHED_OK);
        assert_int_equal(set_fd(c, "part", fd, 12345, LARGE), CACHED_OK);
        assert_int_equal(get_is(c, "part", bytes + 12345, LARGE), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_files_in), 2);
        assert_int_equal(set_fd(c, "small", fd, LARGE, 1000), CACHED_OK);
        assert_int_equal(get_is(c, "small", bytes + LARGE, 1000), CACHED_OK);
        assert_int_equal(set_fd(c, "none", fd, LARGE, 0), CACHED_OK);
        assert_int_equal(get_is(c, "none", "", 0), CACHED_OK);
        assert_int_equal(lseek(fd, 0, SEEK_CUR), 77);
        close(fd);
        /* A sealed one goes as it is. */
        fd = world_memfd("v", LARGE, 0);
        assert_int_equal(pwrite(fd, bytes, LARGE, 0), LARGE);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
        files = count_fds();
        assert_int_equal(set_fd(c, "sealed", fd, 0, LARGE), CACHED_OK);
        fault_memfd = (struct fault){1, EMFILE};
        assert_int_equal(set_fd(c, "sealed", fd, 0, LARGE), CACHED_OK);
        assert_int_equal(fault_memfd.in, 1);
        /* Not so a part of it. */
        assert_int_equal(set_fd(c, "part", fd, 0, LARGE - 1), CACHED_ERR_NOMEM);
        assert_int_equal(get_is(c, "sealed", bytes, LARGE), CACHED_OK);
        assert_true(count_fds() <= files + 2); /* of the world's */
        close(fd);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

struct piped {
        int fd;
        const uint8_t *bytes;
        size_t n;
};

static void *pipe_write(void *data)
{
        struct piped *p = data;

        for (size_t i = 0; i < p->n;) {
                ssize_t put = write(p->fd, p->bytes + i, p->n - i < 7777 ? p->n - i : 7777);

                assert(put > 0);
                i += (size_t)put;
        }
        close(p->fd);
        return NULL;
}

/* Pipes, also ones that do not wait. */
static void test_d_pipes(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        for (int i = 0; i < 4; i++) {
                size_t n = i % 2 ? LARGE : 50000;
                struct piped p = {-1, bytes, n};
                pthread_t thread;
                int ends[2];

                assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
                if (i > 1)
                        assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
                p.fd = ends[1];
                set_fd_says(c, ends[0], 1, n, CACHED_ERR_USAGE,
                            "a pipe or a socket has no offset: it must be 0");
                assert_int_equal(pthread_create(&thread, NULL, pipe_write, &p), 0);
                assert_int_equal(set_fd(c, "k", ends[0], 0, n), CACHED_OK);
                assert_int_equal(get_is(c, "k", bytes, n), CACHED_OK);
                pthread_join(thread, NULL);
                close(ends[0]);
        }
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

static void test_d_what_cannot_be_read(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached *c;
        int fd;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        fd = file_of(bytes, LARGE);
        set_fd_says(c, fd, 0, LARGE + 1, CACHED_ERR_USAGE,
                    "the file is shorter than the value is said to be: it ends after 5242880 "
                    "bytes");
        set_fd_says(c, fd, LARGE - 10, 11, CACHED_ERR_USAGE,
                    "the file is shorter than the value is said to be: it ends after 10 bytes");
        set_fd_says(c, fd, UINT64_MAX, 1, CACHED_ERR_USAGE, "no file has so many bytes");
        set_fd_says(c, fd, 1, INT64_MAX, CACHED_ERR_USAGE, "no file has so many bytes");
        close(fd);
        fd = open("/tmp", O_RDONLY | O_CLOEXEC);
        set_fd_says(c, fd, 0, LARGE, CACHED_ERR_USAGE, "the file cannot be read: Is a directory");
        set_fd_says(c, fd, 0, 10, CACHED_ERR_USAGE, "the file cannot be read: Is a directory");
        close(fd);
        fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        set_fd_says(c, fd, 0, LARGE, CACHED_ERR_USAGE,
                    "the file cannot be read: Bad file descriptor");
        close(fd);
        set_fd_says(c, -1, 0, 1, CACHED_ERR_USAGE,
                    "cached_set_fd() needs a handle, a cache, a key and a descriptor");
        /* One that is not sealed, or only in part, is copied. */
        fd = world_memfd("v", LARGE, F_SEAL_GROW | F_SEAL_SHRINK);
        assert_int_equal(pwrite(fd, bytes, LARGE, 0), LARGE);
        assert_int_equal(set_fd(c, "k", fd, 0, LARGE), CACHED_OK);
        memset(bytes, 0, 10);
        assert_int_equal(pwrite(fd, bytes, 10, 0), 10);
        fill(bytes, LARGE);
        assert_int_equal(get_is(c, "k", bytes, LARGE), CACHED_OK);
        close(fd);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* ------------------------------------------------------------------------------------ no memory */

static void test_e_no_memory_for_a_buffer(void **state)
{
        unsigned char there[LARGE / 4096];
        cached_buffer *b = NULL;
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        fault_memfd = (struct fault){1, EMFILE};
        assert_int_equal(cached_buffer_new(c, LARGE, &b), CACHED_ERR_NOMEM);
        fault_ftruncate = (struct fault){1, ENOMEM};
        assert_int_equal(cached_buffer_new(c, LARGE, &b), CACHED_ERR_NOMEM);
        fault_mmap = (struct fault){1, ENOMEM};
        assert_int_equal(cached_buffer_new(c, LARGE, &b), CACHED_ERR_NOMEM);
        assert_null(b);
        /* Without the mapping for huge pages it is a buffer all the same. */
        fault_mmap = (struct fault){3, ENOMEM};
        assert_int_equal(cached_buffers_prepare(c, LARGE, 1), CACHED_OK);
        assert_int_equal(fault_mmap.in, 0);
        assert_int_equal(cached_buffer_new(c, LARGE, &b), CACHED_OK);
        assert_int_equal((uintptr_t)cached_buffer_data(b) % (2 << 20), 0);
        cached_buffer_free(b);
        fault_mmap =
                (struct fault){2, ENOMEM}; /* so it is where its memory cannot be had at once */
        assert_int_equal(cached_buffer_new_ready(c, LARGE, &b), CACHED_OK);
        assert_int_equal(fault_mmap.in, 0);
        cached_buffer_free(b);
        assert_int_equal(cached_buffer_new_ready(c, LARGE, &b), CACHED_OK);
        assert_int_equal(mincore(cached_buffer_data(b), LARGE, there), 0);
        for (size_t i = 0; i < sizeof(there); i++)
                assert_int_equal(there[i] & 1, 1);
        cached_buffer_free(b);
        b = NULL;
        fault_mmap = (struct fault){2, ENOMEM};
        assert_int_equal(cached_buffers_prepare(c, LARGE, 3), CACHED_ERR_NOMEM);
        assert_int_equal(fault_mmap.in, 0);
        /* Kernels that do not know the newest flag. */
        fault_memfd = (struct fault){1, EINVAL};
        assert_int_equal(cached_buffer_new(c, LARGE, &b), CACHED_OK);
        cached_buffer_free(b);
        cached_free(c);
        world_stop(&d, &w);
}

/* While it is made private and sealed: it can be tried again, and nothing is lost. */
static void test_e_no_memory_to_seal(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached_buffer *b;
        cached *c;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        b = buffer_of(c, bytes, LARGE);
        fault_mmap = (struct fault){1, ENOMEM};
        set_buffer_says(c, b, 70000, CACHED_ERR_NOMEM,
                        "the buffer cannot be mapped as private memory: Cannot allocate memory");
        assert_memory_equal(cached_buffer_data(b), bytes, LARGE);
        fault_mmap = (struct fault){2, ENOMEM};
        set_buffer_says(c, b, 70000, CACHED_ERR_NOMEM,
                        "the rest of the buffer cannot be mapped: Cannot allocate memory");
        assert_memory_equal(cached_buffer_data(b), bytes, LARGE);
        fault_ftruncate = (struct fault){1, ENOMEM};
        set_buffer_says(c, b, 70000, CACHED_ERR_NOMEM,
                        "the memory cannot be cut to its length: Cannot allocate memory");
        assert_int_equal(set_buffer(c, "k", b, 70000), CACHED_OK);
        assert_int_equal(get_is(c, "k", bytes, 70000), CACHED_OK);
        cached_buffer_free(b);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

static void test_e_no_memory_for_a_copy(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached *c;
        int pipe_fds[2], fd;

        world_start(&d, &w);
        c = mapped_new(&d, 1);
        fd = file_of(bytes, LARGE);
        fault_memfd = (struct fault){1, EMFILE};
        set_fd_says(c, fd, 0, LARGE, CACHED_ERR_NOMEM,
                    "no memory file can be made: Too many open files");
        fault_ftruncate = (struct fault){1, ENOSPC};
        set_fd_says(c, fd, 0, LARGE, CACHED_ERR_NOMEM,
                    "a memory file cannot be made as large as the value: No space left on device");
        fault_mmap = (struct fault){1, ENOMEM};
        set_fd_says(c, fd, 0, LARGE, CACHED_ERR_NOMEM,
                    "the value cannot be mapped: Cannot allocate memory");
        close(fd);
        assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
        assert_int_equal(write(pipe_fds[1], bytes, 1000), 1000);
        fault_pwrite = (struct fault){1, ENOSPC};
        close(pipe_fds[1]);
        set_fd_says(c, pipe_fds[0], 0, LARGE, CACHED_ERR_USAGE,
                    "the file is shorter than the value is said to be: it ends after 1000 bytes");
        fault_pwrite.in = 0;
        close(pipe_fds[0]);
        /* A plain set goes over the socket instead. */
        fault_memfd = (struct fault){1, EMFILE};
        assert_int_equal(set(c, "k", bytes, LARGE, 0), CACHED_OK);
        fault_pwrite = (struct fault){1, ENOSPC};
        assert_int_equal(set(c, "k", bytes, LARGE, 0), CACHED_OK);
        assert_int_equal(fault_pwrite.in, 0);
        assert_int_equal(atomic_load(&w.n_files_in), 0);
        assert_int_equal(get_is(c, "k", bytes, LARGE), CACHED_OK);
        assert_int_equal(set(c, "k", bytes, LARGE, 0), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_files_in), 1);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_filled_in_place, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_shorter_than_its_buffer, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_arguments, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_without_files, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_busy, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_fork, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_prepared, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_prepared_in_part, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_files, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_pipes, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_what_cannot_be_read, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_no_memory_for_a_buffer, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_no_memory_to_seal, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_no_memory_for_a_copy, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
