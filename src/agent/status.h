/* What the agent tells the person at the machine: <run>/status.json, replaced at every change and
 * read by `status`, `doctor` and `support-bundle`. Must never hold a secret: everybody may read it.
 */
#pragma once

#include "agent/agent.h"

/* Writes it from what the products show. Thread-safe; not fsynced, since it is worth nothing after
 * a reboot. */
int status_write(struct agent *agent, struct error *error);
/* Of an agent that ends in order: without it the last status would look like that of one that
 * crashed. */
void status_remove(const struct agent *agent);

/* A reason code ("window", "busy", …) as a sentence, or the code itself. */
const char *status_reason(const char *code);
