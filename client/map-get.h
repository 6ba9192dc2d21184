/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MAP_GET_H
#define CLIENT_MAP_GET_H

#include "client/handle.h"

/*
 * map_get() - a get without the daemon
 *
 * Return: false: it has to be asked, nothing happened. Else *ret_code and *ret, if `ret` is not
 * NULL, are what cached_get() returns.
 */
bool map_get(cached *c, const char *cache, const void *key, size_t n_key, bool no_touch,
             cached_reply **ret, int *ret_code);

/*
 * map_get_many() - a get of many without the daemon, as far as that goes
 * @m:  keys that are valid
 *
 * What the mapping cannot decide is asked for on the socket, in one request. Return: as map_get().
 */
bool map_get_many(cached *c, const char *cache, const Cached__V1__GetMany *m, cached_reply **ret,
                  int *ret_code);

#endif
