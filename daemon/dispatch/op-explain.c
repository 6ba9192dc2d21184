/* SPDX-License-Identifier: MIT */
/*
 * Explain: why a key is a hit or a miss. Counts as nothing.
 */
#include <string.h>

#include "dispatch/decode.h"
#include "dispatch/leasing.h"
#include "dispatch/reply.h"
#include "proto/wire.h"
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

static enum status no_memory(struct request *r)
{
        return verdict_set(&r->verdict, STATUS_NO_MEMORY,
                           "the daemon has no memory for the explanation: try again later");
}

/* What an entry with `vary` depends on. */
static enum status add_inputs(struct request *r, const struct explanation *e,
                              Cached__V1__ExplainResult *result)
{
        struct bump *b = &r->d->bump;
        Cached__V1__VaryingInput *inputs = bump_alloc_array(b, e->n_inputs, sizeof(*inputs));
        result->inputs = bump_alloc_array(b, e->n_inputs, sizeof(*result->inputs));
        if (!inputs || !result->inputs)
                return no_memory(r);
        for (unsigned i = 0; i < e->n_inputs; i++) {
                const struct store_input *from = &e->inputs[i];
                size_t n = wire_utf8_prefix((const char *)from->name, from->n_name);
                cached__v1__varying_input__init(&inputs[i]);
                inputs[i].variants = from->variants;
                inputs[i].name = bump_alloc(b, n + 1);
                if (!inputs[i].name)
                        return no_memory(r);
                memcpy(inputs[i].name, from->name, n);
                inputs[i].name[n] = '\0';
                result->inputs[i] = &inputs[i];
        }
        result->n_inputs = e->n_inputs;
        return STATUS_OK;
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
                if (!reply_tags(r, &info, &e.fate.entry))
                        return no_memory(r);
                status = add_inputs(r, &e, &result);
                if (status != STATUS_OK)
                        return status;
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
