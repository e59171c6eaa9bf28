/* The day after (rule 6): slow probes on a confirmed release; a failure is reported as regressed.
 */
#pragma once

#include "agent/product.h"

/* Looks at the watch and starts or ends it. Not called during a trial. */
void watch_walk(struct product *product);
void watch_end(struct product *product);
