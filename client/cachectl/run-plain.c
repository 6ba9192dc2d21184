/* SPDX-License-Identifier: MIT */

/*
 * Running a command plainly
 *
 * We sleep until it ends, hand on signals that it did not get by itself, and say what else there is
 * to say meanwhile.
 */

#include "run-plain.h"

#include "pidfd.h"
#include "run-program.h"
#include "run-signals.h"

#include <errno.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIGNAL_STATUS 128

/* Its wait status, or a negative errno. */
static int wait_for(const struct plain *plain, struct signals *s, pid_t pid, int pidfd, int *ret)
{
        int news = plain->news, r;

        do {
                struct pollfd fds[] = {{.fd = pidfd, .events = POLLIN},
                                       {.fd = s->fd, .events = POLLIN},
                                       {.fd = news, .events = POLLIN}};

                (void)poll(fds, 3, -1);
                if (fds[1].revents)
                        signals_take(s, pid);
                if (fds[2].revents) {
                        plain->told(plain->data);
                        news = -1;
                }
                r = waitpid(pid, ret, WNOHANG);
        } while (r == 0 || (r < 0 && errno == EINTR));
        return r < 0 ? -errno : 0;
}

static int spawn_and_wait(const struct plain *plain, struct signals *s, int *ret)
{
        struct program_start start = {
                .path = plain->path,
                .argv = plain->argv,
                .fds = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO},
                .kept = plain->kept,
                .mask = &s->outside,
                .default_sigpipe = plain->default_sigpipe,
                .dies_with_us = plain->dies_with_us,
        };
        pid_t pid = 0;
        int r = program_spawn(&start, &pid), pidfd;

        if (r < 0)
                return r;
        pidfd = pidfd_open(pid, 0);
        if (pidfd < 0) {
                r = -errno;
                (void)kill(pid, SIGKILL);
                (void)waitpid(pid, NULL, 0);
                return r;
        }
        r = wait_for(plain, s, pid, pidfd, ret);
        (void)close(pidfd);
        signals_take(s, 0);
        return r;
}

int plain_run(const struct plain *plain, struct plain_end *ret)
{
        struct plain_end end = {.status = 0};
        struct signals signals;
        int ended = 0, r = signals_init(&signals);

        if (r < 0)
                return r;
        r = spawn_and_wait(plain, &signals, &ended);
        end.by_terminal = signals.by_terminal;
        signals_done(&signals);
        if (r < 0)
                return r;
        if (WIFSIGNALED(ended))
                end.signal = WTERMSIG(ended);
        end.status = end.signal ? SIGNAL_STATUS + end.signal : WEXITSTATUS(ended);
        *ret = end;
        return 0;
}
