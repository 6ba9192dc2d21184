/* SPDX-License-Identifier: MIT */
#ifndef HANDOVER_H
#define HANDOVER_H

/*
 * Handover: another process takes this daemon's place; the side that gives. See handover.c, and
 * PROTOCOL.md, "Handover".
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct dispatcher;
struct event_base;
struct handover;
struct hub;
struct listener;
struct log;

struct handover_params {
        struct event_base *base;
        struct log *log;
        struct hub *hub;
        struct listener *listener;
        struct dispatcher *dispatcher;
        int fd;           /* connected to who takes over; consumed */
        int lock_fd;      /* of the socket's name; -1: none. Borrowed */
        pid_t pid;        /* who takes over */
        uint64_t request; /* the id that its Handover has */
        uint64_t instance;
};

enum handover_state {
        HANDOVER_DRAINING, /* what was sent is being finished; upkeep goes on */
        HANDOVER_STILL,    /* the memory files must stay as they are */
        HANDOVER_FAILED,   /* this daemon goes on: free it */
        HANDOVER_GIVEN,    /* nothing is ours any more */
};

/* 0, or a negative errno: nothing has happened. */
int handover_new(const struct handover_params *p, struct handover **ret);

/* To be called at the end of each turn of the loop. */
enum handover_state handover_turn(struct handover *h);

/* Unless everything was given, connections are accepted again. NULL is fine; returns NULL. */
struct handover *handover_free(struct handover *h);

#endif
