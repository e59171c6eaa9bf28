#include "agent/command-common.h"
#include "agent/command.h"
#include "agent/slot.h"
#include "agent/snooze.h"
#include "agent/status-reason.h"
#include "agent/status.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: maeslant-agent status [--json] [--root DIR]\n"
    "\n"
    "Shows every product of this device: what runs, where its trial stands, and why nothing\n"
    "happens. Works without a running agent, from what lies on the disk.\n"
    "\n"
    "  --json      print one JSON object\n"
    "  --root DIR  look below DIR instead of /\n";

static void set(json_t *object, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, value) < 0)
        abort();
}

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));

    return text ? text : "";
}

static int64_t number_of(const json_t *object, const char *name)
{
    return (int64_t)json_integer_value(json_object_get(object, name));
}

/* A product as the disk has it; what cannot be read is left out, with the reason in `trouble`. */
static json_t *product_on_disk(const struct paths *paths, const struct config_product *config)
{
    _cleanup_free_ char *dir = path_join(paths->state, config->name);
    _cleanup_free_ char *journal_path = path_join(dir, "journal");
    struct error error = ERROR_INIT;
    struct manifest manifest = {0};
    struct journal journal;
    json_t *object = json_object();
    char current[65], previous[65];
    int r;

    set(object, "product", json_string(config->name));
    set(object, "channel", json_string(config->channel));
    r = slot_link(dir, "current", current, &error);
    if (r == 0) {
        set(object, "current", json_string(*current ? current : "empty"));
        if (*current && slot_manifest(dir, current, &manifest, &error) == 0) {
            set(object, "version", json_string(manifest.version));
            set(object, "sequence", json_integer((json_int_t)manifest.sequence));
        }
        manifest_free(&manifest);
    }
    if (r == 0 && slot_link(dir, "previous", previous, NULL) == 0 && *previous)
        set(object, "previous", json_string(previous));
    if (r == 0) {
        r = journal_load(journal_path, &journal, &error);
        if (r == 0)
            status_add_journal(object, &journal);
        else if (r == -ENOENT)
            set(object, "state", json_string("idle"));
    }
    if (r == -EACCES)
        (void)error_set(&error, r, "%s is closed to others: ask as root", paths->state);
    if (r < 0 && r != -ENOENT)
        set(object, "trouble", json_string(error.text));
    return object;
}

static int status_on_disk(const struct paths *paths, json_t **ret, struct error *error)
{
    struct config config;
    struct snooze snooze;
    json_t *products;
    int r = command_config(paths, &config, error);

    if (r < 0)
        return r;
    *ret = json_object();
    products = json_array();
    set(*ret, "server", json_string(config.server));
    if (snooze_load(paths, config.snooze_max, clock_ms(CLOCK_REALTIME), &snooze, NULL) == 0 &&
        snooze.until_ms > 0) {
        set(*ret, "snoozed_until", json_integer(snooze.until_ms));
        set(*ret, "snooze_reason", json_string(snooze.reason));
    }
    for (size_t i = 0; i < config.product_count; i++)
        if (json_array_append_new(products, product_on_disk(paths, &config.products[i])) < 0)
            abort();
    set(*ret, "products", products);
    config_free(&config);
    return 0;
}

/* What the state means, for one who does not know the table of states. */
static const char *state_sentence(const char *state)
{
    static const struct {
        const char *state, *sentence;
    } states[] = {
        {"idle", "nothing under way"},
        {"staged", "a release lies ready and waits for a permit"},
        {"asked", "the server was asked for a permit"},
        {"marked", "a trial is about to begin"},
        {"active", "a trial is being activated"},
        {"soaking", "a trial is on: its probes are watched"},
        {"interrupted", "a trial was interrupted and will go on"},
        {"reported", "a trial is over; its report waits for the server's answer"},
        {"confirmed", "the release was confirmed and is watched for a while"},
        {"reverting", "on the way back to the release before"},
        {"rejected", "a release failed here and will not be tried again"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(states); i++)
        if (strcmp(states[i].state, state) == 0)
            return states[i].sentence;
    return "unknown";
}

static void print_trial(const json_t *product)
{
    const char *release = text_of(product, "release");
    int64_t soak = number_of(product, "soak_ms"), soaked = number_of(product, "soaked_ms");
    char whole[32], done[32], when[48];

    printf("  state      %s: %s", text_of(product, "state"),
           state_sentence(text_of(product, "state")));
    if (number_of(product, "changed_at") > 0) {
        command_when(number_of(product, "changed_at"), when, sizeof(when));
        printf(" (since %s)", when);
    }
    printf("\n");
    if (*release && strcmp(release, text_of(product, "current")) != 0)
        printf("  candidate  %.12s…\n", release);
    if (*text_of(product, "permit"))
        printf("  permit     %s%s%s\n", text_of(product, "permit"),
               *text_of(product, "arm") ? ", arm " : "", text_of(product, "arm"));
    if (soak > 0 && strcmp(text_of(product, "state"), "soaking") == 0) {
        const long long soak_seconds = soak / 1000, soaked_seconds = soaked / 1000;

        format_duration((double)soak_seconds, whole, sizeof(whole));
        format_duration((double)soaked_seconds, done, sizeof(done));
        printf("  soak       %s of %s (%lld %%)\n", done, whole,
               (long long)(soaked >= soak ? 100 : soaked * 100 / soak));
    }
}

static void print_outcome(const json_t *product)
{
    const char *outcome = text_of(product, "outcome"), *reason = text_of(product, "reason");

    if (!*outcome)
        return;
    printf("  last       %s%s%s%s%s",
           command_colour(strcmp(outcome, "healthy") == 0 ? "green" : "red"), outcome,
           command_colour("off"), *reason ? ": " : "", *reason ? status_reason(reason) : "");
    if (*text_of(product, "probe"))
        printf("; probe %s", text_of(product, "probe"));
    if (json_object_get(product, "signal"))
        printf("; signal %lld", (long long)number_of(product, "signal"));
    else if (json_object_get(product, "exit_status"))
        printf("; exit %lld", (long long)number_of(product, "exit_status"));
    printf("\n");
}

static void print_product(const json_t *product)
{
    const char *current = text_of(product, "current"), *version = text_of(product, "version");
    const char *blocked = text_of(product, "blocked"), *trouble = text_of(product, "trouble");
    char when[48];

    printf("\n%s%s%s (%s)\n", command_colour("bold"), text_of(product, "product"),
           command_colour("off"), text_of(product, "channel"));
    if (strcmp(current, "empty") == 0)
        printf("  runs       nothing of ours yet\n");
    else if (*current)
        printf("  runs       %s%srelease %.12s…\n", version, *version ? ", " : "", current);
    if (*text_of(product, "previous"))
        printf("  way back   release %.12s…\n", text_of(product, "previous"));
    if (*text_of(product, "state"))
        print_trial(product);
    print_outcome(product);
    if (*blocked)
        printf("  waits      %s: %s\n", blocked, status_reason(blocked));
    if (number_of(product, "next_poll") > 0) {
        command_when(number_of(product, "next_poll"), when, sizeof(when));
        printf("  next poll  %s\n",
               number_of(product, "next_poll") > clock_ms(CLOCK_REALTIME) ? when : "now");
    }
    if (*trouble)
        printf("  %strouble%s    %s\n", command_colour("red"), command_colour("off"), trouble);
}

static void print_people(const json_t *status, bool running)
{
    const json_t *products = json_object_get(status, "products");
    const json_t *product;
    size_t i;
    char when[48];

    if (running)
        printf("agent      %s runs, process %lld\n", text_of(status, "agent"),
               (long long)number_of(status, "pid"));
    else
        printf("agent      %sdoes not run%s; this is what the disk says\n",
               command_colour("yellow"), command_colour("off"));
    if (*text_of(status, "device"))
        printf("device     %.12s… of %s, ring %s\n", text_of(status, "device"),
               text_of(status, "organisation"), text_of(status, "ring"));
    else if (running)
        printf("device     not enrolled: run maeslant-agent enroll\n");
    printf("server     %s\n", text_of(status, "server"));
    if (number_of(status, "reports_waiting") > 0)
        printf("reports    %lld wait for the server\n",
               (long long)number_of(status, "reports_waiting"));
    if (number_of(status, "snoozed_until") > 0) {
        command_when(number_of(status, "snoozed_until"), when, sizeof(when));
        printf("snoozed    ends %s: %s\n", when, text_of(status, "snooze_reason"));
    }
    json_array_foreach((json_t *)(uintptr_t)products, i, product) print_product(product);
}

int command_status(int argc, char **argv)
{
    const char *root = "/";
    bool json = false, running = false;
    const struct command_option options[] = {{"root", &root, NULL}, {"json", NULL, &json}};
    struct error error = ERROR_INIT;
    _cleanup_json_ json_t *status = NULL;
    struct paths paths;
    int r = command_options(argc, argv, usage, options, ARRAY_SIZE(options), NULL);

    if (r >= 0)
        return r;
    if (paths_find(root, &paths, &error) < 0)
        return command_fail(&error);
    status = command_agent_status(&paths, &running);
    if (!running) {
        /* What an agent left behind that ended is older than the disk. */
        json_decref(status);
        status = NULL;
        (void)status_on_disk(&paths, &status, &error);
    }
    paths_free(&paths);
    if (!status)
        return command_fail(&error);
    set(status, "running", json_boolean(running));
    if (json)
        command_print_json(status);
    else
        print_people(status, running);
    return COMMAND_OK;
}
