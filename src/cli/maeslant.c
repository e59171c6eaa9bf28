#include "cli/cli.h"

#include "base/log.h"

#include <locale.h>
#include <sodium.h>
#include <string.h>

static const struct command commands[] = {
    {"init", "make a control plane's folder: keys, CA, tokens, configuration", command_init},
    {"serve", "run the control plane", command_serve},
    {"release", "build, sign, publish, list and show releases", command_release},
    {"rollout", "start, watch, pause, resume, halt and explain rollouts", command_rollout},
    {"replay", "recompute a rollout's decisions from its events", command_replay},
    {"device", "enrol, list, show and retire devices", command_device},
    {"log", "what happened, newest last", command_log},
    {"sim", "what would have happened: a rollout over a simulated fleet", command_sim},
};

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "C.UTF-8");
    if (sodium_init() < 0) {
        fputs("maeslant: the cryptographic library can't start\n", stderr);
        return EXIT_REFUSED;
    }
    log_init("maeslant", LOG_LEVEL_INFO);
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("maeslant " MAESLANT_VERSION);
        return EXIT_OK;
    }
    return dispatch("maeslant", commands, ARRAY_SIZE(commands), argc, argv);
}
