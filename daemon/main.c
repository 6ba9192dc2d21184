/* SPDX-License-Identifier: MIT */
/*
 * cached: the caching daemon
 *
 * Reads the command line and the configuration, finds out where to listen, and runs the server.
 * Exit status: 0 done, 1 failure (said on stderr), 2 wrong usage.
 */

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "activation.h"
#include "base/clock.h"
#include "config.h"
#include "log.h"
#include "realm/access.h"
#include "realm/given.h"
#include "server.h"
#include "take-over.h"

#define EXIT_USAGE 2

static const char *arg_socket;
static const char *arg_config;
static int arg_log_level = -1;
static bool arg_check_config;
static bool arg_handover;
#ifdef CACHED_TEST_CLOCK
static int arg_test_clock_fd = -1;
#endif

enum {
        OPT_SOCKET = 's',
        OPT_CONFIG = 'c',
        OPT_LOG_LEVEL = 'l',
        OPT_HELP = 'h',
        OPT_VERSION = 'V',
        OPT_CHECK_CONFIG = 256,
        OPT_HANDOVER,
        OPT_TEST_CLOCK_FD,
};

/* Not more than 79 columns. */
static void print_help(FILE *out)
{
        (void)fprintf(
                out,
                "Usage: cached [OPTION]…\n"
                "\n"
                "Memoize once, share with every process on this machine. Runs in the\n"
                "foreground and logs to stderr.\n"
                "\n"
                "Options:\n"
                "  -s, --socket PATH      listen here instead of the passed or default socket\n"
                "  -c, --config FILE      read this configuration, which must exist, and then\n"
                "                         FILE.d/*.conf. Default, where none is fine: as root\n"
                "                         %s,\n"
                "                         else cached/cached.conf in $XDG_CONFIG_HOME or\n"
                "                         ~/.config\n"
                "  -l, --log-level LEVEL  error, warning, info or debug\n"
                "      --check-config     say whether the configuration is right, and end\n"
                "      --handover         take the place of the daemon that runs on the socket,\n"
                "                         with all that is cached; it ends then\n"
                "  -V, --version          print the version, and end\n"
                "  -h, --help             print this, and end\n"
#ifdef CACHED_TEST_CLOCK
                "      --test-clock-fd N  add the milliseconds in this shared file to the clock\n"
#endif
                "\n"
                "SIGTERM ends in order, SIGHUP reloads the configuration. The default socket\n"
                "is $CACHED_SOCKET; as root /run/cached/cached.sock; else cached/cached.sock in\n"
                "$XDG_RUNTIME_DIR or /run/user/UID; else /tmp/cached-UID/cached.sock.\n"
                "\n"
                "Exit status:\n"
                "  0  done\n"
                "  1  it could not start or go on (the reason is on stderr)\n"
                "  2  wrong usage\n"
                "\n"
                "Example:\n"
                "  cached --config my.conf --check-config && cached --config my.conf\n",
                config_system_path());
}

static int usage_error(const char *text, const char *what)
{
        (void)fprintf(stderr, "cached: %s%s; see cached --help\n", text, what);
        return EXIT_USAGE;
}

#ifdef CACHED_TEST_CLOCK
static int parse_fd(const char *text, int *ret)
{
        char *end;
        long v = strtol(text, &end, 10);

        if (end == text || *end != '\0' || v < 0 || v > 1 << 20)
                return -EINVAL;
        *ret = (int)v;
        return 0;
}
#endif

/* -1: go on; else the exit status. */
static int parse_option(int opt)
{
        switch (opt) {
        case OPT_SOCKET:
                arg_socket = optarg;
                return -1;
        case OPT_CONFIG:
                arg_config = optarg;
                return -1;
        case OPT_LOG_LEVEL:
                if (config_parse_level(optarg, &arg_log_level) < 0)
                        return usage_error("--log-level is error, warning, info or debug, not ",
                                           optarg);
                return -1;
        case OPT_CHECK_CONFIG:
                arg_check_config = true;
                return -1;
        case OPT_HANDOVER:
                arg_handover = true;
                return -1;
        case OPT_VERSION:
                puts("cached " VERSION);
                return EXIT_SUCCESS;
        case OPT_HELP:
                print_help(stdout);
                return EXIT_SUCCESS;
#ifdef CACHED_TEST_CLOCK
        case OPT_TEST_CLOCK_FD:
                if (parse_fd(optarg, &arg_test_clock_fd) < 0)
                        return usage_error("--test-clock-fd wants the number of a descriptor, not ",
                                           optarg);
                return -1;
#endif
        default: /* getopt has said what is wrong */
                return usage_error("wrong usage", "");
        }
}

static int parse_args(int argc, char **argv)
{
        static const struct option options[] = {
                {"socket", required_argument, NULL, OPT_SOCKET},
                {"config", required_argument, NULL, OPT_CONFIG},
                {"log-level", required_argument, NULL, OPT_LOG_LEVEL},
                {"check-config", no_argument, NULL, OPT_CHECK_CONFIG},
                {"handover", no_argument, NULL, OPT_HANDOVER},
                {"version", no_argument, NULL, OPT_VERSION},
                {"help", no_argument, NULL, OPT_HELP},
#ifdef CACHED_TEST_CLOCK
                {"test-clock-fd", required_argument, NULL, OPT_TEST_CLOCK_FD},
#endif
                {NULL, 0, NULL, 0},
        };
        int opt, status;

        while ((opt = getopt_long(argc, argv, "s:c:l:hV", options, NULL)) != -1) {
                status = parse_option(opt);
                if (status >= 0)
                        return status;
        }
        if (optind < argc)
                return usage_error("no arguments are expected, but there is ", argv[optind]);
        return -1;
}

/* The lists of realms in which somebody stands who is refused everywhere. */
static int warn_of_overflow_uid(void *ctx, const char *name, const char *value, bool is_default,
                                const char *source)
{
        static const char *const lists[] = {"readers", "writers", "admins"};
        const struct config *cfg = ctx;
        uid_t nobody = access_overflow_uid();
        char its_name[128];

        (void)value;
        for (size_t i = 0; !is_default && i < 3 * cfg->n_realms; i++) {
                const struct config_realm *realm = &cfg->realms[i / 3];
                const struct config_who *who[] = {&realm->readers, &realm->writers, &realm->admins};

                (void)snprintf(its_name, sizeof(its_name), "realm.%s.%s", realm->name,
                               lists[i % 3]);
                if (strcmp(name, its_name) != 0)
                        continue;
                for (size_t j = 0; j < who[i % 3]->n_uids; j++)
                        if (who[i % 3]->uids[j] == nobody)
                                (void)fprintf(stderr,
                                              "cached: warning: %s: %s: uid %u (Debian's 'nobody') "
                                              "stands for every user that the kernel cannot name, "
                                              "and is always refused\n",
                                              source, lists[i % 3], (unsigned)nobody);
        }
        return 0;
}

static int check_config(void)
{
        char err[CONFIG_ERR_MAX];
        struct config *cfg;

        if (config_load(arg_config, &cfg, err, sizeof(err)) < 0) {
                (void)fprintf(stderr, "cached: %s\n", err);
                return EXIT_FAILURE;
        }
        if (cfg->n_files == 0)
                puts("no configuration file: the defaults hold");
        for (size_t i = 0; i < cfg->n_files; i++)
                printf("%s: right\n", cfg->files[i]);
        (void)config_for_each_setting(cfg, warn_of_overflow_uid, cfg);
        config_free(cfg);
        return EXIT_SUCCESS;
}

static int init_clock(struct clock *clock, struct log *log)
{
        clock_init(clock);
#ifdef CACHED_TEST_CLOCK
        if (arg_test_clock_fd >= 0) {
                int r = clock_init_fd(clock, arg_test_clock_fd);
                if (r < 0) {
                        log_write(log, LOG_ERR, "--test-clock-fd %d: %s", arg_test_clock_fd,
                                  strerror(-r));
                        return r;
                }
                (void)fcntl(arg_test_clock_fd, F_SETFD, FD_CLOEXEC);
        }
#else
        (void)log;
#endif
        return 0;
}

/* Where to listen: --socket, what was passed, or the default. Memory files that were passed belong
 * to whatever socket that is. */
static int find_socket(struct server_params *p, char *path, size_t n_path, struct log *log)
{
        char err[ACTIVATION_ERR_MAX];
        int r = 1;

        p->listen_fd = -1;
        p->socket_path = path;
        if (!arg_handover)
                r = activation_take(&p->listen_fd, path, n_path, p->given, log, err, sizeof(err));
        if (arg_socket) {
                if (p->listen_fd >= 0)
                        close(p->listen_fd);
                p->listen_fd = -1;
                p->socket_path = arg_socket;
                return 0;
        }
        if (r > 0)
                r = activation_socket_path(path, n_path, err, sizeof(err));
        if (r < 0)
                log_event(log, LOG_ERR, LOG_EVENT(START_FAILED), "%s", err);
        return r;
}

static int run(const struct server_params *p)
{
        struct server *s;
        int r = server_new(p, &s);

        if (r < 0)
                return EXIT_FAILURE;
        log_event(p->log, LOG_INFO, LOG_EVENT(READY), "cached %s ready on %s", VERSION,
                  p->socket_path);
        r = server_run(s);
        server_free(s);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* Consumes the configuration. */
static int run_in_its_place(struct server_params *p)
{
        char err[TAKE_OVER_ERR_MAX];
        struct take_over t;
        int status = EXIT_FAILURE;

        if (take_over_begin(&t, p->socket_path, p->log, err, sizeof(err)) < 0) {
                log_event(p->log, LOG_ERR, LOG_EVENT(START_FAILED), "cannot take over: %s", err);
                config_free(p->config);
        } else {
                p->take_over = &t;
                status = run(p);
                p->take_over = NULL;
        }
        take_over_done(&t);
        return status;
}

/* From the root, so that whoever asks the daemon what it has read can read it, too. */
static const char *from_root(const char *path, char *buf, size_t n_buf)
{
        char here[PATH_MAX];
        int n;

        if (!path || path[0] == '/' || !getcwd(here, sizeof(here)))
                return path;
        n = snprintf(buf, n_buf, "%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
        return n > 0 && (size_t)n < n_buf ? buf : path;
}

static int serve(struct log *log, struct clock *clock)
{
        char config_path[PATH_MAX];
        struct given given = {0};
        struct server_params p = {.config_path =
                                          from_root(arg_config, config_path, sizeof(config_path)),
                                  .log_level_fixed = arg_log_level >= 0,
                                  .log = log,
                                  .given = &given,
                                  .clock = clock};
        char path[ACTIVATION_PATH_MAX], err[CONFIG_ERR_MAX];
        int status = EXIT_FAILURE;

        if (config_load(p.config_path, &p.config, err, sizeof(err)) < 0) {
                log_event(log, LOG_ERR,
                          &(struct log_fields){.event = LOG_EVENT_CONFIG_REFUSED,
                                               .config_error = err},
                          "%s", err);
                return EXIT_FAILURE;
        }
        if (arg_log_level < 0)
                log->level = p.config->log_level;
        if (find_socket(&p, path, sizeof(path), log) < 0)
                config_free(p.config);
        else
                status = arg_handover ? run_in_its_place(&p) : run(&p);
        given_done(&given);
        return status;
}

/* The C library would learn from each large piece that is freed to keep the next ones on the heap,
 * up to 64 MiB that nobody uses. */
static void bound_heap(void)
{
#ifdef __GLIBC__
        (void)mallopt(M_MMAP_THRESHOLD, 128 * 1024);
        (void)mallopt(M_TRIM_THRESHOLD, 256 * 1024);
#endif
}

/* A descriptor that is closed would be the next socket or file, and logs would go into it. What
 * stands in for it fails as a closed one does. */
static bool open_standard_descriptors(void)
{
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
                if (fcntl(fd, F_GETFD) >= 0)
                        continue;
                if (open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
                        return false;
        }
        return true;
}

/* What was printed must have arrived, as the exit status says. */
static int end_output(int status)
{
        errno = 0;
        if (fflush(stdout) == 0 && !ferror(stdout))
                return status;
        (void)fprintf(stderr, "cached: cannot write to stdout: %s\n", strerror(errno));
        return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
        char name[] = "cached"; /* getopt's complaints begin with it, not with a path */
        struct clock clock;
        struct log log;
        int status;

        if (!open_standard_descriptors())
                return EXIT_FAILURE;
        (void)signal(SIGHUP,
                     SIG_IGN); /* until it means something: it is sent to who just starts, too */
        if (argc > 0)
                argv[0] = name;
        status = parse_args(argc, argv);
        if (status >= 0)
                return end_output(status);
        if (arg_check_config)
                return end_output(check_config());
        bound_heap();
        log_init(&log, arg_log_level >= 0 ? arg_log_level : LOG_INFO);
        if (init_clock(&clock, &log) < 0)
                return EXIT_FAILURE;
        status = serve(&log, &clock);
        clock_done(&clock);
        log_done(&log);
        return status;
}
