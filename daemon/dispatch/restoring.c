/* SPDX-License-Identifier: MIT */
/*
 * Restoring what a predecessor knew of resources
 *
 * From the records of each realm (keeping.c) come first its holders, then the instances with the
 * descriptors that were left, then who holds which. Nothing of it is believed further than it can
 * be looked at: a process has to be the one that it was, a descriptor of a kind that is let in, and
 * the file that the record says; whatever does not fit is closed where that may hang, and reported
 * like all that a takeover drops.
 *
 * Nothing is written in between, since the records are being read: what is over (processes that
 * have ended, what they left in the middle, records that are of no use) ends behind that, in the
 * ordinary way. What is there then is to be claimed by its holders.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dispatch/client.h"
#include "dispatch/fd-kind.h"
#include "dispatch/keeping.h"
#include "dispatch/scope.h"
#include "dispatch/segment.h"
#include "log.h"
#include "proto/segment.h"
#include "realm/session-caches.h"
#include "server.h"
#include "transport/conn.h"

#define PAGE  256u /* records between two looks at a list */
#define NOTES 32u  /* of one kind; all are counted */

struct left_file {
        uint32_t number;
        int fd; /* -1: taken */
};

struct restoring {
        struct dispatcher *d;
        uint64_t now_ms;
        struct sockaddr_storage own; /* address */
        unsigned n_own;
        struct left_file *files; /* by number */
        size_t n_files;
        struct realm *hidden; /* whose records are being read */
        enum resource_kept_kind pass;
        /* What ends when all is read. */
        struct {
                size_t n;
                uint64_t *ids;
        } dead, lost, useless; /* holders; instances; records: of them `keys` */
        uint8_t (*keys)[1 + RESOURCE_KEPT_KEY];
};

/* ---- descriptors */

/* Its close() may hang. */
static void discard(struct dispatcher *d, int fd)
{
        struct kept *kept;
        if (server_keep_fd(d->server, d->own_uid, fd, NULL, NULL, &kept) == 0)
                kept_free(kept);
        else
                close(fd);
}

static int by_number(const void *a, const void *b)
{
        const struct left_file *x = a, *y = b;
        return (x->number > y->number) - (x->number < y->number);
}

void restoring_take(struct dispatcher *d, struct given *given)
{
        struct restoring *t = calloc(1, sizeof(*t));
        uint32_t number;
        size_t at = 0;
        int fd;
        if (t)
                t->files = reallocarray(NULL, given->n + 1, sizeof(*t->files));
        while ((fd = given_next(given, GIVEN_RESOURCE, &at, &number)) >= 0) {
                if (t && t->files) {
                        t->files[t->n_files++] = (struct left_file){number, fd};
                        continue;
                }
                d->realms.takeover.descriptors_dropped++;
                discard(d, fd);
        }
        if (t && t->n_files > 1)
                qsort(t->files, t->n_files, sizeof(*t->files), by_number);
        d->restoring = t;
}

static struct left_file *file_of(const struct restoring *t, uint32_t number)
{
        const struct left_file key = {.number = number};
        struct left_file *f =
                t->n_files == 0 ? NULL
                                : bsearch(&key, t->files, t->n_files, sizeof(*t->files), by_number);
        return f && f->fd >= 0 ? f : NULL;
}

/* ---- what ends later */

static void add_id(size_t *n, uint64_t **ids, uint64_t id)
{
        uint64_t *more = reallocarray(*ids, *n + 1, sizeof(**ids));
        if (!more)
                return; /* it ends with its grace, or is read once more by the next one */
        more[(*n)++] = id;
        *ids = more;
}

static void is_useless(struct restoring *t, const struct store_entry *e)
{
        void *more = reallocarray(t->keys, t->useless.n + 1, sizeof(*t->keys));
        if (!more || e->n_key > RESOURCE_KEPT_KEY) {
                t->keys = more ? more : t->keys;
                return;
        }
        t->keys = more;
        t->keys[t->useless.n][0] = (uint8_t)e->n_key;
        memcpy(t->keys[t->useless.n++] + 1, e->key, e->n_key);
}

/* ---- one record */

static void note(struct restoring *t, const struct resource_kept *k, const char *why)
{
        struct takeover *takeover = &t->d->realms.takeover;
        if (takeover->resources_dropped++ >= NOTES)
                return;
        takeover_note(takeover, server_log(t->d->server), t->hidden->parent->name,
                      "realm %s: resource %" PRIu64 " in %s%.*s dropped: %s",
                      t->hidden->parent->name, k->instance.number,
                      k->hidden ? "a cache of a session" : "cache ",
                      k->hidden ? 0 : (int)k->n_cache, k->cache, why);
}

static bool restore_holder(struct restoring *t, const struct resource_kept *k)
{
        struct dispatcher *d = t->d;
        struct realm *realm = t->hidden->parent;
        struct resource_holder *h;
        if (resource_holder_restore(&d->resources, realm, k->holder_uid, k->pid, k->holder,
                                    k->holder_number, k->since, t->now_ms, &h) < 0)
                return false;
        if (!holding_restore(d, realm, k))
                add_id(&t->dead.n, &t->dead.ids, h->id);
        return true;
}

static const char *check_segment(struct resource_object *o, const struct resource_record *r, int fd)
{
        int want = F_SEAL_SHRINK | F_SEAL_GROW | (r->read_only ? F_SEAL_WRITE : 0);
        struct stat st;
        if ((fcntl(fd, F_GET_SEALS) & want) != want || fstat(fd, &st) < 0 ||
            r->size > INT64_MAX - SEGMENT_HEAD || (uint64_t)st.st_size != SEGMENT_HEAD + r->size ||
            (!r->read_only && !segment_is_writable(fd)))
                return "its memory file is not as it was published";
        return !r->read_only && segment_map(fd, &o->head) < 0 ? "its head cannot be mapped" : NULL;
}

/* Puts its descriptor into @o. NULL: done, or why not. */
static const char *restore_file(struct restoring *t, struct resource_object *o,
                                const struct resource_kept *k, struct fd_look *look)
{
        struct left_file *f = file_of(t, k->place);
        if (!f && k->fd == FD_KIND_FILE)
                return "its file was not kept: it lies on a file system that is served by somebody "
                       "else, or that the daemon does not see";
        if (!f)
                return "its descriptor was not given back";
        if (fd_look(f->fd, (const struct sockaddr *)&t->own, t->n_own, look) == FD_KIND_REFUSED)
                return "its descriptor is of a kind that is not shared";
        if (look->kind != k->fd || !keeping_is_file(f->fd, k->dev, k->ino))
                return "what was given back is another file";
        if (k->instance.kind == RESOURCE_KIND_SEGMENT) {
                const char *why = look->kind == FD_KIND_MEMFD
                                          ? check_segment(o, &k->instance, f->fd)
                                          : "its descriptor is no memory file";
                if (why)
                        return why;
        } else {
                memcpy(o->what, look->what, sizeof(o->what));
        }
        if (keeping_name_again(o, k) < 0)
                return "its descriptor's name is another one's";
        if (server_keep_fd(t->d->server, k->instance.uid, f->fd,
                           look->hangs_up ? resource_hung_up : NULL, o, &o->kept) < 0)
                return "its descriptor cannot be kept";
        f->fd = -1;
        return NULL;
}

/* A session's cache was there as long as the session was, and is not made for what was in it. */
static const char *find_apart(struct restoring *t, const struct resource_kept *k, uint32_t *ret)
{
        if (!session_is_there(t->hidden, (const uint8_t *)k->cache, t->now_ms))
                return "its session has ended";
        if (store_cache_find(t->hidden->store, k->cache, k->n_cache, ret) != 0)
                return "its session has no such cache";
        *ret |= RESOURCE_APART;
        return NULL;
}

/* Where the cache is now. NULL: there; or why nowhere. */
static const char *find_cache(struct restoring *t, const struct resource_kept *k,
                              struct resource_where *where)
{
        struct realm *realm = t->hidden->parent;
        where->space = realm;
        if (k->hidden)
                return find_apart(t, k, &where->cache);
        if (store_cache_find(realm->store, k->cache, k->n_cache, &where->cache) == 0 ||
            store_cache_create(realm->store, k->cache, k->n_cache, &where->cache) == 0)
                return NULL;
        return "there is no such cache";
}

/* Its lock's owner is no more. True: it cannot go on. */
static bool owner_is_lost(struct restoring *t, const struct resource_kept *k)
{
        return k->instance.lock_owner != 0 &&
               !resource_holder_of(&t->d->resources, k->instance.lock_owner);
}

static bool restore_instance(struct restoring *t, const struct resource_kept *k)
{
        struct dispatcher *d = t->d;
        struct resource_record record = k->instance;
        struct fd_look look = {0};
        struct resource *res;
        const char *why = find_cache(t, k, &record.where);
        struct resource_object *o = why ? NULL : resource_object_new(d, &record.where);
        if (!why && !o)
                why = "no memory";
        if (!why && record.kind != RESOURCE_KIND_LOCAL)
                why = restore_file(t, o, k, &look);
        bool lost = owner_is_lost(t, k);
        record.owner_died |= lost;
        if (!why && resource_restore(&d->resources, &record, o, t->now_ms, &res) < 0)
                why = "something else is in its place";
        if (why) {
                note(t, k, why);
                if (o)
                        resource_object_unref(o);
                return false;
        }
        o->number = res->number;
        if (k->hidden)
                scope_cache_name(t->hidden, record.where.cache & ~RESOURCE_APART, o->cache,
                                 sizeof(o->cache));
        d->realms.takeover.resources_kept++;
        if (lost && record.kind == RESOURCE_KIND_DESCRIPTOR)
                add_id(&t->lost.n, &t->lost.ids, res->number);
        return true;
}

/* Of its instance, as the record says. */
static uint64_t lock_owner(const struct restoring *t, uint64_t number)
{
        struct resource_kept k = {.kind = RESOURCE_KEPT_INSTANCE, .instance.number = number};
        uint8_t key[RESOURCE_KEPT_KEY];
        size_t n_key = resource_record_key(&k, key);
        struct store_entry e;
        if (store_get(t->hidden->store, session_caches_resources(t->hidden), key, n_key, t->now_ms,
                      false, &e) != 0 ||
            !resource_record_read(e.key, e.n_key, e.value, e.n_value, &k))
                return 0;
        return k.instance.lock_owner;
}

static bool restore_hold(struct restoring *t, const struct resource_kept *k)
{
        struct resources *table = &t->d->resources;
        struct resource *res = resources_find(table, k->instance.number);
        struct resource_holder *h = resource_holder_of(table, k->holder);
        struct realm *realm = t->hidden->parent;
        if (!res || !resource_is_of(res, realm))
                return false;
        if (!h || h->uid != k->holder_uid || h->space != realm) {
                if (res->pooled) /* it was somebody's alone */
                        add_id(&t->lost.n, &t->lost.ids, res->number);
                return false;
        }
        const struct resource_object *o = res->payload;
        bool locked = !res->pooled && !o->head && lock_owner(t, res->number) == h->id;
        if (resource_hold_restore(table, res, h, k->count, locked, k->since) == 0)
                return true;
        if (res->pooled) /* who has it alone is not known to have it */
                add_id(&t->lost.n, &t->lost.ids, res->number);
        return false;
}

/* Its lock is that of a holder who is there, and of whose hold nothing is known. */
static void find_broken_locks(struct restoring *t)
{
        const struct resources *table = &t->d->resources;
        for (const struct list *n = table->all.next; n != &table->all; n = n->next) {
                const struct resource *res = LIST_ENTRY(n, struct resource, of_all);
                const struct resource_object *o = res->payload;
                if (res->pooled || o->head || res->owner || !resource_is_of(res, t->hidden->parent))
                        continue;
                if (resource_holder_of(table, lock_owner(t, res->number)))
                        add_id(&t->lost.n, &t->lost.ids, res->number);
        }
}

/* A predecessor that had started cold kept locks for owners that had not come to it yet, and may
 * not have lived to see them. When all holders are there, since a word may name any. */
static void stand_in(struct restoring *t)
{
        const struct resources *table = &t->d->resources;
        for (const struct list *n = table->all.next; n != &table->all; n = n->next) {
                struct resource *res = LIST_ENTRY(n, struct resource, of_all);
                const struct resource_object *o = res->payload;
                if (!res->pooled && o->head && holding_stand_in(t->d, res, t->now_ms) < 0)
                        add_id(&t->lost.n, &t->lost.ids, res->number);
        }
}

/* ---- all of them */

static bool visit(void *ctx, const struct store_entry *e)
{
        struct restoring *t = ctx;
        struct resource_kept k;
        bool good = resource_record_read(e->key, e->n_key, e->value, e->n_value, &k);
        if (!good && t->pass == RESOURCE_KEPT_HOLD) {
                is_useless(t, e);
                return true;
        }
        if (!good || k.kind != t->pass)
                return true;
        if (k.kind == RESOURCE_KEPT_HOLDER)
                good = restore_holder(t, &k);
        else if (k.kind == RESOURCE_KEPT_INSTANCE)
                good = restore_instance(t, &k);
        else
                good = restore_hold(t, &k);
        if (!good)
                is_useless(t, e);
        return true;
}

static void read_records(struct restoring *t, enum resource_kept_kind pass)
{
        uint64_t cursor = 0;
        t->pass = pass;
        do {
                if (store_list(t->hidden->store, session_caches_resources(t->hidden), t->now_ms,
                               PAGE, &cursor, visit, t) != 0)
                        return;
        } while (cursor != 0);
}

static void delete_useless(struct restoring *t)
{
        uint32_t cache = session_caches_resources(t->hidden);
        for (size_t i = 0; i < t->useless.n; i++)
                (void)store_delete(t->hidden->store, cache, t->keys[i] + 1, t->keys[i][0],
                                   t->now_ms);
        free(t->keys);
        t->keys = NULL;
        t->useless.n = 0;
        realm_settle(t->hidden);
}

static void restore_realm(struct restoring *t, struct realm *hidden)
{
        t->hidden = hidden;
        read_records(t, RESOURCE_KEPT_HOLDER);
        read_records(t, RESOURCE_KEPT_INSTANCE);
        read_records(t, RESOURCE_KEPT_HOLD);
        find_broken_locks(t);
        delete_useless(t);
}

static void end_what_is_over(struct restoring *t)
{
        struct resources *table = &t->d->resources;
        for (size_t i = 0; i < t->lost.n; i++) {
                struct resource *res = resources_find(table, t->lost.ids[i]);
                if (res)
                        resource_drop(table, res, RESOURCE_LEFT_OWNER_DIED, NULL, t->now_ms);
        }
        for (size_t i = 0; i < t->dead.n; i++)
                resource_holder_end(table, resource_holder_of(table, t->dead.ids[i]), true,
                                    t->now_ms);
}

static void drop_files(struct restoring *t)
{
        struct takeover *takeover = &t->d->realms.takeover;
        char name[GIVEN_NAME_MAX + 1];
        size_t n = 0;
        for (size_t i = 0; i < t->n_files; i++) {
                if (t->files[i].fd < 0)
                        continue;
                takeover->descriptors_dropped++;
                given_name(name, GIVEN_RESOURCE, t->files[i].number);
                if (n++ < NOTES)
                        takeover_note(takeover, server_log(t->d->server), NULL,
                                      "the descriptor %s was closed: it belongs to no resource",
                                      name);
                discard(t->d, t->files[i].fd);
                t->files[i].fd = -1;
        }
}

static void log_report(const struct dispatcher *d)
{
        const struct takeover *t = &d->realms.takeover;
        const struct log_fields fields = {
                .event = LOG_EVENT_TAKEN_OVER,
                .numbers = {{LOG_NUMBER_RESOURCES_KEPT, t->resources_kept},
                            {LOG_NUMBER_RESOURCES_DROPPED, t->resources_dropped}}};

        if (t->resources_kept + t->resources_dropped == 0)
                return;
        log_event(server_log(d->server), LOG_INFO, &fields,
                  "took over %" PRIu64 " resources; dropped %" PRIu64, t->resources_kept,
                  t->resources_dropped);
}

void restoring_done(struct dispatcher *d)
{
        struct restoring *t = d->restoring;
        if (!t)
                return;
        for (size_t i = 0; i < t->n_files; i++)
                if (t->files[i].fd >= 0)
                        close(t->files[i].fd);
        free(t->files);
        free(t->dead.ids);
        free(t->lost.ids);
        free(t);
        d->restoring = NULL;
}

void restoring_run(struct dispatcher *d)
{
        struct restoring *t = d->restoring;
        if (!t)
                return;
        t->d = d;
        t->now_ms = server_now_ms(d->server);
        server_own_address(d->server, &t->own, &t->n_own);
        keeping_rest(d);
        for (struct realm *r = d->realms.first; r; r = r->next)
                if (r->hidden && r->parent && session_caches_resources(r) != 0)
                        restore_realm(t, r);
        stand_in(t);
        keeping_stay(d);
        end_what_is_over(t);
        drop_files(t);
        log_report(d);
        if (d->resources.holders.next != &d->resources.holders &&
            resources_claim_until(&d->resources, t->now_ms + RESOURCING_GRACE_MS - 1) < 0)
                log_write(server_log(d->server), LOG_WARNING,
                          "takeover: no memory to end what holders do not claim");
        restoring_done(d);
}
