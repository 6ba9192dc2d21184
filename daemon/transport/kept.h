/* SPDX-License-Identifier: MIT */
#ifndef KEPT_H
#define KEPT_H

/*
 * Kept: descriptors of peers that stay when their connections end. See kept.c.
 */

#include <stdbool.h>

struct conn;
struct hub;
struct kept;

/* Keeps @fd, which has come over @c and is consumed. With @on_hang_up that is called, once, when
 * its other end closes (it is a stream or seqpacket socket then). 0, or -errno: @fd is the caller's
 * still. */
int kept_new(struct conn *c, int fd, void (*on_hang_up)(void *ctx), void *ctx, struct kept **ret);
/* Borrowed. */
int kept_fd(const struct kept *k);
/* Closes it elsewhere, since that may hang. NULL is fine; returns NULL. */
struct kept *kept_free(struct kept *k);
/* The hub is gone: what is kept is closed with the process. NULL is fine; returns NULL. */
struct kept *kept_leave(struct kept *k);

/* For the hub: its end. */
void kept_end(struct hub *h);

#endif
