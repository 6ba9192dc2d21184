/* SPDX-License-Identifier: MIT */
/*
 * GetConfig and ReloadConfig: what is in force, and where it was set.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "dispatch/reply.h"
#include "realm/realm.h"
#include "server.h"

#define NOTE_MAX 256

struct listing {
        struct request *r;
        Cached__V1__ConfigSetting **settings;
        size_t n;
};

static char *copy_text(struct request *r, const char *text)
{
        size_t n = strlen(text) + 1;
        char *copy = bump_alloc(&r->d->bump, n);
        return copy ? memcpy(copy, text, n) : NULL;
}

/* @its: the realm that the limit is about, as far as the client is; NULL: there is none. */
static void note_caches(struct request *r, const struct realm *its, bool hidden, uint64_t limit,
                        char *buf, size_t n_buf)
{
        bool all = client_is_privileged(r->client);
        uint64_t n = limit;

        if (all)
                n = realms_least_caches(&r->d->realms, hidden);
        else if (its)
                n = realm_max_caches(its);
        if (n < limit)
                (void)snprintf(buf, n_buf,
                               "%s was made when it was %" PRIu64 " and keeps that; those that are "
                               "made from now on, or after a restart, have the new one",
                               all ? "a realm" : "this realm", n);
}

/* What the value alone would leave unsaid; "" for most settings. */
static void write_note(struct request *r, const char *name, char *buf, size_t n_buf)
{
        const struct config_limits *limits = &r->d->cfg->limits;
        const struct realm *realm = r->who.realm;

        buf[0] = '\0';
        if (strcmp(name, "limits.caches_per_realm") == 0)
                note_caches(r, realm, false, limits->caches_per_realm, buf, n_buf);
        else if (strcmp(name, "limits.session_caches_per_realm") == 0)
                note_caches(r, realm->sessions, true, limits->session_caches_per_realm, buf, n_buf);
        else if (strcmp(name, "daemon.log_level") == 0 && server_log_level_is_fixed(r->d->server))
                (void)snprintf(buf, n_buf, "--log-level on the command line holds instead");
        else if (server_socket_was_passed(r->d->server) &&
                 (strcmp(name, "daemon.socket_mode") == 0 ||
                  strcmp(name, "daemon.socket_group") == 0))
                (void)snprintf(buf, n_buf,
                               "the socket was passed: SocketMode= and SocketGroup= of its unit "
                               "hold instead");
}

static int count_setting(void *ctx, const char *name, const char *value, bool is_default,
                         const char *source)
{
        struct listing *l = ctx;
        l->n++;
        return 0;
}

static int add_setting(void *ctx, const char *name, const char *value, bool is_default,
                       const char *source)
{
        struct listing *l = ctx;
        Cached__V1__ConfigSetting *to = bump_alloc(&l->r->d->bump, sizeof(*to));
        char note[NOTE_MAX];
        if (!to)
                return -ENOMEM;
        cached__v1__config_setting__init(to);
        to->name = copy_text(l->r, name);
        to->value = copy_text(l->r, value);
        to->source = copy_text(l->r, source);
        write_note(l->r, name, note, sizeof(note));
        to->note = copy_text(l->r, note);
        to->is_default = is_default;
        if (!to->name || !to->value || !to->source || !to->note)
                return -ENOMEM;
        l->settings[l->n++] = to;
        return 0;
}

enum status op_get_config(struct request *r)
{
        const struct config *cfg = r->d->cfg;
        struct listing l = {.r = r};
        int k = config_for_each_setting(cfg, count_setting, &l);
        if (k == 0) {
                l.settings = bump_alloc_array(&r->d->bump, l.n, sizeof(*l.settings));
                l.n = 0;
                k = l.settings ? config_for_each_setting(cfg, add_setting, &l) : -ENOMEM;
        }
        if (k < 0)
                return verdict_errno(&r->verdict, k, "listing the configuration");
        Cached__V1__ConfigResult result = CACHED__V1__CONFIG_RESULT__INIT;
        result.n_settings = l.n;
        result.settings = l.settings;
        result.n_files = cfg->n_files;
        result.files = cfg->files;
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_CONFIG;
        reply.config = &result;
        return reply_message(r, &reply);
}

enum status op_reload_config(struct request *r)
{
        if (!client_is_privileged(r->client))
                return verdict_set(&r->verdict, STATUS_DENIED,
                                   "only root and the daemon's own user may reload the "
                                   "configuration: ask the administrator");
        char err[CONFIG_ERR_MAX] = "";
        int k = server_reload(r->d->server, err, sizeof(err));
        if (k == -ENOMEM)
                return verdict_errno(&r->verdict, k, "reading the configuration");
        if (k < 0)
                return verdict_set(&r->verdict, STATUS_CONFIG,
                                   "%s; the old configuration stays in force", err);
        return op_get_config(r);
}
