/* SPDX-License-Identifier: MIT */
/*
 * connection - one connection to an HTTP server that all processes use, a message at a time
 *
 * Usage: connection PORT [PATH...]
 *
 * Gets each PATH (/ without any) from the server on 127.0.0.1:PORT and says how it went, and from
 * which port of this machine: that is the same for however many processes, since they share the
 * connection that the first one made. When the server closes it the next one makes another.
 *
 * What makes that right: the protocol is in the clear; the lock is held from the beginning of a
 * request to the end of its answer; nobody reads a byte beyond that; and who cannot get to that end
 * has the connection leave the cache. With TLS, or a library that reads ahead, it would be wrong.
 *
 *      cc connection.c $(pkg-config --cflags --libs cached) -o connection
 */

#include <arpa/inet.h>
#include <cached.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define CACHE     "connection"
#define TRIES_MAX 3
#define HEAD_MAX  4096

/* What became of a request. */
enum outcome {
        ANSWERED,  /* to its end: the next message may begin */
        LAST_ONE,  /* so, and the server closes now */
        NOT_BEGUN, /* the connection was closed: a request may be made again on another one */
        BROKEN,    /* somewhere in between */
};

struct answer {
        int status;
        size_t n_body;
};

/* ---- the connection */

static int make(cached_resource *r, void *data)
{
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(*(uint16_t *)data)};
        /* Of the socket, and so of all who use it. */
        struct timeval patience = {.tv_sec = 10};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 ||
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0) {
                cached_resource_give_reason(r, "the server does not answer");
                if (fd >= 0)
                        close(fd);
                return -1;
        }
        return cached_resource_give_fd(r, fd);
}

static unsigned local_port(int fd)
{
        struct sockaddr_in at = {0};
        socklen_t n = sizeof(at);

        return getsockname(fd, (struct sockaddr *)&at, &n) == 0 ? ntohs(at.sin_port) : 0;
}

/* ---- one message and its answer */

static int send_request(int fd, const char *path)
{
        char text[HEAD_MAX];
        int n = snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path);

        return n < (int)sizeof(text) && send(fd, text, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -1;
}

/* Up to the empty line, and not a byte further: what follows is as long as the head says. Returns
 * how much came; the head is whole if it ends so. */
static size_t read_head(int fd, char *head, size_t size)
{
        size_t n = 0;

        while (n + 1 < size && recv(fd, head + n, 1, 0) == 1) {
                n++;
                if (n >= 4 && memcmp(head + n - 4, "\r\n\r\n", 4) == 0)
                        break;
        }
        head[n] = '\0';
        return n;
}

static int skip_body(int fd, size_t n)
{
        char part[4096];

        while (n > 0) {
                ssize_t got = recv(fd, part, n < sizeof(part) ? n : sizeof(part), 0);

                if (got <= 0)
                        return -1;
                n -= (size_t)got;
        }
        return 0;
}

/* What stands behind "\r\nNAME:" in a head; NULL: nothing. */
static const char *field(const char *head, const char *name)
{
        for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
                if (strncasecmp(line + 2, name, strlen(name)) == 0 && line[2 + strlen(name)] == ':')
                        return line + 3 + strlen(name);
        return NULL;
}

static enum outcome ask(int fd, const char *path, struct answer *ret)
{
        char head[HEAD_MAX];
        const char *length, *connection;
        size_t n;

        if (send_request(fd, path) < 0)
                return NOT_BEGUN;
        n = read_head(fd, head, sizeof(head));
        if (n == 0)
                return NOT_BEGUN;
        length = field(head, "Content-Length");
        /* Only an answer whose end is known leaves the connection at the border of a message. */
        if (n < 4 || strcmp(head + n - 4, "\r\n\r\n") != 0 || !length ||
            sscanf(head, "HTTP/1.1 %d", &ret->status) != 1)
                return BROKEN;
        ret->n_body = strtoul(length, NULL, 10);
        if (skip_body(fd, ret->n_body) < 0)
                return BROKEN;
        connection = field(head, "Connection");
        return connection && strstr(connection, "close") ? LAST_ONE : ANSWERED;
}

/* ---- under the lock */

/* That the server closes is no failure of the connection, of which too many in a row would keep
 * everybody from making another one for a while. */
static void give_up(cached *c, const char *key, cached_resource *r, enum outcome outcome)
{
        if (outcome == BROKEN)
                (void)cached_resource_invalidate(r, "it is in the middle of an answer");
        else if (!cached_resource_has_left(r))
                (void)cached_resource_drop(c, CACHE, key, strlen(key), NULL);
}

static enum outcome ask_locked(cached *c, const char *key, cached_resource *r, const char *path,
                               struct answer *ret)
{
        enum outcome outcome = NOT_BEGUN;

        if (cached_resource_lock(r, 10000, NULL) != CACHED_OK)
                return NOT_BEGUN;
        /* Who had the lock before was killed perhaps, or found that the connection is over. */
        if (!cached_resource_has_left(r))
                outcome = ask(cached_resource_fd(r), path, ret);
        if (outcome != ANSWERED)
                give_up(c, key, r, outcome);
        (void)cached_resource_unlock(r);
        return outcome;
}

static int get_once(cached *c, uint16_t *port, const char *path, enum outcome *ret)
{
        cached_resource_options *o = cached_resource_options_new();
        cached_resource *r = NULL;
        cached_reply *reply = NULL;
        struct answer a = {0};
        char key[16];
        int code;

        if (!o)
                return CACHED_ERR_NOMEM;
        (void)snprintf(key, sizeof(key), "%u", *port);
        (void)cached_resource_options_set_create(o, make, port);
        code = cached_resource_acquire_descriptor(c, CACHE, key, strlen(key), o, &r, &reply);
        cached_resource_options_free(o);
        if (code != CACHED_OK)
                fprintf(stderr, "connection: %s\n", cached_reply_error(reply));
        cached_reply_free(reply);
        if (code != CACHED_OK)
                return code;
        *ret = ask_locked(c, key, r, path, &a);
        if (*ret == ANSWERED || *ret == LAST_ONE)
                printf("%s: status %d, %zu bytes, from port %u\n", path, a.status, a.n_body,
                       local_port(cached_resource_fd(r)));
        cached_resource_release(r);
        return CACHED_OK;
}

static int get(cached *c, uint16_t *port, const char *path)
{
        enum outcome outcome = NOT_BEGUN;

        for (int i = 0; outcome == NOT_BEGUN && i < TRIES_MAX; i++)
                if (get_once(c, port, path, &outcome) != CACHED_OK)
                        return EXIT_FAILURE;
        if (outcome == ANSWERED || outcome == LAST_ONE)
                return EXIT_SUCCESS;
        fprintf(stderr, "connection: %s: the server gave no whole answer\n", path);
        return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
        uint16_t port = argc > 1 ? (uint16_t)strtoul(argv[1], NULL, 10) : 0;
        int status = EXIT_SUCCESS;
        cached *c;

        if (port == 0) {
                fprintf(stderr, "usage: connection PORT [PATH...]\n");
                return EXIT_FAILURE;
        }
        if (cached_new(NULL, &c) != CACHED_OK)
                return EXIT_FAILURE;
        if (argc == 2)
                status = get(c, &port, "/");
        for (int i = 2; i < argc && status == EXIT_SUCCESS; i++)
                status = get(c, &port, argv[i]);
        cached_free(c);
        return status;
}
