/* SPDX-License-Identifier: MIT */
/*
 * Request traces
 *
 * Streams: the file is never in memory as a whole. An xz file is known by its magic bytes, not by
 * its name, and goes through liblzma with a bound on its memory. `out` holds decoded bytes; a key
 * or line that is cut by its end is moved to the front before more is decoded. A trace is input
 * like any other: a torn one is an error and never a shorter trace.
 */
#include <errno.h>
#include <fcntl.h>
#include <lzma.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trace.h"

#define TRACE_BUFFER    65536
#define TRACE_XZ_MEMORY (UINT64_C(256) << 20) /* xz -9 needs 65 MiB to unpack */
#define TRACE_VALUE_MAX                                                                            \
        (UINT64_C(1) << 30) /* the largest value that the daemon takes by default                  \
                             */

struct trace {
        int fd;
        enum trace_format format;
        bool is_xz, input_ended, ended;
        lzma_stream lzma;
        uint64_t position;
        size_t start, end; /* of what is decoded and not yet taken, in `out` */
        uint8_t in[TRACE_BUFFER];
        uint8_t out[TRACE_BUFFER];
};

int trace_format_parse(const char *name, enum trace_format *ret)
{
        static const char *const names[] = {"int32be", "int32le", "text"};
        for (unsigned i = 0; i < 3; i++)
                if (strcmp(name, names[i]) == 0)
                        return *ret = (enum trace_format)i, 0;
        return -1;
}

struct trace *trace_close(struct trace *t)
{
        if (!t)
                return NULL;
        if (t->fd >= 0)
                close(t->fd);
        lzma_end(&t->lzma);
        free(t);
        return NULL;
}

static int read_input(struct trace *t)
{
        ssize_t k;
        do
                k = read(t->fd, t->in, sizeof(t->in));
        while (k < 0 && errno == EINTR);
        if (k < 0)
                return -errno;
        t->input_ended = k == 0;
        t->lzma.next_in = t->in;
        t->lzma.avail_in = (size_t)k;
        return 0;
}

int trace_open(const char *path, enum trace_format format, struct trace **ret)
{
        static const uint8_t magic[] = {0xfd, '7', 'z', 'X', 'Z', 0};
        struct trace *t = calloc(1, sizeof(*t));
        if (!t)
                return -ENOMEM;
        t->lzma = (lzma_stream)LZMA_STREAM_INIT;
        t->format = format;
        t->fd = open(path, O_RDONLY | O_CLOEXEC);
        int r = t->fd < 0 ? -errno : read_input(t);
        if (r == 0) {
                t->is_xz = t->lzma.avail_in >= sizeof(magic) &&
                           memcmp(t->in, magic, sizeof(magic)) == 0;
                if (t->is_xz &&
                    lzma_stream_decoder(&t->lzma, TRACE_XZ_MEMORY, LZMA_CONCATENATED) != LZMA_OK)
                        r = -ENOMEM;
        }
        if (r < 0) {
                trace_close(t);
                return r;
        }
        *ret = t;
        return 0;
}

static int decode_xz(struct trace *t)
{
        t->lzma.next_out = t->out + t->end;
        t->lzma.avail_out = sizeof(t->out) - t->end;
        lzma_ret l = lzma_code(&t->lzma, t->input_ended ? LZMA_FINISH : LZMA_RUN);
        t->end = sizeof(t->out) - t->lzma.avail_out;
        if (l == LZMA_STREAM_END) {
                t->ended = true;
                return 0;
        }
        if (l == LZMA_OK)
                return 0;
        return l == LZMA_MEM_ERROR || l == LZMA_MEMLIMIT_ERROR ? -ENOMEM : -EBADMSG;
}

static void copy_plain(struct trace *t)
{
        size_t n = sizeof(t->out) - t->end;
        if (n > t->lzma.avail_in)
                n = t->lzma.avail_in;
        memcpy(t->out + t->end, t->lzma.next_in, n);
        t->end += n;
        t->lzma.next_in += n;
        t->lzma.avail_in -= n;
        t->ended = t->input_ended;
}

/* Decodes more behind what is there, or sets `ended`. */
static int more(struct trace *t)
{
        memmove(t->out, t->out + t->start, t->end - t->start);
        t->end -= t->start;
        t->start = 0;
        if (t->end == sizeof(t->out)) /* one line fills the buffer */
                return -EBADMSG;
        if (t->lzma.avail_in == 0 && !t->input_ended) {
                int r = read_input(t);
                if (r < 0)
                        return r;
        }
        if (t->is_xz)
                return decode_xz(t);
        copy_plain(t);
        return 0;
}

static int next_int32(struct trace *t, struct trace_request *ret)
{
        while (t->end - t->start < 4) {
                if (t->ended)
                        return t->end == t->start ? TRACE_E_END : -EBADMSG;
                int r = more(t);
                if (r < 0)
                        return r;
        }
        const uint8_t *b = t->out + t->start;
        uint32_t v =
                t->format == TRACE_INT32BE
                        ? (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3]
                        : (uint32_t)b[3] << 24 | (uint32_t)b[2] << 16 | (uint32_t)b[1] << 8 | b[0];
        t->start += 4;
        char text[16];
        int n = snprintf(text, sizeof(text), "%d", (int32_t)v);
        memcpy(ret->key, text, (size_t)n);
        ret->n_key = (size_t)n;
        ret->size = TRACE_DEFAULT_SIZE;
        return TRACE_OK;
}

/* The next word of a line; 0 bytes: there is none. */
static const char *word(const char **p, const char *end, size_t *ret_n)
{
        while (*p < end && (**p == ' ' || **p == '\t'))
                (*p)++;
        const char *start = *p;
        while (*p < end && **p != ' ' && **p != '\t' && **p != '\r')
                (*p)++;
        *ret_n = (size_t)(*p - start);
        return start;
}

static int parse_line(const char *line, size_t n, struct trace_request *ret)
{
        const char *p = line, *end = line + n;
        size_t n_time, n_key, n_size;
        word(&p, end, &n_time);
        const char *key = word(&p, end, &n_key);
        const char *size = word(&p, end, &n_size);
        if (n_key == 0 || n_key > TRACE_KEY_MAX || n_size == 0)
                return -EBADMSG;
        uint64_t v = 0;
        for (size_t i = 0; i < n_size; i++) {
                if (size[i] < '0' || size[i] > '9')
                        return -EBADMSG;
                v = v * 10 + (uint64_t)(size[i] - '0');
                if (v > TRACE_VALUE_MAX)
                        return -EBADMSG;
        }
        memcpy(ret->key, key, n_key);
        ret->n_key = n_key;
        ret->size = v;
        return TRACE_OK;
}

static int next_line(struct trace *t, struct trace_request *ret)
{
        for (;;) {
                const char *at = (const char *)t->out + t->start;
                size_t have = t->end - t->start;
                const char *nl = memchr(at, '\n', have);
                if (!nl && !t->ended) {
                        int r = more(t);
                        if (r < 0)
                                return r;
                        continue;
                }
                if (have == 0)
                        return TRACE_E_END;
                size_t n = nl ? (size_t)(nl - at) : have; /* the last line may lack its newline */
                t->start += nl ? n + 1 : n;
                return parse_line(at, n, ret);
        }
}

int trace_next(struct trace *t, struct trace_request *ret)
{
        int r = t->format == TRACE_TEXT ? next_line(t, ret) : next_int32(t, ret);
        t->position += r == TRACE_OK;
        return r;
}

uint64_t trace_position(const struct trace *t)
{
        return t->position;
}
