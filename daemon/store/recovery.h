/* SPDX-License-Identifier: MIT */
#ifndef RECOVERY_H
#define RECOVERY_H

/*
 * What recover.c and its parts share while a store is taken over
 */

#include "arena/ahead.h"
#include "store/internal.h"
#include "store/recover.h"

/* A given descriptor, by the inode number of its file. */
struct given_file {
        uint64_t ino;
        int fd;    /* -1: taken */
        size_t at; /* in store_files.large */
};

/* An entry that is kept, to be put in order of use. */
struct recovered {
        uint64_t stamp;
        uint32_t handle;
        uint32_t list; /* RECOVERED_LARGE | number */
};
#define RECOVERED_LARGE 0x80000000u

struct recovery {
        struct store *s;
        uint64_t now;
        struct store_adopted *report;
        struct table_intent intent; /* as it was found */
        uint8_t bad_owner[ARENA_OWNERS_MAX];
        struct given_file *files; /* sorted */
        size_t n_files;
        uint16_t *confirmed; /* per bucket: slots whose entries are kept, one bit each */
        struct recovered *kept;
        size_t n_kept, max_kept;
        struct ahead ahead; /* of the spans; what it is asked for fails with: */
        int unmapped;       /* 0, -ENOMEM: then nothing that was found means anything */
        uint64_t version;   /* the highest that was met */
        /* The list that was asked for last. */
        uint32_t last_gen, last_owner, last_list;
};

/* Index, blocks, lists, heaps, sums: once caches, generations and owners are known to be sound.
 * 0, -ENOMEM. */
int recover_entries(struct recovery *r);

/* The order of use: room, each entry that is kept, then all of them, at last in any case. 0,
 * -ENOMEM.
 */
int order_begin(struct recovery *r);
void order_add(struct recovery *r, uint32_t handle, uint32_t list);
int recover_order(struct recovery *r);
void order_end(struct recovery *r);

/* Tags: before the entries, of an entry, behind them. Of an entry with tags: false, if it is not
 * kept; N_DROPPED: since it was cleared. */
void recover_tags(struct recovery *r);
bool recover_tags_of(struct recovery *r, const struct entry *e, enum store_dropped *ret_why);
void recover_tags_end(struct recovery *r);

#endif
