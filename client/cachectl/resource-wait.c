/* SPDX-License-Identifier: MIT */

/*
 * resource hold CACHE KEY, without a command: it is held until somebody ends that
 *
 * By the end of stdin, by a signal, by the reader of stdout going away, or because it has left its
 * cache. A stdin that is /dev/null ends at once, and was given by who had nothing to give: it says
 * nothing, and neither does a terminal whose foreground is another job's.
 */

#include "output.h"
#include "resource-info.h"
#include "run-signals.h"
#include "units.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define NULL_MAJOR 1
#define NULL_MINOR 3

/* ---- what is printed: a line for each event, at once */

static int print_held_json(const struct resource_held *h)
{
        const cached_resource *r = h->resource;
        json_t *o = json_object(), *name = resource_name_json(h->run);
        char instance[UNITS_BUFFER_SIZE];
        int failed;

        units_format_count(instance, cached_resource_instance(r));
        failed = json_object_set_new(o, "event", json_string("held")) < 0;
        failed |= json_object_update(o, name) < 0;
        failed |= json_object_set_new(o, "instance", json_string(instance)) < 0;
        failed |= json_object_set_new(o, "created", json_boolean(h->created)) < 0;
        failed |= json_object_set_new(o, "kind", json_string(resource_kinds[h->kind])) < 0;
        failed |= json_object_set_new(o, "what", output_json_text(h->what)) < 0;
        failed |= json_object_set_new(o, "size", output_json_u64(cached_resource_size(r))) < 0;
        failed |= json_object_set_new(o, "read_only",
                                      json_boolean(cached_resource_is_read_only(r))) < 0;
        failed |= json_object_set_new(o, "locked", json_boolean(h->locked)) < 0;
        failed |= json_object_set_new(o, "owner_died", json_boolean(h->owner_died)) < 0;
        json_decref(name);
        if (failed) {
                json_decref(o);
                o = NULL;
        }
        return output_json(h->run->ctl, o);
}

static void print_held_text(const struct resource_held *h)
{
        char buf[UNITS_BUFFER_SIZE];
        const cached_resource *r = h->resource;

        printf("held: instance %s, %s, ", units_format_count(buf, cached_resource_instance(r)),
               h->created ? "created" : "joined");
        output_text(stdout, *h->what ? h->what : resource_kinds[h->kind]);
        if (h->kind == RESOURCE_SEGMENT)
                printf(" of %s%s", units_format_bytes(buf, cached_resource_size(r)),
                       cached_resource_size(r) < 1024 ? " bytes" : "");
        printf("%s%s\n", cached_resource_is_read_only(r) ? ", read-only" : "",
               h->locked ? ", locked" : "");
}

static int print_held(const struct resource_held *h)
{
        int status = EXIT_DONE;

        if (h->run->ctl->json)
                status = print_held_json(h);
        else
                print_held_text(h);
        return status == EXIT_DONE ? output_flush(h->run->ctl) : status;
}

static int print_left(const struct resource_held *h)
{
        int left = cached_resource_has_left(h->resource);
        const char *cause = resource_cause_text(left);
        char words[RESOURCE_CAUSE_SIZE];
        json_t *o;

        if (!h->run->ctl->json) {
                printf("left: %s\n", resource_cause_words(words, left));
                return EXIT_DONE;
        }
        o = json_object();
        if (json_object_set_new(o, "event", json_string("left")) < 0 ||
            json_object_set_new(o, "cause", json_string(cause)) < 0) {
                json_decref(o);
                o = NULL;
        }
        return output_json(h->run->ctl, o);
}

/* ---- waiting */

static bool is_null_device(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
               st.st_rdev == makedev(NULL_MAJOR, NULL_MINOR);
}

/* To read from a terminal that is another job's would stop us. */
static bool is_elsewhere(int fd)
{
        return isatty(fd) && tcgetpgrp(fd) != getpgrp();
}

/* What there is to read goes nowhere. False: nothing will come any more. */
static bool drain(int fd)
{
        char bytes[4096];
        ssize_t n = read(fd, bytes, sizeof(bytes));

        return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

static int wait_for_end(const struct resource_held *h, struct signals *s)
{
        int in = is_null_device(STDIN_FILENO) || is_elsewhere(STDIN_FILENO) ? -1 : STDIN_FILENO;

        for (;;) {
                struct pollfd fds[] = {
                        {.fd = cached_resource_left_fd(h->resource), .events = POLLIN},
                        {.fd = s->fd, .events = POLLIN},
                        {.fd = STDOUT_FILENO}, /* its reader goes away */
                        {.fd = in, .events = POLLIN},
                };

                if (poll(fds, 4, -1) < 0 && errno != EINTR) {
                        ctl_note(h->run->ctl, "cannot wait: %s", strerror(errno));
                        return EXIT_REFUSED;
                }
                if (fds[0].revents)
                        return print_left(h);
                if (fds[1].revents)
                        signals_take(s, 0);
                if (s->interrupted || fds[2].revents & (POLLERR | POLLHUP))
                        return EXIT_DONE;
                if (fds[3].revents && is_elsewhere(STDIN_FILENO))
                        in = -1;
                else if (fds[3].revents && !drain(STDIN_FILENO))
                        return EXIT_DONE;
        }
}

int resource_wait(const struct resource_held *h)
{
        struct signals signals;
        int r = signals_init(&signals), status;

        if (r < 0) {
                ctl_note(h->run->ctl, "cannot take signals: %s", strerror(-r));
                return EXIT_REFUSED;
        }
        status = print_held(h);
        if (status == EXIT_DONE && !h->run->ctl->stdout_closed)
                status = wait_for_end(h, &signals);
        signals_done(&signals);
        return status;
}
