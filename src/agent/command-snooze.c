#include "agent/command-common.h"
#include "agent/command.h"
#include "agent/snooze.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"

#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

static const char usage[] =
    "usage: maeslant-agent snooze DURATION --reason TEXT [--root DIR]\n"
    "       maeslant-agent snooze --end [--root DIR]\n"
    "       maeslant-agent snooze [--root DIR]\n"
    "\n"
    "Keeps new trials away from this device for a while, at most snooze_max of agent.yaml. A "
    "trial\n"
    "that is on goes on, a halt still reverts, and a release of class emergency still comes.\n"
    "Without a duration it says what is in force.\n"
    "\n"
    "  --reason TEXT  why, for the people who look at this device\n"
    "  --end          end the snooze now\n"
    "  --root DIR     the device lies below DIR instead of /\n";

/* Who asks: the person before sudo, where there was one. */
static void asking_user(char *ret, size_t size)
{
    const char *sudo = getuid() == 0 ? getenv("SUDO_USER") : NULL;
    struct passwd entry, *found = NULL;
    char memory[4096];

    if (!sudo && getpwuid_r(getuid(), &entry, memory, sizeof(memory), &found) == 0 && found)
        sudo = found->pw_name;
    (void)snprintf(ret, size, "%s", sudo ? sudo : "unknown");
}

static int show(const struct paths *paths, const struct config *config)
{
    struct error error = ERROR_INIT;
    struct snooze snooze;
    char when[48];

    if (snooze_load(paths, config->snooze_max, clock_ms(CLOCK_REALTIME), &snooze, &error) < 0)
        return command_fail(&error);
    if (snooze.until_ms == 0) {
        puts("not snoozed");
        return COMMAND_OK;
    }
    command_when(snooze.until_ms, when, sizeof(when));
    printf("snoozed by %s, ends %s: %s\n", snooze.by, when, snooze.reason);
    return COMMAND_OK;
}

static int begin(const struct paths *paths, const struct config *config, const char *duration,
                 const char *reason)
{
    struct error error = ERROR_INIT;
    double seconds;
    char user[65], span[32];
    int r = parse_duration(duration, &seconds, &error);

    asking_user(user, sizeof(user));
    if (r == 0)
        r = snooze_set(paths, seconds, config->snooze_max, reason, user, clock_ms(CLOCK_REALTIME),
                       &error);
    if (r < 0)
        return command_fail(&error);
    format_duration(seconds, span, sizeof(span));
    printf("snoozed for %s; end it sooner with maeslant-agent snooze --end\n", span);
    return COMMAND_OK;
}

int command_snooze(int argc, char **argv)
{
    const char *root = "/", *reason = NULL, *duration = NULL;
    bool end = false;
    const struct command_option options[] = {
        {"root", &root, NULL}, {"reason", &reason, NULL}, {"end", NULL, &end}};
    struct error error = ERROR_INIT;
    struct config config = {0};
    struct paths paths;
    int r = command_options(argc, argv, usage, options, ARRAY_SIZE(options), &duration);

    if (r >= 0)
        return r;
    if (end ? duration || reason : !duration != !reason) {
        fprintf(stderr, "maeslant-agent: expected a duration and --reason TEXT, or --end\n");
        return COMMAND_USAGE;
    }
    r = end || duration ? paths_open(root, &paths, &error) : paths_find(root, &paths, &error);
    if (r < 0)
        return command_fail(&error);
    if (command_config(&paths, &config, &error) < 0)
        r = command_fail(&error);
    else if (!end && !duration)
        r = show(&paths, &config);
    else if (!end)
        r = begin(&paths, &config, duration, reason);
    else if (snooze_end(&paths, &error) < 0)
        r = command_fail(&error);
    else
        r = puts("not snoozed any more") < 0 ? COMMAND_FAILED : COMMAND_OK;
    config_free(&config);
    paths_free(&paths);
    return r;
}
