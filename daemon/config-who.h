/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_WHO_H
#define CONFIG_WHO_H

/*
 * Who may: lists of users and groups
 *
 * A comma separated list of user names, uids, @group names and @gids becomes numbers. Names are
 * looked up through the system's name service, which may block.
 */

#include <stddef.h>
#include <sys/types.h>

#include "config.h"

/* Adds what @text lists to @who. 0, -ENOMEM, or -EINVAL with the reason in @err. */
int who_add(struct config_who *who, const char *text, char *err, size_t n_err);
void who_done(struct config_who *who);

/* A group by name or number. 0, -ENOMEM, or -EINVAL with the reason in @err. */
int who_find_group(const char *name, gid_t *ret, char *err, size_t n_err);

#endif
