/* SPDX-License-Identifier: MIT */

/* ping: does the daemon answer, and how fast */

#include "fields.h"
#include "output.h"
#include "units.h"
#include "verb.h"

#include <time.h>

static const struct field fields[] = {
        {"uptime_ms", FIELD_MS, "uptime"},
        {"instance", FIELD_ID, NULL},
        {NULL},
};

static uint64_t now_us(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int print_json(struct ctl *ctl, const cached_reply *reply, uint64_t us)
{
        const char *path = cached_socket_path(ctl->client);
        json_t *o = json_object();

        if (json_object_set_new(o, "socket", path ? json_string(path) : json_null()) < 0 ||
            json_object_set_new(o, "round_trip_us", output_json_u64(us)) < 0 ||
            fields_to_json(reply, "", fields, o) < 0) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
}

static int run(struct ctl *ctl, const struct args *a)
{
        char uptime[UNITS_BUFFER_SIZE], took[UNITS_BUFFER_SIZE];
        cached_reply *reply = NULL;
        const char *path;
        uint64_t us;
        int status, r;

        status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        us = now_us();
        r = cached_ping(ctl->client, &reply);
        us = now_us() - us;
        status = ctl_result(ctl, r, reply, "the daemon");
        path = cached_socket_path(ctl->client);
        if (status == EXIT_DONE && ctl->json)
                status = print_json(ctl, reply, us);
        else if (status == EXIT_DONE)
                printf("the daemon on %s answers in %s, up for %s\n", path ? path : "its socket",
                       units_format_us(took, us),
                       units_format_ms(uptime, fields_u64(reply, "", "uptime_ms")));
        cached_reply_free(reply);
        return status;
}

const struct verb verb_ping = {
        .name = "ping",
        .synopsis = "",
        .summary = "Check that the daemon answers",
        .json = "socket, round_trip_us, uptime_ms, instance (a string: another one after every "
                "cold start).",
        .example = "cachectl ping && echo it is there",
        .run = run,
};
