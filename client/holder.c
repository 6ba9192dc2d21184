/* SPDX-License-Identifier: MIT */
/*
 * The holder: its life
 *
 * A handle with resources has one holder, which is one connection: the daemon counts as held what
 * was acquired under its number, tells on that connection what has left, and gives everything up
 * when the process has ended. A thread of the holder's own keeps the connection (holder-bell.c);
 * requests about resources go over the connections of the pool, as all others do, and name the
 * holder.
 *
 * Fork: a child is another process and holds nothing. The first call that asks for the pool's
 * holder finds one of another process and begins its own; the parent's is left alone, since one of
 * the parent's threads may have been changing it.
 */

#include "client/holder.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client/condition.h"
#include "client/resource.h"

#define DEBTS_MAX    65536u
#define LEFT_LOOK_MS 10u

/* ----------------------------------------------------------------------------------------- life */

static void holder_free(struct holder *h)
{
        if (h->wake >= 0)
                (void)close(h->wake);
        options_done(&h->handle.options);
        free(h->news);
        free(h->debts);
        free(h);
}

static bool begin_thread(struct holder *h)
{
        sigset_t all, before;
        bool begun;

        /* Signals are for the program's own threads. */
        (void)sigfillset(&all);
        if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
                return false;
        begun = pthread_create(&h->thread, NULL, holder_run, h) == 0;
        (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
        return begun;
}

/* NULL: no memory, descriptor or thread. */
static struct holder *holder_new(const cached *c)
{
        struct holder *h = calloc(1, sizeof(*h));

        if (!h)
                return NULL;
        h->wake = -1;
        atomic_store(&h->n_refs, 1);
        if (!options_copy(&c->options, &h->handle.options)) {
                free(h);
                return NULL;
        }
        h->handle.paths = c->paths;
        h->handle.pool = c->pool;
        h->pid = guard_pid(&c->pool->self);
        h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (h->wake < 0 || !condition_init(&h->mutex, &h->changed)) {
                holder_free(h);
                return NULL;
        }
        if (!begin_thread(h)) {
                holder_unref(h);
                return NULL;
        }
        return h;
}

void holder_ref(struct holder *h)
{
        atomic_fetch_add(&h->n_refs, 1);
}

void holder_unref(struct holder *h)
{
        if (atomic_fetch_sub(&h->n_refs, 1) > 1)
                return;
        condition_done(&h->mutex, &h->changed);
        holder_free(h);
}

void holder_enter(struct holder *h)
{
        atomic_fetch_add(&h->n_inside, 1);
}

/* The last look at the holder, unless somebody waits for it: then that one is woken. */
void holder_leave(struct holder *h)
{
        if (!atomic_load(&h->is_ending)) {
                atomic_fetch_sub(&h->n_inside, 1);
                return;
        }
        (void)pthread_mutex_lock(&h->mutex);
        atomic_fetch_sub(&h->n_inside, 1);
        (void)pthread_cond_broadcast(&h->changed);
        (void)pthread_mutex_unlock(&h->mutex);
}

struct holder *holder_of(cached *c, struct failure *f)
{
        struct pool *p = c->pool;
        struct holder *h;
        bool is_closed;

        pool_lock(p);
        h = p->holder;
        is_closed = atomic_load(&p->closed) || p->has_no_holder;
        if (h && h->pid != guard_pid(&p->self))
                h = p->holder = NULL;
        if (!h && !is_closed)
                h = p->holder = holder_new(c);
        if (h && p->has_no_holder)
                h = NULL;
        if (h)
                holder_enter(h);
        pool_unlock(p);
        if (!h)
                (void)failure_set(f, is_closed ? CACHED_ERR_CLOSED : CACHED_ERR_NOMEM, "%s",
                                  is_closed ? cached_strerror(CACHED_ERR_CLOSED)
                                            : "no memory, descriptor or thread for resources");
        return h;
}

bool holder_is_ours(const struct holder *h)
{
        return h->pid == guard_pid(&h->handle.pool->self);
}

/* An attempt to connect would be in vain, and is not waited for. With the mutex. */
static void interrupt(struct holder *h)
{
        const struct conn *conn = h->conn ? h->conn : h->dialing;

        h->is_closing = true;
        atomic_store(&h->stops, true);
        if (conn)
                (void)shutdown(conn->fd, SHUT_RDWR);
        holder_wake(h);
}

/* None begins any more. One that is waited for ends as if the handle had been closed. */
static void wait_for_calls(struct holder *h)
{
        (void)pthread_mutex_lock(&h->mutex);
        atomic_store(&h->is_ending, true);
        if (atomic_load(&h->n_inside) > 0)
                pool_close(h->handle.pool);
        (void)pthread_cond_broadcast(&h->changed);
        for (struct held *held = h->all; held; held = held->next)
                turn_close(&held->turn);
        /* Who leaves without having seen that it ends wakes nobody. */
        while (atomic_load(&h->n_inside) > 0)
                (void)condition_wait(&h->changed, &h->mutex, deadline_in_ms(LEFT_LOOK_MS));
        (void)pthread_mutex_unlock(&h->mutex);
}

void holder_end(struct pool *p)
{
        struct holder *h;

        pool_lock(p);
        h = p->holder;
        p->has_no_holder = true;
        pool_unlock(p);
        if (!h || !holder_is_ours(h))
                return;
        wait_for_calls(h);
        (void)pthread_mutex_lock(&h->mutex);
        if (h->state != HOLDER_HERE)
                interrupt(h);
        held_end_all(h);
        h->is_closing = true;
        holder_wake(h);
        (void)pthread_mutex_unlock(&h->mutex);
        (void)pthread_join(h->thread, NULL);
        pool_lock(p);
        p->holder = NULL;
        pool_unlock(p);
        atomic_store(&h->is_over, true);
        holder_unref(h);
}

/* -------------------------------------------------------------------------------------- waiting */

void holder_wake(struct holder *h)
{
        uint64_t one = 1;

        /* Only full if nobody has looked for ever: then it is awake all the same. */
        while (write(h->wake, &one, sizeof(one)) < 0 && errno == EINTR)
                ;
}

bool holder_wait(struct holder *h, struct deadline d)
{
        return !atomic_load(&h->is_ending) && condition_wait(&h->changed, &h->mutex, d);
}

/* A function of the program's that the thread calls: nobody connects until it returns. */
static bool is_keeper(const struct holder *h)
{
        return pthread_equal(h->keeper, pthread_self());
}

static int not_here(const struct holder *h, struct failure *f)
{
        int code = is_keeper(h)                 ? CACHED_ERR_DISCONNECTED
                   : atomic_load(&h->is_ending) ? CACHED_ERR_CLOSED
                                                : CACHED_ERR_TIMEOUT;

        return failure_set(f, code, "%s", cached_strerror(code));
}

int holder_lock_here(struct holder *h, struct deadline d, struct failure *f)
{
        (void)pthread_mutex_lock(&h->mutex);
        if (h->state == HOLDER_AWAY) {
                h->state = HOLDER_COMING;
                h->is_wanted = true;
                holder_wake(h);
        }
        while (h->state == HOLDER_COMING)
                if ((is_keeper(h) || !holder_wait(h, d)) && h->state == HOLDER_COMING) {
                        int code = not_here(h, f);

                        (void)pthread_mutex_unlock(&h->mutex);
                        return code;
                }
        if (h->state == HOLDER_HERE)
                return CACHED_OK;
        *f = h->why;
        (void)pthread_mutex_unlock(&h->mutex);
        return f->code;
}

/* --------------------------------------------------------------------------------- giving back */

static void note_debt(struct holder *h, uint64_t instance, uint64_t n)
{
        if (h->n_debts == h->n_debts_allocated) {
                size_t more = h->n_debts_allocated ? 2 * h->n_debts_allocated : 16;
                struct holder_debt *debts;

                /* What is not told is given up when the process ends. */
                if (more > DEBTS_MAX)
                        return;
                debts = reallocarray(h->debts, more, sizeof(*debts));
                if (!debts)
                        return;
                h->debts = debts;
                h->n_debts_allocated = more;
        }
        h->debts[h->n_debts++] = (struct holder_debt){instance, n};
}

static bool pack_release(struct holder *h, uint64_t instance)
{
        Cached__V1__Request request = CACHED__V1__REQUEST__INIT;
        Cached__V1__ReleaseResource m = CACHED__V1__RELEASE_RESOURCE__INIT;
        struct failure f;

        m.instance = instance;
        m.holder = h->id;
        m.one_way = 1;
        request.op_case = CACHED__V1__REQUEST__OP_RELEASE_RESOURCE;
        request.release_resource = &m;
        request.id = h->conn->next_id++;
        return call_pack(h->conn, &request, 0, &h->conn->out, &f) == CACHED_OK;
}

void holder_give_back(struct holder *h, uint64_t instance, uint64_t n)
{
        if (instance == 0 || n == 0)
                return;
        if (h->state == HOLDER_HERE && h->conn) {
                while (n > 0 && pack_release(h, instance))
                        n--;
                holder_flush(h);
        }
        if (n > 0)
                note_debt(h, instance, n);
}
