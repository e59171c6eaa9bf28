#include "base/buf.h"
#include "base/parse.h"
#include "sim/run.h"
#include "sim/strategy.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define HORIZON (14 * 86400.0) /* and the times that the stages ask for */
#define PERSON_ANSWERS 3600.0  /* after a pause that calls one */
#define PROGRESS_EVERY 65536   /* events */
#define INTERVALS_PER_SOAK 512
#define NAMED_SLICES 16
#define NAMED_ORGANISATIONS 4

static void decided(void *user, const struct rollout_decision *decision)
{
    struct run *run = user;
    struct sim_result *result = run->result;
    switch (decision->type) {
    case DECISION_PERMIT:
    case DECISION_PLACEBO:
    case DECISION_WAIT:
    case DECISION_NO:
        if (decision->device != run->answered)
            return;
        run->answer = decision->type;
        run->reason = decision->reason;
        run->retry_after = decision->retry_after;
        break;
    case DECISION_OPEN:
    case DECISION_RESUME:
        run->opened = true;
        run->paused = false;
        break;
    case DECISION_PAUSE:
        run->paused = result->paused = true;
        if (decision->because.alarm == ALARM_ORGANISATION) {
            free(run->accused);
            run->accused = xstrdup(decision->because.slice ? decision->because.slice : "");
            calendar_add(&run->queue, decision->t + PERSON_ANSWERS, EVENT_KIND_PERSON, 0);
        }
        break;
    case DECISION_HALT:
        result->halted = true;
        result->halted_at = decision->t;
        break;
    case DECISION_SILENT:
        outcome_silent(run, decision->device, decision->arm);
        break;
    case DECISION_DONE:
    case DECISION_REVERT:
        break;
    }
}

int run_apply(struct run *run, const struct rollout_event *event)
{
    struct rollout_event copy = *event;
    copy.t = run->now;
    run->events++;
    int r = rollout_apply(run->rollout, &copy, decided, run, run->error);
    if (run->opened) {
        run->opened = false;
        asking_opened(run);
    }
    return r;
}

/* Who is called holds the organisation that alone accuses the release, and lets the others go on.
 */
static int person_answers(struct run *run)
{
    const char *name = run->accused ? strchr(run->accused, '=') : NULL;
    name = name ? name + 1 : run->accused;
    int r = 0;
    if (name && *name)
        r = run_apply(run, &(struct rollout_event){.type = EVENT_HOLD,
                                                   .organisation = name,
                                                   .by = "operator",
                                                   .reason = "alone with its failures"});
    if (r == 0)
        r = run_apply(run, &(struct rollout_event){.type = EVENT_RESUME,
                                                   .by = "operator",
                                                   .reason = "the others are well"});
    return r;
}

/* Everybody that the policy asks for has approved beforehand. */
static int approve(struct run *run)
{
    unsigned count = run->policy->approvals_start;
    int r = 0;
    if (run->policy->class == POLICY_EMERGENCY && run->policy->approvals_emergency > count)
        count = run->policy->approvals_emergency;
    for (unsigned i = 0; i < count && r == 0; i++) {
        char by[32];
        (void)snprintf(by, sizeof by, "approver-%u", i + 1);
        r = run_apply(
            run, &(struct rollout_event){
                     .type = EVENT_APPROVE, .by = by, .reason = "simulated", .stage = "start"});
    }
    for (size_t i = 0; i < run->policy->stage_count && r == 0; i++)
        if (run->policy->stages[i].approval)
            r = run_apply(run, &(struct rollout_event){.type = EVENT_APPROVE,
                                                       .by = "approver-1",
                                                       .reason = "simulated",
                                                       .stage = run->policy->stages[i].name});
    return r;
}

static void sample(struct run *run)
{
    struct rollout_view view;
    const struct sim_result *result = run->result;
    rollout_look(run->rollout, &view);
    trace_add(run->trace, &(struct sim_sample){
                              .t = run->now,
                              .exposed = (double)result->exposed,
                              .harmed = (double)result->harmed,
                              .proven_harm = (double)view.proven_harm,
                              .settled = (double)result->settled,
                              .in_flight = (double)view.in_flight,
                              .window = view.window / view.cost,
                              .log_e = view.log_e,
                              .log_split = view.log_split,
                          });
}

static bool finished(const struct run *run, double next)
{
    const struct sim_result *result = run->result;
    return isinf(next) || (result->halted && next > result->halted_at + 10);
}

static int step(struct run *run, bool *ret_done, double horizon)
{
    const struct calendar_event *event = calendar_peek(&run->queue);
    double event_at = event ? event->t : INFINITY, tick_at = rollout_next_tick(run->rollout);
    double ask_at = run->result->halted ? INFINITY : asking_next(run);
    double arrival_at = run->arrived < run->fleet->scenario->devices && !run->result->halted
                            ? fleet_there_at(run->fleet, run->arrived)
                            : INFINITY;
    double next = fmin(fmin(event_at, tick_at), fmin(ask_at, arrival_at));
    *ret_done = finished(run, next) || next > horizon;
    if (*ret_done)
        return 0;
    run->now = fmax(run->now, next);
    if (next == arrival_at) {
        asking_arrivals(run);
        return 0;
    }
    if (next == tick_at)
        return run_apply(run, &(struct rollout_event){.type = EVENT_TICK});
    if (next == ask_at)
        return asking_poll(run);
    struct calendar_event taken = calendar_take(&run->queue);
    if (taken.kind == EVENT_KIND_PERSON)
        return person_answers(run);
    return outcome_event(run, &taken);
}

static int loop(struct run *run)
{
    double horizon = HORIZON;
    bool done = false;
    int r = approve(run);
    for (size_t i = 0; i < run->policy->stage_count; i++)
        horizon += run->policy->stages[i].min_time;
    for (uint64_t steps = 0; r == 0 && !done; steps++) {
        r = step(run, &done, horizon);
        if (run->trace && trace_wants(run->trace, run->now))
            sample(run);
        if (run->progress && steps % PROGRESS_EVERY == 0)
            run->progress->show(run->progress->user, strategy_names[STRATEGY_MAESLANT], run->now,
                                run->result->exposed, run->result->settled);
    }
    if (r == 0 && run->trace)
        sample(run);
    return r;
}

/* Adds to the sentence what the evidence names: the guilty slices, the organisations that it
 * stopped for themselves, and those whose reports differ from everybody else's. */
static void add_names(struct run *run)
{
    struct rollout_slice_view slices[NAMED_SLICES];
    _cleanup_buf_ struct buf text = BUF_INIT;
    uint32_t count = run->fleet->scenario->organisations;
    _cleanup_free_ struct rollout_organisation_view *organisations =
        xcalloc(count, sizeof *organisations);
    size_t found = rollout_slices(run->rollout, slices, NAMED_SLICES), named = 0;

    for (size_t i = 0; i < found && run->result->halted; i++)
        if (slices[i].guilty)
            buf_addf(&text, "%s%s", named++ ? ", " : "; guilty: ", slices[i].name);
    found = rollout_organisations(run->rollout, organisations, count);
    named = 0;
    for (size_t i = 0; i < found; i++) {
        const struct rollout_organisation_view *one = &organisations[i];
        if (!one->stopped && !one->too_healthy && !one->too_sick)
            continue;
        if (named++ < NAMED_ORGANISATIONS)
            buf_addf(&text, "; %s %s", one->name,
                     one->stopped       ? "is stopped by its own evidence"
                     : one->too_healthy ? "is too healthy to be true"
                                        : "is sicker than all others");
    }
    size_t len = strlen(run->result->why);
    if (text.len > 0)
        (void)snprintf(run->result->why + len, sizeof run->result->why - len, "%s", text.data);
}

static void explain(struct run *run)
{
    struct sim_result *result = run->result;
    struct rollout_view view;
    char span[32];
    rollout_look(run->rollout, &view);
    result->proven_harm = view.proven_harm;
    result->false_halt = result->halted && !scenario_is_harmful(run->fleet->scenario);
    result->ended_at = run->now;
    const struct rollout_because *because = &view.because;
    if (result->halted) {
        format_duration(result->halted_at, span, sizeof span);
        if (because->alarm == ALARM_PROVEN_HARM)
            (void)snprintf(result->why, sizeof result->why,
                           "halted after %s: %" PRIu64 " devices are proven to be harmed by coin "
                           "tosses (%" PRIu64 " to %" PRIu64 "), more than the budget of %g",
                           span, because->proven_harm, because->k_release, because->k_placebo,
                           floor(run->policy->harm_budget));
        else
            (void)snprintf(result->why, sizeof result->why,
                           "halted after %s: %" PRIu64 " of %" PRIu64 " devices (%s) failed with "
                           "the release, where at most %.3g %% is tolerated, and %" PRIu64
                           " with the placebo",
                           span, because->k, because->n, because->slice, 100 * because->tolerated,
                           because->k_placebo);
        return;
    }
    if (!isnan(result->completed_at)) {
        format_duration(result->completed_at, span, sizeof span);
        (void)snprintf(result->why, sizeof result->why,
                       "99 %% of the devices that were online had their turn after %s", span);
        return;
    }
    format_duration(run->now, span, sizeof span);
    (void)snprintf(result->why, sizeof result->why,
                   "%s after %s, with %" PRIu64 " of %u devices done",
                   view.state == ROLLOUT_PAUSED ? "paused" : "unfinished", span, result->settled,
                   run->fleet->scenario->devices);
}

static int start(struct run *run, uint64_t seed)
{
    const struct fleet *fleet = run->fleet;
    uint64_t key = chance_key(seed, CHANCE_ROLLOUT_SEED);
    char hex[65], release[65];
    for (unsigned i = 0; i < 4; i++) {
        (void)snprintf(hex + 16 * (size_t)i, 17, "%016" PRIx64, chance_bits(key, i));
        (void)snprintf(release + 16 * (size_t)i, 17, "%016" PRIx64, chance_bits(key, 4 + i));
    }
    struct rollout_start begin = {
        .rollout = "simulated",
        .release = release,
        .seed = hex,
        .organisations = fleet->organisations,
        .organisation_count = fleet->scenario->organisations,
    };
    return rollout_new(run->policy, &begin, &run->rollout, run->error);
}

int strategy_maeslant(const struct fleet *fleet, uint64_t seed, struct sim_result *result,
                      struct sim_trace *trace, const struct sim_progress *progress,
                      struct error *error)
{
    const struct scenario *scenario = fleet->scenario;
    struct run run = {
        .fleet = fleet,
        .policy = &scenario->policy,
        .polls = {.key = chance_key(seed, CHANCE_POLL)},
        .credit = 8,
        .stage = {.head = NOBODY},
        .answered = NOBODY,
        .turns_wanted = (uint64_t)ceil(0.99 * fleet->online),
        .next_ask = INFINITY,
        .result = result,
        .trace = trace,
        .progress = progress,
        .error = error,
    };
    int r = start(&run, seed);
    if (r < 0)
        return r;
    calendar_init(&run.queue, scenario->policy.soak / INTERVALS_PER_SOAK);
    run.organisations = xcalloc(scenario->organisations, sizeof *run.organisations);
    run.open_of = xcalloc(scenario->organisations, sizeof *run.open_of);
    for (uint32_t i = 0; i < scenario->organisations; i++)
        run.organisations[i].head = NOBODY;
    asking_arrivals(&run);
    r = loop(&run);
    if (r == 0) {
        explain(&run);
        add_names(&run);
    }
    rollout_free(run.rollout);
    calendar_free(&run.queue);
    void *owned[] = {run.subjects,      run.likes,   run.again,
                     run.organisations, run.open_of, run.accused};
    for (size_t i = 0; i < ARRAY_SIZE(owned); i++)
        free(owned[i]);
    return r;
}
