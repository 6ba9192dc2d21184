/* SPDX-License-Identifier: MIT */
/*
 * The client's short cuts around protobuf-c agree with it
 *
 * Random requests are packed by both, byte for byte the same. Random replies are read by both and
 * packed again, the same; also after a byte was changed, cut off or put in: what the short cut
 * accepts, protobuf-c accepts, with the same content.
 */

#undef NDEBUG
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "client/codec.h"

static uint64_t seed = 88172645463325252u;

static uint64_t random_u64(void)
{
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        return seed;
}

/* Of all magnitudes, 0 and the largest among them. */
static uint64_t random_number(void)
{
        unsigned bits = (unsigned)(random_u64() % 66);

        if (bits == 0)
                return 0;
        return bits >= 64 ? UINT64_MAX >> (bits - 64) : random_u64() & ((1ull << bits) - 1);
}

static char name[260];
static uint8_t key[260];

static void random_address(uint32_t *id, char **cache, ProtobufCBinaryData *k)
{
        size_t n = random_u64() % 8 == 0 ? random_u64() % sizeof(name) : random_u64() % 20;

        for (size_t i = 0; i < n; i++)
                name[i] = (char)(1 + random_u64() % 255);
        name[n] = '\0';
        *cache = random_u64() % 2 ? name : (char *)protobuf_c_empty_string;
        *id = (uint32_t)random_number();
        k->data = key;
        k->len = random_u64() % 8 == 0 ? random_u64() % sizeof(key) : random_u64() % 65;
        for (size_t i = 0; i < k->len; i++)
                key[i] = (uint8_t)random_u64();
}

static char tag_text[9][130];
static char *tags[9];

/* What few stores have. */
static void random_extras(Cached__V1__Set *m)
{
        m->lease_id = random_number();
        m->share_only = (int)(random_u64() % 2);
        m->n_tags = random_u64() % 10;
        m->tags = tags;
        for (size_t i = 0; i < m->n_tags; i++) {
                size_t n = random_u64() % 8 ? random_u64() % 10 : random_u64() % 129;

                for (size_t k = 0; k < n; k++)
                        tag_text[i][k] = (char)(1 + random_u64() % 255);
                tag_text[i][n] = '\0';
                tags[i] = tag_text[i];
        }
        m->messages_size = random_number();
        m->negative = (int)(random_u64() % 2);
        m->vary = (int)(random_u64() % 2);
        m->variant_of.data = key;
        m->variant_of.len = random_u64() % 2 ? 0 : random_u64() % 110;
}

static void random_set(Cached__V1__Set *m)
{
        random_address(&m->cache_id, &m->cache, &m->key);
        switch (random_u64() % 3) {
        case 0:
                m->ttl_case = CACHED__V1__SET__TTL_TTL_MS;
                m->ttl_ms = random_number();
                break;
        case 1:
                m->ttl_case = CACHED__V1__SET__TTL_NEVER_EXPIRES;
                m->never_expires = (int)(random_u64() % 2);
                break;
        default:
                break;
        }
        m->mode = (Cached__V1__SetMode)(random_u64() % 3);
        if (random_u64() % 2) {
                m->compare_case = CACHED__V1__SET__COMPARE_EXPECTED_VERSION;
                m->expected_version = random_number();
        }
        m->flags = (uint32_t)random_number();
        m->encoding = (Cached__V1__Encoding)(random_u64() % 2);
        m->raw_size = random_number();
        m->cost_us = random_number();
        if (random_u64() % 2 == 0)
                random_extras(m);
}

static void random_lease(Cached__V1__LeaseAsk *m)
{
        cached__v1__lease_ask__init(m);
        m->owner = random_number();
        if (random_u64() % 2) {
                m->patience_case = CACHED__V1__LEASE_ASK__PATIENCE_WAIT_MS;
                m->wait_ms = (uint32_t)random_number();
        }
        m->hold_ms = (uint32_t)random_number();
        m->refresh = (int)(random_u64() % 2);
        m->want_progress = (int)(random_u64() % 2);
        m->want_failure = (int)(random_u64() % 2);
}

static void test_pack(void **state)
{
        int n_packed = 0;

        for (int i = 0; i < 200000; i++) {
                Cached__V1__Request r = CACHED__V1__REQUEST__INIT;
                Cached__V1__Get get = CACHED__V1__GET__INIT;
                Cached__V1__Set set = CACHED__V1__SET__INIT;
                Cached__V1__Delete delete = CACHED__V1__DELETE__INIT;
                Cached__V1__LeaseAsk lease;
                uint8_t ours[CODEC_PACK_MAX], theirs[4096];
                size_t n;

                r.id = random_number();
                r.deadline_ms = (uint32_t)random_number();
                r.repeated = random_u64() % 8 == 0;
                switch (random_u64() % 3) {
                case 0:
                        random_address(&get.cache_id, &get.cache, &get.key);
                        get.no_touch = (int)(random_u64() % 2);
                        get.with_messages = (int)(random_u64() % 2);
                        random_lease(&lease);
                        if (random_u64() % 2)
                                get.lease = &lease;
                        r.op_case = CACHED__V1__REQUEST__OP_GET;
                        r.get = &get;
                        break;
                case 1:
                        random_set(&set);
                        r.op_case = CACHED__V1__REQUEST__OP_SET;
                        r.set = &set;
                        break;
                default:
                        random_address(&delete.cache_id, &delete.cache, &delete.key);
                        r.op_case = CACHED__V1__REQUEST__OP_DELETE;
                        r.delete_ = &delete;
                }
                n = codec_pack(&r, ours);
                if (n == 0)
                        continue;
                n_packed++;
                assert_int_equal(n, cached__v1__request__get_packed_size(&r));
                cached__v1__request__pack(&r, theirs);
                assert_memory_equal(ours, theirs, n);
        }
        assert_true(n_packed > 100000);
}

static void test_pack_refuses_others(void **state)
{
        Cached__V1__Request r = CACHED__V1__REQUEST__INIT;
        Cached__V1__Ping ping = CACHED__V1__PING__INIT;
        uint8_t out[CODEC_PACK_MAX];

        r.id = 1;
        r.op_case = CACHED__V1__REQUEST__OP_PING;
        r.ping = &ping;
        assert_int_equal(codec_pack(&r, out), 0);
}

static size_t random_reply(uint8_t *out)
{
        Cached__V1__Reply r = CACHED__V1__REPLY__INIT;
        Cached__V1__EntryInfo e = CACHED__V1__ENTRY_INFO__INIT;

        r.id = random_number();
        r.status = (Cached__V1__Status)(random_u64() % 20);
        if (random_u64() % 4) {
                e.version = random_number();
                e.size = random_number();
                e.flags = (uint32_t)random_number();
                e.encoding = (Cached__V1__Encoding)(random_u64() % 2);
                e.raw_size = random_number();
                e.cost_us = random_number();
                e.uid = (uint32_t)random_number();
                e.stale = (int)(random_u64() % 2);
                e.messages_size = random_number();
                e.negative = random_u64() % 4 == 0;
                e.vary = random_u64() % 8 == 0;
                if (random_u64() % 2) {
                        e.fresh_case = CACHED__V1__ENTRY_INFO__FRESH_FRESH_MS;
                        e.fresh_ms = random_number();
                }
                if (random_u64() % 2) {
                        e.ttl_case = CACHED__V1__ENTRY_INFO__TTL_TTL_MS;
                        e.ttl_ms = random_number();
                }
                r.result_case = CACHED__V1__REPLY__RESULT_ENTRY;
                r.entry = &e;
        }
        return cached__v1__reply__pack(&r, out);
}

static size_t random_many(uint8_t *out)
{
        Cached__V1__Reply r = CACHED__V1__REPLY__INIT;
        Cached__V1__GetManyResult many = CACHED__V1__GET_MANY_RESULT__INIT;
        Cached__V1__GetManyItem item[8], *items[8];
        Cached__V1__EntryInfo entry[8];

        r.id = random_number();
        r.status = (Cached__V1__Status)(random_u64() % 2);
        many.n_items = random_u64() % 8;
        many.items = items;
        for (size_t i = 0; i < many.n_items; i++) {
                items[i] = &item[i];
                cached__v1__get_many_item__init(&item[i]);
                cached__v1__entry_info__init(&entry[i]);
                item[i].status = (Cached__V1__Status)(random_u64() % 20);
                entry[i].version = random_number();
                entry[i].size = random_number();
                entry[i].flags = (uint32_t)random_number();
                if (random_u64() % 2)
                        item[i].entry = &entry[i];
        }
        r.result_case = CACHED__V1__REPLY__RESULT_GET_MANY;
        r.get_many = &many;
        return cached__v1__reply__pack(&r, out);
}

/* Either short cut; *ret_memory is to be freed. */
static bool take(const uint8_t *message, size_t n, Cached__V1__Reply *r, Cached__V1__EntryInfo *e,
                 Cached__V1__GetManyResult *many, void **ret_memory)
{
        struct codec_items found;
        struct codec_item *items;

        *ret_memory = NULL;
        if (codec_unpack(message, n, r, e))
                return true;
        if (!codec_find_items(message, n, r, &found))
                return false;
        items = *ret_memory = malloc(found.n * (sizeof(*items) + sizeof(*many->items)) + 1);
        *many = (Cached__V1__GetManyResult)CACHED__V1__GET_MANY_RESULT__INIT;
        many->n_items = found.n;
        many->items = (void *)(items + found.n);
        r->get_many = many;
        return codec_unpack_items(&found, items, many->items);
}

/* Whether a short cut took it; if so, it was right. */
static bool agrees(const uint8_t *message, size_t n)
{
        /* Of its exact length, so that a sanitizer sees a read beyond it. */
        uint8_t *copy = malloc(n ? n : 1), *ours, *theirs;
        Cached__V1__Reply r, *pb;
        Cached__V1__GetManyResult many;
        Cached__V1__EntryInfo e;
        void *memory;
        size_t size;
        bool taken;

        memcpy(copy, message, n);
        taken = take(copy, n, &r, &e, &many, &memory);
        if (taken) {
                pb = cached__v1__reply__unpack(NULL, n, copy);
                assert_non_null(pb);
                size = cached__v1__reply__get_packed_size(&r);
                assert_int_equal(size, cached__v1__reply__get_packed_size(pb));
                ours = malloc(size + 1);
                theirs = malloc(size + 1);
                cached__v1__reply__pack(&r, ours);
                cached__v1__reply__pack(pb, theirs);
                assert_memory_equal(ours, theirs, size);
                free(ours);
                free(theirs);
                cached__v1__reply__free_unpacked(pb, NULL);
        }
        free(memory);
        free(copy);
        return taken;
}

static size_t random_message(uint8_t *out, int i)
{
        return i % 2 ? random_many(out) : random_reply(out);
}

static void test_unpack(void **state)
{
        int n_taken = 0;

        for (int i = 0; i < 100000; i++) {
                uint8_t message[1024];
                size_t n = random_message(message, i);

                n_taken += agrees(message, n);
        }
        assert_true(n_taken > 50000);
}

static void test_unpack_damaged(void **state)
{
        int n_taken = 0;

        for (int i = 0; i < 300000; i++) {
                uint8_t message[1024];
                size_t n = random_message(message, i), at = n ? random_u64() % n : 0;

                switch (random_u64() % 4) {
                case 0:
                        message[at] = (uint8_t)random_u64();
                        break;
                case 1:
                        n = at;
                        break;
                case 2:
                        memmove(message + at + 1, message + at, n - at);
                        message[at] = (uint8_t)random_u64();
                        n++;
                        break;
                default: /* twice: the fields of the second win, its entry is merged */
                        memcpy(message + n, message, n < 120 ? n : 0);
                        n += n < 120 ? n : 0;
                }
                n_taken += agrees(message, n);
        }
        assert_true(n_taken > 10000);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pack),
                cmocka_unit_test(test_pack_refuses_others),
                cmocka_unit_test(test_unpack),
                cmocka_unit_test(test_unpack_damaged),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
