/* SPDX-License-Identifier: MIT */
#ifndef LEASE_FLAGS_H
#define LEASE_FLAGS_H

/* What a parked Get asked for besides: lease_note.flags. */
enum {
        LEASE_NOTE_AS_FILE = 1,
        LEASE_NOTE_HAS_VERSION = 2,
        LEASE_NOTE_MESSAGES = 4,
};

#endif
