/* SPDX-License-Identifier: MIT */
/*
 * What an entry has beside its value: policies with windows, tags, reasons, recorded messages; and
 * clearing by tag and prefix. The daemon here keeps the last Set and SetPolicy as they came, gives
 * the entry back, and does with messages what PROTOCOL.md says.
 *
 * Every case ends with as many open descriptors as it began with.
 */

#include "client-harness.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "client/messages.h"

#define LEASES CACHED__V1__FEATURE__FEATURE_LEASES
#define FILES  CACHED__V1__FEATURE__FEATURE_FILES

/* What came last; under `lock`. */
struct kept {
        pthread_mutex_t lock;
        Cached__V1__Request *set; /* or NULL */
        uint8_t *body;            /* or what was in the memory file */
        size_t n_body;
        Cached__V1__Request *other; /* the last SetPolicy, SetMany, Clear or ListLeases */
        uint8_t *other_body;
        size_t n_other_body;
        atomic_uint n_requests;
        bool as_file;    /* values come in memory files */
        bool is_damaged; /* its messages' first byte is changed */
        uint64_t claim;  /* added to messages_size in replies */
};

/* ---------------------------------------------------------------------------------- the daemon */

static void kept_take(struct kept *k, struct fake_request *r)
{
        struct stat st;

        if (k->set)
                cached__v1__request__free_unpacked(k->set, NULL);
        free(k->body);
        k->set = r->m;
        k->body = r->body;
        k->n_body = r->n_body;
        if (r->file >= 0) {
                assert(fstat(r->file, &st) == 0 && r->n_body == 0);
                k->n_body = (size_t)st.st_size;
                k->body = realloc(k->body, k->n_body + 1);
                assert(k->body && pread(r->file, k->body, k->n_body, 0) == (ssize_t)k->n_body);
                assert(r->m->set->file_size == k->n_body);
        }
}

static bool send_file(struct fake *d, int fd, const Cached__V1__Reply *m, const struct kept *k)
{
        union {
                struct cmsghdr head;
                uint8_t space[CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct iovec iov;
        struct msghdr h = {.msg_iov = &iov,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
        int file = memfd_create("value", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        uint8_t *frame;
        size_t n;
        bool ok;

        assert(file >= 0 && write(file, k->body, k->n_body) == (ssize_t)k->n_body);
        assert(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
        control.head.cmsg_level = SOL_SOCKET;
        control.head.cmsg_type = SCM_RIGHTS;
        control.head.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.head), &file, sizeof(int));
        frame = fake_frame(m, NULL, 0, &n);
        iov = (struct iovec){frame, n};
        ok = sendmsg(fd, &h, MSG_NOSIGNAL) == (ssize_t)n;
        free(frame);
        close(file);
        return ok;
}

static bool kept_get(struct fake *d, int fd, uint64_t id, const Cached__V1__Get *m)
{
        struct kept *k = d->data;
        const Cached__V1__Set *set = k->set ? k->set->set : NULL;
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo e = CACHED__V1__ENTRY_INFO__INIT;
        size_t n;

        if (!set)
                return fake_reply_status(d, fd, id, CACHED_NOT_FOUND, "");
        e.version = 7;
        e.size = k->n_body - set->messages_size;
        e.encoding = set->encoding;
        e.raw_size = set->encoding ? set->raw_size : e.size;
        e.messages_size = set->messages_size + k->claim;
        e.negative = set->negative;
        reply.id = id;
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &e;
        if (set->negative) {
                char reason[64] = "";

                memcpy(reason, k->body, k->n_body);
                reply.status = CACHED__V1__STATUS__NEGATIVE;
                reply.error = reason;
                return fake_reply(d, fd, &reply, NULL, 0);
        }
        if (k->is_damaged)
                k->body[e.size] ^= 0x04; /* no wire type */
        if (k->as_file && m->as_file) {
                e.view_id = 3;
                return send_file(d, fd, &reply, k);
        }
        n = m->with_messages ? k->n_body : (size_t)e.size;
        return fake_reply(d, fd, &reply, k->body, n);
}

static bool kept_clear(struct fake *d, int fd, uint64_t id)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__ClearResult result = CACHED__V1__CLEAR_RESULT__INIT;

        result.entries = 5;
        reply.id = id;
        reply.result_case = CACHED__V1__REPLY__RESULT_CLEAR;
        reply.clear = &result;
        return fake_reply(d, fd, &reply, NULL, 0);
}

static bool kept_leases(struct fake *d, int fd, uint64_t id)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__ListLeasesResult result = CACHED__V1__LIST_LEASES_RESULT__INIT;
        Cached__V1__Computation one = CACHED__V1__COMPUTATION__INIT, *list = &one;

        one.cache = (char *)(uintptr_t) "slow";
        one.pid = 4711;
        one.waiters = 3;
        result.n_computations = 1;
        result.computations = &list;
        reply.id = id;
        reply.result_case = CACHED__V1__REPLY__RESULT_LIST_LEASES;
        reply.list_leases = &result;
        return fake_reply(d, fd, &reply, NULL, 0);
}

/* Before it is answered: then the test looks. */
static void kept_take_other(struct kept *k, const struct fake_request *r)
{
        if (k->other)
                cached__v1__request__free_unpacked(k->other, NULL);
        free(k->other_body);
        k->other = r->m;
        k->other_body = r->body;
        k->n_other_body = r->n_body;
}

/* True: `r` was kept. */
static bool kept_answer(struct fake *d, int fd, struct fake_request *r, bool *ok)
{
        struct kept *k = d->data;
        uint64_t id = r->m->id;

        atomic_fetch_add(&k->n_requests, 1);
        switch (r->m->op_case) {
        case CACHED__V1__REQUEST__OP_GET:
                *ok = kept_get(d, fd, id, r->m->get);
                return false;
        case CACHED__V1__REQUEST__OP_SET:
                kept_take(k, r);
                *ok = fake_reply_entry(d, fd, id, 7, NULL, 0);
                return true;
        case CACHED__V1__REQUEST__OP_SET_POLICY:
                kept_take_other(k, r);
                *ok = fake_reply_cache(d, fd, id, "x", 0);
                break;
        case CACHED__V1__REQUEST__OP_SET_MANY:
                kept_take_other(k, r);
                *ok = fake_reply_status(d, fd, id, CACHED_LIMIT, "kept");
                break;
        case CACHED__V1__REQUEST__OP_CLEAR:
                kept_take_other(k, r);
                *ok = kept_clear(d, fd, id);
                break;
        case CACHED__V1__REQUEST__OP_LIST_LEASES:
                kept_take_other(k, r);
                *ok = kept_leases(d, fd, id);
                break;
        case CACHED__V1__REQUEST__OP_RELEASE:
                return false;
        default:
                *ok = fake_reply_status(d, fd, id, CACHED_UNSUPPORTED, "not here");
                return false;
        }
        return true;
}

static void serve_kept(struct fake *d, int fd, int nth)
{
        struct kept *k = d->data;
        struct fake_request r;
        bool ok = fake_hello(d, fd);

        while (ok && fake_read_request(d, fd, &r)) {
                pthread_mutex_lock(&k->lock);
                if (!kept_answer(d, fd, &r, &ok)) {
                        fake_request_done(&r);
                } else if (r.file >= 0) {
                        close(r.file);
                }
                pthread_mutex_unlock(&k->lock);
        }
}

/* Handle and daemon. */
struct scene {
        cached *c;
        struct kept k;
        struct fake d;
};

static void scene_begin(struct scene *s, uint64_t features)
{
        memset(&s->k, 0, sizeof(s->k));
        assert(pthread_mutex_init(&s->k.lock, NULL) == 0);
        fake_start(&s->d, serve_kept, &s->k);
        s->d.features = features;
        s->d.instance = 11;
        s->d.max_value = 1 << 30;
        s->d.max_lz4 = 1 << 22;
        s->c = client_new(s->d.path, PATIENCE_MS);
}

static void scene_end(struct scene *s)
{
        cached_free(s->c);
        fake_unlisten(&s->d);
        if (s->k.set)
                cached__v1__request__free_unpacked(s->k.set, NULL);
        if (s->k.other)
                cached__v1__request__free_unpacked(s->k.other, NULL);
        free(s->k.body);
        free(s->k.other_body);
        pthread_mutex_destroy(&s->k.lock);
}

/* ------------------------------------------------------------------------------------ policies */

static void test_a_policy(void **state)
{
        cached_policy *p = cached_policy_new();
        const Cached__V1__SetPolicy *m;
        struct scene s;
        cached_reply *r;

        scene_begin(&s, LEASES);
        assert_int_equal(cached_policy_set_stale_for_ms(p, 60000), CACHED_OK);
        assert_int_equal(cached_policy_set_stale_if_error_ms(p, 3600000), CACHED_OK);
        assert_int_equal(cached_policy_set_refresh_ahead(p, 800), CACHED_OK);
        assert_int_equal(cached_policy_set_expire_jitter(p, 100), CACHED_OK);
        assert_int_equal(cached_policy_set_stale_for_ms(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_policy_set_expire_jitter(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_set_policy(s.c, "x", p, 0, 0, NULL), CACHED_OK);
        m = s.k.other->set_policy;
        assert_int_equal(m->policy->stale_for_ms, 60000);
        assert_int_equal(m->policy->stale_if_error_ms, 3600000);
        assert_int_equal(m->policy->refresh_ahead_permille, 800);
        assert_int_equal(m->policy->expire_jitter_permille, 100);
        assert_int_equal(m->n_reset, 0);
        /* The bits name the fields. */
        for (unsigned i = 0; i < 7; i++) {
                assert_int_equal(cached_set_policy(s.c, "x", NULL, 1u << i, 0, NULL), CACHED_OK);
                m = s.k.other->set_policy;
                assert_int_equal(m->n_reset, 1);
                assert_int_equal(m->reset[0], i + 1);
        }
        assert_int_equal(cached_set_policy(s.c, "x", NULL, 127, 0, NULL), CACHED_OK);
        assert_int_equal(s.k.other->set_policy->n_reset, 7);
        assert_int_equal(cached_set_policy(s.c, "x", NULL, 128, 0, &r), CACHED_ERR_USAGE);
        assert_non_null(strstr(cached_reply_error(r), "reset_fields"));
        cached_reply_free(r);
        cached_policy_free(p);
        scene_end(&s);
}

/* ---------------------------------------------------------------------------------------- tags */

static void test_b_tags(void **state)
{
        cached_set_options *o = cached_set_options_new();
        struct scene s;
        char text[301];
        cached_reply *r;
        uint64_t n;

        scene_begin(&s, LEASES);
        memset(text, 't', 300);
        text[300] = '\0';
        assert_int_equal(cached_set_options_add_tag(o, "one"), CACHED_OK);
        assert_int_equal(cached_set_options_add_tag(o, "two"), CACHED_OK);
        assert_int_equal(cached_set_options_add_tag(o, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_set_options_add_tag(NULL, "x"), CACHED_ERR_USAGE);
        assert_int_equal(cached_set(s.c, "x", "k", 1, "v", 1, o, NULL), CACHED_OK);
        assert_int_equal(s.k.set->set->n_tags, 2);
        assert_string_equal(s.k.set->set->tags[1], "two");
        /* What the daemon takes it says itself: these are too long and too many, and they get
         * there. */
        assert_int_equal(cached_set_options_add_tag(o, text), CACHED_OK);
        for (int i = 3; i < 64; i++)
                assert_int_equal(cached_set_options_add_tag(o, "more"), CACHED_OK);
        assert_int_equal(cached_set_options_add_tag(o, "more"), CACHED_ERR_USAGE);
        assert_int_equal(cached_set(s.c, "x", "k", 1, "v", 1, o, NULL), CACHED_OK);
        assert_int_equal(s.k.set->set->n_tags, 64);
        assert_string_equal(s.k.set->set->tags[2], text);
        cached_set_options_free(o);

        assert_int_equal(cached_clear_tag(s.c, "x", "one", &r), CACHED_OK);
        assert_string_equal(s.k.other->clear->tag, "one");
        assert_int_equal(s.k.other->clear->which_case, CACHED__V1__CLEAR__WHICH_TAG);
        assert_int_equal(cached_reply_u64(r, "entries", &n), CACHED_OK);
        assert_int_equal(n, 5);
        cached_reply_free(r);
        assert_int_equal(cached_clear_prefix(s.c, "x", "ab\0", 3, NULL), CACHED_OK);
        assert_int_equal(s.k.other->clear->which_case, CACHED__V1__CLEAR__WHICH_PREFIX);
        assert_int_equal(s.k.other->clear->prefix.len, 3);
        assert_string_equal(s.k.other->clear->cache, "x");
        assert_int_equal(cached_clear_tag(s.c, "x", NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_clear_prefix(s.c, "x", NULL, 3, NULL), CACHED_ERR_USAGE);
        scene_end(&s);
}

/* An older daemon would clear all of the cache, or store messages as part of the value. */
static void test_b_older_daemon(void **state)
{
        cached_set_options *o = cached_set_options_new();
        struct scene s;
        cached_reply *r;

        scene_begin(&s, 0);
        assert_int_equal(cached_set_options_add_tag(o, "one"), CACHED_OK);
        assert_int_equal(cached_clear_tag(s.c, "x", "one", &r), CACHED_UNSUPPORTED);
        assert_non_null(strstr(cached_reply_error(r), "too old"));
        cached_reply_free(r);
        assert_int_equal(cached_set(s.c, "x", "k", 1, "v", 1, o, NULL), CACHED_UNSUPPORTED);
        assert_int_equal(cached_list_computations(s.c, 0, 0, NULL), CACHED_UNSUPPORTED);
        assert_int_equal(atomic_load(&s.k.n_requests), 0);
        /* The connection is as good as before. */
        assert_int_equal(cached_set(s.c, "x", "k", 1, "v", 1, NULL, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&s.d.n_connections), 1);
        cached_set_options_free(o);
        scene_end(&s);
}

static void test_b_older_daemon_and_pipelines(void **state)
{
        const void *key = "a", *value = "AA";
        const size_t n_key = 1, n_value = 2;
        cached_set_options *o = cached_set_options_new();
        cached_pipeline *p;
        struct scene s;

        scene_begin(&s, 0);
        p = cached_pipeline_new(s.c);
        assert_int_equal(cached_set_options_set_negative(o, 1), CACHED_OK);
        assert_int_equal(cached_pipeline_set(p, "x", "k", 1, "v", 1, o, 1), CACHED_UNSUPPORTED);
        assert_int_equal(cached_pipeline_set_many(p, "x", 1, &key, &n_key, &value, &n_value, o, 2),
                         CACHED_UNSUPPORTED);
        assert_int_equal(cached_pipeline_in_flight(p), 0);
        assert_int_equal(cached_pipeline_set(p, "x", "k", 1, "v", 1, NULL, 3), CACHED_OK);
        assert_int_equal(cached_pipeline_next(p, NULL, NULL), CACHED_OK);
        assert_int_equal(atomic_load(&s.k.n_requests), 1);
        cached_pipeline_free(p);
        cached_set_options_free(o);
        scene_end(&s);
}

static void test_b_computations(void **state)
{
        struct scene s;
        cached_reply *r;
        const char *text;
        uint64_t v;

        scene_begin(&s, LEASES);
        assert_int_equal(cached_list_computations(s.c, 9, 4, &r), CACHED_OK);
        assert_int_equal(s.k.other->list_leases->page_size, 9);
        assert_int_equal(s.k.other->list_leases->cursor, 4);
        assert_int_equal(cached_reply_count(r, "computations"), 1);
        assert_int_equal(cached_reply_text(r, "computations[0].cache", &text), CACHED_OK);
        assert_string_equal(text, "slow");
        assert_int_equal(cached_reply_u64(r, "computations[0].waiters", &v), CACHED_OK);
        assert_int_equal(v, 3);
        assert_int_equal(cached_reply_u64(r, "computations[0].hold_ms", &v), CACHED_NOT_FOUND);
        cached_reply_free(r);
        scene_end(&s);
}

static void test_c_negative(void **state)
{
        cached_options *co = cached_options_new();
        cached_set_options *o = cached_set_options_new();
        char reason[64];
        struct scene s;
        cached_reply *r;

        memset(reason, 'r', 63);
        reason[63] = '\0';
        scene_begin(&s, LEASES);
        /* Also where everything is packed a reason is text. */
        cached_free(s.c);
        cached_options_set_socket(co, s.d.path);
        cached_options_set_compression(co, 1);
        assert_int_equal(cached_new(co, &s.c), CACHED_OK);
        cached_options_free(co);
        assert_int_equal(cached_set_options_set_ttl_ms(o, 500), CACHED_OK);
        assert_int_equal(cached_set_negative(s.c, "x", "k", 1, reason, o, NULL), CACHED_OK);
        assert_true(s.k.set->set->negative);
        assert_int_equal(s.k.set->set->ttl_ms, 500);
        assert_int_equal(s.k.set->set->encoding, CACHED_ENCODING_RAW);
        assert_int_equal(s.k.n_body, 63);
        assert_int_equal(cached_get(s.c, "x", "k", 1, &r), CACHED_NEGATIVE);
        assert_string_equal(cached_reply_error(r), reason);
        assert_null(cached_reply_value(r, NULL));
        assert_int_equal(cached_reply_version(r), 7);
        cached_reply_free(r);
        assert_int_equal(cached_set_negative(s.c, "x", "k", 1, NULL, o, NULL), CACHED_ERR_USAGE);
        cached_set_options_free(o);
        scene_end(&s);
}

/* ------------------------------------------------------------------------------------ messages */

/* What two_messages() takes when it is encoded. */
#define MESSAGES 20

static cached_messages *two_messages(void)
{
        cached_messages *m = cached_messages_new();

        assert_int_equal(cached_messages_add(m, "stdout", "hello\n", 6), CACHED_OK);
        assert_int_equal(cached_messages_add(m, "", NULL, 0), CACHED_OK);
        return m;
}

static void assert_two_messages(const cached_messages *m)
{
        const char *type;
        const void *data;
        size_t n;

        assert_int_equal(cached_messages_count(m), 2);
        assert_int_equal(cached_messages_get(m, 0, &type, &data, &n), CACHED_OK);
        assert_string_equal(type, "stdout");
        assert_int_equal(n, 6);
        assert_memory_equal(data, "hello\n", 6);
        assert_int_equal(cached_messages_get(m, 1, &type, &data, &n), CACHED_OK);
        assert_string_equal(type, "");
        assert_non_null(data);
        assert_int_equal(n, 0);
        assert_int_equal(cached_messages_get(m, 2, &type, &data, &n), CACHED_ERR_USAGE);
}

static cached_set_options *options_with(const cached_messages *m)
{
        cached_set_options *o = cached_set_options_new();

        assert_int_equal(cached_set_options_set_messages(o, m), CACHED_OK);
        return o;
}

static void test_d_list(void **state)
{
        cached_messages *m = two_messages(), *back = NULL;
        uint8_t *bytes;
        size_t n;

        assert_two_messages(m);
        assert_int_equal(cached_messages_add(m, "\xff", "x", 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_messages_add(m, NULL, "x", 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_messages_add(m, "x", NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_messages_add(m, "x", "y", SIZE_MAX), CACHED_TOO_LARGE);
        assert_two_messages(m);
        assert_true(messages_encode(m, &bytes, &n));
        assert_int_equal(messages_decode(bytes, n, &back), CACHED_OK);
        assert_two_messages(back);
        cached_messages_free(back);
        /* Cut off anywhere it is two messages, one, none, or nothing that could be read. */
        for (size_t cut = 0; cut < n; cut++) {
                uint8_t *copy = malloc(cut + 1);
                int code;

                memcpy(copy, bytes, cut);
                back = NULL;
                code = messages_decode(copy, cut, &back);
                assert_true(code == CACHED_OK ? cached_messages_count(back) < 2
                                              : code == CACHED_ERR_BAD_REPLY && !back);
                cached_messages_free(back);
                free(copy);
        }
        free(bytes);
        cached_messages_free(m);
        cached_messages_free(NULL);
        assert_int_equal(cached_messages_count(NULL), 0);
}

/* Two bytes each, so that few bytes ask for much. */
static void test_d_list_too_long(void **state)
{
        size_t n = 2 * (MESSAGES_MAX + 1);
        uint8_t *bytes = calloc(1, n);
        cached_messages *m = NULL;

        for (size_t i = 0; i < n; i += 2)
                bytes[i] = 0x0a;
        assert_int_equal(messages_decode(bytes, n, &m), CACHED_ERR_BAD_REPLY);
        assert_int_equal(messages_decode(bytes, n - 2, &m), CACHED_OK);
        assert_int_equal(cached_messages_count(m), MESSAGES_MAX);
        assert_int_equal(cached_messages_add(m, "x", "y", 1), CACHED_LIMIT);
        cached_messages_free(m);
        free(bytes);
}

/* The value is in the body and the messages are behind it, however it is sent and packed. */
static void check_round(struct scene *s, const uint8_t *value, size_t n, bool stays_plain)
{
        cached_messages *m = two_messages();
        cached_set_options *o = options_with(m);
        const cached_messages *came = NULL;
        cached_reply *r;
        size_t n_got;

        assert_int_equal(cached_set(s->c, "x", "k", 1, value, n, o, NULL), CACHED_OK);
        assert_int_equal(s->k.set->set->messages_size, MESSAGES);
        if (stays_plain)
                assert_int_equal(s->k.n_body, n + MESSAGES);
        else
                assert_true(s->k.n_body < n);
        assert_int_equal(cached_get_with_messages(s->c, "x", "k", 1, &r), CACHED_OK);
        assert_memory_equal(cached_reply_value(r, &n_got), value, n);
        assert_int_equal(n_got, n);
        assert_int_equal(cached_reply_messages(r, &came), CACHED_OK);
        assert_two_messages(came);
        cached_reply_free(r);
        /* Who does not ask gets the value. */
        assert_int_equal(cached_get(s->c, "x", "k", 1, &r), CACHED_OK);
        assert_memory_equal(cached_reply_value(r, &n_got), value, n);
        assert_int_equal(n_got, n);
        assert_int_equal(cached_reply_messages(r, &came), CACHED_NOT_FOUND);
        cached_reply_free(r);
        cached_set_options_free(o);
        cached_messages_free(m);
}

static void check_sizes(struct scene *s)
{
        static const size_t sizes[] = {0,       1,       4095,          4096,   70000,
                                       1 << 20, 4 << 20, (4 << 20) + 1, 5 << 20};
        uint8_t *value = malloc(5 << 20), *noise = malloc(5 << 20);
        uint64_t seed = 88172645463325252u;

        for (size_t i = 0; i < 5 << 20; i++) {
                value[i] = (uint8_t)(i / 64);
                seed = seed * 6364136223846793005u + 1442695040888963407u;
                noise[i] = (uint8_t)(seed >> 56);
        }
        for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
                check_round(s, noise, sizes[i], true);
                check_round(s, value, sizes[i], sizes[i] < 4096 || sizes[i] > 4 << 20);
        }
        free(value);
        free(noise);
}

static void test_e_set(void **state)
{
        struct scene s;

        scene_begin(&s, LEASES);
        check_sizes(&s);
        scene_end(&s);
}

/* Handed over and received as memory files, where they are long enough. */
static void test_e_set_files(void **state)
{
        struct scene s;

        scene_begin(&s, LEASES | FILES);
        s.k.as_file = true;
        check_sizes(&s);
        scene_end(&s);
}

static void test_e_view(void **state)
{
        cached_messages *m = two_messages();
        cached_set_options *o = options_with(m);
        cached_view *v = NULL;
        struct scene s;

        scene_begin(&s, LEASES | FILES);
        s.k.as_file = true;
        assert_int_equal(cached_set(s.c, "x", "k", 1, "value", 5, o, NULL), CACHED_OK);
        for (int mode = CACHED_VIEW_READ; mode <= CACHED_VIEW_PRIVATE; mode++) {
                assert_int_equal(cached_get_view(s.c, "x", "k", 1, mode, &v, NULL), CACHED_OK);
                assert_int_equal(cached_view_size(v), 5);
                assert_memory_equal(cached_view_data(v), "value", 5);
                cached_view_release(v);
        }
        cached_set_options_free(o);
        cached_messages_free(m);
        scene_end(&s);
}

static void test_e_buffer_and_fd(void **state)
{
        cached_messages *m = two_messages();
        cached_set_options *o = options_with(m);
        int file = memfd_create("from", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        cached_buffer *b;
        struct scene s;
        cached_reply *r;

        scene_begin(&s, LEASES | FILES);
        assert_int_equal(cached_buffer_new(s.c, 100, &b), CACHED_OK);
        memset(cached_buffer_data(b), 'v', 100);
        assert_int_equal(cached_set_buffer(s.c, "x", "k", 1, b, 81, o, &r), CACHED_ERR_USAGE);
        assert_non_null(strstr(cached_reply_error(r), "make it larger"));
        cached_reply_free(r);
        for (int again = 0; again < 2; again++) {
                assert_int_equal(cached_set_buffer(s.c, "x", "k", 1, b, 80, o, NULL), CACHED_OK);
                assert_int_equal(s.k.n_body, 100);
                assert_int_equal(s.k.body[79], 'v');
                assert_int_equal(s.k.body[80], 0x0a);
                assert_int_equal(s.k.set->set->messages_size, MESSAGES);
        }
        cached_buffer_free(b);

        /* Sealed as it is: messages need a file of their own. */
        assert_int_equal(ftruncate(file, 100000), 0);
        assert_int_equal(fcntl(file, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
        assert_int_equal(cached_set_fd(s.c, "x", "k", 1, file, 0, 100000, o, NULL), CACHED_OK);
        assert_int_equal(s.k.n_body - s.k.set->set->messages_size,
                         s.k.set->set->encoding ? s.k.n_body - MESSAGES : 100000);
        close(file);
        file = memfd_create("from", MFD_CLOEXEC);
        assert_int_equal(ftruncate(file, 6 << 20), 0);
        assert_int_equal(cached_set_fd(s.c, "x", "k", 1, file, 0, 6 << 20, o, NULL), CACHED_OK);
        assert_int_equal(s.k.n_body, (6 << 20) + MESSAGES);
        assert_int_equal(s.k.body[6 << 20], 0x0a);
        close(file);
        cached_set_options_free(o);
        cached_messages_free(m);
        scene_end(&s);
}

static void test_e_many_and_pipelines(void **state)
{
        const void *keys[] = {"a", "b"}, *values[] = {"AA", ""};
        size_t n_keys[] = {1, 1}, n_values[] = {2, 0};
        cached_messages *m = two_messages();
        cached_set_options *o = options_with(m);
        cached_pipeline *p;
        struct scene s;

        scene_begin(&s, LEASES);
        assert_int_equal(cached_set_many(s.c, "x", 2, keys, n_keys, values, n_values, o, NULL),
                         CACHED_LIMIT);
        assert_int_equal(s.k.other->set_many->sizes[0], 2 + MESSAGES);
        assert_int_equal(s.k.other->set_many->sizes[1], MESSAGES);
        assert_int_equal(s.k.other->set_many->sets[1]->messages_size, MESSAGES);
        assert_int_equal(s.k.n_other_body, 2 + 2 * MESSAGES);
        assert_memory_equal(s.k.other_body, "AA\x0a", 3);
        assert_int_equal(s.k.other_body[2 + MESSAGES], 0x0a);
        scene_end(&s);

        scene_begin(&s, LEASES); /* which serves one connection at a time */
        p = cached_pipeline_new(s.c);
        assert_int_equal(cached_pipeline_set(p, "x", "k", 1, "value", 5, o, 1), CACHED_OK);
        assert_int_equal(cached_pipeline_next(p, NULL, NULL), CACHED_OK);
        assert_int_equal(s.k.n_body, 5 + MESSAGES);
        assert_int_equal(cached_pipeline_set(p, "x", "k", 1, NULL, 0, o, 1), CACHED_OK);
        assert_int_equal(cached_pipeline_next(p, NULL, NULL), CACHED_OK);
        assert_int_equal(s.k.n_body, MESSAGES);
        cached_pipeline_free(p);
        cached_set_options_free(o);
        cached_messages_free(m);
        scene_end(&s);
}

/* Nobody has looked at what another writer stored. */
static void test_f_damaged(void **state)
{
        cached_messages *m = two_messages();
        cached_set_options *o = options_with(m);
        const cached_messages *came = NULL;
        struct scene s;
        cached_reply *r;
        size_t n;

        scene_begin(&s, LEASES | FILES);
        assert_int_equal(cached_set(s.c, "x", "k", 1, "value", 5, o, NULL), CACHED_OK);
        s.k.is_damaged = true;
        assert_int_equal(cached_get_with_messages(s.c, "x", "k", 1, &r), CACHED_OK);
        assert_memory_equal(cached_reply_value(r, &n), "value", 5);
        assert_int_equal(n, 5);
        assert_int_equal(cached_reply_messages(r, &came), CACHED_ERR_BAD_REPLY);
        assert_null(came);
        cached_reply_free(r);
        cached_set_options_free(o);
        cached_messages_free(m);
        scene_end(&s);
}

/* A daemon that says more than it sends. */
static void test_f_lying_sizes(void **state)
{
        static const uint64_t claims[] = {1, UINT64_MAX - 20, UINT64_MAX - 24};
        cached_messages *m = two_messages();
        cached_set_options *o = options_with(m);
        struct scene s;

        scene_begin(&s, LEASES | FILES);
        assert_int_equal(cached_set(s.c, "x", "k", 1, "value", 5, o, NULL), CACHED_OK);
        for (int as_file = 0; as_file < 2; as_file++) {
                s.k.as_file = as_file;
                for (size_t i = 0; i < 3; i++) {
                        s.k.claim = claims[i];
                        assert_int_equal(cached_get_with_messages(s.c, "x", "k", 1, NULL),
                                         CACHED_ERR_BAD_REPLY);
                }
        }
        cached_set_options_free(o);
        cached_messages_free(m);
        scene_end(&s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_policy, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_tags, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_older_daemon, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_older_daemon_and_pipelines, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_computations, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_negative, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_list, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_list_too_long, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_set, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_set_files, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_view, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_buffer_and_fd, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_many_and_pipelines, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_damaged, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_lying_sizes, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
