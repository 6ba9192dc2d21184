/* SPDX-License-Identifier: MIT */
/*
 * The line: one connection of a pool that all its waits for leases share
 *
 * A lease ends with its connection, and the daemon sees who waits for whom only on one connection.
 * So what asks for leases does not go over the slots of the pool, where each call has a connection
 * for itself for as long as it lasts, but over one more, on which many requests are in flight at
 * the same time. It is made when it is needed, stays while a lease is held, and is closed when it
 * was not used for a while (line_rest()).
 *
 * Many threads wait on it at once. One of them reads, for all: it hands each reply to whoever
 * asked, and when its own has come another one goes on reading. All others sleep until that
 * happens, something came for them, or their time is over: on one word, each with a bit, so that
 * all who are to be woken are by one call, when everything that was there is read. Who has its
 * reply is out of the line already, and takes no lock any more. Nobody reads when nobody waits:
 * what comes then is found by the next one.
 *
 * A daemon that is there answers in time that the request does not wait for, or the wait would not
 * be known from a daemon that stopped. So after some silence a Ping is sent; a daemon that does not
 * answer that, either, is silent, and whoever waits gives up. The pauses between pings double up to
 * some seconds.
 *
 * Requests that wait keep their places among those that the daemon takes at a time. Half of these
 * are for requests of computations that others may wait for: where those were held back behind the
 * others, nobody would get on.
 *
 * A child process finds an empty line: its generation is another, by which whoever still has
 * something of the parent's (a lease, a wait inside a callback that forked) sees that it counts no
 * more.
 */

#include "client/line.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/line-conn.h"
#include "client/map-touch.h"
#include "client/reply.h"

/* As for calls: perhaps it is this request that the daemon dies of. */
#define TRIES_MAX 3
/* The longest pause between two pings. */
#define PING_MAX_NS UINT64_C(10000000000)
/* A daemon that is known to be silent is waited for no longer. */
#define PROBE_MS 1
/* An unused connection is closed after so long; and it is looked at so often. */
#define IDLE_NS UINT64_C(30000000000)
/* Of the places in flight some are for requests that never wait. */
#define PLACES_KEPT 16

/* One wait, on the stack of its thread. */
struct wait {
        struct pool *p;
        struct line_want *want;
        struct line_ask ask;
        struct line_at at; /* where it was sent */
        uint64_t tick_ns;  /* when `news` is called next; UINT64_MAX: not by time */
        uint64_t pause_ns; /* of silence before the next ping */
        bool is_free;      /* somebody else ended it, and the guard is not held */
};

/* ------------------------------------------------------------------------------------- asks */

static bool same_at(struct line_at a, struct line_at b)
{
        return a.generation == b.generation && a.epoch == b.epoch;
}

/* Somebody else is to read, if anybody waits: for a reply, or, where none does, for a place. */
static void line_pass_reading(struct line *l)
{
        struct line_ask *reader = NULL;

        if (l->is_read || l->is_opening || !l->conn)
                return;
        for (struct line_ask *a = l->asks; a; a = a->next)
                if (!a->is_done && !a->is_told && (!reader || (a->id && !reader->id)))
                        reader = a;
        if (reader)
                line_wake(l, reader);
}

static void ask_remove(struct pool *p, struct line_ask *a)
{
        struct line *l = &p->line;

        if (a->is_listed && a->generation == l->at.generation)
                line_remove(l, a);
        line_pass_reading(l);
        line_pass_place(l);
}

static int ask_fail(struct line_ask *a, int code, const char *text)
{
        a->is_done = true;
        a->code = failure_set(&a->why, code, "%s", text);
        return code;
}

/* ---------------------------------------------------------------------------------- waiting */

static uint64_t earlier(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

/* With the guard, which is given up for good. Until somebody wakes the ask, or perhaps another. */
static void ask_sleep(struct pool *p, const struct line_ask *a, uint64_t until_ns)
{
        struct line *l = &p->line;
        uint32_t bit = a->bit, seen;
        struct timespec t = {0}, *until = NULL;

        seen = atomic_load_explicit(&l->wakes, memory_order_relaxed);
        line_unlock(p);
        if (until_ns != UINT64_MAX) {
                t = (struct timespec){(time_t)(until_ns / 1000000000u),
                                      (long)(until_ns % 1000000000u)};
                until = &t;
        }
        (void)syscall(SYS_futex, (uint32_t *)(void *)&l->wakes, FUTEX_WAIT_BITSET_PRIVATE, seen,
                      until, NULL, bit);
}

/* How many may be in flight. */
static unsigned line_places(const struct line *l, bool is_nested)
{
        unsigned most =
                l->conn->max_in_flight > PLACES_KEPT ? l->conn->max_in_flight - PLACES_KEPT : 1;

        return is_nested ? most : (most + 1) / 2;
}

static uint32_t half_patience_ms(const struct line_want *w)
{
        return w->patience_ms > 1 ? w->patience_ms / 2 : 1;
}

static void line_ping(struct pool *p)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__Ping ping = CACHED__V1__PING__INIT;
        struct failure f;

        request.op_case = CACHED__V1__REQUEST__OP_PING;
        request.ping = &ping;
        /* One that cannot even be sent is one that is not answered. */
        p->line.ping_ns = deadline_now_ns();
        if (line_send(p, &request, NULL, (struct deadline){p->line.ping_ns}, &f) == CACHED_OK)
                p->line.ping_id = request.id;
}

/* Is the daemon there? Ends the wait if not. Else until when there is nothing to do about it. */
static uint64_t wait_probe(struct wait *w, uint64_t now)
{
        struct line *l = &w->p->line;
        uint64_t half_ns = half_patience_ms(w->want) * UINT64_C(1000000), from;

        if (w->want->patience_ms == 0)
                return UINT64_MAX;
        if (l->ping_id) {
                from = l->ping_ns > w->ask.since_ns ? l->ping_ns : w->ask.since_ns;
                if (now < from + half_ns)
                        return from + half_ns;
                w->want->is_silent = true;
                (void)ask_fail(&w->ask, CACHED_ERR_TIMEOUT, cached_strerror(CACHED_ERR_TIMEOUT));
                return now;
        }
        from = l->heard_ns > w->ask.since_ns ? l->heard_ns : w->ask.since_ns;
        if (w->pause_ns == 0)
                w->pause_ns = half_ns;
        if (now < from + w->pause_ns)
                return from + w->pause_ns;
        w->pause_ns =
                earlier(w->pause_ns < 500000000u ? 1000000000u : 2 * w->pause_ns, PING_MAX_NS);
        line_ping(w->p);
        return now + half_ns;
}

/* What has come, or that time passes, is told without the guard. False: this is another process
 * now. */
static bool wait_tell(struct wait *w)
{
        struct cached_reply *event = w->ask.event;
        unsigned generation = w->at.generation;
        int stop;

        w->ask.event = NULL;
        w->ask.is_told = true;
        line_pass_reading(&w->p->line); /* it may take long */
        line_unlock(w->p);
        stop = w->want->news ? w->want->news(w->want->data, event ? &event : NULL) : 0;
        cached_reply_free(event);
        line_lock(w->p);
        w->ask.is_told = false;
        if (w->want->every_ms)
                w->tick_ns = deadline_now_ns() + w->want->every_ms * UINT64_C(1000000);
        if (w->p->line.at.generation != generation) {
                (void)ask_fail(&w->ask, CACHED_ERR_DISCONNECTED,
                               "the process that waited is another one");
                return false;
        }
        if (stop && !w->ask.is_done)
                (void)ask_fail(&w->ask, CACHED_ERR_TIMEOUT, "the wait was ended");
        return true;
}

/* One step. The request was sent. False as wait_tell(). */
static bool wait_step(struct wait *w)
{
        struct line *l = &w->p->line;
        uint64_t now = deadline_now_ns(), until;

        if (w->ask.event || now >= w->tick_ns)
                return wait_tell(w);
        if (now >= w->want->d.at_ns) {
                (void)ask_fail(&w->ask, CACHED_ERR_TIMEOUT, cached_strerror(CACHED_ERR_TIMEOUT));
                return true;
        }
        until = earlier(wait_probe(w, now), earlier(w->tick_ns, w->want->d.at_ns));
        if (w->ask.is_done)
                return true;
        if (!l->is_read && l->conn) {
                line_read(w->p, (struct deadline){until});
                line_pass_place(l);
                return true;
        }
        ask_sleep(w->p, &w->ask, until);
        w->is_free = atomic_load_explicit(&w->ask.is_done, memory_order_acquire);
        if (!w->is_free)
                line_lock(w->p);
        return true;
}

/* ---------------------------------------------------------------------------------- sending */

/* For a place, or the connection. Those in flight whose replies nobody waits for have places, too:
 * they come free by being read. */
static void wait_for_place(struct wait *w, struct deadline until)
{
        struct line *l = &w->p->line;

        if (l->conn && !l->is_opening && !l->is_read) {
                line_read(w->p, until);
        } else {
                ask_sleep(w->p, &w->ask, until.at_ns);
                line_lock(w->p);
        }
}

/* What a Get may come without depends on who is asked. */
static void want_address(const struct line_want *w, const struct conn *conn)
{
        Cached__V1__Get *get = w->request->get;

        if (w->request->op_case != CACHED__V1__REQUEST__OP_GET)
                return;
        get->as_file = conn->has_files;
        get->have_case = CACHED__V1__GET__HAVE__NOT_SET;
        if (conn->has_files && get->have_version && w->have_instance == conn->instance)
                get->have_case = CACHED__V1__GET__HAVE_HAVE_VERSION;
}

/* Until it was sent. With the guard, also where it fails. */
static int wait_send(cached *c, struct wait *w, struct failure *f)
{
        struct pool *p = w->p;
        struct line *l = &p->line;
        struct deadline d = deadline_in_ms(w->want->patience_ms);

        d.at_ns = earlier(d.at_ns, w->want->d.at_ns);
        for (;;) {
                unsigned generation = l->at.generation;
                int code = line_open(c, d, f);

                if (code == CACHED_OK &&
                    l->n_sent + l->n_left < line_places(l, w->want->is_nested)) {
                        w->want->request->deadline_ms = w->want->patience_ms;
                        want_address(w->want, l->conn);
                        w->at = l->at;
                        code = line_send(p, w->want->request, &w->ask, d, f);
                        w->want->is_silent = code == CACHED_ERR_TIMEOUT;
                        if (code != CACHED_OK)
                                return code;
                        if (l->n_sent + l->n_left < line_places(l, false))
                                line_pass_place(l); /* perhaps there are more */
                        return CACHED_OK;
                }
                if (code == CACHED_OK && w->want->is_nested)
                        return failure_set(f, CACHED_LIMIT,
                                           "too many threads of this process wait for leases");
                if (code != CACHED_OK && code != CONN_AGAIN)
                        return code;
                if (deadline_now_ns() >= (code == CACHED_OK ? w->want->d.at_ns : d.at_ns))
                        return failure_set(f, CACHED_ERR_TIMEOUT, "%s",
                                           cached_strerror(CACHED_ERR_TIMEOUT));
                wait_for_place(w, code == CACHED_OK ? w->want->d : d);
                if (w->ask.is_done) {
                        *f = w->ask.why;
                        return f->code;
                }
                if (l->at.generation != generation)
                        return failure_set(f, CACHED_ERR_DISCONNECTED, "the process forked");
        }
}

/* --------------------------------------------------------------------------------------- one */

static bool line_is_forsaken(const struct line *l)
{
        return l->conn && l->n_left > 0 && l->n_sent == 0 && l->n_leases == 0;
}

/* What nobody waits for any more may be granted a lease that nobody would end: the end of the
 * connection does. */
static void line_forsake(struct pool *p)
{
        const struct line *l = &p->line;

        if (!line_is_forsaken(l))
                return;
        /* It may be there already. */
        if (!l->is_read && !l->is_opening) {
                line_read(p, DEADLINE_NOW);
                line_pass_reading(&p->line); /* others may have come meanwhile */
        }
        if (line_is_forsaken(l))
                line_break(p, CACHED_ERR_TIMEOUT, cached_strerror(CACHED_ERR_TIMEOUT));
}

/* With the guard, which is given up. */
static void wait_end(struct wait *w, bool is_here)
{
        struct pool *p = w->p;
        struct line *l = &p->line;

        if (is_here && w->ask.id && !w->ask.reply && l->conn && same_at(w->at, l->at)) {
                l->n_sent--;
                l->n_left++;
        }
        if (is_here) {
                ask_remove(p, &w->ask);
        } else {
                /* What came is the parent's, who has it as well. */
                cached_reply_free(w->ask.reply);
                w->ask.reply = NULL;
        }
        line_forsake(p);
        line_unlock(p);
}

/* One attempt. */
static int wait_run(cached *c, struct line_want *want, struct failure *f, struct cached_reply **ret,
                    struct line_at *ret_at)
{
        struct pool *p = c->pool;
        struct wait w = {.p = p, .want = want, .tick_ns = UINT64_MAX};
        bool is_here = true;
        int code;

        w.ask.op = want->request->op_case;
        line_lock(p);
        line_add(&p->line, &w.ask);
        code = wait_send(c, &w, f);
        if (code == CACHED_OK && want->every_ms)
                w.tick_ns = w.ask.since_ns + want->every_ms * UINT64_C(1000000);
        while (code == CACHED_OK && !w.ask.is_done)
                is_here = wait_step(&w);
        if (!w.is_free)
                wait_end(&w, is_here);
        if (code == CACHED_OK) {
                code = w.ask.code;
                if (code != CACHED_OK)
                        *f = w.ask.why;
        }
        cached_reply_free(w.ask.event);
        *ret = w.ask.reply;
        *ret_at = w.at;
        return code;
}

/* A connection that broke, or a daemon that goes: another one may be there. */
static bool is_break(int code)
{
        return code == CACHED_ERR_DISCONNECTED || code == CACHED_SHUTTING_DOWN;
}

static int line_tries(cached *c, struct line_want *w, struct failure *f, struct cached_reply **ret,
                      struct line_at *ret_at)
{
        for (int tries = 1;; tries++) {
                bool is_probe;
                uint32_t patience_ms = w->patience_ms;
                int code = pool_may_connect(c->pool, deadline_now_ns(), f, &is_probe);

                if (code != CACHED_OK)
                        return code;
                if (is_probe)
                        w->patience_ms = PROBE_MS;
                w->is_silent = false;
                code = wait_run(c, w, f, ret, ret_at);
                w->patience_ms = patience_ms;
                if (*ret || !is_break(code) || tries == TRIES_MAX)
                        return code;
        }
}

int line_ask(cached *c, struct line_want *w, struct failure *f, struct cached_reply **ret,
             struct line_at *ret_at)
{
        uint64_t start_ns = deadline_now_ns();
        struct pool *p = c->pool;
        int code;

        *ret = NULL;
        *ret_at = (struct line_at){0};
        map_before_request(&p->map);
        if (!pool_stay(p, &c->user))
                return failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        code = line_tries(c, w, f, ret, ret_at);
        if (*ret)
                pool_answered(p, start_ns);
        else if (code == CACHED_ERR_TIMEOUT && w->is_silent)
                pool_timed_out(p, start_ns, f);
        pool_unstay(p, &c->user);
        return *ret ? (*ret)->code : code;
}

/* ----------------------------------------------------------------------------- without waiting */

bool line_tell(struct pool *p, struct line_at at, Cached__V1__Request *request)
{
        struct line *l = &p->line;
        struct failure f;
        bool sent = false;

        line_lock(p);
        if (l->conn && !l->is_opening && same_at(l->at, at))
                sent = line_send(p, request, NULL, deadline_in_ms(100), &f) == CACHED_OK;
        line_unlock(p);
        return sent;
}

void line_lease_ended(struct pool *p, struct line_at at)
{
        line_lock(p);
        if (p->line.conn && same_at(p->line.at, at) && p->line.n_leases > 0)
                p->line.n_leases--;
        line_forsake(p);
        line_unlock(p);
}

bool line_is_at(struct pool *p, struct line_at at)
{
        bool is;

        line_lock(p);
        is = p->line.conn && same_at(p->line.at, at);
        line_unlock(p);
        return is;
}

uint64_t line_new_owner(struct pool *p)
{
        uint64_t n;

        line_lock(p);
        n = ++p->line.next_owner;
        line_unlock(p);
        return n;
}

void line_rest(struct pool *p, uint64_t now_ns)
{
        struct line *l = &p->line;

        line_lock(p);
        /* Leases that came too late go back. Meanwhile others may have come to wait. */
        if (l->conn && !l->is_opening && !l->is_read && l->n_left > 0) {
                line_read(p, DEADLINE_NOW);
                line_pass_reading(l);
                line_forsake(p);
        }
        if (l->conn && !l->is_opening && !l->asks && l->n_leases == 0 &&
            now_ns > l->used_ns + IDLE_NS)
                line_break(p, CACHED_ERR_CLOSED, cached_strerror(CACHED_ERR_CLOSED));
        line_unlock(p);
}
