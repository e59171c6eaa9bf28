#include "scene.h"

#include <string.h>

struct scenario scene(const char *text)
{
    struct scenario scenario;
    struct error error = ERROR_INIT;
    if (scenario_parse(text, strlen(text), &scenario, &error) < 0)
        fail_msg("%s", error.text);
    return scenario;
}

const char *scene_refused(const char *text)
{
    static struct error error;
    struct scenario scenario;
    error.text[0] = '\0';
    assert_true(scenario_parse(text, strlen(text), &scenario, &error) < 0);
    return error.text;
}

struct sim_result scene_run(const char *text, enum strategy strategy, uint64_t seed)
{
    struct scenario scenario = scene(text);
    struct sim_result result;
    struct error error = ERROR_INIT;
    struct fleet fleet;
    fleet_init(&fleet, &scenario, seed);
    if (sim_run(&fleet, strategy, seed, &result, NULL, NULL, &error) < 0)
        fail_msg("%s", error.text);
    fleet_free(&fleet);
    scenario_free(&scenario);
    return result;
}
