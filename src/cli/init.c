#include "cli/cli.h"

#include "base/file.h"
#include "base/random.h"
#include "server/serve.h"
#include "trust/ca.h"
#include "trust/key.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "usage: maeslant init DIR [--name NAME]… [--listen ADDRESS:PORT] [--release-key-dir DIR] "
    "[--user USER]\n"
    "\n"
    "Makes a control plane's folder: its keys, a CA and a TLS certificate, tokens for\n"
    "administrators and viewers, server.yaml; and the offline release key that signs releases.\n"
    "\n"
    "  --name NAME            a DNS name or IP address of the server, may be repeated\n"
    "                         (localhost, 127.0.0.1, ::1 and this host's name are always in)\n"
    "  --listen ADDRESS:PORT  where `serve` listens (127.0.0.1:8443)\n"
    "  --release-key-dir DIR  where release.key and release.pub go (DIR/offline);\n"
    "                         move release.key to a machine without network\n"
    "  --release-key-pub FILE use this public release key; make none\n"
    "  --user USER            the user that `serve` becomes when root starts it; it gets the "
    "folder\n"
    "\n"
    "Examples:\n"
    "  maeslant init /var/lib/maeslant-server --name updates.example.org --user maeslant\n"
    "  maeslant init ./plane --listen 127.0.0.1:0\n";

struct init {
    const char *directory, *listen, *release_key_dir, *release_key_pub, *user;
    struct text_list names;
};

static int make_token(const char *directory, const char *name, struct error *error)
{
    char text[66];
    _cleanup_free_ char *path = path_join(directory, name);
    random_hex(text, 32);
    text[64] = '\n';
    return file_write(AT_FDCWD, path, text, 65, 0600, error);
}

static int make_key(const char *directory, const char *secret, const char *public,
                    struct error *error)
{
    struct secret_key key;
    _cleanup_free_ char *secret_path = path_join(directory, secret);
    _cleanup_free_ char *public_path = path_join(directory, public);
    key_generate(&key);
    int r = key_save(&key, secret_path, public_path, error);
    key_wipe(&key);
    return r;
}

/* The release key stays outside the control plane's keys: only its public half goes in. */
static int make_release_key(const struct init *init, const char *key_dir, struct error *error)
{
    _cleanup_free_ char *public =
        init->release_key_pub ? xstrdup(init->release_key_pub) : path_join(key_dir, "release.pub");
    _cleanup_free_ char *target = path_join(init->directory, SERVE_RELEASE_PUBLIC);
    struct public_key key;
    int r;
    if (!init->release_key_pub &&
        ((r = dir_make(AT_FDCWD, key_dir, 0700, error)) < 0 ||
         (r = make_key(key_dir, "release.key", "release.pub", error)) < 0))
        return r;
    if ((r = key_public_load(public, &key, error)) < 0)
        return r;
    _cleanup_free_ char *text = key_public_text(&key);
    _cleanup_free_ char *line = xasprintf("%s\n", text);
    return file_write(AT_FDCWD, target, line, strlen(line), 0644, error);
}

static int make_tls(const struct init *init, struct error *error)
{
    char host[256] = "";
    const char *names[64 + 5] = {"localhost", "127.0.0.1", "::1"};
    size_t count = 3;
    if (gethostname(host, sizeof host - 1) == 0 && host[0])
        names[count++] = host;
    for (size_t i = 0; i < init->names.count; i++)
        names[count++] = init->names.items[i];
    _cleanup_free_ char *directory = path_join(init->directory, "tls");
    int r = dir_make(AT_FDCWD, directory, 0755, error);
    return r < 0 ? r : ca_make(directory, names, error);
}

static int make_config(const struct init *init, struct error *error)
{
    _cleanup_free_ char *path = path_join(init->directory, SERVE_CONFIG);
    _cleanup_free_ char *user = init->user ? xasprintf("user: %s\n", init->user) : xstrdup("");
    _cleanup_free_ char *text = xasprintf(
        "# The control plane's configuration: see maeslant-server.yaml(5).\n"
        "listen: \"%s\"\n%s"
        "min_free: 64MiB\n"
        "limits: {connections: 20000, per_address: 0, request_time: 30s, idle_time: 30s}\n",
        init->listen, user);
    return file_write(AT_FDCWD, path, text, strlen(text), 0644, error);
}

/* Gives the folder to the user that the server becomes; the offline key stays with whoever ran
 * init. */
static int give_away(const struct init *init, struct error *error)
{
    static const char *const paths[] = {"",
                                        "keys",
                                        "tls",
                                        "artifacts",
                                        SERVE_CONFIG,
                                        SERVE_ADMIN_TOKEN,
                                        SERVE_VIEWER_TOKEN,
                                        SERVE_SERVER_KEY,
                                        SERVE_SERVER_PUBLIC,
                                        SERVE_ENROLMENT_KEY,
                                        SERVE_ENROLMENT_PUBLIC,
                                        SERVE_RELEASE_PUBLIC,
                                        SERVE_CA,
                                        "tls/ca.key",
                                        SERVE_TLS_CERTIFICATE,
                                        SERVE_TLS_KEY};
    if (!init->user || geteuid() != 0)
        return 0;
    const struct passwd *entry = getpwnam(init->user);
    if (!entry)
        return error_set(error, -ENOENT, "--user %s: no such user", init->user);
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        _cleanup_free_ char *path = path_join(init->directory, paths[i]);
        if (lchown(path, entry->pw_uid, entry->pw_gid) < 0)
            return error_set(error, -errno, "%s can't be given to %s: %s", path, init->user,
                             strerror(errno));
    }
    return 0;
}

static int make_all(const struct init *init, const char *key_dir, struct error *error)
{
    _cleanup_free_ char *keys = path_join(init->directory, "keys");
    _cleanup_free_ char *artifacts = path_join(init->directory, SERVE_ARTIFACTS);
    _cleanup_free_ char *config = path_join(init->directory, SERVE_CONFIG);
    int r;
    if (access(config, F_OK) == 0)
        return error_set(error, -EEXIST, "%s holds a control plane already; choose another folder",
                         init->directory);
    if ((r = dir_make(AT_FDCWD, keys, 0700, error)) < 0 ||
        (r = dir_make(AT_FDCWD, artifacts, 0755, error)) < 0 ||
        (r = make_key(init->directory, SERVE_SERVER_KEY, SERVE_SERVER_PUBLIC, error)) < 0 ||
        (r = make_key(init->directory, SERVE_ENROLMENT_KEY, SERVE_ENROLMENT_PUBLIC, error)) < 0 ||
        (r = make_release_key(init, key_dir, error)) < 0 || (r = make_tls(init, error)) < 0 ||
        (r = make_token(init->directory, SERVE_ADMIN_TOKEN, error)) < 0 ||
        (r = make_token(init->directory, SERVE_VIEWER_TOKEN, error)) < 0 ||
        (r = make_config(init, error)) < 0)
        return r;
    return give_away(init, error);
}

static void add_path(json_t *answer, const char *name, const char *directory, const char *file)
{
    _cleanup_free_ char *path = path_join(directory, file);
    json_object_set_new(answer, name, json_string(path));
}

static void print_made(const struct init *init, const char *key_dir)
{
    _cleanup_json_ json_t *answer = json_pack("{s:s}", "directory", init->directory);
    add_path(answer, "ca", init->directory, SERVE_CA);
    add_path(answer, "admin_token", init->directory, SERVE_ADMIN_TOKEN);
    add_path(answer, "viewer_token", init->directory, SERVE_VIEWER_TOKEN);
    if (!init->release_key_pub)
        add_path(answer, "release_key", key_dir, "release.key");
    print_json(answer);
}

int command_init(int argc, char **argv)
{
    struct init init = {.listen = "127.0.0.1:8443"};
    bool json = false;
    const struct option_spec specs[] = {
        {"name", 'm', &init.names},
        {"listen", 's', &init.listen},
        {"release-key-dir", 's', &init.release_key_dir},
        {"release-key-pub", 's', &init.release_key_pub},
        {"user", 's', &init.user},
        {"json", 'f', &json},
    };
    struct error error = ERROR_INIT;
    int r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), &init.directory, 1, 1);
    if (r >= 0)
        return r;
    _cleanup_free_ char *key_dir =
        init.release_key_dir ? xstrdup(init.release_key_dir) : path_join(init.directory, "offline");
    if ((r = make_all(&init, key_dir, &error)) < 0)
        return fail(r, &error);
    if (json) {
        print_made(&init, key_dir);
        return EXIT_OK;
    }
    printf("A control plane was made in %s (level 0: one machine, an offline release key).\n\n"
           "  its CA                 %s/" SERVE_CA "\n"
           "  administrators' token  %s/" SERVE_ADMIN_TOKEN "\n"
           "  viewers' token         %s/" SERVE_VIEWER_TOKEN " (for the page)\n",
           init.directory, init.directory, init.directory, init.directory);
    if (!init.release_key_pub)
        printf("  release key            %s/release.key\n\n"
               "Move release.key to a machine without network: whoever has it can sign releases.\n",
               key_dir);
    printf("\nNext: maeslant serve %s\n", init.directory);
    return EXIT_OK;
}
