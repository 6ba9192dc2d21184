/* SPDX-License-Identifier: MIT */

/* clear: remove the entries of a cache, or of the whole realm */

#include "fields.h"
#include "output.h"
#include "verb.h"

#include <inttypes.h>

enum { OPT_ALL };

static const struct field fields[] = {
        {"entries", FIELD_COUNT, NULL},
        {"caches", FIELD_COUNT, NULL},
        {NULL},
};

static int print_json(struct ctl *ctl, const char *cache, const cached_reply *reply)
{
        json_t *o = json_object();

        if (json_object_set_new(o, "cache", cache ? json_string(cache) : json_null()) < 0 ||
            fields_to_json(reply, "", fields, o) < 0) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
}

static void print_text(const char *cache, const cached_reply *reply)
{
        uint64_t entries = fields_u64(reply, "", "entries"),
                 caches = fields_u64(reply, "", "caches");

        printf("%" PRIu64 " %s cleared", entries, entries == 1 ? "entry" : "entries");
        if (!cache)
                printf(" in %" PRIu64 " %s", caches, caches == 1 ? "cache" : "caches");
        putchar('\n');
}

static int run(struct ctl *ctl, const struct args *a)
{
        const char *cache = a->n_words ? a->words[0] : NULL;
        cached_reply *reply = NULL;
        int status = EXIT_DONE, r;

        if (cache && a->options[OPT_ALL])
                return ctl_usage(ctl, "CACHE and --all exclude each other");
        if (!cache && !a->options[OPT_ALL])
                return ctl_usage(ctl, "CACHE is missing; --all clears every cache of the realm");
        if (cache)
                status = ctl_check_cache(ctl, cache);
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        r = cache ? cached_clear(ctl->client, cache, &reply)
                  : cached_clear_all(ctl->client, &reply);
        status = ctl_result(ctl, r, reply, "no such cache");
        if (status == EXIT_DONE && ctl->json)
                status = print_json(ctl, cache, reply);
        else if (status == EXIT_DONE)
                print_text(cache, reply);
        cached_reply_free(reply);
        return status;
}

const struct verb verb_clear = {
        .name = "clear",
        .synopsis = "CACHE | --all",
        .summary = "Remove all entries of a cache, or of the realm",
        .about = "The caches themselves, their policies and counters stay. A cache cannot be "
                 "removed: "
                 "an empty one costs next to nothing, but counts towards limits.caches_per_realm "
                 "until the realm was unused and empty for ten minutes, or the daemon is "
                 "restarted.",
        .words = {"CACHE"},
        .options = {[OPT_ALL] = {"all", 0, NULL,
                                 "every cache of the realm (needs the role admin)"}},
        .json = "cache (null with --all), entries (that were there), caches.",
        .not_found = "no such cache",
        .example = "cachectl clear thumbnails",
        .removes = true,
        .run = run,
};
