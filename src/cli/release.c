#include "cli/cli.h"

#include "base/file.h"
#include "release/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static const struct command commands[] = {
    {"build", "pack a payload and complete its manifest", command_release_build},
    {"sign", "sign a release with the offline key", command_release_sign},
    {"publish", "test a release in the lab and hand it to the control plane",
     command_release_publish},
    {"list", "the releases that were published", command_release_list},
    {"show", "one release: contract, lab, rollouts", command_release_show},
};

int command_release(int argc, char **argv)
{
    return dispatch("maeslant release", commands, ARRAY_SIZE(commands), argc, argv);
}

static const char list_usage[] = "usage: maeslant release list [--json] [connection options]\n"
                                 "\n"
                                 "The published releases, newest first.\n" CONTROL_HELP;

static void print_releases(const json_t *answer)
{
    struct grid grid = {.columns = 6};
    size_t i;
    json_t *release;
    grid_add(&grid,
             (const char *[]){"RELEASE", "PRODUCT", "CHANNEL", "VERSION", "STATE", "PUBLISHED"});
    json_array_foreach(json_object_get(answer, "releases"), i, release)
    {
        char when[40];
        _cleanup_free_ char *id = xstrndup(text_of(release, "release"), 12);
        when_text(number_of(release, "published_at"), when, sizeof when);
        grid_add(&grid,
                 (const char *[]){id, text_of(release, "product"), text_of(release, "channel"),
                                  text_of(release, "version"), text_of(release, "state"), when});
    }
    grid_print(&grid, stdout);
    grid_free(&grid);
}

int command_release_list(int argc, char **argv)
{
    struct control control = {0};
    _cleanup_json_ json_t *answer = NULL;
    int r = control_list(argc, argv, list_usage, "/v1/admin/releases", &control, &answer);
    if (r < 0 && !control.json)
        print_releases(answer);
    return r < 0 ? EXIT_OK : r;
}

static const char show_usage[] =
    "usage: maeslant release show RELEASE [--json] [connection options]\n"
    "\n"
    "RELEASE is the release's name, or the first digits of it if no other starts "
    "so.\n" CONTROL_HELP;

static void print_member(const json_t *release, const char *key, const char *label)
{
    const json_t *value = json_object_get(release, key);
    if (!value || json_is_null(value))
        return;
    if (json_is_string(value)) {
        printf("%-12s %s\n", label, json_string_value(value));
        return;
    }
    _cleanup_free_ char *text = json_text(value);
    printf("%-12s %s\n", label, text);
}

int command_release_show(int argc, char **argv)
{
    static const struct {
        const char *key, *label;
    } members[] = {
        {"release", "release"},         {"product", "product"},   {"channel", "channel"},
        {"version", "version"},         {"sequence", "sequence"}, {"state", "state"},
        {"description", "about"},       {"requires", "requires"}, {"provides", "provides"},
        {"permissions", "permissions"}, {"lab", "lab"},           {"skipped", "lab skipped"},
        {"rollouts", "rollouts"}};
    struct control control = {0};
    _cleanup_json_ json_t *answer = NULL;
    int r = control_show(argc, argv, show_usage, "release", &control, &answer);
    if (r >= 0 || control.json)
        return r < 0 ? EXIT_OK : r;
    for (size_t i = 0; i < ARRAY_SIZE(members); i++)
        print_member(answer, members[i].key, members[i].label);
    return EXIT_OK;
}

int release_read(const char *directory, const char *name, size_t limit, struct buf *ret,
                 struct error *error)
{
    _cleanup_free_ char *path = path_join(directory, name);
    int r = file_read(AT_FDCWD, path, limit, ret, error);
    if (r == 0 && ret->len == 0)
        return error_set(error, -EINVAL, "%s is empty", path);
    return r;
}
