/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_CODEC_H
#define CLIENT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/cached.pb-c.h"

/* What codec_pack() may write at most. */
#define CODEC_PACK_MAX 512

/* The request as protobuf-c would pack it; 0: not one of the few it knows, or too large. */
size_t codec_pack(const Cached__V1__Request *request, uint8_t out[CODEC_PACK_MAX]);

/*
 * False: not one of the few it knows, or not valid; then *ret_reply and *ret_entry are undefined.
 * ret_reply->entry is NULL or `ret_entry`; there is nothing to free.
 */
bool codec_unpack(const uint8_t *message, size_t n_message, Cached__V1__Reply *ret_reply,
                  Cached__V1__EntryInfo *ret_entry);

#endif
