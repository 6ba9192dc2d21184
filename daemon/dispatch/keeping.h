/* SPDX-License-Identifier: MIT */
#ifndef KEEPING_H
#define KEEPING_H

/*
 * Keeping: resources outlive the daemon. What a successor has to know of them is written where
 * sessions are, before anybody is told of it, and descriptors go by name. See keeping.c, and
 * restoring.c for the other end.
 */

#include <stdbool.h>
#include <stdint.h>

#include "dispatch/resourcing.h"
#include "services/resource-record.h"

struct given;
struct process_mark;
struct sockaddr_storage;

struct keeping;

/* 0 or -ENOMEM; puts what it alone has to hear into the hooks, which are not the table's yet. */
int keeping_init(struct dispatcher *d, struct resource_hooks *hooks);
void keeping_done(struct dispatcher *d);

/* Gives a name to the descriptor of @o, and notes what it is, from @kind on (enum fd_kind). 0,
 * -EMFILE: there are no more names, -ENOMEM, or what statx() says. */
int keeping_name(struct resource_object *o, int fd, unsigned kind);
/* Likewise with the name that it had. -EEXIST: somebody else has it. */
int keeping_name_again(struct resource_object *o, const struct resource_kept *k);
/* It is gone. */
void keeping_forget(struct resource_object *o);
/* Whether @fd is what the record or the object says, by its file. */
bool keeping_is_file(int fd, uint64_t dev, uint64_t ino);

/* Writes what an instance will be when @c is published, so that that does not fail afterwards. OK,
 * or why there is no room. */
enum status keeping_announce(struct request *r, const struct resource_creation *c,
                             const struct resource_object *o);
/* It was not published as announced under @number. */
void keeping_withdraw(struct request *r, struct realm *realm, uint64_t holder, uint64_t number);
/* Writes an instance and a hold that did not come by a creation. Likewise. */
enum status keeping_registered(struct request *r, struct resource *res, struct resource_hold *hold);

/* The holder, with its process. Likewise. */
enum status keeping_holder(struct request *r, const struct resource_holder *h,
                           const struct process_mark *mark);
/* Could what changed last of it be written? OK, or why not: then it is to be taken back. */
enum status keeping_check_hold(struct request *r, const struct resource_hold *hold);
enum status keeping_check_lock(struct request *r, const struct resource *res);

/* For the table's hook: it has left. */
void keeping_left(struct dispatcher *d, const struct resource *res);

/* Deletes a record. */
void keeping_drop(struct dispatcher *d, struct realm *hidden, const struct resource_kept *k);

/* The descriptors, by their names. False: @visit said to stop. */
bool keeping_each_file(const struct dispatcher *d, realm_file_visit visit, void *ctx);

/* What the keeper gave back is where it was: after restoring_run(), before keeping_offer(). */
void keeping_claim(struct dispatcher *d);
/* Offers descriptors that the keeper has not. @all: whatever their age. False: it has no room. */
bool keeping_offer(struct dispatcher *d, uint64_t now_ms, bool all);
/* Boottime ms of the next keeping_offer() that makes sense; UINT64_MAX: none. */
uint64_t keeping_offer_due(const struct dispatcher *d);

/* All of it must stay as it is: nothing that happens is heard of. And back: it is, now. */
void keeping_rest(struct dispatcher *d);
void keeping_stay(struct dispatcher *d);
bool keeping_is_still(const struct dispatcher *d);
/* While it is still: the other end of @o has closed. */
void keeping_hung_up(struct resource_object *o);

/* ---- restoring.c */

/* Takes out what a predecessor left of resources, before anything of it is known. */
void restoring_take(struct dispatcher *d, struct given *given);
/* Nothing of it was made use of. */
void restoring_done(struct dispatcher *d);
/* All realms are there: makes its holders and instances anew, to be claimed. */
void restoring_run(struct dispatcher *d);

/* ---- holding.c */

/* One of a predecessor's, whose holder is in the table: its process is watched again. False: that
 * has ended, or cannot be watched. */
bool holding_restore(struct dispatcher *d, struct realm *realm, const struct resource_kept *k);
/* The word of the segment @res may name somebody who has not come yet: the lock is kept for that
 * one. 0 or -errno. */
int holding_stand_in(struct dispatcher *d, struct resource *res, uint64_t now_ms);
/* Ends those whose processes have ended meanwhile. */
void holding_catch_up(struct dispatcher *d);

#endif
