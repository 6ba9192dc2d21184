/* SPDX-License-Identifier: MIT */
/*
 * Peer credentials
 *
 * Both are those of the moment of connect(): a peer that changes its uid or groups afterwards keeps
 * the old rights on this connection. That is what the kernel offers, and the same as for an open
 * file.
 */

#include "transport/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define N_GIDS_FIRST 32
#define N_GIDS_MAX   65536 /* the kernel's NGROUPS_MAX */

static int read_groups(int fd, gid_t **ret_gids, size_t *ret_n)
{
        socklen_t n = N_GIDS_FIRST * sizeof(gid_t);

        for (int attempt = 0; attempt < 3; attempt++) {
                gid_t *gids = malloc(n);
                if (!gids)
                        return -ENOMEM;
                if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, gids, &n) == 0) {
                        if (n == 0) {
                                free(gids);
                                gids = NULL;
                        }
                        *ret_gids = gids;
                        *ret_n = n / sizeof(gid_t);
                        return 0;
                }
                int err = errno;
                free(gids);
                /* ERANGE: the kernel wrote the size that it needs into n. */
                if (err != ERANGE || n > N_GIDS_MAX * sizeof(gid_t))
                        return -err;
        }
        return -ERANGE;
}

int peer_init(struct peer *p, int fd)
{
        struct ucred cred;
        socklen_t n = sizeof(cred);
        gid_t *gids = NULL;
        size_t n_gids = 0;
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
                return -errno;
        r = read_groups(fd, &gids, &n_gids);
        if (r < 0)
                return r;
        *p = (struct peer){
                .uid = cred.uid, .gid = cred.gid, .pid = cred.pid, .gids = gids, .n_gids = n_gids};
        return 0;
}

void peer_done(struct peer *p)
{
        free(p->gids);
        *p = (struct peer){0};
}

uid_t peer_overflow_uid(void)
{
        uid_t uid = 65534; /* the kernel's own default */
        char buf[16];
        ssize_t n;
        int fd = open("/proc/sys/kernel/overflowuid", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return uid;
        n = read(fd, buf, sizeof(buf) - 1);
        close(fd);
        if (n > 0) {
                char *end;
                unsigned long v;

                buf[n] = '\0';
                v = strtoul(buf, &end, 10);
                if (end != buf)
                        uid = (uid_t)v;
        }
        return uid;
}
