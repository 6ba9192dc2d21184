/* SPDX-License-Identifier: MIT */
/*
 * Log to the journal
 *
 * systemd's "Native Journal Protocol": an entry is a datagram of fields, NAME=value and a newline
 * each. A value with a newline would need the protocol's other form, with a length; ours have none,
 * since oneline() has been over whatever a peer, a file or a path may have put in. Names of fields
 * are constants, so nobody can forge a field.
 *
 * libsystemd's sd_journal_sendv() is not used: when the journal's queue is full, because the
 * journal is stopped or busy, it waits until there is room, and the daemon's loop must never wait
 * for whoever reads the log. It also allocates, and sends a large entry as a file. Here, an entry
 * is bounded, nothing is allocated, and what cannot be sent at once is the caller's to count.
 *
 * The journal looks up by itself whose unit an entry is, in /proc, when it reads it. Of a process
 * that has gone by then it knows nothing, so why a start failed would be missing from the unit's
 * log, one time in five. So the end of the log waits until its entries are dealt with: an empty
 * datagram, which the journal ignores, is read after them, and what nobody has read yet is counted
 * as the sender's.
 *
 * The socket is not connected: an address that is looked up each time still holds when the
 * journal's socket was made anew.
 */
#include "log-journal.h"

#include "base/oneline.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#define REALM_MAX 256  /* more than any realm's name has */
#define FILE_MAX  1024 /* more than an error's text leaves of a path */

/* 0: no event. */
static const char *const event_ids[N_LOG_EVENTS] = {
#define EVENT(name, id, what)       [LOG_EVENT_##name] = (id),
#define KIND(name, lines, id, what) [LOG_EVENT_KIND_##name] = (id),
#define NUMBER(name)
#include "journal.def"
#undef EVENT
#undef KIND
#undef NUMBER
};

static const char *const event_names[N_LOG_EVENTS] = {
#define EVENT(name, id, what)       [LOG_EVENT_##name] = #name,
#define KIND(name, lines, id, what) [LOG_EVENT_KIND_##name] = #name,
#define NUMBER(name)
#include "journal.def"
#undef EVENT
#undef KIND
#undef NUMBER
};

static const char *const number_names[N_LOG_NUMBERS] = {
#define EVENT(name, id, what)
#define KIND(name, lines, id, what)
#define NUMBER(name) [LOG_NUMBER_##name] = "CACHED_" #name,
#include "journal.def"
#undef EVENT
#undef KIND
#undef NUMBER
};

/* ---- fields */

struct entry_buf {
        char *out;
        size_t n;
};

/* A field that does not fit is left out whole: half of one would be another. */
static void put(struct entry_buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void put(struct entry_buf *b, const char *format, ...)
{
        size_t room = LOG_JOURNAL_ENTRY_MAX - b->n;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(b->out + b->n, room, format, ap);
        va_end(ap);
        if (n < 0 || (size_t)n + 1 >= room)
                return;
        oneline(b->out + b->n);
        b->n += (size_t)n;
        b->out[b->n++] = '\n';
}

/* PATH:LINE: or PATH: is how the complaint about a configuration begins. */
static void put_config(struct entry_buf *b, const char *error)
{
        const char *end = error[0] == '/' ? strchr(error, ':') : NULL;
        char *rest;
        unsigned long line;

        if (!end || end - error > FILE_MAX)
                return;
        put(b, "CONFIG_FILE=%.*s", (int)(end - error), error);
        line = strtoul(end + 1, &rest, 10);
        if (end[1] >= '0' && end[1] <= '9' && *rest == ':')
                put(b, "CONFIG_LINE=%lu", line);
}

size_t log_journal_format(char *out, const struct log_entry *e)
{
        const struct log_fields *f = e->fields;
        struct entry_buf b = {.out = out};

        put(&b, "MESSAGE=%.*s", LOG_MESSAGE_MAX - 1, e->message);
        put(&b, "PRIORITY=%d", e->priority);
        put(&b, "SYSLOG_IDENTIFIER=cached");
        put(&b, "SYSLOG_FACILITY=%d", LOG_DAEMON >> 3);
        if (f->event != LOG_EVENT_NONE) {
                put(&b, "MESSAGE_ID=%s", event_ids[f->event]);
                put(&b, "CACHED_KIND=%s", event_names[f->event]);
        }
        if (f->has_uid)
                put(&b, "CACHED_UID=%u", (unsigned)f->uid);
        if (f->pid > 0) /* 0: it is not visible from here */
                put(&b, "CACHED_PID=%d", (int)f->pid);
        if (f->realm)
                put(&b, "CACHED_REALM=%.*s", REALM_MAX, f->realm);
        if (f->config_error)
                put_config(&b, f->config_error);
        for (size_t i = 0; i < LOG_NUMBERS_MAX && f->numbers[i].name != LOG_NUMBER_NONE; i++)
                put(&b, "%s=%llu", number_names[f->numbers[i].name],
                    (unsigned long long)f->numbers[i].value);
        if (e->suppressed > 0)
                put(&b, "CACHED_SUPPRESSED=%u", e->suppressed);
        return b.n;
}

/* ---- sending */

int log_journal_open(void)
{
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return fd < 0 ? -errno : fd;
}

enum log_journal_sent log_journal_send(int fd, const char *path, const char *entry, size_t n)
{
        struct sockaddr_un addr = {.sun_family = AF_UNIX};

        (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
        if (sendto(fd, entry, n, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&addr,
                   sizeof(addr)) >= 0)
                return LOG_JOURNAL_TAKEN;
        if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM)
                return LOG_JOURNAL_FULL;
        return LOG_JOURNAL_ABSENT;
}

void log_journal_settle(int fd, const char *path)
{
        int n = 0;

        if (log_journal_send(fd, path, "", 0) != LOG_JOURNAL_TAKEN)
                return; /* who reads nothing now is not waited for */
        for (int ms = 0; ms < LOG_JOURNAL_SETTLE_MS; ms++) {
                if (ioctl(fd, SIOCOUTQ, &n) < 0 || n == 0)
                        return;
                (void)poll(NULL, 0, 1);
        }
}
