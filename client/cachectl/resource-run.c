/* SPDX-License-Identifier: MIT */

/*
 * resource hold CACHE KEY -- COMMAND: it is held while the command runs
 *
 * To the daemon the holder is this process. A command that is killed while it alone uses the object
 * was in the middle of something; the daemon has to learn that as it does of any holder: so this
 * process then ends without giving anything back. And a command that alone may use it is killed
 * when this process ends without it: the next one gets it then.
 */

#include "resource.h"
#include "run-plain.h"
#include "run-program.h"
#include "run-signals.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VARIABLE_FD   "CACHED_RESOURCE_FD"
#define VARIABLE_SIZE "CACHED_RESOURCE_SIZE"
#define VARIABLE_DIED "CACHED_OWNER_DIED"

static int set_number(const char *name, bool is_there, uint64_t n)
{
        char text[24];

        if (!is_there)
                return unsetenv(name); /* of a hold around this one */
        (void)snprintf(text, sizeof(text), "%" PRIu64, n);
        return setenv(name, text, 1);
}

static int set_environment(const struct resource_held *h)
{
        int fd = cached_resource_file(h->resource);
        size_t size = cached_resource_size(h->resource);

        return set_number(VARIABLE_FD, fd >= 0, (uint64_t)fd) < 0 ||
                               set_number(VARIABLE_SIZE, h->kind == RESOURCE_SEGMENT, size) < 0 ||
                               set_number(VARIABLE_DIED, h->owner_died, 1) < 0
                       ? ctl_no_memory(h->run->ctl)
                       : EXIT_DONE;
}

static void tell_left(void *data)
{
        const struct resource_held *h = data;
        char words[RESOURCE_CAUSE_SIZE];

        ctl_note(h->run->ctl, "it has left its cache: %s; '%s' goes on with it",
                 resource_cause_words(words, cached_resource_has_left(h->resource)),
                 h->run->argv[0]);
}

static int cannot_run(const struct resource_held *h, int error)
{
        ctl_note(h->run->ctl, "cannot execute '%s': %s", h->run->argv[0], strerror(-error));
        return program_status(error);
}

/* As who used it alone, and was killed. */
static void end_as_killed(const struct plain_end *end)
{
        (void)fflush(stdout);
        if (end->by_terminal && end->signal == SIGINT)
                signals_die(SIGINT);
        _exit(end->status);
}

int resource_run_command(struct resource_held *h, const char *path)
{
        struct plain plain = {
                .path = path,
                .argv = h->run->argv,
                .default_sigpipe = !h->run->ctl->sigpipe_ignored,
                .dies_with_us = h->is_alone,
                .kept = cached_resource_file(h->resource),
                .news = cached_resource_left_fd(h->resource),
                .told = tell_left,
                .data = h,
        };
        struct plain_end end;
        int status = set_environment(h), r;

        if (status != EXIT_DONE)
                return status;
        r = plain_run(&plain, &end);
        if (r < 0)
                return cannot_run(h, r);
        if (end.signal && h->is_alone)
                end_as_killed(&end);
        cached_resource_release(h->resource);
        h->resource = NULL;
        if (end.by_terminal && end.signal == SIGINT)
                signals_die(SIGINT);
        return end.status;
}
