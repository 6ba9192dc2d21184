/* SPDX-License-Identifier: MIT */
/*
 * Starting and ending a daemon from a bench program
 *
 * The child is told to die with its parent, so that an interrupted bench leaves nothing running.
 * Only the child's own pid is ever signalled. Its log goes to our stderr, at the level `warning`.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "spawn.h"

int spawn_find_daemon(char *out, size_t n)
{
        const char *env = getenv("CACHED_DAEMON");
        char self[512];
        int k;
        if (env && *env) {
                k = snprintf(out, n, "%s", env);
        } else {
                ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
                if (len < 0)
                        return -errno;
                self[len] = '\0';
                for (int up = 0; up < 3; up++) { /* BUILD/tests/bench/program */
                        char *slash = strrchr(self, '/');
                        if (slash)
                                *slash = '\0';
                }
                k = snprintf(out, n, "%s/daemon/cached", self);
        }
        if (k < 0 || (size_t)k >= n)
                return -ENAMETOOLONG;
        return access(out, X_OK) < 0 ? -errno : 0;
}

static int write_config(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        size_t n = strlen(text);
        ssize_t k = write(fd, text, n);
        close(fd);
        return k == (ssize_t)n ? 0 : -EIO;
}

static void child(const struct spawn *s, const char *daemon, const char *config_path, int cpu)
{
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (cpu >= 0) {
                cpu_set_t set;
                CPU_ZERO(&set);
                CPU_SET((size_t)cpu, &set);
                sched_setaffinity(0, sizeof(set), &set);
        }
        execl(daemon, "cached", "--socket", s->socket_path, "--log-level", "warning",
              config_path ? "--config" : NULL, config_path, NULL);
        _exit(127);
}

int spawn_start(struct spawn *s, const char *daemon, const char *config, int cpu)
{
        *s = (struct spawn){0};
        const char *tmp = getenv("TMPDIR");
        if (!tmp || strlen(tmp) > SPAWN_PATH_MAX - 32)
                tmp = "/tmp";
        snprintf(s->dir, sizeof(s->dir), "%s/cached-bench-XXXXXX", tmp);
        if (!mkdtemp(s->dir)) {
                s->dir[0] = '\0';
                return -errno;
        }
        snprintf(s->socket_path, sizeof(s->socket_path), "%s/s", s->dir);
        char config_path[SPAWN_PATH_MAX + 8];
        snprintf(config_path, sizeof(config_path), "%s/conf", s->dir);
        if (config) {
                int r = write_config(config_path, config);
                if (r < 0)
                        return r;
        }
        struct timespec ts;
        clock_gettime(CLOCK_MONOTONIC, &ts);
        s->exec_ns = (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
        s->pid = fork();
        if (s->pid < 0) {
                s->pid = 0;
                return -errno;
        }
        if (s->pid == 0)
                child(s, daemon, config ? config_path : NULL, cpu);
        return 0;
}

static int reap(pid_t pid)
{
        int status;
        for (int i = 0; i < 1000; i++) {
                pid_t k = waitpid(pid, &status, WNOHANG);
                if (k == pid)
                        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -ECHILD;
                if (k < 0 && errno != EINTR)
                        return -errno;
                nanosleep(&(struct timespec){0, 10000000}, NULL);
        }
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        return -ETIMEDOUT;
}

int spawn_done(struct spawn *s)
{
        int r = 0;
        if (s->pid > 0) {
                kill(s->pid, SIGTERM);
                r = reap(s->pid);
        }
        static const char *const left[] = {"s", "s.epoch", "s.lock", "conf"};
        for (size_t i = 0; s->dir[0] && i < sizeof(left) / sizeof(*left); i++) {
                char path[SPAWN_PATH_MAX + 16];
                snprintf(path, sizeof(path), "%s/%s", s->dir, left[i]);
                unlink(path);
        }
        if (s->dir[0] && rmdir(s->dir) < 0 && r == 0)
                r = -errno;
        *s = (struct spawn){0};
        return r;
}
