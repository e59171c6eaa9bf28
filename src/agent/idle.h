/* Between trials: the plan, what it offers, halts of what runs, the watch. */
#pragma once

#include "agent/product.h"

/* The product's life, until a stop (or, with --once, until nothing is left to do). */
void idle_walk(struct product *product);
