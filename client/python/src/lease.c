/* SPDX-License-Identifier: MIT */
/*
 * Lease: the right to compute a missing value, or who has it
 *
 * While a call waits for somebody else's computation it looks for signals, so that Ctrl-C ends it,
 * and asks the caller's `waiting` whether to go on. Both are Python's, and run with the
 * interpreter's lock, which the call takes back for so long.
 */

#include "binding.h"

#include <string.h>

/* How often a wait looks for signals. */
#define EVERY_MS 100
/* Of what a computation says of itself. */
#define TEXT_MAX 256

struct lease {
        PyObject_HEAD struct client *client;
        cached_lease *l;
        bool is_busy; /* a call uses it, without the interpreter's lock */
};

/* ---- who computes, as `waiting` is told */

static PyStructSequence_Field holder_fields[] = {
        {"holder_pid", "the process that computes"},   {"holder_uid", "whose it is"},
        {"holder_name", "what it calls itself"},       {"age_ms", "for how long it has computed"},
        {"permille", "how far it is; 0: not known"},   {"text", "what it says of its progress"},
        {"waited_ms", "for how long the call waited"}, {NULL, NULL},
};

static PyStructSequence_Desc holder_spec = {
        .name = "cached._binding.LeaseHolder",
        .doc = "Who computes a value.",
        .fields = holder_fields,
        .n_in_sequence = 7,
};

/* What the daemon was told by another client, who may send anything. */
static PyObject *text_of(const char *text)
{
        return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

static PyObject *holder_of(struct binding *b, const cached_lease *l)
{
        PyObject *self = PyStructSequence_New(b->holder_type);

        if (!self)
                return NULL;
        PyStructSequence_SetItem(self, 0, PyLong_FromUnsignedLong(cached_lease_holder_pid(l)));
        PyStructSequence_SetItem(self, 1, PyLong_FromUnsignedLong(cached_lease_holder_uid(l)));
        PyStructSequence_SetItem(self, 2, text_of(cached_lease_holder_name(l)));
        PyStructSequence_SetItem(self, 3, PyLong_FromUnsignedLongLong(cached_lease_age_ms(l)));
        PyStructSequence_SetItem(self, 4, PyLong_FromUnsignedLong(cached_lease_permille(l)));
        PyStructSequence_SetItem(self, 5, text_of(cached_lease_text(l)));
        PyStructSequence_SetItem(self, 6, PyLong_FromUnsignedLongLong(cached_lease_waited_ms(l)));
        if (!PyErr_Occurred())
                return self;
        Py_DECREF(self);
        return NULL;
}

/* ---- asking */

struct wait {
        struct binding *b;
        PyObject *waiting; /* NULL: nobody is asked */
        uint64_t every_ms; /* it is asked as time passes; 0: not */
        PyThreadState *thread;
        /* When it was asked last, and what it was told. */
        bool was_asked;
        uint64_t asked_ms;
        uint32_t pid, permille;
        char text[TEXT_MAX + 1];
};

/* At first, with news, and as time passes. */
static bool is_due(struct wait *w, const cached_lease *holder)
{
        uint64_t now_ms = cached_lease_waited_ms(holder);
        const char *text = cached_lease_text(holder);
        uint32_t pid = cached_lease_holder_pid(holder), permille = cached_lease_permille(holder);
        bool has_news = !w->was_asked || pid != w->pid || permille != w->permille ||
                        strncmp(text, w->text, TEXT_MAX) != 0;

        /* A tick may come a moment early. */
        if (!has_news && (w->every_ms == 0 || now_ms + 2 < w->asked_ms + w->every_ms))
                return false;
        w->was_asked = true;
        w->asked_ms = now_ms;
        w->pid = pid;
        w->permille = permille;
        (void)snprintf(w->text, sizeof(w->text), "%s", text);
        return true;
}

/* Whether to go on: 0; 1: not; -1: an exception is set. */
static int ask_waiting(struct wait *w, const cached_lease *holder)
{
        PyObject *info, *answer;
        int ends;

        if (PyErr_CheckSignals())
                return -1;
        if (!w->waiting || !is_due(w, holder))
                return 0;
        info = holder_of(w->b, holder);
        if (!info)
                return -1;
        answer = PyObject_CallFunctionObjArgs(w->waiting, info, NULL);
        Py_DECREF(info);
        if (!answer)
                return -1;
        ends = PyObject_IsTrue(answer);
        Py_DECREF(answer);
        return ends;
}

static int on_waiting(void *data, const cached_lease *holder)
{
        struct wait *w = data;
        int ends;

        PyEval_RestoreThread(w->thread);
        ends = ask_waiting(w, holder);
        w->thread = PyEval_SaveThread();
        return ends;
}

struct lease_args {
        PyObject *outer, *wait_ms, *hold_ms, *waiting, *every_ms;
        int refresh, want_failure;
};

static cached_lease_options *options_of(struct client *client, const struct lease_args *a,
                                        struct wait *w)
{
        uint64_t wait_ms, hold_ms, every_ms;
        cached_lease_options *o;

        if (number_of(a->wait_ms, "wait_ms", CACHED_NEVER - 1, CACHED_NEVER, &wait_ms) ||
            number_of(a->hold_ms, "hold_ms", UINT32_MAX, 0, &hold_ms) ||
            number_of(a->every_ms, "every_ms", UINT32_MAX, 0, &every_ms))
                return NULL;
        if (a->outer && a->outer != Py_None && !Py_IS_TYPE(a->outer, client->b->lease_type))
                return (void *)PyErr_Format(PyExc_TypeError, "outer is a Lease, not %.100s",
                                            Py_TYPE(a->outer)->tp_name);
        if (a->waiting && a->waiting != Py_None && !PyCallable_Check(a->waiting))
                return (void *)PyErr_Format(PyExc_TypeError, "waiting is a function, not %.100s",
                                            Py_TYPE(a->waiting)->tp_name);
        o = cached_lease_options_new();
        if (!o)
                return (void *)PyErr_NoMemory();
        w->b = client->b;
        w->waiting = a->waiting == Py_None ? NULL : a->waiting;
        w->every_ms = every_ms;
        (void)cached_lease_options_set_wait_ms(o, wait_ms);
        (void)cached_lease_options_set_hold_ms(o, (uint32_t)hold_ms);
        (void)cached_lease_options_set_refresh(o, a->refresh);
        (void)cached_lease_options_set_want_failure(o, a->want_failure);
        (void)cached_lease_options_set_waiting(o, on_waiting, w,
                                               every_ms && every_ms < EVERY_MS ? (uint32_t)every_ms
                                                                               : EVERY_MS);
        if (a->outer && a->outer != Py_None)
                (void)cached_lease_options_set_outer(o, ((struct lease *)a->outer)->l);
        return o;
}

/* Owns @l from then on, also on failure. */
static PyObject *lease_of(struct client *client, cached_lease *l)
{
        struct lease *self;

        if (!l)
                return new_ref(Py_None);
        self = (struct lease *)client->b->lease_type->tp_alloc(client->b->lease_type, 0);
        if (!self) {
                cached_lease_free(l);
                return NULL;
        }
        self->client = (struct client *)new_ref(client);
        self->l = l;
        return (PyObject *)self;
}

static PyObject *answer_of(struct client *client, int code, cached_reply *r, cached_lease *l)
{
        PyObject *entry, *lease;

        if (code == CACHED_OK && r) {
                entry = entry_of(client->b, r);
        } else if (code == CACHED_OK || code == CACHED_NOT_FOUND) {
                cached_reply_free(r);
                entry = new_ref(Py_None);
        } else {
                entry = raise_reply(client->b, code, r);
        }
        if (!entry) {
                cached_lease_free(l);
                return NULL;
        }
        lease = lease_of(client, l);
        return lease ? Py_BuildValue("(NN)", entry, lease) : (Py_DECREF(entry), NULL);
}

PyObject *client_lease(PyObject *object, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"cache",   "key",          "outer",   "wait_ms",  "hold_ms",
                                "refresh", "want_failure", "waiting", "every_ms", NULL};
        struct client *self = (struct client *)object;
        struct lease_args a = {0};
        struct wait w = {0};
        cached_lease_options *o;
        cached_reply *r = NULL;
        cached_lease *l = NULL;
        PyObject *key_object;
        const char *cache, *key;
        Py_ssize_t n_key;
        int code;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sO|$OOOppOO:lease", names, &cache,
                                         &key_object, &a.outer, &a.wait_ms, &a.hold_ms, &a.refresh,
                                         &a.want_failure, &a.waiting, &a.every_ms) ||
            key_bytes_of(key_object, &key, &n_key))
                return NULL;
        o = options_of(self, &a, &w);
        if (!o)
                return NULL;
        w.thread = PyEval_SaveThread();
        code = cached_get_or_lease(self->c, cache, key, (size_t)n_key, o, &r, &l);
        PyEval_RestoreThread(w.thread);
        cached_lease_options_free(o);
        if (PyErr_Occurred()) {
                cached_reply_free(r);
                cached_lease_free(l);
                return NULL;
        }
        return answer_of(self, code, r, l);
}

/* ---- what one is good for */

static int lease_traverse(PyObject *object, visitproc visit, void *arg)
{
        Py_VISIT(Py_TYPE(object));
        Py_VISIT(((struct lease *)object)->client);
        return 0;
}

static void lease_dealloc(PyObject *object)
{
        struct lease *self = (struct lease *)object;
        PyTypeObject *type = Py_TYPE(object);
        cached_lease *l = self->l;

        PyObject_GC_UnTrack(object);
        Py_BEGIN_ALLOW_THREADS;
        cached_lease_free(l);
        Py_END_ALLOW_THREADS;
        Py_CLEAR(self->client);
        type->tp_free(object);
        Py_DECREF(type);
}

/* One thread at a time. False: an exception is set. */
static bool lease_enter(struct lease *self)
{
        if (self->is_busy) {
                PyErr_SetString(PyExc_RuntimeError, "the Lease is being used by another thread");
                return false;
        }
        self->is_busy = true;
        return true;
}

static PyObject *lease_store(PyObject *object, PyObject *args, PyObject *kwargs, bool share_only)
{
        static char *names[] = {"pieces", "size", "flags", "ttl_ms", "tags", "cost_us", NULL};
        struct lease *self = (struct lease *)object;
        struct binding *b = self->client->b;
        struct payload_args a = {0};
        struct payload p;
        cached_reply *r = NULL;
        const void *data;
        int code;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs,
                                         share_only ? "O|$OOOOO:share" : "O|$OOOOO:set", names,
                                         &a.pieces, &a.size, &a.flags, &a.ttl_ms, &a.tags,
                                         &a.cost_us))
                return NULL;
        if (!lease_enter(self))
                return NULL;
        if (payload_take(self->client, &a, &p)) {
                payload_free(&p);
                self->is_busy = false;
                return NULL;
        }
        data = p.buffer ? cached_buffer_data(p.buffer) : p.data;
        Py_BEGIN_ALLOW_THREADS;
        if (share_only)
                code = cached_lease_share(self->l, data, p.size, p.o, &r);
        else if (p.buffer)
                code = cached_lease_set_buffer(self->l, p.buffer, p.size, p.o, &r);
        else
                code = cached_lease_set(self->l, data, p.size, p.o, &r);
        Py_END_ALLOW_THREADS;
        self->is_busy = false;
        return payload_stored(b, &p, code, r);
}

static PyObject *lease_set(PyObject *object, PyObject *args, PyObject *kwargs)
{
        return lease_store(object, args, kwargs, false);
}

static PyObject *lease_share(PyObject *object, PyObject *args, PyObject *kwargs)
{
        return lease_store(object, args, kwargs, true);
}

static PyObject *lease_progress(PyObject *object, PyObject *args, PyObject *kwargs)
{
        static char *names[] = {"text", "permille", NULL};
        struct lease *self = (struct lease *)object;
        PyObject *number = NULL;
        const char *text = NULL;
        uint64_t permille;

        if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|zO:progress", names, &text, &number) ||
            number_of(number, "permille", 1000, 0, &permille) || !lease_enter(self))
                return NULL;
        /* That nobody waits any more is nothing to the computation. */
        Py_BEGIN_ALLOW_THREADS;
        (void)cached_lease_progress(self->l, text, (uint32_t)permille);
        Py_END_ALLOW_THREADS;
        self->is_busy = false;
        Py_RETURN_NONE;
}

static PyObject *lease_end(PyObject *object, PyObject *args)
{
        struct lease *self = (struct lease *)object;
        const char *reason = NULL;

        if (!PyArg_ParseTuple(args, "|z:end", &reason) || !lease_enter(self))
                return NULL;
        Py_BEGIN_ALLOW_THREADS;
        (void)cached_lease_end(self->l, reason); /* a lease that was lost has ended */
        Py_END_ALLOW_THREADS;
        self->is_busy = false;
        Py_RETURN_NONE;
}

static PyObject *get_number(PyObject *object, void *closure)
{
        const cached_lease *l = ((struct lease *)object)->l;
        const char *which = closure;

        switch (*which) {
        case 's':
                return PyLong_FromLong(cached_lease_state(l));
        case 'p':
                return PyLong_FromUnsignedLong(cached_lease_holder_pid(l));
        case 'u':
                return PyLong_FromUnsignedLong(cached_lease_holder_uid(l));
        case 'a':
                return PyLong_FromUnsignedLongLong(cached_lease_age_ms(l));
        case 'w':
                return PyLong_FromUnsignedLongLong(cached_lease_waited_ms(l));
        default:
                return PyLong_FromUnsignedLong(cached_lease_permille(l));
        }
}

static PyObject *get_name(PyObject *object, void *closure)
{
        (void)closure;
        return text_of(cached_lease_holder_name(((struct lease *)object)->l));
}

static PyObject *get_text(PyObject *object, void *closure)
{
        (void)closure;
        return text_of(cached_lease_text(((struct lease *)object)->l));
}

static PyObject *get_reason(PyObject *object, void *closure)
{
        (void)closure;
        return text_of(cached_lease_reason(((struct lease *)object)->l));
}

static PyGetSetDef attributes[] = {
        {"state", get_number, NULL, "What to do: one of LEASE_*.", "s"},
        {"holder_pid", get_number, NULL, "The process that computes, or computed; 0: not known.",
         "p"},
        {"holder_uid", get_number, NULL, "Whose it is.", "u"},
        {"holder_name", get_name, NULL, "What it calls itself.", NULL},
        {"age_ms", get_number, NULL, "For how long it has computed.", "a"},
        {"permille", get_number, NULL, "How far it is; 0: not known.", "f"},
        {"text", get_text, NULL, "What it says of its progress.", NULL},
        {"reason", get_reason, NULL, "Why it failed, or could not be stored.", NULL},
        {"waited_ms", get_number, NULL, "For how long the call waited.", "w"},
        {NULL, NULL, NULL, NULL, NULL},
};

#define FUNCTION(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef methods[] = {
        {"set", FUNCTION(lease_set), METH_VARARGS | METH_KEYWORDS,
         "set(pieces, *, size=None, flags=0, ttl_ms=None, tags=(), cost_us=0) -> int\n\nStores the "
         "value, as Client.set(); all who wait get it. The lease ends."},
        {"share", FUNCTION(lease_share), METH_VARARGS | METH_KEYWORDS,
         "share(pieces, *, size=None, flags=0) -> int\n\nGives the value to those who wait, and "
         "stores "
         "nothing. The lease ends."},
        {"progress", FUNCTION(lease_progress), METH_VARARGS | METH_KEYWORDS,
         "progress(text=None, permille=0)\n\nTells those who wait how far it is."},
        {"end", lease_end, METH_VARARGS,
         "end(reason=None)\n\nGives the lease up; with a reason: the computation failed."},
        {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
        {Py_tp_doc, "The right to compute a missing value, or who has it."},
        {Py_tp_traverse, lease_traverse},
        {Py_tp_dealloc, lease_dealloc},
        {Py_tp_methods, methods},
        {Py_tp_getset, attributes},
        {0, NULL},
};

static PyType_Spec spec = {
        .name = "cached._binding.Lease",
        .basicsize = sizeof(struct lease),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
        .slots = slots,
};

int lease_add(PyObject *module, struct binding *b)
{
        b->lease_type = binding_add_type(module, &spec);
        if (!b->lease_type)
                return -1;
        b->lease_type->tp_new = NULL; /* only a look-up makes one */
        b->holder_type = PyStructSequence_NewType(&holder_spec);
        return b->holder_type ? 0 : -1;
}
