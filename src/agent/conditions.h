/* May a trial begin now (rules 7, 8, 9, 11, windows, snooze)? And does this device fit the release
 * at all (contract, permissions, exclusions)? Answers are reason codes; "" is yes. */
#pragma once

#include "agent/product.h"

/* What passes by itself: busy, window, snoozed, settling, package-transaction, reboot-pending. */
const char *condition_now(struct product *product, bool emergency);
/* What does not: contract, refused-permission, excluded, irreversible, … with a sentence. */
const char *condition_fit(struct product *product, const struct manifest *manifest,
                          struct error *error);
