/* SPDX-License-Identifier: MIT */
/*
 * Log, see log.h
 *
 * On stderr, one write() a line, so that lines of several processes on one terminal do not mix.
 * Allocates nothing. Bytes that are not plain UTF-8 are replaced: a line may quote what a peer
 * sent.
 *
 * The journal that does not answer (it was never there, or its socket is gone) leaves stderr, which
 * is a stream to the journal, too. One that is full leaves nothing: the stream's end would be the
 * same process, and lines would come in another order.
 */

#include "log.h"

#include "base/clock.h"
#include "base/oneline.h"
#include "log-journal.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES (LOG_MESSAGE_MAX + 32) /* with what stands before and behind the message */
#define RATE_PERIOD_NS (10 * NSEC_PER_SEC)

static const struct {
        enum log_event event;
        unsigned lines;
} kinds[N_LOG_KINDS] = {
#define EVENT(name, id, what)
#define KIND(name, lines, id, what) [LOG_KIND_##name] = {LOG_EVENT_KIND_##name, lines},
#define NUMBER(name)
#include "journal.def"
#undef EVENT
#undef KIND
#undef NUMBER
};

/* ---- life */

/* True if JOURNAL_STREAM names the very file that stderr is. */
static bool stderr_is_journal(void)
{
        const char *s = getenv("JOURNAL_STREAM");
        unsigned long long dev, ino;
        struct stat st;

        return s && sscanf(s, "%llu:%llu", &dev, &ino) == 2 && fstat(STDERR_FILENO, &st) == 0 &&
               st.st_dev == dev && st.st_ino == ino;
}

void log_init(struct log *l, int level)
{
        *l = (struct log){.level = level, .journal = stderr_is_journal()};
        if (l->journal)
                log_use_journal(l, LOG_JOURNAL_SOCKET);
}

void log_use_journal(struct log *l, const char *path)
{
        int fd = log_journal_open();

        log_done(l);
        if (fd < 0)
                return; /* stderr it is */
        l->native = true;
        l->journal_fd = fd;
        (void)snprintf(l->journal_path, sizeof(l->journal_path), "%s", path);
}

void log_done(struct log *l)
{
        if (l->native) {
                log_journal_settle(l->journal_fd, l->journal_path);
                close(l->journal_fd);
        }
        l->native = false;
}

/* ---- one line */

static const char *level_name(int priority)
{
        switch (priority) {
        case LOG_ERR:
                return "error: ";
        case LOG_WARNING:
                return "warning: ";
        case LOG_DEBUG:
                return "debug: ";
        default:
                return "";
        }
}

static bool write_stderr(const struct log *l, const struct log_entry *e)
{
        struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
        char line[LINE_MAX_BYTES];
        int n, head;

        if (l->journal)
                head = snprintf(line, sizeof(line), "<%d>", e->priority);
        else
                head = snprintf(line, sizeof(line), "cached: %s", level_name(e->priority));
        n = snprintf(line + head, sizeof(line) - (size_t)head, "%s", e->message);
        n = n < 0 ? head : head + n;
        if (n > (int)sizeof(line) - 2)
                n = (int)sizeof(line) - 2;
        line[n++] = '\n';
        /* A pipe or socket that is full would block us. */
        return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) &&
               write(STDERR_FILENO, line, (size_t)n) >= 0;
}

/* False: nobody took it. */
static bool write_entry(const struct log *l, const struct log_entry *e)
{
        char entry[LOG_JOURNAL_ENTRY_MAX];
        size_t n;

        if (!l->native)
                return write_stderr(l, e);
        n = log_journal_format(entry, e);
        switch (log_journal_send(l->journal_fd, l->journal_path, entry, n)) {
        case LOG_JOURNAL_TAKEN:
                return true;
        case LOG_JOURNAL_FULL:
                return false;
        case LOG_JOURNAL_ABSENT:
        default:
                return write_stderr(l, e);
        }
}

/* Says how many lines are missing before this one. */
static bool write_lost(struct log *l)
{
        const struct log_fields fields = {.event = LOG_EVENT_LOST,
                                          .numbers = {{LOG_NUMBER_LOST, l->lost}}};
        struct log_entry e = {.priority = LOG_WARNING, .fields = &fields};
        char note[80];

        (void)snprintf(note, sizeof(note), "%llu log lines were lost before this one",
                       (unsigned long long)l->lost);
        e.message = note;
        if (!write_entry(l, &e))
                return false;
        l->lost = 0;
        return true;
}

static void write_formatted(struct log *l, struct log_entry e, const char *format, va_list ap)
        __attribute__((format(printf, 3, 0)));

static void write_formatted(struct log *l, struct log_entry e, const char *format, va_list ap)
{
        char text[LOG_MESSAGE_MAX], more[80] = "";
        size_t n, n_more = 0;
        int saved_errno = errno;

        if (e.suppressed > 0)
                n_more = (size_t)snprintf(more, sizeof(more),
                                          " (%u similar lines were left out before)", e.suppressed);
        /* A long text makes room for it. */
        (void)vsnprintf(text, sizeof(text) - n_more, format, ap);
        n = strlen(text);
        (void)snprintf(text + n, sizeof(text) - n, "%s", more);
        oneline(text);
        e.message = text;
        if ((l->lost > 0 && !write_lost(l)) || !write_entry(l, &e))
                l->lost++;
        errno = saved_errno;
}

/* ---- calls */

static const struct log_fields nothing;

void log_write(struct log *l, int priority, const char *format, ...)
{
        struct log_entry e = {.priority = priority, .fields = &nothing};
        va_list ap;

        if (priority > l->level)
                return;
        va_start(ap, format);
        write_formatted(l, e, format, ap);
        va_end(ap);
}

void log_event(struct log *l, int priority, const struct log_fields *fields, const char *format,
               ...)
{
        struct log_entry e = {.priority = priority, .fields = fields};
        va_list ap;

        if (priority > l->level)
                return;
        va_start(ap, format);
        write_formatted(l, e, format, ap);
        va_end(ap);
}

void log_peer(struct log *l, int priority, enum log_kind kind, uint64_t now_ns,
              const struct log_fields *fields, const char *format, ...)
{
        struct log_fields f = fields ? *fields : nothing;
        struct log_entry e = {.priority = priority, .fields = &f};
        struct log_rate *r = &l->rates[kind];
        va_list ap;

        if (priority > l->level)
                return;
        if (now_ns - r->since_ns > RATE_PERIOD_NS || r->since_ns == 0) {
                e.suppressed = r->suppressed;
                *r = (struct log_rate){.since_ns = now_ns};
        }
        if (r->n == kinds[kind].lines) {
                r->suppressed++;
                return;
        }
        r->n++;
        f.event = kinds[kind].event;
        va_start(ap, format);
        write_formatted(l, e, format, ap);
        va_end(ap);
}
