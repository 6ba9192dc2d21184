/* SPDX-License-Identifier: MIT */
/*
 * The lock word of a segment
 *
 * Holders take and leave a lock that nobody else wants by themselves. Who finds it taken asks the
 * daemon, which notes in the word that somebody waits: from then on who leaves it asks the daemon,
 * too, and that hands it over to who has waited longest. So it is fair exactly when it matters.
 *
 * Every holder can write anything at any time. What is read here is read once and taken for one of
 * three things: free, a holder's, or nonsense, which is as if its owner had ended. All changes are
 * single exchanges of the word, in as many attempts as ATTEMPTS at most: a holder that changes the
 * word without end makes its own lock useless, and nothing else.
 */
#include "dispatch/segment.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/segment.h"

#define ATTEMPTS 64

int segment_map(int fd, struct segment_head **ret)
{
        void *p = mmap(NULL, SEGMENT_HEAD, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return -errno;
        *ret = p;
        return 0;
}

struct segment_head *segment_unmap(struct segment_head *head)
{
        if (head)
                (void)munmap(head, SEGMENT_HEAD);
        return NULL;
}

const char *segment_fault(const struct segment_head *head, uint64_t size)
{
        if (head->magic != SEGMENT_MAGIC)
                return "the segment does not begin with a head (\"csegment\"): write it before "
                       "publishing";
        if (head->version != SEGMENT_VERSION)
                return "the segment's head is of another version than this daemon's: update the "
                       "older of the two";
        if (head->size != size)
                return "the size in the segment's head is not that of the request: they are the "
                       "same, without the head";
        return NULL;
}

const char *segment_file_fault(int fd, uint64_t size)
{
        struct segment_head head = {0};
        if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head))
                return "the segment has no head: write it before publishing";
        return segment_fault(&head, size);
}

uint32_t segment_owner(const struct segment_head *head, segment_is_holder is_holder,
                       const void *ctx)
{
        uint32_t number =
                atomic_load_explicit(&head->lock, memory_order_acquire) & SEGMENT_LOCK_NUMBER;
        return number != 0 && is_holder(ctx, number) ? number : 0;
}

/* The attempts are over: it is as if its owner had it still. */
enum segment_try segment_try(struct segment_head *head, uint32_t number, bool wait,
                             segment_is_holder is_holder, const void *ctx)
{
        uint32_t word = atomic_load_explicit(&head->lock, memory_order_acquire);
        for (unsigned i = 0; i < ATTEMPTS; i++) {
                uint32_t owner = word & SEGMENT_LOCK_NUMBER;
                bool is_free = owner == 0;
                uint32_t to = number | (word & SEGMENT_LOCK_WAITERS);
                if (owner == number)
                        return SEGMENT_OWN;
                if (!is_free && is_holder(ctx, owner)) {
                        if (!wait || word & SEGMENT_LOCK_WAITERS)
                                return SEGMENT_BUSY;
                        to = word | SEGMENT_LOCK_WAITERS;
                        if (atomic_compare_exchange_strong(&head->lock, &word, to))
                                return SEGMENT_BUSY;
                } else if (atomic_compare_exchange_strong(&head->lock, &word, to)) {
                        return !is_free || word & SEGMENT_LOCK_DIED ? SEGMENT_TAKEN_DIED
                                                                    : SEGMENT_TAKEN;
                }
        }
        return SEGMENT_BUSY;
}

void segment_give(struct segment_head *head, uint32_t next, bool more, bool died)
{
        uint32_t to = next | (more ? SEGMENT_LOCK_WAITERS : 0);
        if (died && next == 0)
                to |= SEGMENT_LOCK_DIED;
        atomic_store_explicit(&head->lock, to, memory_order_release);
}

void segment_forget_waiters(struct segment_head *head)
{
        atomic_fetch_and_explicit(&head->lock, ~SEGMENT_LOCK_WAITERS, memory_order_acq_rel);
}
