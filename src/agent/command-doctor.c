#include "agent/command-common.h"
#include "agent/command.h"
#include "agent/doctor.h"
#include "base/buf.h"
#include "base/parse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: maeslant-agent doctor [--json] [--offline] [--root DIR]\n"
    "\n"
    "Looks at everything that a trial stands on and says, line by line, what is well (ok), what "
    "is\n"
    "odd (warn) and what is broken (fail), with the way out. Exit status 1 when something fails.\n"
    "Changes nothing; runs the probes of what runs now once more.\n"
    "\n"
    "  --json      print one JSON object\n"
    "  --offline   leave the server alone\n"
    "  --root DIR  look below DIR instead of /\n";

static const char *const names[] = {
    [DOCTOR_OK] = "ok", [DOCTOR_WARN] = "warn", [DOCTOR_FAIL] = "fail"};
static const char *const colours[] = {
    [DOCTOR_OK] = "green", [DOCTOR_WARN] = "yellow", [DOCTOR_FAIL] = "red"};

void doctor_say(struct doctor *doctor, enum doctor_result result, const char *what,
                const char *way_out, const char *format, ...)
{
    char text[1024];
    va_list args;
    json_t *line;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (result == DOCTOR_FAIL)
        doctor->failed++;
    if (result == DOCTOR_WARN)
        doctor->warned++;
    if (!doctor->json) {
        printf("%s%-4s%s  %-14s %s\n", command_colour(colours[result]), names[result],
               command_colour("off"), what, text);
        if (result != DOCTOR_OK && way_out)
            printf("      %-14s -> %s\n", "", way_out);
        (void)fflush(stdout);
        return;
    }
    line = json_pack("{s:s, s:s, s:s}", "result", names[result], "what", what, "text", text);
    if (!line ||
        (result != DOCTOR_OK && way_out &&
         json_object_set_new(line, "way_out", json_string(way_out)) < 0) ||
        json_array_append_new(doctor->lines, line) < 0)
        abort();
}

int command_doctor(int argc, char **argv)
{
    const char *root = "/";
    struct doctor doctor = {0};
    const struct command_option options[] = {
        {"root", &root, NULL}, {"json", NULL, &doctor.json}, {"offline", NULL, &doctor.offline}};
    struct error error = ERROR_INIT;
    int r = command_options(argc, argv, usage, options, ARRAY_SIZE(options), NULL);

    if (r >= 0)
        return r;
    if (paths_find(root, &doctor.paths, &error) < 0)
        return command_fail(&error);
    doctor.lines = json_array();
    r = command_config(&doctor.paths, &doctor.config, &error);
    if (r < 0) {
        doctor_say(&doctor, DOCTOR_FAIL, "configuration",
                   r == -ENOENT ? "write it: maeslant-agent.yaml(5) has an example"
                                : "correct the line and ask again",
                   "%s", error.text);
    } else {
        doctor_say(&doctor, DOCTOR_OK, "configuration", NULL, "%s/agent.yaml, %zu product%s",
                   doctor.paths.etc, doctor.config.product_count,
                   doctor.config.product_count == 1 ? "" : "s");
        doctor_files(&doctor);
        doctor_agent(&doctor);
        doctor_server(&doctor);
        for (size_t i = 0; i < doctor.config.product_count; i++)
            doctor_product(&doctor, &doctor.config.products[i]);
        config_free(&doctor.config);
    }
    if (doctor.json) {
        _cleanup_json_ json_t *all = json_pack("{s:O, s:i, s:i}", "checks", doctor.lines, "failed",
                                               (int)doctor.failed, "warned", (int)doctor.warned);

        command_print_json(all);
    } else {
        printf("\n%u fail, %u warn\n", doctor.failed, doctor.warned);
    }
    json_decref(doctor.lines);
    paths_free(&doctor.paths);
    return doctor.failed ? COMMAND_FAILED : COMMAND_OK;
}
