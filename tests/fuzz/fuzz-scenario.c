#include "fuzz.h"

#include "sim/scenario.h"

/* What is read has nothing that the simulator has to doubt; what is refused says why. */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct scenario scenario;
    struct error error = ERROR_INIT;
    if (scenario_parse((const char *)data, size, &scenario, &error) < 0) {
        must(error.text[0] != '\0');
        return 0;
    }
    must(scenario.devices >= 1 && scenario.organisations <= scenario.devices);
    scenario_free(&scenario);
    return 0;
}
