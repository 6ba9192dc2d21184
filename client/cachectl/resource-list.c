/* SPDX-License-Identifier: MIT */

/* resource ls: the resources of the realm, a line each; and dropping one */

#include "fields.h"
#include "output.h"
#include "resource-info.h"
#include "resource.h"
#include "units.h"

#include <inttypes.h>
#include <string.h>

static const struct output_column columns[] = {
        {"CACHE", .cut = true},  {"KEY", .cut = true},
        {"KIND", .cut = true},   {"SIZE", .right = true},
        {"HELD", .right = true}, {"LOCKED", .right = true},
        {"WAIT", .right = true}, {"AGE", .right = true},
        {"TTL", .right = true},  {NULL},
};

static int add_line(struct libscols_table *t, const cached_reply *r, const char *prefix)
{
        char key[KEY_FORMAT_SIZE], path[FIELDS_PATH_SIZE], buf[6][FIELDS_TEXT_SIZE];
        const struct field ttl = {"info.ttl_ms", FIELD_OPTIONAL_MS, NULL, "never"};
        uint64_t owner = resource_lock_owner(r, prefix);
        const char *cells[] = {
                fields_text(r, prefix, "cache"),
                resource_key_text(r, prefix, key),
                resource_kind_text(r, fields_path(path, prefix, "info.")),
                fields_u64(r, prefix, "info.kind") == RESOURCE_SEGMENT
                        ? units_format_bytes(buf[0], fields_u64(r, prefix, "info.size"))
                        : "-",
                units_format_count(buf[1], fields_u64(r, prefix, "info.holders")),
                owner ? units_format_count(buf[2], owner) : "-",
                units_format_count(buf[3], fields_u64(r, prefix, "waiters")),
                units_format_ms(buf[4], fields_u64(r, prefix, "age_ms")),
                fields_format(r, prefix, &ttl, buf[5]),
        };

        return output_table_add(t, cells);
}

static int take_line(const cached_reply *r, const char *prefix, void *data)
{
        return add_line(data, r, prefix);
}

static int take_json(const cached_reply *r, const char *prefix, void *data)
{
        return json_array_append_new(data, resource_json(r, prefix));
}

static int list_table(struct resource_run *run)
{
        struct libscols_table *t = output_table_new(columns);
        int status = t ? resource_list(run, take_line, t) : ctl_no_memory(run->ctl);

        if (status == EXIT_DONE)
                return output_table(run->ctl, t);
        output_table_free(t);
        return status;
}

static int list_json(struct resource_run *run)
{
        json_t *list = json_array(), *root = json_object();
        int status = json_object_set(root, "resources", list) == 0
                             ? resource_list(run, take_json, list)
                             : ctl_no_memory(run->ctl);

        json_decref(list);
        if (status == EXIT_DONE)
                return output_json(run->ctl, root);
        json_decref(root);
        return status;
}

int resource_ls(struct resource_run *run)
{
        int status = ctl_connect(run->ctl);

        if (status != EXIT_DONE)
                return status;
        return run->ctl->json ? list_json(run) : list_table(run);
}

/* ---- dropping */

static const struct field dropped[] = {
        {"resources", FIELD_COUNT},
        {"holders", FIELD_COUNT},
        {NULL},
};

static int print_dropped(struct resource_run *run, const cached_reply *r)
{
        uint64_t n = fields_u64(r, "", "resources"), told = fields_u64(r, "", "holders");
        json_t *o;

        if (!run->ctl->json) {
                printf("%" PRIu64 " %s left, %" PRIu64 " %s told\n", n,
                       n == 1 ? "instance has" : "instances have", told,
                       told == 1 ? "holder is" : "holders are");
                return EXIT_DONE;
        }
        o = resource_name_json(run);
        if (o && fields_to_json(r, "", dropped, o) < 0) {
                json_decref(o);
                o = NULL;
        }
        return output_json(run->ctl, o);
}

int resource_drop(struct resource_run *run)
{
        int status = ctl_connect(run->ctl), r;
        cached_reply *reply = NULL;

        if (status != EXIT_DONE)
                return status;
        r = cached_resource_drop(run->ctl->client, run->cache, run->key.bytes, run->key.n, &reply);
        status = ctl_result(run->ctl, r, reply, RESOURCE_MISSING);
        if (status == EXIT_DONE)
                status = print_dropped(run, reply);
        cached_reply_free(reply);
        return status;
}
