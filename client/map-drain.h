/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_DRAIN_H
#define CLIENT_MAP_DRAIN_H

#include "client/handle.h"
#include "client/map-touch.h"

/* A use of an entry, with its time, that was noted or is to be. */
struct map_use {
        uint32_t handle;
        uint64_t version, now_ms;
};

/*
 * map_drain() - ends a visit whose touch wants more than a store
 * @v:  left, when this returns
 * @t:  what map_touch() said; not MAP_TOUCHED
 */
void map_drain(cached *c, const struct map_visit *v, enum map_touched t, const struct map_use *use);

#endif
