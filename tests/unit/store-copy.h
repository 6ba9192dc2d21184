/* SPDX-License-Identifier: MIT */
#ifndef STORE_COPY_H
#define STORE_COPY_H

/*
 * Copies of a store's two files, as if it had died at this instant
 */

#include "store/store.h"

struct store_copies {
        int arena, table; /* owned by who asked for them */
};

void store_copies_init(struct store_copies *c, const struct store *s);

#endif
