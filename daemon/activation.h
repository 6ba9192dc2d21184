/* SPDX-License-Identifier: MIT */
#ifndef ACTIVATION_H
#define ACTIVATION_H

/*
 * Activation: where the daemon listens when nobody says so
 */

#include <stddef.h>

struct given;
struct log;

#define ACTIVATION_PATH_MAX 4096
#define ACTIVATION_ERR_MAX  512

/* What the service manager passed: the listening socket, and memory files that an earlier daemon
 * left with it, which go into @given. All descriptors that were passed are taken or closed. 0 and
 * the socket, now the caller's, with its path; 1: no socket was passed; negative errno: what was
 * passed cannot be used, @err says why. */
int activation_take(int *ret_fd, char *path, size_t n_path, struct given *given, struct log *log,
                    char *err, size_t n_err);

/* The default path: $CACHED_SOCKET; as root the system's; else the user's. Makes the daemon's own
 * directory if it is missing, and checks whose it is. 0, or a negative errno and a sentence in
 * @err. */
int activation_socket_path(char *path, size_t n_path, char *err, size_t n_err);

#endif
