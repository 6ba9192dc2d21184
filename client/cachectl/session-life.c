/* SPDX-License-Identifier: MIT */

/* session new, ls, show, close: sessions as such, without what is in them */

#include "fields.h"
#include "output.h"
#include "paging.h"
#include "session.h"
#include "units.h"
#include "utf8.h"

#include <string.h>

#define LABEL_MAX    64
#define GRACE_MAX_MS UINT64_C(3600000)

static const struct field info[] = {
        {"id", FIELD_TEXT, "id"},
        {"label", FIELD_TEXT, "label", .hide_zero = true},
        {"uid", FIELD_COUNT, "opened by uid"},
        {"age_ms", FIELD_MS, "age"},
        {"unused_ms", FIELD_MS, "unused for"},
        {"idle_ms", FIELD_OPTIONAL_MS, "ends unused after", "never"},
        {"grace_ms", FIELD_OPTIONAL_MS, "ends unattached after"},
        {"keys", FIELD_COUNT, "keys"},
        {"bytes", FIELD_BYTES, "keys and values"},
        {"charge", FIELD_BYTES, "memory charged"},
        {"version", FIELD_COUNT, "changes"},
        {"attached", FIELD_COUNT, "attached"},
        {"caches", FIELD_COUNT, "caches"},
        {NULL},
};

/* What is known of one, behind what @o has already. Frees @o where memory is out. */
static json_t *with_info(json_t *o, const cached_reply *r, const char *prefix)
{
        if (fields_to_json(r, prefix, info, o) == 0)
                return o;
        json_decref(o);
        return NULL;
}

static int parse_label(struct ctl *ctl, const char *label, cached_session_options *o)
{
        size_t n = strlen(label);

        if (n > LABEL_MAX)
                return ctl_usage(ctl, "--label: it is longer than %d bytes", LABEL_MAX);
        if (!utf8_is_name(label, n))
                return ctl_usage(ctl, "--label: it is not UTF-8 text, or has control characters in "
                                      "it");
        return ctl_result(ctl, cached_session_options_set_label(o, label), NULL, "");
}

static int parse_idle(struct ctl *ctl, const char *text, cached_session_options *o)
{
        uint64_t ms = CACHED_NEVER;
        int status = EXIT_DONE;

        if (strcmp(text, "never") != 0)
                status = ctl_parse_ttl(ctl, "idle", text, &ms);
        if (status != EXIT_DONE)
                return status;
        return ctl_result(ctl, cached_session_options_set_idle_ms(o, ms), NULL, "");
}

static int parse_grace(struct ctl *ctl, const char *text, cached_session_options *o)
{
        uint64_t ms;
        const char *wrong = units_parse_duration_ms(text, &ms);

        if (wrong)
                return ctl_usage(ctl, "--grace '%s': %s; " UNITS_DURATION_HINT, text, wrong);
        if (ms > GRACE_MAX_MS)
                return ctl_usage(ctl, "--grace '%s': it is 0s to 1h", text);
        return ctl_result(ctl, cached_session_options_set_grace_ms(o, ms), NULL, "");
}

static int parse_options(struct session_run *run, cached_session_options *o)
{
        const char *const *options = run->args->options;
        int status = EXIT_DONE;

        if (options[SESSION_OPT_LABEL])
                status = parse_label(run->ctl, options[SESSION_OPT_LABEL], o);
        if (status == EXIT_DONE && options[SESSION_OPT_IDLE])
                status = parse_idle(run->ctl, options[SESSION_OPT_IDLE], o);
        if (status == EXIT_DONE && options[SESSION_OPT_GRACE])
                status = parse_grace(run->ctl, options[SESSION_OPT_GRACE], o);
        return status;
}

/* The one time that a token is printed. */
static int print_new(struct session_run *run, const cached_reply *r)
{
        const char *token = cached_session_token(run->session);
        json_t *o;

        if (!run->ctl->json) {
                puts(token);
                return EXIT_DONE;
        }
        o = json_object();
        if (json_object_set_new(o, "token", json_string(token)) < 0) {
                json_decref(o);
                return ctl_no_memory(run->ctl);
        }
        return output_json(run->ctl, with_info(o, r, ""));
}

int session_new(struct session_run *run)
{
        cached_session_options *o = cached_session_options_new();
        cached_reply *reply = NULL;
        int status;

        if (!o)
                return ctl_no_memory(run->ctl);
        status = parse_options(run, o);
        if (status == EXIT_DONE)
                status = ctl_connect(run->ctl);
        if (status == EXIT_DONE)
                status = session_result(run,
                                        cached_session_open(run->ctl->client, o, &run->session,
                                                            &reply),
                                        &reply);
        if (status == EXIT_DONE)
                status = print_new(run, reply);
        cached_reply_free(reply);
        cached_session_options_free(o);
        return status;
}

int session_show(struct session_run *run)
{
        static const struct output_column columns[] = {{""}, {""}, {NULL}};
        cached_reply *reply = NULL;
        int status = session_attach(run, &reply);
        struct libscols_table *t;

        if (status == EXIT_DONE && run->ctl->json) {
                status = output_json(run->ctl, with_info(json_object(), reply, ""));
        } else if (status == EXIT_DONE) {
                t = output_table_new(columns);
                if (t && fields_to_table(reply, "", info, t) < 0) {
                        output_table_free(t);
                        t = NULL;
                }
                status = output_table(run->ctl, t);
        }
        cached_reply_free(reply);
        return status;
}

int session_close(struct session_run *run)
{
        int status = session_attach(run, NULL);
        cached_reply *reply = NULL;

        if (status == EXIT_DONE)
                status = session_result(run, cached_session_close(run->session, &reply), &reply);
        if (status == EXIT_DONE && run->ctl->json)
                status = output_json(run->ctl, with_info(json_object(), reply, ""));
        cached_reply_free(reply);
        return status;
}

static int add_line(struct libscols_table *t, const cached_reply *r, const char *prefix)
{
        static const char *const ms[] = {"age_ms", "unused_ms"};
        char buf[6][UNITS_BUFFER_SIZE];
        const char *cells[] = {
                fields_text(r, prefix, "id"),
                units_format_count(buf[0], fields_u64(r, prefix, "uid")),
                units_format_ms(buf[1], fields_u64(r, prefix, ms[0])),
                units_format_ms(buf[2], fields_u64(r, prefix, ms[1])),
                units_format_count(buf[3], fields_u64(r, prefix, "keys")),
                units_format_bytes(buf[4], fields_u64(r, prefix, "bytes")),
                units_format_count(buf[5], fields_u64(r, prefix, "attached")),
                fields_text(r, prefix, "label"),
        };

        return output_table_add(t, cells);
}

/* One page more into the list or the table, whichever there is. */
static int add_page(const cached_reply *r, json_t *list, struct libscols_table *t)
{
        size_t n = cached_reply_count(r, "sessions");
        char prefix[FIELDS_PATH_SIZE];
        int failed = 0;

        for (size_t i = 0; i < n && !failed; i++) {
                fields_item(prefix, "sessions", i);
                if (list)
                        failed = json_array_append_new(list, with_info(json_object(), r, prefix));
                else
                        failed = add_line(t, r, prefix);
        }
        return failed;
}

static int list_all(struct session_run *run, json_t *list, struct libscols_table *t)
{
        struct paging p = {.cursor = 0};
        int status = EXIT_DONE;

        while (status == EXIT_DONE && !p.done) {
                cached_reply *reply = NULL;
                int r;

                paging_ask(&p);
                r = cached_session_list(run->ctl->client, 0, p.cursor, &reply);
                status = ctl_result(run->ctl, r, reply, "no sessions");
                if (status == EXIT_DONE && add_page(reply, list, t) < 0)
                        status = ctl_no_memory(run->ctl);
                if (status == EXIT_DONE)
                        status = paging_answer(run->ctl, &p, fields_u64(reply, "", "next"));
                cached_reply_free(reply);
        }
        return status;
}

int session_ls(struct session_run *run)
{
        static const struct output_column columns[] = {
                {"ID"},
                {"UID", .right = true},
                {"AGE", .right = true},
                {"UNUSED", .right = true},
                {"KEYS", .right = true},
                {"SIZE", .right = true},
                {"ATTACHED", .right = true},
                {"LABEL", .cut = true},
                {NULL},
        };
        json_t *list = run->ctl->json ? json_array() : NULL, *root;
        struct libscols_table *t = run->ctl->json ? NULL : output_table_new(columns);
        int status = list || t ? ctl_connect(run->ctl) : ctl_no_memory(run->ctl);

        if (status == EXIT_DONE)
                status = list_all(run, list, t);
        if (status == EXIT_DONE && t)
                return output_table(run->ctl, t);
        if (status == EXIT_DONE) {
                root = json_object();
                if (json_object_set_new(root, "sessions", list) < 0) {
                        json_decref(root);
                        root = NULL;
                }
                return output_json(run->ctl, root);
        }
        json_decref(list);
        output_table_free(t);
        return status;
}
