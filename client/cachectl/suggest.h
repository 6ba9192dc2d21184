/* SPDX-License-Identifier: MIT */
#ifndef SUGGEST_H
#define SUGGEST_H

/* How many letters have to be inserted, removed, exchanged or swapped with their neighbour to turn
 * @a into @b. Words of more than SUGGEST_MAX letters are as far apart as can be. Pure. */
#define SUGGEST_MAX 31
unsigned suggest_distance(const char *a, const char *b);

#endif
