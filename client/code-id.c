/* SPDX-License-Identifier: MIT */
/*
 * What identifies the code of a function: the build-id of the object that holds it
 *
 * The linker writes it, as a digest of the object, and it is mapped with the rest. It is looked up
 * anew each time, since an address may be another object's after a dlclose(); that takes less than
 * a microsecond.
 *
 * _dl_find_object() takes no lock. dl_iterate_phdr(), where there is nothing else, does, and in
 * glibc a child that was forked while another thread held it would wait for ever.
 *
 * The object's own description of itself is not trusted further than its mapping reaches.
 */

#include "client/code-id.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#define NOTE_OWNER "GNU"

/* ---- notes */

static size_t round_up(size_t n, size_t align)
{
        return (n + align - 1) & ~(align - 1);
}

bool code_id_in_notes(const uint8_t *at, size_t n, size_t align, struct code_id *ret)
{
        align = align == 8 ? 8 : 4;
        while (n >= sizeof(ElfW(Nhdr))) {
                ElfW(Nhdr) h;
                size_t to_bytes, to_next;

                memcpy(&h, at, sizeof(h));
                if (h.n_namesz > n || h.n_descsz > n)
                        return false;
                to_bytes = round_up(sizeof(h) + h.n_namesz, align);
                to_next = round_up(to_bytes + h.n_descsz, align);
                if (to_bytes + h.n_descsz > n)
                        return false;
                if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == sizeof(NOTE_OWNER) &&
                    !memcmp(at + sizeof(h), NOTE_OWNER, sizeof(NOTE_OWNER)) && h.n_descsz > 0) {
                        ret->n = h.n_descsz < CODE_ID_MAX ? h.n_descsz : CODE_ID_MAX;
                        memcpy(ret->bytes, at + to_bytes, ret->n);
                        return true;
                }
                if (to_next >= n)
                        return false;
                at += to_next;
                n -= to_next;
        }
        return false;
}

/* ---- objects */

/* An object in memory, as its program headers have it. */
struct object {
        uintptr_t bias;
        const ElfW(Phdr) * headers;
        size_t n_headers;
};

static bool segment_holds(const struct object *o, const ElfW(Phdr) * segment, uintptr_t at,
                          size_t n)
{
        uintptr_t begin = o->bias + segment->p_vaddr;

        return at >= begin && n <= segment->p_filesz && at - begin <= segment->p_filesz - n;
}

static bool object_holds(const struct object *o, uintptr_t at, size_t n)
{
        for (size_t i = 0; i < o->n_headers; i++)
                if (o->headers[i].p_type == PT_LOAD && segment_holds(o, &o->headers[i], at, n))
                        return true;
        return false;
}

static bool object_id(const struct object *o, struct code_id *ret)
{
        for (size_t i = 0; i < o->n_headers; i++) {
                const ElfW(Phdr) *h = &o->headers[i];
                uintptr_t at = o->bias + h->p_vaddr;

                if (h->p_type == PT_NOTE && object_holds(o, at, h->p_filesz) &&
                    code_id_in_notes((const uint8_t *)at, h->p_filesz, h->p_align, ret))
                        return true;
        }
        return false;
}

struct walk {
        uintptr_t address;
        struct code_id *ret;
        bool found;
};

static int walk_one(struct dl_phdr_info *info, size_t size, void *data)
{
        struct object o = {info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum};
        struct walk *w = data;

        (void)size;
        if (!object_holds(&o, w->address, 1))
                return 0;
        w->found = object_id(&o, w->ret);
        return 1;
}

bool code_id_find_by_walk(const void *address, struct code_id *ret)
{
        struct walk w = {(uintptr_t)address, ret, false};

        (void)dl_iterate_phdr(walk_one, &w);
        return w.found;
}

#if HAVE_DL_FIND_OBJECT

/* The file's header, and behind it the program headers, are nearly always mapped at the start. */
static bool object_at(const struct dl_find_object *found, struct object *ret)
{
        const uint8_t *start = found->dlfo_map_start;
        size_t n = (size_t)((const uint8_t *)found->dlfo_map_end - start);
        ElfW(Ehdr) h;

        if (n < sizeof(h))
                return false;
        memcpy(&h, start, sizeof(h));
        if (memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_phentsize != sizeof(ElfW(Phdr)) ||
            h.e_phoff % _Alignof(ElfW(Phdr)) != 0 || h.e_phoff > n ||
            h.e_phnum > (n - h.e_phoff) / sizeof(ElfW(Phdr)))
                return false;
        *ret = (struct object){found->dlfo_link_map->l_addr, (const void *)(start + h.e_phoff),
                               h.e_phnum};
        /* And it is this object's header, and not something that looks like one. */
        return object_holds(ret, (uintptr_t)start, (size_t)h.e_phoff + sizeof(ElfW(Phdr)));
}

bool code_id_find(const void *address, struct code_id *ret)
{
        struct dl_find_object found;
        struct object o;

        if (_dl_find_object((void *)(uintptr_t)address, &found) != 0)
                return false;
        return object_at(&found, &o) ? object_id(&o, ret) : code_id_find_by_walk(address, ret);
}

#else

bool code_id_find(const void *address, struct code_id *ret)
{
        return code_id_find_by_walk(address, ret);
}

#endif
