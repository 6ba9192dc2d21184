/* SPDX-License-Identifier: MIT */

/* session get, keys, del, clear: what is in a session, and taking it out */

#include "base64.h"
#include "fields.h"
#include "output.h"
#include "session.h"
#include "utf8.h"
#include "value.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct field item[] = {
        {"version", FIELD_COUNT, NULL},
        {"size", FIELD_BYTES, NULL},
        {"flags", FIELD_COUNT, NULL},
        {NULL},
};

int session_print_json(struct session_run *run, json_t *o, bool failed)
{
        if (failed) {
                json_decref(o);
                o = NULL;
        }
        return output_json(run->ctl, o);
}

int session_json_version(json_t *object, const cached_reply *r)
{
        json_t *version = output_json_u64(fields_u64(r, "", "version"));

        return json_object_set_new(object, "version", version) < 0 ? -ENOMEM : 0;
}

int session_json_value(json_t *object, const void *bytes, size_t n)
{
        json_t *text = json_stringn(n ? bytes : "", n); /* NULL unless it is UTF-8 */
        char *encoded;
        int r;

        if (text)
                return json_object_set_new(object, "value", text) < 0 ? -ENOMEM : 0;
        encoded = base64_encode(bytes, n);
        if (!encoded)
                return -ENOMEM;
        r = json_object_set_new(object, "value_base64", json_string(encoded));
        free(encoded);
        return r < 0 ? -ENOMEM : 0;
}

int session_json_item(json_t *object, const cached_reply *r, size_t i, const void *value, size_t n)
{
        char prefix[FIELDS_PATH_SIZE];

        fields_item(prefix, "items", i);
        if (fields_to_json(r, prefix, item, object) < 0)
                return -ENOMEM;
        return value ? session_json_value(object, value, n) : 0;
}

static int print_one_json(struct session_run *run, const cached_reply *r, bool found)
{
        bool elsewhere = run->args->options[SESSION_OPT_OUTPUT] != NULL;
        size_t n = 0;
        const void *value = cached_reply_value(r, &n);
        json_t *o = json_object();
        int failed = json_object_set_new(o, "key", json_string(run->key)) < 0;

        failed |= json_object_set_new(o, "found", json_boolean(found)) < 0;
        if (found)
                failed |= session_json_item(o, r, 0, elsewhere ? NULL : value, n) < 0;
        return session_print_json(run, o, failed);
}

static int write_value(struct session_run *run, const void *value, size_t n)
{
        const char *path = run->args->options[SESSION_OPT_OUTPUT];
        int r;

        if (!path || strcmp(path, "-") == 0) {
                r = run->ctl->json ? 0 : value_write(STDOUT_FILENO, value, n, -1);
                return r < 0 ? output_failed(run->ctl, -r) : EXIT_DONE;
        }
        r = value_write_file(path, value, n, -1);
        if (r == 0 || r == -EPIPE) /* a named pipe whose reader went away */
                return EXIT_DONE;
        ctl_note(run->ctl, "cannot write %s: %s", path, strerror(-r));
        return EXIT_USAGE;
}

static int get_one(struct session_run *run)
{
        cached_reply *reply = NULL;
        const void *value;
        size_t n = 0;
        int status;

        status = session_result(run, cached_session_get(run->session, run->key, &reply), &reply);
        value = cached_reply_value(reply, &n);
        if (status == EXIT_DONE)
                status = write_value(run, value, n);
        if (run->ctl->json && status == EXIT_DONE)
                status = print_one_json(run, reply, true);
        else if (run->ctl->json && status == EXIT_NOT_FOUND)
                (void)print_one_json(run, reply, false);
        cached_reply_free(reply);
        return status;
}

static int print_all_json(struct session_run *run, const cached_reply *r)
{
        json_t *root = json_object(), *items = json_array();
        const void *value;
        const char *key;
        size_t n;
        int failed = 0;

        failed |= session_json_version(root, r) < 0;
        failed |= json_object_set_new(root, "items", items) < 0;
        for (size_t i = 0; !failed && (key = cached_session_item(r, i, &value, &n)); i++) {
                json_t *o = json_object();

                failed |= json_object_set_new(o, "key", json_string(key)) < 0;
                failed |= session_json_item(o, r, i, value ? value : "", n) < 0;
                failed |= json_array_append_new(items, o) < 0;
        }
        return session_print_json(run, root, failed);
}

/* @value as a cell of a table: itself, or how much it is. From malloc(); NULL: out of memory. */
static char *cell_of(const void *value, size_t n)
{
        char *text;

        if (utf8_is_printable(value, n))
                return strndup(value, n);
        return asprintf(&text, "(%zu bytes that are no text)", n) < 0 ? NULL : text;
}

static int print_all(struct session_run *run, const cached_reply *r)
{
        static const struct output_column columns[] = {{"KEY", .cut = true},
                                                       {"VALUE", .cut = true},
                                                       {NULL}};
        struct libscols_table *t = output_table_new(columns);
        const void *value;
        const char *key;
        size_t n;

        for (size_t i = 0; t && (key = cached_session_item(r, i, &value, &n)); i++) {
                char *text = cell_of(value ? value : "", n);
                const char *cells[] = {key, text};

                if (!text || output_table_add(t, cells) < 0) {
                        output_table_free(t);
                        t = NULL;
                }
                free(text);
        }
        return output_table(run->ctl, t);
}

static int get_all(struct session_run *run)
{
        cached_reply *reply = NULL;
        int status = session_result(run, cached_session_get_all(run->session, &reply), &reply);

        if (status == EXIT_DONE)
                status = run->ctl->json ? print_all_json(run, reply) : print_all(run, reply);
        cached_reply_free(reply);
        return status;
}

int session_get(struct session_run *run)
{
        const char *path = run->args->options[SESSION_OPT_OUTPUT];
        int status;

        if (path && !run->key)
                return ctl_usage(run->ctl, "--output takes the value of one KEY, which is missing");
        if (path && !*path)
                return ctl_usage(run->ctl, "--output '': it is empty");
        status = session_attach(run, NULL);
        if (status != EXIT_DONE)
                return status;
        return run->key ? get_one(run) : get_all(run);
}

static int print_keys_json(struct session_run *run, const cached_reply *r)
{
        json_t *root = json_object(), *keys = json_array();
        const char *key;
        int failed = 0;

        failed |= session_json_version(root, r) < 0;
        failed |= json_object_set_new(root, "keys", keys) < 0;
        for (size_t i = 0; !failed && (key = cached_session_item(r, i, NULL, NULL)); i++)
                failed |= json_array_append_new(keys, json_string(key)) < 0;
        return session_print_json(run, root, failed);
}

/* A terminal is not steered by a key, a program gets it as it is. */
static void print_keys(const cached_reply *r)
{
        bool terminal = isatty(STDOUT_FILENO);
        const char *key;

        for (size_t i = 0; (key = cached_session_item(r, i, NULL, NULL)); i++) {
                if (terminal)
                        output_text(stdout, key);
                else
                        fputs(key, stdout);
                putchar('\n');
        }
}

int session_keys(struct session_run *run)
{
        cached_reply *reply = NULL;
        int status = session_attach(run, NULL);

        if (status == EXIT_DONE)
                status = session_result(run, cached_session_keys(run->session, &reply), &reply);
        if (status == EXIT_DONE && run->ctl->json)
                status = print_keys_json(run, reply);
        else if (status == EXIT_DONE)
                print_keys(reply);
        cached_reply_free(reply);
        return status;
}

static int print_deleted(struct session_run *run, bool deleted)
{
        json_t *o = json_object();

        return session_print_json(run, o,
                                  json_object_set_new(o, "key", json_string(run->key)) < 0 ||
                                          json_object_set_new(o, "deleted", json_boolean(deleted)) <
                                                  0);
}

int session_del(struct session_run *run)
{
        cached_reply *reply = NULL;
        int status = session_attach(run, NULL);

        if (status != EXIT_DONE)
                return status;
        status = session_result(run, cached_session_delete(run->session, run->key, &reply), &reply);
        if (run->ctl->json && status == EXIT_DONE)
                status = print_deleted(run, true);
        else if (run->ctl->json && status == EXIT_NOT_FOUND)
                (void)print_deleted(run, false);
        cached_reply_free(reply);
        return status;
}

int session_clear(struct session_run *run)
{
        cached_reply *reply = NULL;
        int status = session_attach(run, NULL);
        json_t *o;

        if (status == EXIT_DONE)
                status = session_result(run, cached_session_clear(run->session, &reply), &reply);
        if (status == EXIT_DONE && run->ctl->json) {
                o = json_object();
                status = session_print_json(run, o, session_json_version(o, reply) < 0);
        }
        cached_reply_free(reply);
        return status;
}
