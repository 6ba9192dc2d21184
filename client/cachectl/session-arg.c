/* SPDX-License-Identifier: MIT */

/*
 * The TOKEN and KEY of a command line, and what becomes of them
 *
 * A token in the process list is everybody's: so `@` takes it from the environment, which only the
 * user's own processes see, and `@FILE` from a file. No message repeats a token, also one that was
 * given where the name of a file belongs.
 */

#include "session.h"
#include "utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VARIABLE        "CACHED_SESSION"
#define SESSION_KEY_MAX 128
#define WORD_MAX        (SESSION_TOKEN_DIGITS / 2) /* longer, it may be most of a token */

/* The beginning of a file: more than a token and its newline need. Negative errno. */
static ssize_t read_start(const char *path, char *buf, size_t size)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        size_t n = 0;

        if (fd < 0)
                return -errno;
        while (n < size) {
                ssize_t k = read(fd, buf + n, size - n);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0) {
                        int error = errno;

                        (void)close(fd);
                        return -error;
                }
                if (k == 0 || memchr(buf + n, '\n', (size_t)k)) {
                        n += (size_t)k;
                        break;
                }
                n += (size_t)k;
        }
        (void)close(fd);
        return (ssize_t)n;
}

static int take_file(struct ctl *ctl, const char *path, char ret[SESSION_TOKEN_DIGITS + 1])
{
        char start[2 * SESSION_TOKEN_DIGITS];
        ssize_t n = read_start(path, start, sizeof(start));
        const char *wrong;

        if (n < 0 && !session_token_check(path))
                return ctl_usage(ctl, "there is no file of that name, which is itself a token: "
                                      "leave out the '@' before a token");
        if (n < 0) {
                ctl_note(ctl, "cannot read %s: %s", path, strerror((int)-n));
                return EXIT_USAGE;
        }
        wrong = session_token_take(start, (size_t)n, ret);
        explicit_bzero(start, sizeof(start));
        return wrong ? ctl_usage(ctl, "the first line of %s is no token: %s; " SESSION_TOKEN_HINT,
                                 path, wrong)
                     : EXIT_DONE;
}

bool session_lacks_token(const char *word)
{
        return word[0] != '@' && getenv(VARIABLE) && *word && strlen(word) <= WORD_MAX;
}

int session_report_lack(struct ctl *ctl, const char *word)
{
        return ctl_usage(ctl, "'%s' is no token; did you mean '@ %s'?", word, word);
}

int session_take_token(struct ctl *ctl, const char *word, char ret[SESSION_TOKEN_DIGITS + 1])
{
        const char *text = word, *wrong;

        if (word[0] == '@' && word[1])
                return take_file(ctl, word + 1, ret);
        if (word[0] == '@')
                text = getenv(VARIABLE);
        if (!text)
                return ctl_usage(ctl, "TOKEN '@': $" VARIABLE " is not set; " SESSION_TOKEN_HINT);
        wrong = session_token_check(text);
        if (wrong && session_lacks_token(word))
                return session_report_lack(ctl, word);
        if (wrong)
                return ctl_usage(ctl, "%s: %s; " SESSION_TOKEN_HINT,
                                 word[0] == '@' ? "$" VARIABLE : "TOKEN", wrong);
        memcpy(ret, text, SESSION_TOKEN_DIGITS + 1);
        return EXIT_DONE;
}

int session_check_key(struct ctl *ctl, const char *key)
{
        size_t n = strlen(key);

        if (n == 0)
                return ctl_usage(ctl, "KEY is empty: it has 1 to %d bytes", SESSION_KEY_MAX);
        if (n > SESSION_KEY_MAX)
                return ctl_usage(ctl, "KEY is longer than %d bytes", SESSION_KEY_MAX);
        if (!utf8_is_name(key, n))
                return ctl_usage(ctl, "KEY is not UTF-8 text, or has control characters in it");
        return EXIT_DONE;
}

int session_attach(struct session_run *run, cached_reply **ret)
{
        int status = ctl_connect(run->ctl);
        cached_reply *reply = NULL;

        if (status != EXIT_DONE)
                return status;
        status = session_result(run,
                                cached_session_attach(run->ctl->client, run->token, &run->session,
                                                      &reply),
                                &reply);
        if (ret)
                *ret = reply;
        else
                cached_reply_free(reply);
        return status;
}

int session_result(struct session_run *run, int code, cached_reply *const *reply)
{
        /* The session may end between one request and the next. */
        bool over = !run->session || cached_session_is_over(*reply);

        return ctl_result(run->ctl, code, *reply,
                          over ? SESSION_MISSING : "no such key in this session");
}
