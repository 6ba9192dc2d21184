/* SPDX-License-Identifier: MIT */

/*
 * One run of cachectl
 *
 * Every failure is reported here, in one form: "cachectl: VERB: what", on stderr, and the exit
 * status follows from the code alone. The status of each of the daemon's answers stands in
 * proto/status.def.
 *
 * Texts that come from the daemon or from another client are shown with control characters
 * replaced: they could steer the terminal.
 */

#include "ctl.h"

#include "output.h"
#include "service.h"
#include "session.h"
#include "units.h"
#include "utf8.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_NAME_MAX 128
#define TAG_MAX        128

static void note(struct ctl *ctl, const char *format, va_list ap)
        __attribute__((format(printf, 2, 0)));

static void note(struct ctl *ctl, const char *format, va_list ap)
{
        char *text = NULL;

        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        fprintf(stderr, "cachectl: %s%s", ctl->verb ? ctl->verb : "", ctl->verb ? ": " : "");
        output_text(stderr, text ? text : "out of memory");
        fputc('\n', stderr);
        free(text);
}

void ctl_note(struct ctl *ctl, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        note(ctl, format, ap);
        va_end(ap);
}

int ctl_usage(struct ctl *ctl, const char *format, ...)
{
        va_list ap;

        va_start(ap, format);
        note(ctl, format, ap);
        va_end(ap);
        fprintf(stderr, "See `cachectl %s%s--help`.\n", ctl->verb ? ctl->verb : "",
                ctl->verb ? " " : "");
        return EXIT_USAGE;
}

int ctl_no_memory(struct ctl *ctl)
{
        ctl_note(ctl, "out of memory");
        return EXIT_REFUSED;
}

static int exit_status(int code)
{
        switch (code) {
#define STATUS(number, name, status, meaning)                                                      \
        case number:                                                                               \
                return status;
#include "proto/status.def"
#undef STATUS
        case CACHED_ERR_USAGE:
                return EXIT_USAGE;
        case CACHED_ERR_NOMEM:
        case CACHED_ERR_CREATION:
                return EXIT_REFUSED;
        default:
                return code < 64 ? EXIT_REFUSED : EXIT_UNREACHABLE;
        }
}

static void report_unreachable(struct ctl *ctl, int code, const char *why)
{
        ctl_note(ctl, "%s", why);
        if (code == CACHED_ERR_UNREACHABLE)
                fprintf(stderr,
                        "Start one with %s. If it listens elsewhere, name its socket with "
                        "--socket or in\n$CACHED_SOCKET.\n",
                        service_is_installed() ? "`systemctl start cached.socket`, or `cached`"
                                               : "`cached`");
        else if (code == CACHED_ERR_UNTRUSTED)
                fputs("If that user is meant to run it, say so with --service-uid.\n", stderr);
}

const char *ctl_negative_reason(const cached_reply *reply)
{
        const char *why = cached_reply_error(reply);

        /* The library says something in any case. */
        return strcmp(why, cached_strerror(CACHED_NEGATIVE)) == 0 ? "" : why;
}

static void report_negative(struct ctl *ctl, const char *reason)
{
        ctl_note(ctl, "there is no value%s%s", *reason ? ": " : "", reason);
}

int ctl_result(struct ctl *ctl, int code, const cached_reply *reply, const char *missing)
{
        const char *why = reply ? cached_reply_error(reply) : NULL;
        int status = exit_status(code);

        if (!why || !*why)
                why = cached_strerror(code);
        if (code == CACHED_NOT_FOUND)
                ctl_note(ctl, "not found: %s", missing);
        else if (code == CACHED_NEGATIVE)
                report_negative(ctl, ctl_negative_reason(reply));
        else if (status == EXIT_NOT_FOUND)
                ctl_note(ctl, "not stored: %s", why);
        else if (status == EXIT_UNREACHABLE)
                report_unreachable(ctl, code, why);
        else if (code == CACHED_OUTCOME_UNKNOWN)
                ctl_note(ctl, "it is not known whether it happened: %s", why);
        else if (status == EXIT_REFUSED && code < 64)
                ctl_note(ctl, "the daemon refused: %s", why);
        else if (status != EXIT_DONE)
                ctl_note(ctl, "%s", why);
        return status;
}

int ctl_dial(const struct ctl *ctl, const char *client, uint32_t timeout_ms, cached **ret,
             cached_reply **ret_hello)
{
        cached_options *o = cached_options_new();
        int r = o ? CACHED_OK : CACHED_ERR_NOMEM;

        if (r == CACHED_OK)
                r = cached_options_set_socket(o, ctl->socket);
        if (r == CACHED_OK)
                r = cached_options_set_realm(o, ctl->realm);
        if (r == CACHED_OK && ctl->has_service_uid)
                r = cached_options_set_service_uid(o, ctl->service_uid);
        if (r == CACHED_OK)
                r = cached_options_set_client_name(o, client);
        if (r == CACHED_OK)
                r = cached_options_set_timeout_ms(o, timeout_ms);
        if (r == CACHED_OK)
                r = cached_options_set_decode(o, !ctl->as_stored);
        if (r == CACHED_OK)
                r = cached_new(o, ret);
        cached_options_free(o);
        return r == CACHED_OK ? cached_connect(*ret, ret_hello) : r;
}

/* From here on the handle is about the session's own caches. */
static int enter_session(struct ctl *ctl)
{
        char token[SESSION_TOKEN_DIGITS + 1];
        cached_reply *reply = NULL;
        int status = session_take_token(ctl, ctl->session, token), r;

        if (status != EXIT_DONE)
                return status;
        r = cached_session_attach(ctl->client, token, &ctl->of_session, &reply);
        status = ctl_result(ctl, r, reply, SESSION_MISSING);
        cached_reply_free(reply);
        explicit_bzero(token, sizeof(token));
        if (status != EXIT_DONE)
                return status;
        ctl->plain = ctl->client;
        ctl->client = NULL;
        return ctl_result(ctl, cached_session_handle(ctl->of_session, &ctl->client), NULL, "");
}

int ctl_connect(struct ctl *ctl)
{
        int r = ctl_dial(ctl, "cachectl", ctl->timeout_ms, &ctl->client, &ctl->hello);
        int status = ctl_result(ctl, r, ctl->hello, "no such realm");

        if (ctl->realm && (r == CACHED_INVALID || r == CACHED_DENIED))
                fputs("Leave --realm out for your own.\n", stderr);
        return status == EXIT_DONE && ctl->session ? enter_session(ctl) : status;
}

void ctl_done(struct ctl *ctl)
{
        cached_reply_free(ctl->hello);
        cached_free(ctl->client);
        cached_session_free(ctl->of_session);
        cached_free(ctl->plain);
        ctl->hello = NULL;
        ctl->client = ctl->plain = NULL;
        ctl->of_session = NULL;
}

int ctl_check_cache(struct ctl *ctl, const char *name)
{
        size_t n = strlen(name);

        if (n == 0)
                return ctl_usage(ctl, "CACHE is empty: a cache's name has 1 to %d bytes",
                                 CACHE_NAME_MAX);
        if (n > CACHE_NAME_MAX)
                return ctl_usage(ctl, "CACHE is longer than %d bytes", CACHE_NAME_MAX);
        if (!utf8_is_name(name, n))
                return ctl_usage(ctl, "CACHE is not UTF-8 text, or has control characters in it");
        return EXIT_DONE;
}

int ctl_check_tag(struct ctl *ctl, const char *tag)
{
        size_t n = strlen(tag);

        if (n == 0)
                return ctl_usage(ctl, "--tag '': it is empty: a tag has 1 to %d bytes", TAG_MAX);
        if (n > TAG_MAX)
                return ctl_usage(ctl, "--tag: it is longer than %d bytes", TAG_MAX);
        if (!utf8_is_name(tag, n))
                return ctl_usage(ctl, "--tag: it is not UTF-8 text, or has control characters in "
                                      "it");
        return EXIT_DONE;
}

int ctl_parse_entry(struct ctl *ctl, const struct args *a, struct key *ret)
{
        int status = ctl_check_cache(ctl, a->words[0]);
        const char *wrong;

        if (status != EXIT_DONE)
                return status;
        wrong = key_parse(a->words[1], ret);
        return wrong ? ctl_usage(ctl, "KEY '%s': %s", a->words[1], wrong) : EXIT_DONE;
}

int ctl_parse_ttl(struct ctl *ctl, const char *option, const char *text, uint64_t *ret_ms)
{
        const char *wrong;
        uint64_t ms;

        wrong = units_parse_duration_ms(text, &ms);
        if (wrong)
                return ctl_usage(ctl, "--%s '%s': %s; " UNITS_DURATION_HINT, option, text, wrong);
        if (ms < TTL_MIN_MS || ms > TTL_MAX_MS)
                return ctl_usage(ctl, "--%s '%s': a ttl is 1ms to 3650d", option, text);
        *ret_ms = ms;
        return EXIT_DONE;
}

int ctl_parse_size(struct ctl *ctl, const char *option, const char *text, uint64_t *ret)
{
        const char *wrong = units_parse_size(text, ret);

        return wrong ? ctl_usage(ctl, "--%s '%s': %s; " UNITS_SIZE_HINT, option, text, wrong)
                     : EXIT_DONE;
}

int ctl_parse_count(struct ctl *ctl, const char *option, const char *text, uint64_t max,
                    uint64_t *ret)
{
        const char *wrong;
        uint64_t n;

        wrong = units_parse_count(text, &n);
        if (wrong)
                return ctl_usage(ctl, "--%s '%s': %s; a number is expected", option, text, wrong);
        if (n > max)
                return ctl_usage(ctl, "--%s '%s': it is larger than %" PRIu64, option, text, max);
        *ret = n;
        return EXIT_DONE;
}
