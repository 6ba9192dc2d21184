/* SPDX-License-Identifier: MIT */
/*
 * A mapping: what the daemon offered with Hello, checked and mapped
 *
 * The files must be what they are said to be before they are mapped: as long as that, and the
 * memory files sealed, so that nobody can cut them under our feet. The epoch file is a file beside
 * the socket and cannot be sealed; its owner is the daemon, whom we trust as much as its socket.
 * What lies in the arena is checked with every look-up (proto/arena-read.c).
 *
 * Nothing of it is inherited by a child: a page that two processes wrote to would tell the daemon
 * nonsense.
 *
 * The ids of caches are remembered by the hashes of their names, in a table that readers use
 * without a lock: a word that does not belong to the hash beside it is an id whose name is another,
 * and the arena's directory says so in every look-up.
 */

#include "client/map.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Places for a name. */
#define NAME_PLACES 4u

/* ----------------------------------------------------------------------------------------- offers
 */

void map_offer_init(struct map_offer *o)
{
        *o = (struct map_offer){.fd = {-1, -1, -1, -1}};
}

void map_offer_done(struct map_offer *o)
{
        for (unsigned i = 0; i < MAP_PARTS; i++)
                if (o->fd[i] >= 0)
                        (void)close(o->fd[i]);
        map_offer_init(o);
}

/* --------------------------------------------------------------------------------------- mappings
 */

static const struct part_kind {
        uint64_t min_size;
        int protection;
        bool is_sealed;
} part_kinds[MAP_PARTS] = {
        [MAP_PART_ARENA] = {sizeof(struct arena_header), PROT_READ, true},
        [MAP_PART_EPOCH] = {EPOCH_SIZE, PROT_READ, false},
        [MAP_PART_PAGE] = {CLIENT_PAGE_SIZE, PROT_READ | PROT_WRITE, true},
        [MAP_PART_DIRTY] = {DIRTY_MAP_SIZE, PROT_READ | PROT_WRITE, true},
};

static void *part_map(const struct part_kind *kind, int fd, uint64_t size)
{
        int must = F_SEAL_SHRINK | F_SEAL_GROW;
        struct stat st;
        void *p;

        if (fd < 0 || size < kind->min_size || size > SIZE_MAX || fstat(fd, &st) != 0 ||
            !S_ISREG(st.st_mode) || st.st_size < 0 || (uint64_t)st.st_size != size)
                return NULL;
        if (kind->is_sealed) {
                int seals = fcntl(fd, F_GET_SEALS);

                if (seals < 0 || (seals & must) != must)
                        return NULL;
        }
        p = mmap(NULL, (size_t)size, kind->protection, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (p == MAP_FAILED)
                return NULL;
        if (madvise(p, (size_t)size, MADV_DONTFORK) != 0) {
                (void)munmap(p, (size_t)size);
                return NULL;
        }
        /* A core file has no use for everybody's values. */
        (void)madvise(p, (size_t)size, MADV_DONTDUMP);
        return p;
}

void mapping_free(struct mapping *mp, bool is_ours)
{
        for (unsigned i = 0; is_ours && i < MAP_PARTS; i++)
                if (mp->part[i])
                        (void)munmap(mp->part[i], (size_t)mp->size[i]);
        free(mp);
}

/* Whether what was mapped is what it should be. */
static bool mapping_open(struct mapping *mp, const struct map_offer *o, uint64_t instance)
{
        const struct epoch_page *epoch = mp->part[MAP_PART_EPOCH];
        struct client_page *page = mp->part[MAP_PART_PAGE];
        struct dirty_map *dirty = mp->part[MAP_PART_DIRTY];

        if (arena_map_init(mp->part[MAP_PART_ARENA], mp->size[MAP_PART_ARENA], &mp->arena) != NULL)
                return false;
        if (mp->arena.instance != instance || epoch->magic != EPOCH_MAGIC ||
            epoch->version != EPOCH_VERSION || page->magic != CLIENT_PAGE_MAGIC ||
            page->version != CLIENT_PAGE_VERSION || o->dirty_bit >= DIRTY_MAP_CLIENTS)
                return false;
        mp->epoch = epoch;
        mp->page = page;
        mp->dirty_word = &dirty->words[o->dirty_bit / 64];
        mp->dirty_mask = UINT64_C(1) << o->dirty_bit % 64;
        mp->max_keys = o->max_keys;
        atomic_init(&mp->guess, MAP_GUESS_SMALL);
        return mapping_counts(mp);
}

struct mapping *mapping_new(const struct map_offer *o, uint64_t instance)
{
        struct mapping *mp = calloc(1, sizeof(*mp));
        bool ok = mp != NULL;

        for (unsigned i = 0; ok && i < MAP_PARTS; i++) {
                mp->part[i] = part_map(&part_kinds[i], o->fd[i], o->size[i]);
                mp->size[i] = o->size[i];
                ok = mp->part[i] != NULL;
        }
        if (ok && mapping_open(mp, o, instance))
                return mp;
        if (mp)
                mapping_free(mp, true);
        return NULL;
}

/* ----------------------------------------------------------------------------------------- caches
 */

/* Where a cache is counted: a slot of its own, taken if need be. False: all are others'. */
static bool counter_of(struct client_page *page, uint32_t id, uint32_t *ret)
{
        for (uint32_t i = 0; i < PAGE_COUNTERS; i++) {
                uint32_t at = (id + i) % PAGE_COUNTERS;
                uint32_t is = atomic_load_explicit(&page->counters[at].cache, memory_order_relaxed);

                if (is == 0)
                        (void)atomic_compare_exchange_strong(&page->counters[at].cache, &is, id);
                if (is == 0 || is == id) {
                        *ret = at;
                        return true;
                }
        }
        return false;
}

/* Into an empty place, or one that it takes from another cache. */
static void name_put(struct mapping *mp, uint64_t hash, uint64_t where)
{
        struct map_name *to = &mp->names[hash % MAP_NAMES];

        for (unsigned i = 0; i < NAME_PLACES; i++) {
                struct map_name *n = &mp->names[(hash + i) % MAP_NAMES];
                uint64_t is = atomic_load_explicit(&n->hash, memory_order_relaxed);

                if (is == hash || is == 0) {
                        to = n;
                        break;
                }
        }
        atomic_store_explicit(&to->where, where, memory_order_relaxed);
        atomic_store_explicit(&to->hash, hash, memory_order_release);
}

static bool cache_learn(struct mapping *mp, struct map_cache *c)
{
        c->id = arena_find_cache(&mp->arena, c->hash);
        if (c->id == 0 || !counter_of(mp->page, c->id, &c->counter))
                return false;
        name_put(mp, c->hash, (uint64_t)c->id << 32 | c->counter);
        return true;
}

/* By what another thread, or this one under another name's memo, has learnt. */
static bool cache_recall(struct mapping *mp, struct map_cache *c)
{
        for (unsigned i = 0; i < NAME_PLACES; i++) {
                struct map_name *n = &mp->names[(c->hash + i) % MAP_NAMES];
                uint64_t where;

                if (atomic_load_explicit(&n->hash, memory_order_acquire) != c->hash)
                        continue;
                where = atomic_load_explicit(&n->where, memory_order_relaxed);
                c->id = (uint32_t)(where >> 32);
                c->counter = (uint32_t)where;
                return true;
        }
        return false;
}

bool mapping_learn(struct mapping *mp, const char *name, struct map_memo *memo, bool again,
                   struct map_cache *ret)
{
        size_t n_name = strlen(name);

        ret->hash = arena_name_hash(name, n_name);
        if ((again || !cache_recall(mp, ret)) && !cache_learn(mp, ret))
                return false;
        if (memo && n_name < sizeof(memo->name)) {
                memcpy(memo->name, name, n_name + 1);
                memo->cache = *ret;
        }
        return true;
}
