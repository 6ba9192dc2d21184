/* SPDX-License-Identifier: MIT */

/*
 * doctor: who answers, is it to be trusted, does it fit, how fast is it
 *
 * The pid that the daemon gives of itself is a number in its own pid namespace. It is used for
 * looks into /proc only where the process of that number is a `cached`.
 */

#include "doctor.h"
#include "fields.h"
#include "proc.h"
#include "service.h"
#include "units.h"

#include <client/listener.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* So many round trips are measured; the fastest are of no interest, the middle one is. */
#define N_PINGS 21

/* Anything slower is not what a cache is for: the daemon or the machine is overloaded. */
#define SLOW_PING_NS UINT64_C(5000000)

static bool is_cached(long pid)
{
        char path[64], comm[64];

        if (pid <= 0)
                return false;
        snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
        return proc_read(path, comm, sizeof(comm)) == 0 && strcmp(comm, "cached") == 0;
}

static void find_pid(struct doctor *d)
{
        uint32_t told = (uint32_t)fields_u64(d->hello, "", "daemon_pid");

        if (is_cached(d->used->peer.pid))
                d->pid = (uint32_t)d->used->peer.pid;
        else if (is_cached((long)told))
                d->pid = told;
}

/* Its state letter in /proc, or 0. */
static char state_of(long pid)
{
        char path[64], stat[512];
        const char *p;

        snprintf(path, sizeof(path), "/proc/%ld/stat", pid);
        if (pid <= 0 || proc_read(path, stat, sizeof(stat)) < 0)
                return 0;
        p = strrchr(stat, ')');
        return p && p[1] == ' ' ? p[2] : 0;
}

/* Where systemd listens on it. */
static const char *systemctl_of(const struct doctor_socket *s)
{
        char name[LISTENER_NAME_SIZE];

        if (s->error != 0)
                return NULL;
        switch (listener_look(&s->peer, name)) {
        case LISTENER_SYSTEMD:
                return "systemctl";
        case LISTENER_SYSTEMD_OF_USER:
                return "systemctl --user";
        default:
                return NULL;
        }
}

const char *doctor_systemctl(const struct doctor *d)
{
        const struct doctor_socket *s = doctor_concerned(d);
        const char *systemctl = s ? systemctl_of(s) : NULL;
        uint64_t max;

        if (systemctl)
                return systemctl;
        /* Whatever listens: something keeps its memory. */
        return d->stats && cached_reply_u64(d->stats, "daemon.kept_files.max", &max) == CACHED_OK
                       ? "systemctl"
                       : NULL;
}

static void advise_on_silence(struct doctor *d, const struct doctor_socket *s)
{
        const char *systemctl = systemctl_of(s);
        char name[LISTENER_NAME_SIZE];

        if (state_of(s->peer.pid) == 'T')
                doctor_advise(d, "it was stopped by a signal: kill -CONT %ld", (long)s->peer.pid);
        else if (systemctl)
                doctor_advise(d,
                              "%s status cached.service; journalctl %s-u cached.service says "
                              "why, often a mistake in the configuration",
                              systemctl, strchr(systemctl, ' ') ? "--user " : "");
        else if (listener_look(&s->peer, name) == LISTENER_OTHER)
                doctor_advise(d,
                              "find out why pid %ld (%s) starts no daemon, or look at the "
                              "daemon's log",
                              (long)s->peer.pid, name);
        else
                doctor_advise(d, "pid %ld listens there and hangs: look at its log, and restart it",
                              (long)s->peer.pid);
}

static void no_answer(struct doctor *d)
{
        const struct doctor_socket *s = NULL;
        const char *why = d->hello ? cached_reply_error(d->hello) : "";

        for (size_t i = 0; i < d->n_tried && !s; i++)
                if (d->sockets[i].error == 0 && !d->sockets[i].unsafe)
                        s = &d->sockets[i];
        doctor_say(d, DOCTOR_PROBLEM, "daemon", "%s", *why ? why : cached_strerror(d->code));
        if (s && d->code == CACHED_ERR_TIMEOUT)
                advise_on_silence(d, s);
        else if (d->code == CACHED_ERR_UNTRUSTED)
                doctor_advise(d, "find out who runs pid %ld; a daemon of your own: cached",
                              s ? (long)s->peer.pid : 0);
        else if (d->code == CACHED_ERR_FORBIDDEN)
                doctor_advise(d, "see `permissions`");
        else if (d->code == CACHED_ERR_UNREACHABLE)
                doctor_advise(d,
                              "start one with %s; if it listens elsewhere, name its socket in "
                              "$CACHED_SOCKET",
                              service_is_installed()
                                      ? "`systemctl start cached.socket`, or `cached`"
                                      : "`cached`");
        else if (d->code == CACHED_VERSION)
                doctor_advise(
                        d, "install cached and libcached of one version, and restart the daemon");
        else
                doctor_advise(d, "the daemon's log may say more");
}

static void check_daemon(struct doctor *d)
{
        char user[DOCTOR_NAME_SIZE], up[UNITS_BUFFER_SIZE];
        uint32_t uid = d->used->peer.uid, process = uid;
        bool is_named = d->ctl->has_service_uid && d->ctl->service_uid == uid;

        (void)doctor_runs_as(d, &process);
        doctor_say(d, DOCTOR_OK, "daemon", "cached %s, pid %u, runs as %s (trusted: %s), up for %s",
                   fields_text(d->hello, "", "version"),
                   (unsigned)fields_u64(d->hello, "", "daemon_pid"), doctor_user(user, process),
                   process != uid     ? "root listens for it"
                   : uid == 0         ? "it is root"
                   : uid == geteuid() ? "it is you"
                   : is_named         ? "--service-uid names it"
                                      : "it owns " SOCKPATH_SYSTEM_DIR,
                   units_format_ms(up, fields_u64(d->stats, "daemon.", "uptime_ms")));
}

/* An upgrade replaces the file; the daemon goes on with the old one until it is restarted. */
static bool is_replaced(uint32_t pid)
{
        static const char deleted[] = " (deleted)";
        char path[64], target[4096];
        ssize_t n;

        snprintf(path, sizeof(path), "/proc/%u/exe", (unsigned)pid);
        n = readlink(path, target, sizeof(target));
        return n >= (ssize_t)sizeof(deleted) - 1 &&
               memcmp(target + n - (sizeof(deleted) - 1), deleted, sizeof(deleted) - 1) == 0;
}

static void check_version(struct doctor *d)
{
        const char *daemon = fields_text(d->hello, "", "version");
        const char *systemctl = doctor_systemctl(d);

        if (strcmp(cached_version(), VERSION) != 0) {
                doctor_say(d, DOCTOR_WARNING, "version", "this is cachectl %s, but libcached is %s",
                           VERSION, cached_version());
                doctor_advise(d, "two versions are installed: remove one, then run ldconfig");
        } else if (d->pid && is_replaced(d->pid)) {
                doctor_say(d, DOCTOR_WARNING, "version",
                           "the daemon's program was replaced since it started (it is %s)", daemon);
                if (systemctl)
                        doctor_advise(d, "%s restart cached.service: what is cached stays",
                                      systemctl);
                else
                        doctor_advise(d, "stop it and start it again: its entries are lost");
        } else if (strcmp(daemon, VERSION) != 0) {
                doctor_say(d, DOCTOR_NOTE, "version", "the daemon is %s, cachectl and libcached %s",
                           daemon, VERSION);
                doctor_advise(d, "they understand each other; restart the daemon after an upgrade");
        } else {
                doctor_say(d, DOCTOR_OK, "version", "cachectl, libcached and the daemon are %s",
                           VERSION);
        }
}

static void check_realm(struct doctor *d)
{
        const char *realm = fields_text(d->hello, "", "realm");
        uint64_t n = fields_u64(d->hello, "", "role"), uid = fields_u64(d->hello, "", "uid");

        if (uid != geteuid()) {
                doctor_say(d, DOCTOR_WARNING, "realm",
                           "the daemon sees you as uid %u, but you are uid %u here: a user "
                           "namespace lies between",
                           (unsigned)uid, (unsigned)geteuid());
                doctor_advise(d,
                              "run both in one namespace; PrivateUsers= must be off in the unit");
                return;
        }
        doctor_say(d, n == 1 ? DOCTOR_NOTE : DOCTOR_OK, "realm", "%s; you are %s", realm,
                   n == 1   ? "a reader: look-ups only"
                   : n == 2 ? "a writer"
                   : n == 3 ? "an admin"
                            : "nobody");
        if (n == 1)
                doctor_advise(d, "to store there, be in `writers` of [realm %s]", realm);
}

static int by_size(const void *a, const void *b)
{
        uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

        return x < y ? -1 : x > y;
}

static uint64_t now_ns(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void check_round_trip(struct doctor *d)
{
        uint64_t ns[N_PINGS];
        char middle[UNITS_BUFFER_SIZE], most[UNITS_BUFFER_SIZE];

        for (size_t i = 0; i < N_PINGS; i++) {
                uint64_t start = now_ns();
                int r = cached_ping(d->client, NULL);

                if (r != CACHED_OK) {
                        doctor_say(d, DOCTOR_PROBLEM, "round_trip", "a ping failed: %s",
                                   cached_strerror(r));
                        doctor_advise(d, "look at the daemon's log");
                        return;
                }
                ns[i] = now_ns() - start;
        }
        qsort(ns, N_PINGS, sizeof(ns[0]), by_size);
        units_format_ns(middle, ns[N_PINGS / 2]);
        units_format_ns(most, ns[N_PINGS - 1]);
        if (ns[N_PINGS / 2] < SLOW_PING_NS) {
                doctor_say(d, DOCTOR_OK, "round_trip", "%s, at most %s in %d", middle, most,
                           N_PINGS);
                return;
        }
        doctor_say(d, DOCTOR_WARNING, "round_trip", "%s: slow", middle);
        doctor_advise(d, "is the machine overloaded (uptime)? `cachectl clients` says who asks, "
                         "`cachectl stats` what takes long");
}

void doctor_check_daemon(struct doctor *d)
{
        if (!d->used) {
                no_answer(d);
                return;
        }
        find_pid(d);
        if (cached_stats(d->client, NULL, &d->stats) != CACHED_OK) {
                cached_reply_free(d->stats);
                d->stats = NULL;
        }
        if (cached_get_config(d->client, &d->config) != CACHED_OK) {
                cached_reply_free(d->config);
                d->config = NULL;
        }
        check_daemon(d);
        check_version(d);
        check_realm(d);
        check_round_trip(d);
}
