/* One product on the device: its thread, its journal, what it shows. */
#pragma once

#include "agent/agent.h"
#include "agent/check.h"

/* Loads the journal and sets the folders right; recovers from whatever was cut short, before
 * anybody is contacted (the table in design/endpoint.md). */
int product_open(struct agent *agent, const struct config_product *config, struct product *ret,
                 struct error *error);
void product_recover(struct product *product);
int product_start(struct product *product, struct error *error);
void product_close(struct product *product);

/* Changes the state, durably, and shows it. */
int product_set(struct product *product, enum trial_state state, struct error *error);
/* Shows journal, links and `blocked` to the other threads, the status file and the server. */
void product_show(struct product *product);
void product_block(struct product *product, const char *reason); /* "" : not blocked */
/* Waits for something to look at, a stop or the time. */
void product_wait(struct product *product, double seconds);
/* Takes the answer to (permit, outcome), if it is here. */
bool product_answer(struct product *product, const char *permit, const char *outcome,
                    char ret[static 16]);
void product_vars(struct product *product, const char *release, struct check_vars *ret);
bool product_halted(struct product *product, const char *release, struct halt *ret);

/* The device's one trial (rule 9). `trial_take` is durable; -EBUSY when another product holds it.
 */
int trial_take(struct product *product, struct error *error);
void trial_drop(struct product *product);
