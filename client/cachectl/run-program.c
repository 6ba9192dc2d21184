/* SPDX-License-Identifier: MIT */

/*
 * Programs
 *
 * The search is that of execvp(), done here because the file's content is part of a key: what was
 * looked at and what is started must be one file. A file that the kernel cannot execute by itself
 * is handed to the shell, as execvp() does with scripts that have no `#!` line.
 */

#include "run-program.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHELL        "/bin/sh"
#define DEFAULT_PATH "/bin:/usr/bin" /* glibc's, where $PATH is not set */

/* 0, or why the kernel would refuse to execute it, as a negative errno. */
static int check(const char *path)
{
        struct stat st;

        if (stat(path, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (!S_ISREG(st.st_mode))
                return -EACCES;
        return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* Whether the search goes on in the next directory. */
static bool is_elsewhere(int error)
{
        switch (-error) {
        case ENOENT:
        case ENOTDIR:
        case ENODEV:
        case ESTALE:
        case ETIMEDOUT:
        case EACCES:
        case EISDIR:
                return true;
        default:
                return false;
        }
}

static int search(const char *name, const char *dirs, char **ret)
{
        int refused = -ENOENT;

        for (const char *dir = dirs, *end; dir; dir = *end ? end + 1 : NULL) {
                char *path;
                int r;

                end = strchrnul(dir, ':');
                /* An empty entry is the working directory. */
                r = asprintf(&path, "%.*s%s%s", (int)(end - dir), dir, end > dir ? "/" : "", name);
                if (r < 0)
                        return -ENOMEM;
                r = check(path);
                if (r == 0) {
                        *ret = path;
                        return 0;
                }
                free(path);
                if (!is_elsewhere(r))
                        return r;
                if (r == -EACCES)
                        refused = r;
        }
        return refused;
}

int program_find(const char *name, char **ret)
{
        const char *dirs = getenv("PATH");
        char *path;
        int r;

        if (!*name)
                return -ENOENT;
        if (!strchr(name, '/'))
                return search(name, dirs ? dirs : DEFAULT_PATH, ret);
        r = check(name);
        if (r < 0)
                return r;
        path = strdup(name);
        if (!path)
                return -ENOMEM;
        *ret = path;
        return 0;
}

int program_status(int error)
{
        return error == -ENOENT || error == -ENOTDIR ? PROGRAM_NOT_FOUND : PROGRAM_NOT_EXECUTABLE;
}

/* `sh PATH ARGUMENT…` */
static char **shell_argv(const char *path, char **argv)
{
        char **out;
        size_t n = 0;

        while (argv[n])
                n++;
        out = calloc(n + 2, sizeof(*out));
        if (!out)
                return NULL;
        out[0] = (char *)SHELL;
        out[1] = (char *)path;
        memcpy(out + 2, argv + 1, (n - 1) * sizeof(*out));
        return out;
}

static int set_actions(posix_spawn_file_actions_t *actions, const struct program_start *s)
{
        int r = 0;

        for (int i = 0; i < 3 && r == 0; i++)
                r = posix_spawn_file_actions_adddup2(actions, s->fds[i], i);
        /* Onto itself: that takes its close-on-exec away, in the program alone. */
        if (r == 0 && s->kept > 0)
                r = posix_spawn_file_actions_adddup2(actions, s->kept, s->kept);
        return r;
}

static int set_attributes(posix_spawnattr_t *attributes, const struct program_start *s)
{
        short flags = POSIX_SPAWN_SETSIGMASK;
        sigset_t defaults;
        int r;

        (void)sigemptyset(&defaults);
        if (s->default_sigpipe) {
                (void)sigaddset(&defaults, SIGPIPE);
                flags |= POSIX_SPAWN_SETSIGDEF;
        }
        r = posix_spawnattr_setsigmask(attributes, s->mask);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(attributes, &defaults);
        if (r == 0)
                r = posix_spawnattr_setflags(attributes, flags);
        return r;
}

static int spawn_shell(const struct program_start *s, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, pid_t *ret)
{
        char **argv = shell_argv(s->path, s->argv);
        int r;

        if (!argv)
                return ENOMEM;
        r = posix_spawn(ret, SHELL, actions, attributes, argv, environ);
        free(argv);
        return r;
}

/* In the child; returns only to fail. posix_spawn() has no place for what is done here first. */
static int become_mortal(const struct program_start *s, pid_t parent)
{
        /* Who ended before the first line was carried out sends nothing any more. */
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                return -ESRCH;
        for (int i = 0; i < 3; i++)
                if (s->fds[i] != i && dup2(s->fds[i], i) < 0)
                        return -errno;
        if (s->kept > 0 && fcntl(s->kept, F_SETFD, 0) < 0)
                return -errno;
        (void)sigprocmask(SIG_SETMASK, s->mask, NULL);
        return program_become(s->path, s->argv, s->default_sigpipe);
}

/* What the child says of its failure; 0: it has become the program, whose end of the pipe is
 * closed by that. */
static int hear(int fd)
{
        int error = 0;
        ssize_t n;

        do
                n = read(fd, &error, sizeof(error));
        while (n < 0 && errno == EINTR);
        return n == (ssize_t)sizeof(error) ? error : 0;
}

static int spawn_mortal(const struct program_start *s, pid_t *ret)
{
        pid_t parent = getpid(), pid;
        int ends[2], r;

        if (pipe2(ends, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid == 0) {
                r = become_mortal(s, parent);
                _exit(write(ends[1], &r, sizeof(r)) < 0 ? 1 : PROGRAM_NOT_FOUND);
        }
        r = pid < 0 ? -errno : 0;
        (void)close(ends[1]);
        if (r == 0)
                r = hear(ends[0]);
        (void)close(ends[0]);
        if (r < 0 && pid > 0)
                (void)waitpid(pid, NULL, 0);
        *ret = pid;
        return r;
}

int program_spawn(const struct program_start *s, pid_t *ret)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        int r;

        if (s->dies_with_us)
                return spawn_mortal(s, ret);
        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attributes);
        if (r == 0) {
                r = set_actions(&actions, s);
                if (r == 0)
                        r = set_attributes(&attributes, s);
                if (r == 0)
                        r = posix_spawn(ret, s->path, &actions, &attributes, s->argv, environ);
                if (r == ENOEXEC)
                        r = spawn_shell(s, &actions, &attributes, ret);
                (void)posix_spawnattr_destroy(&attributes);
        }
        (void)posix_spawn_file_actions_destroy(&actions);
        return -r;
}

int program_become(const char *path, char **argv, bool default_sigpipe)
{
        char **shell;
        int r;

        if (default_sigpipe)
                (void)signal(SIGPIPE, SIG_DFL);
        (void)execv(path, argv);
        r = -errno;
        if (r == -ENOEXEC) {
                shell = shell_argv(path, argv);
                if (!shell)
                        return -ENOMEM;
                (void)execv(SHELL, shell);
                r = -errno;
                free(shell);
        }
        (void)signal(SIGPIPE, SIG_IGN);
        return r;
}
