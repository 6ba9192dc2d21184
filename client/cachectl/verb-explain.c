/* SPDX-License-Identifier: MIT */

/* explain: why a key is a hit or a miss */

#include "computations.h"
#include "fields.h"
#include "output.h"
#include "units.h"
#include "verb.h"

#include <inttypes.h>
#include <string.h>

#define FATE_LIVE 1

static const struct field fields_live[] = {{"charge", FIELD_BYTES, "memory charged"}, {NULL}};

static const struct field fields_all[] = {
        {"fate", FIELD_CHOICE, NULL, NULL, fields_fates},
        {"charge", FIELD_BYTES, NULL},
        {"age_ms", FIELD_MS, NULL},
        {"text", FIELD_TEXT, NULL},
        {NULL},
};

static const struct field fields_input[] = {
        {"name", FIELD_TEXT, NULL},
        {"variants", FIELD_COUNT, NULL},
        {NULL},
};

/* NULL: no memory. */
static json_t *inputs_json(const cached_reply *reply)
{
        size_t n = cached_reply_count(reply, "inputs");
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++) {
                char prefix[FIELDS_PATH_SIZE];
                json_t *o = json_object();
                int failed = fields_to_json(reply, fields_item(prefix, "inputs", i), fields_input,
                                            o) < 0;

                failed |= json_array_append(array, o) < 0;
                json_decref(o);
                if (failed) {
                        json_decref(array);
                        return NULL;
                }
        }
        return array;
}

static bool is_computing(const cached_reply *reply)
{
        return fields_u64(reply, "computing.", "lease_id") != 0;
}

static int print_json(struct ctl *ctl, const char *cache, const struct key *key,
                      const cached_reply *reply)
{
        bool live = fields_u64(reply, "", "fate") == FATE_LIVE;
        json_t *o = json_object(), *entry = live ? json_object() : json_null();
        int failed;

        failed = json_object_set_new(o, "cache", json_string(cache)) < 0;
        failed |= output_json_key(o, key->bytes, key->n) < 0;
        failed |= fields_to_json(reply, "", fields_all, o) < 0;
        failed |= live && fields_to_json(reply, "entry.", fields_entry, entry) < 0;
        failed |= live && fields_to_json(reply, "entry.", fields_tags, entry) < 0;
        failed |= json_object_set_new(o, "entry", entry) < 0;
        failed |= json_object_set_new(o, "inputs", inputs_json(reply)) < 0;
        failed |= json_object_set_new(o, "computing",
                                      is_computing(reply) ? computation_json(reply, "computing.")
                                                          : json_null()) < 0;
        if (failed) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
}

/* "report.py (pid 4242) has been computing it for 3.2s (40%, rendering); 2 others wait." */
static void print_computing(const cached_reply *reply)
{
        static const char prefix[] = "computing.";
        char age[UNITS_BUFFER_SIZE], progress[COMPUTATION_PROGRESS_SIZE];
        const char *told = computation_progress(reply, prefix, progress);
        uint64_t waiters = fields_u64(reply, prefix, "waiters");

        output_text(stdout, fields_text(reply, prefix, "holder"));
        printf(" (pid %" PRIu64 ") has been computing it %sfor %s",
               fields_u64(reply, prefix, "pid"),
               fields_u64(reply, prefix, "refresh") ? "anew " : "",
               units_format_ms(age, fields_u64(reply, prefix, "age_ms")));
        if (strcmp(told, "-") != 0) {
                fputs(" (", stdout);
                output_text(stdout, told);
                putchar(')');
        }
        if (waiters > 0)
                printf("; %" PRIu64 " %s", waiters, waiters == 1 ? "other waits" : "others wait");
        fputs(".\n", stdout);
}

/* Which input multiplies. */
static int print_inputs(struct ctl *ctl, const cached_reply *reply)
{
        static const struct output_column columns[] = {{"INPUT", .cut = true},
                                                       {"VARIANTS", .right = true},
                                                       {NULL}};
        size_t n = cached_reply_count(reply, "inputs");
        struct libscols_table *t;

        if (n == 0)
                return EXIT_DONE;
        putchar('\n');
        t = output_table_new(columns);
        for (size_t i = 0; i < n && t; i++) {
                char prefix[FIELDS_PATH_SIZE], buf[UNITS_BUFFER_SIZE];
                const char *cells[2];

                fields_item(prefix, "inputs", i);
                cells[0] = fields_text(reply, prefix, "name");
                cells[1] = units_format_count(buf, fields_u64(reply, prefix, "variants"));
                if (output_table_add(t, cells) < 0) {
                        output_table_free(t);
                        t = NULL;
                }
        }
        return output_table(ctl, t);
}

static int print_text(struct ctl *ctl, const cached_reply *reply)
{
        static const struct output_column columns[] = {{""}, {""}, {NULL}};
        struct libscols_table *t;
        int status;

        output_text(stdout, fields_text(reply, "", "text"));
        putchar('\n');
        if (is_computing(reply))
                print_computing(reply);
        if (fields_u64(reply, "", "fate") != FATE_LIVE)
                return EXIT_DONE;
        t = output_table_new(columns);
        if (t && (fields_to_table(reply, "entry.", fields_entry, t) < 0 ||
                  fields_to_table(reply, "entry.", fields_tags, t) < 0 ||
                  fields_to_table(reply, "", fields_live, t) < 0)) {
                output_table_free(t);
                t = NULL;
        }
        status = output_table(ctl, t);
        return status == EXIT_DONE ? print_inputs(ctl, reply) : status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        cached_reply *reply = NULL;
        struct key key;
        int status, r;

        status = ctl_parse_entry(ctl, a, &key);
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        r = cached_explain(ctl->client, a->words[0], key.bytes, key.n, &reply);
        status = ctl_result(ctl, r, reply, "no such cache");
        if (status == EXIT_DONE)
                status = ctl->json ? print_json(ctl, a->words[0], &key, reply)
                                   : print_text(ctl, reply);
        cached_reply_free(reply);
        return status;
}

const struct verb verb_explain = {
        .name = "explain",
        .synopsis = "CACHE KEY",
        .summary = "Say why a key is a hit or a miss",
        .about = "It does not count as a use. The daemon remembers departed keys for a while, not "
                 "for ever. Where a key has variants, it says on which inputs they depend, and "
                 "how many there are of each: those with most first.",
        .words = {"CACHE", "KEY"},
        .n_required = 2,
        .json = "cache, key or key_hex, fate, charge, age_ms (since it departed), text, and "
                "entry: null, or for a live one an object of version, size, flags, encoding, "
                "raw_size, cost_us, ttl_ms, fresh_ms, stale, negative, vary, messages_size, uid, "
                "tags; inputs: a list of name and variants; computing: null, or a computation as "
                "in `cachectl stats --json`. fate is never_stored, "
                "live, expired, evicted_max_entries, evicted_max_bytes, evicted_uid_share, "
                "evicted_realm_budget, evicted_global_budget, evicted_index, "
                "evicted_realm_entries, evicted_large_values, cleared, deleted or "
                "no_cache.",
        .example = "cachectl explain thumbnails hex:9f86d081",
        .caches = true,
        .run = run,
};
