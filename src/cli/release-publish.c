#include "cli/cli.h"

#include "base/encode.h"
#include "base/file.h"
#include "base/parse.h"
#include "lab/lab.h"
#include "release/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const char usage[] =
    "usage: maeslant release publish DIR [--lab-dir DIR] [--skip-lab REASON]\n"
    "\n"
    "Runs the product's own validator and a load of the payload in its real consumer, as the\n"
    "manifest's `lab` says, and hands the release to the control plane if both pass. It offers\n"
    "nothing yet: see maeslant rollout start.\n"
    "\n"
    "  --lab-dir DIR      working folder of the lab's commands (the release's folder)\n"
    "  --skip-lab REASON  publish untested; the reason goes on the record\n"
    "  --acknowledge-halted-payload REASON\n"
    "                     the same payload was halted before, under another name\n" CONTROL_HELP
    "\n"
    "Example:\n"
    "  maeslant release publish release-3/ --lab-dir . --dir ./plane\n";

struct publishing {
    const char *directory, *lab_dir, *skip, *acknowledge;
    struct buf text, signature;
    struct manifest manifest;
};

static void print_verdict(const char *name, const struct lab_verdict *verdict)
{
    char span[32];
    if (!verdict->ran)
        return;
    format_duration(verdict->seconds, span, sizeof span);
    fprintf(stderr, "  lab.%-9s %s%s%s in %s (%s)\n", name,
            colour(stderr, verdict->passed ? "green" : "red"),
            verdict->passed ? "passed" : "refused", colour(stderr, "off"), span, verdict->why);
}

static int run_lab(struct publishing *publishing, json_t **ret, struct error *error)
{
    struct lab_result result;
    const char *cwd = publishing->lab_dir ? publishing->lab_dir : publishing->directory;
    int r = lab_run(&publishing->manifest, publishing->directory, cwd, &result, error);
    print_verdict("validate", &result.validate);
    print_verdict("load", &result.load);
    if (r == 0)
        *ret = lab_result_json(&result);
    lab_result_free(&result);
    return r;
}

static int send(struct publishing *publishing, struct control *control, json_t *lab,
                json_t **ret_answer, struct error *error)
{
    const struct manifest *manifest = &publishing->manifest;
    _cleanup_free_ char *payload = path_join(publishing->directory, "payload.tar.zst");
    _cleanup_free_ char *text = path_join(publishing->directory, "manifest.yaml");
    _cleanup_json_ json_t *body =
        json_pack("{s:s, s:s, s:O*, s:s*, s:s*}", "release", manifest->release, "signature",
                  publishing->signature.data, "lab", lab, "skipped", publishing->skip,
                  "acknowledge_halted_payload", publishing->acknowledge);
    int r;
    if ((r = control_upload(control, payload, manifest->payload_sha256, error)) < 0 ||
        (r = control_upload(control, text, manifest->release, error)) < 0)
        return r;
    return control_call(control, "/v1/admin/releases", body, ret_answer, error);
}

static int publish(struct publishing *publishing, struct control *control, json_t **ret_answer,
                   struct error *error)
{
    _cleanup_json_ json_t *lab = NULL;
    const char *directory = publishing->directory;
    int r;
    if ((r = release_read(directory, "manifest.yaml", MANIFEST_MAX, &publishing->text, error)) < 0)
        return r;
    r = release_read(directory, "manifest.sig", 4096, &publishing->signature, error);
    if (r < 0)
        return r == -ENOENT
                   ? error_set(error, r, "%s is not signed; see maeslant release sign", directory)
                   : r;
    r = manifest_parse(publishing->text.data, publishing->text.len, MANIFEST_BUILT,
                       &publishing->manifest, error);
    if (r < 0)
        return error_prefix(error, r, "%s/manifest.yaml", directory);
    if (!publishing->skip && (r = run_lab(publishing, &lab, error)) < 0)
        return r;
    if ((r = control_open(control, error)) < 0)
        return r;
    return send(publishing, control, lab, ret_answer, error);
}

int command_release_publish(int argc, char **argv)
{
    struct publishing publishing = {0};
    struct control control = {0};
    const struct option_spec specs[] = {
        {"lab-dir", 's', &publishing.lab_dir},
        {"skip-lab", 's', &publishing.skip},
        {"acknowledge-halted-payload", 's', &publishing.acknowledge},
        CONTROL_OPTIONS(control),
    };
    struct error error = ERROR_INIT;
    _cleanup_json_ json_t *answer = NULL;
    int r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), &publishing.directory, 1, 1);
    if (r >= 0)
        return r;
    r = publish(&publishing, &control, &answer, &error);
    control_close(&control);
    if (r == 0 && control.json) {
        print_json(answer);
    } else if (r == 0) {
        printf("published %s %s %s as %s\n", publishing.manifest.product,
               publishing.manifest.channel, publishing.manifest.version,
               publishing.manifest.release);
        if (publishing.skip)
            fprintf(stderr, "%sthe lab was skipped%s: %s (this is on the record)\n",
                    colour(stderr, "yellow"), colour(stderr, "off"), publishing.skip);
    }
    manifest_free(&publishing.manifest);
    buf_free(&publishing.text);
    buf_free(&publishing.signature);
    return r < 0 ? fail(r, &error) : EXIT_OK;
}
