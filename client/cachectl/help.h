/* SPDX-License-Identifier: MIT */
#ifndef HELP_H
#define HELP_H

#include "args.h"
#include "verb.h"

void help_overview(const struct verb *const *verbs, const struct args_option *globals);
void help_verb(const struct verb *verb, const struct args_option *globals);

#endif
