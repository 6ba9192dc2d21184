/* SPDX-License-Identifier: MIT */
/*
 * What a pool keeps of large values: recent views, what the daemon is to be told of them, and
 * buffers that were prepared
 *
 * A memory file that came from the daemon holds a reference to the pool, so that the one who lets
 * go of it last, at whatever time, finds somebody who tells the daemon. That is sent along with the
 * next request, or by who released the view if a connection is idle; nobody waits for it. After
 * the pool was closed one connection stays for that, until the last file is gone; if all were busy
 * then, the daemon learns it when the process ends.
 *
 * Whether a value that is kept still is the entry's is asked for one place with each request and
 * each look at a view (view-look.c): values that were replaced or left are not held for long.
 * Without a mapping nobody can tell, and what was not looked at for a while goes.
 *
 * A child has no part in it: it drops its copies, and the daemon hears nothing.
 */

#include "client/pool-views.h"

#include <cached.h>
#include <stdlib.h>

/* -------------------------------------------------------------------------------------- looking */

struct view_file *pool_find_view(struct pool *p, uint64_t instance, uint64_t version)
{
        struct view_file *v;

        if (atomic_load_explicit(&p->n_kept, memory_order_relaxed) == 0)
                return NULL;
        pool_lock(p);
        v = view_cache_find(&p->views, instance, version, deadline_now_ns());
        pool_unlock(p);
        return v;
}

struct view_file *pool_find_view_of(struct pool *p, const char *cache, const void *key,
                                    size_t n_key)
{
        struct view_file *v;

        if (atomic_load_explicit(&p->n_kept, memory_order_relaxed) == 0)
                return NULL;
        pool_lock(p);
        v = view_cache_find_key(&p->views, cache, key, n_key, deadline_now_ns());
        pool_unlock(p);
        return v;
}

/* -------------------------------------------------------------------------------------- keeping */

void pool_keep_view(struct pool *p, struct view_file *v, const char *cache, const void *key,
                    size_t n_key)
{
        struct view_file *old = NULL;

        pool_lock(p);
        if (v->fd >= 0 && !v->pool) {
                v->pool = p;
                v->generation = p->generation;
                p->n_refs++;
                p->n_held++;
        }
        if (cache && !atomic_load(&p->closed)) {
                old = view_cache_put(&p->views, v, cache, key, n_key, deadline_now_ns());
                if (!old && p->views.n_slots > 0)
                        atomic_fetch_add(&p->n_kept, 1);
        }
        pool_unlock(p);
        view_file_unref(old);
}

void pool_lose_view(struct pool *p, uint64_t instance, uint64_t view_id)
{
        pool_lock(p);
        release_add(&p->released, instance, view_id);
        atomic_store(&p->has_released, true);
        pool_unlock(p);
}

bool pool_next_view(struct pool *p, struct view_slot *ret)
{
        struct view_slot *s;

        if (atomic_load_explicit(&p->n_kept, memory_order_relaxed) == 0)
                return false;
        pool_lock(p);
        s = view_cache_next(&p->views);
        if (s) {
                *ret = *s;
                (void)view_file_ref(s->file);
        }
        pool_unlock(p);
        return s != NULL;
}

void pool_drop_view(struct pool *p, uint64_t instance, uint64_t version)
{
        struct view_file *gone = NULL;

        pool_lock(p);
        for (unsigned i = 0; i < p->views.n_slots && !gone; i++) {
                const struct view_file *v = p->views.slots[i].file;

                if (v && v->instance == instance && v->version == version) {
                        gone = view_cache_take(&p->views, i);
                        atomic_fetch_sub(&p->n_kept, 1);
                }
        }
        pool_unlock(p);
        view_file_unref(gone);
}

void pool_drop_views(struct pool *p)
{
        for (unsigned i = 0; i < p->views.n_slots; i++) {
                struct view_file *gone;

                pool_lock(p);
                gone = view_cache_take(&p->views, i);
                if (gone)
                        atomic_fetch_sub(&p->n_kept, 1);
                pool_unlock(p);
                view_file_unref(gone);
        }
        pool_tell(p);
}

/* -------------------------------------------------------------------------------------- telling */

/* One attempt. False: the connection is out of step. */
static bool tell_on(struct conn *conn, struct release *r)
{
        struct buffer *out = &conn->out;
        struct failure f;
        struct iovec iov;
        size_t n = 0;

        buffer_take(out, buffer_n(out));
        release_pack(r, conn, out);
        if (buffer_n(out) == 0)
                return true;
        iov = (struct iovec){out->data + out->start, buffer_n(out)};
        return conn_send_some(conn, &iov, 1, &f, &n) == CACHED_OK && n == iov.iov_len;
}

void pool_tell(struct pool *p)
{
        struct release r = {0};
        struct pool_slot *s;

        if (!atomic_load_explicit(&p->has_released, memory_order_relaxed) ||
            pool_take_idle(p, &p->telling, &s) != POOL_IDLE_TAKEN)
                return;
        pool_take_released(p, &r);
        if (!tell_on(s->conn, &r))
                pool_drop_conn(p, s);
        pool_give_released(p, &r);
        pool_give(p, &p->telling, s, 0);
}

void pool_take_released(struct pool *p, struct release *ret)
{
        if (!atomic_load_explicit(&p->has_released, memory_order_relaxed))
                return;
        pool_lock(p);
        release_move(&p->released, ret);
        atomic_store(&p->has_released, false);
        pool_unlock(p);
}

void pool_give_released(struct pool *p, struct release *r)
{
        if (r->n > 0) {
                pool_lock(p);
                release_move(r, &p->released);
                atomic_store(&p->has_released, true);
                pool_unlock(p);
        }
        release_done(r);
}

bool pool_wants_teller(const struct pool *p)
{
        return p->n_held > 0;
}

/* Under the guard, when the pool is closed. The connection to be freed, if it is needed no more. */
static struct conn *teller_tell(struct pool *p)
{
        struct conn *conn = p->teller;

        if (!conn)
                return NULL;
        if (tell_on(conn, &p->released) && p->n_held > 0)
                return NULL;
        p->teller = NULL;
        return conn;
}

void pool_view_gone(struct pool *p, unsigned generation, uint64_t instance, uint64_t view_id)
{
        struct conn *done = NULL;

        pool_lock(p);
        if (p->generation == generation) {
                p->n_held--;
                release_add(&p->released, instance, view_id);
                atomic_store(&p->has_released, true);
                if (atomic_load(&p->closed))
                        done = teller_tell(p);
        }
        pool_unlock(p);
        (void)conn_free(done);
        pool_tell(p);
        pool_unref(p);
}

/* ----------------------------------------------------------------------------------- after fork */

void pool_inherit_views(struct pool *p, bool is_whole)
{
        for (unsigned i = 0; i < p->views.n_slots && is_whole; i++) {
                struct view_file *v = view_cache_take(&p->views, i);

                if (v && view_file_drop_inherited(v))
                        p->n_refs--;
        }
        for (unsigned i = 0; i < p->views.n_slots; i++)
                p->views.slots[i].file = NULL;
        atomic_store(&p->n_kept, 0);
        p->n_held = 0;
        if (is_whole)
                release_done(&p->released);
        p->released = (struct release){0};
        atomic_store(&p->has_released, false);
        if (p->teller && is_whole)
                (void)conn_free(p->teller);
        else if (p->teller)
                conn_abandon(p->teller);
        p->teller = NULL;
        prepared_inherit(&p->prepared, is_whole);
}

/* ------------------------------------------------------------------------------------- prepared */

void pool_note_prepared(struct pool *p)
{
        if (p->map.live)
                atomic_store(&p->map.live->page->prepared_bytes, p->prepared.n_bytes);
}
