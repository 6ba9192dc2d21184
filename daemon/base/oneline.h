/* SPDX-License-Identifier: MIT */
#ifndef ONELINE_H
#define ONELINE_H

/* Makes one line of plain UTF-8 of @text: what is not becomes '?'. Messages and sources are shown
 * on terminals, and travel in protobuf strings and to the journal. */
void oneline(char *text);

#endif
