/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_GET_H
#define CLIENT_MAP_GET_H

#include "client/handle.h"

/* The daemon has to be asked, nothing happened. Not a code. */
#define MAP_GET_ASK (-1)

/*
 * map_get() - a get without the daemon
 *
 * Return: MAP_GET_ASK; else it and *ret, if `ret` is not NULL, are what cached_get() returns.
 */
int map_get(cached *c, const char *cache, const void *key, size_t n_key, bool no_touch,
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
