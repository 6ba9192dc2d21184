/* SPDX-License-Identifier: MIT */
/*
 * Fdstore
 *
 * The service manager keeps copies of descriptors under names, and passes them to the process that
 * it starts after this one. What it costs is known: it compares each new one with all that it has,
 * so thousands would keep it busy for seconds; all names come back in one string, which execve()
 * refuses when it is too long, and then everything is lost; and a copy keeps its file's memory. So
 * there are FDSTORE_MAX of them at most, with short names, a few are added at a time, and what is
 * dropped counts until the manager has dropped it, too: that is what its answer to BARRIER=1 says.
 * Nothing here waits for the manager but fdstore_flush(), at the end.
 *
 * Whoever closes the last copy of a file frees its memory, which takes 0.16 ms a MiB, and older
 * managers would do so in their own loop. So what is dropped stays open here until the manager has
 * closed its copy, and goes to the thread that frees then.
 *
 * The manager polls what it keeps, unless it is told not to: poll() on a file of a file system in
 * user space waits for that, and nobody may stop the manager of the machine. Nor by a close(): see
 * dispatch/keeping.c.
 *
 * Messages arrive in the order in which they were sent. A name is not used again before its removal
 * has been heard of, so no order of ours has to be remembered.
 *
 * A descriptor of which it has a copy under another name already is not stored a second time, and
 * nobody is told: two values of one memory file are kept until the first of them goes. Realms and
 * resources come first; a large value gives way to them, since its entry alone would be lost.
 *
 * What the manager gave back and nobody claims (it was broken, of another version, not ours, or
 * came twice under one name) is removed by its name, for its memory to be free.
 */
#include "fdstore.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/list.h"
#include "base/reaper.h"
#include "log.h"
#include "notify.h"
#include "store/large.h"

#define BURST         32u /* descriptors that are added at a time */
#define PERIOD_MS     UINT64_C(100)
#define NUMBERS       2048u /* that are given to realms and large values */
#define LARGE_MAX     1000u /* of the slots: the others are for what comes first */
#define MESSAGE_MAX   320u  /* with a name of 255 bytes, which is as long as they may be */
#define FLUSH_STEP_MS 10

#define NEVER UINT64_MAX

enum state {
        SLOT_FREE,
        SLOT_WAITING, /* to be sent */
        SLOT_KEPT,
        SLOT_LEAVING, /* its removal is to be sent */
        SLOT_GONE,    /* and was, but not heard of */
};

struct slot {
        struct list node; /* of the list of those in its state but FREE and KEPT */
        enum state state;
        enum given_kind kind;
        uint32_t number;
        int fd;              /* borrowed; until it is dropped */
        struct large *large; /* borrowed; whose slot it is, until it is dropped */
        struct large *held;  /* so that its bytes stay charged */
        int last_fd;         /* a copy that is closed after the manager's; -1: none */
        uint64_t bytes;
};

struct fdstore {
        struct notify *notify;
        struct log *log;
        struct event_base *base;
        struct keeper keeper;
        struct reaper *reaper; /* borrowed; NULL: none */
        bool failed;           /* the manager does not listen */
        uint64_t due_ms;
        uint64_t limit, leaving_bytes, uncharged_bytes;
        struct list urgent, waiting, leaving;
        struct list gone;   /* since the last barrier was sent */
        struct list fenced; /* before it */
        bool fence_up;
        struct event fence;
        unsigned n[SLOT_GONE + 1];
        unsigned n_large;   /* slots of large values */
        unsigned n_sitting; /* of them: that could give way */
        unsigned max;
        uint8_t used[N_GIVEN_KINDS][NUMBERS / 8];
        struct given_name *passed; /* by name; of those that are claimed the name is NULL */
        size_t n_passed;
        bool settled; /* what is left of them is to be removed */
        struct slot slots[FDSTORE_MAX];
};

/* ---- slots */

static struct slot *slot_of(struct fdstore *f, uint32_t slot)
{
        return &f->slots[slot];
}

static bool is_numbered(enum given_kind kind)
{
        return kind != GIVEN_RESOURCE;
}

static bool is_used(const struct fdstore *f, enum given_kind kind, uint32_t number)
{
        return f->used[kind][number / 8] >> (number % 8) & 1;
}

static void set_used(struct fdstore *f, const struct slot *s, bool used)
{
        uint8_t bit = (uint8_t)(1u << (s->number % 8));

        if (!is_numbered(s->kind))
                return;
        if (used)
                f->used[s->kind][s->number / 8] |= bit;
        else
                f->used[s->kind][s->number / 8] &= (uint8_t)~bit;
}

static void set_state(struct fdstore *f, struct slot *s, enum state state, struct list *to)
{
        f->n[s->state]--;
        f->n[state]++;
        s->state = state;
        list_unlink(&s->node);
        if (to)
                list_append(to, &s->node);
        f->due_ms = 0;
}

static bool name_is_taken(const struct fdstore *f, enum given_kind kind, uint32_t number)
{
        if (is_numbered(kind))
                return is_used(f, kind, number);
        for (unsigned i = 0; i < f->max; i++)
                if (f->slots[i].state != SLOT_FREE && f->slots[i].kind == kind &&
                    f->slots[i].number == number)
                        return true;
        return false;
}

static uint32_t take_slot(struct fdstore *f, enum given_kind kind, uint32_t number, int fd,
                          struct large *large)
{
        uint32_t at = 0;
        struct slot *s;

        while (at < f->max && f->slots[at].state != SLOT_FREE)
                at++;
        if (at == f->max)
                return KEEPER_NONE;
        s = slot_of(f, at);
        s->kind = kind;
        s->number = number;
        s->fd = fd;
        s->large = large;
        s->bytes = large ? large->size : 0;
        f->n_large += kind == GIVEN_LARGE;
        f->n_sitting += large != NULL;
        set_used(f, s, true);
        return at;
}

/* Whoever closes the last copy frees the memory, and that takes its time. */
static void keep_last(struct slot *s)
{
        if (!s->held && s->fd >= 0)
                s->last_fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 0); /* or the manager's is the last */
}

static void close_last(struct fdstore *f, struct slot *s)
{
        struct stat st = {0};

        if (s->last_fd < 0)
                return;
        (void)fstat(s->last_fd, &st); /* nothing that would hang is given to the manager */
        reaper_take(f->reaper, s->last_fd, NULL, (size_t)st.st_blocks * 512);
        s->last_fd = -1;
}

static void free_slot(struct fdstore *f, struct slot *s)
{
        f->n_large -= s->kind == GIVEN_LARGE;
        f->n_sitting -= s->large != NULL;
        set_used(f, s, false);
        set_state(f, s, SLOT_FREE, NULL);
        s->fd = -1;
        s->large = NULL;
        s->held = large_unref(s->held);
        close_last(f, s);
}

/* ---- what is put and dropped */

/* One that leaves its store: its bytes are nobody's until the manager has dropped them, as far as
 * the limit; beyond it they stay charged. */
static void count_leaving(struct fdstore *f, struct slot *s, struct large *large)
{
        f->leaving_bytes += s->bytes;
        if (f->uncharged_bytes + s->bytes <= f->limit)
                f->uncharged_bytes += s->bytes;
        else
                s->held = large_ref(large);
}

static void drop(void *ctx, uint32_t slot, struct large *large)
{
        struct fdstore *f = ctx;
        struct slot *s = slot_of(f, slot);

        if (s->state == SLOT_WAITING || f->failed) {
                free_slot(f, s);
                return;
        }
        f->n_sitting -= s->large != NULL;
        s->large = NULL;
        if (large)
                count_leaving(f, s, large);
        else
                s->bytes = 0; /* it stays where it is, or is no value */
        if (large || s->kind != GIVEN_LARGE)
                keep_last(s);
        s->fd = -1;
        set_state(f, s, SLOT_LEAVING, &f->leaving);
}

/* A large value loses its slot to what comes first. */
static void evict_large(struct fdstore *f)
{
        for (unsigned i = f->max; i-- > 0;) {
                struct slot *s = slot_of(f, i);

                if (!s->large || (s->state != SLOT_KEPT && s->state != SLOT_WAITING))
                        continue;
                large_set_kept(s->large, LARGE_NOT_KEPT);
                drop(f, i, NULL);
                return;
        }
}

static bool make_room(struct fdstore *f, unsigned n)
{
        if (f->failed)
                return false;
        for (unsigned coming = f->n[SLOT_LEAVING] + f->n[SLOT_GONE];
             f->n[SLOT_FREE] + coming < n && f->n_sitting > 0; coming++)
                evict_large(f);
        return f->n[SLOT_FREE] >= n;
}

static bool free_number(const struct fdstore *f, enum given_kind kind, enum given_kind other,
                        uint32_t *ret)
{
        for (uint32_t number = 0; number < NUMBERS; number++)
                if (!is_used(f, kind, number) && !is_used(f, other, number)) {
                        *ret = number;
                        return true;
                }
        return false;
}

static bool put_realm(void *ctx, int arena, int table, uint32_t ret_slots[2])
{
        struct fdstore *f = ctx;
        uint32_t number;

        if (!make_room(f, 2) || !free_number(f, GIVEN_ARENA, GIVEN_TABLE, &number))
                return false;
        ret_slots[0] = take_slot(f, GIVEN_ARENA, number, arena, NULL);
        set_state(f, slot_of(f, ret_slots[0]), SLOT_WAITING, &f->urgent);
        ret_slots[1] = take_slot(f, GIVEN_TABLE, number, table, NULL);
        set_state(f, slot_of(f, ret_slots[1]), SLOT_WAITING, &f->urgent);
        return true;
}

/* What is on its way out is room when that is heard of, which wakes the loop: until then nobody
 * tries again and again. */
static bool has_room(void *ctx, bool for_large)
{
        const struct fdstore *f = ctx;
        unsigned coming = f->n[SLOT_LEAVING] + f->n[SLOT_GONE];

        if (f->failed)
                return false;
        if (for_large)
                return f->n_large < LARGE_MAX && f->n[SLOT_FREE] > 0;
        return f->n[SLOT_FREE] > 1 || (f->n[SLOT_FREE] + coming < 2 && f->n_sitting > 0);
}

static uint32_t put(void *ctx, struct large *large, uint32_t number, int fd)
{
        struct fdstore *f = ctx;
        enum given_kind kind = large ? GIVEN_LARGE : GIVEN_RESOURCE;
        uint32_t slot;

        if (large ? !has_room(f, true) || !free_number(f, GIVEN_LARGE, GIVEN_LARGE, &number)
                  : name_is_taken(f, kind, number) || !make_room(f, 1))
                return KEEPER_NONE;
        slot = take_slot(f, kind, number, fd, large);
        set_state(f, slot_of(f, slot), SLOT_WAITING, &f->waiting);
        return slot;
}

/* ---- what was given back */

static int by_name(const void *a, const void *b)
{
        const struct given_name *x = a, *y = b;

        return strcmp(x->name, y->name);
}

void fdstore_begin(struct fdstore *f, struct given *given)
{
        given_take_names(given, &f->passed, &f->n_passed);
        if (f->n_passed > 1)
                qsort(f->passed, f->n_passed, sizeof(*f->passed), by_name);
}

/* The next one that is not claimed is as good as any: names that are claimed never came twice. */
static bool came_once(const struct fdstore *f, size_t i)
{
        const struct given_name *p = f->passed;

        if (i > 0 && p[i - 1].name && strcmp(p[i - 1].name, p[i].name) == 0)
                return false;
        return i + 1 == f->n_passed || !p[i + 1].name || strcmp(p[i + 1].name, p[i].name) != 0;
}

/* It may have been closed since, and another file has its number. (Resources' are all open until
 * they are claimed.) */
static bool is_same(const struct given_name *p)
{
        struct stat st;

        return p->ino == 0 || (fstat(p->fd, &st) == 0 && st.st_ino == p->ino);
}

static uint32_t claim(void *ctx, int fd, struct large *large)
{
        struct fdstore *f = ctx;
        enum given_kind kind;
        uint32_t number, slot;
        size_t i = 0;

        while (i < f->n_passed && (!f->passed[i].name || f->passed[i].fd != fd))
                i++;
        if (i == f->n_passed || !came_once(f, i) || !is_same(&f->passed[i]))
                return KEEPER_NONE;
        kind = given_parse(f->passed[i].name, &number);
        if (kind == GIVEN_NONE || (is_numbered(kind) && number >= NUMBERS))
                return KEEPER_NONE;
        slot = take_slot(f, kind, number, fd, large);
        if (slot == KEEPER_NONE)
                return KEEPER_NONE;
        set_state(f, slot_of(f, slot), SLOT_KEPT, NULL);
        free(f->passed[i].name);
        f->passed[i].name = NULL;
        return slot;
}

void fdstore_settle(struct fdstore *f)
{
        size_t n = 0;

        for (size_t i = 0; i < f->n_passed; i++)
                if (f->passed[i].name)
                        f->passed[n++] = f->passed[i];
        f->n_passed = n;
        f->settled = true;
        f->due_ms = 0;
        if (n > 0)
                log_write(f->log, LOG_INFO,
                          "%zu descriptors that the service manager gave back are of no use: it is "
                          "told to drop them",
                          n);
}

/* ---- sending */

static void lower_fence(struct fdstore *f)
{
        if (!f->fence_up)
                return;
        (void)event_del(&f->fence);
        close(event_get_fd(&f->fence));
        f->fence_up = false;
}

/* Who is gone has no copies: what had left is free. */
static void fail(struct fdstore *f, int r)
{
        f->failed = true;
        lower_fence(f);
        f->leaving_bytes = f->uncharged_bytes = 0;
        for (unsigned i = 0; i < f->max; i++)
                if (f->slots[i].state == SLOT_LEAVING || f->slots[i].state == SLOT_GONE)
                        free_slot(f, slot_of(f, i));
        log_write(f->log, LOG_WARNING,
                  "the service manager keeps nothing for the next daemon, which will begin empty: "
                  "%s",
                  strerror(-r));
}

/* 0, -EAGAIN: later, or another negative errno. */
static int send_slot(struct fdstore *f, struct slot *s)
{
        char name[GIVEN_NAME_MAX + 1], text[MESSAGE_MAX];
        bool add = s->state == SLOT_WAITING;
        int r;

        given_name(name, s->kind, s->number);
        (void)snprintf(text, sizeof(text),
                       add ? "FDSTORE=1\nFDNAME=%s\nFDPOLL=0" : "FDSTOREREMOVE=1\nFDNAME=%s", name);
        r = notify_send(f->notify, text, add ? s->fd : -1);
        if (r == 0)
                set_state(f, s, add ? SLOT_KEPT : SLOT_GONE, add ? NULL : &f->gone);
        else if (r == -EAGAIN && add) /* it may be the descriptor that cannot be sent now */
                set_state(f, s, SLOT_WAITING,
                          f->urgent.next == &s->node ? &f->urgent : &f->waiting);
        return r;
}

static int remove_passed(struct fdstore *f)
{
        struct given_name *p = &f->passed[f->n_passed - 1];
        char text[MESSAGE_MAX];
        int r;

        (void)snprintf(text, sizeof(text), "FDSTOREREMOVE=1\nFDNAME=%.255s", p->name);
        r = notify_send(f->notify, text, -1);
        if (r < 0)
                return r;
        free(p->name);
        f->n_passed--;
        return 0;
}

static struct list *next_list(struct fdstore *f)
{
        struct list *lists[] = {&f->leaving, &f->urgent, &f->waiting};

        for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
                if (!list_is_empty(lists[i]))
                        return lists[i];
        return NULL;
}

/* At once, whatever their number: there are no more than were stored, each is little work for the
 * manager, and memory waits for them. */
static int send_removals(struct fdstore *f)
{
        int r = 0;

        while (r == 0 && !list_is_empty(&f->leaving) && f->n_passed == 0)
                r = send_slot(f, LIST_ENTRY(f->leaving.next, struct slot, node));
        return r;
}

/* What was given back goes first: it counts at the manager, and a name of it may be used again. */
static int send_some(struct fdstore *f, unsigned n)
{
        int r = send_removals(f);

        while (n-- > 0 && r == 0) {
                struct list *from = next_list(f);

                if (f->settled && f->n_passed > 0)
                        r = remove_passed(f);
                else if (from)
                        r = send_slot(f, LIST_ENTRY(from->next, struct slot, node));
                else
                        break;
        }
        return r;
}

static bool has_messages(struct fdstore *f)
{
        return (f->settled && f->n_passed > 0) || next_list(f);
}

/* ---- the barrier */

/* Their removal has been heard of. */
static void free_gone(struct fdstore *f, struct list *gone)
{
        while (!list_is_empty(gone)) {
                struct slot *s = LIST_ENTRY(gone->next, struct slot, node);

                f->leaving_bytes -= s->bytes;
                if (!s->held)
                        f->uncharged_bytes -= s->bytes;
                free_slot(f, s);
        }
}

/* What was sent before it has been heard. */
static void on_fence(evutil_socket_t fd, short what, void *arg)
{
        struct fdstore *f = arg;

        (void)fd;
        (void)what;
        lower_fence(f);
        free_gone(f, &f->fenced);
        f->due_ms = 0;
}

/* The manager closes its copy of a pipe's end when it comes to that message: the other end, or
 * -errno. */
static int send_barrier(struct fdstore *f)
{
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
                return -EAGAIN; /* there will be descriptors again */
        r = notify_send(f->notify, "BARRIER=1", fds[1]);
        close(fds[1]);
        if (r == 0)
                return fds[0];
        close(fds[0]);
        return r;
}

static int raise_fence(struct fdstore *f)
{
        int fd;

        if (f->fence_up || list_is_empty(&f->gone))
                return 0;
        fd = send_barrier(f);
        if (fd < 0)
                return fd;
        event_assign(&f->fence, f->base, fd, EV_READ, on_fence, f);
        if (event_add(&f->fence, NULL) < 0) {
                close(fd);
                return -EAGAIN;
        }
        f->fence_up = true;
        while (!list_is_empty(&f->gone)) {
                struct slot *s = LIST_ENTRY(list_pop(&f->gone), struct slot, node);

                list_append(&f->fenced, &s->node);
        }
        return 0;
}

/* ---- turns */

void fdstore_turn(struct fdstore *f, uint64_t now_ms)
{
        int r;

        if (f->failed || now_ms < f->due_ms)
                return;
        r = send_some(f, BURST);
        if (r == 0 && list_is_empty(&f->leaving))
                r = raise_fence(f);
        if (r < 0 && r != -EAGAIN)
                fail(f, r);
        f->due_ms = r == -EAGAIN || has_messages(f) ? now_ms + PERIOD_MS : NEVER;
}

uint64_t fdstore_due(const struct fdstore *f)
{
        return f->failed ? NEVER : f->due_ms;
}

static int64_t monotonic_ms(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* 0; -ETIMEDOUT; or why it is in vain. */
static int retry_until(struct fdstore *f, int64_t until, int (*step)(struct fdstore *f))
{
        for (;;) {
                int r = step(f);

                if (r != -EAGAIN)
                        return r;
                if (monotonic_ms() >= until)
                        return -ETIMEDOUT;
                notify_wait(f->notify, FLUSH_STEP_MS);
        }
}

static int send_all(struct fdstore *f)
{
        int r = 0;

        while (r == 0 && has_messages(f))
                r = send_some(f, BURST);
        return r;
}

bool fdstore_flush(struct fdstore *f, int ms)
{
        int64_t until = monotonic_ms() + ms;
        struct pollfd p = {.events = POLLIN};
        int r = f->failed ? -ENOTCONN : retry_until(f, until, send_all);

        if (r == 0)
                r = retry_until(f, until, send_barrier);
        if (r < 0)
                return false;
        p.fd = r;
        while ((r = poll(&p, 1, (int)(until > monotonic_ms() ? until - monotonic_ms() : 0))) < 0 &&
               errno == EINTR)
                ;
        close(p.fd);
        if (r != 1)
                return false;
        lower_fence(f);
        free_gone(f, &f->fenced);
        free_gone(f, &f->gone);
        return true;
}

/* ---- life */

static const struct keeper keeper = {
        .put_realm = put_realm, .put = put, .drop = drop, .claim = claim, .has_room = has_room};

/* Newer managers say how many they keep. Those are the ones that close them aside, too. */
static unsigned most(bool *ret_closes_aside)
{
        const char *text = getenv("FDSTORE");
        unsigned long n = text ? strtoul(text, NULL, 10) : FDSTORE_MAX;

        *ret_closes_aside = text != NULL;
        return n < FDSTORE_MAX ? (unsigned)n : FDSTORE_MAX;
}

int fdstore_new(struct event_base *base, struct notify *notify, struct log *log,
                struct fdstore **ret)
{
        struct fdstore *f = calloc(1, sizeof(*f));

        if (!f)
                return -ENOMEM;
        f->base = base;
        f->notify = notify;
        f->log = log;
        f->keeper = keeper;
        f->keeper.ctx = f;
        f->due_ms = NEVER;
        f->max = most(&f->keeper.closes_aside);
        f->n[SLOT_FREE] = f->max;
        list_init(&f->urgent);
        list_init(&f->waiting);
        list_init(&f->leaving);
        list_init(&f->gone);
        list_init(&f->fenced);
        for (unsigned i = 0; i < FDSTORE_MAX; i++) {
                list_init(&f->slots[i].node);
                f->slots[i].last_fd = -1;
        }
        *ret = f;
        return 0;
}

struct fdstore *fdstore_free(struct fdstore *f)
{
        if (!f)
                return NULL;
        lower_fence(f);
        for (unsigned i = 0; i < FDSTORE_MAX; i++) {
                f->slots[i].held = large_unref(f->slots[i].held);
                close_last(f, &f->slots[i]);
        }
        for (size_t i = 0; i < f->n_passed; i++)
                free(f->passed[i].name);
        free(f->passed);
        free(f);
        return NULL;
}

const struct keeper *fdstore_keeper(struct fdstore *f)
{
        return &f->keeper;
}

void fdstore_set_reaper(struct fdstore *f, struct reaper *reaper)
{
        f->reaper = reaper;
}

void fdstore_set_limit(struct fdstore *f, uint64_t bytes)
{
        f->limit = bytes;
}

void fdstore_stats(const struct fdstore *f, struct fdstore_stats *ret)
{
        *ret = (struct fdstore_stats){.max = f->failed ? 0 : f->max,
                                      .kept = f->n[SLOT_KEPT],
                                      .waiting = f->n[SLOT_WAITING],
                                      .leaving = f->n[SLOT_LEAVING] + f->n[SLOT_GONE],
                                      .leaving_bytes = f->leaving_bytes};
}
