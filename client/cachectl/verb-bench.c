/* SPDX-License-Identifier: MIT */

/*
 * bench: how fast is the daemon in place
 *
 * It works on keys of its own in a cache of its own, and only where the budgets have room: no entry
 * of anybody has to leave for it. The cache stays, empty, since caches are never removed; so its
 * name is always the same, and what tells runs apart is in the keys.
 */

#include "bench.h"
#include "fields.h"
#include "output.h"
#include "units.h"
#include "verb.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { OPT_SECONDS };

#define DEFAULT_SECONDS 3
#define MAX_SECONDS     60

/* A daemon that hangs is not worth a longer wait here: signals are only seen between requests. */
#define TIMEOUT_MS 5000

static uint64_t room(uint64_t budget, uint64_t taken)
{
        return budget > taken ? budget - taken : 0;
}

/* Is there room that nobody has to leave for? */
static int check_room(struct ctl *ctl)
{
        cached_reply *reply = NULL;
        int r = cached_stats(ctl->client, NULL, &reply),
            status = ctl_result(ctl, r, reply, "no statistics");
        char needs[UNITS_BUFFER_SIZE];
        uint64_t realm, uid, global;

        if (status == EXIT_DONE) {
                uint64_t charged = fields_u64(reply, "realm.", "bytes_charged");

                realm = room(fields_u64(reply, "realm.", "budget_bytes"), charged);
                uid = room(fields_u64(reply, "realm.", "uid_share_bytes"), charged);
                /* What all realms hold is 0 for those who may not know it. */
                global = room(fields_u64(reply, "daemon.", "budget_bytes"),
                              fields_u64(reply, "daemon.", "bytes_charged"));
                if (realm < BENCH_NEEDS || uid < BENCH_NEEDS || global < BENCH_NEEDS) {
                        ctl_note(ctl,
                                 "less than %s of the budget are free, and entries would have to "
                                 "leave for it; nothing was measured",
                                 units_format_bytes(needs, BENCH_NEEDS));
                        status = EXIT_REFUSED;
                }
        }
        cached_reply_free(reply);
        return status;
}

static uint64_t rate(const struct bench_case *c, const struct bench_result *r)
{
        return r->elapsed_ns ? (uint64_t)((double)r->n * c->keys * 1e9 / (double)r->elapsed_ns) : 0;
}

static const struct bench_result *floor_of(const struct bench_result *results)
{
        size_t i = 0;

        while (strcmp(bench_cases[i].name, "socket") != 0)
                i++;
        return &results[i];
}

static int add_line(struct libscols_table *t, const struct bench_case *c,
                    const struct bench_result *r, const struct bench_result *socket)
{
        char value[UNITS_BUFFER_SIZE], in_flight[UNITS_BUFFER_SIZE], keys[UNITS_BUFFER_SIZE];
        char each[UNITS_BUFFER_SIZE], p50[UNITS_BUFFER_SIZE], p99[UNITS_BUFFER_SIZE], ratio[32];
        uint64_t floor = rate(c, socket) / c->keys, own = rate(c, r);
        const char *cells[] = {
                c->name,
                c->value ? units_format_bytes(value, c->value) : "-",
                units_format_count(keys, c->keys),
                units_format_count(in_flight, c->in_flight),
                units_format_count(each, own),
                units_format_ns(p50, r->p50_ns),
                units_format_ns(p99, r->p99_ns),
                ratio,
        };

        snprintf(ratio, sizeof(ratio), "%.2fx", floor ? (double)own / (double)floor : 0.0);
        return output_table_add(t, cells);
}

static int print_table(struct ctl *ctl, const struct bench_result *results)
{
        static const struct output_column columns[] = {
                {"REQUEST"},
                {"VALUE", .right = true},
                {"KEYS", .right = true},
                {"IN FLIGHT", .right = true},
                {"KEYS/S", .right = true},
                {"P50", .right = true},
                {"P99", .right = true},
                {"VS SOCKET", .right = true},
                {NULL},
        };
        struct libscols_table *t = output_table_new(columns);

        for (size_t i = 0; bench_cases[i].name && t; i++) {
                if (results[i].skipped)
                        continue;
                if (add_line(t, &bench_cases[i], &results[i], floor_of(results)) < 0) {
                        output_table_free(t);
                        t = NULL;
                }
        }
        return output_table(ctl, t);
}

static json_t *case_json(const struct bench_case *c, const struct bench_result *r)
{
        const struct {
                const char *name;
                uint64_t n;
        } numbers[] = {
                {"value_bytes", c->value},     {"keys", c->keys},
                {"in_flight", c->in_flight},   {"requests", r->n},
                {"elapsed_ns", r->elapsed_ns}, {"keys_per_second", rate(c, r)},
                {"p50_ns", r->p50_ns},         {"p99_ns", r->p99_ns},
        };
        json_t *o = json_object();
        int failed = json_object_set_new(o, "request", json_string(c->name)) < 0;

        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
                failed |=
                        json_object_set_new(o, numbers[i].name, output_json_u64(numbers[i].n)) < 0;
        if (!failed)
                return o;
        json_decref(o);
        return NULL;
}

static int print_json(struct ctl *ctl, const struct bench_result *results)
{
        json_t *root = json_object(), *cases = json_array();
        int failed = json_object_set_new(root, "cases", cases) < 0;

        for (size_t i = 0; bench_cases[i].name && !failed; i++)
                if (!results[i].skipped)
                        failed |= json_array_append_new(cases, case_json(&bench_cases[i],
                                                                         &results[i])) < 0;
        if (failed) {
                json_decref(root);
                root = NULL;
        }
        return output_json(ctl, root);
}

static int measure(struct bench *b, struct bench_result *results)
{
        cached_reply *reply = NULL;
        int r = bench_fill(b, &reply), status;

        for (size_t i = 0; bench_cases[i].name && r == CACHED_OK && !b->signal; i++)
                r = bench_run(b, &bench_cases[i], &results[i], &reply);
        if (b->failed) {
                ctl_note(b->ctl, "%s", b->failed);
                status = EXIT_USAGE;
        } else {
                status = ctl_result(b->ctl, r, reply, "an entry of ours is gone");
        }
        cached_reply_free(reply);
        bench_clean(b);
        return status;
}

/* As if the signal had come without us: whoever started us sees what ended it. */
static void end_by_signal(int number)
{
        sigset_t set;

        (void)signal(number, SIG_DFL);
        sigemptyset(&set);
        sigaddset(&set, number);
        (void)raise(number);
        (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static int bench(struct bench *b)
{
        struct ctl *ctl = b->ctl;
        struct bench_result results[BENCH_CASES] = {{.n = 0}};
        int status;

        if (ctl->timeout_ms > TIMEOUT_MS)
                ctl->timeout_ms = TIMEOUT_MS;
        status = ctl_connect(ctl);
        if (status == EXIT_DONE)
                status = check_room(ctl);
        if (status != EXIT_DONE)
                return status;
        b->max_keys = fields_u64(ctl->hello, "", "max_keys_per_request");
        b->max_value = fields_u64(ctl->hello, "", "max_value_bytes");
        b->pipeline = cached_pipeline_new(ctl->client);
        if (!b->pipeline)
                return ctl_no_memory(ctl);
        status = measure(b, results);
        if (b->signal || status != EXIT_DONE)
                return status;
        return ctl->json ? print_json(ctl, results) : print_table(ctl, results);
}

static int run(struct ctl *ctl, const struct args *a)
{
        uint64_t seconds = DEFAULT_SECONDS;
        struct bench b;
        int status = EXIT_DONE, r, number;

        if (a->options[OPT_SECONDS])
                status = ctl_parse_count(ctl, "seconds", a->options[OPT_SECONDS], MAX_SECONDS,
                                         &seconds);
        if (status == EXIT_DONE && seconds == 0)
                status = ctl_usage(ctl, "--seconds '0': it is 1 to %d", MAX_SECONDS);
        if (status != EXIT_DONE)
                return status;
        r = bench_init(&b, ctl, seconds);
        if (r == 0)
                status = bench(&b);
        else {
                ctl_note(ctl, "cannot begin: %s", strerror(-r));
                status = EXIT_USAGE;
        }
        number = b.signal;
        bench_done(&b);
        if (number)
                end_by_signal(number);
        return status;
}

const struct verb verb_bench = {
        .name = "bench",
        .synopsis = "[--seconds N]",
        .summary = "Measure how fast the daemon in place answers",
        .about = "`process` is the start of a program that does nothing, `socket` a round trip of "
                 "100 "
                 "bytes\n"
                 "between two processes without the daemon; VS SOCKET says how many times as many "
                 "keys "
                 "a\n"
                 "second that is. With several in flight P50 and P99 include the wait for those "
                 "before.\n"
                 "It uses the cache " BENCH_CACHE ", needs 4M of free budget so that no entry of "
                 "others leaves,\n"
                 "and removes its entries at the end, also after Ctrl-C.",
        .options = {[OPT_SECONDS] = {"seconds", 0, "N", "measure so long, 1 to 60 (default: 3)"}},
        .json = "cases: a list of objects of request, value_bytes, keys, in_flight, requests, "
                "elapsed_ns,\n"
                "keys_per_second, p50_ns, p99_ns.",
        .example = "cachectl bench --seconds 10",
        .run = run,
};
