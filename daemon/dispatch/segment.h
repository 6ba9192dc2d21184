/* SPDX-License-Identifier: MIT */
#ifndef DISPATCH_SEGMENT_H
#define DISPATCH_SEGMENT_H

/*
 * Segment: the lock word of one, as the daemon sees it. See segment.c.
 */

#include <stdbool.h>
#include <stdint.h>

struct segment_head;

/* Is this the number of somebody who may have the lock? */
typedef bool (*segment_is_holder)(const void *ctx, uint32_t number);

/* Maps the head of a memory file that is sealed against shrinking. 0 or -errno. */
int segment_map(int fd, struct segment_head **ret);
struct segment_head *segment_unmap(struct segment_head *head); /* NULL is fine; returns NULL */

/* What is wrong with a head as its creator wrote it, or NULL. @head is mapped, or read. */
const char *segment_fault(const struct segment_head *head, uint64_t size);
/* The same of a file that cannot be mapped for writing. */
const char *segment_file_fault(int fd, uint64_t size);

/* Who has the lock: 0 for nobody, or for somebody who is no holder. */
uint32_t segment_owner(const struct segment_head *head, segment_is_holder is_holder,
                       const void *ctx);

enum segment_try {
        SEGMENT_TAKEN,      /* it is @number's now */
        SEGMENT_TAKEN_DIED, /* likewise, and who had it before ended with it */
        SEGMENT_OWN,        /* it was @number's before */
        SEGMENT_BUSY,       /* another's; that somebody waits is noted in the word */
};
/* For @number, or with @wait false without noting that somebody waits. */
enum segment_try segment_try(struct segment_head *head, uint32_t number, bool wait,
                             segment_is_holder is_holder, const void *ctx);

/* It is nobody's, or another's: hands it over to @next (0: nobody). @more: somebody else waits.
 * @died: who had it ended with it, and @next 0 is not told of that, but whoever is after it. */
void segment_give(struct segment_head *head, uint32_t next, bool more, bool died);

/* Nobody waits any more: it is unlocked without the daemon again. */
void segment_forget_waiters(struct segment_head *head);

#endif
