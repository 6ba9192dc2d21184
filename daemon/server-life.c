/* SPDX-License-Identifier: MIT */
/*
 * How a server begins, and how it ends
 *
 * Everything that can fail comes before what another daemon left is made ours: until then that one
 * could go on, or its files stay with the service manager as they are.
 *
 * A daemon that dies while it takes over is followed by one that takes over the same files, and a
 * bug that they bring to light would end each of them. So the epoch file counts those that began
 * and never served, and after TRIES of them what was left is refused, for the service to be there
 * again, empty. Who comes after two of them waits, longer each time, since the service manager
 * starts the next one at once.
 *
 * With a service manager that keeps files and socket, the end is not an end: clients are told to
 * connect again, what is not yet kept is handed over, and the files are left as they are.
 */

#include "server-private.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "dispatch/dispatch.h"
#include "fdstore.h"
#include "handover.h"
#include "log.h"
#include "manager.h"
#include "proto/status.h"
#include "realm/given.h"
#include "take-over.h"

#define TRIES        5u
#define PAUSE_MS     20u
#define PAUSE_MAX_MS 5000u
#define FLUSH_MS     3000            /* for the manager to have everything */
#define EXTEND_MS    UINT64_C(60000) /* far more than any takeover has taken */

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

/* Daemons before this one, one after the other, began to take these over, and none got to serve. */
static void refuse_fatal(struct server *s, const struct server_params *p, uint32_t n)
{
        if (n < TRIES)
                return;
        log_write(s->log, LOG_ERR,
                  "takeover: %u daemons in a row ended while they took over what was left: it is "
                  "dropped, and this one begins empty",
                  (unsigned)n);
        given_refuse(p->given);
}

static void pause_after(uint32_t n)
{
        unsigned ms = PAUSE_MS << (n < 8 ? n : 8);

        if (n < 2)
                return;
        ms = ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
        (void)nanosleep(&(struct timespec){.tv_sec = ms / 1000,
                                           .tv_nsec = (long)(ms % 1000) * 1000000},
                        NULL);
}

/* Another number after every start, but where arenas go on that say theirs. */
static int choose_instance(struct server *s, const struct server_params *p)
{
        uint32_t n_tries = epochfile_attempts(p->socket_path);

        if (!p->take_over)
                pause_after(n_tries);
        if (p->given && p->given->instance != 0)
                refuse_older(s, p);
        if (p->given && p->given->n > 0)
                refuse_fatal(s, p, n_tries);
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
        r = manager_new(s->base, s->log, &s->manager);
        if (r < 0)
                return r;
        s->passed = p->listen_fd >= 0;
        s->followed = s->manager && s->passed;
        server_check_socket(s);
        server_apply_memory(s);
        r = hub_init(&s->hub, &hp);
        if (r < 0)
                return r;
        s->stats.started_ns = s->hub.now_ns;
        r = dispatcher_new(s, s->config, &s->dispatcher);
        if (r == 0 && s->manager) {
                struct fdstore *f = manager_fdstore(s->manager);

                fdstore_set_reaper(f, dispatcher_reaper(s->dispatcher));
                dispatcher_set_keeper(s->dispatcher, fdstore_keeper(f));
        }
        return r < 0 ? r : server_add_events(s);
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

/* False: as realms_adopt(). */
static bool adopt_passed(struct server *s, struct given *given)
{
        epochfile_begin_attempt(&s->epochfile);
        manager_extend(s->manager, EXTEND_MS);
        if (s->manager)
                fdstore_begin(manager_fdstore(s->manager), given);
        return dispatcher_adopt(s->dispatcher, given, TAKEOVER_PASSED);
}

static int start_listening(struct server *s, const struct server_params *p)
{
        struct sockfile_access access = server_access(s->config);
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
                whole = adopt_passed(s, p->given);
        }
        if (!whole)
                renumber(s);
        dispatcher_adopted(s->dispatcher);
        if (s->manager) {
                dispatcher_claim(s->dispatcher);
                fdstore_settle(manager_fdstore(s->manager));
        }
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
        s->upkeep_due_ms = s->offer_due_ms = SERVER_NEVER;
        (void)signal(SIGPIPE, SIG_IGN);
        server_raise_nofile(s);
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

/* What it drops makes room for what it has not. */
static bool hand_all(struct server *s, struct fdstore *f)
{
        bool fits = dispatcher_offer(s->dispatcher, server_now_ms(s), true);

        if (!fdstore_flush(f, FLUSH_MS))
                return false;
        if (fits || dispatcher_offer_due(s->dispatcher, server_now_ms(s)) == SERVER_NEVER)
                return true;
        (void)dispatcher_offer(s->dispatcher, server_now_ms(s), true); /* as much as fits */
        return fdstore_flush(f, FLUSH_MS);
}

/* All of it goes to the service manager, and none of it ends. */
static void leave(struct server *s)
{
        hub_close_all(&s->hub); /* who was too slow */
        dispatcher_rest(s->dispatcher);
        if (!hand_all(s, manager_fdstore(s->manager)))
                log_write(s->log, LOG_WARNING,
                          "the service manager did not take everything within %d ms: what it has "
                          "not is lost with a restart",
                          FLUSH_MS);
        s->given = true;
}

struct server *server_free(struct server *s)
{
        if (!s)
                return NULL;
        s->handover = handover_free(s->handover);
        if (s->followed && s->began && s->stopping)
                leave(s);
        if (s->given) {
                dispatcher_let_go(s->dispatcher);
                sockfile_let_go(&s->sockfile);
        }
        sockfile_done(&s->sockfile);
        listener_done(&s->listener);
        hub_done(&s->hub);
        if (s->stopping)
                manager_stopped(s->manager);
        if (s->dispatcher)
                dispatcher_set_keeper(s->dispatcher, NULL);
        s->manager = manager_free(s->manager); /* it may have references to values */
        s->dispatcher = dispatcher_free(s->dispatcher);
        epochfile_done(&s->epochfile);
        server_remove_events(s);
        if (s->base)
                event_base_free(s->base);
        config_free(s->config);
        free(s);
        return NULL;
}
