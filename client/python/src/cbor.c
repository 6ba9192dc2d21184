/* SPDX-License-Identifier: MIT */
#include "cbor.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define INDEFINITE 31
#define BREAK_BYTE 0xff

static uint64_t big_endian(const uint8_t *at, size_t n)
{
        uint64_t value = 0;

        for (size_t i = 0; i < n; i++)
                value = value << 8 | at[i];
        return value;
}

static double half(uint64_t bits)
{
        unsigned exponent = (unsigned)(bits >> 10) & 31, fraction = (unsigned)bits & 1023;
        double number;

        if (exponent == 31)
                number = fraction ? (double)NAN : (double)INFINITY;
        else if (exponent == 0)
                number = ldexp(fraction, -24);
        else
                number = ldexp(fraction + 1024, (int)exponent - 25);
        return bits & 0x8000 ? -number : number;
}

static double number_of(uint64_t bits, size_t n)
{
        uint32_t single_bits = (uint32_t)bits;
        float single;
        double number;

        if (n == 2)
                return half(bits);
        if (n == 4) {
                memcpy(&single, &single_bits, sizeof(single));
                return single;
        }
        memcpy(&number, &bits, sizeof(number));
        return number;
}

/* Items of major type 7: n bytes of argument were read. */
static bool simple(struct cbor_item *item, size_t n)
{
        if (item->indefinite) {
                item->kind = CBOR_BREAK;
                item->indefinite = false;
                return true;
        }
        if (n <= 1) {
                item->kind = CBOR_SIMPLE;
                return n == 0 || item->n >= 32;
        }
        item->kind = CBOR_FLOAT;
        item->number = number_of(item->n, n);
        return true;
}

bool cbor_next(struct cbor_reader *r, struct cbor_item *ret)
{
        static const enum cbor_kind kinds[] = {CBOR_UINT,  CBOR_NINT, CBOR_BYTES, CBOR_TEXT,
                                               CBOR_ARRAY, CBOR_MAP,  CBOR_TAG,   CBOR_SIMPLE};

        if (r->at >= r->end)
                return false;
        unsigned major = *r->at >> 5, info = *r->at & 31;
        size_t n = info < 24 || info == INDEFINITE ? 0 : (size_t)1 << (info - 24);
        r->at++;
        size_t left = (size_t)(r->end - r->at);
        if ((info > 27 && info != INDEFINITE) || n > left)
                return false;
        ret->kind = kinds[major];
        ret->indefinite = info == INDEFINITE;
        ret->n = n > 0 ? big_endian(r->at, n) : ret->indefinite ? 0 : info;
        r->at += n;
        left -= n;
        if (major == 7)
                return simple(ret, n);
        if (ret->indefinite)
                return major >= 2 && major <= 5;
        switch (ret->kind) {
        case CBOR_BYTES:
        case CBOR_TEXT:
                if (ret->n > left)
                        return false;
                ret->bytes = r->at;
                r->at += ret->n;
                return true;
        case CBOR_ARRAY:
                return ret->n <= left;
        case CBOR_MAP:
                return ret->n <= left / 2;
        default:
                return true;
        }
}

bool cbor_at_break(struct cbor_reader *r)
{
        if (r->at >= r->end || *r->at != BREAK_BYTE)
                return false;
        r->at++;
        return true;
}

bool cbor_chunks_length(const struct cbor_reader *r, enum cbor_kind kind, size_t *ret)
{
        struct cbor_reader ahead = *r;
        struct cbor_item chunk;

        *ret = 0;
        while (!cbor_at_break(&ahead)) {
                if (!cbor_next(&ahead, &chunk) || chunk.kind != kind || chunk.indefinite)
                        return false;
                *ret += (size_t)chunk.n; /* all of them are in memory: the sum is less than that */
        }
        return true;
}

void cbor_chunks_copy(struct cbor_reader *r, uint8_t *to)
{
        struct cbor_item chunk = {.n = 0};

        while (!cbor_at_break(r) && cbor_next(r, &chunk)) {
                if (chunk.n > 0)
                        memcpy(to, chunk.bytes, (size_t)chunk.n);
                to += chunk.n;
        }
}

/* Of an item that was read: how many items follow in it; UINT64_MAX: up to a break. */
static uint64_t content(const struct cbor_item *item)
{
        if (item->indefinite)
                return UINT64_MAX;
        switch (item->kind) {
        case CBOR_ARRAY:
                return item->n;
        case CBOR_MAP:
                return 2 * item->n;
        case CBOR_TAG:
                return 1;
        default:
                return 0;
        }
}

/* One item of what is being skipped; false where it may not stand. */
static bool skip_one(struct cbor_reader *r, struct cbor_item *item)
{
        size_t n;

        if (!cbor_next(r, item) || item->kind == CBOR_BREAK)
                return false;
        if (!item->indefinite || (item->kind != CBOR_BYTES && item->kind != CBOR_TEXT))
                return true;
        if (!cbor_chunks_length(r, item->kind, &n))
                return false;
        item->indefinite = false;
        struct cbor_item chunk;
        while (!cbor_at_break(r))
                if (!cbor_next(r, &chunk))
                        return false;
        return true;
}

bool cbor_skip(struct cbor_reader *r)
{
        struct {
                uint64_t left, read;
                bool in_pairs;
        } level[CBOR_DEPTH_MAX + 1];
        size_t depth = 0;
        struct cbor_item item;

        level[0].left = 1;
        for (;;) {
                bool open = level[depth].left == UINT64_MAX;
                if (level[depth].left == 0 || (open && cbor_at_break(r))) {
                        if (open && level[depth].in_pairs && level[depth].read % 2)
                                return false;
                        if (depth == 0)
                                return true;
                        depth--;
                        continue;
                }
                if (!skip_one(r, &item))
                        return false;
                if (!open)
                        level[depth].left--;
                level[depth].read++;
                uint64_t n = content(&item);
                if (n == 0)
                        continue;
                if (depth == CBOR_DEPTH_MAX)
                        return false;
                depth++;
                level[depth].left = n;
                level[depth].read = 0;
                level[depth].in_pairs = item.kind == CBOR_MAP;
        }
}

/* ---- writing */

void cbor_writer_init(struct cbor_writer *w)
{
        w->data = w->first;
        w->n = 0;
        w->size = sizeof(w->first);
        w->failed = false;
}

void cbor_writer_free(struct cbor_writer *w)
{
        if (w->data != w->first)
                free(w->data);
        cbor_writer_init(w);
}

static bool grow(struct cbor_writer *w, size_t n)
{
        size_t size = w->size;
        uint8_t *data;

        if (w->failed || n > PTRDIFF_MAX - w->n) {
                w->failed = true;
                return false;
        }
        while (size < w->n + n)
                size = size + size / 2 + 64;
        data = realloc(w->data == w->first ? NULL : w->data, size);
        if (!data) {
                w->failed = true;
                return false;
        }
        if (w->data == w->first)
                memcpy(data, w->first, w->n);
        w->data = data;
        w->size = size;
        return true;
}

void cbor_put_raw(struct cbor_writer *w, const void *bytes, size_t n)
{
        if (n > w->size - w->n && !grow(w, n))
                return;
        if (n > 0)
                memcpy(w->data + w->n, bytes, n);
        w->n += n;
}

void cbor_put(struct cbor_writer *w, unsigned major, uint64_t n)
{
        uint8_t head[9];
        unsigned log = n < 24            ? 0
                       : n <= UINT8_MAX  ? 1
                       : n <= UINT16_MAX ? 2
                       : n <= UINT32_MAX ? 3
                                         : 4;
        size_t n_argument = log > 0 ? (size_t)1 << (log - 1) : 0;

        head[0] = (uint8_t)(major << 5 | (log > 0 ? 23 + log : (unsigned)n));
        for (size_t i = 0; i < n_argument; i++)
                head[1 + i] = (uint8_t)(n >> (8 * (n_argument - 1 - i)));
        cbor_put_raw(w, head, 1 + n_argument);
}

void cbor_put_double(struct cbor_writer *w, double number)
{
        uint64_t bits;
        uint8_t bytes[9] = {7 << 5 | 27};

        memcpy(&bits, &number, sizeof(bits));
        for (size_t i = 0; i < 8; i++)
                bytes[1 + i] = (uint8_t)(bits >> (56 - 8 * i));
        cbor_put_raw(w, bytes, sizeof(bytes));
}

void cbor_put_string(struct cbor_writer *w, unsigned major, const void *bytes, size_t n)
{
        cbor_put(w, major, n);
        cbor_put_raw(w, bytes, n);
}
