/* Delivers what waits in the outbox, oldest first, and the device's status; retried with jittered
 * exponential back-off up to 15 minutes. Must never drop a report without an answer. */
#pragma once

#include "agent/agent.h"

struct courier;

struct courier *courier_start(struct agent *agent);
/* A report was put, or the server is back: tries at once. */
void courier_wake(struct courier *courier);
void courier_status_changed(struct courier *courier);
/* Ends it; tries for at most `grace` seconds more to deliver what waits. */
void courier_stop(struct courier *courier, double grace);
