/* SPDX-License-Identifier: MIT */
/*
 * Times of the day: the next one, over midnight and the ends of months, and where clocks are put
 * forward and back. Zones are written out, so that none has to be installed.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/daytime.h"

#define AT(hour, minute) ((hour)*60u + (minute))
#define HOUR             3600
#define DAY              (24 * HOUR)

static void set_zone(const char *zone)
{
        assert_int_equal(setenv("TZ", zone, 1), 0);
        tzset();
}

/* Seconds of a moment in UTC. */
static int64_t utc(int year, int month, int day, int hour, int minute)
{
        struct tm tm = {
                .tm_year = year - 1900,
                .tm_mon = month - 1,
                .tm_mday = day,
                .tm_hour = hour,
                .tm_min = minute,
        };
        return timegm(&tm);
}

static void test_utc(void **state)
{
        int64_t noon = utc(2026, 2, 28, 12, 0);

        (void)state;
        set_zone("UTC0");
        assert_int_equal(daytime_next(noon, AT(12, 1)), noon + 60);
        assert_int_equal(daytime_next(noon, AT(23, 59)), utc(2026, 2, 28, 23, 59));
        assert_int_equal(daytime_next(noon, AT(0, 0)), utc(2026, 3, 1, 0, 0));
        assert_int_equal(daytime_next(noon, AT(11, 59)), utc(2026, 3, 1, 11, 59));
        /* Strictly after. */
        assert_int_equal(daytime_next(noon, AT(12, 0)), noon + DAY);
        assert_int_equal(daytime_next(noon - 1, AT(12, 0)), noon);
        assert_int_equal(daytime_next(utc(2026, 12, 31, 23, 59), AT(0, 0)), utc(2027, 1, 1, 0, 0));
        assert_int_equal(daytime_next(utc(2028, 2, 28, 12, 0), AT(4, 30)), utc(2028, 2, 29, 4, 30));
}

/* Clocks go from 02:00 to 03:00 on March 29th, 2026, at 01:00 UTC. */
static void test_clocks_are_put_forward(void **state)
{
        (void)state;
        set_zone("CET-1CEST,M3.5.0,M10.5.0/3");
        int64_t eve = utc(2026, 3, 28, 22, 0); /* 23:00 there */
        assert_int_equal(daytime_next(eve, AT(1, 59)), utc(2026, 3, 29, 0, 59));
        assert_int_equal(daytime_next(eve, AT(3, 0)), utc(2026, 3, 29, 1, 0));
        assert_int_equal(daytime_next(eve, AT(12, 0)), utc(2026, 3, 29, 10, 0));
        /* 02:30 is not there: it comes at what would have been 02:30, and only once. */
        int64_t skipped = daytime_next(eve, AT(2, 30));
        assert_int_equal(skipped, utc(2026, 3, 29, 1, 30));
        assert_int_equal(daytime_next(skipped, AT(2, 30)), utc(2026, 3, 30, 0, 30));
        assert_int_equal(daytime_next(skipped - 1, AT(2, 30)), skipped);
}

/* Clocks go from 03:00 back to 02:00 on October 25th, 2026, at 01:00 UTC. */
static void test_clocks_are_put_back(void **state)
{
        (void)state;
        set_zone("CET-1CEST,M3.5.0,M10.5.0/3");
        int64_t eve = utc(2026, 10, 24, 21, 0); /* 23:00 there */
        int64_t first = daytime_next(eve, AT(2, 30));
        assert_int_equal(first, utc(2026, 10, 25, 0, 30));
        /* Not again an hour later. */
        assert_int_equal(daytime_next(first, AT(2, 30)), utc(2026, 10, 26, 1, 30));
        assert_int_equal(daytime_next(first + HOUR / 2, AT(2, 30)), utc(2026, 10, 26, 1, 30));
        assert_int_equal(daytime_next(eve, AT(3, 0)), utc(2026, 10, 25, 2, 0));
        assert_int_equal(daytime_next(eve, AT(12, 0)), utc(2026, 10, 25, 11, 0));
}

static void test_south_of_the_equator_and_odd_offsets(void **state)
{
        (void)state;
        /* Half an hour forward on October 4th, 2026, 02:00, at 15:30 UTC of the day before. */
        set_zone("LHST-10:30LHDT-11,M10.1.0,M4.1.0");
        int64_t eve = utc(2026, 10, 3, 12, 0);
        assert_int_equal(daytime_next(eve, AT(1, 59)), utc(2026, 10, 3, 15, 29));
        assert_int_equal(daytime_next(eve, AT(2, 30)), utc(2026, 10, 3, 15, 30));
        assert_int_equal(daytime_next(eve, AT(2, 15)), utc(2026, 10, 3, 15, 45));
        set_zone("ODD+11:45");
        assert_int_equal(daytime_next(utc(2026, 1, 1, 0, 0), AT(0, 0)), utc(2026, 1, 1, 11, 45));
}

/* Always later, never by much more than a day, and always that time but for a skipped hour. */
static void test_every_hour_of_a_year(void **state)
{
        (void)state;
        set_zone("CET-1CEST,M3.5.0,M10.5.0/3");
        unsigned skipped = 0;
        for (int64_t t = utc(2026, 1, 1, 0, 0); t < utc(2027, 1, 1, 0, 0); t += HOUR)
                for (unsigned minute = 0; minute < 24 * 60; minute += 150) {
                        int64_t next = daytime_next(t, minute);
                        time_t at = (time_t)next;
                        struct tm tm;
                        assert_true(next > t && next <= t + DAY + HOUR);
                        assert_non_null(localtime_r(&at, &tm));
                        skipped += AT((unsigned)tm.tm_hour, (unsigned)tm.tm_min) != minute;
                }
        /* That of 02:30, asked for in each of the 24 hours before it. */
        assert_int_equal(skipped, 24);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_utc),
                cmocka_unit_test(test_clocks_are_put_forward),
                cmocka_unit_test(test_clocks_are_put_back),
                cmocka_unit_test(test_south_of_the_equator_and_odd_offsets),
                cmocka_unit_test(test_every_hour_of_a_year),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
