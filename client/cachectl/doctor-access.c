/* SPDX-License-Identifier: MIT */

/*
 * doctor: who may open the socket, and who could put another one in its place
 *
 * Clients trust what they find at the socket's path (and check the uid behind it). So each
 * directory on the way has to belong to root, to the user or to the daemon, and others must not be
 * able to rename what is in it.
 */

#include "doctor.h"
#include "service.h"

#include <client/listener.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const struct doctor_socket *doctor_concerned(const struct doctor *d)
{
        if (d->used)
                return d->used;
        for (size_t i = 0; i < d->n_tried; i++)
                if (d->sockets[i].stat_error != ENOENT && d->sockets[i].stat_error != ENOTDIR)
                        return &d->sockets[i];
        return NULL;
}

/* A unit made the socket: its settings, and not the daemon's, say who may connect. Where it may not
 * be opened nobody knows who listens; then the system's is the installed unit's. */
static bool is_made_by_unit(const struct doctor_socket *s)
{
        char name[LISTENER_NAME_SIZE];
        enum listener who;

        if (s->error != 0)
                return strcmp(s->at.path, SOCKPATH_SYSTEM) == 0 && service_is_installed();
        who = listener_look(&s->peer, name);
        return who != LISTENER_DAEMON && who != LISTENER_UNKNOWN;
}

/*
 * Root listens for a service, and gave the socket to the user whose the directory is. That user
 * could put another socket there, and gains nothing by it: clients ask who listens. They trust
 * root, and in the system's directory its owner, who is the service.
 */
static bool is_of_service(const struct doctor_socket *s, const struct stat *dir)
{
        return s->error == 0 && s->peer.uid == 0 && s->stat_error == 0 &&
               s->st.st_uid == dir->st_uid;
}

/* True: a finding was added. */
static bool check_dir(struct doctor *d, const char *dir, const struct doctor_socket *s)
{
        char user[DOCTOR_NAME_SIZE];
        struct stat st;
        uint32_t uid;

        if (stat(dir, &st) < 0)
                return false;
        /* Whoever serves could do so in another way, too. */
        if (s != d->used || !doctor_runs_as(d, &uid))
                uid = s->peer.uid;
        if (st.st_uid != 0 && st.st_uid != geteuid() && !(s->error == 0 && st.st_uid == uid) &&
            !is_of_service(s, &st)) {
                doctor_say(d, DOCTOR_PROBLEM, "permissions",
                           "the directory %s belongs to %s, who can put another socket there", dir,
                           doctor_user(user, st.st_uid));
                doctor_advise(d, "use a socket below a directory of root or of your own");
                return true;
        }
        if ((st.st_mode & (S_IWGRP | S_IWOTH)) == 0 || (st.st_mode & S_ISVTX))
                return false;
        doctor_say(d, st.st_mode & S_IWOTH ? DOCTOR_PROBLEM : DOCTOR_WARNING, "permissions",
                   "the directory %s has mode %04o: others can put another socket there", dir,
                   (unsigned)(st.st_mode & 07777));
        doctor_advise(d, "chmod go-w %s", dir);
        return true;
}

/* From the socket's directory up. */
static bool check_dirs(struct doctor *d, const struct doctor_socket *s)
{
        char path[sizeof(s->at.path)];
        char *slash;

        memcpy(path, s->at.path, sizeof(path));
        while ((slash = strrchr(path, '/')) != NULL && slash != path) {
                *slash = '\0';
                if (check_dir(d, path, s))
                        return true;
        }
        return false;
}

static bool in_group(gid_t gid)
{
        gid_t groups[1024];
        int n = getgroups((int)(sizeof(groups) / sizeof(groups[0])), groups);

        if (getegid() == gid)
                return true;
        for (int i = 0; i < n; i++)
                if (groups[i] == gid)
                        return true;
        return false;
}

/* connect() was refused by the file system. Says which membership is missing. */
static void check_forbidden(struct doctor *d, const struct doctor_socket *s)
{
        char user[DOCTOR_NAME_SIZE], group[DOCTOR_NAME_SIZE];

        if (s->stat_error != 0) {
                doctor_say(d, DOCTOR_PROBLEM, "permissions",
                           "you may not look into the directory of %s", s->at.path);
                doctor_advise(d, "ask its owner, or root, to make its directories searchable "
                                 "(chmod o+x)");
                return;
        }
        doctor_group(group, s->st.st_gid);
        doctor_say(d, DOCTOR_PROBLEM, "permissions",
                   "you may not open %s: it is for %s and group %s, mode %04o", s->at.path,
                   doctor_user(user, s->st.st_uid), group, (unsigned)(s->st.st_mode & 07777));
        doctor_user(user, geteuid());
        if ((s->st.st_mode & S_IWGRP) && s->st.st_gid != 0 && !in_group(s->st.st_gid))
                doctor_advise(d, "sudo usermod -aG %s %s, then log in again", group, user);
        else if (is_made_by_unit(s))
                doctor_advise(d,
                              "set SocketGroup=cached and SocketMode=0660 (systemctl edit "
                              "cached.socket), and add %s to the group cached",
                              user);
        else
                doctor_advise(d,
                              "set daemon.socket_group = cached and daemon.socket_mode = 0660 in "
                              "/etc/cached/cached.conf, and add %s to the group cached",
                              user);
}

static bool check_modes(struct doctor *d, const struct doctor_socket *s)
{
        if (s->stat_error != 0 || !S_ISSOCK(s->st.st_mode))
                return false;
        if ((s->st.st_mode & S_IWOTH) == 0)
                return false;
        /* Realms keep users apart, so this may be meant. */
        doctor_say(d, s->st.st_uid == 0 ? DOCTOR_NOTE : DOCTOR_WARNING, "permissions",
                   "%s has mode %04o: every user of this machine may connect", s->at.path,
                   (unsigned)(s->st.st_mode & 07777));
        if (is_made_by_unit(s))
                doctor_advise(d,
                              "if that is not meant: SocketMode=0600, or 0660 with SocketGroup=, "
                              "in cached.socket");
        else
                doctor_advise(d, "if that is not meant: daemon.socket_mode = 0600, or 0660 with "
                                 "daemon.socket_group");
        return true;
}

void doctor_check_access(struct doctor *d)
{
        const struct doctor_socket *s = doctor_concerned(d);
        bool found = false;

        if (!s)
                return;
        if (s->error == EACCES || s->error == EPERM) {
                check_forbidden(d, s);
                return;
        }
        if (s->unsafe) {
                doctor_say(d, DOCTOR_WARNING, "permissions",
                           "%s is passed by: its directory is not yours alone", s->at.path);
                doctor_advise(d, "remove the directory, or make it yours with mode 0700");
                return;
        }
        found |= check_dirs(d, s);
        found |= check_modes(d, s);
        if (!found)
                doctor_say(d, DOCTOR_OK, "permissions",
                           "mode %04o; only root, the daemon and you can "
                           "put a socket there",
                           (unsigned)(s->st.st_mode & 0777));
}
