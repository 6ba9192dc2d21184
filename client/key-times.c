/* SPDX-License-Identifier: MIT */
/*
 * Dates and times as items of a key
 *
 * They enter field by field, as a calendar and a clock show them, after a check that the calendar
 * has the day. No arithmetic is done on them: two zones' names for one moment are two keys, as
 * their objects are two in every language, and so no table of zones is needed here.
 */
#include "client/key.h"

#define NANOSECONDS 1000000000
#define DAY_SECONDS 86400

struct date {
        int32_t year;
        int month, day;
};

struct time {
        int hour, minute, second;
        int32_t nanosecond;
};

struct zone {
        int32_t offset_s;
        const char *name;
        size_t n_name;
};

static int month_days(int32_t year, int month)
{
        static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

        return days[month - 1] + (month == 2 && leap);
}

static int check_date(struct cached_key *k, const struct date *d)
{
        if (d->month < 1 || d->month > 12 || d->day < 1 || d->day > month_days(d->year, d->month))
                return key_fail(k, CACHED_ERR_USAGE,
                                "there is no day %d-%d-%d: pass year, month from 1, day from 1",
                                d->year, d->month, d->day);
        return CACHED_OK;
}

static int check_nanosecond(struct cached_key *k, int32_t nanosecond)
{
        if (nanosecond < 0 || nanosecond >= NANOSECONDS)
                return key_fail(k, CACHED_ERR_USAGE,
                                "%d is no nanosecond: pass 0 to 999999999, the rest in the seconds",
                                nanosecond);
        return CACHED_OK;
}

static int check_time(struct cached_key *k, const struct time *t)
{
        if (t->hour < 0 || t->hour > 23 || t->minute < 0 || t->minute > 59 || t->second < 0 ||
            t->second > 60)
                return key_fail(k, CACHED_ERR_USAGE,
                                "there is no time %d:%d:%d: pass 0:0:0 to 23:59:60", t->hour,
                                t->minute, t->second);
        return check_nanosecond(k, t->nanosecond);
}

static int check_zone(struct cached_key *k, const struct zone *z)
{
        if (z->offset_s <= -DAY_SECONDS || z->offset_s >= DAY_SECONDS)
                return key_fail(k, CACHED_ERR_USAGE,
                                "a zone %d s from UTC: pass seconds, less than a day (86400)",
                                z->offset_s);
        return key_check_text(k, "the zone's name", z->name, z->n_name, 0, CACHED_KEY_NAME_MAX);
}

/* What is NULL is not part of it. */
static int add_point(struct cached_key *k, enum key_tag tag, const struct date *d,
                     const struct time *t, const struct zone *z)
{
        struct key_hash *out = NULL;
        int e = key_check_ready(k);

        if (e == CACHED_OK && d)
                e = check_date(k, d);
        if (e == CACHED_OK && t)
                e = check_time(k, t);
        if (e == CACHED_OK && z)
                e = check_zone(k, z);
        if (e == CACHED_OK)
                e = key_item_begin(k, tag, &out);
        if (e != CACHED_OK)
                return e;
        if (d) {
                key_bytes_u32(out, (uint32_t)d->year);
                key_bytes_u8(out, (uint8_t)d->month);
                key_bytes_u8(out, (uint8_t)d->day);
        }
        if (t) {
                key_bytes_u8(out, (uint8_t)t->hour);
                key_bytes_u8(out, (uint8_t)t->minute);
                key_bytes_u8(out, (uint8_t)t->second);
                key_bytes_u32(out, (uint32_t)t->nanosecond);
        }
        if (z) {
                key_bytes_u32(out, (uint32_t)z->offset_s);
                key_write_bytes(k, out, z->name, z->n_name);
        }
        return key_item_end(k);
}

int cached_key_add_date(cached_key *k, int32_t year, int month, int day)
{
        return add_point(k, KEY_TAG_DATE, &(struct date){year, month, day}, NULL, NULL);
}

int cached_key_add_time(cached_key *k, int hour, int minute, int second, int32_t nanosecond)
{
        return add_point(k, KEY_TAG_TIME, NULL, &(struct time){hour, minute, second, nanosecond},
                         NULL);
}

int cached_key_add_time_zone(cached_key *k, int hour, int minute, int second, int32_t nanosecond,
                             int32_t offset_s, const char *zone, size_t n_zone)
{
        return add_point(k, KEY_TAG_TIME_ZONE, NULL,
                         &(struct time){hour, minute, second, nanosecond},
                         &(struct zone){offset_s, zone, n_zone});
}

int cached_key_add_datetime(cached_key *k, int32_t year, int month, int day, int hour, int minute,
                            int second, int32_t nanosecond)
{
        return add_point(k, KEY_TAG_DATETIME, &(struct date){year, month, day},
                         &(struct time){hour, minute, second, nanosecond}, NULL);
}

int cached_key_add_datetime_zone(cached_key *k, int32_t year, int month, int day, int hour,
                                 int minute, int second, int32_t nanosecond, int32_t offset_s,
                                 const char *zone, size_t n_zone)
{
        return add_point(k, KEY_TAG_DATETIME_ZONE, &(struct date){year, month, day},
                         &(struct time){hour, minute, second, nanosecond},
                         &(struct zone){offset_s, zone, n_zone});
}

int cached_key_add_duration(cached_key *k, int64_t seconds, int32_t nanosecond)
{
        struct key_hash *out = NULL;
        int e = key_check_ready(k);

        if (e == CACHED_OK)
                e = check_nanosecond(k, nanosecond);
        if (e == CACHED_OK)
                e = key_item_begin(k, KEY_TAG_DURATION, &out);
        if (e != CACHED_OK)
                return e;
        key_bytes_u64(out, (uint64_t)seconds);
        key_bytes_u32(out, (uint32_t)nanosecond);
        return key_item_end(k);
}
