/* SPDX-License-Identifier: MIT */

/*
 * set: store a value
 *
 * It connects before it reads: where no daemon answers, or the value is longer than the daemon
 * takes, the input need not be read to its end.
 *
 * A daemon that was killed may have stored the value or not, and nobody knows. Without a condition
 * it is stored again: what is there then is the same. With one, the second time could fail because
 * of the first, so that is left to who asked.
 */

#include "fields.h"
#include "output.h"
#include "units.h"
#include "utf8.h"
#include "value.h"
#include "verb.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TAGS_MAX   8
#define REASON_MAX 1024
/* How often it is stored, where each time the daemon dies of something else. */
#define TRIES_MAX 5

enum {
        OPT_TTL,
        OPT_NEVER,
        OPT_ADD,
        OPT_REPLACE,
        OPT_VERSION,
        OPT_FLAGS,
        OPT_COST,
        OPT_TAG,
        OPT_NEGATIVE
};

/* Together with --json this says what came out; without it success is silent. */
static const struct field fields[] = {
        {"version", FIELD_COUNT, NULL},
        {"size", FIELD_BYTES, NULL},
        {"ttl_ms", FIELD_OPTIONAL_MS, NULL},
        {NULL},
};

static int check_options(struct ctl *ctl, const struct args *a)
{
        if (a->options[OPT_TTL] && a->options[OPT_NEVER])
                return ctl_usage(ctl, "--ttl and --never exclude each other");
        if (a->options[OPT_ADD] && a->options[OPT_REPLACE])
                return ctl_usage(ctl, "--add and --replace exclude each other");
        if (a->options[OPT_ADD] && a->options[OPT_VERSION])
                return ctl_usage(ctl, "--add and --version exclude each other");
        if (a->options[OPT_NEGATIVE] && a->n_words > 2)
                return ctl_usage(ctl, "--negative and FILE exclude each other");
        return EXIT_DONE;
}

static int add_tags(struct ctl *ctl, const struct args_list *tags, cached_set_options *o)
{
        int r = CACHED_OK;

        if (tags->n > TAGS_MAX)
                return ctl_usage(ctl, "--tag is given %zu times: an entry has at most %d tags",
                                 tags->n, TAGS_MAX);
        for (size_t i = 0; i < tags->n && r == CACHED_OK; i++) {
                int status = ctl_check_tag(ctl, tags->values[i]);

                if (status != EXIT_DONE)
                        return status;
                r = cached_set_options_add_tag(o, tags->values[i]);
        }
        return ctl_result(ctl, r, NULL, "");
}

static int check_reason(struct ctl *ctl, const char *reason)
{
        size_t n = strlen(reason);

        if (n > REASON_MAX)
                return ctl_usage(ctl, "--negative: the reason is longer than %d bytes", REASON_MAX);
        if (!utf8_is_name(reason, n))
                return ctl_usage(ctl, "--negative: the reason is not UTF-8 text, or has control "
                                      "characters in it");
        return EXIT_DONE;
}

static int parse_cost(struct ctl *ctl, const char *text, uint64_t *ret_us)
{
        const char *wrong = units_parse_duration_us(text, ret_us);

        return wrong ? ctl_usage(ctl, "--cost '%s': %s; " UNITS_DURATION_HINT, text, wrong)
                     : EXIT_DONE;
}

/* A number, or hexadecimal digits: flags are bits. */
static int parse_flags(struct ctl *ctl, const char *text, uint32_t *ret)
{
        uint64_t n = 0;
        char *end;
        int status;

        if (strncmp(text, "0x", 2) == 0 && isxdigit((unsigned char)text[2])) {
                errno = 0;
                n = strtoull(text, &end, 16);
                if (*end)
                        return ctl_usage(ctl, "--flags '%s': '%c' is no hexadecimal digit", text,
                                         *end);
                if (errno || n > UINT32_MAX)
                        return ctl_usage(ctl, "--flags '%s': it is larger than 0xffffffff", text);
        } else {
                status = ctl_parse_count(ctl, "flags", text, UINT32_MAX, &n);
                if (status != EXIT_DONE)
                        return status;
        }
        *ret = (uint32_t)n;
        return EXIT_DONE;
}

static int parse_options(struct ctl *ctl, const struct args *a, cached_set_options *o)
{
        uint64_t n;
        uint32_t flags = 0;
        int status = check_options(ctl, a), r = CACHED_OK;

        if (status == EXIT_DONE && a->options[OPT_TTL]) {
                status = ctl_parse_ttl(ctl, "ttl", a->options[OPT_TTL], &n);
                if (status == EXIT_DONE)
                        r = cached_set_options_set_ttl_ms(o, n);
        }
        if (status == EXIT_DONE && r == CACHED_OK && a->options[OPT_NEVER])
                r = cached_set_options_set_ttl_ms(o, CACHED_NEVER);
        if (status == EXIT_DONE && r == CACHED_OK && a->options[OPT_VERSION]) {
                status = ctl_parse_count(ctl, "version", a->options[OPT_VERSION], UINT64_MAX, &n);
                if (status == EXIT_DONE && n == 0)
                        return ctl_usage(ctl, "--version '0': versions begin with 1; --add stores "
                                              "only where nothing is");
                if (status == EXIT_DONE)
                        r = cached_set_options_set_expected_version(o, n);
        }
        if (status == EXIT_DONE && r == CACHED_OK && a->options[OPT_FLAGS]) {
                status = parse_flags(ctl, a->options[OPT_FLAGS], &flags);
                if (status == EXIT_DONE)
                        r = cached_set_options_set_flags(o, flags);
        }
        if (status == EXIT_DONE && r == CACHED_OK && a->options[OPT_COST]) {
                status = parse_cost(ctl, a->options[OPT_COST], &n);
                if (status == EXIT_DONE)
                        r = cached_set_options_set_cost_us(o, n);
        }
        if (status == EXIT_DONE && a->options[OPT_NEGATIVE])
                status = check_reason(ctl, a->options[OPT_NEGATIVE]);
        if (status == EXIT_DONE && r == CACHED_OK &&
            (a->options[OPT_ADD] || a->options[OPT_REPLACE]))
                r = cached_set_options_set_mode(o, a->options[OPT_ADD] ? CACHED_SET_ADD_ONLY
                                                                       : CACHED_SET_REPLACE_ONLY);
        if (status == EXIT_DONE && r == CACHED_OK)
                return add_tags(ctl, &a->lists[OPT_TAG], o);
        return status != EXIT_DONE ? status : ctl_result(ctl, r, NULL, "");
}

/* Where the value comes from: a part of a regular file, whose bytes the library takes from there,
 * or what was read. */
struct input {
        int fd;
        const char *name; /* for messages */
        bool is_file;
        uint64_t offset, size; /* of a regular file: what is left of it */
        struct value value;
};

static int input_open(struct ctl *ctl, const char *path, struct input *ret)
{
        struct stat st;
        off_t at;

        *ret = (struct input){.fd = STDIN_FILENO, .name = "stdin"};
        if (path && strcmp(path, "-") != 0) {
                ret->name = path;
                ret->fd = open(path, O_RDONLY | O_CLOEXEC);
                if (ret->fd < 0) {
                        ctl_note(ctl, "cannot read %s: %s", path, strerror(errno));
                        return EXIT_USAGE;
                }
        }
        at = lseek(ret->fd, 0, SEEK_CUR);
        /* Files that the kernel makes up have no size. */
        if (fstat(ret->fd, &st) == 0 && S_ISREG(st.st_mode) && at >= 0 && at < st.st_size) {
                ret->is_file = true;
                ret->offset = (uint64_t)at;
                ret->size = (uint64_t)(st.st_size - at);
        }
        return EXIT_DONE;
}

static void input_done(struct input *in)
{
        if (in->fd != STDIN_FILENO)
                close(in->fd);
        value_done(&in->value);
}

/* What cannot be taken from the file is read here. */
static int input_read(struct ctl *ctl, struct input *in)
{
        uint64_t max = fields_u64(ctl->hello, "", "max_value_bytes");
        char size[UNITS_BUFFER_SIZE];
        int r = VALUE_OK;

        if (in->fd == STDIN_FILENO && isatty(in->fd))
                ctl_note(ctl, "reading from the terminal, end with Ctrl-D");
        if (max && in->size > max)
                r = VALUE_E_TOO_LARGE;
        else if (!in->is_file)
                r = value_read(in->fd, max ? max : UINT64_MAX, &in->value);
        if (r == 0)
                return EXIT_DONE;
        if (r == VALUE_E_TOO_LARGE) {
                ctl_note(ctl,
                         "the daemon refused: the value is larger than it takes (%s); store a "
                         "smaller one or raise limits.value_bytes",
                         units_format_bytes(size, max));
                return EXIT_REFUSED;
        }
        if (r == -ENOMEM)
                return ctl_no_memory(ctl);
        ctl_note(ctl, "cannot read %s: %s", in->name, strerror(-r));
        return EXIT_USAGE;
}

static int print_json(struct ctl *ctl, const char *cache, const struct key *key,
                      const cached_reply *reply)
{
        json_t *o = json_object();

        if (json_object_set_new(o, "cache", json_string(cache)) < 0 ||
            output_json_key(o, key->bytes, key->n) < 0 ||
            fields_to_json(reply, "", fields, o) < 0) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
}

/* @r: what came of it. Frees the reply. */
static int finish(struct ctl *ctl, const struct args *a, const struct key *key, int r,
                  cached_reply *reply)
{
        int status;

        if (r == CACHED_EXISTS) {
                ctl_note(ctl, "not stored: the key is already stored; leave --add out to replace "
                              "its value");
                status = EXIT_NOT_FOUND;
        } else
                status = ctl_result(ctl, r, reply, "no such entry; nothing was stored");
        if (status == EXIT_DONE && ctl->json)
                status = print_json(ctl, a->words[0], key, reply);
        cached_reply_free(reply);
        return status;
}

static bool may_repeat(const struct args *a)
{
        return !a->options[OPT_ADD] && !a->options[OPT_REPLACE] && !a->options[OPT_VERSION];
}

/* The input, or that there is no value where it is NULL. */
static int store_once(struct ctl *ctl, const struct args *a, const struct key *key,
                      const struct input *in, const cached_set_options *o, cached_reply **ret)
{
        if (!in)
                return cached_set_negative(ctl->client, a->words[0], key->bytes, key->n,
                                           a->options[OPT_NEGATIVE], o, ret);
        if (in->is_file)
                return cached_set_fd(ctl->client, a->words[0], key->bytes, key->n, in->fd,
                                     in->offset, in->size, o, ret);
        return cached_set(ctl->client, a->words[0], key->bytes, key->n, in->value.bytes,
                          in->value.n, o, ret);
}

static int store_and_finish(struct ctl *ctl, const struct args *a, const struct key *key,
                            const struct input *in, const cached_set_options *o)
{
        cached_reply *reply = NULL;
        int r = store_once(ctl, a, key, in, o, &reply);

        for (int n = 1; r == CACHED_OUTCOME_UNKNOWN && may_repeat(a) && n < TRIES_MAX; n++) {
                cached_reply_free(reply);
                reply = NULL;
                r = store_once(ctl, a, key, in, o, &reply);
        }
        return finish(ctl, a, key, r, reply);
}

static int store(struct ctl *ctl, const struct args *a, const struct key *key,
                 const cached_set_options *o)
{
        struct input in;
        int status;

        status = input_open(ctl, a->n_words > 2 ? a->words[2] : NULL, &in);
        if (status != EXIT_DONE)
                return status;
        status = input_read(ctl, &in);
        if (status == EXIT_DONE)
                status = store_and_finish(ctl, a, key, &in, o);
        input_done(&in);
        return status;
}

static int run(struct ctl *ctl, const struct args *a)
{
        cached_set_options *o;
        struct key key;
        int status;

        status = ctl_parse_entry(ctl, a, &key);
        if (status != EXIT_DONE)
                return status;
        o = cached_set_options_new();
        if (!o)
                return ctl_no_memory(ctl);
        status = parse_options(ctl, a, o);
        if (status == EXIT_DONE)
                status = ctl_connect(ctl);
        if (status == EXIT_DONE)
                status = a->options[OPT_NEGATIVE] ? store_and_finish(ctl, a, &key, NULL, o)
                                                  : store(ctl, a, &key, o);
        cached_set_options_free(o);
        return status;
}

const struct verb verb_set = {
        .name = "set",
        .synopsis = "CACHE KEY [FILE|-] [--ttl D | --never] [--add | --replace | --version N] "
                    "[--flags N] [--cost D] [--tag TAG]… [--negative REASON]",
        .summary = "Store a value",
        .about = "The value is the content of FILE, byte for byte; of stdin where FILE is `-` or "
                 "absent. An unknown cache is created. Without --ttl and --never the cache's "
                 "policy says how long the entry lives.\n\n"
                 "With --negative there is no value: what is stored is that there is none. Who "
                 "asks for the key is told so, with the reason, and need not try to compute it. "
                 "Give it a --ttl.",
        .words = {"CACHE", "KEY", "FILE"},
        .n_required = 2,
        .options = {[OPT_TTL] = {"ttl", 0, "D", "expire after this long: 1ms to 3650d"},
                    [OPT_NEVER] = {"never", 0, NULL, "never expire, whatever the policy says"},
                    [OPT_ADD] = {"add", 0, NULL, "store only if the key is not there"},
                    [OPT_REPLACE] = {"replace", 0, NULL, "store only if the key is there"},
                    [OPT_VERSION] = {"version", 0, "N",
                                     "store only over exactly this version (compare and set)"},
                    [OPT_FLAGS] = {"flags", 0, "N",
                                   "32 bits that are kept with the value; 12, or 0x0c"},
                    [OPT_COST] = {"cost", 0, "D", "what computing it took; each hit saves as much"},
                    [OPT_TAG] = {"tag", 0, "TAG",
                                 "a name by which `clear` finds it; up to 8 of them", true},
                    [OPT_NEGATIVE] = {"negative", 0, "REASON",
                                      "store that there is no value, and why"}},
        .json = "cache, key or key_hex, version, size, ttl_ms (null: never expires).",
        .not_found = "not stored: --add and the key is there, --replace and it is not, or another "
                     "version",
        .example = "pg_dump shop | cachectl set dumps shop --ttl 1h",
        .caches = true,
        .run = run,
};
