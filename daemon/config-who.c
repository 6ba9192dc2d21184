/* SPDX-License-Identifier: MIT */
/*
 * Who may: lists of users and groups
 *
 * Both lists are kept sorted and without duplicates, so that a membership test is a search and so
 * that two ways to write the same list are the same list. Names are resolved once, here: a user who
 * is renamed later keeps the access until the configuration is loaded again.
 */

#include "config-who.h"

#include <assert.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config-value.h"

enum {
        NAME_BUFFER_MAX = 1 << 20, /* of one passwd or group entry; groups can have many members */
        NAME_MAX_BYTES = 64,       /* of a user or group name */
};

static_assert(sizeof(uid_t) == sizeof(uint32_t) && sizeof(gid_t) == sizeof(uint32_t),
              "ids are 32 bits");

static int add_id(uint32_t **ids, size_t *n_ids, uint32_t id)
{
        size_t at = 0;
        uint32_t *grown;

        while (at < *n_ids && (*ids)[at] < id)
                at++;
        if (at < *n_ids && (*ids)[at] == id)
                return 0;
        grown = reallocarray(*ids, *n_ids + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        memmove(grown + at + 1, grown + at, (*n_ids - at) * sizeof(*grown));
        grown[at] = id;
        *ids = grown;
        (*n_ids)++;
        return 0;
}

/* Calls @lookup with a buffer that grows until the entry fits. 0, 1 (no such name) or -errno. */
static int look_up(const char *name, int (*lookup)(const char *, char *, size_t, uint32_t *),
                   uint32_t *ret)
{
        for (size_t n = 1024; n <= NAME_BUFFER_MAX; n *= 4) {
                char *buf = malloc(n);
                int r;

                if (!buf)
                        return -ENOMEM;
                r = lookup(name, buf, n, ret);
                free(buf);
                if (r != -ERANGE)
                        return r;
        }
        return -ERANGE;
}

static int lookup_user(const char *name, char *buf, size_t n_buf, uint32_t *ret)
{
        struct passwd entry, *found = NULL;
        int r = getpwnam_r(name, &entry, buf, n_buf, &found);

        if (found)
                *ret = entry.pw_uid;
        /* Name services report "no such name" also as an error of their own. */
        return found ? 0 : r == ERANGE ? -ERANGE : r == ENOMEM ? -ENOMEM : 1;
}

static int lookup_group(const char *name, char *buf, size_t n_buf, uint32_t *ret)
{
        struct group entry, *found = NULL;
        int r = getgrnam_r(name, &entry, buf, n_buf, &found);

        if (found)
                *ret = entry.gr_gid;
        return found ? 0 : r == ERANGE ? -ERANGE : r == ENOMEM ? -ENOMEM : 1;
}

/* A number is an id even if a user has such a name. */
static int resolve(const char *name, bool group, uint32_t *ret, char *err, size_t n_err)
{
        const char *kind = group ? "group" : "user";
        uint64_t number = UINT64_MAX;
        int r;

        if (value_parse_count(name, &number) != VALUE_E_SYNTAX) {
                if (number < UINT32_MAX) {
                        *ret = (uint32_t)number;
                        return 0;
                }
                snprintf(err, n_err, "%s id %s is out of range: 0 to 4294967294", kind, name);
                return -EINVAL;
        }
        if (!*name) {
                snprintf(err, n_err, "a %s name is missing", kind);
                return -EINVAL;
        }
        if (strlen(name) > NAME_MAX_BYTES) {
                snprintf(err, n_err, "%s name '%s' is too long", kind, name);
                return -EINVAL;
        }
        r = look_up(name, group ? lookup_group : lookup_user, ret);
        if (r > 0) {
                snprintf(err, n_err, "unknown %s '%s'%s", kind, name,
                         group ? "" : "; write @name for a group");
                return -EINVAL;
        }
        if (r < 0 && r != -ENOMEM) {
                snprintf(err, n_err, "%s '%s' cannot be looked up", kind, name);
                return -EINVAL;
        }
        return r;
}

int who_find_group(const char *name, gid_t *ret, char *err, size_t n_err)
{
        return resolve(name, true, ret, err, n_err);
}

static int add_one(struct config_who *who, const char *name, char *err, size_t n_err)
{
        bool group = name[0] == '@';
        uint32_t id;
        int r;

        r = resolve(name + group, group, &id, err, n_err);
        if (r < 0)
                return r;
        return group ? add_id(&who->gids, &who->n_gids, id) : add_id(&who->uids, &who->n_uids, id);
}

int who_add(struct config_who *who, const char *text, char *err, size_t n_err)
{
        const char blanks[] = " \t";
        const char *p = text + strspn(text, blanks);

        while (*p) {
                char name[256];
                size_t n = strcspn(p, ","), n_name = n;
                int r;

                while (n_name > 0 && strchr(blanks, p[n_name - 1]))
                        n_name--;
                if (n_name >= sizeof(name))
                        n_name = sizeof(name) - 1;
                memcpy(name, p, n_name);
                name[n_name] = '\0';
                r = add_one(who, name, err, n_err);
                if (r < 0)
                        return r;
                p += n;
                /* One comma at the end is fine: the list may go on in the next line. */
                if (*p == ',')
                        p++;
                p += strspn(p, blanks);
        }
        return 0;
}

void who_done(struct config_who *who)
{
        free(who->uids);
        free(who->gids);
        *who = (struct config_who){0};
}
