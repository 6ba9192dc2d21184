/* SPDX-License-Identifier: MIT */

/* clear: remove the entries of a cache, or of the whole realm */

#include "fields.h"
#include "output.h"
#include "verb.h"

#include <inttypes.h>

enum { OPT_ALL, OPT_TAG, OPT_PREFIX };

static const struct field fields[] = {
        {"entries", FIELD_COUNT, NULL},
        {"caches", FIELD_COUNT, NULL},
        {"resources", FIELD_COUNT, NULL},
        {NULL},
};

/* What is cleared: one cache, of it a tag or a prefix, or all of them. */
struct what {
        const char *cache, *tag; /* NULL: all of them */
        struct key prefix;       /* of no bytes: all of them */
};

static int print_json(struct ctl *ctl, const struct what *what, const cached_reply *reply)
{
        json_t *o = json_object();

        if (json_object_set_new(o, "cache", output_json_text(what->cache)) < 0 ||
            json_object_set_new(o, "tag", output_json_text(what->tag)) < 0 ||
            output_json_bytes(o, "prefix", what->prefix.n ? what->prefix.bytes : NULL,
                              what->prefix.n) < 0 ||
            fields_to_json(reply, "", fields, o) < 0) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
}

static void print_text(const char *cache, const cached_reply *reply)
{
        uint64_t entries = fields_u64(reply, "", "entries"),
                 caches = fields_u64(reply, "", "caches"),
                 resources = fields_u64(reply, "", "resources");

        printf("%" PRIu64 " %s", entries, entries == 1 ? "entry" : "entries");
        if (resources)
                printf(" and %" PRIu64 " %s", resources, resources == 1 ? "resource" : "resources");
        printf(" cleared");
        if (!cache)
                printf(" in %" PRIu64 " %s", caches, caches == 1 ? "cache" : "caches");
        putchar('\n');
}

static int parse(struct ctl *ctl, const struct args *a, struct what *ret)
{
        const char *prefix = a->options[OPT_PREFIX], *wrong;
        int status = EXIT_DONE;

        ret->cache = a->n_words ? a->words[0] : NULL;
        ret->tag = a->options[OPT_TAG];
        if (ret->cache && a->options[OPT_ALL])
                return ctl_usage(ctl, "CACHE and --all exclude each other");
        if (ret->tag && prefix)
                return ctl_usage(ctl, "--tag and --prefix exclude each other");
        if (!ret->cache && (ret->tag || prefix))
                return ctl_usage(ctl, "CACHE is missing: --%s is of one cache",
                                 ret->tag ? "tag" : "prefix");
        if (!ret->cache && !a->options[OPT_ALL])
                return ctl_usage(ctl, "CACHE is missing; --all clears every cache of the realm");
        if (ret->cache)
                status = ctl_check_cache(ctl, ret->cache);
        if (status == EXIT_DONE && ret->tag)
                status = ctl_check_tag(ctl, ret->tag);
        if (status != EXIT_DONE || !prefix)
                return status;
        wrong = key_parse(prefix, &ret->prefix);
        return wrong ? ctl_usage(ctl, "--prefix '%s': %s", prefix, wrong) : EXIT_DONE;
}

static int clear(struct ctl *ctl, const struct what *what, cached_reply **ret)
{
        if (!what->cache)
                return cached_clear_all(ctl->client, ret);
        if (what->tag)
                return cached_clear_tag(ctl->client, what->cache, what->tag, ret);
        if (what->prefix.n > 0)
                return cached_clear_prefix(ctl->client, what->cache, what->prefix.bytes,
                                           what->prefix.n, ret);
        return cached_clear(ctl->client, what->cache, ret);
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct what what = {.prefix = {.n = 0}};
        cached_reply *reply = NULL;
        int status = parse(ctl, a, &what), r;

        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        r = clear(ctl, &what, &reply);
        status = ctl_result(ctl, r, reply, "no such cache");
        if (status == EXIT_DONE && ctl->json)
                status = print_json(ctl, &what, reply);
        else if (status == EXIT_DONE)
                print_text(what.cache, reply);
        cached_reply_free(reply);
        return status;
}

const struct verb verb_clear = {
        .name = "clear",
        .synopsis = "CACHE [--tag TAG | --prefix P] | --all",
        .summary = "Remove the entries of a cache, or of the realm",
        .about = "Resources leave with them, but for --tag: who holds one is told, and may use it "
                 "on. The caches themselves, their policies and counters stay. A cache cannot be "
                 "removed: "
                 "an empty one costs next to nothing, but counts towards limits.caches_per_realm "
                 "until the realm was unused and empty for ten minutes, or the daemon is "
                 "restarted.\n\n"
                 "--tag takes the same time however many entries have the tag. --prefix goes "
                 "through the whole cache; P is written as a KEY is.",
        .words = {"CACHE"},
        .options = {[OPT_TAG] = {"tag", 0, "TAG", "only those that were stored with this tag"},
                    [OPT_PREFIX] = {"prefix", 0, "P", "only those whose key begins with this"},
                    [OPT_ALL] = {"all", 0, NULL,
                                 "every cache of the realm (needs the role admin)"}},
        .json = "cache (null with --all), tag and prefix or prefix_hex (null where not given), "
                "entries (that were there), caches, resources (that left).",
        .not_found = "no such cache",
        .example = "cachectl clear thumbnails\n"
                   "  cachectl clear pages --tag user:17\n"
                   "  cachectl clear pages --prefix /blog/",
        .removes = true,
        .caches = true,
        .run = run,
};
