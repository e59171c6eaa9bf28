#include "rig.h"

#include "base/buf.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

static void keep(void *user, const struct rollout_decision *decision)
{
    struct rig *rig = user;
    if (rig->count == rig->cap) {
        rig->cap = rig->cap ? 2 * rig->cap : 256;
        rig->decisions = xrealloc(rig->decisions, rig->cap, sizeof *rig->decisions);
    }
    rig->decisions[rig->count++] = *decision;
}

void rig_start_seed(struct rig *rig, double harm_budget, const char *members,
                    const char *organisations, const char *seed)
{
    struct policy policy;
    struct rollout_organisation list[16];
    char names[16][64];
    struct rollout_start start = {
        .rollout = "r1", .release = "release-1", .seed = seed, .organisations = list};
    _cleanup_free_ char *text = xasprintf("{\"class\":\"routine\",\"harm_budget\":%.17g%s%s}",
                                          harm_budget, *members ? "," : "", members);
    _cleanup_json_ json_t *value = NULL;

    *rig = (struct rig){0};
    if (json_parse(text, strlen(text), &value, &rig->error) < 0 ||
        policy_parse(value, &policy, &rig->error) < 0)
        fail_msg("%s: %s", text, rig->error.text);
    for (const char *p = organisations; p && *p; start.organisation_count++) {
        unsigned long devices;
        int used;
        assert_int_equal(
            sscanf(p, "%63[^=]=%lu%n", names[start.organisation_count], &devices, &used), 2);
        list[start.organisation_count].name = names[start.organisation_count];
        list[start.organisation_count].devices = devices;
        p += used + (p[used] == ',');
    }
    if (rollout_new(&policy, &start, &rig->rollout, &rig->error) < 0)
        fail_msg("%s", rig->error.text);
    policy_free(&policy);
}

void rig_start(struct rig *rig, double harm_budget, const char *members, const char *organisations)
{
    rig_start_seed(rig, harm_budget, members, organisations, RIG_SEED);
}

void rig_end(struct rig *rig)
{
    rollout_free(rig->rollout);
    free(rig->decisions);
    free(rig->events);
    *rig = (struct rig){0};
}

uint32_t rig_devices(struct rig *rig, uint32_t count, const char *organisation,
                     const char *attributes, const char *group)
{
    struct rollout_attribute list[8];
    size_t attribute_count = 0;
    uint32_t first = 0;
    _cleanup_free_ char *text = xstrdup(attributes ? attributes : "");
    for (char *save, *part = strtok_r(text, ",", &save); part; part = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(part, '=');
        assert_non_null(equals);
        *equals = '\0';
        list[attribute_count++] = (struct rollout_attribute){part, equals + 1};
    }
    for (uint32_t i = 0; i < count; i++) {
        char id[64];
        (void)snprintf(id, sizeof id, "%s-%s-%u", organisation, attributes ? attributes : "", i);
        if (count == 1)
            (void)snprintf(id, sizeof id, "%s-single-%u", organisation, rig->serial++);
        uint32_t number = rollout_device_add(
            rig->rollout, &(struct rollout_device){.id = id,
                                                   .organisation = organisation,
                                                   .group = group,
                                                   .attributes = list,
                                                   .attribute_count = attribute_count});
        if (i == 0)
            first = number;
    }
    return first;
}

int rig_event(struct rig *rig, const struct rollout_event *event)
{
    struct rollout_event copy = *event;
    if (copy.t == 0)
        copy.t = rig->t;
    rig->mark = rig->count;
    int r = rollout_apply(rig->rollout, &copy, keep, rig, &rig->error);
    if (r == 0 || r == -ETIME) {
        rig->t = copy.t;
        if (rig->event_count == rig->event_cap) {
            rig->event_cap = rig->event_cap ? 2 * rig->event_cap : 256;
            rig->events = xrealloc(rig->events, rig->event_cap, sizeof *rig->events);
        }
        rig->events[rig->event_count++] = copy;
    }
    return r;
}

const struct rollout_decision *rig_begin(struct rig *rig, uint32_t device)
{
    assert_int_equal(rig_event(rig, &(struct rollout_event){.type = EVENT_BEGIN, .device = device}),
                     0);
    for (size_t i = rig->count; i-- > rig->mark;) {
        enum rollout_decision_type type = rig->decisions[i].type;
        if (type == DECISION_PERMIT || type == DECISION_PLACEBO || type == DECISION_WAIT ||
            type == DECISION_NO) {
            assert_int_equal(rig->decisions[i].device, device);
            return &rig->decisions[i];
        }
    }
    fail_msg("a begin was not answered");
    return NULL;
}

int rig_outcome(struct rig *rig, uint32_t device, enum rollout_outcome outcome)
{
    return rig_event(
        rig, &(struct rollout_event){.type = EVENT_OUTCOME, .device = device, .outcome = outcome});
}

void rig_tick(struct rig *rig, double t)
{
    assert_int_equal(rig_event(rig, &(struct rollout_event){.t = t, .type = EVENT_TICK}), 0);
}

void rig_person(struct rig *rig, enum rollout_event_type type, const char *by,
                const char *organisation, const char *stage)
{
    assert_int_equal(rig_event(rig, &(struct rollout_event){.type = type,
                                                            .by = by,
                                                            .reason = "a test",
                                                            .organisation = organisation,
                                                            .stage = stage}),
                     0);
}

const struct rollout_decision *rig_last(const struct rig *rig, enum rollout_decision_type type)
{
    for (size_t i = rig->count; i-- > rig->mark;)
        if (rig->decisions[i].type == type)
            return &rig->decisions[i];
    return NULL;
}

const struct rollout_decision *rig_any(const struct rig *rig, enum rollout_decision_type type)
{
    for (size_t i = rig->count; i-- > 0;)
        if (rig->decisions[i].type == type)
            return &rig->decisions[i];
    return NULL;
}

struct rollout_view rig_view(const struct rig *rig)
{
    struct rollout_view view;
    rollout_look(rig->rollout, &view);
    return view;
}

bool rig_granted(const struct rollout_decision *decision)
{
    return decision->type == DECISION_PERMIT || decision->type == DECISION_PLACEBO;
}

uint32_t rig_pair(struct rig *rig, uint32_t first, uint32_t second, uint32_t *ret_placebo)
{
    const struct rollout_decision *a = rig_begin(rig, first);
    assert_granted(a);
    enum rollout_arm arm = a->arm;
    uint64_t pair = a->pair;
    const struct rollout_decision *b = rig_begin(rig, second);
    assert_granted(b);
    assert_int_equal(b->pair, pair);
    assert_true(b->arm != arm);
    if (ret_placebo)
        *ret_placebo = arm == ARM_RELEASE ? second : first;
    return arm == ARM_RELEASE ? first : second;
}
