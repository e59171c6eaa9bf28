/* Anytime-valid confidence bounds of a failure rate: the Jeffreys-mixture martingale inverted at
 * ln(1/alpha) (design/gate.md, Bounds). Pure. Must never return a bound that is tighter than the
 * exact root (rounding goes outwards by at most 1e-12 relative). */
#pragma once

#include <stdint.h>

/* Upper and lower bound after n settled exposures of which k failed; U = 1 and L = 0 with n = 0. */
double bound_upper(uint64_t n, uint64_t k, double alpha);
double bound_lower(uint64_t n, uint64_t k, double alpha);
