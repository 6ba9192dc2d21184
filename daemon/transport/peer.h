/* SPDX-License-Identifier: MIT */
#ifndef PEER_H
#define PEER_H

/*
 * Peer: who is at the other end of a connected socket, by the kernel's word. See conn.h for the
 * struct.
 */

#include "transport/conn.h"

/* 0, or a negative errno. Release with peer_done(). */
int peer_init(struct peer *p, int fd);
void peer_done(struct peer *p);

/* The uid that stands for "no uid of this namespace". */
uid_t peer_overflow_uid(void);

#endif
