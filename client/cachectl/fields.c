/* SPDX-License-Identifier: MIT */

/*
 * The fields of a reply
 *
 * Field names are those of proto/cached.proto and stay; labels and the form of values for people
 * may change. In JSON durations, sizes and counts are plain integers in the unit that the name
 * says, and a field is always there: null says that there is no limit, or no end.
 */

#include "fields.h"

#include "output.h"
#include "units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

const struct field fields_policy[] = {
        {"ttl_ms", FIELD_OPTIONAL_MS, "ttl", "never expires"},
        {"max_entries", FIELD_OPTIONAL_COUNT, "max entries", "not limited"},
        {"max_bytes", FIELD_OPTIONAL_BYTES, "max bytes", "not limited"},
        {"stale_for_ms", FIELD_MS, "stale for", "off"},
        {"stale_if_error_ms", FIELD_MS, "stale if error", "off"},
        {"refresh_ahead_permille", FIELD_PERMILLE, "refresh ahead", "off"},
        {"expire_jitter_permille", FIELD_PERMILLE, "expire jitter", "off"},
        {NULL},
};

const struct field fields_pinned[] = {{"pinned", FIELD_BOOL, "pinned"}, {NULL}};

static const char *const cache_kinds[] = {"unused", "entries", "resources", "mixed", NULL};

const struct field fields_cache_stats[] = {
        {"entries", FIELD_COUNT, "entries"},
        {"bytes_raw", FIELD_BYTES, "keys and values"},
        {"bytes_held", FIELD_BYTES, "memory charged"},
        {"hits", FIELD_COUNT, "hits"},
        {"misses", FIELD_COUNT, "misses"},
        {"mapped_hits", FIELD_COUNT, "  of hits: mapped"},
        {"mapped_misses", FIELD_COUNT, "  of misses: mapped"},
        {"stores", FIELD_COUNT, "stores"},
        {"deletes", FIELD_COUNT, "deletes"},
        {"expirations", FIELD_COUNT, "expired"},
        {"evicted_max_entries", FIELD_COUNT, "evicted: max entries"},
        {"evicted_max_bytes", FIELD_COUNT, "evicted: max bytes"},
        {"evicted_uid_share", FIELD_COUNT, "evicted: uid share"},
        {"evicted_realm_budget", FIELD_COUNT, "evicted: realm budget"},
        {"evicted_global_budget", FIELD_COUNT, "evicted: global budget"},
        {"evicted_index", FIELD_COUNT, "evicted: index"},
        {"evicted_realm_entries", FIELD_COUNT, "evicted: realm entries"},
        {"evicted_large_values", FIELD_COUNT, "evicted: large values"},
        {"clears", FIELD_COUNT, "clears"},
        {"time_saved_us", FIELD_US, "time saved"},
        {"opens", FIELD_COUNT, "opens"},
        {"policy_changes", FIELD_COUNT, "policy changes"},
        {"refused", FIELD_COUNT, "stores refused"},
        {"leases", FIELD_COUNT, "leases granted", .hide_zero = true},
        {"refreshes", FIELD_COUNT, "  of these: refreshes", .needs = "leases"},
        {"lease_waits", FIELD_COUNT, "waits for others", .needs = "leases"},
        {"leases_lost", FIELD_COUNT, "leases lost", .needs = "leases"},
        {"lease_failures", FIELD_COUNT, "computations failed", .needs = "leases"},
        {"superseded", FIELD_COUNT, "stores superseded", .needs = "leases"},
        {"computing", FIELD_COUNT, "computing now", .hide_zero = true},
        {"waiting", FIELD_COUNT, "waiting now", .hide_zero = true},
        {"tags", FIELD_COUNT, "tags", .hide_zero = true},
        {"kind", FIELD_CHOICE, "used for", NULL, cache_kinds},
        {"resources", FIELD_COUNT, "resources", .hide_zero = true},
        {"resources_held", FIELD_COUNT, "  of these: held", .needs = "resources"},
        {"resources_locked", FIELD_COUNT, "  of these: locked", .hide_zero = true},
        {"resource_bytes", FIELD_BYTES, "in segments", .hide_zero = true},
        {"resources_creating", FIELD_COUNT, "being created", .hide_zero = true},
        {"resources_waiting", FIELD_COUNT, "waiting for resources", .hide_zero = true},
        {"resources_created", FIELD_COUNT, "resources created", .hide_zero = true},
        {"resources_acquired", FIELD_COUNT, "acquired again", .needs = "resources_created"},
        {"resource_failures", FIELD_COUNT, "creations failed", .hide_zero = true},
        {"resources_expired", FIELD_COUNT, "left: expired", .hide_zero = true},
        {"resources_evicted", FIELD_COUNT, "left: evicted", .hide_zero = true},
        {"resources_cleared", FIELD_COUNT, "left: cleared", .hide_zero = true},
        {"resources_dropped", FIELD_COUNT, "left: dropped", .hide_zero = true},
        {"resources_replaced", FIELD_COUNT, "left: replaced", .hide_zero = true},
        {"resources_invalid", FIELD_COUNT, "left: invalid", .hide_zero = true},
        {"resources_hung_up", FIELD_COUNT, "left: hung up", .hide_zero = true},
        {"resources_owner_died", FIELD_COUNT, "left: owner died", .hide_zero = true},
        {"resources_unclaimed", FIELD_COUNT, "left: unclaimed", .hide_zero = true},
        {NULL},
};

static const char *const encodings[] = {"raw", "lz4", NULL};

const struct field fields_entry[] = {
        {"version", FIELD_COUNT, "version"},
        {"size", FIELD_BYTES, "size"},
        {"flags", FIELD_COUNT, "flags", .hide_zero = true},
        {"encoding", FIELD_CHOICE, "encoding", NULL, encodings, .hide_zero = true},
        {"raw_size", FIELD_BYTES, "raw size", .needs = "encoding"},
        {"cost_us", FIELD_US, "cost", .hide_zero = true},
        {"ttl_ms", FIELD_OPTIONAL_MS, "ttl left", "never expires"},
        {"fresh_ms", FIELD_OPTIONAL_MS, "fresh for", .hide_zero = true},
        {"stale", FIELD_BOOL, "stale", .hide_zero = true},
        {"negative", FIELD_BOOL, "negative", .hide_zero = true},
        {"vary", FIELD_BOOL, "has variants", .hide_zero = true},
        {"messages_size", FIELD_BYTES, "messages", .hide_zero = true},
        {"uid", FIELD_COUNT, "stored by uid"},
        {NULL},
};

const struct field fields_tags[] = {{"tags", FIELD_TEXTS, "tags"}, {NULL}};

const char *const fields_roles[] = {"none", "reader", "writer", "admin", NULL};

const char *const fields_fates[] = {
        "never_stored",
        "live",
        "expired",
        "evicted_max_entries",
        "evicted_max_bytes",
        "evicted_uid_share",
        "evicted_realm_budget",
        "evicted_global_budget",
        "evicted_index",
        "cleared",
        "deleted",
        "no_cache",
        "evicted_realm_entries",
        "evicted_large_values",
        NULL,
};

const char *fields_path(char buf[FIELDS_PATH_SIZE], const char *prefix, const char *name)
{
        snprintf(buf, FIELDS_PATH_SIZE, "%s%s", prefix, name);
        return buf;
}

const char *fields_item(char buf[FIELDS_PATH_SIZE], const char *list, size_t i)
{
        snprintf(buf, FIELDS_PATH_SIZE, "%s[%zu].", list, i);
        return buf;
}

uint64_t fields_u64(const cached_reply *r, const char *prefix, const char *name)
{
        char path[FIELDS_PATH_SIZE];
        uint64_t n;

        return cached_reply_u64(r, fields_path(path, prefix, name), &n) == CACHED_OK ? n : 0;
}

const char *fields_text(const cached_reply *r, const char *prefix, const char *name)
{
        char path[FIELDS_PATH_SIZE];
        const char *text;

        return cached_reply_text(r, fields_path(path, prefix, name), &text) == CACHED_OK ? text
                                                                                         : "";
}

/* A newer daemon may know more choices than we do. */
static const char *choice(const char *const *choices, uint64_t n)
{
        for (uint64_t i = 0; choices[i]; i++)
                if (i == n)
                        return choices[i];
        return "unknown";
}

static bool is_optional(enum field_kind kind)
{
        return kind == FIELD_OPTIONAL_COUNT || kind == FIELD_OPTIONAL_BYTES ||
               kind == FIELD_OPTIONAL_MS;
}

const char *fields_format(const cached_reply *r, const char *prefix, const struct field *field,
                          char buf[FIELDS_TEXT_SIZE])
{
        char path[FIELDS_PATH_SIZE];
        uint64_t n = 0;

        if (field->kind == FIELD_TEXT)
                return fields_text(r, prefix, field->name);
        if (cached_reply_u64(r, fields_path(path, prefix, field->name), &n) != CACHED_OK &&
            is_optional(field->kind))
                return field->absent ? field->absent : "-";
        if (n == 0 && field->absent && !is_optional(field->kind))
                return field->absent;
        switch (field->kind) {
        case FIELD_BYTES:
        case FIELD_OPTIONAL_BYTES:
                return units_format_bytes(buf, n);
        case FIELD_MS:
        case FIELD_OPTIONAL_MS:
                return units_format_ms(buf, n);
        case FIELD_US:
                return units_format_us(buf, n);
        case FIELD_NS:
                return units_format_ns(buf, n);
        case FIELD_PERMILLE:
                return units_format_permille(buf, n);
        case FIELD_BOOL:
                return n ? "yes" : "no";
        case FIELD_CHOICE:
                return choice(field->labels ? field->labels : field->choices, n);
        case FIELD_COUNT:
        case FIELD_OPTIONAL_COUNT:
        case FIELD_ID:
        case FIELD_TEXT:
        case FIELD_TEXTS:
                break;
        }
        return units_format_count(buf, n);
}

static size_t count_texts(const cached_reply *r, const char *prefix, const struct field *field)
{
        char path[FIELDS_PATH_SIZE];

        return cached_reply_count(r, fields_path(path, prefix, field->name));
}

static const char *text_at(const cached_reply *r, const char *prefix, const struct field *field,
                           size_t i)
{
        char name[FIELDS_PATH_SIZE];

        (void)snprintf(name, sizeof(name), "%s[%zu]", field->name, i);
        return fields_text(r, prefix, name);
}

/* NULL: no memory. */
static json_t *texts_json(const cached_reply *r, const char *prefix, const struct field *field)
{
        json_t *array = json_array();
        size_t n = count_texts(r, prefix, field);

        for (size_t i = 0; i < n; i++)
                if (json_array_append_new(array, json_string(text_at(r, prefix, field, i))) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

/* A line each. */
static int texts_to_table(const cached_reply *r, const char *prefix, const struct field *field,
                          struct libscols_table *t)
{
        size_t n = count_texts(r, prefix, field);

        for (size_t i = 0; i < n; i++) {
                const char *cells[] = {i == 0 ? field->label : "", text_at(r, prefix, field, i)};

                if (output_table_add(t, cells) < 0)
                        return -ENOMEM;
        }
        return 0;
}

static json_t *to_json(const cached_reply *r, const char *prefix, const struct field *field)
{
        char path[FIELDS_PATH_SIZE], id[UNITS_BUFFER_SIZE];
        uint64_t n = 0;

        if (field->kind == FIELD_TEXT)
                return json_string(fields_text(r, prefix, field->name));
        if (field->kind == FIELD_TEXTS)
                return texts_json(r, prefix, field);
        if (cached_reply_u64(r, fields_path(path, prefix, field->name), &n) != CACHED_OK &&
            is_optional(field->kind))
                return json_null();
        switch (field->kind) {
        case FIELD_BOOL:
                return json_boolean(n);
        case FIELD_CHOICE:
                return json_string(choice(field->choices, n));
        case FIELD_ID:
                return json_string(units_format_count(id, n));
        default:
                return output_json_u64(n);
        }
}

int fields_to_json(const cached_reply *r, const char *prefix, const struct field *fields,
                   json_t *object)
{
        for (; fields->name; fields++)
                if (json_object_set_new(object, fields->name, to_json(r, prefix, fields)) < 0)
                        return -ENOMEM;
        return 0;
}

/* Whether people see the field. */
static bool is_shown(const cached_reply *r, const char *prefix, const struct field *field)
{
        char path[FIELDS_PATH_SIZE];
        uint64_t n = 0;

        if (!field->label || (field->needs && !fields_u64(r, prefix, field->needs)))
                return false;
        if (is_optional(field->kind) && !field->absent)
                return cached_reply_u64(r, fields_path(path, prefix, field->name), &n) ==
                               CACHED_OK &&
                       (n > 0 || !field->hide_zero);
        if (field->hide_zero && field->kind == FIELD_TEXT)
                return *fields_text(r, prefix, field->name) != '\0';
        return !field->hide_zero || fields_u64(r, prefix, field->name) != 0;
}

int fields_to_table(const cached_reply *r, const char *prefix, const struct field *fields,
                    struct libscols_table *t)
{
        char buf[FIELDS_TEXT_SIZE];

        for (; fields->name; fields++) {
                const char *cells[] = {fields->label, NULL};

                if (fields->kind == FIELD_TEXTS && texts_to_table(r, prefix, fields, t) < 0)
                        return -ENOMEM;
                if (fields->kind == FIELD_TEXTS || !is_shown(r, prefix, fields))
                        continue;
                cells[1] = fields_format(r, prefix, fields, buf);
                if (output_table_add(t, cells) < 0)
                        return -ENOMEM;
        }
        return 0;
}

const char *fields_policy_words(const cached_reply *r, const char *prefix,
                                char buf[FIELDS_TEXT_SIZE])
{
        static const struct {
                const char *before, *after, *one;
        } words[] = {
                {"ttl ", "", ""},       {"", " entries", " entry"},  {"", " bytes", " byte"},
                {"stale for ", "", ""}, {"stale if error ", "", ""}, {"refresh ahead ", "", ""},
                {"jitter ", "", ""}}; /* as the rows of fields_policy */
        char policy[FIELDS_PATH_SIZE], path[FIELDS_PATH_SIZE], text[FIELDS_TEXT_SIZE];
        size_t at = 0;
        uint64_t n;

        (void)snprintf(buf, FIELDS_TEXT_SIZE, "-");
        fields_path(policy, prefix, "policy.");
        for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
                const struct field *field = &fields_policy[i];

                if (cached_reply_u64(r, fields_path(path, policy, field->name), &n) != CACHED_OK ||
                    (n == 0 && !is_optional(field->kind)))
                        continue;
                /* Each is shorter than a tenth of the buffer. */
                at += (size_t)snprintf(buf + at, FIELDS_TEXT_SIZE - at, "%s%s%s%s", at ? ", " : "",
                                       words[i].before, fields_format(r, policy, field, text),
                                       n == 1 ? words[i].one : words[i].after);
        }
        if (fields_u64(r, prefix, "pinned"))
                (void)snprintf(buf + at, FIELDS_TEXT_SIZE - at, "%spinned", at ? ", " : "");
        return buf;
}

json_t *fields_cache_json(const cached_reply *r, const char *prefix, const struct field *numbers)
{
        char path[FIELDS_PATH_SIZE];
        json_t *object = json_object(), *policy = json_object();
        int failed;

        failed = json_object_set_new(object, "name", json_string(fields_text(r, prefix, "name"))) <
                 0;
        failed |=
                fields_to_json(r, fields_path(path, prefix, "policy."), fields_policy, policy) < 0;
        failed |= json_object_set_new(object, "policy", policy) < 0;
        failed |= json_object_set_new(object, "pinned",
                                      json_boolean(fields_u64(r, prefix, "pinned"))) < 0;
        failed |= fields_to_json(r, prefix, numbers, object) < 0;
        if (!failed)
                return object;
        json_decref(object);
        return NULL;
}
