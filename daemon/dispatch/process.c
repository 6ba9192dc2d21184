/* SPDX-License-Identifier: MIT */
/*
 * Processes
 *
 * What hangs on a process and not on its connection (leases, views) ends with it. It is watched
 * from the first time on that one of its connections has something of that kind, so that no other
 * process can be taken for it later, and once for all of its connections.
 *
 * Where a process cannot be watched (an old kernel, a filter of system calls) there is one of these
 * for each connection, and it never ends: its users end with the connection.
 *
 * Who is told of an end may do as he likes, but for freeing what else is told of it.
 */
#include "dispatch/process.h"

#include <errno.h>
#include <stdlib.h>

#include "dispatch/client.h"
#include "dispatch/dispatcher.h"
#include "server.h"
#include "transport/conn.h"

static struct list *bucket_of(struct processes *all, pid_t pid)
{
        return &all->buckets[(unsigned)pid % PROCESS_BUCKETS];
}

/* An id may be another process's when its process has ended, though nobody was told yet. */
static struct process *find(struct processes *all, pid_t pid)
{
        struct list *bucket = bucket_of(all, pid);
        for (struct list *l = bucket->next; l != bucket; l = l->next) {
                struct process *p = LIST_ENTRY(l, struct process, of_bucket);
                if (p->pid == pid && !p->ended && !peer_watch_is_over(p->watch))
                        return p;
        }
        return NULL;
}

static void tell(void *ctx)
{
        struct process *p = ctx;
        p->ended = true;
        while (!list_is_empty(&p->ends)) {
                struct process_end *end = LIST_ENTRY(p->ends.next, struct process_end, node);
                list_unlink(&end->node);
                end->on_end(end->ctx);
        }
}

static int process_new(struct processes *all, struct conn *conn, struct process **ret)
{
        struct process *p = calloc(1, sizeof(*p));
        if (!p)
                return -ENOMEM;
        int k = conn_watch_peer(conn, tell, p, &p->watch);
        if (k < 0 && k != -ENOTSUP) {
                free(p);
                return k;
        }
        p->pid = conn_peer(conn)->pid;
        list_init(&p->of_bucket);
        list_init(&p->ends);
        if (p->watch && p->pid > 0) /* else it is in another namespace of process ids */
                list_append(bucket_of(all, p->pid), &p->of_bucket);
        *ret = p;
        return 0;
}

int process_of(struct client *client, struct process **ret)
{
        struct processes *all = &client->d->processes;
        pid_t pid = conn_peer(client->conn)->pid;
        if (!client->process) {
                struct process *p = pid > 0 ? find(all, pid) : NULL;
                int k = p ? 0 : process_new(all, client->conn, &p);
                if (k < 0)
                        return k;
                client->process = process_ref(p);
        }
        *ret = client->process;
        return 0;
}

int process_again(struct dispatcher *d, pid_t pid, const struct process_mark *mark,
                  struct process **ret)
{
        struct process *p = calloc(1, sizeof(*p)), *there;
        if (!p)
                return -ENOMEM;
        int k = server_watch_process(d->server, pid, mark, tell, p, &p->watch);
        there = k == 0 ? find(&d->processes, pid) : NULL;
        if (k < 0 || there) {
                peer_watch_free(p->watch);
                free(p);
                *ret = there ? process_ref(there) : NULL;
                return k;
        }
        p->pid = pid;
        list_init(&p->ends);
        list_init(&p->of_bucket);
        list_append(bucket_of(&d->processes, pid), &p->of_bucket);
        *ret = process_ref(p);
        return 0;
}

struct process *process_ref(struct process *p)
{
        p->refs++;
        return p;
}

struct process *process_unref(struct process *p)
{
        if (!p || --p->refs > 0)
                return NULL;
        list_unlink(&p->of_bucket);
        peer_watch_free(p->watch);
        free(p);
        return NULL;
}

void process_listen(struct process *p, struct process_end *end, void (*on_end)(void *ctx),
                    void *ctx)
{
        *end = (struct process_end){.on_end = on_end, .ctx = ctx};
        list_init(&end->node);
        list_append(&p->ends, &end->node);
}

void process_unlisten(struct process_end *end)
{
        if (end->node.next)
                list_unlink(&end->node);
}

void processes_init(struct processes *all)
{
        for (size_t i = 0; i < PROCESS_BUCKETS; i++)
                list_init(&all->buckets[i]);
}
