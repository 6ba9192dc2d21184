/* SPDX-License-Identifier: MIT */
#ifndef OUTCOME_LOG_H
#define OUTCOME_LOG_H

/*
 * Outcome log: the replies to a client's last changes. See outcome-log.c.
 */

#include <stddef.h>
#include <stdint.h>

struct outcome_page;

/* Zero is an empty log that has forgotten nothing. */
struct outcome_log {
        struct outcome_page *page, *older; /* NULL: none; `older` only with `page` */
        uint64_t forgotten;                /* ids up to this one may be missing */
};

enum {
        OUTCOME_FOUND = 0,
        OUTCOME_E_NEVER,   /* nothing was carried out under this id */
        OUTCOME_E_UNKNOWN, /* something may have been */
};

/* Notes that request @id was answered with the message @msg of @n bytes. Without memory, or when a
 * reply is too long for half of @n_most bytes, it is noted as unknown. */
void outcome_log_add(struct outcome_log *log, uint64_t id, const uint8_t *msg, size_t n,
                     size_t n_most);

/* @ret_msg is borrowed until the log changes. */
int outcome_log_find(const struct outcome_log *log, uint64_t id, const uint8_t **ret_msg,
                     size_t *ret_n);

void outcome_log_done(struct outcome_log *log);

#endif
