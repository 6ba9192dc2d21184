/* SPDX-License-Identifier: MIT */
/*
 * Events and what they say
 *
 * An event is the daemon's message as it came; what is not in a message of its kind is nothing.
 * Kinds and fields that this library does not know are passed over: a newer daemon may have more.
 */

#include "client/event.h"

/* The bits are in the order of the contract's kinds, but for two in the middle that are none. */
uint32_t event_kind_bit(Cached__V1__EventKind kind)
{
        if (kind < EVENT_KIND_FIRST || kind > EVENT_KIND_LAST)
                return 0;
        if (kind > CACHED__V1__EVENT_KIND__EVENT_REFRESH)
                return CACHED_EVENT_RESOURCE_CREATED
                       << (kind - CACHED__V1__EVENT_KIND__EVENT_RESOURCE_CREATED);
        return 1u << (kind - EVENT_KIND_FIRST);
}

static const Cached__V1__Event *event_of(const cached_event *v)
{
        return v && v->r ? v->r->message->event : NULL;
}

static const Cached__V1__EntryEvent *entry_of(const cached_event *v)
{
        const Cached__V1__Event *m = event_of(v);

        return m && m->kind_case == CACHED__V1__EVENT__KIND_ENTRY ? m->entry : NULL;
}

static const Cached__V1__ClearEvent *clear_of(const cached_event *v)
{
        const Cached__V1__Event *m = event_of(v);

        return m && m->kind_case == CACHED__V1__EVENT__KIND_CLEARED ? m->cleared : NULL;
}

static const Cached__V1__InstanceEvent *instance_of(const cached_event *v)
{
        const Cached__V1__Event *m = event_of(v);

        return m && m->kind_case == CACHED__V1__EVENT__KIND_INSTANCE ? m->instance : NULL;
}

static uint32_t kind_of(const Cached__V1__Event *m)
{
        uint32_t bit;

        switch (m->kind_case) {
        case CACHED__V1__EVENT__KIND_POLICY_CHANGED:
                return CACHED_EVENT_POLICY;
        case CACHED__V1__EVENT__KIND_ENTRY:
                bit = event_kind_bit(m->entry->kind);
                return bit & (CACHED_EVENT_STORED | CACHED_EVENT_DELETED | CACHED_EVENT_EXPIRED |
                              CACHED_EVENT_EVICTED);
        case CACHED__V1__EVENT__KIND_CLEARED:
                return CACHED_EVENT_CLEARED;
        case CACHED__V1__EVENT__KIND_LOST:
                return CACHED_EVENT_LOST;
        case CACHED__V1__EVENT__KIND_REFRESH:
                return CACHED_EVENT_REFRESH;
        case CACHED__V1__EVENT__KIND_SESSION:
                return CACHED_EVENT_SESSION;
        case CACHED__V1__EVENT__KIND_INSTANCE:
                return event_kind_bit(m->instance->kind) & CACHED_EVENT_RESOURCES;
        default:
                return 0;
        }
}

void event_take(struct cached_event *v, struct cached_reply *r)
{
        const Cached__V1__Event *m = r->message->event;

        event_done(v);
        v->r = r;
        v->kind = kind_of(m);
        if (v->kind == CACHED_EVENT_LOST)
                v->lost = m->lost->events;
        if (v->kind == 0)
                event_done(v);
}

void event_set_lost(struct cached_event *v, uint64_t n)
{
        event_done(v);
        v->kind = CACHED_EVENT_LOST;
        v->lost = n;
}

void event_done(struct cached_event *v)
{
        cached_reply_free(v->r);
        *v = (struct cached_event){0};
}

/* ------------------------------------------------------------------------------------- accessors
 */

static const void *bytes_of(const ProtobufCBinaryData *b, size_t *ret_size)
{
        if (ret_size)
                *ret_size = b->len;
        return b->len > 0 ? (const void *)b->data : (const void *)"";
}

uint32_t cached_event_kind(const cached_event *v)
{
        return v ? v->kind : 0;
}

const char *cached_event_cache(const cached_event *v)
{
        const Cached__V1__Event *m = event_of(v);

        if (!m)
                return "";
        switch (m->kind_case) {
        case CACHED__V1__EVENT__KIND_POLICY_CHANGED:
                return m->policy_changed->name;
        case CACHED__V1__EVENT__KIND_ENTRY:
                return m->entry->cache;
        case CACHED__V1__EVENT__KIND_CLEARED:
                return m->cleared->cache;
        case CACHED__V1__EVENT__KIND_REFRESH:
                return m->refresh->cache;
        case CACHED__V1__EVENT__KIND_INSTANCE:
                return m->instance->cache;
        default:
                return "";
        }
}

const void *cached_event_key(const cached_event *v, size_t *ret_size)
{
        const Cached__V1__InstanceEvent *instance = instance_of(v);
        const Cached__V1__EntryEvent *m = entry_of(v);

        if (instance)
                return bytes_of(&instance->key, ret_size);
        return m ? bytes_of(&m->key, ret_size) : NULL;
}

uint64_t cached_event_version(const cached_event *v)
{
        const Cached__V1__EntryEvent *m = entry_of(v);

        return m ? m->version : 0;
}

uint64_t cached_event_size(const cached_event *v)
{
        const Cached__V1__EntryEvent *m = entry_of(v);

        return m ? m->size : 0;
}

const char *cached_event_cause(const cached_event *v)
{
        const char *text = "";

        if (cached_event_kind(v) == CACHED_EVENT_EVICTED)
                (void)cached_reply_text(v->r, "entry.cause", &text);
        return text;
}

const char *cached_event_tag(const cached_event *v)
{
        const Cached__V1__ClearEvent *m = clear_of(v);

        return m && m->which_case == CACHED__V1__CLEAR_EVENT__WHICH_TAG ? m->tag : NULL;
}

const void *cached_event_prefix(const cached_event *v, size_t *ret_size)
{
        const Cached__V1__ClearEvent *m = clear_of(v);

        if (!m || m->which_case != CACHED__V1__CLEAR_EVENT__WHICH_PREFIX)
                return NULL;
        return bytes_of(&m->prefix, ret_size);
}

uint64_t cached_event_entries(const cached_event *v)
{
        const Cached__V1__ClearEvent *m = clear_of(v);

        return m ? m->entries : 0;
}

uint64_t cached_event_age_ms(const cached_event *v)
{
        const Cached__V1__ClearEvent *cleared = clear_of(v);
        const Cached__V1__InstanceEvent *instance = instance_of(v);
        const Cached__V1__EntryEvent *entry = entry_of(v);

        if (cleared)
                return cleared->age_ms;
        if (instance)
                return instance->age_ms;
        return entry ? entry->age_ms : 0;
}

uint64_t cached_event_lost(const cached_event *v)
{
        return v ? v->lost : 0;
}

const char *cached_event_schedule(const cached_event *v)
{
        const Cached__V1__Event *m = event_of(v);

        return m && m->kind_case == CACHED__V1__EVENT__KIND_REFRESH ? m->refresh->schedule : "";
}

int cached_session_event(const cached_event *v)
{
        const Cached__V1__Event *m = event_of(v);

        return m && v->kind == CACHED_EVENT_SESSION ? (int)m->session->change : 0;
}

uint64_t cached_event_instance(const cached_event *v)
{
        const Cached__V1__InstanceEvent *m = instance_of(v);

        return m ? m->instance : 0;
}

int cached_event_resource_cause(const cached_event *v)
{
        const Cached__V1__InstanceEvent *m = instance_of(v);

        return m ? (int)m->cause : 0;
}

const cached_reply *cached_event_reply(const cached_event *v)
{
        return v ? v->r : NULL;
}
