/* SPDX-License-Identifier: MIT */
#ifndef CONFIG_H
#define CONFIG_H

/*
 * Configuration: what the administrator decided
 *
 * Read whole and checked whole, then never changed: a reload makes a new one and the old one stays
 * in force if the new one is wrong. Every setting comes from config.def or limits.def and knows
 * where its value was set.
 */

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* An amount that may be written as a share of something. */
struct config_share {
        uint64_t bytes;   /* of memory settings: always resolved; of uid_share: 0 if in percent */
        unsigned percent; /* 0: it was written in bytes */
};

/* Who may: sorted, without duplicates. */
struct config_who {
        uid_t *uids;
        size_t n_uids;
        gid_t *gids;
        size_t n_gids;
};

struct config_realm {
        char *name;
        struct config_who readers, writers, admins;
        uint64_t budget;   /* the section's own, else memory.realm_budget */
        bool mapped_reads; /* the section's own, else daemon.mapped_reads */
};

/* Subscribers are asked to compute the values of a cache anew: every so often, at a time of the
 * day, or both. */
struct config_schedule {
        char *name, *cache;
        char *realm;        /* NULL: the realm of the daemon's own uid */
        uint64_t every_ms;  /* 0: not that */
        unsigned at_minute; /* of the local day; CONFIG_AT_NEVER: not that */
};
#define CONFIG_AT_NEVER UINT_MAX

/* A level is a priority of syslog.h: LOG_ERR, LOG_WARNING, LOG_INFO or LOG_DEBUG. */
#define CONFIG_TYPE_string char *
#define CONFIG_TYPE_bytes  uint64_t
#define CONFIG_TYPE_share  struct config_share
#define CONFIG_TYPE_mode   mode_t
#define CONFIG_TYPE_level  int
#define CONFIG_TYPE_bool   bool
#define CONFIG_TYPE_ms     uint64_t

struct config_limits {
#define LIMIT(name, ...) uint64_t name;
#include "limits.def"
#undef LIMIT
};

struct config_origins;
struct schedule_origin;

struct config {
#define SETTING(section, name, type, ...) CONFIG_TYPE_##type name;
#include "config.def"
#undef SETTING
        struct config_limits limits;
        bool has_socket_gid;
        gid_t socket_gid; /* of socket_group, looked up */
        struct config_realm *realms;
        size_t n_realms;
        struct config_schedule *schedules;
        struct schedule_origin *schedule_origins; /* one each */
        size_t n_schedules;
        char **files; /* that were read, in order */
        size_t n_files;
        struct config_origins *origins; /* where each value was set */
};

/* Room enough for every message of config_load(). */
#define CONFIG_ERR_MAX 1024

/*
 * Defaults, then @path, then the drop-ins `@path.d/` `*.conf` in the order of their names. @path
 * NULL: the default file (config_default_path()), which need not exist. User and group names are
 * looked up, which may block: not for use between two requests of a busy loop more than an
 * administrator asks for.
 *
 * 0; -ENOMEM; -ENOENT, -EACCES or another errno of opening; -EINVAL: the contents are refused. @err
 * then holds one sentence that begins with the file and the line.
 */
int config_load(const char *path, struct config **ret, char *err, size_t n_err);
struct config *config_free(struct config *cfg); /* NULL is fine; returns NULL */

/* The same for the text of one file, which messages call @name; no drop-ins. */
int config_parse(const char *name, const char *data, size_t n, struct config **ret, char *err,
                 size_t n_err);

/* As root config_system_path(), as configured at build: /etc/cached/cached.conf; else the user's
 * cached/cached.conf in $XDG_CONFIG_HOME or ~/.config. 0 or -ENOENT: there is no place for it. */
int config_default_path(char *buf, size_t n_buf);
const char *config_system_path(void); /* root's, whoever asks */

/* Every setting in the order of the .def files, then those of the realms ("realm.NAME.readers") and
 * of the schedules ("schedule.NAME.cache").
 * @source is "FILE:LINE", empty for a default. Stops at and returns what is not 0. */
typedef int (*config_setting_cb)(void *ctx, const char *name, const char *value, bool is_default,
                                 const char *source);
int config_for_each_setting(const struct config *cfg, config_setting_cb cb, void *ctx);

/* NULL: no such realm in the configuration. */
const struct config_realm *config_find_realm(const struct config *cfg, const char *name);

/* What @share is of @whole, at most @whole. */
uint64_t config_share_of(const struct config_share *share, uint64_t whole);

/* "error" … "debug" to the priority of syslog.h. 0 or -EINVAL. */
int config_parse_level(const char *text, int *ret);

/* Bytes of memory that the daemon may count on: the machine's, or its control group's if less. */
uint64_t config_memory_bytes(void);

#endif
