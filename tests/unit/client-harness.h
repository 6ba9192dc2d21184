/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_HARNESS_H
#define CLIENT_HARNESS_H

/*
 * What the tests of libcached share: the descriptor check, handles, and a fake daemon that behaves.
 * Included by a test's one source file.
 */

#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>

#include <cached.h>
#include <cmocka.h>
#include <dirent.h>
#include <fcntl.h>

#include "client/deadline.h"
#include "fake-daemon.h"

static inline int count_fds(void)
{
        DIR *dir = opendir("/proc/self/fd");
        int n = 0;

        assert_non_null(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

static int fds_before;

static inline int setup(void **state)
{
        fds_before = count_fds();
        return 0;
}

static inline int teardown(void **state)
{
        int n = count_fds();

        if (n != fds_before)
                print_error("%d descriptors before, %d after\n", fds_before, n);
        return n == fds_before ? 0 : -1;
}

static inline cached *client_new(const char *path, uint32_t timeout_ms)
{
        cached_options *o = cached_options_new();
        cached *c;

        assert_int_equal(cached_options_set_socket(o, path), CACHED_OK);
        assert_int_equal(cached_options_set_timeout_ms(o, timeout_ms), CACHED_OK);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        cached_options_free(o);
        return c;
}

static inline cached *client_of_size(const char *path, uint32_t timeout_ms, uint32_t n_connections)
{
        cached_options *o = cached_options_new();
        cached *c;

        assert_int_equal(cached_options_set_socket(o, path), CACHED_OK);
        assert_int_equal(cached_options_set_timeout_ms(o, timeout_ms), CACHED_OK);
        assert_int_equal(cached_options_set_max_connections(o, n_connections), CACHED_OK);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        cached_options_free(o);
        return c;
}

static inline uint64_t now_ms(void)
{
        return deadline_now_ns() / 1000000u;
}

/* Generous, so that only a hang is one: the tests of deadlines set their own. */
#define PATIENCE_MS 20000

/*
 * AddressSanitizer's allocator does not survive a fork while another thread is inside it: the child
 * hangs there. Tests that fork among threads at any moment leave it out.
 */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#endif
#ifndef HAS_ASAN
#define HAS_ASAN 0
#endif

/* ------------------------------------------------------------------------ a daemon that behaves */

/*
 * Answers everything. Keys decide about a Get: "miss" is one, "empty" is a value of 0 bytes, "big"
 * one of BIG bytes, every other key has itself as its value.
 */
#define BIG (3u << 20)

struct good {
        atomic_uint n_by_id, n_by_name, n_opens;
        atomic_uint n_sets, n_peeks;
        size_t n_last_body;
        uint64_t body_sum;
};

static inline void good_count_name(struct good *g, uint32_t id, const char *name)
{
        if (!g)
                return;
        assert((id == 0) == (*name != '\0'));
        atomic_fetch_add(id ? &g->n_by_id : &g->n_by_name, 1);
}

static inline bool good_get(struct fake *d, int fd, uint64_t id, const Cached__V1__Get *m)
{
        static const uint8_t zeros[BIG];

        good_count_name(d->data, m->cache_id, m->cache);
        if (d->data && m->no_touch)
                atomic_fetch_add(&((struct good *)d->data)->n_peeks, 1);
        if (m->key.len == 4 && !memcmp(m->key.data, "miss", 4))
                return fake_reply_status(d, fd, id, CACHED_NOT_FOUND, "");
        if (m->key.len == 5 && !memcmp(m->key.data, "empty", 5))
                return fake_reply_entry(d, fd, id, 1, NULL, 0);
        if (m->key.len == 3 && !memcmp(m->key.data, "big", 3))
                return fake_reply_entry(d, fd, id, 1, zeros, BIG);
        return fake_reply_entry(d, fd, id, 1, m->key.data, m->key.len);
}

static inline bool good_get_many(struct fake *d, int fd, uint64_t id, const Cached__V1__GetMany *m)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__GetManyResult result = CACHED__V1__GET_MANY_RESULT__INIT;
        Cached__V1__GetManyItem *item = calloc(m->n_keys + 1, sizeof(*item));
        Cached__V1__GetManyItem **items = calloc(m->n_keys + 1, sizeof(*items));
        Cached__V1__EntryInfo *entry = calloc(m->n_keys + 1, sizeof(*entry));
        uint8_t *body = malloc(m->n_keys * 64 + 1);
        size_t n_body = 0;
        bool ok;

        assert(item && items && entry && body);
        for (size_t i = 0; i < m->n_keys; i++) {
                items[i] = &item[i];
                cached__v1__get_many_item__init(&item[i]);
                if (m->keys[i].len == 4 && !memcmp(m->keys[i].data, "miss", 4)) {
                        item[i].status = CACHED__V1__STATUS__NOT_FOUND;
                        continue;
                }
                cached__v1__entry_info__init(&entry[i]);
                entry[i].version = i + 1;
                entry[i].size = m->keys[i].len;
                item[i].entry = &entry[i];
                memcpy(body + n_body, m->keys[i].data, m->keys[i].len);
                n_body += m->keys[i].len;
        }
        result.n_items = m->n_keys;
        result.items = items;
        reply.id = id;
        reply.result_case = CACHED__V1__REPLY__RESULT_GET_MANY;
        reply.get_many = &result;
        ok = fake_reply(d, fd, &reply, body, n_body);
        free(item);
        free(items);
        free(entry);
        free(body);
        return ok;
}

static inline bool good_set_many(struct fake *d, int fd, const struct fake_request *r)
{
        const Cached__V1__SetMany *m = r->m->set_many;
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__SetManyResult result = CACHED__V1__SET_MANY_RESULT__INIT;
        Cached__V1__SetManyItem *item = calloc(m->n_sets + 1, sizeof(*item));
        Cached__V1__SetManyItem **items = calloc(m->n_sets + 1, sizeof(*items));
        const uint8_t *p = r->body;
        bool ok;

        assert(item && items && m->n_sets == m->n_sizes);
        for (size_t i = 0; i < m->n_sets; i++) {
                items[i] = &item[i];
                cached__v1__set_many_item__init(&item[i]);
                item[i].version = i + 1;
                /* A value that is not all the first letter of its key came to the wrong key. */
                for (uint64_t k = 0; k < m->sizes[i]; k++)
                        if (*p++ != m->sets[i]->key.data[0])
                                item[i].status = CACHED__V1__STATUS__INTERNAL;
        }
        assert(p == r->body + r->n_body);
        result.n_items = m->n_sets;
        result.items = items;
        reply.id = r->m->id;
        reply.result_case = CACHED__V1__REPLY__RESULT_SET_MANY;
        reply.set_many = &result;
        ok = fake_reply(d, fd, &reply, NULL, 0);
        free(item);
        free(items);
        return ok;
}

static inline bool good_set(struct fake *d, int fd, const struct fake_request *r)
{
        struct good *g = d->data;

        good_count_name(g, r->m->set->cache_id, r->m->set->cache);
        if (g) {
                g->n_last_body = r->n_body;
                for (size_t i = 0; i < r->n_body; i++)
                        g->body_sum += r->body[i];
                atomic_fetch_add(&g->n_sets, 1);
        }
        return fake_reply_entry(d, fd, r->m->id, 2, NULL, 0);
}

static inline bool good_stats(struct fake *d, int fd, uint64_t id)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__StatsResult stats = CACHED__V1__STATS_RESULT__INIT;
        Cached__V1__DaemonStats daemon = CACHED__V1__DAEMON_STATS__INIT;
        Cached__V1__CacheStats total = CACHED__V1__CACHE_STATS__INIT;
        Cached__V1__Policy policy = CACHED__V1__POLICY__INIT;
        Cached__V1__Latency latency = CACHED__V1__LATENCY__INIT,
                            *latencies[2] = {&latency, &latency};
        uint64_t buckets[3] = {5, 6, UINT64_MAX};

        latency.request = (char *)(uintptr_t) "Get";
        latency.n_bucket_ns = latency.n_bucket_count = 3;
        latency.bucket_ns = latency.bucket_count = buckets;
        daemon.uptime_ms = 4711;
        daemon.pid = 12;
        daemon.n_latencies = 2;
        daemon.latencies = latencies;
        policy.ttl_case = CACHED__V1__POLICY__TTL_TTL_MS;
        policy.ttl_ms = 250;
        total.policy = &policy;
        total.pinned = 1;
        total.name = (char *)(uintptr_t) "all";
        stats.daemon = &daemon;
        stats.total = &total;
        reply.id = id;
        reply.result_case = CACHED__V1__REPLY__RESULT_STATS;
        reply.stats = &stats;
        return fake_reply(d, fd, &reply, NULL, 0);
}

static inline bool good_list_entries(struct fake *d, int fd, uint64_t id)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__ListEntriesResult list = CACHED__V1__LIST_ENTRIES_RESULT__INIT;
        Cached__V1__ListedEntry one = CACHED__V1__LISTED_ENTRY__INIT, bare = one;
        Cached__V1__ListedEntry *both[2] = {&one, &bare};
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;

        entry.version = 99;
        entry.encoding = CACHED__V1__ENCODING__ENCODING_LZ4;
        one.key = (ProtobufCBinaryData){3, (uint8_t *)"k\0y"};
        one.entry = &entry;
        list.n_entries = 2;
        list.entries = both;
        reply.id = id;
        reply.result_case = CACHED__V1__REPLY__RESULT_LIST_ENTRIES;
        reply.list_entries = &list;
        return fake_reply(d, fd, &reply, NULL, 0);
}

static inline bool good_answer(struct fake *d, int fd, const struct fake_request *r)
{
        uint64_t id = r->m->id;

        switch (r->m->op_case) {
        case CACHED__V1__REQUEST__OP_PING:
                return fake_reply_ping(d, fd, id);
        case CACHED__V1__REQUEST__OP_OPEN_CACHE:
                if (d->data)
                        atomic_fetch_add(&((struct good *)d->data)->n_opens, 1);
                return fake_reply_cache(d, fd, id, r->m->open_cache->cache, 3);
        case CACHED__V1__REQUEST__OP_GET:
                return good_get(d, fd, id, r->m->get);
        case CACHED__V1__REQUEST__OP_GET_MANY:
                return good_get_many(d, fd, id, r->m->get_many);
        case CACHED__V1__REQUEST__OP_SET:
                return good_set(d, fd, r);
        case CACHED__V1__REQUEST__OP_SET_MANY:
                return good_set_many(d, fd, r);
        case CACHED__V1__REQUEST__OP_TOUCH:
                /* The version tells what time to live was asked for. */
                return fake_reply_entry(d, fd, id, r->m->touch->ttl_ms + 1, NULL, 0);
        case CACHED__V1__REQUEST__OP_DELETE:
                return fake_reply_status(d, fd, id, CACHED_OK, "");
        case CACHED__V1__REQUEST__OP_STATS:
                return good_stats(d, fd, id);
        case CACHED__V1__REQUEST__OP_LIST_ENTRIES:
                return good_list_entries(d, fd, id);
        default:
                return fake_reply_status(d, fd, id, CACHED_UNSUPPORTED, "not here");
        }
}

static inline void serve_good_rest(struct fake *d, int fd)
{
        struct fake_request r;
        bool ok = true;

        while (ok && fake_read_request(d, fd, &r)) {
                ok = good_answer(d, fd, &r);
                fake_request_done(&r);
        }
}

static inline void serve_good(struct fake *d, int fd, int nth)
{
        if (fake_hello(d, fd))
                serve_good_rest(d, fd);
}

/* ------------------------------------------------------------------- many connections at a time */

/* Serves its connections at the same time, each in a thread. */
#define PARALLEL_MAX 256

struct parallel {
        struct good good; /* first: for the functions that count */
        void (*serve)(struct fake *d, int fd, int nth);
        pthread_t threads[PARALLEL_MAX];
        int n;
};

struct parallel_conn {
        struct fake *d;
        int fd, nth;
};

static inline void *parallel_run(void *data)
{
        struct parallel_conn pc = *(struct parallel_conn *)data;

        free(data);
        ((struct parallel *)pc.d->data)->serve(pc.d, pc.fd, pc.nth);
        close(pc.fd);
        return NULL;
}

static inline void serve_parallel(struct fake *d, int fd, int nth)
{
        struct parallel *p = (struct parallel *)d->data;
        struct parallel_conn *pc = malloc(sizeof(*pc));

        assert(pc && p->n < PARALLEL_MAX);
        *pc = (struct parallel_conn){d, fcntl(fd, F_DUPFD_CLOEXEC, 0), nth};
        assert(pthread_create(&p->threads[p->n++], NULL, parallel_run, pc) == 0);
}

/* `p` is zeroed but for what the test keeps in `good`. */
static inline void parallel_start(struct fake *d, struct parallel *p,
                                  void (*serve)(struct fake *d, int fd, int nth))
{
        p->serve = serve;
        fake_start(d, serve_parallel, p);
}

static inline void parallel_stop(struct fake *d, struct parallel *p)
{
        fake_unlisten(d);
        for (int i = 0; i < p->n; i++)
                pthread_join(p->threads[i], NULL);
}

#endif
