/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the key that dispatch peeks at before it unpacks a request
 *
 * What is found lies inside the message. Where the message is a Get or Set as an encoder writes it,
 * it is what protobuf-c finds.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "dispatch/peek.h"
#include "fuzz.h"
#include "proto/cached.pb-c.h"

static void check_same(const Cached__V1__Request *r, const struct peek *p, bool found)
{
        bool is_get = r->op_case == CACHED__V1__REQUEST__OP_GET;
        uint32_t id = is_get ? r->get->cache_id : r->set->cache_id;
        const ProtobufCBinaryData *key = is_get ? &r->get->key : &r->set->key;
        const char *cache = is_get ? r->get->cache : r->set->cache;

        assert(found == (key->len >= 1 && key->len <= 64 && (id != 0 || *cache != '\0')));
        if (!found)
                return;
        assert(p->cache_id == id && p->n_key == key->len);
        assert(memcmp(p->key, key->data, key->len) == 0);
        assert(p->n_cache == strlen(cache) &&
               memcmp(p->cache ? p->cache : "", cache, p->n_cache) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct peek p;
        bool found = peek_key(data, n, &p);
        Cached__V1__Request *r;
        uint8_t *again;

        if (found) {
                assert(p.n_key >= 1 && p.n_key <= 64);
                assert(p.key >= data && p.key + p.n_key <= data + n);
                if (p.n_cache > 0)
                        assert((const uint8_t *)p.cache >= data &&
                               (const uint8_t *)p.cache + p.n_cache <= data + n);
        }
        r = cached__v1__request__unpack(NULL, n, data);
        if (!r)
                return 0;
        again = malloc(n + 1);
        assert(again);
        /* As an encoder writes it: packing what was unpacked yields the same bytes. */
        if ((r->op_case == CACHED__V1__REQUEST__OP_GET ||
             r->op_case == CACHED__V1__REQUEST__OP_SET) &&
            cached__v1__request__get_packed_size(r) == n &&
            cached__v1__request__pack(r, again) == n && memcmp(again, data, n) == 0 &&
            r->base.n_unknown_fields == 0)
                check_same(r, &p, found);
        free(again);
        cached__v1__request__free_unpacked(r, NULL);
        return 0;
}
