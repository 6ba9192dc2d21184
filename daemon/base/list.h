/* SPDX-License-Identifier: MIT */
#ifndef LIST_H
#define LIST_H

/*
 * A doubly linked ring; the head is a node of its own. A node that is in no list points to itself,
 * so that list_unlink() may always be called.
 */

#include <stdbool.h>
#include <stddef.h>

struct list {
        struct list *prev, *next;
};

#define LIST_ENTRY(node, type, member) ((type *)((char *)(node)-offsetof(type, member)))

static inline void list_init(struct list *l)
{
        l->prev = l->next = l;
}

static inline bool list_is_empty(const struct list *l)
{
        return l->next == l;
}

/* Puts @node, which is in no list, before @pos: at the end if @pos is a head. */
static inline void list_append(struct list *pos, struct list *node)
{
        node->prev = pos->prev;
        node->next = pos;
        pos->prev->next = node;
        pos->prev = node;
}

static inline void list_unlink(struct list *node)
{
        node->prev->next = node->next;
        node->next->prev = node->prev;
        list_init(node);
}

/* Takes the first one out of a list that is not empty. Returns it. */
static inline struct list *list_pop(struct list *head)
{
        struct list *node = head->next;
        head->next = node->next;
        node->next->prev = head;
        list_init(node);
        return node;
}

/* Moves all nodes of @from to the empty list @to. */
static inline void list_take(struct list *to, struct list *from)
{
        list_init(to);
        if (list_is_empty(from))
                return;
        *to = *from;
        to->next->prev = to;
        to->prev->next = to;
        list_init(from);
}

#endif
