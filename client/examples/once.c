/* SPDX-License-Identifier: MIT */
/*
 * once - a slow function that runs once on the whole machine, and shows how far it is
 *
 * Usage: once [SECONDS]
 *
 * Start it in two terminals: one runs the function, the other one waits for it and shows whose run
 * that is and how far. Kill the first one, and the second one takes over.
 *
 *      cc once.c $(pkg-config --cflags --libs cached) -o once
 */

#include <cached.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Sleeps for so many tenths of a second, and says how many. */
static int compute(void *data, cached_result *out)
{
        const unsigned *tenths = data;
        struct timespec tenth = {.tv_nsec = 100000000};
        char text[32];

        for (unsigned i = 0; i < *tenths; i++) {
                (void)nanosleep(&tenth, NULL);
                (void)cached_progress("sleeping", (double)(i + 1) / *tenths);
        }
        return cached_result_set(out, text,
                                 (size_t)snprintf(text, sizeof(text), "%u naps", *tenths));
}

/* Called while somebody else's run is waited for. */
static int waiting(void *data, const cached_lease *holder)
{
        (void)data;
        fprintf(stderr, "waiting for process %u: %.1f s, %u %% %s\n",
                (unsigned)cached_lease_holder_pid(holder),
                (double)cached_lease_age_ms(holder) / 1e3,
                (unsigned)cached_lease_permille(holder) / 10, cached_lease_text(holder));
        return 0;
}

int main(int argc, char **argv)
{
        unsigned tenths = argc > 1 ? (unsigned)(strtod(argv[1], NULL) * 10) : 50;
        cached_memo_options *o = cached_memo_options_new();
        cached_key *k = cached_key_new();
        cached_result *r;
        cached *c;
        int code;

        if (!o || cached_new(NULL, &c) != CACHED_OK)
                return EXIT_FAILURE;
        (void)cached_memo_options_set_waiting(o, waiting, NULL, 500);
        (void)cached_key_add_uint(k, tenths);
        code = cached_memoize(c, "sleep", k, compute, &tenths, o, &r);
        if (code == CACHED_OK) {
                size_t n = 0;
                const char *text = cached_result_value(r, &n);

                printf("%.*s, %s\n", (int)n, text,
                       cached_result_is_hit(r) ? "from somebody else's run" : "computed here");
        } else {
                fprintf(stderr, "once: %s\n", cached_result_error(r));
        }
        cached_result_free(r);
        cached_key_free(k);
        cached_memo_options_free(o);
        cached_free(c);
        return code == CACHED_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
