/* SPDX-License-Identifier: MIT */
/*
 * Handover, the side that gives
 *
 * First everything is brought to rest: nothing new is accepted, each connection is finished and
 * told to connect again. Then the files are still, and the other side asks for them, one message
 * of descriptors at a time, so that few are ever in flight: they are a resource of the kernel that
 * all processes of a user share. Connections that come meanwhile wait in the listening socket's
 * queue, for whichever of the two goes on.
 *
 * Until the other side has said that it is ready, and was answered, all of this can be taken back,
 * and is when it goes away, is silent for STEP_SEC, or says anything unexpected: it does not write
 * into what it was given before that answer. After that answer nothing here writes. So at each
 * moment exactly one of the two may write, and a death of either loses nothing.
 *
 * It stands outside of the transport: the connection has left the hub, and its few small messages
 * take one buffer. An answer that does not fit into the socket at once is tried again a little
 * later.
 */
#include "handover.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "dispatch/dispatch.h"
#include "dispatch/handover-wire.h"
#include "log.h"
#include "proto/status.h"
#include "transport/hub.h"
#include "transport/listener.h"

#define DRAIN_SEC  5  /* as at an orderly end */
#define STEP_SEC   10 /* between two requests; each is answered at once */
#define RETRY_USEC 10000
#define RETRIES    (STEP_SEC * 1000000 / RETRY_USEC)

struct gift {
        char name[HANDOVER_NAME_MAX + 1];
        int fd; /* borrowed */
};

struct handover {
        struct handover_params p;
        enum handover_state state;
        bool parting; /* connections are being finished */
        struct event readable, timer;
        struct gift *gifts;
        size_t n_gifts, n_allocated, n_sent;
        enum handover_ask asked; /* to be answered */
        unsigned n_tries;
        uint64_t request;
        size_t n_in;
        uint8_t in[HANDOVER_FRAME_MAX];
};

static void arm(struct handover *h, long sec, long usec)
{
        struct timeval tv = {.tv_sec = sec, .tv_usec = usec};

        (void)event_add(&h->timer, &tv); /* no memory: then the peer's end is what ends it */
}

static void fail(struct handover *h, const char *why)
{
        struct handover_reply r = {.status = STATUS_INVALID};
        uint8_t out[HANDOVER_FRAME_MAX];
        size_t n;

        if (h->state == HANDOVER_FAILED)
                return;
        h->state = HANDOVER_FAILED;
        (void)snprintf(r.error, sizeof(r.error), "the handover did not happen: %s", why);
        n = handover_pack_reply(out, HANDOVER_ASK_NOTHING, &r);
        if (n > 0)
                (void)!send(h->p.fd, out, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        log_event(h->p.log, LOG_WARNING,
                  &(struct log_fields){.event = LOG_EVENT_HANDOVER_FAILED, .pid = h->p.pid},
                  "the handover to pid %d did not happen, going on: %s", (int)h->p.pid, why);
}

/* ---- what is given */

static bool add_gift(void *ctx, const char *name, int fd)
{
        struct handover *h = ctx;

        if (h->n_gifts == h->n_allocated) {
                size_t n = h->n_allocated ? 2 * h->n_allocated : 64;
                struct gift *p = reallocarray(h->gifts, n, sizeof(*p));

                if (!p)
                        return false;
                h->gifts = p;
                h->n_allocated = n;
        }
        h->gifts[h->n_gifts] = (struct gift){.fd = fd};
        (void)snprintf(h->gifts[h->n_gifts].name, sizeof(h->gifts[0].name), "%s", name);
        h->n_gifts++;
        return true;
}

static bool collect(struct handover *h)
{
        h->n_gifts = 0;
        if (!add_gift(h, HANDOVER_NAME_SOCKET, h->p.listener->fd))
                return false;
        if (h->p.lock_fd >= 0 && !add_gift(h, HANDOVER_NAME_LOCK, h->p.lock_fd))
                return false;
        return dispatcher_each_file(h->p.dispatcher, add_gift, h);
}

/* ---- answering */

/* 0, -EAGAIN: later; -errno: the other side is gone. */
static int send_with(struct handover *h, uint8_t *out, size_t n, const struct gift *gifts,
                     size_t n_gifts)
{
        union {
                struct cmsghdr align;
                uint8_t bytes[CMSG_SPACE(HANDOVER_BATCH * sizeof(int))];
        } control = {0};
        struct iovec iov = {.iov_base = out, .iov_len = n};
        struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
        ssize_t sent;

        if (n_gifts > 0) {
                struct cmsghdr *c;

                msg.msg_control = control.bytes;
                msg.msg_controllen = CMSG_SPACE(n_gifts * sizeof(int));
                c = CMSG_FIRSTHDR(&msg);
                c->cmsg_level = SOL_SOCKET;
                c->cmsg_type = SCM_RIGHTS;
                c->cmsg_len = CMSG_LEN(n_gifts * sizeof(int));
                for (size_t i = 0; i < n_gifts; i++)
                        memcpy(CMSG_DATA(c) + i * sizeof(int), &gifts[i].fd, sizeof(int));
        }
        do
                sent = sendmsg(h->p.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        while (sent < 0 && errno == EINTR);
        if (sent < 0)
                /* The last one: too many descriptors of this user are in flight somewhere. */
                return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ||
                                       errno == ETOOMANYREFS
                               ? -EAGAIN
                               : -errno;
        return (size_t)sent == n ? 0 : -EMSGSIZE; /* a frame is far smaller than an empty socket */
}

static void answer(struct handover *h)
{
        struct handover_reply r = {.id = h->request,
                                   .instance = h->p.instance,
                                   .descriptors = (uint32_t)h->n_gifts};
        const struct gift *gifts = h->gifts + h->n_sent;
        uint8_t out[HANDOVER_FRAME_MAX];
        size_t n, n_gifts = 0;
        int code;

        if (h->asked == HANDOVER_NEXT) {
                n_gifts = h->n_gifts - h->n_sent;
                if (n_gifts > HANDOVER_BATCH)
                        n_gifts = HANDOVER_BATCH;
                r.n_names = n_gifts;
                for (size_t i = 0; i < n_gifts; i++)
                        memcpy(r.names[i], gifts[i].name, sizeof(r.names[i]));
        }
        n = handover_pack_reply(out, h->asked, &r);
        code = n > 0 ? send_with(h, out, n, gifts, n_gifts) : -EAGAIN;
        if (code == -EAGAIN && ++h->n_tries < RETRIES) {
                arm(h, 0, RETRY_USEC);
                return;
        }
        h->n_tries = 0;
        if (code < 0) {
                fail(h, strerror(-code));
                return;
        }
        h->n_sent += n_gifts;
        if (h->asked == HANDOVER_DONE)
                h->state = HANDOVER_GIVEN;
        h->asked = HANDOVER_ASK_NOTHING;
        arm(h, STEP_SEC, 0);
}

/* ---- being asked */

static void on_request(struct handover *h, const uint8_t *msg, size_t n)
{
        enum handover_ask ask = handover_unpack_request(msg, n, &h->request);

        if (h->state != HANDOVER_STILL || h->asked != HANDOVER_ASK_NOTHING) {
                fail(h, "it asked before it was answered");
        } else if (ask == HANDOVER_ASK_NOTHING) {
                fail(h, "what it asked does not belong into a handover");
        } else if (ask == HANDOVER_NEXT && h->n_sent == h->n_gifts) {
                fail(h, "it asked for more than there is");
        } else if (ask == HANDOVER_DONE && h->n_sent < h->n_gifts) {
                fail(h, "it did not take everything");
        } else {
                h->asked = ask;
                answer(h);
        }
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
        struct handover *h = arg;
        struct frame_header header;
        ssize_t n = recv(fd, h->in + h->n_in, sizeof(h->in) - h->n_in, MSG_DONTWAIT);

        (void)what;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        hub_tick(h->p.hub);
        if (h->state == HANDOVER_FAILED || h->state == HANDOVER_GIVEN)
                return;
        if (n <= 0) {
                fail(h, "it has gone");
                return;
        }
        h->n_in += (size_t)n;
        if (h->n_in < FRAME_HEADER_SIZE)
                return;
        header = frame_header_read(h->in);
        if (frame_header_check(header, HANDOVER_MESSAGE_MAX, 0)) {
                fail(h, "its frame is too long for a handover");
                return;
        }
        if (h->n_in < FRAME_HEADER_SIZE + header.n_message)
                return;
        if (h->n_in > FRAME_HEADER_SIZE + header.n_message) {
                fail(h, "it asked before it was answered");
                return;
        }
        h->n_in = 0;
        on_request(h, h->in + FRAME_HEADER_SIZE, header.n_message);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
        struct handover *h = arg;

        (void)fd;
        (void)what;
        hub_tick(h->p.hub);
        if (h->state == HANDOVER_DRAINING) {
                log_write(h->p.log, LOG_WARNING,
                          "%llu connections went on sending, or did not take their replies, for "
                          "%d s: closed",
                          (unsigned long long)h->p.hub->stats.connections, DRAIN_SEC);
                hub_abort_all(h->p.hub);
        } else if (h->state == HANDOVER_STILL && h->asked != HANDOVER_ASK_NOTHING) {
                answer(h);
        } else if (h->state == HANDOVER_STILL) {
                fail(h, "it asked for nothing for too long");
        }
}

/* ---- life */

static void begin(struct handover *h)
{
        h->parting = true;
        log_event(h->p.log, LOG_INFO, LOG_EVENT(HANDOVER),
                  "handing over to pid %d: finishing what was sent", (int)h->p.pid);
        arm(h, DRAIN_SEC, 0);
        listener_pause(h->p.listener);
        dispatcher_part(h->p.dispatcher);
        hub_part(h->p.hub);
}

enum handover_state handover_turn(struct handover *h)
{
        if (h->state != HANDOVER_DRAINING)
                return h->state;
        if (!h->parting) {
                begin(h);
                return h->state;
        }
        if (!hub_is_empty(h->p.hub))
                return h->state;
        dispatcher_rest(h->p.dispatcher);
        if (!collect(h)) {
                fail(h, "out of memory");
                return h->state;
        }
        h->state = HANDOVER_STILL;
        h->asked = HANDOVER_BEGIN;
        h->request = h->p.request;
        answer(h);
        return h->state;
}

int handover_new(const struct handover_params *p, struct handover **ret)
{
        struct handover *h = calloc(1, sizeof(*h));

        if (!h) {
                close(p->fd);
                return -ENOMEM;
        }
        h->p = *p;
        event_assign(&h->readable, p->base, p->fd, EV_READ | EV_PERSIST, on_readable, h);
        evtimer_assign(&h->timer, p->base, on_timer, h);
        if (event_add(&h->readable, NULL) < 0) {
                close(p->fd);
                free(h);
                return -ENOMEM;
        }
        *ret = h;
        return 0;
}

struct handover *handover_free(struct handover *h)
{
        if (!h)
                return NULL;
        if (h->state != HANDOVER_GIVEN)
                fail(h, "the daemon ends");
        (void)event_del(&h->readable);
        (void)event_del(&h->timer);
        close(h->p.fd);
        if (h->state != HANDOVER_GIVEN && h->parting) {
                hub_stay(h->p.hub);
                dispatcher_stay(h->p.dispatcher);
                listener_resume(h->p.listener);
        }
        free(h->gifts);
        free(h);
        return NULL;
}
