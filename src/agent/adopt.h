/* First use (rule 8): the installed content becomes the first slot and is soaked briefly, so that
 * there is a way back before anything new comes. */
#pragma once

#include "agent/product.h"

/* 0: there is nothing to adopt, or it is done. Otherwise no permit is asked for. */
int adopt_content(struct product *product, struct error *error);
