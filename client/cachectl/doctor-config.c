/* SPDX-License-Identifier: MIT */

/*
 * doctor: is the configuration right that the daemon would read now
 *
 * The daemon itself judges, by `cached --check-config`: there is no second parser to disagree with
 * it. The program is looked for among the running daemon's own (only if that runs as this user:
 * root does not start programs of others) and in the usual places. It gets no input, and is ended
 * if it takes too long.
 *
 * What the running daemon has in force may be older than the files: a file with a mistake is
 * refused and the old settings stay, until a restart fails.
 */

#include "doctor.h"
#include "fields.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK_TIMEOUT_MS 5000

static bool is_executable(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static bool in_list(const char *dirs, char *buf, size_t n_buf)
{
        while (*dirs) {
                size_t n = strcspn(dirs, ":");
                int k = snprintf(buf, n_buf, "%.*s/cached", (int)n, dirs);

                if (n > 0 && dirs[0] == '/' && k > 0 && (size_t)k < n_buf && is_executable(buf))
                        return true;
                dirs += n;
                dirs += *dirs == ':';
        }
        return false;
}

static bool find_cached(const struct doctor *d, char *buf, size_t n_buf)
{
        const char *path = getenv("PATH");

        /* Behind a service manager the peer is root, and the daemon somebody else. */
        if (d->used && d->pid && d->used->peer.uid == geteuid() &&
            doctor_is_process_of(d->pid, geteuid())) {
                snprintf(buf, n_buf, "/proc/%u/exe", (unsigned)d->pid);
                if (is_executable(buf))
                        return true;
        }
        return in_list(path ? path : "", buf, n_buf) ||
               in_list("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", buf, n_buf);
}

/* What it says, cut to the buffer; false: it ran too long. */
static bool collect(int fd, char *buf, size_t n_buf)
{
        size_t n = 0;
        bool in_time = true;

        for (;;) {
                struct pollfd p = {.fd = fd, .events = POLLIN};
                ssize_t k;
                int r = poll(&p, 1, CHECK_TIMEOUT_MS);

                if (r < 0 && errno == EINTR)
                        continue;
                in_time = r > 0;
                if (r <= 0)
                        break;
                k = read(fd, buf + n, n_buf - 1 - n);
                if (k <= 0 || (n += (size_t)k) == n_buf - 1)
                        break;
        }
        buf[n] = '\0';
        return in_time;
}

/* Exit status of `cached --check-config`, or -1: it could not be run, or did not end. */
static int run_check(const char *program, const char *file, char *buf, size_t n_buf)
{
        char *argv[] = {(char *)"cached", (char *)"--check-config",
                        file ? (char *)"--config" : NULL, (char *)file, NULL};
        posix_spawn_file_actions_t actions;
        int out[2], status, r;
        pid_t pid;

        if (pipe2(out, O_CLOEXEC) < 0)
                return -1;
        r = posix_spawn_file_actions_init(&actions);
        if (r == 0) {
                r = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
                r = r ? r : posix_spawn_file_actions_adddup2(&actions, out[1], 1);
                r = r ? r : posix_spawn_file_actions_adddup2(&actions, out[1], 2);
                r = r ? r : posix_spawn(&pid, program, &actions, NULL, argv, environ);
                (void)posix_spawn_file_actions_destroy(&actions);
        }
        close(out[1]);
        if (r == 0 && !collect(out[0], buf, n_buf))
                (void)kill(pid, SIGKILL);
        close(out[0]);
        if (r != 0)
                return -1;
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* The first line of what the program said, without its name. */
static const char *first_line(char *said)
{
        static const char name[] = "cached: ";

        said[strcspn(said, "\n")] = '\0';
        return strncmp(said, name, sizeof(name) - 1) == 0 ? said + sizeof(name) - 1 : said;
}

static void check_file(struct doctor *d, const char *program, const char *file)
{
        char said[1024];
        int status = run_check(program, file, said, sizeof(said));

        if (status == 0) {
                doctor_say(d, DOCTOR_OK, "configuration", "%s", first_line(said));
        } else if (status < 0) {
                doctor_say(d, DOCTOR_NOTE, "configuration", "it was not checked: %s does not run",
                           program);
                doctor_advise(d, "cached --check-config");
        } else {
                doctor_say(d, DOCTOR_PROBLEM, "configuration", "%s", first_line(said));
                doctor_advise(d,
                              d->used ? "correct it; the daemon goes on with its old settings, but "
                                        "would not start again"
                                      : "correct it: no daemon starts with it");
        }
}

/* False: who examines may not read it, and a finding says so. */
static bool may_read(struct doctor *d, const char *file)
{
        if (access(file, R_OK) == 0)
                return true;
        doctor_say(d, DOCTOR_NOTE, "configuration", "%s was not checked: %s", file,
                   strerror(errno));
        doctor_advise(d, "as root: cached --config %s --check-config", file);
        return false;
}

/* What the daemon says that it has read. */
static void check_files(struct doctor *d, const char *program)
{
        size_t n = cached_reply_count(d->config, "files");
        char name[FIELDS_PATH_SIZE];

        for (size_t i = 0; i < n; i++) {
                (void)snprintf(name, sizeof(name), "files[%zu]", i);
                if (doctor_check_reader(d, fields_text(d->config, "", name)))
                        return;
        }
        if (may_read(d, fields_text(d->config, "", "files[0]")))
                check_file(d, program, fields_text(d->config, "", "files[0]"));
}

/* The system's service does not come up: it would read the system's file, whoever examines. */
static void check_system_file(struct doctor *d, const char *program)
{
        static const char file[] = CONFIG_SYSCONFDIR "/cached/cached.conf";

        if (doctor_check_reader(d, file))
                return;
        if (access(file, R_OK) < 0 && errno != ENOENT) {
                (void)may_read(d, file);
                return;
        }
        /* As its unit does: then the file need not be there. */
        if (setenv("CONFIGURATION_DIRECTORY", CONFIG_SYSCONFDIR "/cached", 1) < 0)
                d->no_memory = true;
        check_file(d, program, NULL);
}

static bool is_system_service(const struct doctor *d)
{
        const char *systemctl = doctor_systemctl(d);

        return systemctl && strcmp(systemctl, "systemctl") == 0;
}

void doctor_check_config(struct doctor *d)
{
        char program[PATH_MAX];

        if (!find_cached(d, program, sizeof(program))) {
                if (!d->used) {
                        doctor_say(d, DOCTOR_PROBLEM, "configuration",
                                   "there is no program `cached` in $PATH");
                        doctor_advise(d, "install cached: make install, or its package");
                        return;
                }
                doctor_say(d, DOCTOR_NOTE, "configuration",
                           "it was not checked: there is no program "
                           "`cached` in $PATH");
                doctor_advise(d, "cached --check-config");
        } else if (d->config && cached_reply_count(d->config, "files") > 0) {
                check_files(d, program);
        } else if (d->used && d->used->peer.uid != geteuid()) {
                doctor_say(d, DOCTOR_OK, "configuration",
                           "the daemon has read no file: the defaults "
                           "hold");
        } else if (!d->used && is_system_service(d)) {
                check_system_file(d, program);
        } else {
                check_file(d, program, NULL);
        }
}
