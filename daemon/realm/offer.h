/* SPDX-License-Identifier: MIT */
#ifndef OFFER_H
#define OFFER_H

/*
 * Offer: what a successor will need of the realms goes to the keeper. See offer.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include "realm/keeper.h"

struct large;
struct realm;
struct realms;

/* After a takeover, before realms_offer(): what the keeper gave back is where it was. */
void realms_claim(struct realms *rs);

/* Offers what the keeper has not. @all: whatever its age. True: the keeper took all that it had
 * room for. */
bool realms_offer(struct realms *rs, uint64_t now_ms, bool all);

/* Boottime ms of the next realms_offer() that makes sense; UINT64_MAX: none. */
uint64_t realms_offer_due(const struct realms *rs, uint64_t now_ms);

/* The realm ends: the keeper drops its files. */
void realm_unoffer(struct realm *r);

/* For struct store_params, with the realm. */
void realm_large_left(void *realm, struct large *l);

#endif
