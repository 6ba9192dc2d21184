/* SPDX-License-Identifier: MIT */

/* del: remove an entry */

#include "output.h"
#include "verb.h"

static int print_json(struct ctl *ctl, const char *cache, const struct key *key, bool deleted)
{
        json_t *o = json_object();

        if (json_object_set_new(o, "cache", json_string(cache)) < 0 ||
            output_json_key(o, key->bytes, key->n) < 0 ||
            json_object_set_new(o, "deleted", json_boolean(deleted)) < 0) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
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
        r = cached_delete(ctl->client, a->words[0], key.bytes, key.n, &reply);
        status = ctl_result(ctl, r, reply, "no such entry");
        if (ctl->json && status == EXIT_DONE)
                status = print_json(ctl, a->words[0], &key, true);
        else if (ctl->json && status == EXIT_NOT_FOUND)
                (void)print_json(ctl, a->words[0], &key, false);
        cached_reply_free(reply);
        return status;
}

const struct verb verb_del = {
        .name = "del",
        .synopsis = "CACHE KEY",
        .summary = "Delete an entry",
        .words = {"CACHE", "KEY"},
        .n_required = 2,
        .json = "cache, key or key_hex, deleted.",
        .not_found = "no such entry",
        .example = "cachectl del thumbnails hex:9f86d081",
        .removes = true,
        .caches = true,
        .run = run,
};
