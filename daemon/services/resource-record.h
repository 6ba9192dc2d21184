/* SPDX-License-Identifier: MIT */
#ifndef RESOURCE_RECORD_H
#define RESOURCE_RECORD_H

/*
 * Resource record: what a successor has to know of one instance, one holder or one hold, as a key
 * and a run of bytes. See resource-record.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "services/resource.h"

enum resource_kept_kind {
        RESOURCE_KEPT_INSTANCE,
        RESOURCE_KEPT_HOLDER,
        RESOURCE_KEPT_HOLD,
};

#define RESOURCE_KEPT_KEY   17u
#define RESOURCE_KEPT_HEAD  80u
#define RESOURCE_KEPT_MAX   (RESOURCE_KEPT_HEAD + STORE_CACHE_NAME_MAX + STORE_KEY_MAX)
#define RESOURCE_KEPT_FDS   8u         /* kinds of descriptors: enum fd_kind, from 1 on */
#define RESOURCE_PLACE_NONE UINT32_MAX /* it has no descriptor */

/* By which a process is told from a later one of the same id; 0: is not known. */
struct resource_process {
        uint64_t start; /* when it began, in ticks since the machine did */
        uint64_t ino;   /* of its pidfd, where each process has its own */
};

struct resource_kept {
        enum resource_kept_kind kind;
        uint64_t holder; /* its id; of an instance: unused */
        uid_t holder_uid;

        /* Of an instance; `number` also of a hold. Of `where` the key alone, and of `lock_owner`
         * the holder's id. */
        struct resource_record instance;
        const char *cache; /* by its name: numbers of caches are the store's */
        size_t n_cache;
        bool hidden;    /* it is a session's: the name begins with the session's key */
        uint8_t fd;     /* the kind of its descriptor; 0: it has none */
        uint32_t place; /* the number in the descriptor's name */
        uint64_t dev, ino;

        uint32_t holder_number; /* of a holder; and its process */
        pid_t pid;
        struct resource_process process;

        uint64_t count; /* of a hold */
        uint64_t since; /* of a holder, or a hold */
};

/* Writes the key to @to, which has room for RESOURCE_KEPT_KEY bytes. Returns its length. */
size_t resource_record_key(const struct resource_kept *k, uint8_t *to);
/* Writes the rest to @to, which has room for RESOURCE_KEPT_MAX bytes. Returns its length. */
size_t resource_record_write(const struct resource_kept *k, uint8_t *to);

/* False: these bytes are no whole record, and nothing of them is to be used. @ret points into
 * @bytes. */
bool resource_record_read(const void *key, size_t n_key, const void *bytes, size_t n,
                          struct resource_kept *ret);

#endif
