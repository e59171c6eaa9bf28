/* What the rollout subcommands share. */
#pragma once

#include "cli/cli.h"

/* The view of one rollout; the caller's. */
int rollout_get(struct control *control, const char *name, json_t **ret, struct error *error);
/* The view as lines for a terminal. */
void rollout_render(const json_t *view, struct buf *ret);
/* After a halt: makes `output`, the folder of a new release of the same payload (the halted one's
 * folder is `release`) that leaves out the devices of `exclude`, ATTRIBUTE=VALUE. The halt stays.
 * An exit code; closes `control`. */
int rollout_resume_excluding(struct control *control, const char *rollout, const char *exclude,
                             const char *release, const char *output);
