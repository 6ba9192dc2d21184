/* SPDX-License-Identifier: MIT */

/* session set, append, incr: changes of one key */

#include "fields.h"
#include "output.h"
#include "session-number.h"
#include "session.h"
#include "units.h"
#include "value.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* What a change stores: the word itself, or what stdin has. */
struct given {
        const void *bytes;
        size_t n;
        struct value read;
};

static int take_value(struct session_run *run, struct given *ret)
{
        struct ctl *ctl = run->ctl;
        uint64_t max = fields_u64(ctl->hello, "", "max_value_bytes");
        int r;

        if (strcmp(run->value, "-") != 0) {
                ret->bytes = run->value;
                ret->n = strlen(run->value);
                return EXIT_DONE;
        }
        if (isatty(STDIN_FILENO))
                ctl_note(ctl, "reading from the terminal, end with Ctrl-D");
        r = value_read(STDIN_FILENO, max ? max : UINT64_MAX, &ret->read);
        if (r == 0) {
                ret->bytes = ret->read.n ? ret->read.bytes : "";
                ret->n = ret->read.n;
                return EXIT_DONE;
        }
        if (r == -ENOMEM)
                return ctl_no_memory(ctl);
        if (r == VALUE_E_TOO_LARGE) {
                ctl_note(ctl, "the daemon refused: the value is larger than any that it takes");
                return EXIT_REFUSED;
        }
        ctl_note(ctl, "cannot read stdin: %s", strerror(-r));
        return EXIT_USAGE;
}

/* {"key":…} and what each kind of change has. NULL: out of memory. */
static json_t *of_key(struct session_run *run)
{
        json_t *o = json_object();

        if (json_object_set_new(o, "key", json_string(run->key)) == 0)
                return o;
        json_decref(o);
        return NULL;
}

/* @there: whose value the key has now, where --if-absent asks for it; NULL: nobody asks. */
static int print_stored(struct session_run *run, const cached_reply *r, const struct given *there)
{
        json_t *o = of_key(run);
        int failed = json_object_set_new(o, "stored", json_true()) < 0;

        failed |= session_json_version(o, r) < 0;
        if (there)
                failed |= session_json_value(o, there->bytes, there->n) < 0;
        return session_print_json(run, o, failed);
}

/* The key has another one's value already. */
static int print_winner(struct session_run *run, const cached_reply *r)
{
        const void *value;
        size_t n = 0;
        json_t *o;
        int failed, written;

        value = cached_reply_value(r, &n);
        ctl_note(run->ctl, "not stored: the key has a value already; leave --if-absent out to "
                           "replace it");
        if (run->ctl->json) {
                o = of_key(run);
                failed = json_object_set_new(o, "stored", json_false()) < 0;
                failed |= session_json_item(o, r, 0, value, n) < 0;
                return session_print_json(run, o, failed) == EXIT_DONE ? EXIT_NOT_FOUND
                                                                       : EXIT_REFUSED;
        }
        written = value ? value_write(STDOUT_FILENO, value, n, -1) : 0;
        if (written < 0)
                (void)output_failed(run->ctl, -written);
        return EXIT_NOT_FOUND;
}

static int set_if_absent(struct session_run *run, const struct given *given)
{
        cached_reply *reply = NULL;
        int status = EXIT_DONE, r;

        r = cached_session_set_if_absent(run->session, run->key, given->bytes, given->n, &reply);
        if (r == CACHED_EXISTS) {
                status = print_winner(run, reply);
        } else {
                status = session_result(run, r, &reply);
                if (status == EXIT_DONE && run->ctl->json) {
                        status = print_stored(run, reply, given);
                } else if (status == EXIT_DONE) {
                        r = value_write(STDOUT_FILENO, given->bytes, given->n, -1);
                        status = r < 0 ? output_failed(run->ctl, -r) : EXIT_DONE;
                }
        }
        cached_reply_free(reply);
        return status;
}

static int set_plain(struct session_run *run, const struct given *given, uint64_t version)
{
        cached_reply *reply = NULL;
        int status, r;

        if (version)
                r = cached_session_compare_and_set(run->session, run->key, version, given->bytes,
                                                   given->n, &reply);
        else
                r = cached_session_set(run->session, run->key, given->bytes, given->n, &reply);
        status = session_result(run, r, &reply);
        if (status == EXIT_DONE && run->ctl->json)
                status = print_stored(run, reply, NULL);
        cached_reply_free(reply);
        return status;
}

static int parse_version(struct session_run *run, uint64_t *ret)
{
        const char *text = run->args->options[SESSION_OPT_IF_VERSION];
        int status;

        if (!text)
                return EXIT_DONE;
        if (run->args->options[SESSION_OPT_IF_ABSENT])
                return ctl_usage(run->ctl, "--if-absent and --if-version exclude each other");
        status = ctl_parse_count(run->ctl, "if-version", text, UINT64_MAX, ret);
        if (status == EXIT_DONE && *ret == 0)
                return ctl_usage(run->ctl, "--if-version '0': versions begin with 1; --if-absent "
                                           "stores only where nothing is");
        return status;
}

int session_set(struct session_run *run)
{
        struct given given = {.n = 0};
        uint64_t version = 0;
        int status = parse_version(run, &version);

        if (status == EXIT_DONE)
                status = session_attach(run, NULL);
        if (status == EXIT_DONE)
                status = take_value(run, &given);
        if (status == EXIT_DONE && run->args->options[SESSION_OPT_IF_ABSENT])
                status = set_if_absent(run, &given);
        else if (status == EXIT_DONE)
                status = set_plain(run, &given, version);
        value_done(&given.read);
        return status;
}

int session_append(struct session_run *run)
{
        const char *text = run->args->options[SESSION_OPT_MAX_BYTES];
        struct given given = {.n = 0};
        cached_reply *reply = NULL;
        uint64_t max = 0, size;
        int status = EXIT_DONE;

        if (text)
                status = ctl_parse_size(run->ctl, "max-bytes", text, &max);
        if (status == EXIT_DONE && text && max == 0)
                status = ctl_usage(run->ctl, "--max-bytes '%s': it is at least 1", text);
        if (status == EXIT_DONE)
                status = session_attach(run, NULL);
        if (status == EXIT_DONE)
                status = take_value(run, &given);
        if (status == EXIT_DONE)
                status = session_result(run,
                                        cached_session_append(run->session, run->key, given.bytes,
                                                              given.n, max, &reply),
                                        &reply);
        if (status == EXIT_DONE && run->ctl->json) {
                json_t *o = of_key(run);

                size = fields_u64(reply, "items[0].", "size");
                status = session_print_json(run, o,
                                            json_object_set_new(o, "size", output_json_u64(size)) <
                                                            0 ||
                                                    session_json_version(o, reply) < 0);
        }
        cached_reply_free(reply);
        value_done(&given.read);
        return status;
}

static int parse_number(struct session_run *run, const char *what, const char *text,
                        struct session_number *ret)
{
        const char *wrong = session_number_parse(text, ret);

        return wrong ? ctl_usage(run->ctl, "%s '%s': %s; " SESSION_NUMBER_HINT, what, text, wrong)
                     : EXIT_DONE;
}

/* What the number is now. */
static int print_sum(struct session_run *run, const cached_reply *r)
{
        size_t n = 0;
        const char *sum = cached_reply_value(r, &n);
        json_t *o;

        if (!run->ctl->json) {
                printf("%.*s\n", (int)n, sum ? sum : "");
                return EXIT_DONE;
        }
        o = of_key(run);
        return session_print_json(run, o,
                                  json_object_set_new(o, "value", json_stringn(sum, n)) < 0 ||
                                          session_json_version(o, r) < 0);
}

int session_incr(struct session_run *run)
{
        const char *text = run->args->options[SESSION_OPT_START];
        struct session_number by = {.integer = 1, .real = 1}, start = {.integer = 0};
        cached_reply *reply = NULL;
        int status = EXIT_DONE, r;

        if (run->value)
                status = parse_number(run, "VALUE", run->value, &by);
        if (status == EXIT_DONE && text)
                status = parse_number(run, "--start", text, &start);
        if (status == EXIT_DONE)
                status = session_attach(run, NULL);
        if (status != EXIT_DONE)
                return status;
        if (by.is_real || start.is_real)
                r = cached_session_increment_real(run->session, run->key, by.real, &start.real,
                                                  NULL, &reply);
        else
                r = cached_session_increment(run->session, run->key, by.integer, &start.integer,
                                             NULL, &reply);
        status = session_result(run, r, &reply);
        if (status == EXIT_DONE)
                status = print_sum(run, reply);
        cached_reply_free(reply);
        return status;
}
