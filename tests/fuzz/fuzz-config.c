/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: the configuration's text
 *
 * Any bytes are either accepted, and then every value can be shown, or refused with one clean
 * sentence that begins with the file's name.
 */

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "config.h"
#include "fuzz.h"

static int check_setting(void *ctx, const char *name, const char *value, bool is_default,
                         const char *source)
{
        size_t *n = ctx;

        assert(*name && value && is_default == !*source);
        (*n)++;
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        struct config *cfg = NULL;
        char err[CONFIG_ERR_MAX] = "";
        size_t n_settings = 0;
        int r;

        r = config_parse("fuzz", n ? (const char *)data : "", n, &cfg, err, sizeof(err));
        if (r == 0) {
                config_for_each_setting(cfg, check_setting, &n_settings);
                assert(n_settings > 20 && !*err);
        } else {
                assert(r == -EINVAL && !cfg);
                assert(strncmp(err, "fuzz:", 5) == 0);
                for (const char *p = err; *p; p++)
                        assert((unsigned char)*p >= 0x20 && *p != 0x7f);
        }
        config_free(cfg);
        return 0;
}
