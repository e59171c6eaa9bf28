#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define OPTIONS_MAX 32

int dispatch(const char *prefix, const struct command *commands, size_t count, int argc,
             char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;
    for (size_t i = 0; name && i < count; i++)
        if (strcmp(commands[i].name, name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    bool help = name && (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 ||
                         strcmp(name, "help") == 0);
    FILE *out = help ? stdout : stderr;
    if (name && !help)
        fprintf(out, "%s: '%s' is no subcommand\n\n", prefix, name);
    fprintf(out, "usage: %s SUBCOMMAND …\n\n", prefix);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].summary);
    fprintf(out, "\n%s SUBCOMMAND --help says more.\n", prefix);
    return help ? EXIT_OK : EXIT_USAGE;
}

static const struct option_spec *find_spec(const struct option_spec *specs, size_t count,
                                           const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(specs[i].name, name) == 0)
            return &specs[i];
    return NULL;
}

static int usage_error(const char *usage)
{
    const char *end = strchr(usage, '\n');
    fprintf(stderr, "%.*s\n", end ? (int)(end - usage) : (int)strlen(usage), usage);
    return EXIT_USAGE;
}

int options_parse(int argc, char **argv, const char *usage, const struct option_spec *specs,
                  size_t spec_count, const char **operands, size_t min, size_t max)
{
    struct option longs[OPTIONS_MAX + 2] = {0};
    for (size_t i = 0; i < spec_count && i < OPTIONS_MAX; i++)
        longs[i] = (struct option){specs[i].name,
                                   specs[i].kind == 'f' ? no_argument : required_argument, NULL, 1};
    longs[spec_count] = (struct option){"help", no_argument, NULL, 'h'};
    optind = 0;
    opterr = 0;
    int chosen, index = 0;
    while ((chosen = getopt_long(argc, argv, ":h", longs, &index)) != -1) {
        if (chosen == 'h') {
            fputs(usage, stdout);
            return EXIT_OK;
        }
        if (chosen == ':') {
            fprintf(stderr, "maeslant: %s needs a value\n", argv[optind - 1]);
            return usage_error(usage);
        }
        if (chosen != 1) {
            fprintf(stderr, "maeslant: unknown option '%s'\n", argv[optind - 1]);
            return usage_error(usage);
        }
        const struct option_spec *spec = find_spec(specs, spec_count, longs[index].name);
        if (spec->kind == 'f') {
            *(bool *)spec->target = true;
        } else if (spec->kind == 's') {
            *(const char **)spec->target = optarg;
        } else {
            struct text_list *list = spec->target;
            if (list->count == ARRAY_SIZE(list->items)) {
                fprintf(stderr, "maeslant: --%s is given more than %zu times\n", spec->name,
                        ARRAY_SIZE(list->items));
                return EXIT_USAGE;
            }
            list->items[list->count++] = optarg;
        }
    }
    size_t count = (size_t)(argc - optind);
    if (count < min || count > max) {
        if (count < min)
            fputs("maeslant: an operand is missing\n", stderr);
        else
            fprintf(stderr, "maeslant: '%s' is one operand too many\n", argv[optind + (int)max]);
        return usage_error(usage);
    }
    for (size_t i = 0; i < count; i++)
        operands[i] = argv[optind + (int)i];
    return -1;
}

int fail(int r, const struct error *error)
{
    fprintf(stderr, "%smaeslant:%s %s\n", colour(stderr, "red"), colour(stderr, "off"),
            error->text[0] ? error->text : strerror(-r));
    switch (r) {
    case -ECONNREFUSED:
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -EPROTO:
    case -EAGAIN:
        return EXIT_UNREACHED;
    default:
        return EXIT_REFUSED;
    }
}
