/* SPDX-License-Identifier: MIT */
/*
 * Times of the day
 *
 * In local time ($TZ, else /etc/localtime). Where clocks are put forward a time may not be there on
 * that day: then it comes as late as if they had not been. Where they are put back it may be there
 * twice: then the first one counts, and the second one does not come again.
 */
#include "base/daytime.h"

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#define MINUTES_PER_HOUR 60
#define DAYS_AHEAD       3 /* a zone that crosses the date line leaves a day out */

/* On the day that is @days after that of @now. False: no such time. */
static bool time_on(const struct tm *now, int days, unsigned minute, time_t *ret)
{
        time_t plain = 0;
        bool found = false;

        /* Where the time is there twice, summer time's comes first. */
        for (int dst = 1; dst >= 0 && !found; dst--) {
                struct tm at = {
                        .tm_year = now->tm_year,
                        .tm_mon = now->tm_mon,
                        .tm_mday = now->tm_mday + days,
                        .tm_hour = (int)minute / MINUTES_PER_HOUR,
                        .tm_min = (int)minute % MINUTES_PER_HOUR,
                        .tm_isdst = dst,
                };
                struct tm is;

                plain = mktime(&at);
                if (plain == (time_t)-1 || !localtime_r(&plain, &is))
                        return false;
                found = is.tm_hour == (int)minute / MINUTES_PER_HOUR &&
                        is.tm_min == (int)minute % MINUTES_PER_HOUR;
        }
        *ret = plain;
        return true;
}

int64_t daytime_next(int64_t after_s, unsigned minute)
{
        time_t after = (time_t)after_s, at;
        struct tm now;

        if (!localtime_r(&after, &now))
                return INT64_MAX;
        for (int days = 0; days <= DAYS_AHEAD; days++)
                if (time_on(&now, days, minute, &at) && at > after)
                        return at;
        return INT64_MAX;
}
