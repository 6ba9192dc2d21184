/* SPDX-License-Identifier: MIT */

/*
 * Command line words and options
 *
 * A thin layer over getopt_long() that says exactly what is wrong, and in our words. A long
 * option's code is CODE_GLOBAL or CODE_VERB plus the index of its row; short letters are mapped to
 * the same.
 *
 * It does not know what the values mean: verbs check them.
 */

#include "args.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CODE_WORD   1 /* getopt's */
#define CODE_GLOBAL 256
#define CODE_VERB   (CODE_GLOBAL + ARGS_MAX_OPTIONS)

const char args_no_memory[] = "out of memory";

struct table {
        struct option longs[2 * ARGS_MAX_OPTIONS + 1];
        char shorts[2 + 2 * 2 * ARGS_MAX_OPTIONS + 1];
        size_t n_longs, n_shorts;
};

static void add_rows(struct table *t, const struct args_option *rows, int code)
{
        for (; rows && rows->name; rows++, code++) {
                t->longs[t->n_longs++] = (struct option){
                        .name = rows->name,
                        .has_arg = rows->value ? required_argument : no_argument,
                        .val = code,
                };
                if (!rows->letter)
                        continue;
                t->shorts[t->n_shorts++] = rows->letter;
                if (rows->value)
                        t->shorts[t->n_shorts++] = ':';
        }
}

static int code_of_letter(const struct args_option *rows, int code, int letter)
{
        for (; rows && rows->name; rows++, code++)
                if (rows->letter == letter)
                        return code;
        return -1;
}

static const char *complain(const char *before, const char *name, const char *after)
{
        char *text;

        if (asprintf(&text, "%s%s%s", before, name, after) < 0)
                return args_no_memory;
        return text;
}

static const char *name_of_code(const struct table *t, int code)
{
        for (size_t i = 0; i < t->n_longs; i++)
                if (t->longs[i].val == code)
                        return t->longs[i].name;
        return "?";
}

/* @found is what getopt_long() returned: ':' a value is missing, '?' anything else. */
static const char *explain(const struct table *t, int found, char **argv)
{
        char letter[2] = {(char)optopt, '\0'};

        if (found == ':' && optopt < CODE_GLOBAL)
                return complain("option -", letter, " needs a value");
        if (found == ':')
                return complain("option --", name_of_code(t, optopt), " needs a value");
        if (optopt >= CODE_GLOBAL)
                return complain("option --", name_of_code(t, optopt), " takes no value");
        if (optopt != 0 && strchr("0123456789.", optopt))
                return complain("there is no option -", letter,
                                ": put `--` before a number that is negative");
        if (optopt != 0)
                return complain("there is no option -", letter, "");
        return complain("there is no option ", argv[optind - 1], "");
}

static bool list_add(struct args_list *list, const char *value)
{
        const char **values = reallocarray(list->values, list->n + 1, sizeof(*values));

        if (!values)
                return false;
        values[list->n++] = value;
        list->values = values;
        return true;
}

/* Notes a verb's option. */
static bool take_option(struct args *a, const struct args_option *options, int i, const char *value)
{
        a->options[i] = value;
        return !options[i].repeats || list_add(&a->lists[i], value);
}

void args_done(struct args *a)
{
        for (size_t i = 0; i < ARGS_MAX_OPTIONS; i++) {
                free(a->lists[i].values);
                a->lists[i] = (struct args_list){NULL, 0};
        }
}

const char *args_parse(int argc, char **argv, const struct args_option *globals,
                       const struct args_option *options, struct args *a)
{
        bool stop = !options || a->command;
        struct table t = {.n_shorts = 2};
        int code, n = 0;

        /* `+`: stop at the first word. `-`: give each word as what CODE_WORD stands for, for what
         * stands behind `--` shall be told from what stands before it. `:`: tell a missing value
         * from an unknown option. */
        memcpy(t.shorts, stop ? "+:" : "-:", t.n_shorts);
        add_rows(&t, globals, CODE_GLOBAL);
        add_rows(&t, options, CODE_VERB);
        opterr = 0;
        optind = 0; /* glibc: start afresh, and forget a parse before */

        while ((code = getopt_long(argc, argv, t.shorts, t.longs, NULL)) != -1) {
                if (code == '?' || code == ':')
                        return explain(&t, code, argv);
                if (code == CODE_WORD) {
                        argv[1 + n++] = optarg; /* whose place was parsed already */
                        continue;
                }
                if (code < CODE_GLOBAL) {
                        int letter = code;
                        code = code_of_letter(options, CODE_VERB, letter);
                        if (code < 0)
                                code = code_of_letter(globals, CODE_GLOBAL, letter);
                }
                if (code < CODE_VERB || !options)
                        a->globals[code - CODE_GLOBAL] = optarg ? optarg : "";
                else if (!take_option(a, options, code - CODE_VERB, optarg ? optarg : ""))
                        return args_no_memory;
        }
        a->n_behind = stop ? 0 : argc - optind;
        a->words = argv + optind - n;
        memmove(a->words, argv + 1, (size_t)n * sizeof(*argv));
        a->n_words = argc - optind + n;
        return NULL;
}
