/* SPDX-License-Identifier: MIT */
/*
 * Client's methods about entries and caches
 */

#include "binding.h"

#include <string.h>

/* What a look-up gave. */
static PyObject *found(struct binding *b, int code, cached_reply *r)
{
        if (code == CACHED_OK)
                return entry_of(b, r);
        if (code != CACHED_NOT_FOUND)
                return raise_reply(b, code, r);
        cached_reply_free(r);
        Py_RETURN_NONE;
}

/* Arguments that are not simply a cache and a key: by name, or wrong. 0: they are both, in order.
 */
static int named_place(const char *name, PyObject *const *args, Py_ssize_t n, PyObject *names,
                       PyObject *ret[2])
{
        Py_ssize_t n_names = names ? PyTuple_GET_SIZE(names) : 0;

        ret[0] = n > 0 ? args[0] : NULL;
        ret[1] = n > 1 ? args[1] : NULL;
        for (Py_ssize_t i = 0; i < n_names; i++) {
                PyObject *which = PyTuple_GET_ITEM(names, i);
                int at = PyUnicode_CompareWithASCIIString(which, "cache") == 0 ? 0
                         : PyUnicode_CompareWithASCIIString(which, "key") == 0 ? 1
                                                                               : -1;

                if (at >= 0 && !ret[at])
                        ret[at] = args[n + i];
                else
                        n = 3;
        }
        if (n <= 2 && ret[0] && ret[1])
                return 0;
        PyErr_Format(PyExc_TypeError, "%s() takes a cache and a key", name);
        return -1;
}

/* The cache and the key that get(), peek() and delete() are called with. */
static int place_of(const char *name, PyObject *const *args, Py_ssize_t n, PyObject *names,
                    const char **cache, const char **key, Py_ssize_t *n_key)
{
        PyObject *named[2];
        Py_ssize_t n_cache;

        if (n != 2 || names) {
                if (named_place(name, args, n, names, named))
                        return -1;
                args = named;
        }
        if (!PyUnicode_Check(args[0])) {
                PyErr_Format(PyExc_TypeError, "a cache's name is a str, not %.100s",
                             Py_TYPE(args[0])->tp_name);
                return -1;
        }
        *cache = PyUnicode_AsUTF8AndSize(args[0], &n_cache);
        if (!*cache)
                return -1;
        if (strlen(*cache) != (size_t)n_cache) {
                PyErr_SetString(PyExc_ValueError, "a cache's name has no zero characters");
                return -1;
        }
        return key_bytes_of(args[1], key, n_key);
}

static PyObject *entries_get(PyObject *object, PyObject *const *args, Py_ssize_t n, PyObject *names)
{
        struct client *self = (struct client *)object;
        cached_reply *r = NULL;
        const char *cache, *key;
        Py_ssize_t n_key;
        int code;

        if (place_of("get", args, n, names, &cache, &key, &n_key))
                return NULL;
        code = cached_get_mapped(self->c, cache, key, (size_t)n_key, &r);
        /* A miss was not counted yet. */
        if (code == CACHED_ERR_AGAIN || code == CACHED_NOT_FOUND) {
                cached_reply_free(r);
                r = NULL;
                Py_BEGIN_ALLOW_THREADS;
                code = cached_get(self->c, cache, key, (size_t)n_key, &r);
                Py_END_ALLOW_THREADS;
        }
        return found(self->b, code, r);
}

static PyObject *entries_peek(PyObject *object, PyObject *const *args, Py_ssize_t n,
                              PyObject *names)
{
        struct client *self = (struct client *)object;
        cached_reply *r = NULL;
        const char *cache, *key;
        Py_ssize_t n_key;
        int code;

        if (place_of("peek", args, n, names, &cache, &key, &n_key))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_peek(self->c, cache, key, (size_t)n_key, &r);
        Py_END_ALLOW_THREADS;
        return found(self->b, code, r);
}

static PyObject *entries_delete(PyObject *object, PyObject *const *args, Py_ssize_t n,
                                PyObject *names)
{
        struct client *self = (struct client *)object;
        cached_reply *r = NULL;
        const char *cache, *key;
        Py_ssize_t n_key;
        int code;

        if (place_of("delete", args, n, names, &cache, &key, &n_key))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_delete(self->c, cache, key, (size_t)n_key, &r);
        Py_END_ALLOW_THREADS;
        if (code != CACHED_OK && code != CACHED_NOT_FOUND)
                return raise_reply(self->b, code, r);
        cached_reply_free(r);
        return PyBool_FromLong(code == CACHED_OK);
}

static PyObject *entries_set(PyObject *object, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"cache",  "key",  "pieces",  "size", "flags",
                                "ttl_ms", "tags", "cost_us", "mode", NULL};
        struct client *self = (struct client *)object;
        struct payload_args a = {0};
        struct payload p;
        cached_reply *r = NULL;
        PyObject *key_object;
        const char *cache, *key;
        Py_ssize_t n_key;
        int code;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sOO|$OOOOOO:set", names, &cache,
                                         &key_object, &a.pieces, &a.size, &a.flags, &a.ttl_ms,
                                         &a.tags, &a.cost_us, &a.mode) ||
            key_bytes_of(key_object, &key, &n_key))
                return NULL;
        if (payload_take(self, &a, &p)) {
                payload_free(&p);
                return NULL;
        }
        Py_BEGIN_ALLOW_THREADS;
        if (p.buffer)
                code = cached_set_buffer(self->c, cache, key, (size_t)n_key, p.buffer, p.size, p.o,
                                         &r);
        else
                code = cached_set(self->c, cache, key, (size_t)n_key, p.data, p.size, p.o, &r);
        Py_END_ALLOW_THREADS;
        return payload_stored(self->b, &p, code, r);
}

/* How many entries left; None: there was no such cache. */
static PyObject *cleared(struct binding *b, int code, cached_reply *r)
{
        uint64_t entries = 0;

        if (code != CACHED_OK && code != CACHED_NOT_FOUND)
                return raise_reply(b, code, r);
        if (code == CACHED_OK)
                (void)cached_reply_u64(r, "entries", &entries);
        cached_reply_free(r);
        if (code == CACHED_NOT_FOUND)
                Py_RETURN_NONE;
        return PyLong_FromUnsignedLongLong(entries);
}

static PyObject *entries_clear(PyObject *object, PyObject *args)
{
        struct client *self = (struct client *)object;
        cached_reply *r = NULL;
        const char *cache;
        int code;

        if (!PyArg_ParseTuple(args, "s:clear", &cache))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_clear(self->c, cache, &r);
        Py_END_ALLOW_THREADS;
        return cleared(self->b, code, r);
}

static PyObject *entries_clear_tag(PyObject *object, PyObject *args)
{
        struct client *self = (struct client *)object;
        cached_reply *r = NULL;
        const char *cache, *tag;
        int code;

        if (!PyArg_ParseTuple(args, "ss:clear_tag", &cache, &tag))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_clear_tag(self->c, cache, tag, &r);
        Py_END_ALLOW_THREADS;
        return cleared(self->b, code, r);
}

/* ---- policies and statistics */

struct policy_args {
        PyObject *ttl_ms, *max_entries, *max_bytes, *stale_for_ms, *stale_if_error_ms,
                *refresh_ahead, *expire_jitter;
};

static cached_policy *policy_of(const struct policy_args *a)
{
        uint64_t ttl, entries, bytes, stale, error, ahead, jitter;
        cached_policy *p;

        if (number_of(a->ttl_ms, "ttl_ms", CACHED_NEVER - 1, CACHED_NEVER, &ttl) ||
            number_of(a->max_entries, "max_entries", UINT64_MAX - 1, 0, &entries) ||
            number_of(a->max_bytes, "max_bytes", UINT64_MAX - 1, 0, &bytes) ||
            number_of(a->stale_for_ms, "stale_for_ms", UINT64_MAX - 1, 0, &stale) ||
            number_of(a->stale_if_error_ms, "stale_if_error_ms", UINT64_MAX - 1, 0, &error) ||
            number_of(a->refresh_ahead, "refresh_ahead", 999, 0, &ahead) ||
            number_of(a->expire_jitter, "expire_jitter", 1000, 0, &jitter))
                return NULL;
        p = cached_policy_new();
        if (!p)
                return (void *)PyErr_NoMemory();
        (void)cached_policy_set_ttl_ms(p, ttl);
        if (a->max_entries && a->max_entries != Py_None)
                (void)cached_policy_set_max_entries(p, entries);
        if (a->max_bytes && a->max_bytes != Py_None)
                (void)cached_policy_set_max_bytes(p, bytes);
        (void)cached_policy_set_stale_for_ms(p, stale);
        (void)cached_policy_set_stale_if_error_ms(p, error);
        (void)cached_policy_set_refresh_ahead(p, (uint32_t)ahead);
        (void)cached_policy_set_expire_jitter(p, (uint32_t)jitter);
        return p;
}

/* A dict of those numbers of a reply that it has. */
static PyObject *numbers_of(const cached_reply *r, const char *prefix, const char *const *names)
{
        PyObject *result = PyDict_New();

        for (; result && *names; names++) {
                char path[80];
                uint64_t n;
                PyObject *number;

                (void)snprintf(path, sizeof(path), "%s%s", prefix, *names);
                if (cached_reply_u64(r, path, &n) != CACHED_OK)
                        continue;
                number = PyLong_FromUnsignedLongLong(n);
                if (!number || PyDict_SetItemString(result, *names, number))
                        Py_CLEAR(result);
                Py_XDECREF(number);
        }
        return result;
}

static PyObject *entries_open_cache(PyObject *object, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"cache",         "ttl_ms",        "max_entries",
                                "max_bytes",     "stale_for_ms",  "stale_if_error_ms",
                                "refresh_ahead", "expire_jitter", NULL};
        static const char *const told[] = {"policy.ttl_ms",
                                           "policy.max_entries",
                                           "policy.max_bytes",
                                           "policy.stale_for_ms",
                                           "policy.stale_if_error_ms",
                                           "policy.refresh_ahead_permille",
                                           "policy.expire_jitter_permille",
                                           "pinned",
                                           "opens",
                                           "created",
                                           NULL};
        struct client *self = (struct client *)object;
        struct policy_args a = {0};
        cached_reply *r = NULL;
        PyObject *result;
        const char *cache;
        cached_policy *p;
        int code;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s|$OOOOOOO:open_cache", names, &cache,
                                         &a.ttl_ms, &a.max_entries, &a.max_bytes, &a.stale_for_ms,
                                         &a.stale_if_error_ms, &a.refresh_ahead, &a.expire_jitter))
                return NULL;
        p = policy_of(&a);
        if (!p)
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_open_cache(self->c, cache, p, &r);
        Py_END_ALLOW_THREADS;
        cached_policy_free(p);
        if (code)
                return raise_reply(self->b, code, r);
        result = numbers_of(r, "", told);
        cached_reply_free(r);
        return result;
}

static PyObject *entries_stats(PyObject *object, PyObject *args)
{
        static const char *const told[] = {"entries",
                                           "bytes_raw",
                                           "bytes_held",
                                           "hits",
                                           "misses",
                                           "stores",
                                           "deletes",
                                           "expirations",
                                           "evicted_max_entries",
                                           "evicted_max_bytes",
                                           "evicted_uid_share",
                                           "evicted_realm_budget",
                                           "evicted_global_budget",
                                           "clears",
                                           "time_saved_us",
                                           "refused",
                                           "mapped_hits",
                                           "mapped_misses",
                                           "leases",
                                           "refreshes",
                                           "lease_waits",
                                           "leases_lost",
                                           "lease_failures",
                                           "superseded",
                                           "computing",
                                           "waiting",
                                           NULL};
        struct client *self = (struct client *)object;
        const char *cache = NULL;
        cached_reply *r = NULL;
        PyObject *result;
        int code;

        if (!PyArg_ParseTuple(args, "|z:stats", &cache))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_stats(self->c, cache, &r);
        Py_END_ALLOW_THREADS;
        if (code)
                return raise_reply(self->b, code, r);
        result = numbers_of(r, cache ? "cache." : "total.", told);
        cached_reply_free(r);
        return result;
}

static PyObject *entries_prepare(PyObject *object, PyObject *args)
{
        struct client *self = (struct client *)object;
        PyObject *size_object, *n_object;
        uint64_t size, n;
        int code;

        if (!PyArg_ParseTuple(args, "OO:prepare", &size_object, &n_object) ||
            number_of(size_object, "size", PY_SSIZE_T_MAX, 0, &size) ||
            number_of(n_object, "n", UINT32_MAX, 0, &n))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        code = cached_buffers_prepare(self->c, size, (uint32_t)n);
        Py_END_ALLOW_THREADS;
        if (code == CACHED_ERR_AGAIN)
                return raise_text(
                        self->b, code,
                        "prepared buffers may take half of the machine's memory, and these "
                        "would take more");
        if (code)
                return raise_code(self->b, code, NULL);
        Py_RETURN_NONE;
}

static PyObject *entries_buffer(PyObject *object, PyObject *size)
{
        struct client *self = (struct client *)object;

        return PyObject_CallFunctionObjArgs((PyObject *)self->b->buffer_type, object, size, NULL);
}

#define FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

PyMethodDef client_methods[] = {
        {"connect", client_connect, METH_NOARGS,
         "connect() -> dict\n\nMakes the connection now: what the daemon says of itself."},
        {"close", client_close, METH_NOARGS, "close()\n\nEnds its calls; it cannot be used again."},
        {"with_timeout", client_with_timeout, METH_O,
         "with_timeout(ms) -> Client\n\nThe same connections, with another timeout."},
        {"get", FUNCTION(entries_get), METH_FASTCALL | METH_KEYWORDS,
         "get(cache, key) -> Entry or None\n\nLooks an entry up; counts as a use of it."},
        {"peek", FUNCTION(entries_peek), METH_FASTCALL | METH_KEYWORDS,
         "peek(cache, key) -> Entry or None\n\nThe same, but counts as nothing."},
        {"set", FUNCTION(entries_set), METH_VARARGS | METH_KEYWORDS,
         "set(cache, key, pieces, *, size=None, flags=0, ttl_ms=None, tags=(), cost_us=0, mode=0) "
         "-> "
         "int\n\nStores a value: bytes, several that follow each other, or a Buffer. Gives the "
         "entry's version."},
        {"delete", FUNCTION(entries_delete), METH_FASTCALL | METH_KEYWORDS,
         "delete(cache, key) -> bool\n\nRemoves an entry: whether there was one."},
        {"clear", entries_clear, METH_VARARGS,
         "clear(cache) -> int or None\n\nRemoves all entries: how many; None: no such cache."},
        {"clear_tag", entries_clear_tag, METH_VARARGS,
         "clear_tag(cache, tag) -> int or None\n\nRemoves the entries with a tag."},
        {"open_cache", FUNCTION(entries_open_cache), METH_VARARGS | METH_KEYWORDS,
         "open_cache(cache, *, ttl_ms=None, max_entries=None, max_bytes=None, stale_for_ms=None, "
         "stale_if_error_ms=None, refresh_ahead=None, expire_jitter=None) -> dict\n\nMakes sure "
         "that a "
         "cache exists, with this policy unless one is pinned. Gives the policy that holds."},
        {"stats", entries_stats, METH_VARARGS,
         "stats(cache=None) -> dict\n\nStatistics of a cache, or of all caches of the realm."},
        {"prepare", entries_prepare, METH_VARARGS,
         "prepare(size, n)\n\nMakes buffers ahead, whose memory is there when they are asked for."},
        {"buffer", entries_buffer, METH_O,
         "buffer(size) -> Buffer\n\nMemory to fill, which can be stored without a copy."},
        {"lease", FUNCTION(client_lease), METH_VARARGS | METH_KEYWORDS,
         "lease(cache, key, *, outer=None, wait_ms=None, hold_ms=0, refresh=False, "
         "want_failure=False, waiting=None, every_ms=0) -> (Entry or None, Lease or None)\n\nThe "
         "value, "
         "or the right to compute it; waits while somebody else computes it."},
        {NULL, NULL, 0, NULL},
};
