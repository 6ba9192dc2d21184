/* SPDX-License-Identifier: MIT */
#ifndef LOG_H
#define LOG_H

/*
 * Log: lines to the journal, or to stderr
 *
 * Where the service manager made stderr the journal, a line is one of its entries, with fields that
 * say what happened and to whom (journal.def, cached(8)). A line that cannot be taken at once is
 * dropped and counted: the loop does not wait for whoever reads the log. Lines that peers can cause
 * are rate-limited by kind, so that no peer floods it. Lines that only root and the daemon's own
 * user can cause (a reload, a handover) are not: who administers it wants to see each.
 */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <syslog.h> /* the priorities LOG_ERR … LOG_DEBUG only */

enum log_event {
        LOG_EVENT_NONE,
#define EVENT(name, id, what)       LOG_EVENT_##name,
#define KIND(name, lines, id, what) LOG_EVENT_KIND_##name,
#define NUMBER(name)
#include "journal.def"
#undef EVENT
#undef KIND
#undef NUMBER
        N_LOG_EVENTS,
};

/* Kinds of lines that a peer can cause. Each is an event. */
enum log_kind {
#define EVENT(name, id, what)
#define KIND(name, lines, id, what) LOG_KIND_##name,
#define NUMBER(name)
#include "journal.def"
#undef EVENT
#undef KIND
#undef NUMBER
        N_LOG_KINDS,
};

enum log_number {
        LOG_NUMBER_NONE,
#define EVENT(name, id, what)
#define KIND(name, lines, id, what)
#define NUMBER(name) LOG_NUMBER_##name,
#include "journal.def"
#undef EVENT
#undef KIND
#undef NUMBER
        N_LOG_NUMBERS,
};

#define LOG_NUMBERS_MAX 6

/* What a line is about, as far as its caller knows; zero is what it does not know. Texts may hold
 * any bytes. */
struct log_fields {
        enum log_event event; /* log_peer() sets it by the kind */
        bool has_uid;
        uid_t uid; /* of the peer */
        pid_t pid;
        const char *realm;
        const char *config_error; /* of config_load(): the file and the line that it begins with */
        struct {
                enum log_number name;
                uint64_t value;
        } numbers[LOG_NUMBERS_MAX];
};

/* In the initializer of a struct log_fields, of a struct peer. */
#define LOG_PEER(peer) .has_uid = true, .uid = (peer)->uid, .pid = (peer)->pid

/* Fields that say the event alone. */
#define LOG_EVENT(name) (&(struct log_fields){.event = LOG_EVENT_##name})

struct log_rate {
        uint64_t since_ns;
        unsigned n, suppressed;
};

#define LOG_PATH_MAX 108 /* as a socket's name may be long */

struct log {
        int level;    /* LOG_ERR, LOG_WARNING, LOG_INFO or LOG_DEBUG: what is less important is left
                         out */
        bool journal; /* stderr is the journal */
        bool native;  /* and these are for its own protocol: */
        int journal_fd;
        char journal_path[LOG_PATH_MAX];
        uint64_t lost; /* lines that nobody took */
        struct log_rate rates[N_LOG_KINDS];
};

void log_init(struct log *l, int level);
void log_done(struct log *l); /* may wait a moment */

/* Has lines go to the journal behind this socket, and to stderr where there is none. log_init()
 * does it where stderr is the journal. */
void log_use_journal(struct log *l, const char *path);

void log_write(struct log *l, int priority, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

void log_event(struct log *l, int priority, const struct log_fields *fields, const char *format,
               ...) __attribute__((format(printf, 4, 5)));

/* At most a few lines of one kind in ten seconds; how many were left out is said later. @fields may
 * be NULL. */
#define LOG_AT_START UINT64_C(1) /* as the time, where there is none yet: the first lines only */
void log_peer(struct log *l, int priority, enum log_kind kind, uint64_t now_ns,
              const struct log_fields *fields, const char *format, ...)
        __attribute__((format(printf, 6, 7)));

#endif
