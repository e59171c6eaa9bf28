/* First use (rule 8): the installed content becomes the first slot and is soaked briefly, so that
 * there is a way back before anything new comes. */
#pragma once

#include "agent/product.h"

/* 0: there is nothing to adopt, or it is done. Otherwise no permit is asked for, and `ret_reason`
 * is the code of why. */
int adopt_content(struct product *product, const char **ret_reason, struct error *error);
/* After packages changed, and at the start: slots that an upgrade made its folders in are set
 * right; files that it added below `link` are told in the log. Does nothing without `link`. */
void adopt_look_after(struct product *product);
