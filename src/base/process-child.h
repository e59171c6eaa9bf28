/* The half of process_run between fork and exec. Not for other folders. Must do nothing that is not
 * async-signal-safe: other threads of the parent may have held any lock. */
#pragma once

#include "base/process.h"

#include <sys/types.h>

struct child_setup {
    const char *path;
    char *const *argv;
    char *const *env;
    const char *cwd; /* NULL: the parent's */
    const struct process_limits *limits;
    int input, output, report;
    pid_t parent;
    char uid_map[32], gid_map[32]; /* keep our ids inside a user namespace */
};

enum child_step {
    CHILD_NETWORK,
    CHILD_FILES,
    CHILD_CWD,
    CHILD_LIMITS,
    CHILD_PRIVILEGES,
    CHILD_EXEC
};

/* What the child writes to `report`: nothing when all went well, and only for CHILD_NETWORK does it
 * go on. */
struct child_report {
    enum child_step step;
    int code; /* negative errno */
};

_Noreturn void process_child(const struct child_setup *setup);
