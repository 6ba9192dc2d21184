/* SPDX-License-Identifier: MIT */
/*
 * Takeover
 *
 * A realm is its memory files: everything that has to outlive a process lies in them, the realm's
 * name included. Who leaves names them and lets go; who comes pairs arena and table by their number
 * and makes a store of them, under its own configuration: budgets, limits and who may enter are
 * those of now. Large values come in one heap for all realms, and each store takes out its own.
 *
 * Readers may have arenas mapped that are not among those that come. They stop when the instance
 * number in the epoch file changes; so it stays only if the epoch file's count of arenas says that
 * none is missing.
 *
 * Nothing is fatal here. What does not fit, because it is broken, of another version, or of a realm
 * that nobody may enter any more, is dropped, counted, and named in the log.
 *
 * Whoever hands over has stopped writing, and whoever died is dead: that is our callers' to know.
 */
#include "realm/takeover.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "log.h"
#include "proto/page.h"
#include "realm/mapping.h"
#include "realm/readers.h"
#include "realm/realm.h"
#include "store/recover.h"

/* ---- what is said */

void takeover_note(struct takeover *t, struct log *log, const char *realm, const char *format, ...)
{
        char text[TAKEOVER_REASON_MAX];
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        log_peer(log, LOG_WARNING, LOG_KIND_DROPPED, LOG_AT_START,
                 &(struct log_fields){.realm = realm}, "takeover: %s", text);
        if (t->n_reasons < TAKEOVER_REASONS)
                memcpy(t->reasons[t->n_reasons++], text, sizeof(text));
}

struct adopting {
        struct realms *rs;
        struct given *given;
        struct log *log;
        uint64_t now_ms;
        uint32_t n_kept;  /* arenas that realms go on with */
        uint32_t n_ended; /* arenas that were dropped, and whose readers know it */
        int *large;       /* descriptors that no store has taken out yet */
        size_t n_large;
};

static void note_entries(struct adopting *a, const char *realm, const struct store_adopted *got)
{
        struct takeover *t = &a->rs->takeover;

        for (unsigned why = 0; why < N_DROPPED; why++) {
                if (got->dropped[why] == 0)
                        continue;
                t->entries_dropped += got->dropped[why];
                takeover_note(t, a->log, realm, "realm %s: %llu entries dropped: %s", realm,
                              (unsigned long long)got->dropped[why], store_dropped_text(why));
        }
        if (got->n_caches_lost > 0)
                takeover_note(t, a->log, realm,
                              "realm %s: %llu caches dropped: their record is not whole", realm,
                              (unsigned long long)got->n_caches_lost);
}

/* ---- one realm */

/* Whether anybody can enter a realm of this name. */
static bool is_known(const struct realms *rs, const char *name)
{
        unsigned uid;
        int end = 0;

        if (realm_parent_name(name))
                name = realm_parent_name(name);
        if (sscanf(name, "uid:%10u%n", &uid, &end) == 1 && name[end] == '\0')
                return true;
        return config_find_realm(rs->cfg, name) != NULL;
}

static bool is_there(const struct realms *rs, const char *name)
{
        const struct realm *r = rs->first;

        while (r && strcmp(r->name, name) != 0)
                r = r->next;
        return r != NULL;
}

/* Why a table says nothing of use. NULL: it does. */
static const char *check_table(const struct adopting *a, int table, struct store_peek *ret)
{
        if (store_peek(table, ret) != 0)
                return "its table is not one of this version";
        if (ret->instance != a->rs->instance)
                return "it was left by another instance of the daemon";
        if (!is_known(a->rs, ret->label))
                return "nobody may enter a realm of that name any more";
        if (is_there(a->rs, ret->label))
                return "there are two of that name";
        return NULL;
}

static void drop_realm(struct adopting *a, const char *name, const char *why)
{
        struct takeover *t = &a->rs->takeover;

        t->realms_dropped++;
        takeover_note(t, a->log, name, "realm %s dropped: %s", name, why);
}

/* Nobody goes on with it: its readers are told to leave it. Consumes both descriptors. */
static void retire(struct adopting *a, int arena, int table)
{
        struct store_files files = {.arena = arena, .table = -1};
        struct store_params params = {.instance = a->rs->instance};
        struct store_adopted got;
        struct store *store = NULL;

        if (table >= 0)
                close(table);
        if (store_adopt(&params, &files, a->now_ms, &store, &got) == 0)
                store_free(store);
        a->n_ended += got.retired;
}

/* Consumes both descriptors. */
static void adopt_realm(struct adopting *a, uint32_t number, int arena, int table)
{
        struct store_files files = {.arena = arena,
                                    .table = table,
                                    .large = a->large,
                                    .n_large = a->n_large,
                                    .share = true};
        struct takeover *t = &a->rs->takeover;
        char name[STORE_LABEL_SIZE + 1] = "(unknown)";
        struct store_adopted got = {0};
        struct store_peek peek;
        const char *fault;
        int r;

        (void)snprintf(name, sizeof(name), "number %u", number);
        fault = table < 0 ? "its table is missing" : check_table(a, table, &peek);
        if (fault) {
                retire(a, arena, table);
                drop_realm(a, name, fault);
                return;
        }
        (void)snprintf(name, sizeof(name), "%.*s", STORE_LABEL_SIZE, peek.label);
        r = realm_adopt(a->rs, name, &files, a->now_ms, &got);
        if (r == STORE_E_REFUSED)
                drop_realm(a, name, got.detail ? got.detail : "its files are of no use");
        else if (r != 0)
                drop_realm(a, name, strerror(-r));
        if (r != 0) {
                a->n_ended += got.retired;
                return;
        }
        a->n_kept++;
        t->realms_kept += realm_parent_name(name) == NULL;
        t->entries_kept += got.kept;
        t->large_kept += got.large_kept;
        note_entries(a, name, &got);
}

/* ---- all of them */

/* The large values' descriptors, out of what was given. */
static void take_large(struct adopting *a)
{
        struct given *g = a->given;
        size_t n = 0;

        for (size_t i = 0; i < g->n; i++)
                n += g->files[i].kind == GIVEN_LARGE;
        a->large = n > 0 ? reallocarray(NULL, n, sizeof(int)) : NULL;
        if (!a->large)
                return; /* their entries are dropped: large values not given back */
        for (size_t i = 0; i < g->n; i++) {
                if (g->files[i].kind != GIVEN_LARGE)
                        continue;
                a->large[a->n_large++] = g->files[i].fd;
                g->files[i].fd = -1;
        }
}

static void adopt_all(struct adopting *a)
{
        struct given *g = a->given;
        struct takeover *t = &a->rs->takeover;

        for (size_t i = 0; i < g->n; i++) {
                uint32_t number = g->files[i].number;
                int arena = g->files[i].fd;

                if (g->files[i].kind != GIVEN_ARENA)
                        continue;
                g->files[i].fd = -1;
                adopt_realm(a, number, arena, given_take(g, GIVEN_TABLE, number));
        }
        for (size_t i = 0; i < g->n; i++)
                t->descriptors_dropped += g->files[i].fd >= 0; /* tables without an arena */
        for (size_t i = 0; i < a->n_large; i++) {
                if (a->large[i] < 0)
                        continue;
                close(a->large[i]);
                t->descriptors_dropped++;
        }
        free(a->large);
}

static void link_sessions(struct adopting *a)
{
        size_t n_lost = realms_link_sessions(a->rs, a->now_ms);

        if (n_lost > 0)
                takeover_note(&a->rs->takeover, a->log, NULL,
                              "the sessions of %zu realms dropped: no memory for the realms",
                              n_lost);
}

/* How many arenas the daemon before us had, as far as readers can know any of them. */
static uint32_t count_arenas(const struct realms *rs)
{
        struct epoch_page p;

        if (rs->epoch_fd < 0 || pread(rs->epoch_fd, &p, sizeof(p), 0) != (ssize_t)sizeof(p))
                return 0; /* nobody was ever offered one */
        return p.n_arenas;
}

static void log_report(const struct takeover *t, struct log *log)
{
        const struct log_fields fields = {
                .event = LOG_EVENT_TAKEN_OVER,
                .numbers = {{LOG_NUMBER_REALMS_KEPT, t->realms_kept},
                            {LOG_NUMBER_REALMS_DROPPED, t->realms_dropped},
                            {LOG_NUMBER_ENTRIES_KEPT, t->entries_kept},
                            {LOG_NUMBER_ENTRIES_DROPPED, t->entries_dropped},
                            {LOG_NUMBER_LARGE_KEPT, t->large_kept},
                            {LOG_NUMBER_DESCRIPTORS_DROPPED, t->descriptors_dropped}}};

        log_event(log, LOG_INFO, &fields,
                  "took over %llu realms with %llu entries (%llu large); dropped %llu realms, %llu "
                  "entries, %llu descriptors",
                  (unsigned long long)t->realms_kept, (unsigned long long)t->entries_kept,
                  (unsigned long long)t->large_kept, (unsigned long long)t->realms_dropped,
                  (unsigned long long)t->entries_dropped,
                  (unsigned long long)t->descriptors_dropped);
}

bool realms_adopt(struct realms *rs, struct given *given, enum takeover_from from, uint64_t now_ms,
                  struct log *log)
{
        struct adopting a = {.rs = rs, .given = given, .log = log, .now_ms = now_ms};
        const struct takeover *t = &rs->takeover;
        uint32_t n = count_arenas(rs);

        rs->n_left = n;
        rs->takeover.from = from;
        rs->takeover.descriptors_dropped += given->n_refused;
        take_large(&a);
        adopt_all(&a);
        given_done(given);
        link_sessions(&a);
        log_report(t, log);
        return a.n_kept + a.n_ended >= n;
}

void realms_adopted(struct realms *rs, uint64_t now_ms)
{
        rs->n_left = 0;
        realms_note_arenas(rs);
        realms_watch_lent(rs, now_ms);
}

void realms_renumber(struct realms *rs, uint64_t instance)
{
        rs->instance = instance;
        for (struct realm *r = rs->first; r; r = r->next)
                store_renumber(r->store, instance);
}

/* ---- leaving */

bool realms_each_file(const struct realms *rs, realm_file_visit visit, void *ctx)
{
        char name[GIVEN_NAME_MAX + 1];
        uint32_t number = 0, n_large = 0;

        for (const struct realm *r = rs->first; r && given_fits(number); r = r->next, number++) {
                uint32_t cursor = 0;
                int fd;

                given_name(name, GIVEN_ARENA, number);
                if (!visit(ctx, name, store_arena_fd(r->store)))
                        return false;
                given_name(name, GIVEN_TABLE, number);
                if (!visit(ctx, name, store_table_fd(r->store)))
                        return false;
                while ((fd = store_large_next(r->store, &cursor)) >= 0 && given_fits(n_large)) {
                        given_name(name, GIVEN_LARGE, n_large++);
                        if (!visit(ctx, name, fd))
                                return false;
                }
        }
        return true;
}

void realms_let_go(struct realms *rs)
{
        for (struct realm *r = rs->first; r; r = r->next) {
                r->readers = readers_free(r->readers); /* and nothing is applied any more */
                charge_leave(&r->charge);
                r->store = store_leave(r->store);
        }
}
