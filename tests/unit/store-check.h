/* SPDX-License-Identifier: MIT */
#ifndef STORE_CHECK_H
#define STORE_CHECK_H

struct store;

/* Walks everything the store holds and aborts with a message at the first contradiction. */
void store_check(struct store *s);

#endif
