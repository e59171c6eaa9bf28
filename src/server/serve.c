#include "server/serve.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "server/engine.h"
#include "server/front.h"
#include "server/serve-config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_MAX 256
#define GRACE 5.0

/* Everything that lives as long as the server. */
struct serving {
    struct serve_config config;
    struct public_key release_keys[16];
    size_t release_key_count;
    struct engine_options engine_options;
    char *artifacts, *certificate, *key;
    char *admin_token, *viewer_token;
    struct engine *engine;
    struct front *front;
    struct http_server *http;
};

/* Becomes `user` when started as root: the server needs no right of root's. */
static int drop_root(const struct serve_options *options, const char *user, struct error *error)
{
    if (geteuid() != 0 || options->allow_root)
        return 0;
    if (!user)
        return error_set(error, -EPERM,
                         "`serve` does not run as root; start it as the user that owns %s, or give "
                         "--user NAME (or `user:` in server.yaml)",
                         options->directory);
    const struct passwd *entry = getpwnam(user);
    if (!entry || entry->pw_uid == 0)
        return error_set(error, -ENOENT, "--user %s: no such user, or it is root", user);
    if (setgroups(0, NULL) < 0 || setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) < 0 ||
        setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) < 0)
        return error_set(error, -errno, "can't become user %s: %s", user, strerror(errno));
    return 0;
}

static int load_token(const char *directory, const char *name, char **ret, struct error *error)
{
    _cleanup_free_ char *path = path_join(directory, name);
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = file_read(AT_FDCWD, path, TOKEN_MAX, &text, error);
    if (r < 0)
        return r;
    while (text.len && (text.data[text.len - 1] == '\n' || text.data[text.len - 1] == ' '))
        text.data[--text.len] = '\0';
    if (text.len < 32)
        return error_set(error, -EINVAL, "%s holds %zu characters; a token has at least 32", path,
                         text.len);
    *ret = buf_take(&text);
    return 0;
}

/* keys/release.pub may hold several keys, one a line. */
static int load_release_keys(struct serving *serving, const char *directory, struct error *error)
{
    _cleanup_free_ char *path = path_join(directory, SERVE_RELEASE_PUBLIC);
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = file_read(AT_FDCWD, path, 16 * 1024, &text, error);
    if (r < 0)
        return r;
    char *save = NULL;
    for (char *line = strtok_r(text.data, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        if (serving->release_key_count == sizeof serving->release_keys / sizeof(struct public_key))
            return error_set(error, -E2BIG, "%s holds more than 16 keys", path);
        r = key_public_parse(line, strlen(line), &serving->release_keys[serving->release_key_count],
                             error);
        if (r < 0)
            return error_prefix(error, r, "%s", path);
        serving->release_key_count++;
    }
    if (serving->release_key_count == 0)
        return error_set(error, -EINVAL, "%s holds no key", path);
    return 0;
}

static int load(struct serving *serving, const struct serve_options *options, struct error *error)
{
    const char *directory = options->directory;
    struct engine_options *engine = &serving->engine_options;
    _cleanup_free_ char *server_key = path_join(directory, SERVE_SERVER_KEY);
    _cleanup_free_ char *enrolment_key = path_join(directory, SERVE_ENROLMENT_KEY);
    int r;
    serving->artifacts = path_join(directory, SERVE_ARTIFACTS);
    serving->certificate = path_join(directory, SERVE_TLS_CERTIFICATE);
    serving->key = path_join(directory, SERVE_TLS_KEY);
    if ((r = key_secret_load(server_key, &engine->server_key, error)) < 0 ||
        (r = key_secret_load(enrolment_key, &engine->enrolment_key, error)) < 0 ||
        (r = load_release_keys(serving, directory, error)) < 0 ||
        (r = load_token(directory, SERVE_ADMIN_TOKEN, &serving->admin_token, error)) < 0 ||
        (r = load_token(directory, SERVE_VIEWER_TOKEN, &serving->viewer_token, error)) < 0 ||
        (r = dir_make(AT_FDCWD, serving->artifacts, 0755, error)) < 0)
        return r;
    engine->directory = directory;
    engine->release_keys = serving->release_keys;
    engine->release_key_count = serving->release_key_count;
    engine->no_gate = options->no_gate;
    engine->min_free = serving->config.min_free;
    return 0;
}

static int start(struct serving *serving, const struct serve_options *options, struct error *error)
{
    struct serve_config *config = &serving->config;
    int r = engine_open(&serving->engine_options, &serving->engine, error);
    if (r < 0)
        return r;
    struct front_options front = {
        .engine = serving->engine,
        .artifacts = serving->artifacts,
        .admin_token = serving->admin_token,
        .viewer_token = serving->viewer_token,
        .min_free = config->min_free,
        .tls = !options->plain,
    };
    if ((r = front_new(&front, &serving->front, error)) < 0)
        return r;
    struct http_listen listen = {
        .address = config->address,
        .port = config->port,
        .certificate_path = options->plain ? NULL : serving->certificate,
        .key_path = options->plain ? NULL : serving->key,
    };
    return http_server_start(&listen, &config->limits, front_handle, serving->front, &serving->http,
                             error);
}

/* Long polls end in the engine, streams in the front; then the listener waits for what is left. */
static void stop(struct serving *serving)
{
    if (serving->front)
        front_stop(serving->front);
    if (serving->engine)
        engine_close(serving->engine);
    if (serving->http)
        http_server_stop(serving->http, GRACE);
    front_free(serving->front);
}

static void unload(struct serving *serving)
{
    key_wipe(&serving->engine_options.server_key);
    key_wipe(&serving->engine_options.enrolment_key);
    if (serving->admin_token)
        sodium_memzero(serving->admin_token, strlen(serving->admin_token));
    free(serving->admin_token);
    free(serving->viewer_token);
    free(serving->artifacts);
    free(serving->certificate);
    free(serving->key);
    serve_config_free(&serving->config);
}

static void wait_for_signal(const sigset_t *signals)
{
    int number;
    while (sigwait(signals, &number) != 0)
        ;
    log_notice("server-stopping", "signal=%s", number == SIGTERM ? "SIGTERM" : "SIGINT");
}

static int announce(struct serving *serving, const struct serve_options *options,
                    struct error *error)
{
    uint16_t port = http_server_port(serving->http);
    log_notice("server-started", "address=%s port=%u transport=%s gate=%s", serving->config.address,
               port, options->plain ? "plain" : "tls1.3", options->no_gate ? "off" : "on");
    const char *address = serving->config.address;
    bool any = strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
    _cleanup_free_ char *path = path_join(options->directory, SERVE_ADDRESS);
    _cleanup_free_ char *url =
        xasprintf(strchr(address, ':') && !any ? "%s://[%s]:%u\n" : "%s://%s:%u\n",
                  options->plain ? "http" : "https", any ? "127.0.0.1" : address, port);
    int r = file_write(AT_FDCWD, path, url, strlen(url), 0644, error);
    if (r < 0 || !options->port_file)
        return r;
    char text[16];
    int len = snprintf(text, sizeof text, "%u\n", port);
    return file_write(AT_FDCWD, options->port_file, text, (size_t)len, 0644, error);
}

int serve_run(const struct serve_options *options, struct error *error)
{
    struct serving serving = {0};
    _cleanup_free_ char *config_path = path_join(options->directory, SERVE_CONFIG);
    sigset_t signals;
    int r = serve_config_load(config_path, &serving.config, error);
    if (r < 0)
        return r;
    if (options->listen) {
        free(serving.config.address);
        serving.config.address = NULL;
        r = serve_listen_parse(options->listen, &serving.config.address, &serving.config.port,
                               error);
    }
    if (r == 0)
        r = drop_root(options, options->user ? options->user : serving.config.user, error);

    /* Held leashes need descriptors: take what the system allows. */
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    prctl(PR_SET_DUMPABLE, 0);
    umask(027);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a full disk, not a reason to die */

    if (r == 0 && (r = load(&serving, options, error)) == 0 &&
        (r = start(&serving, options, error)) == 0 && (r = announce(&serving, options, error)) == 0)
        wait_for_signal(&signals);
    _cleanup_free_ char *address = path_join(options->directory, SERVE_ADDRESS);
    if (serving.http)
        unlink(address);
    stop(&serving);
    unload(&serving);
    return r;
}
