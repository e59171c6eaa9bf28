#include "cli/cli.h"

#include "base/clock.h"
#include "base/parse.h"

#include <inttypes.h>
#include <string.h>

static const char usage[] =
    "usage: maeslant log [--after N] [--limit N] [--follow] [--json] [connection options]\n"
    "\n"
    "What happened, newest last: releases, rollouts, openings, pauses, halts, devices, approvals.\n"
    "\n"
    "  --after N   entries with a number greater than N\n"
    "  --limit N   at most N entries (1000)\n"
    "  --follow    go on with new entries until interrupted\n" CONTROL_HELP;

static void print_entry(const json_t *entry, bool json)
{
    if (json) {
        _cleanup_free_ char *text = json_text(entry);
        puts(text);
        return;
    }
    char at[25];
    clock_format((int64_t)number_of(entry, "at"), at);
    printf("%s%s%s %-22s %s\n", colour(stdout, "dim"), at, colour(stdout, "off"),
           text_of(entry, "code"), text_of(entry, "text"));
}

static int print_from(struct control *control, uint64_t *after, uint64_t limit, struct error *error)
{
    _cleanup_free_ char *path =
        xasprintf("/v1/admin/log?after=%" PRIu64 "&limit=%" PRIu64, *after, limit);
    _cleanup_json_ json_t *answer = NULL;
    size_t i;
    json_t *entry;
    int r = control_call(control, path, NULL, &answer, error);
    if (r < 0)
        return r;
    json_array_foreach(json_object_get(answer, "entries"), i, entry)
    {
        print_entry(entry, control->json);
        *after = (uint64_t)number_of(entry, "number");
    }
    fflush(stdout);
    return 0;
}

int command_log(int argc, char **argv)
{
    struct control control = {0};
    const char *after_text = "0", *limit_text = "1000";
    bool follow = false;
    const struct option_spec specs[] = {{"after", 's', &after_text},
                                        {"limit", 's', &limit_text},
                                        {"follow", 'f', &follow},
                                        CONTROL_OPTIONS(control)};
    struct error error = ERROR_INIT;
    uint64_t after, limit;
    int r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), NULL, 0, 0);
    if (r >= 0)
        return r;
    if ((r = parse_u64(after_text, 0, INT64_MAX, &after, &error)) < 0 ||
        (r = parse_u64(limit_text, 1, 10000, &limit, &error)) < 0) {
        fail(r, &error);
        return EXIT_USAGE;
    }
    r = control_open(&control, &error);
    while (r == 0) {
        r = print_from(&control, &after, limit, &error);
        if (r < 0 || !follow)
            break;
        clock_sleep(0.5);
    }
    control_close(&control);
    return r < 0 ? fail(r, &error) : EXIT_OK;
}
