/* SPDX-License-Identifier: MIT */

/*
 * policy: show or set a cache's policy
 *
 * What is set here is pinned: it stays when clients open the cache with another policy, until
 * --unpin.
 */

#include "fields.h"
#include "output.h"
#include "verb.h"

enum {
        OPT_TTL,
        OPT_MAX_ENTRIES,
        OPT_MAX_BYTES,
        OPT_NO_TTL,
        OPT_NO_MAX_ENTRIES,
        OPT_NO_MAX_BYTES,
        OPT_UNPIN
};

static const struct field fields[] = {
        {"opens", FIELD_COUNT, "opens"},
        {"policy_changes", FIELD_COUNT, "policy changes"},
        {NULL},
};

struct change {
        cached_policy *policy;
        uint32_t reset;
        bool any;
};

static int print(struct ctl *ctl, const cached_reply *reply, const char *prefix)
{
        static const struct output_column columns[] = {{""}, {""}, {NULL}};
        char path[FIELDS_PATH_SIZE];
        struct libscols_table *t;

        if (ctl->json)
                return output_json(ctl, fields_cache_json(reply, prefix, fields));
        t = output_table_new(columns);
        fields_path(path, prefix, "policy.");
        if (t && (fields_to_table(reply, path, fields_policy, t) < 0 ||
                  fields_to_table(reply, prefix, fields_pinned, t) < 0 ||
                  fields_to_table(reply, prefix, fields, t) < 0)) {
                output_table_free(t);
                t = NULL;
        }
        return output_table(ctl, t);
}

static int parse_limit(struct ctl *ctl, const struct args *a, int option, uint64_t *ret)
{
        const char *text = a->options[option];
        int status;

        if (option == OPT_TTL)
                return ctl_parse_ttl(ctl, "ttl", text, ret);
        if (option == OPT_MAX_BYTES)
                status = ctl_parse_size(ctl, "max-bytes", text, ret);
        else
                status = ctl_parse_count(ctl, "max-entries", text, UINT64_MAX, ret);
        if (status == EXIT_DONE && *ret == 0)
                return ctl_usage(ctl, "--%s '%s': it is at least 1; `clear` empties a cache",
                                 option == OPT_MAX_BYTES ? "max-bytes" : "max-entries", text);
        return status;
}

static int parse_change(struct ctl *ctl, const struct args *a, struct change *change)
{
        static const struct {
                int option, no_option;
                const char *name;
                uint32_t bit;
                int (*set)(cached_policy *, uint64_t);
        } rows[] = {
                {OPT_TTL, OPT_NO_TTL, "ttl", CACHED_POLICY_TTL, cached_policy_set_ttl_ms},
                {OPT_MAX_ENTRIES, OPT_NO_MAX_ENTRIES, "max-entries", CACHED_POLICY_MAX_ENTRIES,
                 cached_policy_set_max_entries},
                {OPT_MAX_BYTES, OPT_NO_MAX_BYTES, "max-bytes", CACHED_POLICY_MAX_BYTES,
                 cached_policy_set_max_bytes},
        };

        for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
                const char *value = a->options[rows[i].option], *no = a->options[rows[i].no_option];
                uint64_t n;
                int status;

                if (value && no)
                        return ctl_usage(ctl, "--%s and --no-%s exclude each other", rows[i].name,
                                         rows[i].name);
                if (no)
                        change->reset |= rows[i].bit;
                change->any |= value || no;
                if (!value)
                        continue;
                status = parse_limit(ctl, a, rows[i].option, &n);
                if (status == EXIT_DONE)
                        status = ctl_result(ctl, rows[i].set(change->policy, n), NULL, "");
                if (status != EXIT_DONE)
                        return status;
        }
        if (change->any && a->options[OPT_UNPIN])
                return ctl_usage(ctl,
                                 "--unpin goes back to what clients ask for: it takes no limits");
        return EXIT_DONE;
}

static int show_or_set(struct ctl *ctl, const struct args *a, const struct change *change)
{
        bool unpin = a->options[OPT_UNPIN] != NULL, set = change->any || unpin;
        cached_reply *reply = NULL;
        int status, r;

        status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        if (set)
                r = cached_set_policy(ctl->client, a->words[0], change->policy, change->reset,
                                      unpin, &reply);
        else
                r = cached_stats(ctl->client, a->words[0], &reply);
        status = ctl_result(ctl, r, reply, "no such cache");
        if (status == EXIT_DONE)
                status = print(ctl, reply, set ? "" : "cache.");
        cached_reply_free(reply);
        return status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct change change = {.reset = 0};
        int status = ctl_check_cache(ctl, a->words[0]);

        if (status != EXIT_DONE)
                return status;
        change.policy = cached_policy_new();
        if (!change.policy)
                return ctl_no_memory(ctl);
        status = parse_change(ctl, a, &change);
        if (status == EXIT_DONE)
                status = show_or_set(ctl, a, &change);
        cached_policy_free(change.policy);
        return status;
}

const struct verb verb_policy = {
        .name = "policy",
        .synopsis = "CACHE [--ttl D | --no-ttl] [--max-entries N | --no-max-entries] "
                    "[--max-bytes S | --no-max-bytes] [--unpin]",
        .summary = "Show a cache's policy, or set and pin it",
        .about = "Without options it shows the policy in force. With some it sets these, leaves "
                 "the others as they are, and pins the policy: clients that open the cache with "
                 "another one do not change it. An unknown cache is created. Limits apply at "
                 "once, a ttl to what is stored from now on.",
        .words = {"CACHE"},
        .n_required = 1,
        .options = {[OPT_TTL] = {"ttl", 0, "D", "entries expire this long after they were stored"},
                    [OPT_MAX_ENTRIES] = {"max-entries", 0, "N", "keep at most so many"},
                    [OPT_MAX_BYTES] = {"max-bytes", 0, "S",
                                       "keep at most so much, as it is charged"},
                    [OPT_NO_TTL] = {"no-ttl", 0, NULL, "entries do not expire"},
                    [OPT_NO_MAX_ENTRIES] = {"no-max-entries", 0, NULL, "do not limit the number"},
                    [OPT_NO_MAX_BYTES] = {"no-max-bytes", 0, NULL, "do not limit the bytes"},
                    [OPT_UNPIN] = {"unpin", 0, NULL,
                                   "go back to what clients open the cache with"}},
        .json = "name, policy: an object of ttl_ms, max_entries, max_bytes (null: no limit); "
                "pinned, opens, policy_changes.",
        .not_found = "no such cache (only without options)",
        .example = "cachectl policy thumbnails --max-entries 1000 --max-bytes 64M",
        .run = run,
};
