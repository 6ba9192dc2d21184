/* SPDX-License-Identifier: MIT */
#ifndef RECOVER_H
#define RECOVER_H

/*
 * Taking a store over from the process that had it
 *
 * A store is its memory files: the arena, the table, and one for each large value. Who has their
 * descriptors can go on with it: a new daemon that the old one hands them to, or one that a service
 * manager gives back what a killed one had. See recover.c for what is kept.
 *
 *   leaving:  store_arena_fd(), store_table_fd(), store_large_next() name the descriptors;
 *             store_leave() ends the struct without ending the store.
 *   taking:   store_peek() says whose it is, store_adopt() makes a struct of it again.
 */

#include "arena/adopt.h"
#include "store/store.h"

/* ---- leaving */

int store_table_fd(const struct store *s); /* borrowed */

/* The descriptors of all large values, one a call: start with *cursor = 0; -1: that was all. The
 * store finds out by itself which is which: they may be given back in any order, under any name.
 * Borrowed; valid until the value leaves the store. */
int store_large_next(const struct store *s, uint32_t *cursor);

/* Those without a copy for a successor (large_set_kept()) that were stored until then, likewise;
 * NULL: that was all. */
struct large *store_large_unkept(const struct store *s, uint32_t *cursor, uint64_t until_ms);
bool store_has_unkept(const struct store *s);

/* Like store_free(), but nothing is marked as retired: who has the descriptors can adopt the store,
 * and mapped readers go on. NULL is fine; returns NULL. */
struct store *store_leave(struct store *s);

/* ---- taking */

/* Another instance number for a store that was taken over. Readers of its arena leave it, once the
 * epoch file says the same. */
void store_renumber(struct store *s, uint64_t instance);

/* Why an entry was not taken over. */
enum store_dropped {
        DROPPED_TORN = 0,   /* the change that was under way when the process died */
        DROPPED_BLOCK,      /* its block lies nowhere, or is in use twice */
        DROPPED_ENTRY,      /* its header does not fit its block */
        DROPPED_PLACE,      /* it is not where its key belongs, or the key is there twice */
        DROPPED_GENERATION, /* of no cache's present or dying generation */
        DROPPED_OWNER,      /* its writer is not known */
        DROPPED_LARGE,      /* its large value was not given back */
        DROPPED_EXTENT,     /* its value lies nowhere, or where another one does */
        DROPPED_TAG,        /* one of its tags means nothing */
        DROPPED_LIMIT,      /* more combinations of cache and writer than there are lists */
        N_DROPPED,
};

/* A short text for logs, such as "its large value was not given back". */
const char *store_dropped_text(enum store_dropped why);

struct store_adopted {
        enum arena_refused refused; /* why nothing was taken over; REFUSED_NOT: it was */
        const char *detail;         /* with it: what exactly; static text */
        bool retired;      /* with it: readers of this arena know that it ended. Else the caller
                              must make them know by a new instance number in the epoch file */
        uint64_t instance; /* of the arena: the epoch file has to say the same */
        uint64_t kept, dropped[N_DROPPED];
        uint64_t torn;          /* operation that was under way (enum intent_op); 0: none */
        uint64_t n_caches_lost; /* whose record was not whole: their entries are gone */
        uint64_t large_kept, large_unused; /* of the given descriptors */
};

struct store_files {
        int arena, table; /* of descriptors; -1: missing */
        int *large;
        size_t n_large;
        /* The large values are those of several stores: what this one keeps is -1 afterwards, and
         * the others stay the caller's. */
        bool share;
};

/*
 * store_adopt() - goes on with a store that another process left, or died over
 * @p:     as for store_new(); arena_size, seed and instance are taken from the arena, and there are
 *         never more caches than it was made for. @p->boot and @p->label must be those of the
 * store.
 * @f:     the descriptors. All of them (but for `share`) are consumed, whatever happens: those that
 * the store does not keep are closed
 * @now:   boottime in ms
 * @ret_report: filled in any case
 *
 * Nobody else may be writing to the files any more: who hands over has stopped, who died is dead.
 * Mapped readers may go on reading all the while; they see each repair like any other change.
 * Whatever the files hold, it ends, and reads nothing outside of them. Work and memory are in
 * proportion to what is stored: see ARCHITECTURE.md for figures.
 *
 * Ids of caches, versions, deadlines, policies, counters and the order of use are as they were;
 * a call of store_maintain() is due.
 *
 * Return: 0; STORE_E_REFUSED, with the reason in the report; -ENOMEM, -EMFILE. Unless 0, the arena
 * is marked as retired if that is possible.
 */
#define STORE_E_REFUSED 100
int store_adopt(const struct store_params *p, const struct store_files *f, uint64_t now,
                struct store **ret, struct store_adopted *ret_report);

/* What a table says of itself, before it is taken over; the descriptor stays the caller's.
 * 0, STORE_E_REFUSED: it is none of ours. */
struct store_peek {
        uint64_t instance;
        char label[STORE_LABEL_SIZE]; /* store_params.label */
        uint64_t arena_ino;           /* inode number of the arena that it belongs to */
};
int store_peek(int table_fd, struct store_peek *ret);

#endif
