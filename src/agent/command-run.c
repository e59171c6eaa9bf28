#include "agent/command-common.h"
#include "agent/command.h"
#include "agent/run.h"
#include "base/buf.h"

static const char usage[] =
    "usage: maeslant-agent run [--root DIR] [--once] [--user NAME]\n"
    "  --root DIR   all paths are below it (default /)\n"
    "  --once       one look at the plan, and the trial that comes of it\n"
    "  --user NAME  becomes this user; for where the adapters need no root\n";

int command_run(int argc, char **argv)
{
    struct run_options run = {.root = "/"};
    const struct command_option options[] = {
        {.name = "root", .text = &run.root},
        {.name = "user", .text = &run.user},
        {.name = "once", .flag = &run.once},
    };
    struct error error = ERROR_INIT;
    int r = command_options(argc, argv, usage, options, ARRAY_SIZE(options), NULL);

    if (r >= 0)
        return r;
    return agent_run(&run, &error) < 0 ? command_fail(&error) : COMMAND_OK;
}
