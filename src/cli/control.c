#include "cli/cli.h"

#include "base/encode.h"
#include "base/file.h"
#include "server/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ANSWER_MAX ((size_t)64 << 20)
#define PART (60 * 1024)

static const char *or_environment(const char *value, const char *name)
{
    const char *text = value ? value : getenv(name);
    return text && *text ? text : NULL;
}

static int read_line(const char *path, char **ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = file_read(AT_FDCWD, path, 4096, &text, error);
    if (r < 0)
        return r;
    *ret = xstrndup(text.data ? text.data : "", strcspn(text.data ? text.data : "", "\r\n"));
    return 0;
}

int control_open(struct control *control, struct error *error)
{
    const char *directory = or_environment(control->directory, "MAESLANT_DIR");
    const char *server = or_environment(control->server, "MAESLANT_SERVER");
    const char *ca = or_environment(control->ca, "MAESLANT_CA");
    const char *token_file = or_environment(control->token_file, "MAESLANT_TOKEN_FILE");
    _cleanup_free_ char *token_path = NULL, *token = NULL;
    int r;
    if (!directory && (!server || !token_file))
        return error_set(error, -EINVAL,
                         "where is the control plane? Give --dir DIR, or --server URL with "
                         "--token-file FILE (and --ca FILE for https)");
    if (server) {
        control->base_url = xstrdup(server);
    } else {
        _cleanup_free_ char *path = path_join(directory, SERVE_ADDRESS);
        if ((r = read_line(path, &control->base_url, error)) < 0)
            return error_prefix(error, r == -ENOENT ? -ECONNREFUSED : r,
                                "no control plane runs in %s (start it with `maeslant serve %s`)",
                                directory, directory);
    }
    if (ca)
        control->ca_path = xstrdup(ca);
    else if (directory && strncmp(control->base_url, "https:", 6) == 0)
        control->ca_path = path_join(directory, SERVE_CA);
    token_path = token_file ? xstrdup(token_file) : path_join(directory, SERVE_ADMIN_TOKEN);
    if ((r = read_line(token_path, &token, error)) < 0)
        return r;
    control->authorization = xasprintf("Authorization: Bearer %s", token);
    struct http_client_options options = {
        .base_url = control->base_url,
        .ca_path = control->ca_path,
        .connect_timeout = 5,
        .timeout = 60,
        .user_agent = "maeslant/" MAESLANT_VERSION,
    };
    return http_client_new(&options, &control->client, error);
}

void control_close(struct control *control)
{
    http_client_free(control->client);
    free(control->authorization);
    free(control->base_url);
    free(control->ca_path);
}

static int status_error(unsigned status)
{
    switch (status) {
    case 400:
        return -EINVAL;
    case 401:
    case 403:
        return -EACCES;
    case 404:
        return -ENOENT;
    case 409:
        return -EEXIST;
    case 503:
        return -EAGAIN;
    default:
        return -EIO;
    }
}

int control_call(struct control *control, const char *path, const json_t *body, json_t **ret,
                 struct error *error)
{
    const char *headers[] = {control->authorization, body ? "Content-Type: application/json" : NULL,
                             NULL};
    _cleanup_free_ char *text = body ? json_text(body) : NULL;
    struct http_answer answer = {0};
    int r = body ? http_post(control->client, path, headers, text, strlen(text), ANSWER_MAX, 0, -1,
                             &answer, error)
                 : http_get(control->client, path, headers, ANSWER_MAX, 0, -1, &answer, error);
    if (r < 0)
        return r;
    if (answer.status != 200) {
        _cleanup_free_ char *problem = http_answer_problem(&answer);
        r = error_set(error, status_error(answer.status), "%s", problem);
    } else {
        r = json_parse(answer.body.data ? answer.body.data : "", answer.body.len, ret, error);
    }
    http_answer_free(&answer);
    return r;
}

int control_resolve(struct control *control, const char *kind, const char *prefix, char **ret,
                    struct error *error)
{
    _cleanup_free_ char *list = xasprintf("%ss", kind), *path = xasprintf("/v1/admin/%s", list);
    _cleanup_json_ json_t *answer = NULL;
    size_t i, found = 0, len = strlen(prefix);
    const char *name = NULL;
    json_t *item;
    if (is_digest(prefix)) {
        *ret = xstrdup(prefix);
        return 0;
    }
    if (len < 4 || len > 64 || strspn(prefix, "0123456789abcdef") != len)
        return error_set(error, -EINVAL,
                         "'%s' names no %s; expected 64 hex digits, or at least the first 4",
                         prefix, kind);
    int r = control_call(control, path, NULL, &answer, error);
    if (r < 0)
        return r;
    json_array_foreach(json_object_get(answer, list), i, item)
    {
        if (strncmp(text_of(item, kind), prefix, len) == 0) {
            name = text_of(item, kind);
            found++;
        }
    }
    if (found != 1)
        return error_set(error, -ENOENT, "%zu %s start with '%s'; see maeslant %s list", found,
                         list, prefix, kind);
    *ret = xstrdup(name);
    return 0;
}

/* -1 with the answer, printed where JSON was asked for; or an exit code. */
static int show(int r, const struct control *control, const json_t *answer,
                const struct error *error)
{
    if (r < 0)
        return fail(r, error);
    if (control->json)
        print_json(answer);
    return -1;
}

int control_list(int argc, char **argv, const char *usage, const char *path,
                 struct control *control, json_t **ret)
{
    const struct option_spec specs[] = {CONTROL_OPTIONS(*control)};
    struct error error = ERROR_INIT;
    int r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), NULL, 0, 0);
    if (r >= 0)
        return r;
    if ((r = control_open(control, &error)) == 0)
        r = control_call(control, path, NULL, ret, &error);
    control_close(control);
    return show(r, control, *ret, &error);
}

int control_show(int argc, char **argv, const char *usage, const char *kind,
                 struct control *control, json_t **ret)
{
    const struct option_spec specs[] = {CONTROL_OPTIONS(*control)};
    struct error error = ERROR_INIT;
    _cleanup_free_ char *name = NULL;
    const char *operand;
    int r = options_parse(argc, argv, usage, specs, ARRAY_SIZE(specs), &operand, 1, 1);
    if (r >= 0)
        return r;
    if ((r = control_open(control, &error)) == 0 &&
        (r = control_resolve(control, kind, operand, &name, &error)) == 0) {
        _cleanup_free_ char *path = xasprintf("/v1/admin/%ss/%s", kind, name);
        r = control_call(control, path, NULL, ret, &error);
    }
    control_close(control);
    return show(r, control, *ret, &error);
}

static void show_progress(const char *what, uint64_t done, uint64_t size)
{
    if (!isatty(STDERR_FILENO) || size < 1024 * 1024)
        return;
    fprintf(stderr, "\r%s: %3" PRIu64 " %% of %.1f MiB%s", what, size ? done * 100 / size : 100,
            (double)size / 1048576, done == size ? "\n" : "");
}

/* One part; `ret_done` is where the next one starts. */
static int upload_part(struct control *control, const char *sha256, const uint8_t *data, size_t len,
                       uint64_t offset, uint64_t size, bool *ret_complete, struct error *error)
{
    const char *headers[] = {control->authorization, "Content-Type: application/octet-stream",
                             NULL};
    _cleanup_free_ char *path =
        xasprintf("/v1/admin/artifacts/%s?offset=%" PRIu64 "&size=%" PRIu64, sha256, offset, size);
    _cleanup_json_ json_t *value = NULL;
    struct http_answer answer = {0};
    int r = http_put(control->client, path, headers, data, len, ANSWER_MAX, 0, -1, &answer, error);
    if (r < 0)
        return r;
    if (answer.status != 200) {
        _cleanup_free_ char *problem = http_answer_problem(&answer);
        r = error_set(error, status_error(answer.status), "%s", problem);
    } else if ((r = json_parse(answer.body.data ? answer.body.data : "", answer.body.len, &value,
                               error)) == 0) {
        *ret_complete = json_is_true(json_object_get(value, "complete"));
    }
    http_answer_free(&answer);
    return r;
}

int control_upload(struct control *control, const char *path, const char *sha256,
                   struct error *error)
{
    struct stat st;
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return error_set(error, -errno, "%s: %s", path, strerror(errno));
    uint64_t size = (uint64_t)st.st_size, offset = 0;
    _cleanup_free_ uint8_t *data = xmalloc(PART);
    bool complete = false;
    while (!complete) {
        ssize_t n = pread(fd, data, PART, (off_t)offset);
        if (n < 0)
            return error_set(error, -errno, "%s: %s", path, strerror(errno));
        if (n == 0 && offset > 0)
            return error_set(error, -EIO, "%s changed while it was sent", path);
        int r = upload_part(control, sha256, data, (size_t)n, offset, size, &complete, error);
        if (r < 0)
            return error_prefix(error, r, "%s", path);
        offset += (uint64_t)n;
        show_progress(path, complete ? size : offset, size);
    }
    return 0;
}
