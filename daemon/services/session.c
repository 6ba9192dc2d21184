/* SPDX-License-Identifier: MIT */
/*
 * Sessions
 *
 * A session is one entry of the cache SESSIONS_CACHE_NAME in the hidden realm beside the one that
 * it belongs to. So expiry, what leaves when memory is full, crashes and takeovers are the store's
 * business. Its value is a record with all that the session is; each change makes the next record
 * and puts it in the place of the one before, which the store does in one step.
 *
 * Of the token only a keyed digest is kept: half of it is the entry's key, the other half lies in
 * the record and is compared in constant time. So how long a look-up takes says nothing of any
 * token, and who reads the memory of the daemon finds none. The key of the digest is the store's
 * seed, which goes where the store goes.
 *
 * A session that is bound has its end in the record while nobody is attached to it. A session that
 * never ends for want of use has a deadline all the same, in ten years: from it follows when it was
 * last used.
 */
#include "services/session.h"

#include <blake2.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "config.h"
#include "proto/wire.h"
#include "realm/realm.h"
#include "services/limits.h"

#define DIGEST (SESSION_KEY_SIZE + SESSION_VERIFIER)

/* The seed lies in front of the token, in the one block that is hashed: as a key of BLAKE2b it
 * would take a block more. Nobody can lengthen what this function has hashed, so both are as good.
 */
static void digest(const struct store *s, const uint8_t *token, uint8_t ret[DIGEST])
{
        struct {
                uint64_t seed[2];
                uint8_t token[SESSION_TOKEN];
        } in;
        store_seed(s, in.seed);
        memcpy(in.token, token, SESSION_TOKEN);
        (void)blake2b(ret, &in, NULL, DIGEST, sizeof(in), 0);
        explicit_bzero(&in, sizeof(in));
}

/* In a time that does not depend on what they are. */
static bool is_same(const uint8_t *a, const uint8_t *b, size_t n)
{
        volatile uint8_t differ = 0;
        for (size_t i = 0; i < n; i++)
                differ = (uint8_t)(differ | (a[i] ^ b[i]));
        return differ == 0;
}

static struct caller inside(const struct caller *who, struct realm *hidden)
{
        struct caller c = *who;
        c.realm = hidden;
        return c;
}

/* ---- how long it lives */

static uint64_t idle_ttl(const struct session_record *r)
{
        return r->idle_ms > WIRE_TTL_MS_MAX ? WIRE_TTL_MS_MAX : r->idle_ms;
}

static uint64_t least(uint64_t a, uint64_t b)
{
        return a < b ? a : b;
}

/* After a use. 0 never: that would leave the deadline as it is. */
static uint64_t ttl_of(const struct session_record *r, uint64_t now_ms)
{
        uint64_t ttl = idle_ttl(r);
        if (r->bound && r->until_ms != 0)
                ttl = least(ttl, r->until_ms > now_ms ? r->until_ms - now_ms : 1);
        return ttl > 0 ? ttl : 1;
}

/* ---- finding */

bool session_look(struct realm *hidden, const uint8_t *key, uint64_t now_ms,
                  struct session_ref *ret)
{
        uint32_t cache = session_caches_home(hidden);
        if (store_get(hidden->store, cache, key, SESSION_KEY_SIZE, now_ms, false, &ret->entry) !=
                    0 ||
            !session_record_read(ret->entry.value, ret->entry.n_value, &ret->record))
                return false;
        ret->realm = hidden;
        memmove(ret->key, key, SESSION_KEY_SIZE);
        return true;
}

static bool find(const struct caller *who, const uint8_t *token, struct session_ref *ret)
{
        struct realm *hidden = who->realm->sessions;
        uint8_t d[DIGEST];
        digest(hidden->store, token, d);
        return session_look(hidden, d, who->now_ms, ret) &&
               is_same(d + SESSION_KEY_SIZE, ret->record.verifier, SESSION_VERIFIER);
}

/* It ends later for that, and is the last one to go. False: it is no more. */
static bool use(struct session_ref *ref, uint64_t now_ms)
{
        if (store_touch(ref->realm->store, session_caches_home(ref->realm), ref->key,
                        SESSION_KEY_SIZE, ttl_of(&ref->record, now_ms), now_ms, &ref->entry) != 0)
                return false;
        /* A touch leaves the value where it is, so it was read already. */
        return (ref->entry.value == ref->record.bytes && ref->entry.n_value == ref->record.n) ||
               session_record_read(ref->entry.value, ref->entry.n_value, &ref->record);
}

enum status session_is_over(struct verdict *v)
{
        return verdict_set(v, STATUS_NOT_FOUND,
                           "there is no session with this token in the realm (any more): open one");
}

static enum status found(bool is_there, struct verdict *v)
{
        return is_there ? STATUS_OK : session_is_over(v);
}

enum status session_find_to_change(const struct caller *who, const uint8_t *token, size_t n_token,
                                   struct session_ref *ret, struct verdict *v)
{
        return found(n_token == SESSION_TOKEN && who->realm->sessions && find(who, token, ret), v);
}

enum status session_find(const struct caller *who, const uint8_t *token, size_t n_token,
                         struct session_ref *ret, struct verdict *v)
{
        return found(n_token == SESSION_TOKEN && who->realm->sessions && find(who, token, ret) &&
                             use(ret, who->now_ms),
                     v);
}

/* ---- opening and closing */

static enum status check_number(const struct caller *in, uint32_t cache, struct verdict *v)
{
        uint64_t max = in->cfg->limits.sessions_per_uid;
        uint64_t n = store_entries_of(in->realm->store, cache, (uint32_t)in->uid);
        if (n < max)
                return STATUS_OK;
        return verdict_set(v, STATUS_LIMIT,
                           "uid %u has %" PRIu64
                           " sessions in this realm, and limits.sessions_per_uid is %" PRIu64
                           ": %s",
                           (unsigned)in->uid, n, max, limit_advice.sessions_per_uid);
}

static enum status make_token(uint8_t *token, struct verdict *v)
{
        ssize_t n = getrandom(token, SESSION_TOKEN, GRND_NONBLOCK);
        if (n == (ssize_t)SESSION_TOKEN)
                return STATUS_OK;
        return verdict_errno(v, n < 0 ? -errno : -EAGAIN, "making a token");
}

static enum status store_new_one(const struct caller *in, uint32_t cache,
                                 const struct session_open *what, const uint8_t *d,
                                 struct verdict *v)
{
        uint8_t bytes[SESSION_RECORD_NEW_MAX];
        const struct session_record_new first = {
                .verifier = d + SESSION_KEY_SIZE,
                .label = what->label,
                .n_label = what->n_label,
                .bound = what->bound,
                .grace_ms = what->grace_ms,
                .until_ms = what->bound && !what->attached ? in->now_ms + what->grace_ms : 0,
                .created_ms = in->now_ms,
                .idle_ms = what->idle_ms,
        };
        size_t n = session_record_new(&first, bytes);
        struct session_record r;
        struct store_entry entry;
        if (!session_record_read(bytes, n, &r))
                return verdict_set(v, STATUS_INTERNAL, "the new session's record is not whole");
        struct store_put put = {
                .cache = cache,
                .key = d,
                .n_key = SESSION_KEY_SIZE,
                .value = bytes,
                .n_value = n,
                .raw_size = n,
                .ttl_ms = ttl_of(&r, in->now_ms),
                .mode = STORE_ADD_ONLY,
                .uid = (uint32_t)in->uid,
        };
        return data_put(in, &put, &entry, v);
}

enum status session_open(const struct caller *who, const struct session_open *what, uint8_t *token,
                         struct session_ref *ret, struct verdict *v)
{
        struct realm *hidden;
        int k = realm_sessions(who->realm, &hidden);
        if (k < 0)
                return verdict_errno(v, k, "making room for sessions");
        struct caller in = inside(who, hidden);
        uint32_t cache = session_caches_home(hidden);
        uint8_t d[DIGEST];
        enum status status = check_number(&in, cache, v);
        if (status == STATUS_OK)
                status = make_token(token, v);
        if (status != STATUS_OK)
                return status;
        digest(hidden->store, token, d);
        status = store_new_one(&in, cache, what, d, v);
        realm_settle(hidden);
        struct store_counters *counters = store_cache_counters(hidden->store, cache);
        if (status == STATUS_OK && counters)
                counters->opens++;
        if (status == STATUS_OK && !session_look(hidden, d, who->now_ms, ret))
                return verdict_set(v, STATUS_INTERNAL, "the new session is not there");
        return status;
}

enum status session_close(const struct caller *who, const struct session_ref *ref,
                          struct verdict *v)
{
        uint32_t cache = session_caches_home(ref->realm);
        int r = store_delete(ref->realm->store, cache, ref->key, SESSION_KEY_SIZE, who->now_ms);
        if (r < 0)
                return verdict_errno(v, r, "closing the session");
        session_ended(ref->realm, ref->key);
        realm_settle(ref->realm);
        return STATUS_OK;
}

/* ---- changing */

/* In the place of the one before, for whom it belongs to. */
static enum status replace(const struct caller *in, const struct session_ref *ref,
                           const uint8_t *bytes, size_t n, uint64_t ttl_ms, struct verdict *v)
{
        struct store_entry entry;
        struct store_put put = {
                .cache = session_caches_home(ref->realm),
                .key = ref->key,
                .n_key = SESSION_KEY_SIZE,
                .value = bytes,
                .n_value = n,
                .raw_size = n,
                .ttl_ms = ttl_ms,
                .uid = ref->entry.uid,
        };
        enum status status = data_put(in, &put, &entry, v);
        realm_settle(ref->realm);
        return status;
}

static enum status refused(const struct caller *who, int k, const struct session_change *c,
                           const struct session_result *result, struct verdict *v)
{
        switch (k) {
        case SESSION_CHANGE_E_MISSING:
                return verdict_set(v, STATUS_NOT_FOUND, "the key has no value in this session");
        case SESSION_CHANGE_E_EXISTS:
                return verdict_set(v, STATUS_EXISTS,
                                   "the key has a value already: leave mode out to replace it");
        case SESSION_CHANGE_E_VERSION:
                return verdict_set(v, STATUS_VERSION_MISMATCH,
                                   "the key's version is %" PRIu64 ", not %" PRIu64
                                   ": get it again and decide anew",
                                   result->item.version, c->expected_version);
        case SESSION_CHANGE_E_TEXT:
                return verdict_set(v, STATUS_INVALID,
                                   "the key's value is no %s number in decimal text: set one first",
                                   c->by.is_real ? "finite" : "integer");
        case SESSION_CHANGE_E_OVERFLOW:
                return verdict_set(v, STATUS_INVALID,
                                   "the sum is beyond what %s holds: count on something smaller",
                                   c->by.is_real ? "a binary64 number" : "64 bits with sign");
        case SESSION_CHANGE_E_KEYS:
                return verdict_set(v, STATUS_LIMIT,
                                   "the session would have %" PRIu64
                                   " keys, more than limits.session_keys, %" PRIu64 ": %s",
                                   result->would_be, c->max_keys, limit_advice.session_keys);
        case SESSION_CHANGE_E_STORED:
                return verdict_set(v, STATUS_TOO_LARGE,
                                   "the session would have %" PRIu64
                                   " bytes of keys and values, more than limits.session_bytes, "
                                   "%" PRIu64 ": %s",
                                   result->would_be, c->max_stored, limit_advice.session_bytes);
        case SESSION_CHANGE_E_UNKNOWN:
                return verdict_set(v, STATUS_OUTCOME_UNKNOWN,
                                   "the session does not remember this operation any more: look "
                                   "what it holds and decide anew");
        case SESSION_CHANGE_E_NUMBER:
                return verdict_set(v, STATUS_INVALID,
                                   "operation.number %" PRIu64
                                   " is not larger than the last one of its lane: count upwards, "
                                   "and say `repeated` when sending something again",
                                   c->number);
        default:
                return verdict_set(v, STATUS_INTERNAL, "changing a session of uid %u failed (%d)",
                                   (unsigned)who->uid, k);
        }
}

enum status session_apply(const struct caller *who, const struct session_ref *ref,
                          struct session_change *c, struct session_result *ret, struct verdict *v)
{
        c->max_keys = who->cfg->limits.session_keys;
        c->max_stored = who->cfg->limits.session_bytes;
        uint8_t *bytes = malloc(session_change_room(&ref->record, c));
        if (!bytes)
                return verdict_set(v, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the change: nothing was changed; "
                                   "try again later");
        enum status status = STATUS_OK;
        bool stored = false;
        int k = session_change(&ref->record, c, bytes, ret);
        if (k != SESSION_CHANGE_OK) {
                status = refused(who, k, c, ret, v);
        } else if (ret->n > 0) {
                struct caller in = inside(who, ref->realm);
                status = replace(&in, ref, bytes, ret->n, ttl_of(&ref->record, who->now_ms), v);
                stored = status == STATUS_OK;
        }
        free(bytes);
        /* To be stored anew is a use; else this is one. */
        struct session_ref used = *ref;
        if (!stored)
                (void)use(&used, who->now_ms);
        return status;
}

/* ---- sessions that are bound */

bool session_bind(const struct session_ref *ref, bool attached, uint64_t now_ms)
{
        const struct session_record *r = &ref->record;
        const struct caller in = {.realm = ref->realm,
                                  .cfg = ref->realm->realms->cfg,
                                  .now_ms = now_ms};
        struct verdict v;
        uint64_t until_ms = attached ? 0 : now_ms + r->grace_ms;
        if (!r->bound || r->until_ms == until_ms)
                return true;
        /* To be left is no use. */
        uint64_t left = ref->entry.deadline > now_ms ? ref->entry.deadline - now_ms : 1;
        uint64_t ttl = attached ? idle_ttl(r) : least(left, r->grace_ms);
        ttl = ttl > 0 ? ttl : 1;
        uint8_t *bytes = malloc(r->n);
        if (bytes)
                session_record_bind(r, until_ms, bytes);
        bool ok = bytes && replace(&in, ref, bytes, r->n, ttl, &v) == STATUS_OK;
        free(bytes);
        struct store_entry entry;
        if (!ok)
                (void)store_touch(ref->realm->store, session_caches_home(ref->realm), ref->key,
                                  SESSION_KEY_SIZE, ttl, now_ms, &entry);
        return ok;
}

#define UNBIND_AT_ONCE 256u

struct unbinding {
        uint64_t now_ms;
        unsigned n;
        uint8_t keys[UNBIND_AT_ONCE][SESSION_KEY_SIZE];
};

static bool note_bound(void *ctx, const struct store_entry *e)
{
        struct unbinding *u = ctx;
        struct session_record r;
        if (e->n_key != SESSION_KEY_SIZE || !session_record_read(e->value, e->n_value, &r) ||
            !r.bound || r.until_ms == u->now_ms + r.grace_ms)
                return true;
        memcpy(u->keys[u->n++], e->key, SESSION_KEY_SIZE);
        return true;
}

void session_unbind_all(struct realm *hidden, uint64_t now_ms)
{
        struct unbinding u = {.now_ms = now_ms};
        struct session_ref ref;
        uint64_t cursor = 0;
        uint32_t cache = session_caches_home(hidden);
        do {
                u.n = 0;
                if (store_list(hidden->store, cache, now_ms, UNBIND_AT_ONCE, &cursor, note_bound,
                               &u) != 0)
                        return;
                for (unsigned i = 0; i < u.n; i++)
                        if (session_look(hidden, u.keys[i], now_ms, &ref))
                                (void)session_bind(&ref, false, now_ms);
        } while (cursor != 0);
}

/* ---- telling */

void session_id(const uint8_t *key, char ret[SESSION_ID])
{
        static const char digits[] = "0123456789abcdef";
        for (unsigned i = 0; i < (SESSION_ID - 1) / 2; i++) {
                ret[2 * i] = digits[key[i] >> 4];
                ret[2 * i + 1] = digits[key[i] & 0xf];
        }
        ret[SESSION_ID - 1] = '\0';
}

/* When it was left, if nothing later is known: a use does not move the end of its grace. */
static uint64_t last_use(const struct session_ref *ref)
{
        const struct session_record *r = &ref->record;
        uint64_t before = ref->entry.deadline == r->until_ms ? r->grace_ms : idle_ttl(r);
        return ref->entry.deadline > before ? ref->entry.deadline - before : 0;
}

void session_facts(const struct session_ref *ref, uint64_t now_ms, struct session_facts *ret)
{
        uint64_t used_ms = last_use(ref);
        *ret = (struct session_facts){
                .record = &ref->record,
                .uid = ref->entry.uid,
                .charge = ref->entry.charge,
                .age_ms = now_ms > ref->record.created_ms ? now_ms - ref->record.created_ms : 0,
                .unused_ms = now_ms > used_ms ? now_ms - used_ms : 0,
        };
        session_id(ref->key, ret->id);
}

struct listing {
        struct session_ref ref;
        bool all;
        uint32_t uid;
        session_visit visit;
        void *ctx;
};

static bool visit_entry(void *ctx, const struct store_entry *e)
{
        struct listing *l = ctx;
        if ((!l->all && e->uid != l->uid) || e->n_key != SESSION_KEY_SIZE ||
            !session_record_read(e->value, e->n_value, &l->ref.record))
                return true;
        l->ref.entry = *e;
        memcpy(l->ref.key, e->key, SESSION_KEY_SIZE);
        return l->visit(l->ctx, &l->ref);
}

void session_list(const struct caller *who, bool all, uint32_t max, uint64_t *cursor,
                  session_visit visit, void *ctx)
{
        struct realm *hidden = who->realm->sessions;
        struct listing l = {
                .ref.realm = hidden,
                .all = all,
                .uid = (uint32_t)who->uid,
                .visit = visit,
                .ctx = ctx,
        };
        if (!hidden || store_list(hidden->store, session_caches_home(hidden), who->now_ms, max,
                                  cursor, visit_entry, &l) != 0)
                *cursor = 0;
}
