/* SPDX-License-Identifier: MIT */
/*
 * SetMany in portions: what is seen in between, and what is left when its connection ends. Each
 * look at the clock takes longer than a portion may, so a portion ends wherever it can.
 */

#include "dispatch-world.h"
#include <sys/mman.h>
#include <sys/stat.h>

#include "dispatch/unfinished.h"
#include "proto/page.h"
#include "realm/mapping.h"

#define N_ITEMS 200
#define N_VALUE 40

/* A frame that the test gives to the handler again and again. */
struct frame {
        uint8_t *msg, *body;
        size_t n_msg, n_body;
};

static struct frame make_frame(uint64_t id, bool repeated, bool add_only)
{
        static char keys[N_ITEMS][8];
        static Cached__V1__Set sets[N_ITEMS], *ptrs[N_ITEMS];
        static uint64_t sizes[N_ITEMS];
        Cached__V1__SetMany many = CACHED__V1__SET_MANY__INIT;
        struct frame f = {.n_body = N_ITEMS * N_VALUE};

        for (unsigned i = 0; i < N_ITEMS; i++) {
                snprintf(keys[i], sizeof(keys[i]), "k%u", i);
                sets[i] = set_of(NULL, keys[i]);
                if (add_only)
                        sets[i].mode = CACHED__V1__SET_MODE__SET_ADD_ONLY;
                ptrs[i] = &sets[i];
                sizes[i] = N_VALUE;
        }
        many.cache = (char *)"c";
        many.n_sets = many.n_sizes = N_ITEMS;
        many.sets = ptrs;
        many.sizes = sizes;
        Cached__V1__Request m = REQUEST(SET_MANY, set_many, &many);
        m.id = id;
        m.repeated = repeated;
        f.n_msg = cached__v1__request__get_packed_size(&m);
        f.msg = malloc(f.n_msg);
        f.body = malloc(f.n_body);
        assert_non_null(f.msg);
        assert_non_null(f.body);
        cached__v1__request__pack(&m, f.msg);
        for (unsigned i = 0; i < N_ITEMS; i++)
                memset(f.body + i * N_VALUE, (int)('a' + i % 26), N_VALUE);
        return f;
}

static void frame_done(struct frame *f)
{
        free(f->msg);
        free(f->body);
}

/* From another place each time, as input buffers move. */
static bool give(struct conn *c, struct frame *f)
{
        struct frame g = {.msg = malloc(f->n_msg), .body = malloc(f->n_body)};

        assert_non_null(g.msg);
        assert_non_null(g.body);
        memcpy(g.msg, f->msg, f->n_msg);
        memcpy(g.body, f->body, f->n_body);
        bool done = dispatch_handler.on_frame(c, g.msg, f->n_msg, g.body, f->n_body, NULL);
        frame_done(&g);
        return done;
}

static void slow_down(struct world *w)
{
        w->server.tick_ns = 2 * UNFINISHED_PORTION_NS;
}

static unsigned count_entries(struct world *w)
{
        unsigned n = 0;

        w->server.tick_ns = 0;
        for (unsigned i = 0; i < N_ITEMS; i++) {
                char key[8];
                snprintf(key, sizeof(key), "k%u", i);
                struct reply r = send_get(w, w->c, "c", key);
                if (r.m->status == CACHED__V1__STATUS__OK) {
                        assert_int_equal(r.n_body, N_VALUE);
                        assert_int_equal(r.body[N_VALUE - 1], 'a' + i % 26);
                        n++;
                }
                reply_done(&r);
        }
        slow_down(w);
        return n;
}

static struct conn *come(struct world *w, const uint8_t id[16])
{
        struct conn *c = fake_conn_new(&w->server, UID);
        Cached__V1__Hello hello = CACHED__V1__HELLO__INIT;
        hello.protocol_min = hello.protocol_max = 1;
        hello.client_id = (ProtobufCBinaryData){.len = 16, .data = (uint8_t *)id};
        Cached__V1__Request m = REQUEST(HELLO, hello, &hello);
        struct reply r = call(w, c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        return c;
}

static void test_portions_add_up(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", 0);
        struct frame f = make_frame(1000, false, false);
        unsigned n_portions = 1;

        slow_down(w);
        for (unsigned before = 0; !give(c, &f); n_portions++) {
                unsigned n = count_entries(w); /* others are served, and see what is there */
                assert_int_equal(n, before + 16);
                before = n;
                assert_null(maybe_reply(c).m);
        }
        assert_int_equal(n_portions, N_ITEMS / 16 + 1);
        struct reply r = take_reply(c);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(r.m->id, 1000);
        assert_int_equal(r.m->set_many->n_items, N_ITEMS);
        for (unsigned i = 0; i < N_ITEMS; i++) {
                assert_int_equal(r.m->set_many->items[i]->status, STATUS_OK);
                assert_true(r.m->set_many->items[i]->version > 0);
        }
        reply_done(&r);
        assert_int_equal(count_entries(w), N_ITEMS);
        assert_int_equal(w->server.dispatcher->n_unfinished, 0);
        /* One request, one latency. */
        assert_int_equal(w->server.dispatcher->latencies[OP_SET_MANY].count, 1);
        frame_done(&f);
        fake_conn_free(c);
}

static void test_only_so_many_are_begun(void **state)
{
        struct world *w = *state;
        struct conn *c[8];
        struct frame f = make_frame(1000, false, false);
        unsigned most = 0, n_done = 0;
        bool done[8] = {false};

        /* An unknown field of 20,000 bytes makes it a large one. */
        f.msg = realloc(f.msg, f.n_msg + 20005);
        assert_non_null(f.msg);
        memset(f.msg + f.n_msg, 0, 20005);
        memcpy(f.msg + f.n_msg, "\xa2\x06\xa0\x9c\x01", 5);
        f.n_msg += 20005;
        slow_down(w);
        for (unsigned i = 0; i < 8; i++)
                c[i] = connect_as(w, UID, "", 0);
        while (n_done < 8) {
                for (unsigned i = 0; i < 8; i++) {
                        if (done[i])
                                continue;
                        done[i] = give(c[i], &f);
                        n_done += done[i];
                        if (w->server.dispatcher->n_unfinished > most)
                                most = w->server.dispatcher->n_unfinished;
                }
        }
        assert_int_equal(most, 4);
        for (unsigned i = 0; i < 8; i++) {
                struct reply r = take_reply(c[i]);
                assert_int_equal(r.m->status, STATUS_OK);
                reply_done(&r);
                fake_conn_free(c[i]);
        }
        frame_done(&f);
}

static void test_a_connection_that_ends_leaves_what_was_stored(void **state)
{
        struct world *w = *state;
        static const uint8_t id[16] = "fifteen letters";
        struct conn *c = come(w, id);
        uint64_t request = ++w->id;
        struct frame f = make_frame(request, false, true);

        slow_down(w);
        assert_false(give(c, &f));
        assert_int_equal(w->server.dispatcher->n_unfinished, 1);
        dispatch_handler.drop_frame(c);
        assert_int_equal(w->server.dispatcher->n_unfinished, 0);
        fake_conn_free(c);
        assert_int_equal(count_entries(w), 16);
        frame_done(&f);
        /* Nobody knows how much of it was carried out: it is not carried out again. */
        c = come(w, id);
        f = make_frame(request, true, true);
        assert_true(give(c, &f));
        assert_failure(take_reply(c), STATUS_OUTCOME_UNKNOWN, "does not remember");
        assert_int_equal(count_entries(w), 16);
        frame_done(&f);
        fake_conn_free(c);
}

static void test_the_client_that_comes_again_ends_it(void **state)
{
        struct world *w = *state;
        static const uint8_t id[16] = "sixteen letters";
        struct conn *a = come(w, id), *b;
        uint64_t request = ++w->id;
        struct frame f = make_frame(request, false, false);

        slow_down(w);
        assert_false(give(a, &f));
        b = come(w, id);
        assert_true(a->aborted);
        assert_int_equal(w->server.dispatcher->n_unfinished, 0);
        frame_done(&f);
        f = make_frame(request, true, false);
        assert_true(give(b, &f));
        assert_failure(take_reply(b), STATUS_OUTCOME_UNKNOWN, "does not remember");
        frame_done(&f);
        fake_conn_free(a);
        fake_conn_free(b);
}

static void test_a_repeated_one_runs_in_portions_too(void **state)
{
        struct world *w = *state;
        static const uint8_t id[16] = "fourteen letter";
        uint64_t request;
        struct conn *c = come(w, id);
        struct frame f;

        request = ++w->id; /* was never received */
        fake_conn_free(c);
        c = come(w, id);
        f = make_frame(request, true, false);
        slow_down(w);
        while (!give(c, &f))
                ;
        struct reply r = take_reply(c);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        assert_int_equal(count_entries(w), N_ITEMS);
        frame_done(&f);
        fake_conn_free(c);
}

static void test_a_body_without_room_waits(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", 0);
        struct frame f = make_frame(1000, false, false);
        struct body_sink sink = {0};

        w->server.is_full = true;
        for (int i = 0; i < 3; i++) {
                dispatch_handler.on_body(c, f.msg, f.n_msg, f.n_body, &sink);
                assert_true(sink.wait);
                assert_null(sink.dst);
                assert_int_equal(c->n_out, 0);
        }
        w->server.is_full = false;
        dispatch_handler.on_body(c, f.msg, f.n_msg, f.n_body, &sink);
        assert_false(sink.wait);
        assert_non_null(sink.dst);
        memcpy(sink.dst, f.body, f.n_body);
        assert_true(dispatch_handler.on_frame(c, f.msg, f.n_msg, sink.dst, f.n_body, sink.ctx));
        struct reply r = take_reply(c);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        frame_done(&f);
        fake_conn_free(c);
}

static void test_a_value_without_room_waits(void **state)
{
        struct world *w = *state;
        Cached__V1__Set set = set_of("c", "k");
        Cached__V1__Request m = REQUEST(SET, set, &set);
        struct body_sink sink = {0};
        uint8_t msg[64], body[10000] = "value";

        m.id = ++w->id;
        size_t n = cached__v1__request__pack(&m, msg);
        w->server.is_full = true;
        for (int i = 0; i < 3; i++) {
                dispatch_handler.on_body(w->c, msg, n, sizeof(body), &sink);
                assert_true(sink.wait);
                assert_null(sink.dst);
                assert_int_equal(w->c->n_out, 0);
        }
        w->server.is_full = false;
        fake_conn_frame(w->c, msg, n, body, sizeof(body), INLINE_MAX);
        struct reply r = take_reply(w->c);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        assert_int_equal(w->c->n_out, 0);
}

/* ---- large values */

#define N_LARGE ((size_t)1500000)

struct large_case {
        uint8_t msg[256], *body;
        size_t n_msg, n_body;
};

/* A small one, a large one, a small one, one that never fits. */
static void large_init(struct large_case *k, uint64_t id, bool fits)
{
        struct many many;
        const char *const keys[] = {"a", "b", "c", "d"};
        const uint64_t sizes[] = {10, N_LARGE, 10, fits ? 300000 : 9000000};

        many_init(&many, keys, sizes);
        Cached__V1__Request m = REQUEST(SET_MANY, set_many, &many.msg);
        m.id = id;
        k->n_msg = cached__v1__request__pack(&m, k->msg);
        k->n_body = (size_t)(sizes[0] + sizes[1] + sizes[2] + sizes[3]);
        k->body = malloc(k->n_body);
        assert_non_null(k->body);
        for (size_t i = 0; i < k->n_body; i++)
                k->body[i] = (uint8_t)(i * 7 + (i >> 9));
}

static uint64_t charged(struct world *w)
{
        struct store_stats stats;

        store_stats(w->server.dispatcher->clients->realm->store, &stats);
        return stats.charged + store_arriving(w->server.dispatcher->clients->realm->store);
}

static void test_a_large_item_is_copied_bit_by_bit(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", 0);
        struct large_case k;
        unsigned n_portions = 0;

        large_init(&k, 1000, false);
        w->server.cfg->limits.many_bytes = UINT64_MAX;
        slow_down(w);
        while (!dispatch_handler.on_frame(c, k.msg, k.n_msg, k.body, k.n_body, NULL))
                n_portions++;
        w->server.tick_ns = 0;
        assert_in_range(n_portions, N_LARGE / (256 * 1024), N_LARGE / (256 * 1024) + 3);
        struct reply r = take_reply(c);
        assert_int_equal(r.m->status, STATUS_OK);
        for (int i = 0; i < 3; i++)
                assert_int_equal(r.m->set_many->items[i]->status, STATUS_OK);
        assert_int_equal(r.m->set_many->items[3]->status, STATUS_TOO_LARGE);
        reply_done(&r);
        r = send_get(w, w->c, "c", "b");
        assert_int_equal(r.n_body, N_LARGE);
        assert_memory_equal(r.body, k.body + 10, N_LARGE);
        reply_done(&r);
        r = send_get(w, w->c, "c", "c");
        assert_int_equal(r.n_body, 10);
        assert_memory_equal(r.body, k.body + 10 + N_LARGE, 10);
        reply_done(&r);
        free(k.body);
        fake_conn_free(c);
}

static void test_a_large_item_that_is_given_up(void **state)
{
        struct world *w = *state;
        struct conn *c = connect_as(w, UID, "", 0);
        struct large_case k;
        uint64_t before;

        assert_int_equal(set_text(w, w->c, "c", "a", "0123456789"), STATUS_OK);
        before = charged(w);
        large_init(&k, 1000, true);
        slow_down(w);
        for (int i = 0; i < 3; i++)
                assert_false(dispatch_handler.on_frame(c, k.msg, k.n_msg, k.body, k.n_body, NULL));
        assert_true(charged(w) > before + 200000); /* the room is taken as it is filled */
        dispatch_handler.drop_frame(c);
        assert_int_equal(charged(w), before);
        w->server.tick_ns = 0;
        assert_value(w, "c", "b", NULL);
        free(k.body);
        fake_conn_free(c);
}

static void test_the_values_together_have_a_bound(void **state)
{
        struct world *w = *state;
        struct many many;
        const char *const keys[] = {"a", "b", "c", "d"};
        const uint64_t size = 40 * 1024;
        uint8_t *body = calloc(4, size);

        assert_non_null(body);
        w->server.cfg->limits.many_bytes = 3 * size;
        many_init(&many, keys, (uint64_t[]){size, size, size, size});
        Cached__V1__Request m = REQUEST(SET_MANY, set_many, &many.msg);
        assert_failure(call(w, w->c, &m, body, 4 * size), STATUS_LIMIT,
                       "limits.many_bytes, 122880");
        assert_value(w, "c", "a", NULL);
        many.msg.n_sets = many.msg.n_sizes = 3;
        m.id = 0;
        struct reply r = call(w, w->c, &m, body, 3 * size);
        assert_int_equal(r.m->status, STATUS_OK);
        reply_done(&r);
        free(body);
}

/* ---- Drain */

enum { N_MAPPED = 8 };

struct mapped {
        struct conn *c;
        struct client_page *page;
};

static void fill_rings(struct mapped *m)
{
        for (unsigned i = 0; i < N_MAPPED; i++)
                for (unsigned k = 0; k < PAGE_RINGS; k++)
                        m[i].page->ring[k].head += PAGE_RING_SLOTS;
}

static void come_mapped(struct world *w, struct mapped *ret)
{
        Cached__V1__Hello hello = CACHED__V1__HELLO__INIT;
        hello.protocol_min = hello.protocol_max = 1;
        hello.features = CACHED__V1__FEATURE__FEATURE_MAPPED;
        Cached__V1__Request m = REQUEST(HELLO, hello, &hello);
        ret->c = fake_conn_new(&w->server, UID);
        struct reply r = call(w, ret->c, &m, NULL, 0);
        assert_int_equal(r.m->status, STATUS_OK);
        assert_int_equal(ret->c->n_fds, N_MAPPING_PARTS);
        reply_done(&r);
        void *p = mmap(NULL, CLIENT_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                       ret->c->fds[MAPPING_PAGE], 0);
        assert_ptr_not_equal(p, MAP_FAILED);
        ret->page = p;
}

static bool give_drain(struct conn *c, uint64_t id)
{
        Cached__V1__Drain drain = CACHED__V1__DRAIN__INIT;
        Cached__V1__Request m = REQUEST(DRAIN, drain, &drain);
        uint8_t msg[64];

        m.id = id;
        return dispatch_handler.on_frame(c, msg, cached__v1__request__pack(&m, msg), NULL, 0, NULL);
}

/* Readers fill their rings whenever they were emptied: each Drain ends, and none takes a turn of
 * more than a portion. */
static void test_a_drain_that_is_never_done_ends(void **state)
{
        struct world *w = *state;
        struct mapped m[N_MAPPED];
        unsigned n_done = 0, rounds = 0;
        int epoch = memfd_create("epoch", MFD_CLOEXEC);

        assert_int_equal(fchmod(epoch, 0644), 0);
        dispatcher_offer_mapping(w->server.dispatcher, epoch);
        for (unsigned i = 0; i < N_MAPPED; i++)
                come_mapped(w, &m[i]);
        for (unsigned i = 0; i < 4; i++) {
                fill_rings(m);
                assert_false(give_drain(m[i].c, 1000));
        }
        fill_rings(m);
        assert_true(give_drain(m[4].c, 1000));
        struct reply r = take_reply(m[4].c);
        assert_int_equal(r.m->status, STATUS_LIMIT);
        reply_done(&r);
        for (; n_done < 4 && rounds < 100; rounds++) {
                fill_rings(m);
                n_done += give_drain(m[n_done].c, 1000);
        }
        assert_int_equal(n_done, 4);
        for (unsigned i = 0; i < N_MAPPED; i++) {
                munmap(m[i].page, CLIENT_PAGE_SIZE);
                if (i < 4) {
                        r = take_reply(m[i].c);
                        assert_int_equal(r.m->status, STATUS_OK);
                        reply_done(&r);
                }
                fake_conn_free(m[i].c);
        }
        dispatcher_offer_mapping(w->server.dispatcher, -1);
        close(epoch);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_portions_add_up),
                TEST(test_only_so_many_are_begun),
                TEST(test_a_connection_that_ends_leaves_what_was_stored),
                TEST(test_the_client_that_comes_again_ends_it),
                TEST(test_a_repeated_one_runs_in_portions_too),
                TEST(test_a_body_without_room_waits),
                TEST(test_a_value_without_room_waits),
                TEST(test_a_large_item_is_copied_bit_by_bit),
                TEST(test_a_large_item_that_is_given_up),
                TEST(test_the_values_together_have_a_bound),
                TEST(test_a_drain_that_is_never_done_ends),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
