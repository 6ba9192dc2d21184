/* SPDX-License-Identifier: MIT */
/*
 * Functions that say something and that find out what they depend on, against a daemon, driven by a
 * test: a command a line, an answer a line. See main() for the commands.
 */

#include <cached.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INPUTS 80

/* The inputs' values; "!" makes the getter fail. */
struct input {
        char name[32], value[64];
};

struct teller {
        cached *c;
        cached_inputs *inputs;
        struct input input[INPUTS];
        unsigned n_inputs, calls, gets;
        unsigned pause_ms; /* of a run */
        char shown[4096];
        cached_events *events;
};

struct job {
        struct teller *t;
        const char *arg;
};

static struct input *input_find(struct teller *t, const char *name)
{
        for (unsigned i = 0; i < t->n_inputs; i++)
                if (strcmp(t->input[i].name, name) == 0)
                        return &t->input[i];
        return NULL;
}

static void input_set(struct teller *t, const char *name, const char *value)
{
        struct input *in = input_find(t, name);

        if (!in && t->n_inputs < INPUTS)
                in = &t->input[t->n_inputs++];
        if (!in)
                return;
        (void)snprintf(in->name, sizeof(in->name), "%.31s", name);
        (void)snprintf(in->value, sizeof(in->value), "%.63s", value);
}

static int get_input(void *data, const char *name, cached_result *out)
{
        struct teller *t = data;
        const struct input *in = input_find(t, name);

        t->gets++;
        if (!in || strcmp(in->value, "!") == 0)
                return -7;
        return cached_result_set(out, in->value, strlen(in->value));
}

static void show(void *data, const char *type, const void *bytes, size_t n)
{
        struct teller *t = data;
        size_t used = strlen(t->shown);

        (void)snprintf(t->shown + used, sizeof(t->shown) - used, "%s%s:%.*s", used ? "|" : "", type,
                       n < 100 ? (int)n : 3, (const char *)bytes);
}

static void begin(struct job *j)
{
        j->t->calls++;
        if (j->t->pause_ms > 0)
                (void)usleep(1000 * j->t->pause_ms);
}

/* Reads `name`, and puts what it is to the end of `value`. */
static int take(const char *name, char *value, size_t size)
{
        const void *bytes;
        size_t n, used = strlen(value);
        int code = cached_input(name, &bytes, &n);

        if (code == CACHED_OK)
                (void)snprintf(value + used, size - used, "/%.*s", (int)n, (const char *)bytes);
        return code;
}

/* Mode a reads x, any other mode reads y. */
static int branch(void *data, cached_result *out)
{
        struct job *j = data;
        char value[200] = "";
        int code;

        begin(j);
        code = take("mode", value, sizeof(value));
        if (code == CACHED_OK)
                code = take(strcmp(value, "/a") == 0 ? "x" : "y", value, sizeof(value));
        (void)cached_message("branch", value, strlen(value));
        return code == CACHED_OK ? cached_result_set(out, value, strlen(value)) : code;
}

/* The argument says how many inputs are read. */
static int many(void *data, cached_result *out)
{
        struct job *j = data;
        char name[16];

        begin(j);
        for (int i = 0; i < atoi(j->arg); i++) {
                (void)snprintf(name, sizeof(name), "i%d", i);
                (void)cached_input(name, NULL, NULL);
        }
        return cached_result_set(out, "many", 4);
}

static int inner(void *data, cached_result *out)
{
        static const char loud[1 << 20] = "!!!";
        struct job *j = data;

        begin(j);
        (void)cached_message("in", "one", 3);
        (void)cached_message("in", "two", 3);
        if (strcmp(j->arg, "loud") == 0)
                (void)cached_message("in", loud, sizeof(loud));
        return strcmp(j->arg, "fail") == 0 ? -5 : cached_result_set(out, "inner", 5);
}

static int run(struct teller *t, const char *name, cached_compute f, const char *arg, bool varies,
               bool is_nested, cached_result **ret)
{
        cached_memo_options *o = cached_memo_options_new();
        cached_key *k = cached_key_new();
        struct job j = {t, arg};
        int code;

        (void)cached_memo_options_set_version(o, "1");
        (void)cached_memo_options_set_wait_ms(o, 20000);
        (void)cached_memo_options_set_cache(o, "told");
        if (!is_nested)
                (void)cached_memo_options_set_on_message(o, show, t);
        (void)cached_key_add_text(k, arg, strlen(arg));
        code = varies ? cached_memoize_vary(t->c, name, k, t->inputs, f, &j, o, ret)
                      : cached_memoize(t->c, name, k, f, &j, o, ret);
        cached_key_free(k);
        cached_memo_options_free(o);
        return code;
}

/* Says something, calls the inner one, says something else. */
static int outer(void *data, cached_result *out)
{
        struct job *j = data;
        cached_result *r;

        begin(j);
        (void)cached_message("out", "before", 6);
        (void)run(j->t, "inner", inner, j->arg, false, true, &r);
        cached_result_free(r);
        (void)cached_message("out", "after", 5);
        return cached_result_set(out, "outer", 5);
}

/* Depends on what an inner one reads. */
static int wrapper(void *data, cached_result *out)
{
        struct job *j = data;
        cached_result *r;
        size_t n = 0;
        const void *value;
        int code;

        begin(j);
        code = run(j->t, "branch", branch, "w", true, true, &r);
        value = cached_result_value(r, &n);
        if (code == CACHED_OK)
                code = cached_result_set(out, value, n);
        cached_result_free(r);
        return code;
}

static void call(struct teller *t, const char *what, const char *arg)
{
        static const struct {
                const char *name;
                cached_compute f;
                bool varies;
        } functions[] = {{"branch", branch, true},
                         {"many", many, true},
                         {"wrapper", wrapper, true},
                         {"inner", inner, false},
                         {"outer", outer, false}};
        cached_result *r = NULL;
        const char *value;
        int code = -1;
        size_t n = 0;

        t->shown[0] = '\0';
        for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++)
                if (strcmp(functions[i].name, what) == 0)
                        code = run(t, what, functions[i].f, arg, functions[i].varies, false, &r);
        value = cached_result_value(r, &n);
        printf("%d\t%d\t%d\t%u\t%.*s\t%s\t%s\n", code, cached_result_is_hit(r),
               cached_result_cache_code(r), t->calls, (int)n, value ? value : "", t->shown,
               cached_result_error(r));
        cached_result_free(r);
}

static void tell_event(const cached_event *e)
{
        size_t n = 0;
        const char *key = cached_event_key(e, &n);

        printf("%u\t%s\t%.*s\t%s\t%s\t%llu\n", cached_event_kind(e), cached_event_cache(e), (int)n,
               key ? key : "", cached_event_tag(e) ? cached_event_tag(e) : "",
               cached_event_cause(e), (unsigned long long)cached_event_lost(e));
}

static void next_event(struct teller *t, const char *ms)
{
        const cached_event *e = NULL;
        int code = cached_events_next(t->events, (uint32_t)atoi(ms), &e);

        if (code == CACHED_OK)
                tell_event(e);
        else
                printf("-%d\t%s\t\t\t\t0\n", code, cached_events_error(t->events));
}

static void subscribe(struct teller *t, const char *cache)
{
        cached_reply *r;
        int code = cached_subscribe(t->c, strcmp(cache, "-") == 0 ? NULL : cache, CACHED_EVENT_ALL,
                                    &t->events, &r);

        printf("%d\t%s\n", code, code == CACHED_OK ? "" : cached_reply_error(r));
        cached_reply_free(r);
}

/* A store with a tag and a message. */
static void store(struct teller *t, const char *key, const char *tag)
{
        cached_set_options *o = cached_set_options_new();
        cached_messages *m = cached_messages_new();
        cached_reply *r;

        (void)cached_messages_add(m, "note", tag, strlen(tag));
        (void)cached_set_options_set_messages(o, m);
        if (strcmp(tag, "-") != 0)
                (void)cached_set_options_add_tag(o, tag);
        printf("%d\t", cached_set(t->c, "told", key, strlen(key), "v", 1, o, &r));
        printf("%s\n", cached_reply_error(r));
        cached_reply_free(r);
        cached_set_options_free(o);
        cached_messages_free(m);
}

static void fetch(struct teller *t, const char *key)
{
        const cached_messages *m = NULL;
        const char *type = "";
        const void *data = "";
        cached_reply *r;
        size_t n = 0, n_value = 0;
        int code = cached_get_with_messages(t->c, "told", key, strlen(key), &r);

        (void)cached_reply_value(r, &n_value);
        if (cached_reply_messages(r, &m) == CACHED_OK)
                (void)cached_messages_get(m, 0, &type, &data, &n);
        printf("%d\t%zu\t%s:%.*s\n", code, n_value, type, (int)n, (const char *)data);
        cached_reply_free(r);
}

int main(int argc, char **argv)
{
        static struct teller t;
        cached_options *o = cached_options_new();
        char line[256], verb[32], a[200], b[64];

        if (argc != 3)
                return 2;
        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        (void)cached_options_set_socket(o, argv[1]);
        (void)cached_options_set_mapped(o, strcmp(argv[2], "mapped") == 0);
        if (cached_new(o, &t.c) != CACHED_OK)
                return 1;
        cached_options_free(o);
        t.inputs = cached_inputs_new();
        (void)cached_inputs_add(t.inputs, NULL, get_input, &t);
        while (fgets(line, sizeof(line), stdin)) {
                a[0] = b[0] = '\0';
                if (sscanf(line, "%31s %199s %63s", verb, a, b) < 1)
                        continue;
                if (strcmp(verb, "input") == 0)
                        input_set(&t, a, b);
                else if (strcmp(verb, "pause") == 0)
                        t.pause_ms = (unsigned)atoi(a);
                else if (strcmp(verb, "call") == 0)
                        call(&t, a, b);
                else if (strcmp(verb, "subscribe") == 0)
                        subscribe(&t, a);
                else if (strcmp(verb, "next") == 0)
                        next_event(&t, a);
                else if (strcmp(verb, "store") == 0)
                        store(&t, a, b);
                else if (strcmp(verb, "fetch") == 0)
                        fetch(&t, a);
                else if (strcmp(verb, "clear-tag") == 0)
                        printf("%d\n", cached_clear_tag(t.c, "told", a, NULL));
                else if (strcmp(verb, "clear-prefix") == 0)
                        printf("%d\n", cached_clear_prefix(t.c, "told", a, strlen(a), NULL));
                else
                        printf("?\n");
        }
        cached_events_free(t.events);
        cached_inputs_free(t.inputs);
        cached_free(t.c);
        return 0;
}
