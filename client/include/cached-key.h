/* SPDX-License-Identifier: MIT */
#ifndef CACHED_KEY_H
#define CACHED_KEY_H

/*
 * Keys: 32 bytes that stand for any sequence of typed values
 *
 * A key for cached_get() and its kin is 1 to 64 bytes. What it should stand for, the name of a
 * function and its arguments, is longer and has structure. A builder takes that as a sequence of
 * *items* and gives the BLAKE2b-256 digest of an encoding in which different sequences always
 * differ: ("ab", "c") is not ("a", "bc"), and 1, 1.0, "1", the byte 0x31, true and null are six
 * keys. proto/KEYS.md specifies the encoding byte by byte, proto/key-vectors.json has examples;
 * every language that follows them makes the same keys.
 *
 *         cached_key *k = cached_key_new();
 *         cached_key_add_text(k, "load_table", 10);
 *         cached_key_add_int(k, 2024);
 *         if (cached_key_finish(k, digest) != CACHED_OK)
 *                 fprintf(stderr, "%s\n", cached_key_error(k));
 *         cached_key_free(k);
 *
 * Items: an item is one value, or a list, tuple, map, set or named type with everything up to the
 * cached_key_end() that closes it, or a buffer that is fed in pieces. Items follow each other on
 * the top level as they do in a list.
 *
 * Errors: the first one sticks. From then on every call on the builder returns its code and does
 * nothing, so the results of the calls before cached_key_finish() need not be looked at.
 * cached_key_error() says what was wrong, in which item of the top level, and what to do. Every
 * call may return CACHED_ERR_USAGE (the argument cannot be part of a key, or the call has no
 * business at this point) and CACHED_ERR_NOMEM; cached_key_reset() begins anew. Calls on a NULL
 * builder return CACHED_ERR_USAGE, so that the result of cached_key_new() need not be looked at
 * either.
 *
 * Memory: constant, but for 32 bytes for each member of the sets and 64 bytes for each pair of the
 * maps that are open (and as much again while they grow), and up to 1 MiB for a buffer that is fed.
 *
 * Threads: a builder is used by one thread at a time.
 *
 * Fork: a builder is plain memory; in the child it goes on from where it was.
 *
 * Arguments: memory that is passed in is borrowed for the call and never kept. A pointer may be
 * NULL if its length is 0. Nothing here needs a daemon.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#ifdef __GNUC__
#pragma GCC visibility push(default) /* the library itself is built with hidden visibility */
#endif

typedef struct cached_key cached_key; /* makes keys of typed values */

#define CACHED_KEY_SIZE 32 /* bytes of a finished key */

/* Limits; KEYS.md has the same ones, so that a value has a key in all languages or in none. */
#define CACHED_KEY_DEPTH_MAX   64      /* lists in lists in maps ... */
#define CACHED_KEY_MEMBERS_MAX 4194304 /* of one set; keys and values of one map together */
#define CACHED_KEY_NAME_MAX    255     /* bytes of a type's, dtype's or zone's name */
#define CACHED_KEY_DIGITS_MAX  1048576 /* bytes of an integer's magnitude, of a decimal's text */
#define CACHED_KEY_DIMS_MAX    64      /* dimensions of an array */

#define CACHED_KEY_THREADS_MAX 16 /* of cached_key_set_threads() */

/* ---- the builder */

/*
 * cached_key_new() - a builder without items
 *
 * Return: owned by the caller, freed with cached_key_free(); NULL: out of memory. Any thread.
 */
cached_key *cached_key_new(void);

/*
 * cached_key_free() - frees a builder
 * @k:  may be NULL
 */
void cached_key_free(cached_key *k);

/*
 * cached_key_reset() - forgets all items and the error; keeps the number of threads
 * @k:  may be NULL
 *
 * Return: CACHED_OK; CACHED_ERR_USAGE: @k is NULL.
 */
int cached_key_reset(cached_key *k);

/*
 * cached_key_set_threads() - on how many threads large buffers are hashed
 * @k:  the builder
 * @n:  1 (default): on the caller's alone. 0: on as many as the process may use processors
 *      (sched_getaffinity()). At most CACHED_KEY_THREADS_MAX are used
 *
 * Changes the speed and never the key. It concerns pieces of 2 MiB and more. The additional threads
 * live within the call, take no signals, and touch nothing but the piece; where they cannot be had,
 * the caller's does the work. The default is 1 because a library should not make threads in a
 * process that did not ask for them.
 *
 * Return: CACHED_OK; the error that sticks.
 */
int cached_key_set_threads(cached_key *k, unsigned n);

/*
 * cached_key_finish() - the key of the items so far
 * @k:    nothing may be open; stays as it is: more items may follow, for another key
 * @ret:  CACHED_KEY_SIZE bytes; untouched on failure
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: something is open, or @ret is NULL.
 */
int cached_key_finish(cached_key *k, uint8_t *ret);

/*
 * cached_key_error() - what was wrong, and what to do
 * @k:  may be NULL: cached_key_new() failed
 *
 * Return: text that the builder owns, valid until cached_key_reset() or cached_key_free(); "" if
 * there was no error, never NULL.
 */
const char *cached_key_error(const cached_key *k);

/* ---- plain values */

/*
 * cached_key_add_null() - null, None, nil, NULL: no value
 * @k:  the builder
 *
 * Return: CACHED_OK; the error that sticks.
 */
int cached_key_add_null(cached_key *k);

/*
 * cached_key_add_bool() - true or false, which are not 1 and 0
 * @k:      the builder
 * @value:  not 0: true
 *
 * Return: CACHED_OK; the error that sticks.
 */
int cached_key_add_bool(cached_key *k, int value);

/*
 * cached_key_add_int() - an integer
 * @k:      the builder
 * @value:  the same key as with cached_key_add_uint() or cached_key_add_integer()
 *
 * Return: CACHED_OK; the error that sticks.
 */
int cached_key_add_int(cached_key *k, int64_t value);

/*
 * cached_key_add_uint() - an integer that may be above INT64_MAX
 * @k:      the builder
 * @value:  the same key as with cached_key_add_int() or cached_key_add_integer()
 *
 * Return: CACHED_OK; the error that sticks.
 */
int cached_key_add_uint(cached_key *k, uint64_t value);

/*
 * cached_key_add_integer() - an integer of any size
 * @k:          the builder
 * @negative:   not 0: the number is below zero (zero has no sign: it is ignored then)
 * @magnitude:  the absolute value, big-endian; zero bytes in front change nothing
 * @n:          bytes of @magnitude, at most CACHED_KEY_DIGITS_MAX; 0: zero
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: too long.
 */
int cached_key_add_integer(cached_key *k, int negative, const void *magnitude, size_t n);

/*
 * cached_key_add_double() - a floating-point number
 * @k:      the builder
 * @value:  any; all NaNs are one key; -0.0 and 0.0 are two: a function can tell them apart, and a
 *          miss too many costs time where a hit too many is a wrong result
 *
 * A float is converted without loss and has the key of the double. An array keeps its type.
 *
 * Return: CACHED_OK; the error that sticks.
 */
int cached_key_add_double(cached_key *k, double value);

/*
 * cached_key_add_text() - characters
 * @k:     the builder
 * @text:  UTF-8 in its shortest form, without surrogates; zero bytes are characters, too. It is not
 *         normalised: what looks alike and has other code points is another key
 * @n:     bytes of @text
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: not UTF-8 (the error says where).
 */
int cached_key_add_text(cached_key *k, const char *text, size_t n);

/*
 * cached_key_add_bytes() - bytes
 * @k:      the builder
 * @bytes:  any; over 1 MiB they are hashed as a tree, on cached_key_set_threads() threads
 * @n:      bytes
 *
 * Return: CACHED_OK; the error that sticks.
 */
int cached_key_add_bytes(cached_key *k, const void *bytes, size_t n);

/*
 * cached_key_add_uuid() - a UUID
 * @k:     the builder
 * @uuid:  16 bytes, in the order in which they are written
 *
 * Return: CACHED_OK; the error that sticks.
 */
int cached_key_add_uuid(cached_key *k, const void *uuid);

/*
 * cached_key_add_decimal() - a decimal number, as it is written
 * @k:     the builder
 * @text:  "-12.50", "1.5E+3", ".5", "Infinity", "-inf", "nan"; letters in any case. "1.0" and
 *         "10E-1" are one key, ten tenths; "1.00" is another. -0 and 0 are two, all NaNs are one
 * @n:     bytes of @text, at most CACHED_KEY_DIGITS_MAX
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: not a decimal number, too long, or an
 * exponent beyond 64 bits.
 */
int cached_key_add_decimal(cached_key *k, const char *text, size_t n);

/* ---- dates and times: the Gregorian calendar, also before it was in use */

/*
 * cached_key_add_date() - a day
 * @k:      the builder
 * @year:   0 is the year before 1
 * @month:  1 to 12
 * @day:    1 to the month's last
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: there is no such day.
 */
int cached_key_add_date(cached_key *k, int32_t year, int month, int day);

/*
 * cached_key_add_time() - a time of day, without a zone
 * @k:           the builder
 * @hour:        0 to 23
 * @minute:      0 to 59
 * @second:      0 to 60 (a leap second)
 * @nanosecond:  0 to 999,999,999
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: out of range.
 */
int cached_key_add_time(cached_key *k, int hour, int minute, int second, int32_t nanosecond);

/*
 * cached_key_add_time_zone() - a time of day in a zone
 * @k:           the builder
 * @hour:        0 to 23
 * @minute:      0 to 59
 * @second:      0 to 60
 * @nanosecond:  0 to 999,999,999
 * @offset_s:    seconds east of UTC, less than a day either way
 * @zone:        the zone's name, UTF-8; without one only its offset is known
 * @n_zone:      bytes of @zone, at most CACHED_KEY_NAME_MAX; 0: it has none
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: out of range.
 */
int cached_key_add_time_zone(cached_key *k, int hour, int minute, int second, int32_t nanosecond,
                             int32_t offset_s, const char *zone, size_t n_zone);

/*
 * cached_key_add_datetime() - a day and a time, without a zone
 * @k:           the builder
 * @year:        0 is the year before 1
 * @month:       1 to 12
 * @day:         1 to the month's last
 * @hour:        0 to 23
 * @minute:      0 to 59
 * @second:      0 to 60
 * @nanosecond:  0 to 999,999,999
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: out of range.
 */
int cached_key_add_datetime(cached_key *k, int32_t year, int month, int day, int hour, int minute,
                            int second, int32_t nanosecond);

/*
 * cached_key_add_datetime_zone() - a day and a time in a zone, as the clocks there show it
 * @k:           the builder
 * @year:        0 is the year before 1
 * @month:       1 to 12
 * @day:         1 to the month's last
 * @hour:        0 to 23
 * @minute:      0 to 59
 * @second:      0 to 60
 * @nanosecond:  0 to 999,999,999
 * @offset_s:    seconds east of UTC at that moment, less than a day either way
 * @zone:        the zone's name, UTF-8, "Europe/Berlin"; without one only its offset is known
 * @n_zone:      bytes of @zone, at most CACHED_KEY_NAME_MAX; 0: it has none
 *
 * One moment in two zones is two keys: it prints differently, and a day later may be another
 * moment. Convert to UTC first where only the moment matters.
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: out of range.
 */
int cached_key_add_datetime_zone(cached_key *k, int32_t year, int month, int day, int hour,
                                 int minute, int second, int32_t nanosecond, int32_t offset_s,
                                 const char *zone, size_t n_zone);

/*
 * cached_key_add_duration() - a length of time
 * @k:           the builder
 * @seconds:     may be negative
 * @nanosecond:  0 to 999,999,999, added to @seconds: -0.5 s is -1 and 500,000,000
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: out of range.
 */
int cached_key_add_duration(cached_key *k, int64_t seconds, int32_t nanosecond);

/* ---- arrays, and data that is not in one piece */

/*
 * cached_key_add_array() - an array of numbers or records of one width
 * @k:        the builder
 * @dtype:    the elements' type, UTF-8, as NumPy writes it: "<f8", "|u1", ">i4", "<M8[ns]"
 * @n_dtype:  bytes of @dtype, 1 to CACHED_KEY_NAME_MAX
 * @n_dims:   dimensions, at most CACHED_KEY_DIMS_MAX; 0: one element and no dimension
 * @dims:     @n_dims extents; may be NULL if there are none
 * @data:     the elements, the last dimension's next to each other, without gaps. They are taken as
 *            bytes: each NaN is itself
 * @n:        bytes of @data: the same whole number for each element
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: @n does not fit @dims, or out of
 * range.
 */
int cached_key_add_array(cached_key *k, const char *dtype, size_t n_dtype, size_t n_dims,
                         const uint64_t *dims, const void *data, size_t n);

/*
 * cached_key_begin_bytes() - bytes that come in pieces, by cached_key_feed(), up to
 * cached_key_end()
 * @k:  the builder
 *
 * The key is that of cached_key_add_bytes() with all of them, however they are cut.
 *
 * Return: CACHED_OK; the error that sticks.
 */
int cached_key_begin_bytes(cached_key *k);

/*
 * cached_key_begin_array() - an array whose data comes in pieces, by cached_key_feed(), up to
 * cached_key_end()
 * @k:        the builder
 * @dtype:    as of cached_key_add_array()
 * @n_dtype:  bytes of @dtype
 * @n_dims:   dimensions
 * @dims:     @n_dims extents; may be NULL if there are none
 *
 * Return: as of cached_key_add_array(); what the data's length must fit is checked at its end.
 */
int cached_key_begin_array(cached_key *k, const char *dtype, size_t n_dtype, size_t n_dims,
                           const uint64_t *dims);

/*
 * cached_key_feed() - the next piece of what cached_key_begin_bytes() or cached_key_begin_array()
 * began
 * @k:      the builder
 * @bytes:  any; pieces of several MiB use cached_key_set_threads() threads best
 * @n:      bytes; may be 0
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: nothing was begun.
 */
int cached_key_feed(cached_key *k, const void *bytes, size_t n);

/* ---- what holds other items */

/*
 * cached_key_begin_list() - items in order, up to cached_key_end()
 * @k:  the builder
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: too deep.
 */
int cached_key_begin_list(cached_key *k);

/*
 * cached_key_begin_tuple() - as a list, for languages that tell the two apart
 * @k:  the builder
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: too deep.
 */
int cached_key_begin_tuple(cached_key *k);

/*
 * cached_key_begin_map() - pairs in any order: a key, its value, a key, its value ..., up to
 * cached_key_end()
 * @k:  the builder
 *
 * Keys and values are items of any kind. The order in which the pairs come does not matter. Where
 * it should, use a list of tuples.
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: too deep. At the end: a key without a
 * value, or one that is there twice. On the way: more than CACHED_KEY_MEMBERS_MAX.
 */
int cached_key_begin_map(cached_key *k);

/*
 * cached_key_begin_set() - members in any order, up to cached_key_end()
 * @k:  the builder
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: too deep. At the end: a member that
 * is there twice. On the way: more than CACHED_KEY_MEMBERS_MAX.
 */
int cached_key_begin_set(cached_key *k);

/*
 * cached_key_begin_named() - a value of a type with a name: the items that make it up, up to
 * cached_key_end()
 * @k:     the builder
 * @name:  UTF-8; should be unique among the types that are used in keys: "shop.models.Order"
 * @n:     bytes of @name, 1 to CACHED_KEY_NAME_MAX
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: too deep, or the name is out of
 * range.
 */
int cached_key_begin_named(cached_key *k, const char *name, size_t n);

/*
 * cached_key_end() - closes what was begun last
 * @k:  the builder
 *
 * Return: CACHED_OK; the error that sticks; CACHED_ERR_USAGE: nothing is open, or what is told at
 * its beginning.
 */
int cached_key_end(cached_key *k);

#ifdef __GNUC__
#pragma GCC visibility pop
#endif
#ifdef __cplusplus
}
#endif

#endif
