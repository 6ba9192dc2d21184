/* SPDX-License-Identifier: MIT */
/*
 * The head of a segment
 *
 * Holders take and leave a lock that nobody else wants by themselves. Who finds it taken asks the
 * daemon, which notes in the word that somebody waits: from then on who leaves it asks the daemon,
 * too, and that hands it over to who has waited longest. So it is fair exactly when it matters.
 *
 * Every holder can write anything at any time, so nothing is believed: the table of resources looks
 * whether a number in the word is that of somebody who holds this very segment. The word is changed
 * by single exchanges, with ATTEMPTS of them at most: a holder that changes it without end makes
 * its own lock useless, and nothing else.
 *
 * The page is there as long as the file is sealed against shrinking; who punches a hole into it
 * gets zeros, and so do we.
 */
#include "dispatch/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "proto/segment.h"

#define ATTEMPTS 64

const char *segment_fault(int fd, uint64_t size)
{
        struct segment_head head = {0};
        if (pread(fd, &head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
            head.magic != SEGMENT_MAGIC)
                return "the segment does not begin with a head (\"csegment\"): write it before "
                       "publishing";
        if (head.version != SEGMENT_VERSION)
                return "the segment's head is of another version than this daemon's: update the "
                       "older of the two";
        if (head.size != size)
                return "the size in the segment's head is not that in the request: both are that "
                       "of the data, without the head";
        return NULL;
}

bool segment_is_writable(int fd)
{
        return (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR &&
               !(fcntl(fd, F_GET_SEALS) & F_SEAL_WRITE);
}

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

uint32_t segment_try(struct segment_head *head, uint32_t number, bool *ret_died)
{
        uint32_t word = atomic_load_explicit(&head->lock, memory_order_acquire);
        for (unsigned i = 0; i < ATTEMPTS; i++) {
                uint32_t owner = word & SEGMENT_LOCK_NUMBER;
                uint32_t to = owner == 0 ? number | (word & SEGMENT_LOCK_WAITERS)
                                         : word | SEGMENT_LOCK_WAITERS;
                if (!atomic_compare_exchange_weak(&head->lock, &word, to))
                        continue;
                *ret_died = (word & SEGMENT_LOCK_DIED) != 0;
                return owner;
        }
        /* Somebody plays with it: it is written over. */
        atomic_store_explicit(&head->lock, number | SEGMENT_LOCK_WAITERS, memory_order_release);
        *ret_died = true;
        return 0;
}

void segment_write(struct segment_head *head, uint32_t number, bool waiters, bool died)
{
        uint32_t word =
                number | (waiters ? SEGMENT_LOCK_WAITERS : 0) | (died ? SEGMENT_LOCK_DIED : 0);
        atomic_store_explicit(&head->lock, word, memory_order_release);
}

uint32_t segment_owner(const struct segment_head *head)
{
        return atomic_load_explicit(&head->lock, memory_order_acquire) & SEGMENT_LOCK_NUMBER;
}
