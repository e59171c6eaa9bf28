/* The plan of a product and channel (docs/protocol.md), as the device reads it. */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

struct plan_release {
    char release[65], version[129], rollout[129], salt[129], payload_sha256[65];
    char *signature;
    uint64_t sequence, payload_size;
    bool offered; /* not halted: `admit` says who may ask, also while paused and when done */
    double admit, share;
    double prestage; /* seconds */
};
struct plan {
    int64_t halts;
    struct plan_release *releases; /* newest first */
    size_t count;
};

int plan_read(const json_t *value, const char *product, const char *channel, struct plan **ret,
              struct error *error);
void plan_free(struct plan *plan);
/* hash(device, release, salt) in [0, 1). */
double plan_place(const char *device, const char *release, const char *salt);
