/* SPDX-License-Identifier: MIT */
#ifndef HELP_H
#define HELP_H

#include "args.h"
#include "verb.h"

void help_overview(const struct verb *const *verbs, const struct args_option *globals);
void help_verb(const struct verb *verb, const struct args_option *globals);

/* The same for programs: completions and the tests of the pages are made from it. @verbs ends with
 * NULL. Returns an exit status. */
int help_json(struct ctl *ctl, const struct verb *const *verbs, const struct args_option *globals);

#endif
