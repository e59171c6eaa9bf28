/* Named points behind every durable step, where a test may cut the power. Only a build with
 * MAESLANT_TEST_HOOKS has them; in the product they are nothing at all. */
#pragma once

#ifdef MAESLANT_TEST_HOOKS
/* Kills the process with SIGKILL when $MAESLANT_AGENT_CRASH_AT is `point`, or stops it with SIGSTOP
 * when $MAESLANT_AGENT_STOP_AT is. */
void crash_point(const char *prefix, const char *point);
#else
static inline void crash_point(const char *prefix, const char *point)
{
    (void)prefix;
    (void)point;
}
#endif
