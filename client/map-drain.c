/* SPDX-License-Identifier: MIT */
/*
 * Having the daemon take over what a reader noted
 *
 * Drain requests are sent one-way and without waiting for room, on a connection that nobody uses;
 * if all are in use, what is being asked on them drains the rings as well. Where a ring is full the
 * reader waits for its tail to move, which is the answer: nothing has to be received, so no
 * connection gets out of step when it does not come. It waits for a short time, once; then touches
 * are lost until the daemon moves again. Look-ups go on in any case.
 *
 * A daemon that ends a connection makes the rings of its page full. Then the request finds that the
 * connection is gone, another one is begun, and the use is noted in the page that comes with it. A
 * daemon that is only about to start, while a service manager listens for it, is not waited for:
 * hits go on, and look now and then whether it has greeted the connection (handle_look()).
 *
 * A handle must not go away under this: it counts as a call inside.
 */

#include "client/map-drain.h"

#include <sched.h>

#include "client/call.h"
#include "client/view.h"

/* What a hit waits at most for a daemon that does not drain: far more than any turn of its loop. */
#define ROOM_WAIT_NS UINT64_C(50000000)
#define ROOM_YIELDS  20
/* A daemon that was killed drains no more: so many sleeps, about a millisecond, between two looks
 * whether connections have ended. */
#define ROOM_LOOKS 10
/* Before that it only looks: a daemon that was asked a moment ago is about to drain on another
 * processor. */
#define ROOM_SPIN_NS UINT64_C(100000)

/* A daemon to note things for: connecting gets another page. One that is there drains at once. */
static void find_daemon(cached *c)
{
        struct call call = call_init(CACHED__V1__REQUEST__OP_DRAIN);
        Cached__V1__Drain m = CACHED__V1__DRAIN__INIT;

        if (!handle_look(c))
                return;
        call.request.drain = &m;
        call.idempotent = true;
        (void)call_run(c, &call, NULL);
}

/* False: the connection broke, and is gone. */
static bool send_drain(cached *c, struct pool_slot *s)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Drain m = CACHED__V1__DRAIN__INIT;
        struct buffer *out = &s->conn->out;
        struct failure f;
        struct iovec iov;
        size_t n = 0;
        int code;

        m.one_way = 1;
        request.id = s->conn->next_id++;
        request.op_case = CACHED__V1__REQUEST__OP_DRAIN;
        request.drain = &m;
        buffer_take(out, buffer_n(out));
        if (call_pack(s->conn, &request, 0, out, &f) != CACHED_OK)
                return true;
        iov = (struct iovec){out->data + out->start, buffer_n(out)};
        code = conn_send_some(s->conn, &iov, 1, &f, &n);
        /* No room at all: the daemon has plenty to read there already. */
        if (code == CACHED_OK && (n == 0 || n == iov.iov_len))
                return true;
        pool_drop_conn(c->pool, s);
        return false;
}

static void ask(cached *c)
{
        struct pool_slot *s;

        switch (pool_take_idle(c->pool, &c->user, &s)) {
        case POOL_IDLE_TAKEN:
                if (send_drain(c, s)) {
                        pool_give(c->pool, &c->user, s, 0);
                        return;
                }
                pool_give(c->pool, &c->user, s, 0);
                pool_drop_stale(c->pool);
                break;
        case POOL_IDLE_BUSY:
                return;
        case POOL_IDLE_NONE:
                break;
        }
        find_daemon(c);
}

/* The page is another one now; the arena need not be. */
static void note_elsewhere(const struct map_visit *v, uint64_t instance, const struct map_use *use)
{
        if (v->mp->arena.instance == instance)
                (void)map_touch(v, use->handle, use->version, use->now_ms);
}

/* Until the use was noted, or it is not worth waiting. The mapping @serial, which may be gone, was
 * of an arena of @instance. */
static void await_room(cached *c, uint64_t serial, uint64_t instance, const struct map_use *use)
{
        uint64_t start = deadline_now_ns(), end = start + ROOM_WAIT_NS;
        struct map *m = &c->pool->map;
        unsigned yields = 0;

        for (;;) {
                struct map_visit v;
                enum map_touched t;
                bool is_full, is_over;

                if (!map_enter(m, &v))
                        return;
                if (v.mp->serial != serial) {
                        note_elsewhere(&v, instance, use);
                        map_leave(m, &v);
                        return;
                }
                t = map_touch(&v, use->handle, use->version, use->now_ms);
                is_full = (t == MAP_TOUCH_FULL || t == MAP_TOUCH_FULL_ASK) &&
                          !atomic_load_explicit(&v.mp->is_orphan, memory_order_relaxed);
                is_over = is_full && deadline_now_ns() >= end;
                if (is_over)
                        map_touch_give_up(&v);
                map_leave(m, &v);
                if (!is_full || is_over)
                        return;
                if (m->has_cpus && deadline_now_ns() - start < ROOM_SPIN_NS)
                        continue;
                if (yields++ < ROOM_YIELDS) {
                        (void)sched_yield();
                } else {
                        (void)nanosleep(&(struct timespec){0, 50000}, NULL);
                        if (yields % ROOM_LOOKS == 0)
                                pool_drop_stale(c->pool);
                }
        }
}

void map_drain(cached *c, const struct map_visit *v, enum map_touched t, const struct map_use *use)
{
        uint64_t instance = v->mp->arena.instance, serial = v->mp->serial;
        bool is_inside;

        if (t == MAP_TOUCH_LOST) {
                map_leave(&c->pool->map, v);
                return;
        }
        is_inside = pool_stay(c->pool, &c->user);
        map_leave(&c->pool->map, v);
        if (!is_inside)
                return;
        if (t == MAP_TOUCH_ORPHAN)
                find_daemon(c);
        else if (t != MAP_TOUCH_FULL)
                ask(c);
        view_tend(c);
        if (t == MAP_TOUCH_FULL || t == MAP_TOUCH_FULL_ASK)
                await_room(c, serial, instance, use);
        pool_unstay(c->pool, &c->user);
}
