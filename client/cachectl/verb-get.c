/* SPDX-License-Identifier: MIT */

/*
 * get: print a value
 *
 * The bytes go out as they were stored, after unpacking what a client packed. A value that does not
 * unpack counts as a miss: whoever stored it, nobody can use it. One that lies in a memory file
 * goes from there to where it belongs without passing through this process.
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

/* An entry, and its value: borrowed from view or reply, unless it was unpacked. */
struct found {
        cached_reply *reply;
        cached_view *view; /* NULL: the reply has the value */
        struct value value, unpacked;
        int fd; /* a memory file that has the same bytes, or -1 */
};

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

static int write_file(struct ctl *ctl, const char *path, const struct found *found)
{
        int r = value_write_file(path, found->value.bytes, found->value.n, found->fd);

        if (r == 0)
                return EXIT_DONE;
        if (r == -EPIPE)
                return EXIT_DONE; /* a named pipe whose reader went away */
        ctl_note(ctl, "cannot write %s: %s", path, strerror(-r));
        return EXIT_USAGE;
}

static int deliver(struct ctl *ctl, const struct args *a, const struct key *key,
                   const struct found *found)
{
        const char *path = a->options[OPT_OUTPUT];
        int status = EXIT_DONE, r;

        if (path && strcmp(path, "-") != 0)
                status = write_file(ctl, path, found);
        if (status == EXIT_DONE && ctl->json)
                return print_json(ctl, a, key, found->reply, &found->value);
        if (path && strcmp(path, "-") != 0)
                return status;
        r = value_write(STDOUT_FILENO, found->value.bytes, found->value.n, found->fd);
        return r < 0 ? output_failed(ctl, -r) : EXIT_DONE;
}

/* Makes it plain, in place of what was stored. */
static int unpack(struct ctl *ctl, struct found *found)
{
        int r;

        switch (cached_reply_encoding(found->reply)) {
        case CACHED_ENCODING_RAW:
                return EXIT_DONE;
        case CACHED_ENCODING_LZ4:
                r = value_unpack_lz4(found->value.bytes, found->value.n,
                                     cached_reply_raw_size(found->reply), &found->unpacked);
                if (r == -ENOMEM)
                        return ctl_no_memory(ctl);
                if (r == 0) {
                        found->value = found->unpacked;
                        found->fd = -1;
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

/* As it was stored. */
static int look(struct ctl *ctl, const struct args *a, const struct key *key, struct found *ret)
{
        int r;

        if (a->options[OPT_PEEK]) {
                r = cached_peek(ctl->client, a->words[0], key->bytes, key->n, &ret->reply);
                ret->value.bytes = (char *)cached_reply_value(ret->reply, &ret->value.n);
        } else {
                r = cached_get_view(ctl->client, a->words[0], key->bytes, key->n, CACHED_VIEW_READ,
                                    &ret->view, &ret->reply);
                ret->value = (struct value){cached_view_data(ret->view),
                                            (size_t)cached_view_size(ret->view)};
                ret->fd = cached_view_fd(ret->view);
        }
        return ctl_result(ctl, r, ret->reply, "no such entry");
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct found found = {.fd = -1};
        const char *path = a->options[OPT_OUTPUT];
        struct key key;
        int status;

        status = ctl_parse_entry(ctl, a, &key);
        if (status == EXIT_DONE && path && !*path)
                status = ctl_usage(ctl, "--output '': it is empty");
        ctl->as_stored = true;
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        status = look(ctl, a, &key, &found);
        if (status == EXIT_DONE)
                status = unpack(ctl, &found);
        if (status == EXIT_DONE)
                status = deliver(ctl, a, &key, &found);
        else if (status == EXIT_NOT_FOUND && ctl->json)
                (void)print_json(ctl, a, &key, NULL, NULL);
        value_done(&found.unpacked);
        cached_view_release(found.view);
        cached_reply_free(found.reply);
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
