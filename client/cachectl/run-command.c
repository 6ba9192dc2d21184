/* SPDX-License-Identifier: MIT */

/*
 * Running a command
 *
 * One loop over its two pipes, our signals and its end. It is over when the command has ended and
 * both pipes have: what the command left running with our pipes in its hands may still print, and
 * that belongs to the output. (So does a shell wait for it in `$(…)`.)
 *
 * Nothing in the loop blocks but poll(). Each write of the command is read, recorded and written on
 * before the next is looked for, in the order that run-order.c knows.
 */

#include "run-command.h"

#include "pidfd.h"
#include "run-order.h"
#include "run-program.h"
#include "run-signals.h"
#include "run-spinner.h"
#include "run-stream.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define US_PER_SEC    UINT64_C(1000000)
#define NS_PER_US     1000
#define SIGNAL_STATUS 128
/* Reads of one stream in a row, and pieces of news in a turn: a flood does not hold up signals. */
#define READS_PER_TURN 16
#define NEWS_PER_TURN  64

struct run {
        struct order order;
        struct stream streams[ORDER_PIPES];
        bool one_place; /* both streams go to the same file, in one order */
        struct signals signals;
        struct spinner spinner;
        struct record *record;
        const struct command *command;
        bool is_dropped; /* the record, and that was told */
        pid_t pid;       /* 0: it has ended */
        int pidfd;
        int wait_status;
};

static uint64_t now_us(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * US_PER_SEC + (uint64_t)t.tv_nsec / NS_PER_US;
}

/* Reads what a stream has, once or until it is empty, as far as it can be written on. */
static void pump(struct run *run, unsigned which)
{
        struct stream *s = &run->streams[which];

        for (int i = 0; i < READS_PER_TURN && s->ready && stream_is_empty(s); i++) {
                size_t n = stream_read(s);

                if (n == 0)
                        break;
                if (!order_read_on(&run->order) && !stream_filled(s))
                        s->ready = false;
                spinner_end(&run->spinner);
                record_add(run->record, which, s->buffer, n);
                stream_write(s);
        }
}

/* Where both go to one place, nothing may overtake what that place does not take yet. Elsewhere
 * they do not wait for each other, no more than they would without us. */
static bool is_held(const struct run *run)
{
        return run->one_place &&
               !(stream_is_empty(&run->streams[0]) && stream_is_empty(&run->streams[1]));
}

static void pump_all(struct run *run)
{
        int which;

        /* First what was left over, then news in their order. */
        for (unsigned i = 0; i < ORDER_PIPES; i++)
                stream_write(&run->streams[i]);
        for (unsigned i = 0; i < ORDER_PIPES && !is_held(run); i++)
                pump(run, i);
        for (int i = 0; i < NEWS_PER_TURN && !is_held(run); i++) {
                which = order_next(&run->order);
                if (which < 0)
                        break;
                if (run->streams[which].pipe < 0)
                        continue;
                run->streams[which].ready = true;
                pump(run, (unsigned)which);
        }
        if (!run->streams[0].ready && !run->streams[1].ready)
                order_idle(&run->order);
}

static void tell_dropped(struct run *run)
{
        if (run->is_dropped || run->record->failed == 0)
                return;
        run->is_dropped = true;
        if (run->command->dropped)
                run->command->dropped(run->command->data);
}

static void reap(struct run *run)
{
        pid_t r;

        do
                r = waitpid(run->pid, &run->wait_status, WNOHANG);
        while (r < 0 && errno == EINTR);
        if (r == 0)
                return;
        run->pid = 0;
        order_release(&run->order);
        /* Whatever is left can be read at any time now. */
        for (unsigned i = 0; i < ORDER_PIPES; i++)
                run->streams[i].ready = run->streams[i].pipe >= 0;
}

static bool is_over(const struct run *run)
{
        return run->pid == 0 && stream_has_ended(&run->streams[0]) &&
               stream_has_ended(&run->streams[1]);
}

/* A stream that is ready and empty was left at READS_PER_TURN: no time to sleep. */
static bool is_pending(const struct run *run)
{
        for (unsigned i = 0; i < ORDER_PIPES && !is_held(run); i++)
                if (run->streams[i].ready && stream_is_empty(&run->streams[i]))
                        return true;
        return false;
}

static void turn(struct run *run)
{
        struct pollfd fds[3 + ORDER_PIPES] = {
                {.fd = run->signals.fd, .events = POLLIN},
                {.fd = run->pid ? run->pidfd : -1, .events = POLLIN},
                {.fd = is_held(run) ? -1 : run->order.epoll, .events = POLLIN},
        };

        for (unsigned i = 0; i < ORDER_PIPES; i++)
                fds[3 + i] = (struct pollfd){
                        .fd = stream_is_empty(&run->streams[i]) ? -1 : run->streams[i].out,
                        .events = POLLOUT,
                };
        (void)poll(fds, 3 + ORDER_PIPES, is_pending(run) ? 0 : spinner_timeout_ms(&run->spinner));
        if (fds[0].revents)
                signals_take(&run->signals, run->pid);
        /* In this order: what it wrote before it ended comes before what is no longer told apart.
         */
        pump_all(run);
        tell_dropped(run);
        if (run->pid && fds[1].revents)
                reap(run);
        spinner_tick(&run->spinner);
}

static int start(struct run *run, const struct command *command)
{
        struct program_start s = {
                .path = command->path,
                .argv = command->argv,
                .fds = {command->input, run->order.writers[0], run->order.writers[1]},
                .mask = &run->signals.outside,
                .default_sigpipe = command->default_sigpipe,
        };
        int r = program_spawn(&s, &run->pid);

        if (r < 0)
                return r;
        run->pidfd = pidfd_open(run->pid, 0);
        if (run->pidfd >= 0)
                return 0;
        r = -errno;
        (void)kill(run->pid, SIGKILL);
        (void)waitpid(run->pid, NULL, 0);
        return r;
}

static void run_to_end(struct run *run, const struct command *command, struct command_end *ret)
{
        uint64_t started_us = now_us();
        struct command_end end = {.status = 0};

        spinner_init(&run->spinner, command->spinner, command->title);
        while (!is_over(run))
                turn(run);
        spinner_end(&run->spinner);
        (void)close(run->pidfd);
        signals_take(&run->signals, 0);
        if (WIFSIGNALED(run->wait_status))
                end.signal = WTERMSIG(run->wait_status);
        end.status = end.signal ? SIGNAL_STATUS + end.signal : WEXITSTATUS(run->wait_status);
        end.interrupted = run->signals.interrupted;
        end.by_terminal = run->signals.by_terminal;
        end.lost = run->streams[0].error;
        /* Somebody who closed stderr wants none of it. */
        if (!end.lost && run->streams[1].error != EBADF)
                end.lost = run->streams[1].error;
        end.took_us = now_us() - started_us;
        *ret = end;
}

static bool is_one_place(void)
{
        struct stat out, err;

        return fstat(STDOUT_FILENO, &out) == 0 && fstat(STDERR_FILENO, &err) == 0 &&
               out.st_dev == err.st_dev && out.st_ino == err.st_ino;
}

static int run_streams(struct run *run, const struct command *command, const int readers[2],
                       struct command_end *ret)
{
        static const int outs[ORDER_PIPES] = {STDOUT_FILENO, STDERR_FILENO};
        int r = 0;

        for (unsigned i = 0; i < ORDER_PIPES; i++) {
                int error = stream_init(&run->streams[i], readers[i], outs[i]);

                r = r ? r : error;
        }
        if (r == 0)
                r = start(run, command);
        if (r == 0)
                run_to_end(run, command, ret);
        for (unsigned i = 0; i < ORDER_PIPES; i++)
                stream_done(&run->streams[i]);
        return r;
}

int command_run(const struct command *command, struct command_end *ret)
{
        struct run run = {.record = command->record,
                          .command = command,
                          .one_place = is_one_place()};
        int readers[ORDER_PIPES], r;

        r = signals_init(&run.signals);
        if (r < 0)
                return r;
        r = order_init(&run.order, readers);
        if (r == 0) {
                r = run_streams(&run, command, readers, ret);
                order_done(&run.order);
        }
        signals_done(&run.signals);
        return r;
}
