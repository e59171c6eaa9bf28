/* The gate before the fleet: the product's own validator and a load of the payload in the real
 * consumer, in a throw-away folder under limits of time, memory and output. Must never leave a
 * process or a file behind. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "release/manifest.h"

#include <stdbool.h>

struct lab_verdict {
    bool ran, passed;
    double seconds;
    char why[160]; /* "exit 0", "signal 11 (SIGSEGV)", "no answer within 5s", … */
    char *output;  /* what it printed, valid UTF-8, at most the manifest's limit */
};
struct lab_result {
    struct lab_verdict validate, load;
};

/* Runs what the manifest's `lab` names on the payload in `release_dir`. `lab_dir` is the working
 * folder of both commands. -ENOENT: the manifest names no load; -EBADMSG: the payload is not the
 * manifest's; -EPERM: a step refused (the result says why). */
int lab_run(const struct manifest *manifest, const char *release_dir, const char *lab_dir,
            struct lab_result *ret, struct error *error);
void lab_result_free(struct lab_result *result);
json_t *lab_result_json(const struct lab_result *result); /* for the record; owned by the caller */
