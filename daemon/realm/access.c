/* SPDX-License-Identifier: MIT */
/*
 * Access
 *
 * A realm is "uid:N", that user's own, or one that the configuration names. A pure function of the
 * configuration, the name and what the kernel says about the peer: no state, so that a reload
 * changes roles by asking again.
 *
 * Order: the overflow uid is refused first, because it stands for many users at once and would
 * merge their realms. Root may enter every realm that exists or could, as admin. Everybody is admin
 * of the own realm. In a named realm the highest role counts that a uid or group list gives.
 */
#include "realm/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"

#define OVERFLOW_UID_DEFAULT 65534

uid_t access_overflow_uid(void)
{
        unsigned long uid = OVERFLOW_UID_DEFAULT;
        FILE *f = fopen("/proc/sys/kernel/overflowuid", "re");
        if (f) {
                if (fscanf(f, "%lu", &uid) != 1 || uid > UINT32_MAX)
                        uid = OVERFLOW_UID_DEFAULT;
                fclose(f);
        }
        return (uid_t)uid;
}

void access_own_realm(uid_t uid, char ret_name[ACCESS_OWN_REALM_MAX])
{
        snprintf(ret_name, ACCESS_OWN_REALM_MAX, "uid:%u", (unsigned)uid);
}

/* Whether @name is the one spelling of some user's own realm. */
static bool is_own_realm_name(const char *name)
{
        if (strncmp(name, "uid:", 4) != 0 || name[4] < '0' || name[4] > '9')
                return false;
        char *end;
        unsigned long long uid = strtoull(name + 4, &end, 10);
        if (*end != '\0' || uid >= UINT32_MAX)
                return false;
        char canonical[ACCESS_OWN_REALM_MAX];
        access_own_realm((uid_t)uid, canonical);
        return strcmp(name, canonical) == 0;
}

static bool has_gid(const struct access_peer *peer, gid_t gid)
{
        if (peer->gid == gid)
                return true;
        for (size_t i = 0; i < peer->n_gids; i++)
                if (peer->gids[i] == gid)
                        return true;
        return false;
}

static bool is_one_of(const struct config_who *who, const struct access_peer *peer)
{
        for (size_t i = 0; i < who->n_uids; i++)
                if (who->uids[i] == peer->uid)
                        return true;
        for (size_t i = 0; i < who->n_gids; i++)
                if (has_gid(peer, who->gids[i]))
                        return true;
        return false;
}

static enum role named_role(const struct config_realm *realm, const struct access_peer *peer)
{
        if (peer->uid == 0 || is_one_of(&realm->admins, peer))
                return ACCESS_ADMIN;
        if (is_one_of(&realm->writers, peer))
                return ACCESS_WRITER;
        if (is_one_of(&realm->readers, peer))
                return ACCESS_READER;
        return ACCESS_NONE;
}

int access_role(const struct config *cfg, const struct access_peer *peer, const char *name,
                enum role *ret)
{
        if (peer->uid == peer->overflow_uid)
                return ACCESS_E_OVERFLOW;

        char own[ACCESS_OWN_REALM_MAX];
        access_own_realm(peer->uid, own);
        bool theirs = strcmp(name, own) == 0;
        if (theirs || (peer->uid == 0 && is_own_realm_name(name))) {
                *ret = ACCESS_ADMIN;
                return 0;
        }

        const struct config_realm *realm = config_find_realm(cfg, name);
        if (!realm)
                return peer->uid == 0 ? ACCESS_E_UNKNOWN : ACCESS_E_DENIED;
        enum role role = named_role(realm, peer);
        if (role == ACCESS_NONE)
                return ACCESS_E_DENIED;
        *ret = role;
        return 0;
}
