#include "release/reader.h"

#include "base/buf.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define URL_MAX 2048
#define TEXT_MAX 4096
#define HEADERS_MAX 32
#define TIMEOUT_MAX 60.0
#define HOUR 3600.0
#define SHORTEST 0.01 /* s; nothing that a person means is shorter */

static const char *const check_kinds[] = {"exec", "http", "tcp", "process", NULL};
static const char *const active_kinds[] = {"exec", "http", NULL};

/* Which probe keys belong to one kind only. */
static const struct {
    const char *key;
    enum check_kind kind;
} owners[] = {
    {"command", CHECK_EXEC},       {"expect_exit", CHECK_EXEC},   {"url", CHECK_HTTP},
    {"method", CHECK_HTTP},        {"headers", CHECK_HTTP},       {"body", CHECK_HTTP},
    {"expect_status", CHECK_HTTP}, {"expect_header", CHECK_HTTP}, {"expect_body", CHECK_HTTP},
    {"host", CHECK_TCP},           {"port", CHECK_TCP},           {"pid_file", CHECK_PROCESS},
    {"exit_file", CHECK_PROCESS},
};

static bool has_variable(const char *text)
{
    return strstr(text, "${") != NULL;
}

/* RFC 9110 token: names of methods and headers. */
static bool is_token(const char *text)
{
    static const char chars[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t len = strlen(text);

    return len > 0 && len <= 64 && strspn(text, chars) == len;
}

static void read_path(const struct object *object, const char *key, enum need need, char **ret)
{
    read_text(object, key, need, TEXT_MAX, ret);
    if (reader_ok(object) && *ret && (*ret)[0] != '/' && strncmp(*ret, "${", 2) != 0)
        reader_fail(object, key, -EINVAL,
                    "\"%.120s\" is no absolute path; expected one that begins with / or with a "
                    "variable such as ${slot}",
                    *ret);
}

static void read_url(const struct object *object, char **ret)
{
    const char *url;

    read_text(object, "url", NEED, URL_MAX, ret);
    if (!reader_ok(object))
        return;
    url = *ret;
    if (strncmp(url, "${", 2) == 0)
        return;
    if ((strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
        strchr("/?#", *(strstr(url, "://") + 3)))
        reader_fail(object, "url", -EINVAL,
                    "\"%.120s\" is no URL that can be probed; expected http://host… or "
                    "https://host…",
                    url);
    for (; reader_ok(object) && *url != '\0'; url++)
        if ((unsigned char)*url <= ' ' || (unsigned char)*url >= 0x7f)
            reader_fail(object, "url", -EINVAL,
                        "\"%.120s\" holds blanks or bytes outside ASCII; write them as %%XX", *ret);
}

static void check_header(const struct object *object, const char *key, const struct pair_text *pair)
{
    if (!is_token(pair->name))
        reader_fail(object, key, -EINVAL, "\"%.80s\" is no name of a header", pair->name);
    else if (strpbrk(pair->value, "\r\n"))
        reader_fail(object, key, -EINVAL, "the value of %s is longer than one line", pair->name);
}

static void read_http(const struct object *object, struct check *ret)
{
    struct pair_text *expected = NULL;
    size_t expected_count = 0;
    int64_t status = 200;

    read_url(object, &ret->url);
    read_text(object, "method", MAY, TEXT_MAX, &ret->method);
    if (reader_ok(object) && ret->method && !has_variable(ret->method) && !is_token(ret->method))
        reader_fail(object, "method", -EINVAL, "\"%.80s\" is no HTTP method; expected GET, HEAD, …",
                    ret->method);
    read_pairs(object, "headers", &ret->headers, &ret->header_count);
    if (reader_ok(object) && ret->header_count > HEADERS_MAX)
        reader_fail(object, "headers", -EINVAL, "has %zu headers, at most %d are allowed",
                    ret->header_count, HEADERS_MAX);
    for (size_t i = 0; i < ret->header_count; i++)
        check_header(object, "headers", &ret->headers[i]);
    read_text(object, "body", MAY, TEXT_MAX, &ret->body);
    read_integer(object, "expect_status", MAY, 100, 599, &status);
    ret->expect_status = (int)status;
    read_pairs(object, "expect_header", &expected, &expected_count);
    if (expected_count > 0)
        ret->expect_header = expected[0];
    for (size_t i = 1; i < expected_count; i++) {
        free(expected[i].name);
        free(expected[i].value);
    }
    free(expected);
    if (expected_count > 1)
        reader_fail(object, "expect_header", -EINVAL,
                    "names %zu headers, one is allowed; make a probe for each", expected_count);
    if (ret->expect_header.name)
        check_header(object, "expect_header", &ret->expect_header);
    read_text(object, "expect_body", MAY, TEXT_MAX, &ret->expect_body);
}

static void read_tcp(const struct object *object, struct check *ret)
{
    size_t len;

    read_text(object, "host", NEED, 255, &ret->host);
    if (reader_ok(object) && (ret->host[0] == '\0' || strpbrk(ret->host, " \t\n/")))
        reader_fail(object, "host", -EINVAL, "\"%.80s\" is no host; expected a name or an address",
                    ret->host);
    read_text(object, "port", NEED, 128, &ret->port);
    if (!reader_ok(object) || has_variable(ret->port))
        return;
    len = strlen(ret->port);
    if (len == 0 || len > 5 || strspn(ret->port, "0123456789") != len || ret->port[0] == '0' ||
        strtoul(ret->port, NULL, 10) > 65535)
        reader_fail(object, "port", -EINVAL, "\"%.80s\" is no port; expected 1 to 65535",
                    ret->port);
}

static void check_owners(const struct object *object, enum check_kind kind)
{
    for (size_t i = 0; i < ARRAY_SIZE(owners); i++)
        if (owners[i].kind != kind && json_object_get(object->json, owners[i].key))
            reader_fail(object, owners[i].key, -EINVAL,
                        "belongs to probes of kind %s, this one is of kind %s",
                        check_kinds[owners[i].kind], check_kinds[kind]);
}

static void set_defaults(struct check *check)
{
    *check = (struct check){
        .interval = 10, .timeout = 5, .within = 10, .failures = 3, .expect_status = 200};
}

void read_check(const struct object *object, struct check *ret)
{
    int kind = CHECK_EXEC;
    int64_t failures = 3, expect_exit = 0;

    set_defaults(ret);
    read_name(object, "name", NEED, &ret->name);
    read_choice(object, "kind", NEED, check_kinds, &kind);
    ret->kind = (enum check_kind)kind;
    if (!reader_ok(object))
        return;
    if (object->reader->mode != MANIFEST_DEVICE)
        check_owners(object, ret->kind);
    read_duration(object, "interval", SHORTEST, HOUR, &ret->interval);
    read_duration(object, "timeout", SHORTEST, TIMEOUT_MAX, &ret->timeout);
    read_duration(object, "grace", 0, HOUR, &ret->grace);
    read_integer(object, "failures", MAY, 1, 1000, &failures);
    ret->failures = (unsigned)failures;
    switch (ret->kind) {
    case CHECK_EXEC:
        read_command(object, "command", NEED, &ret->command);
        read_integer(object, "expect_exit", MAY, 0, 255, &expect_exit);
        ret->expect_exit = (int)expect_exit;
        break;
    case CHECK_HTTP:
        read_http(object, ret);
        break;
    case CHECK_TCP:
        read_tcp(object, ret);
        break;
    case CHECK_PROCESS:
        read_path(object, "pid_file", NEED, &ret->pid_file);
        read_path(object, "exit_file", MAY, &ret->exit_file);
        break;
    }
    if (ret->kind == CHECK_HTTP && !ret->method)
        ret->method = xstrdup("GET");
}

void read_active(const struct object *object, struct check *ret)
{
    int kind = 0;

    set_defaults(ret);
    ret->name = xstrdup("active");
    read_choice(object, "kind", NEED, active_kinds, &kind);
    if (!reader_ok(object))
        return;
    ret->kind = kind == 0 ? CHECK_EXEC : CHECK_HTTP;
    if (object->reader->mode != MANIFEST_DEVICE)
        check_owners(object, ret->kind);
    read_duration(object, "timeout", SHORTEST, TIMEOUT_MAX, &ret->timeout);
    read_duration(object, "within", 0, HOUR, &ret->within);
    if (ret->kind == CHECK_EXEC) {
        read_command(object, "command", NEED, &ret->command);
        return;
    }
    read_url(object, &ret->url);
    ret->method = xstrdup("GET");
}

void check_clear(struct check *check)
{
    free(check->name);
    text_list_free(check->command);
    free(check->url);
    free(check->method);
    free(check->body);
    free(check->expect_body);
    for (size_t i = 0; i < check->header_count; i++) {
        free(check->headers[i].name);
        free(check->headers[i].value);
    }
    free(check->headers);
    free(check->expect_header.name);
    free(check->expect_header.value);
    free(check->host);
    free(check->port);
    free(check->pid_file);
    free(check->exit_file);
    *check = (struct check){0};
}
