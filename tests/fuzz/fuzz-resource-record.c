/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target: records of resources
 *
 * The first byte says how long the key is; then come the key and the record. One that is taken is
 * written as it was, and within the room for it.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "services/resource-record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
        if (n == 0)
                return 0;
        size_t n_key = data[0] < n - 1 ? data[0] : n - 1, n_bytes = n - 1 - n_key;
        uint8_t *key = malloc(n_key + 1), *bytes = malloc(n_bytes + 1);
        struct resource_kept k;
        assert(key && bytes);
        memcpy(key, data + 1, n_key);
        memcpy(bytes, data + 1 + n_key, n_bytes);
        if (resource_record_read(key, n_key, bytes, n_bytes, &k)) {
                uint8_t key_again[RESOURCE_KEPT_KEY], again[RESOURCE_KEPT_MAX];
                size_t n_again = resource_record_key(&k, key_again);
                assert(n_again == n_key && memcmp(key, key_again, n_key) == 0);
                n_again = resource_record_write(&k, again);
                assert(n_again == n_bytes && memcmp(bytes, again, n_bytes) == 0);
        }
        free(key);
        free(bytes);
        return 0;
}
