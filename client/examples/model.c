/* SPDX-License-Identifier: MIT */
/*
 * model - weights that are loaded once, and used by all processes without a copy
 *
 * Usage: model FILE [stay]
 *
 * FILE is loaded into shared memory that nobody can change from then on; however many processes run
 * this, it is read once, and is there once. It leaves the cache an hour later: the next one to ask
 * loads it anew, and who still uses it goes on with what it has. With `stay` the program does,
 * until its input ends or it is told that the weights have left.
 *
 *      cc model.c $(pkg-config --cflags --libs cached) -o model
 */

#include <cached.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TTL_MS 3600000

struct model {
        const char *path;
        int fd;
        size_t size;
        int is_loaded_here;
};

static int load(cached_resource *r, void *data)
{
        struct model *m = data;
        uint8_t *to = cached_resource_data(r);
        size_t n = 0;

        while (n < m->size) {
                ssize_t got = read(m->fd, to + n, m->size - n);

                if (got <= 0) {
                        cached_resource_give_reason(r, "the file cannot be read");
                        return -1;
                }
                n += (size_t)got;
        }
        m->is_loaded_here = 1;
        return 0;
}

/* What a process prepares of the weights for itself is given up here. */
static int gone(cached_resource *r, void *data)
{
        const struct model *m = data;

        if (cached_resource_has_left(r))
                printf("%s: the weights have left\n", m->path);
        return 0;
}

static cached_resource *get(cached *c, struct model *m)
{
        cached_resource_options *o = cached_resource_options_new();
        cached_policy *p = cached_policy_new();
        cached_resource *r = NULL;
        cached_reply *reply = NULL;

        if (!o || !p)
                abort();
        (void)cached_policy_set_ttl_ms(p, TTL_MS);
        (void)cached_resource_options_set_policy(o, p);
        (void)cached_resource_options_set_read_only(o, 1);
        (void)cached_resource_options_set_create(o, load, m);
        (void)cached_resource_options_set_on_release(o, gone, m);
        if (cached_resource_acquire_segment(c, "models", m->path, strlen(m->path), m->size, o, &r,
                                            &reply) != CACHED_OK)
                fprintf(stderr, "model: %s\n", cached_reply_error(reply));
        cached_reply_free(reply);
        cached_policy_free(p);
        cached_resource_options_free(o);
        return r;
}

static void use(const struct model *m, const cached_resource *r)
{
        const uint8_t *weights = cached_resource_data(r);
        uint64_t sum = 0;

        for (size_t i = 0; i < cached_resource_size(r); i++)
                sum += weights[i];
        printf("%s: %zu weights, sum %" PRIu64 ", %s\n", m->path, cached_resource_size(r), sum,
               m->is_loaded_here ? "loaded" : "there already");
        (void)fflush(stdout);
}

static void stay(cached_resource *r)
{
        struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN},
                                {.fd = cached_resource_left_fd(r), .events = POLLIN}};

        (void)poll(fds, 2, -1);
}

int main(int argc, char **argv)
{
        struct model m = {.path = argc > 1 ? argv[1] : ""};
        cached_resource *r;
        struct stat st;
        cached *c;

        m.fd = open(m.path, O_RDONLY | O_CLOEXEC);
        if (m.fd < 0 || fstat(m.fd, &st) < 0) {
                fprintf(stderr, "usage: model FILE [stay]\n");
                return EXIT_FAILURE;
        }
        m.size = (size_t)st.st_size;
        if (cached_new(NULL, &c) != CACHED_OK)
                return EXIT_FAILURE;
        r = get(c, &m);
        if (r) {
                use(&m, r);
                if (argc > 2 && strcmp(argv[2], "stay") == 0)
                        stay(r);
                cached_resource_release(r);
        }
        cached_free(c);
        close(m.fd);
        return r ? EXIT_SUCCESS : EXIT_FAILURE;
}
