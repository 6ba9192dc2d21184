/* SPDX-License-Identifier: MIT */
/*
 * Ranges of names, keys and times
 *
 * Text is UTF-8 in its shortest form, without surrogates, up to U+10FFFF, and without control
 * characters (C0, DEL, C1): names end up on terminals and in logs. It is not normalised: two names
 * that look alike are two names.
 */
#include "proto/wire.h"

#include <stdbool.h>
#include <string.h>

enum text_fault { TEXT_OK, TEXT_NOT_UTF8, TEXT_CONTROL };

/* Reads one character; its length, or 0: not UTF-8. */
static size_t utf8_next(const uint8_t *s, size_t n, uint32_t *ret)
{
        if (s[0] < 0x80) {
                *ret = s[0];
                return 1;
        }
        size_t len;
        uint32_t c, least;
        if ((s[0] & 0xe0) == 0xc0) {
                len = 2, c = s[0] & 0x1f, least = 0x80;
        } else if ((s[0] & 0xf0) == 0xe0) {
                len = 3, c = s[0] & 0x0f, least = 0x800;
        } else if ((s[0] & 0xf8) == 0xf0) {
                len = 4, c = s[0] & 0x07, least = 0x10000;
        } else {
                return 0;
        }
        if (len > n)
                return 0;
        for (size_t i = 1; i < len; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3f);
        }
        if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret = c;
        return len;
}

static enum text_fault text_check(const char *text, size_t n)
{
        const uint8_t *s = (const uint8_t *)text;
        while (n > 0) {
                uint32_t c;
                size_t len = utf8_next(s, n, &c);
                if (len == 0)
                        return TEXT_NOT_UTF8;
                if (c < 0x20 || (c >= 0x7f && c < 0xa0))
                        return TEXT_CONTROL;
                s += len;
                n -= len;
        }
        return TEXT_OK;
}

size_t wire_utf8_prefix(const char *text, size_t n)
{
        const uint8_t *s = (const uint8_t *)text;
        size_t at = 0;

        while (at < n) {
                uint64_t word;
                uint32_t c;
                size_t len;

                /* Most text is mostly ASCII. */
                if (n - at >= sizeof(word)) {
                        memcpy(&word, s + at, sizeof(word));
                        if ((word & UINT64_C(0x8080808080808080)) == 0) {
                                at += sizeof(word);
                                continue;
                        }
                }
                len = utf8_next(s + at, n - at, &c);
                if (len == 0)
                        break;
                at += len;
        }
        return at;
}

const char *wire_cache_name_fault(const char *name, size_t n)
{
        if (n == 0)
                return "the request names no cache: set cache to a name of 1 to 128 bytes, or "
                       "cache_id to the id that OpenCache returned";
        if (n > WIRE_CACHE_NAME_MAX)
                return "the cache name is longer than 128 bytes: use a shorter name; what varies "
                       "belongs into the key";
        switch (text_check(name, n)) {
        case TEXT_NOT_UTF8:
                return "the cache name is not UTF-8: encode it as UTF-8";
        case TEXT_CONTROL:
                return "the cache name contains a control character: use printable characters only";
        case TEXT_OK:
                break;
        }
        return NULL;
}

const char *wire_client_name_fault(const char *name, size_t n)
{
        if (n > WIRE_CLIENT_MAX)
                return "the client name is longer than 64 bytes: use the program's name";
        switch (text_check(name, n)) {
        case TEXT_NOT_UTF8:
                return "the client name is not UTF-8: encode it as UTF-8";
        case TEXT_CONTROL:
                return "the client name contains a control character: use printable characters "
                       "only";
        case TEXT_OK:
                break;
        }
        return NULL;
}

const char *wire_realm_name_fault(const char *name, size_t n)
{
        if (n > WIRE_REALM_MAX)
                return "the realm name is longer than 128 bytes: name a realm of the configuration";
        if (text_check(name, n) != TEXT_OK)
                return "the realm name is not UTF-8 or contains a control character: name a realm "
                       "of the configuration";
        return NULL;
}

const char *wire_tag_fault(const char *tag, size_t n)
{
        if (n == 0)
                return "a tag is empty: a tag is 1 to 128 bytes of UTF-8";
        if (n > WIRE_TAG_MAX)
                return "a tag is longer than 128 bytes: use a shorter one, such as a hash of it";
        switch (text_check(tag, n)) {
        case TEXT_NOT_UTF8:
                return "a tag is not UTF-8: encode it as UTF-8";
        case TEXT_CONTROL:
                return "a tag contains a control character: use printable characters only";
        case TEXT_OK:
                break;
        }
        return NULL;
}

const char *wire_key_fault(size_t n)
{
        if (n == 0)
                return "the key is empty: a key is 1 to 64 bytes";
        if (n > WIRE_KEY_MAX)
                return "the key is longer than 64 bytes: a key is 1 to 64 bytes; hash longer ones";
        return NULL;
}

const char *wire_ttl_fault(uint64_t ttl_ms)
{
        if (ttl_ms == 0)
                return "ttl_ms is 0: a TTL is 1 ms to 10 years; \"never\" is a field of its own, "
                       "and Delete removes an entry at once";
        if (ttl_ms > INT64_MAX)
                return "ttl_ms is negative (or overflowed): a TTL is 1 ms to 10 years";
        if (ttl_ms > WIRE_TTL_MS_MAX)
                return "ttl_ms is longer than 10 years (315360000000 ms): a TTL is 1 ms to 10 "
                       "years; set never_expires, or leave the policy's ttl out, for no limit";
        return NULL;
}

const char *wire_session_key_fault(const char *key, size_t n)
{
        if (n == 0)
                return "a key of the session is empty: it is 1 to 128 bytes of UTF-8";
        if (n > WIRE_SESSION_KEY_MAX)
                return "a key of the session is longer than 128 bytes: use a shorter one";
        switch (text_check(key, n)) {
        case TEXT_NOT_UTF8:
                return "a key of the session is not UTF-8: encode it as UTF-8";
        case TEXT_CONTROL:
                return "a key of the session contains a control character: use printable "
                       "characters only";
        case TEXT_OK:
                break;
        }
        return NULL;
}

const char *wire_session_label_fault(const char *label, size_t n)
{
        if (n > WIRE_SESSION_LABEL_MAX)
                return "the label is longer than 64 bytes: use a shorter one";
        if (text_check(label, n) != TEXT_OK)
                return "the label is not UTF-8 or contains a control character: use printable "
                       "characters only";
        return NULL;
}

const char *wire_stale_for_fault(uint64_t ms)
{
        return ms > WIRE_TTL_MS_MAX ? "stale_for_ms is negative or longer than 10 years "
                                      "(315360000000 ms): it is 0 (off) to 10 years"
                                    : NULL;
}

const char *wire_stale_if_error_fault(uint64_t ms)
{
        return ms > WIRE_TTL_MS_MAX ? "stale_if_error_ms is negative or longer than 10 years "
                                      "(315360000000 ms): it is 0 (off) to 10 years"
                                    : NULL;
}

const char *wire_refresh_ahead_fault(uint64_t permille)
{
        return permille > 999 ? "refresh_ahead_permille is negative or more than 999: it is a part "
                                "of the TTL, 1 to 999 thousandths, or 0 (off)"
                              : NULL;
}

const char *wire_expire_jitter_fault(uint64_t permille)
{
        return permille > 1000 ? "expire_jitter_permille is negative or more than 1000: it is a "
                                 "part of the TTL, 1 to 1000 thousandths, or 0 (off)"
                               : NULL;
}

const char *wire_negative_fault(const char *text, size_t n)
{
        if (n > WIRE_NEGATIVE_MAX)
                return "a negative entry's value is the reason, up to 1024 bytes: shorten it";
        switch (text_check(text, n)) {
        case TEXT_NOT_UTF8:
                return "the reason of a negative entry is not UTF-8: encode it as UTF-8";
        case TEXT_CONTROL:
                return "the reason of a negative entry contains a control character: use printable "
                       "characters only";
        case TEXT_OK:
                break;
        }
        return NULL;
}

const char *wire_input_name_fault(const char *name, size_t n)
{
        if (n == 0 || n > WIRE_INPUT_NAME_MAX)
                return "with vary the value is the name of an input: 1 to 128 bytes";
        switch (text_check(name, n)) {
        case TEXT_NOT_UTF8:
                return "the name of the input is not UTF-8: encode it as UTF-8";
        case TEXT_CONTROL:
                return "the name of the input contains a control character: use printable "
                       "characters only";
        case TEXT_OK:
                break;
        }
        return NULL;
}

const char *wire_reason_fault(const char *text, size_t n)
{
        if (n > WIRE_REASON_MAX)
                return "the reason is longer than 1024 bytes: shorten it";
        if (memchr(text, '\0', n) || wire_utf8_prefix(text, n) < n)
                return "the reason is not UTF-8, or has a zero byte: encode it as UTF-8";
        return NULL;
}

const char *wire_progress_fault(const char *text, size_t n)
{
        if (n > WIRE_PROGRESS_MAX)
                return "the progress is longer than 256 bytes: shorten it";
        switch (text_check(text, n)) {
        case TEXT_NOT_UTF8:
                return "the progress is not UTF-8: encode it as UTF-8";
        case TEXT_CONTROL:
                return "the progress contains a control character: use printable characters only";
        case TEXT_OK:
                break;
        }
        return NULL;
}
