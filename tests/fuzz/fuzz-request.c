/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: requests
 *
 * The bytes are a stream as a client sends it: frames, cut here as transport would, handed to
 * dispatch with the real services and store behind it. Every other frame goes through a body sink.
 * The first byte says whether a Hello was sent before (its lowest two bits are not 0), with a
 * client_id (bit 2), and after how many frames the client comes again on a second connection (the
 * highest five bits; 0: never). Whatever comes: no crash, every reply is a frame that unpacks, and
 * what the store holds stays within its budget.
 */

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "fuzz.h"
#include "tests/unit/fake-conn.h"

#define CONFIG                                                                                     \
        "[memory]\nrealm_budget = 256K\nglobal_budget = 512K\nlarge_threshold = 4K\n"              \
        "[limits]\nvalue_bytes = 64K\nmessage_bytes = 64K\nkeys_per_request = 64\n"                \
        "output_bytes = 64K\nupload_bytes_per_uid = 1M\ncaches_per_realm = 8\n"
#define MESSAGE_MAX (64 * 1024)
#define BODY_MAX    (64 * 1024)

static void check_output(struct conn *c)
{
        size_t at = 0;
        while (at < c->n_out) {
                assert(c->n_out - at >= FRAME_HEADER_SIZE);
                struct frame_header h = frame_header_read(c->out + at);
                assert(!frame_header_check(h, MESSAGE_MAX, BODY_MAX));
                at += FRAME_HEADER_SIZE;
                assert(h.n_message <= c->n_out - at);
                Cached__V1__Reply *m = cached__v1__reply__unpack(NULL, h.n_message, c->out + at);
                assert(m);
                bool has_text = m->error[0] != '\0';
                if (m->status == CACHED__V1__STATUS__OK)
                        assert(!has_text);
                else if (m->status != CACHED__V1__STATUS__NOT_FOUND) /* which may say what is not */
                        assert(has_text);
                cached__v1__reply__free_unpacked(m, NULL);
                at += h.n_message;
                assert(h.n_body <= c->n_out - at);
                at += h.n_body;
        }
        c->n_out = 0;
        if (c->await_drain) {
                c->await_drain = false;
                dispatch_handler.on_drained(c);
        }
}

static void say_hello(struct conn *c, bool with_id)
{
        /* Request{id: 1, hello: {protocol_min: 1, protocol_max: 1, features: 49}} */
        static const uint8_t hello[] = {0x08, 1, 0x52, 6, 0x08, 1, 0x10, 1, 0x28, 49};
        /* The same with client_id: "0123456789abcdef" */
        static const uint8_t hello_id[] = {0x08, 1,   0x52, 24,  0x08, 1,   0x10, 1,   0x28, 49,
                                           0x32, 16,  '0',  '1', '2',  '3', '4',  '5', '6',  '7',
                                           '8',  '9', 'a',  'b', 'c',  'd', 'e',  'f'};
        if (with_id)
                fake_conn_frame(c, hello_id, sizeof(hello_id), NULL, 0, UINT64_MAX);
        else
                fake_conn_frame(c, hello, sizeof(hello), NULL, 0, UINT64_MAX);
        check_output(c);
        assert(!c->closed);
}

/* A descriptor comes with the next frame, sealed or not, or is lost. */
static void come(struct conn *c)
{
        static const int seals[] = {F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE,
                                    F_SEAL_SHRINK | F_SEAL_GROW, 0};
        unsigned which = c->n_came % 4;
        if (c->n_came == sizeof(c->came) / sizeof(c->came[0]))
                return;
        int fd = which == 3 ? -EMFILE : memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd >= 0 &&
            (ftruncate(fd, 1 << (12 + which)) < 0 || fcntl(fd, F_ADD_SEALS, seals[which]) < 0))
                abort();
        c->came[c->n_came++] = fd;
}

/* At most @most frames; returns how many of the bytes were used. */
static size_t feed(struct conn *c, const uint8_t *data, size_t n, unsigned most)
{
        const uint8_t *start = data;
        for (unsigned i = 0; i < most && n >= FRAME_HEADER_SIZE && !c->closed; i++) {
                struct frame_header h = frame_header_read(data);
                if (frame_header_check(h, MESSAGE_MAX, BODY_MAX))
                        break;
                data += FRAME_HEADER_SIZE;
                n -= FRAME_HEADER_SIZE;
                if (h.n_message > n)
                        break;
                const uint8_t *body = data + h.n_message;
                uint64_t n_body = h.n_body <= n - h.n_message ? h.n_body : n - h.n_message;
                if (i % 4 == 3)
                        come(c);
                /* The bytes end where they end: sanitizers see a read beyond them. */
                fake_conn_frame(c, data, h.n_message, body, n_body, i % 2 ? 0 : UINT64_MAX);
                check_output(c);
                data = body + n_body;
                n -= h.n_message + (size_t)n_body;
        }
        return (size_t)(data - start);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct server server = {.now_ns = UINT64_C(1000000000000)};
        char err[CONFIG_ERR_MAX];
        if (config_parse("fuzz", CONFIG, strlen(CONFIG), &server.cfg, err, sizeof(err)) < 0)
                abort();
        if (dispatcher_new(&server, server.cfg, &server.dispatcher) < 0)
                abort();
        struct conn *c = fake_conn_new(&server, 1000);
        struct conn *again = NULL;
        uint8_t how = n > 0 ? data[0] : 0;
        if (how % 4 != 0)
                say_hello(c, how & 4);
        if (n > 0) {
                unsigned most = how >> 3 ? how >> 3 : UINT_MAX;
                size_t used = 1 + feed(c, data + 1, n - 1, most);
                if (how >> 3) {
                        again = fake_conn_new(&server, 1000);
                        feed(again, data + used, n - used, UINT_MAX);
                }
        }
        for (int i = 0;
             i < 100 && dispatcher_maintain(server.dispatcher, server_now_ms(&server), 64); i++)
                check_output(c);
        check_output(c);
        fake_conn_free(c);
        if (again) {
                check_output(again);
                fake_conn_free(again);
        }
        dispatcher_free(server.dispatcher);
        config_free(server.cfg);
        return 0;
}
