/* SPDX-License-Identifier: MIT */
/*
 * Explain: why a key is a hit or a miss. Counts as nothing.
 */
#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/reply.h"
#include "services/admin.h"

/* Fate is the store's cause, two further on. */
_Static_assert((int)CACHED__V1__FATE__FATE_EXPIRED == (int)CAUSE_EXPIRED + 2, "fates");
_Static_assert((int)CACHED__V1__FATE__FATE_EVICTED_INDEX == (int)CAUSE_INDEX + 2, "fates");
_Static_assert((int)CACHED__V1__FATE__FATE_DELETED == (int)CAUSE_DELETED + 2, "fates");
_Static_assert((int)CACHED__V1__FATE__FATE_EVICTED_REALM_ENTRIES == (int)CAUSE_REALM_ENTRIES + 2,
               "fates");
_Static_assert((int)CACHED__V1__FATE__FATE_EVICTED_LARGE_VALUES == (int)CAUSE_LARGE_VALUES + 2,
               "fates");

static Cached__V1__Fate fate_of(const struct explanation *e)
{
        if (e->no_cache)
                return CACHED__V1__FATE__FATE_NO_CACHE;
        if (e->fate.live)
                return CACHED__V1__FATE__FATE_LIVE;
        if (!e->fate.known || e->fate.cause == CAUSE_REPLACED || e->fate.cause >= N_CAUSES)
                return CACHED__V1__FATE__FATE_NEVER_STORED;
        return (Cached__V1__Fate)(e->fate.cause + 2);
}

enum status op_explain(struct request *r)
{
        const Cached__V1__Explain *msg = r->msg->explain;
        struct cache_ref ref;
        struct key_ref key;
        struct explanation e;
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        if (status == STATUS_OK)
                status = decode_key(r, &msg->key, &key);
        if (status == STATUS_OK)
                status = admin_explain(&r->who, &ref, key, &e, &r->verdict);
        if (status != STATUS_OK)
                return status;

        Cached__V1__ExplainResult result = CACHED__V1__EXPLAIN_RESULT__INIT;
        Cached__V1__EntryInfo info = CACHED__V1__ENTRY_INFO__INIT;
        result.fate = fate_of(&e);
        result.text = e.text;
        if (result.fate == CACHED__V1__FATE__FATE_LIVE) {
                reply_entry(&info, &e.fate.entry, r->who.now_ms);
                result.entry = &info;
                result.charge = e.fate.entry.charge;
        } else if (result.fate != CACHED__V1__FATE__FATE_NEVER_STORED) {
                result.age_ms = e.fate.age_ms;
        }
        struct computation_message computing;
        const struct lease *l = leasing_holder(r, &ref, key);
        if (l) {
                computation_message_init(&computing, l, r->who.now_ms);
                result.computing = &computing.computation;
        }
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_EXPLAIN;
        reply.explain = &result;
        return reply_message(r, &reply);
}
