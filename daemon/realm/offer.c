/* SPDX-License-Identifier: MIT */
/*
 * Offer
 *
 * The files of a realm go to the keeper as soon as there is a realm: without them nothing of it
 * comes back. A large value goes when it is some seconds old, since each costs the keeper work, and
 * most that are replaced soon are replaced sooner than that. Values have no list by age: while some
 * are not kept, the tables are gone through once a second.
 */
#include "realm/offer.h"

#include "realm/realm.h"
#include "store/recover.h"

#define LARGE_AGE_MS   UINT64_C(3000)
#define LARGE_EVERY_MS UINT64_C(1000)

#define NEVER UINT64_MAX

/* ---- realms */

static void set_kept(struct realm *r, const uint32_t slots[2])
{
        r->realms->n_unkept -= r->kept[0] == KEEPER_NONE;
        r->kept[0] = slots[0];
        r->kept[1] = slots[1];
}

static bool offer_realm(struct realm *r)
{
        const struct keeper *k = r->realms->keeper;
        uint32_t slots[2];

        if (!k->put_realm(k->ctx, store_arena_fd(r->store), store_table_fd(r->store), slots))
                return false;
        set_kept(r, slots);
        return true;
}

void realm_unoffer(struct realm *r)
{
        const struct keeper *k = r->realms->keeper;

        for (unsigned i = 0; i < 2 && k; i++) {
                if (r->kept[i] != KEEPER_NONE)
                        k->drop(k->ctx, r->kept[i], NULL);
                r->kept[i] = KEEPER_NONE;
        }
}

/* Both, or neither: one without the other is of no use. */
static void claim_realm(struct realm *r)
{
        const struct keeper *k = r->realms->keeper;
        const uint32_t slots[2] = {k->claim(k->ctx, store_arena_fd(r->store), NULL),
                                   k->claim(k->ctx, store_table_fd(r->store), NULL)};

        if (slots[0] != KEEPER_NONE && slots[1] != KEEPER_NONE) {
                set_kept(r, slots);
                return;
        }
        for (unsigned i = 0; i < 2; i++)
                if (slots[i] != KEEPER_NONE)
                        k->drop(k->ctx, slots[i], NULL);
}

/* ---- large values */

void realm_large_left(void *realm, struct large *l)
{
        const struct keeper *k = ((struct realm *)realm)->realms->keeper;

        if (k)
                k->drop(k->ctx, l->kept, l);
}

static void claim_large(struct realm *r)
{
        const struct keeper *k = r->realms->keeper;
        uint32_t cursor = 0;
        struct large *l;

        while ((l = store_large_unkept(r->store, &cursor, NEVER)))
                large_set_kept(l, k->claim(k->ctx, l->fd, l));
}

/* False: there is no more room. */
static bool offer_large(struct realm *r, uint64_t until_ms)
{
        const struct keeper *k = r->realms->keeper;
        uint32_t cursor = 0;
        struct large *l;

        while ((l = store_large_unkept(r->store, &cursor, until_ms))) {
                uint32_t slot = k->put(k->ctx, l, 0, l->fd);

                if (slot == KEEPER_NONE)
                        return false;
                large_set_kept(l, slot);
        }
        return true;
}

static bool has_large(const struct realms *rs)
{
        for (const struct realm *r = rs->first; r; r = r->next)
                if (store_has_unkept(r->store))
                        return true;
        return false;
}

/* ---- all of it */

void realms_claim(struct realms *rs)
{
        if (!rs->keeper)
                return;
        for (struct realm *r = rs->first; r; r = r->next) {
                claim_realm(r);
                claim_large(r);
        }
}

bool realms_offer(struct realms *rs, uint64_t now_ms, bool all)
{
        uint64_t until = now_ms > LARGE_AGE_MS ? now_ms - LARGE_AGE_MS : 0;
        bool fits = true;

        if (!rs->keeper)
                return true;
        for (struct realm *r = rs->first; r && rs->n_unkept > 0 && fits; r = r->next)
                if (r->kept[0] == KEEPER_NONE)
                        fits = offer_realm(r);
        if (!all && now_ms < rs->large_due_ms)
                return fits;
        rs->large_due_ms = now_ms + LARGE_EVERY_MS;
        for (struct realm *r = rs->first; r && fits; r = r->next)
                fits = offer_large(r, all ? NEVER : until);
        return fits;
}

uint64_t realms_offer_due(const struct realms *rs, uint64_t now_ms)
{
        const struct keeper *k = rs->keeper;

        if (!k)
                return NEVER;
        if (rs->n_unkept > 0 && k->has_room(k->ctx, false))
                return now_ms;
        return has_large(rs) && k->has_room(k->ctx, true) ? rs->large_due_ms : NEVER;
}
