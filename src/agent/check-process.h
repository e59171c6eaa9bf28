/* The `process` probe's look into /proc. For check.c. */
#pragma once

#include "agent/check.h"

/* `exit_file` may be NULL. Fills exit status, signal and `fatal` when the process is gone and its
 * supervisor wrote how. */
int check_process(const char *pid_file, const char *exit_file, struct check_memory *memory,
                  struct check_result *ret, struct error *error);
