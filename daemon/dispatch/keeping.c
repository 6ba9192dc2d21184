/* SPDX-License-Identifier: MIT */
/*
 * Keeping resources for a successor
 *
 * Instances that are in their cache, holders and holds are a record each (resource-record.c) in a
 * cache of the hidden realm that holds the sessions of theirs: no request can get at it, and
 * nothing is evicted from it. The table tells what changes, and that is written at once, in the
 * middle of its change: so before any answer that tells of it is on its way. Between two records of
 * one change the process may die; therefore an instance is written before the hold that makes it
 * somebody's ends, and what is half written then is nothing that anybody was told.
 *
 * A record that finds no room is refused like a value, once nothing is left that nobody holds: what
 * it is about is taken back, and whoever asked is told why. Where nobody asked (a lock is handed
 * on) the old record stands, by which the lock is that of a holder who will not claim it: a
 * successor lets the instance go, and nobody ever has a lock that another one has.
 *
 * Descriptors have names of their own, R and a number, for as long as they are here; the record
 * says which, and what file it is. Records lie beside the realm of the holder's connection, which
 * is that of the instance, too: of a session's cache the record says that it is one, by the name
 * that it has in the hidden realm.
 *
 * While another process takes over, nothing is written: who dies or hangs up then is looked for
 * when that fails, and by the successor when it does not.
 */
#include "dispatch/keeping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "config.h"
#include "dispatch/client.h"
#include "dispatch/disk.h"
#include "dispatch/fd-kind.h"
#include "realm/keeper.h"
#include "realm/session-caches.h"
#include "server.h"
#include "transport/conn.h"

#define GROWTH   256u /* names */
#define OFFER_MS UINT64_C(250)
#define USE_MS   UINT64_C(1000) /* how exactly a successor knows when an instance was used */

struct keeping {
        struct resource_object **names; /* by number; NULL: it is free */
        uint32_t n_names, low;          /* all below `low` are taken */
        uint32_t n_unkept;              /* keepable ones that are not with the keeper */
        uint64_t offer_due_ms;
        bool still;
        struct verdict fault; /* of what could not be written last */
};

/* ---- writing */

static struct realm *hidden_of(struct realm *realm)
{
        return realm->sessions;
}

static bool is_written(struct realm *hidden, uint32_t cache, const uint8_t *key, size_t n_key,
                       const uint8_t *bytes, size_t n, uint64_t now_ms)
{
        struct store_entry e;
        return store_get(hidden->store, cache, key, n_key, now_ms, false, &e) == 0 &&
               e.n_value == n && memcmp(e.value, bytes, n) == 0;
}

static enum status put(struct dispatcher *d, struct realm *hidden, const struct resource_kept *k,
                       uid_t uid, struct verdict *v)
{
        uint8_t key[RESOURCE_KEPT_KEY], bytes[RESOURCE_KEPT_MAX];
        size_t n_key = resource_record_key(k, key), n = resource_record_write(k, bytes);
        uint32_t cache = session_caches_resources(hidden);
        const struct caller in = {.realm = hidden,
                                  .cfg = d->cfg,
                                  .uid = uid,
                                  .now_ms = server_now_ms(d->server)};
        struct store_entry entry;
        if (cache == 0)
                return verdict_set(v, STATUS_LIMIT,
                                   "the realm was made under a limits.session_caches_per_realm "
                                   "that leaves no room for resources: raise it, and start the "
                                   "daemon anew");
        if (is_written(hidden, cache, key, n_key, bytes, n, in.now_ms))
                return STATUS_OK;
        struct store_put put = {.cache = cache,
                                .key = key,
                                .n_key = n_key,
                                .value = bytes,
                                .n_value = n,
                                .raw_size = n,
                                .ttl_ms = STORE_NEVER,
                                .uid = (uint32_t)uid};
        enum status status = data_put(&in, &put, &entry, v);
        realm_settle(hidden);
        return status;
}

/* With the reason in @v. */
static enum status save(struct dispatcher *d, struct realm *realm, const struct resource_kept *k,
                        uid_t uid, struct verdict *v)
{
        struct realm *hidden = hidden_of(realm);
        if (keeping_is_still(d))
                return STATUS_OK;
        int r = hidden ? 0 : realm_sessions(realm, &hidden);
        if (r < 0)
                return verdict_errno(v, r, "making room for resources");
        return put(d, hidden, k, uid, v);
}

/* Not in the middle of a change of the table's. */
static enum status save_or_evict(struct request *r, struct realm *realm,
                                 const struct resource_kept *k, uid_t uid)
{
        enum status status = save(r->d, realm, k, uid, &r->verdict);
        while (status == STATUS_NO_SPACE && resources_evict(&r->d->resources, realm, r->who.now_ms))
                status = save(r->d, realm, k, uid, &r->verdict);
        return status;
}

void keeping_drop(struct dispatcher *d, struct realm *hidden, const struct resource_kept *k)
{
        uint8_t key[RESOURCE_KEPT_KEY];
        size_t n_key = resource_record_key(k, key);
        if (!hidden || session_caches_resources(hidden) == 0 || keeping_is_still(d))
                return;
        (void)store_delete(hidden->store, session_caches_resources(hidden), key, n_key,
                           server_now_ms(d->server));
        realm_settle(hidden);
}

/* ---- what is written */

/* Where it is, and its descriptor. False: its cache is not there any more. */
static bool fill_place(struct resource_kept *k, const struct resource_object *o)
{
        struct realm *realm = k->instance.where.space;
        uint32_t cache = k->instance.where.cache & ~RESOURCE_APART;
        k->kind = RESOURCE_KEPT_INSTANCE;
        k->hidden = k->instance.where.cache & RESOURCE_APART;
        if (k->hidden)
                realm = hidden_of(realm);
        k->cache = realm ? store_cache_name(realm->store, cache, &k->n_cache) : NULL;
        k->fd = o->kind;
        k->place = o->place;
        k->dev = o->dev;
        k->ino = o->ino;
        return k->cache != NULL;
}

/* Of its latest use alone nothing is written more often than this. */
static void round_use(const struct dispatcher *d, struct resource_kept *k)
{
        struct realm *hidden = hidden_of(k->instance.where.space);
        uint8_t key[RESOURCE_KEPT_KEY];
        size_t n_key = resource_record_key(k, key);
        struct resource_kept old;
        struct store_entry e;
        if (hidden &&
            store_get(hidden->store, session_caches_resources(hidden), key, n_key,
                      server_now_ms(d->server), false, &e) == 0 &&
            resource_record_read(e.key, e.n_key, e.value, e.n_value, &old) &&
            k->instance.used < old.instance.used + USE_MS)
                k->instance.used = old.instance.used;
}

static enum status save_instance(struct dispatcher *d, const struct resource *res,
                                 struct verdict *v)
{
        const struct resource_object *o = res->payload;
        struct resource_kept k = {.instance = resource_export(&d->resources, res)};
        if (o->head) /* its word says it */
                k.instance.lock_owner = 0;
        if (!fill_place(&k, o))
                return STATUS_OK;
        round_use(d, &k);
        return save(d, k.instance.where.space, &k, res->uid, v);
}

static struct resource_kept hold_of(const struct resource_hold *hold)
{
        return (struct resource_kept){.kind = RESOURCE_KEPT_HOLD,
                                      .instance.number = hold->resource->number,
                                      .holder = hold->holder->id,
                                      .holder_uid = hold->holder->uid,
                                      .count = hold->count,
                                      .since = hold->since};
}

static struct realm *realm_of(const struct resource *res)
{
        return resource_space_of(res->slot);
}

/* ---- what the table tells */

static void changed(void *ctx, struct resource *res)
{
        struct dispatcher *d = ctx;
        if (res->payload) /* else it is being made */
                res->unsaved = save_instance(d, res, &d->keeping->fault) != STATUS_OK;
}

static void held(void *ctx, struct resource_hold *hold)
{
        struct dispatcher *d = ctx;
        const struct resource_kept k = hold_of(hold);
        hold->unsaved = save(d, realm_of(hold->resource), &k, hold->holder->uid,
                             &d->keeping->fault) != STATUS_OK;
}

static void let_go(void *ctx, const struct resource_hold *hold)
{
        const struct resource_kept k = hold_of(hold);
        keeping_drop(ctx, hidden_of(realm_of(hold->resource)), &k);
}

void keeping_left(struct dispatcher *d, const struct resource *res)
{
        const struct resource_kept k = {.kind = RESOURCE_KEPT_INSTANCE,
                                        .instance.number = res->number};
        keeping_drop(d, hidden_of(realm_of(res)), &k);
        for (struct list *n = res->holds.next; n != &res->holds; n = n->next)
                let_go(d, LIST_ENTRY(n, struct resource_hold, of_resource));
}

static void ended(void *ctx, const struct resource_holder *h)
{
        const struct resource_kept k = {.kind = RESOURCE_KEPT_HOLDER, .holder = h->id};
        keeping_drop(ctx, hidden_of(h->space), &k);
}

/* ---- what is asked for */

enum status keeping_announce(struct request *r, const struct resource_creation *c,
                             const struct resource_object *o)
{
        struct dispatcher *d = r->d;
        const struct resource_slot *s = c->slot;
        const Cached__V1__PublishResource *msg = r->msg->publish_resource;
        uint64_t now_ms = r->who.now_ms, ttl_ms = c->policy.ttl_ms;
        bool is_segment = msg->kind == CACHED__V1__RESOURCE_KIND__RESOURCE_SEGMENT;
        struct resource_kept k = {.instance = {.where = {.space = resource_space_of(s),
                                                         .cache = resource_cache_of(s),
                                                         .key = s->key,
                                                         .n_key = s->n_key},
                                               .number = d->resources.last_instance + 1,
                                               .size = is_segment ? msg->size : 0,
                                               .since = now_ms,
                                               .used = now_ms,
                                               .expires = ttl_ms < RESOURCE_NEVER - now_ms
                                                                  ? now_ms + ttl_ms
                                                                  : RESOURCE_NEVER,
                                               .pool = s->pool,
                                               .uid = c->holder->uid,
                                               .pid = c->holder->pid,
                                               .kind = (uint8_t)msg->kind,
                                               .read_only = is_segment && msg->read_only}};
        struct resource_kept hold = {.kind = RESOURCE_KEPT_HOLD,
                                     .instance.number = k.instance.number,
                                     .holder = c->holder->id,
                                     .holder_uid = c->holder->uid,
                                     .count = 1,
                                     .since = now_ms};
        if (!fill_place(&k, o))
                return STATUS_OK;
        enum status status = save_or_evict(r, k.instance.where.space, &k, k.instance.uid);
        if (status == STATUS_OK)
                status = save_or_evict(r, k.instance.where.space, &hold, hold.holder_uid);
        if (status != STATUS_OK)
                keeping_drop(d, hidden_of(k.instance.where.space), &k);
        return status;
}

void keeping_withdraw(struct request *r, struct realm *realm, uint64_t holder, uint64_t number)
{
        struct resource_kept k = {.kind = RESOURCE_KEPT_INSTANCE,
                                  .instance.number = number,
                                  .holder = holder};
        keeping_drop(r->d, hidden_of(realm), &k);
        k.kind = RESOURCE_KEPT_HOLD;
        keeping_drop(r->d, hidden_of(realm), &k);
}

enum status keeping_registered(struct request *r, struct resource *res, struct resource_hold *hold)
{
        enum status status = save_instance(r->d, res, &r->verdict);
        res->unsaved = status != STATUS_OK;
        return status == STATUS_OK ? keeping_check_hold(r, hold) : status;
}

enum status keeping_holder(struct request *r, const struct resource_holder *h,
                           const struct process_mark *mark)
{
        const struct resource_kept k = {.kind = RESOURCE_KEPT_HOLDER,
                                        .holder = h->id,
                                        .holder_uid = h->uid,
                                        .holder_number = h->number,
                                        .pid = h->pid,
                                        .process = {.start = mark->start, .ino = mark->ino},
                                        .since = h->since};
        return save_or_evict(r, h->space, &k, h->uid);
}

static enum status check(struct request *r, bool unsaved)
{
        if (!unsaved)
                return STATUS_OK;
        r->verdict = r->d->keeping->fault;
        return r->verdict.status;
}

/* The next one who asks may find room. */
enum status keeping_check_hold(struct request *r, const struct resource_hold *hold)
{
        enum status status = check(r, hold && hold->unsaved);
        if (status == STATUS_NO_SPACE)
                (void)resources_evict(&r->d->resources, realm_of(hold->resource), r->who.now_ms);
        return status;
}

enum status keeping_check_lock(struct request *r, const struct resource *res)
{
        const struct resource_object *o = res->payload;
        return check(r, !res->cause && !o->head && res->unsaved);
}

/* ---- names of descriptors */

static int grow(struct keeping *k, uint32_t n)
{
        struct resource_object **names;
        if (n < k->n_names)
                return 0;
        if (!given_fits(n))
                return -EMFILE;
        names = reallocarray(k->names, n + GROWTH, sizeof(struct resource_object *));
        if (!names)
                return -ENOMEM;
        memset(names + k->n_names, 0, (n + GROWTH - k->n_names) * sizeof(*names));
        k->names = names;
        k->n_names = n + GROWTH;
        return 0;
}

static bool file_of(int fd, uint64_t *ret_dev, uint64_t *ret_ino)
{
        struct statx st;
        if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT, STATX_INO, &st) < 0)
                return false;
        *ret_dev = makedev(st.stx_dev_major, st.stx_dev_minor);
        *ret_ino = st.stx_ino;
        return true;
}

bool keeping_is_file(int fd, uint64_t dev, uint64_t ino)
{
        uint64_t its_dev, its_ino;
        return file_of(fd, &its_dev, &its_ino) && its_dev == dev && its_ino == ino;
}

/* A regular file may be one of a file system in user space: whoever closes a copy of it, and that
 * is each process that the service manager starts, waits for that. Who closes the last copy of a
 * socket may wait for as long as its owner has said (SO_LINGER), and a socket of Unix may have
 * such a one, or a file, in its queue; both can be so at any later time. */
static bool may_be_closed(const struct resource_object *o)
{
        const struct keeper *to = o->d->realms.keeper;
        switch (o->kind) {
        case FD_KIND_FILE:
                return to && disk_has(o->dev);
        case FD_KIND_STREAM:
        case FD_KIND_DATAGRAM:
        case FD_KIND_SEQPACKET:
                return to && to->closes_aside;
        default:
                return true;
        }
}

static void may_be_kept(struct resource_object *o)
{
        o->keepable = may_be_closed(o);
        o->named_ms = server_now_ms(o->d->server);
        o->d->keeping->n_unkept += o->keepable;
}

int keeping_name(struct resource_object *o, int fd, unsigned kind)
{
        struct keeping *k = o->d->keeping;
        if (!file_of(fd, &o->dev, &o->ino))
                return -errno;
        while (k->low < k->n_names && k->names[k->low])
                k->low++;
        int r = grow(k, k->low);
        if (r < 0)
                return r;
        o->kind = (uint8_t)kind;
        o->place = k->low;
        k->names[k->low++] = o;
        may_be_kept(o);
        return 0;
}

int keeping_name_again(struct resource_object *o, const struct resource_kept *kept)
{
        struct keeping *k = o->d->keeping;
        int r = grow(k, kept->place);
        if (r < 0)
                return r;
        if (k->names[kept->place])
                return -EEXIST;
        k->names[kept->place] = o;
        o->kind = kept->fd;
        o->place = kept->place;
        o->dev = kept->dev;
        o->ino = kept->ino;
        may_be_kept(o);
        return 0;
}

void keeping_forget(struct resource_object *o)
{
        struct keeping *k = o->d->keeping;
        if (o->place == RESOURCE_PLACE_NONE)
                return;
        k->names[o->place] = NULL;
        k->low = o->place < k->low ? o->place : k->low;
        o->place = RESOURCE_PLACE_NONE;
        if (o->slot == KEEPER_NONE)
                k->n_unkept -= o->keepable;
        else if (o->d->realms.keeper)
                o->d->realms.keeper->drop(o->d->realms.keeper->ctx, o->slot, NULL);
        o->slot = KEEPER_NONE;
}

/* ---- for the keeper
 *
 * Not at once: what is there for a moment only is not worth the work. */

void keeping_claim(struct dispatcher *d)
{
        const struct keeper *to = d->realms.keeper;
        struct keeping *k = d->keeping;
        for (uint32_t i = 0; i < k->n_names && to; i++) {
                struct resource_object *o = k->names[i];
                if (!o || !o->kept || !o->keepable)
                        continue;
                o->slot = to->claim(to->ctx, kept_fd(o->kept), NULL);
                k->n_unkept -= o->slot != KEEPER_NONE;
        }
}

bool keeping_offer(struct dispatcher *d, uint64_t now_ms, bool all)
{
        const struct keeper *to = d->realms.keeper;
        struct keeping *k = d->keeping;
        if (!to || k->n_unkept == 0 || (!all && now_ms < k->offer_due_ms))
                return true;
        k->offer_due_ms = now_ms + OFFER_MS;
        for (uint32_t i = 0; i < k->n_names && k->n_unkept > 0; i++) {
                struct resource_object *o = k->names[i];
                if (!o || !o->kept || !o->keepable || o->slot != KEEPER_NONE ||
                    (!all && o->named_ms + OFFER_MS > now_ms))
                        continue;
                o->slot = to->put(to->ctx, NULL, i, kept_fd(o->kept));
                if (o->slot == KEEPER_NONE)
                        return false;
                k->n_unkept--;
        }
        return true;
}

uint64_t keeping_offer_due(const struct dispatcher *d)
{
        const struct keeper *to = d->realms.keeper;
        const struct keeping *k = d->keeping;
        return to && k->n_unkept > 0 && to->has_room(to->ctx, false) ? k->offer_due_ms : UINT64_MAX;
}

/* Those that have left are nothing to a successor, though frames may have them yet. */
bool keeping_each_file(const struct dispatcher *d, realm_file_visit visit, void *ctx)
{
        const struct keeping *k = d->keeping;
        char name[GIVEN_NAME_MAX + 1];
        for (uint32_t i = 0; i < k->n_names; i++) {
                const struct resource_object *o = k->names[i];
                const struct resource *res = o ? resources_find(&d->resources, o->number) : NULL;
                if (!res || res->cause || res->payload != o)
                        continue;
                given_name(name, GIVEN_RESOURCE, i);
                if (!visit(ctx, name, kept_fd(o->kept)))
                        return false;
        }
        return true;
}

/* ---- standing still */

bool keeping_is_still(const struct dispatcher *d)
{
        return d->keeping->still || d->resources_over;
}

void keeping_rest(struct dispatcher *d)
{
        d->keeping->still = true;
}

void keeping_hung_up(struct resource_object *o)
{
        o->hung_up = true;
}

void keeping_stay(struct dispatcher *d)
{
        struct keeping *k = d->keeping;
        if (!k->still)
                return;
        k->still = false;
        holding_catch_up(d);
        for (uint32_t i = 0; i < k->n_names; i++) {
                const struct resource_object *o = k->names[i];
                struct resource *res =
                        o && o->hung_up ? resources_find(&d->resources, o->number) : NULL;
                if (res)
                        resource_drop(&d->resources, res, RESOURCE_LEFT_HUNG_UP, NULL,
                                      server_now_ms(d->server));
        }
}

/* ---- life */

int keeping_init(struct dispatcher *d, struct resource_hooks *hooks)
{
        d->keeping = calloc(1, sizeof(*d->keeping));
        hooks->changed = changed;
        hooks->held = held;
        hooks->let_go = let_go;
        hooks->ended = ended;
        return d->keeping ? 0 : -ENOMEM;
}

void keeping_done(struct dispatcher *d)
{
        if (d->keeping)
                free(d->keeping->names);
        free(d->keeping);
        d->keeping = NULL;
}
