/* SPDX-License-Identifier: MIT */
/*
 * The public headers, each alone, are C99, and come twice without harm. Compiled with -std=c99 and
 * -pedantic; run, it links one function of each kind.
 */
#include <cached-key.h>

#include <cached.h>

int main(void)
{
        cached *c = NULL;
        cached_options *o = cached_options_new();
        cached_reply *r = NULL;
        int code = cached_new(o, &c);

        if (code == CACHED_OK)
                code = cached_get(c, NULL, "k", 1, &r) == CACHED_ERR_USAGE ? CACHED_OK : 1;
        if (cached_reply_code(r) != CACHED_ERR_USAGE)
                code = 1;
        cached_reply_free(r);
        if (cached_key_add_null(NULL) != CACHED_ERR_USAGE)
                code = 1;
        cached_pipeline_free(cached_pipeline_new(c));
        cached_free(c);
        cached_options_free(o);
        return code;
}
