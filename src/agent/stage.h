/* Brings a release onto the device: signature first, then the manifest, then the payload. */
#pragma once

#include "agent/plan.h"
#include "agent/product.h"

/* On failure `ret_reason` is a code ("signature", "disk", "download", "payload", "manifest",
 * "agent-too-old", or what condition_fit says). 0 when the slot is there. */
int stage_release(struct product *product, const struct plan_release *offer,
                  const char **ret_reason, struct error *error);
