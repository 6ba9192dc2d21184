/* SPDX-License-Identifier: MIT */
#ifndef RACY_H
#define RACY_H

/*
 * Memory that somebody may be writing
 *
 * What is read here may be torn, and counts only if a later look at a sequence counter says so.
 * ThreadSanitizer knows no fences: what is RACY is excused from it, and nothing else reads what is
 * not atomic.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Excused from ThreadSanitizer, which holds only for code that is not made part of other code. */
#if defined(__has_feature)
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || HAS_FEATURE(thread_sanitizer)
#define RACY __attribute__((no_sanitize("thread"), noinline, unused))
#else
#define RACY inline
#endif

typedef uint8_t bytes16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t word64 __attribute__((aligned(1), may_alias));
typedef uint32_t word32 __attribute__((aligned(1), may_alias));

#define RACY_LOAD(type, from)     (*(const volatile type *)(const void *)(from))
#define RACY_MOVE(type, to, from) (*(type *)(void *)(to) = RACY_LOAD(type, from))

/*
 * Copies bytes that somebody may be writing. The volatile loads keep the compiler from replacing
 * them by a call of memcpy(), which ThreadSanitizer would see, and from loading twice what was
 * checked. The last bytes are taken with the width of those before them, so some are copied twice.
 */
static RACY void racy_copy(void *to, const void *from, size_t n)
{
        uint8_t *t = to;
        const uint8_t *f = from;

        if (n >= 16) {
                size_t i = 0;

#if defined(__x86_64__)
                if (n >= 256) {
                        __asm__ volatile("rep movsb" : "+D"(t), "+S"(f), "+c"(n) : : "memory");
                        return;
                }
#endif
                for (; i + 16 <= n; i += 16)
                        RACY_MOVE(bytes16, t + i, f + i);
                RACY_MOVE(bytes16, t + n - 16, f + n - 16);
        } else if (n >= 8) {
                RACY_MOVE(word64, t, f);
                RACY_MOVE(word64, t + n - 8, f + n - 8);
        } else if (n >= 4) {
                RACY_MOVE(word32, t, f);
                RACY_MOVE(word32, t + n - 4, f + n - 4);
        } else {
                for (; n > 0; n--)
                        *t++ = RACY_LOAD(uint8_t, f++);
        }
}

/* Whether `n` bytes that somebody may be writing are these. */
static RACY bool racy_is(const void *from, const void *what, size_t n)
{
        const uint8_t *f = from, *w = what;
        uint64_t difference = 0;

        if (n >= 16) {
                typedef uint64_t words2 __attribute__((vector_size(16), aligned(1), may_alias));
                words2 d = {0};
                size_t i = 0;

                for (; i + 16 <= n; i += 16)
                        d |= RACY_LOAD(words2, f + i) ^ *(const words2 *)(const void *)(w + i);
                if (i < n)
                        d |= RACY_LOAD(words2, f + n - 16) ^
                             *(const words2 *)(const void *)(w + n - 16);
                difference = d[0] | d[1];
        } else if (n >= 8) {
                difference =
                        (RACY_LOAD(word64, f) ^ *(const word64 *)(const void *)w) |
                        (RACY_LOAD(word64, f + n - 8) ^ *(const word64 *)(const void *)(w + n - 8));
        } else {
                for (size_t i = 0; i < n; i++)
                        difference |= (uint64_t)(RACY_LOAD(uint8_t, f + i) ^ w[i]);
        }
        return difference == 0;
}

#endif
