/* SPDX-License-Identifier: MIT */

/*
 * The lines of `cachectl monitor`
 *
 * For people: the local time at which it happened, what, where, and what more there is to say. The
 * column of caches is as wide as the widest so far, up to a bound: what comes is not known before.
 *
 * For programs: an object on a line, with the same members for each event of a kind.
 */

#include "monitor.h"

#include "fields.h"
#include "output.h"
#include "resource.h"
#include "units.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define WIDTH_MAX  32
#define MS_PER_SEC 1000
#define NS_PER_MS  1000000

static const struct {
        uint32_t kind;
        const char *name;
} kinds[] = {
        {CACHED_EVENT_STORED, "stored"},      {CACHED_EVENT_DELETED, "deleted"},
        {CACHED_EVENT_CLEARED, "cleared"},    {CACHED_EVENT_EXPIRED, "expired"},
        {CACHED_EVENT_EVICTED, "evicted"},    {CACHED_EVENT_POLICY, "policy"},
        {CACHED_EVENT_REFRESH, "refresh"},    {CACHED_EVENT_RESOURCE_CREATED, "created"},
        {CACHED_EVENT_RESOURCE_LEFT, "left"}, {CACHED_EVENT_LOST, "lost"},
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static const struct field fields_cause[] = {
        {"cause", FIELD_CHOICE, NULL, NULL, fields_fates},
        {NULL},
};

static const struct field fields_instance[] = {
        {"instance", FIELD_ID},
        {"resource", FIELD_CHOICE, NULL, NULL, resource_kinds},
        {NULL},
};

static const struct field fields_holders[] = {
        {"holders", FIELD_COUNT},
        {NULL},
};

uint32_t monitor_kind(const char *name)
{
        for (size_t i = 0; i < N_KINDS; i++)
                if (kinds[i].kind != CACHED_EVENT_LOST && strcmp(kinds[i].name, name) == 0)
                        return kinds[i].kind;
        return 0;
}

/* A newer daemon may know more kinds than we do. */
static const char *kind_name(uint32_t kind)
{
        for (size_t i = 0; i < N_KINDS; i++)
                if (kinds[i].kind == kind)
                        return kinds[i].name;
        return "unknown";
}

/* Milliseconds since 1970 at which it happened. */
static uint64_t when_ms(const cached_event *v)
{
        struct timespec now;
        uint64_t ms, age = cached_event_age_ms(v);

        (void)clock_gettime(CLOCK_REALTIME, &now);
        ms = (uint64_t)now.tv_sec * MS_PER_SEC + (uint64_t)now.tv_nsec / NS_PER_MS;
        return age < ms ? ms - age : 0;
}

/* ---- for people */

static void print_time(const cached_event *v)
{
        uint64_t ms = when_ms(v);
        time_t s = (time_t)(ms / MS_PER_SEC);
        char text[16] = "?";
        struct tm tm;

        if (localtime_r(&s, &tm))
                (void)strftime(text, sizeof(text), "%H:%M:%S", &tm);
        printf("%s.%03u  ", text, (unsigned)(ms % MS_PER_SEC));
}

/* In columns, nearly enough: characters that are two wide are rare in names. */
static unsigned columns_of(const char *text)
{
        unsigned n = 0;

        for (; *text; text++)
                n += ((unsigned char)*text & 0xc0) != 0x80;
        return n;
}

static void print_cache(struct monitor *m, const char *cache)
{
        unsigned n = columns_of(cache);

        if (n > m->width)
                m->width = n < WIDTH_MAX ? n : WIDTH_MAX;
        output_text(stdout, cache);
        printf("%*s  ", n < m->width ? (int)(m->width - n) : 0, "");
}

static void print_bytes(const void *bytes, size_t n)
{
        char text[KEY_FORMAT_SIZE];

        fputs(bytes && n <= KEY_MAX ? key_format(text, bytes, n) : "?", stdout);
}

/* "max bytes" of "evicted_max_bytes". */
static void print_cause(const cached_event *v)
{
        static const char before[] = "evicted_";
        char buf[FIELDS_TEXT_SIZE];
        const char *text = fields_format(cached_event_reply(v), "entry.", fields_cause, buf);

        if (strncmp(text, before, sizeof(before) - 1) == 0)
                text += sizeof(before) - 1;
        fputs("  ", stdout);
        for (; *text; text++)
                putchar(*text == '_' ? ' ' : *text);
}

static void print_cleared(const cached_event *v)
{
        uint64_t entries = cached_event_entries(v);
        size_t n = 0;
        const void *prefix = cached_event_prefix(v, &n);
        const char *tag = cached_event_tag(v);

        if (tag) {
                fputs("tag ", stdout);
                output_text(stdout, tag);
                fputs(", ", stdout);
        } else if (prefix) {
                fputs("prefix ", stdout);
                print_bytes(prefix, n);
                fputs(", ", stdout);
        }
        printf("%" PRIu64 " %s", entries, entries == 1 ? "entry" : "entries");
}

static const char *resource_text(const cached_event *v)
{
        uint64_t kind = fields_u64(cached_event_reply(v), "instance.", "resource");

        return kind <= RESOURCE_LOCAL ? resource_kinds[kind] : "unknown";
}

static void print_left(const cached_event *v)
{
        const char *reason = fields_text(cached_event_reply(v), "instance.", "reason");
        uint64_t n = fields_u64(cached_event_reply(v), "instance.", "holders");
        char buf[RESOURCE_CAUSE_SIZE];

        printf(", %s", resource_cause_words(buf, cached_event_resource_cause(v)));
        if (n > 0)
                printf(", %" PRIu64 " %s", n, n == 1 ? "holder" : "holders");
        if (*reason) {
                fputs(": ", stdout);
                output_text(stdout, reason);
        }
}

static void print_lost(const cached_event *v)
{
        uint64_t n = cached_event_lost(v);

        if (n == UINT64_MAX)
                fputs("what happened while there was no connection", stdout);
        else
                printf("%" PRIu64 " %s not kept for us: they were not read in time", n,
                       n == 1 ? "event was" : "events were");
}

static void print_text(struct monitor *m, const cached_event *v)
{
        uint32_t kind = cached_event_kind(v);
        const char *cache = cached_event_cache(v);
        char buf[FIELDS_TEXT_SIZE];
        size_t n_key = 0;
        const void *key = cached_event_key(v, &n_key);

        print_time(v);
        printf("%-7s  ", kind_name(kind));
        if (kind != CACHED_EVENT_LOST)
                print_cache(m, *cache ? cache : "all caches");
        if (key)
                print_bytes(key, n_key);
        switch (kind) {
        case CACHED_EVENT_STORED:
                printf("  %s%s", units_format_bytes(buf, cached_event_size(v)),
                       cached_event_size(v) < 1024 ? " bytes" : "");
                break;
        case CACHED_EVENT_EVICTED:
                print_cause(v);
                break;
        case CACHED_EVENT_CLEARED:
                print_cleared(v);
                break;
        case CACHED_EVENT_POLICY:
                fputs(fields_policy_words(cached_event_reply(v), "policy_changed.", buf), stdout);
                break;
        case CACHED_EVENT_REFRESH:
                fputs("schedule ", stdout);
                output_text(stdout, cached_event_schedule(v));
                break;
        case CACHED_EVENT_RESOURCE_CREATED:
                printf("  %s", resource_text(v));
                break;
        case CACHED_EVENT_RESOURCE_LEFT:
                printf("  %s", resource_text(v));
                print_left(v);
                break;
        case CACHED_EVENT_LOST:
                print_lost(v);
                break;
        default:
                break;
        }
        putchar('\n');
}

/* ---- for programs */

static int add_entry(json_t *o, const cached_event *v)
{
        size_t n_key = 0;
        const void *key = cached_event_key(v, &n_key);

        return key && n_key <= KEY_MAX ? output_json_key(o, key, n_key) : 0;
}

static int add_cleared(json_t *o, const cached_event *v)
{
        size_t n = 0;
        const void *prefix = cached_event_prefix(v, &n);
        int failed;

        failed = json_object_set_new(o, "tag", output_json_text(cached_event_tag(v))) < 0;
        failed |= output_json_bytes(o, "prefix", n <= KEY_MAX ? prefix : NULL, n) < 0;
        failed |= json_object_set_new(o, "entries", output_json_u64(cached_event_entries(v))) < 0;
        return failed ? -ENOMEM : 0;
}

static int add_policy(json_t *o, const cached_event *v)
{
        const cached_reply *r = cached_event_reply(v);
        json_t *policy = json_object();
        int failed = fields_to_json(r, "policy_changed.policy.", fields_policy, policy) < 0;

        failed |= json_object_set_new(o, "policy", policy) < 0;
        failed |= fields_to_json(r, "policy_changed.", fields_pinned, o) < 0;
        return failed ? -ENOMEM : 0;
}

static int add_lost(json_t *o, const cached_event *v)
{
        uint64_t n = cached_event_lost(v);

        return json_object_set_new(o, "events", n == UINT64_MAX ? json_null() : output_json_u64(n));
}

static int add_stored(json_t *o, const cached_event *v)
{
        int failed = add_entry(o, v) < 0;

        failed |= json_object_set_new(o, "version", output_json_u64(cached_event_version(v))) < 0;
        failed |= json_object_set_new(o, "size", output_json_u64(cached_event_size(v))) < 0;
        return failed ? -ENOMEM : 0;
}

static int add_created(json_t *o, const cached_event *v)
{
        int failed = add_entry(o, v) < 0;

        failed |= fields_to_json(cached_event_reply(v), "instance.", fields_instance, o) < 0;
        return failed ? -ENOMEM : 0;
}

static int add_left(json_t *o, const cached_event *v)
{
        const char *cause = resource_cause_text(cached_event_resource_cause(v));
        const char *reason = fields_text(cached_event_reply(v), "instance.", "reason");
        int failed = add_created(o, v) < 0;

        failed |= json_object_set_new(o, "cause", json_string(cause)) < 0;
        failed |= json_object_set_new(o, "reason", output_json_text(*reason ? reason : NULL)) < 0;
        failed |= fields_to_json(cached_event_reply(v), "instance.", fields_holders, o) < 0;
        return failed ? -ENOMEM : 0;
}

static int add_what(json_t *o, const cached_event *v)
{
        switch (cached_event_kind(v)) {
        case CACHED_EVENT_STORED:
                return add_stored(o, v);
        case CACHED_EVENT_EVICTED:
                return add_entry(o, v) < 0 ||
                       fields_to_json(cached_event_reply(v), "entry.", fields_cause, o) < 0;
        case CACHED_EVENT_CLEARED:
                return add_cleared(o, v);
        case CACHED_EVENT_POLICY:
                return add_policy(o, v);
        case CACHED_EVENT_REFRESH:
                return json_object_set_new(o, "schedule", json_string(cached_event_schedule(v)));
        case CACHED_EVENT_RESOURCE_CREATED:
                return add_created(o, v);
        case CACHED_EVENT_RESOURCE_LEFT:
                return add_left(o, v);
        case CACHED_EVENT_LOST:
                return add_lost(o, v);
        default:
                return add_entry(o, v);
        }
}

static int print_json(struct ctl *ctl, const cached_event *v)
{
        uint32_t kind = cached_event_kind(v);
        json_t *o = json_object();
        int failed;

        failed = json_object_set_new(o, "time_ms", output_json_u64(when_ms(v))) < 0;
        failed |= json_object_set_new(o, "kind", json_string(kind_name(kind))) < 0;
        if (kind != CACHED_EVENT_LOST)
                failed |= json_object_set_new(o, "cache", output_json_text(cached_event_cache(v))) <
                          0;
        failed |= add_what(o, v) != 0;
        if (failed) {
                json_decref(o);
                o = NULL;
        }
        return output_json(ctl, o);
}

int monitor_print(struct monitor *m, const cached_event *v)
{
        if (m->ctl->json)
                return print_json(m->ctl, v);
        print_text(m, v);
        return EXIT_DONE;
}
