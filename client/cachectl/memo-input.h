/* SPDX-License-Identifier: MIT */
#ifndef MEMO_INPUT_H
#define MEMO_INPUT_H

/*
 * Standard input that is read to its end first, and given to the command afterwards
 */

/* A descriptor that stands at the beginning of all that @from had. Negative errno. */
int input_spool(int from);

/* A descriptor that is at its end at once. Negative errno. */
int input_empty(void);

#endif
