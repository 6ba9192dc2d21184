/* SPDX-License-Identifier: MIT */
/*
 * Sections [schedule NAME]
 *
 * When clients that have subscribed to it are asked to compute the values of a cache anew: every so
 * often, at a time of the day, or both. Each field is parsed here by itself; what belongs together
 * is checked when all files are read, because a drop-in may complete a section.
 *
 * Knows no files and no lines but to pass them on; does not decide when the next moment is.
 */

#include "config-schedule.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config-row.h"
#include "config-value.h"

enum {
        SCHEDULE_NAME_MAX = 40,
        SCHEDULES_MAX = 256, /* each is looked at when one is due; more is a generated mistake */
        CACHE_NAME_MAX = 128,
        MINUTES_PER_HOUR = 60,
        UID_DIGITS_MAX = 10,
};

#define EVERY_MIN_MS UINT64_C(1000)
#define EVERY_MAX_MS (UINT64_C(366) * 24 * 3600 * 1000)

const char *const schedule_fields[N_SCHEDULE_FIELDS] = {"cache", "realm", "every", "at"};

__attribute__((format(printf, 3, 4))) static int refuse(char *err, size_t n_err, const char *format,
                                                        ...)
{
        va_list args;

        va_start(args, format);
        vsnprintf(err, n_err, format, args);
        va_end(args);
        return -EINVAL;
}

/* ---- sections */

/* It travels in events, and stands in logs. */
static bool is_schedule_name(const char *name)
{
        size_t n =
                strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

        return n > 0 && n <= SCHEDULE_NAME_MAX && !name[n];
}

static int add(struct config *cfg, const char *name, const struct config_origin *here)
{
        struct config_schedule *schedules;
        struct schedule_origin *origins;

        schedules = reallocarray(cfg->schedules, cfg->n_schedules + 1, sizeof(*schedules));
        if (!schedules)
                return -ENOMEM;
        cfg->schedules = schedules;
        origins = reallocarray(cfg->schedule_origins, cfg->n_schedules + 1, sizeof(*origins));
        if (!origins)
                return -ENOMEM;
        cfg->schedule_origins = origins;
        schedules[cfg->n_schedules] = (struct config_schedule){
                .name = strdup(name),
                .at_minute = CONFIG_AT_NEVER,
        };
        origins[cfg->n_schedules] = (struct schedule_origin){.section = *here};
        if (!schedules[cfg->n_schedules].name)
                return -ENOMEM;
        cfg->n_schedules++;
        return 0;
}

int schedule_enter(struct config *cfg, const char *name, const struct config_origin *here,
                   size_t *ret, char *err, size_t n_err)
{
        int r;

        if (!is_schedule_name(name))
                return refuse(
                        err, n_err,
                        "'%.64s' is no schedule name: use 1 to %d letters, digits, '.', '_', '-'",
                        name, SCHEDULE_NAME_MAX);
        for (size_t i = 0; i < cfg->n_schedules; i++) {
                if (strcmp(cfg->schedules[i].name, name) == 0) {
                        *ret = i;
                        return 0;
                }
        }
        if (cfg->n_schedules == SCHEDULES_MAX)
                return refuse(err, n_err, "more than %d schedules", SCHEDULES_MAX);
        r = add(cfg, name, here);
        if (r == 0)
                *ret = cfg->n_schedules - 1;
        return r;
}

void schedules_free(struct config *cfg)
{
        for (size_t i = 0; i < cfg->n_schedules; i++) {
                free(cfg->schedules[i].name);
                free(cfg->schedules[i].cache);
                free(cfg->schedules[i].realm);
        }
        free(cfg->schedules);
        free(cfg->schedule_origins);
}

/* ---- fields */

enum schedule_field schedule_field_of(const char *name)
{
        unsigned field = 0;

        while (field < N_SCHEDULE_FIELDS && strcmp(schedule_fields[field], name) != 0)
                field++;
        return (enum schedule_field)field;
}

static int keep_text(char **field, const char *text)
{
        char *copy = strdup(text);

        if (!copy)
                return -ENOMEM;
        free(*field);
        *field = copy;
        return 0;
}

/* The file is UTF-8 without control characters, but for tabs: that is what a name must be, too. */
static int set_cache(struct config_schedule *s, const char *text, char *err, size_t n_err)
{
        size_t n = strlen(text);

        if (n == 0 || n > CACHE_NAME_MAX)
                return refuse(err, n_err, "cache has %zu bytes: a cache's name has 1 to %d", n,
                              CACHE_NAME_MAX);
        if (strpbrk(text, "\t\r"))
                return refuse(err, n_err, "there is a tab in the name of the cache");
        return keep_text(&s->cache, text);
}

/* "uid:N", as access.c has it. */
static bool is_own_realm(const char *text)
{
        char *end;

        if (strncmp(text, "uid:", 4) != 0 || text[4] < '0' || text[4] > '9' ||
            strlen(text + 4) > UID_DIGITS_MAX || (text[4] == '0' && text[5]))
                return false;
        return strtoull(text + 4, &end, 10) < UINT32_MAX && !*end;
}

static int set_realm(struct config_schedule *s, const char *text, char *err, size_t n_err)
{
        if (!*text)
                return refuse(err, n_err,
                              "realm is empty: name a realm of the configuration, or uid:N, or "
                              "leave it out for the daemon's own");
        if (strncmp(text, "uid:", 4) == 0 && !is_own_realm(text))
                return refuse(err, n_err, "'%.64s' is no user's realm: use uid: and a number",
                              text);
        return keep_text(&s->realm, text);
}

static int set_every(struct config_schedule *s, const char *text, char *err, size_t n_err)
{
        const struct row row = {
                .section = "schedule NAME",
                .name = schedule_fields[SCHEDULE_EVERY],
                .type = TYPE_ms,
                .min = EVERY_MIN_MS,
                .max = EVERY_MAX_MS,
        };

        return row_parse(&row, text, &s->every_ms, err, n_err);
}

static bool parse_two_digits(const char *text, unsigned end, unsigned *ret)
{
        if (text[0] < '0' || text[0] > '9' || text[1] < '0' || text[1] > '9')
                return false;
        *ret = (unsigned)(text[0] - '0') * 10 + (unsigned)(text[1] - '0');
        return *ret < end;
}

static int set_at(struct config_schedule *s, const char *text, char *err, size_t n_err)
{
        unsigned hour = 0, minute = 0;

        if (strlen(text) != 5 || text[2] != ':' || !parse_two_digits(text, 24, &hour) ||
            !parse_two_digits(text + 3, MINUTES_PER_HOUR, &minute))
                return refuse(err, n_err,
                              "'%.64s' is not a time of the day: use HH:MM, 00:00 to 23:59", text);
        s->at_minute = hour * MINUTES_PER_HOUR + minute;
        return 0;
}

int schedule_set(struct config_schedule *s, enum schedule_field field, const char *text, char *err,
                 size_t n_err)
{
        switch (field) {
        case SCHEDULE_CACHE:
                return set_cache(s, text, err, n_err);
        case SCHEDULE_REALM:
                return set_realm(s, text, err, n_err);
        case SCHEDULE_EVERY:
                return set_every(s, text, err, n_err);
        case SCHEDULE_AT:
                return set_at(s, text, err, n_err);
        case N_SCHEDULE_FIELDS:
                break;
        }
        return refuse(err, n_err, "no such field");
}

/* The reason goes behind the place to look at. */
__attribute__((format(printf, 5, 6))) static int refuse_at(const struct config *cfg,
                                                           const struct config_origin *where,
                                                           char *err, size_t n_err,
                                                           const char *format, ...)
{
        int n = snprintf(err, n_err, "%s:%u: ", cfg->files[where->file - 1], where->line);
        va_list args;

        va_start(args, format);
        if (n > 0 && (size_t)n < n_err)
                vsnprintf(err + n, n_err - (size_t)n, format, args);
        va_end(args);
        return -EINVAL;
}

static int check(const struct config *cfg, size_t i, char *err, size_t n_err)
{
        const struct config_schedule *s = &cfg->schedules[i];
        const struct schedule_origin *origin = &cfg->schedule_origins[i];

        if (!s->cache)
                return refuse_at(cfg, &origin->section, err, n_err,
                                 "[schedule %s] names no cache: add a line `cache = NAME`",
                                 s->name);
        if (s->every_ms == 0 && s->at_minute == CONFIG_AT_NEVER)
                return refuse_at(cfg, &origin->section, err, n_err,
                                 "[schedule %s] does not say when: add a line `every = 1h`, "
                                 "`at = 04:00`, or both",
                                 s->name);
        if (!s->realm || is_own_realm(s->realm) || config_find_realm(cfg, s->realm))
                return 0;
        return refuse_at(cfg, &origin->where[SCHEDULE_REALM], err, n_err,
                         "there is no realm '%.64s': name one that has a section [realm NAME], or "
                         "a user's, uid:N",
                         s->realm);
}

int schedules_check(const struct config *cfg, char *err, size_t n_err)
{
        int r = 0;

        for (size_t i = 0; i < cfg->n_schedules && r == 0; i++)
                r = check(cfg, i, err, n_err);
        return r;
}

void schedule_format(const struct config_schedule *s, enum schedule_field field, char *buf)
{
        buf[0] = '\0';
        if (field == SCHEDULE_CACHE)
                (void)snprintf(buf, SCHEDULE_TEXT_MAX, "%s", s->cache);
        else if (field == SCHEDULE_REALM && s->realm)
                (void)snprintf(buf, SCHEDULE_TEXT_MAX, "%s", s->realm);
        else if (field == SCHEDULE_EVERY && s->every_ms > 0)
                value_format_duration(s->every_ms, buf);
        else if (field == SCHEDULE_AT && s->at_minute != CONFIG_AT_NEVER)
                (void)snprintf(buf, SCHEDULE_TEXT_MAX, "%02u:%02u", s->at_minute / MINUTES_PER_HOUR,
                               s->at_minute % MINUTES_PER_HOUR);
}
