#include "cli/cli.h"

#include "base/encode.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/yaml.h"
#include "cli/rollout.h"
#include "rollout/policy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define POLICY_MAX (256 * 1024)

static const struct command commands[] = {
    {"start", "let a release out", command_rollout_start},
    {"status", "one rollout's figures", command_rollout_status},
    {"watch", "the same, live", command_rollout_watch},
    {"explain", "why it did what it did, in plain English", command_rollout_explain},
    {"pause", "give no new permits; nothing reverts", command_rollout_act},
    {"resume", "end a pause", command_rollout_act},
    {"halt", "stop for good: trials revert at once", command_rollout_act},
    {"approve", "let a stage open that waits for a person", command_rollout_act},
    {"hold", "an organisation's own stop", command_rollout_act},
    {"events", "what was decided on, as maeslant replay reads it", command_rollout_events},
    {"list", "the rollouts, newest first", command_rollout_list},
};

int command_rollout(int argc, char **argv)
{
    return dispatch("maeslant rollout", commands, ARRAY_SIZE(commands), argc, argv);
}

int rollout_get(struct control *control, const char *name, json_t **ret, struct error *error)
{
    if (!is_name(name))
        return error_set(error, -EINVAL, "'%s' is no name of a rollout; see maeslant rollout list",
                         name);
    _cleanup_free_ char *path = xasprintf("/v1/admin/rollouts/%s", name);
    return control_call(control, path, NULL, ret, error);
}

static const char start_usage[] =
    "usage: maeslant rollout start RELEASE [--policy FILE] [--name NAME] [--supersede]\n"
    "       [connection options]\n"
    "\n"
    "Starts to let a published release out, stage by stage. The policy is the manifest's unless\n"
    "--policy gives another: maeslant-policy(5), YAML with or without the word `policy:`.\n"
    "\n"
    "  --policy FILE  the rollout's policy\n"
    "  --name NAME    its name (product and sequence, and a number when taken)\n"
    "  --by NAME      who starts it (admin)\n"
    "  --supersede    pauses a rollout of the same channel that is not done, for "
    "good\n" CONTROL_HELP "\n"
    "Example:\n"
    "  maeslant rollout start 4f2a91 --policy policy.yaml --dir ./plane\n";

static int read_policy(const char *path, json_t **ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    json_t *value = NULL;
    struct policy policy;
    int r;
    if ((r = file_read(AT_FDCWD, path, POLICY_MAX, &text, error)) < 0)
        return r;
    if ((r = yaml_parse(text.data ? text.data : "", text.len, &value, error)) < 0)
        return error_prefix(error, r, "%s", path);
    json_t *inner = json_object_get(value, "policy");
    if (inner && json_object_size(value) == 1) {
        json_incref(inner);
        json_decref(value);
        value = inner;
    }
    if ((r = policy_parse(value, &policy, error)) < 0) {
        json_decref(value);
        return error_prefix(error, r, "%s", path);
    }
    policy_free(&policy);
    *ret = value;
    return 0;
}

int command_rollout_start(int argc, char **argv)
{
    struct control control = {0};
    const char *operand, *policy_path = NULL, *name = NULL, *by = NULL;
    bool supersede = false;
    const struct option_spec specs[] = {{"policy", 's', &policy_path},
                                        {"name", 's', &name},
                                        {"by", 's', &by},
                                        {"supersede", 'f', &supersede},
                                        CONTROL_OPTIONS(control)};
    struct error error = ERROR_INIT;
    _cleanup_json_ json_t *answer = NULL, *policy = NULL;
    _cleanup_free_ char *release = NULL;
    int r = options_parse(argc, argv, start_usage, specs, ARRAY_SIZE(specs), &operand, 1, 1);
    if (r >= 0)
        return r;
    if ((!policy_path || (r = read_policy(policy_path, &policy, &error)) == 0) &&
        (r = control_open(&control, &error)) == 0 &&
        (r = control_resolve(&control, "release", operand, &release, &error)) == 0) {
        _cleanup_json_ json_t *body =
            json_pack("{s:s, s:O*, s:s*, s:s*, s:b}", "release", release, "policy", policy, "name",
                      name, "by", by, "supersede", supersede);
        r = control_call(&control, "/v1/admin/rollouts", body, &answer, &error);
    }
    control_close(&control);
    if (r < 0)
        return fail(r, &error);
    if (control.json)
        print_json(answer);
    else
        printf("started %s\nsee: maeslant rollout watch %s\n", text_of(answer, "rollout"),
               text_of(answer, "rollout"));
    return EXIT_OK;
}

static const char list_usage[] = "usage: maeslant rollout list [--json] [connection options]\n"
                                 "\n"
                                 "The rollouts, newest first.\n" CONTROL_HELP;

static void print_rollouts(const json_t *answer)
{
    struct grid grid = {.columns = 8};
    size_t i;
    json_t *rollout;
    grid_add(&grid, (const char *[]){"ROLLOUT", "STATE", "STAGE", "VERSION", "EXPOSED", "FAILED",
                                     "PROVEN HARM", "STARTED"});
    json_array_foreach(json_object_get(answer, "rollouts"), i, rollout)
    {
        char exposed[24], failed[24], proven[24], when[40];
        snprintf(exposed, sizeof exposed, "%.0f", number_of(rollout, "permits"));
        snprintf(failed, sizeof failed, "%.0f", number_of(rollout, "failed"));
        snprintf(proven, sizeof proven, "%.0f", number_of(rollout, "proven_harm"));
        when_text(number_of(rollout, "started_at"), when, sizeof when);
        grid_add(&grid, (const char *[]){text_of(rollout, "rollout"), text_of(rollout, "state"),
                                         text_of(rollout, "stage"), text_of(rollout, "version"),
                                         exposed, failed, proven, when});
    }
    grid_print(&grid, stdout);
    grid_free(&grid);
}

int command_rollout_list(int argc, char **argv)
{
    struct control control = {0};
    _cleanup_json_ json_t *answer = NULL;
    int r = control_list(argc, argv, list_usage, "/v1/admin/rollouts", &control, &answer);
    if (r < 0 && !control.json)
        print_rollouts(answer);
    return r < 0 ? EXIT_OK : r;
}

/* Fetches a rollout's view for a subcommand with one operand; an exit code, or -1 with the view. */
static int fetch_view(int argc, char **argv, const char *usage, struct control *control,
                      json_t **ret)
{
    const char *name;
    const struct option_spec specs[] = {CONTROL_OPTIONS(*control)};
    struct error error = ERROR_INIT;
    int r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), &name, 1, 1);
    if (r >= 0)
        return r;
    if ((r = control_open(control, &error)) == 0)
        r = rollout_get(control, name, ret, &error);
    control_close(control);
    return r < 0 ? fail(r, &error) : -1;
}

static const char status_usage[] =
    "usage: maeslant rollout status ROLLOUT [--json] [connection options]\n"
    "\n"
    "State, stage, window, pairs, in flight, settled, failed, proven harm and "
    "evidence.\n" CONTROL_HELP;

int command_rollout_status(int argc, char **argv)
{
    struct control control = {0};
    _cleanup_json_ json_t *view = NULL;
    int r = fetch_view(argc, argv, status_usage, &control, &view);
    if (r >= 0)
        return r;
    if (control.json) {
        print_json(view);
        return EXIT_OK;
    }
    _cleanup_buf_ struct buf text = BUF_INIT;
    rollout_render(view, &text);
    fputs(text.data, stdout);
    return EXIT_OK;
}

static const char explain_usage[] =
    "usage: maeslant rollout explain ROLLOUT [--json] [connection options]\n"
    "\n"
    "Says in plain English why the rollout did what it did, with the numbers.\n" CONTROL_HELP;

int command_rollout_explain(int argc, char **argv)
{
    struct control control = {0};
    _cleanup_json_ json_t *view = NULL;
    size_t i;
    json_t *sentence;
    int r = fetch_view(argc, argv, explain_usage, &control, &view);
    if (r >= 0)
        return r;
    const json_t *sentences = json_object_get(view, "explain");
    if (control.json) {
        print_json(sentences);
        return EXIT_OK;
    }
    json_array_foreach(sentences, i, sentence) puts(json_string_value(sentence));
    return EXIT_OK;
}

static const char act_usage[] =
    "usage: maeslant rollout pause|resume|halt|approve|hold ROLLOUT --reason TEXT [options]\n"
    "\n"
    "  --reason TEXT        goes on the record\n"
    "  --by NAME            who decides (admin)\n"
    "  --now                with halt: confirmed devices revert without spreading in time\n"
    "  --stage NAME         with approve: that stage (the next one)\n"
    "  --organisation NAME  with hold: whose stop it is\n"
    "  --lift               with hold: end it\n"
    "  --exclude NAME=VALUE with resume, after a halt: prepare a new release of the same payload\n"
    "                       that leaves these devices out; the halt stays\n"
    "  --release DIR        with --exclude: the halted release's folder\n"
    "  --output DIR         with --exclude: the new one, made; must not exist\n" CONTROL_HELP "\n"
    "Example:\n"
    "  maeslant rollout halt sensor-3 --reason 'reports of crashes' --dir ./plane\n";

int command_rollout_act(int argc, char **argv)
{
    struct control control = {0};
    const char *verb = argv[0], *name, *reason = NULL, *by = NULL, *stage = NULL,
               *organisation = NULL, *exclude = NULL, *release = NULL, *output = NULL;
    bool now = false, lift = false;
    const struct option_spec specs[] = {
        {"reason", 's', &reason},   {"by", 's', &by},
        {"now", 'f', &now},         {"stage", 's', &stage},
        {"lift", 'f', &lift},       {"organisation", 's', &organisation},
        {"exclude", 's', &exclude}, {"release", 's', &release},
        {"output", 's', &output},   CONTROL_OPTIONS(control)};
    struct error error = ERROR_INIT;
    _cleanup_json_ json_t *answer = NULL;
    int r = options_parse(argc, argv, act_usage, specs, ARRAY_SIZE(specs), &name, 1, 1);
    if (r >= 0)
        return r;
    if (exclude && strcmp(verb, "resume") == 0 && is_name(name))
        return rollout_resume_excluding(&control, name, exclude, release, output);
    if (!reason || (strcmp(verb, "hold") == 0 && !organisation)) {
        fprintf(stderr, "maeslant: --%s is needed; see --help\n",
                reason ? "organisation" : "reason");
        return EXIT_USAGE;
    }
    if (!is_name(name)) {
        error_set(&error, -EINVAL, "'%s' is no name of a rollout; see maeslant rollout list", name);
        return fail(-EINVAL, &error);
    }
    if ((r = control_open(&control, &error)) == 0) {
        _cleanup_free_ char *path = xasprintf("/v1/admin/rollouts/%s/%s", name, verb);
        _cleanup_json_ json_t *body = json_pack("{s:s, s:s*, s:s*, s:s*}", "reason", reason, "by",
                                                by, "stage", stage, "organisation", organisation);
        if (now)
            json_object_set_new(body, "now", json_true());
        if (lift)
            json_object_set_new(body, "lift", json_true());
        r = control_call(&control, path, body, &answer, &error);
    }
    control_close(&control);
    if (r < 0)
        return fail(r, &error);
    if (control.json)
        print_json(answer);
    else
        printf("%s: %s\n", name, text_of(answer, "state"));
    return EXIT_OK;
}

static const char events_usage[] = "usage: maeslant rollout events ROLLOUT [connection options]\n"
                                   "\n"
                                   "Prints the events and decisions, one JSON object a line, in "
                                   "order: everything that the rollout\n"
                                   "decided on, so that anybody can recompute it.\n" CONTROL_HELP;

int command_rollout_events(int argc, char **argv)
{
    struct control control = {0};
    const char *name;
    const struct option_spec specs[] = {CONTROL_OPTIONS(control)};
    struct error error = ERROR_INIT;
    int64_t after = 0;
    bool more = true;
    int r = options_parse(argc, argv, events_usage, specs, ARRAY_SIZE(specs), &name, 1, 1);
    if (r >= 0)
        return r;
    r = is_name(name) ? control_open(&control, &error)
                      : error_set(&error, -EINVAL, "'%s' is no name of a rollout", name);
    while (r == 0 && more) {
        _cleanup_json_ json_t *answer = NULL;
        _cleanup_free_ char *path =
            xasprintf("/v1/admin/rollouts/%s/events?after=%" PRId64 "&limit=1000", name, after);
        size_t i;
        json_t *line;
        if ((r = control_call(&control, path, NULL, &answer, &error)) < 0)
            break;
        const json_t *lines = json_object_get(answer, "events");
        more = json_array_size(lines) > 0;
        json_array_foreach(lines, i, line)
        {
            _cleanup_free_ char *text = json_text(json_object_get(line, "line"));
            puts(text);
            after = (int64_t)number_of(line, "number");
        }
    }
    control_close(&control);
    return r < 0 ? fail(r, &error) : EXIT_OK;
}
