/* SPDX-License-Identifier: MIT */
/*
 * Plain
 *
 * Values are compressed and decoded by clients, on their own cores. For one that cannot (any
 * language with sockets and protobuf, a shell script) the daemon decodes, in the loop, and so
 * within bounds: limits.lz4_bytes bounds each value when it is stored, a connection that had a
 * longer one decoded has no more requests in this turn (a damaged block would otherwise cost its
 * time again and again, since no reply fills the output), and what waits to be sent is counted by
 * uid.
 *
 * A block that does not decode to exactly the declared size is a miss, as it is for a client that
 * decodes it itself. It is counted, and left where it is: reading changes nothing, whoever computes
 * the value again replaces it, and until then it can be looked at.
 */
#include "dispatch/plain.h"

#include <errno.h>
#include <inttypes.h>
#include <lz4.h>
#include <stdlib.h>

#include "config.h"
#include "log.h"
#include "server.h"
#include "services/limits.h"

static bool decode(const struct store_entry *e, uint8_t *out)
{
        uint64_t n_block = e->n_value - e->n_messages;
        if (e->encoding != CACHED__V1__ENCODING__ENCODING_LZ4 || n_block > LZ4_MAX_INPUT_SIZE ||
            e->raw_size > LZ4_MAX_INPUT_SIZE)
                return false;
        int n = LZ4_decompress_safe((const char *)e->value, (char *)out, (int)n_block,
                                    (int)e->raw_size);
        return n >= 0 && (uint64_t)n == e->raw_size;
}

enum status plain_decode(struct request *r, const struct cache_ref *ref,
                         const struct store_entry *e, bool counted, uint8_t *out)
{
        struct dispatcher *d = r->d;
        if (e->raw_size > PLAIN_SHORT)
                conn_yield(r->client->conn);
        if (decode(e, out)) {
                d->n_decoded++;
                return STATUS_OK;
        }
        d->n_damaged++;
        log_peer(server_log(d->server), LOG_DEBUG, LOG_KIND_DISPATCH, server_now_ns(d->server),
                 &(struct log_fields){.has_uid = true,
                                      .uid = e->uid,
                                      .realm = r->client->realm->name},
                 "a value that uid %u stored in the realm '%s' does not decode to its raw_size of "
                 "%" PRIu64 " bytes",
                 (unsigned)e->uid, r->client->realm->name, e->raw_size);
        if (counted)
                data_miss(&r->who, ref, e);
        return STATUS_NOT_FOUND;
}

enum status plain_new(struct request *r, const struct cache_ref *ref, const struct store_entry *e,
                      size_t n_behind, bool counted, struct plain **ret)
{
        uint64_t n_all = e->raw_size + n_behind;
        const struct config_limits *limits = &r->d->cfg->limits;
        if (e->raw_size > limits->lz4_bytes)
                return verdict_set(&r->verdict, STATUS_TOO_LARGE,
                                   "the value has %" PRIu64 " bytes decoded, more than "
                                   "limits.lz4_bytes, %" PRIu64
                                   ": use a client that decodes LZ4, or raise it",
                                   e->raw_size, limits->lz4_bytes);
        int k = quota_take(&r->d->decoded, r->who.uid, n_all, limits->decoded_bytes_per_uid);
        if (k == QUOTA_E_LIMIT)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "more than limits.decoded_bytes_per_uid, %" PRIu64
                                   " bytes, would wait for uid %u to take them: %s",
                                   limits->decoded_bytes_per_uid, (unsigned)r->who.uid,
                                   limit_advice.decoded_bytes_per_uid);
        if (k < 0)
                return verdict_errno(&r->verdict, k, "decoding the value");
        struct plain *p = malloc(sizeof(*p) + n_all);
        if (!p) {
                quota_give(&r->d->decoded, r->who.uid, n_all);
                return verdict_errno(&r->verdict, -ENOMEM, "decoding the value");
        }
        p->quota = &r->d->decoded;
        p->uid = r->who.uid;
        p->n = n_all;
        enum status status = plain_decode(r, ref, e, counted, p->bytes);
        if (status != STATUS_OK)
                plain_free(p);
        else
                *ret = p;
        return status;
}

struct plain *plain_free(struct plain *p)
{
        if (!p)
                return NULL;
        quota_give(p->quota, p->uid, p->n);
        free(p);
        return NULL;
}

void plain_release(void *p)
{
        plain_free(p);
}

void plain_describe(Cached__V1__EntryInfo *info)
{
        info->encoding = CACHED__V1__ENCODING__ENCODING_RAW;
        info->size = info->raw_size;
}
