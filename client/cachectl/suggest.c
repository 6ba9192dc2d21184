/* SPDX-License-Identifier: MIT */

/*
 * How far one word is from another
 *
 * The optimal string alignment distance by dynamic programming over three rows; words are short.
 */

#include "suggest.h"

#include <limits.h>
#include <string.h>

static unsigned min2(unsigned a, unsigned b)
{
        return a < b ? a : b;
}

unsigned suggest_distance(const char *a, const char *b)
{
        unsigned rows[3][SUGGEST_MAX + 1];
        size_t n_a = strlen(a), n_b = strlen(b);

        if (n_a > SUGGEST_MAX || n_b > SUGGEST_MAX)
                return UINT_MAX;
        for (size_t j = 0; j <= n_b; j++)
                rows[0][j] = (unsigned)j;
        for (size_t i = 1; i <= n_a; i++) {
                unsigned *row = rows[i % 3], *above = rows[(i - 1) % 3],
                         *above2 = rows[(i + 1) % 3];

                row[0] = (unsigned)i;
                for (size_t j = 1; j <= n_b; j++) {
                        row[j] = min2(min2(above[j], row[j - 1]) + 1,
                                      above[j - 1] + (a[i - 1] != b[j - 1]));
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                row[j] = min2(row[j], above2[j - 2] + 1);
                }
        }
        return rows[n_a % 3][n_b];
}
