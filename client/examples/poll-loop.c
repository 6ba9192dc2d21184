/* SPDX-License-Identifier: MIT */
/*
 * poll-loop - a cache and something else in one loop of poll()
 *
 * Reads lines from its standard input and prints the replies as they come:
 *
 *      get KEY
 *      set KEY VALUE
 *      del KEY
 *
 * Nothing here waits but poll() itself: while the daemon is slow, lines are still read; while
 * nobody types, replies are still printed. The pipeline needs one line in the array of descriptors,
 * for reading, and it is the same descriptor whatever becomes of the connection.
 *
 *      cc poll-loop.c $(pkg-config --cflags --libs cached) -o poll-loop
 */

#include <cached.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE "example-loop"

struct program {
        cached_pipeline *pipeline;
        char line[4096]; /* the beginning of one that is not complete */
        size_t n_line;
        unsigned long n_lines; /* each request's tag is the number of its line */
        int end;
};

static void do_line(struct program *p, char *line)
{
        char *verb = strtok(line, " "), *key = strtok(NULL, " "), *value = strtok(NULL, "");
        unsigned long tag = ++p->n_lines;
        size_t n_key = key ? strlen(key) : 0;
        int code = CACHED_ERR_USAGE;

        if (verb && key && !strcmp(verb, "get"))
                code = cached_pipeline_get(p->pipeline, CACHE, key, n_key, tag);
        else if (verb && key && value && !strcmp(verb, "set"))
                code = cached_pipeline_set(p->pipeline, CACHE, key, n_key, value, strlen(value),
                                           NULL, tag);
        else if (verb && key && !strcmp(verb, "del"))
                code = cached_pipeline_delete(p->pipeline, CACHE, key, n_key, tag);
        /* What was not accepted has no reply. */
        if (code != CACHED_OK)
                printf("%lu: %s\n", tag, cached_strerror(code));
}

static void read_lines(struct program *p)
{
        ssize_t n = read(STDIN_FILENO, p->line + p->n_line, sizeof(p->line) - p->n_line);
        char *start = p->line, *newline;

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0) {
                p->end = 1;
                return;
        }
        p->n_line += (size_t)n;
        while ((newline = memchr(start, '\n', p->n_line - (size_t)(start - p->line)))) {
                *newline = '\0';
                do_line(p, start);
                start = newline + 1;
        }
        p->n_line -= (size_t)(start - p->line);
        memmove(p->line, start, p->n_line);
        if (p->n_line == sizeof(p->line))
                p->n_line = 0; /* too long */
}

/* Whatever has finished. A request whose connection broke comes out here, too. */
static void print_replies(struct program *p)
{
        cached_reply *reply;
        uint64_t tag;
        int code;

        while ((code = cached_pipeline_next(p->pipeline, &tag, &reply)) != CACHED_ERR_AGAIN) {
                size_t n = 0;
                const char *value = cached_reply_value(reply, &n);

                if (value)
                        printf("%llu: %.*s\n", (unsigned long long)tag, (int)n, value);
                else
                        printf("%llu: %s\n", (unsigned long long)tag, cached_strerror(code));
                cached_reply_free(reply);
        }
        fflush(stdout);
}

int main(void)
{
        struct program p = {0};
        cached *c;

        if (cached_new(NULL, &c) != CACHED_OK)
                return EXIT_FAILURE;
        if (cached_pipeline_new_nonblocking(c, &p.pipeline) != CACHED_OK) {
                cached_free(c);
                return EXIT_FAILURE;
        }
        while (!p.end || cached_pipeline_in_flight(p.pipeline) > 0) {
                struct pollfd fds[2] = {
                        {.fd = cached_pipeline_fd(p.pipeline), .events = POLLIN},
                        /* A negative one is passed over. While the daemon takes no more, there is
                         * no use in reading what to ask it. */
                        {.fd = STDIN_FILENO, .events = POLLIN},
                };

                if (p.end || (cached_pipeline_wants(p.pipeline) & CACHED_WANT_WRITE))
                        fds[1].fd = -1;
                if (poll(fds, 2, -1) < 0 && errno != EINTR)
                        break;
                if (fds[1].revents)
                        read_lines(&p);
                /* Also after read_lines(): it saves a turn of the loop. */
                (void)cached_pipeline_dispatch(p.pipeline);
                print_replies(&p);
        }
        cached_pipeline_free(p.pipeline);
        cached_free(c);
        return EXIT_SUCCESS;
}
