/* SPDX-License-Identifier: MIT */

/* version: of this program, the library and the daemon */

#include "fields.h"
#include "output.h"
#include "verb.h"

static const struct field fields[] = {
        {"version", FIELD_TEXT, "daemon"},
        {"protocol", FIELD_COUNT, "protocol"},
        {"daemon_pid", FIELD_COUNT, "daemon's pid"},
        {"realm", FIELD_TEXT, "realm"},
        {"role", FIELD_CHOICE, "role", NULL, fields_roles},
        {"uid", FIELD_COUNT, "your uid"},
        {"max_value_bytes", FIELD_BYTES, "largest value"},
        {"max_message_bytes", FIELD_BYTES, NULL},
        {"max_requests_in_flight", FIELD_COUNT, NULL},
        {"max_keys_per_request", FIELD_COUNT, NULL},
        {"instance", FIELD_ID, NULL},
        {NULL},
};

static int print_json(struct ctl *ctl, bool connected)
{
        json_t *root = json_object(), *daemon = connected ? json_object() : json_null();
        int failed;

        failed = json_object_set_new(root, "cachectl", json_string(VERSION)) < 0;
        failed |= json_object_set_new(root, "library", json_string(cached_version())) < 0;
        failed |= connected && fields_to_json(ctl->hello, "", fields, daemon) < 0;
        failed |= json_object_set_new(root, "daemon", daemon) < 0;
        if (failed) {
                json_decref(root);
                root = NULL;
        }
        return output_json(ctl, root);
}

static int print_table(struct ctl *ctl, bool connected)
{
        static const struct output_column columns[] = {{""}, {""}, {NULL}};
        const char *const ours[] = {"cachectl", VERSION}, *const library[] = {"library",
                                                                              cached_version()};
        struct libscols_table *t = output_table_new(columns);

        if (t && (output_table_add(t, ours) < 0 || output_table_add(t, library) < 0 ||
                  (connected && fields_to_table(ctl->hello, "", fields, t) < 0))) {
                output_table_free(t);
                t = NULL;
        }
        return output_table(ctl, t);
}

static int run(struct ctl *ctl, const struct args *a)
{
        int status = ctl_connect(ctl), printed;

        printed = ctl->json ? print_json(ctl, status == EXIT_DONE)
                            : print_table(ctl, status == EXIT_DONE);
        return status != EXIT_DONE ? status : printed;
}

const struct verb verb_version = {
        .name = "version",
        .synopsis = "",
        .summary = "Print the versions of cachectl, its library and the daemon",
        .about = "Without a daemon it prints its own, and the exit status says that there is none.",
        .json = "cachectl, library, and daemon: null or an object of version, protocol, "
                "daemon_pid, realm, role, uid, max_value_bytes, max_message_bytes, "
                "max_requests_in_flight, max_keys_per_request, instance (a string).",
        .example = "cachectl version --json | jq -r .daemon.version",
        .run = run,
};
