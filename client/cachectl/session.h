/* SPDX-License-Identifier: MIT */
#ifndef SESSION_H
#define SESSION_H

/*
 * What the parts of `cachectl session` share
 */

#include "args.h"
#include "ctl.h"
#include "session-token.h"

#include <cached-session.h>
#include <jansson.h>

#define SESSION_MISSING "no such session: it has ended, or it is of another realm"

enum session_option {
        SESSION_OPT_LABEL,
        SESSION_OPT_IDLE,
        SESSION_OPT_GRACE,
        SESSION_OPT_OUTPUT,
        SESSION_OPT_IF_ABSENT,
        SESSION_OPT_IF_VERSION,
        SESSION_OPT_START,
        SESSION_OPT_MAX_BYTES,
};

/* One run: the words behind what is to be done. Those that are not taken are NULL. */
struct session_run {
        struct ctl *ctl;
        const struct args *args;
        const char *key, *value;
        char token[SESSION_TOKEN_DIGITS + 1];
        cached_session *session;
};

/* Each checks its words and options, connects and does it. An exit status. */
int session_new(struct session_run *run);
int session_ls(struct session_run *run);
int session_show(struct session_run *run);
int session_close(struct session_run *run);
int session_get(struct session_run *run);
int session_keys(struct session_run *run);
int session_set(struct session_run *run);
int session_append(struct session_run *run);
int session_incr(struct session_run *run);
int session_del(struct session_run *run);
int session_clear(struct session_run *run);

/* Whether @word was meant as what comes after the token, by who has that in the environment. Short
 * words only: no message shows what may be a token with an error in it. */
bool session_lacks_token(const char *word);
int session_report_lack(struct ctl *ctl, const char *word);

/* The token that a word of the command line stands for: itself, `@`, or `@FILE`. */
int session_take_token(struct ctl *ctl, const char *word, char ret[SESSION_TOKEN_DIGITS + 1]);

/* Of a KEY. */
int session_check_key(struct ctl *ctl, const char *key);

/* Connects, and makes run->session. @ret: what is known of it; NULL: not interested. */
int session_attach(struct session_run *run, cached_reply **ret);

/* Reports a code of the library's, and returns its exit status. A place for the reply, since the
 * call that returns the code may be an argument, too. */
int session_result(struct session_run *run, int code, cached_reply *const *reply);

/* Prints @o, which it consumes; @failed: memory ran out over it. An exit status. */
int session_print_json(struct session_run *run, json_t *o, bool failed);

/* "version": the session's. Returns 0 or -ENOMEM. */
int session_json_version(json_t *object, const cached_reply *r);

/* "value", or "value_base64" where it is no text. Returns 0 or -ENOMEM. */
int session_json_value(json_t *object, const void *bytes, size_t n);

/* version, size, flags of an item of a reply, and its value unless that is NULL. Returns 0 or
 * -ENOMEM. */
int session_json_item(json_t *object, const cached_reply *r, size_t i, const void *value, size_t n);

#endif
