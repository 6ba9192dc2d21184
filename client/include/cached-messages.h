/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_MESSAGES_H
#define CACHED_MESSAGES_H

/*
 * Recorded messages: what a function said while it computed a value, stored with the value
 *
 * A message is a type, which means something to those who record and replay, and bytes: a line of
 * output, a warning, a step of progress. A list of them is stored beside a value
 * (cached_set_options_set_messages()), in order, and is charged like it. Whoever gets the value
 * sees nothing of them, unless it asks for both (cached_get_with_messages()).
 *
 * Functions: what a memoized function says by cached_message() is recorded for cached_memoize(),
 * stored with its value, and said again by each hit, to the callback of the options
 * (cached_memo_options_set_on_message()). Each message is shown once, in order, whether the
 * function ran here, somebody else ran it while this call waited, or it was a hit. What a nested
 * call says, or says again, is part of what the outer function says. A run that fails, or whose
 * value is not stored, stores none; a value is never stored without what was said.
 *
 * Threads: a list is used by one thread at a time; several may read one that nobody changes. Fork:
 * plain memory.
 */

#include "cached-memoize.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library itself is built with hidden visibility */
#endif

/*
 * cached_on_message - is shown what a memoized function says
 * @data:   what cached_memo_options_set_on_message() was given
 * @type:   borrowed for the call, as the other pointer
 * @bytes:  @n bytes; never NULL
 *
 * Runs in the thread of the call, without locks held. It records nothing: no cached_message() here.
 */
typedef void (*cached_on_message)(void *data, const char *type, const void *bytes, size_t n);

/*
 * cached_memo_options_set_on_message() - who is shown what the function says
 * @o:     by one thread at a time
 * @f:     NULL (default): nobody; it is recorded all the same
 * @data:  for @f
 *
 * Of nested calls the innermost that has somebody shows a message.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_memo_options_set_on_message(cached_memo_options *o, cached_on_message f, void *data);

/*
 * cached_message() - says something, from inside a memoized function
 * @type:  UTF-8, may be ""; copied, as @data
 * @data:  @n bytes; may be NULL if @n is 0
 * @n:     bytes
 *
 * Belongs to the innermost cached_memoize() of this thread, and to those around it. One run may say
 * 256 MiB and 1,048,576 messages; if it says more, or there is no memory, its value is not stored
 * (cached_result_cache_code()).
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: this thread runs no memoized function, and nothing happened;
 * CACHED_TOO_LARGE, CACHED_LIMIT, CACHED_ERR_NOMEM: it was shown, and the record is given up;
 * CACHED_ERR_USAGE: a pointer is NULL, or @type is not UTF-8.
 */
int cached_message(const char *type, const void *data, size_t n);

/*
 * cached_messages_new() - an empty list
 *
 * Return: owned by the caller, freed with cached_messages_free(); NULL: out of memory.
 */
cached_messages *cached_messages_new(void);

/*
 * cached_messages_free() - frees a list that cached_messages_new() made
 * @m:  may be NULL
 */
void cached_messages_free(cached_messages *m);

/*
 * cached_messages_add() - appends a message
 * @m:     by one thread at a time
 * @type:  copied; UTF-8, may be ""
 * @data:  @n bytes, copied; may be NULL if @n is 0
 * @n:     bytes
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: a pointer is NULL, or @type is not UTF-8; CACHED_TOO_LARGE:
 * 2 GiB are too many for one message; CACHED_LIMIT: there are 1,048,576 already; CACHED_ERR_NOMEM.
 * Then nothing changed.
 */
int cached_messages_add(cached_messages *m, const char *type, const void *data, size_t n);

/*
 * cached_messages_count() - how many there are
 * @m:  may be NULL
 *
 * Return: 0 also for NULL.
 */
size_t cached_messages_count(const cached_messages *m);

/*
 * cached_messages_get() - one message
 * @m:         may be NULL
 * @i:         from 0, in the order in which they were recorded
 * @ret_type:  ends in a zero byte; may be NULL: not interested, as the others
 * @ret_data:  not NULL for a message without data
 * @ret_size:  bytes of data
 *
 * What it gives belongs to the list, and is valid until that changes or is freed.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: there is no message @i; then nothing was touched.
 */
int cached_messages_get(const cached_messages *m, size_t i, const char **ret_type,
                        const void **ret_data, size_t *ret_size);

/*
 * cached_set_options_set_messages() - stores messages with each value
 * @o:  by one thread at a time
 * @m:  copied; NULL (default) or an empty list: none
 *
 * They count like bytes of the value: what is too large with them is refused as what is too large
 * (CACHED_TOO_LARGE, CACHED_NO_SPACE), and nothing is stored. In a cached_buffer they need room
 * behind the value. They are not packed.
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM or CACHED_ERR_USAGE (@o is NULL), and nothing changed.
 */
int cached_set_options_set_messages(cached_set_options *o, const cached_messages *m);

/*
 * cached_get_with_messages() - as cached_get(), with what was recorded with the value
 * @c:      any thread
 * @cache:  an unknown one is a miss
 * @key:    @n_key bytes
 * @ret:    as of cached_get(), and cached_reply_messages()
 *
 * Return: as cached_get().
 */
int cached_get_with_messages(cached *c, const char *cache, const void *key, size_t n_key,
                             cached_reply **ret);

/*
 * cached_reply_messages() - the messages that came with a value
 * @r:    of cached_get_with_messages(); may be NULL
 * @ret:  owned by the reply, valid until cached_reply_free(); untouched on failure
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: none were stored with the value, or there is no value;
 * CACHED_ERR_BAD_REPLY: what was stored is no list of messages; the value is as good as any.
 */
int cached_reply_messages(const cached_reply *r, const cached_messages **ret);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
