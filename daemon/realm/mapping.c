/* SPDX-License-Identifier: MIT */
/*
 * Mapping
 *
 * Arena and epoch file are reopened for reading for each client that gets them, so that no client
 * has a descriptor that could write, or shares one's offset and flags with another. That only holds
 * against other uids as long as the file's mode keeps them from opening it again through /proc:
 * which is verified, each time. The same uid is no boundary.
 *
 * What readers have noted is taken over before requests are carried out and at the end of each
 * turn. A turn takes a bounded number, so that a thousand full rings hold up requests for some
 * milliseconds a turn, and not for a second at once. Half of it is shared out among the realms that
 * have readers, the other half is anybody's: a realm whose readers note nonsense as fast as they
 * can delays its own uses, and not those of others. What the store has put by (store/mapped.c) is
 * applied in the first turn after half a second, a realm a turn.
 *
 * A reader that walks over its mapping fills holes in the arena (see arena/holes.c). So the arenas
 * are looked at a second after anything happened; then each second while readers of other uids may
 * have them, and every half minute while only readers of our own may, who have simpler ways to fill
 * memory; without readers an idle daemon has nothing to wake up for. While something is found they
 * are looked at more often. A mapping outlives its connection, and the daemon that lent it: when
 * nobody is connected the kernel is asked whether somebody has the file still.
 */
#include "realm/mapping.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "realm/readers.h"
#include "realm/realm.h"

#define SLOTS_SHARED   15000u /* of a turn, for whoever comes first: a millisecond or two */
#define SLOTS_OWN      15000u /* and for all realms with readers in equal parts, */
#define SLOTS_OWN_MIN  1024u  /* which have this many at least */
#define SLOTS_AT_ONCE  8192u  /* of a portion */
#define APPLY_MS       500u
#define HOLES_SLACK    (UINT64_C(256) << 10)
#define HOLES_STEPS    8u /* pieces in a turn: about a millisecond */
#define HOLES_SOON_MS  1000u
#define HOLES_LATE_MS  30000u
#define HOLES_AGAIN_MS 100u
#define HOLES_WATCH_MS 10000u
#define NEVER          UINT64_MAX

void realms_offer_mapping(struct realms *rs, int epoch_fd)
{
        rs->epoch_fd = epoch_fd;
        rs->offers_mapping = epoch_fd >= 0;
        rs->slots = SLOTS_SHARED;
        rs->holes_due_ms = NEVER;
}

/* ---- descriptors */

static int reopen(int fd, mode_t mode)
{
        char path[32];
        struct stat st, was;
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        int again = open(path, O_RDONLY | O_CLOEXEC);
        if (again < 0)
                return -errno;
        if (fstat(again, &st) == 0 && fstat(fd, &was) == 0 && st.st_ino == was.st_ino &&
            st.st_dev == was.st_dev && (st.st_mode & 07777) == mode &&
            (fcntl(again, F_GETFL) & O_ACCMODE) == O_RDONLY)
                return again;
        close(again);
        return -EPERM;
}

void mapping_close(const struct mapping *m)
{
        for (unsigned i = 0; i < N_MAPPING_PARTS; i++)
                if (m->fds[i] >= 0)
                        close(m->fds[i]);
}

static bool is_on(const struct realm *r)
{
        const struct config *cfg = r->realms->cfg;
        const struct config_realm *named = config_find_realm(cfg, r->name);
        /* Those whose rings are not empty yet have their pages still. */
        uint64_t n = r->readers ? (uint64_t)r->readers->n + r->readers->n_gone : 0;
        return r->realms->offers_mapping && (named ? named->mapped_reads : cfg->mapped_reads) &&
               n < cfg->limits.mapped_clients_per_realm;
}

static int open_files(const struct realm *r, struct mapping *m)
{
        struct stat st;
        int fd = store_arena_fd(r->store);
        m->fds[MAPPING_ARENA] = reopen(fd, 0600);
        m->fds[MAPPING_EPOCH] = reopen(r->realms->epoch_fd, 0644);
        if (m->fds[MAPPING_ARENA] < 0)
                return m->fds[MAPPING_ARENA];
        if (m->fds[MAPPING_EPOCH] < 0)
                return m->fds[MAPPING_EPOCH];
        if (fstat(fd, &st) < 0)
                return -errno;
        m->arena_bytes = (uint64_t)st.st_size;
        return 0;
}

int realm_map(struct realm *r, bool is_stranger, struct mapping *ret)
{
        struct mapping m = {.fds = {-1, -1, -1, -1}};
        if (!is_on(r))
                return MAPPING_E_OFF;
        int k = open_files(r, &m);
        if (k == 0 && !r->readers) {
                k = readers_new(r->store, &r->readers);
                if (k == 0)
                        r->readers->slots = SLOTS_OWN_MIN;
        }
        if (k == 0)
                k = readers_join(r->readers, &m.reader, &m.fds[MAPPING_PAGE],
                                 &m.fds[MAPPING_DIRTY]);
        if (k < 0) {
                mapping_close(&m);
                return k == -ENOSPC ? MAPPING_E_OFF : k;
        }
        r->readers->is_lent = true;
        r->readers->is_lent_away |= is_stranger;
        *ret = m;
        return 0;
}

void realm_unmap(struct realm *r, struct reader *reader, uint64_t now_ms)
{
        if (!reader)
                return;
        readers_leave(r->readers, reader);
        realm_drain(r, now_ms);
}

void mapping_done(struct realm *r)
{
        if (!r->readers)
                return;
        struct store_uses uses;
        store_uses(r->store, &uses);
        r->realms->n_used += uses.counted;
        r->realms->n_stale += uses.stale;
        r->realms->n_lost += r->readers->n_lost;
        r->readers = readers_free(r->readers);
}

/* ---- taking over */

/* As much as the turn allows. True: something may be left. */
static bool drain(struct realms *rs, struct readers *readers, uint64_t now_ms)
{
        unsigned had = readers->slots + rs->slots, left = had, used, own;
        if (had == 0)
                return true;
        bool more = readers_drain(readers, false, now_ms, &left);
        used = had - left;
        own = used < readers->slots ? used : readers->slots;
        readers->slots -= own;
        rs->slots -= used - own;
        return more;
}

void realm_drain(struct realm *r, uint64_t now_ms)
{
        struct realms *rs = r->realms;
        if (!r->readers)
                return;
        if (rs->holes_due_ms > now_ms + HOLES_SOON_MS)
                rs->holes_due_ms = now_ms + HOLES_SOON_MS;
        (void)drain(rs, r->readers, now_ms);
}

bool realm_drain_all(struct realm *r, uint64_t now_ms)
{
        unsigned slots = SLOTS_AT_ONCE;
        if (!r->readers)
                return false;
        bool left = readers_drain(r->readers, true, now_ms, &slots);
        readers_count(r->readers);
        return left;
}

uint64_t realm_drain_portions(const struct realm *r)
{
        uint64_t n = r->readers ? (uint64_t)r->readers->n + r->readers->n_gone : 0;

        return n * PAGE_RINGS * PAGE_RING_SLOTS / SLOTS_AT_ONCE + 1;
}

void realms_drain_all(struct realms *rs, uint64_t now_ms)
{
        for (struct realm *r = rs->first; r; r = r->next) {
                while (realm_drain_all(r, now_ms))
                        continue;
                store_apply_told(r->store);
        }
}

/* Uses that nothing depended on for a while, since a process that is killed takes them along; of
 * one realm in a turn, which is a millisecond at most. True: another one waits. Nobody is woken up
 * for it: there are turns for requests, and for the look for holes. */
static bool apply_late(struct realms *rs, uint64_t now_ms)
{
        bool done = false;
        for (struct realm *r = rs->first; r; r = r->next) {
                if (!r->readers || now_ms < r->readers->apply_due_ms || !store_has_told(r->store))
                        continue;
                if (done)
                        return true;
                r->readers->apply_due_ms = now_ms + APPLY_MS;
                store_apply_told(r->store);
                done = true;
        }
        return false;
}

bool realms_drain(struct realms *rs, uint64_t now_ms)
{
        unsigned n = 0;
        bool left = false;
        for (struct realm *r = rs->first; r; r = r->next) {
                if (!r->readers)
                        continue;
                left |= drain(rs, r->readers, now_ms);
                readers_turn_end(r->readers);
                n += r->readers->n + r->readers->n_gone > 0;
        }
        unsigned own = n > 0 ? SLOTS_OWN / n : 0;
        if (own < SLOTS_OWN_MIN)
                own = SLOTS_OWN_MIN;
        for (struct realm *r = rs->first; r; r = r->next)
                if (r->readers)
                        r->readers->slots = own;
        rs->slots = SLOTS_SHARED;
        return apply_late(rs, now_ms) || left;
}

/* ---- holes */

/* True: more is to be done. */
static bool punch(struct readers *rs)
{
        rs->punching = store_punch_holes(rs->store, &rs->holes_cursor, HOLES_STEPS);
        return rs->punching;
}

/* Those who left may have taken it along. */
static void see_who_has_it(struct readers *rs)
{
        if (rs->is_lent && rs->n == 0 && !store_has_readers(rs->store))
                rs->is_lent = rs->is_lent_away = false;
}

void realms_watch_lent(struct realms *rs, uint64_t now_ms)
{
        for (struct realm *r = rs->first; r; r = r->next) {
                if (r->readers || !store_has_readers(r->store) ||
                    readers_new(r->store, &r->readers) < 0)
                        continue;
                r->readers->slots = SLOTS_OWN_MIN;
                r->readers->is_lent = r->readers->is_lent_away = true;
                rs->holes_due_ms = now_ms + HOLES_SOON_MS;
        }
}

bool realms_check_holes(struct realms *rs, uint64_t now_ms)
{
        bool more = false, any = false, strangers = false, due = now_ms >= rs->holes_due_ms;
        bool found = false;
        if (rs->holes_due_ms == NEVER)
                return false;
        for (struct realm *r = rs->first; r; r = r->next) {
                struct readers *readers = r->readers;
                if (!readers)
                        continue;
                if (due)
                        see_who_has_it(readers);
                any |= readers->is_lent;
                strangers |= readers->is_lent_away;
                if (due && !readers->punching) {
                        readers_count(readers); /* counts wrap around, but not in this time */
                        readers->punching = store_holes_filled(r->store) > HOLES_SLACK;
                        found |= readers->punching;
                }
                more |= readers->punching && punch(readers);
        }
        if (!due)
                return more;
        if (found)
                rs->holes_found_ms = now_ms;
        if (found || more)
                rs->holes_due_ms = now_ms + HOLES_AGAIN_MS;
        else if (strangers || now_ms - rs->holes_found_ms < HOLES_WATCH_MS)
                rs->holes_due_ms = now_ms + HOLES_SOON_MS;
        else
                rs->holes_due_ms = any ? now_ms + HOLES_LATE_MS : NEVER;
        return more;
}

uint64_t realms_holes_due(const struct realms *rs)
{
        return rs->holes_due_ms;
}

/* ---- numbers */

void realm_mapping_stats(const struct realm *r, struct mapping_stats *ret)
{
        *ret = (struct mapping_stats){
                .clients = r->readers ? r->readers->n : 0,
                .bytes = readers_bytes(r->readers),
                .prepared = readers_prepared(r->readers),
        };
}

void realms_uses(const struct realms *rs, uint64_t *ret_used, uint64_t *ret_stale,
                 uint64_t *ret_lost)
{
        *ret_used = rs->n_used;
        *ret_stale = rs->n_stale;
        *ret_lost = rs->n_lost;
        for (const struct realm *r = rs->first; r; r = r->next) {
                if (!r->readers)
                        continue;
                struct store_uses uses;
                store_uses(r->store, &uses);
                *ret_used += uses.counted;
                *ret_stale += uses.stale;
                *ret_lost += r->readers->n_lost;
        }
}
