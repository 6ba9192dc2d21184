/* SPDX-License-Identifier: MIT */
#ifndef PAGING_H
#define PAGING_H

/*
 * Paging: how far a listing has come
 */

#include "ctl.h"

struct paging {
        uint64_t cursor;   /* what to ask for next */
        uint64_t asked_ns; /* when it was asked for */
        uint64_t spent_ns; /* waiting for pages, all together */
        bool done;
};

/* Before each page is asked for. */
void paging_ask(struct paging *p);

/* After a page came that says @next. EXIT_DONE: `done` tells whether it was the last; else what is
 * wrong was reported. */
int paging_answer(struct ctl *ctl, struct paging *p, uint64_t next);

#endif
