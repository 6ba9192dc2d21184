/* SPDX-License-Identifier: MIT */

/*
 * ls: the entries of a cache
 *
 * Pages are printed as they come, so that a million entries need no more memory than one page. The
 * columns have fixed widths for that, and the key, whose length is not known before, comes last.
 */

#include "fields.h"
#include "output.h"
#include "paging.h"
#include "units.h"
#include "verb.h"

#include <inttypes.h>

enum { OPT_LIMIT };

static const struct field fields_more[] = {
        {"charge", FIELD_BYTES, NULL},
        {"large", FIELD_BOOL, NULL},
        {NULL},
};

struct listing {
        uint64_t left; /* of --limit */
        uint64_t n;    /* printed so far */
        const char *cache;
};

/* What is special about it, behind its key: few entries have any of it. */
static void print_marks(const cached_reply *r, const char *prefix)
{
        char path[FIELDS_PATH_SIZE];
        size_t n = cached_reply_count(r, fields_path(path, prefix, "entry.tags"));

        if (fields_u64(r, prefix, "entry.negative"))
                fputs("  (negative)", stdout);
        if (fields_u64(r, prefix, "entry.vary"))
                fputs("  (has variants)", stdout);
        for (size_t i = 0; i < n; i++) {
                (void)snprintf(path, sizeof(path), "entry.tags[%zu]", i);
                fputs("  #", stdout);
                output_text(stdout, fields_text(r, prefix, path));
        }
}

static void print_line(const cached_reply *r, const char *prefix, const void *key, size_t n_key)
{
        char text[KEY_FORMAT_SIZE], size[UNITS_BUFFER_SIZE], ttl[UNITS_BUFFER_SIZE];
        char cost[UNITS_BUFFER_SIZE], path[FIELDS_PATH_SIZE];
        uint64_t ttl_ms, cost_us = fields_u64(r, prefix, "entry.cost_us");
        bool ends;

        ends = cached_reply_u64(r, fields_path(path, prefix, "entry.ttl_ms"), &ttl_ms) == CACHED_OK;
        /* Where it is served on after its ttl, it is the fresh part that people count on. */
        (void)cached_reply_u64(r, fields_path(path, prefix, "entry.fresh_ms"), &ttl_ms);
        printf("%7s  %7s  %7s  %10" PRIu64 "  %s",
               units_format_bytes(size, fields_u64(r, prefix, "entry.size")),
               fields_u64(r, prefix, "entry.stale") ? "stale"
               : ends                               ? units_format_ms(ttl, ttl_ms)
                                                    : "never",
               cost_us ? units_format_us(cost, cost_us) : "-",
               fields_u64(r, prefix, "entry.version"), key_format(text, key, n_key));
        print_marks(r, prefix);
        putchar('\n');
}

static int print_json(struct ctl *ctl, const cached_reply *r, const char *prefix, const void *key,
                      size_t n_key)
{
        char path[FIELDS_PATH_SIZE];
        json_t *o = json_object();
        int failed;

        fields_path(path, prefix, "entry.");
        failed = output_json_key(o, key, n_key) < 0;
        failed |= fields_to_json(r, path, fields_entry, o) < 0;
        failed |= fields_to_json(r, path, fields_tags, o) < 0;
        failed |= fields_to_json(r, prefix, fields_more, o) < 0;
        failed |= !failed && json_dumpf(o, stdout, JSON_COMPACT) < 0 && !ferror(stdout);
        json_decref(o);
        return failed ? ctl_no_memory(ctl) : EXIT_DONE;
}

/* The document is written by hand around its items, since it is never in memory as a whole. */
static int begin(struct ctl *ctl, const struct listing *l)
{
        json_t *name;
        int r;

        if (!ctl->json) {
                printf("%7s  %7s  %7s  %10s  %s\n", "SIZE", "TTL", "COST", "VERSION", "KEY");
                return EXIT_DONE;
        }
        name = json_string(l->cache);
        fputs("{\"cache\":", stdout);
        r = name ? json_dumpf(name, stdout, JSON_ENCODE_ANY) : -1;
        fputs(",\"entries\":[", stdout);
        json_decref(name);
        return r < 0 && !ferror(stdout) ? ctl_no_memory(ctl) : EXIT_DONE;
}

static int print_page(struct ctl *ctl, struct listing *l, const cached_reply *r)
{
        size_t n = cached_reply_count(r, "entries"), n_key;
        char prefix[FIELDS_PATH_SIZE], path[FIELDS_PATH_SIZE];
        int status = EXIT_DONE;
        const void *key;

        for (size_t i = 0; i < n && l->left > 0 && status == EXIT_DONE; i++) {
                fields_item(prefix, "entries", i);
                snprintf(path, sizeof(path), "entries[%zu].key", i);
                if (cached_reply_bytes(r, path, &key, &n_key) != CACHED_OK)
                        continue;
                if (ctl->json && l->n > 0)
                        fputs(",\n", stdout);
                if (ctl->json)
                        status = print_json(ctl, r, prefix, key, n_key);
                else
                        print_line(r, prefix, key, n_key);
                l->left--;
                l->n++;
        }
        return status;
}

static int list(struct ctl *ctl, struct listing *l)
{
        struct paging paging = {0};
        bool begun = false;
        int status, r;

        do {
                cached_reply *reply = NULL;
                /* Ask for no more than is wanted; 0 is the largest page that the daemon gives. */
                uint32_t page = l->left < 1000 ? (uint32_t)l->left : 0;

                paging_ask(&paging);
                r = cached_list_entries(ctl->client, l->cache, page, paging.cursor, &reply);
                status = ctl_result(ctl, r, reply, "no such cache");
                if (status == EXIT_DONE && !begun) {
                        status = begin(ctl, l);
                        begun = true;
                }
                if (status == EXIT_DONE)
                        status = paging_answer(ctl, &paging, fields_u64(reply, "", "next"));
                if (status == EXIT_DONE)
                        status = print_page(ctl, l, reply);
                cached_reply_free(reply);
                if (status == EXIT_DONE)
                        status = output_flush(ctl);
        } while (status == EXIT_DONE && !paging.done && l->left > 0 && !ctl->stdout_closed);
        if (status == EXIT_DONE && ctl->json)
                fputs("]}\n", stdout);
        return status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct listing l = {.left = UINT64_MAX, .cache = a->words[0]};
        int status = ctl_check_cache(ctl, l.cache);

        if (status == EXIT_DONE && a->options[OPT_LIMIT])
                status = ctl_parse_count(ctl, "limit", a->options[OPT_LIMIT], UINT64_MAX, &l.left);
        if (status == EXIT_DONE && l.left == 0)
                status = ctl_usage(ctl, "--limit '%s': it is at least 1", a->options[OPT_LIMIT]);
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        return status == EXIT_DONE ? list(ctl, &l) : status;
}

const struct verb verb_ls = {
        .name = "ls",
        .synopsis = "CACHE [--limit N]",
        .summary = "List the entries of a cache",
        .about = "In no particular order. SIZE is that of the value as it is stored, TTL what is "
                 "left of it (`stale`: it is over, and the entry is served on), COST the computing "
                 "time that a hit saves. Behind the key stand its #tags, and `(negative)` where "
                 "what is stored is that there is no value. Entries that are stored "
                 "meanwhile may be missing or appear twice. It does not count as a use.",
        .words = {"CACHE"},
        .n_required = 1,
        .options = {[OPT_LIMIT] = {"limit", 0, "N", "stop after so many"}},
        .json = "cache, and entries: a list, an entry on each line, of objects of key or "
                "key_hex, version, size, flags, encoding, raw_size, cost_us, ttl_ms (until it is "
                "gone; null: never), fresh_ms (until it is stale; null: it is never served as "
                "that), stale, negative, vary, messages_size, uid, tags, charge, large (in a "
                "memory file of its own).",
        .not_found = "no such cache",
        .example = "cachectl ls thumbnails --limit 20",
        .caches = true,
        .run = run,
};
