/* SPDX-License-Identifier: MIT */

/*
 * get: print a value
 *
 * The bytes go out as they were stored, after unpacking what a client packed. A value that does not
 * unpack counts as a miss: whoever stored it, nobody can use it.
 */

#include "base64.h"
#include "fields.h"
#include "output.h"
#include "value.h"
#include "verb.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_OUTPUT, OPT_PEEK };

static json_t *value_json(const void *bytes, size_t n, const char **ret_member)
{
        json_t *text = json_stringn(n ? bytes : "", n); /* NULL unless it is UTF-8 */
        char *encoded;

        *ret_member = "value";
        if (text)
                return text;
        *ret_member = "value_base64";
        encoded = base64_encode(bytes, n);
        if (!encoded)
                return NULL;
        text = json_string(encoded);
        free(encoded);
        return text;
}

static int print_json(struct ctl *ctl, const struct args *a, const struct key *key,
                      const cached_reply *reply, const struct value *value)
{
        json_t *o = json_object(), *text;
        const char *member;
        int failed;

        failed = json_object_set_new(o, "cache", json_string(a->words[0])) < 0;
        failed |= output_json_key(o, key->bytes, key->n) < 0;
        failed |= json_object_set_new(o, "found", json_boolean(reply != NULL)) < 0;
        if (reply)
                failed |= fields_to_json(reply, "", fields_entry, o) < 0;
        if (reply && !a->options[OPT_OUTPUT]) {
                text = value_json(value->bytes, value->n, &member);
                failed |= json_object_set_new(o, member, text) < 0;
        }
        if (failed) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
}

static int write_file(struct ctl *ctl, const char *path, const struct value *value)
{
        int r = value_write_file(path, value->bytes, value->n);

        if (r == 0)
                return EXIT_DONE;
        if (r == -EPIPE)
                return EXIT_DONE; /* a named pipe whose reader went away */
        ctl_note(ctl, "cannot write %s: %s", path, strerror(-r));
        return EXIT_USAGE;
}

static int deliver(struct ctl *ctl, const struct args *a, const struct key *key,
                   const cached_reply *reply, const struct value *value)
{
        const char *path = a->options[OPT_OUTPUT];
        int status = EXIT_DONE, r;

        if (path && strcmp(path, "-") != 0)
                status = write_file(ctl, path, value);
        if (status == EXIT_DONE && ctl->json)
                return print_json(ctl, a, key, reply, value);
        if (path && strcmp(path, "-") != 0)
                return status;
        r = value_write(STDOUT_FILENO, value->bytes, value->n);
        return r < 0 ? output_failed(ctl, -r) : EXIT_DONE;
}

/* Borrows from @reply, or allocates into @unpacked. */
static int unpack(struct ctl *ctl, const cached_reply *reply, struct value *unpacked,
                  struct value *ret)
{
        size_t n = 0;
        const void *bytes = cached_reply_value(reply, &n);
        int r;

        switch (cached_reply_encoding(reply)) {
        case CACHED_ENCODING_RAW:
                *ret = (struct value){(char *)bytes, n};
                return EXIT_DONE;
        case CACHED_ENCODING_LZ4:
                r = value_unpack_lz4(bytes, n, cached_reply_raw_size(reply), unpacked);
                if (r == -ENOMEM)
                        return ctl_no_memory(ctl);
                if (r == 0) {
                        *ret = *unpacked;
                        return EXIT_DONE;
                }
                ctl_note(ctl, "not found: what is stored under this key is damaged: its LZ4 block "
                              "does not unpack to the size that its writer gave");
                return EXIT_NOT_FOUND;
        default:
                ctl_note(ctl, "not found: what is stored under this key has an encoding that this "
                              "cachectl does not know");
                return EXIT_NOT_FOUND;
        }
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct value unpacked = {NULL, 0}, value = {NULL, 0};
        const char *path = a->options[OPT_OUTPUT];
        cached_reply *reply = NULL;
        struct key key;
        int status, r;

        status = ctl_parse_entry(ctl, a, &key);
        if (status == EXIT_DONE && path && !*path)
                status = ctl_usage(ctl, "--output '': it is empty");
        ctl->as_stored = true;
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        r = (a->options[OPT_PEEK] ? cached_peek : cached_get)(ctl->client, a->words[0], key.bytes,
                                                              key.n, &reply);
        status = ctl_result(ctl, r, reply, "no such entry");
        if (status == EXIT_DONE)
                status = unpack(ctl, reply, &unpacked, &value);
        if (status == EXIT_DONE)
                status = deliver(ctl, a, &key, reply, &value);
        else if (status == EXIT_NOT_FOUND && ctl->json)
                (void)print_json(ctl, a, &key, NULL, NULL);
        value_done(&unpacked);
        cached_reply_free(reply);
        return status;
}

const struct verb verb_get = {
        .name = "get",
        .synopsis = "CACHE KEY [-o FILE | --output FILE] [--peek]",
        .summary = "Print the value of an entry",
        .about = "The value goes to stdout byte for byte, with nothing added. What a client "
                 "stored packed is unpacked.",
        .words = {"CACHE", "KEY"},
        .n_required = 2,
        .options = {[OPT_OUTPUT] = {"output", 'o', "FILE",
                                    "write it there, all or nothing; `-` is stdout"},
                    [OPT_PEEK] = {"peek", 0, NULL, "look without counting as a use or a hit"}},
        .json = "cache, key or key_hex, found; and when found: version, size, flags, encoding, "
                "raw_size, cost_us, ttl_ms (null: never expires), uid, and (without -o FILE) "
                "value, or value_base64 where the value is not UTF-8.",
        .not_found = "no such entry: never stored, expired, evicted, deleted or damaged",
        .example = "cachectl get thumbnails hex:9f86d081 -o thumbnail.png",
        .run = run,
};
