/* SPDX-License-Identifier: MIT */
/*
 * Views of libcached: against a store in this process, with mapped reads and without. What is shown
 * is the value, whatever its size and wherever it lies; a repeated look asks nobody; what is
 * written to a private view stays there; views outlive everything; the daemon is told of each
 * release once, and of none by a child; what a daemon must not send is refused; and without memory
 * or descriptors there is a failure, or another way, and nothing is left behind.
 */

#include "client-harness.h"

#include <lz4.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "map-world.h"

#define LARGE ((size_t)5 << 20)

/* ------------------------------------------------------------------------------ faults on demand
 */

static _Thread_local int fail_mmap_in; /* the n-th call from now fails; 0: none does */

void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
        if (fail_mmap_in > 0 && --fail_mmap_in == 0) {
                errno = ENOMEM;
                return MAP_FAILED;
        }
        return __real_mmap64(at, n, prot, flags, fd, off);
}

/* ------------------------------------------------------------------------------------- helpers */

static cached *views_new(const struct fake *d, int mapped, uint32_t n_views)
{
        cached_options *o = cached_options_new();
        cached *c;

        assert_int_equal(cached_options_set_socket(o, d->path), CACHED_OK);
        assert_int_equal(cached_options_set_timeout_ms(o, PATIENCE_MS), CACHED_OK);
        assert_int_equal(cached_options_set_mapped(o, mapped), CACHED_OK);
        assert_int_equal(cached_options_set_view_cache(o, n_views), CACHED_OK);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        cached_options_free(o);
        return c;
}

static cached_view *view_mode(cached *c, const char *key, int mode)
{
        cached_view *v = NULL;

        assert_int_equal(cached_get_view(c, CACHE, key, strlen(key), mode, &v, NULL), CACHED_OK);
        assert_non_null(v);
        return v;
}

static cached_view *view_of(cached *c, const char *key)
{
        return view_mode(c, key, CACHED_VIEW_READ);
}

static void view_is(const cached_view *v, const void *bytes, size_t n)
{
        assert_int_equal(cached_view_size(v), n);
        assert_non_null(cached_view_data(v));
        assert_memory_equal(cached_view_data(v), bytes, n);
}

static uint8_t *bytes_new(size_t n)
{
        uint8_t *bytes = malloc(n + 1);

        assert_non_null(bytes);
        fill(bytes, n);
        return bytes;
}

/* Until the daemon holds so many views: it may still have to read what it was told. */
static void await_views(struct world *w, int n)
{
        uint64_t end = now_ms() + PATIENCE_MS;

        while (world_n_views(w) != n && now_ms() < end)
                (void)nanosleep(&(struct timespec){0, 1000000}, NULL);
        assert_int_equal(world_n_views(w), n);
}

/* -------------------------------------------------------------------------------------- values */

static void values_of_any_size(int mapped)
{
        static const size_t sizes[] = {0, 1, 4095, 65535, 65536, 300000, 1100000, LARGE};
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = views_new(&d, mapped, 16);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
                char key[20];

                (void)snprintf(key, sizeof(key), "key-%zu", i);
                assert_int_equal(set(c, key, bytes, sizes[i], 0), CACHED_OK);
                for (int again = 0; again < 3; again++) {
                        cached_view *v = NULL, *own;
                        cached_reply *r;
                        uint64_t size = 1;

                        assert_int_equal(cached_get_view(c, CACHE, key, strlen(key),
                                                         CACHED_VIEW_READ, &v, &r),
                                         CACHED_OK);
                        view_is(v, bytes, sizes[i]);
                        assert_int_equal(cached_view_version(v), cached_reply_version(r));
                        assert_null(cached_reply_value(r, NULL));
                        assert_int_equal(cached_reply_u64(r, "size", &size), CACHED_OK);
                        assert_int_equal(size, sizes[i]);
                        assert_int_equal(cached_reply_raw_size(r), sizes[i]);
                        cached_reply_free(r);
                        assert_int_equal(cached_view_fd(v) >= 0, sizes[i] >= LARGE_MIN);
                        own = view_mode(c, key, CACHED_VIEW_PRIVATE);
                        view_is(own, bytes, sizes[i]);
                        if (sizes[i] > 0)
                                memset(cached_view_data(own), 7, sizes[i]);
                        view_is(v, bytes, sizes[i]);
                        cached_view_release(own);
                        assert_int_equal(get_is(c, key, bytes, sizes[i]), CACHED_OK);
                        cached_view_release(v);
                }
        }
        cached_free(c);
        await_views(&w, 0);
        world_stop(&d, &w);
        free(bytes);
}

static void test_values_of_any_size(void **state)
{
        values_of_any_size(1);
}

static void test_values_of_any_size_without_a_mapping(void **state)
{
        values_of_any_size(0);
}

static void test_b_misses_and_arguments(void **state)
{
        struct fake d;
        struct world w;
        cached_view *v = (cached_view *)&d;
        cached_reply *r;
        cached *c;

        world_start(&d, &w);
        c = views_new(&d, 1, 16);
        assert_int_equal(set(c, "k", "x", 1, 0), CACHED_OK);
        assert_int_equal(cached_get_view(c, CACHE, "no", 2, 0, &v, &r), CACHED_NOT_FOUND);
        assert_int_equal(cached_reply_code(r), CACHED_NOT_FOUND);
        cached_reply_free(r);
        assert_int_equal(cached_get_view(c, "no", "no", 2, 0, &v, NULL), CACHED_NOT_FOUND);
        assert_int_equal(cached_get_view(c, CACHE, "k", 1, 2, &v, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_get_view(c, CACHE, "k", 1, 0, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_get_view(NULL, CACHE, "k", 1, 0, &v, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_get_view(c, CACHE, "", 0, 0, &v, NULL), CACHED_INVALID);
        assert_ptr_equal(v, (cached_view *)&d);
        assert_null(cached_view_data(NULL));
        assert_int_equal(cached_view_size(NULL), 0);
        assert_int_equal(cached_view_version(NULL), 0);
        assert_int_equal(cached_view_fd(NULL), -1);
        cached_view_release(NULL);
        cached_free(c);
        world_stop(&d, &w);
}

/* A repeated look asks nobody, and shows the same memory. */
static void test_c_a_second_look_is_a_reference(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached_view *a, *b;
        cached_reply *r;
        cached *c;
        int n_gets;

        world_start(&d, &w);
        c = views_new(&d, 1, 16);
        assert_int_equal(set(c, "large", bytes, LARGE, 0), CACHED_OK);
        assert_int_equal(set(c, "small", bytes, 70000, 0), CACHED_OK);
        a = view_of(c, "large");
        n_gets = atomic_load(&w.n_gets);
        for (int i = 0; i < 100; i++) {
                b = view_of(c, "large");
                assert_ptr_equal(cached_view_data(a), cached_view_data(b));
                assert_int_equal(cached_view_fd(a), cached_view_fd(b));
                cached_view_release(b);
                b = view_mode(c, "large", CACHED_VIEW_PRIVATE);
                assert_ptr_not_equal(cached_view_data(a), cached_view_data(b));
                cached_view_release(b);
        }
        /* A get shows it, too. */
        assert_int_equal(cached_get(c, CACHE, "large", 5, &r), CACHED_OK);
        assert_ptr_equal(cached_reply_value(r, NULL), cached_view_data(a));
        cached_view_release(a);
        assert_memory_equal(cached_reply_value(r, NULL), bytes, LARGE);
        cached_reply_free(r);
        a = view_of(c, "small");
        b = view_of(c, "small");
        assert_ptr_equal(cached_view_data(a), cached_view_data(b));
        cached_view_release(a);
        view_is(b, bytes, 70000);
        cached_view_release(b);
        assert_int_equal(atomic_load(&w.n_gets), n_gets);
        cached_free(c);
        await_views(&w, 0);
        world_stop(&d, &w);
        free(bytes);
}

/* Hits that the daemon never saw are counted. */
static void test_c_uses_are_noted(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = views_new(&d, 1, 16);
        assert_int_equal(set(c, "large", bytes, LARGE, 0), CACHED_OK);
        for (int i = 0; i < 11; i++)
                cached_view_release(view_of(c, "large"));
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        world_meet(&w);
        /* The first one went over the socket. */
        assert_int_equal(atomic_load(&counter_of(&w, world_cache(&w, CACHE))->hits), 10);
        assert_int_equal(atomic_load(&w.n_touches), 10);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* Without a mapping the daemon is asked whether it still is the one. */
static void test_c_without_a_mapping_the_version_is_asked_for(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached_view *a, *b;
        cached *c;

        world_start(&d, &w);
        c = views_new(&d, 0, 16);
        assert_int_equal(set(c, "k", bytes, LARGE, 0), CACHED_OK);
        a = view_of(c, "k");
        b = view_of(c, "k");
        assert_ptr_equal(cached_view_data(a), cached_view_data(b));
        assert_int_equal(atomic_load(&w.n_files_out), 1);
        assert_int_equal(atomic_load(&w.n_unchanged), 1);
        assert_int_equal(set(c, "k", bytes + 1, LARGE - 1, 0), CACHED_OK);
        cached_view_release(b);
        b = view_of(c, "k");
        view_is(a, bytes, LARGE);
        view_is(b, bytes + 1, LARGE - 1);
        assert_int_equal(atomic_load(&w.n_files_out), 2);
        cached_view_release(a);
        cached_view_release(b);
        await_views(&w, 1);
        cached_free(c);
        await_views(&w, 0);
        world_stop(&d, &w);
        free(bytes);
}

/* A value that was replaced, deleted, cleared stays what it is for who looks at it. */
static void test_d_views_outlive_their_entry(void **state)
{
        uint8_t *bytes = bytes_new(LARGE + 3);
        struct fake d;
        struct world w;
        cached_view *v[3];
        cached *c;

        world_start(&d, &w);
        c = views_new(&d, 1, 16);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(set(c, "k", bytes + i, LARGE, 0), CACHED_OK);
                v[i] = view_of(c, "k");
        }
        assert_int_equal(cached_delete(c, CACHE, "k", 1, NULL), CACHED_OK);
        (void)cached_clear(c, CACHE, NULL); /* this daemon's answer is too short: it breaks */
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        for (int i = 0; i < 3; i++)
                view_is(v[i], bytes + i, LARGE);
        assert_int_equal(world_n_views(&w), 3);
        cached_free(c);
        assert_int_equal(world_n_views(&w), 3);
        for (int i = 0; i < 3; i++)
                view_is(v[i], bytes + i, LARGE);
        cached_view_release(v[0]);
        await_views(&w, 2);
        world_stop(&d, &w);
        for (int i = 1; i < 3; i++) {
                view_is(v[i], bytes + i, LARGE);
                cached_view_release(v[i]);
        }
        free(bytes);
}

/* What nobody looks at goes when its entry has another version, or is gone, though nobody asks for
 * it again. */
static void test_d_what_is_stale_is_let_go_of(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached *c;

        world_start(&d, &w);
        c = views_new(&d, 1, 16);
        for (int i = 0; i < 4; i++) {
                char key[] = {(char)('a' + i), 0};

                assert_int_equal(set(c, key, bytes, LARGE, 0), CACHED_OK);
                cached_view_release(view_of(c, key));
        }
        assert_int_equal(world_n_views(&w), 4);
        for (int i = 0; i < 40; i++)
                assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(world_n_views(&w), 4);
        assert_int_equal(set(c, "a", "x", 1, 0), CACHED_OK);
        assert_int_equal(cached_delete(c, CACHE, "b", 1, NULL), CACHED_OK);
        for (int i = 0; i < 40; i++)
                assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        await_views(&w, 2);
        cached_free(c);
        await_views(&w, 0);
        world_stop(&d, &w);
        free(bytes);
}

static void test_d_as_many_are_kept_as_may(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached *c;
        int n_gets;

        world_start(&d, &w);
        c = views_new(&d, 1, 2);
        for (int i = 0; i < 5; i++) {
                char key[] = {(char)('a' + i), 0};

                assert_int_equal(set(c, key, bytes + i, LARGE - 5, 0), CACHED_OK);
                cached_view_release(view_of(c, key));
        }
        await_views(&w, 2);
        n_gets = atomic_load(&w.n_gets);
        cached_view_release(view_of(c, "d"));
        cached_view_release(view_of(c, "e"));
        assert_int_equal(atomic_load(&w.n_gets), n_gets);
        cached_view_release(view_of(c, "a")); /* in place of "d" */
        cached_view_release(view_of(c, "e"));
        assert_int_equal(atomic_load(&w.n_gets), n_gets + 1);
        cached_free(c);
        await_views(&w, 0);
        c = views_new(&d, 1, 0);
        cached_view_release(view_of(c, "a"));
        await_views(&w, 0);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* Packed values, in the arena and in files. */
static void test_e_packed_values(void **state)
{
        size_t n = 3000000;
        uint8_t *bytes = malloc(n);
        char *block = malloc((size_t)LZ4_compressBound((int)n));
        cached_set_options *o = cached_set_options_new();
        struct fake d;
        struct world w;
        int n_block;

        assert_true(bytes && block && o);
        /* A third packs: too long for the arena, and not plain. */
        fill(bytes, n);
        memset(bytes, 'z', n / 3);
        n_block = LZ4_compress_default((char *)bytes, block, (int)n, LZ4_compressBound((int)n));
        assert_true(n_block > (int)LARGE_MIN);
        world_start(&d, &w);
        for (int mapped = 0; mapped < 2; mapped++) {
                cached *c = views_new(&d, mapped, 16);
                cached_view *v;

                cached_set_options_set_encoding(o, CACHED_ENCODING_LZ4, n);
                assert_int_equal(cached_set(c, CACHE, "file", 4, block, (size_t)n_block, o, NULL),
                                 CACHED_OK);
                assert_int_equal(set(c, "arena", bytes, n / 3, 0), CACHED_OK);
                for (int again = 0; again < 2; again++) {
                        v = view_of(c, "file");
                        view_is(v, bytes, n);
                        assert_int_equal(cached_view_fd(v), -1);
                        cached_view_release(v);
                        v = view_of(c, "arena");
                        view_is(v, bytes, n / 3);
                        cached_view_release(v);
                        assert_int_equal(get_is(c, "file", bytes, n), CACHED_OK);
                }
                /* One that is damaged is a miss. */
                cached_set_options_set_encoding(o, CACHED_ENCODING_LZ4, n - 1);
                assert_int_equal(cached_set(c, CACHE, "bad", 3, block, (size_t)n_block, o, NULL),
                                 CACHED_OK);
                assert_int_equal(cached_get_view(c, CACHE, "bad", 3, 0, &v, NULL),
                                 CACHED_NOT_FOUND);
                cached_set_options_set_encoding(o, CACHED_ENCODING_LZ4, 100001);
                assert_int_equal(cached_set(c, CACHE, "bad", 3, block, 5000, o, NULL), CACHED_OK);
                assert_int_equal(cached_get_view(c, CACHE, "bad", 3, 0, &v, NULL),
                                 CACHED_NOT_FOUND);
                cached_free(c);
                await_views(&w, 0);
        }
        world_stop(&d, &w);
        cached_set_options_free(o);
        free(bytes);
        free(block);
}

/* ------------------------------------------------------------------------- what must not come */

static void test_f_files_that_are_wrong(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached_view *v;
        cached_reply *r;
        cached *c;

        world_start(&d, &w);
        c = views_new(&d, 0, 16);
        assert_int_equal(set(c, "k", bytes, LARGE, 0), CACHED_OK);
        w.wrong_file = true;
        assert_int_equal(cached_get_view(c, CACHE, "k", 1, 0, &v, &r), CACHED_ERR_BAD_REPLY);
        assert_string_equal(cached_reply_error(r),
                            "the daemon sent a descriptor that is no sealed memory file");
        cached_reply_free(r);
        assert_int_equal(cached_get(c, CACHE, "k", 1, NULL), CACHED_ERR_BAD_REPLY);
        w.wrong_file = false;
        w.no_file = true;
        assert_int_equal(cached_get_view(c, CACHE, "k", 1, 0, &v, NULL), CACHED_ERR_BAD_REPLY);
        w.no_file = false;
        v = view_of(c, "k");
        view_is(v, bytes, LARGE);
        cached_view_release(v);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* A daemon that knows nothing of memory files: values come as bodies, and views are copies. */
static void test_f_a_daemon_without_files(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached_view *v;
        cached *c;

        world_start(&d, &w);
        w.has_files = false;
        c = views_new(&d, 1, 16);
        assert_int_equal(set(c, "k", bytes, LARGE, 0), CACHED_OK);
        assert_int_equal(set(c, "k", bytes, LARGE, 0), CACHED_OK);
        for (int i = 0; i < 2; i++) {
                v = view_of(c, "k");
                view_is(v, bytes, LARGE);
                assert_int_equal(cached_view_fd(v), -1);
                cached_view_release(v);
        }
        assert_int_equal(get_is(c, "k", bytes, LARGE), CACHED_OK);
        assert_int_equal(atomic_load(&w.n_files_in), 0);
        assert_int_equal(atomic_load(&w.n_files_out), 0);
        /* Once it was copied the mapping tells that it still counts. */
        assert_int_equal(atomic_load(&w.n_gets), 1);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

static void test_g_without_address_space(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        cached_view *v = NULL;
        cached_reply *r;
        cached *c;

        world_start(&d, &w);
        c = views_new(&d, 1, 16);
        assert_int_equal(set(c, "k", bytes, LARGE, 0), CACHED_OK);
        fail_mmap_in = 1;
        assert_int_equal(cached_get_view(c, CACHE, "k", 1, 0, &v, &r), CACHED_ERR_NOMEM);
        assert_string_equal(cached_reply_error(r),
                            "the value cannot be mapped: Cannot allocate memory");
        cached_reply_free(r);
        fail_mmap_in = 1;
        assert_int_equal(cached_get(c, CACHE, "k", 1, NULL), CACHED_ERR_NOMEM);
        assert_int_equal(fail_mmap_in, 0);
        assert_null(v);
        /* The file is there, and the view's own mapping is not to be had. */
        fail_mmap_in = 2;
        assert_int_equal(cached_get_view(c, CACHE, "k", 1, CACHED_VIEW_PRIVATE, &v, NULL),
                         CACHED_ERR_NOMEM);
        assert_int_equal(fail_mmap_in, 0);
        await_views(&w, 1);
        v = view_mode(c, "k", CACHED_VIEW_PRIVATE);
        view_is(v, bytes, LARGE);
        cached_view_release(v);
        cached_free(c);
        await_views(&w, 0);
        world_stop(&d, &w);
        free(bytes);
}

/* The kernel has no room for the descriptor that comes: then the bytes do. */
static void test_g_without_descriptors(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct rlimit old, none;
        struct fake d;
        struct world w;
        cached_view *v = NULL;
        cached *c;
        int code;

        world_start(&d, &w);
        c = views_new(&d, 1, 16);
        assert_int_equal(set(c, "k", bytes, LARGE, 0), CACHED_OK);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        none = (struct rlimit){3, old.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        code = cached_get_view(c, CACHE, "k", 1, 0, &v, NULL);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(code, CACHED_OK);
        view_is(v, bytes, LARGE);
        assert_int_equal(cached_view_fd(v), -1);
        cached_view_release(v);
        await_views(&w, 0);
        cached_free(c);
        world_stop(&d, &w);
        free(bytes);
}

/* ----------------------------------------------------------------------------------------- fork */

static void in_child(void (*run)(void *), void *data)
{
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                run(data);
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

struct forked {
        struct fake *d;
        struct world *w;
        cached *c;
        cached_view *read, *own;
        const uint8_t *bytes;
};

/* A child's failed assertion would go on with the parent's tests. */
#define child_assert(x)                                                                            \
        do {                                                                                       \
                if (!(x)) {                                                                        \
                        (void)fprintf(stderr, "%s:%d: child: %s\n", __FILE__, __LINE__, #x);       \
                        _exit(1);                                                                  \
                }                                                                                  \
        } while (0)

static void child_of_views(void *data)
{
        struct forked *f = data;
        cached_view *v = NULL;

        child_assert(!memcmp(cached_view_data(f->read), f->bytes, LARGE));
        memset(cached_view_data(f->own), 9, LARGE);
        cached_view_release(f->read);
        cached_view_release(f->own);
        /* Its own, on a connection of its own. */
        child_assert(cached_get_view(f->c, CACHE, "k", 1, 0, &v, NULL) == CACHED_OK);
        child_assert(!memcmp(cached_view_data(v), f->bytes, LARGE));
        cached_view_release(v);
        cached_free(f->c);
}

static void test_h_fork(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        struct forked f = {&d, &w, NULL, NULL, NULL, bytes};

        world_start(&d, &w);
        f.c = views_new(&d, 1, 16);
        assert_int_equal(set(f.c, "k", bytes, LARGE, 0), CACHED_OK);
        f.read = view_of(f.c, "k");
        f.own = view_mode(f.c, "k", CACHED_VIEW_PRIVATE);
        in_child(child_of_views, &f);
        /* The child's own view was told of, and nothing of the parent's. */
        await_views(&w, 1);
        assert_int_equal(atomic_load(&w.n_files_out), 2);
        view_is(f.read, bytes, LARGE);
        view_is(f.own, bytes, LARGE);
        cached_view_release(f.read);
        cached_view_release(f.own);
        assert_int_equal(world_n_views(&w), 1);
        cached_free(f.c);
        await_views(&w, 0);
        world_stop(&d, &w);
        free(bytes);
}

/* The child frees the handle first, and its parent's views later. */
static void child_frees_first(void *data)
{
        struct forked *f = data;

        cached_free(f->c);
        child_assert(!memcmp(cached_view_data(f->read), f->bytes, LARGE));
        cached_view_release(f->read);
        cached_view_release(f->own);
}

static void test_h_fork_and_free(void **state)
{
        uint8_t *bytes = bytes_new(LARGE);
        struct fake d;
        struct world w;
        struct forked f = {&d, &w, NULL, NULL, NULL, bytes};

        world_start(&d, &w);
        f.c = views_new(&d, 1, 16);
        assert_int_equal(set(f.c, "k", bytes, LARGE, 0), CACHED_OK);
        f.read = view_of(f.c, "k");
        f.own = view_mode(f.c, "k", CACHED_VIEW_PRIVATE);
        in_child(child_frees_first, &f);
        assert_int_equal(atomic_load(&w.n_releases), 0);
        /* Likewise when only the parent's views were left of its handle. */
        cached_free(f.c);
        in_child(child_frees_first, &(struct forked){&d, &w, NULL, f.read, f.own, bytes});
        assert_int_equal(world_n_views(&w), 1);
        cached_view_release(f.read);
        cached_view_release(f.own);
        await_views(&w, 0);
        world_stop(&d, &w);
        free(bytes);
}

/* -------------------------------------------------------------------------------------- threads */

#define THREADS 4
#define ROUNDS  (HAS_ASAN ? 150 : 300)

struct crowd {
        cached *c;
        uint8_t *bytes;
        atomic_bool stop;
};

/* A value is one byte, all through. */
static void *crowd_reader(void *data)
{
        struct crowd *w = data;

        for (int i = 0; i < ROUNDS; i++) {
                char key[] = {(char)('a' + i % 3), 0};
                cached_view *v = NULL;
                const uint8_t *p;
                size_t n;
                int code;

                code = cached_get_view(w->c, CACHE, key, 1, i % 2, &v, NULL);
                assert(code == CACHED_OK);
                p = cached_view_data(v);
                n = (size_t)cached_view_size(v);
                assert(n > 1 && !memcmp(p, p + 1, n - 1));
                if (i % 2)
                        memset(cached_view_data(v), 0, n);
                cached_view_release(v);
        }
        return NULL;
}

static void *crowd_writer(void *data)
{
        struct crowd *w = data;

        for (int i = 0; !atomic_load(&w->stop); i++) {
                char key[] = {(char)('a' + i % 3), 0};
                size_t n = i % 4 ? LARGE_MIN + (size_t)i % 9000 : 70000 + (size_t)i % 9000;
                cached_buffer *b = NULL;

                assert(cached_buffer_new(w->c, n, &b) == CACHED_OK);
                memset(cached_buffer_data(b), i, n);
                assert(cached_set_buffer(w->c, CACHE, key, 1, b, n, NULL, NULL) == CACHED_OK);
                memset(cached_buffer_data(b), 0, n);
                cached_buffer_free(b);
        }
        return NULL;
}

static void test_i_threads(void **state)
{
        pthread_t threads[THREADS + 1];
        struct crowd crowd = {.stop = false};
        struct fake d;
        struct world w;

        world_start(&d, &w);
        crowd.c = views_new(&d, 1, 2);
        for (int i = 0; i < 3; i++) {
                char key[] = {(char)('a' + i), 0};

                assert_int_equal(set(crowd.c, key, "xx", 2, 0), CACHED_OK);
        }
        assert_int_equal(pthread_create(&threads[THREADS], NULL, crowd_writer, &crowd), 0);
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, crowd_reader, &crowd), 0);
        for (int i = 0; i < THREADS; i++)
                pthread_join(threads[i], NULL);
        atomic_store(&crowd.stop, true);
        pthread_join(threads[THREADS], NULL);
        cached_free(crowd.c);
        await_views(&w, 0);
        world_stop(&d, &w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_values_of_any_size, setup, teardown),
                cmocka_unit_test_setup_teardown(test_values_of_any_size_without_a_mapping, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_b_misses_and_arguments, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_a_second_look_is_a_reference, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_c_uses_are_noted, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_without_a_mapping_the_version_is_asked_for,
                                                setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_views_outlive_their_entry, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_what_is_stale_is_let_go_of, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_as_many_are_kept_as_may, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_packed_values, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_files_that_are_wrong, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_a_daemon_without_files, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_without_address_space, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_without_descriptors, setup, teardown),
                cmocka_unit_test_setup_teardown(test_h_fork, setup, teardown),
                cmocka_unit_test_setup_teardown(test_h_fork_and_free, setup, teardown),
                cmocka_unit_test_setup_teardown(test_i_threads, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
