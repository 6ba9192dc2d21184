/* SPDX-License-Identifier: MIT */
/*
 * Memory files that the daemon sent; see view-file.h
 *
 * What comes is looked at before it is mapped: a file that could be cut short would be a SIGBUS in
 * whoever reads, one that could be written to no value. Both mappings are private ones: kernels up
 * to 6.6 map no sealed file shared, and what nobody writes is shared all the same.
 *
 * A child inherits mappings and descriptors. It gives up its copies as it likes; what the daemon
 * counts is the parent's.
 */

#include "client/view-file.h"

#include <cached.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/memfd.h"
#include "client/pool.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static int file_check(int fd, uint64_t n, struct stat *ret, struct failure *f)
{
        int seals = fcntl(fd, F_GET_SEALS);

        if (seals < 0 || (seals & SEALS) != SEALS)
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon sent a descriptor that is no sealed memory file");
        if (fstat(fd, ret) < 0 || ret->st_size < 0 || (uint64_t)ret->st_size != n)
                return failure_set(f, CACHED_ERR_BAD_REPLY,
                                   "the daemon sent a memory file of another size than it said");
        return CACHED_OK;
}

/* The file is checked. */
static int file_map(struct view_file *v, struct failure *f)
{
        void *data;

        /* Also a value of no bytes is somewhere. */
        if (v->n_file == 0) {
                v->data = (const uint8_t *)"";
                return CACHED_OK;
        }
        data = v->n_file > SIZE_MAX ? MAP_FAILED
                                    : memfd_map(v->fd, v->n_file, PROT_READ, MAP_PRIVATE);
        if (data == MAP_FAILED)
                return failure_set(f, CACHED_ERR_NOMEM, "the value cannot be mapped: %s",
                                   strerror(v->n_file > SIZE_MAX ? EOVERFLOW : errno));
        v->data = data;
        return CACHED_OK;
}

int view_file_open(int fd, uint64_t n, uint64_t n_behind, struct failure *f, struct view_file **ret)
{
        struct view_file *v = calloc(1, sizeof(*v));
        uint64_t n_file = n + n_behind;
        struct stat st = {0};
        int code = v ? file_check(fd, n_file < n ? UINT64_MAX : n_file, &st, f) : failure_nomem(f);

        if (v && code == CACHED_OK) {
                v->n_refs = 1;
                v->n = n;
                v->n_file = n_file;
                v->fd = fd;
                v->dev = st.st_dev;
                v->ino = st.st_ino;
                v->pid = getpid();
                code = file_map(v, f);
        }
        if (code != CACHED_OK) {
                (void)close(fd);
                free(v);
                return code;
        }
        *ret = v;
        return CACHED_OK;
}

struct view_file *view_file_copy(void *heap, uint64_t n)
{
        struct view_file *v = calloc(1, sizeof(*v));

        if (!v) {
                free(heap);
                return NULL;
        }
        v->n_refs = 1;
        v->fd = -1;
        v->data = heap;
        v->n = n;
        return v;
}

struct view_file *view_file_ref(struct view_file *v)
{
        atomic_fetch_add_explicit(&v->n_refs, 1, memory_order_relaxed);
        return v;
}

bool view_file_is_unused(const struct view_file *v)
{
        return atomic_load_explicit(&v->n_refs, memory_order_acquire) == 1;
}

static void file_close(const struct view_file *v)
{
        struct stat st;

        if (v->pid == getpid() ||
            (fstat(v->fd, &st) == 0 && st.st_dev == v->dev && st.st_ino == v->ino))
                (void)close(v->fd);
}

static void file_free(struct view_file *v)
{
        if (v->fd < 0) {
                free((void *)(uintptr_t)v->data);
        } else {
                if (v->n_file > 0)
                        (void)munmap((void *)(uintptr_t)v->data, (size_t)v->n_file);
                file_close(v);
        }
        free(v);
}

/* True: it was the last. */
static bool file_let_go(struct view_file *v)
{
        return atomic_fetch_sub_explicit(&v->n_refs, 1, memory_order_acq_rel) == 1;
}

void view_file_unref(struct view_file *v)
{
        struct pool *pool;
        uint64_t instance, id;
        unsigned generation;

        if (!v || !file_let_go(v))
                return;
        pool = v->pool;
        instance = v->instance;
        id = v->view_id;
        generation = v->generation;
        file_free(v);
        /* Told when the memory is gone. */
        if (pool)
                pool_view_gone(pool, generation, instance, id);
}

bool view_file_drop_inherited(struct view_file *v)
{
        bool has_pool = v->pool != NULL;

        if (!file_let_go(v))
                return false;
        file_free(v);
        return has_pool;
}

void *view_file_map_private(const struct view_file *v)
{
        void *data = memfd_map(v->fd, v->n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE);

        return data == MAP_FAILED ? NULL : data;
}
