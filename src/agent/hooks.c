#include "agent/hooks.h"

#ifdef MAESLANT_TEST_HOOKS
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool named(const char *variable, const char *prefix, const char *point)
{
    const char *wanted = getenv(variable);
    size_t len = strlen(prefix);

    return wanted && strncmp(wanted, prefix, len) == 0 && strcmp(wanted + len, point) == 0;
}

void crash_point(const char *prefix, const char *point)
{
    if (named("MAESLANT_AGENT_CRASH_AT", prefix, point))
        (void)raise(SIGKILL);
    if (named("MAESLANT_AGENT_STOP_AT", prefix, point)) {
        (void)unsetenv("MAESLANT_AGENT_STOP_AT");
        (void)raise(SIGSTOP); /* to this thread: it goes no further */
    }
}
#else
/* ISO C wants a declaration in every file. */
typedef int hooks_are_off;
#endif
