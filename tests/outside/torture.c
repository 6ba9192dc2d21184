/* SPDX-License-Identifier: MIT */
/*
 * Readers at full speed, and writers that leave them no peace; every value says whose it is
 *
 *     torture SOCKET TIMEOUT_MS READERS THREADS WRITERS SEED
 *
 * So many processes read, each with a handle for so many threads; others write: overwrite with
 * values of other sizes, delete, let expire, fill a cache beyond its limits, clear, grow the index
 * and let it shrink. A value has its key, its number and a checksum in it, so that a torn one and
 * another key's show; and when it was stored for how long, so that one shows that is served too
 * late. One cache is only ever overwritten, and read so often that nothing of it is ever the least
 * recently used: whoever misses there has been told a lie. The daemon is whoever is there; it may
 * be stopped and killed.
 *
 * Commands on standard input: "counts" prints one line of numbers; "quiet" stops the writers, for
 * good; the end of the input ends all. Status: 0; or 1 if a process failed.
 *
 *   reads hits misses failed   calls; failed: the daemon was away
 *   wrong                      values that were never stored so: the first is told on stderr
 *   late                       hits after the time to live
 *   lost                       misses of what has always been there; an empty daemon makes some
 *   odd                        codes that have no business here: the first is told on stderr
 *   writes                     entries stored
 *   least                      the reads of the reader that did the fewest
 *   slowest_us                 the longest call of a reader so far, or that goes on now
 */

#include <cached.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define READERS_MAX 64u /* threads of all processes */
#define WRITERS_MAX 8u
#define VALUE_MAX   (200u << 10)
#define MANY        16u
#define WIDE        100000u /* keys of the cache that grows */
#define FLUSH       256u

struct reader_counts {
        _Alignas(64) atomic_ullong reads, hits, misses, failed, wrong, late, lost, odd;
        atomic_ullong slowest_us, began_us; /* 0: between two calls */
};

/* What readers must know of a writer to tell whether a value is served too late. */
struct writer_state {
        _Alignas(64) atomic_ullong first; /* number of the values that are being stored now */
        atomic_ullong began_ms;           /* 0: none are */
        atomic_ullong slowest_ms;         /* of those that have been stored */
        atomic_ullong writes, odd;
};

struct shared {
        atomic_bool quiet, end;
        atomic_bool is_pinned; /* all of the first cache has been stored */
        struct reader_counts readers[READERS_MAX];
        struct writer_state writers[WRITERS_MAX];
};

struct cache {
        const char *name;
        uint32_t n_keys;
        uint32_t share;  /* of 64 reads and writes */
        uint32_t ttl_ms; /* at most; 0: none */
        uint64_t max_entries, max_bytes;
        uint32_t n_value; /* typical; 0: anything */
};

static const struct cache caches[] = {
        {.name = "pinned", .n_keys = 256, .share = 8, .n_value = 200},
        {.name = "evicted", .n_keys = 3000, .share = 24, .max_entries = 500, .n_value = 100},
        {.name = "expires", .n_keys = 1000, .share = 12, .ttl_ms = 300, .n_value = 100},
        {.name = "long", .n_keys = 300, .share = 4, .max_bytes = 1 << 20},
        {.name = "wide", .n_keys = WIDE, .share = 16, .n_value = 24},
};
#define PINNED   (&caches[0])
#define N_CACHES (sizeof(caches) / sizeof(caches[0]))

static uint64_t rng_next(uint64_t *state)
{
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        return *state;
}

static uint64_t now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_BOOTTIME, &t);
        return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static _Noreturn void die(const char *what)
{
        fprintf(stderr, "torture: %s\n", what);
        _exit(1);
}

static cached *handle_new(const char *path, uint32_t timeout_ms, uint64_t compress_from)
{
        cached_options *o = cached_options_new();
        cached *c;

        if (!o || cached_options_set_socket(o, path) != CACHED_OK ||
            cached_options_set_timeout_ms(o, timeout_ms) != CACHED_OK ||
            cached_options_set_compression(o, compress_from) != CACHED_OK ||
            cached_new(o, &c) != CACHED_OK)
                die("no handle");
        cached_options_free(o);
        return c;
}

static const struct cache *choose_cache(uint64_t r)
{
        uint32_t at = (uint32_t)(r % 64);

        for (unsigned i = 0; i < N_CACHES; i++) {
                if (at < caches[i].share)
                        return &caches[i];
                at -= caches[i].share;
        }
        return &caches[0];
}

/* Half of all uses go to the first few. */
static uint32_t choose_key(const struct cache *t, uint64_t r)
{
        uint32_t n = (uint32_t)(r >> 20);

        return r >> 16 & 1 && t->n_keys > 32 ? n % 32 : n % t->n_keys;
}

/* ---------------------------------------------------------------------------------------- values
 */

struct stamp {
        uint64_t check; /* of all that follows */
        uint32_t cache, key;
        uint32_t n_value, writer;
        uint64_t number;
        uint64_t stored_ms, ttl_ms; /* when it was asked for; 0: never ends */
};

static void value_fill(uint8_t *v, struct stamp *s)
{
        memset(v, (int)(s->key * 31 + s->number), s->n_value);
        memcpy(v, s, sizeof(*s));
        s->check = XXH3_64bits(v + sizeof(s->check), s->n_value - sizeof(s->check));
        memcpy(v, s, sizeof(*s));
}

static bool value_holds(const uint8_t *v, size_t n, uint32_t cache, uint32_t key, struct stamp *ret)
{
        if (n < sizeof(*ret))
                return false;
        memcpy(ret, v, sizeof(*ret));
        return ret->n_value == n && ret->cache == cache && ret->key == key &&
               ret->writer < WRITERS_MAX &&
               ret->check == XXH3_64bits(v + sizeof(ret->check), n - sizeof(ret->check));
}

/* ---------------------------------------------------------------------------------------- readers
 */

struct reader {
        struct shared *sh;
        struct reader_counts *counts;
        cached *c;
        uint64_t rng;
        uint64_t reads, hits, misses, failed; /* since the last flush */
};

static void tell_once(atomic_ullong *counter, const char *what, unsigned long long a,
                      unsigned long long b)
{
        if (atomic_fetch_add(counter, 1) == 0)
                fprintf(stderr, "torture: %s: %llu %llu\n", what, a, b);
}

/* Served after its time? It was stored at the latest when the call that stored it ended. */
static bool is_late(const struct shared *sh, const struct stamp *s, uint64_t asked_ms)
{
        const struct writer_state *w = &sh->writers[s->writer];
        uint64_t began, slack;

        if (s->ttl_ms == 0)
                return false;
        /* In the opposite order of the writer: what is not under way any more has been counted. */
        began = atomic_load(&w->began_ms);
        if (began != 0 && s->number >= atomic_load(&w->first))
                return false;
        slack = atomic_load(&w->slowest_ms);
        return asked_ms >= s->stored_ms + s->ttl_ms + slack + 2;
}

static void check_value(struct reader *r, const struct cache *t, uint32_t key, const void *v,
                        size_t n, uint64_t asked_us)
{
        uint32_t cache = (uint32_t)(t - caches);
        struct stamp s;

        r->hits++;
        if (!v || !value_holds(v, n, cache, key, &s))
                tell_once(&r->counts->wrong, "a wrong value (key, bytes)", key, n);
        else if (is_late(r->sh, &s, asked_us / 1000))
                tell_once(&r->counts->late, "an expired value (key, ms after it was stored)", key,
                          asked_us / 1000 - s.stored_ms);
}

/* @must_hit: it was there before the call, and nobody takes it away. */
static void count_code(struct reader *r, int code, bool must_hit)
{
        switch (code) {
        case CACHED_OK:
                break;
        case CACHED_NOT_FOUND:
                r->misses++;
                if (must_hit)
                        atomic_fetch_add(&r->counts->lost, 1);
                break;
        case CACHED_ERR_UNREACHABLE:
        case CACHED_ERR_DISCONNECTED:
        case CACHED_ERR_TIMEOUT:
        case CACHED_OUTCOME_UNKNOWN:
        case CACHED_SHUTTING_DOWN:
                r->failed++;
                break;
        default:
                tell_once(&r->counts->odd, "a read's code", (unsigned)code, 0);
        }
}

static void read_one(struct reader *r, const struct cache *t, uint32_t key, uint64_t asked_us)
{
        bool must_hit = t == PINNED && atomic_load(&r->sh->is_pinned);
        cached_reply *reply;
        int code = cached_get(r->c, t->name, &key, sizeof(key), &reply);
        size_t n = 0;

        r->reads++;
        if (code == CACHED_OK) {
                const void *v = cached_reply_value(reply, &n);

                check_value(r, t, key, v, n, asked_us);
        }
        count_code(r, code, must_hit);
        cached_reply_free(reply);
}

static void read_many(struct reader *r, const struct cache *t, uint64_t asked_us)
{
        bool must_hit = t == PINNED && atomic_load(&r->sh->is_pinned);
        const void *keys[MANY];
        size_t n_keys[MANY];
        uint32_t key[MANY];
        cached_reply *reply;
        int code;

        for (unsigned i = 0; i < MANY; i++) {
                key[i] = choose_key(t, rng_next(&r->rng));
                keys[i] = &key[i];
                n_keys[i] = sizeof(key[i]);
        }
        code = cached_get_many(r->c, t->name, MANY, keys, n_keys, &reply);
        r->reads += MANY;
        if (code != CACHED_OK)
                count_code(r, code, must_hit);
        for (unsigned i = 0; code == CACHED_OK && i < MANY; i++) {
                int item = cached_reply_item_code(reply, i);
                size_t n = 0;

                if (item == CACHED_OK) {
                        const void *v = cached_reply_item_value(reply, i, &n);

                        check_value(r, t, key[i], v, n, asked_us);
                }
                if (item != CACHED_TOO_LARGE)
                        count_code(r, item, must_hit);
        }
        cached_reply_free(reply);
}

static void flush(struct reader *r)
{
        atomic_fetch_add(&r->counts->reads, r->reads);
        atomic_fetch_add(&r->counts->hits, r->hits);
        atomic_fetch_add(&r->counts->misses, r->misses);
        atomic_fetch_add(&r->counts->failed, r->failed);
        r->reads = r->hits = r->misses = r->failed = 0;
}

static void *read_on(void *data)
{
        struct reader *r = data;

        while (!atomic_load_explicit(&r->sh->end, memory_order_relaxed)) {
                uint64_t x = rng_next(&r->rng), asked = now_us(), took;
                const struct cache *t = choose_cache(x >> 6);

                atomic_store_explicit(&r->counts->began_us, asked, memory_order_relaxed);
                if (x % 64 == 0)
                        read_many(r, t, asked);
                else
                        read_one(r, t, choose_key(t, x), asked);
                took = now_us() - asked;
                atomic_store_explicit(&r->counts->began_us, 0, memory_order_relaxed);
                if (took > atomic_load_explicit(&r->counts->slowest_us, memory_order_relaxed))
                        atomic_store_explicit(&r->counts->slowest_us, took, memory_order_relaxed);
                if (r->reads >= FLUSH || took > 1000)
                        flush(r);
        }
        flush(r);
        return NULL;
}

static void reader_process(struct shared *sh, cached *c, unsigned first, unsigned n, uint64_t seed)
{
        pthread_t threads[READERS_MAX];
        struct reader r[READERS_MAX] = {{0}};

        for (unsigned i = 0; i < n; i++) {
                r[i] = (struct reader){.sh = sh,
                                       .counts = &sh->readers[first + i],
                                       .c = c,
                                       .rng = (seed + i) * UINT64_C(0x9e3779b97f4a7c15) | 1};
                if (i > 0 && pthread_create(&threads[i], NULL, read_on, &r[i]) != 0)
                        die("no thread");
        }
        (void)read_on(&r[0]);
        for (unsigned i = 1; i < n; i++)
                pthread_join(threads[i], NULL);
        cached_free(c);
}

/* ---------------------------------------------------------------------------------------- writers
 */

struct writer {
        struct shared *sh;
        struct writer_state *state;
        cached *c;
        cached_set_options *o;
        uint64_t rng, number;
        uint32_t self, wide; /* the next of the wide cache */
        uint8_t *values;     /* MANY of VALUE_MAX bytes */
};

static void count_write(struct writer *w, int code)
{
        switch (code) {
        case CACHED_OK:
        case CACHED_NOT_FOUND:
        case CACHED_ERR_UNREACHABLE:
        case CACHED_ERR_DISCONNECTED:
        case CACHED_ERR_TIMEOUT:
        case CACHED_OUTCOME_UNKNOWN:
        case CACHED_SHUTTING_DOWN:
        case CACHED_NO_SPACE: /* cleared faster than it can be given back */
        case CACHED_LIMIT:
                break;
        default:
                tell_once(&w->state->odd, "a writer's code", (unsigned)code, 0);
        }
}

static uint32_t choose_size(const struct cache *t, uint64_t r)
{
        uint32_t n = sizeof(struct stamp), x = (uint32_t)(r >> 16);

        if (t->n_value > 0)
                return n + x % (2 * t->n_value);
        return r % 64 == 0 ? n + x % (VALUE_MAX - n) : r % 8 == 0 ? n + x % 16000 : n + x % 500;
}

/* @first: of keys in a row; UINT32_MAX: random ones. */
static int store_many(struct writer *w, const struct cache *t, unsigned n, uint64_t ttl_ms,
                      uint32_t first)
{
        const void *keys[MANY], *values[MANY];
        size_t n_keys[MANY], n_values[MANY];
        uint32_t key[MANY];
        uint64_t began = now_us() / 1000, took;
        int code;

        /* Before any value of it can be seen. */
        atomic_store(&w->state->first, w->number);
        atomic_store(&w->state->began_ms, began);
        for (unsigned i = 0; i < n; i++) {
                uint64_t r = rng_next(&w->rng);
                uint8_t *v = w->values + (size_t)i * VALUE_MAX;
                struct stamp s = {.cache = (uint32_t)(t - caches),
                                  .key = choose_key(t, r),
                                  .n_value = choose_size(t, rng_next(&w->rng)),
                                  .writer = w->self,
                                  .number = w->number++,
                                  .stored_ms = began,
                                  .ttl_ms = ttl_ms};

                if (first != UINT32_MAX)
                        s.key = (first + i) % t->n_keys;
                value_fill(v, &s);
                key[i] = s.key;
                keys[i] = &key[i];
                n_keys[i] = sizeof(key[i]);
                values[i] = v;
                n_values[i] = s.n_value;
        }
        (void)cached_set_options_set_ttl_ms(w->o, ttl_ms ? ttl_ms : CACHED_NEVER);
        if (n == 1)
                code = cached_set(w->c, t->name, keys[0], n_keys[0], values[0], n_values[0], w->o,
                                  NULL);
        else
                code = cached_set_many(w->c, t->name, n, keys, n_keys, values, n_values, w->o,
                                       NULL);
        took = now_us() / 1000 - began;
        if (took > atomic_load(&w->state->slowest_ms))
                atomic_store(&w->state->slowest_ms, took);
        atomic_store(&w->state->began_ms, 0);
        if (code == CACHED_OK)
                atomic_fetch_add(&w->state->writes, n);
        count_write(w, code);
        return code;
}

static void store_some(struct writer *w, const struct cache *t, uint64_t r)
{
        unsigned n = r >> 12 & 1 ? 1 : MANY;

        (void)store_many(w, t, n, t->ttl_ms ? 1 + (r >> 32) % t->ttl_ms : 0,
                         t->n_keys == WIDE ? w->wide : UINT32_MAX);
        if (t->n_keys == WIDE)
                w->wide += n;
}

/* Until all of it is there. */
static void store_pinned(struct writer *w)
{
        for (uint32_t i = 0; i < PINNED->n_keys && !atomic_load(&w->sh->end);)
                if (store_many(w, PINNED, MANY, 0, i) == CACHED_OK)
                        i += MANY;
        atomic_store(&w->sh->is_pinned, true);
}

/* Nothing with a time to live gets another one: what the value says would not be true any more. */
static void change(struct writer *w)
{
        uint64_t r = rng_next(&w->rng);
        const struct cache *t = choose_cache(r >> 6);
        uint32_t key = choose_key(t, r);

        switch (r % 64) {
        case 0:
        case 1:
                if (t != PINNED)
                        count_write(w, cached_delete(w->c, t->name, &key, sizeof(key), NULL));
                break;
        case 2:
                count_write(w, cached_touch(w->c, t->name, &key, sizeof(key), 0, 1, NULL));
                break;
        case 3:
                if (t != PINNED && (r >> 40) % (t->n_keys == WIDE ? 128 : 16) == 0)
                        count_write(w, cached_clear(w->c, t->name, NULL));
                break;
        default:
                store_some(w, t, r);
        }
}

/* How caches are meant to be; a daemon that begins anew is told again. */
static void open_caches(struct writer *w)
{
        for (unsigned i = 0; i < N_CACHES; i++) {
                cached_policy *p = cached_policy_new();

                if (!p)
                        die("no memory");
                if (caches[i].max_entries)
                        (void)cached_policy_set_max_entries(p, caches[i].max_entries);
                if (caches[i].max_bytes)
                        (void)cached_policy_set_max_bytes(p, caches[i].max_bytes);
                count_write(w, cached_open_cache(w->c, caches[i].name, p, NULL));
                cached_policy_free(p);
        }
}

static void writer_process(struct shared *sh, cached *c, unsigned self, uint64_t seed)
{
        struct writer w = {.sh = sh,
                           .state = &sh->writers[self],
                           .c = c,
                           .o = cached_set_options_new(),
                           .rng = seed * UINT64_C(0x9e3779b97f4a7c15) | 1,
                           .number = 1,
                           .self = self,
                           .values = malloc((size_t)MANY * VALUE_MAX)};

        if (!w.values || !w.o)
                die("no memory");
        if (self == 0)
                store_pinned(&w);
        for (unsigned i = 0; !atomic_load(&sh->end) && !atomic_load(&sh->quiet); i++) {
                if (i % 1024 == 0)
                        open_caches(&w);
                if (i % 16 == 0)
                        (void)store_many(&w, PINNED, MANY, 0, i);
                change(&w);
        }
        cached_set_options_free(w.o);
        free(w.values);
        cached_free(c);
}

/* ------------------------------------------------------------------------------------ the program
 */

struct program {
        struct shared *sh;
        const char *socket;
        uint32_t timeout_ms, n_readers, n_threads, n_writers;
        uint64_t seed;
        pid_t pids[READERS_MAX + WRITERS_MAX];
        unsigned n_pids;
};

static void start_process(struct program *p, bool is_reader, unsigned i)
{
        pid_t pid = fork();

        if (pid < 0)
                die("no process");
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                fclose(stdin);
                if (is_reader)
                        reader_process(p->sh, handle_new(p->socket, p->timeout_ms, 0),
                                       i * p->n_threads, p->n_threads, p->seed + 100 * i);
                else
                        writer_process(p->sh,
                                       handle_new(p->socket, p->timeout_ms, i % 2 ? 0 : 4096), i,
                                       p->seed + 50 + 100 * i);
                exit(0);
        }
        p->pids[p->n_pids++] = pid;
}

static void print_counts(const struct program *p)
{
        unsigned long long sum[8] = {0}, slowest = 0, writes = 0, least = UINT64_MAX,
                           now = now_us();

        for (unsigned i = 0; i < p->n_readers * p->n_threads; i++) {
                struct reader_counts *c = &p->sh->readers[i];
                atomic_ullong *all[] = {&c->reads, &c->hits, &c->misses, &c->failed,
                                        &c->wrong, &c->late, &c->lost,   &c->odd};
                unsigned long long began = atomic_load(&c->began_us),
                                   longest = atomic_load(&c->slowest_us);

                for (unsigned j = 0; j < 8; j++)
                        sum[j] += atomic_load(all[j]);
                if (began != 0 && now > began && now - began > longest)
                        longest = now - began;
                if (longest > slowest)
                        slowest = longest;
                if (atomic_load(&c->reads) < least)
                        least = atomic_load(&c->reads);
        }
        for (unsigned i = 0; i < p->n_writers; i++) {
                writes += atomic_load(&p->sh->writers[i].writes);
                sum[7] += atomic_load(&p->sh->writers[i].odd);
        }
        printf("reads=%llu hits=%llu misses=%llu failed=%llu wrong=%llu late=%llu lost=%llu "
               "odd=%llu "
               "writes=%llu least=%llu slowest_us=%llu\n",
               sum[0], sum[1], sum[2], sum[3], sum[4], sum[5], sum[6], sum[7], writes, least,
               slowest);
        fflush(stdout);
}

int main(int argc, char **argv)
{
        struct program p = {0};
        int failed = 0;
        char line[64];

        if (argc != 7)
                return 2;
        p.socket = argv[1];
        p.timeout_ms = (uint32_t)atoi(argv[2]);
        p.n_readers = (uint32_t)atoi(argv[3]);
        p.n_threads = (uint32_t)atoi(argv[4]);
        p.n_writers = (uint32_t)atoi(argv[5]);
        p.seed = strtoull(argv[6], NULL, 10);
        if (p.n_threads == 0 || p.n_readers > READERS_MAX / p.n_threads ||
            p.n_writers > WRITERS_MAX)
                return 2;
        p.sh = mmap(NULL, sizeof(*p.sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (p.sh == MAP_FAILED)
                die("no memory");
        for (unsigned i = 0; i < p.n_writers; i++)
                start_process(&p, false, i);
        for (unsigned i = 0; i < p.n_readers; i++)
                start_process(&p, true, i);
        while (fgets(line, sizeof(line), stdin)) {
                if (!strcmp(line, "quiet\n"))
                        atomic_store(&p.sh->quiet, true);
                print_counts(&p);
        }
        atomic_store(&p.sh->end, true);
        for (unsigned i = 0; i < p.n_pids; i++) {
                int status;

                if (waitpid(p.pids[i], &status, 0) != p.pids[i] || status != 0)
                        failed = 1;
        }
        print_counts(&p);
        return failed;
}
