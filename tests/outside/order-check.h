/* SPDX-License-Identifier: MIT */
#ifndef ORDER_CHECK_H
#define ORDER_CHECK_H

/*
 * Is there one order of the operations in which each makes sense?
 *
 * A history is what several processes did to a few keys: each operation with the interval in which
 * it must have happened, and what it was answered. It is linearizable if each operation can be
 * given an instant within its interval so that, one after the other, every answer is right.
 */

#include <stdbool.h>
#include <stdint.h>

#define ORDER_OPS_MAX  64u
#define ORDER_KEYS_MAX 4u
#define ORDER_NOTHING  0u /* no value: the key is not there */
#define ORDER_LATER    UINT64_MAX

enum order_kind {
        ORDER_SET,    /* the key has `value` from then on */
        ORDER_READ,   /* the key had `value`, or ORDER_NOTHING */
        ORDER_DELETE, /* the key was there, and is not from then on */
        ORDER_ABSENT, /* a delete that was told that the key is not there */
        ORDER_CLEAR,  /* the key is not there from then on, whatever was before */
        ORDER_LOSS,   /* the same for all keys in one instant: a daemon that begins anew */
};

struct order_op {
        uint64_t invoked, returned; /* the same clock for all; ORDER_LATER: it may still happen */
        uint32_t value;             /* values of sets are unique in a history */
        uint8_t kind, key;
        bool maybe;  /* it happened within the interval, or never: nobody knows */
        uint8_t who; /* for people */
};

enum order_verdict {
        ORDER_FINE,
        ORDER_WRONG,
        ORDER_UNDECIDED, /* too many orders to be tried */
};

/* @n: at most ORDER_OPS_MAX, each key below ORDER_KEYS_MAX. At the start no key is there. Memory
 * that is not to be had: undecided. */
enum order_verdict order_check(const struct order_op *ops, unsigned n);

#endif
