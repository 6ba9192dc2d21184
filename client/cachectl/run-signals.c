/* SPDX-License-Identifier: MIT */

/*
 * Signals
 *
 * A command runs in our process group, so what is typed at the terminal reaches it without us: we
 * only wait for what it makes of it. What is sent to our pid alone (kill, a service manager) is
 * meant for the command, and handed on; so is the hang-up of a terminal that was started for us
 * (`xterm -e`), of which the kernel tells the leader of the session and nobody else. A signal that
 * was ignored when we were started stays ignored.
 *
 * SIGTSTP and SIGCONT are left alone: both of us stop and go on together.
 */

#include "run-signals.h"

#include <errno.h>
#include <stdint.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int handled[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

int signals_init(struct signals *s)
{
        sigset_t set;
        int fd;

        (void)sigemptyset(&set);
        for (size_t i = 0; i < sizeof(handled) / sizeof(handled[0]); i++) {
                struct sigaction now;

                if (sigaction(handled[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
                        (void)sigaddset(&set, handled[i]);
        }
        fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0)
                return -errno;
        *s = (struct signals){.fd = fd};
        if (sigprocmask(SIG_BLOCK, &set, &s->outside) < 0) {
                (void)close(fd);
                return -errno;
        }
        /* Ignored, the kernel would not keep the command's exit status for us. */
        (void)signal(SIGCHLD, SIG_DFL);
        return 0;
}

void signals_done(struct signals *s)
{
        (void)close(s->fd);
        (void)sigprocmask(SIG_SETMASK, &s->outside, NULL);
}

void signals_take(struct signals *s, pid_t pid)
{
        struct signalfd_siginfo info;

        while (read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
                int number = (int)info.ssi_signo;
                bool by_kernel = info.ssi_code > 0;

                if (number != SIGUSR1 && number != SIGUSR2)
                        s->interrupted = true;
                if (number == SIGINT && by_kernel)
                        s->by_terminal = true;
                if (pid > 0 && (!by_kernel || (number == SIGHUP && getsid(0) == getpid())))
                        (void)kill(pid, number);
        }
}

void signals_die(int number)
{
        sigset_t set;

        (void)signal(number, SIG_DFL);
        (void)sigemptyset(&set);
        (void)sigaddset(&set, number);
        (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
        (void)raise(number);
}
