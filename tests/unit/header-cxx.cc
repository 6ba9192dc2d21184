// SPDX-License-Identifier: MIT
// The public header is C++ too, and its functions link with C names.
#include <cached.h>

int main()
{
        cached_options *o = cached_options_new();
        const bool ok = o != nullptr && cached_options_set_timeout_ms(o, 1) == CACHED_OK &&
                        cached_reply_code(nullptr) == CACHED_ERR_NOMEM;

        cached_options_free(o);
        return ok ? 0 : 1;
}
