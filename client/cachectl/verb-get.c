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
#include "run-spinner.h"
#include "units.h"
#include "utf8.h"
#include "value.h"
#include "verb.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_OUTPUT, OPT_PEEK, OPT_WAIT };

#define WAIT_MAX_MS   (24 * 3600 * UINT64_C(1000))
#define SHOW_EVERY_MS 100
#define MISSING_SIZE  1300 /* holds a reason, which has 1024 bytes at most, and who gives it */

/* An entry, and its value: borrowed from view or reply, unless it was unpacked. */
struct found {
        cached_reply *reply;
        cached_view *view; /* NULL: the reply has the value */
        struct value value, unpacked;
        int fd; /* a memory file that has the same bytes, or -1 */
};

static void found_done(struct found *f)
{
        value_done(&f->unpacked);
        cached_view_release(f->view);
        cached_reply_free(f->reply);
        *f = (struct found){.fd = -1};
}

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

/* @value: NULL: there is none; then @reply, which may be NULL, says whether that is stored. */
static int print_json(struct ctl *ctl, const struct args *a, const struct key *key,
                      const cached_reply *reply, const struct value *value)
{
        bool negative = !value && reply && cached_reply_code(reply) == CACHED_NEGATIVE;
        json_t *o = json_object(), *text;
        const char *member;
        int failed;

        failed = json_object_set_new(o, "cache", json_string(a->words[0])) < 0;
        failed |= output_json_key(o, key->bytes, key->n) < 0;
        failed |= json_object_set_new(o, "found", json_boolean(value != NULL)) < 0;
        if (value || negative)
                failed |= fields_to_json(reply, "", fields_entry, o) < 0;
        if (!value) {
                failed |= json_object_set_new(o, "negative", json_boolean(negative)) < 0;
                text = negative ? json_string(ctl_negative_reason(reply)) : json_null();
                failed |= json_object_set_new(o, "reason", text) < 0;
        }
        if (value && !a->options[OPT_OUTPUT]) {
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

/* Whose computation is waited for, on a terminal. */
struct waiting {
        struct spinner spinner;
        char what[256];
};

static int show_waiting(void *data, const cached_lease *holder)
{
        struct waiting *w = data;
        char age[UNITS_BUFFER_SIZE], part[UNITS_BUFFER_SIZE];
        uint32_t permille = cached_lease_permille(holder);
        const char *text = cached_lease_text(holder);

        (void)snprintf(w->what, sizeof(w->what), "waiting for %s (pid %" PRIu32 ", %s)%s%s%s%s",
                       cached_lease_holder_name(holder), cached_lease_holder_pid(holder),
                       units_format_ms(age, cached_lease_age_ms(holder) / 1000 * 1000),
                       permille || *text ? ": " : "",
                       permille ? units_format_permille(part, permille) : "",
                       permille && *text ? ", " : "", text);
        utf8_cut(w->what);
        spinner_tick(&w->spinner);
        return 0;
}

/* Why there still is no value. */
static void explain_wait(const cached_lease *l, char ret[MISSING_SIZE])
{
        char took[UNITS_BUFFER_SIZE], who[128];

        (void)snprintf(who, sizeof(who), "%s (pid %" PRIu32 ")", cached_lease_holder_name(l),
                       cached_lease_holder_pid(l));
        switch (cached_lease_state(l)) {
        case CACHED_LEASE_TIMEOUT:
                (void)snprintf(ret, MISSING_SIZE, "no such entry after %s: %s still computes it",
                               units_format_ms(took, cached_lease_waited_ms(l)), who);
                break;
        case CACHED_LEASE_FAILED:
                (void)snprintf(ret, MISSING_SIZE, "no such entry: %s could not compute it: %s", who,
                               cached_lease_reason(l));
                break;
        case CACHED_LEASE_UNSTORABLE:
                (void)snprintf(ret, MISSING_SIZE,
                               "no such entry: the daemon did not take what %s computed: %s", who,
                               cached_lease_reason(l));
                break;
        default:
                (void)snprintf(ret, MISSING_SIZE, "no such entry, and nobody computes it");
        }
}

/* Whoever asks like this may be granted the lease itself. It gives that up at once. */
static int wait_for(struct ctl *ctl, const struct args *a, const struct key *key, uint64_t ms,
                    struct found *ret, char missing[MISSING_SIZE])
{
        cached_lease_options *o = cached_lease_options_new();
        struct waiting w = {.what = ""};
        cached_lease *lease = NULL;
        int r = o ? CACHED_OK : CACHED_ERR_NOMEM;

        spinner_init(&w.spinner, true, w.what);
        if (r == CACHED_OK)
                r = cached_lease_options_set_wait_ms(o, ms);
        if (r == CACHED_OK)
                r = cached_lease_options_set_want_failure(o, 1);
        if (r == CACHED_OK && w.spinner.on)
                r = cached_lease_options_set_waiting(o, show_waiting, &w, SHOW_EVERY_MS);
        if (r == CACHED_OK) {
                found_done(ret);
                r = cached_get_or_lease(ctl->client, a->words[0], key->bytes, key->n, o,
                                        &ret->reply, &lease);
                ret->value.bytes = (char *)cached_reply_value(ret->reply, &ret->value.n);
        }
        spinner_end(&w.spinner);
        if (r == CACHED_NOT_FOUND)
                explain_wait(lease, missing);
        cached_lease_free(lease);
        cached_lease_options_free(o);
        return r;
}

/* As it was stored. */
static int look(struct ctl *ctl, const struct args *a, const struct key *key, uint64_t wait_ms,
                struct found *ret)
{
        char missing[MISSING_SIZE] = "no such entry";
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
        if (r == CACHED_NOT_FOUND && wait_ms > 0)
                r = wait_for(ctl, a, key, wait_ms, ret, missing);
        return ctl_result(ctl, r, ret->reply, missing);
}

static int parse_wait(struct ctl *ctl, const struct args *a, uint64_t *ret_ms)
{
        const char *text = a->options[OPT_WAIT], *wrong;

        if (!text)
                return EXIT_DONE;
        if (a->options[OPT_PEEK])
                return ctl_usage(ctl, "--wait and --peek exclude each other");
        wrong = units_parse_duration_ms(text, ret_ms);
        if (wrong)
                return ctl_usage(ctl, "--wait '%s': %s; " UNITS_DURATION_HINT, text, wrong);
        if (*ret_ms == 0 || *ret_ms > WAIT_MAX_MS)
                return ctl_usage(ctl, "--wait '%s': it is 1ms to 24h", text);
        return EXIT_DONE;
}

static int run(struct ctl *ctl, const struct args *a)
{
        struct found found = {.fd = -1};
        const char *path = a->options[OPT_OUTPUT];
        uint64_t wait_ms = 0;
        struct key key;
        int status;

        status = ctl_parse_entry(ctl, a, &key);
        if (status == EXIT_DONE && path && !*path)
                status = ctl_usage(ctl, "--output '': it is empty");
        if (status == EXIT_DONE)
                status = parse_wait(ctl, a, &wait_ms);
        ctl->as_stored = true;
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status != EXIT_DONE)
                return status;
        status = look(ctl, a, &key, wait_ms, &found);
        if (status == EXIT_DONE)
                status = unpack(ctl, &found);
        if (status == EXIT_DONE)
                status = deliver(ctl, a, &key, &found);
        else if (status == EXIT_NOT_FOUND && ctl->json)
                (void)print_json(ctl, a, &key, found.reply, NULL);
        found_done(&found);
        return status;
}

const struct verb verb_get = {
        .name = "get",
        .synopsis = "CACHE KEY [-o FILE | --output FILE] [--peek | --wait D]",
        .summary = "Print the value of an entry",
        .about = "The value goes to stdout byte for byte, with nothing added. What a client "
                 "stored packed is unpacked.\n\n"
                 "With --wait, where there is none and somebody computes it right now, it waits "
                 "for that, and shows on a terminal for whom. It never computes: where nobody "
                 "does, there is no such entry, at once. An entry that is stale is printed as it "
                 "is, without waiting.",
        .words = {"CACHE", "KEY"},
        .n_required = 2,
        .options = {[OPT_OUTPUT] = {"output", 'o', "FILE",
                                    "write it there, all or nothing; `-` is stdout"},
                    [OPT_PEEK] = {"peek", 0, NULL, "look without counting as a use or a hit"},
                    [OPT_WAIT] = {"wait", 0, "D",
                                  "wait so long for who computes it now: 1ms to 24h"}},
        .json = "cache, key or key_hex, found; when not found: negative (that there is none is "
                "stored), reason (null, or why); when found or negative: version, size, flags, "
                "encoding, raw_size, cost_us, ttl_ms (null: never expires), fresh_ms (null: it is "
                "never served as stale), stale, negative, vary, messages_size, uid; and when "
                "found (and without -o FILE) "
                "value, or value_base64 where the value is not UTF-8.",
        .not_found = "no such entry: never stored, expired, evicted, deleted or damaged; or a "
                     "negative one, with its reason on stderr",
        .example = "cachectl get thumbnails hex:9f86d081 -o thumbnail.png",
        .caches = true,
        .run = run,
};
