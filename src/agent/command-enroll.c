#include "agent/client.h"
#include "agent/command-common.h"
#include "agent/command.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: maeslant-agent enroll [--root DIR] --token-file FILE | --bundle FILE\n"
    "  --root DIR         all paths are below it (default /)\n"
    "  --token-file FILE  the token from maeslant device enroll\n"
    "  --bundle FILE      the organisation's bundle, known beforehand: what the server\n"
    "                     sends must be signed by the same key; may hold the token too\n";

static int read_text(const char *path, char **ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = file_read(AT_FDCWD, path, 65536, &text, error);

    if (r < 0)
        return r;
    while (text.len > 0 && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == ' '))
        text.data[--text.len] = '\0';
    if (text.len == 0)
        return error_set(error, -EINVAL, "%s is empty", path);
    *ret = buf_take(&text);
    return 0;
}

/* A bundle file is the bundle's envelope, or {"token": …, "bundle": envelope}. */
static int open_bundle(char **bundle, char **token, struct error *error)
{
    _cleanup_json_ json_t *value = NULL;
    const json_t *inner = NULL;
    const char *text = NULL;
    int r = json_parse(*bundle, strlen(*bundle), &value, error);

    if (r == 0 && !json_is_object(value))
        r = error_set(error, -EINVAL, "expected a JSON object");
    if (r == 0)
        r = json_may(value, "bundle", "bundle", JSON_OBJECT, &inner, error);
    if (r == 0)
        r = json_may_string(value, "bundle", "token", 4096, &text, error);
    if (r < 0)
        return r;
    if (text && !*token)
        *token = xstrdup(text);
    if (inner || text) {
        free(*bundle);
        *bundle = inner ? json_text(inner) : NULL;
    }
    return 0;
}

static int enroll(const char *root, const char *token, const char *bundle, struct error *error)
{
    _cleanup_free_ char *config_path = NULL;
    struct identity identity = {0};
    struct config config = {0};
    struct paths paths;
    int r = paths_open(root, &paths, error);

    if (r < 0)
        return r;
    config_path = path_join(paths.etc, "agent.yaml");
    r = config_load(config_path, &config, error);
    if (r == 0) {
        r = identity_load(&paths, &identity, error);
        if (r == -EXDEV)
            r = identity_retire(&paths, error);
        else if (r == 0 || r == -ENOENT)
            r = 0;
        else
            log_warning("identity", "%s: enrols again", error->text), r = 0;
    }
    identity_free(&identity);
    if (r == 0)
        r = client_enroll(&paths, &config, token, bundle, error);
    if (r == 0)
        r = identity_load(&paths, &identity, error);
    if (r == 0)
        printf("enrolled as device %s of %s, ring %s\n", identity.device, identity.organisation,
               identity.ring);
    identity_free(&identity);
    config_free(&config);
    paths_free(&paths);
    return r;
}

int command_enroll(int argc, char **argv)
{
    const char *root = "/", *token_file = NULL, *bundle_file = NULL;
    const struct command_option options[] = {
        {.name = "root", .text = &root},
        {.name = "token-file", .text = &token_file},
        {.name = "bundle", .text = &bundle_file},
    };
    _cleanup_free_ char *token = NULL;
    _cleanup_free_ char *bundle = NULL;
    struct error error = ERROR_INIT;
    int r = command_options(argc, argv, usage, options, ARRAY_SIZE(options), NULL);

    if (r >= 0)
        return r;
    r = 0;
    if (token_file)
        r = read_text(token_file, &token, &error);
    if (r == 0 && bundle_file) {
        r = read_text(bundle_file, &bundle, &error);
        if (r == 0 && bundle)
            r = open_bundle(&bundle, &token, &error);
        if (r < 0)
            (void)error_prefix(&error, r, "%s", bundle_file);
    }
    if (r == 0 && !token) {
        fputs("maeslant-agent: no token: give one with --token-file FILE (maeslant device enroll "
              "makes it)\n",
              stderr);
        return COMMAND_USAGE;
    }
    if (r == 0)
        r = enroll(root, token, bundle, &error);
    return r < 0 ? command_fail(&error) : COMMAND_OK;
}
