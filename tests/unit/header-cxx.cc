// SPDX-License-Identifier: MIT
// The public headers are C++ too, whichever comes first, and their functions link with C names.
#include <cached-memoize.h>

#include <cached.h>

int main()
{
        cached_options *o = cached_options_new();
        const bool ok = o != nullptr && cached_options_set_timeout_ms(o, 1) == CACHED_OK &&
                        cached_reply_code(nullptr) == CACHED_ERR_NOMEM;

        cached_options_free(o);
        cached_result_free(nullptr);
        return ok ? 0 : 1;
}
