#include "agent/bundle.h"
#include "agent/command-common.h"
#include "agent/command.h"
#include "base/buf.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: maeslant-agent support-bundle -o FILE [--log FILE] [--offline] [--root DIR]\n"
    "\n"
    "Collects what a helper needs to see into one tar.zst: the configuration without its secrets,\n"
    "journals, status, what doctor says, the last lines of the log, versions. Never keys, tokens "
    "or\n"
    "proxy passwords. Look into it before you send it: tar --zstd -xf FILE.\n"
    "\n"
    "  -o FILE      where to put it (replaced when it is there; readable by you only)\n"
    "  --log FILE   the agent's log, where it is not in the system's journal\n"
    "  --offline    leave the server alone\n"
    "  --root DIR   the device lies below DIR instead of /\n";

int command_support_bundle(int argc, char **argv)
{
    struct bundle_options wanted = {.root = "/"};
    const char *output = NULL;
    const struct command_option options[] = {{"o", &output, NULL},
                                             {"log", &wanted.log, NULL},
                                             {"offline", NULL, &wanted.offline},
                                             {"root", &wanted.root, NULL}};
    _cleanup_buf_ struct buf archive = BUF_INIT;
    struct error error = ERROR_INIT;
    int r = command_options(argc, argv, usage, options, ARRAY_SIZE(options), NULL);

    if (r >= 0)
        return r;
    if (!output) {
        fprintf(stderr, "maeslant-agent: expected -o FILE\n");
        return COMMAND_USAGE;
    }
    r = bundle_make(&wanted, &archive, &error);
    if (r == 0)
        r = file_write(AT_FDCWD, output, archive.data, archive.len, 0600, &error);
    if (r < 0)
        return command_fail(&error);
    printf("%s: %zu bytes; look into it before you send it: tar --zstd -xf %s\n", output,
           archive.len, output);
    return COMMAND_OK;
}
