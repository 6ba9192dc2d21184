/* SPDX-License-Identifier: MIT */
/*
 * Backoff
 *
 * The pause doubles with each failure in a row. A success gives the key a value with another
 * version, so nothing has to be told of it. What failed last is remembered in a table of fixed
 * size, each value in one place: one that is pushed out by another begins with the first pause
 * again.
 */
#include "services/backoff.h"

static uint64_t mix(uint64_t x)
{
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
        return x ^ x >> 31;
}

uint64_t backoff_next(struct backoff *b, uint64_t space, uint64_t version)
{
        uint64_t what = mix(mix(space + 1) + version);
        unsigned i = (unsigned)(what % BACKOFF_SLOTS);
        uint64_t ms = BACKOFF_FIRST_MS;
        if (what == 0)
                what = 1;
        if (b->slots[i].what == what)
                ms = b->slots[i].ms < BACKOFF_MAX_MS / 2 ? 2 * b->slots[i].ms : BACKOFF_MAX_MS;
        b->slots[i].what = what;
        b->slots[i].ms = ms;
        return ms;
}
