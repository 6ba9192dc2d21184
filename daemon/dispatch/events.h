/* SPDX-License-Identifier: MIT */
#ifndef EVENTS_H
#define EVENTS_H

/*
 * Events: telling clients what others changed. See events.c.
 */

#include <stdint.h>

struct client;
struct dispatcher;

/* The policy in force for @cache of @by's realm is another one: tell all who opened it but @by. */
void events_policy_changed(struct dispatcher *d, const struct client *by, uint32_t cache);

/* Sends what is due, as far as the clients read. */
void events_flush(struct dispatcher *d, uint64_t now_ms);

#endif
