#include "agent/command.h"
#include "base/buf.h"
#include "base/log.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", "the agent itself", command_run},
    {"enroll", "makes the device's key and gets its certificate", command_enroll},
    {"status", "what runs here, where it stands, and why", command_status},
    {"doctor", "looks for what is wrong, and says the way out", command_doctor},
    {"snooze", "keeps new trials away for a while", command_snooze},
    {"remove", "gives a product back to whom it came from", command_remove},
    {"support-bundle", "collects what support needs, without secrets", command_support_bundle},
};

static void usage(FILE *out)
{
    fputs("usage: maeslant-agent COMMAND [--help]\n\n", out);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        fprintf(out, "  %-15s %s\n", commands[i].name, commands[i].summary);
    fputs("  version         says which one this is\n", out);
}

int main(int argc, char **argv)
{
    if (sodium_init() < 0) {
        fputs("maeslant-agent: the cryptographic library does not start\n", stderr);
        return 1;
    }
    log_init("maeslant-agent", getenv("MAESLANT_DEBUG") ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO);
    for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(commands); i++)
        if (strcmp(commands[i].name, argv[1]) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (argc > 1 && (strcmp(argv[1], "version") == 0 || strcmp(argv[1], "--version") == 0)) {
        puts("maeslant-agent " MAESLANT_VERSION);
        return 0;
    }
    if (argc > 1 && (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0)) {
        usage(stdout);
        return 0;
    }
    if (argc > 1)
        fprintf(stderr, "maeslant-agent: there is no command \"%s\"\n", argv[1]);
    usage(stderr);
    return 2;
}
