/* SPDX-License-Identifier: MIT */

/* config: the daemon's settings, and reading them again */

#include "fields.h"
#include "output.h"
#include "suggest.h"
#include "verb.h"

#include <string.h>

#define MAX_TYPING_ERRORS 3

static const struct field fields[] = {
        {"name", FIELD_TEXT},   {"value", FIELD_TEXT}, {"is_default", FIELD_BOOL},
        {"source", FIELD_TEXT}, {"note", FIELD_TEXT},  {NULL},
};

static json_t *setting_json(const cached_reply *r, size_t i)
{
        char prefix[FIELDS_PATH_SIZE];
        json_t *o = json_object();

        fields_item(prefix, "settings", i);
        if (fields_to_json(r, prefix, fields, o) == 0)
                return o;
        json_decref(o);
        return NULL;
}

static int print_json(struct ctl *ctl, const cached_reply *r)
{
        size_t n_settings = cached_reply_count(r, "settings"),
               n_files = cached_reply_count(r, "files");
        json_t *root = json_object(), *settings = json_array(), *files = json_array();
        char path[FIELDS_PATH_SIZE];
        int failed;

        failed = json_object_set_new(root, "settings", settings) < 0;
        failed |= json_object_set_new(root, "files", files) < 0;
        for (size_t i = 0; i < n_settings && !failed; i++)
                failed |= json_array_append_new(settings, setting_json(r, i)) < 0;
        for (size_t i = 0; i < n_files && !failed; i++) {
                snprintf(path, sizeof(path), "files[%zu]", i);
                failed |= json_array_append_new(files, json_string(fields_text(r, "", path))) < 0;
        }
        if (failed) {
                json_decref(root);
                root = NULL;
        }
        return output_json(ctl, root);
}

/* Where the value alone would mislead: a line each. */
static void print_notes(FILE *f, const cached_reply *r)
{
        size_t n = cached_reply_count(r, "settings");
        char prefix[FIELDS_PATH_SIZE];

        for (size_t i = 0; i < n; i++) {
                fields_item(prefix, "settings", i);
                if (!*fields_text(r, prefix, "note"))
                        continue;
                output_text(f, fields_text(r, prefix, "name"));
                fputs(": ", f);
                output_text(f, fields_text(r, prefix, "note"));
                fputc('\n', f);
        }
}

static int print_table(struct ctl *ctl, const cached_reply *r)
{
        static const struct output_column columns[] = {{"SETTING"},
                                                       {"VALUE", .cut = true},
                                                       {"SOURCE"},
                                                       {NULL}};
        struct libscols_table *t = output_table_new(columns);
        size_t n = cached_reply_count(r, "settings");
        char prefix[FIELDS_PATH_SIZE];
        int status;

        for (size_t i = 0; i < n && t; i++) {
                const char *cells[3];

                fields_item(prefix, "settings", i);
                cells[0] = fields_text(r, prefix, "name");
                cells[1] = fields_text(r, prefix, "value");
                cells[2] = fields_u64(r, prefix, "is_default") ? "default"
                                                               : fields_text(r, prefix, "source");
                if (output_table_add(t, cells) < 0) {
                        output_table_free(t);
                        t = NULL;
                }
        }
        status = output_table(ctl, t);
        print_notes(stdout, r);
        return status;
}

/* NULL: none resembles it. A name without its section counts as one with it. */
static const char *nearest_setting(const cached_reply *r, const char *name)
{
        size_t n = cached_reply_count(r, "settings");
        unsigned best = MAX_TYPING_ERRORS + 1;
        char prefix[FIELDS_PATH_SIZE];
        const char *nearest = NULL;

        for (size_t i = 0; i < n; i++) {
                const char *full, *last;
                unsigned d;

                fields_item(prefix, "settings", i);
                full = fields_text(r, prefix, "name");
                last = strrchr(full, '.');
                d = suggest_distance(name, strchr(name, '.') || !last ? full : last + 1);
                if (d < best && d < strlen(name)) {
                        best = d;
                        nearest = full;
                }
        }
        return nearest;
}

/* The value alone, so that a script can take it. */
static int print_setting(struct ctl *ctl, const cached_reply *r, const char *name)
{
        size_t n = cached_reply_count(r, "settings");
        char prefix[FIELDS_PATH_SIZE];
        const char *nearest;

        for (size_t i = 0; i < n; i++) {
                fields_item(prefix, "settings", i);
                if (strcmp(fields_text(r, prefix, "name"), name) != 0)
                        continue;
                if (ctl->json)
                        return output_json(ctl, setting_json(r, i));
                output_text(stdout, fields_text(r, prefix, "value"));
                putchar('\n');
                if (*fields_text(r, prefix, "note"))
                        ctl_note(ctl, "%s: %s", name, fields_text(r, prefix, "note"));
                return EXIT_DONE;
        }
        nearest = nearest_setting(r, name);
        if (nearest)
                ctl_note(ctl, "not found: there is no setting '%s'; did you mean '%s'?", name,
                         nearest);
        else
                ctl_note(ctl, "not found: there is no setting '%s'; `cachectl config` lists them",
                         name);
        return EXIT_NOT_FOUND;
}

static int get(struct ctl *ctl, const char *name)
{
        cached_reply *reply = NULL;
        int status = ctl_connect(ctl), r;

        if (status != EXIT_DONE)
                return status;
        r = cached_get_config(ctl->client, &reply);
        status = ctl_result(ctl, r, reply, "no configuration");
        if (status == EXIT_DONE && name)
                status = print_setting(ctl, reply, name);
        else if (status == EXIT_DONE)
                status = ctl->json ? print_json(ctl, reply) : print_table(ctl, reply);
        cached_reply_free(reply);
        return status;
}

static int reload(struct ctl *ctl)
{
        cached_reply *reply = NULL;
        char path[FIELDS_PATH_SIZE];
        size_t n;
        int status = ctl_connect(ctl), r;

        if (status != EXIT_DONE)
                return status;
        r = cached_reload_config(ctl->client, &reply);
        status = ctl_result(ctl, r, reply, "no configuration");
        if (status == EXIT_DONE && ctl->json)
                status = print_json(ctl, reply);
        else if (status == EXIT_DONE) {
                n = cached_reply_count(reply, "files");
                fputs(n ? "configuration read from"
                        : "configuration reloaded: no file, defaults only",
                      stdout);
                for (size_t i = 0; i < n; i++) {
                        snprintf(path, sizeof(path), "files[%zu]", i);
                        putchar(' ');
                        output_text(stdout, fields_text(reply, "", path));
                }
                putchar('\n');
                print_notes(stdout, reply);
        }
        cached_reply_free(reply);
        return status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        const char *what = a->n_words ? a->words[0] : "get";

        if (strcmp(what, "set") == 0)
                return ctl_usage(ctl, "settings stand in the daemon's configuration file; after a "
                                      "change there, `cachectl config reload` reads it again");
        if (a->n_words > 2)
                return ctl_usage(ctl, "'%s' is one argument too many", a->words[2]);
        if (strcmp(what, "get") == 0)
                return get(ctl, a->n_words > 1 ? a->words[1] : NULL);
        if (strcmp(what, "reload") != 0)
                return ctl_usage(ctl, "'%s' is neither get nor reload", what);
        if (a->n_words > 1)
                return ctl_usage(ctl, "'%s' is one argument too many: reload takes none",
                                 a->words[1]);
        return reload(ctl);
}

const struct verb verb_config = {
        .name = "config",
        .synopsis = "[get [NAME] | reload]",
        .summary = "Print the daemon's settings, or have it read them again",
        .about = "`get` lists every setting with its value and where that comes from; with NAME "
                 "it prints that value alone. `reload` is for root and the daemon's own uid; a "
                 "configuration with a mistake in it is refused, and the old one stays. A note "
                 "after "
                 "the settings tells where a value does not hold for all that exists already.",
        .words = {"get|reload", "NAME", "VALUE"}, /* the last only to say that it is not taken */
        .json = "settings: a list of objects of name, value (a string), is_default, source "
                "(file:line), note; and files, that were read. With NAME: that one object.",
        .not_found = "no such setting",
        .example = "cachectl config get memory.realm_budget",
        .run = run,
};
