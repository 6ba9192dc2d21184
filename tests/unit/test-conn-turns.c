/* SPDX-License-Identifier: MIT */
/*
 * What connections share: the time of a turn and the memory for frames that are not complete. Time
 * is what the handler says that its frames took.
 */

#include "conn-harness.h"

#define N_CONNS 5

struct crowd {
        int fd[N_CONNS];
        struct seen *seen[N_CONNS];
};

static void gather(struct fixture *f, struct crowd *k)
{
        for (int i = 0; i < N_CONNS; i++) {
                k->fd[i] = client(f);
                k->seen[i] = seen_of(last_conn(f));
        }
}

static void disperse(struct fixture *f, struct crowd *k)
{
        for (int i = 0; i < N_CONNS; i++)
                close(k->fd[i]);
        WAIT_UNTIL(f, hub_is_empty(&f->hub));
}

/* ---- time */

static void test_a_turn_ends_in_time(void **state)
{
        struct fixture *f = *state;
        struct crowd k;
        uint8_t stream[20 * 20];
        size_t n = 0;
        unsigned total = 0;

        gather(f, &k);
        f->frame_ns = HUB_SLICE_NS; /* one for each slice, four for a turn */
        for (int i = 0; i < 20; i++)
                n += make_frame(stream + n, 4, 4, (uint8_t)i);
        for (int i = 0; i < N_CONNS; i++)
                put(f, k.fd[i], stream, n);
        while (total < 20 * N_CONNS) {
                unsigned before = total, least = UINT32_MAX, most = 0;

                turn(f);
                total = 0;
                for (int i = 0; i < N_CONNS; i++) {
                        unsigned m = k.seen[i]->n_frames;
                        total += m;
                        least = m < least ? m : least;
                        most = m > most ? m : most;
                }
                assert_in_range(total - before, 1, 5); /* the clock's own progress counts, too */
                assert_true(most - least <= 2);
        }
        for (int i = 0; i < N_CONNS; i++)
                expect_echo(f, k.fd[i], stream, n);
        f->frame_ns = 0;
        disperse(f, &k);
}

static void test_who_comes_later_waits_in_line(void **state)
{
        struct fixture *f = *state;
        struct crowd k;
        uint8_t stream[8 * 20], one[20];
        size_t n = 0, n_one = make_frame(one, 4, 4, 9);

        gather(f, &k);
        f->frame_ns = 2 * HUB_TURN_NS; /* one for each turn */
        for (int i = 0; i < 8; i++)
                n += make_frame(stream + n, 4, 4, (uint8_t)i);
        put(f, k.fd[0], stream, n);
        turn(f);
        assert_int_equal(k.seen[0]->n_frames, 1);
        put(f, k.fd[1], one, n_one);
        turn(f); /* the first was in line before */
        assert_int_equal(k.seen[0]->n_frames, 2);
        assert_int_equal(k.seen[1]->n_frames, 0);
        turn(f);
        assert_int_equal(k.seen[1]->n_frames, 1);
        assert_int_equal(k.seen[0]->n_frames, 2);
        WAIT_UNTIL(f, k.seen[0]->n_frames == 8);
        expect_echo(f, k.fd[0], stream, n);
        expect_echo(f, k.fd[1], one, n_one);
        disperse(f, &k);
}

static void test_a_frame_comes_in_portions(void **state)
{
        struct fixture *f = *state;
        struct crowd k;
        uint8_t *stream = malloc(2 * LONG_BODY), one[20];
        size_t n, n_one = make_frame(one, 4, 4, 9);

        assert_non_null(stream);
        gather(f, &k);
        f->portions = f->portions_left = 3;
        n = make_frame(stream, 40, LONG_BODY, 1);
        n += make_frame(stream + n, 4, 4, 2);
        n += make_frame(stream + n, 300, 60000, 3);
        exchange(f, k.fd[0], stream, n);
        assert_int_equal(k.seen[0]->n_frames, 3);
        assert_int_equal(k.seen[0]->conn->requests, 3);
        assert_int_equal(f->n_again, 9);
        /* Others are served in between. */
        f->portions_left = 1000;
        put(f, k.fd[0], one, n_one);
        turn(f);
        assert_in_range(f->n_again, 10, 15);
        assert_true(hub_is_busy(&f->hub));
        f->portions = f->portions_left = 0;
        put(f, k.fd[1], one, n_one);
        expect_echo(f, k.fd[1], one, n_one);
        expect_echo(f, k.fd[0], one, n_one);
        free(stream);
        disperse(f, &k);
}

static void test_a_portion_is_the_last_one(void **state)
{
        struct fixture *f = *state;
        struct crowd k;
        uint8_t one[20], bad[FRAME_HEADER_SIZE];
        size_t n_one = make_frame(one, 4, 4, 9);

        gather(f, &k);
        f->portions = f->portions_left = 1000;
        put(f, k.fd[0], one, n_one);
        turn(f);
        conn_close(k.seen[0]->conn); /* from outside */
        WAIT_UNTIL(f, k.seen[0]->n_closed == 1);
        assert_int_equal(f->n_frames_dropped, 1);
        put(f, k.fd[1], one, n_one);
        turn(f);
        conn_abort(k.seen[1]->conn);
        WAIT_UNTIL(f, k.seen[1]->n_closed == 1);
        assert_int_equal(f->n_frames_dropped, 2);
        /* What it had sent is done, also when it has gone. */
        f->portions = f->portions_left = 5;
        put(f, k.fd[2], one, n_one);
        close(k.fd[2]);
        WAIT_UNTIL(f, k.seen[2]->n_closed == 1);
        assert_int_equal(k.seen[2]->n_frames, 1);
        assert_int_equal(f->n_frames_dropped, 2);
        k.fd[2] = client(f);
        f->portions = f->portions_left = 0;
        frame_header_write(bad, UINT32_MAX, 0);
        put(f, k.fd[3], bad, sizeof(bad));
        expect_bye(f, k.fd[3]);
        assert_int_equal(f->n_frames_dropped, 2);
        disperse(f, &k);
}

/* ---- memory */

static uint64_t all_read(const struct crowd *k)
{
        uint64_t n = 0;

        for (int i = 0; i < N_CONNS; i++)
                n += k->seen[i]->conn->bytes_in;
        return n;
}

/* As much as the sockets and the daemon take. */
static void push(struct fixture *f, struct crowd *k, const uint8_t *stream, size_t n, size_t *sent)
{
        for (bool moved = true; moved;) {
                uint64_t before = all_read(k);

                moved = false;
                for (int i = 0; i < N_CONNS; i++) {
                        ssize_t r = 0;

                        if (sent[i] < n)
                                r = send(k->fd[i], stream + sent[i], n - sent[i], MSG_NOSIGNAL);
                        sent[i] += r > 0 ? (size_t)r : 0;
                        moved |= r > 0;
                }
                idle_turns(f);
                moved |= all_read(k) != before;
        }
}

static void incomplete_case(struct fixture *f, uint32_t n_msg, uint64_t n_body, uint64_t bound)
{
        size_t n_frame = FRAME_HEADER_SIZE + n_msg + (size_t)n_body, sent[N_CONNS] = {0}, n = 0;
        uint8_t *stream = malloc(n_frame);
        struct crowd k;
        unsigned waiting = 0;

        assert_non_null(stream);
        make_frame(stream, n_msg, n_body, 7);
        gather(f, &k);
        push(f, &k, stream, n_frame - 1, sent); /* all but the last byte */
        for (int i = 0; i < N_CONNS; i++)
                waiting += hold_waits(&k.seen[i]->conn->hold);
        assert_in_range(waiting, 1, N_CONNS - 1);
        assert_true(f->hub.holds.bytes[HOLD_INPUT] + f->hub.holds.bytes[HOLD_BODY] <= bound);
        assert_true(f->hub.pool.bytes <= bound + 3 * BLOCK_SIZE + BLOCKS_SPARE_MAX * BLOCK_SIZE);
        /* Each is complete in its time, and comes back. */
        for (int done = 0; done < N_CONNS;) {
                uint64_t end = ms_now() + WAIT_MS;
                int i = 0;

                push(f, &k, stream, n_frame - 1, sent);
                while (i < N_CONNS && sent[i] != n_frame - 1)
                        i++;
                assert_true(i < N_CONNS && ms_now() < end);
                put(f, k.fd[i], stream + n_frame - 1, 1);
                sent[i] = n_frame;
                expect_echo(f, k.fd[i], stream, n_frame);
                n++;
                done++;
        }
        assert_int_equal(n, N_CONNS);
        assert_int_equal(f->hub.holds.bytes[HOLD_INPUT] + f->hub.holds.bytes[HOLD_BODY], 0);
        free(stream);
        disperse(f, &k);
}

static void test_messages_hold_within_a_bound(void **state)
{
        struct fixture *f = *state;

        f->limits.buffer_bytes_per_uid = 1200000;
        set_limits(f);
        incomplete_case(f, 500000, 0, 1200000);
        incomplete_case(f, 500000, 50000, 1300000);
}

static void test_messages_of_all_hold_within_a_bound(void **state)
{
        struct fixture *f = *state;

        f->limits.buffer_bytes = 1200000;
        set_limits(f);
        incomplete_case(f, 500000, 0, 1200000);
}

static void test_bodies_hold_within_a_bound(void **state)
{
        struct fixture *f = *state;

        f->hold_bodies = true;
        f->limits.buffer_bytes_per_uid = 2 * LONG_BODY + 1000000;
        set_limits(f);
        incomplete_case(f, 100, LONG_BODY, 2 * LONG_BODY + 1000000);
}

static void test_who_waits_and_goes_leaves_nothing(void **state)
{
        struct fixture *f = *state;
        size_t n = 500000, sent[N_CONNS] = {0};
        uint8_t *stream = malloc(n + FRAME_HEADER_SIZE);
        struct crowd k;

        assert_non_null(stream);
        f->limits.buffer_bytes_per_uid = 700000;
        set_limits(f);
        make_frame(stream, (uint32_t)n, 0, 7);
        gather(f, &k);
        push(f, &k, stream, n, sent);
        for (int i = 0; i < N_CONNS; i++)
                if (hold_waits(&k.seen[i]->conn->hold))
                        conn_abort(k.seen[i]->conn);
        idle_turns(f);
        assert_true(list_is_empty(&f->hub.holds.waiting));
        free(stream);
        disperse(f, &k);
        assert_int_equal(f->hub.holds.bytes[HOLD_INPUT], 0);
}

/* Waiting is not the peer's fault: the time for a frame does not pass. */
static void test_waiting_is_not_dawdling(void **state)
{
        struct fixture *f = *state;
        size_t n = 500000, sent[N_CONNS] = {0};
        uint8_t *stream = malloc(n + FRAME_HEADER_SIZE);
        struct crowd k;
        int n_gone = 0;

        assert_non_null(stream);
        f->limits.buffer_bytes_per_uid = 700000;
        set_limits(f);
        make_frame(stream, (uint32_t)n, 0, 7);
        gather(f, &k);
        push(f, &k, stream, n, sent);
        f->hub.limits.frame_ms = 0; /* whoever is late is late now */
        hub_check_deadlines(&f->hub);
        for (int i = 0; i < N_CONNS; i++)
                n_gone += (int)k.seen[i]->n_violations;
        assert_int_equal(n_gone, 1); /* the one that could have sent */
        free(stream);
        disperse(f, &k);
}

/* ---- the end */

static void test_what_was_sent_is_handled_at_the_end(void **state)
{
        struct fixture *f = *state;
        struct crowd k;
        uint8_t *stream = malloc(4000 * 20);
        size_t n = 0;

        assert_non_null(stream);
        gather(f, &k);
        f->frame_ns = HUB_SLICE_NS / 20;
        while (n < 4000 * 20)
                n += make_frame(stream + n, 4, 4, (uint8_t)n);
        assert_int_equal(send(k.fd[0], stream, n, MSG_NOSIGNAL), n); /* more than one read takes */
        hub_end(&f->hub);
        for (int i = 1; i < N_CONNS; i++)
                assert_end(f, k.fd[i]);
        expect_echo(f, k.fd[0], stream, n);
        assert_end(f, k.fd[0]);
        free(stream);
        disperse(f, &k);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                CASE(test_a_turn_ends_in_time),
                CASE(test_who_comes_later_waits_in_line),
                CASE(test_a_frame_comes_in_portions),
                CASE(test_a_portion_is_the_last_one),
                CASE(test_messages_hold_within_a_bound),
                CASE(test_messages_of_all_hold_within_a_bound),
                CASE(test_bodies_hold_within_a_bound),
                CASE(test_who_waits_and_goes_leaves_nothing),
                CASE(test_waiting_is_not_dawdling),
                CASE(test_what_was_sent_is_handled_at_the_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
