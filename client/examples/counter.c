/* SPDX-License-Identifier: MIT */
/*
 * counter - a list with one number in it, `l[0] += 1` of which says what a cache shares
 *
 * Usage: counter segment | counter data
 *
 * The first process to ask makes the list, with 1 in it; each counts it up and says what it reads
 * then. Three of them read 2, 3, 4 where the list is a resource, which is one for all, and 2, 2, 2
 * where it is data, of which each has a copy.
 *
 *      cc counter.c $(pkg-config --cflags --libs cached) -o counter
 */

#include <cached.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char *what, cached_reply *r)
{
        fprintf(stderr, "counter: %s: %s\n", what, cached_reply_error(r));
        cached_reply_free(r);
        return EXIT_FAILURE;
}

static int say(uint64_t n)
{
        printf("%" PRIu64 "\n", n);
        return EXIT_SUCCESS;
}

/* ---- as a resource */

static int fill(cached_resource *r, void *data)
{
        uint64_t *l = cached_resource_data(r);

        (void)data;
        l[0] = 1;
        return 0;
}

/* Others count at the same time: reading and writing is one step only under the lock. */
static int count_in(cached_resource *list)
{
        uint64_t *l = cached_resource_data(list), n;
        cached_reply *r = NULL;
        int code = cached_resource_lock(list, 10000, &r);

        /* Whoever was killed with the lock has counted or not: the number is whole in any case. */
        if (code != CACHED_OK && code != CACHED_OWNER_DIED)
                return failed("not locked", r);
        l[0] += 1;
        n = l[0];
        (void)cached_resource_unlock(list);
        return say(n);
}

static int count_segment(cached *c)
{
        cached_resource_options *o = cached_resource_options_new();
        cached_resource *list = NULL;
        cached_reply *r = NULL;
        int code, status;

        if (!o)
                return EXIT_FAILURE;
        (void)cached_resource_options_set_create(o, fill, NULL);
        code = cached_resource_acquire_segment(c, "counter", "list", 4, sizeof(uint64_t), o, &list,
                                               &r);
        cached_resource_options_free(o);
        if (code != CACHED_OK)
                return failed("there is no list", r);
        cached_reply_free(r);
        status = count_in(list);
        cached_resource_release(list);
        return status;
}

/* ---- as data */

static int make_list(void *data, cached_result *out)
{
        uint64_t l[1] = {1};

        (void)data;
        return cached_result_set(out, l, sizeof(l));
}

static int count_data(cached *c)
{
        cached_key *no_arguments = cached_key_new();
        cached_result *r = NULL;
        int status = EXIT_FAILURE;

        if (cached_memoize(c, "make_list", no_arguments, make_list, NULL, NULL, &r) == CACHED_OK) {
                uint64_t *l = cached_result_value(r, NULL);

                l[0] += 1; /* the result is this process's own */
                status = say(l[0]);
        }
        if (*cached_result_error(r))
                fprintf(stderr, "counter: %s\n", cached_result_error(r));
        cached_result_free(r);
        cached_key_free(no_arguments);
        return status;
}

int main(int argc, char **argv)
{
        cached *c;
        int status;

        if (argc != 2 || (strcmp(argv[1], "segment") != 0 && strcmp(argv[1], "data") != 0)) {
                fprintf(stderr, "usage: counter segment | counter data\n");
                return EXIT_FAILURE;
        }
        if (cached_new(NULL, &c) != CACHED_OK)
                return EXIT_FAILURE;
        status = argv[1][0] == 's' ? count_segment(c) : count_data(c);
        cached_free(c);
        return status;
}
