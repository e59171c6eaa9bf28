#include "sim/others.h"

#include "base/buf.h"

#include <math.h>
#include <stdlib.h>

/* Where each of these comes from, and what was chosen where the original leaves a choice, is in
 * docs/strategies.md. */

#define MINUTE 60.0

static uint64_t share_of(const struct crowd *crowd, double share)
{
    uint64_t devices = crowd->fleet->scenario->devices;
    uint64_t count = (uint64_t)ceil(share * (double)devices);
    return count < 1 ? 1 : count > devices ? devices : count;
}

static double every_minute(const struct crowd *crowd)
{
    return MINUTE;
}

/* A check that looks at verdicts sees some only when a deadline has passed. */
static double every_deadline(const struct crowd *crowd)
{
    return fmax(MINUTE, crowd->policy->deadline);
}

/* all-at-once */

static void open_all(struct crowd *crowd, void *state)
{
    crowd_open(crowd, crowd_left(crowd), true);
}

const struct crowd_strategy strategy_at_once = {.begin = open_all};

/* percent-stages: hawkBit */

static const double group_ends[] = {0.01, 0.10, 0.50, 1};
#define GROUPS (sizeof group_ends / sizeof *group_ends)
#define GROUP_SUCCESS 0.5
#define GROUP_ERROR 0.5

struct groups {
    unsigned current;
    uint64_t size;
};

static void open_group(struct crowd *crowd, struct groups *groups)
{
    uint64_t end = share_of(crowd, group_ends[groups->current]);
    groups->size = end > crowd->opened ? end - crowd->opened : 0;
    if (groups->current + 1 == GROUPS)
        groups->size = crowd_left(crowd);
    crowd_open(crowd, groups->size, true);
}

static void begin_groups(struct crowd *crowd, void *state)
{
    open_group(crowd, state);
}

static void look_at_group(struct crowd *crowd, void *state)
{
    struct groups *groups = state;
    double size = (double)groups->size;
    if (size > 0 && (double)crowd->group.failed >= GROUP_ERROR * size) {
        crowd_halt(crowd,
                   "%llu of %llu devices of group %u reported an error, its threshold is "
                   "%.0f %%",
                   (unsigned long long)crowd->group.failed, (unsigned long long)groups->size,
                   groups->current + 1, 100 * GROUP_ERROR);
        return;
    }
    if (groups->current + 1 < GROUPS && (double)crowd->group.healthy >= GROUP_SUCCESS * size) {
        groups->current++;
        open_group(crowd, groups);
    }
}

const struct crowd_strategy strategy_groups = {
    .interval = every_minute,
    .begin = begin_groups,
    .look = look_at_group,
    .state_size = sizeof(struct groups),
};

/* canary-threshold: Flagger, Argo Rollouts */

#define STEP_WEIGHT 0.10
#define MAX_WEIGHT 0.50
#define MIN_SUCCESS 0.99
#define FAILED_CHECKS 5

struct canary {
    struct crowd_counts before;
    unsigned failed_checks, step;
    bool promoted;
};

static void begin_canary(struct crowd *crowd, void *state)
{
    struct canary *canary = state;
    canary->step = 1;
    crowd_open(crowd, share_of(crowd, STEP_WEIGHT), true);
}

static void check_canary(struct crowd *crowd, void *state)
{
    struct canary *canary = state;
    const struct crowd_counts *all = &crowd->all, *before = &canary->before;
    uint64_t healthy = all->healthy - before->healthy;
    uint64_t bad = all->failed - before->failed + all->silent - before->silent;
    uint64_t verdicts = healthy + bad;
    if (canary->promoted)
        return;
    canary->before = *all;
    if (verdicts == 0 || (double)healthy < MIN_SUCCESS * (double)verdicts) {
        if (++canary->failed_checks >= FAILED_CHECKS)
            crowd_halt(crowd,
                       "%u checks found less than %.0f %% success, the last one %llu of "
                       "%llu devices",
                       canary->failed_checks, 100 * MIN_SUCCESS, (unsigned long long)healthy,
                       (unsigned long long)verdicts);
        return;
    }
    canary->promoted = ++canary->step * STEP_WEIGHT > MAX_WEIGHT + 1e-9;
    uint64_t end = canary->promoted ? crowd->fleet->scenario->devices
                                    : share_of(crowd, canary->step * STEP_WEIGHT);
    if (end > crowd->opened)
        crowd_open(crowd, end - crowd->opened, false);
}

const struct crowd_strategy strategy_canary = {
    .interval = every_deadline,
    .begin = begin_canary,
    .look = check_canary,
    .state_size = sizeof(struct canary),
    .stops_pending = true,
};

/* rate-abort: AWS IoT Jobs */

#define RATE_BASE 50
#define RATE_FACTOR 2
#define RATE_MAX 1000
#define RATE_SUCCEEDED 1000 /* for each increase */
#define ABORT_FAILED 0.20
#define ABORT_FAILED_MIN 100
#define ABORT_SILENT 0.50
#define ABORT_SILENT_MIN 200

struct rate {
    uint64_t per_minute, increases;
};

static void begin_rate(struct crowd *crowd, void *state)
{
    struct rate *rate = state;
    rate->per_minute = RATE_BASE;
    crowd_open(crowd, rate->per_minute, true);
}

static void next_minute(struct crowd *crowd, void *state)
{
    struct rate *rate = state;
    const struct crowd_counts *all = &crowd->all;
    uint64_t executed = all->healthy + all->failed + all->silent;
    if (executed >= ABORT_FAILED_MIN && (double)all->failed >= ABORT_FAILED * (double)executed) {
        crowd_halt(crowd, "%llu of %llu executions FAILED", (unsigned long long)all->failed,
                   (unsigned long long)executed);
        return;
    }
    if (executed >= ABORT_SILENT_MIN && (double)all->silent >= ABORT_SILENT * (double)executed) {
        crowd_halt(crowd, "%llu of %llu executions TIMED_OUT", (unsigned long long)all->silent,
                   (unsigned long long)executed);
        return;
    }
    while (rate->per_minute < RATE_MAX && all->healthy >= (rate->increases + 1) * RATE_SUCCEEDED) {
        rate->increases++;
        rate->per_minute *= RATE_FACTOR;
        if (rate->per_minute > RATE_MAX)
            rate->per_minute = RATE_MAX;
    }
    if (crowd_left(crowd) > 0)
        crowd_open(crowd, rate->per_minute, false);
}

const struct crowd_strategy strategy_rate = {
    .interval = every_minute,
    .begin = begin_rate,
    .look = next_minute,
    .state_size = sizeof(struct rate),
    .stops_pending = true,
};

/* fixed-test: Kayenta */

#define TEST_SHARE 0.005
#define TEST_MINUTES 60
#define TEST_Z 2.3263478740408408 /* of a confidence of 98 %, two-sided */
#define TEST_TOLERANCE 0.25
#define MINUTES_MAX 4096

struct test {
    uint64_t per_minute;
    unsigned minute, points;
    bool decided;
    struct crowd_counts release_before, baseline_before;
    double release[MINUTES_MAX], baseline[MINUTES_MAX];
};

static void open_slice(struct crowd *crowd, struct test *test)
{
    crowd_open(crowd, test->per_minute, test->minute == 0);
    crowd_watch(crowd, test->per_minute);
}

static void begin_test(struct crowd *crowd, void *state)
{
    struct test *test = state;
    test->per_minute = share_of(crowd, TEST_SHARE / TEST_MINUTES);
    open_slice(crowd, test);
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The Mann-Whitney test's confidence interval of the shift between two samples of n points each:
 * order statistics of all differences, by the normal approximation. */
static bool is_high(const struct test *test, double *differences)
{
    unsigned n = test->points;
    size_t count = (size_t)n * n;
    double half = (double)count / 2;
    double spread = TEST_Z * sqrt((double)count * (2.0 * n + 1) / 12);
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < n; j++)
            differences[(size_t)i * n + j] = test->release[i] - test->baseline[j];
    qsort(differences, count, sizeof *differences, ascending);
    double median = (differences[(count - 1) / 2] + differences[count / 2]) / 2;
    double low = half - spread;
    double lower = differences[low > 0 ? (size_t)low : 0];
    return lower > TEST_TOLERANCE * fabs(median);
}

static uint64_t bad_of(const struct crowd_counts *counts)
{
    return counts->failed + counts->silent;
}

static void judge(struct crowd *crowd, struct test *test)
{
    _cleanup_free_ double *differences =
        xcalloc((size_t)test->points * test->points, sizeof *differences);
    test->decided = true;
    if (is_high(test, differences))
        crowd_halt(crowd, "the canary was judged worse than the baseline: %llu failures to %llu",
                   (unsigned long long)bad_of(&crowd->all),
                   (unsigned long long)bad_of(&crowd->baseline));
    else
        crowd_open(crowd, crowd_left(crowd), false);
}

static void test_minute(struct crowd *crowd, void *state)
{
    struct test *test = state;
    unsigned last = TEST_MINUTES +
                    (unsigned)((crowd->policy->deadline + crowd->fleet->scenario->poll) / MINUTE);
    if (test->decided)
        return;
    /* Before the first verdicts can be there, there is nothing to compare. */
    if (crowd->now > crowd->policy->soak && test->points < MINUTES_MAX) {
        test->release[test->points] = (double)(bad_of(&crowd->all) - bad_of(&test->release_before));
        test->baseline[test->points++] =
            (double)(bad_of(&crowd->baseline) - bad_of(&test->baseline_before));
    }
    test->release_before = crowd->all;
    test->baseline_before = crowd->baseline;
    if (++test->minute < TEST_MINUTES)
        open_slice(crowd, test);
    else if (test->minute >= last && test->points > 0)
        judge(crowd, test);
}

const struct crowd_strategy strategy_test = {
    .interval = every_minute,
    .begin = begin_test,
    .look = test_minute,
    .state_size = sizeof(struct test),
    .stops_pending = true,
};
