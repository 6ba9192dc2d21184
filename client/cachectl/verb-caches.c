/* SPDX-License-Identifier: MIT */

/* caches: the caches of the realm, a line each */

#include "fields.h"
#include "output.h"
#include "paging.h"
#include "units.h"
#include "verb.h"

#include <stdio.h>

enum { OPT_NAMES };

static const struct output_column columns[] = {
        {"CACHE", .cut = true},   {"ENTRIES", .right = true}, {"BYTES", .right = true},
        {"HITS", .right = true},  {"MISSES", .right = true},  {"RATIO", .right = true},
        {"SAVED", .right = true}, {"EVICTED", .right = true}, {NULL},
};

/* For where there is room: on a narrow terminal the name, which says which cache it is, needs it
 * more. */
#define WIDE 110

static const struct output_column wide_columns[] = {
        {"CACHE", .cut = true},
        {"ENTRIES", .right = true},
        {"BYTES", .right = true},
        {"HITS", .right = true},
        {"MISSES", .right = true},
        {"RATIO", .right = true},
        {"SAVED", .right = true},
        {"EVICTED", .right = true},
        {"EXPIRED", .right = true},
        {"POLICY", .cut = true},
        {NULL},
};

static uint64_t sum_evicted(const cached_reply *r, const char *prefix)
{
        return fields_u64(r, prefix, "evicted_max_entries") +
               fields_u64(r, prefix, "evicted_max_bytes") +
               fields_u64(r, prefix, "evicted_uid_share") +
               fields_u64(r, prefix, "evicted_realm_budget") +
               fields_u64(r, prefix, "evicted_global_budget") +
               fields_u64(r, prefix, "evicted_index") +
               fields_u64(r, prefix, "evicted_realm_entries") +
               fields_u64(r, prefix, "evicted_large_values");
}

static int add_line(struct libscols_table *t, const cached_reply *r, const char *prefix)
{
        char entries[UNITS_BUFFER_SIZE], bytes[UNITS_BUFFER_SIZE], hits[UNITS_BUFFER_SIZE];
        char misses[UNITS_BUFFER_SIZE], ratio[UNITS_BUFFER_SIZE], evicted[UNITS_BUFFER_SIZE];
        char expired[UNITS_BUFFER_SIZE], saved[UNITS_BUFFER_SIZE], policy[FIELDS_TEXT_SIZE];
        uint64_t n_hits = fields_u64(r, prefix, "hits"), n_misses = fields_u64(r, prefix, "misses");
        const char *cells[] = {
                fields_text(r, prefix, "name"),
                units_format_count(entries, fields_u64(r, prefix, "entries")),
                units_format_bytes(bytes, fields_u64(r, prefix, "bytes_held")),
                units_format_count(hits, n_hits),
                units_format_count(misses, n_misses),
                units_format_percent(ratio, n_hits, n_misses),
                units_format_us(saved, fields_u64(r, prefix, "time_saved_us")),
                units_format_count(evicted, sum_evicted(r, prefix)),
                units_format_count(expired, fields_u64(r, prefix, "expirations")),
                policy,
        };

        (void)fields_policy_words(r, prefix, policy);
        return output_table_add(t, cells);
}

static void print_name(const char *name)
{
        output_text(stdout, name);
        putchar('\n');
}

/* Adds one page to the table, or to the array; with both NULL it prints the names. */
static int add_page(struct libscols_table *t, json_t *array, const cached_reply *r)
{
        size_t n = cached_reply_count(r, "caches");
        char prefix[FIELDS_PATH_SIZE];
        int failed = 0;

        for (size_t i = 0; i < n && !failed; i++) {
                fields_item(prefix, "caches", i);
                if (t)
                        failed = add_line(t, r, prefix);
                else if (!array)
                        print_name(fields_text(r, prefix, "name"));
                else
                        failed =
                                json_array_append_new(array, fields_cache_json(r, prefix,
                                                                               fields_cache_stats));
        }
        return failed;
}

static int list(struct ctl *ctl, struct libscols_table *t, json_t *array)
{
        struct paging paging = {0};
        cached_reply *reply;
        int status, r;

        do {
                reply = NULL;
                paging_ask(&paging);
                r = cached_list_caches(ctl->client, 0, paging.cursor, &reply);
                status = ctl_result(ctl, r, reply, "no caches");
                if (status == EXIT_DONE && add_page(t, array, reply) < 0)
                        status = ctl_no_memory(ctl);
                if (status == EXIT_DONE)
                        status = paging_answer(ctl, &paging, fields_u64(reply, "", "next"));
                cached_reply_free(reply);
        } while (status == EXIT_DONE && !paging.done);
        return status;
}

/* Nothing is built first: whoever wants them quickly has the first ones at once. A line is a name:
 * no control character comes through, whatever the daemon says. */
static int print_names(struct ctl *ctl)
{
        int status = ctl_connect(ctl);

        return status == EXIT_DONE ? list(ctl, NULL, NULL) : status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct libscols_table *t = NULL;
        json_t *root, *array;
        int status;

        if (a->options[OPT_NAMES])
                return ctl->json ? ctl_usage(ctl, "--names and --json exclude each other")
                                 : print_names(ctl);
        status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        root = json_object();
        array = json_array();
        if (!ctl->json)
                t = output_table_new(output_width() < WIDE ? columns : wide_columns);
        if (json_object_set_new(root, "caches", array) < 0 || (!ctl->json && !t))
                status = ctl_no_memory(ctl);
        else
                status = list(ctl, t, array);
        if (status == EXIT_DONE && ctl->json)
                return output_json(ctl, root);
        json_decref(root);
        if (status == EXIT_DONE)
                return output_table(ctl, t);
        output_table_free(t);
        return status;
}

const struct verb verb_caches = {
        .name = "caches",
        .synopsis = "[--names]",
        .summary = "List the caches of the realm",
        .about = "BYTES is the memory that is charged, RATIO that of hits to look-ups, SAVED the "
                 "computing time that hits saved, as the writers gave it. EXPIRED and POLICY are "
                 "left out on a terminal of less than 110 columns.",
        .options = {[OPT_NAMES] = {"names", 0, NULL, "print the names alone, one a line"}},
        .json = "caches: a list of objects of name, policy (as of `cachectl policy`), pinned, "
                "entries, bytes_raw, bytes_held, hits, misses, "
                "mapped_hits, mapped_misses, stores, "
                "deletes, expirations, evicted_max_entries, evicted_max_bytes, "
                "evicted_uid_share, evicted_realm_budget, evicted_global_budget, evicted_index, "
                "evicted_realm_entries, evicted_large_values, "
                "clears, time_saved_us, opens, policy_changes, refused, leases (granted), "
                "refreshes (of them: while a value was there), lease_waits, leases_lost, "
                "lease_failures, superseded (stores), computing, waiting (both: now), tags, "
                "kind (unused, entries, resources, mixed), resources, resources_held, "
                "resources_locked, resource_bytes, resources_creating, resources_waiting (all: "
                "now), resources_created, resources_acquired, resource_failures, and that left: "
                "resources_expired, resources_evicted, resources_cleared, resources_dropped, "
                "resources_replaced, resources_invalid, resources_hung_up, resources_owner_died, "
                "resources_unclaimed.",
        .example = "cachectl caches --json | jq -r '.caches[].name'",
        .caches = true,
        .run = run,
};
