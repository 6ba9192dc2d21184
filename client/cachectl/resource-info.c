/* SPDX-License-Identifier: MIT */

/*
 * What is said of a resource
 *
 * The daemon lists resources by cache. One key is picked out of that here: there are never many of
 * them, since each is an object that somebody made.
 */

#include "resource-info.h"

#include "fields.h"
#include "output.h"
#include "paging.h"

#include <stdio.h>
#include <string.h>

const char *const resource_kinds[] = {"none", "segment", "descriptor", "local", NULL};

static const char *const causes[] = {
        "none",    "expired", "evicted",    "cleared",   "dropped",       "replaced",
        "invalid", "hung_up", "owner_died", "unclaimed", "session_ended",
};

static const struct field info[] = {
        {"instance", FIELD_ID},
        {"kind", FIELD_CHOICE, NULL, NULL, resource_kinds},
        {NULL},
};

static const struct field info_more[] = {
        {"size", FIELD_BYTES},
        {"read_only", FIELD_BOOL},
        {"ttl_ms", FIELD_OPTIONAL_MS},
        {NULL},
};

static const struct field listed[] = {
        {"age_ms", FIELD_MS}, {"unused_ms", FIELD_MS},  {"uid", FIELD_COUNT},
        {"pid", FIELD_COUNT}, {"waiters", FIELD_COUNT}, {NULL},
};

static const struct field holder[] = {
        {"pid", FIELD_COUNT},
        {"uid", FIELD_COUNT},
        {"name", FIELD_TEXT},
        {"since_ms", FIELD_MS},
        {"holds", FIELD_COUNT},
        {"locked", FIELD_BOOL},
        {NULL},
};

/* ---- listing */

static const void *key_of(const cached_reply *r, const char *prefix, size_t *ret_n)
{
        char path[FIELDS_PATH_SIZE];
        const void *key = NULL;

        *ret_n = 0;
        (void)cached_reply_bytes(r, fields_path(path, prefix, "key"), &key, ret_n);
        return key;
}

static bool is_wanted(const struct resource_run *run, const cached_reply *r, const char *prefix)
{
        size_t n;
        const void *key = key_of(r, prefix, &n);

        return run->key.n == 0 || (n == run->key.n && memcmp(key, run->key.bytes, n) == 0);
}

static int take_page(struct resource_run *run, const cached_reply *r, resource_fn fn, void *data)
{
        size_t n = cached_reply_count(r, "resources");
        char prefix[FIELDS_PATH_SIZE];

        for (size_t i = 0; i < n; i++) {
                fields_item(prefix, "resources", i);
                if (is_wanted(run, r, prefix) && fn(r, prefix, data) != 0)
                        return ctl_no_memory(run->ctl);
        }
        return EXIT_DONE;
}

int resource_list(struct resource_run *run, resource_fn fn, void *data)
{
        struct paging p = {.cursor = 0};
        int status = EXIT_DONE;

        while (status == EXIT_DONE && !p.done) {
                cached_reply *reply = NULL;
                int r;

                paging_ask(&p);
                r = cached_resource_list(run->ctl->client, run->cache, 0, p.cursor, &reply);
                status = ctl_result(run->ctl, r, reply, "no such cache");
                if (status == EXIT_DONE)
                        status = take_page(run, reply, fn, data);
                if (status == EXIT_DONE)
                        status = paging_answer(run->ctl, &p, fields_u64(reply, "", "next"));
                cached_reply_free(reply);
        }
        return status;
}

static int take_kind(const cached_reply *r, const char *prefix, void *data)
{
        uint64_t kind = fields_u64(r, prefix, "info.kind");

        *(enum resource_kind *)data =
                kind <= RESOURCE_LOCAL ? (enum resource_kind)kind : RESOURCE_ANY;
        return 0;
}

int resource_find_kind(struct resource_run *run, enum resource_kind *ret)
{
        enum resource_kind found = RESOURCE_ANY;
        int status = resource_list(run, take_kind, &found);

        if (status == EXIT_DONE && found == RESOURCE_ANY)
                return ctl_result(run->ctl, CACHED_NOT_FOUND, NULL, RESOURCE_MISSING);
        *ret = found;
        return status;
}

/* ---- one */

const char *resource_cause_text(int cause)
{
        size_t n = sizeof(causes) / sizeof(causes[0]);

        return cause >= 0 && (size_t)cause < n ? causes[cause] : "unknown";
}

const char *resource_cause_words(char buf[RESOURCE_CAUSE_SIZE], int cause)
{
        (void)snprintf(buf, RESOURCE_CAUSE_SIZE, "%s", resource_cause_text(cause));
        for (char *p = buf; *p; p++)
                if (*p == '_')
                        *p = ' ';
        return buf;
}

const char *resource_kind_text(const cached_reply *r, const char *prefix)
{
        const char *what = fields_text(r, prefix, "what");
        uint64_t kind = fields_u64(r, prefix, "kind");

        if (kind == RESOURCE_DESCRIPTOR && *what)
                return what;
        return kind <= RESOURCE_LOCAL ? resource_kinds[kind] : "unknown";
}

const char *resource_key_text(const cached_reply *r, const char *prefix, char buf[KEY_FORMAT_SIZE])
{
        size_t n;
        const void *key = key_of(r, prefix, &n);

        return key && n <= KEY_MAX ? key_format(buf, key, n) : "?";
}

uint64_t resource_lock_owner(const cached_reply *r, const char *prefix)
{
        char path[FIELDS_PATH_SIZE], one[FIELDS_PATH_SIZE];
        size_t n = cached_reply_count(r, fields_path(path, prefix, "holders"));

        for (size_t i = 0; i < n; i++) {
                fields_item(one, path, i);
                if (fields_u64(r, one, "locked"))
                        return fields_u64(r, one, "pid");
        }
        return 0;
}

static json_t *holders_json(const cached_reply *r, const char *prefix)
{
        char path[FIELDS_PATH_SIZE], one[FIELDS_PATH_SIZE];
        size_t n = cached_reply_count(r, fields_path(path, prefix, "holders"));
        json_t *list = json_array();
        int failed = list ? 0 : -1;

        for (size_t i = 0; i < n && !failed; i++) {
                json_t *o = json_object();

                fields_item(one, path, i);
                failed = fields_to_json(r, one, holder, o) < 0;
                failed |= json_array_append_new(list, o) < 0;
        }
        if (!failed)
                return list;
        json_decref(list);
        return NULL;
}

static int add_info(json_t *o, const cached_reply *r, const char *prefix)
{
        char path[FIELDS_PATH_SIZE];
        const char *what;
        int failed;

        fields_path(path, prefix, "info.");
        what = fields_text(r, path, "what");
        failed = fields_to_json(r, path, info, o) < 0;
        if (fields_u64(r, path, "kind") != RESOURCE_DESCRIPTOR)
                what = NULL;
        failed |= json_object_set_new(o, "what", output_json_text(what)) < 0;
        failed |= fields_to_json(r, path, info_more, o) < 0;
        return failed;
}

json_t *resource_json(const cached_reply *r, const char *prefix)
{
        json_t *o = json_object();
        uint64_t owner = resource_lock_owner(r, prefix);
        size_t n;
        const void *key = key_of(r, prefix, &n);
        int failed;

        failed = json_object_set_new(o, "cache", json_string(fields_text(r, prefix, "cache"))) < 0;
        failed |= output_json_key(o, key, n <= KEY_MAX ? n : 0) < 0;
        failed |= add_info(o, r, prefix);
        failed |= fields_to_json(r, prefix, listed, o) < 0;
        failed |= json_object_set_new(o, "locked_by",
                                      owner ? output_json_u64(owner) : json_null()) < 0;
        failed |= json_object_set_new(o, "holder_count",
                                      output_json_u64(fields_u64(r, prefix, "info.holders"))) < 0;
        failed |= json_object_set_new(o, "holders", holders_json(r, prefix)) < 0;
        if (!failed)
                return o;
        json_decref(o);
        return NULL;
}

json_t *resource_name_json(const struct resource_run *run)
{
        json_t *o = json_object();
        int failed = json_object_set_new(o, "cache", json_string(run->cache)) < 0;

        failed |= output_json_key(o, run->key.bytes, run->key.n) < 0;
        if (!failed)
                return o;
        json_decref(o);
        return NULL;
}
