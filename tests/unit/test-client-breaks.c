/* SPDX-License-Identifier: MIT */
/*
 * libcached and a daemon that lies, dawdles and dies
 *
 * Replies that cannot be: garbage, wrong lengths, ids, kinds and sums; a connection that ends at
 * every byte of a reply; what is sent again and what is not; deadlines; events and farewells; who
 * may be trusted; forks; four threads on one handle.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "client-harness.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "client/call.h"

/* --------------------------------------------------------------------------- impossible replies */

enum lie {
        LIE_NO_MESSAGE,
        LIE_LONG_MESSAGE,
        LIE_LONG_BODY,
        LIE_NOT_PROTOBUF,
        LIE_ID,
        LIE_ID_OF_HELLO,
        LIE_KIND,
        LIE_NO_RESULT,
        LIE_STATUS_LARGE,
        LIE_STATUS_NEGATIVE,
        LIE_SIZE_SMALL,
        LIE_SIZE_LARGE,
        LIE_BODY_OF_MISS,
        LIE_UNASKED,
        LIE_EVENT_WITH_BODY,
        LIE_ITEMS_SMALL,
        LIE_ITEMS_LARGE,
        LIE_ITEMS_OVERFLOW,
        LIE_ITEM_WITHOUT_ENTRY,
        N_LIES,
};

static void lie_with_items(struct fake *d, int fd, uint64_t id, enum lie lie)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__GetManyResult result = CACHED__V1__GET_MANY_RESULT__INIT;
        Cached__V1__GetManyItem a = CACHED__V1__GET_MANY_ITEM__INIT, b = a;
        Cached__V1__GetManyItem *items[] = {&a, &b};
        Cached__V1__EntryInfo entry_a = CACHED__V1__ENTRY_INFO__INIT, entry_b = entry_a;

        entry_a.size = 4;
        entry_b.size = lie == LIE_ITEMS_SMALL ? 3 : lie == LIE_ITEMS_LARGE ? 5 : 4;
        if (lie == LIE_ITEMS_OVERFLOW)
                entry_b.size = UINT64_MAX - 3;
        a.entry = &entry_a;
        b.entry = lie == LIE_ITEM_WITHOUT_ENTRY ? NULL : &entry_b;
        result.n_items = 2;
        result.items = items;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_GET_MANY;
        m.get_many = &result;
        fake_reply(d, fd, &m, "12345678", lie == LIE_ITEMS_OVERFLOW ? 0 : 8);
}

static void lie_with_header(struct fake *d, int fd, uint32_t n_message, uint64_t n_body)
{
        uint8_t head[FRAME_HEADER_SIZE + 64] = {0};

        frame_header_write(head, n_message, n_body);
        fake_write(d, fd, head, sizeof(head));
}

static void lie_about_get(struct fake *d, int fd, uint64_t id, enum lie lie)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        size_t n_body = 8;

        entry.size = lie == LIE_SIZE_SMALL ? 7 : lie == LIE_SIZE_LARGE ? 9 : 8;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        m.entry = &entry;
        switch (lie) {
        case LIE_ID:
                m.id = id + 1;
                break;
        case LIE_ID_OF_HELLO:
                m.id = 1;
                break;
        case LIE_NO_RESULT:
                m.result_case = CACHED__V1__REPLY__RESULT__NOT_SET;
                n_body = 0;
                break;
        case LIE_STATUS_LARGE:
                m.status = (Cached__V1__Status)CACHED_ERR_TIMEOUT;
                n_body = 0;
                break;
        case LIE_STATUS_NEGATIVE:
                m.status = (Cached__V1__Status)-1;
                n_body = 0;
                break;
        case LIE_BODY_OF_MISS:
                m.status = CACHED__V1__STATUS__NOT_FOUND;
                break;
        case LIE_UNASKED:
                m.id = 0;
                break;
        case LIE_EVENT_WITH_BODY:
                m.id = 0;
                m.result_case = CACHED__V1__REPLY__RESULT_EVENT;
                m.event = &event;
                break;
        default:
                break;
        }
        fake_reply(d, fd, &m, "12345678", n_body);
}

static void serve_lie(struct fake *d, int fd, int nth)
{
        enum lie lie = *(enum lie *)d->data;
        struct fake_request r;
        uint64_t id;

        if (!fake_hello(d, fd) || !fake_read_request(d, fd, &r))
                return;
        id = r.m->id;
        fake_request_done(&r);
        if (lie == LIE_NO_MESSAGE)
                lie_with_header(d, fd, 0, 0);
        else if (lie == LIE_LONG_MESSAGE)
                lie_with_header(d, fd, (64u << 20) + 1, 0);
        else if (lie == LIE_LONG_BODY)
                lie_with_header(d, fd, 8, d->max_value + 1);
        else if (lie == LIE_NOT_PROTOBUF)
                fake_write(d, fd, "\5\0\0\0\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff", 17);
        else if (lie == LIE_KIND)
                fake_reply_ping(d, fd, id);
        else if (lie >= LIE_ITEMS_SMALL)
                lie_with_items(d, fd, id, lie);
        else
                lie_about_get(d, fd, id, lie);
        /* Not the end of the stream decides, but the lie. */
        (void)fake_readable(d, fd);
}

static void test_f_lies(void **state)
{
        for (int i = 0; i < N_LIES; i++) {
                const void *keys[] = {"a", "b"};
                size_t n_keys[] = {1, 1};
                enum lie lie = (enum lie)i;
                struct fake d;
                cached_reply *r;
                cached *c;
                int code;

                fake_start(&d, serve_lie, &lie);
                c = client_new(d.path, PATIENCE_MS);
                code = lie >= LIE_ITEMS_SMALL ? cached_get_many(c, "x", 2, keys, n_keys, &r)
                                              : cached_get(c, "x", "k", 1, &r);
                if (code != CACHED_ERR_BAD_REPLY || cached_reply_code(r) != code)
                        fail_msg("lie %d: code %d, %s", i, code, cached_reply_error(r));
                assert_true(strlen(cached_reply_error(r)) > 0);
                assert_null(cached_reply_value(r, NULL));
                assert_int_equal(cached_reply_n_items(r), 0);
                cached_reply_free(r);
                assert_int_equal(atomic_load(&d.n_connections), 1);
                cached_free(c);
                fake_unlisten(&d);
        }
}

/* ------------------------------------------------------------------------------- broken streams */

struct cut {
        size_t at;      /* bytes of the reply that arrive on the first connection */
        size_t n_frame; /* out: of how many */
        bool of_hello;
};

static void serve_cut(struct fake *d, int fd, int nth)
{
        struct cut *cut = d->data;
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;
        struct fake_request r;
        uint8_t *frame;

        if (nth > 0 || (!cut->of_hello && !fake_hello(d, fd))) {
                serve_good(d, fd, nth);
                return;
        }
        if (!fake_read_request(d, fd, &r))
                return;
        entry.version = 1234567;
        entry.size = r.m->op_case == CACHED__V1__REQUEST__OP_SET ? 0 : 5;
        m.id = r.m->id;
        m.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        m.entry = &entry;
        fake_request_done(&r);
        frame = cut->of_hello ? fake_hello_frame(d, &cut->n_frame)
                              : fake_frame(&m, "hello", entry.size, &cut->n_frame);
        fake_write(d, fd, frame, cut->at);
        free(frame);
}

static int run_cut(struct cut *cut, bool set, int *ret_n_connections)
{
        struct fake d;
        cached *c;
        int code;

        fake_start(&d, serve_cut, cut);
        c = client_new(d.path, PATIENCE_MS);
        code = set ? cached_set(c, "x", "k", 1, "v", 1, NULL, NULL)
                   : cached_get(c, "x", "hello", 5, NULL);
        *ret_n_connections = atomic_load(&d.n_connections);
        /* Whatever it was, the next call has a connection again. */
        assert_int_equal(cached_get(c, "x", "hello", 5, NULL), CACHED_OK);
        cached_free(c);
        fake_unlisten(&d);
        return code;
}

/* A get is sent again on another connection; a set whose reply is cut is not. */
static void test_g_cut_at_every_byte(void **state)
{
        struct cut cut = {.n_frame = 1};
        int n;

        for (cut.at = 0; cut.at < cut.n_frame; cut.at++) {
                assert_int_equal(run_cut(&cut, false, &n), CACHED_OK);
                assert_int_equal(n, 2);
        }
        assert_true(cut.n_frame >= 20);
        cut = (struct cut){.n_frame = 1};
        for (cut.at = 0; cut.at < cut.n_frame; cut.at++) {
                assert_int_equal(run_cut(&cut, true, &n), CACHED_ERR_DISCONNECTED);
                assert_int_equal(n, 1);
        }
        assert_true(cut.n_frame >= 20);
        cut = (struct cut){.n_frame = 1, .of_hello = true};
        for (cut.at = 0; cut.at < cut.n_frame; cut.at++)
                assert_int_equal(run_cut(&cut, false, &n), CACHED_ERR_DISCONNECTED);
        assert_true(cut.n_frame >= 20);
}

/* The first connection takes a part of a large set and ends: nothing can have happened. */
static void serve_part_of_set(struct fake *d, int fd, int nth)
{
        uint8_t some[20];

        if (!fake_hello(d, fd))
                return;
        if (nth == 0)
                (void)fake_read(d, fd, some, sizeof(some));
        else
                serve_good_rest(d, fd);
}

static void test_g_unsent_set_is_sent_again(void **state)
{
        static uint8_t value[4u << 20];
        struct good g = {0};
        struct fake d;
        cached *c;

        memset(value, 1, sizeof(value));
        fake_start(&d, serve_part_of_set, &g);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_set(c, "x", "k", 1, value, sizeof(value), NULL, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 2);
        assert_int_equal(atomic_load(&g.n_sets), 1);
        assert_int_equal(g.n_last_body, sizeof(value));
        assert_true(g.body_sum == sizeof(value));
        cached_free(c);
        fake_unlisten(&d);
}

/* Each connection ends after one request, while the client is idle: as when a daemon is restarted.
 */
static void serve_one(struct fake *d, int fd, int nth)
{
        struct fake_request r;

        if (!fake_hello(d, fd) || !fake_read_request(d, fd, &r))
                return;
        good_answer(d, fd, &r);
        fake_request_done(&r);
}

static void test_g_idle_break_is_not_seen(void **state)
{
        struct good g = {0};
        struct fake d;
        cached *c;

        fake_start(&d, serve_one, &g);
        c = client_new(d.path, PATIENCE_MS);
        for (unsigned i = 1; i <= 20; i++) {
                char byte;

                assert_int_equal(cached_set(c, "x", "k", 1, "v", 1, NULL, NULL), CACHED_OK);
                assert_int_equal(atomic_load(&g.n_sets), i);
                /* Until the end has arrived. */
                assert_int_equal(recv(c->conn->fd, &byte, 1, MSG_PEEK), 0);
        }
        assert_int_equal(cached_connect(c, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 21);
        cached_free(c);
        fake_unlisten(&d);
}

static void serve_farewell(struct fake *d, int fd, int nth)
{
        struct fake_request r;
        int status = *(int *)d->data;

        if (!fake_hello(d, fd))
                return;
        if (nth > 0) {
                serve_good_rest(d, fd);
                return;
        }
        if (!fake_read_request(d, fd, &r))
                return;
        fake_request_done(&r);
        fake_reply_status(d, fd, 0, status, "because");
}

static int run_farewell(int status, bool set, int expected_connections)
{
        struct fake d;
        cached_reply *r;
        cached *c;
        int code;

        fake_start(&d, serve_farewell, &status);
        c = client_new(d.path, PATIENCE_MS);
        code = set ? cached_set(c, "x", "k", 1, "v", 1, NULL, &r) : cached_ping(c, &r);
        if (code != CACHED_OK)
                assert_string_equal(cached_reply_error(r), "because");
        cached_reply_free(r);
        assert_int_equal(atomic_load(&d.n_connections), expected_connections);
        cached_free(c);
        fake_unlisten(&d);
        return code;
}

static void test_g_farewells(void **state)
{
        assert_int_equal(run_farewell(CACHED_PROTOCOL, false, 1), CACHED_PROTOCOL);
        assert_int_equal(run_farewell(CACHED_LIMIT, true, 1), CACHED_LIMIT);
        assert_int_equal(run_farewell(CACHED_SHUTTING_DOWN, true, 1), CACHED_SHUTTING_DOWN);
        assert_int_equal(run_farewell(CACHED_SHUTTING_DOWN, false, 2), CACHED_OK);
}

/* It is turned away before it said anything, as by a limit on connections. */
static void serve_refusal(struct fake *d, int fd, int nth)
{
        fake_reply_status(d, fd, 0, CACHED_LIMIT, "too many connections");
}

static void test_g_refused_connection(void **state)
{
        struct fake d;
        cached_reply *r;
        cached *c;

        fake_start(&d, serve_refusal, NULL);
        c = client_new(d.path, PATIENCE_MS);
        for (int i = 0; i < 50; i++) {
                assert_int_equal(cached_ping(c, &r), CACHED_LIMIT);
                assert_string_equal(cached_reply_error(r), "too many connections");
                cached_reply_free(r);
        }
        cached_free(c);
        fake_unlisten(&d);
}

static void serve_events(struct fake *d, int fd, int nth)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__Event event = CACHED__V1__EVENT__INIT;
        Cached__V1__CacheInfo info = CACHED__V1__CACHE_INFO__INIT;
        struct fake_request r;

        if (!fake_hello(d, fd))
                return;
        event.kind_case = CACHED__V1__EVENT__KIND_POLICY_CHANGED;
        event.policy_changed = &info;
        m.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        m.event = &event;
        while (fake_read_request(d, fd, &r)) {
                for (int i = 0; i < 3; i++)
                        fake_reply(d, fd, &m, NULL, 0);
                good_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

static void test_g_events_are_passed_over(void **state)
{
        struct fake d;
        cached *c;

        fake_start(&d, serve_events, NULL);
        c = client_new(d.path, PATIENCE_MS);
        for (int i = 0; i < 3; i++)
                assert_int_equal(cached_get(c, "x", "k", 1, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 1);
        cached_free(c);
        fake_unlisten(&d);
}

/* ------------------------------------------------------------------------------------ deadlines */

/* Says Hello and then nothing, or a byte of a reply now and then. */
static void serve_silence(struct fake *d, int fd, int nth)
{
        bool drip = *(bool *)d->data;
        struct fake_request r;
        struct pollfd stop = {.fd = d->stop[0], .events = POLLIN};

        if (!fake_hello(d, fd) || !fake_read_request(d, fd, &r))
                return;
        fake_request_done(&r);
        if (!drip) {
                (void)fake_readable(d, fd);
                return;
        }
        for (int i = 0; poll(&stop, 1, 20) == 0 && fake_write(d, fd, i == 0 ? "\100" : "\0", 1);
             i++)
                ;
}

static void test_h_timeout(void **state)
{
        for (int i = 0; i < 2; i++) {
                bool drip = i == 1;
                struct fake d;
                cached_reply *r;
                uint64_t start, took;
                cached *c;

                fake_start(&d, serve_silence, &drip);
                c = client_new(d.path, 300);
                start = now_ms();
                assert_int_equal(cached_get(c, "x", "k", 1, &r), CACHED_ERR_TIMEOUT);
                took = now_ms() - start;
                assert_in_range(took, 299, 1500);
                cached_reply_free(r);
                assert_null(c->conn);
                cached_free(c);
                fake_unlisten(&d);
        }
}

/* Nobody accepts, and the backlog is full. */
static void test_h_full_backlog(void **state)
{
        cached *c[3];
        struct fake d;
        uint64_t start;

        fake_listen(&d, 0);
        for (int i = 0; i < 3; i++) {
                c[i] = client_new(d.path, 200);
                start = now_ms();
                assert_int_equal(cached_ping(c[i], NULL), CACHED_ERR_TIMEOUT);
                assert_in_range(now_ms() - start, 195, 1500);
                cached_free(c[i]);
        }
        fake_unlisten(&d);
}

/* The daemon does not read: a large set gets stuck in sending. */
static void serve_deaf(struct fake *d, int fd, int nth)
{
        struct pollfd stop = {.fd = d->stop[0], .events = POLLIN};

        if (fake_hello(d, fd))
                (void)poll(&stop, 1, -1);
}

static void test_h_timeout_in_sending(void **state)
{
        static uint8_t value[4u << 20];
        struct fake d;
        uint64_t start;
        cached *c;

        fake_start(&d, serve_deaf, NULL);
        c = client_new(d.path, 300);
        start = now_ms();
        assert_int_equal(cached_set(c, "x", "k", 1, value, sizeof(value), NULL, NULL),
                         CACHED_ERR_TIMEOUT);
        assert_in_range(now_ms() - start, 299, 1500);
        cached_free(c);
        fake_unlisten(&d);
}

/* ---------------------------------------------------------------------------------------- trust */

/* Runs a good daemon as another uid in a child; returns its pid, or -1 where that is not allowed.
 */
static pid_t fork_daemon(struct fake *d, uid_t uid)
{
        pid_t pid;

        fake_listen(d, 16);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                /* The peer's credentials are those of whoever calls listen(). */
                if (setresuid(uid, uid, uid) < 0 || listen(d->listener, 16) < 0)
                        _exit(1);
                d->serve = serve_good;
                close(d->stop[1]);
                fake_run(d);
                _exit(0);
        }
        return pid;
}

static void test_i_untrusted_daemon(void **state)
{
        cached_options *o = cached_options_new();
        struct fake d;
        cached_reply *r;
        cached *c;
        pid_t pid;
        int status;

        if (geteuid() != 0) {
                cached_options_free(o);
                skip();
        }
        pid = fork_daemon(&d, 12345);
        /* Only a daemon that listens as that uid is a test: wait until it does. */
        for (struct ucred peer = {0}; peer.uid != 12345;) {
                struct sockaddr_un a = {.sun_family = AF_UNIX};
                socklen_t n = sizeof(peer);
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

                strcpy(a.sun_path, d.path);
                assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
                assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n), 0);
                close(fd);
        }
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, &r), CACHED_ERR_UNTRUSTED);
        assert_non_null(strstr(cached_reply_error(r), "12345"));
        cached_reply_free(r);
        cached_free(c);
        cached_options_set_socket(o, d.path);
        cached_options_set_service_uid(o, 12345);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        cached_free(c);
        cached_options_free(o);
        fake_unlisten(&d);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

/* In a child, as a user who may not: the system's socket is closed to it, and no other answers. */
static int forbidden_in_child(const char *path, enum sockpath_kind kind)
{
        pid_t pid = fork();
        int status;

        assert_true(pid >= 0);
        if (pid == 0) {
                struct cached_options o = {.timeout_ms = 1000};
                struct sockpaths p = {.n = 2};
                struct failure f = {0};
                struct conn *conn;
                size_t which;

                if (setresuid(12345, 12345, 12345) < 0)
                        _exit(99);
                p.at[0].kind = kind;
                strcpy(p.at[0].path, path);
                p.at[1].kind = SOCKPATH_OF_USER;
                strcpy(p.at[1].path, "/nonexistent/s");
                _exit(conn_open(&o, &p, deadline_in_ms(1000), &f, &conn, &which));
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

static void test_i_forbidden_socket(void **state)
{
        struct fake d;

        if (geteuid() != 0)
                skip();
        fake_start(&d, serve_good, NULL);
        assert_int_equal(chmod(d.dir, 0755), 0);
        assert_int_equal(chmod(d.path, 0600), 0);
        assert_int_equal(forbidden_in_child(d.path, SOCKPATH_OF_SYSTEM), CACHED_ERR_FORBIDDEN);
        assert_int_equal(forbidden_in_child(d.path, SOCKPATH_NAMED), CACHED_ERR_FORBIDDEN);
        assert_int_equal(forbidden_in_child("/nonexistent/t", SOCKPATH_OF_SYSTEM),
                         CACHED_ERR_UNREACHABLE);
        fake_unlisten(&d);
}

/* A directory in /tmp that others may enter could have been made by them. */
static void test_i_open_tmp_directory(void **state)
{
        struct cached_options o = {.timeout_ms = PATIENCE_MS};
        struct sockpaths p = {.n = 1};
        struct failure f = {0};
        struct conn *conn;
        struct fake d;
        size_t which;

        fake_start(&d, serve_good, NULL);
        p.at[0].kind = SOCKPATH_OF_USER_TMP;
        strcpy(p.at[0].path, d.path);
        assert_int_equal(chmod(d.dir, 0755), 0);
        assert_int_equal(conn_open(&o, &p, deadline_in_ms(1000), &f, &conn, &which),
                         CACHED_ERR_UNREACHABLE);
        assert_int_equal(chmod(d.dir, 0700), 0);
        assert_int_equal(conn_open(&o, &p, deadline_in_ms(1000), &f, &conn, &which), CACHED_OK);
        assert_null(conn_free(conn));
        fake_unlisten(&d);
}

/* ---------------------------------------------------------------------------- forks and threads */

/* Serves its connections at the same time, each in a thread. */
struct parallel {
        struct good good; /* first: for the functions that count */
        pthread_t threads[16];
        int n;
};

struct parallel_conn {
        struct fake *d;
        int fd;
};

static void *parallel_run(void *data)
{
        struct parallel_conn pc = *(struct parallel_conn *)data;

        free(data);
        serve_good(pc.d, pc.fd, 0);
        close(pc.fd);
        return NULL;
}

static void serve_parallel(struct fake *d, int fd, int nth)
{
        struct parallel *p = (struct parallel *)d->data;
        struct parallel_conn *pc = malloc(sizeof(*pc));

        assert(pc && p->n < 16);
        *pc = (struct parallel_conn){d, fcntl(fd, F_DUPFD_CLOEXEC, 0)};
        assert(pthread_create(&p->threads[p->n++], NULL, parallel_run, pc) == 0);
}

static void parallel_stop(struct fake *d, struct parallel *p)
{
        fake_unlisten(d);
        for (int i = 0; i < p->n; i++)
                pthread_join(p->threads[i], NULL);
}

static void test_j_fork(void **state)
{
        struct parallel p = {0};
        struct fake d;
        int status;
        cached *c;
        pid_t pid;

        fake_start(&d, serve_parallel, &p);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int code = cached_ping(c, NULL);

                cached_free(c);
                _exit(code);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        /* The parent's connection was not touched. */
        assert_int_equal(cached_ping(c, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&d.n_connections), 2);
        cached_free(c);
        parallel_stop(&d, &p);
}

struct caller {
        cached *c;
        atomic_bool stop;
        atomic_uint n;
        int bad;
};

static void *call_all_the_time(void *data)
{
        struct caller *k = data;

        while (!atomic_load(&k->stop)) {
                if (cached_get(k->c, "x", "key", 3, NULL) != CACHED_OK)
                        k->bad++;
                atomic_fetch_add(&k->n, 1);
        }
        return NULL;
}

/* Forked while another thread is in a call, again and again: the child neither hangs nor meddles.
 */
static void test_j_fork_in_a_call(void **state)
{
        struct caller k = {0};
        pthread_t thread;

        for (int i = 0; i < 3; i++) {
                struct parallel p = {0};
                struct fake d;
                int status;

                fake_start(&d, serve_parallel, &p);
                k.c = client_new(d.path, PATIENCE_MS);
                atomic_store(&k.stop, false);
                atomic_store(&k.n, 0);
                assert_int_equal(pthread_create(&thread, NULL, call_all_the_time, &k), 0);
                for (unsigned n = 0; n < 10; n++) {
                        unsigned before = atomic_load(&k.n);
                        pid_t pid;

                        while (atomic_load(&k.n) < before + 3)
                                ;
                        pid = fork();
                        assert_true(pid >= 0);
                        if (pid == 0) {
                                alarm(20);
                                _exit(cached_ping(k.c, NULL));
                        }
                        assert_int_equal(waitpid(pid, &status, 0), pid);
                        assert_int_equal(status, 0);
                }
                atomic_store(&k.stop, true);
                pthread_join(thread, NULL);
                assert_int_equal(k.bad, 0);
                cached_free(k.c);
                parallel_stop(&d, &p);
        }
}

static void *call_many(void *data)
{
        struct caller *k = data;

        for (int i = 0; i < 500; i++) {
                char key[32];
                cached_reply *r;
                size_t n, n_key = (size_t)snprintf(key, sizeof(key), "%p/%d", (void *)&r, i);
                const void *v;

                if (cached_get(k->c, "x", key, n_key, &r) != CACHED_OK ||
                    !(v = cached_reply_value(r, &n)) || n != n_key || memcmp(v, key, n))
                        k->bad++;
                cached_reply_free(r);
        }
        return NULL;
}

static void test_j_threads(void **state)
{
        struct caller k[4] = {0};
        pthread_t threads[4];
        struct fake d;
        cached *c;

        fake_start(&d, serve_good, NULL);
        c = client_new(d.path, PATIENCE_MS);
        for (int i = 0; i < 4; i++) {
                k[i].c = c;
                assert_int_equal(pthread_create(&threads[i], NULL, call_many, &k[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(k[i].bad, 0);
        }
        assert_int_equal(atomic_load(&d.n_connections), 1);
        cached_free(c);
        fake_unlisten(&d);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_f_lies, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_cut_at_every_byte, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_unsent_set_is_sent_again, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_idle_break_is_not_seen, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_farewells, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_refused_connection, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_events_are_passed_over, setup, teardown),
                cmocka_unit_test_setup_teardown(test_h_timeout, setup, teardown),
                cmocka_unit_test_setup_teardown(test_h_full_backlog, setup, teardown),
                cmocka_unit_test_setup_teardown(test_h_timeout_in_sending, setup, teardown),
                cmocka_unit_test_setup_teardown(test_i_untrusted_daemon, setup, teardown),
                cmocka_unit_test_setup_teardown(test_i_forbidden_socket, setup, teardown),
                cmocka_unit_test_setup_teardown(test_i_open_tmp_directory, setup, teardown),
                cmocka_unit_test_setup_teardown(test_j_fork, setup, teardown),
                cmocka_unit_test_setup_teardown(test_j_fork_in_a_call, setup, teardown),
                cmocka_unit_test_setup_teardown(test_j_threads, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
