/* SPDX-License-Identifier: MIT */
/*
 * Views, and gets of large values
 *
 * A value comes in one of three ways: it is at hand (view-look.c), the daemon says that it is what
 * is at hand, or it sends a memory file; else it comes as a body, and then the view is of memory of
 * our own. So whoever asked has a view of any value, and one of a memory file costs the same
 * whatever its size.
 *
 * A get's value up to a few megabytes is copied, since its memory is warm; a longer one is shown in
 * place, and is the reply's until that is freed.
 *
 * Descriptors may run out in this process while a memory file is on its way. Then the bytes are
 * asked for.
 */

#include "client/view.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "client/call.h"
#include "client/pool-views.h"
#include "client/reply.h"

/* --------------------------------------------------------------------------------------- views */

struct cached_view *view_new_own(uint8_t *heap, uint64_t n, uint64_t version)
{
        struct cached_view *v = calloc(1, sizeof(*v));

        if (!v) {
                free(heap);
                return NULL;
        }
        v->data = v->heap = heap;
        v->n = n;
        v->version = version;
        return v;
}

/* Memory of the view's own, with what the file has. False: there is none. */
static bool view_make_own(struct cached_view *v)
{
        const struct view_file *file = v->file;

        if (file->fd >= 0 && v->n > 0) {
                v->data = view_file_map_private(file);
                v->is_mapped = v->data != NULL;
                return v->is_mapped;
        }
        v->data = v->heap = malloc((size_t)v->n + 1);
        if (v->heap)
                memcpy(v->heap, file->data, (size_t)v->n);
        return v->heap != NULL;
}

int view_new(struct view_file *file, int mode, struct failure *f, struct cached_view **ret)
{
        struct cached_view *v = calloc(1, sizeof(*v));

        if (!v) {
                view_file_unref(file);
                return failure_nomem(f);
        }
        v->file = file;
        v->n = file->n;
        v->version = file->version;
        v->data = (uint8_t *)(uintptr_t)file->data;
        if (mode == CACHED_VIEW_PRIVATE && !view_make_own(v)) {
                cached_view_release(v);
                return failure_set(f, CACHED_ERR_NOMEM,
                                   "there is no memory for a view of %" PRIu64 " bytes", file->n);
        }
        *ret = v;
        return CACHED_OK;
}

void cached_view_release(cached_view *v)
{
        if (!v)
                return;
        if (v->is_mapped)
                (void)munmap(v->data, (size_t)v->n);
        free(v->heap);
        view_file_unref(v->file);
        free(v);
}

void *cached_view_data(const cached_view *v)
{
        return v ? v->data : NULL;
}

uint64_t cached_view_size(const cached_view *v)
{
        return v ? v->n : 0;
}

uint64_t cached_view_version(const cached_view *v)
{
        return v ? v->version : 0;
}

int cached_view_fd(const cached_view *v)
{
        return v && v->file ? v->file->fd : -1;
}

/* ------------------------------------------------------------------------------- the daemon's */

/* A fetch that the daemon has to answer. */
struct fetch {
        struct pool *p; /* a reference: the handle may go while we are here */
        const struct view_want *want;
        bool is_plain;
        struct view_file *have; /* a reference, or NULL */
        struct cached_reply *r;
};

static int fetch_send(cached *c, struct fetch *x, bool takes_file)
{
        Cached__V1__Get m = CACHED__V1__GET__INIT;
        struct call call = call_init(CACHED__V1__REQUEST__OP_GET);

        m.key = (ProtobufCBinaryData){x->want->n_key, (uint8_t *)(uintptr_t)x->want->key};
        m.no_touch = x->want->no_touch;
        m.with_messages = x->want->with_messages;
        call.request.get = &m;
        call.cache = x->want->cache;
        call.cache_id = &m.cache_id;
        call.cache_name = &m.cache;
        call.idempotent = true;
        call.patience_ms = x->want->patience_ms;
        call.takes_file = takes_file;
        if (x->have) {
                call.have_instance = x->have->instance;
                call.have_version = x->have->version;
        }
        return call_run(c, &call, &x->r);
}

/* The memory file that came. */
static int fetch_file(struct fetch *x, struct failure *f, struct view_file **ret)
{
        const Cached__V1__EntryInfo *e = x->r->message->entry;
        struct view_file *v;
        int code = view_file_open(x->r->fd, e->size, e->messages_size, f, &v);

        x->r->fd = -1;
        if (code != CACHED_OK) {
                pool_lose_view(x->p, x->r->instance, e->view_id);
                return code;
        }
        v->instance = x->r->instance;
        v->version = e->version;
        v->view_id = e->view_id;
        if (x->want->with_messages && !reply_take_messages(x->r, v->data + v->n)) {
                pool_keep_view(x->p, v, NULL, NULL, 0);
                view_file_unref(v);
                return failure_nomem(f);
        }
        if (x->is_plain && e->encoding == CACHED__V1__ENCODING__ENCODING_LZ4) {
                struct cached_view *view = NULL;

                /* The reply becomes what it would be with a body. */
                pool_keep_view(x->p, v, NULL, NULL, 0);
                code = view_new(v, CACHED_VIEW_READ, f, &view);
                if (code != CACHED_OK)
                        return code;
                reply_set_view(x->r, view);
                return reply_decode(x->r, f);
        }
        pool_keep_view(x->p, v, x->want->cache, x->want->key, x->want->n_key);
        *ret = v;
        return CACHED_OK;
}

/* A long body becomes a value that is kept; a shorter one stays with its reply. */
static int fetch_body(struct fetch *x, struct failure *f, struct view_file **ret)
{
        uint64_t n = x->r->n_body;
        struct view_file *v;
        uint8_t *heap;

        if (!x->want->keeps || n < VIEW_COPY_MIN)
                return CACHED_OK;
        heap = reply_steal_body(x->r);
        v = heap ? view_file_copy(heap, n) : NULL;
        if (!v)
                return failure_nomem(f);
        v->instance = x->r->instance;
        v->version = cached_reply_version(x->r);
        pool_keep_view(x->p, v, x->want->cache, x->want->key, x->want->n_key);
        *ret = v;
        return CACHED_OK;
}

/* What came with a reply that is OK. */
static int fetch_take(struct fetch *x, struct failure *f, struct view_file **ret)
{
        const Cached__V1__EntryInfo *e = x->r->message->entry;
        int code = CACHED_OK;

        if (e->unchanged) {
                if (!x->have || e->version != x->have->version ||
                    x->r->instance != x->have->instance)
                        return failure_set(f, CACHED_ERR_BAD_REPLY,
                                           "the daemon says that a value is unchanged that it was "
                                           "not asked about");
                *ret = x->have;
                x->have = NULL;
                return CACHED_OK;
        }
        if (x->r->fd >= 0)
                code = fetch_file(x, f, ret);
        if (code == CACHED_OK && !*ret && x->r->code == CACHED_OK)
                code = fetch_body(x, f, ret);
        return code == CACHED_OK ? x->r->code : code;
}

/* A code; with CACHED_OK a reply, and a value unless the reply has a body. */
static int fetch(cached *c, const struct view_want *w, struct view_found *ret,
                 struct cached_reply **ret_reply)
{
        struct fetch x = {.p = c->pool, .want = w, .is_plain = !c->options.keep_encoded};
        struct failure f;
        int code;

        pool_ref(x.p);
        if (!w->with_messages)
                x.have = pool_find_view_of(x.p, w->cache, w->key, w->n_key);
        code = fetch_send(c, &x, true);
        if (code == CACHED_OK && x.r->fd < 0 && x.r->message->entry->view_id != 0) {
                pool_lose_view(x.p, x.r->instance, x.r->message->entry->view_id);
                cached_reply_free(x.r);
                code = fetch_send(c, &x, false);
        }
        if (code == CACHED_OK) {
                code = fetch_take(&x, &f, &ret->file);
                if (code != CACHED_OK && code != x.r->code) {
                        cached_reply_free(x.r);
                        code = call_fail(code, &f, &x.r);
                }
        }
        if (ret->file) {
                ret->n = ret->file->n;
                ret->version = ret->file->version;
        }
        view_file_unref(x.have);
        pool_unref(x.p);
        *ret_reply = x.r;
        return code;
}

static int find(cached *c, const struct view_want *w, struct view_found *ret,
                struct cached_reply **ret_reply)
{
        int code;

        view_tend(c);
        pool_tell(c->pool);
        if (!w->with_messages && view_look(c, w, ret, ret_reply, &code))
                return code;
        return fetch(c, w, ret, ret_reply);
}

/* ------------------------------------------------------------------------------- public calls */

/* Ends a call whose value cannot be handed out. */
static int give_up(struct cached_reply *r, const struct failure *f, cached_reply **ret)
{
        cached_reply_free(r);
        return call_fail(f->code, f, ret);
}

/* The reply's body, which it has no more, in malloc's memory. NULL: there is none. */
static uint8_t *take_body(struct cached_reply *r, uint64_t *ret_n)
{
        uint8_t *heap;

        *ret_n = r->n_body;
        heap = reply_steal_body(r);
        if (!heap) {
                heap = malloc((size_t)*ret_n + 1);
                if (!heap)
                        return NULL;
                memcpy(heap, r->body, (size_t)*ret_n);
                r->body = NULL;
                r->n_body = 0;
        }
        return heap;
}

static struct cached_view *view_of_body(struct cached_reply *r)
{
        uint64_t n;
        uint8_t *heap = take_body(r, &n);

        return heap ? view_new_own(heap, n, cached_reply_version(r)) : NULL;
}

int cached_get_view(cached *c, const char *cache, const void *key, size_t n_key, int mode,
                    cached_view **ret, cached_reply **reply)
{
        struct view_want w = {.cache = cache, .key = key, .n_key = n_key};
        struct cached_reply *r = NULL;
        struct view_found found = {0};
        struct cached_view *view = NULL;
        struct failure f;
        int code;

        if (!c || !cache || (!key && n_key > 0) || !ret ||
            (mode != CACHED_VIEW_READ && mode != CACHED_VIEW_PRIVATE))
                return call_refuse("cached_get_view() needs a handle, a cache, a key, a mode and a "
                                   "place for the view",
                                   reply);
        w.keeps = mode == CACHED_VIEW_READ;
        code = find(c, &w, &found, &r);
        (void)failure_set(&f, code, "%s", cached_strerror(code));
        if (code != CACHED_OK)
                return call_hand_out(code, r, &f, reply);
        (void)failure_nomem(&f);
        if (found.file)
                (void)view_new(found.file, mode, &f, &view); /* without one, `f` says why */
        else if (found.heap)
                view = view_new_own(found.heap, found.n, found.version);
        else
                view = view_of_body(r);
        if (!view)
                return give_up(r, &f, reply);
        *ret = view;
        return call_hand_out(CACHED_OK, r, &f, reply);
}

/* The value of a get: a copy, or the whole in place. */
static int get_value(struct cached_reply *r, struct view_file *file, bool is_own, struct failure *f)
{
        struct cached_view *view = NULL;
        int code;

        if (file->n <= VIEW_GET_COPY_MAX) {
                uint8_t *heap = malloc((size_t)file->n + 1);

                if (heap)
                        memcpy(heap, file->data, (size_t)file->n);
                if (heap)
                        reply_set_body(r, heap, (size_t)file->n);
                view_file_unref(file);
                return heap ? CACHED_OK : failure_nomem(f);
        }
        code = view_new(file, is_own ? CACHED_VIEW_PRIVATE : CACHED_VIEW_READ, f, &view);
        if (code == CACHED_OK)
                reply_set_view(r, view);
        return code;
}

/* There was no room for the descriptor: the bytes are asked for. What the reply says of a lease
 * stays. */
static int take_lost(cached *c, struct fetch *x, struct failure *f)
{
        struct cached_reply *r = x->r, *again;
        Cached__V1__EntryInfo *e = r->message->entry;
        uint8_t *heap = NULL;
        uint64_t n = 0;
        int code;

        pool_lose_view(x->p, r->instance, e->view_id);
        code = fetch_send(c, x, false);
        again = x->r;
        x->r = r;
        if (code == CACHED_OK) {
                ProtobufCMessage base = e->base;

                heap = take_body(again, &n);
                *e = *again->message->entry;
                e->base = base;
                e->n_tags = 0; /* a Get tells none */
                e->tags = NULL;
                r->messages = again->messages;
                r->messages_code = again->messages_code;
                again->messages = NULL;
        }
        if (heap)
                reply_set_body(r, heap, (size_t)n);
        else if (code == CACHED_OK)
                code = failure_nomem(f);
        else
                (void)failure_set(f, code, "%s", cached_reply_error(again));
        cached_reply_free(again);
        return code;
}

int view_take(cached *c, const struct view_want *w, struct view_file *have, bool is_own,
              struct cached_reply *r, struct failure *f)
{
        struct fetch x = {.p = c->pool,
                          .want = w,
                          .is_plain = !c->options.keep_encoded,
                          .have = have,
                          .r = r};
        struct view_file *file = NULL;
        int code;

        pool_ref(x.p);
        if (r->fd < 0 && r->message->entry->view_id)
                code = take_lost(c, &x, f);
        else
                code = fetch_take(&x, f, &file);
        if (code == CACHED_OK && file)
                code = get_value(r, file, is_own, f);
        view_file_unref(x.have);
        pool_unref(x.p);
        return code == r->code ? CACHED_OK : code;
}

int view_get(cached *c, const struct view_want *w, bool is_own, cached_reply **ret)
{
        struct cached_reply *r = NULL;
        struct view_found found = {0};
        struct failure f;
        int code = find(c, w, &found, &r);

        if (code == CACHED_OK && found.file) {
                code = get_value(r, found.file, is_own, &f);
                if (code != CACHED_OK)
                        return give_up(r, &f, ret);
        }
        (void)failure_set(&f, code, "%s", cached_strerror(code));
        return call_hand_out(code, r, &f, ret);
}

void *cached_reply_own_value(cached_reply *r, size_t *ret_size)
{
        if (r && r->view && !r->view->is_mapped && !r->view->heap)
                return NULL;
        return (void *)(uintptr_t)cached_reply_value(r, ret_size);
}
