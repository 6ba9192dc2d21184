/* SPDX-License-Identifier: MIT */
/*
 * Server
 *
 * One turn of the loop: wait for events; connections handle their share; then the dispatcher does a
 * bounded amount of upkeep (expiry, reclaiming, events). If anything is left the next turn does not
 * wait. Otherwise one timer is armed for the dispatcher's next deadline, and none if it has none:
 * an idle daemon sleeps.
 *
 * The longest turn is kept in CPU time; the CPU clock is read at a turn's start, and at its end
 * only if more time has passed than the longest turn took.
 *
 * The first SIGTERM or SIGINT ends the daemon in order: the socket goes, what was received is
 * answered, output is sent, for at most END_SEC. The second ends it at once.
 *
 * Handing over to another process ends it, too, once that one has everything; until then, if it
 * fails, all goes on. While the memory files are to stay still there is no upkeep.
 */

#include "server-private.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "dispatch/dispatch.h"
#include "fdstore.h"
#include "handover.h"
#include "log.h"
#include "manager.h"
#include "realm/realm.h"

#define STEPS_PER_TURN   250 /* of upkeep, each about a microsecond: a request waits no longer */
#define TIMER_MIN_MS     10  /* upkeep is not called more often than that by its timer */
#define TIMER_SHIFTED_MS 20  /* with a test clock: time may jump while we sleep */
#define END_SEC          5
#define END_FOLLOWED_SEC 1  /* clients wait for the next daemon */
#define FDS_BESIDES      64 /* descriptors that are not connections: files, arenas, libraries */

#define NEVER SERVER_NEVER

/* ---- for the dispatcher */

const struct config *server_config(const struct server *s)
{
        return s->config;
}

struct dispatcher *server_dispatcher(const struct server *s)
{
        return s->dispatcher;
}

struct log *server_log(const struct server *s)
{
        return s->log;
}

bool server_log_level_is_fixed(const struct server *s)
{
        return s->log_level_fixed;
}

uint64_t server_now_ns(const struct server *s)
{
        return s->hub.now_ns;
}

uint64_t server_now_ms(const struct server *s)
{
        return s->hub.now_ns / NSEC_PER_MSEC;
}

int64_t server_wall_ms(const struct server *s)
{
        return clock_wall_ms() + clock_offset_ms(s->clock);
}

uint64_t server_tick(struct server *s)
{
        return hub_tick(&s->hub);
}

uint64_t server_instance(const struct server *s)
{
        return s->instance;
}

bool server_stopping(const struct server *s)
{
        return s->done;
}

void server_stats(const struct server *s, struct server_stats *ret)
{
        *ret = s->stats;
        ret->connections = s->hub.stats.connections;
        ret->connections_total = s->hub.stats.connections_total;
        ret->refused = s->hub.stats.refused;
        ret->protocol_errors = s->hub.stats.protocol_errors;
        ret->buffer_bytes = s->hub.pool.bytes + s->hub.holds.bytes[HOLD_BODY];
}

bool server_kept(const struct server *s, struct server_kept *ret)
{
        const struct fdstore *f = manager_fdstore(s->manager);
        struct fdstore_stats stats;

        if (!f)
                return false;
        fdstore_stats(f, &stats);
        *ret = (struct server_kept){.max = stats.max,
                                    .kept = stats.kept,
                                    .waiting = stats.waiting,
                                    .leaving = stats.leaving,
                                    .leaving_bytes = stats.leaving_bytes};
        return true;
}

void server_for_each_conn(struct server *s, bool (*visit)(void *ctx, struct conn *c), void *ctx)
{
        hub_for_each(&s->hub, visit, ctx);
}

/* ---- configuration */

void server_raise_nofile(const struct server *s)
{
        struct rlimit lim;

        if (getrlimit(RLIMIT_NOFILE, &lim) < 0)
                return;
        if (lim.rlim_cur < lim.rlim_max) {
                lim.rlim_cur = lim.rlim_max;
                (void)setrlimit(RLIMIT_NOFILE, &lim);
                (void)getrlimit(RLIMIT_NOFILE, &lim);
        }
        if (lim.rlim_cur != RLIM_INFINITY &&
            lim.rlim_cur < s->config->limits.connections + FDS_BESIDES)
                log_write(s->log, LOG_WARNING,
                          "limits.connections = %llu cannot be reached with %llu descriptors "
                          "(RLIMIT_NOFILE, "
                          "LimitNOFILE= in the unit)",
                          (unsigned long long)s->config->limits.connections,
                          (unsigned long long)lim.rlim_cur);
        if (realms_max_files(s->config) < s->config->limits.large_values)
                log_write(s->log, LOG_INFO,
                          "limits.large_values = %llu cannot be reached with %llu descriptors "
                          "(RLIMIT_NOFILE, LimitNOFILE= in the unit): %llu are left beside "
                          "limits.connections",
                          (unsigned long long)s->config->limits.large_values,
                          (unsigned long long)lim.rlim_cur,
                          (unsigned long long)realms_max_files(s->config));
}

void server_apply_memory(struct server *s)
{
        uint64_t there = config_memory_bytes(), budget = s->config->global_budget.bytes;
        struct fdstore *f = manager_fdstore(s->manager);

        if (budget > there)
                log_write(s->log, LOG_WARNING,
                          "memory.global_budget is %llu MiB, and this process may have %llu MiB "
                          "(of the "
                          "machine, or MemoryMax= in the unit): the kernel will end it before it "
                          "evicts anything",
                          (unsigned long long)(budget >> 20), (unsigned long long)(there >> 20));
        if (f)
                fdstore_set_limit(f, budget / 8);
}

struct sockfile_access server_access(const struct config *cfg)
{
        return (struct sockfile_access){.mode = cfg->socket_mode,
                                        .has_gid = cfg->has_socket_gid,
                                        .gid = cfg->socket_gid};
}

static void apply(struct server *s, struct config *cfg)
{
        struct sockfile_access access = server_access(cfg);
        struct config *old = s->config;
        int r;

        s->config = cfg;
        server_raise_nofile(s); /* first: how many large values there may be follows from it */
        dispatcher_reconfigure(s->dispatcher, cfg);
        hub_set_limits(&s->hub, &cfg->limits);
        server_apply_memory(s);
        if (!s->log_level_fixed)
                s->log->level = cfg->log_level;
        r = sockfile_set_access(&s->sockfile, &access);
        if (r < 0)
                log_write(s->log, LOG_WARNING, "cannot set mode and group of %s: %s",
                          s->sockfile.path,
                          r == -ESTALE ? "another file stands in its place" : strerror(-r));
        config_free(old);
        s->stats.config_reloads++;
}

int server_reload(struct server *s, char *err, size_t n_err)
{
        struct config *cfg;
        int r;

        manager_reloading(s->manager, clock_monotonic_ns());
        r = config_load(s->config_path, &cfg, err, n_err);
        if (r == 0)
                apply(s, cfg);
        manager_reloaded(s->manager);
        if (r < 0)
                log_event(s->log, LOG_ERR,
                          &(struct log_fields){.event = LOG_EVENT_CONFIG_REFUSED,
                                               .config_error = err},
                          "the configuration was not reloaded, the old one stays: %s", err);
        else
                log_event(s->log, LOG_INFO, LOG_EVENT(RELOADED), "configuration reloaded");
        return r;
}

/* ---- signals */

static void stop(struct server *s)
{
        struct timeval tv = {.tv_sec = s->followed ? END_FOLLOWED_SEC : END_SEC};

        s->handover = handover_free(s->handover);
        s->stopping = true;
        manager_stopping(s->manager);
        log_event(s->log, LOG_INFO, LOG_EVENT(STOPPING), "stopping: finishing what was sent");
        hub_tick(&s->hub);
        sockfile_remove(&s->sockfile);
        listener_done(&s->listener);
        dispatcher_part(s->dispatcher);
        if (s->followed)
                hub_part(&s->hub);
        else
                hub_end(&s->hub);
        if (event_add(&s->end_timer, &tv) < 0)
                s->done = true;
}

static void on_term(evutil_socket_t sig, short what, void *arg)
{
        struct server *s = arg;

        (void)sig;
        (void)what;
        if (!s->stopping)
                stop(s);
        else
                s->done = true;
}

static void on_hup(evutil_socket_t sig, short what, void *arg)
{
        struct server *s = arg;
        char err[CONFIG_ERR_MAX];

        (void)sig;
        (void)what;
        hub_tick(&s->hub);
        if (s->handover)
                log_write(s->log, LOG_WARNING, "not reloaded: the daemon is being taken over");
        else
                (void)server_reload(s, err, sizeof(err)); /* it has logged how it went */
}

static void on_end_timer(evutil_socket_t fd, short what, void *arg)
{
        struct server *s = arg;

        (void)fd;
        (void)what;
        log_write(s->log, LOG_WARNING,
                  "%llu connections went on sending, or did not take their replies, for %d s: "
                  "closed",
                  (unsigned long long)s->hub.stats.connections,
                  s->followed ? END_FOLLOWED_SEC : END_SEC);
        s->done = true;
}

/* ---- for a successor */

int server_keep_fd(struct server *s, uid_t uid, int fd, void (*on_hang_up)(void *ctx), void *ctx,
                   struct kept **ret)
{
        return hub_keep_fd(&s->hub, uid, fd, on_hang_up, ctx, ret);
}

int server_watch_process(struct server *s, pid_t pid, const struct process_mark *mark,
                         void (*on_end)(void *ctx), void *ctx, struct peer_watch **ret)
{
        return hub_watch_process(&s->hub, pid, mark, on_end, ctx, ret);
}

void server_own_address(const struct server *s, struct sockaddr_storage *ret, unsigned *ret_n)
{
        socklen_t n = sizeof(*ret);

        *ret_n = s->listener.fd >= 0 &&
                                 getsockname(s->listener.fd, (struct sockaddr *)ret, &n) == 0 &&
                                 n <= sizeof(*ret)
                         ? n
                         : 0;
}

/* ---- handing over */

int server_hand_over(struct server *s, struct conn *c, uint64_t id, const char *version)
{
        struct handover_params p = {.base = s->base,
                                    .log = s->log,
                                    .hub = &s->hub,
                                    .listener = &s->listener,
                                    .dispatcher = s->dispatcher,
                                    .lock_fd = s->sockfile.path ? s->sockfile.lock_fd : -1,
                                    .pid = conn_peer(c)->pid,
                                    .request = id,
                                    .instance = s->instance};
        int r;

        if (s->stopping || s->handover)
                return SERVER_E_BUSY;
        if (s->followed)
                return SERVER_E_FOLLOWED;
        r = conn_take_socket(c, &p.fd);
        if (r == 0)
                r = handover_new(&p, &s->handover);
        if (r == 0)
                log_event(s->log, LOG_INFO,
                          &(struct log_fields){.event = LOG_EVENT_HANDOVER, LOG_PEER(conn_peer(c))},
                          "pid %d (cached %.40s) takes over", (int)p.pid, version);
        return r;
}

/* At the end of a turn. True: the memory files must not be touched. */
static bool is_still(struct server *s)
{
        if (!s->handover)
                return false;
        switch (handover_turn(s->handover)) {
        case HANDOVER_STILL:
                return true;
        case HANDOVER_GIVEN:
                s->given = s->done = true;
                return true;
        case HANDOVER_FAILED:
                s->handover = handover_free(s->handover);
                return false;
        case HANDOVER_DRAINING:
        default:
                return false;
        }
}

/* ---- the loop */

static void on_upkeep_timer(evutil_socket_t fd, short what, void *arg)
{
        struct server *s = arg;

        (void)fd;
        (void)what;
        hub_tick(&s->hub);        /* this turn has something to do */
        s->upkeep_due_ms = NEVER; /* the end of the turn does the work */
}

static void arm_upkeep(struct server *s)
{
        uint64_t due = dispatcher_next_deadline(s->dispatcher), now = server_now_ms(s), ms;
        struct timeval tv;

        if (s->offer_due_ms < due)
                due = s->offer_due_ms;
        if (due == NEVER) {
                if (s->upkeep_due_ms != NEVER)
                        (void)event_del(&s->upkeep_timer);
                s->upkeep_due_ms = NEVER;
                return;
        }
        if (due == s->upkeep_due_ms)
                return;
        ms = due > now + TIMER_MIN_MS ? due - now : TIMER_MIN_MS;
        if (clock_is_shifted(s->clock) && ms > TIMER_SHIFTED_MS)
                ms = TIMER_SHIFTED_MS;
        tv = (struct timeval){.tv_sec = (time_t)(ms / 1000),
                              .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
        s->upkeep_due_ms = event_add(&s->upkeep_timer, &tv) == 0 ? due : NEVER;
}

static void measure_turn(struct server *s)
{
        uint64_t cpu;

        s->stats.loop_turns++;
        /* A turn cannot have used more processor time than has passed: most need no second look. */
        if ((s->hub.now_ns - s->hub.turn_start_ns) / NSEC_PER_USEC <= s->stats.loop_turn_max_us)
                return;
        cpu = clock_cpu_ns() - s->cpu_mark_ns;
        if (cpu / NSEC_PER_USEC > s->stats.loop_turn_max_us)
                s->stats.loop_turn_max_us = cpu / NSEC_PER_USEC;
}

/* What the service manager keeps, and what it shows. */
static void serve_manager(struct server *s)
{
        struct fdstore *f = manager_fdstore(s->manager);
        uint64_t now = server_now_ms(s);

        if (!f || s->stopping)
                return;
        if (dispatcher_offer_due(s->dispatcher, now) <= now)
                (void)dispatcher_offer(s->dispatcher, now, false); /* no room: later */
        fdstore_turn(f, now);
        s->offer_due_ms = dispatcher_offer_due(s->dispatcher, now);
        if (fdstore_due(f) < s->offer_due_ms)
                s->offer_due_ms = fdstore_due(f);
        if (manager_wants_status(s->manager, now)) {
                struct dispatcher_totals t;

                dispatcher_totals(s->dispatcher, &t);
                manager_status(s->manager, now,
                               &(struct manager_status){.entries = t.entries,
                                                        .bytes = t.bytes,
                                                        .hits = t.hits,
                                                        .misses = t.misses});
        }
}

static void end_turn(struct server *s)
{
        hub_turn_end(&s->hub);
        hub_tick(&s->hub);
        if (is_still(s)) {
                s->upkeep_pending = false;
                return;
        }
        if (clock_is_shifted(s->clock))
                dispatcher_shift_clock(s->dispatcher, clock_offset_ms(s->clock));
        s->upkeep_pending = dispatcher_maintain(s->dispatcher, server_now_ms(s), STEPS_PER_TURN);
        serve_manager(s);
        if (!s->upkeep_pending)
                arm_upkeep(s);
        if (s->stopping && hub_is_empty(&s->hub))
                s->done = true;
        hub_tick(&s->hub);
        measure_turn(s);
}

/* One round of the event loop. Sleeping takes no processor time, so what is used from here on to
 * the end of the turn is the turn's. */
static int loop_once(struct server *s, int flags)
{
        s->cpu_mark_ns = clock_cpu_ns();
        return event_base_loop(s->base, EVLOOP_ONCE | flags);
}

/* Polls for a moment. 1: something came; 0: nothing did; negative: the loop failed. */
static int poll_on(struct server *s)
{
        uint64_t until = clock_now_ns(s->clock) + SPIN_NS;
        bool found;

        do {
                if (loop_once(s, EVLOOP_NONBLOCK) < 0)
                        return -EIO;
                found = s->hub.turn_start_ns != 0 || s->done;
        } while (!found && clock_now_ns(s->clock) < until);
        spin_end(&s->spin, found);
        return found;
}

/* At once where work waits, else when something comes. */
static int take_events(struct server *s, bool had_frames)
{
        if (hub_is_busy(&s->hub) || s->upkeep_pending)
                return loop_once(s, EVLOOP_NONBLOCK);
        if (had_frames && spin_begin(&s->spin)) {
                int r = poll_on(s);

                if (r != 0)
                        return r;
        }
        return loop_once(s, 0);
}

/* The first turn has a look at all of the state: only then it is worth to be said. */
static void is_ready(struct server *s)
{
        s->began = true;
        epochfile_end_attempt(&s->epochfile);
        manager_ready(s->manager);
}

int server_run(struct server *s)
{
        s->upkeep_pending = true;
        while (!s->done) {
                bool had_frames = s->hub.turn_frames > 0;

                hub_turn_begin(&s->hub);
                if (take_events(s, had_frames) < 0) {
                        log_write(s->log, LOG_ERR, "the event loop failed: %s", strerror(errno));
                        return -EIO;
                }
                end_turn(s);
                if (!s->began)
                        is_ready(s);
        }
        log_event(s->log, LOG_INFO, LOG_EVENT(STOPPED),
                  s->given ? "stopped: everything was handed over" : "stopped");
        return 0;
}

/* ---- its events */

int server_add_events(struct server *s)
{
        evsignal_assign(&s->on_term, s->base, SIGTERM, on_term, s);
        evsignal_assign(&s->on_int, s->base, SIGINT, on_term, s);
        evsignal_assign(&s->on_hup, s->base, SIGHUP, on_hup, s);
        evtimer_assign(&s->upkeep_timer, s->base, on_upkeep_timer, s);
        evtimer_assign(&s->end_timer, s->base, on_end_timer, s);
        if (event_add(&s->on_term, NULL) < 0 || event_add(&s->on_int, NULL) < 0 ||
            event_add(&s->on_hup, NULL) < 0)
                return -ENOMEM;
        return 0;
}

void server_remove_events(struct server *s)
{
        struct event *events[] = {&s->on_term, &s->on_int, &s->on_hup, &s->upkeep_timer,
                                  &s->end_timer};

        for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
                if (event_initialized(events[i]))
                        (void)event_del(events[i]);
        }
}
