/* SPDX-License-Identifier: MIT */
/*
 * Stores and reads values of all sizes by every way that the library has, and looks at each byte
 *
 *     verify SOCKET SECONDS SEED
 *
 * A value begins with its key, its length and a checksum of the rest, so that a torn one, another
 * key's, and one that somebody changed show. A private view is written to, and the next view must
 * not show that. What others do to the same daemon meanwhile is their affair; refusals for want of
 * room are none of a failure. Any number of these run side by side on the same keys.
 *
 * Prints one line at the end: stores, hits, misses, refused. Status 0; 1 if anything was wrong: the
 * first is told on stderr.
 */
#include <cached-large.h>
#include <cached.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define CACHE     "verify"
#define KEYS      16u
#define SIZE_MIN  (UINT64_C(4) << 10)
#define SIZE_MAX_ (UINT64_C(64) << 20)

struct head {
        uint64_t key, size, sum, unused;
};

struct run {
        cached *c;
        uint64_t random, stores, hits, misses, refused, wrong;
        uint8_t *memory; /* of SIZE_MAX_ bytes: what is stored from */
};

static uint64_t next(struct run *r)
{
        r->random ^= r->random << 13;
        r->random ^= r->random >> 7;
        r->random ^= r->random << 17;
        return r->random;
}

static double now(void)
{
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void complain(struct run *r, const char *what, uint64_t key, int code)
{
        if (r->wrong++ == 0)
                fprintf(stderr, "verify: %s, key %llu: %s\n", what, (unsigned long long)key,
                        cached_strerror(code));
}

/* Small ones are frequent: each power of two is as likely, and the largest four far rarer. */
static uint64_t random_size(struct run *r)
{
        unsigned powers = next(r) % 16 == 0 ? 14 : 10;
        uint64_t base = SIZE_MIN << next(r) % powers;
        uint64_t size = base + next(r) % base;
        return size < SIZE_MAX_ ? size : SIZE_MAX_;
}

/* What packs and what does not. */
static void fill(struct run *r, uint8_t *to, uint64_t key, uint64_t size)
{
        uint64_t word = next(r), step = next(r) % 2 ? UINT64_C(0x9e3779b97f4a7c15) : 0;
        for (uint64_t at = sizeof(struct head); at + 8 <= size; at += 8) {
                memcpy(to + at, &word, 8);
                word = (word + step) ^ (word >> (step ? 29 : 64 - 1));
        }
        memset(to + size / 8 * 8, 7, size % 8);
        struct head h = {.key = key, .size = size};
        h.sum = XXH3_64bits(to + sizeof(h), size - sizeof(h));
        memcpy(to, &h, sizeof(h));
}

static void check(struct run *r, const char *how, const uint8_t *value, uint64_t n, uint64_t key)
{
        struct head h;
        if (!value || n < SIZE_MIN) {
                complain(r, "a value that nobody stored", key, 0);
                return;
        }
        memcpy(&h, value, sizeof(h));
        if (h.key != key || h.size != n || h.sum != XXH3_64bits(value + sizeof(h), n - sizeof(h)))
                complain(r, how, key, 0);
        r->hits++;
}

static int by_buffer(struct run *r, uint64_t key, uint64_t size)
{
        cached_buffer *b;
        if (next(r) % 4 == 0)
                (void)cached_buffers_prepare(r->c, size, 1);
        int code = cached_buffer_new(r->c, size, &b);
        if (code != CACHED_OK)
                return code;
        fill(r, cached_buffer_data(b), key, size);
        code = cached_set_buffer(r->c, CACHE, &key, sizeof(key), b, size, NULL, NULL);
        uint8_t *mine = cached_buffer_data(b);
        if (mine)
                memset(mine, 0xee, size < 65536 ? size : 65536); /* ours alone by now */
        cached_buffer_free(b);
        return code;
}

static int by_file(struct run *r, uint64_t key, uint64_t size)
{
        int fd = memfd_create("verify", MFD_CLOEXEC | MFD_ALLOW_SEALING), code = CACHED_ERR_NOMEM;
        fill(r, r->memory, key, size);
        if (fd < 0)
                return code;
        uint64_t at = 0;
        for (ssize_t n; at < size && (n = write(fd, r->memory + at, size - at)) > 0;)
                at += (uint64_t)n;
        /* Sealed it is handed over, else copied. */
        if (next(r) % 2)
                (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
        if (at == size)
                code = cached_set_fd(r->c, CACHE, &key, sizeof(key), fd, 0, size, NULL, NULL);
        close(fd);
        return code;
}

static int by_memory(struct run *r, uint64_t key, uint64_t size)
{
        fill(r, r->memory, key, size);
        return cached_set(r->c, CACHE, &key, sizeof(key), r->memory, size, NULL, NULL);
}

static void store(struct run *r, uint64_t key)
{
        uint64_t size = random_size(r);
        unsigned way = next(r) % 5;
        int code = way == 0   ? by_buffer(r, key, size)
                   : way == 1 ? by_file(r, key, size)
                              : by_memory(r, key, size);
        if (code == CACHED_OK)
                r->stores++;
        else if (code == CACHED_NO_SPACE || code == CACHED_TOO_LARGE || code == CACHED_LIMIT)
                r->refused++;
        else
                complain(r, "storing failed", key, code);
}

static void look_private(struct run *r, uint64_t key)
{
        cached_view *v;
        int code = cached_get_view(r->c, CACHE, &key, sizeof(key), CACHED_VIEW_PRIVATE, &v, NULL);
        if (code != CACHED_OK) {
                r->misses++;
                if (code != CACHED_NOT_FOUND)
                        complain(r, "a private view failed", key, code);
                return;
        }
        uint8_t *data = cached_view_data(v);
        uint64_t n = cached_view_size(v);
        check(r, "a private view is wrong", data, n, key);
        for (unsigned i = 0; i < 16 && n > 0; i++)
                data[next(r) % n] ^= 0xff;
        cached_view_release(v);
}

static void look(struct run *r, uint64_t key, cached_view **kept)
{
        cached_view *v;
        int code = cached_get_view(r->c, CACHE, &key, sizeof(key), CACHED_VIEW_READ, &v, NULL);
        if (code != CACHED_OK) {
                r->misses++;
                if (code != CACHED_NOT_FOUND)
                        complain(r, "a view failed", key, code);
                return;
        }
        check(r, "a view is wrong", cached_view_data(v), cached_view_size(v), key);
        /* Some stay, beyond the life of their entries. */
        if (*kept) {
                struct head h;
                memcpy(&h, cached_view_data(*kept), sizeof(h));
                check(r, "a view that was kept is wrong", cached_view_data(*kept),
                      cached_view_size(*kept), h.key);
                cached_view_release(*kept);
        }
        *kept = v;
}

static void get(struct run *r, uint64_t key)
{
        cached_reply *reply;
        size_t n = 0;
        int code = cached_get(r->c, CACHE, &key, sizeof(key), &reply);
        if (code == CACHED_OK)
                check(r, "a copy is wrong", cached_reply_value(reply, &n),
                      cached_reply_value(reply, &n) ? n : 0, key);
        else if (code == CACHED_NOT_FOUND)
                r->misses++;
        else
                complain(r, "a get failed", key, code);
        cached_reply_free(reply);
}

static void run(struct run *r, double until)
{
        cached_view *kept = NULL;
        while (now() < until && r->wrong == 0) {
                uint64_t key = next(r) % KEYS;
                switch (next(r) % 6) {
                case 0:
                case 1:
                        store(r, key);
                        break;
                case 2:
                        look_private(r, key);
                        break;
                case 3:
                case 4:
                        look(r, key, &kept);
                        break;
                default:
                        get(r, key);
                }
        }
        cached_view_release(kept);
}

int main(int argc, char **argv)
{
        struct run r = {0};
        cached_options *o = cached_options_new();
        if (argc != 4 || !o)
                return 2;
        r.random = strtoull(argv[3], NULL, 10) * 2654435761u + 1;
        r.memory = malloc(SIZE_MAX_);
        int code = cached_options_set_socket(o, argv[1]);
        if (code == CACHED_OK)
                code = cached_options_set_timeout_ms(o, 120000);
        if (code == CACHED_OK)
                code = cached_new(o, &r.c);
        cached_options_free(o);
        if (code != CACHED_OK || !r.memory) {
                free(r.memory);
                return 2;
        }
        run(&r, now() + strtod(argv[2], NULL));
        cached_free(r.c);
        free(r.memory);
        printf("stores=%llu hits=%llu misses=%llu refused=%llu\n", (unsigned long long)r.stores,
               (unsigned long long)r.hits, (unsigned long long)r.misses,
               (unsigned long long)r.refused);
        return r.wrong == 0 ? 0 : 1;
}
