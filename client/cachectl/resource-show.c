/* SPDX-License-Identifier: MIT */

/* resource show: one resource, with all of its instances and who holds them */

#include "fields.h"
#include "output.h"
#include "resource-info.h"
#include "units.h"

#include <stdio.h>

static const struct output_column pairs[] = {{""}, {""}, {NULL}};

static const struct output_column columns[] = {
        {"PID", .right = true},
        {"UID", .right = true},
        {"SINCE", .right = true},
        {"HOLDS", .right = true},
        {"LOCK"},
        {"NAME", .cut = true},
        {NULL},
};

static const struct field of_info[] = {
        {"size", FIELD_BYTES, "size", .hide_zero = true},
        {"read_only", FIELD_BOOL, "read-only", .hide_zero = true},
        {"ttl_ms", FIELD_OPTIONAL_MS, "ttl left", "never expires"},
        {NULL},
};

static const struct field of_listed[] = {
        {"age_ms", FIELD_MS, "age"},
        {"unused_ms", FIELD_MS, "unused for"},
        {"uid", FIELD_COUNT, "made by uid"},
        {"pid", FIELD_COUNT, "made by pid"},
        {"waiters", FIELD_COUNT, "waiting for it"},
        {"info.holders", FIELD_COUNT, "held by"},
        {NULL},
};

static int add_text(struct libscols_table *t, const char *label, const char *text)
{
        const char *cells[] = {label, text};

        return output_table_add(t, cells);
}

static int fill_pairs(struct libscols_table *t, const cached_reply *r, const char *prefix)
{
        char path[FIELDS_PATH_SIZE], key[KEY_FORMAT_SIZE], n[UNITS_BUFFER_SIZE];
        int failed;

        fields_path(path, prefix, "info.");
        failed = add_text(t, "cache", fields_text(r, prefix, "cache"));
        failed |= add_text(t, "key", resource_key_text(r, prefix, key));
        failed |= add_text(t, "instance", units_format_count(n, fields_u64(r, path, "instance")));
        failed |= add_text(t, "kind", resource_kind_text(r, path));
        failed |= fields_to_table(r, path, of_info, t);
        failed |= fields_to_table(r, prefix, of_listed, t);
        return failed;
}

static int add_holder(struct libscols_table *t, const cached_reply *r, const char *one)
{
        char buf[4][UNITS_BUFFER_SIZE];
        const char *cells[] = {
                units_format_count(buf[0], fields_u64(r, one, "pid")),
                units_format_count(buf[1], fields_u64(r, one, "uid")),
                units_format_ms(buf[2], fields_u64(r, one, "since_ms")),
                units_format_count(buf[3], fields_u64(r, one, "holds")),
                fields_u64(r, one, "locked") ? "has it" : "-",
                fields_text(r, one, "name"),
        };

        return output_table_add(t, cells);
}

static int fill_holders(struct libscols_table *t, const cached_reply *r, const char *list, size_t n)
{
        char one[FIELDS_PATH_SIZE];
        int failed = 0;

        for (size_t i = 0; i < n && !failed; i++) {
                fields_item(one, list, i);
                failed = add_holder(t, r, one);
        }
        return failed;
}

struct showing {
        struct ctl *ctl;
        json_t *list; /* NULL: for people */
        bool found;
};

/* Printed at once: an instance is a page of its own. */
static int show_text(struct showing *s, const cached_reply *r, const char *prefix)
{
        char path[FIELDS_PATH_SIZE];
        size_t n = cached_reply_count(r, fields_path(path, prefix, "holders"));
        uint64_t more = fields_u64(r, prefix, "info.holders");
        struct libscols_table *t = output_table_new(pairs);

        if (s->found)
                putchar('\n');
        if (!t || fill_pairs(t, r, prefix) != 0) {
                output_table_free(t);
                return -1;
        }
        (void)output_table(s->ctl, t);
        if (n == 0)
                return 0;
        t = output_table_new(columns);
        if (!t || fill_holders(t, r, path, n) != 0) {
                output_table_free(t);
                return -1;
        }
        (void)output_table(s->ctl, t);
        if (more > n)
                printf("and %zu more\n", (size_t)more - n);
        return 0;
}

static int take(const cached_reply *r, const char *prefix, void *data)
{
        struct showing *s = data;
        int failed = s->list ? json_array_append_new(s->list, resource_json(r, prefix))
                             : show_text(s, r, prefix);

        s->found = true;
        return failed;
}

int resource_show(struct resource_run *run)
{
        struct showing s = {.ctl = run->ctl};
        int status = ctl_connect(run->ctl);
        json_t *root = NULL;

        if (status == EXIT_DONE && run->ctl->json) {
                root = resource_name_json(run);
                s.list = json_array();
                if (json_object_set(root, "instances", s.list) < 0)
                        status = ctl_no_memory(run->ctl);
        }
        if (status == EXIT_DONE)
                status = resource_list(run, take, &s);
        if (status == EXIT_DONE && !s.found)
                status = ctl_result(run->ctl, CACHED_NOT_FOUND, NULL, RESOURCE_MISSING);
        json_decref(s.list);
        if (status == EXIT_DONE && root)
                return output_json(run->ctl, root);
        json_decref(root);
        return status;
}
