/* SPDX-License-Identifier: MIT */
#ifndef LOG_H
#define LOG_H

/*
 * Log: lines to stderr
 *
 * Under systemd each line carries its journal priority. A line that stderr cannot take at once is
 * dropped and counted: the loop does not wait for whoever reads the log. Lines that peers can cause
 * are rate-limited by kind, so that no peer floods it.
 */

#include <stdbool.h>
#include <stdint.h>
#include <syslog.h> /* the priorities LOG_ERR … LOG_DEBUG only */

/* Kinds of lines that a peer can cause. */
enum log_kind {
        LOG_KIND_REFUSED,
        LOG_KIND_VIOLATION,
        LOG_KIND_STALL,
        LOG_KIND_ACCEPT,
        LOG_KIND_DESCRIPTORS,
        LOG_KIND_MEMORY,
        LOG_KIND_DISPATCH,
        N_LOG_KINDS,
};

struct log_rate {
        uint64_t since_ns;
        unsigned n, suppressed;
};

struct log {
        int level; /* LOG_ERR, LOG_WARNING, LOG_INFO or LOG_DEBUG: what is less important is left
                      out */
        bool journal;
        uint64_t lost; /* lines that stderr did not take */
        struct log_rate rates[N_LOG_KINDS];
};

void log_init(struct log *l, int level);

void log_write(struct log *l, int priority, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* At most a few lines of one kind in ten seconds; how many were left out is said later. */
void log_peer(struct log *l, int priority, enum log_kind kind, uint64_t now_ns, const char *format,
              ...) __attribute__((format(printf, 5, 6)));

#endif
