/* SPDX-License-Identifier: MIT */
#ifndef SOCKFILE_H
#define SOCKFILE_H

/*
 * Socket file: the name under which a daemon is found, and the proof that it is the only one there
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct sockfile {
        char *path, *lock_path;
        int lock_fd;
        dev_t dev; /* of the file that we made */
        ino_t ino;
};

struct sockfile_access {
        mode_t mode;
        bool has_gid;
        gid_t gid;
};

#define SOCKFILE_ERR_MAX 512

/* Takes the name and listens there. 0, or a negative errno and a sentence in @err. */
int sockfile_init(struct sockfile *s, const char *path, const struct sockfile_access *access,
                  int *ret_fd, char *err, size_t n_err);

/* Goes on with the name of a daemon that this process takes the place of: @path, where @lock_fd,
 * consumed, is its lock. 0, or a negative errno and a sentence in @err. */
int sockfile_adopt(struct sockfile *s, const char *path, int lock_fd, char *err, size_t n_err);

/* Another process has adopted the name: forgets it, and leaves everything. Fine on a zeroed one. */
void sockfile_let_go(struct sockfile *s);

/* Changes who may connect. 0, or a negative errno; -ESTALE: the file is not the one that we made.
 */
int sockfile_set_access(const struct sockfile *s, const struct sockfile_access *access);

/* Whether others than root and ourselves can replace the file; says how. */
bool sockfile_is_exposed(const struct sockfile *s, char *ret_why, size_t n_why);

/* Removes the file, if it is still the one that we made. The name stays locked. */
void sockfile_remove(struct sockfile *s);

/* Removes the file and gives the name free. Fine on a zeroed one. */
void sockfile_done(struct sockfile *s);

#endif
