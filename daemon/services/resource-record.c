/* SPDX-License-Identifier: MIT */
/*
 * Resource records
 *
 * An instance, a holder and a hold are a record each, so that every change writes a few bytes, of
 * one record mostly, however many hold an instance. All numbers are little-endian:
 *
 *   key            record
 *   'i' number     layout, kind, flags, kind of descriptor, lengths of key and cache, 2 zeros;
 *                  pool, place, uid, pid; size, since, used, expires, lock owner, dev, ino;
 *                  name of the cache, key
 *   'h' id         layout, 3 zeros; number, uid, pid; since, start and inode of the process
 *   'd' number id  layout, 3 zeros; uid; count, since
 *
 * Who reads one may have it from a process that died in the middle, or from memory that is not what
 * it says: a record is taken as a whole or not at all, and there is one way only to write each.
 */
#include "services/resource-record.h"

#include <string.h>

#include "realm/session-caches.h"

#define LAYOUT 1u

enum { FLAG_READ_ONLY = 1, FLAG_OWNER_DIED = 2, FLAG_HIDDEN = 4, FLAGS = 7 };

enum {
        AT_LAYOUT = 0,
        /* instance */
        AT_KIND = 1,
        AT_FLAGS = 2,
        AT_FD = 3,
        AT_N_KEY = 4,
        AT_N_CACHE = 5,
        AT_ZEROS = 6,
        AT_POOL = 8,
        AT_PLACE = 12,
        AT_UID = 16,
        AT_PID = 20,
        AT_SIZE = 24,
        AT_SINCE = 32,
        AT_USED = 40,
        AT_EXPIRES = 48,
        AT_OWNER = 56,
        AT_DEV = 64,
        AT_INO = 72,
        /* holder */
        HOLDER_NUMBER = 4,
        HOLDER_UID = 8,
        HOLDER_PID = 12,
        HOLDER_SINCE = 16,
        HOLDER_START = 24,
        HOLDER_INO = 32,
        HOLDER_SIZE = 40,
        /* hold */
        HOLD_UID = 4,
        HOLD_COUNT = 8,
        HOLD_SINCE = 16,
        HOLD_SIZE = 24,
};

#define PID_MAX_KEPT UINT64_C(0x7fffffff)

static const uint8_t letters[] = {
        [RESOURCE_KEPT_INSTANCE] = 'i', [RESOURCE_KEPT_HOLDER] = 'h', [RESOURCE_KEPT_HOLD] = 'd'};

static void put(uint8_t *to, uint64_t x, unsigned n)
{
        for (unsigned i = 0; i < n; i++, x >>= 8)
                to[i] = (uint8_t)x;
}

static uint64_t take(const uint8_t *from, unsigned n)
{
        uint64_t x = 0;
        while (n-- > 0)
                x = x << 8 | from[n];
        return x;
}

/* ---- writing */

size_t resource_record_key(const struct resource_kept *k, uint8_t *to)
{
        to[0] = letters[k->kind];
        put(to + 1, k->kind == RESOURCE_KEPT_HOLDER ? k->holder : k->instance.number, 8);
        if (k->kind != RESOURCE_KEPT_HOLD)
                return 9;
        put(to + 9, k->holder, 8);
        return 17;
}

static size_t write_instance(const struct resource_kept *k, uint8_t *to)
{
        const struct resource_record *r = &k->instance;
        to[AT_KIND] = r->kind;
        to[AT_FLAGS] =
                (uint8_t)((r->read_only ? FLAG_READ_ONLY : 0) |
                          (r->owner_died ? FLAG_OWNER_DIED : 0) | (k->hidden ? FLAG_HIDDEN : 0));
        to[AT_FD] = k->fd;
        to[AT_N_KEY] = (uint8_t)r->where.n_key;
        to[AT_N_CACHE] = (uint8_t)k->n_cache;
        put(to + AT_POOL, r->pool, 4);
        put(to + AT_PLACE, k->place, 4);
        put(to + AT_UID, r->uid, 4);
        put(to + AT_PID, (uint64_t)r->pid, 4);
        put(to + AT_SIZE, r->size, 8);
        put(to + AT_SINCE, r->since, 8);
        put(to + AT_USED, r->used, 8);
        put(to + AT_EXPIRES, r->expires, 8);
        put(to + AT_OWNER, r->lock_owner, 8);
        put(to + AT_DEV, k->dev, 8);
        put(to + AT_INO, k->ino, 8);
        memcpy(to + RESOURCE_KEPT_HEAD, k->cache, k->n_cache);
        memcpy(to + RESOURCE_KEPT_HEAD + k->n_cache, r->where.key, r->where.n_key);
        return RESOURCE_KEPT_HEAD + k->n_cache + r->where.n_key;
}

static size_t write_holder(const struct resource_kept *k, uint8_t *to)
{
        put(to + HOLDER_NUMBER, k->holder_number, 4);
        put(to + HOLDER_UID, k->holder_uid, 4);
        put(to + HOLDER_PID, (uint64_t)k->pid, 4);
        put(to + HOLDER_SINCE, k->since, 8);
        put(to + HOLDER_START, k->process.start, 8);
        put(to + HOLDER_INO, k->process.ino, 8);
        return HOLDER_SIZE;
}

static size_t write_hold(const struct resource_kept *k, uint8_t *to)
{
        put(to + HOLD_UID, k->holder_uid, 4);
        put(to + HOLD_COUNT, k->count, 8);
        put(to + HOLD_SINCE, k->since, 8);
        return HOLD_SIZE;
}

size_t resource_record_write(const struct resource_kept *k, uint8_t *to)
{
        memset(to, 0, RESOURCE_KEPT_HEAD);
        to[AT_LAYOUT] = LAYOUT;
        switch (k->kind) {
        case RESOURCE_KEPT_INSTANCE:
                return write_instance(k, to);
        case RESOURCE_KEPT_HOLDER:
                return write_holder(k, to);
        case RESOURCE_KEPT_HOLD:
        default:
                return write_hold(k, to);
        }
}

/* ---- reading */

static bool read_key(const uint8_t *key, size_t n, struct resource_kept *ret)
{
        if (n != 9 && n != 17)
                return false;
        uint64_t first = take(key + 1, 8);
        if (key[0] == letters[RESOURCE_KEPT_INSTANCE] && n == 9)
                ret->kind = RESOURCE_KEPT_INSTANCE;
        else if (key[0] == letters[RESOURCE_KEPT_HOLDER] && n == 9)
                ret->kind = RESOURCE_KEPT_HOLDER;
        else if (key[0] == letters[RESOURCE_KEPT_HOLD] && n == 17)
                ret->kind = RESOURCE_KEPT_HOLD;
        else
                return false;
        if (ret->kind == RESOURCE_KEPT_HOLDER)
                ret->holder = first;
        else
                ret->instance.number = first;
        if (ret->kind == RESOURCE_KEPT_HOLD)
                ret->holder = take(key + 9, 8);
        if (ret->kind != RESOURCE_KEPT_INSTANCE && ret->holder == 0)
                return false;
        return ret->kind == RESOURCE_KEPT_HOLDER ||
               (first != 0 && first < UINT64_MAX - RESOURCE_NUMBERS_GAP);
}

/* What says the same twice. */
static bool is_consistent(const struct resource_kept *k)
{
        const struct resource_record *r = &k->instance;
        if (k->hidden && k->n_cache <= SESSION_KEY_SIZE)
                return false;
        if (r->kind == RESOURCE_KIND_LOCAL)
                return k->fd == 0 && k->place == RESOURCE_PLACE_NONE && r->pool == 0 &&
                       r->size == 0 && !r->read_only;
        if (r->kind != RESOURCE_KIND_SEGMENT && (r->size != 0 || r->read_only))
                return false;
        return k->fd != 0 && k->fd <= RESOURCE_KEPT_FDS && k->place != RESOURCE_PLACE_NONE;
}

static bool read_instance(const uint8_t *b, size_t n, struct resource_kept *ret)
{
        struct resource_record *r = &ret->instance;
        if (n < RESOURCE_KEPT_HEAD || (b[AT_FLAGS] & ~FLAGS) != 0 || take(b + AT_ZEROS, 2) != 0 ||
            b[AT_KIND] == RESOURCE_KIND_NONE || b[AT_KIND] > RESOURCE_KIND_LOCAL ||
            b[AT_N_KEY] == 0 || b[AT_N_KEY] > STORE_KEY_MAX || b[AT_N_CACHE] == 0 ||
            b[AT_N_CACHE] > STORE_CACHE_NAME_MAX ||
            n != RESOURCE_KEPT_HEAD + (size_t)b[AT_N_CACHE] + b[AT_N_KEY] ||
            take(b + AT_PID, 4) > PID_MAX_KEPT || take(b + AT_SIZE, 8) > INT64_MAX)
                return false;
        r->kind = b[AT_KIND];
        r->read_only = b[AT_FLAGS] & FLAG_READ_ONLY;
        r->owner_died = b[AT_FLAGS] & FLAG_OWNER_DIED;
        ret->hidden = b[AT_FLAGS] & FLAG_HIDDEN;
        ret->fd = b[AT_FD];
        ret->n_cache = b[AT_N_CACHE];
        ret->cache = (const char *)b + RESOURCE_KEPT_HEAD;
        r->where.n_key = b[AT_N_KEY];
        r->where.key = b + RESOURCE_KEPT_HEAD + ret->n_cache;
        r->pool = (uint32_t)take(b + AT_POOL, 4);
        ret->place = (uint32_t)take(b + AT_PLACE, 4);
        r->uid = (uid_t)take(b + AT_UID, 4);
        r->pid = (pid_t)take(b + AT_PID, 4);
        r->size = take(b + AT_SIZE, 8);
        r->since = take(b + AT_SINCE, 8);
        r->used = take(b + AT_USED, 8);
        r->expires = take(b + AT_EXPIRES, 8);
        r->lock_owner = take(b + AT_OWNER, 8);
        ret->dev = take(b + AT_DEV, 8);
        ret->ino = take(b + AT_INO, 8);
        return is_consistent(ret);
}

static bool read_holder(const uint8_t *b, size_t n, struct resource_kept *ret)
{
        if (n != HOLDER_SIZE || take(b + 1, 3) != 0 || take(b + HOLDER_PID, 4) > PID_MAX_KEPT)
                return false;
        ret->holder_number = (uint32_t)take(b + HOLDER_NUMBER, 4);
        ret->holder_uid = (uid_t)take(b + HOLDER_UID, 4);
        ret->pid = (pid_t)take(b + HOLDER_PID, 4);
        ret->since = take(b + HOLDER_SINCE, 8);
        ret->process.start = take(b + HOLDER_START, 8);
        ret->process.ino = take(b + HOLDER_INO, 8);
        return ret->holder_number != 0 && ret->holder_number <= RESOURCE_NUMBER_MAX;
}

static bool read_hold(const uint8_t *b, size_t n, struct resource_kept *ret)
{
        if (n != HOLD_SIZE || take(b + 1, 3) != 0)
                return false;
        ret->holder_uid = (uid_t)take(b + HOLD_UID, 4);
        ret->count = take(b + HOLD_COUNT, 8);
        ret->since = take(b + HOLD_SINCE, 8);
        return ret->count != 0 && ret->count <= UINT32_MAX;
}

bool resource_record_read(const void *key, size_t n_key, const void *bytes, size_t n,
                          struct resource_kept *ret)
{
        const uint8_t *b = bytes;
        *ret = (struct resource_kept){0};
        if (n < HOLD_SIZE || b[AT_LAYOUT] != LAYOUT || !read_key(key, n_key, ret))
                return false;
        switch (ret->kind) {
        case RESOURCE_KEPT_INSTANCE:
                return read_instance(b, n, ret);
        case RESOURCE_KEPT_HOLDER:
                return read_holder(b, n, ret);
        case RESOURCE_KEPT_HOLD:
        default:
                return read_hold(b, n, ret);
        }
}
