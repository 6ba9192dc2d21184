/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the CBOR of stored values
 *
 * What the reader shows lies within the input, and its counts can be allocated for. An item that
 * cbor_skip() finds well-formed can be walked, and written again from what the reader showed, in
 * indefinite lengths made definite; that is well-formed too, and written once more it is the same.
 */
#undef NDEBUG
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cbor.h"
#include "fuzz.h"

#define MOST (1U << 16) /* items: indefinite arrays are counted by walking them */

static bool copy_item(struct cbor_reader *r, struct cbor_writer *w);

static void copy_string(struct cbor_reader *r, const struct cbor_item *item, struct cbor_writer *w)
{
        unsigned major = item->kind == CBOR_BYTES ? 2 : 3;
        size_t n;

        if (!item->indefinite) {
                cbor_put_string(w, major, item->bytes, (size_t)item->n);
                return;
        }
        assert(cbor_chunks_length(r, item->kind, &n));
        uint8_t *whole = malloc(n + 1);
        assert(whole && n <= (size_t)(r->end - r->at));
        whole[n] = 0xa5;
        cbor_chunks_copy(r, whole);
        assert(whole[n] == 0xa5);
        cbor_put_string(w, major, whole, n);
        free(whole);
}

/* Items of an indefinite array or map, up to the break, which is not taken. */
static uint64_t count(struct cbor_reader r)
{
        uint64_t n = 0;

        for (; !cbor_at_break(&r); n++)
                assert(cbor_skip(&r));
        return n;
}

static bool copy_many(struct cbor_reader *r, const struct cbor_item *item, struct cbor_writer *w)
{
        unsigned step = item->kind == CBOR_MAP ? 2 : 1;
        uint64_t n = item->indefinite ? count(*r) : step * item->n;

        assert(n <= (uint64_t)(r->end - r->at) && n % step == 0);
        cbor_put(w, item->kind == CBOR_MAP ? 5 : 4, n / step);
        for (uint64_t i = 0; i < n; i++)
                if (!copy_item(r, w))
                        return false;
        return !item->indefinite || cbor_at_break(r);
}

static bool copy_item(struct cbor_reader *r, struct cbor_writer *w)
{
        struct cbor_item item;
        const uint8_t *before = r->at;

        assert(cbor_next(r, &item));
        assert(r->at > before && r->at <= r->end);
        switch (item.kind) {
        case CBOR_UINT:
        case CBOR_NINT:
                cbor_put(w, item.kind == CBOR_NINT, item.n);
                return true;
        case CBOR_BYTES:
        case CBOR_TEXT:
                assert(item.indefinite || (item.bytes >= before && item.bytes + item.n == r->at));
                copy_string(r, &item, w);
                return true;
        case CBOR_ARRAY:
        case CBOR_MAP:
                return copy_many(r, &item, w);
        case CBOR_TAG:
                cbor_put(w, 6, item.n);
                return copy_item(r, w);
        case CBOR_FLOAT:
                cbor_put_double(w, isnan(item.number) ? (double)NAN : item.number);
                return true;
        case CBOR_SIMPLE:
                cbor_put(w, 7, item.n);
                return true;
        default:
                return false;
        }
}

/* Indefinite arrays in each other are counted again at each level: a bound on the time. */
static bool is_tangled(const uint8_t *data, size_t n)
{
        size_t open = 0;

        for (size_t i = 0; i < n; i++)
                open += data[i] == 0x9f || data[i] == 0xbf;
        return open > 64 && n > MOST / 16;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct cbor_reader r = {data, data + n}, walk = r;
        struct cbor_item item;
        struct cbor_writer first, second;

        /* Whatever it is, item after item. */
        while (cbor_next(&walk, &item)) {
                assert(walk.at <= walk.end);
                if (!item.indefinite && (item.kind == CBOR_ARRAY || item.kind == CBOR_MAP))
                        assert(item.n <= n);
        }
        if (n > MOST || is_tangled(data, n) || !cbor_skip(&r))
                return 0;
        assert(r.at <= r.end);
        struct cbor_reader again = {data, r.at};
        cbor_writer_init(&first);
        cbor_writer_init(&second);
        assert(copy_item(&again, &first) && again.at == again.end && !first.failed);
        again = (struct cbor_reader){first.data, first.data + first.n};
        walk = again;
        assert(cbor_skip(&walk) && walk.at == walk.end);
        assert(copy_item(&again, &second) && !second.failed);
        assert(first.n == second.n && memcmp(first.data, second.data, first.n) == 0);
        /* Cut off anywhere, it is not an item. */
        for (size_t cut = 0; cut < first.n && cut < 64; cut++) {
                walk = (struct cbor_reader){first.data, first.data + cut};
                assert(!cbor_skip(&walk));
        }
        cbor_writer_free(&first);
        cbor_writer_free(&second);
        return 0;
}
