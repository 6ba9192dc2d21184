/* SPDX-License-Identifier: MIT */
/*
 * Descriptor
 *
 * The first question to a descriptor is for its seals: that one never blocks, whatever it is, and
 * only a memory file has any. What has the right ones may be looked at further, for nothing that is
 * asked of a memory file blocks. Everything else is closed elsewhere, unseen.
 */
#include "dispatch/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

static bool is_named(const Cached__V1__Request *m)
{
        switch (m->op_case) {
        case CACHED__V1__REQUEST__OP_SET:
                return m->set->source_case == CACHED__V1__SET__SOURCE_FILE_SIZE;
        case CACHED__V1__REQUEST__OP_OFFER_UPLOAD:
                return m->offer_upload->size > 0;
        case CACHED__V1__REQUEST__OP_PUBLISH_RESOURCE:
                return m->publish_resource->kind != CACHED__V1__RESOURCE_KIND__RESOURCE_LOCAL;
        case CACHED__V1__REQUEST__OP_RECLAIM_RESOURCE:
                return m->reclaim_resource->descriptor;
        default:
                return false;
        }
}

void descriptor_take(struct request *r)
{
        if (__builtin_expect(is_named(r->msg), 0))
                r->fd = conn_take_fd(r->client->conn);
}

void descriptor_drop(struct request *r)
{
        if (r->fd >= 0)
                conn_drop_fd(r->client->conn, r->fd);
        r->fd = -1;
}

static enum status invalid(struct request *r, const char *what)
{
        return verdict_set(&r->verdict, STATUS_INVALID, "%s", what);
}

enum status descriptor_there(struct request *r)
{
        if (r->fd == -EMFILE)
                return verdict_set(&r->verdict, STATUS_LIMIT,
                                   "the daemon had no room for the descriptor in its table "
                                   "(RLIMIT_NOFILE): try again later, or do without it");
        if (r->fd < 0)
                return invalid(r, "the request names a descriptor, but none came with its frame: "
                                  "send it (SCM_RIGHTS) with the frame's first byte");
        return STATUS_OK;
}

static const char *seals_fault(int has, int want)
{
        if (has < 0)
                return "the descriptor is no memory file: make one with memfd_create() and "
                       "MFD_ALLOW_SEALING";
        if ((has & want) == want)
                return NULL;
        return want & F_SEAL_WRITE
                       ? "the memory file is not sealed against shrinking, growing and writing: "
                         "add "
                         "F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE before sending it"
                       : "the memory file is not sealed against shrinking and growing: add "
                         "F_SEAL_SHRINK and F_SEAL_GROW before sending it";
}

enum status descriptor_check(struct request *r, int seals, uint64_t size)
{
        if (!(r->client->features & CACHED__V1__FEATURE__FEATURE_FILES))
                return invalid(r,
                               "the request names a descriptor, but FEATURE_FILES was not agreed "
                               "on in Hello: ask for it there, or send the bytes");
        return descriptor_check_file(r, seals, size);
}

enum status descriptor_check_file(struct request *r, int seals, uint64_t size)
{
        struct statfs fs;
        struct stat st;
        const char *fault;
        enum status status = descriptor_there(r);
        if (status != STATUS_OK)
                return status;
        fault = seals_fault(fcntl(r->fd, F_GET_SEALS), seals);
        if (fault)
                return invalid(r, fault);
        if (fstatfs(r->fd, &fs) < 0 || fs.f_type != TMPFS_MAGIC || fstat(r->fd, &st) < 0 ||
            !S_ISREG(st.st_mode))
                return invalid(r,
                               "the memory file is not on ordinary shared memory: make it without "
                               "MFD_HUGETLB");
        int flags = fcntl(r->fd, F_GETFL);
        if (flags < 0 || (flags & O_ACCMODE) == O_WRONLY)
                return invalid(r, "the descriptor is not open for reading: send the one that "
                                  "memfd_create() returned");
        if ((uint64_t)st.st_size != size)
                return verdict_set(&r->verdict, STATUS_INVALID,
                                   "the memory file has %" PRIu64
                                   " bytes, the request says %" PRIu64 ": send its exact size",
                                   (uint64_t)st.st_size, size);
        return STATUS_OK;
}
