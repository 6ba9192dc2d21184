/* SPDX-License-Identifier: MIT */
#ifndef ACCESS_H
#define ACCESS_H

/*
 * Access: who may do what in which realm. See access.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct config;

/* In the order of what they may; the numbers of cached.proto's Role. */
enum role { ACCESS_NONE = 0, ACCESS_READER, ACCESS_WRITER, ACCESS_ADMIN };

/* Who asks; borrowed. */
struct access_peer {
        uid_t uid;
        gid_t gid;
        const gid_t *gids;
        size_t n_gids;
        uid_t overflow_uid; /* the kernel's; access_overflow_uid() */
};

enum {
        ACCESS_OK = 0,
        ACCESS_E_DENIED,   /* also for a realm that does not exist: names are not told */
        ACCESS_E_OVERFLOW, /* the peer's uid means nothing here */
        ACCESS_E_UNKNOWN,  /* no such realm; told to root only */
};

/* The uid that stands for users whom the kernel cannot name here. */
uid_t access_overflow_uid(void);

#define ACCESS_OWN_REALM_MAX 16 /* "uid:" and a number, with its terminator */
void access_own_realm(uid_t uid, char ret_name[ACCESS_OWN_REALM_MAX]);

/* The role of @peer in the realm @name (its own: access_own_realm()). Never ACCESS_NONE with 0. */
int access_role(const struct config *cfg, const struct access_peer *peer, const char *name,
                enum role *ret);

#endif
