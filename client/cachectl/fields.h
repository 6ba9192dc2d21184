/* SPDX-License-Identifier: MIT */
#ifndef FIELDS_H
#define FIELDS_H

/*
 * The fields of a reply, described by rows: one row gives the JSON member, which has the name of
 * the field in proto/cached.proto, and the line that people see.
 */

#include "ctl.h"

#include <jansson.h>

struct libscols_table;

enum field_kind {
        FIELD_COUNT,
        FIELD_BYTES,
        FIELD_MS,
        FIELD_US,
        FIELD_NS,
        FIELD_PERMILLE,
        FIELD_BOOL,
        FIELD_TEXT,
        FIELD_TEXTS,          /* a list of them */
        FIELD_ID,             /* 64 opaque bits: a string in JSON */
        FIELD_OPTIONAL_COUNT, /* absent: null in JSON, and what `absent` says for people */
        FIELD_OPTIONAL_BYTES,
        FIELD_OPTIONAL_MS,
        FIELD_CHOICE, /* an enum of the protocol */
};

struct field {
        const char *name; /* NULL ends a list */
        enum field_kind kind;
        const char *label; /* NULL: only in JSON */
        const char
                *absent; /* of the optional kinds; NULL: no line then. Of others: where it is 0 */
        const char *const *choices; /* of FIELD_CHOICE: the names by number, NULL ends them */
        bool hide_zero;             /* people do not see it when it is 0: it says nothing then */
        const char *needs;          /* they do not see it when that field is 0 */
        const char *const *labels;  /* of FIELD_CHOICE: what they see instead of the names */
};

#define FIELDS_PATH_SIZE 160
#define FIELDS_TEXT_SIZE 256

extern const struct field fields_policy[];
extern const struct field fields_pinned[];
extern const struct field fields_cache_stats[]; /* without its name and policy */
extern const struct field fields_entry[];
extern const struct field fields_tags[]; /* of an entry, where the reply has them */
extern const char *const fields_roles[];
extern const char *const fields_fates[];

/* In these @prefix is "" or ends in a dot. */

/* The field as people see it, in @buf or constant. */
const char *fields_format(const cached_reply *r, const char *prefix, const struct field *field,
                          char buf[FIELDS_TEXT_SIZE]);

/* Adds a member for each row. Returns 0 or -ENOMEM. */
int fields_to_json(const cached_reply *r, const char *prefix, const struct field *fields,
                   json_t *object);

/* Adds a line (label, value) for each row that has a label. Returns 0 or -ENOMEM. */
int fields_to_table(const cached_reply *r, const char *prefix, const struct field *fields,
                    struct libscols_table *t);

/* @prefix and @name put together, in @buf. */
const char *fields_path(char buf[FIELDS_PATH_SIZE], const char *prefix, const char *name);

/* The prefix of an item of a list: "caches[3]." */
const char *fields_item(char buf[FIELDS_PATH_SIZE], const char *list, size_t i);

/* 0 where the field is absent. */
uint64_t fields_u64(const cached_reply *r, const char *prefix, const char *name);

/* "" where the field is absent. Valid as long as the reply. */
const char *fields_text(const cached_reply *r, const char *prefix, const char *name);

/* The policy in a few words, without what it does not limit; "-": nothing. @prefix is that of what
 * has the policy. */
const char *fields_policy_words(const cached_reply *r, const char *prefix,
                                char buf[FIELDS_TEXT_SIZE]);

/* A CacheStats or CacheInfo: its name, its policy, and its numbers. NULL: out of memory. */
json_t *fields_cache_json(const cached_reply *r, const char *prefix, const struct field *numbers);

#endif
