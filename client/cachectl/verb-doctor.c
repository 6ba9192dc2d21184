/* SPDX-License-Identifier: MIT */

/*
 * doctor: examine the installation, and say what to do
 *
 * A line for each finding, and one below it with what to do where something is to be done. On a
 * terminal lines are broken between words; elsewhere a finding is one line, so that grep works.
 */

#include "doctor.h"
#include "output.h"
#include "verb.h"

#include <stdio.h>
#include <string.h>

static const char *const statuses[] = {"ok", "note", "warning", "problem"};

/* Where the text of a finding begins. */
#define COLUMN       23
#define STATUS_WIDTH 8
#define CHECK_WIDTH  14

/* What fits into a line that begins at COLUMN; never so little that nothing fits. */
static size_t text_width(void)
{
        size_t width = output_width();

        if (width == SIZE_MAX)
                return SIZE_MAX;
        return width < COLUMN + 30 ? 30 : width - COLUMN;
}

/* Columns of @n bytes of text; wide characters count as one. */
static size_t columns_of(const char *text, size_t n)
{
        size_t columns = 0;

        for (size_t i = 0; i < n; i++)
                columns += ((unsigned char)text[i] & 0xc0) != 0x80;
        return columns;
}

static void print_text(const char *text, size_t width)
{
        size_t at = 0;
        char word[1024];

        while (*text) {
                size_t n = strcspn(text, " "), columns = columns_of(text, n);

                if (at > 0 && at + 1 + columns > width) {
                        printf("\n%*s", COLUMN, "");
                        at = 0;
                } else if (at > 0) {
                        putchar(' ');
                        at++;
                }
                at += columns;
                snprintf(word, sizeof(word), "%.*s", (int)n, text);
                output_text(stdout, word);
                text += n;
                text += *text == ' ';
        }
        putchar('\n');
}

static void print_findings(const struct doctor *d)
{
        size_t width = text_width(), counts[4] = {0};
        static const char arrow[] = "do: ";

        for (size_t i = 0; i < d->n_findings; i++) {
                const struct doctor_finding *f = &d->findings[i];

                counts[f->status]++;
                printf("%-*s%-*s ", STATUS_WIDTH, statuses[f->status], CHECK_WIDTH, f->check);
                print_text(f->text ? f->text : "out of memory", width);
                if (!f->advice)
                        continue;
                printf("%*s%s", COLUMN, "", arrow);
                print_text(f->advice, width - (sizeof(arrow) - 1));
        }
        printf("\n%zu ok, %zu note%s, %zu warning%s, %zu problem%s\n", counts[DOCTOR_OK],
               counts[DOCTOR_NOTE], counts[DOCTOR_NOTE] == 1 ? "" : "s", counts[DOCTOR_WARNING],
               counts[DOCTOR_WARNING] == 1 ? "" : "s", counts[DOCTOR_PROBLEM],
               counts[DOCTOR_PROBLEM] == 1 ? "" : "s");
}

static json_t *finding_json(const struct doctor_finding *f)
{
        json_t *o = json_object();
        int failed = json_object_set_new(o, "check", json_string(f->check)) < 0;

        failed |= json_object_set_new(o, "status", json_string(statuses[f->status])) < 0;
        failed |= json_object_set_new(o, "text", json_string(f->text ? f->text : "")) < 0;
        failed |= json_object_set_new(o, "advice",
                                      f->advice ? json_string(f->advice) : json_null()) < 0;
        if (!failed)
                return o;
        json_decref(o);
        return NULL;
}

static int print_json(struct ctl *ctl, const struct doctor *d)
{
        json_t *root = json_object(), *checks = json_array();
        int failed = json_object_set_new(root, "socket",
                                         d->used ? json_string(d->used->at.path) : json_null()) < 0;

        failed |= json_object_set_new(root, "reachable", json_boolean(d->used != NULL)) < 0;
        failed |= json_object_set_new(root, "checks", checks) < 0;
        for (size_t i = 0; i < d->n_findings && !failed; i++)
                failed |= json_array_append_new(checks, finding_json(&d->findings[i])) < 0;
        if (failed) {
                json_decref(root);
                root = NULL;
        }
        return output_json(ctl, root);
}

static bool has_problem(const struct doctor *d)
{
        for (size_t i = 0; i < d->n_findings; i++)
                if (d->findings[i].status == DOCTOR_PROBLEM)
                        return true;
        return false;
}

static void examine(struct doctor *d)
{
        doctor_look_around(d);
        doctor_check_sockets(d);
        doctor_check_access(d);
        doctor_check_daemon(d);
        doctor_check_limits(d);
        doctor_check_memory(d);
        doctor_check_config(d);
        doctor_check_system(d);
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct doctor d = {.ctl = ctl};
        int status, printed = EXIT_DONE;

        (void)a;
        examine(&d);
        if (d.no_memory)
                status = ctl_no_memory(ctl);
        else if (ctl->json)
                status = printed = print_json(ctl, &d);
        else {
                print_findings(&d);
                status = EXIT_DONE;
        }
        if (status == EXIT_DONE && printed == EXIT_DONE) {
                /* A daemon that is there, but refuses to serve, is a problem like others. */
                if (!d.used && d.code >= 64) {
                        (void)output_flush(ctl);
                        ctl_note(ctl, "no daemon that could be used");
                        status = EXIT_UNREACHABLE;
                } else if (has_problem(&d))
                        status = EXIT_NOT_FOUND;
        }
        doctor_done(&d);
        return status;
}

const struct verb verb_doctor = {
        .name = "doctor",
        .synopsis = "",
        .summary = "Examine the installation, and say what to do",
        .about = "Which socket is used and why, which daemon answers and whether it is trusted, a "
                 "second\n"
                 "daemon, permissions, limits, budgets against the memory that there is, the "
                 "configuration,\n"
                 "the kernel. It changes nothing. Each line begins with ok, note, warning or "
                 "problem; "
                 "`do:`\n"
                 "says what to do. Run it as root to see all of a system's daemon.",
        .json = "socket (null: none), reachable, and checks: a list of objects of check (a name),\n"
                "status (ok, note, warning, problem), text, advice (null: nothing to do).",
        .not_found = "a problem was found",
        .example = "cachectl doctor || echo it needs attention",
        .run = run,
};
