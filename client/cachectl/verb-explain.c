/* SPDX-License-Identifier: MIT */

/* explain: why a key is a hit or a miss */

#include "fields.h"
#include "output.h"
#include "units.h"
#include "verb.h"

#define FATE_LIVE 1

static const struct field fields_live[] = {{"charge", FIELD_BYTES, "memory charged"}, {NULL}};

static const struct field fields_all[] = {
        {"fate", FIELD_CHOICE, NULL, NULL, fields_fates},
        {"charge", FIELD_BYTES, NULL},
        {"age_ms", FIELD_MS, NULL},
        {"text", FIELD_TEXT, NULL},
        {NULL},
};

static int print_json(struct ctl *ctl, const char *cache, const struct key *key,
                      const cached_reply *reply)
{
        bool live = fields_u64(reply, "", "fate") == FATE_LIVE;
        json_t *o = json_object(), *entry = live ? json_object() : json_null();
        int failed;

        failed = json_object_set_new(o, "cache", json_string(cache)) < 0;
        failed |= output_json_key(o, key->bytes, key->n) < 0;
        failed |= fields_to_json(reply, "", fields_all, o) < 0;
        failed |= live && fields_to_json(reply, "entry.", fields_entry, entry) < 0;
        failed |= json_object_set_new(o, "entry", entry) < 0;
        if (failed) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
}

static int print_text(struct ctl *ctl, const cached_reply *reply)
{
        static const struct output_column columns[] = {{""}, {""}, {NULL}};
        struct libscols_table *t;

        output_text(stdout, fields_text(reply, "", "text"));
        putchar('\n');
        if (fields_u64(reply, "", "fate") != FATE_LIVE)
                return EXIT_DONE;
        t = output_table_new(columns);
        if (t && (fields_to_table(reply, "entry.", fields_entry, t) < 0 ||
                  fields_to_table(reply, "", fields_live, t) < 0)) {
                output_table_free(t);
                t = NULL;
        }
        return output_table(ctl, t);
}

static int run(struct ctl *ctl, const struct args *a)
{
        cached_reply *reply = NULL;
        struct key key;
        int status, r;

        status = ctl_parse_entry(ctl, a, &key);
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        r = cached_explain(ctl->client, a->words[0], key.bytes, key.n, &reply);
        status = ctl_result(ctl, r, reply, "no such cache");
        if (status == EXIT_DONE)
                status = ctl->json ? print_json(ctl, a->words[0], &key, reply)
                                   : print_text(ctl, reply);
        cached_reply_free(reply);
        return status;
}

const struct verb verb_explain = {
        .name = "explain",
        .synopsis = "CACHE KEY",
        .summary = "Say why a key is a hit or a miss",
        .about = "It does not count as a use. The daemon remembers departed keys for a while, not "
                 "for ever.",
        .words = {"CACHE", "KEY"},
        .n_required = 2,
        .json = "cache, key or key_hex, fate, charge, age_ms (since it departed), text, and "
                "entry: null, or for a live one an object of version, size, flags, encoding, "
                "raw_size, cost_us, ttl_ms (null: never expires), uid. fate is never_stored, "
                "live, expired, evicted_max_entries, evicted_max_bytes, evicted_uid_share, "
                "evicted_realm_budget, evicted_global_budget, evicted_index, "
                "evicted_realm_entries, evicted_large_values, cleared, deleted or "
                "no_cache.",
        .example = "cachectl explain thumbnails hex:9f86d081",
        .run = run,
};
