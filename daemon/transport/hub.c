/* SPDX-License-Identifier: MIT */
/*
 * Hub, see hub.h
 *
 * Owns connections, the accounts of their uids, the pool of buffer blocks and the closer.
 *
 * A socket or descriptor of a peer is closed here only if nothing can hang in it: a received
 * descriptor may be a file of a FUSE server that never answers, and bytes that wait unread in a
 * socket may carry such descriptors. Those go to the closer. When too many of one uid pile up
 * there, nothing more is read from its connections until some are closed; if that takes long, then
 * because they hang: all its connections are closed, unread, and no new one is let in until the
 * hanging ends.
 */

#include "transport/hub.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/conn-private.h"
#include "transport/peer.h"

#define JOB_FDS_MAX                                                                                \
        1024 /* of one uid: four messages full of descriptors while the first still hangs */
#define TRIM_SEC     1 /* without traffic, then spare buffers are given back */
#define OVERLOAD_SEC 1 /* closing a thousand honest descriptors takes milliseconds */

/* ---- accounts */

static struct account **bucket(struct hub *h, uid_t uid)
{
        return &h->accounts[uid % HUB_ACCOUNT_BUCKETS];
}

struct account *hub_account(struct hub *h, uid_t uid)
{
        struct account **b = bucket(h, uid), *a;

        for (a = *b; a; a = a->next) {
                if (a->uid == uid)
                        return a;
        }
        a = calloc(1, sizeof(*a));
        if (!a)
                return NULL;
        a->uid = uid;
        turns_lane_init(&a->lane);
        a->next = *b;
        *b = a;
        return a;
}

void hub_account_settle(struct hub *h, struct account *a)
{
        struct account **p = bucket(h, a->uid);

        if (a->n_conns > 0 || a->n_jobs > 0)
                return;
        while (*p != a)
                p = &(*p)->next;
        *p = a->next;
        turns_lane_done(&a->lane);
        free(a);
}

/* ---- closing what may hang */

static bool is_hanging(const struct hub *h, const struct account *a)
{
        return a->overloaded && h->now_ns - a->overloaded_since_ns >= OVERLOAD_SEC * NSEC_PER_SEC;
}

static void arm_overload_timer(struct hub *h)
{
        struct timeval tv = {.tv_sec = OVERLOAD_SEC, .tv_usec = 1000};

        if (!evtimer_pending(&h->overload_timer, NULL))
                (void)event_add(&h->overload_timer, &tv); /* no memory: the next overload arms it */
}

static void abort_all_of(struct hub *h, const struct account *a)
{
        struct list *next;

        for (struct list *n = h->conns.next; n != &h->conns; n = next) {
                struct conn *c = LIST_ENTRY(n, struct conn, node);
                next = n->next;
                if (c->account == a)
                        conn_abort(c);
        }
}

void hub_close_elsewhere(struct hub *h, struct account *a, const int *fds, size_t n_fds)
{
        struct closer_job *job;

        if (n_fds == 0)
                return;
        job = closer_job_new(a, fds, n_fds);
        if (!job) {
                /* Leaked rather than closed here, where it could stop everybody. */
                log_peer(h->log, LOG_ERR, LOG_KIND_MEMORY, h->now_ns,
                         &(struct log_fields){.has_uid = true, .uid = a->uid},
                         "out of memory: %zu descriptors of uid %u stay open", n_fds,
                         (unsigned)a->uid);
                return;
        }
        a->n_jobs++;
        a->n_job_fds += n_fds;
        closer_submit(h->closer, job);
        if (a->n_job_fds > JOB_FDS_MAX && !a->overloaded) {
                a->overloaded = true;
                a->overloaded_since_ns = h->now_ns;
                arm_overload_timer(h);
        }
}

void hub_close_socket(struct hub *h, struct account *a, int fd, bool is_drained)
{
        int n_unread = 0;

        if (!is_drained) {
                /* From now on the peer cannot send, so that what is counted then is all there is.
                 */
                (void)shutdown(fd, SHUT_RD);
                if (ioctl(fd, SIOCINQ, &n_unread) < 0)
                        n_unread = 1;
        }
        if (n_unread == 0)
                close(fd);
        else
                hub_close_elsewhere(h, a, &fd, 1);
}

static void on_overload_timer(evutil_socket_t fd, short what, void *arg)
{
        struct hub *h = arg;

        (void)fd;
        (void)what;
        hub_tick(h);
        for (size_t i = 0; i < HUB_ACCOUNT_BUCKETS; i++) {
                for (struct account *a = h->accounts[i]; a; a = a->next) {
                        if (a->overloaded && !is_hanging(h, a))
                                arm_overload_timer(h);
                        if (!is_hanging(h, a) || a->n_conns == 0)
                                continue;
                        log_peer(h->log, LOG_WARNING, LOG_KIND_DESCRIPTORS, h->now_ns,
                                 &(struct log_fields){.has_uid = true, .uid = a->uid},
                                 "uid %u sent descriptors whose closing hangs: closed its %zu "
                                 "connections",
                                 (unsigned)a->uid, a->n_conns);
                        abort_all_of(h, a);
                }
        }
}

/* Reads from its connections again. */
static void relieve(struct hub *h, struct account *a)
{
        struct list *next;

        a->overloaded = false;
        for (struct list *n = h->conns.next; n != &h->conns; n = next) {
                struct conn *c = LIST_ENTRY(n, struct conn, node);
                next = n->next;
                if (c->account == a)
                        conn_settle(c);
        }
}

static void on_jobs_finished(evutil_socket_t fd, short what, void *arg)
{
        struct hub *h = arg;
        struct closer_job *j = closer_collect(h->closer);

        (void)fd;
        (void)what;
        hub_tick(h);
        while (j) {
                struct closer_job *next = j->next;
                struct account *a = j->owner;

                a->n_jobs--;
                a->n_job_fds -= j->n_fds;
                if (a->overloaded && a->n_job_fds <= JOB_FDS_MAX)
                        relieve(h, a);
                hub_account_settle(h, a);
                free(j);
                j = next;
        }
}

/* ---- admission */

static const char *limit_advice(const char *name)
{
        static const struct {
                const char *name, *advice;
        } limits[] = {
#define LIMIT(name, def, min, max, unit, advice, what) {#name, advice},
#include "limits.def"
#undef LIMIT
        };

        for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
                if (strcmp(limits[i].name, name) == 0)
                        return limits[i].advice ? limits[i].advice : "";
        }
        return "";
}

/* Consumes @fd. */
static int refuse(struct hub *h, struct account *a, const struct peer *peer, int fd,
                  enum hub_refusal why, const char *format, ...)
        __attribute__((format(printf, 6, 7)));

static int refuse(struct hub *h, struct account *a, const struct peer *peer, int fd,
                  enum hub_refusal why, const char *format, ...)
{
        uint8_t frame[HUB_REFUSAL_MAX];
        char text[256];
        size_t n;
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        h->stats.refused++;
        log_peer(h->log, LOG_INFO, why == HUB_REFUSED_LIMIT ? LOG_KIND_LIMIT : LOG_KIND_REFUSED,
                 h->now_ns, &(struct log_fields){LOG_PEER(peer)}, "refused a connection: %s", text);
        n = h->refuse(why, text, frame, sizeof(frame));
        if (n > 0) /* an empty socket takes it whole; if not, the peer sees the end only */
                (void)!send(fd, frame, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        hub_close_socket(h, a, fd, false);
        hub_account_settle(h, a);
        return HUB_E_REFUSED;
}

static int admit_peer(struct hub *h, int fd, struct peer *peer, struct account *a)
{
        const struct config_limits *l = &h->limits;
        unsigned uid = (unsigned)peer->uid;
        struct conn *c;

        if (h->ending)
                return refuse(h, a, peer, fd, HUB_REFUSED_ENDING, "the daemon is shutting down");
        if (h->refuse_overflow_uid && peer->uid == h->overflow_uid)
                return refuse(
                        h, a, peer, fd, HUB_REFUSED_DENIED,
                        "your uid arrives as %u, which stands for every uid that has no mapping in "
                        "the daemon's user namespace: connect from a mapped uid",
                        uid);
        if (h->stats.connections >= l->connections)
                return refuse(h, a, peer, fd, HUB_REFUSED_LIMIT,
                              "%llu connections are open (limits.connections): %s",
                              (unsigned long long)h->stats.connections,
                              limit_advice("connections"));
        if (a->n_conns >= l->connections_per_uid)
                return refuse(h, a, peer, fd, HUB_REFUSED_LIMIT,
                              "uid %u has %zu connections open (limits.connections_per_uid): %s",
                              uid, a->n_conns, limit_advice("connections_per_uid"));
        if (is_hanging(h, a))
                return refuse(h, a, peer, fd, HUB_REFUSED_LIMIT,
                              "closing the descriptors that uid %u sent hangs: end what makes it "
                              "hang, and "
                              "send bytes only",
                              uid);
        if (conn_new(h, fd, peer, a, &c) < 0) {
                hub_account_settle(h, a);
                return -ENOMEM;
        }
        h->stats.connections++;
        h->stats.connections_total++;
        log_peer(h->log, LOG_DEBUG, LOG_KIND_CONNECTION, h->now_ns,
                 &(struct log_fields){LOG_PEER(&c->peer)}, "connection %llu: pid %d, uid %u",
                 (unsigned long long)c->id, (int)c->peer.pid, uid);
        return 0;
}

int hub_admit(struct hub *h, int fd)
{
        struct peer peer;
        struct account *a;
        int r, on = 1;

        /* An urgent byte would be dropped by the kernel in our receive call, with the descriptors
         * that it may carry; in line it is a byte like any other. */
        (void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
        r = peer_init(&peer, fd);
        if (r < 0) {
                close(fd); /* whose it is cannot be told */
                return r;
        }
        a = hub_account(h, peer.uid);
        if (!a) {
                peer_done(&peer);
                close(fd);
                return -ENOMEM;
        }
        r = admit_peer(h, fd, &peer, a);
        peer_done(&peer); /* empty if it was taken */
        return r;
}

/* ---- turns */

uint64_t hub_tick(struct hub *h)
{
        h->now_ns = clock_now_ns(h->clock);
        if (h->turn_start_ns == 0)
                h->turn_start_ns = h->now_ns;
        return h->now_ns;
}

void hub_turn_begin(struct hub *h)
{
        h->turn++;
        h->turn_start_ns = 0;
        h->turn_frames = 0;
        h->turn_served = false;
}

static void settle_kicked(struct hub *h)
{
        while (!list_is_empty(&h->kicked)) {
                struct conn *c = LIST_ENTRY(h->kicked.next, struct conn, kick_node);
                list_unlink(&c->kick_node);
                conn_settle(c);
        }
}

static void reap(struct hub *h)
{
        while (!list_is_empty(&h->dead)) {
                struct conn *c = LIST_ENTRY(h->dead.next, struct conn, node);
                h->stats.connections--;
                conn_free(c);
        }
}

/* ---- spare buffers */

static void arm_trim_timer(struct hub *h)
{
        struct timeval tv = {.tv_sec = TRIM_SEC};

        if (!h->trim_armed && blocks_have_spare(&h->pool))
                h->trim_armed = event_add(&h->trim_timer, &tv) == 0;
}

static void on_trim_timer(evutil_socket_t fd, short what, void *arg)
{
        struct hub *h = arg;

        (void)fd;
        (void)what;
        hub_tick(h);
        h->trim_armed = false;
#ifdef __GLIBC__
        if (blocks_trim(&h->pool))
                (void)malloc_trim(0); /* what many connections left behind */
#else
        (void)blocks_trim(&h->pool);
#endif
}

/* ---- turns' ends */

static void wake_holders(struct hub *h)
{
        struct hold *hold;

        while ((hold = hold_next(&h->holds)))
                conn_wake(LIST_ENTRY(hold, struct conn, hold));
}

/* Each of those that wait now has its turn once, as far as the time goes. Every turn somebody has,
 * however late it is: there is no standing still. */
static void give_turns(struct hub *h)
{
        for (size_t n = h->turns.n; n > 0 && !(h->turn_served && hub_is_late(h)); n--) {
                struct list *node = turns_next(&h->turns);

                if (!node) /* others ended meanwhile */
                        return;
                conn_take_turn(LIST_ENTRY(node, struct conn, turn_node));
        }
}

void hub_turn_end(struct hub *h)
{
        wake_holders(h);
        if (h->turns.n > 0 || h->turn_start_ns == 0)
                hub_tick(h);
        give_turns(h);
        settle_kicked(h);
        reap(h);
        arm_trim_timer(h);
}

bool hub_is_busy(const struct hub *h)
{
        return h->turns.n > 0 || h->holds.freed || !list_is_empty(&h->kicked) ||
               !list_is_empty(&h->dead);
}

void hub_end(struct hub *h)
{
        struct list *next;

        h->ending = true;
        for (struct list *n = h->conns.next; n != &h->conns; n = next) {
                next = n->next;
                conn_end(LIST_ENTRY(n, struct conn, node));
        }
}

void hub_part(struct hub *h)
{
        h->parting = true;
        hub_end(h);
}

void hub_stay(struct hub *h)
{
        h->parting = h->ending = false;
}

void hub_abort_all(struct hub *h)
{
        struct list *next;

        for (struct list *n = h->conns.next; n != &h->conns; n = next) {
                next = n->next;
                conn_abort(LIST_ENTRY(n, struct conn, node));
        }
}

void hub_close_all(struct hub *h)
{
        while (!list_is_empty(&h->conns))
                conn_abort(LIST_ENTRY(h->conns.next, struct conn, node));
        reap(h);
}

bool hub_is_empty(const struct hub *h)
{
        return list_is_empty(&h->conns) && list_is_empty(&h->dead);
}

void hub_for_each(struct hub *h, bool (*visit)(void *ctx, struct conn *c), void *ctx)
{
        struct list *next;

        for (struct list *n = h->conns.next; n != &h->conns; n = next) {
                struct conn *c = LIST_ENTRY(n, struct conn, node);
                next = n->next; /* a visit closes no connection at once: conn_close() only marks it
                                 */
                if (!c->closing && !visit(ctx, c))
                        return;
        }
}

void hub_check_deadlines(struct hub *h)
{
        struct list *next;

        hub_tick(h);
        for (struct list *n = h->conns.next; n != &h->conns; n = next) {
                next = n->next;
                conn_check_deadlines(LIST_ENTRY(n, struct conn, node));
        }
}

/* ---- life */

int hub_init(struct hub *h, const struct hub_params *p)
{
        int r;

        *h = (struct hub){.base = p->base,
                          .clock = p->clock,
                          .log = p->log,
                          .handler = p->handler,
                          .server = p->server,
                          .limits = *p->limits,
                          .refuse = p->refuse,
                          .ends_fd = -1};
        list_init(&h->conns);
        list_init(&h->dead);
        turns_init(&h->turns);
        holds_init(&h->holds, p->limits->buffer_bytes, p->limits->buffer_bytes_per_uid);
        list_init(&h->kicked);
        list_init(&h->fd_senders);
        blocks_init(&h->pool);
        h->overflow_uid = peer_overflow_uid();
        h->refuse_overflow_uid = geteuid() != h->overflow_uid;
        hub_tick(h);
        r = closer_new(&h->closer);
        if (r < 0)
                return r;
        event_assign(&h->closer_event, h->base, closer_fd(h->closer), EV_READ | EV_PERSIST,
                     on_jobs_finished, h);
        evtimer_assign(&h->overload_timer, h->base, on_overload_timer, h);
        evtimer_assign(&h->trim_timer, h->base, on_trim_timer, h);
        if (event_add(&h->closer_event, NULL) < 0) {
                h->closer = closer_free(h->closer);
                return -ENOMEM;
        }
        return 0;
}

void hub_set_limits(struct hub *h, const struct config_limits *limits)
{
        h->limits = *limits;
        holds_set_limits(&h->holds, limits->buffer_bytes, limits->buffer_bytes_per_uid);
}

void hub_done(struct hub *h)
{
        if (!h->closer)
                return;
        hub_close_all(h);
        (void)event_del(&h->closer_event);
        (void)event_del(&h->overload_timer);
        (void)event_del(&h->trim_timer);
        kept_end(h);
        on_jobs_finished(-1, 0, h);
        h->closer = closer_free(h->closer);
        for (size_t i = 0; i < HUB_ACCOUNT_BUCKETS; i++) {
                while (h->accounts[i]) { /* jobs of it hang, or ended a moment ago */
                        struct account *a = h->accounts[i];
                        h->accounts[i] = a->next;
                        free(a);
                }
        }
        blocks_done(&h->pool);
}
