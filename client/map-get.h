/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_GET_H
#define CLIENT_MAP_GET_H

#include "client/entries.h"
#include "client/handle.h"

/* map_get() - a get without the daemon if that can be, else with it; see entries_get() */
int map_get(cached *c, const char *cache, const void *key, size_t n_key, struct get_how how,
            cached_reply **ret);

/*
 * map_get_many() - a get of many without the daemon, as far as that goes
 * @m:  keys that are valid
 *
 * What the mapping cannot decide is asked for on the socket, in one request.
 * Return: false: the daemon has to be asked for all. Else *ret_code and *ret are what
 * cached_get_many() returns.
 */
bool map_get_many(cached *c, const char *cache, const Cached__V1__GetMany *m, cached_reply **ret,
                  int *ret_code);

#endif
