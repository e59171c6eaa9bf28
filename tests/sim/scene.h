/* Scenarios for tests, from text. */
#pragma once

#include "sim/runs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define SCENE_FLEET(members) "fleet:\n  devices: 20000\n  organisations: 50\n" members
#define SCENE_POLICY "  policy: {class: routine, harm_budget: 25}\n"

/* Fails the test when the text is refused; scenario_free. */
struct scenario scene(const char *text);
/* The error of a text that must be refused. */
const char *scene_refused(const char *text);
struct sim_result scene_run(const char *text, enum strategy strategy, uint64_t seed);
