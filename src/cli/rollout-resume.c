#include "cli/cli.h"
#include "cli/rollout.h"

#include "base/file.h"
#include "base/parse.h"
#include "release/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define PAYLOAD_MAX ((size_t)4 << 30)

/* A halt stays a halt. What may go on is a new release of the same payload that leaves the guilty
 * slice out: its folder is prepared here, to be signed and published like any other. */

static bool starts_with(const char *line, const char *key)
{
    size_t len = strlen(key);
    return strncmp(line, key, len) == 0 && line[len] == ':';
}

/* The manifest's lines with the next sequence and one more item of `exclude`. */
static int rewrite(const char *source, const struct manifest *manifest, const char *name,
                   const char *value, struct buf *ret, struct error *error)
{
    bool excluded = false;
    _cleanup_free_ char *item = xasprintf("  - {%s: \"%s\"}\n", name, value);
    for (const char *line = source; *line;) {
        const char *end = strchr(line, '\n');
        size_t len = end ? (size_t)(end - line) + 1 : strlen(line);
        if (starts_with(line, "sequence")) {
            buf_addf(ret, "sequence: %" PRIu64 "\n", manifest->sequence + 1);
        } else if (starts_with(line, "exclude")) {
            if (strspn(line + strlen("exclude:"), " \n") < len - strlen("exclude:"))
                return error_set(error, -EINVAL,
                                 "`exclude` of the manifest is written in one line: write it as a "
                                 "list of lines (\"  - {name: value}\"), so that one can be added");
            buf_add(ret, line, len);
            buf_add_str(ret, item);
            excluded = true;
        } else {
            if (starts_with(line, "payload") && !excluded)
                buf_addf(ret, "exclude:\n%s", item);
            buf_add(ret, line, len);
        }
        line += len;
    }
    return 0;
}

static int copy_payload(const char *from, const char *to, struct error *error)
{
    _cleanup_free_ char *source = path_join(from, "payload.tar.zst");
    _cleanup_free_ char *target = path_join(to, "payload.tar.zst");
    _cleanup_buf_ struct buf bytes = BUF_INIT;
    int r = file_read(AT_FDCWD, source, PAYLOAD_MAX, &bytes, error);
    return r < 0 ? r : file_write(AT_FDCWD, target, bytes.data, bytes.len, 0644, error);
}

static int prepare(const char *from, const char *to, const char *halted, const char *name,
                   const char *value, char ret_release[static 65], struct error *error)
{
    _cleanup_buf_ struct buf source = BUF_INIT, text = BUF_INIT;
    _cleanup_free_ char *path = path_join(to, "manifest.yaml");
    struct manifest before, after;
    int r = release_read(from, "manifest.yaml", MANIFEST_MAX, &source, error);
    if (r < 0 || (r = manifest_parse(source.data, source.len, MANIFEST_BUILT, &before, error)) < 0)
        return r;
    if (strcmp(before.release, halted) != 0)
        r = error_set(error, -EINVAL,
                      "%s holds release %.12s…, but the rollout is of %.12s…: expected its folder",
                      from, before.release, halted);
    else
        r = rewrite(source.data, &before, name, value, &text, error);
    manifest_free(&before);
    if (r < 0)
        return r;
    if ((r = manifest_parse(text.data, text.len, MANIFEST_BUILT, &after, error)) < 0)
        return error_prefix(error, r, "%s with `exclude` added", from);
    memcpy(ret_release, after.release, sizeof after.release);
    manifest_free(&after);
    if (access(to, F_OK) == 0)
        return error_set(error, -EEXIST,
                         "%s is there already; a release never changes, so choose another --output",
                         to);
    if ((r = dir_make(AT_FDCWD, to, 0755, error)) < 0)
        return r;
    if ((r = copy_payload(from, to, error)) < 0 ||
        (r = file_write(AT_FDCWD, path, text.data, text.len, 0644, error)) < 0)
        tree_remove(AT_FDCWD, to, NULL);
    return r;
}

int rollout_resume_excluding(struct control *control, const char *rollout, const char *exclude,
                             const char *release, const char *output)
{
    struct error error = ERROR_INIT;
    _cleanup_json_ json_t *view = NULL;
    const char *equals = strchr(exclude, '=');
    char prepared[65];
    if (!release || !output) {
        fputs("maeslant: --release and --output are needed with --exclude; see --help\n", stderr);
        return EXIT_USAGE;
    }
    _cleanup_free_ char *name = xstrndup(exclude, equals ? (size_t)(equals - exclude) : 0);
    if (!equals || !is_name(name) || equals[1] == '\0' || strpbrk(equals + 1, "\"\\\n")) {
        error_set(&error, -EINVAL,
                  "--exclude is \"%.80s\": expected ATTRIBUTE=VALUE, such as kernel=6.8", exclude);
        return fail(-EINVAL, &error);
    }
    int r = control_open(control, &error);
    if (r == 0)
        r = rollout_get(control, rollout, &view, &error);
    control_close(control);
    if (r == 0 && strcmp(text_of(view, "state"), "halted") != 0)
        r = error_set(&error, -EINVAL,
                      "rollout %s is %s: --exclude is for a halted one; without it, resume ends a "
                      "pause",
                      rollout, text_of(view, "state"));
    if (r == 0)
        r = prepare(release, output, text_of(view, "release"), name, equals + 1, prepared, &error);
    if (r < 0)
        return fail(r, &error);
    if (control->json) {
        _cleanup_json_ json_t *answer = json_pack("{s:s, s:s, s:s}", "release", prepared,
                                                  "directory", output, "exclude", exclude);
        print_json(answer);
        return EXIT_OK;
    }
    printf("%s\n", prepared);
    fprintf(
        stderr,
        "The halt stays. %s holds a new release of the same payload without %s: sign it, publish "
        "it with --acknowledge-halted-payload and a reason, and start its rollout.\n",
        output, exclude);
    return EXIT_OK;
}
