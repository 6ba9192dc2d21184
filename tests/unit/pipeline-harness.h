/* SPDX-License-Identifier: MIT */
#ifndef PIPELINE_HARNESS_H
#define PIPELINE_HARNESS_H

/*
 * What the tests of all pipelines share: gets whose tag tells their key and value, and daemons that
 * count or lie. Included by a test's one source file.
 */

#include "client-harness.h"

static inline void enqueue_get(cached_pipeline *p, uint64_t tag)
{
        char key[32];
        size_t n = (size_t)snprintf(key, sizeof(key), "key-%llu", (unsigned long long)tag);

        assert_int_equal(cached_pipeline_get(p, "x", key, n, tag), CACHED_OK);
}

/* It is a hit whose value fits its tag. */
static inline uint64_t check_get(int code, uint64_t tag, cached_reply *r)
{
        char key[32];
        const void *value;
        size_t n = 0;

        assert_int_equal(code, CACHED_OK);
        value = cached_reply_value(r, &n);
        assert_int_equal(n, snprintf(key, sizeof(key), "key-%llu", (unsigned long long)tag));
        assert_memory_equal(value, key, n);
        cached_reply_free(r);
        return tag;
}

/* Holds back its answers until as many are asked as it allows, and looks whether more come. */
static inline void serve_limited(struct fake *d, int fd, int nth)
{
        struct fake_request r[4];
        int n = 0;

        if (!fake_hello(d, fd))
                return;
        while (fake_read_request(d, fd, &r[n])) {
                struct pollfd p = {.fd = fd, .events = POLLIN};

                if (++n < 4)
                        continue;
                if (poll(&p, 1, 2) != 0)
                        ((struct good *)d->data)->n_last_body++;
                for (int i = 0; i < n; i++) {
                        good_answer(d, fd, &r[i]);
                        fake_request_done(&r[i]);
                }
                n = 0;
        }
        while (n-- > 0)
                fake_request_done(&r[n]);
}

/* Answers two requests, then one that nobody asked; or says farewell. */
static inline void serve_liar(struct fake *d, int fd, int nth)
{
        struct fake_request r;

        if (!fake_hello(d, fd))
                return;
        for (int i = 0; fake_read_request(d, fd, &r); i++) {
                if (i < 2)
                        good_answer(d, fd, &r);
                else if (i == 2 && d->data)
                        fake_reply_status(d, fd, 0, CACHED_PROTOCOL, "enough");
                else if (i == 2)
                        fake_reply_entry(d, fd, r.m->id - 1, 1, "x", 1);
                fake_request_done(&r);
        }
}

#endif
