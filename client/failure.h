/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_FAILURE_H
#define CLIENT_FAILURE_H

/*
 * Why a call failed, in words. It lives on the caller's stack, so that saying what is wrong needs
 * no memory; at the edge of the library it is copied into the reply.
 */

/* Long enough for a sentence and the paths of two sockets; longer text is cut. */
#define FAILURE_TEXT_SIZE 512

struct failure {
        int code;
        char text[FAILURE_TEXT_SIZE];
};

/* Returns `code`, so that it can end a function. */
int failure_set(struct failure *f, int code, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

int failure_nomem(struct failure *f);

#endif
