/* SPDX-License-Identifier: MIT */
/*
 * Hello: agree on a version, enter a realm, learn the limits, get what it takes to look entries up
 * without asking. A Hello that fails may be sent again, unless no version is in common.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "config.h"
#include "dispatch/decode.h"
#include "dispatch/repeat.h"
#include "dispatch/reply.h"
#include "log.h"
#include "proto/frame.h"
#include "proto/layout.h"
#include "realm/mapping.h"
#include "server.h"
#include "services/limits.h"

#define PROTOCOL_VERSION  1
#define FEATURE_FILES     ((uint64_t)CACHED__V1__FEATURE__FEATURE_FILES)
#define FEATURE_RESOURCES ((uint64_t)CACHED__V1__FEATURE__FEATURE_RESOURCES)
#define FEATURES                                                                                   \
        ((uint64_t)CACHED__V1__FEATURE__FEATURE_EVENTS |                                           \
         (uint64_t)CACHED__V1__FEATURE__FEATURE_LZ4 | (uint64_t)FEATURE_FILES |                    \
         (uint64_t)CACHED__V1__FEATURE__FEATURE_LEASES | (uint64_t)FEATURE_RESOURCES)
#define FEATURE_MAPPED   ((uint64_t)CACHED__V1__FEATURE__FEATURE_MAPPED)
#define HELLO_RESULT_MAX 640

static enum status check(struct request *r, const Cached__V1__Hello *msg)
{
        if (msg->protocol_min > PROTOCOL_VERSION || msg->protocol_max < PROTOCOL_VERSION) {
                r->close = true;
                return verdict_set(&r->verdict, STATUS_VERSION,
                                   "the client speaks protocol versions %" PRIu32 " to %" PRIu32
                                   ", this daemon (" VERSION ") speaks version %d: %s",
                                   msg->protocol_min, msg->protocol_max, PROTOCOL_VERSION,
                                   msg->protocol_min > PROTOCOL_VERSION ? "update the daemon"
                                                                        : "update the client");
        }
        const char *fault = wire_client_name_fault(msg->client, decode_length(msg->client));
        if (!fault)
                fault = wire_realm_name_fault(msg->realm, decode_length(msg->realm));
        if (fault)
                return verdict_set(&r->verdict, STATUS_INVALID, "%s", fault);
        return STATUS_OK;
}

static enum status check_access(struct request *r, const char *name, enum role *ret)
{
        struct access_peer peer = client_peer(r->client);
        switch (access_role(r->d->cfg, &peer, name, ret)) {
        case ACCESS_OK:
                return STATUS_OK;
        case ACCESS_E_OVERFLOW:
                r->close = true;
                return verdict_set(&r->verdict, STATUS_DENIED,
                                   "the peer's uid is %u, which stands for every user that the "
                                   "kernel cannot name here (and is Debian's 'nobody'): use "
                                   "another user, connect from outside the user namespace, and "
                                   "keep PrivateUsers= off in the daemon's unit",
                                   (unsigned)peer.uid);
        case ACCESS_E_UNKNOWN:
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "there is no realm '%s': leave the realm out for your own, "
                                   "have it named in the configuration, or use \"uid:N\"",
                                   name);
        default:
                return verdict_set(&r->verdict, STATUS_DENIED,
                                   "uid %u may not enter the realm '%s': leave the realm out for "
                                   "your own, or ask the administrator to list you in its readers, "
                                   "writers or admins",
                                   (unsigned)peer.uid, name);
        }
}

static enum status enter(struct request *r, const char *name, struct realm **ret)
{
        int k = realm_enter(&r->d->realms, name, ret);
        if (k == REALM_E_LIMIT)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the daemon has its most realms already (limits.realms, "
                                   "%" PRIu64 "): %s",
                                   r->d->cfg->limits.realms, limit_advice.realms);
        if (k < 0)
                return verdict_errno(&r->verdict, k, "making the realm");
        return STATUS_OK;
}

/* What this machine cannot do it can for nobody: one line in the log. */
static void log_no_mapping(struct request *r, int k)
{
        if (!r->d->mapping_failed)
                log_write(server_log(r->d->server), LOG_WARNING,
                          "clients cannot look entries up by themselves: %s%s", strerror(-k),
                          k == -ENOENT ? " (is /proc mounted?)" : "");
        r->d->mapping_failed = true;
}

/* Descriptors for a client that asked for them: they go with the reply. Without them, which is
 * *ret_mapped false, all goes on as well. */
static enum status map(struct request *r, struct mapping *m, bool *ret_mapped)
{
        struct client *client = r->client;
        bool is_stranger = conn_peer(client->conn)->uid != r->d->own_uid;
        int k = realm_map(client->realm, is_stranger, m);
        *ret_mapped = false;
        if (k < 0 && k != -ENOMEM)
                log_no_mapping(r, k);
        if (k != 0)
                return STATUS_OK;
        if (conn_put_fds(client->conn, m->fds, N_MAPPING_PARTS,
                         FRAME_HEADER_SIZE + HELLO_RESULT_MAX) < 0) {
                mapping_close(m);
                realm_unmap(client->realm, m->reader, r->who.now_ms);
                return STATUS_OK;
        }
        client->reader = m->reader;
        *ret_mapped = true;
        enum status status = reply_reserve(r, HELLO_RESULT_MAX, 0);
        r->close = status != STATUS_OK; /* never: the room came with the descriptors */
        return status;
}

static void describe(const struct mapping *m, Cached__V1__Mapping *to, Cached__V1__MapPart *parts)
{
        parts[MAPPING_ARENA] = CACHED__V1__MAP_PART__MAP_ARENA;
        parts[MAPPING_EPOCH] = CACHED__V1__MAP_PART__MAP_EPOCH;
        parts[MAPPING_PAGE] = CACHED__V1__MAP_PART__MAP_PAGE;
        parts[MAPPING_DIRTY] = CACHED__V1__MAP_PART__MAP_DIRTY;
        to->layout_version = ARENA_LAYOUT_VERSION;
        to->arena_bytes = m->arena_bytes;
        to->page_bytes = CLIENT_PAGE_SIZE;
        to->dirty_map_bytes = DIRTY_MAP_SIZE;
        to->epoch_bytes = EPOCH_SIZE;
        to->dirty_bit = m->reader->bit;
        to->boottime_ms = clock_boottime_ms();
        to->parts = parts;
        to->n_parts = N_MAPPING_PARTS;
}

static void answer(struct request *r, const struct mapping *m)
{
        const struct client *client = r->client;
        const struct config_limits *limits = &r->d->cfg->limits;
        char version[] = VERSION;
        Cached__V1__HelloResult result = CACHED__V1__HELLO_RESULT__INIT;
        result.protocol = PROTOCOL_VERSION;
        result.version = version;
        result.instance = r->d->realms.instance;
        result.features = client->features;
        result.realm = client->realm->name;
        result.role = (Cached__V1__Role)client->role;
        result.daemon_pid = (uint32_t)getpid();
        result.max_message_bytes = limits->message_bytes;
        result.max_value_bytes = limits->value_bytes;
        result.max_requests_in_flight = (uint32_t)limits->requests_in_flight;
        result.max_keys_per_request = (uint32_t)limits->keys_per_request;
        result.max_lz4_bytes = limits->lz4_bytes;
        result.max_many_bytes = limits->many_bytes;
        if (client->features & FEATURE_FILES) {
                result.max_upload_bytes = limits->upload_area_bytes & ~(UPLOAD_AREA_PAGE - 1);
                result.file_bytes = r->d->cfg->file_bytes;
        }
        result.uid = (uint32_t)conn_peer(client->conn)->uid;
        Cached__V1__Mapping mapping = CACHED__V1__MAPPING__INIT;
        Cached__V1__MapPart parts[N_MAPPING_PARTS];
        if (m) {
                describe(m, &mapping, parts);
                result.mapping = &mapping;
        }
        Cached__V1__Reply reply = reply_to(r, STATUS_OK);
        reply.result_case = CACHED__V1__REPLY__RESULT_HELLO;
        reply.hello = &result;
        reply_queue(r, &reply, NULL, 0, 0);
}

enum status op_hello(struct request *r)
{
        const Cached__V1__Hello *msg = r->msg->hello;
        struct client *client = r->client;
        enum status status = check(r, msg);
        if (status != STATUS_OK)
                return status;

        char own[ACCESS_OWN_REALM_MAX];
        access_own_realm(conn_peer(client->conn)->uid, own);
        const char *name = msg->realm[0] != '\0' ? msg->realm : own;
        enum role role = ACCESS_NONE;
        struct realm *realm = NULL;
        status = check_access(r, name, &role);
        if (status == STATUS_OK)
                status = reply_reserve(r, HELLO_RESULT_MAX, 0);
        if (status == STATUS_OK)
                status = enter(r, name, &realm);
        if (status != STATUS_OK)
                return status;
        status = repeat_enter(r, realm);
        if (status != STATUS_OK) {
                realm_leave(realm, r->who.now_ms);
                return status;
        }

        client->realm = realm;
        client->role = role;
        client->features = msg->features & FEATURES;
        client->features |= CACHED__V1__FEATURE__FEATURE_SESSIONS;
        if (client->features & (FEATURE_FILES | FEATURE_RESOURCES))
                conn_accept_fds(client->conn);
        if (client->past)
                client->features |= CACHED__V1__FEATURE__FEATURE_REPEAT;
        snprintf(client->name, sizeof(client->name), "%s", msg->client);
        struct mapping m;
        bool mapped = false;
        if (msg->features & FEATURE_MAPPED)
                status = map(r, &m, &mapped);
        if (status != STATUS_OK)
                return status;
        if (mapped)
                client->features |= FEATURE_MAPPED;
        answer(r, mapped ? &m : NULL);
        return STATUS_OK;
}
