/* SPDX-License-Identifier: MIT */
/* Sessions: finding one. */
#include "services/session.h"

#include <string.h>

#include "realm/realm.h"

enum status session_find(const struct caller *who, const uint8_t *token, size_t n_token,
                         struct session_ref *ret, struct verdict *v)
{
        struct realm *hidden = who->realm->sessions;
        struct store_entry e;

        (void)v;
        if (n_token != SESSION_KEY_SIZE || !hidden ||
            store_get(hidden->store, session_caches_home(hidden), token, n_token, who->now_ms, true,
                      &e) != 0)
                return STATUS_NOT_FOUND;
        ret->realm = hidden;
        memcpy(ret->key, token, n_token);
        return STATUS_OK;
}
