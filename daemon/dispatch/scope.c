/* SPDX-License-Identifier: MIT */
/*
 * Scope
 *
 * A request with a session's token is carried out like any other, but in the hidden realm that
 * holds the session: its caller says so, and whose caches they are. Names get the session's key in
 * front before the store sees them, and lose it before anybody else does; ids count only with the
 * token of the session whose cache it is. So no operation knows of sessions but where it would tell
 * others of what it did, or hand memory out.
 *
 * Caches of sessions that are gone are removed here, where leases are known: as long as somebody
 * computes a value for one, or waits for it, its id must not be another cache's. Its resources
 * leave at once.
 */
#include "dispatch/scope.h"

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/resourcing.h"
#include "realm/realm.h"
#include "services/session.h"

#define AGAIN_MS      1000u /* somebody computes a value for it */
#define AGAIN_SOON_MS 10u   /* much was cleared that has to go first */

/* ---- entering */

static bool takes_session(const Cached__V1__Request *m)
{
        switch (m->op_case) {
#define SCOPED(CASE) case CACHED__V1__REQUEST__OP_##CASE:
#include "proto/scoped.def"
#undef SCOPED
                return true;
        default:
                return false;
        }
}

enum status scope_enter(struct request *r)
{
        const ProtobufCBinaryData *token = &r->msg->session;
        struct session_ref ref;
        if (!takes_session(r->msg))
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "%s is not about a session's caches: leave the session out",
                                   r->op->name);
        if (r->client->role < ACCESS_WRITER)
                return verdict_set(&r->verdict, STATUS_DENIED,
                                   "sessions need the role writer in the realm '%s': ask the "
                                   "administrator to list you among the realm's writers",
                                   r->client->realm->name);
        enum status status = session_find(&r->who, token->data, token->len, &ref, &r->verdict);
        if (status != STATUS_OK)
                return status;
        r->who.realm = ref.realm;
        memcpy(r->who.session, ref.key, SESSION_KEY_SIZE);
        return STATUS_OK;
}

/* ---- names and ids */

enum status scope_name(struct request *r, struct cache_ref *ref)
{
        if (ref->n_name > SESSION_CACHE_SUFFIX)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the cache name has %zu bytes: a session's cache has a name of "
                                   "1 to %u bytes",
                                   ref->n_name, SESSION_CACHE_SUFFIX);
        char *name = bump_alloc(&r->d->bump, SESSION_KEY_SIZE + ref->n_name);
        if (!name)
                return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the request: nothing was changed; "
                                   "try again later");
        memcpy(name, r->who.session, SESSION_KEY_SIZE);
        memcpy(name + SESSION_KEY_SIZE, ref->name, ref->n_name);
        ref->name = name;
        ref->n_name += SESSION_KEY_SIZE;
        return STATUS_OK;
}

bool scope_has_cache(const struct request *r, uint32_t cache)
{
        size_t n;
        return session_cache_name(r->who.realm, cache, r->who.session, &n) != NULL;
}

void scope_cache_name(const struct realm *realm, uint32_t cache, char *buf, size_t n_buf)
{
        size_t n;
        const char *name = store_cache_name(realm->store, cache, &n);
        buf[0] = '\0';
        if (name && n > SESSION_KEY_SIZE)
                snprintf(buf, n_buf, "%.*s", (int)(n - SESSION_KEY_SIZE), name + SESSION_KEY_SIZE);
}

/* ---- clearing */

enum status scope_clear_all(struct request *r, Cached__V1__ClearResult *result)
{
        struct realm *realm = r->who.realm;
        uint32_t cache = 0;
        while ((cache = session_caches_next(realm, r->who.session, cache)) != 0) {
                const struct cache_ref ref = {.id = cache};
                uint64_t n;
                enum status status = data_clear(&r->who, &ref, &n, &r->verdict);
                if (status != STATUS_OK)
                        return status; /* those before it are cleared: asking again goes on */
                leasing_cleared(r, &ref);
                result->resources += resourcing_cleared(r, &ref, (struct key_ref){0});
                result->entries += n;
                result->caches++;
        }
        return STATUS_OK;
}

/* ---- sessions that are gone */

/* False: not now; *ret_due says when. */
static bool remove_cache(struct dispatcher *d, struct realm *r, uint32_t cache, uint64_t now_ms,
                         uint64_t *ret_due)
{
        resourcing_cache_ends(d, r, cache, now_ms);
        if (leasing_is_on(d)) {
                leases_cleared(&d->leases, r, cache, now_ms);
                struct lease_gauge gauge = leases_gauge(&d->leases, r, cache);
                if (gauge.computing > 0 || gauge.waiting > 0) {
                        uint64_t n;
                        (void)store_clear(r->store, cache, now_ms, &n);
                        *ret_due = now_ms + AGAIN_MS;
                        return false;
                }
        }
        int k = store_cache_remove(r->store, cache, now_ms);
        *ret_due = now_ms + AGAIN_SOON_MS;
        return k == 0 || k == STORE_E_NO_CACHE;
}

/* Each that is in the line now has one try. */
static void maintain_realm(struct dispatcher *d, struct realm *r, uint64_t now_ms, unsigned *steps)
{
        uint64_t due_ms = 0, one_due_ms;
        uint32_t first_kept = 0, cache;
        while (*steps > 0 && (cache = session_caches_take_gone(r, now_ms)) != 0) {
                if (cache == first_kept) {
                        session_caches_put_back(r, cache, due_ms);
                        break;
                }
                --*steps;
                if (remove_cache(d, r, cache, now_ms, &one_due_ms))
                        continue;
                if (first_kept == 0) {
                        first_kept = cache;
                        due_ms = one_due_ms;
                }
                due_ms = one_due_ms < due_ms ? one_due_ms : due_ms;
                session_caches_put_back(r, cache, 0);
        }
        realm_settle(r);
}

bool scope_maintain(struct dispatcher *d, uint64_t now_ms, unsigned steps)
{
        bool any = false;
        for (struct realm *r = d->realms.first; r && steps > 0; r = r->next) {
                if (session_caches_due(r) > now_ms)
                        continue;
                maintain_realm(d, r, now_ms, &steps);
                any = true; /* and what was in them is to be reclaimed */
        }
        return any || scope_next_deadline(d) <= now_ms;
}

uint64_t scope_next_deadline(const struct dispatcher *d)
{
        uint64_t next = STORE_NEVER;
        for (const struct realm *r = d->realms.first; r; r = r->next) {
                uint64_t its = session_caches_due(r);
                next = its < next ? its : next;
        }
        return next;
}
