/* SPDX-License-Identifier: MIT */
/*
 * Subscriptions: what is asked for, events of all kinds and what they say, waiting and not waiting,
 * a descriptor for loops, and daemons that end, refuse, are too old, say nonsense, or do not
 * answer.
 *
 * The daemon here plays, on each connection, the script that the test has for it. Every case ends
 * with as many open descriptors as it began with.
 */

#include "client-harness.h"

#include <sys/wait.h>

#define FEATURES (CACHED__V1__FEATURE__FEATURE_EVENTS | CACHED__V1__FEATURE__FEATURE_LEASES)

/* What a connection is given after its Hello. */
enum act {
        ACT_END,
        ACT_MUTE,   /* Subscribe is not answered */
        ACT_REFUSE, /* with DENIED */
        ACT_OK,
        ACT_BOTH,   /* the same, and one entry, at once */
        ACT_EVENTS, /* one of each kind */
        ACT_RESOURCES,
        ACT_DELETED,  /* one entry */
        ACT_NONSENSE, /* an answer to nothing */
        ACT_FAREWELL,
        ACT_WAIT, /* until the client closes */
};

struct play {
        enum act act[4][6]; /* of each connection */
        atomic_int n_asked;
        pthread_mutex_t lock;
        char cache[32];
        size_t n_kinds;
        int kinds[16];
};

/* ---------------------------------------------------------------------------------- the daemon */

static bool send_event(struct fake *d, int fd, const Cached__V1__Event *e)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;

        m.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        m.event = (Cached__V1__Event *)(uintptr_t)e;
        return fake_reply(d, fd, &m, NULL, 0);
}

static bool send_entry(struct fake *d, int fd, int kind)
{
        Cached__V1__Event e = CACHED__V1__EVENT__INIT;
        Cached__V1__EntryEvent entry = CACHED__V1__ENTRY_EVENT__INIT;

        entry.kind = (Cached__V1__EventKind)kind;
        entry.cache = (char *)(uintptr_t) "x";
        entry.key = (ProtobufCBinaryData){2, (uint8_t *)"k\0"};
        entry.age_ms = 12;
        if (kind == CACHED__V1__EVENT_KIND__EVENT_STORED) {
                entry.version = 71;
                entry.size = 1000;
        }
        if (kind == CACHED__V1__EVENT_KIND__EVENT_EVICTED)
                entry.cause = CACHED__V1__FATE__FATE_EVICTED_MAX_BYTES;
        e.kind_case = CACHED__V1__EVENT__KIND_ENTRY;
        e.entry = &entry;
        return send_event(d, fd, &e);
}

static bool send_clears(struct fake *d, int fd)
{
        Cached__V1__Event e = CACHED__V1__EVENT__INIT;
        Cached__V1__ClearEvent c = CACHED__V1__CLEAR_EVENT__INIT;
        bool ok;

        e.kind_case = CACHED__V1__EVENT__KIND_CLEARED;
        e.cleared = &c;
        c.entries = 5;
        ok = send_event(d, fd, &e); /* of all caches */
        c.cache = (char *)(uintptr_t) "x";
        c.which_case = CACHED__V1__CLEAR_EVENT__WHICH_TAG;
        c.tag = (char *)(uintptr_t) "t";
        ok = ok && send_event(d, fd, &e);
        c.which_case = CACHED__V1__CLEAR_EVENT__WHICH_PREFIX;
        c.prefix = (ProtobufCBinaryData){3, (uint8_t *)"pre"};
        return ok && send_event(d, fd, &e);
}

static bool send_rest(struct fake *d, int fd)
{
        Cached__V1__Event e = CACHED__V1__EVENT__INIT;
        Cached__V1__CacheInfo info = CACHED__V1__CACHE_INFO__INIT;
        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        Cached__V1__LostEvents lost = CACHED__V1__LOST_EVENTS__INIT;
        Cached__V1__RefreshEvent refresh = CACHED__V1__REFRESH_EVENT__INIT;
        bool ok;

        info.name = (char *)(uintptr_t) "p";
        info.policy = &policy;
        policy.stale_for_ms = 99;
        e.kind_case = CACHED__V1__EVENT__KIND_POLICY_CHANGED;
        e.policy_changed = &info;
        ok = send_event(d, fd, &e);
        lost.events = 17;
        e.kind_case = CACHED__V1__EVENT__KIND_LOST;
        e.lost = &lost;
        ok = ok && send_event(d, fd, &e);
        refresh.cache = (char *)(uintptr_t) "r";
        refresh.schedule = (char *)(uintptr_t) "nightly";
        e.kind_case = CACHED__V1__EVENT__KIND_REFRESH;
        e.refresh = &refresh;
        return ok && send_event(d, fd, &e);
}

static bool send_resource(struct fake *d, int fd, int kind)
{
        Cached__V1__Event e = CACHED__V1__EVENT__INIT;
        Cached__V1__InstanceEvent m = CACHED__V1__INSTANCE_EVENT__INIT;

        m.kind = (Cached__V1__EventKind)kind;
        m.cache = (char *)(uintptr_t) "res";
        m.key = (ProtobufCBinaryData){2, (uint8_t *)"k\0"};
        m.instance = 4711;
        m.resource = CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT;
        m.age_ms = 13;
        if (kind == CACHED__V1__EVENT_KIND__EVENT_RESOURCE_LEFT) {
                m.cause = CACHED__V1__RESOURCE_CAUSE__RESOURCE_INVALID;
                m.reason = (char *)(uintptr_t) "stale";
                m.holders = 3;
        }
        e.kind_case = CACHED__V1__EVENT__KIND_INSTANCE;
        e.instance = &m;
        return send_event(d, fd, &e);
}

/* One of each, among them kinds that this library does not know. */
static bool send_all(struct fake *d, int fd)
{
        const Cached__V1__Event none = CACHED__V1__EVENT__INIT;

        return send_event(d, fd, &none) && send_entry(d, fd, 1) && send_entry(d, fd, 2) &&
               send_entry(d, fd, 99) && send_entry(d, fd, 4) && send_entry(d, fd, 5) &&
               send_clears(d, fd) && send_rest(d, fd);
}

static void note_subscribe(struct play *p, const Cached__V1__Subscribe *m)
{
        pthread_mutex_lock(&p->lock);
        (void)snprintf(p->cache, sizeof(p->cache), "%s", m->cache);
        p->n_kinds = m->n_kinds;
        for (size_t i = 0; i < m->n_kinds && i < 16; i++)
                p->kinds[i] = (int)m->kinds[i];
        pthread_mutex_unlock(&p->lock);
        atomic_fetch_add(&p->n_asked, 1);
}

static bool send_both(struct fake *d, int fd, uint64_t id)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__Event e = CACHED__V1__EVENT__INIT;
        Cached__V1__EntryEvent entry = CACHED__V1__ENTRY_EVENT__INIT;
        uint8_t *answer, *event, both[256];
        size_t n_answer, n_event;

        m.id = id;
        answer = fake_frame(&m, NULL, 0, &n_answer);
        entry.kind = CACHED__V1__EVENT_KIND__EVENT_DELETED;
        e.kind_case = CACHED__V1__EVENT__KIND_ENTRY;
        e.entry = &entry;
        m.id = 0;
        m.result_case = CACHED__V1__REPLY__RESULT_EVENT;
        m.event = &e;
        event = fake_frame(&m, NULL, 0, &n_event);
        assert(n_answer + n_event <= sizeof(both));
        memcpy(both, answer, n_answer);
        memcpy(both + n_answer, event, n_event);
        free(answer);
        free(event);
        return fake_write(d, fd, both, n_answer + n_event);
}

static bool act(struct fake *d, int fd, enum act what, uint64_t id)
{
        switch (what) {
        case ACT_REFUSE:
                return fake_reply_status(d, fd, id, CACHED_DENIED, "not for you");
        case ACT_OK:
                return fake_reply_status(d, fd, id, CACHED_OK, "");
        case ACT_BOTH:
                return send_both(d, fd, id);
        case ACT_EVENTS:
                return send_all(d, fd);
        case ACT_RESOURCES:
                return send_resource(d, fd, CACHED__V1__EVENT_KIND__EVENT_RESOURCE_CREATED) &&
                       send_resource(d, fd, 99) &&
                       send_resource(d, fd, CACHED__V1__EVENT_KIND__EVENT_STORED) &&
                       send_resource(d, fd, CACHED__V1__EVENT_KIND__EVENT_RESOURCE_LEFT);
        case ACT_DELETED:
                return send_entry(d, fd, CACHED__V1__EVENT_KIND__EVENT_DELETED);
        case ACT_NONSENSE:
                return fake_reply_status(d, fd, 4711, CACHED_OK, "");
        case ACT_FAREWELL:
                return fake_reply_status(d, fd, 0, CACHED_SHUTTING_DOWN, "bye");
        case ACT_MUTE:
        case ACT_WAIT:
                (void)fake_readable(d, fd);
                return false;
        default:
                return false;
        }
}

static void serve_play(struct fake *d, int fd, int nth)
{
        struct play *p = d->data;
        struct fake_request r;
        uint64_t id;

        if (!fake_hello(d, fd) || !fake_read_request(d, fd, &r))
                return;
        assert(r.m->op_case == CACHED__V1__REQUEST__OP_SUBSCRIBE);
        note_subscribe(p, r.m->subscribe);
        id = r.m->id;
        fake_request_done(&r);
        nth = nth < 3 ? nth : 3;
        for (int i = 0; i < 6 && act(d, fd, p->act[nth][i], id); i++)
                ;
}

struct scene {
        cached *c;
        struct play p;
        struct fake d;
};

static void scene_begin(struct scene *s, uint64_t features, uint32_t timeout_ms)
{
        assert(pthread_mutex_init(&s->p.lock, NULL) == 0);
        fake_listen(&s->d, 64);
        s->d.features = features;
        s->d.serve = serve_play;
        s->d.data = &s->p;
        assert(pthread_create(&s->d.thread, NULL, fake_run, &s->d) == 0);
        s->c = client_new(s->d.path, timeout_ms);
}

static void scene_end(struct scene *s, cached_events *e)
{
        cached_events_free(e);
        cached_free(s->c);
        fake_unlisten(&s->d);
        pthread_mutex_destroy(&s->p.lock);
}

static cached_events *subscribe(struct scene *s, const char *cache, uint32_t kinds)
{
        cached_events *e = NULL;
        cached_reply *r;
        int code = cached_subscribe(s->c, cache, kinds, &e, &r);

        if (code != CACHED_OK)
                print_error("%s\n", cached_reply_error(r));
        assert_int_equal(code, CACHED_OK);
        assert_null(r);
        return e;
}

static const cached_event *next(cached_events *e, uint32_t kind)
{
        const cached_event *v = NULL;

        assert_int_equal(cached_events_next(e, PATIENCE_MS, &v), CACHED_OK);
        assert_int_equal(cached_event_kind(v), kind);
        return v;
}

/* --------------------------------------------------------------------------------------- events */

static void check_entries(cached_events *e)
{
        const cached_event *v = next(e, CACHED_EVENT_STORED);
        size_t n = 0;

        assert_string_equal(cached_event_cache(v), "x");
        assert_memory_equal(cached_event_key(v, &n), "k\0", 2);
        assert_int_equal(n, 2);
        assert_int_equal(cached_event_version(v), 71);
        assert_int_equal(cached_event_size(v), 1000);
        assert_int_equal(cached_event_age_ms(v), 12);
        assert_string_equal(cached_event_cause(v), "");
        assert_null(cached_event_tag(v));
        assert_null(cached_event_prefix(v, &n));
        v = next(e, CACHED_EVENT_DELETED);
        assert_int_equal(cached_event_version(v), 0);
        (void)next(e, CACHED_EVENT_EXPIRED);
        v = next(e, CACHED_EVENT_EVICTED);
        assert_string_equal(cached_event_cause(v), "FATE_EVICTED_MAX_BYTES");
}

static void check_clears(cached_events *e)
{
        const cached_event *v = next(e, CACHED_EVENT_CLEARED);
        size_t n = 0;

        assert_string_equal(cached_event_cache(v), "");
        assert_int_equal(cached_event_entries(v), 5);
        assert_null(cached_event_key(v, &n));
        v = next(e, CACHED_EVENT_CLEARED);
        assert_string_equal(cached_event_cache(v), "x");
        assert_string_equal(cached_event_tag(v), "t");
        v = next(e, CACHED_EVENT_CLEARED);
        assert_null(cached_event_tag(v));
        assert_memory_equal(cached_event_prefix(v, &n), "pre", 3);
        assert_int_equal(n, 3);
}

static void test_a_kinds(void **state)
{
        struct scene s = {.p.act = {{ACT_OK, ACT_EVENTS, ACT_WAIT}}};
        const cached_event *v;
        cached_events *e;
        uint64_t n;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        e = subscribe(&s, NULL, CACHED_EVENT_ALL);
        check_entries(e);
        check_clears(e);
        v = next(e, CACHED_EVENT_POLICY);
        assert_string_equal(cached_event_cache(v), "p");
        assert_int_equal(cached_reply_u64(cached_event_reply(v),
                                          "policy_changed.policy.stale_for_ms", &n),
                         CACHED_OK);
        assert_int_equal(n, 99);
        v = next(e, CACHED_EVENT_LOST);
        assert_int_equal(cached_event_lost(v), 17);
        v = next(e, CACHED_EVENT_REFRESH);
        assert_string_equal(cached_event_cache(v), "r");
        assert_string_equal(cached_event_schedule(v), "nightly");
        assert_int_equal(cached_events_next(e, 0, &v), CACHED_ERR_AGAIN);
        assert_int_equal(cached_events_next(e, 20, &v), CACHED_ERR_AGAIN);
        assert_string_equal(cached_events_error(e), "");
        assert_string_equal(s.p.cache, "");
        assert_int_equal(s.p.n_kinds, 7);
        for (int i = 0; i < 7; i++)
                assert_int_equal(s.p.kinds[i], i + 1);
        scene_end(&s, e);
}

static const cached_event *check_resource(cached_events *e, uint32_t kind, int cause)
{
        const cached_event *v = next(e, kind);
        size_t n = 0;

        assert_string_equal(cached_event_cache(v), "res");
        assert_memory_equal(cached_event_key(v, &n), "k\0", 2);
        assert_int_equal(n, 2);
        assert_int_equal(cached_event_instance(v), 4711);
        assert_int_equal(cached_event_age_ms(v), 13);
        assert_int_equal(cached_event_resource_cause(v), cause);
        assert_string_equal(cached_event_cause(v), "");
        assert_int_equal(cached_event_version(v), 0);
        assert_int_equal(cached_session_event(v), 0);
        return v;
}

/* Asked for beside everything else; a program from before that asks for
 * CACHED_EVENT_ALL gets what it got then: test_a_kinds. */
static void test_a_resources(void **state)
{
        const uint64_t features = FEATURES | CACHED__V1__FEATURE__FEATURE_RESOURCES;
        struct scene s = {.p.act = {{ACT_OK, ACT_RESOURCES, ACT_WAIT}}};
        const cached_event *v;
        const char *reason;
        cached_events *e;
        uint64_t n;

        assert_int_equal(CACHED_EVENT_ALL & CACHED_EVENT_RESOURCES, 0);
        scene_begin(&s, features, PATIENCE_MS);
        e = subscribe(&s, NULL, CACHED_EVENT_DELETED | CACHED_EVENT_RESOURCES);
        (void)check_resource(e, CACHED_EVENT_RESOURCE_CREATED, 0);
        v = check_resource(e, CACHED_EVENT_RESOURCE_LEFT, CACHED_RESOURCE_INVALIDATED);
        assert_int_equal(cached_reply_text(cached_event_reply(v), "instance.reason", &reason),
                         CACHED_OK);
        assert_string_equal(reason, "stale");
        assert_int_equal(cached_reply_u64(cached_event_reply(v), "instance.holders", &n),
                         CACHED_OK);
        assert_int_equal(n, 3);
        assert_int_equal(s.p.n_kinds, 3);
        assert_int_equal(s.p.kinds[0], CACHED__V1__EVENT_KIND__EVENT_DELETED);
        assert_int_equal(s.p.kinds[1], CACHED__V1__EVENT_KIND__EVENT_RESOURCE_CREATED);
        assert_int_equal(s.p.kinds[2], CACHED__V1__EVENT_KIND__EVENT_RESOURCE_LEFT);
        scene_end(&s, e);
}

static void test_a_resources_of_an_older_daemon(void **state)
{
        struct scene s = {.p.act = {{ACT_OK, ACT_WAIT}}};
        cached_events *e = NULL;
        cached_reply *r;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        assert_int_equal(cached_subscribe(s.c, NULL, CACHED_EVENT_RESOURCE_LEFT, &e, &r),
                         CACHED_UNSUPPORTED);
        assert_string_equal(cached_reply_error(r),
                            "the daemon is too old for resources: update it");
        cached_reply_free(r);
        assert_int_equal(s.p.n_kinds, 0);
        scene_end(&s, e);
}

static void test_a_some(void **state)
{
        struct scene s = {.p.act = {{ACT_OK, ACT_WAIT}}};
        cached_events *e;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        e = subscribe(&s, "thumbs", CACHED_EVENT_CLEARED | CACHED_EVENT_REFRESH);
        assert_string_equal(s.p.cache, "thumbs");
        assert_int_equal(s.p.n_kinds, 2);
        assert_int_equal(s.p.kinds[0], CACHED__V1__EVENT_KIND__EVENT_CLEARED);
        assert_int_equal(s.p.kinds[1], CACHED__V1__EVENT_KIND__EVENT_REFRESH);
        scene_end(&s, e);
}

static void test_a_usage(void **state)
{
        struct scene s = {.p.act = {{ACT_OK, ACT_WAIT}}};
        const cached_event *v = NULL;
        cached_events *e = NULL;
        cached_reply *r;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        assert_int_equal(cached_subscribe(s.c, NULL, 0, &e, &r), CACHED_ERR_USAGE);
        assert_true(strlen(cached_reply_error(r)) > 0);
        cached_reply_free(r);
        assert_int_equal(cached_subscribe(s.c, NULL, CACHED_EVENT_LOST, &e, NULL),
                         CACHED_ERR_USAGE);
        assert_int_equal(cached_subscribe(NULL, NULL, 1, &e, NULL), CACHED_ERR_USAGE);
        assert_int_equal(cached_subscribe(s.c, NULL, 1, NULL, NULL), CACHED_ERR_USAGE);
        assert_null(e);
        assert_int_equal(cached_events_next(NULL, 0, &v), CACHED_ERR_USAGE);
        assert_int_equal(cached_events_fd(NULL), -1);
        assert_string_equal(cached_events_error(NULL), "");
        assert_int_equal(cached_event_kind(NULL), 0);
        assert_string_equal(cached_event_cache(NULL), "");
        assert_string_equal(cached_event_cause(NULL), "");
        assert_string_equal(cached_event_schedule(NULL), "");
        assert_null(cached_event_key(NULL, NULL));
        assert_null(cached_event_reply(NULL));
        cached_events_free(NULL);
        scene_end(&s, NULL);
}

/* A loop waits on one descriptor, and takes what there is until there is no more. */
static void test_b_loop(void **state)
{
        struct scene s = {.p.act = {{ACT_OK, ACT_EVENTS}, {ACT_OK, ACT_DELETED, ACT_WAIT}}};
        const cached_event *v = NULL;
        cached_events *e;
        unsigned n = 0, n_unknown = 0;
        bool last = false;
        struct pollfd p;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        e = subscribe(&s, NULL, CACHED_EVENT_ALL);
        p = (struct pollfd){.fd = cached_events_fd(e), .events = POLLIN};
        while (!last) {
                assert_int_equal(poll(&p, 1, PATIENCE_MS), 1);
                while (cached_events_next(e, 0, &v) == CACHED_OK) {
                        n++;
                        n_unknown += cached_event_lost(v) == UINT64_MAX;
                        last = n_unknown && cached_event_kind(v) == CACHED_EVENT_DELETED;
                }
                assert_int_equal(cached_events_fd(e), p.fd);
        }
        assert_int_equal(n, 10 + 2);
        assert_int_equal(n_unknown, 1);
        scene_end(&s, e);
}

/* What came with the answer is taken already: the descriptor tells of it all the same, and not
 * for ever. */
static void test_b_with_the_answer(void **state)
{
        struct scene s = {.p.act = {{ACT_BOTH, ACT_WAIT}}};
        const cached_event *v = NULL;
        cached_events *e;
        struct pollfd p;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        e = subscribe(&s, NULL, CACHED_EVENT_ALL);
        p = (struct pollfd){.fd = cached_events_fd(e), .events = POLLIN};
        assert_int_equal(poll(&p, 1, PATIENCE_MS / 2), 1);
        assert_int_equal(cached_events_next(e, 0, &v), CACHED_OK);
        assert_int_equal(cached_event_kind(v), CACHED_EVENT_DELETED);
        assert_int_equal(cached_events_next(e, 0, &v), CACHED_ERR_AGAIN);
        assert_int_equal(poll(&p, 1, 0), 0);
        scene_end(&s, e);
}

/* --------------------------------------------------------------------------------------- breaks */

/* However the connection ends: the gap is told first, and once. */
static void check_reconnect(enum act last)
{
        struct scene s = {
                .p.act = {{ACT_OK, ACT_DELETED, last}, {ACT_END}, {ACT_OK, ACT_DELETED, ACT_WAIT}}};
        const cached_event *v;
        cached_events *e;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        e = subscribe(&s, "x", CACHED_EVENT_DELETED);
        v = next(e, CACHED_EVENT_DELETED);
        v = next(e, CACHED_EVENT_LOST);
        assert_true(cached_event_lost(v) == UINT64_MAX);
        assert_null(cached_event_reply(v));
        assert_string_equal(cached_event_cache(v), "");
        v = next(e, CACHED_EVENT_DELETED);
        assert_int_equal(cached_events_next(e, 0, &v), CACHED_ERR_AGAIN);
        assert_int_equal(atomic_load(&s.p.n_asked), 3);
        assert_string_equal(s.p.cache, "x");
        scene_end(&s, e);
}

static void test_c_ended(void **state)
{
        check_reconnect(ACT_END);
}

static void test_c_farewell(void **state)
{
        check_reconnect(ACT_FAREWELL);
}

static void test_c_nonsense(void **state)
{
        check_reconnect(ACT_NONSENSE);
}

/* Where none was told of yet, there is no gap. */
static void test_c_refused(void **state)
{
        struct scene s = {.p.act = {{ACT_REFUSE}, {ACT_OK, ACT_END}, {ACT_REFUSE}, {ACT_OK}}};
        const cached_event *v = NULL;
        cached_events *e = NULL;
        cached_reply *r;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        assert_int_equal(cached_subscribe(s.c, NULL, 1, &e, &r), CACHED_DENIED);
        assert_string_equal(cached_reply_error(r), "not for you");
        cached_reply_free(r);
        assert_null(e);
        e = subscribe(&s, NULL, 1);
        /* The next daemon refuses: that is for people to look at, and the one after does not. */
        assert_int_equal(cached_events_next(e, PATIENCE_MS, &v), CACHED_DENIED);
        assert_string_equal(cached_events_error(e), "not for you");
        assert_null(v);
        (void)next(e, CACHED_EVENT_LOST);
        assert_string_equal(cached_events_error(e), "");
        scene_end(&s, e);
}

static void test_c_older_daemon(void **state)
{
        struct scene s = {.p.act = {{ACT_OK}}};
        cached_events *e = NULL;
        cached_reply *r;

        scene_begin(&s, CACHED__V1__FEATURE__FEATURE_EVENTS, PATIENCE_MS);
        assert_int_equal(cached_subscribe(s.c, NULL, 1, &e, &r), CACHED_UNSUPPORTED);
        assert_non_null(strstr(cached_reply_error(r), "too old"));
        cached_reply_free(r);
        assert_int_equal(atomic_load(&s.p.n_asked), 0);
        scene_end(&s, NULL);
}

static void test_c_silent(void **state)
{
        struct scene s = {.p.act = {{ACT_MUTE}}};
        uint64_t start = now_ms();
        cached_events *e = NULL;

        scene_begin(&s, FEATURES, 50);
        assert_int_equal(cached_subscribe(s.c, NULL, 1, &e, NULL), CACHED_ERR_TIMEOUT);
        assert_true(now_ms() - start >= 45);
        scene_end(&s, NULL);
}

/* A daemon that is gone is waited for, and the wait is bounded. */
static void test_c_gone(void **state)
{
        struct scene s = {.p.act = {{ACT_OK, ACT_END}, {ACT_OK, ACT_END}}};
        const cached_event *v = NULL;
        cached_events *e;
        uint64_t start;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        e = subscribe(&s, NULL, 1);
        fake_unlisten(&s.d);
        s.d.serve = NULL;
        start = now_ms();
        assert_int_equal(cached_events_next(e, 60, &v), CACHED_ERR_AGAIN);
        assert_true(now_ms() - start >= 55);
        assert_true(strlen(cached_events_error(e)) > 0);
        cached_close(s.c);
        assert_int_equal(cached_events_next(e, PATIENCE_MS, &v), CACHED_ERR_CLOSED);
        cached_events_free(e);
        cached_free(s.c);
        pthread_mutex_destroy(&s.p.lock);
}

static void test_d_fork(void **state)
{
        struct scene s = {.p.act = {{ACT_OK, ACT_DELETED, ACT_WAIT}}};
        const cached_event *v = NULL;
        cached_events *e;
        int status;
        pid_t pid;

        scene_begin(&s, FEATURES, PATIENCE_MS);
        e = subscribe(&s, NULL, 1);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                bool ok = cached_events_next(e, 0, &v) == CACHED_ERR_USAGE;

                cached_events_free(e);
                _exit(ok ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        (void)next(e, CACHED_EVENT_DELETED);
        scene_end(&s, e);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_a_kinds, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_resources, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_resources_of_an_older_daemon, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_a_some, setup, teardown),
                cmocka_unit_test_setup_teardown(test_a_usage, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_loop, setup, teardown),
                cmocka_unit_test_setup_teardown(test_b_with_the_answer, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_ended, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_farewell, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_nonsense, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_refused, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_older_daemon, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_silent, setup, teardown),
                cmocka_unit_test_setup_teardown(test_c_gone, setup, teardown),
                cmocka_unit_test_setup_teardown(test_d_fork, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
