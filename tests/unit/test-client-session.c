/* SPDX-License-Identifier: MIT */
/*
 * Sessions in libcached: what is asked, byte for byte of keys and values; replies that lie; changes
 * whose connection breaks; a daemon that is too old; what is told.
 *
 * The daemon here keeps the requests that it got, and answers with what the test has for it. Every
 * case ends with as many open descriptors as it began with.
 */

#include "client-harness.h"

#include <sys/wait.h>

#define TOKEN_TEXT "000102030405060708090a0b0c0d0eff"

static const uint8_t token[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255};

#define ASKED_MAX 32

struct play {
        /* What every request about a session is answered with. */
        Cached__V1__Reply reply;
        const char *body;
        size_t n_body;
        int n_deaths;  /* so many connections end instead of an answer */
        bool is_other; /* each connection is another instance's */
        bool is_told;  /* an event follows the answer, and then the end */
        /* What was asked. */
        struct fake_request asked[ASKED_MAX];
        atomic_int n_asked;
};

static bool send_event(struct fake *d, int fd)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__Event e = CACHED__V1__EVENT__INIT;
        Cached__V1__SessionEvent s = CACHED__V1__SESSION_EVENT__INIT;
        char *keys[] = {(char *)(uintptr_t) "one", (char *)(uintptr_t) "two"};

        s.id = (char *)(uintptr_t) "0123456789abcdef";
        s.change = CACHED__V1__SESSION_CHANGE__SESSION_SET;
        s.n_keys = 2;
        s.keys = keys;
        e.kind_case = CACHED__V1__EVENT__KIND_SESSION;
        e.session = &s;
        m.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        m.event = &e;
        return fake_reply(d, fd, &m, NULL, 0);
}

struct world {
        struct fake d;
        struct parallel parallel;
        struct play p;
        cached *c;
        cached_session *s;
};

static struct play *play_of(const struct fake *d)
{
        return &((struct world *)(void *)((char *)d->data - offsetof(struct world, parallel)))->p;
}

static bool play_answer(struct fake *d, int fd, struct play *p, const struct fake_request *r)
{
        Cached__V1__Reply reply = p->reply;

        if (r->m->op_case < CACHED__V1__REQUEST__OP_OPEN_SESSION)
                return good_answer(d, fd, r);
        reply.id = r->m->id;
        if (!fake_reply(d, fd, &reply, p->body, p->n_body))
                return false;
        return !p->is_told || (send_event(d, fd) && false);
}

static void serve_play(struct fake *d, int fd, int nth)
{
        struct play *p = play_of(d);
        struct fake_request r;

        if (p->is_other)
                d->instance++;
        if (!fake_hello(d, fd))
                return;
        while (fake_read_request(d, fd, &r)) {
                int n = atomic_load(&p->n_asked);

                assert(n < ASKED_MAX);
                p->asked[n] = r;
                atomic_store(&p->n_asked, n + 1);
                if (nth < p->n_deaths || !play_answer(d, fd, p, &r))
                        return;
        }
}

static void answer_info(struct world *w, Cached__V1__SessionInfo *info)
{
        cached__v1__session_info__init(info);
        w->p.reply.result_case = CACHED__V1__REPLY__RESULT_SESSION;
        w->p.reply.session = info;
        w->p.body = "";
        w->p.n_body = 0;
}

/* With a session. */
static struct world *world_new(void)
{
        struct world *w = calloc(1, sizeof(*w));
        Cached__V1__SessionInfo info;

        assert_non_null(w);
        cached__v1__reply__init(&w->p.reply);
        answer_info(w, &info);
        parallel_start(&w->d, &w->parallel, serve_play);
        w->d.instance = 77;
        w->d.features = CACHED__V1__FEATURE__FEATURE_SESSIONS |
                        CACHED__V1__FEATURE__FEATURE_REPEAT | CACHED__V1__FEATURE__FEATURE_EVENTS |
                        CACHED__V1__FEATURE__FEATURE_LEASES;
        w->c = client_new(w->d.path, PATIENCE_MS);
        assert_int_equal(cached_session_attach(w->c, TOKEN_TEXT, &w->s, NULL), CACHED_OK);
        assert_string_equal(cached_session_token(w->s), TOKEN_TEXT);
        assert_int_equal(atomic_load(&w->p.n_asked), 1); /* and what was asked is there */
        assert_memory_equal(w->p.asked[0].m->attach_session->token.data, token, 16);
        assert_false(w->p.asked[0].m->attach_session->stay);
        w->p.reply.result_case = CACHED__V1__REPLY__RESULT__NOT_SET;
        return w;
}

static void world_free(struct world *w)
{
        cached_session_free(w->s);
        cached_free(w->c);
        parallel_stop(&w->d, &w->parallel);
        for (int i = 0; i < atomic_load(&w->p.n_asked); i++)
                fake_request_done(&w->p.asked[i]);
        free(w);
}

/* The latest request, or one before. */
static const struct fake_request *asked(struct world *w, int back)
{
        int n = atomic_load(&w->p.n_asked);

        assert_true(n > back);
        return &w->p.asked[n - 1 - back];
}

#define ITEMS_MAX 4

/* A reply about keys. */
struct items {
        Cached__V1__SessionItems m;
        Cached__V1__SessionItem item[ITEMS_MAX], *items[ITEMS_MAX];
};

static void answer_items(struct world *w, struct items *to, size_t n, const char *body)
{
        static char names[ITEMS_MAX][2] = {"a", "b", "c", "d"};

        cached__v1__session_items__init(&to->m);
        for (size_t i = 0; i < n; i++) {
                cached__v1__session_item__init(&to->item[i]);
                to->item[i].key = names[i];
                to->item[i].version = 10 + i;
                to->items[i] = &to->item[i];
        }
        to->m.items = to->items;
        to->m.n_items = n;
        to->m.version = 99;
        w->p.reply.result_case = CACHED__V1__REPLY__RESULT_SESSION_ITEMS;
        w->p.reply.session_items = &to->m;
        w->p.body = body;
        w->p.n_body = strlen(body);
}

/* ---------------------------------------------------------------------------------------- life */

static int open_with(struct world *w, const char *label, uint64_t idle_ms, uint64_t grace_ms,
                     cached_session **ret)
{
        cached_session_options *o = cached_session_options_new();
        cached_reply *r;
        int code;

        assert_int_equal(cached_session_options_set_label(o, label), CACHED_OK);
        assert_int_equal(cached_session_options_set_idle_ms(o, idle_ms), CACHED_OK);
        assert_int_equal(cached_session_options_set_grace_ms(o, grace_ms), CACHED_OK);
        code = cached_session_open(w->c, o, ret, &r);
        cached_session_options_free(o);
        assert_int_equal(cached_reply_code(r), code);
        cached_reply_free(r);
        return code;
}

static void test_a_open(void **state)
{
        struct world *w = world_new();
        Cached__V1__SessionInfo info;
        const Cached__V1__OpenSession *m;
        cached_session *s = NULL;

        answer_info(w, &info);
        info.token = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)token};
        assert_int_equal(open_with(w, "l", 5, 7, &s), CACHED_OK);
        assert_string_equal(cached_session_token(s), TOKEN_TEXT);
        cached_session_free(s);
        m = asked(w, 0)->m->open_session;
        assert_string_equal(m->label, "l");
        assert_true(m->idle_case == CACHED__V1__OPEN_SESSION__IDLE_IDLE_MS && m->idle_ms == 5);
        assert_true(m->bound_case == CACHED__V1__OPEN_SESSION__BOUND_GRACE_MS && m->grace_ms == 7);
        assert_int_equal(open_with(w, "", CACHED_NEVER, CACHED_NEVER, &s), CACHED_OK);
        cached_session_free(s);
        m = asked(w, 0)->m->open_session;
        assert_true(m->idle_case == CACHED__V1__OPEN_SESSION__IDLE_NEVER_IDLE && m->never_idle);
        assert_int_equal(m->bound_case, CACHED__V1__OPEN_SESSION__BOUND__NOT_SET);
        assert_int_equal(open_with(w, "", 0, 0, &s), CACHED_OK);
        cached_session_free(s);
        m = asked(w, 0)->m->open_session;
        assert_int_equal(m->idle_case, CACHED__V1__OPEN_SESSION__IDLE__NOT_SET);
        assert_true(m->bound_case == CACHED__V1__OPEN_SESSION__BOUND_GRACE_MS && m->grace_ms == 0);

        s = NULL;
        info.token.len = 15;
        assert_int_equal(open_with(w, "", 0, 0, &s), CACHED_ERR_BAD_REPLY);
        info.token.len = 0;
        assert_int_equal(open_with(w, "", 0, 0, &s), CACHED_ERR_BAD_REPLY);
        assert_null(s);
        world_free(w);
}

static void test_b_arguments(void **state)
{
        static const char *const wrong[] = {"",
                                            "0",
                                            "000102030405060708090a0b0c0d0eff0",
                                            "000102030405060708090a0b0c0d0e",
                                            "000102030405060708090A0B0C0D0E0F",
                                            "000102030405060708090a0b0c0d0e0g"};
        char label[66] = "";
        struct world *w = world_new();
        cached_session_options *o = cached_session_options_new();
        const char *keys[] = {"a", NULL};
        const void *values[] = {"v", NULL};
        size_t sizes[] = {1, 1};
        int n = atomic_load(&w->p.n_asked);
        cached_session *s = NULL;
        cached_events *e;
        cached_reply *r;
        cached *own;

        for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
                assert_int_equal(cached_session_attach(w->c, wrong[i], &s, NULL), CACHED_ERR_USAGE);
        memset(label, 'x', 65);
        assert_int_equal(cached_session_options_set_label(o, label), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_options_set_label(NULL, ""), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_options_set_idle_ms(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_options_set_grace_ms(NULL, 1), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_open(NULL, o, &s, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_open(w->c, o, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_attach(w->c, NULL, &s, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_info(NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_close(NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_list(NULL, 0, 0, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_get(w->s, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_contains(w->s, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_get_many(w->s, 0, keys, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_get_many(w->s, 2, keys, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_get_all(NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_keys(NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_set(w->s, "k", NULL, 1, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_set_many(w->s, 0, keys, values, sizes, NULL),
                         CACHED_ERR_USAGE);
        keys[1] = "b";
        assert_int_equal(cached_session_set_many(w->s, 2, keys, values, sizes, NULL),
                         CACHED_ERR_USAGE);
        assert_int_equal(cached_session_set_if_absent(NULL, "k", "", 0, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_compare_and_set(w->s, NULL, 1, "", 0, NULL),
                         CACHED_ERR_USAGE);
        assert_int_equal(cached_session_delete(w->s, NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_clear(NULL, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_increment(w->s, NULL, 1, NULL, NULL, NULL),
                         CACHED_ERR_USAGE);
        assert_int_equal(cached_session_increment_real(w->s, NULL, 1, NULL, NULL, NULL),
                         CACHED_ERR_USAGE);
        assert_int_equal(cached_session_append(w->s, "k", NULL, 1, 0, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_handle(w->s, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_handle(NULL, &own), CACHED_ERR_USAGE);
        assert_int_equal(cached_session_watch(NULL, &e, &r), CACHED_ERR_USAGE);
        assert_true(*cached_reply_error(r));
        cached_reply_free(r);
        assert_null(s);
        assert_null(cached_session_token(NULL));
        assert_int_equal(cached_session_event(NULL), 0);
        assert_int_equal(cached_session_is_over(NULL), 0);
        assert_null(cached_session_item(NULL, 0, NULL, NULL));
        assert_int_equal(atomic_load(&w->p.n_asked), n); /* nothing was sent */
        cached_session_options_free(o);
        world_free(w);
}

/* A session that has ended is another thing than a key that is not set. */
static void test_c_over(void **state)
{
        struct world *w = world_new();
        struct items items;
        cached_reply *r;

        w->p.reply.status = CACHED__V1__STATUS__NOT_FOUND;
        w->p.reply.error = (char *)(uintptr_t) "no session";
        assert_int_equal(cached_session_get(w->s, "k", &r), CACHED_NOT_FOUND);
        assert_int_equal(cached_session_is_over(r), 1);
        assert_string_equal(cached_reply_error(r), "no session");
        cached_reply_free(r);
        assert_int_equal(cached_session_increment(w->s, "k", 1, NULL, NULL, &r), CACHED_NOT_FOUND);
        assert_int_equal(cached_session_is_over(r), 1);
        cached_reply_free(r);

        answer_items(w, &items, 0, "");
        assert_int_equal(cached_session_increment(w->s, "k", 1, NULL, NULL, &r), CACHED_NOT_FOUND);
        assert_int_equal(cached_session_is_over(r), 0);
        assert_non_null(strstr(cached_reply_error(r), "'k'"));
        cached_reply_free(r);

        w->p.reply.status = CACHED__V1__STATUS__OK;
        answer_items(w, &items, 1, "");
        items.item[0].status = CACHED__V1__STATUS__NOT_FOUND;
        assert_int_equal(cached_session_get(w->s, "k", &r), CACHED_NOT_FOUND);
        assert_int_equal(cached_session_is_over(r), 0);
        assert_non_null(strstr(cached_reply_error(r), "'k'"));
        assert_null(cached_reply_value(r, NULL));
        cached_reply_free(r);
        assert_int_equal(cached_session_contains(w->s, "k"), CACHED_NOT_FOUND);
        world_free(w);
}

/* -------------------------------------------------------------------------------------- values */

static void test_d_reading(void **state)
{
        struct world *w = world_new();
        const char *keys[] = {"a", "b", "c"};
        const Cached__V1__SessionGet *m;
        struct items items;
        const void *value;
        cached_reply *r;
        size_t n = 0;

        answer_items(w, &items, 1, "value");
        items.item[0].size = 5;
        assert_int_equal(cached_session_get(w->s, "a", &r), CACHED_OK);
        assert_memory_equal(cached_reply_value(r, &n), "value", 5);
        assert_int_equal(n, 5);
        cached_reply_free(r);
        m = asked(w, 0)->m->session_get;
        assert_memory_equal(m->token.data, token, 16);
        assert_true(m->n_keys == 1 && !strcmp(m->keys[0], "a") && !m->without_values);

        answer_items(w, &items, 1, "");
        assert_int_equal(cached_session_get(w->s, "a", &r), CACHED_OK);
        assert_non_null(cached_reply_value(r, &n)); /* one of 0 bytes */
        assert_int_equal(n, 0);
        cached_reply_free(r);

        answer_items(w, &items, 3, "onethree");
        items.item[0].size = 3;
        items.item[1].status = CACHED__V1__STATUS__NOT_FOUND;
        items.item[1].size = 1000; /* what is said of a value that is none */
        items.item[2].size = 5;
        assert_int_equal(cached_session_get_many(w->s, 3, keys, &r), CACHED_OK);
        assert_int_equal(cached_reply_n_items(r), 3);
        assert_string_equal(cached_session_item(r, 0, &value, &n), "a");
        assert_true(n == 3 && !memcmp(value, "one", 3));
        assert_string_equal(cached_session_item(r, 1, &value, NULL), "b");
        assert_null(value);
        assert_int_equal(cached_reply_item_code(r, 1), CACHED_NOT_FOUND);
        assert_string_equal(cached_session_item(r, 2, &value, &n), "c");
        assert_true(n == 5 && !memcmp(value, "three", 5));
        assert_null(cached_session_item(r, 3, &value, &n));
        cached_reply_free(r);
        assert_int_equal(asked(w, 0)->m->session_get->n_keys, 3);

        answer_items(w, &items, 2, "");
        items.item[1].size = 7;
        assert_int_equal(cached_session_keys(w->s, &r), CACHED_OK);
        assert_string_equal(cached_session_item(r, 1, &value, &n), "b");
        assert_true(!value && n == 7);
        cached_reply_free(r);
        m = asked(w, 0)->m->session_get;
        assert_true(m->n_keys == 0 && m->without_values);
        assert_int_equal(cached_session_get_all(w->s, NULL), CACHED_ERR_BAD_REPLY);
        assert_false(asked(w, 0)->m->session_get->without_values);
        world_free(w);
}

/* Replies whose sizes lie, that are about other keys than were asked for, or of another kind. */
static void test_e_hostile(void **state)
{
        struct world *w = world_new();
        const char *keys[] = {"a", "b"};
        int64_t sum = -1;
        struct items items;

        answer_items(w, &items, 1, "value");
        items.item[0].size = 4;
        assert_int_equal(cached_session_get(w->s, "a", NULL), CACHED_ERR_BAD_REPLY);
        items.item[0].size = 6;
        assert_int_equal(cached_session_get(w->s, "a", NULL), CACHED_ERR_BAD_REPLY);
        items.item[0].size = UINT64_MAX;
        assert_int_equal(cached_session_get(w->s, "a", NULL), CACHED_ERR_BAD_REPLY);
        answer_items(w, &items, 2, "value");
        items.item[0].size = UINT64_MAX;
        items.item[1].size = 6; /* 5 where sums wrap around */
        assert_int_equal(cached_session_get_many(w->s, 2, keys, NULL), CACHED_ERR_BAD_REPLY);
        answer_items(w, &items, 1, "");
        items.item[0].size = 4;
        assert_int_equal(cached_session_get(w->s, "a", NULL), CACHED_ERR_BAD_REPLY);
        answer_items(w, &items, 0, "");
        assert_int_equal(cached_session_get(w->s, "a", NULL), CACHED_ERR_BAD_REPLY);
        assert_int_equal(cached_session_contains(w->s, "a"), CACHED_ERR_BAD_REPLY);
        answer_items(w, &items, 3, "");
        assert_int_equal(cached_session_get_many(w->s, 2, keys, NULL), CACHED_ERR_BAD_REPLY);
        w->p.reply.result_case = CACHED__V1__REPLY__RESULT__NOT_SET;
        assert_int_equal(cached_session_get(w->s, "a", NULL), CACHED_ERR_BAD_REPLY);

        answer_items(w, &items, 1, "body");
        items.item[0].size = 4;
        assert_int_equal(cached_session_set(w->s, "a", "v", 1, NULL), CACHED_ERR_BAD_REPLY);
        assert_int_equal(cached_session_append(w->s, "a", "v", 1, 0, NULL), CACHED_ERR_BAD_REPLY);
        assert_int_equal(cached_session_delete(w->s, "a", NULL), CACHED_ERR_BAD_REPLY);
        assert_int_equal(cached_session_increment(w->s, "a", 1, NULL, &sum, NULL),
                         CACHED_ERR_BAD_REPLY);
        answer_items(w, &items, 0, "");
        assert_int_equal(cached_session_increment(w->s, "a", 1, NULL, &sum, NULL),
                         CACHED_ERR_BAD_REPLY);
        assert_int_equal(sum, -1);
        world_free(w);
}

/* What the writer says of a value goes with it, in each way of setting one. */
static void test_f_flags(void **state)
{
        struct world *w = world_new();
        const char *keys[] = {"a", "b"};
        const void *values[] = {"one", NULL};
        const size_t sizes[] = {3, 0};
        const uint32_t flags[] = {7, UINT32_MAX};
        const Cached__V1__SessionSet *m;
        struct items items;

        answer_items(w, &items, 0, "");
        assert_int_equal(cached_session_set_many_with_flags(w->s, 2, keys, flags, values, sizes,
                                                            NULL),
                         CACHED_OK);
        m = asked(w, 0)->m->session_set;
        assert_true(m->items[0]->flags == 7 && m->items[1]->flags == UINT32_MAX);
        assert_int_equal(cached_session_set_many(w->s, 2, keys, values, sizes, NULL), CACHED_OK);
        assert_int_equal(asked(w, 0)->m->session_set->items[1]->flags, 0);

        assert_int_equal(cached_session_set_with_flags(w->s, "a", 5, "v", 1, NULL), CACHED_OK);
        assert_int_equal(asked(w, 0)->m->session_set->items[0]->flags, 5);
        assert_int_equal(cached_session_set(w->s, "a", "v", 1, NULL), CACHED_OK);
        assert_int_equal(asked(w, 0)->m->session_set->items[0]->flags, 0);
        assert_int_equal(cached_session_set_if_absent_with_flags(w->s, "a", 6, "v", 1, NULL),
                         CACHED_OK);
        m = asked(w, 0)->m->session_set;
        assert_true(m->items[0]->flags == 6 && m->mode == CACHED__V1__SET_MODE__SET_ADD_ONLY);
        assert_int_equal(cached_session_compare_and_set_with_flags(w->s, "a", 3, 8, "v", 1, NULL),
                         CACHED_OK);
        m = asked(w, 0)->m->session_set;
        assert_true(m->items[0]->flags == 8 && m->expected_version == 3);
        assert_int_equal(cached_session_set_with_flags(NULL, "a", 5, "v", 1, NULL),
                         CACHED_ERR_USAGE);
        world_free(w);
}

static void test_f_changing(void **state)
{
        struct world *w = world_new();
        const char *keys[] = {"a", "b", "c"};
        const void *values[] = {"one", NULL, "three"};
        const size_t sizes[] = {3, 0, 5};
        const Cached__V1__SessionSet *m;
        struct items items;
        cached_reply *r;
        size_t n = 0;

        answer_items(w, &items, 0, "");
        assert_int_equal(cached_session_set_many(w->s, 3, keys, values, sizes, NULL), CACHED_OK);
        m = asked(w, 0)->m->session_set;
        assert_int_equal(m->n_items, 3);
        for (size_t i = 0; i < 3; i++) {
                assert_string_equal(m->items[i]->key, keys[i]);
                assert_int_equal(m->items[i]->size, sizes[i]);
        }
        assert_int_equal(asked(w, 0)->n_body, 8);
        assert_memory_equal(asked(w, 0)->body, "onethree", 8);
        assert_null(m->operation); /* it may be carried out twice */

        assert_int_equal(cached_session_set(w->s, "a", "v", 1, NULL), CACHED_OK);
        assert_null(asked(w, 0)->m->session_set->operation);
        assert_int_equal(cached_session_compare_and_set(w->s, "a", 12, "v", 1, NULL), CACHED_OK);
        m = asked(w, 0)->m->session_set;
        assert_true(m->compare_case == CACHED__V1__SESSION_SET__COMPARE_EXPECTED_VERSION &&
                    m->expected_version == 12 && m->operation);

        w->p.reply.status = CACHED__V1__STATUS__EXISTS;
        answer_items(w, &items, 1, "old");
        items.item[0].size = 3;
        assert_int_equal(cached_session_set_if_absent(w->s, "a", "v", 1, &r), CACHED_EXISTS);
        assert_memory_equal(cached_reply_value(r, &n), "old", 3);
        assert_int_equal(n, 3);
        cached_reply_free(r);
        m = asked(w, 0)->m->session_set;
        assert_true(m->mode == CACHED__V1__SET_MODE__SET_ADD_ONLY && m->operation);

        w->p.reply.status = CACHED__V1__STATUS__OK;
        answer_items(w, &items, 0, "");
        assert_int_equal(cached_session_clear(w->s, NULL), CACHED_OK);
        assert_true(asked(w, 0)->m->session_delete->all);
        assert_int_equal(cached_session_append(w->s, "a", "tail", 4, 9, NULL), CACHED_OK);
        assert_int_equal(asked(w, 0)->m->session_append->max_bytes, 9);
        assert_memory_equal(asked(w, 0)->body, "tail", 4);
        world_free(w);
}

static void test_g_numbers(void **state)
{
        struct world *w = world_new();
        const Cached__V1__SessionIncrement *m;
        const double start = 0.25;
        struct items items;
        int64_t sum = 0;
        double real = 0;

        answer_items(w, &items, 1, "-9223372036854775808");
        items.item[0].size = 20;
        assert_int_equal(cached_session_increment(w->s, "a", -5, NULL, &sum, NULL), CACHED_OK);
        assert_true(sum == INT64_MIN);
        m = asked(w, 0)->m->session_increment;
        assert_true(m->by_case == CACHED__V1__SESSION_INCREMENT__BY_INTEGER && m->integer == -5);
        assert_int_equal(m->start_case, CACHED__V1__SESSION_INCREMENT__START__NOT_SET);
        answer_items(w, &items, 1, "1.5");
        items.item[0].size = 3;
        assert_int_equal(cached_session_increment_real(w->s, "a", 0.5, &start, &real, NULL),
                         CACHED_OK);
        assert_true(real == 1.5);
        m = asked(w, 0)->m->session_increment;
        assert_true(m->by_case == CACHED__V1__SESSION_INCREMENT__BY_REAL && m->real == 0.5);
        assert_true(m->start_case == CACHED__V1__SESSION_INCREMENT__START_START_REAL &&
                    m->start_real == 0.25);
        /* What is no such number. */
        sum = 7;
        assert_int_equal(cached_session_increment(w->s, "a", 1, NULL, &sum, NULL),
                         CACHED_ERR_BAD_REPLY);
        assert_int_equal(sum, 7);
        world_free(w);
}

/* -------------------------------------------------------------------------------------- retries */

static void count_up(struct world *w, int expected)
{
        struct items items;
        int64_t sum = 0;

        answer_items(w, &items, 1, "8");
        items.item[0].size = 1;
        assert_int_equal(cached_session_increment(w->s, "a", 1, NULL, &sum, NULL), expected);
        if (expected == CACHED_OK)
                assert_int_equal(sum, 8);
}

/* The very change, marked as repeated, also to another instance of the daemon. */
static void test_h_repeated(void **state)
{
        for (int other = 0; other < 2; other++) {
                struct world *w = world_new();
                const Cached__V1__Operation *first, *second, *next;

                w->p.is_other = other;
                w->p.n_deaths = 1;
                count_up(w, CACHED_OK);
                assert_int_equal(atomic_load(&w->p.n_asked), 3); /* with AttachSession */
                first = asked(w, 1)->m->session_increment->operation;
                second = asked(w, 0)->m->session_increment->operation;
                assert_false(asked(w, 1)->m->repeated);
                assert_true(asked(w, 0)->m->repeated);
                assert_true(first->lane == second->lane && first->number == second->number);
                count_up(w, CACHED_OK);
                next = asked(w, 0)->m->session_increment->operation;
                assert_false(asked(w, 0)->m->repeated);
                assert_true(next->lane == first->lane && next->number > first->number);
                world_free(w);
        }
}

/* Not more often than a request may be the daemon's death. */
static void test_i_given_up(void **state)
{
        struct world *w = world_new();

        w->p.n_deaths = 99;
        count_up(w, CACHED_ERR_DISCONNECTED);
        assert_int_equal(atomic_load(&w->p.n_asked), 4);
        world_free(w);
}

/* A child's changes are another client's. */
static void test_j_fork(void **state)
{
        struct world *w = world_new();
        struct items items;
        uint64_t lane;
        int status;
        pid_t pid;

        count_up(w, CACHED_OK);
        lane = asked(w, 0)->m->session_increment->operation->lane;
        answer_items(w, &items, 0, "");
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(cached_session_append(w->s, "a", "v", 1, 0, NULL) != CACHED_OK);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_true(asked(w, 0)->m->session_append->operation->lane != lane);
        count_up(w, CACHED_OK);
        assert_true(asked(w, 0)->m->session_increment->operation->lane == lane);
        world_free(w);
}

/* -------------------------------------------------------------------------- daemons, and events */

static void test_k_too_old(void **state)
{
        struct fake d;
        struct good good = {0};
        cached_session *s = NULL;
        cached_reply *r;
        cached *c;

        fake_start(&d, serve_good, &good);
        c = client_new(d.path, PATIENCE_MS);
        assert_int_equal(cached_session_open(c, NULL, &s, &r), CACHED_UNSUPPORTED);
        assert_non_null(strstr(cached_reply_error(r), "too old"));
        cached_reply_free(r);
        assert_int_equal(cached_session_attach(c, TOKEN_TEXT, &s, NULL), CACHED_UNSUPPORTED);
        assert_int_equal(cached_session_list(c, 0, 0, NULL), CACHED_UNSUPPORTED);
        assert_null(s);
        cached_free(c);
        fake_unlisten(&d);
}

static void next_is(cached_events *e, uint32_t kind)
{
        const cached_event *v = NULL;
        const char *key = NULL;

        assert_int_equal(cached_events_next(e, PATIENCE_MS, &v), CACHED_OK);
        assert_int_equal(cached_event_kind(v), kind);
        assert_int_equal(cached_session_event(v),
                         kind == CACHED_EVENT_SESSION ? CACHED_SESSION_SET : 0);
        if (kind != CACHED_EVENT_SESSION)
                return;
        assert_int_equal(cached_reply_count(cached_event_reply(v), "session.keys"), 2);
        assert_int_equal(cached_reply_text(cached_event_reply(v), "session.keys[1]", &key),
                         CACHED_OK);
        assert_string_equal(key, "two");
}

/* The session's events; after a break it is told that some are lost, or that the session is. */
static void test_l_watch(void **state)
{
        struct world *w = world_new();
        Cached__V1__SessionInfo info;
        const Cached__V1__AttachSession *m;
        const cached_event *v = NULL;
        cached_events *e = NULL;
        cached_reply *r = NULL;

        w->p.reply.status = CACHED__V1__STATUS__NOT_FOUND;
        w->p.reply.error = (char *)(uintptr_t) "no session";
        assert_int_equal(cached_session_watch(w->s, &e, &r), CACHED_NOT_FOUND);
        assert_string_equal(cached_reply_error(r), "no session");
        cached_reply_free(r);
        assert_null(e);
        w->p.reply.status = CACHED__V1__STATUS__OK;
        answer_info(w, &info);
        w->p.is_told = true;
        assert_int_equal(cached_session_watch(w->s, &e, &r), CACHED_OK);
        assert_null(r);
        m = asked(w, 0)->m->attach_session;
        assert_true(m->stay && m->want_events && !memcmp(m->token.data, token, 16));
        next_is(e, CACHED_EVENT_SESSION);
        next_is(e, CACHED_EVENT_LOST);
        next_is(e, CACHED_EVENT_SESSION);
        w->p.reply.status = CACHED__V1__STATUS__NOT_FOUND;
        w->p.reply.result_case = CACHED__V1__REPLY__RESULT__NOT_SET;
        assert_int_equal(cached_events_next(e, PATIENCE_MS, &v), CACHED_NOT_FOUND);
        assert_string_equal(cached_events_error(e), "no session");
        cached_events_free(e);
        world_free(w);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_open, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_arguments, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_over, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_reading, setup, teardown),
                cmocka_unit_test_setup_teardown(test_e_hostile, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_flags, setup, teardown),
                cmocka_unit_test_setup_teardown(test_f_changing, setup, teardown),
                cmocka_unit_test_setup_teardown(test_g_numbers, setup, teardown),
                cmocka_unit_test_setup_teardown(test_h_repeated, setup, teardown),
                cmocka_unit_test_setup_teardown(test_i_given_up, setup, teardown),
                cmocka_unit_test_setup_teardown(test_j_fork, setup, teardown),
                cmocka_unit_test_setup_teardown(test_k_too_old, setup, teardown),
                cmocka_unit_test_setup_teardown(test_l_watch, setup, teardown),
        };

        return cmocka_run_group_tests_name("client-session", tests, NULL, NULL);
}
