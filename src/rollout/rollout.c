#include "rollout/rollout.h"

#include "base/buf.h"
#include "base/encode.h"
#include "rollout/internal.h"

#include <errno.h>
#include <math.h>
#include <string.h>

void emit(struct rollout *rollout, const struct rollout_decision *decision)
{
    if (!rollout->decide)
        return;
    struct rollout_decision copy = *decision;
    copy.t = rollout->now;
    rollout->decide(rollout->user, &copy);
}

static int check_start(const struct rollout_start *start, struct error *error)
{
    if (!start->rollout || !*start->rollout)
        return error_set(error, -EINVAL, "the rollout has no name: expected one");
    if (!start->release || !*start->release)
        return error_set(error, -EINVAL, "rollout %s names no release: expected one",
                         start->rollout);
    if (!start->seed || !is_digest(start->seed))
        return error_set(error, -EINVAL,
                         "the seed of rollout %s is \"%.80s\": expected 64 lower-case hex digits",
                         start->rollout, start->seed ? start->seed : "");
    if (!isfinite(start->t))
        return error_set(error, -EINVAL, "rollout %s starts at %g: expected seconds",
                         start->rollout, start->t);
    for (size_t i = 0; i < start->organisation_count; i++)
        if (!start->organisations[i].name || !*start->organisations[i].name)
            return error_set(error, -EINVAL, "organisation %zu of rollout %s has no name", i,
                             start->rollout);
    return 0;
}

static int add_organisations(struct rollout *rollout, const struct rollout_start *start,
                             struct error *error)
{
    for (size_t i = 0; i < start->organisation_count; i++) {
        const char *name = start->organisations[i].name;
        uint64_t devices = start->organisations[i].devices;
        uint32_t number = organisation_number(rollout, name);
        if (number != i)
            return error_set(error, -EINVAL,
                             "organisation \"%s\" of rollout %s is given twice: expected each once",
                             name, start->rollout);
        if (devices > UINT32_MAX)
            return error_set(error, -EINVAL,
                             "organisation \"%s\" has %llu devices: expected at most %u", name,
                             (unsigned long long)devices, UINT32_MAX);
        double budget = fmax(1, rollout->policy.organisation_share * (double)devices);
        rollout->organisations[number].devices = devices;
        rollout->organisations[number].budget = (uint64_t)nearbyint(budget * UNITS) + 1;
        rollout->fleet += devices;
    }
    rollout->many_organisations = start->organisation_count > 1;
    return 0;
}

int rollout_new(const struct policy *policy, const struct rollout_start *start,
                struct rollout **ret, struct error *error)
{
    int r = check_start(start, error);
    if (r < 0)
        return r;
    struct rollout *rollout = xcalloc(1, sizeof *rollout);
    policy_copy(policy, &rollout->policy);
    rollout->name = xstrdup(start->rollout);
    rollout->release = xstrdup(start->release);
    rollout->seed = xstrdup(start->seed);
    rollout->started_at = rollout->now = start->t;
    rollout->exposure_free = rollout->slice_suspect = NONE;
    rollout->budget = (uint64_t)nearbyint(policy->harm_budget * UNITS) + 1;
    rollout->log_threshold = log(2 / policy->alpha);
    rollout->approved = xcalloc(policy->stage_count, sizeof *rollout->approved);
    rollout->stage_opened_at = rollout->halted_at = rollout->first_failure_at = NAN;
    rollout->because.slice = "";
    rollout->because.tolerated = policy->tolerance_cap;
    rate_mixture_init(&rollout->mixture, policy->tolerance_floor);
    if ((r = add_organisations(rollout, start, error)) < 0 ||
        (r = slices_init(rollout, start, error)) < 0) {
        rollout_free(rollout);
        return r;
    }
    *ret = rollout;
    return 0;
}

void rollout_free(struct rollout *rollout)
{
    if (!rollout)
        return;
    policy_free(&rollout->policy);
    slices_free(rollout);
    profiles_free(rollout);
    names_free(&rollout->organisation_names);
    names_free(&rollout->group_names);
    names_free(&rollout->stratum_names);
    names_free(&rollout->part_names);
    for (unsigned i = 0; i < rollout->approver_count; i++)
        free(rollout->approvers[i]);
    void *owned[] = {
        rollout->name,       rollout->release,        rollout->seed,         rollout->approvers,
        rollout->approved,   rollout->organisations,  rollout->groups,       rollout->strata,
        rollout->ranked,     rollout->cells,          rollout->parts,        rollout->devices,
        rollout->exposures,  rollout->heap,           rollout->pairs,        rollout->reverts,
        rollout->because_by, rollout->because_reason, rollout->because_slice};
    for (size_t i = 0; i < ARRAY_SIZE(owned); i++)
        free(owned[i]);
    free(rollout);
}

static bool names_device(enum rollout_event_type type)
{
    return type == EVENT_BEGIN || type == EVENT_OUTCOME || type == EVENT_REVERT ||
           type == EVENT_REVERTED;
}

static int check_outcome(const struct rollout *rollout, const struct rollout_event *event,
                         struct error *error)
{
    const struct device *device = &rollout->devices[event->device];
    if ((unsigned)event->outcome > OUTCOME_REGRESSED)
        return error_set(error, -EINVAL, "outcome %u is not known", (unsigned)event->outcome);
    if (event->outcome == OUTCOME_REGRESSED) {
        if (device->state == DEVICE_HEALTHY)
            return 0;
        return error_set(error, device->in_flight ? -EINVAL : -ENOENT,
                         "device %u reports regressed, but it is not healthy with this release: "
                         "expected healthy before",
                         event->device);
    }
    if (device->in_flight || device->was_silent)
        return 0;
    if (device->state == DEVICE_NEW)
        return error_set(error, -ENOENT, "device %u reports an outcome, but it holds no permit",
                         event->device);
    return error_set(error, -EALREADY, "device %u has reported the outcome of its permit already",
                     event->device);
}

static int check_person(const struct rollout *rollout, const struct rollout_event *event,
                        struct error *error)
{
    if (event->type == EVENT_HOLD && (!event->organisation || !*event->organisation))
        return error_set(error, -EINVAL,
                         "a hold names no organisation: expected one; pause stops "
                         "everybody");
    if (event->type != EVENT_APPROVE)
        return 0;
    if (!event->by || !*event->by)
        return error_set(error, -EINVAL, "an approval does not say by whom: expected a name");
    if (event->stage && !stage_known(rollout, event->stage))
        return error_set(error, -EINVAL,
                         "\"%.128s\" is not a stage of this rollout: expected \"start\" or a "
                         "stage's name",
                         event->stage);
    return 0;
}

static int check_event(const struct rollout *rollout, const struct rollout_event *event,
                       struct error *error)
{
    if (!isfinite(event->t) || event->t < rollout->now)
        return error_set(error, -EINVAL,
                         "the event is of %.3f, before the last one at %.3f: time does not run "
                         "backwards",
                         event->t, rollout->now);
    if ((unsigned)event->type > EVENT_REVERTED)
        return error_set(error, -EINVAL, "event type %u is not known", (unsigned)event->type);
    if (names_device(event->type) && event->device >= rollout->device_count)
        return error_set(error, -EINVAL, "device %u is not known to the rollout", event->device);
    switch (event->type) {
    case EVENT_OUTCOME:
        return check_outcome(rollout, event, error);
    case EVENT_OUTAGE:
        if (!isfinite(event->from) || !isfinite(event->to) || event->from > event->to)
            return error_set(error, -EINVAL, "an outage from %.3f to %.3f: expected to ≥ from",
                             event->from, event->to);
        return 0;
    case EVENT_REVERT:
    case EVENT_REVERTED: {
        const struct device *device = &rollout->devices[event->device];
        if (event->type == EVENT_REVERT && !rollout->halted)
            return error_set(error, -EINVAL,
                             "device %u asks to revert, but the release is not halted",
                             event->device);
        if (event->type == EVENT_REVERTED && device->in_flight)
            return error_set(error, -EINVAL,
                             "device %u is in trial: expected its outcome before it is reverted",
                             event->device);
        if (device->state == DEVICE_NEW || device->state == DEVICE_PLACEBO_DONE)
            return error_set(error, -ENOENT, "device %u has nothing of this release to revert",
                             event->device);
        return 0;
    }
    default:
        return check_person(rollout, event, error);
    }
}

/* 0, or -ETIME for a report that comes after its deadline. */
static int apply_outcome(struct rollout *rollout, const struct rollout_event *event,
                         struct error *error)
{
    struct device *device = &rollout->devices[event->device];
    if (event->outcome == OUTCOME_REGRESSED) {
        rollout->regressed++;
        rollout->organisations[device->organisation].regressed++;
        rollout->late_moved = true;
        rollout->healthy--;
        rollout->failed++;
        if (isnan(rollout->first_failure_at))
            rollout->first_failure_at = rollout->now;
        device->state = DEVICE_FAILED;
        alarm_check(rollout);
        return 0;
    }
    if (!device->in_flight) {
        rollout->late++;
        return error_set(error, -ETIME,
                         "device %u reports after its deadline: it counts as silent already",
                         event->device);
    }
    switch (event->outcome) {
    case OUTCOME_HEALTHY:
        exposure_settle(rollout, device->slot, 'h');
        break;
    case OUTCOME_FAILED:
        exposure_settle(rollout, device->slot, 'f');
        break;
    case OUTCOME_DECLINED:
        exposure_settle(rollout, device->slot, 'd');
        break;
    default:
        exposure_interrupted(rollout, device->slot);
    }
    return 0;
}

static int apply_event(struct rollout *rollout, const struct rollout_event *event,
                       struct error *error)
{
    const char *organisation = event->organisation;
    switch (event->type) {
    case EVENT_BEGIN:
        begin(rollout, event->device);
        return 0;
    case EVENT_OUTCOME:
        return apply_outcome(rollout, event, error);
    case EVENT_APPROVE:
        stage_approve(rollout, event->by, event->stage);
        return 0;
    case EVENT_PAUSE:
    case EVENT_HOLD:
        if (organisation)
            rollout->organisations[organisation_number(rollout, organisation)].held = true;
        else
            alarm_pause_person(rollout, event->by, event->reason);
        return 0;
    case EVENT_RESUME:
        if (organisation)
            rollout->organisations[organisation_number(rollout, organisation)].held = false;
        else
            alarm_resume_person(rollout, event->by, event->reason);
        return 0;
    case EVENT_HALT:
        alarm_halt(rollout, ALARM_PERSON, NONE, event->by, event->reason);
        return 0;
    case EVENT_REVERT:
        revert_ask(rollout, event->device);
        return 0;
    case EVENT_REVERTED:
        revert_end(rollout, event->device);
        return 0;
    case EVENT_TICK:
    case EVENT_OUTAGE:
        return 0;
    }
    return 0;
}

int rollout_apply(struct rollout *rollout, const struct rollout_event *event,
                  rollout_decide *decide, void *user, struct error *error)
{
    int r = check_event(rollout, event, error);
    if (r < 0)
        return r;
    rollout->decide = decide;
    rollout->user = user;
    rollout->now = event->t;
    if (event->type == EVENT_OUTAGE) {
        exposure_deadlines(rollout, fmin(event->from, event->t), NONE);
        exposure_outage(rollout, event->from, event->to);
        rollout->check_moved_at += event->to - event->from;
    }
    exposure_deadlines(rollout, event->t, event->type == EVENT_OUTCOME ? event->device : NONE);
    revert_lapse(rollout);
    alarm_lapse(rollout);
    stage_check(rollout);
    r = apply_event(rollout, event, error);
    stage_check(rollout);
    rollout->decide = NULL;
    return r;
}

double rollout_next_tick(const struct rollout *rollout)
{
    double next = fmin(stage_tick(rollout), alarm_patience_ends(rollout));
    if (rollout->heap_count > 0)
        next = fmin(next, rollout->exposures[rollout->heap[0]].deadline);
    return next;
}
