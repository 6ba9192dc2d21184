/* SPDX-License-Identifier: MIT */
#ifndef DOCTOR_H
#define DOCTOR_H

/*
 * One examination of the installation: what was found out, and the findings
 *
 * Checks run in a fixed order, each in a function of its own that adds one finding or more. Later
 * ones use what earlier ones learned: which sockets there are, who answers, what the daemon says of
 * itself.
 */

#include "ctl.h"

#include <client/sockpath.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum doctor_status {
        DOCTOR_OK,
        DOCTOR_NOTE,    /* worth knowing; nothing has to be done */
        DOCTOR_WARNING, /* works, but not as well or as safely as it should */
        DOCTOR_PROBLEM, /* does not work, or will not for long */
};

struct doctor_finding {
        const char *check; /* its name, which scripts rely on */
        enum doctor_status status;
        char *text;
        char *advice; /* NULL, or what to do */
};

/* A place where a daemon could listen, and what is there. */
struct doctor_socket {
        struct sockpath at;
        struct stat st;    /* if stat_error is 0 */
        int stat_error;    /* errno */
        bool unsafe;       /* in /tmp, in a directory that is not ours alone: clients pass it by */
        int error;         /* errno of connect(); 0: somebody listens */
        struct ucred peer; /* who listens; with socket activation that is the service manager */
};

#define DOCTOR_SOCKETS_MAX (1 + SOCKPATH_MAX)

struct doctor {
        struct ctl *ctl;
        struct doctor_finding *findings;
        size_t n_findings, n_alloc;
        bool no_memory;

        struct doctor_socket sockets[DOCTOR_SOCKETS_MAX];
        size_t n_sockets;
        size_t n_tried; /* so many are what this cachectl tries; the rest is only looked at */

        int code;                   /* of connecting as every client does */
        cached *client;             /* NULL: no memory */
        cached_reply *hello;        /* what the daemon said, or what went wrong */
        struct doctor_socket *used; /* where that led; NULL: nowhere */
        uint32_t pid;               /* of the daemon; 0 where its /proc cannot be seen */
        cached_reply *stats;        /* NULL: none */
        cached_reply *config;       /* NULL: none */
};

/* Longer than any daemon should take to answer: who examines wants to know before that. */
#define DOCTOR_TIMEOUT_MS 3000

/* Adds a finding. */
void doctor_say(struct doctor *d, enum doctor_status status, const char *check, const char *format,
                ...) __attribute__((format(printf, 4, 5)));

/* What to do about the finding that was added last. */
void doctor_advise(struct doctor *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

void doctor_done(struct doctor *d);

/* Another connection, to @s and no other; where it leads is looked at, whoever is behind it. An
 * exit status is not formed: returns a code of the library. */
int doctor_connect(struct doctor *d, const struct doctor_socket *s, cached **ret,
                   cached_reply **ret_hello);

/* The socket that is used; else the first that is there; else NULL. */
const struct doctor_socket *doctor_concerned(const struct doctor *d);

/* "systemctl" or "systemctl --user", where a service manager listens for the daemon or keeps its
 * memory; else NULL. */
const char *doctor_systemctl(const struct doctor *d);

/* doctor-reader.c. By the process's credentials: the owner of its directory in /proc may be
 * another. */
bool doctor_is_process_of(uint32_t pid, uint32_t uid);

/* True: the daemon may not read this file, and a finding says so. */
bool doctor_check_reader(struct doctor *d, const char *file);

/* The uid as which the daemon's process runs; with socket activation it is not that of its peer,
 * which is who listened. False: its /proc cannot be seen, or it has not answered. */
bool doctor_runs_as(const struct doctor *d, uint32_t *ret_uid);

/* A user's or group's name, or its number. */
#define DOCTOR_NAME_SIZE 64
const char *doctor_user(char buf[DOCTOR_NAME_SIZE], uint32_t uid);
const char *doctor_group(char buf[DOCTOR_NAME_SIZE], uint32_t gid);

/* The checks, by file, in the order in which they run. */
void doctor_look_around(struct doctor *d); /* doctor-socket.c: fills in the struct, says nothing */
void doctor_check_sockets(struct doctor *d); /* doctor-socket.c: socket, others, stale */
void doctor_check_access(struct doctor *d);  /* doctor-access.c: permissions */
void doctor_check_daemon(
        struct doctor *d); /* doctor-daemon.c: daemon, version, realm, round_trip */
void doctor_check_limits(struct doctor *d); /* doctor-limits.c: limits */
void doctor_check_memory(struct doctor *d); /* doctor-memory.c: memory, cgroup, eviction */
void doctor_check_config(struct doctor *d); /* doctor-config.c, -reader.c: configuration */
void doctor_check_system(struct doctor *d); /* doctor-system.c: kernel, clock */

#endif
