/* SPDX-License-Identifier: MIT */
#ifndef LOG_JOURNAL_H
#define LOG_JOURNAL_H

/*
 * Log to the journal, by its native protocol: one datagram an entry. See log-journal.c.
 */

#include <stddef.h>

#include "log.h"

#define LOG_JOURNAL_SOCKET "/run/systemd/journal/socket"

#define LOG_MESSAGE_MAX       1200 /* bytes of a message, with its end */
#define LOG_JOURNAL_ENTRY_MAX 4096 /* bytes of an entry; its fields are bounded to less */

struct log_entry {
        int priority;
        const char *message; /* one line */
        const struct log_fields *fields;
        unsigned suppressed; /* similar lines that were left out before this one */
};

/* Writes @e into @out, which has LOG_JOURNAL_ENTRY_MAX bytes; returns how many. Pure. */
size_t log_journal_format(char *out, const struct log_entry *e);

/* A socket to send with; or a negative errno. */
int log_journal_open(void);

enum log_journal_sent {
        LOG_JOURNAL_TAKEN,
        LOG_JOURNAL_FULL,   /* it does not take anything now */
        LOG_JOURNAL_ABSENT, /* nobody is there */
};

/* Never waits. */
enum log_journal_sent log_journal_send(int fd, const char *path, const char *entry, size_t n);

/* Before the process ends: until what was sent is dealt with, but no longer than a moment. */
#define LOG_JOURNAL_SETTLE_MS 100
void log_journal_settle(int fd, const char *path);

#endif
