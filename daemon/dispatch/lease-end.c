/* SPDX-License-Identifier: MIT */
/*
 * What requests that change something mean for leases
 *
 * A Set under a lease is refused where the lease is not known any more: then the key has changed
 * since, or its holder is gone. Whatever else becomes of such a Set, the lease ends with it, also
 * where it is refused before its value has arrived. Every store, under a lease or not, is what
 * those get who wait for the key; every deletion begins anew.
 */
#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/reply.h"
#include "dispatch/scope.h"
#include "dispatch/share.h"
#include "realm/realm.h"

static struct lease_where where_of(const struct request *r, uint32_t cache, const void *key,
                                   size_t n_key)
{
        return (struct lease_where){.space = r->who.realm,
                                    .cache = cache,
                                    .key = key,
                                    .n_key = n_key};
}

struct lease *leasing_find(const struct request *r, uint64_t id)
{
        struct lease *l = id != 0 ? leases_find(&r->d->leases, id) : NULL;
        if (!l || lease_party_uid(l->party) != r->who.uid || lease_space(l->slot) != r->who.realm)
                return NULL;
        if (r->who.realm->hidden && !scope_has_cache(r, lease_cache(l->slot)))
                return NULL;
        return l;
}

void leasing_handed_out(struct share *s, size_t n)
{
        if (!s)
                return;
        s->refs += n;
        share_unref(s);
}

/* ---- Set */

static enum status superseded(struct request *r, const struct cache_ref *ref, const char *why)
{
        struct verdict v;
        uint32_t cache;
        struct store_counters *c = NULL;
        if (data_find_cache(&r->who, ref, &cache, &v) == STATUS_OK)
                c = store_cache_counters(r->who.realm->store, cache);
        if (c)
                c->superseded++;
        return verdict_set(&r->verdict, STATUS_SUPERSEDED, "%s", why);
}

enum status leasing_check(struct request *r, const struct cache_ref *ref,
                          const struct store_put *put)
{
        const Cached__V1__Set *msg = r->msg->set;
        if (__builtin_expect(msg->lease_id == 0, 1))
                return !msg->share_only
                               ? STATUS_OK
                               : verdict_set(&r->verdict, STATUS_INVALID,
                                             "share_only without lease_id: nobody waits for it; "
                                             "name the lease, or leave share_only out");
        struct lease *l = leasing_find(r, msg->lease_id);
        if (!l)
                return superseded(
                        r, ref,
                        "the lease is not known any more: the key was cleared, deleted or "
                        "stored anew since it was granted, or its connection has ended, "
                        "or it was used already: nothing was stored");
        uint32_t cache;
        enum status status = data_find_cache(&r->who, ref, &cache, &r->verdict);
        const struct lease_where where = where_of(r, cache, put->key, put->n_key);
        if (status != STATUS_OK || !lease_is_of(l, &where)) {
                r->lease_stays = true;
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the lease is for another key, or another cache: store under "
                                   "the lease that was granted for this one");
        }
        for (size_t i = 0; i < msg->n_tags; i++) {
                if (!lease_tag_was_cleared(&r->d->leases, l, msg->tags[i],
                                           decode_length(msg->tags[i])))
                        continue;
                lease_supersede(&r->d->leases, l, r->who.now_ms);
                return superseded(r, ref,
                                  "a tag of the value was cleared since the lease was granted: "
                                  "nothing was stored; compute it anew");
        }
        return STATUS_OK;
}

/* Under a lease that leasing_check() has found. */
void leasing_share(struct request *r, const struct store_put *put, struct large *large)
{
        struct lease *l = leasing_find(r, r->msg->set->lease_id);
        struct share *s = l->slot->n_waiting > 0 ? share_value(r, put, large) : NULL;
        leasing_handed_out(s, lease_share(&r->d->leases, l,
                                          s ? LEASE_GOT_VALUE : LEASE_GOT_UNSTORABLE, s));
}

/* The version of the value that was to be computed anew, or is kept for the case that no other one
 * can be computed; 0: there is none. */
static uint64_t old_value(const struct request *r, const struct lease *l)
{
        const struct lease_slot *s = l->slot;
        struct store_entry e;
        if (l->refresh)
                return l->version;
        if (store_peek_kept(r->who.realm->store, lease_cache(s), s->key, s->n_key, r->who.now_ms,
                            &e) == 0)
                return e.version;
        return 0;
}

bool leasing_serve_old(struct request *r, struct lease *l)
{
        struct store *store = r->who.realm->store;
        const struct lease_slot *s = l->slot;
        uint32_t cache = lease_cache(s);
        uint64_t now_ms = r->who.now_ms;
        uint64_t version = l->late ? 0 : old_value(r, l);
        struct store_entry e;
        if (version == 0)
                return false;
        uint64_t pause = backoff_next(&r->d->backoff, r->who.realm->serial, version);
        if (store_refresh_end(store, cache, s->key, s->n_key, version, now_ms + pause, true) != 0 ||
            store_get(store, cache, s->key, s->n_key, now_ms, false, &e) != 0)
                return false;
        struct share *share = s->n_waiting > 0 ? share_entry(r, &e) : NULL;
        l->refresh = false; /* it is not due at once */
        leasing_handed_out(share,
                           lease_share(&r->d->leases, l,
                                       share ? LEASE_GOT_VALUE : LEASE_GOT_UNSTORABLE, share));
        return true;
}

void leasing_refused(struct request *r, enum status status)
{
        uint64_t id = r->lease_id;
        if (r->msg && r->msg->op_case == CACHED__V1__REQUEST__OP_SET)
                id = r->msg->set->lease_id;
        struct lease *l = r->lease_stays ? NULL : leasing_find(r, id);
        if (!l || leasing_serve_old(r, l))
                return;
        const char *why =
                status == STATUS_NOT_FOUND ? "there was nothing to replace" : r->verdict.text;
        struct share *s = l->slot->n_waiting > 0 ? share_failure(l, why, r->who.now_ms) : NULL;
        leasing_handed_out(s, lease_share(&r->d->leases, l, LEASE_GOT_UNSTORABLE, s));
}

void leasing_stored_slow(struct request *r, const struct store_put *put)
{
        struct leases *t = &r->d->leases;
        const struct lease_where where = where_of(r, put->cache, put->key, put->n_key);
        struct share *s = NULL;
        struct store_entry e;
        if (leases_waiting_for(t, &where) > 0 &&
            store_get(r->who.realm->store, put->cache, put->key, put->n_key, r->who.now_ms, false,
                      &e) == 0)
                s = share_entry(r, &e);
        leasing_handed_out(s, leases_stored(t, &where, s));
}

/* ---- deleting and clearing */

void leasing_deleted_slow(struct request *r, const struct cache_ref *ref, struct key_ref key)
{
        struct verdict v;
        uint32_t cache;
        if (data_find_cache(&r->who, ref, &cache, &v) != STATUS_OK)
                return;
        const struct lease_where where = where_of(r, cache, key.data, key.n);
        leases_deleted(&r->d->leases, &where, r->who.now_ms);
}

void leasing_cleared(struct request *r, const struct cache_ref *ref)
{
        struct verdict v;
        uint32_t cache = 0;
        if (!leasing_is_on(r->d) || (ref && data_find_cache(&r->who, ref, &cache, &v) != STATUS_OK))
                return;
        leases_cleared(&r->d->leases, r->who.realm, cache, r->who.now_ms);
}

void leasing_cleared_tag(struct request *r, const struct cache_ref *ref, const char *tag,
                         size_t n_tag)
{
        struct verdict v;
        uint32_t cache;
        if (!leasing_is_on(r->d) || data_find_cache(&r->who, ref, &cache, &v) != STATUS_OK)
                return;
        leases_cleared_tag(&r->d->leases, r->who.realm, cache, tag, n_tag);
}

void leasing_cleared_prefix(struct request *r, const struct cache_ref *ref, struct key_ref prefix)
{
        struct verdict v;
        uint32_t cache;
        if (!leasing_is_on(r->d) || data_find_cache(&r->who, ref, &cache, &v) != STATUS_OK)
                return;
        const struct lease_where where = where_of(r, cache, prefix.data, prefix.n);
        leases_cleared_prefix(&r->d->leases, &where, r->who.now_ms);
}

/* ---- looking */

const struct lease *leasing_holder(struct request *r, const struct cache_ref *ref,
                                   struct key_ref key)
{
        struct verdict v;
        uint32_t cache;
        if (!leasing_is_on(r->d) || data_find_cache(&r->who, ref, &cache, &v) != STATUS_OK)
                return NULL;
        const struct lease_where where = where_of(r, cache, key.data, key.n);
        return leases_holder(&r->d->leases, &where);
}
