/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CODEC_H
#define CLIENT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cached.pb-c.h"

/* What codec_pack() may write at most. */
#define CODEC_PACK_MAX 1024

/* The request as protobuf-c would pack it; 0: not one of the few it knows, or too large. */
size_t codec_pack(const Cached__V1__Request *request, uint8_t out[CODEC_PACK_MAX]);

/*
 * False: not one of the few it knows, or not valid; then *ret_reply and *ret_entry are undefined.
 * ret_reply->entry is NULL or `ret_entry`; there is nothing to free.
 */
bool codec_unpack(const uint8_t *message, size_t n_message, Cached__V1__Reply *ret_reply,
                  Cached__V1__EntryInfo *ret_entry);

/* One item of a GetMany's reply, and what it points at. */
struct codec_item {
        Cached__V1__GetManyItem item;
        Cached__V1__EntryInfo entry;
};

/* Where the items lie in the message. */
struct codec_items {
        const uint8_t *at;
        size_t n_bytes, n;
};

/*
 * A GetMany's reply, in two steps, so that memory for the items can be had between them. False as
 * above. The first leaves ret_reply->get_many to the caller; the second fills in `n` items and the
 * pointers to them.
 */
bool codec_find_items(const uint8_t *message, size_t n_message, Cached__V1__Reply *ret_reply,
                      struct codec_items *ret);
bool codec_unpack_items(const struct codec_items *items, struct codec_item *ret,
                        Cached__V1__GetManyItem **ret_pointers);

#endif
