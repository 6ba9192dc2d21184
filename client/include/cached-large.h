/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_LARGE_H
#define CACHED_LARGE_H

/*
 * Values of megabytes and gigabytes: shared, not copied
 *
 * The daemon keeps a large value in a memory file of its own, which nobody can change any more. It
 * is handed over and looked at in constant time, whatever its size: a *view* is a mapping of it, a
 * *buffer* is memory that becomes one. Included by cached.h.
 *
 *     cached_view *v;
 *
 *     if (cached_get_view(c, "frames", key, n_key, CACHED_VIEW_PRIVATE, &v, NULL) == CACHED_OK) {
 *             use(cached_view_data(v), cached_view_size(v));
 *             cached_view_release(v);
 *     }
 *
 * and the other way round:
 *
 *     cached_buffer *b;
 *
 *     if (cached_buffer_new(c, n, &b) == CACHED_OK) {
 *             compute_into(cached_buffer_data(b));
 *             cached_set_buffer(c, "frames", key, n_key, b, n, NULL, NULL);
 *             cached_buffer_free(b);
 *     }
 *
 * Views: a view refers to nothing but itself. It stays as it is when its entry is replaced,
 * expires, is evicted or cleared, when the handle is freed, and when the daemon ends. Small values
 * have views, too: those are copies. As long as a view is not released, the memory counts: where
 * the value has left the cache it is charged to this user, and `cachectl stats` shows it.
 *
 * Threads: a view is read from any number of threads, and a buffer filled by any; each is released,
 * freed or handed over by one thread, when no other uses it.
 *
 * Fork: a child inherits views, and what it writes to a private one is its own; it releases its
 * copies or ends, and the daemon hears nothing of either. A buffer that was not handed over yet
 * stays with the parent: the child cannot touch its memory, and may only free it. One that was
 * handed over is inherited like a view.
 */

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

/* Modes of a view. */
#define CACHED_VIEW_READ    0 /* shared with other views in this process; read-only */
#define CACHED_VIEW_PRIVATE 1 /* writing to it changes this view alone (copy on write) */

/*
 * cached_get_view() - looks up one entry, and shows its value in place; counts as a use of it
 * @c:      any thread
 * @cache:  an unknown one is a miss
 * @key:    @n_key bytes
 * @mode:   CACHED_VIEW_READ, CACHED_VIEW_PRIVATE
 * @ret:    on a hit a view, owned by the caller, released with cached_view_release(); else
 * untouched
 * @reply:  cached_reply_version(), _ttl_ms(), _flags() ...; it has no value: the view has
 *
 * The handle keeps the values that it was asked for last (cached_options_set_view_cache()). As long
 * as an entry is the same, another look at it needs neither the daemon nor a new mapping, but for
 * that of a private view. A value that was stored as an LZ4 block is decoded, into memory of the
 * view's.
 *
 * Return: CACHED_OK: hit; CACHED_NOT_FOUND: miss; CACHED_ERR_NOMEM: also where it could not be
 * mapped; or one of the common codes.
 */
int cached_get_view(cached *c, const char *cache, const void *key, size_t n_key, int mode,
                    cached_view **ret, cached_reply **reply);

/*
 * cached_view_data() - where the value is
 * @v:  may be NULL
 *
 * Return: cached_view_size() bytes, valid until cached_view_release(); written to only with
 * CACHED_VIEW_PRIVATE: else that is a SIGSEGV. Never NULL, also for an empty value, unless @v is.
 */
void *cached_view_data(const cached_view *v);

/*
 * cached_view_size() - how long it is
 * @v:  may be NULL
 *
 * Return: bytes; 0 also if @v is NULL.
 */
uint64_t cached_view_size(const cached_view *v);

/*
 * cached_view_version() - the version of the entry whose value it is
 * @v:  may be NULL
 *
 * Return: as cached_reply_version(); 0: @v is NULL.
 */
uint64_t cached_view_version(const cached_view *v);

/*
 * cached_view_fd() - the memory file that is shown
 * @v:  may be NULL
 *
 * For sendfile() and the like, with an offset of its own: the file's position is shared with other
 * views. It is sealed.
 *
 * Return: a descriptor that the view owns, valid until cached_view_release(); -1: the view is of a
 * copy, or @v is NULL.
 */
int cached_view_fd(const cached_view *v);

/*
 * cached_view_release() - ends a view; its memory is not to be touched any more
 * @v:  may be NULL; also after its handle is gone, from any thread
 */
void cached_view_release(cached_view *v);

/*
 * cached_buffers_prepare() - makes buffers ahead, whose memory is there when they are asked for
 * @c:     any thread
 * @size:  of what is to be stored in each
 * @n:     how many buffers for that size are to be ready; 0: none, those that are ready are freed
 *
 * To be called where there is time: it takes some 0.7 ms for each MiB, and some milliseconds for
 * each two where memory is made into huge pages (from half a MiB on), which makes all that follows
 * faster. cached_buffer_new() takes
 * one that was prepared for the same size, or nearly the same; memory that was handed over can
 * never be used again, so prepare others then. What is prepared takes memory and is charged to
 * nobody; `cachectl stats` shows it.
 *
 * Return: CACHED_OK; CACHED_ERR_AGAIN: no room for all of them, see
 * cached_options_set_prepared_bytes(); CACHED_ERR_NOMEM: no memory, address space or descriptors
 * for another one; CACHED_ERR_USAGE: @c is NULL, @size is 0 or too large.
 */
int cached_buffers_prepare(cached *c, uint64_t size, uint32_t n);

/*
 * cached_buffer_new() - memory to fill, which can be handed over without a copy
 * @c:     any thread; the buffer does not depend on it, and may be stored with another handle
 * @size:  bytes, at least 1
 * @ret:   owned by the caller, freed with cached_buffer_free(); untouched on failure
 *
 * All of it is 0 at first. Memory is taken as it is touched, but for one that was prepared.
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM: no memory, address space or descriptors; CACHED_ERR_USAGE:
 * @c or @ret is NULL, or @size is 0.
 */
int cached_buffer_new(cached *c, uint64_t size, cached_buffer **ret);

/*
 * cached_buffer_new_ready() - as cached_buffer_new(), for who is about to fill all of it
 * @c:     any thread
 * @size:  bytes, at least 1
 * @ret:   owned by the caller, freed with cached_buffer_free(); untouched on failure
 *
 * Its memory is taken at once and in one piece, which is several times faster than page by page as
 * it is touched. Where so much is not there, it is a buffer of cached_buffer_new().
 *
 * Return: as cached_buffer_new().
 */
int cached_buffer_new_ready(cached *c, uint64_t size, cached_buffer **ret);

/*
 * cached_buffer_data() - where to put the value
 * @b:  may be NULL
 *
 * Return: cached_buffer_size() bytes, page-aligned, at the same place until cached_buffer_free();
 * NULL: @b is, or a failed cached_set_buffer() lost it.
 */
void *cached_buffer_data(const cached_buffer *b);

/*
 * cached_buffer_size() - how much fits into it
 * @b:  may be NULL
 *
 * Return: bytes, as was asked for; 0 also if @b is NULL.
 */
uint64_t cached_buffer_size(const cached_buffer *b);

/*
 * cached_set_buffer() - stores what is in a buffer, without a copy
 * @c:        any thread
 * @cache:    created with an empty policy if it is unknown
 * @key:      @n_key bytes
 * @buffer:   filled; nobody writes to it during the call
 * @n_value:  bytes from its start, at most its size
 * @o:        NULL: the defaults
 * @ret:      cached_reply_version() is the new entry's
 *
 * From then on the value is fixed, also if the call fails later: the buffer's memory stays at its
 * place as the caller's private view, whose changes concern nobody; what lay behind @n_value is 0.
 * It may be stored again, under other keys, with the same @n_value: all of these share one memory.
 * A value of 0 bytes is stored as such, and the buffer stays as it is. Messages of @o are put
 * behind the value, so that the buffer needs room for them.
 *
 * Return: as cached_set(); CACHED_ERR_USAGE also where something else can still write to the memory
 * (a mapping that a forked process was made to inherit, input on its way into it): then the buffer
 * is as it was; CACHED_ERR_NOMEM also where the memory cannot be mapped anew.
 */
int cached_set_buffer(cached *c, const char *cache, const void *key, size_t n_key,
                      cached_buffer *buffer, uint64_t n_value, const cached_set_options *o,
                      cached_reply **ret);

/*
 * cached_buffer_free() - frees a buffer, stored or not; its memory is not to be touched any more
 * @b:  may be NULL. What was stored stays
 */
void cached_buffer_free(cached_buffer *b);

/*
 * cached_set_fd() - stores a part of a file
 * @c:       any thread
 * @cache:   created with an empty policy if it is unknown
 * @key:     @n_key bytes
 * @fd:      borrowed for the call. A memory file that is sealed against writing, growing and
 *           shrinking, and has exactly @size bytes, is handed over as it is; of anything else that
 *           can be read the bytes are copied, with little memory of this process
 * @offset:  where they begin; 0 where @fd has no position (a pipe, a socket)
 * @size:    how many bytes
 * @o:       NULL: the defaults
 * @ret:     cached_reply_version() is the new entry's
 *
 * Reading @fd takes as long as it takes, and the handle's timeout is for what follows. Its position
 * stays, if it has one. What is copied of a file that others write to meanwhile is up to them.
 *
 * Return: as cached_set(); CACHED_ERR_USAGE also where @fd ends early or cannot be read;
 * CACHED_ERR_NOMEM also where there is no memory for the copy.
 */
int cached_set_fd(cached *c, const char *cache, const void *key, size_t n_key, int fd,
                  uint64_t offset, uint64_t size, const cached_set_options *o, cached_reply **ret);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
