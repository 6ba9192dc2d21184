/* SPDX-License-Identifier: MIT */
/*
 * Connection, see conn.h
 *
 * A callback reads once into one contiguous buffer, handles every complete frame in it, and sends
 * all replies with one system call at its end (conn_settle()). What a callback may do is bounded:
 * so many frames, so many bytes, so much time. With frames that are left (`held`) the connection
 * waits in the hub's line for its next turn, whether or not the kernel has new bytes; so does one
 * that becomes readable (`ready`) when others wait already, or when the turn is over.
 *
 * A frame that is not complete holds memory. Where there is none to be held the connection is not
 * read from until there is (see holds.c).
 *
 * Output beyond the limit stops both reading and handling. A peer that has gone (EPIPE) makes the
 * connection deaf: replies are thrown away, but what it had sent before is still handled, up to its
 * last byte.
 *
 * An idle connection causes no wake-up and holds no buffer. Deadlines are conn-timer.c's.
 *
 * Nothing here frees the connection: it dies (conn_die) and the hub frees it at the end of the
 * turn.
 */

#include "transport/conn-private.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/frame.h"
#include "transport/peer.h"
#include "transport/receive.h"

#define BUFFERED_BODY  BLOCK_SIZE   /* a longer body goes into a sink, unless it is there already */
#define SINK_READ_MAX  (256 * 1024) /* one recvmsg() into a sink; the kernel holds about so much */
#define READS_PER_TURN 4   /* of at most a buffer's size each, while the peer keeps it full */
#define QUEUED_FDS_MAX 32u /* replies with descriptors that wait, each in memory of its own */
#define AHEAD_MAX      32 /* frames shown to the handler in advance; their cache lines fit into L1 */

static bool is_paused(const struct conn *c)
{
        return c->out.queued > c->hub->limits.output_bytes || c->out.n_with_fds > QUEUED_FDS_MAX;
}

static bool slice_is_over(const struct conn *c)
{
        return c->hub->now_ns - c->slice_ns >= HUB_SLICE_NS;
}

static void queue_turn(struct conn *c)
{
        if (list_is_empty(&c->turn_node))
                turns_add(&c->hub->turns, &c->account->lane, &c->turn_node);
}

static void leave_line(struct conn *c)
{
        turns_remove(&c->hub->turns, &c->account->lane, &c->turn_node);
}

/* ---- ending */

static void drop_sink(struct conn *c)
{
        if (c->body.active && c->body.sink.dst)
                c->hub->handler->drop_sink(c, c->body.sink.ctx);
        c->body.sink = (struct body_sink){0};
}

static void drop_body(struct conn *c)
{
        drop_sink(c);
        c->body = (struct conn_body){0};
}

/* Of the frame that is not done with: the handler's part of it, the body, the room for both. */
static void drop_frame(struct conn *c)
{
        if (c->again)
                c->hub->handler->drop_frame(c);
        c->again = false;
        drop_body(c);
        inbuf_done(&c->in, &c->hub->pool);
        hold_drop(&c->hub->holds, &c->hold);
}

static void set_reading(struct conn *c, bool on)
{
        if (on == c->reading)
                return;
        if ((on ? event_add(&c->read_event, NULL) : event_del(&c->read_event)) == 0)
                c->reading = on;
        else
                conn_abort(c);
}

static void set_writing(struct conn *c, bool on)
{
        if (on == c->writing)
                return;
        if ((on ? event_add(&c->write_event, NULL) : event_del(&c->write_event)) == 0)
                c->writing = on;
        else
                conn_abort(c);
}

static void conn_die(struct conn *c)
{
        if (c->dead)
                return;
        c->dead = true;
        c->closing = true;
        (void)event_del(&c->read_event);
        (void)event_del(&c->write_event);
        (void)event_del(&c->timer);
        c->reading = c->writing = false;
        leave_line(c);
        list_unlink(&c->kick_node);
        list_unlink(&c->node);
        list_append(&c->hub->dead, &c->node);
        hold_drop(&c->hub->holds, &c->hold);
}

void conn_abort(struct conn *c)
{
        outbuf_clear(&c->out, &c->hub->pool);
        conn_die(c);
}

void conn_violate(struct conn *c, const char *what)
{
        struct hub *h = c->hub;

        if (c->closing)
                return;
        h->stats.protocol_errors++;
        log_peer(h->log, LOG_INFO, LOG_KIND_VIOLATION, h->now_ns,
                 &(struct log_fields){LOG_PEER(&c->peer)}, "pid %d (uid %u): %s", (int)c->peer.pid,
                 (unsigned)c->peer.uid, what);
        h->handler->on_violation(c, what);
        c->closing = true;
}

void conn_out_of_memory(struct conn *c)
{
        log_peer(c->hub->log, LOG_WARNING, LOG_KIND_MEMORY, c->hub->now_ns,
                 &(struct log_fields){LOG_PEER(&c->peer)},
                 "out of memory: closed the connection of pid %d (uid %u)", (int)c->peer.pid,
                 (unsigned)c->peer.uid);
        conn_abort(c);
}

/* ---- frames */

static void frame_done(struct conn *c, size_t n_input)
{
        c->in.start += n_input;
        c->need = FRAME_HEADER_SIZE;
        c->frame_since_ns = 0;
        c->frame_body = 0;
        if (__builtin_expect(!hold_is_empty(&c->hold), 0))
                hold_drop(&c->hub->holds, &c->hold);
        if (__builtin_expect(c->fds.n > 0, 0))
                conn_check_fds(c);
}

/* Room for the whole frame of which a part is here, unless it is short. False: it has to wait. */
static bool hold_input(struct conn *c)
{
        uint64_t n = c->need > BLOCK_SIZE ? c->need + BLOCK_SIZE : BLOCK_SIZE;

        if (c->need <= INBUF_REST_MAX || c->hold.bytes[HOLD_INPUT] > 0)
                return true;
        return hold_take(&c->hub->holds, &c->hold, HOLD_INPUT, n > c->in.cap ? n : c->in.cap);
}

/* False: it is not done with. */
static bool handle_frame(struct conn *c, const uint8_t *msg, size_t n_msg, const uint8_t *body,
                         uint64_t n_body, void *sink_ctx)
{
        if (!c->again)
                c->requests++;
        c->hub->turn_frames++;
        c->budget--;
        c->last_ns = c->hub->now_ns;
        c->again = !c->hub->handler->on_frame(c, msg, n_msg, body, n_body, sink_ctx);
        c->held = c->again;
        return !c->again;
}

/* The body is complete: its message is still at the front of the input. False: the frame is not
 * done with. */
static bool take_body(struct conn *c)
{
        const struct conn_body *b = &c->body;
        size_t n_front = FRAME_HEADER_SIZE + b->n_message;

        if (b->sink.dst && !handle_frame(c, inbuf_head(&c->in) + FRAME_HEADER_SIZE, b->n_message,
                                         b->sink.dst, b->size, b->sink.ctx))
                return false;
        c->body = (struct conn_body){0};
        frame_done(c, n_front);
        return true;
}

/* Is there room for the first @n bytes of the body? Else what follows is thrown away. */
static void make_room(struct conn *c, uint64_t n, uint64_t n_copied)
{
        struct body_sink *sink = &c->body.sink;

        if (sink->dst && n > sink->room && !c->hub->handler->on_room(c, n, n_copied, sink))
                drop_sink(c);
}

/* The message of a frame with a long body is there, and some of the body, but not all. */
static void begin_body(struct conn *c, struct frame_header h)
{
        size_t n_front = FRAME_HEADER_SIZE + h.n_message;
        size_t n_here = inbuf_len(&c->in) - n_front;
        const uint8_t *here = inbuf_head(&c->in) + n_front;
        struct body_sink sink = {0};

        c->arrival_ns = c->hub->now_ns;
        c->hub->handler->on_body(c, inbuf_head(&c->in) + FRAME_HEADER_SIZE, h.n_message, h.n_body,
                                 &sink);
        if (sink.wait)
                return;
        c->body = (struct conn_body){.active = true,
                                     .sink = sink,
                                     .size = h.n_body,
                                     .n_message = h.n_message};
        make_room(c, n_here, n_here);
        if (c->body.sink.dst)
                memcpy(c->body.sink.dst, here, n_here);
        c->body.got = n_here;
        c->in.end -= n_here;
}

/* Handles the next frame of the input if it is complete. False: it is not, `need` says how much it
 * takes. */
static bool take_frame(struct conn *c)
{
        const struct config_limits *limits = &c->hub->limits;
        size_t n = inbuf_len(&c->in);
        const uint8_t *p = inbuf_head(&c->in);
        struct frame_header h;
        const char *wrong;
        size_t n_front, n_frame;

        c->need = FRAME_HEADER_SIZE;
        if (n < FRAME_HEADER_SIZE)
                return false;
        h = frame_header_read(p);
        wrong = frame_header_check(h, limits->message_bytes, limits->value_bytes);
        if (wrong) {
                conn_violate(c, wrong);
                return false;
        }
        n_front = FRAME_HEADER_SIZE + h.n_message;
        c->frame_body = h.n_body;
        if (h.n_body <= BUFFERED_BODY || h.n_body <= n - (n < n_front ? n : n_front))
                n_frame = n_front + (size_t)h.n_body;
        else
                n_frame = n_front; /* the message says where the body goes */
        c->need = n_frame;
        if (n < n_frame)
                return false;
        if (n_frame < n_front + h.n_body) {
                if (hold_input(c))
                        begin_body(c, h);
                return false;
        }
        if (!handle_frame(c, p + FRAME_HEADER_SIZE, h.n_message, p + n_front, h.n_body, NULL))
                return false;
        frame_done(c, n_frame);
        return true;
}

/* Shows the handler the frames that are here and will be handled now. */
static void look_ahead(struct conn *c)
{
        const uint8_t *msgs[AHEAD_MAX], *p = inbuf_head(&c->in);
        size_t n_msgs[AHEAD_MAX], left = inbuf_len(&c->in);
        unsigned n = 0;

        while (n < AHEAD_MAX && n < c->budget && left >= FRAME_HEADER_SIZE) {
                struct frame_header h = frame_header_read(p);
                uint64_t n_frame = FRAME_HEADER_SIZE + (uint64_t)h.n_message + h.n_body;

                /* A length that cannot be is for take_frame() to find. */
                if (h.n_body > BUFFERED_BODY || n_frame > left)
                        break;
                msgs[n] = p + FRAME_HEADER_SIZE;
                n_msgs[n++] = h.n_message;
                p += n_frame;
                left -= (size_t)n_frame;
        }
        if (n > 1)
                c->hub->handler->on_ahead(c, msgs, n_msgs, n);
}

static void take_frames(struct conn *c)
{
        if (c->turn != c->hub->turn) {
                c->turn = c->hub->turn;
                c->budget = c->hub->limits.requests_per_turn;
        }
        c->held = false;
        if (c->hub->handler->on_ahead && !c->closing && !c->body.active && !c->again &&
            !is_paused(c))
                look_ahead(c);
        while (!c->closing) {
                if (c->body.active ? c->body.got < c->body.size : inbuf_len(&c->in) == 0)
                        return;
                if (c->budget == 0 || is_paused(c) || slice_is_over(c)) {
                        c->held = true;
                        return;
                }
                if (!(c->body.active ? take_body(c) : take_frame(c)))
                        return;
        }
}

/* ---- input */

/* What receive() said besides bytes. False: no bytes are to be handled. */
static bool check_received(struct conn *c, ssize_t got, const struct received_fds *fds)
{
        if (got > 0)
                c->bytes_in += (uint64_t)got;
        if (fds->any && !conn_receive_fds(c, fds))
                return false;
        if (got > 0)
                return true;
        if (got == 0) {
                c->eof = true;
        } else if (got ==
                   -ECONNRESET) { /* it closed without reading all replies; nothing is left here */
                c->eof = true;
                c->deaf = true;
        } else if (got == -EFAULT) { /* no page could be had for the place where the bytes go */
                conn_out_of_memory(c);
        } else if (got != -EAGAIN) {
                log_peer(c->hub->log, LOG_DEBUG, LOG_KIND_CONNECTION, c->hub->now_ns,
                         &(struct log_fields){LOG_PEER(&c->peer)}, "receiving from pid %d: %s",
                         (int)c->peer.pid, strerror((int)-got));
                conn_abort(c);
        }
        return false;
}

static void tell_received(struct conn *c)
{
        if (c->hub->handler->on_received)
                c->hub->handler->on_received(c);
}

/* One read into the sink of a long body. True: it filled what was asked for, there may be more. */
static bool read_body(struct conn *c)
{
        struct conn_body *b = &c->body;
        struct received_fds fds;
        uint8_t *scratch = NULL;
        uint64_t want = b->size - b->got;
        ssize_t got;

        if (want > SINK_READ_MAX)
                want = SINK_READ_MAX;
        if (b->sink.dst && b->got == b->sink.room)
                make_room(c, b->got + 1, 0);
        if (b->sink.dst) {
                if (want > b->sink.room - b->got)
                        want = b->sink.room - b->got;
                got = receive(c->fd, b->sink.dst + b->got, (size_t)want, &fds);
        } else {
                scratch = blocks_get(&c->hub->pool);
                if (!scratch) {
                        conn_out_of_memory(c);
                        return false;
                }
                if (want > BLOCK_SIZE)
                        want = BLOCK_SIZE;
                got = receive(c->fd, scratch, (size_t)want, &fds);
                blocks_put(&c->hub->pool, scratch);
        }
        if (!check_received(c, got, &fds))
                return false;
        b->got += (uint64_t)got;
        hub_tick(c->hub); /* new pages take their time */
        if (b->got == b->size) {
                c->arrival_ns = c->hub->now_ns;
                tell_received(c);
                take_frames(c);
        }
        return (uint64_t)got == want;
}

/* One read into the input buffer, and the frames in it. True: the buffer was filled. */
static bool read_frames(struct conn *c)
{
        struct received_fds fds;
        size_t room;
        ssize_t got;

        if (!hold_input(c))
                return false;
        if (inbuf_make_room(&c->in, &c->hub->pool, c->need) < 0) {
                conn_out_of_memory(c);
                return false;
        }
        room = c->in.cap - c->in.end;
        assert(room > 0); /* else the frame would be complete, and handled */
        /* Of a frame that cannot be held little is read. */
        if (room > INBUF_REST_MAX && c->hold.bytes[HOLD_INPUT] == 0 &&
            holds_are_short(&c->hub->holds, &c->account->holds))
                room = INBUF_REST_MAX;
        got = receive(c->fd, c->in.data + c->in.end, room, &fds);
        if (!check_received(c, got, &fds))
                return false;
        c->in.end += (size_t)got;
        /* Frames that are held for a later turn keep this moment: they were complete with these
         * bytes. */
        c->arrival_ns = c->hub->now_ns;
        tell_received(c);
        take_frames(c);
        return (size_t)got == room;
}

static bool may_read(const struct conn *c)
{
        return !c->closing && !c->eof && !c->held && !is_paused(c) && !c->account->overloaded &&
               !hold_waits(&c->hold);
}

static void read_some(struct conn *c)
{
        for (int i = 0; i < READS_PER_TURN && may_read(c); i++) {
                bool more = c->body.active ? read_body(c) : read_frames(c);
                if (!more || slice_is_over(c))
                        return;
        }
}

static void begin_slice(struct conn *c)
{
        c->slice_ns = c->hub->now_ns;
        c->hub->turn_served = true;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
        struct conn *c = arg;

        (void)fd;
        (void)what;
        if (c->dead || c->held || c->ready) /* what was read before, or came before, comes first */
                return;
        hub_tick(c->hub);
        if (c->hub->turns.n > 0 || hub_is_late(c->hub)) {
                c->ready = true;
                queue_turn(c);
                return;
        }
        begin_slice(c);
        read_some(c);
        conn_settle(c);
}

void conn_take_turn(struct conn *c)
{
        bool ready = c->ready;

        c->ready = false;
        begin_slice(c);
        if (c->held)
                take_frames(c);
        if (ready)
                read_some(c);
        conn_settle(c);
}

void conn_wake(struct conn *c)
{
        c->held = true;
        if (!is_paused(c))
                queue_turn(c);
}

/* ---- output */

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
        struct conn *c = arg;

        (void)fd;
        (void)what;
        if (c->dead)
                return;
        hub_tick(c->hub);
        if (hub_is_late(c->hub))
                queue_turn(c);
        else
                conn_settle(c);
}

/* ---- what to wait for next */

/* Nothing of what was sent to it is left in the socket. */
static bool is_drained(const struct conn *c)
{
        int n = 0;

        return c->eof || c->account->overloaded || ioctl(c->fd, SIOCINQ, &n) < 0 || n == 0;
}

/* Whether it waits for room to hold the frame that it has begun to send. */
static bool is_waiting(struct conn *c)
{
        if (c->closing || c->held || c->body.active || inbuf_len(&c->in) == 0)
                return hold_waits(&c->hold);
        return hold_waits(&c->hold) || !hold_input(c);
}

static void stay_in_line(struct conn *c, bool paused)
{
        if (!c->reading)
                c->ready = false; /* the event comes again */
        if ((c->held && !paused) || c->ready)
                queue_turn(c);
        else
                leave_line(c);
}

void conn_settle(struct conn *c)
{
        bool paused, partial, blocked;

        if (c->dead)
                return;
        conn_flush(c);
        if (c->await_drain && c->out.queued == 0) {
                c->await_drain = false;
                if (c->hub->handler->on_drained)
                        c->hub->handler->on_drained(c);
        }
        paused = is_paused(c);
        blocked = is_waiting(c) || c->account->overloaded;
        if (!c->held && !paused && (c->eof || (c->ending && is_drained(c))))
                conn_finish_input(c);
        if (c->closing) {
                drop_frame(c);
                c->held = false;
                if (c->out.queued == 0) {
                        conn_die(c);
                        return;
                }
        }
        partial = !c->closing && !c->held && !paused && !blocked &&
                  (c->body.active || inbuf_len(&c->in) > 0);
        if (!partial)
                c->frame_since_ns = 0;
        else if (c->frame_since_ns == 0)
                c->frame_since_ns = c->hub->now_ns;
        inbuf_settle(&c->in, &c->hub->pool);
        set_reading(c, !c->closing && !c->eof && !paused && !blocked);
        if (!c->dead)
                set_writing(c, c->out.queued > 0 && c->fds_due_ns == 0);
        if (c->dead)
                return;
        stay_in_line(c, paused);
        conn_set_timer(c);
}

void conn_end(struct conn *c)
{
        c->ending = true;
        if (c->hub->parting)
                conn_part(c);
        conn_settle(c);
}

/* ---- life */

int conn_new(struct hub *h, int fd, struct peer *peer, struct account *a, struct conn **ret)
{
        struct conn *c = calloc(1, sizeof(*c));

        if (!c) {
                peer_done(peer);
                hub_close_socket(h, a, fd, false);
                return -ENOMEM;
        }
        c->hub = h;
        c->fd = fd;
        c->peer = *peer;
        *peer = (struct peer){0};
        c->account = a;
        a->n_conns++;
        c->need = FRAME_HEADER_SIZE;
        c->id = ++h->last_id;
        c->since_ns = c->last_ns = h->now_ns;
        list_init(&c->node);
        list_init(&c->turn_node);
        hold_init(&c->hold, &a->holds);
        list_init(&c->kick_node);
        list_init(&c->fds_node);
        event_assign(&c->read_event, h->base, fd, EV_READ | EV_PERSIST, on_readable, c);
        event_assign(&c->write_event, h->base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
        conn_timer_init(c);
        list_append(&h->conns, &c->node);
        *ret = c;
        set_reading(c,
                    true); /* if that fails the connection is dead, and freed at the turn's end */
        return 0;
}

void conn_free(struct conn *c)
{
        struct hub *h = c->hub;

        assert(c->dead);
        drop_frame(c);
        conn_drop_fds(c);
        conn_forget_sent_fds(c);
        h->handler->on_close(c);
        list_unlink(&c->node);
        outbuf_clear(&c->out, &h->pool);
        c->account->n_conns--;
        if (c->given)
                close(c->fd);
        else
                hub_close_socket(h, c->account, c->fd, c->eof);
        hub_account_settle(h, c->account);
        peer_done(&c->peer);
        free(c);
}

/* ---- for the handler */

struct server *conn_server(struct conn *c)
{
        return c->hub->server;
}

const struct peer *conn_peer(const struct conn *c)
{
        return &c->peer;
}

void *conn_user(const struct conn *c)
{
        return c->user;
}

void conn_set_user(struct conn *c, void *user)
{
        c->user = user;
}

uint64_t conn_arrival_ns(const struct conn *c)
{
        return c->arrival_ns;
}

uint8_t *conn_reserve(struct conn *c, size_t n)
{
        return outbuf_reserve(&c->out, &c->hub->pool, n);
}

void conn_commit(struct conn *c, size_t n)
{
        outbuf_commit(&c->out, n);
}

int conn_put_fds(struct conn *c, const int *fds, unsigned n_fds, size_t room)
{
        return outbuf_put_fds(&c->out, &c->hub->pool, fds, n_fds, room);
}

int conn_attach(struct conn *c, const uint8_t *data, uint64_t n, void (*release)(void *), void *ctx)
{
        return outbuf_attach(&c->out, &c->hub->pool, data, n, release, ctx);
}

bool conn_hold_body(struct conn *c, uint64_t n)
{
        /* Its message stays in the input buffer meanwhile. */
        return c->hold.bytes[HOLD_BODY] > 0 ||
               hold_take(&c->hub->holds, &c->hold, HOLD_BODY, n + c->in.cap);
}

void conn_kick(struct conn *c)
{
        if (!c->dead && list_is_empty(&c->kick_node))
                list_append(&c->hub->kicked, &c->kick_node);
}

void conn_await_drain(struct conn *c)
{
        c->await_drain = true;
}

void conn_close(struct conn *c)
{
        c->closing = true;
        conn_kick(c);
}

void conn_finish(struct conn *c)
{
        c->ending = true;
        conn_kick(c);
}

void conn_yield(struct conn *c)
{
        c->budget = 0;
}

void conn_info(const struct conn *c, struct conn_info *ret)
{
        *ret = (struct conn_info){.id = c->id,
                                  .since_ns = c->since_ns,
                                  .last_ns = c->last_ns,
                                  .requests = c->requests,
                                  .bytes_in = c->bytes_in,
                                  .bytes_out = c->bytes_out,
                                  .queued = c->out.queued,
                                  .buffered = c->in.cap,
                                  .closing = c->closing || c->dead};
}
