/* SPDX-License-Identifier: MIT */
#ifndef TORN_TAGS_H
#define TORN_TAGS_H

/* Changes of tags and variants, and what they need, for test-recover-torn.c. */

#include "store-world.h"

void torn_tag_many(struct world *w);
void torn_put_with_tags(struct world *w);
void torn_other_tags(struct world *w);
void torn_clear_tag_of_many(struct world *w);
void torn_clear_small_tag(struct world *w);
void torn_tag_and_clear(struct world *w);
void torn_delete_node(struct world *w);
void torn_another_node(struct world *w);

#endif
