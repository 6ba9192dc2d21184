/* SPDX-License-Identifier: MIT */
/*
 * The handle: its life, and how its connections come about
 *
 * A handle is its options and a reference to a pool of connections, which handles that were derived
 * from it share. It connects to nothing until a call finds a slot without a connection.
 *
 * A daemon that is away costs a call next to nothing. After an attempt that failed there is a pause
 * (backoff.c) in which calls that would have to connect fail at once. A daemon that was there and
 * left a call without an answer until its deadline counts as silent (stopped, or far too slow):
 * connections that stand are dropped, and the next one must be greeted within a millisecond. If it
 * is not, it stays as it is, and each later call only looks whether the greeting has come; so the
 * first call after the daemon has woken up goes through, and none before it waits.
 *
 * cached_connect() does not ask the back-off: who calls it wants to know now.
 */

#include "client/handle.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/call.h"
#include "client/holder.h"

/* How long a call waits for the greeting of a daemon that is known to be silent. */
#define PROBE_NS 1000000u
/* How long a hit waits for the greeting of a daemon that it looks for: one that is there and not
 * busy has the hit's use noted. */
#define LOOK_NS 5000000u

/* ----------------------------------------------------------------------------------------- life */

int cached_new(const cached_options *o, cached **ret)
{
        cached *c;

        if (!ret)
                return CACHED_ERR_USAGE;
        c = calloc(1, sizeof(*c));
        if (!c)
                return CACHED_ERR_NOMEM;
        if (!options_copy(o, &c->options)) {
                free(c);
                return CACHED_ERR_NOMEM;
        }
        if (!options_read_environment(&c->options)) {
                cached_free(c);
                return CACHED_ERR_NOMEM;
        }
        if (sockpaths_resolve(c->options.socket, &c->paths) < 0) {
                cached_free(c);
                return CACHED_ERR_USAGE;
        }
        c->options.spins = !c->options.no_spin && sysconf(_SC_NPROCESSORS_CONF) > 1;
        c->pool = pool_new(&(struct pool_params){c->options.max_connections, !c->options.no_map,
                                                 c->options.n_views, c->options.prepared_bytes});
        if (c->pool && c->options.warm)
                c->pool->warm = calloc(1, sizeof(*c->pool->warm));
        if (!c->pool || (c->options.warm && !c->pool->warm)) {
                cached_free(c);
                return CACHED_ERR_NOMEM;
        }
        *ret = c;
        return CACHED_OK;
}

int cached_with_timeout(cached *c, uint32_t ms, cached **ret)
{
        cached *derived;

        if (!c || !ret)
                return CACHED_ERR_USAGE;
        derived = calloc(1, sizeof(*derived));
        if (!derived)
                return CACHED_ERR_NOMEM;
        if (!options_copy(&c->options, &derived->options)) {
                free(derived);
                return CACHED_ERR_NOMEM;
        }
        derived->options.timeout_ms = ms;
        derived->paths = c->paths;
        derived->pool = c->pool;
        derived->is_derived = true;
        pool_ref(derived->pool);
        *ret = derived;
        return CACHED_OK;
}

void cached_close(cached *c)
{
        if (c)
                pool_close(c->pool);
}

void cached_free(cached *c)
{
        if (!c)
                return;
        if (c->pool) {
                if (!c->is_derived) {
                        holder_end(c->pool);
                        pool_close(c->pool);
                }
                pool_leave(c->pool, &c->user);
        }
        options_done(&c->options);
        free(c);
}

const char *cached_socket_path(const cached *c)
{
        return c ? c->paths.at[atomic_load(&c->pool->which)].path : NULL;
}

struct packing handle_packing(const cached *c)
{
        return (struct packing){c->options.pack_min, atomic_load(&c->pool->max_lz4)};
}

bool handle_has_opened(cached *c, const char *cache)
{
        return pool_has_opened(c->pool, cache);
}

/* ----------------------------------------------------------------------------------- connecting */

static struct deadline earlier(struct deadline d, uint64_t at_ns)
{
        return d.at_ns < at_ns ? d : (struct deadline){at_ns};
}

/* A connection in the slot, which has said Hello. */
static int slot_dial(cached *c, struct pool_slot *s, struct deadline d, struct failure *f)
{
        struct conn *conn;
        size_t which = 0;
        int code = conn_dial(&c->options, &c->paths, d, &c->pool->closed, f, &conn, &which);

        if (code != CACHED_OK)
                return code;
        code = pool_put_conn(c->pool, s, conn, f);
        if (code != CACHED_OK)
                return code;
        atomic_store(&c->pool->which, which);
        code = conn_hello_send(conn, &c->options, d, f);
        /* A daemon that turns a connection away says why before it closes. */
        return code == CACHED_ERR_DISCONNECTED ? CACHED_OK : code;
}

/*
 * One attempt, from wherever the slot is: no connection, or one whose greeting is still to come.
 * That a deadline passed leaves the slot as it is; after any other failure it is empty.
 */
static int slot_attempt(cached *c, struct pool_slot *s, struct deadline d, struct failure *f)
{
        int code = CACHED_OK;

        if (!s->conn)
                code = slot_dial(c, s, d, f);
        if (code == CACHED_OK)
                code = conn_hello_receive(s->conn, d, f);
        if (code == CACHED_OK) {
                pool_map(c->pool, s);
                s->greeted = true;
                atomic_store(&c->pool->max_lz4, s->conn->max_lz4);
                atomic_store(&c->pool->files, s->conn->has_files ? POOL_FILES_YES : POOL_FILES_NO);
                atomic_store(&c->pool->leases,
                             s->conn->has_leases ? POOL_LEASES_YES : POOL_LEASES_NO);
        } else if (s->conn && code != CACHED_ERR_TIMEOUT)
                pool_drop_conn(c->pool, s);
        return code;
}

/* Failures that say nothing about the daemon. */
static bool is_ours(int code)
{
        return code == CACHED_ERR_NOMEM || code == CACHED_ERR_CLOSED;
}

static int handle_attempt(cached *c, struct pool_slot *s, struct deadline d, struct failure *f)
{
        int code = slot_attempt(c, s, d, f);

        /* Who comes as a daemon gives way to another is sent away: the other one is on the same
         * socket. One that just ends leaves none. */
        if (code == CACHED_SHUTTING_DOWN)
                code = slot_attempt(c, s, d, f);
        if (code == CACHED_ERR_TIMEOUT && s->conn)
                conn_hello_late(s->conn, f);
        if (!is_ours(code))
                pool_attempted(c->pool, code, f);
        return code;
}

int handle_connect(cached *c, struct pool_slot *s, struct deadline d, struct failure *f)
{
        struct failure pause;
        uint64_t now;
        bool is_probe;
        int code;

        if (s->conn && s->greeted)
                return CACHED_OK;
        if (atomic_load(&c->pool->closed))
                return failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        now = deadline_now_ns();
        code = pool_may_connect(c->pool, now, &pause, &is_probe);
        if (code != CACHED_OK) {
                /* Only looking costs no more than saying no. */
                if (s->conn && slot_attempt(c, s, (struct deadline){now}, f) == CACHED_OK) {
                        pool_attempted(c->pool, CACHED_OK, NULL);
                        return CACHED_OK;
                }
                *f = pause;
                return code;
        }
        return handle_attempt(c, s, is_probe ? earlier(d, now + PROBE_NS) : d, f);
}

int handle_greet(cached *c, uint32_t patience_ms, struct failure *f)
{
        struct deadline d = deadline_in_ms(patience_ms ? patience_ms : c->options.timeout_ms);
        struct pool_slot *s;
        int code = pool_take(c->pool, &c->user, d, f, &s);

        if (code != CACHED_OK)
                return code;
        code = handle_connect(c, s, d, f);
        pool_give(c->pool, &c->user, s, 0);
        return code;
}

/* What one look says of the daemon: nothing, if it is only not there yet. A connection that it ends
 * before the greeting was one of a daemon that goes. */
static bool is_telling(int code)
{
        return !is_ours(code) && code != CACHED_ERR_TIMEOUT && code != CONN_AGAIN &&
               code != CACHED_ERR_DISCONNECTED && code != CACHED_SHUTTING_DOWN;
}

bool handle_look(cached *c)
{
        uint64_t now = deadline_now_ns();
        struct deadline d = {now}; /* over: a connection that is not greeted yet stays */
        struct pool_slot *s;
        struct failure f;
        bool is_probe, is_greeted;
        int code;

        if (!pool_take_ungreeted(c->pool, &c->user, &s))
                return false;
        code = pool_may_connect(c->pool, now, &f, &is_probe);
        if (s->conn || code == CACHED_OK) {
                if (!s->conn && !is_probe)
                        d.at_ns = now + LOOK_NS;
                code = slot_attempt(c, s, d, &f);
                if (is_telling(code))
                        pool_attempted(c->pool, code, &f);
        }
        is_greeted = s->conn && s->greeted;
        pool_give(c->pool, &c->user, s, 0);
        return is_greeted;
}

int handle_open_conn(cached *c, struct deadline d, struct failure *f, struct conn **ret)
{
        uint64_t now = deadline_now_ns();
        bool is_probe;
        size_t which = 0;
        int code;

        if (atomic_load(&c->pool->closed))
                return failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        code = pool_may_connect(c->pool, now, f, &is_probe);
        if (code != CACHED_OK)
                return code;
        code = conn_open(&c->options, &c->paths, is_probe ? earlier(d, now + PROBE_NS) : d, f, ret,
                         &which);
        if (!is_ours(code))
                pool_attempted(c->pool, code, f);
        if (code == CACHED_OK)
                atomic_store(&c->pool->which, which);
        return code;
}

int handle_dial(cached *c, struct conn *conn, struct failure *f, struct deadline *ret_until)
{
        uint64_t now = deadline_now_ns();
        bool is_probe;
        size_t which = 0;
        int code;

        if (atomic_load(&c->pool->closed))
                return failure_set(f, CACHED_ERR_CLOSED, "%s", cached_strerror(CACHED_ERR_CLOSED));
        code = pool_may_connect(c->pool, now, f, &is_probe);
        if (code != CACHED_OK)
                return code;
        code = conn_dial_on(conn, &c->options, &c->paths, DEADLINE_NOW, NULL, f, &which);
        if (code == CACHED_OK)
                atomic_store(&c->pool->which, which);
        else if (code != CONN_AGAIN && !is_ours(code))
                pool_attempted(c->pool, code, f);
        *ret_until = is_probe ? (struct deadline){now + PROBE_NS} : DEADLINE_NEVER;
        return code;
}

/* Whatever the back-off says. A connection that stands but was not greeted gives no answer soon. */
static int connect_now(cached *c, struct pool_slot *s, struct deadline d, struct failure *f)
{
        if (s->conn && (!s->greeted || conn_is_stale(s->conn)))
                pool_drop_conn(c->pool, s);
        return s->conn ? CACHED_OK : handle_attempt(c, s, d, f);
}

/* Mapped or not is all connections' affair, whichever of them it was that asked. */
static void hello_tell_mapped(cached *c, Cached__V1__HelloResult *h)
{
        h->features &= ~(uint64_t)CACHED__V1__FEATURE__FEATURE_MAPPED;
        if (pool_is_mapped(c->pool))
                h->features |= CACHED__V1__FEATURE__FEATURE_MAPPED;
}

int cached_connect(cached *c, cached_reply **ret)
{
        struct cached_reply *r = NULL;
        struct pool_slot *s;
        struct deadline d;
        struct failure f;
        int code;

        if (!c)
                return call_refuse("no handle", ret);
        d = deadline_in_ms(c->options.timeout_ms);
        code = pool_take(c->pool, &c->user, d, &f, &s);
        if (code != CACHED_OK)
                return call_fail(code, &f, ret);
        code = connect_now(c, s, d, &f);
        if (code == CACHED_OK && ret)
                code = reply_new_unpack(s->conn->hello, s->conn->n_hello, 0, &f, &r);
        if (r)
                hello_tell_mapped(c, r->message->hello);
        pool_give(c->pool, &c->user, s, 0);
        return call_hand_out(code, r, &f, ret);
}
