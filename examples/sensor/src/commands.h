/* The sensor's commands. Each returns the exit status of the process, or a negative errno with
 * `error` filled. */
#pragma once

#include "base/error.h"
#include "options.h"

enum { EXIT_DETECTED = 3 /* of query scan */ };

int command_run(const struct options *options, struct error *error);
int command_activate(const struct options *options, struct error *error);
int command_stop(const struct options *options, struct error *error);
int command_query(const struct options *options, struct error *error);

int command_provides(const struct options *options, struct error *error);
int command_validate(const struct options *options, struct error *error);
int command_load(const struct options *options, struct error *error);
int command_make_table(const struct options *options, struct error *error);
