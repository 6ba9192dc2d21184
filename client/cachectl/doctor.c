/* SPDX-License-Identifier: MIT */

/*
 * The findings of one examination
 *
 * They are kept and printed at the end, so that JSON and the exit status know them all. When memory
 * runs out a finding is lost, and that is remembered: an examination with holes is not reported as
 * one that found nothing.
 */

#include "doctor.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>

static struct doctor_finding *finding_new(struct doctor *d)
{
        if (d->n_findings == d->n_alloc) {
                size_t n = d->n_alloc ? 2 * d->n_alloc : 16;
                struct doctor_finding *more = reallocarray(d->findings, n, sizeof(*more));

                if (!more)
                        return NULL;
                d->findings = more;
                d->n_alloc = n;
        }
        d->findings[d->n_findings] = (struct doctor_finding){.check = NULL};
        return &d->findings[d->n_findings++];
}

void doctor_say(struct doctor *d, enum doctor_status status, const char *check, const char *format,
                ...)
{
        struct doctor_finding *f = finding_new(d);
        va_list ap;

        if (!f) {
                d->no_memory = true;
                return;
        }
        f->status = status;
        f->check = check;
        va_start(ap, format);
        if (vasprintf(&f->text, format, ap) < 0) {
                f->text = NULL;
                d->no_memory = true;
        }
        va_end(ap);
}

void doctor_advise(struct doctor *d, const char *format, ...)
{
        struct doctor_finding *f = d->n_findings ? &d->findings[d->n_findings - 1] : NULL;
        va_list ap;

        if (!f || f->advice)
                return;
        va_start(ap, format);
        if (vasprintf(&f->advice, format, ap) < 0) {
                f->advice = NULL;
                d->no_memory = true;
        }
        va_end(ap);
}

void doctor_done(struct doctor *d)
{
        for (size_t i = 0; i < d->n_findings; i++) {
                free(d->findings[i].text);
                free(d->findings[i].advice);
        }
        free(d->findings);
        cached_reply_free(d->hello);
        cached_reply_free(d->stats);
        cached_reply_free(d->config);
        cached_free(d->client);
        *d = (struct doctor){.ctl = NULL};
}

const char *doctor_user(char buf[DOCTOR_NAME_SIZE], uint32_t uid)
{
        struct passwd pw, *found = NULL;
        char strings[4096];

        if (getpwuid_r(uid, &pw, strings, sizeof(strings), &found) == 0 && found)
                snprintf(buf, DOCTOR_NAME_SIZE, "%s", pw.pw_name);
        else
                snprintf(buf, DOCTOR_NAME_SIZE, "uid %u", (unsigned)uid);
        return buf;
}

const char *doctor_group(char buf[DOCTOR_NAME_SIZE], uint32_t gid)
{
        struct group gr, *found = NULL;
        char strings[4096];

        if (getgrgid_r(gid, &gr, strings, sizeof(strings), &found) == 0 && found)
                snprintf(buf, DOCTOR_NAME_SIZE, "%s", gr.gr_name);
        else
                snprintf(buf, DOCTOR_NAME_SIZE, "gid %u", (unsigned)gid);
        return buf;
}
