/* SPDX-License-Identifier: MIT */
#ifndef SESSION_H
#define SESSION_H

/*
 * Sessions
 */

#include "services/data.h"

/* A session that was found. */
struct session_ref {
        struct realm *realm; /* the hidden one */
        uint8_t key[SESSION_KEY_SIZE];
};

/* The session with this token, which is used thereby. NOT_FOUND. */
enum status session_find(const struct caller *who, const uint8_t *token, size_t n_token,
                         struct session_ref *ret, struct verdict *v);

#endif
