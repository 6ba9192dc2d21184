/* SPDX-License-Identifier: MIT */
/*
 * Log, see log.h
 *
 * One write() a line, so that lines of several processes on one terminal do not mix. Allocates
 * nothing. Bytes that are no printable ASCII or UTF-8 continuation are replaced: a line may quote
 * what a peer sent.
 */

#include "log.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1200
#define RATE_LINES     5
#define RATE_PERIOD_NS (10 * NSEC_PER_SEC)

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
}

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

static void clean(char *s, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                unsigned char ch = (unsigned char)s[i];
                if (ch < 0x20 || ch == 0x7f)
                        s[i] = '?';
        }
}

static void write_line(struct log *l, int priority, const char *text, const char *more)
{
        struct pollfd p = {.fd = STDERR_FILENO, .events = POLLOUT};
        char line[LINE_MAX_BYTES];
        int n, head;

        if (l->journal)
                head = snprintf(line, sizeof(line), "<%d>", priority);
        else
                head = snprintf(line, sizeof(line), "cached: %s", level_name(priority));
        n = snprintf(line + head, sizeof(line) - (size_t)head, "%s%s", text, more);
        n = n < 0 ? head : head + n;
        if (n > (int)sizeof(line) - 2)
                n = (int)sizeof(line) - 2;
        clean(line, (size_t)n);
        line[n++] = '\n';
        /* A pipe or socket that is full would block us. */
        if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT) ||
            write(STDERR_FILENO, line, (size_t)n) < 0)
                l->lost++;
}

static void write_formatted(struct log *l, int priority, const char *more, const char *format,
                            va_list ap) __attribute__((format(printf, 4, 0)));

static void write_formatted(struct log *l, int priority, const char *more, const char *format,
                            va_list ap)
{
        char text[LINE_MAX_BYTES];
        int saved_errno = errno;

        (void)vsnprintf(text, sizeof(text), format, ap);
        if (l->lost > 0) {
                char note[80];
                (void)snprintf(note, sizeof(note), "%llu log lines were lost before this one",
                               (unsigned long long)l->lost);
                l->lost = 0;
                write_line(l, LOG_WARNING, note, "");
        }
        write_line(l, priority, text, more);
        errno = saved_errno;
}

void log_write(struct log *l, int priority, const char *format, ...)
{
        va_list ap;

        if (priority > l->level)
                return;
        va_start(ap, format);
        write_formatted(l, priority, "", format, ap);
        va_end(ap);
}

void log_peer(struct log *l, int priority, enum log_kind kind, uint64_t now_ns, const char *format,
              ...)
{
        struct log_rate *r = &l->rates[kind];
        char more[80] = "";
        va_list ap;

        if (priority > l->level)
                return;
        if (now_ns - r->since_ns > RATE_PERIOD_NS || r->since_ns == 0) {
                if (r->suppressed > 0)
                        (void)snprintf(more, sizeof(more),
                                       " (%u similar lines were left out before)", r->suppressed);
                *r = (struct log_rate){.since_ns = now_ns};
        }
        if (r->n == RATE_LINES) {
                r->suppressed++;
                return;
        }
        r->n++;
        va_start(ap, format);
        write_formatted(l, priority, more, format, ap);
        va_end(ap);
}
