/* SPDX-License-Identifier: MIT */
#ifndef CACHED_H
#include "cached.h" /* includes this one, too, and all in their order */
#endif
#ifndef CACHED_VARY_H
#define CACHED_VARY_H

/*
 * Memoizing a function that finds out only while it runs what it depends on
 *
 *         static int render(void *data, cached_result *out)
 *         {
 *                 const void *theme, *fonts;
 *                 size_t n;
 *                 int code = cached_input("file:theme", &theme, &n);
 *
 *                 if (code == CACHED_OK && uses_fonts(theme, n))
 *                         code = cached_input("file:fonts", &fonts, &n);
 *                 ...
 *         }
 *
 *         cached_inputs *in = cached_inputs_new();
 *         cached_inputs_add(in, NULL, hash_of_file, NULL);
 *         code = cached_memoize_vary(c, "render", k, in, render, &job, NULL, &r);
 *
 * An input has a name and, at any moment, a value: bytes, for example the digest of a file, a
 * version, a setting. The function reads its inputs by cached_input(), which calls the getter that
 * is registered for the name. A later look-up calls the getters of the inputs that were read, in
 * the order in which they were read, and finds the value that belongs to what they give now. An
 * input that is read under some condition only counts where that condition held.
 *
 * In between nothing may depend on what is neither an argument nor an input. Within one call each
 * input is read once, in the look-up or in the run, and stays the same.
 *
 * Up to 64 inputs are followed. A run that reads more, or one whose inputs nobody has a getter for,
 * is not stored. A getter that fails makes the call fail: without its inputs nobody can tell which
 * value is right.
 *
 * All of them are entries of the cache and count as such; `cachectl explain` of the function's key
 * says which input multiplies them.
 */

#include "cached-memoize.h"

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library itself is built with hidden visibility */
#endif

typedef struct cached_inputs cached_inputs; /* what a function may depend on */

/*
 * cached_getter - reads an input
 * @data:  what cached_inputs_add() was given
 * @name:  the input's; borrowed for the call
 * @out:   takes the value: cached_result_set() or cached_result_take(); without either it is empty.
 *         Borrowed for the call. Long values are a matter of time: a digest serves as well
 *
 * Runs in the thread of the call, without locks held. It may memoize; it reads no inputs itself:
 * cached_input() is for functions.
 *
 * Return: CACHED_OK; any other code: it cannot be read, and the call fails with that. Use numbers
 * below 0, or CACHED_ERR_CALLER and above.
 */
typedef int (*cached_getter)(void *data, const char *name, cached_result *out);

/*
 * cached_inputs_new() - no inputs
 *
 * Return: owned by the caller, freed with cached_inputs_free(); NULL: out of memory.
 */
cached_inputs *cached_inputs_new(void);

/*
 * cached_inputs_free() - frees inputs
 * @in:  may be NULL; no call that uses them is running
 */
void cached_inputs_free(cached_inputs *in);

/*
 * cached_inputs_add() - says how an input is read
 * @in:    by one thread at a time
 * @name:  copied; UTF-8 without control characters, 1 to 128 bytes. NULL: any name that no other
 *         getter is for
 * @get:   reads it
 * @data:  for @get
 *
 * Return: CACHED_OK; CACHED_ERR_NOMEM; CACHED_ERR_USAGE: a pointer is NULL, the name is none, or
 * there is a getter for it. Then nothing changed.
 */
int cached_inputs_add(cached_inputs *in, const char *name, cached_getter get, void *data);

/*
 * cached_memoize_vary() - as cached_memoize(), for a function that reads inputs
 * @c:          any thread; NULL: there is no cache, it is computed
 * @name:       the function's: UTF-8 without control characters, 1 to 128 bytes
 * @arguments:  what the function depends on in any case; as of cached_memoize()
 * @inputs:     what it may depend on besides; not changed while calls use them. NULL: nothing
 * @compute:    runs on a miss, within this call
 * @data:       for @compute; may be NULL
 * @o:          NULL: the defaults
 * @ret:        as of cached_memoize()
 *
 * Memoize a function in this way or by cached_memoize(), and not in both.
 *
 * Return: as cached_memoize(); the code of a getter that failed, and then cached_result_error()
 * names the input: nothing was stored.
 */
int cached_memoize_vary(cached *c, const char *name, cached_key *arguments,
                        const cached_inputs *inputs, cached_compute compute, void *data,
                        const cached_memo_options *o, cached_result **ret);

/*
 * cached_input() - the value of an input, from inside a function that cached_memoize_vary() runs
 * @name:      UTF-8 without control characters, 1 to 128 bytes
 * @ret:       owned by the call of cached_memoize_vary(), valid until the function returns; not
 * NULL for an empty value; untouched on failure. NULL: not interested
 * @ret_size:  bytes; may be NULL
 *
 * In the function's own thread only.
 *
 * Return: CACHED_OK; what the getter returned, if that is another: the call fails with it, whatever
 * the function does then; CACHED_LIMIT: it read far too many; CACHED_ERR_NOMEM; CACHED_ERR_USAGE:
 * nobody has a getter for the name, or this thread is in no such function, or in a getter.
 */
int cached_input(const char *name, const void **ret, size_t *ret_size);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
