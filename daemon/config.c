/* SPDX-License-Identifier: MIT */
/*
 * Configuration: what the administrator decided
 *
 * config.def and limits.def become one table of rows; a value is parsed into the field that its row
 * names. Files are read in order and a later one overrides an earlier one; within one file a
 * setting stands once. The first error ends the load and nothing of it is kept, so a struct config
 * is always whole and in range.
 *
 * inih cuts lines into names and values. It does not report everything that is wrong with a line
 * (it cuts long ones silently), so each line is looked at before inih sees it.
 *
 * Does not decide where values are used, and does not watch files.
 */

#include "config.h"

#include <errno.h>
#include <ini.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/oneline.h"
#include "config-file.h"
#include "config-row.h"
#include "config-schedule.h"
#include "config-value.h"
#include "config-who.h"

/* A share of memory is at least this, so that a small machine still caches. */
enum { REALM_SHARE_MIN_MIB = 1024, GLOBAL_SHARE_MIN_MIB = 1280, SESSION_SHARE_MIN_MIB = 64 };

enum {
        REALM_NAME_MAX = 40,
        REALMS_MAX = 4096, /* that are searched in turn; more named ones is a generated mistake */
        SECTION_MAX = 49,  /* inih cuts longer names */
};

enum realm_field {
        REALM_READERS,
        REALM_WRITERS,
        REALM_ADMINS,
        REALM_BUDGET,
        REALM_MAPPED,
        N_REALM_FIELDS
};

static const char *const realm_fields[N_REALM_FIELDS] = {"readers", "writers", "admins", "budget",
                                                         "mapped_reads"};

struct realm_origin {
        struct config_origin where[N_REALM_FIELDS];
        char *text[N_REALM_FIELDS]; /* as it was written */
};

struct config_origins {
        struct config_origin where[N_CONFIG_ROWS];
        struct realm_origin *realms; /* one per config->realms */
};

/* One file being read. */
struct loader {
        struct config *cfg;
        const char *rest;  /* what inih has not seen yet */
        unsigned line;     /* of what it saw last */
        bool indented;     /* that line began with a blank */
        bool has_previous; /* the section has a setting that an indented line would go on with */
        struct config_realm *realm; /* of the current section, borrowed */
        bool in_schedule;           /* the section is one, with this number: */
        size_t schedule;
        int error; /* the first one, or 0; err says it */
        char err[CONFIG_ERR_MAX];
};

/* ---- errors */

__attribute__((format(printf, 2, 3))) static int refuse(struct loader *l, const char *format, ...)
{
        const char *file = l->cfg->files[l->cfg->n_files - 1];
        int n = snprintf(l->err, sizeof(l->err), "%s:%u: ", file, l->line);
        va_list args;

        va_start(args, format);
        if (n > 0 && (size_t)n < sizeof(l->err))
                vsnprintf(l->err + n, sizeof(l->err) - (size_t)n, format, args);
        va_end(args);
        l->error = -EINVAL;
        return l->error;
}

static int no_memory(struct loader *l)
{
        snprintf(l->err, sizeof(l->err), "out of memory while reading the configuration");
        l->error = -ENOMEM;
        return l->error;
}

/* Near enough to be a slip: one in three letters, at least two. */
static bool is_near(const char *a, const char *b)
{
        unsigned allowed = (unsigned)strlen(a) / 3;

        return value_distance(a, b) <= (allowed < 2 ? 2 : allowed);
}

static void keep_nearer(const char *wanted, const char *candidate, const char **best)
{
        if (is_near(wanted, candidate) &&
            (!*best || value_distance(wanted, candidate) < value_distance(wanted, *best)))
                *best = candidate;
}

static int refuse_name(struct loader *l, const char *section, const char *name)
{
        const char *best = NULL;

        for (size_t i = 0; i < N_CONFIG_ROWS; i++) {
                if (strcmp(config_rows[i].name, name) == 0)
                        return refuse(l, "'%s' is a setting of [%s], not of [%s]", name,
                                      config_rows[i].section, section);
                if (strcmp(config_rows[i].section, section) == 0)
                        keep_nearer(name, config_rows[i].name, &best);
        }
        for (size_t i = 0; l->realm && i < N_REALM_FIELDS; i++)
                keep_nearer(name, realm_fields[i], &best);
        for (size_t i = 0; l->in_schedule && i < N_SCHEDULE_FIELDS; i++)
                keep_nearer(name, schedule_fields[i], &best);
        if (best)
                return refuse(l, "unknown setting '%.64s' in [%s]; did you mean '%s'?", name,
                              section, best);
        if (l->realm)
                return refuse(l,
                              "unknown setting '%.64s' in [%s]; a realm has readers, writers, "
                              "admins, budget and mapped_reads",
                              name, section);
        if (l->in_schedule)
                return refuse(l,
                              "unknown setting '%.64s' in [%s]; a schedule has cache, realm, every "
                              "and at",
                              name, section);
        return refuse(l, "unknown setting '%.64s' in [%s]", name, section);
}

/* ---- sections and settings */

const struct config_realm *config_find_realm(const struct config *cfg, const char *name)
{
        for (size_t i = 0; i < cfg->n_realms; i++) {
                if (strcmp(cfg->realms[i].name, name) == 0)
                        return &cfg->realms[i];
        }
        return NULL;
}

static bool is_realm_name(const char *name)
{
        size_t n =
                strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

        return n > 0 && n <= REALM_NAME_MAX && !name[n] && name[0] != '.' && name[0] != '-';
}

static int add_realm(struct loader *l, const char *name)
{
        struct config *cfg = l->cfg;
        struct config_realm *realms;
        struct realm_origin *origins;

        if (cfg->n_realms == REALMS_MAX)
                return refuse(l, "more than %d realms", REALMS_MAX);
        realms = reallocarray(cfg->realms, cfg->n_realms + 1, sizeof(*realms));
        if (!realms)
                return no_memory(l);
        cfg->realms = realms;
        origins = reallocarray(cfg->origins->realms, cfg->n_realms + 1, sizeof(*origins));
        if (!origins)
                return no_memory(l);
        cfg->origins->realms = origins;
        realms[cfg->n_realms] = (struct config_realm){.name = strdup(name)};
        origins[cfg->n_realms] = (struct realm_origin){0};
        if (!realms[cfg->n_realms].name)
                return no_memory(l);
        l->realm = &realms[cfg->n_realms++];
        return 0;
}

static int enter_realm(struct loader *l, const char *name)
{
        if (!is_realm_name(name))
                return refuse(
                        l, "'%.64s' is no realm name: use 1 to %d letters, digits, '.', '_', '-'",
                        name, REALM_NAME_MAX);
        for (size_t i = 0; i < l->cfg->n_realms; i++) {
                if (strcmp(l->cfg->realms[i].name, name) == 0) {
                        l->realm = &l->cfg->realms[i];
                        return 0;
                }
        }
        return add_realm(l, name);
}

static int enter_schedule(struct loader *l, const char *name)
{
        const struct config_origin here = {.file = l->cfg->n_files, .line = l->line};
        char why[CONFIG_ERR_MAX / 2];
        int r = schedule_enter(l->cfg, name, &here, &l->schedule, why, sizeof(why));

        l->in_schedule = r == 0;
        if (r == -ENOMEM)
                return no_memory(l);
        return r < 0 ? refuse(l, "%s", why) : 0;
}

/* What follows the word @kind in the name of a section; NULL: it is of another kind. */
static const char *section_of(const char *name, const char *kind)
{
        size_t n = strlen(kind);

        if (strncmp(name, kind, n) != 0 || name[n] != ' ')
                return NULL;
        return name + n + strspn(name + n, " \t");
}

static int enter_section(struct loader *l, const char *name)
{
        const char *best = NULL;

        l->realm = NULL;
        l->in_schedule = false;
        l->has_previous = false;
        if (section_of(name, "realm"))
                return enter_realm(l, section_of(name, "realm"));
        if (section_of(name, "schedule"))
                return enter_schedule(l, section_of(name, "schedule"));
        if (strcmp(name, "realm") == 0 || strcmp(name, "schedule") == 0)
                return refuse(l, "[%s] needs a name: [%s NAME]", name, name);
        for (size_t i = 0; i < N_CONFIG_ROWS; i++) {
                if (strcmp(config_rows[i].section, name) == 0)
                        return 0;
                keep_nearer(name, config_rows[i].section, &best);
        }
        if (best)
                return refuse(l, "unknown section [%.64s]; did you mean [%s]?", name, best);
        return refuse(
                l,
                "unknown section [%.64s]; there are [daemon], [memory], [sessions], [limits], "
                "[realm NAME] and [schedule NAME]",
                name);
}

static struct realm_origin *origin_of(const struct config *cfg, const struct config_realm *realm)
{
        return &cfg->origins->realms[realm - cfg->realms];
}

static int mark(struct loader *l, struct config_origin *where, const char *name)
{
        if (where->file == l->cfg->n_files)
                return refuse(l, "'%s' was already set at line %u", name, where->line);
        *where = (struct config_origin){.file = l->cfg->n_files, .line = l->line};
        return 0;
}

/* What a realm may set for itself in the place of the setting that @of is the row of. */
static int parse_own(struct loader *l, size_t field, const struct row *of, enum row_type type,
                     const char *text, uint64_t *ret)
{
        const struct row row = {
                .section = "realm NAME",
                .name = realm_fields[field],
                .type = type,
                .min = of->min,
                .max = of->max,
        };
        char why[CONFIG_ERR_MAX / 2];
        int r = row_parse(&row, text, ret, why, sizeof(why));

        return r == 0 ? 0 : refuse(l, "%s", why);
}

static int set_own(struct loader *l, size_t field, const char *text)
{
        uint64_t n = 0;
        int r;

        if (field == REALM_BUDGET)
                return parse_own(l, field, &config_rows[ROW_realm_budget], TYPE_bytes, text,
                                 &l->realm->budget);
        r = parse_own(l, field, &config_rows[ROW_mapped_reads], TYPE_bool, text, &n);
        if (r == 0)
                l->realm->mapped_reads = n == 1;
        return r;
}

/* Text that an indented line adds is kept in the same form. */
static int keep_text(struct loader *l, char **text, const char *more)
{
        char *joined = NULL;

        if (asprintf(&joined, "%s%s%s", *text ? *text : "", *text && **text ? " " : "", more) < 0)
                return no_memory(l);
        free(*text);
        *text = joined;
        return 0;
}

static int set_realm(struct loader *l, const char *name, const char *text, bool more)
{
        struct realm_origin *origin = origin_of(l->cfg, l->realm);
        struct config_who *lists[] = {&l->realm->readers, &l->realm->writers, &l->realm->admins};
        char why[CONFIG_ERR_MAX / 2];
        size_t field = 0;
        int r;

        while (field < N_REALM_FIELDS && strcmp(realm_fields[field], name) != 0)
                field++;
        if (field == N_REALM_FIELDS)
                return refuse_name(l, "realm NAME", name);
        if (!more) {
                r = mark(l, &origin->where[field], name);
                if (r < 0)
                        return r;
                free(origin->text[field]);
                origin->text[field] = NULL;
        }
        if (field >= REALM_BUDGET) {
                r = set_own(l, field, text);
                return r < 0 ? r : keep_text(l, &origin->text[field], text);
        }
        if (!more)
                who_done(lists[field]);
        r = who_add(lists[field], text, why, sizeof(why));
        if (r == -ENOMEM)
                return no_memory(l);
        return r < 0 ? refuse(l, "%s", why) : keep_text(l, &origin->text[field], text);
}

static int set_schedule(struct loader *l, const char *name, const char *text)
{
        struct config *cfg = l->cfg;
        enum schedule_field field = schedule_field_of(name);
        char why[CONFIG_ERR_MAX / 2];
        int r;

        if (field == N_SCHEDULE_FIELDS)
                return refuse_name(l, "schedule NAME", name);
        r = mark(l, &cfg->schedule_origins[l->schedule].where[field], name);
        if (r < 0)
                return r;
        r = schedule_set(&cfg->schedules[l->schedule], field, text, why, sizeof(why));
        if (r == -ENOMEM)
                return no_memory(l);
        return r < 0 ? refuse(l, "%s", why) : 0;
}

static int set_setting(struct loader *l, const char *section, const char *name, const char *text)
{
        char why[CONFIG_ERR_MAX / 2];

        for (size_t i = 0; i < N_CONFIG_ROWS; i++) {
                int r;

                if (strcmp(config_rows[i].section, section) != 0 ||
                    strcmp(config_rows[i].name, name) != 0)
                        continue;
                r = mark(l, &l->cfg->origins->where[i], name);
                if (r < 0)
                        return r;
                r = row_set(l->cfg, &config_rows[i], text, why, sizeof(why));
                if (r == -ENOMEM)
                        return no_memory(l);
                return r < 0 ? refuse(l, "%s", why) : 0;
        }
        return refuse_name(l, section, name);
}

/* ---- lines */

/* For inih: not 0 to go on. An indented line goes on with the setting above it. */
static int on_setting(void *ctx, const char *section, const char *name, const char *text)
{
        struct loader *l = ctx;
        bool more = l->indented && l->has_previous;

        if (l->error)
                return 0;
        if (!*section)
                refuse(l,
                       "'%.64s' stands before any section; begin with [daemon], [memory], "
                       "[sessions], [limits], "
                       "[realm NAME] or [schedule NAME]",
                       name);
        else if (more && (!l->realm || strcmp(name, realm_fields[REALM_BUDGET]) == 0 ||
                          strcmp(name, realm_fields[REALM_MAPPED]) == 0))
                refuse(l, "the line is indented: it would go on with '%.64s', which is no list",
                       name);
        else if (l->realm)
                set_realm(l, name, text, more);
        else if (l->in_schedule)
                set_schedule(l, name, text);
        else
                set_setting(l, section, name, text);
        l->has_previous = true;
        return !l->error;
}

/* A copy of the name in "[name]", checked; inih would cut a long one silently. */
static int on_section_line(struct loader *l, const char *line)
{
        const char *end = strchr(line, ']');
        char name[SECTION_MAX + 1];
        size_t n;

        if (!end)
                return refuse(l, "the section's name has no ']'");
        n = (size_t)(end - line) - 1;
        if (n > SECTION_MAX)
                return refuse(l, "the section's name is longer than %d bytes", SECTION_MAX);
        end += 1 + strspn(end + 1, " \t\r");
        if (*end && *end != ';' && *end != '#')
                return refuse(l, "'%.64s' after the section's name", end);
        memcpy(name, line + 1, n);
        name[n] = '\0';
        return enter_section(l, name);
}

static int check_line(struct loader *l, char *line)
{
        const char *first = line + strspn(line, " \t\r\f\v");
        const char *original = l->rest; /* cleaning would change what is not UTF-8 or a control */
        size_t n = strlen(line);

        oneline(line);
        for (size_t i = 0; i < n; i++) {
                if (line[i] != original[i] && original[i] != '\t' && original[i] != '\r')
                        return refuse(l, "byte %zu of the line is a control character or not UTF-8",
                                      i + 1);
                line[i] = original[i];
        }
        l->indented = first > line;
        if (*first == '[' && !(l->indented && l->has_previous))
                return on_section_line(l, first);
        return 0;
}

/* For inih: the next line into @buf, NULL at the end. */
static char *next_line(char *buf, int n_buf, void *ctx)
{
        struct loader *l = ctx;
        size_t n = strcspn(l->rest, "\n");

        if (l->error || !*l->rest)
                return NULL;
        l->line++;
        if (n_buf < 1 || n > (size_t)n_buf - 1) {
                refuse(l,
                       "the line has %zu bytes, at most %d are read; a list may go on in an "
                       "indented line",
                       n, n_buf - 1);
                return NULL;
        }
        memcpy(buf, l->rest, n);
        buf[n] = '\0';
        if (check_line(l, buf) < 0)
                return NULL;
        l->rest += n + (l->rest[n] == '\n');
        return buf;
}

/* The text of the last of cfg->files. */
static int parse_text(struct loader *l, const char *data, size_t n)
{
        const char *nul = memchr(data, '\0', n);
        unsigned last = 0;
        int r;

        l->line = 0;
        l->realm = NULL;
        l->in_schedule = false;
        l->has_previous = false;
        if (nul) {
                for (const char *p = data; p < nul; p++)
                        last += *p == '\n';
                l->line = last + 1;
                return refuse(l, "a NUL byte: this is not a text file");
        }
        l->rest = strncmp(data, "\xef\xbb\xbf", 3) == 0 ? data + 3 : data; /* byte order mark */
        r = ini_parse_stream(next_line, l, on_setting, l);
        if (l->error)
                return l->error;
        if (r > 0) {
                l->line = (unsigned)r;
                return refuse(l, "neither 'name = value' nor '[section]'");
        }
        return r < 0 ? no_memory(l) : 0;
}

/* ---- files */

static int add_file(struct loader *l, const char *path)
{
        struct config *cfg = l->cfg;
        char **grown = reallocarray(cfg->files, cfg->n_files + 1, sizeof(*grown));
        char *copy = strdup(path);

        if (grown)
                cfg->files = grown;
        if (!grown || !copy) {
                free(copy);
                return no_memory(l);
        }
        oneline(copy);
        cfg->files[cfg->n_files++] = copy;
        return 0;
}

static int load_file(struct loader *l, const char *path)
{
        struct config_text text;
        int r = config_file_read(path, &text, l->err, sizeof(l->err));

        if (r == -ENOMEM)
                return no_memory(l);
        if (r < 0)
                return r;
        r = add_file(l, path);
        if (r == 0)
                r = parse_text(l, text.data, text.n);
        free(text.data);
        return r;
}

static int load_files(struct loader *l, const char *path, bool may_be_missing)
{
        char **drop_ins = NULL;
        size_t n = 0;
        int r;

        r = load_file(l, path);
        if (r < 0 && !(r == -ENOENT && may_be_missing))
                return r;
        r = config_file_drop_ins(path, &drop_ins, &n, l->err, sizeof(l->err));
        if (r == -ENOMEM)
                no_memory(l);
        for (size_t i = 0; i < n && r == 0; i++)
                r = load_file(l, drop_ins[i]);
        config_file_list_free(drop_ins, n);
        return r;
}

const char *config_system_path(void)
{
        return CONFIG_SYSCONFDIR "/cached/cached.conf";
}

int config_default_path(char *buf, size_t n_buf)
{
        const char *base = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
        const char *service = getenv("CONFIGURATION_DIRECTORY"); /* see systemd.exec(5) */
        int n;

        if (geteuid() == 0)
                n = snprintf(buf, n_buf, "%s", config_system_path());
        else if (service && service[0] == '/')
                n = snprintf(buf, n_buf, "%s/cached.conf", service);
        else if (base && base[0] == '/')
                n = snprintf(buf, n_buf, "%s/cached/cached.conf", base);
        else if (home && home[0] == '/')
                n = snprintf(buf, n_buf, "%s/.config/cached/cached.conf", home);
        else
                return -ENOENT;
        return n > 0 && (size_t)n < n_buf ? 0 : -ENOENT;
}

/* ---- the whole */

static struct config *config_new(void)
{
        struct config *cfg = calloc(1, sizeof(*cfg));
        char why[CONFIG_ERR_MAX / 2];

        if (!cfg)
                return NULL;
        cfg->origins = calloc(1, sizeof(*cfg->origins));
        if (!cfg->origins)
                return config_free(cfg);
        for (size_t i = 0; i < N_CONFIG_ROWS; i++) {
                const struct row *row = &config_rows[i];

                /* A default that does not parse is a mistake in a .def file; a test loads them. */
                if (row_set(cfg, row, row->default_text, why, sizeof(why)) < 0)
                        return config_free(cfg);
        }
        return cfg;
}

struct config *config_free(struct config *cfg)
{
        if (!cfg)
                return NULL;
        for (size_t i = 0; i < cfg->n_realms; i++) {
                who_done(&cfg->realms[i].readers);
                who_done(&cfg->realms[i].writers);
                who_done(&cfg->realms[i].admins);
                free(cfg->realms[i].name);
                for (size_t j = 0; j < N_REALM_FIELDS; j++)
                        free(cfg->origins->realms[i].text[j]);
        }
        schedules_free(cfg);
        free(cfg->realms);
        if (cfg->origins)
                free(cfg->origins->realms);
        free(cfg->origins);
        config_file_list_free(cfg->files, cfg->n_files);
        free(cfg->socket_group);
        free(cfg);
        return NULL;
}

uint64_t config_share_of(const struct config_share *share, uint64_t whole)
{
        if (share->percent)
                return whole / 100 * share->percent + whole % 100 * share->percent / 100;
        return share->bytes < whole ? share->bytes : whole;
}

static void resolve_share(struct config_share *share, uint64_t min_mib)
{
        uint64_t bytes;

        if (!share->percent)
                return;
        bytes = config_share_of(share, config_memory_bytes());
        share->bytes = bytes < min_mib << 20 ? min_mib << 20 : bytes;
}

/* What can only be known when all files are read. */
static int finish(struct loader *l)
{
        struct config *cfg = l->cfg;
        const struct config_origin *group = &cfg->origins->where[ROW_socket_group];
        char why[CONFIG_ERR_MAX / 2];
        int r;

        resolve_share(&cfg->realm_budget, REALM_SHARE_MIN_MIB);
        resolve_share(&cfg->global_budget, GLOBAL_SHARE_MIN_MIB);
        resolve_share(&cfg->session_budget, SESSION_SHARE_MIN_MIB);
        for (size_t i = 0; i < cfg->n_realms; i++) {
                if (cfg->realms[i].budget == 0)
                        cfg->realms[i].budget = cfg->realm_budget.bytes;
                if (cfg->origins->realms[i].where[REALM_MAPPED].file == 0)
                        cfg->realms[i].mapped_reads = cfg->mapped_reads;
        }
        if (cfg->n_realms > cfg->limits.realms) {
                snprintf(l->err, sizeof(l->err), "%s: %zu realms, but limits.realms is %" PRIu64,
                         cfg->files[0], cfg->n_realms, cfg->limits.realms);
                return -EINVAL;
        }
        r = schedules_check(cfg, l->err, sizeof(l->err));
        if (r < 0 || !*cfg->socket_group)
                return r;
        r = who_find_group(cfg->socket_group, &cfg->socket_gid, why, sizeof(why));
        cfg->has_socket_gid = r == 0;
        if (r == -EINVAL)
                snprintf(l->err, sizeof(l->err), "%s:%u: %s", cfg->files[group->file - 1],
                         group->line, why);
        return r == -ENOMEM ? no_memory(l) : r;
}

/* Ends a load: hands the configuration over, or frees it and hands over why. */
static int conclude(struct loader *l, int r, struct config **ret, char *err, size_t n_err)
{
        if (r == 0)
                r = finish(l);
        if (r == 0) {
                *ret = l->cfg;
                return 0;
        }
        config_free(l->cfg);
        oneline(l->err);
        snprintf(err, n_err, "%s", l->err);
        return r;
}

int config_load(const char *path, struct config **ret, char *err, size_t n_err)
{
        struct loader l = {.cfg = config_new()};
        char default_path[PATH_MAX];
        int r = 0;

        if (!l.cfg)
                return conclude(&l, no_memory(&l), ret, err, n_err);
        if (path)
                r = load_files(&l, path, false);
        else if (config_default_path(default_path, sizeof(default_path)) == 0)
                r = load_files(&l, default_path, true);
        return conclude(&l, r, ret, err, n_err);
}

int config_parse(const char *name, const char *data, size_t n, struct config **ret, char *err,
                 size_t n_err)
{
        struct loader l = {.cfg = config_new()};
        char *copy;
        int r;

        if (!l.cfg)
                return conclude(&l, no_memory(&l), ret, err, n_err);
        r = add_file(&l, name);
        copy = strndup(data, n);
        if (r == 0 && !copy)
                r = no_memory(&l);
        if (r == 0)
                r = memchr(data, '\0', n) ? parse_text(&l, data, n) : parse_text(&l, copy, n);
        free(copy);
        return conclude(&l, r, ret, err, n_err);
}

/* ---- showing it */

struct shower {
        const struct config *cfg;
        config_setting_cb cb;
        void *ctx;
};

static int show(const struct shower *s, const char *name, const char *value,
                const struct config_origin *where)
{
        char source[PATH_MAX + 32] = "";

        if (where->file)
                snprintf(source, sizeof(source), "%s:%u", s->cfg->files[where->file - 1],
                         where->line);
        return s->cb(s->ctx, name, value, where->file == 0, source);
}

static int show_realm(const struct shower *s, const struct config_realm *realm)
{
        const struct realm_origin *origin = origin_of(s->cfg, realm);
        char name[REALM_NAME_MAX + 32], budget[VALUE_TEXT_MAX];
        int r = 0;

        value_format_size(realm->budget, budget);
        for (size_t i = 0; i < N_REALM_FIELDS && r == 0; i++) {
                const char *text = origin->text[i];

                snprintf(name, sizeof(name), "realm.%s.%s", realm->name, realm_fields[i]);
                if (i == REALM_BUDGET)
                        text = budget;
                else if (i == REALM_MAPPED)
                        text = realm->mapped_reads ? "yes" : "no";
                r = show(s, name, text ? text : "", &origin->where[i]);
        }
        return r;
}

static int show_schedule(const struct shower *s, size_t i)
{
        const struct config_schedule *schedule = &s->cfg->schedules[i];
        char name[128], value[SCHEDULE_TEXT_MAX];
        int r = 0;

        for (unsigned field = 0; field < N_SCHEDULE_FIELDS && r == 0; field++) {
                snprintf(name, sizeof(name), "schedule.%s.%s", schedule->name,
                         schedule_fields[field]);
                schedule_format(schedule, (enum schedule_field)field, value);
                r = show(s, name, value, &s->cfg->schedule_origins[i].where[field]);
        }
        return r;
}

int config_for_each_setting(const struct config *cfg, config_setting_cb cb, void *ctx)
{
        const struct shower s = {.cfg = cfg, .cb = cb, .ctx = ctx};
        char name[128], value[128];
        int r = 0;

        for (size_t i = 0; i < N_CONFIG_ROWS && r == 0; i++) {
                snprintf(name, sizeof(name), "%s.%s", config_rows[i].section, config_rows[i].name);
                row_format(cfg, &config_rows[i], value, sizeof(value));
                r = show(&s, name, value, &cfg->origins->where[i]);
        }
        for (size_t i = 0; i < cfg->n_realms && r == 0; i++)
                r = show_realm(&s, &cfg->realms[i]);
        for (size_t i = 0; i < cfg->n_schedules && r == 0; i++)
                r = show_schedule(&s, i);
        return r;
}
