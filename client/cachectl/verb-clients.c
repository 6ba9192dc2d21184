/* SPDX-License-Identifier: MIT */

/* clients: who is connected */

#include "computations.h"
#include "fields.h"
#include "output.h"
#include "verb.h"

static const struct output_column columns[] = {
        {"ID", .right = true},
        {"PID", .right = true},
        {"UID", .right = true},
        {"NAME", .cut = true},
        {"REALM", .cut = true},
        {"ROLE"},
        {"AGE", .right = true},
        {"IDLE", .right = true},
        {"REQUESTS", .right = true},
        {"IN", .right = true},
        {"OUT", .right = true},
        {"QUEUED", .right = true},
        {NULL},
};

/* Those of the columns, in their order, and what has no room beside them. */
static const struct field fields[] = {
        {"connection", FIELD_COUNT}, {"pid", FIELD_COUNT},
        {"uid", FIELD_COUNT},        {"name", FIELD_TEXT},
        {"realm", FIELD_TEXT},       {"role", FIELD_CHOICE, NULL, NULL, fields_roles},
        {"age_ms", FIELD_MS},        {"idle_ms", FIELD_MS},
        {"requests", FIELD_COUNT},   {"bytes_in", FIELD_BYTES},
        {"bytes_out", FIELD_BYTES},  {"queued_bytes", FIELD_BYTES},
        {"views", FIELD_COUNT},      {"view_bytes", FIELD_BYTES},
        {"resources", FIELD_COUNT},  {NULL},
};

#define N_COLUMNS (sizeof(columns) / sizeof(columns[0]) - 1)

static int print_json(struct ctl *ctl, const cached_reply *r)
{
        size_t n = cached_reply_count(r, "clients");
        json_t *root, *array, *computations;
        char prefix[FIELDS_PATH_SIZE];
        int status = computations_json(ctl, NULL, &computations), failed;

        if (status != EXIT_DONE)
                return status;
        root = json_object();
        array = json_array();
        failed = json_object_set_new(root, "clients", array) < 0;
        failed |= json_object_set_new(root, "computations", computations) < 0;

        for (size_t i = 0; i < n && !failed; i++) {
                json_t *o = json_object();

                fields_item(prefix, "clients", i);
                failed |= fields_to_json(r, prefix, fields, o) < 0;
                failed |= json_array_append_new(array, o) < 0;
        }
        if (failed) {
                json_decref(root);
                root = NULL;
        }
        return output_json(ctl, root);
}

static int print_table(struct ctl *ctl, const cached_reply *r)
{
        size_t n = cached_reply_count(r, "clients");
        struct libscols_table *t = output_table_new(columns);
        char prefix[FIELDS_PATH_SIZE], buf[N_COLUMNS][FIELDS_TEXT_SIZE];
        int status;

        for (size_t i = 0; i < n && t; i++) {
                const char *cells[N_COLUMNS];

                fields_item(prefix, "clients", i);
                for (size_t j = 0; j < N_COLUMNS; j++)
                        cells[j] = fields_format(r, prefix, &fields[j], buf[j]);
                if (output_table_add(t, cells) < 0) {
                        output_table_free(t);
                        t = NULL;
                }
        }
        status = output_table(ctl, t);
        return status == EXIT_DONE ? computations_print(ctl, NULL, true) : status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        cached_reply *reply = NULL;
        int status = ctl_connect(ctl), r;

        if (status != EXIT_DONE)
                return status;
        r = cached_list_clients(ctl->client, &reply);
        status = ctl_result(ctl, r, reply, "no clients");
        if (status == EXIT_DONE)
                status = ctl->json ? print_json(ctl, reply) : print_table(ctl, reply);
        cached_reply_free(reply);
        return status;
}

const struct verb verb_clients = {
        .name = "clients",
        .synopsis = "",
        .summary = "List who is connected",
        .about = "Those of the realm; all of them for root and for the daemon's own uid. This "
                 "cachectl is one. COMPUTING lists what clients of the realm compute now, under "
                 "leases.",
        .json = "clients: a list of objects of connection, pid, uid, name, realm, role, age_ms, "
                "idle_ms, requests, bytes_in, bytes_out, queued_bytes, views, view_bytes, "
                "resources (that it holds); "
                "computations: as in `cachectl stats --json`, with the connection of each.",
        .example = "cachectl clients",
        .run = run,
};
