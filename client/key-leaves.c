/* SPDX-License-Identifier: MIT */
/*
 * Leaves on several processors
 *
 * A window of leaves is hashed at a time: the caller's thread and its helpers take the next leaf
 * from a counter until none is left, the digests land in an array on the caller's stack, and enter
 * the root in order. Helpers live within one window: they are made with all signals blocked, touch
 * the window alone, and are joined before it goes. A helper that cannot be made is done without.
 *
 * The caller cannot be cancelled meanwhile: its stack is theirs. Making a thread takes some 50 µs
 * and a leaf more than 1000, so a pool that outlives the call (and would have to survive fork) is
 * not worth it.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

#include "client/key-tree.h"
#include "client/key.h"

#define WINDOW_LEAVES 256
/* Hashing needs less than 4 KiB; what the C library puts on a stack, and sanitizers, need more. */
#define HELPER_STACK_SIZE ((size_t)256 << 10)

unsigned key_processors(void)
{
        cpu_set_t set;
        int n;

        /* Fails where there are more processors than a cpu_set_t has: then all of them are many. */
        if (sched_getaffinity(0, sizeof(set), &set) < 0)
                return CACHED_KEY_THREADS_MAX;
        n = CPU_COUNT(&set);
        return n < CACHED_KEY_THREADS_MAX ? (unsigned)n : CACHED_KEY_THREADS_MAX;
}

struct window {
        const uint8_t *bytes;
        size_t n; /* bytes */
        atomic_size_t next;
        uint8_t digests[WINDOW_LEAVES][KEY_DIGEST_SIZE];
};

static void *hash_leaves(void *arg)
{
        struct window *w = arg;
        struct key_hash leaf;

        for (;;) {
                size_t i = atomic_fetch_add_explicit(&w->next, 1, memory_order_relaxed);
                size_t at = i * KEY_LEAF_SIZE;

                if (at >= w->n)
                        return NULL;
                key_hash_init(&leaf, KEY_PURPOSE_LEAF);
                key_hash_add(&leaf, w->bytes + at,
                             w->n - at < KEY_LEAF_SIZE ? w->n - at : KEY_LEAF_SIZE);
                key_hash_end(&leaf, w->digests[i]);
        }
}

/* Makes up to @wanted helpers; how many there are. */
static unsigned start_helpers(struct window *w, pthread_t *helpers, unsigned wanted)
{
        pthread_attr_t attr;
        sigset_t all, before;
        unsigned n = 0;

        if (pthread_attr_init(&attr) != 0)
                return 0;
        /* They inherit it. An attribute of theirs may say so, too, and only from glibc 2.32 on. */
        sigfillset(&all);
        if (pthread_attr_setstacksize(&attr, HELPER_STACK_SIZE) == 0 &&
            pthread_sigmask(SIG_SETMASK, &all, &before) == 0) {
                while (n < wanted && pthread_create(&helpers[n], &attr, hash_leaves, w) == 0)
                        n++;
                pthread_sigmask(SIG_SETMASK, &before, NULL);
        }
        pthread_attr_destroy(&attr);
        return n;
}

static void hash_window(struct window *w, unsigned threads)
{
        pthread_t helpers[CACHED_KEY_THREADS_MAX - 1];
        unsigned n_helpers;
        int cancel_state;

        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
        n_helpers = start_helpers(w, helpers, threads - 1);
        hash_leaves(w);
        for (unsigned i = 0; i < n_helpers; i++)
                pthread_join(helpers[i], NULL);
        pthread_setcancelstate(cancel_state, NULL);
}

void key_leaves_add(struct key_hash *root, const uint8_t *bytes, size_t n, unsigned threads)
{
        struct window w;

        if (threads > CACHED_KEY_THREADS_MAX)
                threads = CACHED_KEY_THREADS_MAX;
        while (n > 0) {
                size_t leaves;

                w.bytes = bytes;
                w.n = n < WINDOW_LEAVES * KEY_LEAF_SIZE ? n : WINDOW_LEAVES * KEY_LEAF_SIZE;
                atomic_init(&w.next, 0);
                leaves = (w.n - 1) / KEY_LEAF_SIZE + 1;
                /* A short last leaf is not worth a thread of its own. */
                if (threads > 1 && w.n >= 2 * KEY_LEAF_SIZE)
                        hash_window(&w, threads < leaves ? threads : (unsigned)leaves);
                else
                        hash_leaves(&w);
                key_hash_add(root, w.digests, leaves * KEY_DIGEST_SIZE);
                bytes += w.n;
                n -= w.n;
        }
}
