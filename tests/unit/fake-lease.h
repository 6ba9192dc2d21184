/* SPDX-License-Identifier: MIT */
#ifndef FAKE_LEASE_H
#define FAKE_LEASE_H

/*
 * A fake daemon with leases: who misses gets one, others wait for what is stored under it. It
 * judges nothing; what a test sets under `lock` it finds in the next request.
 */

#include "fake-store.h"

#include <sys/mman.h>

#define LEASES_MAX 256

struct fake_lease {
        uint8_t key[64];
        size_t n_key;
        uint64_t id, owner; /* id 0: none */
        int fd;
};

struct fake_wait {
        uint8_t key[64];
        size_t n_key;
        uint64_t id; /* 0: none */
        uint64_t owner;
        int fd;
        bool as_file;
};

#define VIEWS_MAX 64

struct leases {
        struct store store; /* first */
        struct fake_lease held[LEASES_MAX];
        struct fake_wait waits[LEASES_MAX];
        uint64_t next_id;
        atomic_uint n_asked, n_counted, n_ends, n_told, n_pings;
        /* Of the first ones: a test may look at them once they are counted. */
        char reasons[8][2048], text[512];
        uint32_t permille;
        _Atomic uint64_t owners[8];     /* of the first asks */
        _Atomic uint64_t last_lease_id; /* of a Set */
        atomic_bool last_share_only, last_negative;
        /* Settings. */
        atomic_int state;  /* a LeaseState that each ask is answered with; 0: as it is */
        atomic_int status; /* likewise a status */
        atomic_bool mute, mute_pings, hang_up;
        /* Memory files: what is shared with who takes them, if there is one. */
        int file; /* instead of no value; 0: none */
        size_t n_file;
        size_t n_cut;              /* so many bytes of the frame are sent; 0: all */
        bool no_file;              /* says that one comes, and sends none */
        uint64_t views[VIEWS_MAX]; /* that are out; 0: none */
        atomic_uint n_files, n_releases, n_unchanged;
};

static inline bool lease_say_file(struct fake *d, int fd, uint64_t id)
{
        struct leases *s = d->data;
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;
        union {
                struct cmsghdr head;
                uint8_t space[CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct iovec iov;
        struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};
        unsigned i = 0;
        uint8_t *frame;
        ssize_t sent;
        size_t n;

        while (s->views[i])
                assert(++i < VIEWS_MAX);
        entry.view_id = s->views[i] = 1000 + atomic_fetch_add(&s->n_files, 1);
        entry.version = 1;
        entry.size = s->n_file;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        m.entry = &entry;
        frame = fake_frame(&m, NULL, 0, &n);
        iov = (struct iovec){frame, s->n_cut ? s->n_cut : n};
        if (!s->no_file) {
                h.msg_control = &control;
                h.msg_controllen = sizeof(control);
                control.head.cmsg_level = SOL_SOCKET;
                control.head.cmsg_type = SCM_RIGHTS;
                control.head.cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(&control.head), &s->file, sizeof(int));
        }
        sent = sendmsg(fd, &h, MSG_NOSIGNAL);
        free(frame);
        return sent == (ssize_t)iov.iov_len;
}

static inline void lease_release(struct leases *s, const Cached__V1__Release *m)
{
        assert(m->one_way && m->n_view_ids > 0);
        pthread_mutex_lock(&s->store.lock);
        for (size_t k = 0; k < m->n_view_ids; k++) {
                unsigned i = 0;

                while (s->views[i] != m->view_ids[k])
                        assert(++i < VIEWS_MAX);
                s->views[i] = 0;
                atomic_fetch_add(&s->n_releases, 1);
        }
        pthread_mutex_unlock(&s->store.lock);
}

static inline struct fake_lease *lease_find(struct leases *s, const void *key, size_t n)
{
        for (size_t i = 0; i < LEASES_MAX; i++)
                if (s->held[i].id && s->held[i].n_key == n && !memcmp(s->held[i].key, key, n))
                        return &s->held[i];
        return NULL;
}

static inline bool lease_say(struct fake *d, int fd, uint64_t id, int state, uint64_t lease_id)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__Lease l = CACHED__V1__LEASE__INIT;

        l.state = (Cached__V1__LeaseState)state;
        l.lease_id = lease_id;
        if (state != CACHED__V1__LEASE_STATE__LEASE_GRANTED) {
                l.holder_pid = 4711;
                l.holder_uid = 12;
                l.holder = (char *)(uintptr_t) "somebody";
                l.age_ms = 99;
                l.permille = 500;
                l.progress = (char *)(uintptr_t) "half";
                l.reason = (char *)(uintptr_t) "because";
                l.waited_ms = 77;
        }
        m.id = id;
        m.status = CACHED__V1__STATUS__NOT_FOUND;
        m.lease = &l;
        return fake_reply(d, fd, &m, NULL, 0);
}

/* Under the lock. */
static inline void lease_grant(struct fake *d, const void *key, size_t n_key, int fd,
                               uint64_t owner, uint64_t id)
{
        struct leases *s = d->data;
        struct fake_lease *l = s->held;

        while (l->id)
                assert(++l < s->held + LEASES_MAX);
        *l = (struct fake_lease){.n_key = n_key, .id = ++s->next_id, .owner = owner, .fd = fd};
        memcpy(l->key, key, n_key);
        (void)lease_say(d, fd, id, CACHED__V1__LEASE_STATE__LEASE_GRANTED, l->id);
}

/* Its lease has ended: the next one's turn. */
static inline void lease_pass(struct fake *d, struct fake_lease *l)
{
        struct leases *s = d->data;
        struct fake_lease was = *l;

        l->id = 0;
        for (size_t i = 0; i < LEASES_MAX; i++) {
                struct fake_wait *w = &s->waits[i];

                if (!w->id || w->n_key != was.n_key || memcmp(w->key, was.key, was.n_key) != 0)
                        continue;
                lease_grant(d, w->key, w->n_key, w->fd, w->owner, w->id);
                w->id = 0;
                return;
        }
}

static inline void lease_park(struct leases *s, const Cached__V1__Get *m, int fd, uint64_t id)
{
        struct fake_wait *w = s->waits;

        while (w->id)
                assert(++w < s->waits + LEASES_MAX);
        *w = (struct fake_wait){.n_key = m->key.len,
                                .id = id,
                                .owner = m->lease->owner,
                                .fd = fd,
                                .as_file = m->as_file};
        memcpy(w->key, m->key.data, m->key.len);
}

static inline bool lease_say_unchanged(struct fake *d, int fd, uint64_t id)
{
        Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo entry = CACHED__V1__ENTRY_INFO__INIT;

        atomic_fetch_add(&((struct leases *)d->data)->n_unchanged, 1);
        entry.version = 1;
        entry.unchanged = 1;
        m.id = id;
        m.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
        m.entry = &entry;
        return fake_reply(d, fd, &m, NULL, 0);
}

static inline bool lease_ask(struct fake *d, int fd, uint64_t id, const Cached__V1__Get *m)
{
        struct leases *s = d->data;
        const struct fake_lease *l;
        bool has;
        unsigned n = atomic_fetch_add(&s->n_asked, 1);

        if (n < 8)
                s->owners[n] = m->lease->owner;
        atomic_fetch_add(&s->n_counted, !m->no_touch);
        if (atomic_load(&s->hang_up))
                return false;
        if (atomic_load(&s->mute))
                return true;
        if (atomic_load(&s->status))
                return fake_reply_status(d, fd, id, atomic_load(&s->status), "as told");
        if (atomic_load(&s->state))
                return lease_say(d, fd, id, atomic_load(&s->state), 0);
        pthread_mutex_lock(&s->store.lock);
        has = store_find(&s->store, &m->key) != NULL;
        l = lease_find(s, m->key.data, m->key.len);
        if (!has && !l)
                lease_grant(d, m->key.data, m->key.len, fd, m->lease->owner, id);
        else if (!has && l->fd == fd && l->owner == m->lease->owner)
                (void)lease_say(d, fd, id, CACHED__V1__LEASE_STATE__LEASE_YOURS, l->id);
        else if (!has && m->lease->patience_case && m->lease->wait_ms == 0)
                (void)lease_say(d, fd, id, CACHED__V1__LEASE_STATE__LEASE_BUSY, 0);
        else if (!has)
                lease_park(s, m, fd, id);
        pthread_mutex_unlock(&s->store.lock);
        if (has && m->have_case && m->have_version == 1)
                return lease_say_unchanged(d, fd, id);
        return !has || store_get(d, fd, id, m);
}

/* All who wait for the key have the value. Under the lock. */
static inline void lease_share(struct fake *d, const struct fake_lease *l, const void *value,
                               size_t n)
{
        struct leases *s = d->data;

        for (size_t i = 0; i < LEASES_MAX; i++) {
                struct fake_wait *w = &s->waits[i];

                if (!w->id || w->n_key != l->n_key || memcmp(w->key, l->key, l->n_key) != 0)
                        continue;
                if (w->as_file && s->file && !value)
                        (void)lease_say_file(d, w->fd, w->id);
                else
                        (void)fake_reply_entry(d, w->fd, w->id, 1, value, n);
                w->id = 0;
        }
}

static inline bool lease_set(struct fake *d, int fd, const struct fake_request *r)
{
        const Cached__V1__Set *m = r->m->set;
        struct leases *s = d->data;
        struct fake_lease *l;
        int code = CACHED_OK;

        pthread_mutex_lock(&s->store.lock);
        s->last_lease_id = m->lease_id;
        s->last_share_only = m->share_only;
        s->last_negative = m->negative;
        l = lease_find(s, m->key.data, m->key.len);
        if (m->lease_id && (!l || l->id != m->lease_id)) {
                pthread_mutex_unlock(&s->store.lock);
                return fake_reply_status(d, fd, r->m->id, CACHED_SUPERSEDED, "too late");
        }
        /* Stored before the lease ends, or who asks in between is granted another one. */
        if (!m->share_only)
                code = store_take(&s->store, r);
        if (l) {
                l->id = 0;
                lease_share(d, l, r->body, r->n_body);
        }
        pthread_mutex_unlock(&s->store.lock);
        if (!m->share_only)
                return store_set_reply(d, fd, r->m->id, code);
        return fake_reply_entry(d, fd, r->m->id, 0, NULL, 0);
}

static inline bool lease_end(struct fake *d, int fd, const struct fake_request *r)
{
        const Cached__V1__EndLease *m = r->m->end_lease;
        struct leases *s = d->data;

        pthread_mutex_lock(&s->store.lock);
        if (atomic_load(&s->n_ends) < 8)
                (void)snprintf(s->reasons[atomic_load(&s->n_ends)], sizeof(s->reasons[0]), "%s",
                               m->reason);
        for (size_t i = 0; i < LEASES_MAX; i++)
                if (s->held[i].id == m->lease_id)
                        lease_pass(d, &s->held[i]);
        pthread_mutex_unlock(&s->store.lock);
        atomic_fetch_add(&s->n_ends, 1);
        return m->one_way || fake_reply_status(d, fd, r->m->id, CACHED_OK, "");
}

static inline bool lease_answer(struct fake *d, int fd, const struct fake_request *r)
{
        struct leases *s = d->data;

        switch (r->m->op_case) {
        case CACHED__V1__REQUEST__OP_GET:
                if (r->m->get->lease)
                        return lease_ask(d, fd, r->m->id, r->m->get);
                return store_answer(d, fd, r);
        case CACHED__V1__REQUEST__OP_SET:
                return lease_set(d, fd, r);
        case CACHED__V1__REQUEST__OP_RELEASE:
                lease_release(s, r->m->release);
                return true;
        case CACHED__V1__REQUEST__OP_END_LEASE:
                return lease_end(d, fd, r);
        case CACHED__V1__REQUEST__OP_LEASE_PROGRESS:
                pthread_mutex_lock(&s->store.lock);
                if (atomic_load(&s->n_told) == 0) {
                        (void)snprintf(s->text, sizeof(s->text), "%s", r->m->lease_progress->text);
                        s->permille = r->m->lease_progress->permille;
                }
                pthread_mutex_unlock(&s->store.lock);
                atomic_fetch_add(&s->n_told, 1);
                return true;
        case CACHED__V1__REQUEST__OP_PING:
                atomic_fetch_add(&s->n_pings, 1);
                return atomic_load(&s->mute_pings) || store_answer(d, fd, r);
        default:
                return store_answer(d, fd, r);
        }
}

/* A connection's leases and waits end with it. */
static inline void lease_leave(struct fake *d, int fd)
{
        struct leases *s = d->data;

        pthread_mutex_lock(&s->store.lock);
        for (size_t i = 0; i < LEASES_MAX; i++)
                if (s->waits[i].fd == fd)
                        s->waits[i].id = 0;
        for (size_t i = 0; i < LEASES_MAX; i++)
                if (s->held[i].id && s->held[i].fd == fd)
                        lease_pass(d, &s->held[i]);
        pthread_mutex_unlock(&s->store.lock);
}

static inline void serve_leases(struct fake *d, int fd, int nth)
{
        struct leases *s = d->data;
        struct fake_request r;
        bool ok = fake_hello(d, fd);

        atomic_fetch_add(&s->store.n_connections, 1);
        while (ok && fake_read_request(d, fd, &r)) {
                ok = lease_answer(d, fd, &r);
                fake_request_done(&r);
        }
        lease_leave(d, fd);
}

static inline void leases_start(struct fake *d, struct leases *s)
{
        memset(s, 0, sizeof(*s));
        assert(pthread_mutex_init(&s->store.lock, NULL) == 0);
        parallel_start(d, &s->store.parallel, serve_leases);
        d->features = CACHED__V1__FEATURE__FEATURE_LEASES | CACHED__V1__FEATURE__FEATURE_EVENTS;
}

static inline void leases_stop(struct fake *d, struct leases *s)
{
        store_stop(d, &s->store);
}

static inline unsigned leases_ended(struct leases *s)
{
        return atomic_load(&s->n_ends);
}

static inline unsigned leases_waiting(struct leases *s)
{
        unsigned n = 0;

        pthread_mutex_lock(&s->store.lock);
        for (size_t i = 0; i < LEASES_MAX; i++)
                n += s->waits[i].id != 0;
        pthread_mutex_unlock(&s->store.lock);
        return n;
}

static inline unsigned leases_held(struct leases *s)
{
        unsigned n = 0;

        pthread_mutex_lock(&s->store.lock);
        for (size_t i = 0; i < LEASES_MAX; i++)
                n += s->held[i].id != 0;
        pthread_mutex_unlock(&s->store.lock);
        return n;
}

/* Breaks the connections that wait. */
static inline void leases_break(struct leases *s)
{
        pthread_mutex_lock(&s->store.lock);
        for (size_t i = 0; i < LEASES_MAX; i++)
                if (s->waits[i].id)
                        (void)shutdown(s->waits[i].fd, SHUT_RDWR);
        pthread_mutex_unlock(&s->store.lock);
}

/* A holder has told its progress; and events that are nobody's. */
static inline void leases_tell(struct fake *d, uint32_t permille)
{
        struct leases *s = d->data;

        pthread_mutex_lock(&s->store.lock);
        for (size_t i = 0; i < LEASES_MAX; i++) {
                Cached__V1__Reply m = CACHED__V1__REPLY__INIT;
                Cached__V1__Event event = CACHED__V1__EVENT__INIT;
                Cached__V1__ProgressEvent p = CACHED__V1__PROGRESS_EVENT__INIT;
                Cached__V1__LostEvents lost = CACHED__V1__LOST_EVENTS__INIT;
                Cached__V1__Lease l = CACHED__V1__LEASE__INIT;

                if (!s->waits[i].id)
                        continue;
                m.result_case = CACHED__V1__REPLY__RESULT_EVENT;
                m.event = &event;
                event.kind_case = CACHED__V1__EVENT__KIND_LOST;
                event.lost = &lost;
                (void)fake_reply(d, s->waits[i].fd, &m, NULL, 0);
                event.kind_case = CACHED__V1__EVENT__KIND_PROGRESS;
                event.progress = &p;
                l.holder_pid = 4712;
                l.permille = permille;
                l.progress = (char *)(uintptr_t) "on its way";
                p.lease = &l;
                p.request_id = s->waits[i].id + 1000000;
                (void)fake_reply(d, s->waits[i].fd, &m, NULL, 0);
                p.request_id = s->waits[i].id;
                (void)fake_reply(d, s->waits[i].fd, &m, NULL, 0);
        }
        pthread_mutex_unlock(&s->store.lock);
}

#endif
