/* SPDX-License-Identifier: MIT */
#ifndef DISPATCH_SEGMENT_H
#define DISPATCH_SEGMENT_H

/*
 * Segment: the head of one, as the daemon sees it. See segment.c.
 */

#include <stdbool.h>
#include <stdint.h>

struct segment_head;

/* What is wrong with the head as its creator wrote it into @fd, or NULL. */
const char *segment_fault(int fd, uint64_t size);

/* Whether its holders can write into it. */
bool segment_is_writable(int fd);

/* Maps the head of a memory file that is sealed against shrinking. 0 or -errno. */
int segment_map(int fd, struct segment_head **ret);
struct segment_head *segment_unmap(struct segment_head *head); /* NULL is fine; returns NULL */

/* If nobody has the lock, makes it @number's, with whether who had it last ended with it; returns
 * 0. Else notes that somebody waits, in the same step, and returns who has it. */
uint32_t segment_try(struct segment_head *head, uint32_t number, bool *ret_died);
/* Whatever is there: @number has it, or with 0 nobody. */
void segment_write(struct segment_head *head, uint32_t number, bool waiters, bool died);
/* Who has it, by the word's word; 0: nobody. */
uint32_t segment_owner(const struct segment_head *head);

#endif
