/* Listens for halts while a trial is on: a long poll of its own, or the halts' list at the pace
 * that the permit says. Must never stop listening because a server is away. */
#pragma once

#include "agent/agent.h"

struct leash;

struct leash *leash_start(struct agent *agent, const char *permit, bool poll, double every);
void leash_stop(struct leash *leash); /* NULL is nothing */
