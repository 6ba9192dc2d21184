/* SPDX-License-Identifier: MIT */

/* stats: of the daemon, the realm and all its caches, or of one cache */

#include "computations.h"
#include "fields.h"
#include "output.h"
#include "units.h"
#include "verb.h"

static const struct field fields_realm[] = {
        {"name", FIELD_TEXT, "name"},
        {"budget_bytes", FIELD_BYTES, "budget"},
        {"uid_share_bytes", FIELD_BYTES, "share of a uid"},
        {"bytes_charged", FIELD_BYTES, "memory charged"},
        {"bytes_reclaiming", FIELD_BYTES, "being reclaimed"},
        {"caches", FIELD_COUNT, "caches"},
        {"entries", FIELD_COUNT, "entries"},
        {"arena_bytes", FIELD_BYTES, "arena"},
        {"table_bytes", FIELD_BYTES, "table"},
        {"large_bytes", FIELD_BYTES, "large values"},
        {"index_buckets", FIELD_COUNT, "index buckets"},
        {"held_bytes", FIELD_BYTES, "held by readers"},
        {"mapped_clients", FIELD_COUNT, "mapped clients"},
        {"page_bytes", FIELD_BYTES, "their pages"},
        {"views", FIELD_COUNT, "views of values"},
        {"view_bytes", FIELD_BYTES, "in view"},
        {"departed_bytes", FIELD_BYTES, "of these departed"},
        {"prepared_bytes", FIELD_BYTES, "prepared by clients"},
        {"upload_bytes", FIELD_BYTES, "offered for uploads"},
        {"sessions", FIELD_COUNT, "sessions"},
        {"session_bytes", FIELD_BYTES, "memory of sessions"},
        {"session_budget_bytes", FIELD_BYTES, "budget of sessions"},
        {"sessions_opened", FIELD_COUNT, "sessions opened"},
        {"sessions_expired", FIELD_COUNT, "sessions expired"},
        {"sessions_evicted", FIELD_COUNT, "sessions evicted"},
        {"session_caches", FIELD_COUNT, "caches of sessions"},
        {"resources", FIELD_COUNT, "resources"},
        {"resource_bytes", FIELD_BYTES, "in segments"},
        {"resource_holders", FIELD_COUNT, "holders of resources"},
        {NULL},
};

static const struct field fields_daemon[] = {
        {"version", FIELD_TEXT, "version"},
        {"uptime_ms", FIELD_MS, "uptime"},
        {"instance", FIELD_ID, NULL},
        {"pid", FIELD_COUNT, "pid"},
        {"connections", FIELD_COUNT, "connections"},
        {"connections_total", FIELD_COUNT, "connections so far"},
        {"connections_refused", FIELD_COUNT, "connections refused"},
        {"requests", FIELD_COUNT, "requests"},
        {"protocol_errors", FIELD_COUNT, "protocol errors"},
        {"realms", FIELD_OPTIONAL_COUNT, "realms", "-"},
        {"budget_bytes", FIELD_BYTES, "budget"},
        {"bytes_charged", FIELD_OPTIONAL_BYTES, "memory charged", "-"},
        {"resident_bytes", FIELD_BYTES, "resident"},
        {"buffer_bytes", FIELD_BYTES, "buffers"},
        {"loop_turns", FIELD_COUNT, "loop turns"},
        {"loop_turn_max_us", FIELD_US, "longest loop turn"},
        {"config_reloads", FIELD_COUNT, "config reloads"},
        {"remembered_clients", FIELD_COUNT, "remembered clients"},
        {"repeats_answered", FIELD_COUNT, "repeats answered"},
        {"outcomes_unknown", FIELD_COUNT, "outcomes unknown"},
        {"unpacked", FIELD_COUNT, "values decoded"},
        {"unpack_failures", FIELD_COUNT, "values damaged"},
        {"touches", FIELD_COUNT, "mapped uses"},
        {"touches_stale", FIELD_COUNT, "mapped uses, stale"},
        {"touches_lost", FIELD_COUNT, "mapped uses, lost"},
        {NULL},
};

static const char *const takeover_from[] = {"none", "handover", "passed", NULL};
static const char *const takeover_labels[] = {"nobody", "its predecessor", "the service manager",
                                              NULL};

static const struct field fields_takeover[] = {
        {"from", FIELD_CHOICE, "from", NULL, takeover_from, .labels = takeover_labels},
        {"realms_kept", FIELD_COUNT, "realms kept"},
        {"realms_dropped", FIELD_COUNT, "realms dropped"},
        {"entries_kept", FIELD_COUNT, "entries kept"},
        {"entries_dropped", FIELD_COUNT, "entries dropped"},
        {"large_kept", FIELD_COUNT, "large values kept"},
        {"descriptors_dropped", FIELD_COUNT, "descriptors dropped"},
        {"resources_kept", FIELD_COUNT, "resources kept"},
        {"resources_dropped", FIELD_COUNT, "resources dropped"},
        {NULL},
};

static const struct field fields_kept_files[] = {
        {"max", FIELD_COUNT, "at most"},
        {"kept", FIELD_COUNT, "kept"},
        {"waiting", FIELD_COUNT, "to be sent"},
        {"leaving", FIELD_COUNT, "to be dropped"},
        {"leaving_bytes", FIELD_BYTES, "memory of those"},
        {NULL},
};

static const struct field fields_latency[] = {
        {"request", FIELD_TEXT, NULL}, {"count", FIELD_COUNT, NULL},
        {"sum_ns", FIELD_NS, NULL},    {"p50_ns", FIELD_NS, NULL},
        {"p99_ns", FIELD_NS, NULL},    {"p999_ns", FIELD_NS, NULL},
        {"max_ns", FIELD_NS, NULL},    {NULL},
};

static json_t *numbers_json(const cached_reply *r, const char *prefix, const char *name)
{
        char path[FIELDS_PATH_SIZE];
        json_t *array = json_array();
        size_t n;

        fields_path(path, prefix, name);
        n = cached_reply_count(r, path);
        for (size_t i = 0; i < n; i++) {
                uint64_t value = 0;

                snprintf(path, sizeof(path), "%s%s[%zu]", prefix, name, i);
                (void)cached_reply_u64(r, path, &value);
                (void)json_array_append_new(array, output_json_u64(value));
        }
        if (json_array_size(array) == n)
                return array;
        json_decref(array);
        return NULL;
}

static json_t *latencies_json(const cached_reply *r)
{
        size_t n = cached_reply_count(r, "daemon.latencies");
        char prefix[FIELDS_PATH_SIZE];
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++) {
                json_t *o = json_object();

                fields_item(prefix, "daemon.latencies", i);
                if (fields_to_json(r, prefix, fields_latency, o) < 0 ||
                    json_object_set_new(o, "bucket_ns", numbers_json(r, prefix, "bucket_ns")) < 0 ||
                    json_object_set_new(o, "bucket_count",
                                        numbers_json(r, prefix, "bucket_count")) < 0) {
                        json_decref(o);
                        break;
                }
                (void)json_array_append_new(array, o);
        }
        if (json_array_size(array) == n)
                return array;
        json_decref(array);
        return NULL;
}

static json_t *section_json(const cached_reply *r, const char *prefix, const struct field *fields)
{
        json_t *o = json_object();

        if (fields_to_json(r, prefix, fields, o) == 0)
                return o;
        json_decref(o);
        return NULL;
}

static bool has_taken_over(const cached_reply *r)
{
        return fields_u64(r, "daemon.takeover.", "from") != 0;
}

static void takeover_reason(char path[FIELDS_PATH_SIZE], size_t i)
{
        (void)snprintf(path, FIELDS_PATH_SIZE, "reasons[%zu]", i);
}

/* null: a cold start, or not for us to know. NULL: no memory. */
static json_t *takeover_json(const cached_reply *r)
{
        size_t n = cached_reply_count(r, "daemon.takeover.reasons");
        json_t *o, *reasons;

        if (!has_taken_over(r))
                return json_null();
        o = section_json(r, "daemon.takeover.", fields_takeover);
        reasons = json_array();
        for (size_t i = 0; i < n; i++) {
                char path[FIELDS_PATH_SIZE];

                takeover_reason(path, i);
                (void)json_array_append_new(reasons,
                                            json_string(fields_text(r, "daemon.takeover.", path)));
        }
        if (json_array_size(reasons) == n && json_object_set(o, "reasons", reasons) == 0) {
                json_decref(reasons);
                return o;
        }
        json_decref(reasons);
        json_decref(o);
        return NULL;
}

static bool has_kept_files(const cached_reply *r)
{
        uint64_t max;

        return cached_reply_u64(r, "daemon.kept_files.max", &max) == CACHED_OK;
}

static json_t *kept_files_json(const cached_reply *r)
{
        return has_kept_files(r) ? section_json(r, "daemon.kept_files.", fields_kept_files)
                                 : json_null();
}

static int print_json(struct ctl *ctl, const cached_reply *r, const char *cache)
{
        json_t *root, *daemon, *computations;
        int status = computations_json(ctl, cache, &computations), failed = 0;

        if (status != EXIT_DONE)
                return status;
        root = json_object();
        if (cache)
                failed |=
                        json_object_set_new(root, "cache",
                                            fields_cache_json(r, "cache.", fields_cache_stats)) < 0;
        else {
                failed |= json_object_set_new(root, "total",
                                              section_json(r, "total.", fields_cache_stats)) < 0;
                failed |= json_object_set_new(root, "realm",
                                              section_json(r, "realm.", fields_realm)) < 0;
                daemon = section_json(r, "daemon.", fields_daemon);
                failed |= json_object_set_new(daemon, "latencies", latencies_json(r)) < 0;
                failed |= json_object_set_new(daemon, "takeover", takeover_json(r)) < 0;
                failed |= json_object_set_new(daemon, "kept_files", kept_files_json(r)) < 0;
                failed |= json_object_set_new(root, "daemon", daemon) < 0;
        }
        failed |= json_object_set_new(root, "computations", computations) < 0;
        if (failed) {
                json_decref(root);
                root = NULL;
        }
        return output_json(ctl, root);
}

struct section {
        const char *title, *prefix;
        const struct field *fields;
        bool of_caches;  /* has hits and misses */
        bool has_policy; /* is of one cache */
};

static int fill_section(const cached_reply *r, const struct section *s, struct libscols_table *t)
{
        char buf[UNITS_BUFFER_SIZE], path[FIELDS_PATH_SIZE];
        const char *ratio[] = {"hit ratio", NULL};
        int failed = 0;

        if (s->of_caches) {
                ratio[1] = units_format_percent(buf, fields_u64(r, s->prefix, "hits"),
                                                fields_u64(r, s->prefix, "misses"));
                failed |= output_table_add(t, ratio);
        }
        failed |= fields_to_table(r, s->prefix, s->fields, t);
        if (s->has_policy) {
                fields_path(path, s->prefix, "policy.");
                failed |= fields_to_table(r, path, fields_policy, t);
                failed |= fields_to_table(r, s->prefix, fields_pinned, t);
        }
        return failed;
}

static int print_section(struct ctl *ctl, const cached_reply *r, const struct section *s)
{
        static const struct output_column columns[] = {{""}, {""}, {NULL}};
        struct libscols_table *t = output_table_new(columns);

        if (t && fill_section(r, s, t)) {
                output_table_free(t);
                t = NULL;
        }
        if (t) {
                fputs(s->title, stdout);
                output_text(stdout, s->has_policy ? fields_text(r, s->prefix, "name") : "");
                putchar('\n');
        }
        return output_table(ctl, t);
}

static int print_latencies(struct ctl *ctl, const cached_reply *r)
{
        static const struct output_column columns[] = {
                {"REQUEST"},
                {"COUNT", .right = true},
                {"MEDIAN", .right = true},
                {"99 %", .right = true},
                {"99.9 %", .right = true},
                {"LONGEST", .right = true},
                {NULL},
        };
        static const char *const names[] = {"p50_ns", "p99_ns", "p999_ns", "max_ns"};
        struct libscols_table *t = output_table_new(columns);
        size_t n = cached_reply_count(r, "daemon.latencies");
        char prefix[FIELDS_PATH_SIZE], buf[5][UNITS_BUFFER_SIZE];

        for (size_t i = 0; i < n && t; i++) {
                const char *cells[6];

                fields_item(prefix, "daemon.latencies", i);
                cells[0] = fields_text(r, prefix, "request");
                cells[1] = units_format_count(buf[4], fields_u64(r, prefix, "count"));
                for (size_t j = 0; j < 4; j++)
                        cells[2 + j] = units_format_ns(buf[j], fields_u64(r, prefix, names[j]));
                if (output_table_add(t, cells) < 0) {
                        output_table_free(t);
                        t = NULL;
                }
        }
        return output_table(ctl, t);
}

static void print_reasons(const cached_reply *r)
{
        size_t n = cached_reply_count(r, "daemon.takeover.reasons");

        for (size_t i = 0; i < n; i++) {
                char path[FIELDS_PATH_SIZE];

                takeover_reason(path, i);
                output_text(stdout, fields_text(r, "daemon.takeover.", path));
                putchar('\n');
        }
}

static int print_text(struct ctl *ctl, const cached_reply *r, const char *cache)
{
        static const struct section sections[] = {
                {"CACHE ", "cache.", fields_cache_stats, .of_caches = true, .has_policy = true},
                {"ALL CACHES", "total.", fields_cache_stats, .of_caches = true},
                {"REALM", "realm.", fields_realm},
                {"DAEMON", "daemon.", fields_daemon},
        };
        static const struct section takeover = {"TAKEOVER", "daemon.takeover.", fields_takeover};
        static const struct section kept = {"KEPT BY THE SERVICE MANAGER", "daemon.kept_files.",
                                            fields_kept_files};
        int status = EXIT_DONE;

        if (cache) {
                status = print_section(ctl, r, &sections[0]);
                return status == EXIT_DONE ? computations_print(ctl, cache, true) : status;
        }
        for (size_t i = 1; i < sizeof(sections) / sizeof(sections[0]) && status == EXIT_DONE; i++) {
                status = print_section(ctl, r, &sections[i]);
                putchar('\n');
        }
        if (status == EXIT_DONE && has_taken_over(r)) {
                status = print_section(ctl, r, &takeover);
                print_reasons(r);
                putchar('\n');
        }
        if (status == EXIT_DONE && has_kept_files(r)) {
                status = print_section(ctl, r, &kept);
                putchar('\n');
        }
        if (status == EXIT_DONE)
                status = computations_print(ctl, NULL, false);
        return status == EXIT_DONE ? print_latencies(ctl, r) : status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        const char *cache = a->n_words ? a->words[0] : NULL;
        cached_reply *reply = NULL;
        int status = EXIT_DONE, r;

        if (cache)
                status = ctl_check_cache(ctl, cache);
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        r = cached_stats(ctl->client, cache, &reply);
        status = ctl_result(ctl, r, reply, "no such cache");
        if (status == EXIT_DONE)
                status = ctl->json ? print_json(ctl, reply, cache) : print_text(ctl, reply, cache);
        cached_reply_free(reply);
        return status;
}

const struct verb verb_stats = {
        .name = "stats",
        .synopsis = "[CACHE]",
        .summary = "Print what the daemon has counted, or one cache",
        .about =
                "Counters run since the daemon's start, or since the cache was made. Latencies "
                "are service times inside the daemon. What all realms hold together is told to "
                "root "
                "and to the daemon's own user only; others see `-`.\n\n"
                "`evicted` tells which limit made entries leave that had not expired: those of the "
                "cache's policy (max entries, max bytes), memory.uid_share, memory.realm_budget, "
                "memory.global_budget, limits.entries_per_realm (realm entries). `evicted: index` "
                "means that both places of a key in the index were full, which practically only "
                "happens where keys were made to collide.\n\n"
                "Mapped hits and misses are those of clients that read the arena by themselves; "
                "hits and misses count them, too.\n\n"
                "A lease is the right to compute a missing value, which one caller on the machine "
                "has while others wait. COMPUTING lists those that are held now: by whom, for how "
                "long, how many wait, and how far it is.\n\n"
                "Where a service manager started the daemon it keeps descriptors of the realms' "
                "memory, of large values (once they are some seconds old) and of resources, for "
                "the next daemon to go on with: also after a crash.",
        .words = {"CACHE"},
        .json = "computations: a list of cache, key or key_hex, lease_id (a string), connection, "
                "pid, uid, holder, age_ms, waiters, permille, progress, refresh (a value is "
                "there), hold_ms (null: as long as the holder lives). "
                "With CACHE, cache: an object as in `cachectl caches --json`. Without, total: "
                "the same numbers for all caches; realm: name, budget_bytes, uid_share_bytes, "
                "bytes_charged, bytes_reclaiming, caches, entries, arena_bytes, table_bytes, "
                "large_bytes, index_buckets, held_bytes, mapped_clients, page_bytes, views, "
                "view_bytes, departed_bytes, prepared_bytes, upload_bytes, sessions, "
                "session_bytes, "
                "session_budget_bytes, sessions_opened, sessions_expired, sessions_evicted, "
                "session_caches, resources, resource_bytes, resource_holders; daemon: "
                "version, uptime_ms, instance (a "
                "string), "
                "pid, connections, connections_total, connections_refused, requests, "
                "protocol_errors, realms, budget_bytes, bytes_charged, resident_bytes, "
                "buffer_bytes, loop_turns, loop_turn_max_us, config_reloads, "
                "remembered_clients, repeats_answered, outcomes_unknown, unpacked, "
                "unpack_failures, touches, touches_stale, touches_lost, takeover (null, or an "
                "object of from, realms_kept, realms_dropped, entries_kept, entries_dropped, "
                "large_kept, descriptors_dropped, reasons), kept_files (null, or an object of "
                "max, kept, waiting, leaving, leaving_bytes), and latencies: a "
                "list of request, count, sum_ns, p50_ns, p99_ns, p999_ns, max_ns, and the "
                "histogram's bucket_ns (upper bounds) and bucket_count.",
        .not_found = "no such cache",
        .example = "cachectl stats --json | jq .realm.bytes_charged",
        .run = run,
};
