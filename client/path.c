/* SPDX-License-Identifier: MIT */
/*
 * Fields of a reply by their path in proto/cached.proto
 *
 * A path is walked over protobuf-c's own descriptors, so that every field that the contract gets
 * later can be read without a new function. Grammar: NAME or NAME[INDEX], joined by dots, from the
 * message that the reply chose as its result. Whatever the string holds, the walk stays inside the
 * message: each step needs a field of the descriptor, an index below the count and a pointer that
 * is set.
 */

#include <cached.h>
#include <stdbool.h>
#include <string.h>

#include "client/reply.h"

/* A field, and where it lies. `at` points to one element; for a whole repeated field it is NULL. */
struct place {
        const ProtobufCFieldDescriptor *field;
        const uint8_t *at;
        size_t n; /* elements; 1 for a field that is not repeated */
};

struct step {
        const char *name;
        size_t n_name;
        bool indexed;
        size_t index;
};

static const ProtobufCFieldDescriptor *message_field(const ProtobufCMessageDescriptor *d,
                                                     const char *name, size_t n_name)
{
        for (unsigned i = 0; i < d->n_fields; i++)
                if (strlen(d->fields[i].name) == n_name && !memcmp(d->fields[i].name, name, n_name))
                        return &d->fields[i];
        return NULL;
}

static size_t element_size(const ProtobufCFieldDescriptor *field)
{
        switch (field->type) {
        case PROTOBUF_C_TYPE_UINT64:
                return sizeof(uint64_t);
        case PROTOBUF_C_TYPE_UINT32:
                return sizeof(uint32_t);
        case PROTOBUF_C_TYPE_ENUM:
                return sizeof(int);
        case PROTOBUF_C_TYPE_BOOL:
                return sizeof(protobuf_c_boolean);
        case PROTOBUF_C_TYPE_STRING:
                return sizeof(char *);
        case PROTOBUF_C_TYPE_BYTES:
                return sizeof(ProtobufCBinaryData);
        case PROTOBUF_C_TYPE_MESSAGE:
                return sizeof(ProtobufCMessage *);
        default:
                return 0; /* the contract has no other types */
        }
}

/* Moves *path behind the step and the dot that follows it. */
static int step_read(const char **path, struct step *ret)
{
        const char *p = *path;
        struct step s = {.name = p};

        s.n_name = strcspn(p, ".[");
        if (s.n_name == 0)
                return CACHED_ERR_USAGE;
        p += s.n_name;
        if (*p == '[') {
                s.indexed = true;
                if (*++p < '0' || *p > '9')
                        return CACHED_ERR_USAGE;
                for (; *p >= '0' && *p <= '9'; p++)
                        if (__builtin_mul_overflow(s.index, (size_t)10, &s.index) ||
                            __builtin_add_overflow(s.index, (size_t)(*p - '0'), &s.index))
                                return CACHED_NOT_FOUND;
                if (*p++ != ']')
                        return CACHED_ERR_USAGE;
        }
        if (*p == '.' && p[1] != '\0')
                p++;
        else if (*p != '\0')
                return CACHED_ERR_USAGE;
        *path = p;
        *ret = s;
        return CACHED_OK;
}

static int field_place(const ProtobufCMessage *m, const struct step *s, struct place *ret)
{
        const uint8_t *base = (const uint8_t *)m;
        struct place p = {.field = message_field(m->descriptor, s->name, s->n_name), .n = 1};

        if (!p.field || element_size(p.field) == 0)
                return CACHED_ERR_USAGE;
        p.at = base + p.field->offset;
        if (p.field->label == PROTOBUF_C_LABEL_REPEATED) {
                memcpy(&p.n, base + p.field->quantifier_offset, sizeof(p.n));
                if (!s->indexed) {
                        p.at = NULL;
                        *ret = p;
                        return CACHED_OK;
                }
                if (s->index >= p.n)
                        return CACHED_NOT_FOUND;
                memcpy(&p.at, base + p.field->offset, sizeof(p.at));
                p.at += s->index * element_size(p.field);
                p.n = 1;
        } else if (s->indexed) {
                return CACHED_ERR_USAGE;
        } else if (p.field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
                uint32_t chosen;

                memcpy(&chosen, base + p.field->quantifier_offset, sizeof(chosen));
                if (chosen != p.field->id)
                        return CACHED_NOT_FOUND;
        }
        *ret = p;
        return CACHED_OK;
}

static int place_message(const struct place *p, const ProtobufCMessage **ret)
{
        const ProtobufCMessage *m;

        if (p->field->type != PROTOBUF_C_TYPE_MESSAGE || !p->at)
                return CACHED_ERR_USAGE;
        memcpy(&m, p->at, sizeof(m));
        if (!m)
                return CACHED_NOT_FOUND;
        *ret = m;
        return CACHED_OK;
}

static const ProtobufCMessage *reply_root(const struct cached_reply *r)
{
        const Cached__V1__Reply *m = reply_message(r);

        /* The members of the union are pointers to messages, whichever is chosen. */
        if (!m || m->result_case == CACHED__V1__REPLY__RESULT__NOT_SET)
                return NULL;
        return (const ProtobufCMessage *)m->hello;
}

static int reply_place(const struct cached_reply *r, const char *path, struct place *ret)
{
        const ProtobufCMessage *m = reply_root(r);
        struct place p;
        struct step s;
        int code;

        if (!path)
                return CACHED_ERR_USAGE;
        if (!m)
                return CACHED_NOT_FOUND;
        for (;;) {
                code = step_read(&path, &s);
                if (code != CACHED_OK)
                        return code;
                code = field_place(m, &s, &p);
                if (code != CACHED_OK)
                        return code;
                if (*path == '\0')
                        break;
                code = place_message(&p, &m);
                if (code != CACHED_OK)
                        return code;
        }
        *ret = p;
        return CACHED_OK;
}

int cached_reply_u64(const cached_reply *r, const char *path, uint64_t *ret)
{
        struct place p;
        protobuf_c_boolean b;
        uint32_t u32;
        int code = ret ? reply_place(r, path, &p) : CACHED_ERR_USAGE;

        if (code != CACHED_OK)
                return code;
        if (!p.at)
                return CACHED_ERR_USAGE;
        switch (p.field->type) {
        case PROTOBUF_C_TYPE_UINT64:
                memcpy(ret, p.at, sizeof(*ret));
                return CACHED_OK;
        case PROTOBUF_C_TYPE_UINT32:
        case PROTOBUF_C_TYPE_ENUM:
                memcpy(&u32, p.at, sizeof(u32));
                *ret = u32;
                return CACHED_OK;
        case PROTOBUF_C_TYPE_BOOL:
                memcpy(&b, p.at, sizeof(b));
                *ret = b != 0;
                return CACHED_OK;
        default:
                return CACHED_ERR_USAGE;
        }
}

static int enum_name(const ProtobufCEnumDescriptor *d, int value, const char **ret)
{
        const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(d, value);

        if (!v)
                return CACHED_NOT_FOUND;
        *ret = v->name;
        return CACHED_OK;
}

int cached_reply_text(const cached_reply *r, const char *path, const char **ret)
{
        struct place p;
        const char *text;
        int value, code = ret ? reply_place(r, path, &p) : CACHED_ERR_USAGE;

        if (code != CACHED_OK)
                return code;
        if (!p.at)
                return CACHED_ERR_USAGE;
        switch (p.field->type) {
        case PROTOBUF_C_TYPE_STRING:
                memcpy(&text, p.at, sizeof(text));
                *ret = text ? text : "";
                return CACHED_OK;
        case PROTOBUF_C_TYPE_ENUM:
                memcpy(&value, p.at, sizeof(value));
                return enum_name(p.field->descriptor, value, ret);
        default:
                return CACHED_ERR_USAGE;
        }
}

int cached_reply_bytes(const cached_reply *r, const char *path, const void **ret, size_t *ret_size)
{
        struct place p;
        ProtobufCBinaryData bytes;
        int code = ret && ret_size ? reply_place(r, path, &p) : CACHED_ERR_USAGE;

        if (code != CACHED_OK)
                return code;
        if (!p.at || p.field->type != PROTOBUF_C_TYPE_BYTES)
                return CACHED_ERR_USAGE;
        memcpy(&bytes, p.at, sizeof(bytes));
        *ret = bytes.data ? bytes.data : (const void *)"";
        *ret_size = bytes.data ? bytes.len : 0;
        return CACHED_OK;
}

size_t cached_reply_count(const cached_reply *r, const char *path)
{
        struct place p;
        const ProtobufCMessage *m;

        if (reply_place(r, path, &p) != CACHED_OK)
                return 0;
        if (p.at && p.field->type == PROTOBUF_C_TYPE_MESSAGE)
                return place_message(&p, &m) == CACHED_OK ? 1 : 0;
        return p.n;
}
