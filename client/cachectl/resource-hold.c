/* SPDX-License-Identifier: MIT */

/*
 * resource hold: gets a resource, makes it if need be, and locks it
 *
 * --wait is for all of it: for others who make it, use it or have its lock. Whose lock was awaited
 * may have left its cache meanwhile, so that somebody else has another one: then the one that is
 * there now is taken, for a lock that others do not know of is none.
 */

#include "fields.h"
#include "resource.h"
#include "run-program.h"
#include "units.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define POOL_MAX     4096
#define STATUS_MAX   255
#define WAIT_MAX_MS  (UINT64_C(49) * 86400 * 1000) /* fits into 32 bits */
#define WAIT_FOREVER UINT32_MAX
#define MS_PER_SEC   UINT64_C(1000)
#define NS_PER_MS    1000000
#define LATE_SIZE    64

struct hold {
        struct resource_held held;
        uint64_t size; /* --segment */
        int fill;      /* --fill, open; -1: none */
        int fd;        /* --fd */
        uint64_t pool, ttl_ms;
        uint64_t wait_ms;  /* WAIT_FOREVER: as long as it takes */
        uint64_t until_ms; /* when that is over */
        bool is_late;      /* it was */
        uint64_t conflict; /* the exit status then, and nothing is said, if it was given */
        char *path;        /* of COMMAND's program */
        cached_policy *policy;
        cached_resource_options *options;
};

static uint64_t now_ms(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * MS_PER_SEC + (uint64_t)t.tv_nsec / NS_PER_MS;
}

static uint32_t left_ms(const struct hold *h)
{
        uint64_t now = now_ms();

        if (h->wait_ms == WAIT_FOREVER)
                return WAIT_FOREVER;
        return now < h->until_ms ? (uint32_t)(h->until_ms - now) : 0;
}

static const char *option(const struct hold *h, enum resource_option which)
{
        return h->held.run->args->options[which];
}

static bool names_kind(const struct hold *h)
{
        return option(h, RESOURCE_OPT_SEGMENT) || option(h, RESOURCE_OPT_FD) ||
               option(h, RESOURCE_OPT_LOCAL);
}

static bool joins_only(const struct hold *h)
{
        return !names_kind(h) || option(h, RESOURCE_OPT_NO_CREATE);
}

/* ---- what was asked for */

static int parse_wait(struct hold *h)
{
        struct ctl *ctl = h->held.run->ctl;
        const char *text = option(h, RESOURCE_OPT_WAIT), *wrong;

        h->wait_ms = WAIT_FOREVER;
        if (!text)
                return EXIT_DONE;
        wrong = units_parse_duration_ms(text, &h->wait_ms);
        if (wrong)
                return ctl_usage(ctl, "--wait '%s': %s; " UNITS_DURATION_HINT ", or 0s", text,
                                 wrong);
        if (h->wait_ms > WAIT_MAX_MS)
                return ctl_usage(ctl, "--wait '%s': it is at most 49d", text);
        return EXIT_DONE;
}

static int parse_fd(struct hold *h)
{
        struct ctl *ctl = h->held.run->ctl;
        const char *text = option(h, RESOURCE_OPT_FD);
        uint64_t n = 0;
        int status = ctl_parse_count(ctl, "fd", text, INT_MAX, &n);

        if (status != EXIT_DONE)
                return status;
        h->fd = (int)n;
        /* Before anything of our own could have its number. */
        if (fcntl(h->fd, F_GETFD) < 0)
                return ctl_usage(ctl,
                                 "--fd '%s': it is not open here: open it first, as in `exec "
                                 "%d<>FILE`",
                                 text, h->fd);
        if (h->fd == STDIN_FILENO && !h->held.run->argv)
                return ctl_usage(ctl, "--fd '%s': without COMMAND, stdin is what ends it", text);
        return EXIT_DONE;
}

static int parse_pool(struct hold *h)
{
        struct ctl *ctl = h->held.run->ctl;
        const char *text = option(h, RESOURCE_OPT_POOL);
        int status = ctl_parse_count(ctl, "pool", text, POOL_MAX, &h->pool);

        if (status == EXIT_DONE && h->pool == 0)
                return ctl_usage(ctl, "--pool '%s': it is at least 1", text);
        return status;
}

static int parse_kind(struct hold *h)
{
        struct ctl *ctl = h->held.run->ctl;
        int status = EXIT_DONE;

        if (option(h, RESOURCE_OPT_SEGMENT)) {
                h->held.kind = RESOURCE_SEGMENT;
                status = ctl_parse_size(ctl, "segment", option(h, RESOURCE_OPT_SEGMENT), &h->size);
                if (status == EXIT_DONE && h->size == 0)
                        return ctl_usage(ctl, "--segment '%s': it is at least 1",
                                         option(h, RESOURCE_OPT_SEGMENT));
        } else if (option(h, RESOURCE_OPT_FD)) {
                h->held.kind = RESOURCE_DESCRIPTOR;
                status = parse_fd(h);
        } else if (option(h, RESOURCE_OPT_LOCAL)) {
                h->held.kind = RESOURCE_LOCAL;
        }
        return status;
}

/* Which options go together. */
static int check_options(struct hold *h)
{
        static const struct {
                enum resource_option one, other;
        } excluded[] = {
                {RESOURCE_OPT_SEGMENT, RESOURCE_OPT_FD},
                {RESOURCE_OPT_SEGMENT, RESOURCE_OPT_LOCAL},
                {RESOURCE_OPT_FD, RESOURCE_OPT_LOCAL},
                {RESOURCE_OPT_POOL, RESOURCE_OPT_LOCAL},
                {RESOURCE_OPT_POOL, RESOURCE_OPT_LOCK},      /* who has one has it for its own */
                {RESOURCE_OPT_READ_ONLY, RESOURCE_OPT_LOCK}, /* which has no lock */
                {RESOURCE_OPT_FILL, RESOURCE_OPT_NO_CREATE},
                {RESOURCE_OPT_READ_ONLY, RESOURCE_OPT_NO_CREATE},
        };
        static const enum resource_option of_segments[] = {RESOURCE_OPT_FILL,
                                                           RESOURCE_OPT_READ_ONLY};
        struct ctl *ctl = h->held.run->ctl;
        const struct args_option *options = verb_resource.options;

        for (size_t i = 0; i < sizeof(excluded) / sizeof(excluded[0]); i++)
                if (option(h, excluded[i].one) && option(h, excluded[i].other))
                        return ctl_usage(ctl, "--%s and --%s exclude each other",
                                         options[excluded[i].one].name,
                                         options[excluded[i].other].name);
        for (size_t i = 0; i < sizeof(of_segments) / sizeof(of_segments[0]); i++)
                if (option(h, of_segments[i]) && !option(h, RESOURCE_OPT_SEGMENT))
                        return ctl_usage(ctl, "--%s needs --segment", options[of_segments[i]].name);
        if (ctl->json && h->held.run->argv)
                return ctl_usage(ctl, "--json does not apply with COMMAND: what is printed is the "
                                      "command's");
        return EXIT_DONE;
}

static int parse(struct hold *h)
{
        struct ctl *ctl = h->held.run->ctl;
        int status = check_options(h);

        if (status == EXIT_DONE)
                status = parse_kind(h);
        if (status == EXIT_DONE)
                status = parse_wait(h);
        if (status == EXIT_DONE && option(h, RESOURCE_OPT_POOL))
                status = parse_pool(h);
        if (status == EXIT_DONE && option(h, RESOURCE_OPT_CONFLICT))
                status =
                        ctl_parse_count(ctl, "conflict-exit-code", option(h, RESOURCE_OPT_CONFLICT),
                                        STATUS_MAX, &h->conflict);
        if (status == EXIT_DONE && option(h, RESOURCE_OPT_TTL))
                status = ctl_parse_ttl(ctl, "ttl", option(h, RESOURCE_OPT_TTL), &h->ttl_ms);
        return status;
}

/* What can be found out before anybody else is troubled: the command, and the file. */
static int look_ahead(struct hold *h)
{
        struct resource_run *run = h->held.run;
        const char *path = option(h, RESOURCE_OPT_FILL);
        int r = run->argv ? program_find(run->argv[0], &h->path) : 0;

        if (r == -ENOENT)
                ctl_note(run->ctl, "there is no command '%s'", run->argv[0]);
        else if (r < 0)
                ctl_note(run->ctl, "cannot execute '%s': %s", run->argv[0], strerror(-r));
        if (r < 0)
                return program_status(r);
        if (!path)
                return EXIT_DONE;
        h->fill = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (h->fill >= 0)
                return EXIT_DONE;
        ctl_note(run->ctl, "cannot read %s: %s", path, strerror(errno));
        return EXIT_USAGE;
}

static int make_options(struct hold *h)
{
        cached_resource_options *o = h->options = cached_resource_options_new();
        int r = o ? CACHED_OK : CACHED_ERR_NOMEM;

        if (r == CACHED_OK)
                r = cached_resource_options_set_pool(o, (uint32_t)h->pool);
        if (r == CACHED_OK)
                r = cached_resource_options_set_read_only(o, option(h, RESOURCE_OPT_READ_ONLY) !=
                                                                     NULL);
        if (r == CACHED_OK)
                r = cached_resource_options_set_no_create(o, joins_only(h));
        if (r == CACHED_OK && h->ttl_ms) {
                h->policy = cached_policy_new();
                r = h->policy ? cached_policy_set_ttl_ms(h->policy, h->ttl_ms) : CACHED_ERR_NOMEM;
                if (r == CACHED_OK)
                        r = cached_resource_options_set_policy(o, h->policy);
        }
        return ctl_result(h->held.run->ctl, r, NULL, "");
}

/* ---- making it */

/* The bytes of --fill. 0, or why not: a text. */
static const char *fill(struct hold *h)
{
        char *to = cached_resource_data(h->held.resource), more;
        size_t size = cached_resource_size(h->held.resource), n = 0;

        for (;;) {
                ssize_t k = n < size ? read(h->fill, to + n, size - n) : read(h->fill, &more, 1);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return strerror(errno);
                if (k == 0)
                        return NULL;
                if (n == size)
                        return "it is larger than the segment";
                n += (size_t)k;
        }
}

static int make_segment(struct hold *h)
{
        struct ctl *ctl = h->held.run->ctl;
        const char *wrong = h->fill >= 0 ? fill(h) : NULL;

        if (!wrong)
                return EXIT_DONE;
        cached_resource_give_reason(h->held.resource, wrong);
        ctl_note(ctl, "cannot fill it from %s: %s", option(h, RESOURCE_OPT_FILL), wrong);
        return EXIT_USAGE;
}

static int make_descriptor(struct hold *h)
{
        int fd = fcntl(h->fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

        if (fd < 0) {
                ctl_note(h->held.run->ctl, "cannot duplicate descriptor %d: %s", h->fd,
                         strerror(errno));
                return EXIT_USAGE;
        }
        return ctl_result(h->held.run->ctl, cached_resource_give_fd(h->held.resource, fd), NULL,
                          "");
}

static void note_what(struct hold *h, const cached_reply *r)
{
        const char *what = fields_text(r, "", "what");

        if (h->held.kind == RESOURCE_DESCRIPTOR && *what)
                (void)snprintf(h->held.what, sizeof(h->held.what), "%s", what);
}

static int make(struct hold *h)
{
        cached_reply *reply = NULL;
        int status = EXIT_DONE, r;

        if (h->held.kind == RESOURCE_SEGMENT)
                status = make_segment(h);
        else if (h->held.kind == RESOURCE_DESCRIPTOR)
                status = make_descriptor(h);
        if (status != EXIT_DONE)
                return status;
        r = cached_resource_publish(h->held.resource, &reply);
        status = ctl_result(h->held.run->ctl, r, reply,
                            "the daemon was replaced before it was made");
        if (status == EXIT_DONE)
                note_what(h, reply);
        cached_reply_free(reply);
        return status;
}

/* ---- getting it */

/* --wait is over. @doing: what the one who has it does. Not EXIT_DONE. */
static int report_late(struct hold *h, const cached_reply *r, const char *doing)
{
        struct ctl *ctl = h->held.run->ctl;
        uint64_t pid = fields_u64(r, "", "holder_pid");
        char late[LATE_SIZE] = "not at once", waited[UNITS_BUFFER_SIZE];

        h->is_late = true;
        if (option(h, RESOURCE_OPT_CONFLICT))
                return EXIT_REFUSED;
        if (h->wait_ms > 0)
                (void)snprintf(late, sizeof(late), "not within %s",
                               units_format_ms(waited, h->wait_ms));
        if (pid)
                ctl_note(ctl, "%s: process %" PRIu64 " (uid %" PRIu64 ") %s", late, pid,
                         fields_u64(r, "", "holder_uid"), doing);
        else
                ctl_note(ctl, "%s: another one %s", late, doing);
        return EXIT_REFUSED;
}

static int ask(struct hold *h, cached_resource **to, cached_reply **ret)
{
        struct resource_run *run = h->held.run;
        cached *c = run->ctl->client;

        switch (h->held.kind) {
        case RESOURCE_SEGMENT:
                return cached_resource_acquire_segment(c, run->cache, run->key.bytes, run->key.n,
                                                       h->size, h->options, to, ret);
        case RESOURCE_DESCRIPTOR:
                return cached_resource_acquire_descriptor(c, run->cache, run->key.bytes, run->key.n,
                                                          h->options, to, ret);
        case RESOURCE_LOCAL:
        case RESOURCE_ANY:
                break;
        }
        return cached_resource_acquire_local(c, run->cache, run->key.bytes, run->key.n, h->options,
                                             to, ret);
}

static int acquire(struct hold *h)
{
        struct resource_held *held = &h->held;
        cached_reply *reply = NULL;
        int code, status;

        if (!names_kind(h)) {
                status = resource_find_kind(held->run, &held->kind);
                if (status != EXIT_DONE)
                        return status;
        }
        (void)cached_resource_options_set_wait_ms(h->options, left_ms(h));
        code = ask(h, &held->resource, &reply);
        held->created = fields_u64(reply, "", "creation_id") != 0;
        held->owner_died = fields_u64(reply, "", "owner_died") != 0;
        note_what(h, reply);
        if (code == CACHED_DEADLINE)
                status = report_late(h, reply, "is making it, or uses all that there may be");
        else if (code == CACHED_NOT_FOUND && held->resource)
                status = make(h);
        else
                status = ctl_result(held->run->ctl, code, reply, RESOURCE_MISSING);
        cached_reply_free(reply);
        return status;
}

static void give_back(struct hold *h)
{
        cached_resource_release(h->held.resource);
        h->held.resource = NULL;
}

/* Whether others get the one that we have. The daemon is asked: that it has left may be on its way
 * to us. */
static bool is_current(struct hold *h)
{
        uint64_t instance = cached_resource_instance(h->held.resource);
        cached_resource *again = NULL;
        bool same;
        int code;

        (void)cached_resource_options_set_wait_ms(h->options, 0);
        (void)cached_resource_options_set_no_create(h->options, 1);
        code = ask(h, &again, NULL);
        same = cached_resource_instance(again) == instance;
        cached_resource_release(again);
        (void)cached_resource_options_set_no_create(h->options, joins_only(h));
        switch (code) {
        case CACHED_OK:
                return same;
        case CACHED_NOT_FOUND:
        case CACHED_DEADLINE: /* somebody makes another one */
        case CACHED_INVALID:  /* or has made one of another kind */
                return false;
        default:
                return true; /* nobody gets one now */
        }
}

/* CACHED_NOT_FOUND: it has left meanwhile. */
static int lock(struct hold *h, int *ret_status)
{
        struct resource_held *held = &h->held;
        cached_reply *reply = NULL;
        int code = cached_resource_lock(held->resource, left_ms(h), &reply);

        held->locked = code == CACHED_OK || code == CACHED_OWNER_DIED;
        held->owner_died = code == CACHED_OWNER_DIED;
        *ret_status = EXIT_DONE;
        if (held->locked)
                code = is_current(h) ? CACHED_OK : CACHED_NOT_FOUND;
        else if (code == CACHED_DEADLINE)
                *ret_status = report_late(h, reply, "has the lock");
        else if (code != CACHED_NOT_FOUND)
                *ret_status = ctl_result(held->run->ctl, code, reply, RESOURCE_MISSING);
        cached_reply_free(reply);
        return code;
}

static int acquire_and_lock(struct hold *h)
{
        int status;

        h->until_ms = now_ms() + h->wait_ms;
        for (;;) {
                status = acquire(h);
                if (status != EXIT_DONE || !option(h, RESOURCE_OPT_LOCK) ||
                    lock(h, &status) != CACHED_NOT_FOUND)
                        break;
                give_back(h);
        }
        if (status == EXIT_DONE && h->held.owner_died)
                ctl_note(h->held.run->ctl, "%s: what it protects may be half changed",
                         h->pool ? "the process that had it was killed"
                                 : "the process that had the lock was killed");
        return status;
}

static int hold(struct hold *h)
{
        int status = look_ahead(h);

        if (status == EXIT_DONE)
                status = ctl_connect(h->held.run->ctl);
        if (status == EXIT_DONE)
                status = make_options(h);
        if (status == EXIT_DONE)
                status = acquire_and_lock(h);
        h->held.is_alone = h->held.locked || h->pool > 0;
        if (status == EXIT_DONE)
                status =
                        h->path ? resource_run_command(&h->held, h->path) : resource_wait(&h->held);
        give_back(h);
        return status;
}

int resource_hold(struct resource_run *run)
{
        struct hold h = {.held = {.run = run}, .fill = -1, .fd = -1};
        int status = parse(&h);

        if (status == EXIT_DONE)
                status = hold(&h);
        cached_resource_options_free(h.options);
        cached_policy_free(h.policy);
        if (h.fill >= 0)
                (void)close(h.fill);
        free(h.path);
        if (h.is_late && option(&h, RESOURCE_OPT_CONFLICT))
                return (int)h.conflict;
        return status;
}
