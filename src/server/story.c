#include "server/story.h"

#include "base/buf.h"

#include <math.h>
#include <string.h>

#define FIRST_EVERY 0.25

static char *copy(const char *text)
{
    return text && *text ? xstrdup(text) : NULL;
}

static void moment_free(struct story_moment *moment)
{
    free(moment->stage);
    free(moment->by);
    free(moment->reason);
}

static void failure_free(struct story_failure *failure)
{
    free(failure->device);
    free(failure->organisation);
    free(failure->why);
}

void story_free(struct story *story)
{
    for (size_t i = 0; i < story->moment_count; i++)
        moment_free(&story->moments[i]);
    for (size_t i = 0; i < story->failure_count; i++)
        failure_free(&story->failures[i]);
    free(story->points);
    free(story->moments);
    free(story->failures);
    *story = (struct story){0};
}

/* Figures over time */

static struct story_point look(const struct story *story, const struct rollout *fold,
                               uint64_t obeyed)
{
    struct rollout_view view;

    rollout_look(fold, &view);
    return (struct story_point){
        .t = view.t,
        .log_split = view.log_split,
        .log_e = story->halted ? story->log_e : view.log_e,
        .window_used = view.window_used,
        .proven_harm = view.proven_harm,
        .failed = view.failed - obeyed,
    };
}

static double interval(const struct story *story, double t)
{
    return floor(t / story->every);
}

/* Twice the interval: of the points that fall into one, the last stays. */
static void thin(struct story *story)
{
    size_t kept = 0;

    story->every *= 2;
    for (size_t i = 0; i < story->point_count; i++) {
        if (kept > 0 &&
            interval(story, story->points[kept - 1].t) == interval(story, story->points[i].t))
            kept--;
        story->points[kept++] = story->points[i];
    }
    story->point_count = kept;
}

void story_figures(struct story *story, const struct rollout *fold, uint64_t obeyed, double t)
{
    if (!story->points) {
        story->points = xcalloc(STORY_POINTS, sizeof *story->points);
        story->every = FIRST_EVERY;
    } else if (interval(story, t) != interval(story, story->t)) {
        while (story->point_count == STORY_POINTS)
            thin(story);
        story->points[story->point_count++] = look(story, fold, obeyed);
    }
    story->t = t;
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *at(double t)
{
    return json_integer((json_int_t)llround(t * 1000));
}

static json_t *point_json(const struct story_point *point)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:I, s:I}", "at", at(point->t), "log_split",
                     number(point->log_split), "log_e", number(point->log_e), "window_used",
                     number(point->window_used), "proven_harm", (json_int_t)point->proven_harm,
                     "failed", (json_int_t)point->failed);
}

json_t *story_points_json(const struct story *story, const struct rollout *fold, uint64_t obeyed,
                          double after)
{
    json_t *list = json_array();
    struct story_point now = look(story, fold, obeyed);

    for (size_t i = 0; i < story->point_count; i++)
        if (story->points[i].t > after && story->points[i].t < now.t)
            json_array_append_new(list, point_json(&story->points[i]));
    if (now.t > after)
        json_array_append_new(list, point_json(&now));
    return list;
}

/* Moments */

static const char *moment_name(enum rollout_decision_type type)
{
    switch (type) {
    case DECISION_OPEN:
        return "open";
    case DECISION_PAUSE:
        return "pause";
    case DECISION_RESUME:
        return "resume";
    case DECISION_HALT:
        return "halt";
    case DECISION_DONE:
        return "done";
    default:
        return NULL;
    }
}

static void keep_halt(struct story *story, const struct rollout *fold)
{
    struct rollout_view view;

    rollout_look(fold, &view);
    story->halted = true;
    story->log_e = view.log_e;
}

void story_decision(struct story *story, const struct rollout *fold,
                    const struct rollout_decision *decision)
{
    const struct rollout_because *because = &decision->because;
    bool caused = decision->type == DECISION_PAUSE || decision->type == DECISION_RESUME ||
                  decision->type == DECISION_HALT;

    if (!moment_name(decision->type))
        return;
    if (decision->type == DECISION_HALT && !story->halted)
        keep_halt(story, fold);
    if (!story->moments)
        story->moments = xcalloc(STORY_MOMENTS, sizeof *story->moments);
    if (story->moment_count == STORY_MOMENTS) {
        moment_free(&story->moments[0]);
        memmove(story->moments, story->moments + 1, (STORY_MOMENTS - 1) * sizeof *story->moments);
        story->moment_count--;
    }
    story->moments[story->moment_count++] = (struct story_moment){
        .t = decision->t,
        .type = decision->type,
        .alarm = caused ? because->alarm : ALARM_NONE,
        .stage = decision->type == DECISION_OPEN ? copy(decision->stage) : NULL,
        .by = caused ? copy(because->by) : NULL,
        .reason = caused ? copy(because->reason) : NULL,
    };
}

json_t *story_moments_json(const struct story *story)
{
    json_t *list = json_array();

    for (size_t i = 0; i < story->moment_count; i++) {
        const struct story_moment *moment = &story->moments[i];
        json_t *value = json_pack("{s:o, s:s, s:s*}", "at", at(moment->t), "decision",
                                  moment_name(moment->type), "stage", moment->stage);

        if (moment->alarm != ALARM_NONE)
            json_object_set_new(value, "because",
                                json_pack("{s:s, s:s*, s:s*}", "alarm",
                                          rollout_alarm_code(moment->alarm), "by", moment->by,
                                          "reason", moment->reason));
        json_array_append_new(list, value);
    }
    return list;
}

/* Failures */

void story_failure(struct story *story, double t, const char *device, const char *organisation,
                   const char *why, enum rollout_arm arm)
{
    if (!story->failures)
        story->failures = xcalloc(STORY_FAILURES, sizeof *story->failures);
    if (story->failure_count == STORY_FAILURES) {
        failure_free(&story->failures[0]);
        memmove(story->failures, story->failures + 1,
                (STORY_FAILURES - 1) * sizeof *story->failures);
        story->failure_count--;
    }
    story->failures[story->failure_count++] = (struct story_failure){
        .t = t,
        .device = copy(device),
        .organisation = copy(organisation),
        .why = copy(why),
        .arm = arm,
    };
}

json_t *story_failures_json(const struct story *story)
{
    json_t *list = json_array();

    for (size_t i = story->failure_count; i-- > 0;) {
        const struct story_failure *failure = &story->failures[i];

        json_array_append_new(list, json_pack("{s:o, s:s?, s:s?, s:s, s:s?}", "at", at(failure->t),
                                              "device", failure->device, "organisation",
                                              failure->organisation, "arm",
                                              failure->arm == ARM_RELEASE ? "release" : "placebo",
                                              "why", failure->why));
    }
    return list;
}
