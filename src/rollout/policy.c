#include "rollout/policy.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define STAGES_MAX 64
#define STRATA_MAX 16
#define ORGANISATIONS_MAX 4096
#define HARM_BUDGET_MAX 1e6
#define COUNT_MAX INT64_C(1000000000000)
#define APPROVALS_MAX 64
#define YEARS_10 (10 * 365.25 * 86400)

static const char *const class_names[] = {"routine", "urgent", "emergency", NULL};
static const char *const placebo_names[] = {"none", "pairs", NULL};
static const char *const on_halt_names[] = {"keep", "revert", NULL};
static const char *const default_strata[] = {"os", "kernel", "arch", "engine", NULL};

static char **list_copy(const char *const *list)
{
    size_t count = 0;
    while (list[count])
        count++;
    char **copy = xcalloc(count + 1, sizeof *copy);
    for (size_t i = 0; i < count; i++)
        copy[i] = xstrdup(list[i]);
    return copy;
}

static void list_free(char **list)
{
    for (size_t i = 0; list && list[i]; i++)
        free(list[i]);
    free(list);
}

static bool list_has(char *const *list, const char *text)
{
    for (; *list; list++)
        if (strcmp(*list, text) == 0)
            return true;
    return false;
}

/* An index into `names`; `ret` keeps its value when the member is absent. */
static int read_choice(const json_t *object, const char *where, const char *key,
                       const char *const *names, unsigned *ret, struct error *error)
{
    const char *text = NULL;
    int r = json_may_string(object, where, key, 64, &text, error);
    if (r < 0 || !text)
        return r;
    _cleanup_buf_ struct buf list = BUF_INIT;
    for (unsigned i = 0; names[i]; i++) {
        if (strcmp(names[i], text) == 0) {
            *ret = i;
            return 0;
        }
        buf_addf(&list, "%s%s", i ? ", " : "", names[i]);
    }
    return error_set(error, -EINVAL, "%s.%s is \"%s\": expected one of %s", where, key, text,
                     list.data);
}

/* Text for people or a bare number, by `parse`, within [min, max]; `expected` ends the sentence. */
static int read_quantity(const json_t *object, const char *where, const char *key,
                         int (*parse)(const char *, double *, struct error *), double min,
                         double max, const char *expected, double *ret, struct error *error)
{
    const json_t *value = json_object_get(object, key);
    double found;
    if (!value)
        return 0;
    if (json_is_string(value)) {
        int r = parse(json_string_value(value), &found, error);
        if (r < 0)
            return error_prefix(error, -EINVAL, "%s.%s", where, key);
    } else if (json_is_number(value)) {
        found = json_number_value(value);
    } else {
        _cleanup_free_ char *text = json_text(value);
        return error_set(error, -EINVAL, "%s.%s is %.80s: expected %s", where, key, text, expected);
    }
    if (!(found >= min && found <= max))
        return error_set(error, -EINVAL, "%s.%s is %.15g: expected %s", where, key, found,
                         expected);
    *ret = found;
    return 0;
}

static int read_duration(const json_t *object, const char *where, const char *key, double min,
                         double *ret, struct error *error)
{
    return read_quantity(object, where, key, parse_duration, min, YEARS_10,
                         min > 0 ? "a duration such as 10m, or seconds, from 1 ms to 10 years"
                                 : "a duration such as 10m, or seconds, up to 10 years",
                         ret, error);
}

static int read_count(const json_t *object, const char *where, const char *key, int64_t max,
                      uint64_t *ret, struct error *error)
{
    int64_t value = (int64_t)*ret;
    int r = json_may_integer(object, where, key, 0, max, &value, error);
    if (r == 0)
        *ret = (uint64_t)value;
    return r;
}

/* A list of distinct names, NULL-terminated; `ret` is replaced when the member is there. */
static int read_names(const json_t *object, const char *where, const char *key, size_t min,
                      size_t max, char ***ret, struct error *error)
{
    const json_t *list = NULL;
    int r = json_may(object, where, key, JSON_ARRAY, &list, error);
    if (r < 0 || !list)
        return r;
    size_t count = json_array_size(list);
    if (count < min || count > max)
        return error_set(error, -EINVAL, "%s.%s has %zu names: expected %zu to %zu", where, key,
                         count, min, max);
    char **names = xcalloc(count + 1, sizeof *names);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        const char *name = json_string_value(item);
        if (!name || json_string_length(item) != strlen(name) || !is_name(name)) {
            _cleanup_free_ char *text = json_text(item);
            r = error_set(error, -EINVAL,
                          "%s.%s[%zu] is %.80s: expected a name of 1 to 128 letters, digits and "
                          "._+-",
                          where, key, i, text);
        } else if (list_has(names, name)) {
            r = error_set(error, -EINVAL, "%s.%s[%zu] is \"%s\": expected each name once", where,
                          key, i, name);
        }
        if (r < 0) {
            list_free(names);
            return r;
        }
        names[i] = xstrdup(name);
    }
    list_free(*ret);
    *ret = names;
    return 0;
}

static int check_stage(const struct policy *policy, size_t index, bool asks_settled,
                       const char *where, struct error *error)
{
    const struct policy_stage *stage = &policy->stages[index];
    if (strcmp(stage->name, "start") == 0)
        return error_set(error, -EINVAL,
                         "%s.name is \"start\": expected another name, because an approval of "
                         "\"start\" starts the rollout",
                         where);
    if (asks_settled && stage->devices > 0 && stage->min_settled > stage->devices)
        return error_set(error, -EINVAL,
                         "%s.min_settled is %llu: expected at most the stage's %llu devices, or it "
                         "never ends",
                         where, (unsigned long long)stage->min_settled,
                         (unsigned long long)stage->devices);
    for (size_t i = 0; i < index; i++) {
        const struct policy_stage *before = &policy->stages[i];
        if (strcmp(before->name, stage->name) == 0)
            return error_set(error, -EINVAL,
                             "%s.name is \"%s\": expected a name of its own, which "
                             "policy.stages[%zu] has already",
                             where, stage->name, i);
        if (stage->devices > 0 && stage->devices < before->devices)
            return error_set(
                error, -EINVAL,
                "%s.devices is %llu: expected at least the %llu of policy.stages[%zu]; "
                "it counts from the start of the rollout",
                where, (unsigned long long)stage->devices, (unsigned long long)before->devices, i);
        /* A stage of named organisations has its own share of them, not of the fleet. */
        if (!before->organisations && !stage->organisations && stage->share < before->share)
            return error_set(
                error, -EINVAL,
                "%s.share is %.15g: expected at least the %.15g of policy.stages[%zu]; "
                "shares never shrink",
                where, stage->share, before->share, i);
    }
    return 0;
}

static int read_stage(const json_t *object, struct policy *policy, size_t index,
                      struct error *error)
{
    static const char *const known[] = {"name",        "organisations", "share",    "devices",
                                        "min_settled", "min_time",      "approval", NULL};
    struct policy_stage *stage = &policy->stages[index];
    char where[48];
    const char *name = NULL;
    int r;

    (void)snprintf(where, sizeof where, "policy.stages[%zu]", index);
    if (!json_is_object(object)) {
        _cleanup_free_ char *text = json_text(object);
        return error_set(error, -EINVAL, "%s is %.80s: expected an object", where, text);
    }
    stage->share = 1;
    if ((r = json_only(object, where, known, error)) < 0 ||
        (r = json_need_string(object, where, "name", 128, &name, error)) < 0)
        return r;
    if (!is_name(name))
        return error_set(error, -EINVAL,
                         "%s.name is \"%.128s\": expected 1 to 128 letters, digits and ._+-", where,
                         name);
    stage->name = xstrdup(name);
    if ((r = read_names(object, where, "organisations", 1, ORGANISATIONS_MAX, &stage->organisations,
                        error)) < 0 ||
        (r = read_quantity(object, where, "share", parse_share, 1e-9, 1,
                           "a share above 0 such as 0.1% or 0.001, at most 1", &stage->share,
                           error)) < 0 ||
        (r = read_count(object, where, "devices", COUNT_MAX, &stage->devices, error)) < 0)
        return r;
    stage->min_settled = stage->devices;
    if ((r = read_count(object, where, "min_settled", COUNT_MAX, &stage->min_settled, error)) < 0 ||
        (r = read_duration(object, where, "min_time", 0, &stage->min_time, error)) < 0 ||
        (r = json_may_bool(object, where, "approval", &stage->approval, error)) < 0)
        return r;
    return check_stage(policy, index, json_object_get(object, "min_settled") != NULL, where, error);
}

static int read_stages(const json_t *value, struct policy *policy, struct error *error)
{
    const json_t *list = NULL;
    int r = json_may(value, "policy", "stages", JSON_ARRAY, &list, error);
    if (r < 0)
        return r;
    size_t count = list ? json_array_size(list) : 1;
    if (count < 1 || count > STAGES_MAX)
        return error_set(error, -EINVAL, "policy.stages has %zu stages: expected 1 to %d", count,
                         STAGES_MAX);
    policy->stages = xcalloc(count, sizeof *policy->stages);
    policy->stage_count = count;
    if (!list) {
        policy->stages[0].name = xstrdup("all");
        policy->stages[0].share = 1;
        return 0;
    }
    for (size_t i = 0; i < count; i++)
        if ((r = read_stage(json_array_get(list, i), policy, i, error)) < 0)
            return r;
    return 0;
}

static int read_tolerance(const json_t *value, struct policy *policy, struct error *error)
{
    static const char *const known[] = {"ratio", "floor", "cap", NULL};
    static const char where[] = "policy.tolerance";
    const json_t *object = NULL;
    int r = json_may(value, "policy", "tolerance", JSON_OBJECT, &object, error);
    if (r < 0)
        return r;
    if (object &&
        ((r = json_only(object, where, known, error)) < 0 ||
         (r = json_may_number(object, where, "ratio", 1, 1000, &policy->tolerance_ratio, error)) <
             0 ||
         (r = read_quantity(object, where, "floor", parse_share, 1e-9, 0.599,
                            "a rate from 1e-9 to 0.599", &policy->tolerance_floor, error)) < 0 ||
         (r = read_quantity(object, where, "cap", parse_share, 1e-9, 0.599,
                            "a rate from 1e-9 to 0.599", &policy->tolerance_cap, error)) < 0))
        return r;
    if (policy->tolerance_floor > policy->tolerance_cap)
        return error_set(error, -EINVAL,
                         "policy.tolerance.floor is %.15g: expected at most policy.tolerance.cap, "
                         "which is %.15g",
                         policy->tolerance_floor, policy->tolerance_cap);
    return 0;
}

static int read_approvals(const json_t *value, struct policy *policy, struct error *error)
{
    static const char *const known[] = {"start", "emergency", NULL};
    const json_t *object = NULL;
    uint64_t start = policy->approvals_start, emergency = policy->approvals_emergency;
    int r = json_may(value, "policy", "approvals", JSON_OBJECT, &object, error);
    if (r < 0 || !object)
        return r;
    if ((r = json_only(object, "policy.approvals", known, error)) < 0 ||
        (r = read_count(object, "policy.approvals", "start", APPROVALS_MAX, &start, error)) < 0 ||
        (r = read_count(object, "policy.approvals", "emergency", APPROVALS_MAX, &emergency,
                        error)) < 0)
        return r;
    policy->approvals_start = (unsigned)start;
    policy->approvals_emergency = (unsigned)emergency;
    return 0;
}

static void set_defaults(struct policy *policy)
{
    *policy = (struct policy){
        .alpha = 1e-4,
        .confidence = 0.99,
        .tolerance_ratio = 1.5,
        .tolerance_floor = 1e-4,
        .tolerance_cap = 1e-2,
        .placebo_pairs = true,
        .soak = 600,
        .deadline = 900,
        .start_by = 60,
        .interrupted_for = 86400,
        .interruptions = 2,
        .on_halt_revert = true,
        .approvals_start = 1,
        .approvals_emergency = 3,
        .strata = list_copy(default_strata),
        .organisation_share = 0.01,
        .quorum = 0,
    };
}

static int read_policy(const json_t *value, struct policy *policy, struct error *error)
{
    static const char *const known[] = {"class",         "harm_budget",
                                        "alpha",         "confidence",
                                        "tolerance",     "placebo",
                                        "soak",          "deadline",
                                        "on_halt",       "stages",
                                        "approvals",     "strata",
                                        "start_by",      "interrupted_for",
                                        "interruptions", "organisation_share",
                                        "quorum",        NULL};
    static const char where[] = "policy";
    unsigned class = 0, placebo = policy->placebo_pairs, on_halt = policy->on_halt_revert;
    uint64_t interruptions = policy->interruptions;
    const json_t *needed;
    int r;

    if (value && !json_is_object(value)) {
        _cleanup_free_ char *text = json_text(value);
        return error_set(error, -EINVAL, "policy is %.80s: expected an object", text);
    }
    if ((r = json_only(value, where, known, error)) < 0 ||
        (r = json_need(value, where, "class", JSON_STRING, &needed, error)) < 0 ||
        (r = read_choice(value, where, "class", class_names, &class, error)) < 0 ||
        (r = json_need(value, where, "harm_budget", JSON_REAL, &needed, error)) < 0 ||
        (r = json_may_number(value, where, "harm_budget", 1, HARM_BUDGET_MAX, &policy->harm_budget,
                             error)) < 0 ||
        (r = json_may_number(value, where, "alpha", 1e-12, 0.5, &policy->alpha, error)) < 0 ||
        (r = read_quantity(value, where, "confidence", parse_share, 0.5, 1 - 1e-12,
                           "a share from 0.5 to less than 1", &policy->confidence, error)) < 0 ||
        (r = read_tolerance(value, policy, error)) < 0 ||
        (r = read_choice(value, where, "placebo", placebo_names, &placebo, error)) < 0 ||
        (r = read_duration(value, where, "soak", 1e-3, &policy->soak, error)) < 0 ||
        (r = read_duration(value, where, "deadline", 1e-3, &policy->deadline, error)) < 0 ||
        (r = read_duration(value, where, "start_by", 1e-3, &policy->start_by, error)) < 0 ||
        (r = read_duration(value, where, "interrupted_for", 1e-3, &policy->interrupted_for,
                           error)) < 0 ||
        (r = read_count(value, where, "interruptions", 100, &interruptions, error)) < 0 ||
        (r = read_choice(value, where, "on_halt", on_halt_names, &on_halt, error)) < 0 ||
        (r = read_quantity(value, where, "organisation_share", parse_share, 0, 1,
                           "a share such as 1% or 0.01", &policy->organisation_share, error)) < 0 ||
        (r = read_count(value, where, "quorum", 16, &policy->quorum, error)) < 0 ||
        (r = read_names(value, where, "strata", 0, STRATA_MAX, &policy->strata, error)) < 0 ||
        (r = read_approvals(value, policy, error)) < 0 ||
        (r = read_stages(value, policy, error)) < 0)
        return r;
    policy->class = (enum policy_class) class;
    policy->placebo_pairs = placebo == 1;
    policy->on_halt_revert = on_halt == 1;
    policy->interruptions = (unsigned)interruptions;

    if (policy->deadline <= policy->soak) {
        char soak[32], deadline[32];
        format_duration(policy->soak, soak, sizeof soak);
        format_duration(policy->deadline, deadline, sizeof deadline);
        return error_set(error, -EINVAL,
                         "policy.deadline is %s%s: expected more than policy.soak, which is %s, or "
                         "every device would be silent",
                         deadline, json_object_get(value, "deadline") ? "" : " (the default)",
                         soak);
    }
    return 0;
}

int policy_parse(const json_t *value, struct policy *ret, struct error *error)
{
    struct policy policy;
    set_defaults(&policy);
    int r = read_policy(value, &policy, error);
    if (r < 0) {
        policy_free(&policy);
        return r;
    }
    *ret = policy;
    return 0;
}

void policy_free(struct policy *policy)
{
    for (size_t i = 0; i < policy->stage_count; i++) {
        free(policy->stages[i].name);
        list_free(policy->stages[i].organisations);
    }
    free(policy->stages);
    list_free(policy->strata);
    *policy = (struct policy){0};
}

void policy_copy(const struct policy *policy, struct policy *ret)
{
    *ret = *policy;
    ret->strata = list_copy((const char *const *)policy->strata);
    ret->stages = xcalloc(policy->stage_count, sizeof *ret->stages);
    for (size_t i = 0; i < policy->stage_count; i++) {
        const struct policy_stage *from = &policy->stages[i];
        struct policy_stage *to = &ret->stages[i];
        *to = *from;
        to->name = xstrdup(from->name);
        if (from->organisations)
            to->organisations = list_copy((const char *const *)from->organisations);
    }
}

static json_t *names_json(char *const *names)
{
    json_t *list = json_array();
    for (; *names; names++)
        (void)json_array_append_new(list, json_string(*names));
    return list;
}

static json_t *stage_json(const struct policy_stage *stage)
{
    json_t *object = json_object();
    (void)json_object_set_new(object, "name", json_string(stage->name));
    if (stage->organisations)
        (void)json_object_set_new(object, "organisations", names_json(stage->organisations));
    (void)json_object_set_new(object, "share", json_real(stage->share));
    if (stage->devices > 0)
        (void)json_object_set_new(object, "devices", json_integer((json_int_t)stage->devices));
    (void)json_object_set_new(object, "min_settled", json_integer((json_int_t)stage->min_settled));
    (void)json_object_set_new(object, "min_time", json_real(stage->min_time));
    (void)json_object_set_new(object, "approval", json_boolean(stage->approval));
    return object;
}

json_t *policy_json(const struct policy *policy)
{
    json_t *stages = json_array();
    for (size_t i = 0; i < policy->stage_count; i++)
        (void)json_array_append_new(stages, stage_json(&policy->stages[i]));
    json_t *object = json_pack(
        "{s:s, s:f, s:f, s:f, s:{s:f, s:f, s:f}, s:s, s:f, s:f, s:f, s:f, s:I, s:s, s:o, s:{s:I, "
        "s:I},"
        " s:o, s:f, s:I}",
        "class", class_names[policy->class], "harm_budget", policy->harm_budget, "alpha",
        policy->alpha, "confidence", policy->confidence, "tolerance", "ratio",
        policy->tolerance_ratio, "floor", policy->tolerance_floor, "cap", policy->tolerance_cap,
        "placebo", placebo_names[policy->placebo_pairs], "soak", policy->soak, "deadline",
        policy->deadline, "start_by", policy->start_by, "interrupted_for", policy->interrupted_for,
        "interruptions", (json_int_t)policy->interruptions, "on_halt",
        on_halt_names[policy->on_halt_revert], "stages", stages, "approvals", "start",
        (json_int_t)policy->approvals_start, "emergency", (json_int_t)policy->approvals_emergency,
        "strata", names_json(policy->strata), "organisation_share", policy->organisation_share,
        "quorum", (json_int_t)policy->quorum);
    if (!object)
        abort(); /* out of memory, as in base/buf.h */
    return object;
}
