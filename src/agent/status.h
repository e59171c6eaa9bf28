/* <root>/run/maeslant/status.json: what the agent does, for `maeslant-agent status` and for
 * people's scripts. Rewritten at each change, not durable. Must never hold a secret: everybody may
 * read it. */
#pragma once

#include "agent/agent.h"

/* Thread-safe. */
void status_write(struct agent *agent);
/* Of an agent that ends in order. */
void status_remove(const struct agent *agent);

/* Adds a journal's members as status.json has them. */
void status_add_journal(json_t *object, const struct journal *journal);
