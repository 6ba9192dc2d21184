/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_RESOURCE_H
#define CACHED_RESOURCE_H

/*
 * Resources: one live object, made once and shared by all processes
 *
 *     static int fill(cached_resource *r, void *data)
 *     {
 *             return load_weights(cached_resource_data(r), cached_resource_size(r)) ? 0 : -1;
 *     }
 *
 *     cached_resource_options_set_create(o, fill, NULL);
 *     cached_resource_acquire_segment(c, "models", "bert", 4, size, o, &r, NULL);
 *     use(cached_resource_data(r));
 *     cached_resource_release(r);
 *
 * Three kinds of object. A segment is memory that all its holders see and, unless its maker
 * published it read-only, write. A descriptor is an open file: a connected socket (stream,
 * datagram, seqpacket), a regular file, a pipe, an eventfd, a pidfd, a memory file. A local object
 * cannot leave its process: each process makes its own, once, and the daemon decides for all of
 * them when it ends.
 *
 * Whoever asks first makes it, everybody else waits and joins. It leaves its cache when its time to
 * live has passed, when others need its place, when somebody clears the cache or drops it, when a
 * check of its holders fails, when the other end of a socket closes, and when the owner of a
 * descriptor's lock is killed. It is not taken from who uses it then: the next one to ask gets
 * another one, and each holder is told once (cached_resource_options_set_on_release()).
 *
 * Sharing a socket means sharing one stream of bytes. That is right for a protocol in the clear
 * whose messages have ends that each user knows, used under the lock (cached_resource_lock()) from
 * one such end to another. It cannot work where a process keeps part of the connection's state to
 * itself: with TLS, whose keys are in the memory of who made the connection, and with libraries
 * that read ahead or adopt no open socket: such connections are local objects. Who was killed with
 * the lock may have been in the middle of a message, so the descriptor leaves with its owner; who
 * finds it out of step calls cached_resource_invalidate() before it unlocks; and whoever has the
 * lock next looks at cached_resource_has_left() first, and acquires anew if it has. All holders
 * share the position and the flags of a file, O_NONBLOCK too.
 *
 * A handle stands for its process: what it holds is known under the process's id, and given up when
 * the handle is freed or the process ends, however it does. With the first resource the handle
 * begins a thread, which keeps a connection to the daemon, is told what leaves, and comes again by
 * itself. While the daemon is away what is held stays in use, and can be acquired again by this
 * process; afterwards it is the cache's again: descriptors only if the daemon was replaced or had
 * its state preserved, all else in any case. So is the lock of a segment; that of a local object is
 * taken again unless somebody was faster.
 *
 * Every call may return one of the common codes; CACHED_UNSUPPORTED where the daemon is too old for
 * resources. Where a call takes @reply for a reply, that is owned by the caller, freed with
 * cached_reply_free(), and set on failure, too, unless memory ran out; NULL: not interested.
 *
 * Threads: any number may use one object, but for cached_resource_release(), which is the last
 * call. Where another thread waits for a resource or a lock while cached_free() is called, that
 * ends with CACHED_ERR_CLOSED. With the handle goes what it had: of a resource that is left then
 * cached_resource_release() frees the object alone, and nothing else may be called. Fork: a child
 * has the memory and the descriptors, and not the objects: it is another process, and acquires for
 * itself. There all calls return CACHED_ERR_USAGE or nothing, and cached_resource_release() frees
 * the object alone.
 */

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default)
#endif

typedef struct cached_resource cached_resource;                 /* one use of an instance */
typedef struct cached_resource_options cached_resource_options; /* how to get one */

/* ---- options */

/*
 * cached_resource_options_new() - how to get a resource: all at the defaults
 *
 * Return: owned by the caller, freed with cached_resource_options_free(); NULL: out of memory.
 */
cached_resource_options *cached_resource_options_new(void);

/*
 * cached_resource_options_free() - frees options
 * @o:  may be NULL
 */
void cached_resource_options_free(cached_resource_options *o);

/*
 * cached_resource_fn - what the library calls for an object
 * @r:     it; valid during the call
 * @data:  what was set with the function
 *
 * No lock of the library's is held: it may call whatever it likes, but not cached_free() of its
 * handle, nor cached_resource_release() of @r.
 *
 * Return: 0: done, or good; else it was not, or is not.
 */
typedef int (*cached_resource_fn)(cached_resource *r, void *data);

/*
 * cached_resource_options_set_create() - how the object is made
 * @o:     by one thread at a time
 * @fn:    segment: fills cached_resource_data(), which is zeroed; descriptor: calls
 *         cached_resource_give_fd(); local: calls cached_resource_give_object(). Returns 0; else
 *         it could not, and cached_resource_give_reason() says why to all who wait
 * @data:  for it
 *
 * Called in the thread that acquires, if that gets the right to make it. Without @fn (default) the
 * caller makes it himself: see cached_resource_acquire_segment().
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_resource_options_set_create(cached_resource_options *o, cached_resource_fn fn,
                                       void *data);

/*
 * cached_resource_options_set_validate() - a check at each access
 * @o:     by one thread at a time
 * @fn:    returns 0: it is good; else it leaves the cache for everybody, and is replaced
 * @data:  for it
 *
 * Called in the thread that acquires, of what was not made by it just now. If new ones fail the
 * check again and again, nobody makes any for a while, and acquiring is CACHED_ERR_CREATION.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_resource_options_set_validate(cached_resource_options *o, cached_resource_fn fn,
                                         void *data);

/*
 * cached_resource_options_set_on_release() - what to do with an object of which this process is rid
 * @o:     by one thread at a time
 * @fn:    e.g. closes a local object. What it returns does not count
 * @data:  for it
 *
 * Called once for an instance that this process has, with the functions of who got it first: when
 * it has left its cache and nobody in this process uses it any more, or else when the handle is
 * freed (then cached_resource_has_left() is 0); by the library's thread, by the one that releases
 * last, or by the one that frees the handle. Not called of a segment or a descriptor whose last use
 * in this process was released before it left: there is nothing of it here any more. Not called in
 * a child, nor if the process is killed. Nothing of another process waits for it.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_resource_options_set_on_release(cached_resource_options *o, cached_resource_fn fn,
                                           void *data);

/*
 * cached_resource_options_set_wait_ms() - how long to wait while another one makes it or uses it up
 * @o:   by one thread at a time
 * @ms:  0: not at all; UINT32_MAX (default): as long as it takes
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_resource_options_set_wait_ms(cached_resource_options *o, uint32_t ms);

/*
 * cached_resource_options_set_pool() - several objects for one key, each used by one at a time
 * @o:  by one thread at a time
 * @n:  at most so many, up to 4096; 0 (default): one object, which all share
 *
 * An object that is released is free for the next one, in whatever process. Not for local ones.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_resource_options_set_pool(cached_resource_options *o, uint32_t n);

/*
 * cached_resource_options_set_policy() - what holds for the cache from now on
 * @o:  by one thread at a time
 * @p:  copied; the time to live and the most entries count. NULL (default): nothing
 *
 * As with cached_open_cache(): it is the policy of the whole cache, the newest counts unless it is
 * pinned, and what is there keeps its time. So caches whose objects live differently long are
 * different caches.
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL; CACHED_ERR_NOMEM.
 */
int cached_resource_options_set_policy(cached_resource_options *o, const cached_policy *p);

/*
 * cached_resource_options_set_read_only() - a segment that nobody can change once it is made
 * @o:   by one thread at a time
 * @on:  counts for who makes it
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_resource_options_set_read_only(cached_resource_options *o, int on);

/*
 * cached_resource_options_set_no_create() - only what is there
 * @o:   by one thread at a time
 * @on:  what is not there is CACHED_NOT_FOUND
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @o is NULL.
 */
int cached_resource_options_set_no_create(cached_resource_options *o, int on);

/* ---- getting one */

/*
 * cached_resource_acquire_segment() - shared memory
 * @c:      must outlive the object
 * @cache:  1 to 255 bytes of UTF-8; made if it is not there
 * @key:    1 to 255 bytes of any kind
 * @n_key:  bytes
 * @size:   bytes, if it is to be made; what is there has its own. 0: 1 byte
 * @o:      NULL: all at the defaults
 * @ret:    owned by the caller, given back with cached_resource_release()
 * @reply:  what is known of it: fields of ResourceInfo
 *
 * Return: CACHED_OK: it is held. CACHED_NOT_FOUND: there is none; if *@ret is not NULL this process
 * has the right to make it: it is to fill it and call cached_resource_publish(), or
 * cached_resource_release() to leave it to others. CACHED_DEADLINE: another one is still at it, or
 * uses it: "holder_pid". CACHED_ERR_CREATION. CACHED_INVALID: another kind is there. CACHED_LIMIT,
 * CACHED_NO_SPACE: what there may be is there, and held.
 */
int cached_resource_acquire_segment(cached *c, const char *cache, const void *key, size_t n_key,
                                    size_t size, const cached_resource_options *o,
                                    cached_resource **ret, cached_reply **reply);

/*
 * cached_resource_acquire_descriptor() - an open file
 * @c:      must outlive the object
 * @cache:  1 to 255 bytes of UTF-8; made if it is not there
 * @key:    1 to 255 bytes of any kind
 * @n_key:  bytes
 * @o:      NULL: all at the defaults
 * @ret:    owned by the caller, given back with cached_resource_release()
 * @reply:  what is known of it: fields of ResourceInfo
 *
 * Return: as cached_resource_acquire_segment().
 */
int cached_resource_acquire_descriptor(cached *c, const char *cache, const void *key, size_t n_key,
                                       const cached_resource_options *o, cached_resource **ret,
                                       cached_reply **reply);

/*
 * cached_resource_acquire_local() - an object of this process's own
 * @c:      must outlive the object
 * @cache:  1 to 255 bytes of UTF-8; made if it is not there
 * @key:    1 to 255 bytes of any kind
 * @n_key:  bytes
 * @o:      NULL: all at the defaults
 * @ret:    owned by the caller, given back with cached_resource_release()
 * @reply:  what is known of it: fields of ResourceInfo
 *
 * Where the daemon is away the process makes and uses its own all the same, and tells it later. It
 * stays with the process when it is released, until it leaves its cache or the handle is freed.
 *
 * Return: as cached_resource_acquire_segment().
 */
int cached_resource_acquire_local(cached *c, const char *cache, const void *key, size_t n_key,
                                  const cached_resource_options *o, cached_resource **ret,
                                  cached_reply **reply);

/*
 * cached_resource_give_fd() - the descriptor that was made
 * @r:   one that is being made, of that kind
 * @fd:  consumed; the process uses cached_resource_fd() from now on
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE.
 */
int cached_resource_give_fd(cached_resource *r, int fd);

/*
 * cached_resource_give_size() - how large the segment is to be, where that was not known before
 * @r:     one that is being made, of that kind
 * @size:  bytes; 0: 1 byte
 *
 * What cached_resource_data() returned before is gone; what it returns now is zeroed.
 *
 * Return: CACHED_OK; CACHED_TOO_LARGE and CACHED_ERR_NOMEM: it has the size that it had;
 * CACHED_ERR_USAGE.
 */
int cached_resource_give_size(cached_resource *r, size_t size);

/*
 * cached_resource_give_object() - the local object that was made
 * @r:       one that is being made, of that kind
 * @object:  what cached_resource_object() returns from now on
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE.
 */
int cached_resource_give_object(cached_resource *r, void *object);

/*
 * cached_resource_give_reason() - why it could not be made, or is not good
 * @r:     may be NULL
 * @text:  up to 255 bytes of UTF-8; copied; longer text is cut
 */
void cached_resource_give_reason(cached_resource *r, const char *text);

/*
 * cached_resource_publish() - it is made: everybody can have it
 * @r:      one that is being made
 * @reply:  fields of ResourceInfo
 *
 * Return: CACHED_OK: it is held. Else it is still to be released. CACHED_INVALID: the daemon takes
 * no such descriptor; CACHED_NOT_FOUND: the right has ended, with the daemon that gave it.
 */
int cached_resource_publish(cached_resource *r, cached_reply **reply);

/*
 * cached_resource_release() - it is used no more
 * @r:  freed, with what its functions returned of it; unlocked first. May be NULL
 *
 * Of one that is being made: others may make it; all who wait fail if there is a reason.
 */
void cached_resource_release(cached_resource *r);

/*
 * cached_resource_invalidate() - it is not good any more: it leaves the cache, for everybody
 * @r:       is still to be released
 * @reason:  up to 255 bytes of UTF-8, for people; may be NULL
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: it had left.
 */
int cached_resource_invalidate(cached_resource *r, const char *reason);

/* ---- what it is */

/*
 * cached_resource_data() - a segment's memory
 * @r:  may be NULL
 *
 * At the start of a page. Others write there at the same time: what belongs together is read and
 * written under the lock.
 *
 * Return: cached_resource_size() bytes, valid until @r is released; to be read only if it is
 * read-only. NULL: it is no segment.
 */
void *cached_resource_data(const cached_resource *r);

/*
 * cached_resource_size() - how large a segment is
 * @r:  may be NULL
 *
 * Return: bytes; 0: it is no segment.
 */
size_t cached_resource_size(const cached_resource *r);

/*
 * cached_resource_is_read_only() - whether it is a segment that nobody can change
 * @r:  may be NULL
 *
 * Return: 1: it is; else 0.
 */
int cached_resource_is_read_only(const cached_resource *r);

/*
 * cached_resource_fd() - the open file of a descriptor
 * @r:  may be NULL
 *
 * Return: valid until @r is released, and not to be closed; -1: it is none.
 */
int cached_resource_fd(const cached_resource *r);

/*
 * cached_resource_file() - the file behind it, e.g. for a program that is to inherit it
 * @r:  may be NULL
 *
 * Of a segment it is its memory file: 4096 bytes of head, then its data. What has a copy of it has
 * the object, whatever becomes of @r, and is no holder.
 *
 * Return: valid until @r is released, and not to be closed; of a descriptor, what
 * cached_resource_fd() is; -1: it is a local object, or has none yet.
 */
int cached_resource_file(const cached_resource *r);

/*
 * cached_resource_object() - what cached_resource_give_object() was given
 * @r:  may be NULL
 *
 * Return: the local object; NULL: it is none.
 */
void *cached_resource_object(const cached_resource *r);

/*
 * cached_resource_instance() - which one it is
 * @r:  may be NULL
 *
 * Return: a number that no other instance has; 0: it is not published, or the daemon does not know
 * it at present.
 */
uint64_t cached_resource_instance(const cached_resource *r);

/* Why an instance has left its cache. */
#define CACHED_RESOURCE_EXPIRED       1 /* its time to live has passed */
#define CACHED_RESOURCE_EVICTED       2 /* others needed its place */
#define CACHED_RESOURCE_CLEARED       3 /* its cache was cleared */
#define CACHED_RESOURCE_DROPPED       4 /* somebody dropped it */
#define CACHED_RESOURCE_REPLACED      5 /* there is another one */
#define CACHED_RESOURCE_INVALIDATED   6 /* a holder's check failed */
#define CACHED_RESOURCE_HUNG_UP       7 /* the other end of the socket has closed */
#define CACHED_RESOURCE_OWNER_DIED    8 /* who had its lock was killed in the middle of something */
#define CACHED_RESOURCE_UNCLAIMED     9 /* the daemon was replaced, and who had its lock is gone */
#define CACHED_RESOURCE_SESSION_ENDED 10 /* it was a session's, which has ended */

/*
 * cached_resource_has_left() - whether it has left its cache, as far as this process was told
 * @r:  by any thread; may be NULL
 *
 * It can be used all the same, but for a connection that is in the middle of a message. No call to
 * the daemon. With the lock of a descriptor or a local object it is known what was so when that was
 * locked: an owner that died, or called cached_resource_invalidate(), has been told of.
 *
 * Return: one of CACHED_RESOURCE_*; 0: it has not.
 */
int cached_resource_has_left(const cached_resource *r);

/*
 * cached_resource_left_fd() - for a loop that waits for that
 * @r:  one that is held; by any thread
 *
 * To be polled for reading, and for nothing else: the same for all of this process that have the
 * instance.
 *
 * Return: readable once it has left; valid until @r is released, and not to be closed. -1: @r is
 * not held, or there is no descriptor free.
 */
int cached_resource_left_fd(cached_resource *r);

/* ---- exclusive use */

/*
 * cached_resource_lock() - has it for its own
 * @r:        by any thread; no read-only segment. A local object's lock is one for all processes
 * @wait_ms:  0: not at all; UINT32_MAX: as long as it takes
 * @reply:    set on failure: with CACHED_DEADLINE "holder_pid" has the lock
 *
 * Among processes and threads, first come first served; who waits is not asked for by name: two
 * that wait for what the other one has end by their deadlines. A segment's lock that nobody has
 * takes no call to the daemon, and works while it is away. A lock ends with its process, even if
 * a child of that lives on.
 *
 * Return: CACHED_OK: it is locked. CACHED_OWNER_DIED: it is locked, and what it protects may be
 * half changed. CACHED_DEADLINE. CACHED_NOT_FOUND: it has left, since its lock's owner was killed.
 * CACHED_ERR_USAGE: @r has the lock already, or has none.
 */
int cached_resource_lock(cached_resource *r, uint32_t wait_ms, cached_reply **reply);

/*
 * cached_resource_unlock() - is done with it
 * @r:  which locked it
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: it is not locked by @r. With other codes the daemon does not
 * know it yet, and is told when it is there again.
 */
int cached_resource_unlock(cached_resource *r);

/*
 * cached_resource_generation() - how often a segment was changed, as its users count
 * @r:  by any thread; may be NULL
 *
 * Return: what cached_resource_changed() has counted, in all processes; 0: it is no segment.
 */
uint64_t cached_resource_generation(const cached_resource *r);

/*
 * cached_resource_changed() - counts a change of a segment that is not read-only
 * @r:  by any thread; may be NULL
 *
 * Return: the new count; 0: it is no segment.
 */
uint64_t cached_resource_changed(cached_resource *r);

/* ---- looking */

/*
 * cached_resource_list() - the resources of the realm, and who holds them
 * @c:          by any thread
 * @cache:      NULL: of all caches
 * @page_size:  0: as many as the daemon allows
 * @cursor:     0: from the start; else "next" of the page before
 * @ret:        fields of ListResourcesResult: "resources[0].cache", "resources[0].holders[0].pid"
 *              ..., "next"
 *
 * Return: CACHED_OK.
 */
int cached_resource_list(cached *c, const char *cache, uint32_t page_size, uint64_t cursor,
                         cached_reply **ret);

/*
 * cached_resource_drop() - out of its cache; its holders are told
 * @c:      by any thread
 * @cache:  its name
 * @key:    its key; all instances of a pool
 * @n_key:  bytes
 * @ret:    fields of DropResult: "resources", "holders"
 *
 * Return: CACHED_OK; CACHED_NOT_FOUND: there is none.
 */
int cached_resource_drop(cached *c, const char *cache, const void *key, size_t n_key,
                         cached_reply **ret);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
