/* SPDX-License-Identifier: MIT */
#ifndef CTL_H
#define CTL_H

/*
 * One run of cachectl: its connection, and how it tells people what went wrong
 */

#include "args.h"
#include "key.h"

#include <cached.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

/* Scripts rely on these numbers. */
enum {
        EXIT_DONE = 0,
        EXIT_NOT_FOUND = 1,
        EXIT_USAGE = 2,
        EXIT_UNREACHABLE = 3,
        EXIT_REFUSED = 4,
};

#define TTL_MIN_MS UINT64_C(1)
#define TTL_MAX_MS (UINT64_C(3650) * 86400 * 1000)

struct ctl {
        const char *verb; /* of the messages; NULL before it is known */
        bool json;
        const char *socket; /* as given with --socket, or NULL */
        const char *realm;
        bool has_service_uid; /* with --service-uid */
        uint32_t service_uid;
        uint32_t timeout_ms;
        bool as_stored;       /* values come as they were stored, packed or not */
        bool timeout_given;   /* by --timeout: a verb may have a default of its own */
        bool sigpipe_ignored; /* by who started us: so that commands we start inherit it */
        const char *session;  /* with --session: the word for its token; the caches are its own */
        cached_session *of_session;
        cached *plain; /* with a session: the handle that `client` was made of */
        cached *client;
        cached_reply *hello; /* the daemon's, once connected */
        bool stdout_closed;  /* the reader of our output went away: be quiet and stop */
};

/* Connects. Returns an exit status; anything but EXIT_DONE was reported. */
int ctl_connect(struct ctl *ctl);
void ctl_done(struct ctl *ctl);

/* Connects under a name and with a timeout of the caller's, and reports nothing: a code of the
 * library's. *ret and *ret_hello are untouched, or freed by the caller whatever the code is. */
int ctl_dial(const struct ctl *ctl, const char *client, uint32_t timeout_ms, cached **ret,
             cached_reply **ret_hello);

/* Reports @code unless it is CACHED_OK, and returns the exit status that it stands for. @missing
 * says what was not found ("no such cache"), for CACHED_NOT_FOUND. */
int ctl_result(struct ctl *ctl, int code, const cached_reply *reply, const char *missing);

/* Why there is no value, of a reply with CACHED_NEGATIVE; "": its writer gave no reason. */
const char *ctl_negative_reason(const cached_reply *reply);

/* "cachectl: VERB: …" on stderr. */
void ctl_note(struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same with a pointer to --help; returns EXIT_USAGE. */
int ctl_usage(struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Reports that memory ran out; returns EXIT_REFUSED. */
int ctl_no_memory(struct ctl *ctl);

/* Words and option values that many verbs take; EXIT_DONE, or EXIT_USAGE after reporting. */
int ctl_check_cache(struct ctl *ctl, const char *name);
int ctl_check_tag(struct ctl *ctl, const char *tag);                         /* of --tag */
int ctl_parse_entry(struct ctl *ctl, const struct args *a, struct key *ret); /* CACHE KEY */
int ctl_parse_ttl(struct ctl *ctl, const char *option, const char *text, uint64_t *ret_ms);
int ctl_parse_size(struct ctl *ctl, const char *option, const char *text, uint64_t *ret);
int ctl_parse_count(struct ctl *ctl, const char *option, const char *text, uint64_t max,
                    uint64_t *ret);

#endif
