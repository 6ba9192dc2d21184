/* SPDX-License-Identifier: MIT */

/*
 * doctor: may the daemon read its configuration
 *
 * Who examines may read more than the daemon, root above all. So the modes of the file and of the
 * directories on the way are held against the user and the groups of the daemon's process; where
 * none runs, against those of the socket, which a unit gives to the service's user. What has an
 * access control list is taken for readable: it is more than its mode.
 */

#include "doctor.h"
#include "fields.h"
#include "proc.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#define GROUPS_MAX 256

struct reader {
        uint32_t uid;
        uint32_t groups[GROUPS_MAX];
        size_t n_groups;
};

/* The numbers of a line of /proc/PID/status. How many. */
static size_t ids_of(const char *status, const char *line, uint32_t *ret, size_t max)
{
        const char *p = strstr(status, line);
        size_t n = 0;

        if (!p)
                return 0;
        p += strlen(line);
        while (n < max) {
                char *end;
                unsigned long id;

                p += strspn(p, " \t");
                id = strtoul(p, &end, 10);
                if (end == p)
                        break;
                ret[n++] = (uint32_t)id;
                p = end;
        }
        return n;
}

static bool reader_of_process(uint32_t pid, struct reader *ret)
{
        char path[48], status[8192];
        uint32_t uids[4], gids[4];

        (void)snprintf(path, sizeof(path), "/proc/%u/status", (unsigned)pid);
        if (proc_read(path, status, sizeof(status)) < 0 || ids_of(status, "\nUid:", uids, 4) < 2 ||
            ids_of(status, "\nGid:", gids, 4) < 2)
                return false;
        ret->uid = uids[1]; /* the effective ones */
        ret->groups[0] = gids[1];
        ret->n_groups = 1 + ids_of(status, "\nGroups:", ret->groups + 1, GROUPS_MAX - 1);
        return true;
}

bool doctor_is_process_of(uint32_t pid, uint32_t uid)
{
        struct reader r;

        return reader_of_process(pid, &r) && r.uid == uid;
}

bool doctor_runs_as(const struct doctor *d, uint32_t *ret_uid)
{
        uint64_t pid = d->hello && d->used ? fields_u64(d->hello, "", "daemon_pid") : 0;
        struct reader r;

        if (pid == 0 || !reader_of_process((uint32_t)pid, &r))
                return false;
        *ret_uid = r.uid;
        return true;
}

static bool reader_find(const struct doctor *d, struct reader *ret)
{
        const struct doctor_socket *s = doctor_concerned(d);

        if (d->used)
                return d->pid && reader_of_process(d->pid, ret);
        if (!s || !doctor_systemctl(d) || s->stat_error != 0)
                return false;
        *ret = (struct reader){.uid = s->st.st_uid, .groups = {s->st.st_gid}, .n_groups = 1};
        return true;
}

/* @want: 4 to read, 1 to pass through. */
static bool may(const struct reader *r, const char *path, unsigned want)
{
        struct stat st;

        if (stat(path, &st) < 0 || getxattr(path, "system.posix_acl_access", NULL, 0) > 0)
                return true;
        if (st.st_uid == r->uid)
                return st.st_mode >> 6 & want;
        for (size_t i = 0; i < r->n_groups; i++)
                if (st.st_gid == r->groups[i])
                        return st.st_mode >> 3 & want;
        return st.st_mode & want;
}

bool doctor_check_reader(struct doctor *d, const char *file)
{
        char path[PATH_MAX], user[DOCTOR_NAME_SIZE];
        struct reader r;
        bool is_readable;

        if (file[0] != '/' || strlen(file) >= sizeof(path) || !reader_find(d, &r) || r.uid == 0)
                return false;
        is_readable = may(&r, file, 4);
        memcpy(path, file, strlen(file) + 1);
        for (char *slash = strrchr(path, '/'); slash && slash != path; slash = strrchr(path, '/')) {
                *slash = '\0';
                is_readable = is_readable && may(&r, path, 1);
        }
        if (is_readable)
                return false;
        doctor_say(d, DOCTOR_PROBLEM, "configuration",
                   "%s cannot be read by the daemon, which runs as %s: none starts with it", file,
                   doctor_user(user, r.uid));
        doctor_advise(d, "chmod o+r %s, and o+x its directories; or give both to the group of %s",
                      file, user);
        return true;
}
