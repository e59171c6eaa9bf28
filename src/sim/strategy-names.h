/* The strategies that a scenario may compare with (docs/strategies.md). */
#pragma once

enum strategy {
    STRATEGY_MAESLANT,
    STRATEGY_ALL_AT_ONCE,
    STRATEGY_PERCENT_STAGES,   /* groups with success and error thresholds: hawkBit */
    STRATEGY_CANARY_THRESHOLD, /* fixed interval, failure limit: Flagger, Argo Rollouts */
    STRATEGY_RATE_ABORT,       /* rate with abort criteria: AWS IoT Jobs */
    STRATEGY_FIXED_TEST,       /* two samples, one look: Kayenta */
    STRATEGY_COUNT,
};
extern const char *const strategy_names[STRATEGY_COUNT];
