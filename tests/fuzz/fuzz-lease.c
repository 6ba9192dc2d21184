/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: leases of several clients
 *
 * Each byte or two of the input is something that one of four clients does: ask for a lease, store
 * under one that it knows or makes up, give up, tell its progress, delete, clear, go away, lose its
 * process, stop reading and read again; or time passes. Whatever comes: each request has at most
 * one reply, which unpacks and belongs to a request that was sent; a lease is granted to one at a
 * time, unless it was lost; and when nobody may wait any more nobody does.
 */

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "tests/unit/fake-conn.h"

#define CONFIG                                                                                     \
        "[memory]\nrealm_budget = 256K\nglobal_budget = 512K\nlarge_threshold = 4K\n"              \
        "[limits]\nvalue_bytes = 64K\nmessage_bytes = 64K\nkeys_per_request = 64\n"                \
        "output_bytes = 64K\nupload_bytes_per_uid = 1M\ncaches_per_realm = 8\n"                    \
        "leases_per_uid = 6\nwaiters_per_uid = 20\n"
#define N_CLIENTS    4u
#define REQUESTS_MAX 1024u
#define STEPS_MAX    1000u

struct person {
        struct conn *c;
        struct peer_watch *watch;
        uint64_t last_id;
        bool waits[REQUESTS_MAX]; /* for a reply, by id */
};

struct scene {
        struct server server;
        struct person persons[N_CLIENTS];
        const uint8_t *at, *end;
        uint64_t leases[16]; /* that were granted lately */
        unsigned n_leases;
};

static uint8_t take(struct scene *s)
{
        return s->at < s->end ? *s->at++ : 0;
}

static void see_lease(struct scene *s, const Cached__V1__Lease *l)
{
        if (!l || l->state != CACHED__V1__LEASE_STATE__LEASE_GRANTED)
                return;
        assert(l->lease_id != 0);
        s->leases[s->n_leases++ % 16] = l->lease_id;
}

/* Takes what was sent to it. */
static void read_replies(struct scene *s, struct person *p)
{
        const uint8_t *out = p->c->out;
        size_t at = 0, n = p->c->n_out;
        while (at < n) {
                struct frame_header h = frame_header_read(out + at);
                at += FRAME_HEADER_SIZE;
                Cached__V1__Reply *m = cached__v1__reply__unpack(NULL, h.n_message, out + at);
                assert(m);
                at += h.n_message + (size_t)h.n_body;
                if (m->result_case == CACHED__V1__REPLY__RESULT_EVENT) {
                        assert(m->id == 0);
                } else if (m->id != 0) {
                        assert(m->id < REQUESTS_MAX && p->waits[m->id]);
                        p->waits[m->id] = false;
                        see_lease(s, m->lease);
                }
                cached__v1__reply__free_unpacked(m, NULL);
        }
        assert(at == n);
        p->c->n_out = 0;
}

static void read_all(struct scene *s)
{
        for (unsigned i = 0; i < N_CLIENTS; i++)
                if (s->persons[i].c && s->persons[i].c->queued_for_long == 0)
                        read_replies(s, &s->persons[i]);
}

static void send(struct person *p, Cached__V1__Request *m, const void *body, size_t n_body,
                 bool one_way)
{
        uint8_t msg[1024];
        m->id = ++p->last_id;
        size_t n = cached__v1__request__get_packed_size(m);
        assert(n <= sizeof(msg));
        cached__v1__request__pack(m, msg);
        p->waits[m->id] = !one_way;
        fake_conn_frame(p->c, msg, n, body, n_body, n_body % 3 ? UINT64_MAX : 0);
}

static void come(struct scene *s, struct person *p)
{
        Cached__V1__Request m = CACHED__V1__REQUEST__INIT;
        Cached__V1__Hello hello = CACHED__V1__HELLO__INIT;
        *p = (struct person){.c = fake_conn_new(&s->server, 1000)};
        p->c->ret_watch = &p->watch;
        hello.protocol_min = hello.protocol_max = 1;
        hello.features = CACHED__V1__FEATURE__FEATURE_EVENTS | CACHED__V1__FEATURE__FEATURE_LEASES;
        m.op_case = CACHED__V1__REQUEST__OP_HELLO;
        m.hello = &hello;
        send(p, &m, NULL, 0, false);
}

static void leave(struct scene *s, struct person *p)
{
        read_replies(s, p);
        fake_conn_free(p->c);
        *p = (struct person){0};
}

/* Only read, but protobuf-c's structs know no const. */
static char *text(const char *t)
{
        return (char *)t;
}

static const char *const keys[] = {"a", "b", "ab", "c"};
static const char *const tags[] = {"x", "y"};

static ProtobufCBinaryData key_of(uint8_t what)
{
        char *key = text(keys[what & 3]);
        return (ProtobufCBinaryData){.len = strlen(key), .data = (uint8_t *)key};
}

static uint64_t lease_of(struct scene *s, uint8_t what)
{
        return (what & 0xf0) == 0xf0 ? what : s->leases[what >> 4];
}

static void ask(struct scene *s, struct person *p)
{
        uint8_t what = take(s), how = take(s);
        Cached__V1__Request m = CACHED__V1__REQUEST__INIT;
        Cached__V1__Get get = CACHED__V1__GET__INIT;
        Cached__V1__LeaseAsk lease = CACHED__V1__LEASE_ASK__INIT;
        get.cache = text(what & 4 ? "t" : "u");
        get.key = key_of(what);
        get.as_file = what & 8;
        lease.owner = what >> 6;
        if (how & 1) {
                lease.patience_case = CACHED__V1__LEASE_ASK__PATIENCE_WAIT_MS;
                lease.wait_ms = how & 2 ? 100u * (how >> 6) : 0;
        }
        lease.hold_ms = how & 4 ? 50u * (how >> 6) : 0;
        lease.refresh = how & 8;
        lease.want_failure = how & 16;
        lease.want_progress = how & 32;
        get.lease = &lease;
        m.op_case = CACHED__V1__REQUEST__OP_GET;
        m.get = &get;
        send(p, &m, NULL, 0, false);
}

static void store(struct scene *s, struct person *p)
{
        static const uint8_t value[8192];
        uint8_t what = take(s), how = take(s);
        Cached__V1__Request m = CACHED__V1__REQUEST__INIT;
        Cached__V1__Set set = CACHED__V1__SET__INIT;
        char *tag = text(tags[how & 1]);
        set.cache = text(what & 4 ? "t" : "u");
        set.key = key_of(what);
        set.lease_id = what & 8 ? 0 : lease_of(s, what);
        set.share_only = how & 2;
        set.n_tags = how & 4 ? 1 : 0;
        set.tags = &tag;
        set.negative = how & 8;
        if (how & 16)
                set.mode = CACHED__V1__SET_MODE__SET_REPLACE_ONLY;
        m.op_case = CACHED__V1__REQUEST__OP_SET;
        m.set = &set;
        send(p, &m, value, how & 8 ? 0 : (size_t)(how >> 5) * 1100, false);
}

static void end(struct scene *s, struct person *p)
{
        uint8_t what = take(s);
        Cached__V1__Request m = CACHED__V1__REQUEST__INIT;
        Cached__V1__EndLease e = CACHED__V1__END_LEASE__INIT;
        e.lease_id = lease_of(s, what);
        e.reason = text(what & 1 ? "why" : "");
        e.one_way = what & 2;
        m.op_case = CACHED__V1__REQUEST__OP_END_LEASE;
        m.end_lease = &e;
        send(p, &m, NULL, 0, e.one_way);
}

static void progress(struct scene *s, struct person *p)
{
        uint8_t what = take(s);
        Cached__V1__Request m = CACHED__V1__REQUEST__INIT;
        Cached__V1__LeaseProgress e = CACHED__V1__LEASE_PROGRESS__INIT;
        e.lease_id = lease_of(s, what);
        e.permille = what * 5u;
        e.text = text(what & 1 ? "text" : "");
        e.one_way = what & 2;
        m.op_case = CACHED__V1__REQUEST__OP_LEASE_PROGRESS;
        m.lease_progress = &e;
        send(p, &m, NULL, 0, e.one_way);
}

static void change(struct scene *s, struct person *p)
{
        uint8_t what = take(s);
        Cached__V1__Request m = CACHED__V1__REQUEST__INIT;
        Cached__V1__Delete gone = CACHED__V1__DELETE__INIT;
        Cached__V1__Clear clear = CACHED__V1__CLEAR__INIT;
        Cached__V1__ListLeases list = CACHED__V1__LIST_LEASES__INIT;
        gone.cache = clear.cache = text(what & 4 ? "t" : "u");
        gone.key = clear.prefix = key_of(what);
        m.op_case = CACHED__V1__REQUEST__OP_CLEAR;
        m.clear = &clear;
        switch (what >> 5) {
        case 0:
                clear.cache = text("");
                clear.all = true;
                break;
        case 1:
                clear.which_case = CACHED__V1__CLEAR__WHICH_TAG;
                clear.tag = text(tags[what & 1]);
                break;
        case 2:
                clear.which_case = CACHED__V1__CLEAR__WHICH_PREFIX;
                break;
        case 3:
                break;
        case 4:
                list.page_size = what & 7;
                m.op_case = CACHED__V1__REQUEST__OP_LIST_LEASES;
                m.list_leases = &list;
                break;
        default:
                m.op_case = CACHED__V1__REQUEST__OP_DELETE;
                m.delete_ = &gone;
        }
        send(p, &m, NULL, 0, false);
}

static void maintain(struct scene *s)
{
        for (unsigned i = 0; i < 10; i++)
                if (!dispatcher_maintain(s->server.dispatcher, server_now_ms(&s->server), 64))
                        break;
}

/* What happens to a client. */
static void happen(struct scene *s, struct person *p, unsigned what)
{
        switch (what) {
        case 0:
                leave(s, p);
                break;
        case 1: /* its process ends, and somebody else has the socket; once */
                if (p->watch)
                        p->watch->on_end(p->watch->ctx);
                p->watch = NULL;
                break;
        case 2: /* it stops reading */
                p->c->queued_for_long = 1 << 20;
                break;
        default: /* and goes on */
                p->c->queued_for_long = 0;
                read_replies(s, p);
                if (p->c->await_drain) {
                        p->c->await_drain = false;
                        dispatch_handler.on_drained(p->c);
                }
        }
}

static void step(struct scene *s)
{
        static void (*const acts[])(struct scene * s, struct person * p) = {ask,    ask, ask,
                                                                            store,  end, progress,
                                                                            change, ask};
        uint8_t what = take(s);
        struct person *p = &s->persons[what & 3];
        if ((what >> 2 & 7) == 7 && (what & 0x80)) {
                s->server.now_ns += UINT64_C(1000000) * (what & 0x7f);
                maintain(s);
                return;
        }
        if (!p->c)
                come(s, p);
        if (p->last_id + 2 >= REQUESTS_MAX)
                leave(s, p);
        else if ((what & 0xe0) == 0xe0)
                happen(s, p, what >> 2 & 3);
        else
                acts[what >> 2 & 7](s, p);
}

/* Whoever reads is told; whoever does not waits for that, and not for a lease. */
static void nobody_waits(struct scene *s)
{
        dispatcher_part(s->server.dispatcher);
        for (unsigned i = 0; i < N_CLIENTS; i++)
                if (s->persons[i].c)
                        happen(s, &s->persons[i], 3);
        maintain(s);
        read_all(s);
        for (unsigned i = 0; i < N_CLIENTS; i++)
                for (unsigned id = 0; s->persons[i].c && id < REQUESTS_MAX; id++)
                        assert(!s->persons[i].waits[id]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct scene s = {.server.now_ns = UINT64_C(1000000000000), .at = data, .end = data + n};
        char err[CONFIG_ERR_MAX];
        if (config_parse("fuzz", CONFIG, strlen(CONFIG), &s.server.cfg, err, sizeof(err)) < 0)
                abort();
        if (dispatcher_new(&s.server, s.server.cfg, &s.server.dispatcher) < 0)
                abort();
        for (unsigned i = 0; i < STEPS_MAX && s.at < s.end; i++) {
                step(&s);
                read_all(&s);
        }
        maintain(&s);
        nobody_waits(&s);
        for (unsigned i = 0; i < N_CLIENTS; i++)
                if (s.persons[i].c)
                        leave(&s, &s.persons[i]);
        dispatcher_free(s.server.dispatcher);
        config_free(s.server.cfg);
        return 0;
}
