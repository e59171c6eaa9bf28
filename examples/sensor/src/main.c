#include "base/buf.h"
#include "base/log.h"
#include "commands.h"

#include <stdio.h>
#include <string.h>

static const struct command {
    const char *name, *options, *usage;
    int (*run)(const struct options *options, struct error *error);
} commands[] = {
    {"run", "--content --watch --run --engine",
     "--content DIR --watch DIR --run DIR [--engine 1|2]", command_run},
    {"activate", "--slot --watch --run --engine", "--slot DIR --watch DIR --run DIR [--engine 1|2]",
     command_activate},
    {"stop", "--run", "--run DIR", command_stop},
    {"query", "--run", "--run DIR digest|status|scan PATH", command_query},
    {"provides", "--engine", "[--engine 1|2]", command_provides},
    {"validate", "", "PAYLOAD_DIR", command_validate},
    {"load", "--corpus --engine", "[--corpus DIR] [--engine 1|2] PAYLOAD_DIR SCRATCH",
     command_load},
    {"make-table", "--fields --last -o", "--fields N [--last wildcard|match] -o FILE",
     command_make_table},
};

static int usage(FILE *to, int status)
{
    fputs("usage:\n", to);
    for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
        fprintf(to, "  maeslant-sensor %s %s\n", commands[i].name, commands[i].usage);
    return status;
}

int main(int argc, char **argv)
{
    struct error error = ERROR_INIT;

    log_init("maeslant-sensor", LOG_LEVEL_INFO);
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0))
        return usage(stdout, 0);
    for (size_t i = 0; argc > 1 && i < ARRAY_SIZE(commands); i++) {
        struct options options;
        int r;

        if (strcmp(argv[1], commands[i].name) != 0)
            continue;
        r = options_parse(argc - 2, argv + 2, commands[i].options, &options, &error);
        if (r == 0)
            r = commands[i].run(&options, &error);
        if (r < 0)
            fprintf(stderr, "maeslant-sensor %s: %s\n", argv[1], error.text);
        return r < 0 ? 1 : r;
    }
    return usage(stderr, 2);
}
