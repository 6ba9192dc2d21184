/* SPDX-License-Identifier: MIT */

/*
 * The spinner
 *
 * One line on stderr, drawn over itself ten times a second, and only where it can do no harm: on a
 * terminal that knows how to erase a line, while we are in its foreground, after the first moments,
 * and before anything else was printed. What is printed must find the line empty, so whoever prints
 * ends the spinner first.
 */

#include "run-spinner.h"

#include "utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define FIRST_MS      300
#define EVERY_MS      100
#define MS_PER_SEC    UINT64_C(1000)
#define NS_PER_MS     1000000
#define S_PER_MINUTE  60
#define TENTHS        100 /* milliseconds of one */
#define DEFAULT_WIDTH 80
#define TEXT_MAX      200
#define TIME_WIDTH    16 /* the sign and the time, and a column that stays free */

static uint64_t now_ms(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * MS_PER_SEC + (uint64_t)t.tv_nsec / NS_PER_MS;
}

static bool can_erase(void)
{
        const char *term = getenv("TERM");

        return term && *term && strcmp(term, "dumb") != 0;
}

void spinner_init(struct spinner *s, bool wanted, const char *what)
{
        *s = (struct spinner){.on = wanted && isatty(STDERR_FILENO) && can_erase(), .what = what};
        if (!s->on)
                return;
        s->started_ms = now_ms();
        s->next_ms = s->started_ms + FIRST_MS;
}

int spinner_timeout_ms(const struct spinner *s)
{
        uint64_t now;

        if (!s->on)
                return -1;
        now = now_ms();
        return s->next_ms > now ? (int)(s->next_ms - now) : 0;
}

/* So much of the text as is sure to fit: its bytes are at least as many as its columns. Where it is
 * cut there is a column for saying so. */
static int text_width(const char *text)
{
        struct winsize size;
        int width = DEFAULT_WIDTH;

        if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
                width = size.ws_col;
        width -= TIME_WIDTH;
        if (width <= 0 || !utf8_is_printable(text, strlen(text)))
                return 0;
        if ((size_t)width >= strlen(text))
                return (int)strlen(text);
        width--;
        /* Not in the middle of a character. */
        while (width > 0 && ((unsigned char)text[width] & 0xc0) == 0x80)
                width--;
        return width;
}

static void draw(struct spinner *s, uint64_t now)
{
        static const char signs[] = "|/-\\";
        uint64_t ms = now - s->started_ms, seconds = ms / MS_PER_SEC;
        char line[TEXT_MAX + 64], took[32];
        int width = text_width(s->what), n;
        bool is_cut = width > 0 && (size_t)width < strlen(s->what);

        if (seconds < S_PER_MINUTE)
                (void)snprintf(took, sizeof(took), "%u.%us", (unsigned)seconds,
                               (unsigned)(ms % MS_PER_SEC / TENTHS));
        else
                (void)snprintf(took, sizeof(took), "%llum%02us",
                               (unsigned long long)(seconds / S_PER_MINUTE),
                               (unsigned)(seconds % S_PER_MINUTE));
        n = snprintf(line, sizeof(line), "\r%c %s  %.*s%s\033[K", signs[s->turn++ % 4], took,
                     width < TEXT_MAX ? width : 0, s->what, is_cut ? "…" : "");
        if (n > 0 && write(STDERR_FILENO, line, (size_t)n) == n)
                s->drawn = true;
}

void spinner_tick(struct spinner *s)
{
        uint64_t now;

        if (!s->on)
                return;
        now = now_ms();
        if (now < s->next_ms)
                return;
        s->next_ms = now + EVERY_MS;
        if (tcgetpgrp(STDERR_FILENO) == getpgrp())
                draw(s, now);
}

void spinner_erase(void)
{
        static const char erase[] = "\r\033[K";

        (void)!write(STDERR_FILENO, erase, sizeof(erase) - 1);
}

void spinner_end(struct spinner *s)
{
        if (s->drawn)
                spinner_erase();
        s->on = false;
        s->drawn = false;
}
