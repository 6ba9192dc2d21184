/* SPDX-License-Identifier: MIT */
#ifndef TAKEOVER_H
#define TAKEOVER_H

/*
 * Takeover: realms go from one process to the next. See takeover.c.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "realm/given.h"

struct log;
struct realms;

/* The numbers of cached.proto's TakeoverFrom. */
enum takeover_from { TAKEOVER_NONE = 0, TAKEOVER_HANDOVER, TAKEOVER_PASSED };

#define TAKEOVER_REASONS    16
#define TAKEOVER_REASON_MAX 200

/* What became of what another daemon left. */
struct takeover {
        enum takeover_from from;
        uint64_t realms_kept, realms_dropped;
        uint64_t entries_kept, entries_dropped; /* of realms that were kept */
        uint64_t large_kept;
        uint64_t descriptors_dropped;
        uint64_t resources_kept, resources_dropped;
        size_t n_reasons; /* the first ones, in words */
        char reasons[TAKEOVER_REASONS][TAKEOVER_REASON_MAX];
};

/* Notes why something was dropped, and logs it. @realm: whose it was; or NULL. */
void takeover_note(struct takeover *t, struct log *log, const char *realm, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

/* Before the first realm is made: makes realms of @given, which is empty afterwards. What cannot be
 * kept is dropped; the report is in realms.takeover. False: readers may be looking at an arena that
 * was not kept and does not say so; then all of them have to be told by another instance number. */
bool realms_adopt(struct realms *rs, struct given *given, enum takeover_from from, uint64_t now_ms,
                  struct log *log);

/* Another instance number, before anybody is connected. Readers of the realms' arenas ask for them
 * again. */
void realms_renumber(struct realms *rs, uint64_t instance);

/* The epoch file says what counts: only now is it certain what became of all. */
void realms_adopted(struct realms *rs, uint64_t now_ms);

/* The memory files of all realms, by the names that given_add() understands: what another process
 * needs to go on, or a service manager to keep. @fd is borrowed. False: @visit said to stop. */
typedef bool (*realm_file_visit)(void *ctx, const char *name, int fd);
bool realms_each_file(const struct realms *rs, realm_file_visit visit, void *ctx);

/* All files belong to another process from now on: nothing is changed in them any more, and
 * realms_done() leaves them as they are. No clients are left. */
void realms_let_go(struct realms *rs);

#endif
