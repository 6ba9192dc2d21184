/* SPDX-License-Identifier: MIT */
#ifndef TORN_CACHES_H
#define TORN_CACHES_H

/*
 * Changes of test-recover-torn.c to which caches there are: the cache behind those of the model, of
 * some hundred entries, is removed, and another one is made in its place.
 */

struct world;

void torn_make_cache(struct world *w);
void torn_remove_cache(struct world *w);
void torn_make_and_remove(struct world *w);
void torn_remove_and_reclaim(struct world *w);
void torn_make_again(struct world *w);

#endif
