#include "cli/cli.h"

#include "base/file.h"
#include "release/manifest.h"
#include "release/payload.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

static const char build_usage[] =
    "usage: maeslant release build MANIFEST --payload DIR --output DIR\n"
    "\n"
    "Packs the folder of --payload as payload.tar.zst (the same tree gives the same bytes) and\n"
    "writes manifest.yaml with the payload's digest. The release's name, the SHA-256 of\n"
    "manifest.yaml, is printed.\n"
    "\n"
    "  --payload DIR  regular files and folders with ASCII names\n"
    "  --output DIR   made; must not exist\n"
    "  --json         print the answer as JSON\n"
    "\n"
    "Example:\n"
    "  maeslant release build manifest.yaml --payload rules/ --output release-3/\n";

/* The engineer's text stays as it is; the payload's section goes behind it. */
static char *complete(const struct buf *source, const struct payload_info *info)
{
    assert(source->data && source->len > 0); /* it was parsed */
    bool newline = source->data[source->len - 1] == '\n';
    return xasprintf("%s%spayload:\n  sha256: %s\n  size: %" PRIu64 "\n  unpacked: %" PRIu64
                     "\n  files: %" PRIu64 "\n",
                     source->data, newline ? "" : "\n", info->sha256, info->size, info->unpacked,
                     info->files);
}

struct building {
    const char *source, *payload, *output;
    struct manifest manifest;
    struct payload_info info;
};

static int build(struct building *building, struct error *error)
{
    _cleanup_buf_ struct buf source = BUF_INIT;
    _cleanup_free_ char *archive = path_join(building->output, "payload.tar.zst");
    _cleanup_free_ char *path = path_join(building->output, "manifest.yaml");
    _cleanup_free_ char *text = NULL;
    struct manifest plain;
    int r = file_read(AT_FDCWD, building->source, MANIFEST_MAX, &source, error);
    if (r < 0)
        return r;
    r = manifest_parse(source.data ? source.data : "", source.len, MANIFEST_SOURCE, &plain, error);
    if (r < 0)
        return error_prefix(error, r, "%s", building->source);
    manifest_free(&plain);
    if (access(building->output, F_OK) == 0)
        return error_set(error, -EEXIST,
                         "%s is there already; a release never changes, so choose "
                         "another --output",
                         building->output);
    if ((r = dir_make(AT_FDCWD, building->output, 0755, error)) < 0 ||
        (r = payload_pack(building->payload, archive, &building->info, error)) < 0)
        return r;
    text = complete(&source, &building->info);
    r = manifest_parse(text, strlen(text), MANIFEST_BUILT, &building->manifest, error);
    if (r < 0)
        return error_prefix(error, r,
                            "%s with `payload` written behind it (its text has to be lines of "
                            "`key: value`, not one {…}, and one document)",
                            building->source);
    return file_write(AT_FDCWD, path, text, strlen(text), 0644, error);
}

int command_release_build(int argc, char **argv)
{
    struct building building = {0};
    bool json = false;
    const struct option_spec specs[] = {{"payload", 's', &building.payload},
                                        {"output", 's', &building.output},
                                        {"json", 'f', &json}};
    struct error error = ERROR_INIT;
    int r =
        options_parse(argc, argv, build_usage, specs, ARRAY_SIZE(specs), &building.source, 1, 1);
    if (r >= 0)
        return r;
    if (!building.payload || !building.output) {
        fputs("maeslant: --payload and --output are needed; see --help\n", stderr);
        return EXIT_USAGE;
    }
    if ((r = build(&building, &error)) < 0) {
        if (r != -EEXIST)
            tree_remove(AT_FDCWD, building.output, NULL);
        return fail(r, &error);
    }
    if (json) {
        _cleanup_json_ json_t *answer =
            json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "release", building.manifest.release,
                      "directory", building.output, "payload", building.info.sha256, "size",
                      (json_int_t)building.info.size, "unpacked",
                      (json_int_t)building.info.unpacked, "files", (json_int_t)building.info.files);
        print_json(answer);
    } else {
        printf("%s\n", building.manifest.release);
        fprintf(stderr, "%s %s %s: %" PRIu64 " files, %" PRIu64 " bytes packed, in %s\n",
                building.manifest.product, building.manifest.channel, building.manifest.version,
                building.info.files, building.info.size, building.output);
    }
    manifest_free(&building.manifest);
    return EXIT_OK;
}

static const char sign_usage[] =
    "usage: maeslant release sign DIR --key FILE [--json]\n"
    "\n"
    "Signs DIR/manifest.yaml with the offline release key and writes DIR/manifest.sig. Needs no\n"
    "network: carry the folder to the machine that has the key and back.\n"
    "\n"
    "  --json  print the answer as JSON\n"
    "\n"
    "Example:\n"
    "  maeslant release sign release-3/ --key /media/key/release.key\n";

static int sign(const char *directory, const char *key_path, bool json, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    _cleanup_free_ char *path = path_join(directory, "manifest.sig");
    struct manifest manifest;
    struct secret_key key;
    int r = release_read(directory, "manifest.yaml", MANIFEST_MAX, &text, error);
    if (r < 0 || (r = manifest_parse(text.data, text.len, MANIFEST_BUILT, &manifest, error)) < 0)
        return r;
    _cleanup_json_ json_t *answer =
        json_pack("{s:s, s:s, s:s, s:s}", "release", manifest.release, "product", manifest.product,
                  "channel", manifest.channel, "version", manifest.version);
    manifest_free(&manifest);
    if ((r = key_secret_load(key_path, &key, error)) < 0)
        return r;
    _cleanup_free_ char *signature = manifest_sign(&key, text.data, text.len);
    key_wipe(&key);
    if ((r = file_write(AT_FDCWD, path, signature, strlen(signature), 0644, error)) < 0)
        return r;
    if (json)
        print_json(answer);
    else
        printf("%s %s %s %s\n", text_of(answer, "release"), text_of(answer, "product"),
               text_of(answer, "channel"), text_of(answer, "version"));
    return 0;
}

int command_release_sign(int argc, char **argv)
{
    const char *directory, *key = NULL;
    bool json = false;
    const struct option_spec specs[] = {{"key", 's', &key}, {"json", 'f', &json}};
    struct error error = ERROR_INIT;
    int r = options_parse(argc, argv, sign_usage, specs, ARRAY_SIZE(specs), &directory, 1, 1);
    if (r >= 0)
        return r;
    if (!key) {
        fputs("maeslant: --key is needed; see --help\n", stderr);
        return EXIT_USAGE;
    }
    r = sign(directory, key, json, &error);
    return r < 0 ? fail(r, &error) : EXIT_OK;
}
