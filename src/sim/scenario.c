#include "sim/scenario.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/parse.h"
#include "base/yaml.h"
#include "sim/scenario-fleet.h"
#include "sim/scenario-read.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEVICES_MAX 200000000
#define DAY 86400.0
#define YEAR (365 * DAY)
#define LIST_MAX 1000

const char *const strategy_names[STRATEGY_COUNT] = {
    "maeslant", "all-at-once", "percent-stages", "canary-threshold", "rate-abort", "fixed-test",
};

static int list_of(struct scenario_reader *reader, const json_t *object, const char *where,
                   const char *key, const json_t **ret)
{
    int r = scenario_read_array(reader, object, where, key, ret);
    if (r == 0 && *ret && json_array_size(*ret) > LIST_MAX)
        return scenario_read_fail(reader, where, key, "has %zu entries: expected up to %d",
                                  json_array_size(*ret), LIST_MAX);
    return r;
}

/* The chance of noise times the largest factor must be a chance. */
static int check_noise(struct scenario_reader *reader, const struct scenario *scenario)
{
    double noise = scenario->noise_silent + scenario->noise_failed;
    if (noise > 1)
        return scenario_read_fail(reader, "fleet.noise", NULL,
                                  "has rates that add up to %.15g: expected at most 1", noise);
    for (size_t i = 0; i < scenario->drift_count; i++) {
        char where[64];
        if (noise * scenario->drifts[i].times <= 1)
            continue;
        (void)snprintf(where, sizeof where, "fleet.drift[%zu]", i);
        return scenario_read_fail(
            reader, where, "times",
            "is %.15g: times a noise of %.15g it is more than 1, and no rate is",
            scenario->drifts[i].times, noise);
    }
    return 0;
}

static int read_noise(struct scenario_reader *reader, const json_t *fleet,
                      struct scenario *scenario)
{
    static const char *const known[] = {"silent", "failed", NULL};
    const json_t *noise = json_object_get(fleet, "noise");
    int r;
    if (!noise)
        return 0;
    if ((r = scenario_read_object(reader, noise, "fleet.noise", known)) < 0 ||
        (r = scenario_read_share(reader, noise, "fleet.noise", "silent", 0,
                                 &scenario->noise_silent)) < 0 ||
        (r = scenario_read_share(reader, noise, "fleet.noise", "failed", 0,
                                 &scenario->noise_failed)) < 0)
        return r;
    return 0;
}

static int read_drift(struct scenario_reader *reader, const json_t *fleet,
                      struct scenario *scenario)
{
    static const char *const known[] = {"from", "to", "times", NULL};
    const json_t *list, *ignored;
    int r = list_of(reader, fleet, "fleet", "drift", &list);
    if (r < 0 || !list)
        return r;
    scenario->drifts = xcalloc(json_array_size(list) + 1, sizeof *scenario->drifts);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct scenario_drift *drift = &scenario->drifts[scenario->drift_count++];
        const json_t *object = json_array_get(list, i);
        char where[64];
        (void)snprintf(where, sizeof where, "fleet.drift[%zu]", i);
        if ((r = scenario_read_object(reader, object, where, known)) < 0 ||
            (r = scenario_read_member(reader, object, where, "from", &ignored)) < 0 ||
            (r = scenario_read_member(reader, object, where, "to", &ignored)) < 0 ||
            (r = scenario_read_member(reader, object, where, "times", &ignored)) < 0 ||
            (r = scenario_read_duration(reader, object, where, "from", 0, DAY, &drift->from)) < 0 ||
            (r = scenario_read_duration(reader, object, where, "to", 0, DAY, &drift->to)) < 0 ||
            (r = scenario_read_number(reader, object, where, "times", 0, 1e6, &drift->times)) < 0)
            return r;
        if (drift->to <= drift->from)
            return scenario_read_fail(reader, where, "to",
                                      "is not after from: expected a later hour of the same day");
    }
    return 0;
}

static int read_outages(struct scenario_reader *reader, const json_t *fleet,
                        struct scenario *scenario)
{
    static const char *const known[] = {"at", "for", "share", "where", NULL};
    const json_t *list, *ignored;
    int r = list_of(reader, fleet, "fleet", "outages", &list);
    if (r < 0 || !list)
        return r;
    scenario->outages = xcalloc(json_array_size(list) + 1, sizeof *scenario->outages);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct scenario_outage *outage = &scenario->outages[scenario->outage_count++];
        const json_t *object = json_array_get(list, i);
        char where[64];
        (void)snprintf(where, sizeof where, "fleet.outages[%zu]", i);
        outage->share = 1;
        if ((r = scenario_read_object(reader, object, where, known)) < 0 ||
            (r = scenario_read_member(reader, object, where, "at", &ignored)) < 0 ||
            (r = scenario_read_member(reader, object, where, "for", &ignored)) < 0 ||
            (r = scenario_read_duration(reader, object, where, "at", 0, YEAR, &outage->at)) < 0 ||
            (r = scenario_read_duration(reader, object, where, "for", 0, YEAR, &outage->length)) <
                0 ||
            (r = scenario_read_share(reader, object, where, "share", 0, &outage->share)) < 0 ||
            (r = read_where(reader, object, where, "where", scenario, &outage->where)) < 0)
            return r;
    }
    return 0;
}

static int read_wake(struct scenario_reader *reader, const json_t *fleet, struct scenario *scenario)
{
    static const char *const known[] = {"from", "to", NULL};
    const json_t *wake = json_object_get(fleet, "wake");
    int r;
    scenario->wake_to = DAY;
    if (!wake)
        return 0;
    if ((r = scenario_read_object(reader, wake, "fleet.wake", known)) < 0 ||
        (r = scenario_read_duration(reader, wake, "fleet.wake", "from", 0, YEAR,
                                    &scenario->wake_from)) < 0 ||
        (r = scenario_read_duration(reader, wake, "fleet.wake", "to", 0, YEAR,
                                    &scenario->wake_to)) < 0)
        return r;
    if (scenario->wake_to < scenario->wake_from)
        return scenario_read_fail(reader, "fleet.wake", "to",
                                  "is before from: expected a later time");
    return 0;
}

static int read_fleet(struct scenario_reader *reader, const json_t *root, struct scenario *scenario)
{
    static const char *const known[] = {
        "devices", "organisations", "attributes", "poll",    "online",
        "wake",    "noise",         "drift",      "outages", NULL};
    const json_t *fleet, *ignored;
    uint64_t devices = 0, organisations = 1;
    int r;
    if ((r = scenario_read_member(reader, root, "", "fleet", &fleet)) < 0 ||
        (r = scenario_read_object(reader, fleet, "fleet", known)) < 0 ||
        (r = scenario_read_member(reader, fleet, "fleet", "devices", &ignored)) < 0 ||
        (r = scenario_read_count(reader, fleet, "fleet", "devices", 1, DEVICES_MAX, &devices)) <
            0 ||
        (r = scenario_read_count(reader, fleet, "fleet", "organisations", 1, devices,
                                 &organisations)) < 0)
        return r;
    scenario->devices = (uint32_t)devices;
    scenario->organisations = (uint32_t)organisations;
    scenario->poll = 300;
    scenario->online = 1;
    if ((r = read_attributes(reader, fleet, scenario)) < 0 ||
        (r = scenario_read_duration(reader, fleet, "fleet", "poll", 1, DAY, &scenario->poll)) < 0 ||
        (r = scenario_read_share(reader, fleet, "fleet", "online", 0, &scenario->online)) < 0 ||
        (r = read_wake(reader, fleet, scenario)) < 0 ||
        (r = read_noise(reader, fleet, scenario)) < 0 ||
        (r = read_drift(reader, fleet, scenario)) < 0 ||
        (r = read_outages(reader, fleet, scenario)) < 0)
        return r;
    return check_noise(reader, scenario);
}

static int read_harms(struct scenario_reader *reader, const json_t *release,
                      struct scenario *scenario)
{
    static const char *const known[] = {"where", "probability", "shows", "after", "recovers", NULL};
    static const char *const shows[] = {"silent",    "failed",  "interrupted",
                                        "regressed", "healthy", NULL};
    const json_t *list;
    int r = list_of(reader, release, "release", "harms", &list);
    if (r < 0 || !list)
        return r;
    scenario->harms = xcalloc(json_array_size(list) + 1, sizeof *scenario->harms);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct scenario_harm *harm = &scenario->harms[scenario->harm_count++];
        const json_t *object = json_array_get(list, i);
        unsigned choice = SHOWS_FAILED;
        char where[64];
        (void)snprintf(where, sizeof where, "release.harms[%zu]", i);
        harm->probability = 1;
        if ((r = scenario_read_object(reader, object, where, known)) < 0 ||
            (r = scenario_read_share(reader, object, where, "probability", 0, &harm->probability)) <
                0 ||
            (r = scenario_read_choice(reader, object, where, "shows", shows, &choice)) < 0 ||
            (r = scenario_read_duration(reader, object, where, "after", 0, YEAR, &harm->after)) <
                0 ||
            (r = scenario_read_bool(reader, object, where, "recovers", &harm->recovers)) < 0 ||
            (r = read_where(reader, object, where, "where", scenario, &harm->where)) < 0)
            return r;
        harm->shows = (enum scenario_shows)choice;
    }
    return 0;
}

/* policy_parse names the member at the start of its sentence; it is one of `release` here. */
static int read_policy(struct scenario_reader *reader, const json_t *release,
                       struct scenario *scenario)
{
    const json_t *policy;
    struct error error = ERROR_INIT;
    int r = scenario_read_member(reader, release, "release", "policy", &policy);
    if (r < 0)
        return r;
    r = policy_parse(policy, &scenario->policy, &error);
    if (r == 0)
        return 0;
    size_t len = strcspn(error.text, " :");
    int extra = 0;
    const char *unknown = error.text[len] == ':' ? strchr(error.text + len, '"') : NULL;
    if (unknown && strstr(unknown, "is not known here"))
        extra = (int)strcspn(unknown + 1, "\"");
    (void)snprintf(reader->path, sizeof reader->path, "release.%.*s%s%.*s", (int)len, error.text,
                   extra ? "." : "", extra, extra ? unknown + 1 : "");
    return error_set(reader->error, -EINVAL, "release.%s", error.text);
}

static int read_release(struct scenario_reader *reader, const json_t *root,
                        struct scenario *scenario)
{
    static const char *const known[] = {"harms", "policy", NULL};
    const json_t *release;
    int r;
    if ((r = scenario_read_member(reader, root, "", "release", &release)) < 0 ||
        (r = scenario_read_object(reader, release, "release", known)) < 0 ||
        (r = read_harms(reader, release, scenario)) < 0)
        return r;
    return read_policy(reader, release, scenario);
}

static int read_liars(struct scenario_reader *reader, const json_t *root, struct scenario *scenario)
{
    static const char *const known[] = {"organisation", "says", "share", NULL};
    static const char *const says[] = {"failed", "healthy", "silent", NULL};
    const json_t *list, *member;
    int r = list_of(reader, root, "", "liars", &list);
    if (r < 0 || !list)
        return r;
    scenario->liars = xcalloc(json_array_size(list) + 1, sizeof *scenario->liars);
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct scenario_liar *liar = &scenario->liars[scenario->liar_count++];
        const json_t *object = json_array_get(list, i);
        unsigned choice = 0;
        char where[64];
        (void)snprintf(where, sizeof where, "liars[%zu]", i);
        liar->share = 1;
        if ((r = scenario_read_object(reader, object, where, known)) < 0 ||
            (r = scenario_read_member(reader, object, where, "says", &member)) < 0 ||
            (r = scenario_read_choice(reader, object, where, "says", says, &choice)) < 0 ||
            (r = scenario_read_share(reader, object, where, "share", 0, &liar->share)) < 0 ||
            (r = scenario_read_member(reader, object, where, "organisation", &member)) < 0 ||
            (r = read_organisation(reader, member, where, "organisation", scenario,
                                   &liar->organisation)) < 0)
            return r;
        liar->says = (enum scenario_says)choice;
    }
    return 0;
}

static int read_compare(struct scenario_reader *reader, const json_t *root,
                        struct scenario *scenario)
{
    const json_t *list;
    int r = list_of(reader, root, "", "compare", &list);
    if (r < 0 || !list)
        return r;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));
        unsigned found = STRATEGY_ALL_AT_ONCE;
        char where[64];
        while (found < STRATEGY_COUNT && (!name || strcmp(strategy_names[found], name) != 0))
            found++;
        if (found < STRATEGY_COUNT) {
            scenario->compare[found] = true;
            continue;
        }
        _cleanup_buf_ struct buf known = BUF_INIT;
        for (unsigned j = STRATEGY_ALL_AT_ONCE; j < STRATEGY_COUNT; j++)
            buf_addf(&known, "%s%s", j > STRATEGY_ALL_AT_ONCE ? ", " : "", strategy_names[j]);
        _cleanup_free_ char *text = json_text(json_array_get(list, i));
        (void)snprintf(where, sizeof where, "compare[%zu]", i);
        return scenario_read_fail(reader, where, NULL, "is %.64s: expected one of %s", text,
                                  known.data);
    }
    return 0;
}

static int read_root(struct scenario_reader *reader, const json_t *root, struct scenario *scenario)
{
    static const char *const known[] = {"fleet", "release", "liars", "compare", NULL};
    int r;
    if ((r = scenario_read_object(reader, root, "", known)) < 0 ||
        (r = read_fleet(reader, root, scenario)) < 0 ||
        (r = read_release(reader, root, scenario)) < 0 ||
        (r = read_liars(reader, root, scenario)) < 0)
        return r;
    return read_compare(reader, root, scenario);
}

/* Puts the place before the sentence: the member's own, or that of the nearest around it. */
static int add_place(const char *text, size_t len, const struct scenario_reader *reader)
{
    char path[sizeof reader->path];
    unsigned line = 0, column = 0;
    memcpy(path, reader->path, sizeof path);
    for (;;) {
        yaml_locate(text, len, path, &line, &column);
        char *dot = strrchr(path, '.');
        if (line > 0 || path[0] == '\0')
            break;
        if (dot)
            *dot = '\0';
        else
            path[0] = '\0';
    }
    if (line == 0)
        return -EINVAL;
    return error_prefix(reader->error, -EINVAL, "line %u, column %u", line, column);
}

int scenario_parse(const char *text, size_t len, struct scenario *ret, struct error *error)
{
    struct error own = ERROR_INIT;
    struct scenario_reader reader = {.error = error ? error : &own};
    _cleanup_json_ json_t *root = NULL;
    struct scenario scenario = {0};
    int r = yaml_parse(text, len, &root, reader.error);
    if (r < 0)
        return r;
    r = read_root(&reader, root, &scenario);
    if (r < 0) {
        scenario_free(&scenario);
        return add_place(text, len, &reader);
    }
    *ret = scenario;
    return 0;
}

void scenario_free(struct scenario *scenario)
{
    attributes_free(scenario);
    for (size_t i = 0; i < scenario->outage_count; i++)
        where_free(&scenario->outages[i].where);
    for (size_t i = 0; i < scenario->harm_count; i++)
        where_free(&scenario->harms[i].where);
    free(scenario->drifts);
    free(scenario->outages);
    free(scenario->harms);
    free(scenario->liars);
    policy_free(&scenario->policy);
    *scenario = (struct scenario){0};
}

bool scenario_is_harmful(const struct scenario *scenario)
{
    for (size_t i = 0; i < scenario->harm_count; i++)
        if (scenario->harms[i].probability > 0)
            return true;
    return false;
}
