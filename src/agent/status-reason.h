/* Reason codes ("window", "busy", …) in plain English. Apart from status.h, since the rollout's
 * names and the journal's clash. */
#pragma once

/* The code itself when it is not known. */
const char *status_reason(const char *code);
