/* SPDX-License-Identifier: MIT */

/*
 * Computations
 *
 * They come in pages, of all caches of the realm; those of one cache are picked here. A daemon that
 * knows no leases has none.
 */

#include "computations.h"

#include "fields.h"
#include "output.h"
#include "paging.h"
#include "units.h"

#include <errno.h>
#include <string.h>

static const struct field fields[] = {
        {"lease_id", FIELD_ID},   {"connection", FIELD_COUNT},    {"pid", FIELD_COUNT},
        {"uid", FIELD_COUNT},     {"holder", FIELD_TEXT},         {"age_ms", FIELD_MS},
        {"waiters", FIELD_COUNT}, {"permille", FIELD_COUNT},      {"progress", FIELD_TEXT},
        {"refresh", FIELD_BOOL},  {"hold_ms", FIELD_OPTIONAL_MS}, {NULL},
};

static const struct output_column columns[] = {
        {"CACHE", .cut = true},    {"KEY", .cut = true},
        {"HOLDER", .cut = true},   {"PID", .right = true},
        {"AGE", .right = true},    {"WAITERS", .right = true},
        {"PROGRESS", .cut = true}, {NULL},
};

static const void *key_of(const cached_reply *r, const char *prefix, size_t *ret_n)
{
        char path[FIELDS_PATH_SIZE];
        const void *key;

        if (cached_reply_bytes(r, fields_path(path, prefix, "key"), &key, ret_n) == CACHED_OK &&
            *ret_n <= KEY_MAX)
                return key;
        *ret_n = 0;
        return "";
}

json_t *computation_json(const cached_reply *r, const char *prefix)
{
        json_t *o = json_object();
        size_t n_key;
        const void *key = key_of(r, prefix, &n_key);
        int failed;

        failed = json_object_set_new(o, "cache", json_string(fields_text(r, prefix, "cache"))) < 0;
        failed |= output_json_key(o, key, n_key) < 0;
        failed |= fields_to_json(r, prefix, fields, o) < 0;
        if (!failed)
                return o;
        json_decref(o);
        return NULL;
}

const char *computation_progress(const cached_reply *r, const char *prefix,
                                 char buf[COMPUTATION_PROGRESS_SIZE])
{
        uint64_t permille = fields_u64(r, prefix, "permille");
        const char *text = fields_text(r, prefix, "progress");
        char part[UNITS_BUFFER_SIZE];

        if (permille == 0 && !*text)
                return "-";
        if (permille == 0)
                return text;
        (void)snprintf(buf, COMPUTATION_PROGRESS_SIZE, "%s%s%s",
                       units_format_permille(part, permille), *text ? ", " : "", text);
        return buf;
}

static int add_line(struct libscols_table *t, const cached_reply *r, const char *prefix)
{
        char pid[UNITS_BUFFER_SIZE], age[UNITS_BUFFER_SIZE], waiters[UNITS_BUFFER_SIZE];
        char text[KEY_FORMAT_SIZE], progress[COMPUTATION_PROGRESS_SIZE];
        size_t n_key;
        const void *key = key_of(r, prefix, &n_key);
        const char *cells[] = {
                fields_text(r, prefix, "cache"),
                key_format(text, key, n_key),
                fields_text(r, prefix, "holder"),
                units_format_count(pid, fields_u64(r, prefix, "pid")),
                units_format_ms(age, fields_u64(r, prefix, "age_ms")),
                units_format_count(waiters, fields_u64(r, prefix, "waiters")),
                computation_progress(r, prefix, progress),
        };

        return output_table_add(t, cells);
}

/* Adds one page to the array, or with NULL to the table. Negative errno. */
static int add_page(const cached_reply *r, const char *cache, json_t *array,
                    struct libscols_table *t)
{
        size_t n = cached_reply_count(r, "computations");
        char prefix[FIELDS_PATH_SIZE];
        int failed = 0;

        for (size_t i = 0; i < n && !failed; i++) {
                fields_item(prefix, "computations", i);
                if (cache && strcmp(fields_text(r, prefix, "cache"), cache) != 0)
                        continue;
                if (array)
                        failed = json_array_append_new(array, computation_json(r, prefix));
                else
                        failed = add_line(t, r, prefix);
        }
        return failed ? -ENOMEM : 0;
}

static int list(struct ctl *ctl, const char *cache, json_t *array, struct libscols_table *t)
{
        struct paging paging = {0};
        int status, r;

        do {
                cached_reply *reply = NULL;

                paging_ask(&paging);
                r = cached_list_computations(ctl->client, 0, paging.cursor, &reply);
                if (r == CACHED_UNSUPPORTED) {
                        cached_reply_free(reply);
                        return EXIT_DONE;
                }
                status = ctl_result(ctl, r, reply, "no computations");
                if (status == EXIT_DONE && add_page(reply, cache, array, t) < 0)
                        status = ctl_no_memory(ctl);
                if (status == EXIT_DONE)
                        status = paging_answer(ctl, &paging, fields_u64(reply, "", "next"));
                cached_reply_free(reply);
        } while (status == EXIT_DONE && !paging.done);
        return status;
}

int computations_json(struct ctl *ctl, const char *cache, json_t **ret)
{
        json_t *array = json_array();
        int status = array ? list(ctl, cache, array, NULL) : ctl_no_memory(ctl);

        if (status == EXIT_DONE)
                *ret = array;
        else
                json_decref(array);
        return status;
}

int computations_print(struct ctl *ctl, const char *cache, bool gap)
{
        struct libscols_table *t = output_table_new(columns);
        int status = t ? list(ctl, cache, NULL, t) : ctl_no_memory(ctl);

        if (status != EXIT_DONE || output_table_is_empty(t)) {
                output_table_free(t);
                return status;
        }
        printf("%sCOMPUTING\n", gap ? "\n" : "");
        status = output_table(ctl, t);
        if (!gap)
                putchar('\n');
        return status;
}
