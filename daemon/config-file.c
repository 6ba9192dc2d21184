/* SPDX-License-Identifier: MIT */
/*
 * Configuration files as bytes: opened, checked, listed
 *
 * A daemon that runs as root decides here who reads whose data, so it takes no advice from a file
 * that another user could have written. Only plain files, so that a pipe cannot hang the start.
 * Does not look at the contents.
 */

#include "config-file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
        FILE_BYTES_MAX = 1 << 20, /* far above any real one; bounds what a mistaken path costs */
        DROP_INS_MAX = 1000,
};

static int check_owner(const char *path, const struct stat *st, char *err, size_t n_err)
{
        if (geteuid() != 0)
                return 0;
        if (st->st_uid != 0) {
                snprintf(err, n_err,
                         "%s: belongs to uid %u; run as root, cached reads only root's files", path,
                         (unsigned)st->st_uid);
                return -EINVAL;
        }
        if (st->st_mode & S_IWOTH) {
                snprintf(err, n_err,
                         "%s: everybody may write to it; run as root, cached refuses that", path);
                return -EINVAL;
        }
        return 0;
}

static int check_file(const char *path, int fd, size_t *ret_size, char *err, size_t n_err)
{
        struct stat st;

        if (fstat(fd, &st) < 0) {
                int r = -errno;

                snprintf(err, n_err, "%s: %s", path, strerror(-r));
                return r;
        }
        if (!S_ISREG(st.st_mode)) {
                snprintf(err, n_err, "%s: is %s, not a file", path,
                         S_ISDIR(st.st_mode) ? "a directory" : "something special");
                return -EINVAL;
        }
        if (st.st_size > FILE_BYTES_MAX) {
                snprintf(err, n_err, "%s: is larger than 1M", path);
                return -EINVAL;
        }
        *ret_size = (size_t)st.st_size;
        return check_owner(path, &st, err, n_err);
}

static int read_all(int fd, size_t size, struct config_text *ret)
{
        char *data = malloc(size + 1);
        size_t at = 0;

        if (!data)
                return -ENOMEM;
        while (at < size) {
                ssize_t n = read(fd, data + at, size - at);

                if (n == 0)
                        break; /* cut short meanwhile: what is there is what it says now */
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        int r = -errno;

                        free(data);
                        return r;
                }
                at += (size_t)n;
        }
        data[at] = '\0';
        *ret = (struct config_text){.data = data, .n = at};
        return 0;
}

int config_file_read(const char *path, struct config_text *ret, char *err, size_t n_err)
{
        int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        size_t size = 0;
        int r;

        if (fd < 0) {
                r = -errno;
                snprintf(err, n_err, "%s: cannot be opened: %s", path, strerror(-r));
                return r;
        }
        r = check_file(path, fd, &size, err, n_err);
        if (r == 0) {
                r = read_all(fd, size, ret);
                if (r < 0)
                        snprintf(err, n_err, "%s: cannot be read: %s", path, strerror(-r));
        }
        close(fd);
        return r;
}

char **config_file_list_free(char **list, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(list[i]);
        free(list);
        return NULL;
}

static bool is_drop_in(const char *name)
{
        size_t n = strlen(name);

        return name[0] != '.' && n > 5 && strcmp(name + n - 5, ".conf") == 0;
}

static int compare_strings(const void *a, const void *b)
{
        const char *const *x = a, *const *y = b;

        return strcmp(*x, *y);
}

static int list_directory(DIR *dir, const char *path, char ***ret, size_t *ret_n)
{
        char **list = NULL;
        size_t n = 0;
        struct dirent *entry;
        int r = 0;

        while ((errno = 0, entry = readdir(dir))) {
                char **grown;

                if (!is_drop_in(entry->d_name))
                        continue;
                if (n == DROP_INS_MAX) {
                        r = -E2BIG;
                        break;
                }
                grown = reallocarray(list, n + 1, sizeof(*list));
                if (grown)
                        list = grown;
                if (!grown || asprintf(&list[n], "%s/%s", path, entry->d_name) < 0) {
                        r = -ENOMEM;
                        break;
                }
                n++;
        }
        if (!entry && errno != 0)
                r = -errno;
        if (r < 0) {
                config_file_list_free(list, n);
                return r;
        }
        if (n > 0)
                qsort(list, n, sizeof(*list), compare_strings);
        *ret = list;
        *ret_n = n;
        return 0;
}

int config_file_drop_ins(const char *path, char ***ret, size_t *ret_n, char *err, size_t n_err)
{
        char *dir_path = NULL;
        struct stat st;
        DIR *dir;
        int r;

        if (asprintf(&dir_path, "%s.d", path) < 0)
                return -ENOMEM;
        dir = opendir(dir_path); /* close-on-exec, by POSIX */
        if (!dir) {
                r = -errno;
                if (r == -ENOENT) {
                        *ret = NULL;
                        *ret_n = 0;
                        r = 0;
                } else {
                        snprintf(err, n_err, "%s: cannot be opened: %s", dir_path, strerror(-r));
                }
                free(dir_path);
                return r;
        }
        r = fstat(dirfd(dir), &st) < 0 ? -errno : check_owner(dir_path, &st, err, n_err);
        if (r == 0) {
                r = list_directory(dir, dir_path, ret, ret_n);
                if (r < 0)
                        snprintf(err, n_err, "%s: cannot be read: %s", dir_path, strerror(-r));
        }
        closedir(dir);
        free(dir_path);
        return r;
}
