/* SPDX-License-Identifier: MIT */

/*
 * Help texts, put together from the rows of verbs and options
 */

#include "help.h"

#include "output.h"
#include "wrap.h"

#include <stdio.h>
#include <string.h>

#define COLUMN 24 /* where the explanation of an option or verb starts */

static void print_options(const struct args_option *o)
{
        for (; o->name; o++) {
                char left[64];

                if (o->letter)
                        snprintf(left, sizeof(left), "  -%c, --%s%s%s", o->letter, o->name,
                                 o->value ? " " : "", o->value ? o->value : "");
                else
                        snprintf(left, sizeof(left), "  --%s%s%s", o->name, o->value ? " " : "",
                                 o->value ? o->value : "");
                if (strlen(left) >= COLUMN - 1)
                        printf("%s\n%*s", left, COLUMN, "");
                else
                        printf("%-*s", COLUMN, left);
                wrap_print(stdout, COLUMN, COLUMN, o->text);
        }
}

static void print_statuses(const char *not_found)
{
        printf("\nExit status:\n  0  done\n");
        if (not_found) {
                printf("  1  ");
                wrap_print(stdout, 5, 5, not_found);
        }
        printf("  2  wrong usage, or a local file that cannot be read or written\n"
               "  3  the daemon is not reachable\n"
               "  4  the daemon refused (the reason is on stderr)\n");
}

static const char overview_head[] =
        "Looks into `cached`, the cache that the processes of this machine share, and changes it.";

static const char overview_tail[] =
        "`cachectl help VERB` and `cachectl VERB --help` say more about each verb.\n"
        "\n"
        "A KEY is text, `text:…` or `hex:…`, of 1 to 64 bytes. A duration is a number with ms, s, "
        "m, h or d: 250ms, 1.5s, 7d. A size is a number of bytes, or one with K, M, G or T: 64K, "
        "2G. `--` ends the options: what follows is taken as it is.";

static const char overview_example[] = "\n"
                                       "Example:\n"
                                       "  echo hello | cachectl set greetings world --ttl 10m\n"
                                       "  cachectl get greetings world\n";

void help_overview(const struct verb *const *verbs, const struct args_option *globals)
{
        printf("Usage: cachectl [OPTION]… VERB [ARGUMENT]…\n\n");
        wrap_print(stdout, 0, 0, overview_head);
        printf("\nVerbs:\n");
        for (; *verbs; verbs++) {
                printf("  %-*s", COLUMN - 2, (*verbs)->name);
                wrap_print(stdout, COLUMN, COLUMN, (*verbs)->summary);
        }
        printf("\nOptions (before or after the verb):\n");
        print_options(globals);
        putchar('\n');
        wrap_print(stdout, 0, 0, overview_tail);
        print_statuses("not found: a miss, no such cache; or `set` found another version");
        fputs(overview_example, stdout);
}

void help_verb(const struct verb *verb, const struct args_option *globals)
{
        static const char usage[] = "Usage: cachectl [OPTION]… ";
        size_t column =
                sizeof(usage) - 3 + strlen(verb->name); /* `…` is one column of three bytes */

        printf("%s%s%s", usage, verb->name, *verb->synopsis ? " " : "\n");
        if (*verb->synopsis)
                wrap_print(stdout, column + 1, column + 1, verb->synopsis);
        printf("\n%s.\n", verb->summary);
        if (verb->about) {
                putchar('\n');
                wrap_print(stdout, 0, 0, verb->about);
        }
        if (verb->options[0].name) {
                printf("\nOptions:\n");
                print_options(verb->options);
        }
        printf("\nGlobal options:\n");
        print_options(globals);
        printf("\nWith --json: ");
        wrap_print(stdout, 13, 0, verb->json);
        if (verb->statuses)
                printf("\nExit status:\n%s", verb->statuses);
        else
                print_statuses(verb->not_found);
        printf("\nExample:\n  %s\n", verb->example);
}

static json_t *text_or_null(const char *text)
{
        return text ? json_string(text) : json_null();
}

static json_t *options_json(const struct args_option *o)
{
        json_t *array = json_array();
        int failed = 0;

        for (; o->name && !failed; o++) {
                const char letter[2] = {o->letter, '\0'};
                json_t *option = json_object();

                failed |= json_object_set_new(option, "name", json_string(o->name)) < 0;
                failed |= json_object_set_new(option, "letter",
                                              text_or_null(o->letter ? letter : NULL)) < 0;
                failed |= json_object_set_new(option, "value", text_or_null(o->value)) < 0;
                failed |= json_object_set_new(option, "text", json_string(o->text)) < 0;
                failed |= json_array_append_new(array, option) < 0;
        }
        if (!failed)
                return array;
        json_decref(array);
        return NULL;
}

static json_t *verb_json(const struct verb *verb)
{
        json_t *o = json_object(), *words = json_array();
        int failed = json_object_set_new(o, "name", json_string(verb->name)) < 0;

        failed |= json_object_set_new(o, "summary", json_string(verb->summary)) < 0;
        failed |= json_object_set_new(o, "about", text_or_null(verb->about)) < 0;
        failed |= json_object_set_new(o, "synopsis", json_string(verb->synopsis)) < 0;
        failed |= json_object_set_new(o, "example", json_string(verb->example)) < 0;
        failed |= json_object_set_new(o, "words", words) < 0;
        for (size_t i = 0; verb->words[i] && !failed; i++)
                failed |= json_array_append_new(words, json_string(verb->words[i])) < 0;
        failed |= json_object_set_new(o, "required", json_integer(verb->n_required)) < 0;
        failed |= json_object_set_new(o, "options", options_json(verb->options)) < 0;
        if (!failed)
                return o;
        json_decref(o);
        return NULL;
}

int help_json(struct ctl *ctl, const struct verb *const *verbs, const struct args_option *globals)
{
        json_t *root = json_object(), *array = json_array();
        int failed = json_object_set_new(root, "options", options_json(globals)) < 0;

        failed |= json_object_set_new(root, "verbs", array) < 0;
        for (; *verbs && !failed; verbs++)
                failed |= json_array_append_new(array, verb_json(*verbs)) < 0;
        if (failed) {
                json_decref(root);
                root = NULL;
        }
        return output_json(ctl, root);
}
