/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_MESSAGES_H
#define CLIENT_MESSAGES_H

#include <cached.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of one list. */
#define MESSAGES_MAX ((size_t)1 << 20)
/* Of one message: protobuf's own bound on what it is in, with room for what is around it. */
#define MESSAGE_BYTES_MAX ((size_t)INT32_MAX - 4096)

/* One of them: `n_type` bytes of type, a zero byte, `n` bytes of data; all at `at`. */
struct message {
        size_t at, n_type, n;
};

struct cached_messages {
        struct message *list; /* owned */
        size_t n, n_list;     /* there are; there is room for */
        uint8_t *bytes;       /* owned */
        size_t n_bytes, n_room;
};

/* A list that somebody else's struct holds. Zeroed memory: an empty one. */
void messages_done(struct cached_messages *m);

/* CACHED_OK; CACHED_ERR_NOMEM; CACHED_ERR_USAGE: type is no UTF-8, or there is no data;
 * CACHED_TOO_LARGE; CACHED_LIMIT: MESSAGES_MAX. Then nothing changed. */
int messages_add(struct cached_messages *m, const char *type, size_t n_type, const void *data,
                 size_t n);

static inline const char *messages_type(const struct cached_messages *m, size_t i)
{
        return (const char *)m->bytes + m->list[i].at;
}

static inline const void *messages_data(const struct cached_messages *m, size_t i)
{
        return m->bytes + m->list[i].at + m->list[i].n_type + 1;
}

/* As RecordedMessages, in malloc's memory; an empty list is 0 bytes and NULL. False: out of memory.
 */
bool messages_encode(const struct cached_messages *m, uint8_t **ret, size_t *ret_n);

/*
 * messages_decode() - what somebody stored as RecordedMessages; nobody has looked at it before
 *
 * Return: CACHED_OK; CACHED_ERR_BAD_REPLY: it is no such thing, or too long a list;
 * CACHED_ERR_NOMEM. Then *ret is untouched.
 */
int messages_decode(const uint8_t *bytes, size_t n, struct cached_messages **ret);

#endif
