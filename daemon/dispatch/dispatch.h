/* SPDX-License-Identifier: MIT */
#ifndef DISPATCH_H
#define DISPATCH_H

/*
 * Dispatch: where protobuf ends
 *
 * Turns the frames of a connection into calls of services, and their results into replies. Owns the
 * realms, the state of each client and the latency histograms. See dispatch.c and dispatcher.c.
 *
 * Needs from server.h: server_dispatcher(server), server_now_ns(server), server_now_ms(server),
 * server_stats(server, &s), server_reload(server, err, n_err), server_stopping(server),
 * server_instance(server).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "realm/takeover.h"
#include "transport/conn.h"

struct config;
struct dispatcher;
struct server;

extern const struct conn_handler dispatch_handler;

/* @cfg is borrowed until dispatcher_reconfigure() replaces it. 0 or -errno. */
int dispatcher_new(struct server *server, const struct config *cfg, struct dispatcher **ret);

/* Before anybody is connected: makes realms of what another daemon left, and says in the log what
 * became of it. False: another instance number is needed, see realms_adopt(). */
bool dispatcher_adopt(struct dispatcher *d, struct given *given, enum takeover_from from);

void dispatcher_renumber(struct dispatcher *d, uint64_t instance);
/* After that, or where none of it was to be done: the epoch file says what counts. */
void dispatcher_adopted(struct dispatcher *d);

/* Readers are told what a test clock adds to the time. */
void dispatcher_shift_clock(struct dispatcher *d, int64_t ms);

/* All connections are gone: what their clients noted is taken over to the last use. */
void dispatcher_rest(struct dispatcher *d);

/* The memory files of all realms by their names, borrowed. False: @visit said to stop. */
bool dispatcher_each_file(const struct dispatcher *d, realm_file_visit visit, void *ctx);

/* A keeper has the descriptors of all that a successor needs (borrowed; NULL: nobody does). Once
 * all was adopted: what it gave back is where it was. */
struct keeper;
void dispatcher_set_keeper(struct dispatcher *d, const struct keeper *keeper);
struct reaper;
struct reaper *dispatcher_reaper(const struct dispatcher *d); /* borrowed: who frees memory */
void dispatcher_claim(struct dispatcher *d);
/* Offers it what it has not, and is due; with @all whatever its age. False: it has no room. */
bool dispatcher_offer(struct dispatcher *d, uint64_t now_ms, bool all);
/* Boottime ms of the next one; UINT64_MAX: none. */
uint64_t dispatcher_offer_due(const struct dispatcher *d, uint64_t now_ms);

/* All realms together. */
struct dispatcher_totals {
        uint64_t entries, bytes; /* what they are charged */
        uint64_t hits, misses;
};
void dispatcher_totals(const struct dispatcher *d, struct dispatcher_totals *ret);

/* All connections will end: who waits is told so, and nobody waits from now on; and they will not,
 * after all. */
void dispatcher_part(struct dispatcher *d);
void dispatcher_stay(struct dispatcher *d);

/* They belong to another process from now on: nothing more is changed in them. */
void dispatcher_let_go(struct dispatcher *d);

/* Clients may look entries up by themselves from now on, minding this epoch file (borrowed; -1:
 * they may not). */
void dispatcher_offer_mapping(struct dispatcher *d, int epoch_fd);

/* All connections have had their on_close() before. NULL is fine; returns NULL. */
struct dispatcher *dispatcher_free(struct dispatcher *d);

/* From now on @cfg holds: budgets and roles change at once; a client that lost its realm is closed.
 */
void dispatcher_reconfigure(struct dispatcher *d, const struct config *cfg);

/* Does at most about @steps units of pending work: that of the stores, events to be sent, realms
 * that nobody uses any more, outcomes that are too old. True: more is pending. */
bool dispatcher_maintain(struct dispatcher *d, uint64_t now_ms, unsigned steps);

/* Boottime ms of the next work for dispatcher_maintain(); UINT64_MAX: none. */
uint64_t dispatcher_next_deadline(const struct dispatcher *d);

/* Fills @out with the frame of a last reply (id 0) to a peer that is not served: @status is
 * STATUS_LIMIT, STATUS_DENIED … of proto/status.h. Returns its length; 0: @n_out is too small
 * (DISPATCH_REFUSAL_MAX is enough). */
#define DISPATCH_REFUSAL_MAX 512
size_t dispatch_refusal(int status, const char *text, uint8_t *out, size_t n_out);

/* Queues such a reply on a connection; the caller closes it then. */
void dispatch_refuse(struct conn *c, int status, const char *text);

#endif
