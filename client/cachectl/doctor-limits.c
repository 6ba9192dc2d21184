/* SPDX-License-Identifier: MIT */

/*
 * doctor: what the kernel lets the daemon have, against what its configuration promises to clients
 */

#include "doctor.h"
#include "fields.h"
#include "proc.h"
#include "units.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Descriptors of the daemon that are no connections: its own, and two memory files of each realm.
 */
#define FDS_BESIDES 64

/* A unit may ask for more than a container has. */
#define AT_MOST "at most %llu descriptors (LimitNOFILE= in the unit, or the machine's own bound)"

static uint64_t setting(const struct doctor *d, const char *name)
{
        size_t n = cached_reply_count(d->config, "settings");
        char prefix[FIELDS_PATH_SIZE];
        uint64_t value;

        for (size_t i = 0; i < n; i++) {
                fields_item(prefix, "settings", i);
                if (strcmp(fields_text(d->config, prefix, "name"), name) == 0 &&
                    !units_parse_count(fields_text(d->config, prefix, "value"), &value))
                        return value;
        }
        return 0;
}

/* To raise the number of descriptors, or lower what needs them. */
static void advise_descriptors(struct doctor *d, const char *lower)
{
        const char *systemctl = doctor_systemctl(d);

        if (systemctl)
                doctor_advise(d,
                              "raise it (%s edit cached.service: LimitNOFILE=524288) where the "
                              "machine allows that, or lower %s",
                              systemctl, lower);
        else
                doctor_advise(d, "raise it (ulimit -n, where the daemon is started), or lower %s",
                              lower);
}

/* True: a finding was added. */
static bool check_descriptors(struct doctor *d, const char *limits)
{
        uint64_t files, connections = setting(d, "limits.connections");
        uint64_t large = setting(d, "limits.large_values");

        if (proc_limit(limits, "Max open files", &files) < 0)
                return false;
        if (files < connections + FDS_BESIDES) {
                doctor_say(d, DOCTOR_WARNING, "limits",
                           "the daemon may open " AT_MOST ", but limits.connections is %llu, and "
                           "each large value takes one as well",
                           (unsigned long long)files, (unsigned long long)connections);
                advise_descriptors(d, "limits.connections");
                return true;
        }
        if (files - connections - FDS_BESIDES < large) {
                doctor_say(d, DOCTOR_NOTE, "limits",
                           "the daemon may open " AT_MOST ": beside limits.connections that is "
                           "enough for %llu large values, limits.large_values is %llu",
                           (unsigned long long)files,
                           (unsigned long long)(files - connections - FDS_BESIDES),
                           (unsigned long long)large);
                advise_descriptors(d, "limits.large_values");
                return true;
        }
        return false;
}

static bool check_file_size(struct doctor *d, const char *limits)
{
        uint64_t bytes;

        if (proc_limit(limits, "Max file size", &bytes) < 0 || bytes == UINT64_MAX)
                return false;
        doctor_say(d, DOCTOR_WARNING, "limits",
                   "the daemon's files, and so its memory files, are limited to %llu bytes",
                   (unsigned long long)bytes);
        doctor_advise(
                d, "remove LimitFSIZE= from the unit, or `ulimit -f unlimited` before it starts");
        return true;
}

static bool check_refusals(struct doctor *d)
{
        uint64_t refused = fields_u64(d->stats, "daemon.", "connections_refused");

        if (refused == 0)
                return false;
        doctor_say(d, DOCTOR_NOTE, "limits",
                   "%llu connections were refused since the daemon started",
                   (unsigned long long)refused);
        doctor_advise(d, "`cachectl clients` says who holds them; limits.connections and "
                         "limits.connections_per_uid bound them");
        return true;
}

void doctor_check_limits(struct doctor *d)
{
        char limits[64];
        bool found = false;

        if (!d->used)
                return;
        if (d->pid == 0) {
                doctor_say(d, DOCTOR_NOTE, "limits",
                           "the daemon's /proc cannot be seen (another pid namespace, or hidepid): "
                           "its limits are unknown");
                doctor_advise(d, "run this on the daemon's side, or as root");
                (void)check_refusals(d);
                return;
        }
        snprintf(limits, sizeof(limits), "/proc/%u/limits", (unsigned)d->pid);
        found |= check_descriptors(d, limits);
        found |= check_file_size(d, limits);
        found |= check_refusals(d);
        if (!found)
                doctor_say(d, DOCTOR_OK, "limits",
                           "%llu of %llu connections in use, and the "
                           "descriptors for all of them",
                           (unsigned long long)fields_u64(d->stats, "daemon.", "connections"),
                           (unsigned long long)setting(d, "limits.connections"));
}
