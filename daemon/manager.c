/* SPDX-License-Identifier: MIT */
/*
 * Manager
 *
 * The watchdog is fed by a timer of the loop: when the loop stands still nothing else may say that
 * all is well. It is the only thing that wakes an idle daemon, twice in the time that the unit
 * allows. All else is told when the daemon is awake anyway, and at most every few seconds.
 */
#include "manager.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "fdstore.h"
#include "log.h"
#include "notify.h"

#define STATUS_EVERY_MS UINT64_C(5000)
#define SURE_TRIES      20u
#define SURE_STEP_MS    10

struct manager {
        struct notify notify;
        struct fdstore *fdstore;
        struct event watchdog;
        uint64_t status_due_ms;
        struct manager_status told;
        const char *owed; /* that it waits for, and had no room for; NULL: nothing */
};

/* Lost only where the manager does not read for long; nothing of ours depends on it. */
static void tell(struct manager *m, const char *assignments)
{
        (void)notify_send(&m->notify, assignments, -1);
}

/* Waits for a moment. False: there was no room. */
static bool tell_patiently(struct manager *m, const char *assignments)
{
        for (unsigned i = 0; i < SURE_TRIES; i++) {
                if (notify_send(&m->notify, assignments, -1) != -EAGAIN)
                        return true;
                notify_wait(&m->notify, SURE_STEP_MS);
        }
        return false;
}

/* What the manager waits for: who never says that he is ready is ended. */
static void tell_surely(struct manager *m, const char *assignments)
{
        m->owed = tell_patiently(m, assignments) ? NULL : assignments;
}

bool manager_owes(struct manager *m)
{
        if (m && m->owed && notify_send(&m->notify, m->owed, -1) != -EAGAIN)
                m->owed = NULL;
        return m && m->owed;
}

/* ---- the watchdog */

static void on_watchdog(evutil_socket_t fd, short what, void *arg)
{
        (void)fd;
        (void)what;
        tell(arg, "WATCHDOG=1");
}

static int start_watchdog(struct manager *m, struct event_base *base)
{
        uint64_t usec = 0;
        struct timeval tv;

        event_assign(&m->watchdog, base, -1, EV_PERSIST, on_watchdog, m);
#ifdef HAVE_SYSTEMD
        if (sd_watchdog_enabled(0, &usec) <= 0)
                return 0;
#endif
        if (usec == 0)
                return 0;
        tv = (struct timeval){.tv_sec = (time_t)(usec / 2 / 1000000),
                              .tv_usec = (suseconds_t)(usec / 2 % 1000000)};
        return event_add(&m->watchdog, &tv) < 0 ? -ENOMEM : 0;
}

/* ---- life */

int manager_new(struct event_base *base, struct log *log, struct manager **ret)
{
        struct manager *m = calloc(1, sizeof(*m));
        char err[NOTIFY_ERR_MAX];
        int r;

        *ret = NULL;
        if (!m)
                return -ENOMEM;
        if (notify_init(&m->notify, err, sizeof(err)) < 0)
                log_write(log, LOG_WARNING, "%s: it is told nothing, and keeps nothing", err);
        if (m->notify.fd < 0) {
                free(m);
                return 0;
        }
        r = start_watchdog(m, base);
        if (r == 0)
                r = fdstore_new(base, &m->notify, log, &m->fdstore);
        if (r < 0) {
                manager_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

struct manager *manager_free(struct manager *m)
{
        if (!m)
                return NULL;
        if (event_initialized(&m->watchdog))
                (void)event_del(&m->watchdog);
        m->fdstore = fdstore_free(m->fdstore);
        notify_done(&m->notify);
        free(m);
        return NULL;
}

struct fdstore *manager_fdstore(struct manager *m)
{
        return m ? m->fdstore : NULL;
}

/* ---- what is said */

void manager_extend(struct manager *m, uint64_t ms)
{
        char text[96];

        if (!m)
                return;
        (void)snprintf(text, sizeof(text),
                       "EXTEND_TIMEOUT_USEC=%" PRIu64
                       "\nSTATUS=Taking over what the daemon before it had",
                       ms * 1000);
        tell(m, text);
}

void manager_ready(struct manager *m)
{
        if (m)
                tell_surely(m, "READY=1\nSTATUS=Serving");
}

void manager_reloading(struct manager *m, uint64_t monotonic_ns)
{
        char text[96];

        if (!m)
                return;
        (void)snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
                       monotonic_ns / 1000);
        (void)tell_patiently(m, text);
}

void manager_reloaded(struct manager *m)
{
        if (m)
                tell_surely(m, "READY=1");
}

void manager_stopping(struct manager *m)
{
        if (m)
                tell(m, "STOPPING=1\nSTATUS=Finishing what was sent");
}

void manager_stopped(struct manager *m)
{
        if (m)
                tell(m, "STATUS=Stopped");
}

bool manager_wants_status(const struct manager *m, uint64_t now_ms)
{
        return m && now_ms >= m->status_due_ms;
}

/* As people write it: 3 digits. */
static void put_bytes(char *to, size_t n_to, uint64_t bytes)
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
        double value = (double)bytes;
        size_t unit = 0;

        for (; value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0]); unit++)
                value /= 1024;
        (void)snprintf(to, n_to, "%.*f %s", unit > 0 && value < 10 ? 1 : 0, value, units[unit]);
}

void manager_status(struct manager *m, uint64_t now_ms, const struct manager_status *s)
{
        uint64_t looks = s->hits + s->misses;
        char text[160], bytes[32], rate[32] = "";

        m->status_due_ms = now_ms + STATUS_EVERY_MS;
        if (s->entries == m->told.entries && s->bytes == m->told.bytes && s->hits == m->told.hits &&
            s->misses == m->told.misses)
                return;
        m->told = *s;
        put_bytes(bytes, sizeof(bytes), s->bytes);
        if (looks > 0)
                (void)snprintf(rate, sizeof(rate), ", %.1f%% hits",
                               100.0 * (double)s->hits / (double)looks);
        (void)snprintf(text, sizeof(text), "STATUS=Serving: %" PRIu64 " entr%s, %s%s", s->entries,
                       s->entries == 1 ? "y" : "ies", bytes, rate);
        tell(m, text);
}
