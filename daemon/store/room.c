/* SPDX-License-Identifier: MIT */
/*
 * Making room
 *
 * Budgets, from narrow to wide: the cache's max_entries and max_bytes, the writer's share, the
 * realm, and whatever stands above the realm (asked through store_params.make_room). For each that
 * the new entry would break, entries leave one at a time until it fits (evict.c). All of this is
 * decided by the pure charge of entries; memory is allocated afterwards.
 *
 * What cannot be evicted (values that are on their way in or being sent) is looked at first: where
 * it leaves no room, nothing is evicted in vain.
 *
 * A limit that was lowered below what is stored is reached bit by bit: an entry then takes the
 * place of as much as it needs itself, so nothing grows beyond what is there, and a bounded part of
 * the rest leaves with it.
 *
 * An entry that is being replaced (s->keep) counts as gone, but for what will not go with it: a
 * value that somebody is still being sent.
 */

#include "store/internal.h"

static int refuse(struct store_refusal *ret, int code, enum store_cause cause, uint64_t need,
                  uint64_t limit)
{
        *ret = (struct store_refusal){.cause = cause, .need = need, .limit = limit};
        return code;
}

int room_check_size(const struct store *s, const struct table_cache *c, uint64_t charge,
                    struct store_refusal *ret)
{
        if (c && charge > c->policy.max_bytes)
                return refuse(ret, STORE_E_TOO_LARGE, CAUSE_MAX_BYTES, charge, c->policy.max_bytes);
        if (charge > s->p.uid_share && s->p.uid_share < s->p.budget)
                return refuse(ret, STORE_E_TOO_LARGE, CAUSE_UID_SHARE, charge, s->p.uid_share);
        if (charge > s->p.budget)
                return refuse(ret, STORE_E_TOO_LARGE, CAUSE_REALM_BUDGET, charge, s->p.budget);
        return 0;
}

/* ---- what no eviction helps against */

static int no_space(struct store_refusal *ret, const struct room *r, enum store_cause cause,
                    uint64_t limit, uint64_t held, uint64_t arriving)
{
        *ret = (struct store_refusal){.cause = cause,
                                      .need = r->charge + r->later,
                                      .limit = limit,
                                      .held = held,
                                      .arriving = arriving};
        return STORE_E_NO_SPACE;
}

static bool has_share(const struct store *s)
{
        /* A share of everything is no limit of its own: the realm's budget is what bites, and is
         * named. */
        return s->p.uid_share < s->p.budget;
}

static int check_fixed(const struct store *s, const struct room *r, struct store_refusal *ret)
{
        const struct table_owner *o = &s->a.owners[r->owner];
        uint64_t adds = r->charge + r->later;

        /* A value that another uid holds is charged to that one as soon as its entry leaves. */
        if (has_share(s) && o->held + o->arriving + adds > s->p.uid_share &&
            o->held - large_held_by_others(s, r->owner) + o->arriving + adds > s->p.uid_share)
                return no_space(ret, r, CAUSE_UID_SHARE, s->p.uid_share, o->held, o->arriving);
        if (s->held + s->arriving + adds > s->p.budget)
                return no_space(ret, r, CAUSE_REALM_BUDGET, s->p.budget, s->held, s->arriving);
        return 0;
}

/* ---- each scope */

static int room_in_cache(struct store *s, const struct room *r, uint64_t now,
                         struct store_refusal *ret)
{
        const struct table_cache *c = &s->a.caches[r->cache];
        const struct table_gen *g = &s->a.gens[r->gen];
        uint64_t adds = s->keep == ARENA_NONE, before = g->bytes_held;
        uint64_t grows = r->charge > r->old_charge ? r->charge - r->old_charge : 0;

        for (uint64_t n = 0; g->n_entries + adds > c->policy.max_entries; n++) {
                if (n >= adds && !evict_take_extra(s))
                        break;
                if (!evict_of_cache(s, r->gen, CAUSE_MAX_ENTRIES, now))
                        return refuse(ret, STORE_E_NO_SPACE, CAUSE_MAX_ENTRIES, 1,
                                      c->policy.max_entries);
        }
        while (g->bytes_held - r->old_charge + r->charge > c->policy.max_bytes) {
                if (before - g->bytes_held >= grows && !evict_take_extra(s))
                        break;
                if (!evict_of_cache(s, r->gen, CAUSE_MAX_BYTES, now))
                        return refuse(ret, STORE_E_NO_SPACE, CAUSE_MAX_BYTES, r->charge,
                                      c->policy.max_bytes);
        }
        return 0;
}

static int room_of_owner(struct store *s, const struct room *r, uint64_t now,
                         struct store_refusal *ret)
{
        const struct table_owner *o = &s->a.owners[r->owner];
        uint64_t old = r->old_owner == r->owner ? r->old_frees : 0, before = o->charged;
        uint64_t grows = r->charge > old ? r->charge - old : 0;

        while (has_share(s) && o->charged - old + r->charge > s->p.uid_share) {
                if (before >= o->charged + grows && !evict_take_extra(s))
                        break;
                if (!evict_of_owner(s, r->owner, now))
                        return no_space(ret, r, CAUSE_UID_SHARE, s->p.uid_share, o->held,
                                        o->arriving);
        }
        return 0;
}

enum store_cause room_over_realm(const struct store *s)
{
        if (s->a.t->charged > s->p.budget && s->a.t->charged > s->held + s->arriving)
                return CAUSE_REALM_BUDGET;
        return s->a.t->n_entries > s->p.max_entries ? CAUSE_REALM_ENTRIES : N_CAUSES;
}

static int room_in_realm(struct store *s, const struct room *r, uint64_t now,
                         struct store_refusal *ret)
{
        const struct table_header *t = s->a.t;
        uint64_t adds = r->cache && s->keep == ARENA_NONE;
        uint64_t grows = r->charge > r->old_frees ? r->charge - r->old_frees : 0;
        uint64_t before = t->charged, n_before = t->n_entries;

        for (;;) {
                bool bytes = t->charged - r->old_frees + r->charge > s->p.budget;
                bool paid = before >= t->charged + grows && n_before >= t->n_entries + adds;

                if (!bytes && !(adds && t->n_entries >= s->p.max_entries))
                        return 0;
                if (paid && !evict_take_extra(s))
                        return 0;
                if (evict_of_realm(s, bytes ? CAUSE_REALM_BUDGET : CAUSE_REALM_ENTRIES, now) == 0)
                        return bytes ? no_space(ret, r, CAUSE_REALM_BUDGET, s->p.budget, s->held,
                                                s->arriving)
                                     : refuse(ret, STORE_E_NO_SPACE, CAUSE_REALM_ENTRIES, 1,
                                              s->p.max_entries);
        }
}

int room_make(struct store *s, const struct room *r, uint64_t now, struct store_refusal *ret)
{
        struct store_want want = {
                .bytes = r->charge > r->old_frees ? r->charge - r->old_frees : 0,
                .later = r->later,
                .files = r->files,
        };
        int e = check_fixed(s, r, ret);

        if (e == 0 && r->cache)
                e = room_in_cache(s, r, now, ret);
        if (e == 0)
                e = room_of_owner(s, r, now, ret);
        if (e == 0)
                e = room_in_realm(s, r, now, ret);
        if (e == 0 && s->p.make_room && (want.bytes > 0 || want.files > 0) &&
            s->p.make_room(s->p.ctx, s, &want, now, ret) < 0) {
                ret->need = ret->cause == CAUSE_LARGE_VALUES ? want.files : r->charge + r->later;
                e = STORE_E_NO_SPACE;
        }
        return e;
}
