/* SPDX-License-Identifier: MIT */
/*
 * Values as memory files, where the kernel or the allocator refuses
 *
 * memfd_create(), ftruncate(), mmap() and each allocation fail in turn: a Set says so and changes
 * nothing, a Get sends the bytes instead of the file, the connection goes on, no descriptor is
 * left. What a view is charged, and who is let go of it when, in a world without sockets.
 */
#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
#define WORLD_MALLOC __real_malloc
#define WORLD_CALLOC __real_calloc
#include "dispatch-world.h"

#include "dispatch/dispatcher.h"
#include "realm/realm.h"
#include "store/store.h"

#define FILES UINT64_C(16)
#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define SIZE  (200 * 1024u)

/* ---- what fails */

enum call { CALL_NONE, CALL_MEMFD, CALL_FTRUNCATE, CALL_MMAP, CALL_MADVISE, N_CALLS };

static struct {
        enum call call;
        int error;
        unsigned allocation; /* 0: none; else it counts down to the one that fails */
        bool failed;
} fail;

static bool fails(enum call call)
{
        if (fail.call != call)
                return false;
        errno = fail.error;
        fail.failed = true;
        return true;
}

static bool allocation_fails(void)
{
        if (fail.allocation == 0 || --fail.allocation > 0)
                return false;
        fail.failed = true;
        return true;
}

int __real_memfd_create(const char *name, unsigned flags);
int __wrap_memfd_create(const char *name, unsigned flags);
int __real_ftruncate64(int fd, off_t n);
int __wrap_ftruncate64(int fd, off_t n);
void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off);
int __real_madvise(void *at, size_t n, int advice);
int __wrap_madvise(void *at, size_t n, int advice);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);

int __wrap_memfd_create(const char *name, unsigned flags)
{
        return fails(CALL_MEMFD) ? -1 : __real_memfd_create(name, flags);
}

int __wrap_ftruncate64(int fd, off_t n)
{
        return fails(CALL_FTRUNCATE) ? -1 : __real_ftruncate64(fd, n);
}

void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t off)
{
        return fails(CALL_MMAP) ? MAP_FAILED : __real_mmap64(at, n, prot, flags, fd, off);
}

int __wrap_madvise(void *at, size_t n, int advice)
{
        return fails(CALL_MADVISE) ? -1 : __real_madvise(at, n, advice);
}

void *__wrap_malloc(size_t n)
{
        return allocation_fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
        return allocation_fails() ? NULL : __real_calloc(n, size);
}

/* ---- requests */

static unsigned open_fds(void)
{
        unsigned n = 0;
        DIR *d = opendir("/proc/self/fd");

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

static int value_file(size_t size, int seals)
{
        int fd = __real_memfd_create("value", MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert_true(fd >= 0);
        assert_int_equal(__real_ftruncate64(fd, (off_t)size), 0);
        assert_int_equal(pwrite(fd, "value", 5, 0), 5);
        assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
        return fd;
}

static void come(struct conn *c, int fd)
{
        c->came[c->n_came++] = fd;
}

static struct reply set_file(struct world *w, struct conn *c, const char *key, size_t size, int fd)
{
        Cached__V1__Set set = set_of("t", key);

        set.source_case = CACHED__V1__SET__SOURCE_FILE_SIZE;
        set.file_size = size;
        come(c, fd);
        return send_set(w, c, &set, NULL, 0);
}

static struct reply get_file(struct world *w, struct conn *c, const char *key)
{
        Cached__V1__Get get = CACHED__V1__GET__INIT;

        get.cache = (char *)"t";
        get.key = key_of(key);
        get.as_file = true;
        Cached__V1__Request m = REQUEST(GET, get, &get);
        return call(w, c, &m, NULL, 0);
}

static struct conn *connect_files(struct world *w)
{
        struct conn *c = connect_as(w, UID, "", FILES);

        assert_true(c->takes_fds);
        return c;
}

static void expect_ok(struct reply r)
{
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
}

static struct store_stats stats(struct world *w)
{
        struct store_stats s;

        store_stats(w->server.dispatcher->realms.first->store, &s);
        return s;
}

/* The number of the view that comes with the value's file; 0: its bytes came. */
static uint64_t view(struct world *w, struct conn *c, const char *key)
{
        struct reply r = get_file(w, c, key);
        uint64_t id = r.m->entry->view_id;

        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.n_body, id ? 0 : r.m->entry->size);
        reply_done(&r);
        return id;
}

static void release(struct world *w, struct conn *c, uint64_t id)
{
        Cached__V1__Release msg = CACHED__V1__RELEASE__INIT;

        msg.n_view_ids = 1;
        msg.view_ids = &id;
        Cached__V1__Request m = REQUEST(RELEASE, release, &msg);
        expect_ok(call(w, c, &m, NULL, 0));
}

/* ---- refusals of the kernel */

static const struct {
        int error;
        enum status status;
} errors[] = {
        {EMFILE, STATUS_NO_SPACE},
        {ENFILE, STATUS_NO_SPACE},
        {ENOSPC, STATUS_NO_SPACE},
        {ENOMEM, STATUS_NO_MEMORY},
};

/* A long body, and a file, while each call fails with each error. */
static void test_a_system_calls(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_files(w);
        uint8_t *body = calloc(1, SIZE);

        expect_ok(set_file(w, c, "k", SIZE, value_file(SIZE, SEALS)));
        for (unsigned call = CALL_MEMFD; call <= CALL_MMAP; call++) {
                for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
                        Cached__V1__Set set = set_of("t", "k");
                        unsigned before = open_fds();
                        struct reply r;

                        fail.call = call;
                        fail.error = errors[i].error;
                        fail.failed = false;
                        r = send_set(w, c, &set, body, SIZE);
                        fail.call = CALL_NONE;
                        assert_true(fail.failed);
                        assert_int_equal(r.m->status, errors[i].status);
                        assert_true(r.m->error[0] != '\0');
                        reply_done(&r);
                        assert_int_equal(open_fds(), before);
                        assert_false(c->closed);
                }
        }
        fail.call = CALL_MMAP;
        fail.error = ENOMEM;
        assert_failure(set_file(w, c, "k", SIZE, value_file(SIZE, SEALS)), STATUS_NO_MEMORY,
                       "taking the memory file");
        fail.call = CALL_NONE;
        assert_int_equal(stats(w).large_bytes, SIZE);
        assert_int_not_equal(view(w, c, "k"), 0);
        free(body);
        fake_conn_free(c);
}

/* ---- refusals of the allocator */

static void test_b_allocations_of_a_set(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_files(w);
        unsigned before = open_fds();
        bool done = false;

        for (unsigned i = 1; !done; i++) {
                struct reply r;

                fail.failed = false;
                fail.allocation = i;
                /* Small ones are copied, large ones kept. */
                r = set_file(w, c, "k", i % 2 ? SIZE : 1000,
                             value_file(i % 2 ? SIZE : 1000, SEALS));
                fail.allocation = 0;
                done = !fail.failed && i % 2;
                assert_true(status_is(r.m, STATUS_OK) || status_is(r.m, STATUS_NO_MEMORY));
                assert_false(c->closed);
                assert_true(open_fds() <= before + 1);
                assert_true(i < 100);
                reply_done(&r);
        }
        fake_conn_free(c);
}

static void test_c_allocations_of_a_get(void **state)
{
        struct world *w = *state;
        unsigned n_files = 0, n_bodies = 0;
        bool done = false;

        {
                struct conn *first = connect_files(w);
                expect_ok(set_file(w, first, "k", SIZE, value_file(SIZE, SEALS)));
                fake_conn_free(first);
        }
        for (unsigned i = 1; !done; i++) {
                struct conn *c = connect_files(w);
                struct reply r;

                fail.failed = false;
                fail.allocation = i;
                r = get_file(w, c, "k");
                fail.allocation = 0;
                done = !fail.failed;
                if (status_is(r.m, STATUS_OK) && r.m->entry->view_id) {
                        n_files++;
                        assert_int_equal(stats(w).views, 1);
                } else {
                        n_bodies += status_is(r.m, STATUS_OK);
                        assert_true(status_is(r.m, STATUS_OK) || status_is(r.m, STATUS_NO_MEMORY));
                        assert_int_equal(stats(w).views, 0);
                }
                reply_done(&r);
                fake_conn_free(c); /* the file was not sent */
                assert_int_equal(stats(w).views, 0);
                assert_true(i < 100);
        }
        assert_true(n_files > 0 && n_bodies > 0);
}

/* ---- views */

static void test_d_where_processes_cannot_be_watched(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_files(w);

        expect_ok(set_file(w, c, "k", SIZE, value_file(SIZE, SEALS)));
        c->watch_error = -EMFILE;
        assert_int_equal(view(w, c, "k"), 0);
        c->watch_error = -ESRCH;
        assert_int_equal(view(w, c, "k"), 0);
        c->watch_error = -ENOTSUP;
        assert_int_not_equal(view(w, c, "k"), 0);
        fake_conn_send_files(c, true);
        assert_int_equal(stats(w).views, 1);
        fake_conn_free(c); /* then they end with the connection */
        assert_int_equal(stats(w).views, 0);
}

static void test_e_the_end_of_a_process(void **state)
{
        struct world *w = *state;
        struct peer_watch *watch = NULL;
        struct conn *a = connect_files(w), *b = connect_files(w);

        a->ret_watch = b->ret_watch = &watch;
        expect_ok(set_file(w, a, "k", SIZE, value_file(SIZE, SEALS)));
        for (int i = 0; i < 20; i++) {
                assert_int_not_equal(view(w, a, "k"), 0);
                assert_int_not_equal(view(w, b, "k"), 0);
        }
        fake_conn_send_files(a, true);
        fake_conn_send_files(b, true);
        fake_conn_free(a);
        assert_int_equal(stats(w).views, 40);
        watch->on_end(watch->ctx);            /* of both connections: it is one process */
        assert_int_equal(stats(w).views, 40); /* until the turn ends */
        assert_int_equal(view(w, b, "k"), 0);
        for (int i = 0; i < 10 && stats(w).views > 0; i++)
                (void)dispatcher_maintain(w->server.dispatcher, server_now_ms(&w->server), 8);
        assert_int_equal(stats(w).views, 0);
        assert_int_equal(stats(w).view_bytes, 0);
        assert_int_equal(view(w, b, "k"), 0);
        fake_conn_free(b);
}

/* Its process has ended, another one has its id by now, and nobody was told yet. */
static void test_e_an_id_that_is_used_again(void **state)
{
        struct world *w = *state;
        struct peer_watch *watch = NULL;
        struct conn *a = connect_files(w), *b = connect_files(w);

        a->ret_watch = &watch;
        expect_ok(set_file(w, a, "k", SIZE, value_file(SIZE, SEALS)));
        assert_int_not_equal(view(w, a, "k"), 0);
        watch->over = true;
        assert_int_not_equal(view(w, b, "k"), 0);
        fake_conn_send_files(a, true);
        fake_conn_send_files(b, true);
        watch->on_end(watch->ctx);
        fake_conn_free(a);
        (void)dispatcher_maintain(w->server.dispatcher, server_now_ms(&w->server), 8);
        assert_int_equal(stats(w).views, 1);
        assert_int_not_equal(view(w, b, "k"), 0);
        fake_conn_send_files(b, true);
        fake_conn_free(b);
}

static void test_f_what_was_never_sent(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_files(w);
        uint64_t first, second;

        expect_ok(set_file(w, c, "k", SIZE, value_file(SIZE, SEALS)));
        first = view(w, c, "k");
        release(w, c, first); /* though it is still to be sent */
        assert_int_equal(stats(w).views, 0);
        second = view(w, c, "k");
        assert_int_not_equal(first, second);
        fake_conn_send_files(c, false);
        assert_int_equal(stats(w).views, 0);
        release(w, c, second);
        fake_conn_free(c);
}

static void test_g_a_view_keeps_a_realm(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, 2002, "shared", FILES);

        expect_ok(set_file(w, c, "k", SIZE, value_file(SIZE, SEALS)));
        assert_int_not_equal(view(w, c, "k"), 0);
        fake_conn_send_files(c, true);
        Cached__V1__Delete del = CACHED__V1__DELETE__INIT;
        del.cache = (char *)"t";
        del.key = key_of("k");
        Cached__V1__Request m = REQUEST(DELETE, delete_, &del);
        expect_ok(call(w, c, &m, NULL, 0));
        fake_conn_free(c);
        w->server.now_ns += 2 * REALM_IDLE_MS * 1000000;
        (void)dispatcher_maintain(w->server.dispatcher, server_now_ms(&w->server), 1000);
        assert_int_equal(w->server.dispatcher->realms.n, 2);
}

/* What is missing, lost or wrong. */
static void test_h_descriptors(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_files(w);
        unsigned before = open_fds();
        Cached__V1__Set set = set_of("t", "k");

        set.source_case = CACHED__V1__SET__SOURCE_FILE_SIZE;
        set.file_size = 100;
        assert_failure(send_set(w, c, &set, NULL, 0), STATUS_INVALID, "none came");
        assert_failure(set_file(w, c, "k", 100, -EMFILE), STATUS_LIMIT, "no room");
        assert_failure(set_file(w, c, "k", 100, value_file(100, F_SEAL_GROW)), STATUS_INVALID,
                       "is not sealed");
        assert_failure(set_file(w, c, "k", 100, value_file(99, SEALS)), STATUS_INVALID, "99 bytes");
        assert_failure(set_file(w, c, "k", 100, open("/dev/null", O_RDONLY | O_CLOEXEC)),
                       STATUS_INVALID, "is no memory file");
        assert_failure(set_file(w, c, "k", 1 << 30, value_file(99, SEALS)), STATUS_TOO_LARGE,
                       "limits.value_bytes");
        assert_int_equal(open_fds(), before);
        assert_int_equal(stats(w).entries, 0);
        fake_conn_free(c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_system_calls, world_up, world_down),
                cmocka_unit_test_setup_teardown(test_b_allocations_of_a_set, world_up, world_down),
                cmocka_unit_test_setup_teardown(test_c_allocations_of_a_get, world_up, world_down),
                cmocka_unit_test_setup_teardown(test_d_where_processes_cannot_be_watched, world_up,
                                                world_down),
                cmocka_unit_test_setup_teardown(test_e_the_end_of_a_process, world_up, world_down),
                cmocka_unit_test_setup_teardown(test_e_an_id_that_is_used_again, world_up,
                                                world_down),
                cmocka_unit_test_setup_teardown(test_f_what_was_never_sent, world_up, world_down),
                cmocka_unit_test_setup_teardown(test_g_a_view_keeps_a_realm, world_up, world_down),
                cmocka_unit_test_setup_teardown(test_h_descriptors, world_up, world_down),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
