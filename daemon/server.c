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

#include "server.h"
#include "spin.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "base/clock.h"
#include "config.h"
#include "dispatch/dispatch.h"
#include "handover.h"
#include "log.h"
#include "proto/status.h"
#include "realm/given.h"
#include "realm/realm.h"
#include "take-over.h"
#include "transport/epochfile.h"
#include "transport/hub.h"
#include "transport/listener.h"
#include "transport/sockfile.h"

#define STEPS_PER_TURN   250 /* of upkeep, each about a microsecond: a request waits no longer */
#define TIMER_MIN_MS     10  /* upkeep is not called more often than that by its timer */
#define TIMER_SHIFTED_MS 20  /* with a test clock: time may jump while we sleep */
#define END_SEC          5
#define FDS_BESIDES      64 /* descriptors that are not connections: files, arenas, libraries */

#define NEVER UINT64_MAX

struct server {
        struct event_base *base;
        struct clock *clock;
        struct log *log;
        struct config *config;
        const char *config_path;
        bool log_level_fixed;
        struct sockfile sockfile;
        struct listener listener;
        struct epochfile epochfile;
        struct hub hub;
        struct dispatcher *dispatcher;
        struct handover *handover; /* NULL: none is under way */
        struct event on_term, on_int, on_hup;
        struct event upkeep_timer, end_timer;
        uint64_t upkeep_due_ms; /* what the timer is armed for; NEVER: it is not */
        bool upkeep_pending;
        bool stopping, done;
        bool given; /* everything is another process's */
        uint64_t instance;
        uint64_t cpu_mark_ns;
        struct spin spin;
        struct server_stats stats;
};

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

void server_for_each_conn(struct server *s, bool (*visit)(void *ctx, struct conn *c), void *ctx)
{
        hub_for_each(&s->hub, visit, ctx);
}

/* ---- configuration */

static void notify(const char *state)
{
#ifdef HAVE_SYSTEMD
        (void)sd_notify(0, state);
#else
        (void)state;
#endif
}

static void notify_reloading(void)
{
        char state[96];

        (void)snprintf(state, sizeof(state), "RELOADING=1\nMONOTONIC_USEC=%llu",
                       (unsigned long long)(clock_monotonic_ns() / NSEC_PER_USEC));
        notify(state);
}

/* As many descriptors as the kernel lets us have. At start, and when the limit may have changed. */
static void raise_nofile(const struct server *s)
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

static struct sockfile_access access_of(const struct config *cfg)
{
        return (struct sockfile_access){.mode = cfg->socket_mode,
                                        .has_gid = cfg->has_socket_gid,
                                        .gid = cfg->socket_gid};
}

static void apply(struct server *s, struct config *cfg)
{
        struct sockfile_access access = access_of(cfg);
        struct config *old = s->config;
        int r;

        s->config = cfg;
        raise_nofile(s); /* first: how many large values there may be follows from it */
        dispatcher_reconfigure(s->dispatcher, cfg);
        hub_set_limits(&s->hub, &cfg->limits);
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

        notify_reloading();
        r = config_load(s->config_path, &cfg, err, n_err);
        if (r == 0)
                apply(s, cfg);
        notify("READY=1");
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
        struct timeval tv = {.tv_sec = END_SEC};

        s->handover = handover_free(s->handover);
        s->stopping = true;
        notify("STOPPING=1");
        log_event(s->log, LOG_INFO, LOG_EVENT(STOPPING), "stopping: finishing what was sent");
        hub_tick(&s->hub);
        sockfile_remove(&s->sockfile);
        listener_done(&s->listener);
        dispatcher_part(s->dispatcher);
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
                  (unsigned long long)s->hub.stats.connections, END_SEC);
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

int server_run(struct server *s)
{
        notify("READY=1");
        while (!s->done) {
                bool had_frames = s->hub.turn_frames > 0;

                hub_turn_begin(&s->hub);
                if (take_events(s, had_frames) < 0) {
                        log_write(s->log, LOG_ERR, "the event loop failed: %s", strerror(errno));
                        return -EIO;
                }
                end_turn(s);
        }
        log_event(s->log, LOG_INFO, LOG_EVENT(STOPPED),
                  s->given ? "stopped: everything was handed over" : "stopped");
        return 0;
}

/* ---- life */

static size_t refuse(enum hub_refusal why, const char *text, uint8_t *out, size_t n_out)
{
        static const int statuses[] = {[HUB_REFUSED_LIMIT] = STATUS_LIMIT,
                                       [HUB_REFUSED_DENIED] = STATUS_DENIED,
                                       [HUB_REFUSED_MEMORY] = STATUS_NO_MEMORY,
                                       [HUB_REFUSED_ENDING] = STATUS_SHUTTING_DOWN};

        return dispatch_refusal(statuses[why], text, out, n_out);
}

static struct event_base *new_base(void)
{
        struct event_config *ec = event_config_new();
        struct event_base *base = NULL;

        if (ec && event_config_set_flag(ec, EVENT_BASE_FLAG_NOLOCK) == 0)
                base = event_base_new_with_config(ec);
        if (ec)
                event_config_free(ec);
        return base;
}

static int add_events(struct server *s)
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

static void remove_events(struct server *s)
{
        struct event *events[] = {&s->on_term, &s->on_int, &s->on_hup, &s->upkeep_timer,
                                  &s->end_timer};

        for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
                if (event_initialized(events[i]))
                        (void)event_del(events[i]);
        }
}

static int new_instance(struct server *s)
{
        uint64_t instance = 0;

        while (instance == 0)
                if (getrandom(&instance, sizeof(instance), 0) != sizeof(instance))
                        return -EIO;
        s->instance = instance;
        return 0;
}

/* Another daemon was there after the one that left these, and has changed what is in them. */
static void refuse_older(struct server *s, const struct server_params *p)
{
        uint64_t last = epochfile_peek(p->socket_path);

        if (last == 0 || last == p->given->instance)
                return;
        log_write(s->log, LOG_WARNING,
                  "takeover: the passed memory files are those of a daemon before the last one: "
                  "closed");
        given_refuse(p->given);
}

/* Another number after every start, but where arenas go on that say theirs. */
static int choose_instance(struct server *s, const struct server_params *p)
{
        if (p->given && p->given->instance != 0)
                refuse_older(s, p);
        if (p->take_over)
                s->instance = p->take_over->instance;
        else if (p->given)
                s->instance = p->given->instance;
        return s->instance != 0 ? 0 : new_instance(s);
}

/* Everything but the name and the listening. */
static int set_up(struct server *s, const struct server_params *p)
{
        struct hub_params hp = {.clock = s->clock,
                                .log = s->log,
                                .handler = &dispatch_handler,
                                .server = s,
                                .limits = &s->config->limits,
                                .refuse = refuse};
        int r;

        r = choose_instance(s, p);
        if (r < 0)
                return r;
        s->base = new_base();
        if (!s->base)
                return -ENOMEM;
        hp.base = s->base;
        r = hub_init(&s->hub, &hp);
        if (r < 0)
                return r;
        s->stats.started_ns = s->hub.now_ns;
        r = dispatcher_new(s, s->config, &s->dispatcher);
        return r < 0 ? r : add_events(s);
}

static int adopt_name(struct server *s, const struct server_params *p)
{
        char err[SOCKFILE_ERR_MAX];
        int fd = p->take_over->lock_fd, r;

        if (fd < 0)
                return 0; /* a socket that was passed in has none */
        p->take_over->lock_fd = -1;
        r = sockfile_adopt(&s->sockfile, p->socket_path, fd, err, sizeof(err));
        if (r < 0)
                log_event(s->log, LOG_ERR, LOG_EVENT(START_FAILED), "%s", err);
        return r;
}

/* Before anything is answered: arenas of daemons before this one are over with it. */
static void begin_epoch(struct server *s, const char *socket_path)
{
        char err[EPOCHFILE_ERR_MAX];

        if (epochfile_init(&s->epochfile, socket_path, s->instance, err, sizeof(err)) < 0)
                log_write(s->log, LOG_WARNING,
                          "clients cannot look entries up by themselves, the daemon answers them "
                          "all: %s",
                          err);
        dispatcher_offer_mapping(s->dispatcher, s->epochfile.fd);
}

static int start_listening(struct server *s, const struct server_params *p)
{
        struct sockfile_access access = access_of(s->config);
        char err[SOCKFILE_ERR_MAX];
        int fd = p->listen_fd, r;

        if (p->take_over) {
                fd = p->take_over->listen_fd;
                p->take_over->listen_fd = -1;
                r = adopt_name(s, p);
                if (r < 0) {
                        close(fd);
                        return r;
                }
        } else if (fd < 0) {
                r = sockfile_init(&s->sockfile, p->socket_path, &access, &fd, err, sizeof(err));
                if (r < 0) {
                        log_event(s->log, LOG_ERR, LOG_EVENT(START_FAILED), "%s", err);
                        return r;
                }
                if (sockfile_is_exposed(&s->sockfile, err, sizeof(err)))
                        log_write(s->log, LOG_WARNING, "%s", err);
        }
        begin_epoch(s, p->socket_path);
        r = listener_init(&s->listener, &s->hub, fd);
        if (r < 0)
                log_event(s->log, LOG_ERR, LOG_EVENT(START_FAILED), "cannot listen: %s",
                          strerror(-r));
        return r;
}

/* Readers may have an arena mapped that is nobody's now, and only the number tells them. */
static void renumber(struct server *s)
{
        if (new_instance(s) < 0)
                s->instance++; /* any other number does */
        dispatcher_renumber(s->dispatcher, s->instance);
        epochfile_set(&s->epochfile, s->instance);
}

/* What another daemon left becomes ours. The last step: until here the other one could go on, and
 * nothing after it can fail. */
static int adopt(struct server *s, const struct server_params *p)
{
        char err[TAKE_OVER_ERR_MAX];
        bool whole = true;
        int r;

        if (p->take_over) {
                r = take_over_confirm(p->take_over, err, sizeof(err));
                if (r < 0) {
                        log_event(s->log, LOG_ERR, LOG_EVENT(START_FAILED), "cannot take over: %s",
                                  err);
                        return r;
                }
                whole = dispatcher_adopt(s->dispatcher, &p->take_over->given, TAKEOVER_HANDOVER);
        } else if (p->given && p->given->n + p->given->n_refused > 0) {
                whole = dispatcher_adopt(s->dispatcher, p->given, TAKEOVER_PASSED);
        }
        if (!whole)
                renumber(s);
        dispatcher_adopted(s->dispatcher);
        epochfile_begin_tenure(&s->epochfile);
        return 0;
}

int server_new(const struct server_params *p, struct server **ret)
{
        struct server *s = calloc(1, sizeof(*s));
        int r;

        if (!s) {
                config_free(p->config);
                log_event(p->log, LOG_ERR, LOG_EVENT(START_FAILED), "out of memory");
                return -ENOMEM;
        }
        s->clock = p->clock;
        s->log = p->log;
        s->config = p->config;
        s->config_path = p->config_path;
        s->log_level_fixed = p->log_level_fixed;
        s->listener.fd = -1;
        s->epochfile.fd = -1;
        s->upkeep_due_ms = NEVER;
        (void)signal(SIGPIPE, SIG_IGN);
        raise_nofile(s);
        r = set_up(s, p);
        if (r < 0)
                log_event(s->log, LOG_ERR, LOG_EVENT(START_FAILED), "cannot start: %s",
                          strerror(-r));
        else
                r = start_listening(s, p);
        if (r == 0)
                r = adopt(s, p);
        if (r < 0) {
                if (p->take_over) /* the name is the other daemon's still */
                        sockfile_let_go(&s->sockfile);
                server_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

struct server *server_free(struct server *s)
{
        if (!s)
                return NULL;
        s->handover = handover_free(s->handover);
        if (s->given) {
                dispatcher_let_go(s->dispatcher);
                sockfile_let_go(&s->sockfile);
        }
        sockfile_done(&s->sockfile);
        listener_done(&s->listener);
        hub_done(&s->hub);
        s->dispatcher = dispatcher_free(s->dispatcher);
        epochfile_done(&s->epochfile);
        remove_events(s);
        if (s->base)
                event_base_free(s->base);
        config_free(s->config);
        free(s);
        return NULL;
}
