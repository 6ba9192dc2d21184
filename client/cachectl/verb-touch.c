/* SPDX-License-Identifier: MIT */

/* touch: a new time to live, and a use */

#include "fields.h"
#include "output.h"
#include "verb.h"

enum { OPT_TTL, OPT_NEVER };

static int print_json(struct ctl *ctl, const char *cache, const struct key *key,
                      const cached_reply *reply)
{
        json_t *o = json_object();

        if (json_object_set_new(o, "cache", json_string(cache)) < 0 ||
            output_json_key(o, key->bytes, key->n) < 0 ||
            fields_to_json(reply, "", fields_entry, o) < 0) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
}

static int run(struct ctl *ctl, const struct args *a)
{
        bool keep = !a->options[OPT_TTL] && !a->options[OPT_NEVER];
        uint64_t ttl_ms = CACHED_NEVER;
        cached_reply *reply = NULL;
        struct key key;
        int status, r;

        status = ctl_parse_entry(ctl, a, &key);
        if (status == EXIT_DONE && a->options[OPT_TTL] && a->options[OPT_NEVER])
                status = ctl_usage(ctl, "--ttl and --never exclude each other");
        if (status == EXIT_DONE && a->options[OPT_TTL])
                status = ctl_parse_ttl(ctl, "ttl", a->options[OPT_TTL], &ttl_ms);
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        r = cached_touch(ctl->client, a->words[0], key.bytes, key.n, ttl_ms, keep, &reply);
        status = ctl_result(ctl, r, reply, "no such entry");
        if (status == EXIT_DONE && ctl->json)
                status = print_json(ctl, a->words[0], &key, reply);
        cached_reply_free(reply);
        return status;
}

const struct verb verb_touch = {
        .name = "touch",
        .synopsis = "CACHE KEY [--ttl D | --never]",
        .summary = "Count a use of an entry, and give it a new time to live",
        .about = "Without --ttl and --never it keeps the time that it has.",
        .words = {"CACHE", "KEY"},
        .n_required = 2,
        .options = {[OPT_TTL] = {"ttl", 0, "D", "expire this long from now: 1ms to 3650d"},
                    [OPT_NEVER] = {"never", 0, NULL, "never expire"}},
        .json = "cache, key or key_hex, version, size, flags, encoding, raw_size, cost_us, "
                "ttl_ms (null: never expires), uid.",
        .not_found = "no such entry",
        .example = "cachectl touch sessions alice --ttl 30m",
        .caches = true,
        .run = run,
};
