/* SPDX-License-Identifier: MIT */
/*
 * Given
 *
 * Descriptors come in from outside, from a service manager's store or from the daemon before us, in
 * any order, and each may be anything. What goes on from here is a memory file that is sealed
 * against shrinking (a mapping of it never meets SIGBUS by a truncation) and has the mode that ours
 * have. F_GET_SEALS is asked first: it never blocks, while other calls on a descriptor of a FUSE
 * file system could.
 *
 * The instance number is read off the first arena that has a header of ours: the number goes on
 * with the arenas, so that readers that have them mapped notice nothing. Arenas of another instance
 * are refused: they are older, and what was changed since is not in them.
 *
 * An arena or a table that comes twice is refused the second time: two realms in one file, or a
 * realm that is ended because its file is the odd one elsewhere, would be the end of both.
 *
 * Whether what lies in the files is whole is not asked here: store_adopt() does that. Those of
 * resources are no memory files in general, so nothing is asked of them: who knows what each has to
 * be takes them out, and closes them where that may hang.
 */
#include "realm/given.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proto/layout.h"

#define BASE        36u
#define DIGITS      (GIVEN_NAME_MAX - 1)
#define NUMBERS     (BASE * BASE * BASE * BASE)
#define GIVEN_FIRST 64u

static const char letters[N_GIVEN_KINDS] = {
        [GIVEN_ARENA] = 'a', [GIVEN_TABLE] = 't', [GIVEN_LARGE] = 'L', [GIVEN_RESOURCE] = 'R'};

static_assert(DIGITS == 4, "NUMBERS");

bool given_fits(uint32_t number)
{
        return number < NUMBERS;
}

static int digit_of(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        return c >= 'a' && c <= 'z' ? c - 'a' + 10 : -1;
}

enum given_kind given_parse(const char *name, uint32_t *ret_number)
{
        size_t n = strlen(name);
        enum given_kind kind = GIVEN_NONE;
        uint32_t number = 0;

        for (unsigned k = GIVEN_ARENA; k < N_GIVEN_KINDS; k++)
                if (name[0] == letters[k])
                        kind = (enum given_kind)k;
        if (kind == GIVEN_NONE || n < 2 || n > GIVEN_NAME_MAX || (n > 2 && name[1] == '0'))
                return GIVEN_NONE;
        for (size_t i = 1; i < n; i++) {
                int d = digit_of(name[i]);

                if (d < 0)
                        return GIVEN_NONE;
                number = number * BASE + (uint32_t)d;
        }
        *ret_number = number;
        return kind;
}

void given_name(char ret[GIVEN_NAME_MAX + 1], enum given_kind kind, uint32_t number)
{
        char digits[DIGITS];
        size_t n = 0, at = 0;

        do {
                uint32_t d = number % BASE;

                digits[n++] = (char)(d < 10 ? '0' + d : 'a' + (d - 10));
                number /= BASE;
        } while (number > 0 && n < DIGITS);
        ret[at++] = letters[kind];
        while (n > 0)
                ret[at++] = digits[--n];
        ret[at] = '\0';
}

bool given_is_memory(int fd)
{
        return fcntl(fd, F_GET_SEALS) >= 0;
}

static const char *check_file(enum given_kind kind, int fd, uint64_t *ret_ino)
{
        int seals = fcntl(fd, F_GET_SEALS);
        struct stat st;

        if (kind == GIVEN_RESOURCE)
                return fcntl(fd, F_GETFD) < 0 ? "it is not open" : NULL;
        if (seals < 0)
                return "it is not a memory file";
        if (!(seals & F_SEAL_SHRINK) || !(seals & F_SEAL_GROW))
                return "its size is not sealed";
        if (fstat(fd, &st) < 0)
                return "it cannot be looked at";
        *ret_ino = st.st_ino;
        if (seals & F_SEAL_WRITE) /* a value: nobody can write, whoever has made it */
                return NULL;
        if (st.st_uid != geteuid())
                return "it belongs to another user";
        if ((st.st_mode & 0777) != 0600)
                return "its mode is not 0600: others may have written into it";
        return NULL;
}

/* Large values are many, and which of two descriptors of one is taken makes no difference. */
static const char *check_new(const struct given *g, enum given_kind kind, uint64_t ino)
{
        if (kind == GIVEN_LARGE || kind == GIVEN_RESOURCE)
                return NULL;
        for (size_t i = 0; i < g->n; i++)
                if (g->files[i].kind < GIVEN_LARGE && g->files[i].ino == ino)
                        return "the same file came before under another name";
        return NULL;
}

/* Only files that say they are arenas of this layout have a word in it. */
static const char *check_instance(struct given *g, int fd)
{
        struct arena_header h;

        if (pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || h.magic != ARENA_MAGIC)
                return "it is not an arena";
        if (h.layout_version != ARENA_LAYOUT_VERSION)
                return "its layout has another version";
        if (h.instance == 0)
                return "it says no instance number";
        if (g->instance == 0)
                g->instance = h.instance;
        return h.instance == g->instance ? NULL : "it was left by another instance of the daemon";
}

static const char *reserve(struct given *g)
{
        size_t n = g->n_allocated ? 2 * g->n_allocated : GIVEN_FIRST;
        struct given_file *p;

        if (g->n < g->n_allocated)
                return NULL;
        p = reallocarray(g->files, n, sizeof(*p));
        if (!p)
                return "out of memory";
        g->files = p;
        g->n_allocated = n;
        return NULL;
}

/* Notes a name; false: it came before. A bit for each name there can be: descriptors are many. */
static bool note(struct given *g, enum given_kind kind, uint32_t number, const char **ret_fault)
{
        size_t bit = (size_t)(kind - 1) * NUMBERS + number;

        if (!g->names)
                g->names = calloc((N_GIVEN_KINDS - 1) * (size_t)NUMBERS / 8, 1);
        if (!g->names)
                *ret_fault = "out of memory";
        else if (g->names[bit / 8] >> (bit % 8) & 1)
                *ret_fault = "its name came before";
        else
                g->names[bit / 8] |= (uint8_t)(1u << (bit % 8));
        return *ret_fault == NULL;
}

const char *given_add(struct given *g, const char *name, int fd)
{
        uint32_t number = 0;
        uint64_t ino = 0;
        enum given_kind kind = given_parse(name, &number);
        const char *fault = NULL;

        if (kind == GIVEN_NONE)
                fault = "its name is unknown";
        else if (note(g, kind, number, &fault))
                fault = check_file(kind, fd, &ino);
        if (!fault)
                fault = check_new(g, kind, ino);
        if (!fault && kind == GIVEN_ARENA)
                fault = check_instance(g, fd);
        if (!fault)
                fault = reserve(g);
        if (fault) {
                close(fd);
                g->n_refused++;
                return fault;
        }
        g->files[g->n++] =
                (struct given_file){.kind = kind, .number = number, .fd = fd, .ino = ino};
        return NULL;
}

/* Without memory it is not noted, and stays where it is until the service ends. */
static void note_passed(struct given *g, const char *name, int fd, uint64_t ino)
{
        size_t n = g->n_passed_allocated ? 2 * g->n_passed_allocated : GIVEN_FIRST;

        if (g->n_passed == g->n_passed_allocated) {
                struct given_name *p = reallocarray(g->passed, n, sizeof(*p));

                if (!p)
                        return;
                g->passed = p;
                g->n_passed_allocated = n;
        }
        g->passed[g->n_passed] = (struct given_name){.name = strdup(name), .fd = fd, .ino = ino};
        g->n_passed += g->passed[g->n_passed].name != NULL;
}

const char *given_add_passed(struct given *g, const char *name, int fd)
{
        const char *fault = given_add(g, name, fd);

        if (fault)
                note_passed(g, name, -1, 0);
        else
                note_passed(g, name, fd, g->files[g->n - 1].ino);
        return fault;
}

void given_take_names(struct given *g, struct given_name **ret, size_t *ret_n)
{
        *ret = g->passed;
        *ret_n = g->n_passed;
        g->passed = NULL;
        g->n_passed = g->n_passed_allocated = 0;
}

int given_take(struct given *g, enum given_kind kind, uint32_t number)
{
        for (size_t i = 0; i < g->n; i++) {
                struct given_file *f = &g->files[i];

                if (f->kind == kind && f->number == number) {
                        int fd = f->fd;

                        f->fd = -1;
                        return fd;
                }
        }
        return -1;
}

int given_next(struct given *g, enum given_kind kind, size_t *at, uint32_t *ret_number)
{
        while (*at < g->n) {
                struct given_file *f = &g->files[(*at)++];

                if (f->kind == kind && f->fd >= 0) {
                        int fd = f->fd;

                        f->fd = -1;
                        *ret_number = f->number;
                        return fd;
                }
        }
        return -1;
}

void given_refuse(struct given *g)
{
        struct given_name *passed = NULL;
        size_t n = g->n + g->n_refused, n_passed = 0;

        given_take_names(g, &passed, &n_passed);
        for (size_t i = 0; i < n_passed; i++)
                passed[i].fd = -1;
        given_done(g);
        g->passed = passed;
        g->n_passed = g->n_passed_allocated = n_passed;
        g->n_refused = n;
}

void given_done(struct given *g)
{
        for (size_t i = 0; i < g->n; i++)
                if (g->files[i].fd >= 0)
                        close(g->files[i].fd);
        for (size_t i = 0; i < g->n_passed; i++)
                free(g->passed[i].name);
        free(g->passed);
        free(g->files);
        free(g->names);
        *g = (struct given){0};
}
