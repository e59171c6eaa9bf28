/* Runs a release's probes side by side, each in a thread of its own, so that one that hangs holds
 * up nothing. Must never keep its owner waiting: stopping it returns at once and what still hangs
 * ends by itself. */
#pragma once

#include "agent/check.h"

#include <stdbool.h>

struct prober;

struct prober_view {
    bool failed;
    char probe[129];
    int exit_status, signal;
    char text[256];
    char tail[CHECK_TAIL + 1]; /* what the failed probe's command printed */
    unsigned runs;             /* of the probe that ran least */
    /* By the `process` probes, 0 when there is none: the largest memory and the time used since the
     * start. */
    struct check_usage usage;
    double seconds; /* since the start */
};

/* Takes manifest and vars over. Intervals are shortened by up to a tenth, by chance, so that a
 * fleet's probes do not fall into step. `pace`: an interval for all, 0: each its own. `longest`: no
 * interval is longer, 0: any. `wake_fd` (copied) is raised when the view changes to failed or
 * `enough` runs are there. `since_ms`: wall time of the activation. */
struct prober *prober_start(struct manifest *manifest, struct check_vars *vars, double pace,
                            double longest, unsigned enough, int64_t since_ms, int wake_fd);
void prober_look(struct prober *prober, struct prober_view *ret);
void prober_stop(struct prober *prober); /* NULL is nothing */

/* Every probe once, again up to its `failures` times until it passes (rule 7). 0, -ECANCELED, or
 * -EIO with the probe's name. */
int probes_pass(const struct manifest *manifest, const struct check_vars *vars, int cancel_fd,
                struct error *error);
