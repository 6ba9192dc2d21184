/* SPDX-License-Identifier: MIT */
/*
 * Public calls about buffers; what they are is in membuf.c
 *
 * Prepared ones are the pool's. They are made without its guard, which is only held to count them:
 * to fill memory with zeros takes a millisecond for a few megabytes.
 */

#include <cached.h>

#include "client/handle.h"
#include "client/membuf.h"
#include "client/pool-views.h"

/* ------------------------------------------------------------------------------------ prepared */

/* Frees those of a class beyond `n`. */
static void prepared_trim(struct pool *p, uint64_t n_class, uint64_t n)
{
        for (;;) {
                struct cached_buffer *b = NULL;

                pool_lock(p);
                if (prepared_count(&p->prepared, n_class) > n)
                        b = prepared_take(&p->prepared, n_class);
                pool_note_prepared(p);
                pool_unlock(p);
                if (!b)
                        return;
                membuf_free(b);
        }
}

enum want {
        WANT_NONE,
        WANT_ONE, /* room for it is reserved */
        WANT_TOO_MUCH,
};

static enum want prepared_wants(struct pool *p, uint64_t n_class, uint64_t n)
{
        enum want w = WANT_NONE;

        pool_lock(p);
        if (prepared_count(&p->prepared, n_class) < n && !atomic_load(&p->closed))
                w = prepared_reserve(&p->prepared, n_class) ? WANT_ONE : WANT_TOO_MUCH;
        pool_note_prepared(p);
        pool_unlock(p);
        return w;
}

int cached_buffers_prepare(cached *c, uint64_t size, uint32_t n)
{
        uint64_t n_class = membuf_class(size);
        struct failure f;
        enum want w;

        if (!c || n_class == 0)
                return CACHED_ERR_USAGE;
        prepared_trim(c->pool, n_class, n);
        while ((w = prepared_wants(c->pool, n_class, n)) == WANT_ONE) {
                struct cached_buffer *b = NULL;
                int code = membuf_new(size, true, &f, &b);

                pool_lock(c->pool);
                if (b)
                        prepared_put(&c->pool->prepared, b);
                else
                        prepared_unreserve(&c->pool->prepared, n_class);
                pool_note_prepared(c->pool);
                pool_unlock(c->pool);
                if (code != CACHED_OK)
                        return code;
        }
        return w == WANT_TOO_MUCH ? CACHED_ERR_AGAIN : CACHED_OK;
}

/* ------------------------------------------------------------------------------------- buffers */

static int buffer_new(cached *c, uint64_t size, bool is_ready, cached_buffer **ret)
{
        struct cached_buffer *b;
        struct failure f;
        int code;

        if (!c || size == 0 || !ret)
                return CACHED_ERR_USAGE;
        pool_lock(c->pool);
        b = prepared_take(&c->pool->prepared, membuf_class(size));
        if (b)
                pool_note_prepared(c->pool);
        pool_unlock(c->pool);
        if (!b) {
                code = membuf_new(size, is_ready, &f, &b);
                if (code != CACHED_OK && is_ready) /* what is touched may be less */
                        code = membuf_new(size, false, &f, &b);
                if (code != CACHED_OK)
                        return code;
        }
        b->size = size;
        *ret = b;
        return CACHED_OK;
}

int cached_buffer_new(cached *c, uint64_t size, cached_buffer **ret)
{
        return buffer_new(c, size, false, ret);
}

int cached_buffer_new_ready(cached *c, uint64_t size, cached_buffer **ret)
{
        return buffer_new(c, size, true, ret);
}

void *cached_buffer_data(const cached_buffer *b)
{
        return b ? b->data : NULL;
}

uint64_t cached_buffer_size(const cached_buffer *b)
{
        return b ? b->size : 0;
}

void cached_buffer_free(cached_buffer *b)
{
        if (b)
                membuf_free(b);
}
