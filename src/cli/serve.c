#include "cli/cli.h"

#include "server/serve.h"

static const char usage[] =
    "usage: maeslant serve DIR [--listen ADDRESS:PORT] [--plain] [--user NAME] [--port-file FILE]\n"
    "\n"
    "Runs the control plane in the folder that `maeslant init` made, until SIGTERM.\n"
    "\n"
    "  --listen ADDRESS:PORT  instead of server.yaml's; port 0 takes any free one\n"
    "  --plain                plain HTTP, on a loopback address only (behind a proxy, for tests)\n"
    "  --user NAME            the user to become when root starts it\n"
    "  --port-file FILE       write the port here once requests are answered\n"
    "  --no-gate              grant every request and halt nothing: for a comparison in a lab "
    "only\n"
    "  --allow-root           stay root\n"
    "\n"
    "Examples:\n"
    "  maeslant serve /var/lib/maeslant-server --user maeslant\n"
    "  maeslant serve ./plane --plain --listen 127.0.0.1:8080\n";

int command_serve(int argc, char **argv)
{
    struct serve_options options = {0};
    const struct option_spec specs[] = {
        {"listen", 's', &options.listen},   {"plain", 'f', &options.plain},
        {"user", 's', &options.user},       {"port-file", 's', &options.port_file},
        {"no-gate", 'f', &options.no_gate}, {"allow-root", 'f', &options.allow_root},
    };
    struct error error = ERROR_INIT;
    int r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), &options.directory, 1, 1);
    if (r >= 0)
        return r;
    r = serve_run(&options, &error);
    return r < 0 ? fail(r, &error) : EXIT_OK;
}
