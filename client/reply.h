/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_REPLY_H
#define CLIENT_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "client/failure.h"
#include "proto/arena-read.h"
#include "proto/cached.pb-c.h"

/* A body up to this size shares the reply's allocation: most values need one malloc in all. */
#define REPLY_INLINE_BODY 4096
/* Holds an unpacked reply to Get, Set, Touch or Delete, or to who waited for a lease. Others get
 * more from the heap. */
#define REPLY_INLINE_MESSAGE 352
/*
 * What one message may unfold to. An empty submessage takes 2 bytes on the wire and some 250 in
 * memory, so that 64 MiB of nonsense could ask for 8 GiB. Honest replies (16 MiB of entries or of
 * statistics) unfold by less than 8.
 */
#define REPLY_MEMORY_MAX (768u << 20)

struct reply_chunk;

/*
 * Everything that a reply refers to lies behind this head, in its chunks, or in `body`: nothing
 * else owns or shares any of it.
 */
struct cached_reply {
        int code;
        const char *error;          /* never NULL */
        Cached__V1__Reply *message; /* NULL: a failure of this side */
        const uint8_t *body;        /* inline, or owned and on the heap */
        size_t n_body;
        uint64_t *item_at; /* of a GetMany: where in the body each item's value begins */

        /* The memory that protobuf-c unpacks into: only ever given out, freed in one go. */
        uint8_t *free, *free_end;
        struct reply_chunk *chunks;
        size_t n_chunk_bytes;
        bool out_of_memory;
        bool is_hit; /* of a mapped look-up: `message` is made of it when somebody asks */

        /* For the pipeline: its queue. */
        struct cached_reply *next;
        uint64_t tag;

        /* Of a Get that may be answered with a memory file: it, not looked at yet; -1. And whose
         * daemon it was that answered. */
        int fd;
        bool has_lost_fd; /* one came, and this process had no room for it */
        uint64_t instance;
        struct cached_view *view;         /* the body is its data; NULL */
        struct cached_messages *messages; /* that came with the value; NULL */
        int messages_code;                /* why there are none */

        uint8_t *body_heap;
        size_t n_body_inline;
        _Alignas(16) uint8_t space[];
};

/* NULL: out of memory. */
struct cached_reply *reply_new_failure(const struct failure *f);

/*
 * reply_new_unpack() - the reply to a frame's message
 * @n_body:  what the frame's header announces; no memory is taken for a large one yet
 *
 * Return: CACHED_OK, CACHED_ERR_NOMEM, CACHED_ERR_BAD_REPLY, with *f set unless it is CACHED_OK.
 */
int reply_new_unpack(const uint8_t *message, size_t n_message, uint64_t n_body, struct failure *f,
                     struct cached_reply **ret);

/*
 * reply_check() - is it a possible answer to `op`?
 *
 * To be called before memory for the body is taken, so that the sizes in the message bound it.
 * @with_messages:  of a Get: the body ends with them
 */
int reply_check(struct cached_reply *r, Cached__V1__Request__OpCase op, bool with_messages,
                uint64_t n_body, struct failure *f);

/* A Get's that may come without its value: does it? Then it is to be checked by this. */
bool reply_is_without_body(const struct cached_reply *r);
/* @lost_fd: there was no room for the descriptor that came along */
int reply_check_file(struct cached_reply *r, uint64_t n_body, bool lost_fd, struct failure *f);

/* A reply about a session's keys whose values are its body, also where that has 0 bytes. */
bool reply_has_session_values(const struct cached_reply *r);
/* It becomes this failure, with what it says. False: out of memory. */
bool reply_fail(struct cached_reply *r, int code, const char *text);

/* Where to put the body, also one of 0 bytes: from then on the reply has one. NULL: out of memory.
 */
uint8_t *reply_body_space(struct cached_reply *r, size_t n_body);

/*
 * reply_take_messages() - reads the messages that lie behind the value
 * @bytes:  as many as the entry says. What they are not is told later, to who asks for them
 *
 * Return: false: out of memory.
 */
bool reply_take_messages(struct cached_reply *r, const uint8_t *bytes);
/* They are at the end of the body, which is whole: from now on it is the value alone. Likewise. */
bool reply_split_messages(struct cached_reply *r);

/*
 * reply_decode() - makes the values of a whole reply plain ones
 *
 * Return: CACHED_OK, the reply's own code may be another then; CACHED_ERR_NOMEM with *f set: the
 * reply can only be freed.
 */
int reply_decode(struct cached_reply *r, struct failure *f);

/* ---- replies to a Get that a look-up of our own answers; part of each hit, so they are here */

/* What lies where the message will. */
struct reply_hit {
        struct arena_hit hit;
        uint64_t ttl_ms;
        uint64_t n_apart; /* the value's length, where it is not in the hit */
};

/* A head with nothing behind it yet. */
static inline void reply_init(struct cached_reply *r, size_t n_space, size_t n_body_inline)
{
        r->code = 0;
        r->error = "";
        r->message = NULL;
        r->body = NULL;
        r->n_body = 0;
        r->item_at = NULL;
        r->free = r->space;
        r->free_end = r->space + n_space;
        r->chunks = NULL;
        r->n_chunk_bytes = 0;
        r->out_of_memory = r->is_hit = false;
        r->next = NULL;
        r->tag = 0;
        r->fd = -1;
        r->has_lost_fd = false;
        r->instance = 0;
        r->view = NULL;
        r->messages = NULL;
        r->messages_code = 1; /* CACHED_NOT_FOUND */
        r->body_heap = NULL;
        r->n_body_inline = n_body_inline;
}

static inline uint8_t *reply_hit_value(struct cached_reply *r)
{
        return r->space + REPLY_INLINE_MESSAGE;
}

static inline struct reply_hit *reply_hit_of(struct cached_reply *r)
{
        return (struct reply_hit *)(void *)r->space;
}

/*
 * Head, place for what the look-up tells of the entry, and for a value of up to `n_value` bytes.
 * NULL: out of memory.
 */
static inline struct cached_reply *reply_new_hit(size_t n_value, struct arena_hit **ret_hit)
{
        struct cached_reply *r =
                (struct cached_reply *)malloc(sizeof(*r) + REPLY_INLINE_MESSAGE + n_value);

        if (!r)
                return NULL;
        reply_init(r, REPLY_INLINE_MESSAGE, n_value);
        *ret_hit = &reply_hit_of(r)->hit;
        return r;
}

/* It is whole. @ttl_ms: what is left; CACHED_NEVER */
static inline void reply_set_hit(struct cached_reply *r, size_t n_value, uint64_t ttl_ms)
{
        reply_hit_of(r)->ttl_ms = ttl_ms;
        reply_hit_of(r)->n_apart = 0;
        r->is_hit = true;
        r->body = reply_hit_value(r);
        r->n_body = n_value;
}

static inline bool reply_hit_is_encoded(struct cached_reply *r)
{
        return reply_hit_of(r)->hit.encoding == CACHED__V1__ENCODING__ENCODING_LZ4;
}

/* Its body ends with the messages, if there are any: from now on it is the value alone. False: out
 * of memory. */
bool reply_hit_split_messages(struct cached_reply *r);
/* It says that there is no value: another reply in its place, with the reason as the error. NULL:
 * out of memory. @r is consumed. */
struct cached_reply *reply_hit_to_negative(struct cached_reply *r);

/* There was no hit after all. */
void reply_set_miss(struct cached_reply *r);
/* NULL: out of memory. */
struct cached_reply *reply_new_miss(void);
/* Likewise, and whoever has its value says how long it is; there is no body. Plain, whatever the
 * entry's encoding was. */
void reply_set_hit_apart(struct cached_reply *r, uint64_t n_value, bool is_plain, uint64_t ttl_ms);
/* The body is what the view shows, which is the reply's from now on. */
void reply_set_view(struct cached_reply *r, struct cached_view *view);
/* malloc's memory of a body that is no reply's any more. NULL: it is not such. */
uint8_t *reply_steal_body(struct cached_reply *r);

/*
 * The reply to a GetMany of `n` keys that look-ups of our own answer; items are misses at first.
 * NULL: out of memory. The body is to be set in the end, and item_at with each item.
 */
struct cached_reply *reply_new_many(size_t n);
/* Consumes the body: malloc's. */
void reply_set_body(struct cached_reply *r, uint8_t *body, size_t n_body);
/* Item `i` is a hit. */
void reply_set_item(struct cached_reply *r, size_t i, const struct arena_hit *hit, uint64_t ttl_ms,
                    size_t at);

/* The message; NULL: a failure of this side, or a miss. */
const Cached__V1__Reply *reply_message(const struct cached_reply *r);

static inline bool reply_is_marked(const struct cached_reply *r, uint16_t mark)
{
        return r->is_hit && !r->message &&
               (((const struct reply_hit *)(const void *)r->space)->hit.marks & mark);
}

/* Whether its time to live has passed. */
static inline bool reply_is_stale(const struct cached_reply *r)
{
        const Cached__V1__Reply *m = r->message;

        return reply_is_marked(r, ARENA_HIT_STALE) ||
               (m && m->result_case == CACHED__V1__REPLY__RESULT_ENTRY && m->entry->stale);
}

/* Whether its value is to be computed anew, as far as that is known without asking for the lease.
 * To be asked before anything else of a reply. */
static inline bool reply_is_due(const struct cached_reply *r)
{
        return reply_is_marked(r, ARENA_HIT_DUE) || reply_is_stale(r);
}

/* What a reply to a Get with `lease` says of it; NULL: nothing. */
static inline Cached__V1__Lease *reply_lease(const struct cached_reply *r)
{
        return r && r->message ? r->message->lease : NULL;
}

/* The entry that a Get, Set or Touch returned, else NULL. */
const Cached__V1__EntryInfo *reply_entry(const struct cached_reply *r);

#endif
