/* A rollout's policy (DESIGN §5), parsed from JSON or YAML-turned-JSON and checked whole, so that
 * an impossible policy can't start. Must never hold a value that the engine has to doubt. */
#pragma once

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum policy_class { POLICY_ROUTINE, POLICY_URGENT, POLICY_EMERGENCY };

struct policy_stage {
    char *name;
    char **organisations; /* NULL-terminated; NULL: all */
    double share;         /* of the devices, by hash; 1 when absent */
    uint64_t devices;     /* at most so many release permits since the start, 0: no limit */
    uint64_t min_settled; /* settled release exposures that were granted in this stage; when
                             absent the cap `devices`, or 0; at run time never more than the stage
                             can reach */
    double min_time;      /* seconds since the stage opened */
    bool approval;        /* waits for a person's `approve` */
};

struct policy {
    enum policy_class class;
    double harm_budget;     /* H, ≥ 1 */
    double alpha;           /* (0, 0.5] */
    double confidence;      /* [0.5, 1) */
    double tolerance_ratio; /* ≥ 1 */
    double tolerance_floor; /* (0, cap] */
    double tolerance_cap;   /* [floor, 0.6) */
    bool placebo_pairs;
    double soak, deadline;  /* seconds; deadline > soak */
    double start_by;        /* seconds, 60 */
    double interrupted_for; /* seconds that an announced interruption may last, 24 h */
    unsigned interruptions; /* how many, 2 */
    bool on_halt_revert;
    struct policy_stage *stages;
    size_t stage_count; /* ≥ 1 */
    unsigned approvals_start, approvals_emergency;
    char **strata;   /* attributes that make a stratum; default os, kernel, arch, engine */
    uint64_t quorum; /* organisations that may be left out of the evidence for a halt, 0 */
    double
        organisation_share; /* 0.01: an organisation's own harm budget is max(1, share × devices) */
};

/* `value` may be NULL: then every default applies except class and harm_budget, which are needed.
 * Errors name the member ("policy.stages[1].share: …"). Free with policy_free. */
int policy_parse(const json_t *value, struct policy *ret, struct error *error);
void policy_free(struct policy *policy);
void policy_copy(const struct policy *policy, struct policy *ret); /* policy_free */
json_t *policy_json(const struct policy *policy); /* every key, owned by the caller */
