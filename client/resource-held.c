/* SPDX-License-Identifier: MIT */
/*
 * What this process has of instances
 *
 * One place for each instance, used by any number of cached_resource objects. A shared one is found
 * by its key and joined; each of a pool is its user's alone. While somebody asks the daemon for a
 * key its place is busy, and others of this process who want it wait: so the process makes a local
 * object once, and what was asked is answered in order.
 *
 * An instance that has left its cache is not found any more. When its last user in this process has
 * gone too, it ends here: the function for that is called, without the mutex, and the daemon told.
 * A local object stays as long as it is in its cache; all else ends with its last use.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/condition.h"
#include "client/resource.h"

/* Acquiring happens to be going on while so many things leave: more are not remembered. */
#define NEWS_MAX     65536u
#define PINS_LOOK_MS 5u

static bool is_about(const struct held *held, const struct resource_want *w)
{
        return held->n_key == w->n_key && memcmp(held->key, w->key, w->n_key) == 0 &&
               strcmp(held->cache, w->cache) == 0;
}

struct held *held_find(struct holder *h, const struct resource_want *w)
{
        for (struct held *held = h->all; held; held = held->next)
                if (!held->is_pooled && !atomic_load(&held->cause) && is_about(held, w))
                        return held;
        return NULL;
}

struct held *held_find_instance(struct holder *h, uint64_t instance)
{
        for (struct held *held = h->all; held; held = held->next)
                if (atomic_load(&held->instance) == instance)
                        return held;
        return NULL;
}

static void held_free(struct held *held)
{
        object_done(&held->object);
        turn_done(&held->turn);
        if (held->bell >= 0)
                (void)close(held->bell);
        free(held->cache);
        free(held);
}

struct held *held_new(struct holder *h, const struct resource_want *w)
{
        struct held *held = calloc(1, sizeof(*held));

        if (!held)
                return NULL;
        held->object.fd = held->bell = -1;
        held->cache = strdup(w->cache);
        if (!held->cache || !turn_init(&held->turn)) {
                free(held->cache);
                free(held);
                return NULL;
        }
        held->kind = w->kind;
        held->n_key = (uint8_t)w->n_key;
        memcpy(held->key, w->key, w->n_key);
        held->is_pooled = w->o->pool > 0;
        held->has_policy = w->o->has_policy;
        held->policy = w->o->policy;
        held->is_busy = true;
        held->n_uses = 1;
        held->claimed = h->epoch;
        held->next = h->all;
        h->all = held;
        return held;
}

static void unlist(struct holder *h, const struct held *held)
{
        struct held **at = &h->all;

        while (*at != held)
                at = &(*at)->next;
        *at = held->next;
}

static void ring(int bell)
{
        uint64_t one = 1;

        while (write(bell, &one, sizeof(one)) < 0 && errno == EINTR)
                ;
}

void held_left(struct held *held, int cause)
{
        int none = 0;

        if (atomic_compare_exchange_strong(&held->cause, &none, cause) && held->bell >= 0)
                ring(held->bell);
}

int held_bell(struct held *held)
{
        if (held->bell < 0) {
                held->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
                if (held->bell >= 0 && atomic_load(&held->cause))
                        ring(held->bell);
        }
        return held->bell;
}

/* With the mutex, which is given up while the program's function runs. That may be in the middle of
 * anything, so it is a call, too. */
static void tell_end(struct holder *h, struct held *held)
{
        cached_resource r = {.handle = &h->handle, .holder = h, .held = held};
        bool calls = held->is_made && !held->is_told && held->on_release.fn;

        held->is_told = true;
        if (!calls)
                return;
        holder_enter(h);
        (void)pthread_mutex_unlock(&h->mutex);
        (void)held->on_release.fn(&r, held->on_release.data);
        holder_leave(h);
        (void)pthread_mutex_lock(&h->mutex);
}

/* The object goes. Likewise. */
static void held_end(struct holder *h, struct held *held, bool calls)
{
        uint64_t instance = atomic_load(&held->instance), n = held->n_holds;

        unlist(h, held);
        if (calls)
                tell_end(h, held);
        (void)pthread_mutex_unlock(&h->mutex);
        held_free(held);
        (void)pthread_mutex_lock(&h->mutex);
        holder_give_back(h, instance, n);
}

static bool is_done_with(const struct held *held)
{
        if (held->n_uses > 0 || held->n_pins > 0 || held->is_busy)
                return false;
        return !held->is_made || atomic_load(&held->cause) ||
               held->kind != CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL;
}

void held_settle(struct holder *h, struct held *held)
{
        if (is_done_with(held)) {
                held_end(h, held, atomic_load(&held->cause) != 0);
                return;
        }
        /* One hold is enough for all of them: the daemon is not to count what it need not. */
        if (!held->is_busy && held->n_holds > 1 && held->n_holds > held->n_uses) {
                held->n_holds--;
                holder_give_back(h, atomic_load(&held->instance), 1);
        }
}

void held_sweep(struct holder *h)
{
        struct held *held;

        (void)pthread_mutex_lock(&h->mutex);
        do {
                for (held = h->all; held && !is_done_with(held); held = held->next)
                        ;
                if (held)
                        held_settle(h, held);
        } while (held);
        (void)pthread_mutex_unlock(&h->mutex);
}

static struct held *find_unused(struct holder *h)
{
        struct held *held = h->all;

        while (held && (held->n_uses > 0 || held->n_pins > 0))
                held = held->next;
        return held;
}

static struct held *find_untold(struct holder *h)
{
        struct held *held = h->all;

        while (held && held->is_told)
                held = held->next;
        return held;
}

/* What is told of one's end may release others, which therefore stay until all are told. */
static void tell_all(struct holder *h)
{
        for (;;) {
                struct held *held = find_unused(h);

                if (held) {
                        held_end(h, held, true);
                        continue;
                }
                held = find_untold(h);
                if (!held)
                        return;
                held->n_pins++;
                tell_end(h, held);
                held->n_pins--;
        }
}

void held_end_all(struct holder *h)
{
        tell_all(h);
        while (h->all) {
                /* Which the thread is asking the daemon about. */
                if (h->all->n_pins > 0) {
                        if (h->conn)
                                (void)shutdown(h->conn->fd, SHUT_RDWR);
                        (void)condition_wait(&h->changed, &h->mutex, deadline_in_ms(PINS_LOOK_MS));
                        continue;
                }
                held_end(h, h->all, true);
        }
}

/* ---------------------------------------------------------------------------------------- news */

static void note_news(struct holder *h, uint64_t instance, int cause)
{
        if (h->n_news == h->n_news_allocated) {
                size_t more = h->n_news_allocated ? 2 * h->n_news_allocated : 16;
                struct holder_news *news =
                        more > NEWS_MAX ? NULL : reallocarray(h->news, more, sizeof(*news));

                /* Then it is in use for longer than need be: until it is acquired again. */
                if (!news)
                        return;
                h->news = news;
                h->n_news_allocated = more;
        }
        h->news[h->n_news++] = (struct holder_news){instance, cause};
}

void held_take_news(struct holder *h, uint64_t instance, int cause)
{
        struct held *held = held_find_instance(h, instance);

        if (held)
                held_left(held, cause > 0 ? cause : CACHED_RESOURCE_REPLACED);
        else if (h->n_asking > 0)
                note_news(h, instance, cause);
}
