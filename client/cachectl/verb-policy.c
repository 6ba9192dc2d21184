/* SPDX-License-Identifier: MIT */

/*
 * policy: show or set a cache's policy
 *
 * What is set here is pinned: it stays when clients open the cache with another policy, until
 * --unpin.
 */

#include "fields.h"
#include "output.h"
#include "units.h"
#include "verb.h"

#define PERMILLE 1000

enum {
        OPT_TTL,
        OPT_MAX_ENTRIES,
        OPT_MAX_BYTES,
        OPT_STALE_FOR,
        OPT_STALE_IF_ERROR,
        OPT_REFRESH_AHEAD,
        OPT_EXPIRE_JITTER,
        OPT_NO_TTL,
        OPT_NO_MAX_ENTRIES,
        OPT_NO_MAX_BYTES,
        OPT_NO_STALE_FOR,
        OPT_NO_STALE_IF_ERROR,
        OPT_NO_REFRESH_AHEAD,
        OPT_NO_EXPIRE_JITTER,
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

static int check_limit(struct ctl *ctl, const char *option, const char *text, uint64_t n)
{
        if (n == 0)
                return ctl_usage(ctl, "--%s '%s': it is at least 1; `clear` empties a cache",
                                 option, text);
        return EXIT_DONE;
}

static int parse_entries(struct ctl *ctl, const char *option, const char *text, uint64_t *ret)
{
        int status = ctl_parse_count(ctl, option, text, UINT64_MAX, ret);

        return status == EXIT_DONE ? check_limit(ctl, option, text, *ret) : status;
}

static int parse_bytes(struct ctl *ctl, const char *option, const char *text, uint64_t *ret)
{
        int status = ctl_parse_size(ctl, option, text, ret);

        return status == EXIT_DONE ? check_limit(ctl, option, text, *ret) : status;
}

static int parse_window(struct ctl *ctl, const char *option, const char *text, uint64_t *ret)
{
        const char *wrong = units_parse_duration_ms(text, ret);

        if (wrong)
                return ctl_usage(ctl, "--%s '%s': %s; " UNITS_DURATION_HINT, option, text, wrong);
        if (*ret < TTL_MIN_MS || *ret > TTL_MAX_MS)
                return ctl_usage(ctl, "--%s '%s': it is 1ms to 3650d; --no-%s turns it off", option,
                                 text, option);
        return EXIT_DONE;
}

/* In thousandths, from 1 to @max. */
static int parse_part(struct ctl *ctl, const char *option, const char *text, uint64_t max,
                      uint64_t *ret)
{
        const char *wrong = units_parse_permille(text, ret);

        if (wrong)
                return ctl_usage(ctl, "--%s '%s': %s; %s", option, text, wrong, UNITS_PART_HINT);
        if (*ret < 1 || *ret > max)
                return ctl_usage(ctl,
                                 "--%s '%s': it is 0.1%% to %s of the ttl; --no-%s turns it off",
                                 option, text, max < PERMILLE ? "99.9%" : "100%", option);
        return EXIT_DONE;
}

static int parse_ahead(struct ctl *ctl, const char *option, const char *text, uint64_t *ret)
{
        return parse_part(ctl, option, text, PERMILLE - 1, ret);
}

static int parse_jitter(struct ctl *ctl, const char *option, const char *text, uint64_t *ret)
{
        return parse_part(ctl, option, text, PERMILLE, ret);
}

static int set_ahead(cached_policy *p, uint64_t permille)
{
        return cached_policy_set_refresh_ahead(p, (uint32_t)permille);
}

static int set_jitter(cached_policy *p, uint64_t permille)
{
        return cached_policy_set_expire_jitter(p, (uint32_t)permille);
}

static int parse_change(struct ctl *ctl, const struct args *a, struct change *change)
{
        static const struct {
                int option, no_option;
                const char *name;
                uint32_t bit;
                int (*parse)(struct ctl *, const char *, const char *, uint64_t *);
                int (*set)(cached_policy *, uint64_t);
        } rows[] = {
                {OPT_TTL, OPT_NO_TTL, "ttl", CACHED_POLICY_TTL, ctl_parse_ttl,
                 cached_policy_set_ttl_ms},
                {OPT_MAX_ENTRIES, OPT_NO_MAX_ENTRIES, "max-entries", CACHED_POLICY_MAX_ENTRIES,
                 parse_entries, cached_policy_set_max_entries},
                {OPT_MAX_BYTES, OPT_NO_MAX_BYTES, "max-bytes", CACHED_POLICY_MAX_BYTES, parse_bytes,
                 cached_policy_set_max_bytes},
                {OPT_STALE_FOR, OPT_NO_STALE_FOR, "stale-for", CACHED_POLICY_STALE_FOR,
                 parse_window, cached_policy_set_stale_for_ms},
                {OPT_STALE_IF_ERROR, OPT_NO_STALE_IF_ERROR, "stale-if-error",
                 CACHED_POLICY_STALE_IF_ERROR, parse_window, cached_policy_set_stale_if_error_ms},
                {OPT_REFRESH_AHEAD, OPT_NO_REFRESH_AHEAD, "refresh-ahead",
                 CACHED_POLICY_REFRESH_AHEAD, parse_ahead, set_ahead},
                {OPT_EXPIRE_JITTER, OPT_NO_EXPIRE_JITTER, "expire-jitter",
                 CACHED_POLICY_EXPIRE_JITTER, parse_jitter, set_jitter},
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
                status = rows[i].parse(ctl, rows[i].name, value, &n);
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
                    "[--max-bytes S | --no-max-bytes] [--stale-for D | --no-stale-for] "
                    "[--stale-if-error D | --no-stale-if-error] "
                    "[--refresh-ahead F | --no-refresh-ahead] "
                    "[--expire-jitter F | --no-expire-jitter] [--unpin]",
        .summary = "Show a cache's policy, or set and pin it",
        .about = "Without options it shows the policy in force. With some it sets these, leaves "
                 "the others as they are, and pins the policy: clients that open the cache with "
                 "another one do not change it. An unknown cache is created. Limits apply at "
                 "once, the rest to what is stored from now on.\n\n"
                 "After its ttl an entry is served on, as stale, with --stale-for to all callers "
                 "but one, who computes it anew, and with --stale-if-error where that failed. "
                 "With --refresh-ahead one caller computes it anew before its ttl is over, so that "
                 "nobody waits. These three take effect where callers ask for leases, as "
                 "cached_memoize() does. F is a percentage such as 80%, or a fraction such as 0.8, "
                 "of the ttl.",
        .words = {"CACHE"},
        .n_required = 1,
        .options =
                {[OPT_TTL] = {"ttl", 0, "D", "entries expire this long after they were stored"},
                 [OPT_MAX_ENTRIES] = {"max-entries", 0, "N", "keep at most so many"},
                 [OPT_MAX_BYTES] = {"max-bytes", 0, "S", "keep at most so much, as it is charged"},
                 [OPT_STALE_FOR] = {"stale-for", 0, "D",
                                    "serve them so long after their ttl, as stale"},
                 [OPT_STALE_IF_ERROR] = {"stale-if-error", 0, "D",
                                         "the same where computing them anew failed"},
                 [OPT_REFRESH_AHEAD] = {"refresh-ahead", 0, "F",
                                        "one caller computes them anew from this part of their "
                                        "ttl on: 0.1% to 99.9%"},
                 [OPT_EXPIRE_JITTER] = {"expire-jitter", 0, "F",
                                        "each ttl is shorter by up to this part of it, by "
                                        "chance: 0.1% to 100%"},
                 [OPT_NO_TTL] = {"no-ttl", 0, NULL, "entries do not expire"},
                 [OPT_NO_MAX_ENTRIES] = {"no-max-entries", 0, NULL, "do not limit the number"},
                 [OPT_NO_MAX_BYTES] = {"no-max-bytes", 0, NULL, "do not limit the bytes"},
                 [OPT_NO_STALE_FOR] = {"no-stale-for", 0, NULL, "what is stale is gone"},
                 [OPT_NO_STALE_IF_ERROR] = {"no-stale-if-error", 0, NULL,
                                            "also where computing it anew failed"},
                 [OPT_NO_REFRESH_AHEAD] = {"no-refresh-ahead", 0, NULL,
                                           "compute nothing anew before its ttl is over"},
                 [OPT_NO_EXPIRE_JITTER] = {"no-expire-jitter", 0, NULL, "keep to the ttl as it is"},
                 [OPT_UNPIN] = {"unpin", 0, NULL, "go back to what clients open the cache with"}},
        .json = "name, policy: an object of ttl_ms, max_entries, max_bytes (null: no limit), "
                "stale_for_ms, stale_if_error_ms, refresh_ahead_permille, expire_jitter_permille "
                "(0: off); pinned, opens, policy_changes.",
        .not_found = "no such cache (only without options)",
        .example = "cachectl policy thumbnails --max-entries 1000 --max-bytes 64M\n"
                   "  cachectl policy prices --ttl 10m --refresh-ahead 80% --stale-if-error 1h",
        .run = run,
};
