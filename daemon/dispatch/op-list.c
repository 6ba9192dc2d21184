/* SPDX-License-Identifier: MIT */
/*
 * ListCaches and ListEntries: a page of what is there, and where to go on. A page ends at page_size
 * or when the message is full, whichever comes first.
 */
#include <string.h>

#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/ops.h"
#include "dispatch/reply.h"
#include "realm/mapping.h"
#include "services/admin.h"

/* A page under construction: pointers to messages, as protobuf-c wants them. */
struct page {
        struct request *r;
        void **items;
        size_t n, max;
        size_t room; /* bytes left in the message */
        bool out_of_memory;
};

#define FIELD_OVERHEAD 8 /* tag and length of one item, at most */

static enum status page_init(struct page *p, struct request *r, uint32_t max)
{
        *p = (struct page){
                .r = r,
                .max = max,
                .items = bump_alloc_array(&r->d->bump, max, sizeof(void *)),
                .room = (size_t)r->d->cfg->limits.message_bytes - REPLY_SMALL,
        };
        if (!p->items)
                return verdict_set(
                        &r->verdict, STATUS_NO_MEMORY,
                        "the daemon has no memory for a page of %u: ask for a smaller one",
                        (unsigned)max);
        return STATUS_OK;
}

/* False: the page is full. */
static bool page_add(struct page *p, ProtobufCMessage *item)
{
        size_t n = protobuf_c_message_get_packed_size(item) + FIELD_OVERHEAD;
        if (n > p->room)
                return false;
        p->room -= n;
        p->items[p->n++] = item;
        return true;
}

static enum status page_verdict(struct page *p)
{
        /* What there is memory for is a page, too, unless it is nothing. */
        if (p->out_of_memory && p->n == 0)
                return verdict_set(&p->r->verdict, STATUS_NO_MEMORY,
                                   "the daemon has no memory for the listing: try again later");
        return STATUS_OK;
}

static bool visit_cache(void *ctx, uint32_t cache, const struct store_cache_info *info)
{
        struct page *p = ctx;
        struct cache_stats_message *m = bump_alloc(&p->r->d->bump, sizeof(*m));
        if (!m) {
                p->out_of_memory = true;
                return false;
        }
        cache_stats_message_init(m, info);
        cache_stats_message_gauge(m, p->r, cache);
        return page_add(p, &m->stats.base);
}

enum status op_list_caches(struct request *r)
{
        const Cached__V1__ListCaches *msg = r->msg->list_caches;
        struct page page;
        enum status status = page_init(&page, r, decode_page_size(r, msg->page_size));
        if (status != STATUS_OK)
                return status;
        uint64_t cursor = msg->cursor;
        (void)realm_drain_all(r->who.realm, r->who.now_ms);
        admin_list_caches(&r->who, (uint32_t)page.max, &cursor, visit_cache, &page);
        status = page_verdict(&page);
        if (status != STATUS_OK)
                return status;

        Cached__V1__ListCachesResult result = CACHED__V1__LIST_CACHES_RESULT__INIT;
        result.n_caches = page.n;
        result.caches = (Cached__V1__CacheStats **)page.items;
        result.next = cursor;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_LIST_CACHES;
        reply.list_caches = &result;
        return reply_message(r, &reply);
}

struct listed_entry {
        Cached__V1__ListedEntry entry;
        Cached__V1__EntryInfo info;
        uint8_t key[STORE_KEY_MAX];
};

static bool visit_entry(void *ctx, const struct store_entry *e)
{
        struct page *p = ctx;
        struct listed_entry *m = bump_alloc(&p->r->d->bump, sizeof(*m));
        if (!m) {
                p->out_of_memory = true;
                return false;
        }
        cached__v1__listed_entry__init(&m->entry);
        cached__v1__entry_info__init(&m->info);
        if (!reply_tags(p->r, &m->info, e)) {
                p->out_of_memory = true;
                return false;
        }
        memcpy(m->key, e->key, e->n_key);
        reply_entry(&m->info, e, p->r->who.now_ms);
        m->entry.key = (ProtobufCBinaryData){.len = e->n_key, .data = m->key};
        m->entry.entry = &m->info;
        m->entry.charge = e->charge;
        m->entry.large = e->large != NULL;
        return page_add(p, &m->entry.base);
}

enum status op_list_entries(struct request *r)
{
        const Cached__V1__ListEntries *msg = r->msg->list_entries;
        struct cache_ref ref;
        struct page page;
        uint64_t cursor = msg->cursor;
        enum status status = decode_cache(r, msg->cache_id, msg->cache, &ref);
        if (status == STATUS_OK)
                status = page_init(&page, r, decode_page_size(r, msg->page_size));
        if (status == STATUS_OK)
                status = admin_list_entries(&r->who, &ref, (uint32_t)page.max, &cursor, visit_entry,
                                            &page, &r->verdict);
        if (status == STATUS_OK)
                status = page_verdict(&page);
        if (status != STATUS_OK)
                return status;

        Cached__V1__ListEntriesResult result = CACHED__V1__LIST_ENTRIES_RESULT__INIT;
        result.n_entries = page.n;
        result.entries = (Cached__V1__ListedEntry **)page.items;
        result.next = cursor;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_LIST_ENTRIES;
        reply.list_entries = &result;
        return reply_message(r, &reply);
}
