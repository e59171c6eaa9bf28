/* What the rollout subcommands share. */
#pragma once

#include "cli/cli.h"

/* The view of one rollout; the caller's. */
int rollout_get(struct control *control, const char *name, json_t **ret, struct error *error);
/* The view as lines for a terminal. */
void rollout_render(const json_t *view, struct buf *ret);
