/* SPDX-License-Identifier: MIT */
/*
 * What changes a session
 *
 * Setting a key to a value can be done twice, so such a request is simply sent again when its
 * connection breaks. All others say which change they are (`operation`), and the session remembers
 * the last one of whoever sends one at a time: so they are carried out once, whichever daemon has
 * the session by then.
 */

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "client/session.h"

static bool is_bytes(const void *data, size_t n)
{
        return data || n == 0;
}

/* Of one item with its value, in the body. */
static int set_one(cached_session *s, Cached__V1__SessionSet *m, const char *key, uint32_t flags,
                   const void *value, size_t n_value, cached_reply **ret)
{
        Cached__V1__Operation operation = CACHED__V1__OPERATION__INIT;
        Cached__V1__SessionItem item = CACHED__V1__SESSION_ITEM__INIT, *items = &item;
        struct call call = session_call(CACHED__V1__REQUEST__OP_SESSION_SET);
        struct iovec body = {(void *)(uintptr_t)value, n_value};

        item.key = (char *)(uintptr_t)key;
        item.size = n_value;
        item.flags = flags;
        m->token = session_token(s);
        m->items = &items;
        m->n_items = 1;
        if (m->mode != CACHED__V1__SET_MODE__SET_ANY ||
            m->compare_case != CACHED__V1__SESSION_SET__COMPARE__NOT_SET) {
                m->operation = &operation;
                call.operation = &operation;
        } else {
                call.idempotent = true;
        }
        call.request.session_set = m;
        call.body = &body;
        call.n_body_iov = n_value > 0;
        call.n_body = n_value;
        return call_run(s->handle, &call, ret);
}

int cached_session_set_with_flags(cached_session *s, const char *key, uint32_t flags,
                                  const void *value, size_t n_value, cached_reply **ret)
{
        Cached__V1__SessionSet m = CACHED__V1__SESSION_SET__INIT;

        if (!s || !key || !is_bytes(value, n_value))
                return call_refuse("cached_session_set() needs a session, a key and a value", ret);
        return set_one(s, &m, key, flags, value, n_value, ret);
}

int cached_session_set(cached_session *s, const char *key, const void *value, size_t n_value,
                       cached_reply **ret)
{
        return cached_session_set_with_flags(s, key, 0, value, n_value, ret);
}

int cached_session_set_if_absent_with_flags(cached_session *s, const char *key, uint32_t flags,
                                            const void *value, size_t n_value, cached_reply **ret)
{
        Cached__V1__SessionSet m = CACHED__V1__SESSION_SET__INIT;

        if (!s || !key || !is_bytes(value, n_value))
                return call_refuse("cached_session_set_if_absent() needs a session, a key and a "
                                   "value",
                                   ret);
        m.mode = CACHED__V1__SET_MODE__SET_ADD_ONLY;
        return set_one(s, &m, key, flags, value, n_value, ret);
}

int cached_session_set_if_absent(cached_session *s, const char *key, const void *value,
                                 size_t n_value, cached_reply **ret)
{
        return cached_session_set_if_absent_with_flags(s, key, 0, value, n_value, ret);
}

int cached_session_compare_and_set_with_flags(cached_session *s, const char *key, uint64_t version,
                                              uint32_t flags, const void *value, size_t n_value,
                                              cached_reply **ret)
{
        Cached__V1__SessionSet m = CACHED__V1__SESSION_SET__INIT;

        if (!s || !key || !is_bytes(value, n_value))
                return call_refuse("cached_session_compare_and_set() needs a session, a key and a "
                                   "value",
                                   ret);
        m.compare_case = CACHED__V1__SESSION_SET__COMPARE_EXPECTED_VERSION;
        m.expected_version = version;
        return set_one(s, &m, key, flags, value, n_value, ret);
}

int cached_session_compare_and_set(cached_session *s, const char *key, uint64_t version,
                                   const void *value, size_t n_value, cached_reply **ret)
{
        return cached_session_compare_and_set_with_flags(s, key, version, 0, value, n_value, ret);
}

/* ------------------------------------------------------------------------------------- several */

/* The items, with pointers to them and the pieces of the body behind them, in one allocation. */
struct many {
        Cached__V1__SessionItem **items;
        struct iovec *body;
        size_t n_body_iov;
        uint64_t n_body;
};

static bool many_init(struct many *many, size_t n, const char *const *keys, const uint32_t *flags,
                      const void *const *values, const size_t *n_values)
{
        size_t each = sizeof(Cached__V1__SessionItem) + sizeof(*many->items) + sizeof(*many->body);
        Cached__V1__SessionItem *item;

        many->body = calloc(n, each);
        if (!many->body)
                return false;
        item = (Cached__V1__SessionItem *)(void *)(many->body + n);
        many->items = (Cached__V1__SessionItem **)(void *)(item + n);
        for (size_t i = 0; i < n; i++) {
                cached__v1__session_item__init(&item[i]);
                item[i].key = (char *)(uintptr_t)keys[i];
                item[i].size = n_values[i];
                item[i].flags = flags ? flags[i] : 0;
                many->items[i] = &item[i];
                many->n_body += n_values[i];
                if (n_values[i] > 0)
                        many->body[many->n_body_iov++] =
                                (struct iovec){(void *)(uintptr_t)values[i], n_values[i]};
        }
        return true;
}

int cached_session_set_many_with_flags(cached_session *s, size_t n, const char *const *keys,
                                       const uint32_t *flags, const void *const *values,
                                       const size_t *n_values, cached_reply **ret)
{
        Cached__V1__SessionSet m = CACHED__V1__SESSION_SET__INIT;
        struct call call = session_call(CACHED__V1__REQUEST__OP_SESSION_SET);
        struct many many = {0};
        struct failure f;
        int code;

        if (!s || n == 0 || !keys || !values || !n_values)
                return call_refuse("cached_session_set_many() needs a session, keys and values",
                                   ret);
        for (size_t i = 0; i < n; i++)
                if (!keys[i] || !is_bytes(values[i], n_values[i]))
                        return call_refuse("cached_session_set_many(): a key or a value is NULL",
                                           ret);
        if (!many_init(&many, n, keys, flags, values, n_values))
                return call_fail(failure_nomem(&f), &f, ret);
        m.token = session_token(s);
        m.items = many.items;
        m.n_items = n;
        call.request.session_set = &m;
        call.idempotent = true;
        call.body = many.body;
        call.n_body_iov = many.n_body_iov;
        call.n_body = many.n_body;
        code = call_run(s->handle, &call, ret);
        free(many.body);
        return code;
}

int cached_session_set_many(cached_session *s, size_t n, const char *const *keys,
                            const void *const *values, const size_t *n_values, cached_reply **ret)
{
        return cached_session_set_many_with_flags(s, n, keys, NULL, values, n_values, ret);
}

/* --------------------------------------------------------------------------- less, and counting */

static int delete (cached_session *s, const char *key, cached_reply **ret)
{
        Cached__V1__Operation operation = CACHED__V1__OPERATION__INIT;
        Cached__V1__SessionDelete m = CACHED__V1__SESSION_DELETE__INIT;
        struct call call = session_call(CACHED__V1__REQUEST__OP_SESSION_DELETE);
        char *keys[] = {(char *)(uintptr_t)key};

        m.token = session_token(s);
        m.n_keys = key != NULL;
        m.keys = keys;
        m.all = !key;
        m.operation = &operation;
        call.operation = &operation;
        call.request.session_delete = &m;
        return call_run(s->handle, &call, ret);
}

int cached_session_delete(cached_session *s, const char *key, cached_reply **ret)
{
        cached_reply *r = NULL;
        int code;

        if (!s || !key)
                return call_refuse("cached_session_delete() needs a session and a key", ret);
        code = delete (s, key, &r);
        if (code == CACHED_OK && cached_reply_n_items(r) == 0)
                return session_no_value(r, key, ret);
        return session_hand_out(code, r, ret);
}

int cached_session_clear(cached_session *s, cached_reply **ret)
{
        return s ? delete (s, NULL, ret)
                 : call_refuse("cached_session_clear() needs a session", ret);
}

/* The new value of a number, as the kind that was asked for. */
struct sum {
        bool is_real;
        int64_t integer;
        double real;
};

/* Whatever the program's locale takes for a decimal point. */
static double real_of(const char *text, char **ret_end)
{
        locale_t c = newlocale(LC_ALL_MASK, "C", NULL);
        double v = c ? strtod_l(text, ret_end, c) : strtod(text, ret_end);

        if (c)
                freelocale(c);
        return v;
}

/* False: that is no such number. */
static bool sum_take(struct sum *sum, const cached_reply *r)
{
        size_t n = 0;
        const void *value = cached_reply_value(r, &n);
        char text[64], *end = text;

        if (!value || n == 0 || n >= sizeof(text))
                return false;
        memcpy(text, value, n);
        text[n] = '\0';
        errno = 0;
        if (sum->is_real)
                sum->real = real_of(text, &end);
        else
                sum->integer = strtoll(text, &end, 10);
        return end == text + n && (errno == 0 || sum->is_real);
}

static int increment(cached_session *s, Cached__V1__SessionIncrement *m, const char *key,
                     struct sum *ret_sum, cached_reply **ret)
{
        Cached__V1__Operation operation = CACHED__V1__OPERATION__INIT;
        struct call call = session_call(CACHED__V1__REQUEST__OP_SESSION_INCREMENT);
        cached_reply *r = NULL;
        int code;

        m->token = session_token(s);
        m->key = (char *)(uintptr_t)key;
        m->operation = &operation;
        call.operation = &operation;
        call.request.session_increment = m;
        code = call_run(s->handle, &call, &r);
        if (code == CACHED_OK && !sum_take(ret_sum, r)) {
                cached_reply_free(r);
                return call_refuse_reply("the daemon did not tell the sum", ret);
        }
        if (code == CACHED_NOT_FOUND && !cached_session_is_over(r))
                return session_no_value(r, key, ret);
        return session_hand_out(code, r, ret);
}

int cached_session_increment(cached_session *s, const char *key, int64_t by, const int64_t *start,
                             int64_t *ret_sum, cached_reply **ret)
{
        Cached__V1__SessionIncrement m = CACHED__V1__SESSION_INCREMENT__INIT;
        struct sum sum = {.is_real = false};
        int code;

        if (!s || !key)
                return call_refuse("cached_session_increment() needs a session and a key", ret);
        m.by_case = CACHED__V1__SESSION_INCREMENT__BY_INTEGER;
        m.integer = by;
        if (start) {
                m.start_case = CACHED__V1__SESSION_INCREMENT__START_START_INTEGER;
                m.start_integer = *start;
        }
        code = increment(s, &m, key, &sum, ret);
        if (code == CACHED_OK && ret_sum)
                *ret_sum = sum.integer;
        return code;
}

int cached_session_increment_real(cached_session *s, const char *key, double by,
                                  const double *start, double *ret_sum, cached_reply **ret)
{
        Cached__V1__SessionIncrement m = CACHED__V1__SESSION_INCREMENT__INIT;
        struct sum sum = {.is_real = true};
        int code;

        if (!s || !key)
                return call_refuse("cached_session_increment_real() needs a session and a key",
                                   ret);
        m.by_case = CACHED__V1__SESSION_INCREMENT__BY_REAL;
        m.real = by;
        if (start) {
                m.start_case = CACHED__V1__SESSION_INCREMENT__START_START_REAL;
                m.start_real = *start;
        }
        code = increment(s, &m, key, &sum, ret);
        if (code == CACHED_OK && ret_sum)
                *ret_sum = sum.real;
        return code;
}

int cached_session_append(cached_session *s, const char *key, const void *value, size_t n_value,
                          uint64_t max_bytes, cached_reply **ret)
{
        Cached__V1__Operation operation = CACHED__V1__OPERATION__INIT;
        Cached__V1__SessionAppend m = CACHED__V1__SESSION_APPEND__INIT;
        struct call call = session_call(CACHED__V1__REQUEST__OP_SESSION_APPEND);
        struct iovec body = {(void *)(uintptr_t)value, n_value};

        if (!s || !key || !is_bytes(value, n_value))
                return call_refuse("cached_session_append() needs a session, a key and a value",
                                   ret);
        m.token = session_token(s);
        m.key = (char *)(uintptr_t)key;
        m.max_bytes = max_bytes;
        m.operation = &operation;
        call.operation = &operation;
        call.request.session_append = &m;
        call.body = &body;
        call.n_body_iov = n_value > 0;
        call.n_body = n_value;
        return call_run(s->handle, &call, ret);
}
