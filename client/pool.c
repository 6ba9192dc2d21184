/* SPDX-License-Identifier: MIT */
/*
 * The connections that the calls of a handle share
 *
 * A fixed number of slots, each for one connection. A call takes a slot, uses its connection alone
 * and without any lock, and gives it back: the guard is held only to take, to give and to change
 * what a slot points at. The slot used last is taken first, so that a program with one thread keeps
 * to one connection, whatever the limit is. Connections are made by whoever finds a slot without
 * one (handle.c); they stay until they break or the pool is closed.
 *
 * Waiting: calls that find no free slot queue. One that comes free goes to whoever takes it first,
 * which costs no switch of threads; but a call that has waited for a millisecond is handed it. So
 * nobody starves.
 *
 * Fork: a child that meets the pool takes it over empty, at the first lock. What a slot points at
 * is a whole connection at every instant (the pointer is set after it was made and cleared before
 * it is freed), so the child can close its copies of the descriptors even if the fork came while
 * another thread held the guard. The connections of free slots are freed; of those that were in use
 * then, only the descriptors go, and their memory is lost. A descriptor that a thread of the parent
 * was about to put into a slot stays open in the child until it ends or calls exec.
 *
 * Closing shuts the sockets of busy slots down, which ends whatever waits on them.
 *
 * Views outlive the handle: they keep the pool, closed and empty, until the last one is released,
 * and with it one connection, by which the daemon is told (pool-views.c).
 *
 * It knows nothing of requests, and makes no connection itself.
 */

#include "client/pool-views.h"

#include <cached.h>
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A call that has waited for so long is handed the next slot. */
#define HAND_OVER_NS 1000000u

/* On the stack of a call that waits. */
struct pool_waiter {
        struct pool_waiter *next;
        _Atomic uint32_t woken;
        struct pool_slot *slot; /* handed over */
        uint64_t since_ns;
};

/* -------------------------------------------------------------------------------------- futexes */

static void futex_wake(_Atomic uint32_t *word, int n)
{
        (void)syscall(SYS_futex, (uint32_t *)(void *)word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

/* Until the word is another, somebody wakes it, or the deadline passes. */
static void futex_wait(_Atomic uint32_t *word, uint32_t seen, struct deadline d)
{
        struct timespec t = {0}, *left = NULL;

        if (!deadline_is_never(d)) {
                uint64_t ns = deadline_left_ns(d);

                t = (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
                left = &t;
        }
        (void)syscall(SYS_futex, (uint32_t *)(void *)word, FUTEX_WAIT_PRIVATE, seen, left, NULL, 0);
}

/* ---------------------------------------------------------------------------------------- guard */

/* In a child: nothing of the parent's is left, and no call is inside. */
static void pool_inherit(struct pool *p, bool is_whole)
{
        for (unsigned i = 0; i < p->n_slots; i++) {
                struct pool_slot *s = &p->slots[i];
                struct conn *conn = s->conn;

                s->conn = NULL;
                s->next_id = 0;
                if (conn && is_whole && s->state == POOL_FREE)
                        (void)conn_free(conn);
                else if (conn)
                        conn_abandon(conn);
                s->state = POOL_FREE;
        }
        map_inherit(&p->map, is_whole);
        pool_inherit_views(p, is_whole);
        p->generation++;
        p->waiters = NULL;
        p->is_left_awaited = false;
        p->has_client_id = false;
        p->backoff = (struct backoff){0};
        if (is_whole)
                names_done(&p->opened);
        p->opened = (struct names){0};
}

void pool_lock(struct pool *p)
{
        switch (guard_lock(&p->guard, &p->self)) {
        case GUARD_MINE:
                break;
        case GUARD_FORKED:
                pool_inherit(p, true);
                break;
        case GUARD_TORN:
                pool_inherit(p, false);
                break;
        }
}

void pool_unlock(struct pool *p)
{
        guard_unlock(&p->guard);
}

/* The pointer goes first: a child that is forked meanwhile must not find a freed connection. */
static struct conn *slot_empty(struct pool *p, struct pool_slot *s)
{
        struct conn *conn = s->conn;

        if (conn)
                s->next_id = conn->next_id;
        if (conn && conn == p->map.conn) {
                p->map.conn = NULL;
                if (p->map.live)
                        atomic_store(&p->map.live->is_orphan, true);
        }
        s->conn = NULL;
        atomic_signal_fence(memory_order_seq_cst);
        return conn;
}

/* ------------------------------------------------------------------------------------- lifetime */

struct pool *pool_new(const struct pool_params *params)
{
        struct pool *p = calloc(1, sizeof(*p) + params->n_slots * sizeof(p->slots[0]));

        if (!p)
                return NULL;
        if (!view_cache_init(&p->views, params->n_views)) {
                free(p);
                return NULL;
        }
        p->n_slots = params->n_slots;
        p->n_refs = 1;
        p->prepared.max_bytes = params->prepared_bytes;
        guard_self_init(&p->self);
        if (params->maps)
                map_init(&p->map);
        return p;
}

void pool_ref(struct pool *p)
{
        pool_lock(p);
        p->n_refs++;
        pool_unlock(p);
}

static void pool_free(struct pool *p)
{
        for (unsigned i = 0; i < p->n_slots; i++)
                (void)conn_free(p->slots[i].conn);
        (void)conn_free(p->teller);
        line_done(&p->line);
        view_cache_done(&p->views);
        release_done(&p->released);
        prepared_done(&p->prepared);
        names_done(&p->opened);
        map_done(&p->map);
        free(p->warm);
        guard_self_done(&p->self);
        free(p);
}

void pool_unref(struct pool *p)
{
        bool is_last;

        pool_lock(p);
        is_last = --p->n_refs == 0;
        pool_unlock(p);
        if (is_last)
                pool_free(p);
}

/* Calls of a parent are not inside a child. */
static void user_refresh(const struct pool *p, struct pool_user *u)
{
        if (u->generation != p->generation)
                *u = (struct pool_user){.generation = p->generation};
}

/* Under the guard. */
static void user_left(struct pool *p, struct pool_user *u)
{
        u->n_inside--;
        if (p->is_left_awaited) {
                p->is_left_awaited = false;
                atomic_fetch_add(&p->left, 1);
                futex_wake(&p->left, INT_MAX);
        }
}

void pool_leave(struct pool *p, struct pool_user *u)
{
        pool_lock(p);
        user_refresh(p, u);
        pool_unlock(p);
        map_quiesce(&p->map);
        pool_lock(p);
        while (u->n_inside > 0) {
                uint32_t seen = atomic_load(&p->left);

                p->is_left_awaited = true;
                pool_unlock(p);
                futex_wait(&p->left, seen, (struct deadline){UINT64_MAX});
                pool_lock(p);
        }
        pool_unlock(p);
        pool_unref(p);
}

static void waiter_wake(struct pool_waiter *w)
{
        atomic_store(&w->woken, 1);
        futex_wake(&w->woken, 1);
}

void pool_close(struct pool *p)
{
        struct conn *idle[POOL_MAX];
        struct prepared prepared;
        unsigned n = 0;

        pool_drop_views(p);
        pool_lock(p);
        atomic_store(&p->closed, true);
        prepared = prepared_take_all(&p->prepared);
        for (unsigned i = 0; i < p->n_slots; i++) {
                struct pool_slot *s = &p->slots[i];

                if (s->conn && s->state == POOL_BUSY) {
                        (void)shutdown(s->conn->fd, SHUT_RDWR);
                } else if (s->conn) {
                        idle[n++] = slot_empty(p, s);
                }
        }
        for (struct pool_waiter *w = p->waiters; w; w = w->next)
                waiter_wake(w);
        map_publish(&p->map, NULL);
        map_reap(&p->map);
        if (n > 0 && pool_wants_teller(p))
                p->teller = idle[--n];
        pool_unlock(p);
        line_close(p);
        prepared_done(&prepared);
        while (n > 0)
                (void)conn_free(idle[--n]);
}

/* --------------------------------------------------------------------------------------- taking */

static bool pool_has_standing(const struct pool *p)
{
        for (unsigned i = 0; i < p->n_slots; i++)
                if (p->slots[i].conn && p->slots[i].greeted)
                        return true;
        return false;
}

/* The daemon takes no more connections, for now, but some stand: calls make do with those. */
static bool pool_must_share(const struct pool *p)
{
        if (!backoff_is_away(&p->backoff) || p->backoff.why.code != CACHED_LIMIT ||
            !backoff_is_pause(&p->backoff, deadline_now_ns()))
                return false;
        return pool_has_standing(p);
}

/* Whether the next connection would ask for a mapping. */
static bool pool_lacks_mapping(const struct pool *p)
{
        return p->map.w && !p->map.conn && !backoff_is_away(&p->backoff);
}

/* NULL: all are busy. */
static struct pool_slot *pool_find(struct pool *p)
{
        bool only_connected = pool_must_share(p), prefer_connected = !pool_lacks_mapping(p);
        struct pool_slot *best = NULL;

        for (unsigned i = 0; i < p->n_slots; i++) {
                struct pool_slot *s = &p->slots[i];

                if (s->state != POOL_FREE || (only_connected && !s->conn))
                        continue;
                if (!best || (!s->conn != !best->conn && !!s->conn == prefer_connected) ||
                    (!s->conn == !best->conn && s->used > best->used))
                        best = s;
        }
        return best;
}

static void waiter_add(struct pool *p, struct pool_waiter *w)
{
        struct pool_waiter **end = &p->waiters;

        while (*end)
                end = &(*end)->next;
        w->since_ns = deadline_now_ns();
        *end = w;
}

static void waiter_remove(struct pool *p, struct pool_waiter *w)
{
        struct pool_waiter **at = &p->waiters;

        while (*at && *at != w)
                at = &(*at)->next;
        if (*at)
                *at = w->next;
}

static int pool_is_full(const struct pool *p, struct failure *f)
{
        return failure_set(f, CACHED_ERR_TIMEOUT,
                           "none of the handle's %u connections came free in time: allow it more",
                           p->n_slots);
}

/* Under the guard, which it gives up while it waits. `w` is in the queue. */
static int pool_await(struct pool *p, struct pool_waiter *w, struct deadline d, struct failure *f,
                      struct pool_slot **ret)
{
        for (;;) {
                struct pool_slot *s;
                uint64_t now;

                atomic_store(&w->woken, 0);
                pool_unlock(p);
                futex_wait(&w->woken, 0, d);
                pool_lock(p);
                s = w->slot;
                if (!s && !atomic_load(&p->closed))
                        s = pool_find(p);
                if (s) {
                        s->state = POOL_BUSY;
                        *ret = s;
                        return CACHED_OK;
                }
                if (atomic_load(&p->closed))
                        return failure_set(f, CACHED_ERR_CLOSED, "%s",
                                           cached_strerror(CACHED_ERR_CLOSED));
                now = deadline_now_ns();
                if (backoff_is_pause(&p->backoff, now) && !pool_must_share(p))
                        return backoff_refuse(&p->backoff, now, f);
                if (!deadline_is_never(d) && now >= d.at_ns)
                        return pool_is_full(p, f);
        }
}

/* Under the guard. */
static int pool_take_slot(struct pool *p, struct deadline d, struct failure *f,
                          struct pool_slot **ret)
{
        struct pool_slot *s = pool_find(p);
        struct pool_waiter w = {0};
        int code;

        if (s) {
                s->state = POOL_BUSY;
                *ret = s;
                return CACHED_OK;
        }
        waiter_add(p, &w);
        code = pool_await(p, &w, d, f, ret);
        waiter_remove(p, &w);
        return code;
}

int pool_take(struct pool *p, struct pool_user *u, struct deadline d, struct failure *f,
              struct pool_slot **ret)
{
        int code;

        pool_lock(p);
        if (atomic_load(&p->closed)) {
                pool_unlock(p);
                return failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        }
        user_refresh(p, u);
        u->n_inside++;
        code = pool_take_slot(p, d, f, ret);
        if (code != CACHED_OK)
                user_left(p, u);
        pool_unlock(p);
        return code;
}

bool pool_exchange(struct pool *p, struct pool_user *u, struct deadline d, struct failure *f,
                   struct pool_slot **s)
{
        struct pool_slot *old = *s;
        bool must_share;

        pool_lock(p);
        /* Not pool_must_share(): the pause may be over by now, or another attempt have succeeded.
         */
        must_share = pool_has_standing(p);
        if (must_share) {
                old->state = POOL_FREE;
                *s = NULL;
                if (pool_take_slot(p, d, f, s) != CACHED_OK)
                        user_left(p, u);
        }
        pool_unlock(p);
        return must_share;
}

enum pool_idle pool_take_idle(struct pool *p, struct pool_user *u, struct pool_slot **ret)
{
        enum pool_idle found = POOL_IDLE_NONE;

        pool_lock(p);
        for (unsigned i = 0; i < p->n_slots && !atomic_load(&p->closed); i++) {
                struct pool_slot *s = &p->slots[i];

                if (!s->conn || !s->greeted)
                        continue;
                if (s->state == POOL_BUSY) {
                        found = POOL_IDLE_BUSY;
                        continue;
                }
                s->state = POOL_BUSY;
                user_refresh(p, u);
                u->n_inside++;
                *ret = s;
                found = POOL_IDLE_TAKEN;
                break;
        }
        pool_unlock(p);
        return found;
}

bool pool_take_ungreeted(struct pool *p, struct pool_user *u, struct pool_slot **ret)
{
        struct pool_slot *best = NULL;

        pool_lock(p);
        for (unsigned i = 0; i < p->n_slots && !atomic_load(&p->closed); i++) {
                struct pool_slot *s = &p->slots[i];

                if (s->state == POOL_FREE && !(s->conn && s->greeted) && (!best || s->conn))
                        best = s;
        }
        if (best) {
                best->state = POOL_BUSY;
                user_refresh(p, u);
                u->n_inside++;
                *ret = best;
        }
        pool_unlock(p);
        return best != NULL;
}

bool pool_stay(struct pool *p, struct pool_user *u)
{
        bool is_closed;

        pool_lock(p);
        is_closed = atomic_load(&p->closed);
        if (!is_closed) {
                user_refresh(p, u);
                u->n_inside++;
        }
        pool_unlock(p);
        return !is_closed;
}

void pool_unstay(struct pool *p, struct pool_user *u)
{
        pool_lock(p);
        user_left(p, u);
        pool_unlock(p);
}

/* --------------------------------------------------------------------------------------- giving */

/* Under the guard. Who is to be woken, when that has been given up. */
static struct pool_waiter *pool_pass_on(struct pool *p, struct pool_slot *s)
{
        struct pool_waiter *w = p->waiters;

        s->state = POOL_FREE;
        if (!w)
                return NULL;
        if (!w->slot && deadline_now_ns() - w->since_ns >= HAND_OVER_NS) {
                s->state = POOL_BUSY;
                w->slot = s;
                waiter_remove(p, w);
                return w;
        }
        while (w && atomic_load(&w->woken))
                w = w->next;
        return w;
}

/* There is no mapping, and no slot left for a connection that asks for one. */
static bool pool_needs_place(const struct pool *p)
{
        if (!pool_lacks_mapping(p))
                return false;
        for (unsigned i = 0; i < p->n_slots; i++)
                if (!p->slots[i].conn)
                        return false;
        return true;
}

void pool_give(struct pool *p, struct pool_user *u, struct pool_slot *s, uint64_t answered_ns)
{
        struct conn *closed = NULL;
        struct pool_waiter *w;

        pool_lock(p);
        s->used = ++p->n_given;
        if (answered_ns > p->answered_ns)
                p->answered_ns = answered_ns;
        if (atomic_load(&p->closed) || pool_needs_place(p))
                closed = slot_empty(p, s);
        w = pool_pass_on(p, s);
        if (w)
                waiter_wake(w);
        user_left(p, u);
        pool_unlock(p);
        (void)conn_free(closed);
}

/* Looked at so rarely that it costs nothing, and one at a time: giving back takes up to a
 * millisecond. */
#define REST_EVERY_NS (UINT64_C(5) * 1000000000u)

bool pool_rest_uploads(struct pool *p, uint64_t now_ns)
{
        uint64_t seen = atomic_load_explicit(&p->rested_ns, memory_order_relaxed);
        struct pool_waiter *w = NULL;
        struct pool_slot *cold = NULL;

        if (now_ns < seen + REST_EVERY_NS ||
            !atomic_compare_exchange_strong(&p->rested_ns, &seen, now_ns))
                return false;
        pool_lock(p);
        for (unsigned i = 0; i < p->n_slots && !cold; i++) {
                struct pool_slot *s = &p->slots[i];

                if (s->state == POOL_FREE && s->conn && upload_is_cold(&s->conn->upload, now_ns))
                        cold = s;
        }
        if (cold)
                cold->state = POOL_BUSY;
        pool_unlock(p);
        if (!cold)
                return true;
        upload_rest(&cold->conn->upload);
        pool_lock(p);
        w = pool_pass_on(p, cold);
        if (w)
                waiter_wake(w);
        pool_unlock(p);
        return true;
}

/* ---------------------------------------------------------------------------------- connections */

/* Without randomness there is none, and nothing is repeated. */
static void slot_identify(struct pool *p, const struct pool_slot *s, struct conn *conn)
{
        size_t n = sizeof(p->client_id);

        if (!p->has_client_id)
                p->has_client_id = getrandom(p->client_id, n, GRND_NONBLOCK) == (ssize_t)n;
        conn->has_client_id = p->has_client_id;
        memcpy(conn->client_id, p->client_id, n);
        conn->client_id[n - 1] ^= (uint8_t)(s - p->slots);
        if (s->next_id > conn->next_id)
                conn->next_id = s->next_id;
}

int pool_put_conn(struct pool *p, struct pool_slot *s, struct conn *conn, struct failure *f)
{
        bool is_closed;

        pool_lock(p);
        is_closed = atomic_load(&p->closed);
        if (!is_closed) {
                s->greeted = false;
                slot_identify(p, s, conn);
                conn->wants_files = true;
                conn->wants_map = p->map.w && !p->map.conn;
                if (conn->wants_map)
                        p->map.conn = conn;
                atomic_signal_fence(memory_order_seq_cst);
                s->conn = conn;
        }
        pool_unlock(p);
        if (!is_closed)
                return CACHED_OK;
        (void)conn_free(conn);
        return failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
}

void pool_drop_conn(struct pool *p, struct pool_slot *s)
{
        struct conn *conn;

        pool_lock(p);
        conn = slot_empty(p, s);
        pool_unlock(p);
        (void)conn_free(conn);
}

/* Takes connections out of free slots: all, or those that have ended. */
static void pool_drop_idle(struct pool *p, bool only_stale)
{
        struct conn *gone[POOL_MAX];
        unsigned n = 0;

        pool_lock(p);
        for (unsigned i = 0; i < p->n_slots; i++) {
                struct pool_slot *s = &p->slots[i];

                if (s->state != POOL_FREE || !s->conn)
                        continue;
                if (only_stale && !conn_is_stale(s->conn))
                        continue;
                gone[n++] = slot_empty(p, s);
        }
        pool_unlock(p);
        while (n > 0)
                (void)conn_free(gone[--n]);
}

void pool_drop_stale(struct pool *p)
{
        pool_drop_idle(p, true);
}

int pool_may_connect(struct pool *p, uint64_t now_ns, struct failure *f, bool *ret_probe)
{
        int code = CACHED_OK;

        pool_lock(p);
        if (backoff_is_pause(&p->backoff, now_ns))
                code = backoff_refuse(&p->backoff, now_ns, f);
        *ret_probe = backoff_is_away(&p->backoff) && p->backoff.silent;
        pool_unlock(p);
        return code;
}

void pool_attempted(struct pool *p, int code, const struct failure *f)
{
        pool_lock(p);
        if (code == CACHED_OK)
                backoff_over(&p->backoff);
        else
                backoff_failed(&p->backoff, deadline_now_ns(), f);
        pool_unlock(p);
}

void pool_answered(struct pool *p, uint64_t start_ns)
{
        pool_lock(p);
        if (start_ns > p->answered_ns)
                p->answered_ns = start_ns;
        if (p->backoff.silent)
                backoff_over(&p->backoff);
        pool_unlock(p);
}

bool pool_wants_call(struct pool *p)
{
        bool wants;

        if (pool_leases(p) == POOL_LEASES_UNKNOWN)
                return true;
        pool_lock(p);
        wants = pool_lacks_mapping(p);
        pool_unlock(p);
        return wants;
}

void pool_timed_out(struct pool *p, uint64_t start_ns, const struct failure *f)
{
        bool is_silent;

        pool_lock(p);
        is_silent = p->answered_ns < start_ns;
        if (is_silent && !backoff_is_away(&p->backoff))
                backoff_failed(&p->backoff, deadline_now_ns(), f);
        pool_unlock(p);
        if (is_silent)
                pool_drop_idle(p, false);
}

/* ----------------------------------------------------------------------------------- mapping */

void pool_map(struct pool *p, struct pool_slot *s)
{
        struct mapping *mp = NULL;

        if (!s->conn->wants_map)
                return;
        if (s->conn->offer.fd[MAP_PART_ARENA] >= 0)
                mp = mapping_new(&s->conn->offer, s->conn->instance);
        map_offer_done(&s->conn->offer);
        pool_lock(p);
        if (!atomic_load(&p->closed)) {
                map_publish(&p->map, mp);
                pool_note_prepared(p);
                mp = NULL;
        }
        map_reap(&p->map);
        pool_unlock(p);
        if (mp)
                mapping_free(mp, true);
}

void pool_end_mapping(struct pool *p, const struct mapping *mp)
{
        bool is_live;

        pool_lock(p);
        is_live = p->map.live == mp;
        if (is_live) {
                map_publish(&p->map, NULL);
                p->map.conn = NULL;
        }
        map_reap(&p->map);
        pool_unlock(p);
        /* Those who count now may be others than who is at their ends. */
        if (is_live)
                pool_drop_idle(p, false);
}

bool pool_is_mapped(struct pool *p)
{
        bool is;

        pool_lock(p);
        is = p->map.live != NULL;
        pool_unlock(p);
        return is;
}

/* ----------------------------------------------------------------------------------- caches */

void pool_note_open(struct pool *p, const char *cache)
{
        pool_lock(p);
        (void)names_put(&p->opened, cache, 0);
        pool_unlock(p);
}

bool pool_has_opened(struct pool *p, const char *cache)
{
        bool has;

        pool_lock(p);
        has = names_find(&p->opened, cache) != NULL;
        pool_unlock(p);
        return has;
}
