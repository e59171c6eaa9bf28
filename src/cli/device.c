#include "cli/cli.h"

#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static const struct command commands[] = {
    {"enroll", "make a token with which devices enrol", command_device_enroll},
    {"list", "the devices", command_device_list},
    {"show", "one device", command_device_show},
    {"retire", "end a device", command_device_retire},
};

int command_device(int argc, char **argv)
{
    return dispatch("maeslant device", commands, ARRAY_SIZE(commands), argc, argv);
}

static const char enroll_usage[] =
    "usage: maeslant device enroll --organisation NAME [--ring NAME] [--uses N] [--expires TIME] "
    "[--output FILE]\n"
    "\n"
    "Makes an enrolment token. On the device: maeslant-agent enroll --token-file FILE.\n"
    "\n"
    "  --organisation NAME  whose device it becomes\n"
    "  --ring NAME          its place in the organisation's own order (default)\n"
    "  --uses N             devices that may use it (1); more for images and device management\n"
    "  --expires TIME       how long it is good (24h)\n"
    "  --output FILE        write the token here, mode 0600, instead of printing it\n" CONTROL_HELP
    "\n"
    "Example:\n"
    "  maeslant device enroll --organisation acme --uses 24 --output token --dir ./plane\n";

struct enrolment {
    const char *organisation, *ring, *uses, *expires, *output;
};

static int make_token(const struct enrolment *enrolment, struct control *control, json_t **ret,
                      struct error *error)
{
    uint64_t uses;
    double seconds;
    int r = parse_u64(enrolment->uses, 1, 10000000, &uses, error);
    if (r < 0)
        return error_prefix(error, r, "--uses");
    if ((r = parse_duration(enrolment->expires, &seconds, error)) < 0)
        return error_prefix(error, r, "--expires");
    if ((r = control_open(control, error)) < 0)
        return r;
    _cleanup_json_ json_t *body = json_pack(
        "{s:s, s:s*, s:I, s:I}", "organisation", enrolment->organisation, "ring", enrolment->ring,
        "uses", (json_int_t)uses, "expires_ms", (json_int_t)(seconds * 1000));
    if ((r = control_call(control, "/v1/admin/tokens", body, ret, error)) < 0 || !enrolment->output)
        return r;
    _cleanup_free_ char *text = xasprintf("%s\n", text_of(*ret, "token"));
    return file_write(AT_FDCWD, enrolment->output, text, strlen(text), 0600, error);
}

int command_device_enroll(int argc, char **argv)
{
    struct enrolment enrolment = {.uses = "1", .expires = "24h"};
    struct control control = {0};
    const struct option_spec specs[] = {
        {"organisation", 's', &enrolment.organisation},
        {"ring", 's', &enrolment.ring},
        {"uses", 's', &enrolment.uses},
        {"expires", 's', &enrolment.expires},
        {"output", 's', &enrolment.output},
        CONTROL_OPTIONS(control),
    };
    struct error error = ERROR_INIT;
    _cleanup_json_ json_t *answer = NULL;
    int r = options_parse(argc, argv, enroll_usage, specs, ARRAY_SIZE(specs), NULL, 0, 0);
    if (r >= 0)
        return r;
    if (!enrolment.organisation) {
        fputs("maeslant: --organisation is needed; see --help\n", stderr);
        return EXIT_USAGE;
    }
    r = make_token(&enrolment, &control, &answer, &error);
    control_close(&control);
    if (r < 0)
        return fail(r, &error);
    if (control.json)
        print_json(answer);
    else if (enrolment.output)
        printf("wrote %s: %s device%s of %s, for %s\n", enrolment.output, enrolment.uses,
               strcmp(enrolment.uses, "1") == 0 ? "" : "s", enrolment.organisation,
               enrolment.expires);
    else
        puts(text_of(answer, "token"));
    return EXIT_OK;
}

static const char list_usage[] = "usage: maeslant device list [--json] [connection options]\n"
                                 "\n"
                                 "The enrolled devices.\n" CONTROL_HELP;

static void print_devices(const json_t *answer)
{
    struct grid grid = {.columns = 6};
    size_t i;
    json_t *device;
    grid_add(&grid,
             (const char *[]){"DEVICE", "ORGANISATION", "RING", "GROUP", "STANDING", "SEEN"});
    json_array_foreach(json_object_get(answer, "devices"), i, device)
    {
        char seen[40];
        _cleanup_free_ char *id = xstrndup(text_of(device, "device"), 12);
        when_text(number_of(device, "seen_at"), seen, sizeof seen);
        grid_add(&grid,
                 (const char *[]){id, text_of(device, "organisation"), text_of(device, "ring"),
                                  text_of(device, "group"), text_of(device, "standing"), seen});
    }
    grid_print(&grid, stdout);
    grid_free(&grid);
}

int command_device_list(int argc, char **argv)
{
    struct control control = {0};
    _cleanup_json_ json_t *answer = NULL;
    int r = control_list(argc, argv, list_usage, "/v1/admin/devices", &control, &answer);
    if (r < 0 && !control.json)
        print_devices(answer);
    return r < 0 ? EXIT_OK : r;
}

static const char show_usage[] =
    "usage: maeslant device show DEVICE [--json] [connection options]\n"
    "\n"
    "DEVICE is the device's id, or the first digits of it if no other starts so.\n" CONTROL_HELP;

int command_device_show(int argc, char **argv)
{
    struct control control = {0};
    _cleanup_json_ json_t *answer = NULL;
    const char *key;
    json_t *value;
    int r = control_show(argc, argv, show_usage, "device", &control, &answer);
    if (r >= 0 || control.json)
        return r < 0 ? EXIT_OK : r;
    json_object_foreach(answer, key, value)
    {
        _cleanup_free_ char *text =
            json_is_string(value) ? xstrdup(json_string_value(value)) : json_text(value);
        printf("%-14s %s\n", key, text);
    }
    return EXIT_OK;
}

static const char retire_usage[] =
    "usage: maeslant device retire DEVICE --reason TEXT [connection options]\n"
    "\n"
    "Ends a device: nothing that it signs is taken any more. For the machine to go on as a new\n"
    "device, remove device.key there and enrol it with a new token.\n" CONTROL_HELP;

int command_device_retire(int argc, char **argv)
{
    struct control control = {0};
    const char *operand, *reason = NULL;
    const struct option_spec specs[] = {{"reason", 's', &reason}, CONTROL_OPTIONS(control)};
    struct error error = ERROR_INIT;
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_free_ char *id = NULL;
    int r = options_parse(argc, argv, retire_usage, specs, ARRAY_SIZE(specs), &operand, 1, 1);
    if (r >= 0)
        return r;
    if (!reason) {
        fputs("maeslant: --reason is needed: it goes on the record\n", stderr);
        return EXIT_USAGE;
    }
    if ((r = control_open(&control, &error)) == 0 &&
        (r = control_resolve(&control, "device", operand, &id, &error)) == 0) {
        _cleanup_free_ char *path = xasprintf("/v1/admin/devices/%s/retire", id);
        _cleanup_json_ json_t *body = json_pack("{s:s}", "reason", reason);
        r = control_call(&control, path, body, &answer, &error);
    }
    control_close(&control);
    if (r < 0)
        return fail(r, &error);
    if (control.json)
        print_json(answer);
    else
        printf("retired %s\n", id);
    return EXIT_OK;
}
