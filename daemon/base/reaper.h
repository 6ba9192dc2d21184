/* SPDX-License-Identifier: MIT */
#ifndef REAPER_H
#define REAPER_H

/*
 * Reaper: frees memory files of many megabytes on a thread of its own. See reaper.c.
 */

#include <stddef.h>
#include <stdint.h>

struct reaper;

/* 0 or -ENOMEM. */
int reaper_new(struct reaper **ret);
/* Waits for what is being freed. NULL is fine; returns NULL. */
struct reaper *reaper_free(struct reaper *r);

/* How many bytes may wait to be freed at the same time. */
void reaper_set_limit(struct reaper *r, uint64_t bytes);

/* Unmaps and closes; both are consumed. @r may be NULL: then, and where little is to be freed or
 * too much waits already, it is done at once. @map may be NULL. */
void reaper_take(struct reaper *r, int fd, void *map, size_t size);

/* What was taken is freed from now on; to be called when the loop has time. Much is freed without.
 */
void reaper_kick(struct reaper *r);

/* Bytes that are not freed yet. */
uint64_t reaper_pending(struct reaper *r);

#endif
