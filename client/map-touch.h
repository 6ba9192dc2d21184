/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_TOUCH_H
#define CLIENT_MAP_TOUCH_H

/*
 * What a reader notes for the daemon, see ARENA.md, "Telling the daemon". All of it inside a visit.
 */

#include "client/map.h"

enum map_touched {
        MAP_TOUCHED,
        MAP_TOUCHED_ASK,    /* and the ring should be drained */
        MAP_TOUCH_ORPHAN,   /* nobody reads the ring; it is time to look for the daemon again */
        MAP_TOUCH_FULL_ASK, /* as the next, and the ring should be drained */
        MAP_TOUCH_FULL,     /* not noted: there is no room until the daemon has drained the ring */
        MAP_TOUCH_LOST,     /* likewise, and it did not when it was waited for last */
};

/* An entry was used. */
enum map_touched map_touch(const struct map_visit *v, uint32_t handle, uint64_t version,
                           uint64_t now_ms);
/* It was waited for room in vain: until the daemon drains the ring, touches are lost. */
void map_touch_give_up(const struct map_visit *v);

void map_count_hit(const struct map_visit *v, uint32_t counter);
void map_count_miss(const struct map_visit *v, uint32_t counter);

/* What this process has noted is known to the daemon when it carries out what is sent next. */
void map_before_request(struct map *m);

#endif
