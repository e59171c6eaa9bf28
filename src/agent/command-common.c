#include "agent/command-common.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATUS_MAX (256 * 1024)
#define OPTIONS_MOST 8

static int usage_error(const char *usage)
{
    fprintf(stderr, "%.*s\n", (int)strcspn(usage, "\n"), usage);
    return COMMAND_USAGE;
}

static const struct command_option *find(const struct command_option *options, size_t count,
                                         const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

int command_options(int argc, char **argv, const char *usage, const struct command_option *options,
                    size_t count, const char **operand)
{
    struct option longs[OPTIONS_MOST + 2] = {0};
    char shorts[2 + 2 * OPTIONS_MOST + 1] = ":h";
    int chosen, index = 0;

    for (size_t i = 0, used = 2; i < count && i < OPTIONS_MOST; i++) {
        longs[i] = (struct option){options[i].name,
                                   options[i].text ? required_argument : no_argument, NULL, 1};
        if (options[i].name[1] == '\0') {
            shorts[used++] = options[i].name[0];
            if (options[i].text)
                shorts[used++] = ':';
        }
    }
    longs[count < OPTIONS_MOST ? count : OPTIONS_MOST] =
        (struct option){"help", no_argument, NULL, 'h'};
    optind = 0;
    opterr = 0;
    while ((chosen = getopt_long(argc, argv, shorts, longs, &index)) != -1) {
        const char letter[2] = {(char)chosen, '\0'};
        const struct command_option *option;

        if (chosen == 'h') {
            fputs(usage, stdout);
            return COMMAND_OK;
        }
        if (chosen == ':' || chosen == '?') {
            fprintf(stderr, "maeslant-agent: '%s' %s\n", argv[optind - 1],
                    chosen == ':' ? "needs a value" : "is no option of this command");
            return usage_error(usage);
        }
        option = find(options, count, chosen == 1 ? longs[index].name : letter);
        if (option && option->text)
            *option->text = optarg;
        else if (option)
            *option->flag = true;
    }
    if (operand && optind < argc)
        *operand = argv[optind++];
    if (optind < argc) {
        fprintf(stderr, "maeslant-agent: '%s' is one operand too many\n", argv[optind]);
        return usage_error(usage);
    }
    return -1;
}

int command_fail(const struct error *error)
{
    fprintf(stderr, "maeslant-agent: %s\n", error->text);
    return COMMAND_FAILED;
}

void command_print_json(const json_t *value)
{
    size_t flags = JSON_PRESERVE_ORDER | (isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT);
    _cleanup_free_ char *text = json_dumps(value, flags);

    puts(text ? text : "null");
}

const char *command_colour(const char *name)
{
    static const struct {
        const char *name, *code;
    } codes[] = {{"red", "\033[31m"}, {"green", "\033[32m"}, {"yellow", "\033[33m"},
                 {"bold", "\033[1m"}, {"dim", "\033[2m"},    {"off", "\033[0m"}};
    const char *none = getenv("NO_COLOR"), *terminal = getenv("TERM");

    if (!isatty(STDOUT_FILENO) || (none && *none) || (terminal && strcmp(terminal, "dumb") == 0))
        return "";
    for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
        if (strcmp(codes[i].name, name) == 0)
            return codes[i].code;
    return "";
}

void command_when(int64_t at_ms, char *ret, size_t size)
{
    double ago = (double)(clock_ms(CLOCK_REALTIME) - at_ms) / 1000;
    char span[32];

    format_duration(ago >= 0 ? floor(ago) : ceil(-ago), span, sizeof(span));
    (void)snprintf(ret, size, ago >= 0 ? "%s ago" : "in %s", span);
}

int command_config(const struct paths *paths, struct config *ret, struct error *error)
{
    _cleanup_free_ char *path = path_join(paths->etc, "agent.yaml");

    return config_load(path, ret, error);
}

/* A number that was given to another program since then is not our agent. */
static bool is_agent(int64_t pid)
{
    _cleanup_free_ char *path = xasprintf("/proc/%lld/comm", (long long)pid);
    _cleanup_buf_ struct buf name = BUF_INIT;

    return file_read(AT_FDCWD, path, 64, &name, NULL) == 0 && name.len > 0 &&
           strncmp(name.data, "maeslant-agent", 14) == 0;
}

json_t *command_agent_status(const struct paths *paths, bool *ret_running)
{
    _cleanup_free_ char *path = path_join(paths->run, "status.json");
    _cleanup_buf_ struct buf text = BUF_INIT;
    json_t *object = NULL;
    int64_t pid = 0;

    *ret_running = false;
    if (file_read(AT_FDCWD, path, STATUS_MAX, &text, NULL) < 0 || text.len == 0 ||
        json_parse(text.data, text.len, &object, NULL) < 0)
        return NULL;
    if (!json_is_object(object)) {
        json_decref(object);
        return NULL;
    }
    if (json_need_integer(object, "status", "pid", 1, INT32_MAX, &pid, NULL) == 0)
        *ret_running = is_agent(pid);
    return object;
}
