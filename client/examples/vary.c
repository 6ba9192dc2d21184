/* SPDX-License-Identifier: MIT */
/*
 * A function that finds out while it runs which files it depends on, and says what it does
 *
 * Counts the lines of a file and of those files that it names in lines `include NAME`. A second run
 * looks at the files' times and sizes and takes the result from the cache, and prints what the
 * first one printed. Change one of the files, and it counts again.
 *
 *     cc vary.c $(pkg-config --cflags --libs cached) && ./a.out FILE
 */

#include <cached.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* An input is a file; its value is what changes when the file does. */
static int file_changed(void *data, const char *name, cached_result *out)
{
        struct stat st;
        char text[100];

        (void)data;
        if (stat(name, &st) < 0)
                return -1;
        (void)snprintf(text, sizeof(text), "%lld %lld %lld.%09ld", (long long)st.st_ino,
                       (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        return cached_result_set(out, text, strlen(text));
}

static int count_file(const char *name, unsigned long *lines, int depth)
{
        char line[1000], other[120];
        int code = cached_input(name, NULL, NULL);
        FILE *f;

        if (code != CACHED_OK || depth > 10)
                return code;
        f = fopen(name, "r");
        if (!f)
                return -1;
        (void)cached_message("reading", name, strlen(name));
        while (code == CACHED_OK && fgets(line, sizeof(line), f)) {
                ++*lines;
                if (sscanf(line, "include %119s", other) == 1)
                        code = count_file(other, lines, depth + 1);
        }
        (void)fclose(f);
        return code;
}

static int count(void *data, cached_result *out)
{
        unsigned long lines = 0;
        int code = count_file(data, &lines, 0);

        return code == CACHED_OK ? cached_result_set(out, &lines, sizeof(lines)) : code;
}

static void show(void *data, const char *type, const void *bytes, size_t n)
{
        (void)data;
        printf("%s %.*s\n", type, (int)n, (const char *)bytes);
}

int main(int argc, char **argv)
{
        cached_memo_options *o = cached_memo_options_new();
        cached_inputs *in = cached_inputs_new();
        cached_key *k = cached_key_new();
        cached_result *r = NULL;
        unsigned long lines = 0;
        cached *c = NULL;
        int code;

        if (argc != 2 || !o || !in || cached_new(NULL, &c) != CACHED_OK) {
                fprintf(stderr, "usage: vary FILE\n");
                return 2;
        }
        cached_memo_options_set_version(o, "1");
        cached_memo_options_set_on_message(o, show, NULL);
        cached_inputs_add(in, NULL, file_changed, NULL); /* any name is a file */
        cached_key_add_text(k, argv[1], strlen(argv[1]));
        code = cached_memoize_vary(c, "count_lines", k, in, count, argv[1], o, &r);
        if (code == CACHED_OK) {
                memcpy(&lines, cached_result_value(r, NULL), sizeof(lines));
                printf("%lu lines, %s\n", lines,
                       cached_result_is_hit(r) ? "from the cache" : "counted");
        } else {
                fprintf(stderr, "vary: %s\n", cached_result_error(r));
        }
        cached_result_free(r);
        cached_key_free(k);
        cached_inputs_free(in);
        cached_memo_options_free(o);
        cached_free(c);
        return code == CACHED_OK ? 0 : 1;
}
