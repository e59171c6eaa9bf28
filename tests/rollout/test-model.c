/* Thousands of rollouts under random events, watched by a model that knows no heap, no window and
 * no counters: after every event it recounts everything from what was permitted and reported. */
#include "rig.h"
#include "world.h"

#include "gate/bound.h"
#include "gate/evidence.h"

#include <stdlib.h>
#include <string.h>

#define DEVICES 48
#define STRATA 3
#define ROLLOUTS 3000
#define EVENTS 160

struct trial {
    uint32_t device;
    unsigned stratum;
    uint64_t pair; /* 0: outside */
    enum rollout_arm arm;
    char outcome; /* 'o' open */
};

struct model {
    struct trial trials[EVENTS];
    size_t count;
    unsigned stratum[DEVICES];
    int group[DEVICES]; /* -1: none */
    double budget;
    bool halted;
    uint64_t k_release, k_placebo; /* frozen at the halt */
};

static struct trial *open_trial(struct model *model, uint32_t device)
{
    for (size_t i = 0; i < model->count; i++)
        if (model->trials[i].device == device && model->trials[i].outcome == 'o')
            return &model->trials[i];
    return NULL;
}

static const struct trial *partner_of(const struct model *model, const struct trial *trial)
{
    for (size_t i = 0; trial->pair > 0 && i < model->count; i++)
        if (model->trials[i].pair == trial->pair && &model->trials[i] != trial)
            return &model->trials[i];
    return NULL;
}

static bool failed(const struct trial *trial)
{
    return trial->outcome == 'f';
}

/* The pair's toss is over: a failure, or nobody in flight. */
static bool over(const struct model *model, const struct trial *trial)
{
    const struct trial *partner = partner_of(model, trial);
    return failed(trial) || (partner && failed(partner)) || trial->pair == 0 ||
           (trial->outcome != 'o' && (!partner || partner->outcome != 'o'));
}

/* Release rooms in a stratum: those in flight outside pairs, and one an open pair. */
static double rooms(const struct model *model, unsigned stratum)
{
    double sum = 0;
    for (size_t i = 0; i < model->count; i++) {
        const struct trial *trial = &model->trials[i], *partner = partner_of(model, trial);
        if (trial->stratum != stratum)
            continue;
        if (trial->pair == 0)
            sum += trial->arm == ARM_RELEASE && trial->outcome == 'o';
        else if ((!partner || partner > trial) &&
                 (trial->outcome == 'o' || (partner && partner->outcome == 'o')))
            sum++;
    }
    return sum;
}

static double cost(const struct model *model, unsigned stratum)
{
    uint64_t n[2] = {0, 0}, k[2] = {0, 0};
    for (size_t i = 0; i < model->count; i++) {
        const struct trial *trial = &model->trials[i];
        if (trial->stratum != stratum || trial->outcome == 'o' || trial->outcome == 'd' ||
            !over(model, trial))
            continue;
        n[trial->arm]++;
        k[trial->arm] += failed(trial);
    }
    if (n[ARM_RELEASE] == 0)
        return 1;
    return fmax(bound_upper(n[ARM_RELEASE], k[ARM_RELEASE], 0.01) -
                    bound_lower(n[ARM_PLACEBO], k[ARM_PLACEBO], 0.01),
                1e-6);
}

static double used(const struct model *model)
{
    double sum = 0;
    for (unsigned stratum = 0; stratum < STRATA; stratum++)
        sum += rooms(model, stratum) * cost(model, stratum);
    return sum;
}

static void settle(struct model *model, uint32_t device, char outcome)
{
    struct trial *trial = open_trial(model, device);
    assert_non_null(trial);
    trial->outcome = outcome;
    if (model->halted || outcome != 'f')
        return;
    const struct trial *partner = partner_of(model, trial);
    if (trial->arm == ARM_PLACEBO)
        model->k_placebo++;
    else if (trial->pair > 0 && !(partner && failed(partner)))
        model->k_release++;
}

static void follow(struct model *model, const struct rollout_decision *decision)
{
    switch (decision->type) {
    case DECISION_PERMIT:
    case DECISION_PLACEBO: {
        struct trial trial = {.device = decision->device,
                              .stratum = model->stratum[decision->device],
                              .pair = decision->pair,
                              .arm = decision->arm,
                              .outcome = 'o'};
        assert_false(model->halted);
        assert_null(open_trial(model, decision->device));
        for (size_t i = 0; i < model->count; i++) {
            const struct trial *other = &model->trials[i];
            if (other->outcome == 'o')
                assert_true(model->group[other->device] < 0 ||
                            model->group[other->device] != model->group[decision->device]);
            if (other->device == decision->device && other->arm == ARM_RELEASE)
                assert_int_equal(other->outcome, 'd'); /* nobody gets the release twice */
            if (trial.pair > 0 && other->pair == trial.pair) {
                assert_true(other->arm != trial.arm && other->stratum == trial.stratum);
                assert_int_equal(other->outcome, 'o');
            }
        }
        assert_true(model->count < EVENTS);
        model->trials[model->count++] = trial;
        const struct trial *partner = partner_of(model, &model->trials[model->count - 1]);
        if (!partner && (trial.pair > 0 || trial.arm == ARM_RELEASE))
            assert_true(used(model) <= model->budget + 1e-6);
        break;
    }
    case DECISION_SILENT:
        settle(model, decision->device, 'f');
        break;
    case DECISION_HALT:
        assert_false(model->halted);
        model->halted = true;
        break;
    default:
        break;
    }
}

static void check(const struct model *model, const struct rig *rig)
{
    struct rollout_view view = rig_view(rig);
    uint64_t count[2] = {0, 0}, flight[2] = {0, 0}, settled[2] = {0, 0}, failures[2] = {0, 0};
    for (size_t i = 0; i < model->count; i++) {
        const struct trial *trial = &model->trials[i];
        count[trial->arm] += trial->outcome != 'd';
        flight[trial->arm] += trial->outcome == 'o';
        settled[trial->arm] += trial->outcome == 'h' || trial->outcome == 'f';
        failures[trial->arm] += trial->outcome == 'f';
    }
    assert_int_equal(view.permits, count[ARM_RELEASE]);
    assert_int_equal(view.placebos, count[ARM_PLACEBO]);
    assert_int_equal(view.in_flight, flight[ARM_RELEASE]);
    assert_int_equal(view.placebo_in_flight, flight[ARM_PLACEBO]);
    assert_int_equal(view.settled, settled[ARM_RELEASE]);
    assert_int_equal(view.failed, failures[ARM_RELEASE]);
    assert_int_equal(view.placebo_settled, settled[ARM_PLACEBO]);
    assert_int_equal(view.placebo_failed, failures[ARM_PLACEBO]);
    assert_int_equal(view.k_release, model->k_release);
    assert_int_equal(view.k_placebo, model->k_placebo);
    assert_true(fabs(view.window_used - used(model)) < 1e-6);
    assert_int_equal(view.state == ROLLOUT_HALTED, model->halted);
    assert_int_equal(view.proven_harm,
                     split_proven_harm(model->k_release, model->k_placebo, 1e-4, 0));
}

static void populate(struct rig *rig, struct model *model, uint64_t seed)
{
    static const char *const strata[STRATA] = {"os=a", "os=b", "os=c"};
    static const char *const groups[] = {"g0", "g1", "g2", "g3"};
    char text[65];
    uint64_t random = seed;
    world_seed_text(seed, text);
    *model = (struct model){.budget = 1 + (double)(seed % 9)};
    rig_start_seed(rig, model->budget,
                   "\"soak\":60,\"deadline\":100,\"interrupted_for\":200,\"stages\":["
                   "{\"name\":\"a\",\"min_settled\":4},{\"name\":\"b\"}]",
                   NULL, text);
    for (uint32_t i = 0; i < DEVICES; i++) {
        model->stratum[i] = (unsigned)(world_random(&random) % STRATA);
        model->group[i] = (int)(world_random(&random) % 6) - 2;
        if (model->group[i] < 0)
            model->group[i] = -1;
        rig_devices(rig, 1, "o", strata[model->stratum[i]],
                    model->group[i] < 0 ? NULL : groups[model->group[i]]);
    }
}

static void one_rollout(uint64_t seed, double harm, double noise)
{
    struct rig rig;
    struct model model;
    uint64_t random = seed * 77 + 1;
    populate(&rig, &model, seed);
    rig.t = 1;
    for (int i = 0; i < EVENTS; i++) {
        uint64_t kind = world_random(&random) % 100;
        struct rollout_event event = {
            .t = rig.t + 6 * world_unit(&random),
            .device = (uint32_t)(world_random(&random) % DEVICES),
            .by = "ann",
        };
        const struct trial *trial = NULL;
        if (kind < 50) {
            event.type = EVENT_BEGIN;
        } else if (kind < 92) {
            event.type = EVENT_OUTCOME;
            for (int tries = 0; tries < 20 && !trial; tries++) {
                event.device = (uint32_t)(world_random(&random) % DEVICES);
                trial = open_trial(&model, event.device);
            }
            double luck = world_unit(&random);
            double risk = noise + (trial && trial->arm == ARM_RELEASE ? harm : 0);
            event.outcome = luck < risk          ? OUTCOME_FAILED
                            : luck < risk + 0.05 ? OUTCOME_DECLINED
                            : luck < risk + 0.1  ? OUTCOME_INTERRUPTED
                                                 : OUTCOME_HEALTHY;
        } else {
            static const enum rollout_event_type types[] = {EVENT_TICK,  EVENT_TICK,   EVENT_TICK,
                                                            EVENT_PAUSE, EVENT_RESUME, EVENT_RESUME,
                                                            EVENT_OUTAGE};
            event.type = types[kind % 7];
            event.from = rig.t;
            event.to = event.t;
            if (seed % 50 == 0 && i == 100)
                event.type = EVENT_HALT;
        }
        if (event.type == EVENT_OUTCOME) { /* so that its own decisions can be told apart */
            rig_tick(&rig, event.t);
            for (size_t at = rig.mark; at < rig.count; at++)
                follow(&model, &rig.decisions[at]);
        }
        int r = rig_event(&rig, &event);
        if (r == 0 && event.type == EVENT_OUTCOME && open_trial(&model, event.device)) {
            if (event.outcome == OUTCOME_HEALTHY)
                settle(&model, event.device, 'h');
            else if (event.outcome == OUTCOME_FAILED)
                settle(&model, event.device, 'f');
            else if (event.outcome == OUTCOME_DECLINED)
                settle(&model, event.device, 'd');
        }
        for (size_t at = rig.mark; at < rig.count; at++)
            follow(&model, &rig.decisions[at]);
        check(&model, &rig);
    }
    uint8_t one[32], two[32];
    struct rig again;
    struct model fresh;
    populate(&again, &fresh, seed);
    for (size_t i = 0; i < rig.event_count; i++)
        (void)rig_event(&again, &rig.events[i]);
    rollout_fingerprint(rig.rollout, one);
    rollout_fingerprint(again.rollout, two);
    assert_memory_equal(one, two, 32);
    rig_end(&again);
    rig_end(&rig);
}

static void a_recount_from_scratch_agrees_after_every_event_of_thousands_of_rollouts(void **state)
{
    static const struct {
        double harm, noise;
    } worlds[] = {{0, 0.002}, {0, 0.2}, {0.1, 0.01}, {0.5, 0.05}, {0.95, 0}};
    for (uint64_t seed = 0; seed < ROLLOUTS; seed++)
        one_rollout(seed, worlds[seed % 5].harm, worlds[seed % 5].noise);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_recount_from_scratch_agrees_after_every_event_of_thousands_of_rollouts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
