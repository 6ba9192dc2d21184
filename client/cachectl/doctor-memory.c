/* SPDX-License-Identifier: MIT */

/*
 * doctor: the budgets against the memory that there is
 *
 * A budget is a promise of memory. What it may still grow by has to be available now, at least with
 * swap; and a control group that is smaller than the budget gets the daemon killed before anything
 * is evicted.
 */

#include "doctor.h"
#include "fields.h"
#include "proc.h"
#include "units.h"

#include <stdio.h>
#include <string.h>

struct memory {
        uint64_t total, available, swap_free;
        uint64_t budget, held; /* the global one, and what of it is taken already */
};

static bool learn(const struct doctor *d, struct memory *ret)
{
        static const char path[] = "/proc/meminfo";
        struct memory m = {0};

        if (!d->stats || proc_meminfo(path, "MemTotal", &m.total) < 0 ||
            proc_meminfo(path, "MemAvailable", &m.available) < 0)
                return false;
        (void)proc_meminfo(path, "SwapFree", &m.swap_free);
        m.budget = fields_u64(d->stats, "daemon.", "budget_bytes");
        m.held = fields_u64(d->stats, "daemon.", "resident_bytes");
        *ret = m;
        return true;
}

static void check_machine(struct doctor *d, const struct memory *m)
{
        char budget[UNITS_BUFFER_SIZE], total[UNITS_BUFFER_SIZE], available[UNITS_BUFFER_SIZE];
        char held[UNITS_BUFFER_SIZE];
        uint64_t rest = m->budget > m->held ? m->budget - m->held : 0;

        units_format_bytes(budget, m->budget);
        units_format_bytes(total, m->total);
        units_format_bytes(available, m->available);
        units_format_bytes(held, m->held);
        if (m->budget > m->total) {
                doctor_say(d, DOCTOR_PROBLEM, "memory",
                           "memory.global_budget is %s, the machine has %s: the kernel will kill "
                           "somebody before anything is evicted",
                           budget, total);
                doctor_advise(d, "memory.global_budget = 50%% in the daemon's configuration, then "
                                 "cachectl config reload");
        } else if (rest > m->available + m->swap_free) {
                doctor_say(d, DOCTOR_WARNING, "memory",
                           "the daemon may grow from %s to %s, but %s are available", held, budget,
                           available);
                doctor_advise(d, "lower memory.global_budget, or find out what takes the rest");
        } else if (rest > m->available) {
                doctor_say(
                        d, DOCTOR_WARNING, "memory",
                        "the daemon may grow from %s to %s; %s are available, and the rest would "
                        "be swapped",
                        held, budget, available);
                doctor_advise(d, "lower memory.global_budget: a swapped entry is slower than most "
                                 "computations");
        } else {
                doctor_say(d, DOCTOR_OK, "memory", "%s held, budget %s, %s of %s available", held,
                           budget, available, total);
        }
}

static void check_cgroup(struct doctor *d, const struct memory *m)
{
        char path[64], budget[UNITS_BUFFER_SIZE], limit[UNITS_BUFFER_SIZE];
        struct proc_cgroup found;

        if (d->pid == 0)
                return;
        snprintf(path, sizeof(path), "/proc/%u/cgroup", (unsigned)d->pid);
        found = proc_cgroup(path, "/sys/fs/cgroup");
        units_format_bytes(budget, m->budget);
        if (m->budget > found.max) {
                doctor_say(d, DOCTOR_PROBLEM, "cgroup",
                           "the daemon's control group may use %s, its budget is %s: it will be "
                           "killed before anything is evicted",
                           units_format_bytes(limit, found.max), budget);
                doctor_advise(d,
                              "lower memory.global_budget to about three quarters of the limit, or "
                              "raise MemoryMax= of the unit");
        } else if (m->budget > found.high) {
                doctor_say(d, DOCTOR_WARNING, "cgroup",
                           "the daemon's control group is slowed down above %s, its budget is %s",
                           units_format_bytes(limit, found.high), budget);
                doctor_advise(d, "lower memory.global_budget, or raise MemoryHigh= of the unit");
        } else if (found.max != UINT64_MAX) {
                doctor_say(d, DOCTOR_OK, "cgroup", "the daemon's control group may use %s",
                           units_format_bytes(limit, found.max));
        } else {
                doctor_say(d, DOCTOR_OK, "cgroup", "no limit of a control group");
        }
}

/* Is the realm so full that live entries had to go? */
static void check_eviction(struct doctor *d)
{
        static const struct {
                const char *field, *budget, *advice;
        } causes[] = {
                {"evicted_realm_budget", "realm's budget",
                 "raise memory.realm_budget, or [realm] budget"},
                {"evicted_global_budget", "daemon's budget", "raise memory.global_budget"},
                {"evicted_uid_share", "share of a user", "raise memory.uid_share"},
        };
        char buf[UNITS_BUFFER_SIZE], charged[UNITS_BUFFER_SIZE];

        units_format_bytes(charged, fields_u64(d->stats, "realm.", "bytes_charged"));
        units_format_bytes(buf, fields_u64(d->stats, "realm.", "budget_bytes"));
        for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
                uint64_t n = fields_u64(d->stats, "total.", causes[i].field);

                if (n == 0)
                        continue;
                doctor_say(d, DOCTOR_NOTE, "eviction",
                           "%llu live entries left because the %s was reached (%s of %s in use)",
                           (unsigned long long)n, causes[i].budget, charged, buf);
                doctor_advise(d,
                              "if they are missed: %s, or set max_bytes of the caches that matter "
                              "less (`cachectl caches`)",
                              causes[i].advice);
                return;
        }
        doctor_say(d, DOCTOR_OK, "eviction", "no entry had to leave for a budget; %s of %s in use",
                   charged, buf);
}

void doctor_check_memory(struct doctor *d)
{
        struct memory m;

        if (!d->stats)
                return;
        if (learn(d, &m)) {
                check_machine(d, &m);
                check_cgroup(d, &m);
        } else {
                doctor_say(d, DOCTOR_NOTE, "memory", "/proc/meminfo cannot be read");
                doctor_advise(d, "mount /proc");
        }
        check_eviction(d);
}
