/* SPDX-License-Identifier: MIT */
#ifndef MAP_WORLD_H
#define MAP_WORLD_H

/*
 * A daemon for tests of mapped reads: a fake one on the socket, with a real store behind it and the
 * files of a mapping, so that a test can look into the client page and do what no daemon does.
 *
 * Included by a test's one source file, after client-harness.h.
 */

#include <fcntl.h>
#include <sys/mman.h>

#include "client/handle.h"
#include "proto/page.h"
#include "store/internal.h"

#define MAP_INSTANCE 77
#define MAP_BIT      70u
#define LARGE_MIN    (1000u * 1024)
#define WORLD_KEYS   4096u /* of a GetMany */

struct world {
        struct parallel parallel; /* first: see serve_parallel() */
        pthread_mutex_t lock;     /* of the store */
        struct store *store;
        int arena_fd; /* read-only */
        int epoch_fd, page_fd, dirty_fd;
        struct epoch_page *epoch;
        struct client_page *page; /* of the last connection that was given one */
        struct dirty_map *dirty;
        int n_send;          /* descriptors that go along; 4 */
        bool keep_tails;     /* never drains */
        uint32_t first_part; /* in the list of parts; 1 */
        atomic_int n_maps, n_gets, n_drains, n_one_way;
        atomic_int n_touches; /* taken out of rings */
        atomic_int n_cuts;    /* connections that end instead of an answer to Drain */
        void *claim;          /* and then these addresses are somebody else's */
        size_t n_claim;
        int64_t offset_ms;      /* of the clock */
        int64_t clock_shift_ms; /* as if the client were in another time namespace */
        /* Memory files. */
        atomic_bool has_files;
        atomic_bool wrong_file; /* sends one that is not sealed */
        atomic_bool no_file;    /* says that one comes, and sends none */
        uint64_t next_view;
        uint64_t views[64]; /* that are out; 0: none */
        atomic_int n_files_in, n_files_out, n_unchanged, n_releases;
};

static inline int world_n_views(struct world *w)
{
        int n = 0;

        pthread_mutex_lock(&w->lock);
        for (unsigned i = 0; i < 64; i++)
                n += w->views[i] != 0;
        pthread_mutex_unlock(&w->lock);
        return n;
}

static inline uint64_t world_now(const struct world *w)
{
        struct timespec t;

        clock_gettime(CLOCK_BOOTTIME, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000 + (uint64_t)w->offset_ms;
}

static inline int world_memfd(const char *name, size_t n, int seals)
{
        int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

        assert(fd >= 0 && ftruncate(fd, (off_t)n) == 0);
        assert(fcntl(fd, F_ADD_SEALS, seals) == 0);
        return fd;
}

static inline void *world_map(int fd, size_t n)
{
        void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

        assert(p != MAP_FAILED);
        return p;
}

/* A page of its own for each connection that asks. */
static inline void world_new_page(struct world *w)
{
        if (w->page) {
                munmap(w->page, CLIENT_PAGE_SIZE);
                close(w->page_fd);
        }
        w->page_fd = world_memfd("page", CLIENT_PAGE_SIZE, F_SEAL_SHRINK | F_SEAL_GROW);
        w->page = world_map(w->page_fd, CLIENT_PAGE_SIZE);
        w->page->magic = CLIENT_PAGE_MAGIC;
        w->page->version = CLIENT_PAGE_VERSION;
        w->page->dirty_bit = MAP_BIT;
}

static inline void world_drain(struct world *w)
{
        atomic_fetch_and(&w->dirty->words[MAP_BIT / 64], ~(UINT64_C(1) << MAP_BIT % 64));
        for (unsigned i = 0; i < PAGE_RINGS && w->page && !w->keep_tails; i++) {
                struct page_ring *ring = &w->page->ring[i];
                uint64_t head = atomic_load(&ring->head), tail = atomic_load(&ring->tail);

                for (; tail != head; tail++)
                        if (atomic_load(&w->page->touches[i][page_ring_slot(tail)].handle) != 0)
                                atomic_fetch_add(&w->n_touches, 1);
                atomic_store(&ring->tail, tail);
        }
}

/* False: the connection is cut. */
static inline bool world_drain_asked(struct world *w, const Cached__V1__Drain *m)
{
        atomic_fetch_add(m->one_way ? &w->n_one_way : &w->n_drains, 1);
        if (m->one_way || atomic_load(&w->n_cuts) == 0) {
                world_drain(w);
                return true;
        }
        atomic_fetch_sub(&w->n_cuts, 1);
        if (w->claim)
                assert(mmap(w->claim, w->n_claim, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1,
                            0) == w->claim);
        return false;
}

/* ------------------------------------------------------------------------------------------ hello
 */

static inline bool world_send_fds(int fd, const uint8_t *frame, size_t n, const int *fds, int n_fds)
{
        union {
                struct cmsghdr head;
                uint8_t space[CMSG_SPACE(8 * sizeof(int))];
        } control = {0};
        struct iovec iov = {(void *)(uintptr_t)frame, n};
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

        if (n_fds > 0) {
                m.msg_control = &control;
                m.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
                control.head.cmsg_level = SOL_SOCKET;
                control.head.cmsg_type = SCM_RIGHTS;
                control.head.cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
                memcpy(CMSG_DATA(&control.head), fds, (size_t)n_fds * sizeof(int));
        }
        return sendmsg(fd, &m, MSG_NOSIGNAL) == (ssize_t)n;
}

static inline bool world_send(struct world *w, int fd, const uint8_t *frame, size_t n, int n_fds)
{
        int fds[8] = {w->arena_fd, w->epoch_fd, w->page_fd,  w->dirty_fd,
                      w->epoch_fd, w->epoch_fd, w->epoch_fd, w->epoch_fd};

        return world_send_fds(fd, frame, n, fds, n_fds);
}

static inline bool world_hello(struct fake *d, int fd)
{
        struct world *w = d->data;
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__HelloResult hello = CACHED__V1__HELLO_RESULT__INIT;
        Cached__V1__Mapping mapping = CACHED__V1__MAPPING__INIT;
        Cached__V1__MapPart parts[4];
        struct fake_request r;
        uint8_t *frame;
        size_t n;
        bool ok, maps, files;

        if (!fake_read_request(d, fd, &r))
                return false;
        files = w->has_files && r.m->hello->features & CACHED__V1__FEATURE__FEATURE_FILES;
        maps = r.m->hello->features & CACHED__V1__FEATURE__FEATURE_MAPPED;
        m.id = r.m->id;
        fake_request_done(&r);
        hello.protocol = 1;
        hello.version = (char *)(uintptr_t) "world";
        hello.realm = (char *)(uintptr_t) "uid:7";
        hello.max_message_bytes = 1 << 20;
        hello.max_value_bytes = 1 << 30;
        hello.max_lz4_bytes = 4 << 20;
        hello.max_requests_in_flight = 64;
        hello.max_keys_per_request = WORLD_KEYS;
        hello.instance = w->epoch->instance;
        hello.features = CACHED__V1__FEATURE__FEATURE_LZ4;
        if (files)
                hello.features |= CACHED__V1__FEATURE__FEATURE_FILES;
        hello.file_bytes = 65536;
        m.result_case = CACHED__V1__REPLY__RESULT_HELLO;
        m.hello = &hello;
        pthread_mutex_lock(&w->lock);
        if (maps) {
                world_new_page(w);
                atomic_fetch_add(&w->n_maps, 1);
                hello.features |= CACHED__V1__FEATURE__FEATURE_MAPPED;
                for (unsigned i = 0; i < 4; i++)
                        parts[i] = (Cached__V1__MapPart)(w->first_part + i);
                mapping.layout_version = ARENA_LAYOUT_VERSION;
                mapping.arena_bytes = w->store->a.mem.size;
                mapping.epoch_bytes = EPOCH_SIZE;
                mapping.page_bytes = CLIENT_PAGE_SIZE;
                mapping.dirty_map_bytes = DIRTY_MAP_SIZE;
                mapping.dirty_bit = MAP_BIT;
                mapping.boottime_ms = world_now(w) + (uint64_t)(w->clock_shift_ms - w->offset_ms);
                mapping.n_parts = 4;
                mapping.parts = parts;
                hello.mapping = &mapping;
        }
        frame = fake_frame(&m, NULL, 0, &n);
        ok = world_send(w, fd, frame, n, maps ? w->n_send : 0);
        pthread_mutex_unlock(&w->lock);
        free(frame);
        return ok;
}

/* --------------------------------------------------------------------------------------- requests
 */

static inline void world_entry(const struct store_entry *e, uint64_t now,
                               Cached__V1__EntryInfo *ret)
{
        cached__v1__entry_info__init(ret);
        ret->version = e->version;
        ret->size = e->n_value;
        ret->flags = e->flags;
        ret->encoding = (Cached__V1__Encoding)e->encoding;
        ret->raw_size = e->raw_size;
        ret->cost_us = e->cost_us;
        ret->uid = e->uid;
        if (e->deadline != STORE_NEVER) {
                ret->ttl_case = CACHED__V1__ENTRY_INFO__TTL_TTL_MS;
                ret->ttl_ms = e->deadline - now;
        }
}

static inline uint32_t world_cache(struct world *w, const char *name)
{
        uint32_t id;

        if (store_cache_find(w->store, name, strlen(name), &id) != STORE_OK)
                assert(store_cache_create(w->store, name, strlen(name), &id) == STORE_OK);
        return id;
}

/* A reply with a memory file, or without one where it is still the same. */
static inline bool world_get_file(struct world *w, int fd, Cached__V1__Reply *reply,
                                  const struct store_entry *e, const Cached__V1__Get *m)
{
        int file = e->large ? e->large->fd : -1;
        uint8_t *frame;
        unsigned i = 0;
        size_t n;
        bool ok;

        reply->entry->unchanged =
                m->have_case == CACHED__V1__GET__HAVE_HAVE_VERSION && m->have_version == e->version;
        if (reply->entry->unchanged) {
                atomic_fetch_add(&w->n_unchanged, 1);
                file = -1;
        } else {
                while (w->views[i] != 0)
                        assert(++i < 64);
                reply->entry->view_id = w->views[i] = ++w->next_view;
                atomic_fetch_add(&w->n_files_out, 1);
        }
        if (w->no_file)
                file = -1;
        if (w->wrong_file)
                file = w->epoch_fd;
        frame = fake_frame(reply, NULL, 0, &n);
        ok = world_send_fds(fd, frame, n, &file, file >= 0);
        free(frame);
        return ok;
}

static inline void world_release(struct world *w, const Cached__V1__Release *m)
{
        assert(m->one_way && m->n_view_ids > 0);
        atomic_fetch_add(&w->n_releases, 1);
        for (size_t k = 0; k < m->n_view_ids; k++) {
                unsigned i = 0;

                while (w->views[i] != m->view_ids[k])
                        assert(++i < 64);
                w->views[i] = 0;
        }
}

static inline bool world_get(struct fake *d, struct world *w, int fd, uint64_t id,
                             const Cached__V1__Get *m)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry;
        struct store_entry e;
        uint64_t now = world_now(w);

        atomic_fetch_add(&w->n_gets, 1);
        reply.id = id;
        if (m->key.len == 0 || m->key.len > 64)
                return fake_reply_status(d, fd, id, CACHED_INVALID, "key");
        if (store_get(w->store, world_cache(w, m->cache), m->key.data, m->key.len, now,
                      !m->no_touch, &e) != STORE_OK)
                return fake_reply_status(d, fd, id, CACHED_NOT_FOUND, "");
        world_entry(&e, now, &entry);
        reply.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        reply.entry = &entry;
        if (m->as_file && (e.large || (m->have_case == CACHED__V1__GET__HAVE_HAVE_VERSION &&
                                       m->have_version == e.version)))
                return world_get_file(w, fd, &reply, &e, m);
        return fake_reply(d, fd, &reply, e.value, e.n_value);
}

static inline bool world_get_many(struct fake *d, struct world *w, int fd, uint64_t id,
                                  const Cached__V1__GetMany *m)
{
        Cached__V1__Reply reply = CACHED__V1__REPLY__INIT;
        Cached__V1__GetManyResult result = CACHED__V1__GET_MANY_RESULT__INIT;
        Cached__V1__GetManyItem *item, **items;
        Cached__V1__EntryInfo *entry;
        uint8_t *body = NULL;
        size_t n_body = 0;
        uint64_t now = world_now(w);
        bool ok;

        atomic_fetch_add(&w->n_gets, 1);
        if (m->n_keys > WORLD_KEYS)
                return fake_reply_status(d, fd, id, CACHED_LIMIT, "many");
        item = calloc(m->n_keys, sizeof(*item));
        items = calloc(m->n_keys, sizeof(Cached__V1__GetManyItem *));
        entry = calloc(m->n_keys, sizeof(*entry));
        assert(item && items && entry);
        for (size_t i = 0; i < m->n_keys; i++) {
                struct store_entry e;

                cached__v1__get_many_item__init(&item[i]);
                items[i] = &item[i];
                if (store_get(w->store, world_cache(w, m->cache), m->keys[i].data, m->keys[i].len,
                              now, true, &e) != STORE_OK) {
                        item[i].status = CACHED__V1__STATUS__NOT_FOUND;
                        continue;
                }
                world_entry(&e, now, &entry[i]);
                item[i].entry = &entry[i];
                body = realloc(body, n_body + e.n_value + 1);
                assert(body);
                memcpy(body + n_body, e.value, e.n_value);
                n_body += e.n_value;
        }
        result.n_items = m->n_keys;
        result.items = items;
        reply.id = id;
        reply.result_case = CACHED__V1__REPLY__RESULT_GET_MANY;
        reply.get_many = &result;
        ok = fake_reply(d, fd, &reply, body, n_body);
        free(body);
        free(item);
        free(items);
        free(entry);
        return ok;
}

/* In a file of its own, from the same size on as in the daemon. */
static inline struct large *world_large(const uint8_t *value, size_t n)
{
        struct large *l;

        if (n < LARGE_MIN)
                return NULL;
        assert(large_new(n, &l) == 0);
        assert(large_commit(l, n) == 0);
        memcpy(l->map, value, n);
        assert(large_seal(l) == 0);
        return l;
}

static inline bool world_set(struct fake *d, struct world *w, const struct fake_request *q, int fd)
{
        const Cached__V1__Set *m = q->m->set;
        struct store_put p = {.cache = world_cache(w, m->cache),
                              .key = m->key.data,
                              .n_key = m->key.len,
                              .value = q->body,
                              .n_value = q->n_body,
                              .ttl_ms = m->ttl_case == CACHED__V1__SET__TTL_TTL_MS ? m->ttl_ms
                                                                                   : STORE_NEVER,
                              .flags = m->flags,
                              .encoding = (uint8_t)m->encoding,
                              .raw_size = m->raw_size,
                              .cost_us = m->cost_us,
                              .uid = 4711};
        struct store_refusal why;
        struct store_entry e;
        int r;

        if (m->source_case == CACHED__V1__SET__SOURCE_FILE_SIZE) {
                int file = fcntl(q->file, F_DUPFD_CLOEXEC, 0);

                assert(q->file >= 0 && q->n_body == 0);
                atomic_fetch_add(&w->n_files_in, 1);
                if (large_adopt(file, m->file_size, &p.large) != 0) {
                        close(file);
                        return fake_reply_status(d, fd, q->m->id, CACHED_INVALID, "the file");
                }
                p.value = NULL;
                p.n_value = m->file_size;
        } else {
                assert(q->file < 0);
                p.large = world_large(q->body, q->n_body);
        }
        r = store_put(w->store, &p, world_now(w), &e, &why);
        large_unref(p.large);
        if (r != STORE_OK)
                return fake_reply_status(d, fd, q->m->id, CACHED_NO_SPACE, "no");
        return fake_reply_entry(d, fd, q->m->id, e.version, NULL, 0);
}

static inline bool world_answer(struct fake *d, struct world *w, int fd,
                                const struct fake_request *r)
{
        uint64_t id = r->m->id, n;

        /* As the daemon does: before requests are carried out. */
        if (atomic_load(&w->dirty->words[MAP_BIT / 64]) & UINT64_C(1) << MAP_BIT % 64)
                world_drain(w);
        switch (r->m->op_case) {
        case CACHED__V1__REQUEST__OP_PING:
                return fake_reply_ping(d, fd, id);
        case CACHED__V1__REQUEST__OP_GET:
                return world_get(d, w, fd, id, r->m->get);
        case CACHED__V1__REQUEST__OP_GET_MANY:
                return world_get_many(d, w, fd, id, r->m->get_many);
        case CACHED__V1__REQUEST__OP_SET:
                return world_set(d, w, r, fd);
        case CACHED__V1__REQUEST__OP_DELETE:
                return fake_reply_status(d, fd, id,
                                         store_delete(w->store,
                                                      world_cache(w, r->m->delete_->cache),
                                                      r->m->delete_->key.data,
                                                      r->m->delete_->key.len, world_now(w)),
                                         "");
        case CACHED__V1__REQUEST__OP_CLEAR:
                (void)store_clear(w->store, world_cache(w, r->m->clear->cache), world_now(w), &n);
                return fake_reply_status(d, fd, id, CACHED_OK, "");
        case CACHED__V1__REQUEST__OP_RELEASE:
                world_release(w, r->m->release);
                return true;
        case CACHED__V1__REQUEST__OP_DRAIN:
                return world_drain_asked(w, r->m->drain) &&
                       (r->m->drain->one_way || fake_reply_status(d, fd, id, CACHED_OK, ""));
        default:
                return fake_reply_status(d, fd, id, CACHED_UNSUPPORTED, "not here");
        }
}

static inline void serve_world(struct fake *d, int fd, int nth)
{
        struct world *w = d->data;
        struct fake_request r;
        bool ok = world_hello(d, fd);

        while (ok && fake_read_request(d, fd, &r)) {
                pthread_mutex_lock(&w->lock);
                ok = world_answer(d, w, fd, &r);
                pthread_mutex_unlock(&w->lock);
                fake_request_done(&r);
        }
}

/* ------------------------------------------------------------------------------------------- life
 */

static inline struct store *world_store(uint64_t instance)
{
        struct store_params p = {.arena_size = UINT64_C(1) << 30,
                                 .budget = 256 << 20,
                                 .uid_share = 256 << 20,
                                 .large_threshold = LARGE_MIN,
                                 .max_caches = 300,
                                 .max_entries = 1 << 20,
                                 .seed = {7, 8},
                                 .instance = instance};
        struct store *s = NULL;

        assert(store_new(&p, &s) == 0);
        return s;
}

static inline int world_reopen(int fd)
{
        char path[64];
        int again;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        again = open(path, O_RDONLY | O_CLOEXEC);
        assert(again >= 0);
        return again;
}

static inline void world_start(struct fake *d, struct world *w)
{
        memset(w, 0, sizeof(*w));
        pthread_mutex_init(&w->lock, NULL);
        w->n_send = 4;
        w->has_files = true;
        w->next_view = UINT64_C(1) << 40;
        w->first_part = 1;
        w->store = world_store(MAP_INSTANCE);
        w->arena_fd = world_reopen(w->store->a.mem.fd);
        w->epoch_fd = world_memfd("epoch", EPOCH_SIZE, F_SEAL_SHRINK);
        w->epoch = world_map(w->epoch_fd, EPOCH_SIZE);
        w->epoch->magic = EPOCH_MAGIC;
        w->epoch->version = EPOCH_VERSION;
        atomic_store(&w->epoch->instance, MAP_INSTANCE);
        w->dirty_fd = world_memfd("dirty", DIRTY_MAP_SIZE, F_SEAL_SHRINK | F_SEAL_GROW);
        w->dirty = world_map(w->dirty_fd, DIRTY_MAP_SIZE);
        parallel_start(d, &w->parallel, serve_world);
}

static inline void world_stop(struct fake *d, struct world *w)
{
        parallel_stop(d, &w->parallel);
        if (w->page) {
                munmap(w->page, CLIENT_PAGE_SIZE);
                close(w->page_fd);
        }
        munmap(w->epoch, EPOCH_SIZE);
        munmap(w->dirty, DIRTY_MAP_SIZE);
        close(w->arena_fd);
        close(w->epoch_fd);
        close(w->dirty_fd);
        store_free(w->store);
        pthread_mutex_destroy(&w->lock);
}

/* ---------------------------------------------------------------------------------------- client
 */

#define CACHE "c"

static inline cached *mapped_new(const struct fake *d, int on)
{
        cached_options *o = cached_options_new();
        cached *c;

        assert_int_equal(cached_options_set_socket(o, d->path), CACHED_OK);
        assert_int_equal(cached_options_set_timeout_ms(o, PATIENCE_MS), CACHED_OK);
        assert_int_equal(cached_options_set_mapped(o, on), CACHED_OK);
        assert_int_equal(cached_new(o, &c), CACHED_OK);
        cached_options_free(o);
        return c;
}

static inline int set(cached *c, const char *key, const void *value, size_t n, uint64_t ttl_ms)
{
        cached_set_options *o = cached_set_options_new();
        int code;

        if (ttl_ms)
                cached_set_options_set_ttl_ms(o, ttl_ms);
        code = cached_set(c, CACHE, key, strlen(key), value, n, o, NULL);
        cached_set_options_free(o);
        return code;
}

/* Nothing that packs. */
static inline void fill(uint8_t *bytes, size_t n)
{
        uint64_t x = 88172645463325252u;

        for (size_t i = 0; i < n; i++) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                bytes[i] = (uint8_t)x;
        }
}

/* The code; a hit's value is compared. */
static inline int get_is(cached *c, const char *key, const void *value, size_t n)
{
        cached_reply *r;
        int code = cached_get(c, CACHE, key, strlen(key), &r);
        size_t n_is = 12345;
        const void *is = cached_reply_value(r, &n_is);

        if (code == CACHED_OK) {
                assert_non_null(is);
                assert_int_equal(n_is, n);
                assert_memory_equal(is, value, n);
        } else {
                assert_null(is);
        }
        assert_int_equal(cached_reply_code(r), code);
        cached_reply_free(r);
        return code;
}

/* What the daemon's threads did before is seen: ThreadSanitizer knows no sockets. */
static inline void world_meet(struct world *w)
{
        pthread_mutex_lock(&w->lock);
        pthread_mutex_unlock(&w->lock);
}

static inline struct page_counter *counter_of(const struct world *w, uint32_t id)
{
        for (unsigned i = 0; i < PAGE_COUNTERS; i++)
                if (atomic_load(&w->page->counters[i].cache) == id)
                        return &w->page->counters[i];
        fail_msg("cache %u is not counted", id);
        abort(); /* does not return: compilers do not know */
}

#endif
