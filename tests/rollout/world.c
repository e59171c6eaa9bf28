#include "world.h"

#include "base/buf.h"
#include "base/json.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum fate { FATE_IDLE, FATE_HEALTHY, FATE_FAILED, FATE_DARK, FATE_DECLINED, FATE_INTERRUPTED };

struct subject {
    double at; /* of its report */
    enum fate fate;
    uint32_t slot; /* its place among those in flight */
};

struct world {
    const struct world_plan *plan;
    struct rollout *rollout;
    uint64_t random;
    double t, soak, deadline, dark_until;
    struct subject *subjects;
    uint32_t *flight, flight_count;
    uint32_t *waiting, waiting_count; /* devices that may still ask */
    bool looked, evidence;
    struct world_result *result;
};

uint64_t world_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

double world_unit(uint64_t *state)
{
    return (double)(world_random(state) >> 11) * 0x1p-53;
}

void world_seed_text(uint64_t seed, char ret[static 65])
{
    uint64_t state = seed ^ UINT64_C(0xc0ffee);
    for (int i = 0; i < 4; i++)
        (void)snprintf(ret + 16 * (size_t)i, 17, "%016" PRIx64, world_random(&state));
}

static bool chance(struct world *world, double probability)
{
    return world_unit(&world->random) < probability;
}

static void leave_flight(struct world *world, uint32_t device)
{
    struct subject *subject = &world->subjects[device];
    if (subject->fate == FATE_IDLE)
        return;
    uint32_t last = world->flight[--world->flight_count];
    world->flight[subject->slot] = last;
    world->subjects[last].slot = subject->slot;
    subject->fate = FATE_IDLE;
    enum rollout_device_state state = rollout_device_state(world->rollout, device);
    if (state == DEVICE_NEW || state == DEVICE_PLACEBO_DONE)
        world->waiting[world->waiting_count++] = device;
}

/* The noise of this moment: whatever can be seen may move it, but not the arm. */
static double noise(const struct world *world)
{
    const struct world_plan *plan = world->plan;
    double rate = plan->noise;
    if (plan->drift > 0 && fmod(world->t / world->soak, 8) < 4)
        rate *= plan->drift;
    rate *= 1 + plan->crowding * (double)world->flight_count / world->plan->devices;
    return fmin(rate, 0.9);
}

static void begin_trial(struct world *world, uint32_t device, enum rollout_arm arm)
{
    const struct world_plan *plan = world->plan;
    struct subject *subject = &world->subjects[device];
    subject->slot = world->flight_count;
    world->flight[world->flight_count++] = device;
    if (arm == ARM_RELEASE && !world->evidence)
        world->result->exposed_before_evidence++;

    bool harmed = arm == ARM_RELEASE && plan->harm > 0 && chance(world, plan->harm);
    bool fails = chance(world, noise(world));
    bool dark = world->t < world->dark_until && chance(world, plan->dark);
    if (arm == ARM_PLACEBO && plan->kind > 0 && chance(world, plan->kind))
        fails = dark = false;
    subject->at = world->t + world->soak * (1 + 0.1 * world_unit(&world->random));
    subject->fate = FATE_HEALTHY;
    if (plan->decline > 0 && chance(world, plan->decline)) {
        subject->fate = FATE_DECLINED;
        subject->at = world->t;
    } else if (harmed || fails) {
        world->result->harmed += harmed;
        subject->fate = chance(world, 0.5) ? FATE_DARK : FATE_FAILED;
        subject->at = world->t + world->soak * world_unit(&world->random);
    } else if (dark) {
        subject->fate = FATE_DARK;
    } else if (plan->interrupt > 0 && chance(world, plan->interrupt)) {
        subject->fate = FATE_INTERRUPTED;
        subject->at = world->t + world->soak * world_unit(&world->random);
    }
    if (plan->late > 0 && chance(world, plan->late))
        subject->at += (world->deadline - world->soak) * 1.5 * world_unit(&world->random);
}

static void decided(void *user, const struct rollout_decision *decision)
{
    struct world *world = user;
    switch (decision->type) {
    case DECISION_PERMIT:
    case DECISION_PLACEBO:
        for (uint32_t i = 0; i < world->waiting_count; i++) {
            if (world->waiting[i] == decision->device) {
                world->waiting[i] = world->waiting[--world->waiting_count];
                break;
            }
        }
        begin_trial(world, decision->device, decision->arm);
        break;
    case DECISION_SILENT:
        world->looked = true;
        world->evidence = true;
        break;
    case DECISION_PAUSE:
        world->result->paused = true;
        break;
    default:
        break;
    }
}

static void apply(struct world *world, const struct rollout_event *event)
{
    struct error error = ERROR_INIT;
    struct rollout_event copy = *event;
    copy.t = world->t;
    int r = rollout_apply(world->rollout, &copy, decided, world, &error);
    if (r < 0 && r != -ETIME) {
        (void)fprintf(stderr, "the world's event was refused: %s\n", error.text);
        abort();
    }
    world->result->events++;
    if (world->looked) {
        rollout_look(world->rollout, &world->result->view);
        world->result->sup_log_split =
            fmax(world->result->sup_log_split, world->result->view.log_split);
        world->looked = false;
    }
}

static void report(struct world *world, uint32_t device)
{
    static const enum rollout_outcome outcomes[] = {
        [FATE_HEALTHY] = OUTCOME_HEALTHY,
        [FATE_FAILED] = OUTCOME_FAILED,
        [FATE_DECLINED] = OUTCOME_DECLINED,
        [FATE_INTERRUPTED] = OUTCOME_INTERRUPTED,
    };
    struct subject *subject = &world->subjects[device];
    enum fate fate = subject->fate;
    if (fate == FATE_INTERRUPTED) { /* back after a while, for the rest of its soak */
        subject->at = world->t + 3 * world->soak * world_unit(&world->random);
        subject->fate = chance(world, 0.8) ? FATE_HEALTHY : FATE_INTERRUPTED;
    }
    if (fate == FATE_FAILED)
        world->looked = true;
    if (fate != FATE_DECLINED && fate != FATE_INTERRUPTED)
        world->evidence = true;
    apply(world, &(struct rollout_event){
                     .type = EVENT_OUTCOME, .device = device, .outcome = outcomes[fate]});
}

static void step(struct world *world)
{
    const struct world_plan *plan = world->plan;
    for (uint32_t i = 0; i < world->flight_count; i++) {
        uint32_t device = world->flight[i];
        const struct subject *subject = &world->subjects[device];
        if (subject->fate != FATE_DARK && subject->at <= world->t)
            report(world, device);
    }
    apply(world, &(struct rollout_event){.type = EVENT_TICK});
    for (uint32_t i = world->flight_count; i-- > 0;) {
        enum rollout_device_state state = rollout_device_state(world->rollout, world->flight[i]);
        if (state != DEVICE_IN_RELEASE && state != DEVICE_IN_PLACEBO)
            leave_flight(world, world->flight[i]);
    }
    double asks = plan->asks_per_soak * plan->devices / 10;
    for (; asks > 0 && world->waiting_count > 0; asks--) {
        uint32_t at = (uint32_t)(world_random(&world->random) % world->waiting_count);
        apply(world, &(struct rollout_event){.type = EVENT_BEGIN, .device = world->waiting[at]});
    }
}

static void weather(struct world *world, int number)
{
    const struct world_plan *plan = world->plan;
    if (plan->dark > 0 && number % 60 == 30)
        world->dark_until = world->t + 1.5 * world->soak;
    if (plan->server_outages && number % 100 == 77) {
        double from = world->t;
        world->t += 4 * world->soak;
        for (uint32_t i = 0; i < world->flight_count; i++) /* they try again when it is back */
            if (world->subjects[world->flight[i]].at < world->t)
                world->subjects[world->flight[i]].at = world->t;
        apply(world, &(struct rollout_event){.type = EVENT_OUTAGE, .from = from, .to = world->t});
    }
    if (plan->burst > 0 && chance(world, plan->burst)) {
        uint32_t eighth = (uint32_t)(world_random(&world->random) % 8);
        for (uint32_t i = 0; i < world->flight_count; i++)
            if (world->flight[i] % 64 / 8 == eighth)
                world->subjects[world->flight[i]].fate = FATE_DARK;
    }
    if (plan->drop_at > 0 && number == (int)(plan->drop_at * 10))
        for (uint32_t i = 0; i < world->flight_count; i++)
            if (chance(world, 1.0 / 3))
                world->subjects[world->flight[i]].fate = FATE_DARK;
}

static void populate(struct world *world, uint64_t seed)
{
    static const char *const names[] = {"o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7"};
    const struct world_plan *plan = world->plan;
    struct rollout_organisation list[8] = {{0}};
    struct error error = ERROR_INIT;
    struct policy policy;
    char text[65];
    json_t *value = NULL;
    assert(plan->organisations >= 1 && plan->organisations <= 8);
    for (uint32_t i = 0; i < plan->devices; i++)
        list[i % plan->organisations].devices++;
    for (unsigned i = 0; i < plan->organisations; i++)
        list[i].name = names[i];
    world_seed_text(seed, text);
    struct rollout_start start = {
        .rollout = "world",
        .release = "release",
        .seed = text,
        .organisations = list,
        .organisation_count = plan->give_organisations ? plan->organisations : 0,
    };
    if (json_parse(plan->policy, strlen(plan->policy), &value, &error) < 0 ||
        policy_parse(value, &policy, &error) < 0 ||
        rollout_new(&policy, &start, &world->rollout, &error) < 0) {
        (void)fprintf(stderr, "%s\n", error.text);
        abort();
    }
    json_decref(value);
    world->soak = policy.soak;
    world->deadline = policy.deadline;
    policy_free(&policy);
    for (uint32_t i = 0; i < plan->devices; i++) {
        char id[16], os[16];
        (void)snprintf(id, sizeof id, "%u", i);
        (void)snprintf(os, sizeof os, "%u",
                       (unsigned)(world_random(&world->random) % plan->strata));
        rollout_device_add(world->rollout, &(struct rollout_device){
                                               .id = id,
                                               .organisation = names[i % plan->organisations],
                                               .attributes = &(struct rollout_attribute){"os", os},
                                               .attribute_count = 1,
                                           });
        world->waiting[world->waiting_count++] = i;
    }
}

void world_run(const struct world_plan *plan, uint64_t seed, struct world_result *ret)
{
    struct world world = {
        .plan = plan,
        .random = seed,
        .result = ret,
        .subjects = xcalloc(plan->devices, sizeof *world.subjects),
        .flight = xcalloc(plan->devices, sizeof *world.flight),
        .waiting = xcalloc(plan->devices, sizeof *world.waiting),
    };
    *ret = (struct world_result){.sup_log_split = 0};
    populate(&world, seed);
    rollout_look(world.rollout, &ret->view);
    for (int number = 0; number < plan->soaks_max * 10; number++) {
        world.t += world.soak / 10;
        weather(&world, number);
        step(&world);
        if (ret->view.state == ROLLOUT_HALTED ||
            (world.waiting_count == 0 && world.flight_count == 0))
            break;
    }
    rollout_look(world.rollout, &ret->view);
    ret->finished = ret->view.settled == plan->devices;
    rollout_free(world.rollout);
    free(world.subjects);
    free(world.flight);
    free(world.waiting);
}
