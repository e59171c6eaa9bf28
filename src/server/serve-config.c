#include "server/serve-config.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parse.h"
#include "base/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define CONFIG_MAX (64 * 1024)

int serve_listen_parse(const char *text, char **ret_address, uint16_t *ret_port,
                       struct error *error)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    uint64_t port;
    bool bracketed = len > 2 && text[0] == '[' && text[len - 1] == ']';
    if (len == 0 || (!bracketed && memchr(text, ':', len)))
        return error_set(error, -EINVAL,
                         "'%s' is no address to listen at; expected ADDRESS:PORT such as "
                         "127.0.0.1:8443 or [::1]:8443",
                         text);
    int r = parse_u64(colon + 1, 0, 65535, &port, error);
    if (r < 0)
        return error_prefix(error, r, "port of '%s'", text);
    *ret_address = bracketed ? xstrndup(text + 1, len - 2) : xstrndup(text, len);
    *ret_port = (uint16_t)port;
    return 0;
}

static int read_limits(const json_t *value, struct http_limits *limits, struct error *error)
{
    static const char *const known[] = {"connections", "per_address", "request_time", "idle_time",
                                        NULL};
    const char *where = "limits", *request = NULL, *idle = NULL;
    int64_t connections = limits->connections, per_address = limits->per_address;
    int r;
    if ((r = json_only(value, where, known, error)) < 0 ||
        (r = json_may_integer(value, where, "connections", 1, 1000000, &connections, error)) < 0 ||
        (r = json_may_integer(value, where, "per_address", 0, 1000000, &per_address, error)) < 0 ||
        (r = json_may_string(value, where, "request_time", 32, &request, error)) < 0 ||
        (r = json_may_string(value, where, "idle_time", 32, &idle, error)) < 0 ||
        (request && (r = parse_duration(request, &limits->request_time, error)) < 0) ||
        (idle && (r = parse_duration(idle, &limits->idle_time, error)) < 0))
        return r;
    limits->connections = (unsigned)connections;
    limits->per_address = (unsigned)per_address;
    return 0;
}

/* "64MiB", or a plain number of bytes. */
static int read_size(const json_t *value, const char *where, const char *key, uint64_t *ret,
                     struct error *error)
{
    const char *text = NULL;
    int64_t bytes = 0;
    int r;
    if (json_is_integer(json_object_get(value, key))) {
        r = json_may_integer(value, where, key, 0, INT64_MAX, &bytes, error);
        *ret = (uint64_t)bytes;
        return r;
    }
    r = json_may_string(value, where, key, 32, &text, error);
    if (r < 0 || !text)
        return r;
    r = parse_size(text, ret, error);
    return r < 0 ? error_prefix(error, r, "%s.%s", where, key) : 0;
}

static int read_config(const json_t *value, struct serve_config *ret, struct error *error)
{
    static const char *const known[] = {"listen", "user", "min_free", "limits", NULL};
    const char *where = "server.yaml", *listen = "127.0.0.1:8443", *user = NULL;
    const json_t *limits = NULL;
    int r;
    if ((r = json_only(value, where, known, error)) < 0 ||
        (r = json_may_string(value, where, "listen", 128, &listen, error)) < 0 ||
        (r = json_may_string(value, where, "user", 64, &user, error)) < 0 ||
        (r = read_size(value, where, "min_free", &ret->min_free, error)) < 0 ||
        (r = json_may(value, where, "limits", JSON_OBJECT, &limits, error)) < 0 ||
        (limits && (r = read_limits(limits, &ret->limits, error)) < 0) ||
        (r = serve_listen_parse(listen, &ret->address, &ret->port, error)) < 0)
        return r;
    ret->user = user ? xstrdup(user) : NULL;
    return 0;
}

int serve_config_load(const char *path, struct serve_config *ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    _cleanup_json_ json_t *value = NULL;
    *ret = (struct serve_config){.min_free = UINT64_C(64) << 20, .limits = http_limits_default};
    int r = file_read(AT_FDCWD, path, CONFIG_MAX, &text, error);
    if (r < 0)
        return error_prefix(error, r, "no control plane lives here; make one with `maeslant init`");
    if ((r = yaml_parse(text.data ? text.data : "", text.len, &value, error)) < 0 ||
        (r = read_config(value, ret, error)) < 0) {
        serve_config_free(ret);
        return error_prefix(error, r, "%s", path);
    }
    return 0;
}

void serve_config_free(struct serve_config *config)
{
    free(config->address);
    free(config->user);
    *config = (struct serve_config){0};
}
