/* SPDX-License-Identifier: MIT */
#ifndef MAPPING_H
#define MAPPING_H

/*
 * Mapping: what a client gets so that it can look entries up by itself, and what has to be done
 * about it afterwards. See mapping.c.
 */

#include <stdbool.h>
#include <stdint.h>

#include "realm/reader.h"

struct realm;
struct realms;

/* In the order in which they are sent. */
enum mapping_part { MAPPING_ARENA, MAPPING_EPOCH, MAPPING_PAGE, MAPPING_DIRTY, N_MAPPING_PARTS };

struct mapping {
        struct reader *reader;
        int fds[N_MAPPING_PARTS];
        uint64_t arena_bytes;
};

enum {
        MAPPING_OK = 0,
        MAPPING_E_OFF, /* the configuration, no epoch file, or as many clients as there may be */
};

/* The epoch file that readers are to look at, borrowed; -1: nobody is offered a mapping. */
void realms_offer_mapping(struct realms *rs, int epoch_fd);

/* For one client that has entered the realm, of another uid than ours or not; the descriptors are
 * the caller's. 0, MAPPING_E_OFF, or -errno: this machine cannot. */
int realm_map(struct realm *r, bool is_stranger, struct mapping *ret);
/* Closes what was not sent. */
void mapping_close(const struct mapping *m);
/* The client leaves. */
void realm_unmap(struct realm *r, struct reader *reader, uint64_t now_ms);

/* Takes over what the realm's readers have noted, so that what is carried out next knows of it. At
 * most so much in a turn. */
void realm_drain(struct realm *r, uint64_t now_ms);
/* The same, of all readers whether they say that they noted something or not, and with their
 * counts; a portion of its own. True: something is left. */
bool realm_drain_all(struct realm *r, uint64_t now_ms);
/* How many portions take over whatever the readers' rings can hold now. */
uint64_t realm_drain_portions(const struct realm *r);
/* Until nothing is left, in every realm: for readers that are gone and note nothing more. */
void realms_drain_all(struct realms *rs, uint64_t now_ms);

/* At the end of a turn. True: something is left to be taken over. */
bool realms_drain(struct realms *rs, uint64_t now_ms);

/* Gives memory back that readers made the arenas take, where it is time to look for it. True: more
 * is to be done at once. */
bool realms_check_holes(struct realms *rs, uint64_t now_ms);
/* For realms of another daemon, whose readers may have them still. */
void realms_watch_lent(struct realms *rs, uint64_t now_ms);
/* When it is time, boottime ms. */
uint64_t realms_holes_due(const struct realms *rs);

struct mapping_stats {
        uint64_t clients, bytes;
};
void realm_mapping_stats(const struct realm *r, struct mapping_stats *ret);
/* Of all realms, also of those that are gone. */
void realms_uses(const struct realms *rs, uint64_t *ret_used, uint64_t *ret_stale,
                 uint64_t *ret_lost);

/* ---- for realm.c */

void mapping_done(struct realm *r);

#endif
