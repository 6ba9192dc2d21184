/* SPDX-License-Identifier: MIT */

/*
 * monitor: what happens, as it happens
 *
 * It runs until it is told to end: by a signal, by its reader going away (which is seen at once,
 * not with the next event), or by --count. It outlives the daemon: the subscription makes a
 * connection again, and what was not seen meanwhile is told as lost.
 */

#include "monitor.h"
#include "output.h"
#include "run-signals.h"
#include "verb.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

enum { OPT_KIND, OPT_COUNT };

#define WIDTH_MIN 8
#define ALL       (CACHED_EVENT_ALL | CACHED_EVENT_RESOURCES)

struct watch {
        struct monitor monitor;
        struct ctl *ctl;
        cached_events *events;
        struct signals signals;
        uint64_t left; /* of --count */
        bool away;     /* and that was said */
};

static int parse_kinds(struct ctl *ctl, const struct args_list *names, uint32_t *ret)
{
        uint32_t kinds = 0;

        for (size_t i = 0; i < names->n; i++) {
                uint32_t kind = monitor_kind(names->values[i]);

                if (!kind)
                        return ctl_usage(ctl, "--kind '%s': a kind is " MONITOR_KINDS,
                                         names->values[i]);
                kinds |= kind;
        }
        if (kinds)
                *ret = kinds;
        return EXIT_DONE;
}

/* Says once that the daemon is away, and once that it is back. */
static void tell_connection(struct watch *w, const cached_event *v)
{
        const char *why = cached_events_error(w->events);

        if (v && cached_event_kind(v) == CACHED_EVENT_LOST && cached_event_lost(v) == UINT64_MAX) {
                ctl_note(w->ctl, w->away ? "the daemon is there again"
                                         : "the connection had broken, and is there again");
                w->away = false;
        } else if (!v && *why && !w->away) {
                ctl_note(w->ctl, "the daemon is away: %s; waiting for it", why);
                w->away = true;
        }
}

/* All events that are there. */
static int print_events(struct watch *w)
{
        const cached_event *v;
        int status = EXIT_DONE, r = CACHED_OK;

        while (w->left > 0 && status == EXIT_DONE && !w->ctl->stdout_closed) {
                r = cached_events_next(w->events, 0, &v);
                if (r != CACHED_OK)
                        break;
                tell_connection(w, v);
                status = monitor_print(&w->monitor, v);
                if (status == EXIT_DONE)
                        status = output_flush(w->ctl);
                w->left--;
        }
        if (r == CACHED_ERR_AGAIN)
                tell_connection(w, NULL);
        else if (r != CACHED_OK)
                status = ctl_result(w->ctl, r, NULL, "no such realm");
        return status;
}

static int watch(struct watch *w)
{
        int status = EXIT_DONE;

        while (status == EXIT_DONE && w->left > 0 && !w->ctl->stdout_closed) {
                struct pollfd fds[] = {
                        {.fd = cached_events_fd(w->events), .events = POLLIN},
                        {.fd = w->signals.fd, .events = POLLIN},
                        {.fd = STDOUT_FILENO}, /* its reader goes away */
                };

                if (poll(fds, 3, -1) < 0 && errno != EINTR) {
                        ctl_note(w->ctl, "cannot wait for events: %s", strerror(errno));
                        return EXIT_REFUSED;
                }
                if (fds[1].revents)
                        signals_take(&w->signals, 0);
                if (w->signals.interrupted || fds[2].revents & (POLLERR | POLLHUP))
                        break;
                if (fds[0].revents)
                        status = print_events(w);
        }
        return status;
}

static int subscribe(struct watch *w, const char *cache, uint32_t kinds)
{
        cached_reply *reply = NULL;
        int status = ctl_connect(w->ctl), r;

        if (status != EXIT_DONE)
                return status;
        r = cached_subscribe(w->ctl->client, cache, kinds, &w->events, &reply);
        if (r == CACHED_UNSUPPORTED && kinds == ALL) { /* an older daemon knows entries alone */
                cached_reply_free(reply);
                r = cached_subscribe(w->ctl->client, cache, CACHED_EVENT_ALL, &w->events, &reply);
        }
        status = ctl_result(w->ctl, r, reply, "no such realm");
        cached_reply_free(reply);
        if (status == EXIT_DONE)
                status = watch(w);
        cached_events_free(w->events);
        return status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct watch w = {.ctl = ctl,
                          .monitor = {.ctl = ctl, .width = WIDTH_MIN},
                          .left = UINT64_MAX};
        const char *cache = a->n_words ? a->words[0] : NULL;
        uint32_t kinds = ALL;
        int status = parse_kinds(ctl, &a->lists[OPT_KIND], &kinds), r;

        if (status == EXIT_DONE && cache)
                status = ctl_check_cache(ctl, cache);
        if (status == EXIT_DONE && a->options[OPT_COUNT])
                status = ctl_parse_count(ctl, "count", a->options[OPT_COUNT], UINT64_MAX, &w.left);
        if (status == EXIT_DONE && w.left == 0)
                status = ctl_usage(ctl, "--count '%s': it is at least 1", a->options[OPT_COUNT]);
        if (status != EXIT_DONE)
                return status;
        /* Nobody would see what it waits for. */
        if (write(STDOUT_FILENO, "", 0) < 0)
                return output_failed(ctl, errno);
        r = signals_init(&w.signals);
        if (r < 0) {
                ctl_note(ctl, "cannot take signals: %s", strerror(-r));
                return EXIT_REFUSED;
        }
        status = subscribe(&w, cache, kinds);
        signals_done(&w.signals);
        return status;
}

const struct verb verb_monitor = {
        .name = "monitor",
        .synopsis = "[CACHE] [--kind KIND]… [--count N]",
        .summary = "Print what happens to entries and resources, as it happens",
        .about =
                "A line for each event of CACHE, or of all caches of the realm, with the local "
                "time at which it happened; until Ctrl-C, or until its reader goes away. A KIND "
                "is stored, deleted, cleared, expired (found to be so, some time after), evicted, "
                "policy (it changed), refresh (a [schedule] of the daemon's configuration asks for "
                "the values of a cache to be computed anew), created (a resource), or left (a "
                "resource, its cache: for what cause, and how many held it). Of a session's "
                "resources nothing is told.\n\n"
                "`lost` stands where events were not kept since this did not read in time, or "
                "since the daemon was away. When it comes back, this goes on.",
        .words = {"CACHE"},
        .options = {[OPT_KIND] = {"kind", 'k', "KIND", "only these; any number of them", true},
                    [OPT_COUNT] = {"count", 'n', "N", "end after so many lines"}},
        .json = "an object on each line: time_ms (since 1970), kind, cache (null: all); stored: "
                "key or key_hex, version, size; deleted, expired: key or key_hex; evicted: key or "
                "key_hex, cause (as a fate of `cachectl explain`); cleared: tag, prefix or "
                "prefix_hex (null: neither), entries; policy: policy, pinned; refresh: schedule; "
                "created: key or key_hex, instance, resource (segment, descriptor, local); "
                "left: as created, cause (as of `cachectl resource hold`), reason (or null), "
                "holders; lost: no cache, but events (null: not known how many).",
        .example = "cachectl monitor thumbnails --kind evicted\n"
                   "  cachectl monitor --kind refresh --json | jq --unbuffered -r .cache |\n"
                   "    while read -r cache; do\n"
                   "      cachectl warm \"$cache\" -- ./fill \"$cache\" </dev/null\n"
                   "    done",
        .run = run,
};
