/* SPDX-License-Identifier: MIT */
#ifndef SERVER_PRIVATE_H
#define SERVER_PRIVATE_H

/*
 * What server.c (the loop) and server-life.c (how it begins and ends) share
 */

#include "server.h"

#include <event2/event.h>
#include <event2/event_struct.h>

#include "config.h"
#include "spin.h"
#include "transport/epochfile.h"
#include "transport/hub.h"
#include "transport/listener.h"
#include "transport/sockfile.h"

struct handover;
struct manager;

#define SERVER_NEVER UINT64_MAX

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
        struct manager *manager;   /* NULL: there is no service manager */
        struct handover *handover; /* NULL: none is under way */
        struct event on_term, on_int, on_hup;
        struct event upkeep_timer, end_timer;
        uint64_t upkeep_due_ms; /* what the timer is armed for; NEVER: it is not */
        bool upkeep_pending;
        bool stopping, done;
        bool given;    /* everything is another process's */
        bool passed;   /* the socket was */
        bool followed; /* the service manager keeps everything, and the socket, for the next one */
        bool began;    /* a turn was completed */
        uint64_t offer_due_ms;
        uint64_t instance;
        uint64_t cpu_mark_ns;
        struct spin spin;
        struct server_stats stats;
};

/* Signals and timers. 0 or -ENOMEM; what is not there is not removed. */
int server_add_events(struct server *s);
void server_remove_events(struct server *s);

/* As many descriptors as the kernel lets us have; warns of limits that they do not do for. */
void server_raise_nofile(const struct server *s);
/* Warns of settings that do not hold for a socket that was passed. */
void server_check_socket(const struct server *s);
/* Warns of budgets that there is not the memory for, and tells who goes by them. */
void server_apply_memory(struct server *s);

struct sockfile_access server_access(const struct config *cfg);

#endif
