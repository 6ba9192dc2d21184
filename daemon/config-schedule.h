/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_SCHEDULE_H
#define CONFIG_SCHEDULE_H

/*
 * Sections [schedule NAME]: see config-schedule.c
 */

#include <stddef.h>

#include "config.h"

/* Where a value was set: the file's position in the list plus one (0: default), and the line. */
struct config_origin {
        size_t file;
        unsigned line;
};

enum schedule_field {
        SCHEDULE_CACHE,
        SCHEDULE_REALM,
        SCHEDULE_EVERY,
        SCHEDULE_AT,
        N_SCHEDULE_FIELDS,
};

extern const char *const schedule_fields[N_SCHEDULE_FIELDS];

struct schedule_origin {
        struct config_origin section; /* where it was first named */
        struct config_origin where[N_SCHEDULE_FIELDS];
};

#define SCHEDULE_TEXT_MAX 160 /* more than any value of one needs */

/* The schedule of this name, made if there is none. 0, -ENOMEM, or -EINVAL with the reason in
 * @err. */
int schedule_enter(struct config *cfg, const char *name, const struct config_origin *here,
                   size_t *ret, char *err, size_t n_err);

/* Which field is that? N_SCHEDULE_FIELDS: none. */
enum schedule_field schedule_field_of(const char *name);

/* Parses @text into the field. 0, -ENOMEM, or -EINVAL with the reason in @err. */
int schedule_set(struct config_schedule *s, enum schedule_field field, const char *text, char *err,
                 size_t n_err);

/* When all files are read: are they whole? 0, or -EINVAL with file, line and reason in @err. */
int schedules_check(const struct config *cfg, char *err, size_t n_err);

/* The value as one would write it; empty: not set. @buf holds SCHEDULE_TEXT_MAX bytes. */
void schedule_format(const struct config_schedule *s, enum schedule_field field, char *buf);

void schedules_free(struct config *cfg);

#endif
