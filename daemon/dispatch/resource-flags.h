/* SPDX-License-Identifier: MIT */
#ifndef RESOURCE_FLAGS_H
#define RESOURCE_FLAGS_H

/* What is kept in the note of a request that waits for a resource. */

#define RESOURCE_NOTE_HAS 1u /* with have_instance */

#endif
