/* SPDX-License-Identifier: MIT */
/*
 * Fuzz driver: runs a target over files, without libFuzzer
 *
 * driver [--mutations N] PATH…: each file, and each file of a directory, goes to the target as it
 * is, cut at every length, and N times with a few bytes changed (100 N if CACHED_LONG is set). The
 * changes are drawn from a fixed seed, so a failure repeats; the input that is running when the
 * target aborts is named on stderr by file and round. This does not search for new paths as
 * libFuzzer does (-Dfuzz=true with clang); it keeps what was found once from coming back, with any
 * compiler.
 */

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "fuzz.h"

enum { INPUT_MAX = 1 << 20, CHANGES_MAX = 8 };

struct driver {
        unsigned long mutations, files, runs;
        uint64_t random;         /* xorshift state */
        uint8_t *data, *changed; /* INPUT_MAX bytes each */
};

static uint64_t next_random(struct driver *d)
{
        d->random ^= d->random << 13;
        d->random ^= d->random >> 7;
        d->random ^= d->random << 17;
        return d->random;
}

/* A copy of exactly @n bytes, so that a sanitizer sees each byte read beyond them. */
static void run(struct driver *d, const uint8_t *data, size_t n)
{
        uint8_t *copy = malloc(n ? n : 1);

        if (!copy)
                abort();
        memcpy(copy, data, n);
        LLVMFuzzerTestOneInput(copy, n);
        free(copy);
        d->runs++;
}

static size_t mutate(struct driver *d, uint8_t *data, size_t n)
{
        size_t changes = 1 + next_random(d) % CHANGES_MAX;

        for (size_t i = 0; i < changes && n > 0; i++) {
                size_t at = next_random(d) % n;

                switch (next_random(d) % 6) {
                case 0:
                        data[at] ^= (uint8_t)(1u << next_random(d) % 8);
                        break;
                case 1:
                        data[at] = (uint8_t)next_random(d);
                        break;
                case 2:
                        data[at] = next_random(d) % 2 ? 0xff : 0;
                        break;
                case 3: /* remove a byte */
                        memmove(data + at, data + at + 1, n - at - 1);
                        n--;
                        break;
                case 4: /* repeat what follows */
                        if (n < INPUT_MAX) {
                                memmove(data + at + 1, data + at, n - at);
                                n++;
                        }
                        break;
                default: /* cut */
                        if (next_random(d) % 4 == 0)
                                n = at;
                        break;
                }
        }
        return n;
}

static int run_file(struct driver *d, const char *path)
{
        FILE *f = fopen(path, "rbe");
        size_t n;

        if (!f) {
                fprintf(stderr, "%s: %s\n", path, strerror(errno));
                return 1;
        }
        n = fread(d->data, 1, INPUT_MAX, f);
        fclose(f);
        d->files++;
        fprintf(stderr, "%s\n", path);
        for (size_t cut = n < 4096 ? 0 : n - 4096; cut <= n; cut++)
                run(d, d->data, cut);
        for (unsigned long i = 0; i < d->mutations; i++) {
                memcpy(d->changed, d->data, n);
                run(d, d->changed, mutate(d, d->changed, n));
        }
        return 0;
}

static int run_path(struct driver *d, const char *path)
{
        struct dirent **entries;
        struct stat st;
        int n, failed = 0;

        if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
                return run_file(d, path);
        n = scandir(path, &entries, NULL, alphasort);
        if (n < 0) {
                fprintf(stderr, "%s: %s\n", path, strerror(errno));
                return 1;
        }
        for (int i = 0; i < n; i++) {
                char file[4096];

                snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
                if (entries[i]->d_name[0] != '.')
                        failed |= run_file(d, file);
                free(entries[i]);
        }
        free(entries);
        return failed;
}

int main(int argc, char **argv)
{
        struct driver d = {.random = UINT64_C(0x9e3779b97f4a7c15)};
        int first = 1, failed = 0;

        if (argc > 3 && strcmp(argv[1], "--mutations") == 0) {
                d.mutations = strtoul(argv[2], NULL, 10);
                if (getenv("CACHED_LONG"))
                        d.mutations *= 100;
                first = 3;
        }
        d.data = malloc(INPUT_MAX);
        d.changed = malloc(INPUT_MAX);
        if (!d.data || !d.changed)
                abort();
        for (int i = first; i < argc; i++)
                failed |= run_path(&d, argv[i]);
        free(d.data);
        free(d.changed);
        printf("%lu files, %lu runs\n", d.files, d.runs);
        return failed || d.files == 0;
}
