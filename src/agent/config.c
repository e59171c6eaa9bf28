#include "agent/config.h"

#include "base/file.h"
#include "base/json.h"
#include "base/parse.h"
#include "base/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#define CONFIG_MAX (256 * 1024)
#define POLL_MIN 1.0

/* The text at hand, so that an error can say where its value stands. */
struct source {
    const char *name, *text;
    size_t len;
    struct error *error;
};

/* Puts "agent.yaml:12:7: " before the error, for the node at `where`.`key`. */
static int at(struct source *source, const char *where, const char *key, int code)
{
    _cleanup_free_ char *path = *where ? xasprintf("%s.%s", where, key) : xstrdup(key);
    unsigned line = 0, column = 0;

    yaml_locate(source->text, source->len, path, &line, &column);
    if (line == 0 && *where)
        yaml_locate(source->text, source->len, where, &line, &column);
    if (line == 0)
        return error_prefix(source->error, code, "%s", source->name);
    return error_prefix(source->error, code, "%s:%u:%u", source->name, line, column);
}

static int get_text(struct source *source, const json_t *object, const char *where, const char *key,
                    bool needed, char **ret)
{
    const char *text = NULL;
    int r = needed ? json_need_string(object, where, key, 4096, &text, source->error)
                   : json_may_string(object, where, key, 4096, &text, source->error);

    if (r == 0 && text && *text == '\0')
        r = error_set(source->error, -EINVAL, "%s%s%s is empty: expected a text, or no such key",
                      where, *where ? "." : "", key);
    if (r < 0)
        return at(source, where, key, r);
    if (text)
        *ret = xstrdup(text);
    return 0;
}

static int get_duration(struct source *source, const json_t *object, const char *key, double min,
                        double *ret)
{
    const json_t *value = json_object_get(object, key);
    const char *text = "0";
    double seconds;
    int r;

    if (!value)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) != 0)
        r = json_need_string(object, "", key, 64, &text, source->error);
    else
        r = 0;
    if (r == 0)
        r = parse_duration(text, &seconds, source->error);
    if (r == 0 && seconds < min)
        r = error_set(source->error, -ERANGE, "%s is %s: expected at least %gs", key, text, min);
    if (r != 0)
        return at(source, "", key, r);
    *ret = seconds;
    return 0;
}

static int get_size(struct source *source, const json_t *object, const char *key, uint64_t *ret)
{
    const json_t *value = json_object_get(object, key);
    const char *text = NULL;
    int r;

    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret = (uint64_t)json_integer_value(value);
        return 0;
    }
    r = json_may_string(object, "", key, 64, &text, source->error);
    if (r == 0 && text)
        r = parse_size(text, ret, source->error);
    return r < 0 ? at(source, "", key, r) : 0;
}

/* A list of texts as a NULL-terminated vector; absent: an empty one, or NULL when `optional`. */
static int get_list(struct source *source, const json_t *object, const char *where, const char *key,
                    bool optional, char ***ret)
{
    const json_t *list = NULL;
    const json_t *item;
    size_t i;
    int r = json_may(object, where, key, JSON_ARRAY, &list, source->error);

    if (r < 0)
        return at(source, where, key, r);
    if (!list && optional)
        return 0;
    *ret = xcalloc(json_array_size(list) + 1, sizeof(char *));
    json_array_foreach((json_t *)(uintptr_t)list, i, item)
    {
        if (!json_is_string(item) || json_string_length(item) == 0) {
            (void)error_set(source->error, -EINVAL,
                            "%s[%zu] is no text: expected a string; put numbers in quotes", key, i);
            return at(source, where, key, -EINVAL);
        }
        (*ret)[i] = xstrdup(json_string_value(item));
    }
    if (optional && json_array_size(list) == 0) {
        (void)error_set(source->error, -EINVAL, "%s is empty: expected a command, or no such key",
                        key);
        return at(source, where, key, -EINVAL);
    }
    return 0;
}

/* {name: text} in the order of the file. */
static int get_pairs(struct source *source, const json_t *object, const char *where,
                     const char *key, size_t max_value, struct pair_text **ret, size_t *ret_count)
{
    _cleanup_free_ char *inner = *where ? xasprintf("%s.%s", where, key) : xstrdup(key);
    const json_t *map = NULL;
    const char *name;
    json_t *value;
    int r = json_may(object, where, key, JSON_OBJECT, &map, source->error);

    if (r < 0)
        return at(source, where, key, r);
    if (!map)
        return 0;
    *ret = xcalloc(json_object_size(map) + 1, sizeof(**ret));
    json_object_foreach((json_t *)(uintptr_t)map, name, value)
    {
        if (!is_name(name))
            r = error_set(source->error, -EINVAL,
                          "%s: \"%.64s\" is no name: expected 1 to 128 letters, digits and ._+-",
                          inner, name);
        else if (!json_is_string(value))
            r = error_set(source->error, -EINVAL,
                          "%s.%s is no text: expected a string; put numbers in quotes", inner,
                          name);
        else if (json_string_length(value) > max_value)
            r = error_set(source->error, -EINVAL, "%s.%s is longer than %zu bytes", inner, name,
                          max_value);
        if (r < 0)
            return at(source, inner, name, r);
        (*ret)[(*ret_count)++] =
            (struct pair_text){xstrdup(name), xstrdup(json_string_value(value))};
    }
    return 0;
}

static int get_adopt(struct source *source, const json_t *object, const char *where,
                     struct config_product *ret)
{
    static const char *const known[] = {"content", "manifest", NULL};
    _cleanup_free_ char *inner = xasprintf("%s.adopt", where);
    const json_t *adopt = NULL;
    int r = json_may(object, where, "adopt", JSON_OBJECT, &adopt, source->error);

    if (r == 0 && adopt)
        r = json_only(adopt, inner, known, source->error);
    if (r < 0)
        return at(source, where, "adopt", r);
    if (!adopt)
        return 0;
    r = get_text(source, adopt, inner, "content", !ret->link, &ret->adopt_content);
    return r < 0 ? r : get_text(source, adopt, inner, "manifest", true, &ret->adopt_manifest);
}

/* One name, however it is reached: no "..", no "." and no empty part. */
static bool is_plain_path(const char *path)
{
    if (*path != '/' || path[1] == '\0' || strchr(path, '\n'))
        return false;
    while (*path == '/') {
        size_t len = strcspn(++path, "/");

        if (len == 0 || (len <= 2 && strspn(path, ".") >= len))
            return false;
        path += len;
    }
    return true;
}

static int get_link(struct source *source, const json_t *object, const char *where,
                    struct config_product *ret)
{
    int r = get_text(source, object, where, "link", false, &ret->link);

    if (r < 0 || !ret->link || is_plain_path(ret->link))
        return r;
    (void)error_set(source->error, -EINVAL,
                    "%s.link is \"%.128s\": expected the absolute path of a folder, without \"..\" "
                    "and without a slash at its end",
                    where, ret->link);
    return at(source, where, "link", -EINVAL);
}

static int check_windows(struct source *source, const char *where, char *const *windows)
{
    struct tm now = {0};
    bool inside;

    for (; *windows; windows++)
        if (window_contains(*windows, &now, &inside, source->error) < 0)
            return at(source, where, "windows", -EINVAL);
    return 0;
}

static int get_product(struct source *source, const char *name, const json_t *object,
                       struct config_product *ret)
{
    static const char *const known[] = {"channel", "provides", "provides_exec",           "vars",
                                        "adopt",   "windows",  "paths_owned_by_packages", "link",
                                        NULL};
    _cleanup_free_ char *where = xasprintf("products.%s", name);
    const char *paths = "divert";
    int r;

    if (!is_name(name) || strlen(name) > 64) {
        (void)error_set(source->error, -EINVAL,
                        "product \"%.80s\": expected a name of 1 to 64 letters, digits and ._+-",
                        name);
        return at(source, "products", name, -EINVAL);
    }
    if (!json_is_object(object)) {
        (void)error_set(source->error, -EINVAL, "%s: expected keys such as channel and adopt",
                        where);
        return at(source, "products", name, -EINVAL);
    }
    ret->name = xstrdup(name);
    r = json_only(object, where, known, source->error);
    if (r < 0)
        return at(source, "products", name, r);
    r = get_text(source, object, where, "channel", true, &ret->channel);
    if (r == 0 && !is_name(ret->channel)) {
        (void)error_set(source->error, -EINVAL, "%s.channel is \"%.64s\": expected a name", where,
                        ret->channel);
        return at(source, where, "channel", -EINVAL);
    }
    if (r == 0)
        r = get_pairs(source, object, where, "provides", 128, &ret->provides, &ret->provides_count);
    if (r == 0)
        r = get_list(source, object, where, "provides_exec", true, &ret->provides_exec);
    if (r == 0)
        r = get_pairs(source, object, where, "vars", 4096, &ret->vars, &ret->var_count);
    if (r == 0)
        r = get_link(source, object, where, ret);
    if (r == 0)
        r = get_adopt(source, object, where, ret);
    if (r == 0)
        r = get_list(source, object, where, "windows", false, &ret->windows);
    if (r == 0)
        r = check_windows(source, where, ret->windows);
    if (r < 0)
        return r;
    r = json_may_string(object, where, "paths_owned_by_packages", 16, &paths, source->error);
    if (r == 0 && strcmp(paths, "divert") != 0 && strcmp(paths, "refuse") != 0)
        r = error_set(source->error, -EINVAL,
                      "paths_owned_by_packages is \"%s\": expected divert or refuse", paths);
    ret->refuse_package_paths = strcmp(paths, "refuse") == 0;
    return r < 0 ? at(source, where, "paths_owned_by_packages", r) : 0;
}

static int get_products(struct source *source, const json_t *root, struct config *ret)
{
    const json_t *products = NULL;
    const char *name;
    json_t *value;
    int r = json_need(root, "", "products", JSON_OBJECT, &products, source->error);

    if (r < 0)
        return at(source, "", "products", r);
    ret->products = xcalloc(json_object_size(products) + 1, sizeof(*ret->products));
    json_object_foreach((json_t *)(uintptr_t)products, name, value)
    {
        r = get_product(source, name, value, &ret->products[ret->product_count++]);
        if (r < 0)
            return r;
    }
    return 0;
}

static int get_times(struct source *source, const json_t *root, struct config *ret)
{
    int r = get_duration(source, root, "poll", POLL_MIN, &ret->poll);

    if (r == 0)
        r = get_duration(source, root, "settle_after_boot", 0, &ret->settle_after_boot);
    if (r == 0)
        r = get_duration(source, root, "confirm_within", 1, &ret->confirm_within);
    if (r == 0)
        r = get_duration(source, root, "watch", 0, &ret->watch);
    if (r == 0)
        r = get_duration(source, root, "watch_interval", 0.1, &ret->watch_interval);
    if (r == 0)
        r = get_duration(source, root, "snooze_max", 0, &ret->snooze_max);
    return r < 0 ? r : get_size(source, root, "min_free", &ret->min_free);
}

static int get_root(struct source *source, const json_t *root, struct config *ret)
{
    static const char *const known[] = {"server",
                                        "ca",
                                        "extra_ca",
                                        "proxy",
                                        "proxy_auth_file",
                                        "token_file",
                                        "poll",
                                        "release_keys",
                                        "attributes",
                                        "attributes_exec",
                                        "group",
                                        "watch",
                                        "settle_after_boot",
                                        "min_free",
                                        "refuse_permissions",
                                        "confirm_within",
                                        "snooze_max",
                                        "watch_interval",
                                        "products",
                                        "probe_hosts",
                                        NULL};
    int r = json_only(root, "", known, source->error);

    if (r < 0)
        return error_prefix(source->error, r, "%s", source->name);
    r = get_text(source, root, "", "server", true, &ret->server);
    if (r == 0)
        r = get_text(source, root, "", "ca", false, &ret->ca);
    if (r == 0)
        r = get_text(source, root, "", "extra_ca", false, &ret->extra_ca);
    if (r == 0)
        r = get_text(source, root, "", "proxy", false, &ret->proxy);
    if (r == 0)
        r = get_text(source, root, "", "proxy_auth_file", false, &ret->proxy_auth_file);
    if (r == 0)
        r = get_text(source, root, "", "token_file", false, &ret->token_file);
    if (r == 0)
        r = get_list(source, root, "", "release_keys", false, &ret->release_keys);
    if (r == 0)
        r = get_pairs(source, root, "", "attributes", 128, &ret->attributes, &ret->attribute_count);
    if (r == 0)
        r = get_list(source, root, "", "attributes_exec", true, &ret->attributes_exec);
    if (r == 0)
        r = get_text(source, root, "", "group", false, &ret->group);
    if (r == 0)
        r = get_list(source, root, "", "refuse_permissions", false, &ret->refuse_permissions);
    if (r == 0)
        r = get_list(source, root, "", "probe_hosts", false, &ret->probe_hosts);
    if (r == 0)
        r = get_times(source, root, ret);
    return r < 0 ? r : get_products(source, root, ret);
}

static bool lies_in(const char *path, const char *folder)
{
    size_t len = strlen(folder);

    return strncmp(path, folder, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Two products that read the same folder would each take it from the other. */
static int check_links(struct source *source, const struct config *config)
{
    for (size_t i = 0; i < config->product_count; i++) {
        const struct config_product *one = &config->products[i];
        _cleanup_free_ char *where = xasprintf("products.%s", one->name);

        for (size_t j = 0; one->link && j < config->product_count; j++) {
            const struct config_product *other = &config->products[j];

            if (i == j || !other->link || !lies_in(one->link, other->link))
                continue;
            (void)error_set(
                source->error, -EINVAL,
                "%s.link is \"%.128s\", which lies in the link of %s: expected a folder "
                "of its own",
                where, one->link, other->name);
            return at(source, where, "link", -EINVAL);
        }
    }
    return 0;
}

static int check_whole(struct source *source, const struct config *config)
{
    if (strncmp(config->server, "http://", 7) != 0 && strncmp(config->server, "https://", 8) != 0) {
        (void)error_set(source->error, -EINVAL,
                        "server is \"%.128s\": expected https://host:port (http:// on loopback)",
                        config->server);
        return at(source, "", "server", -EINVAL);
    }
    if (strncmp(config->server, "https://", 8) == 0 && !config->ca)
        return error_set(source->error, -EINVAL,
                         "%s: \"ca\" is missing: expected the PEM file that the server's "
                         "certificate is pinned to",
                         source->name);
    if (config->group && !is_name(config->group)) {
        (void)error_set(source->error, -EINVAL, "group is \"%.64s\": expected a name",
                        config->group);
        return at(source, "", "group", -EINVAL);
    }
    if (config->attribute_count > 64) {
        (void)error_set(source->error, -EINVAL, "%zu attributes: expected at most 64",
                        config->attribute_count);
        return at(source, "", "attributes", -EINVAL);
    }
    return check_links(source, config);
}

int config_parse(const char *name, const char *text, size_t len, struct config *ret,
                 struct error *error)
{
    struct source source = {name, text, len, error};
    _cleanup_json_ json_t *root = NULL;
    int r;

    *ret = (struct config){.poll = 300,
                           .settle_after_boot = 300,
                           .min_free = 64ULL << 20,
                           .confirm_within = 86400,
                           .watch = 86400,
                           .watch_interval = 60,
                           .snooze_max = 86400};
    r = yaml_parse(text, len, &root, error);
    if (r < 0)
        return error_prefix(error, r, "%s", name);
    if (!json_is_object(root))
        return error_set(error, -EINVAL, "%s: expected keys such as server and products", name);
    r = get_root(&source, root, ret);
    if (r == 0)
        r = check_whole(&source, ret);
    if (r < 0)
        config_free(ret);
    return r;
}

int config_load(const char *path, struct config *ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r;

    *ret = (struct config){0};
    r = file_read(AT_FDCWD, path, CONFIG_MAX, &text, error);
    return r < 0 ? r : config_parse(path, text.data ? text.data : "", text.len, ret, error);
}

static void free_list(char **list)
{
    for (char **p = list; p && *p; p++)
        free(*p);
    free(list);
}

static void free_pairs(struct pair_text *pairs, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(pairs[i].name);
        free(pairs[i].value);
    }
    free(pairs);
}

void config_free(struct config *config)
{
    for (size_t i = 0; i < config->product_count; i++) {
        struct config_product *product = &config->products[i];

        free(product->name);
        free(product->channel);
        free(product->adopt_content);
        free(product->adopt_manifest);
        free(product->link);
        free_list(product->provides_exec);
        free_list(product->windows);
        free_pairs(product->provides, product->provides_count);
        free_pairs(product->vars, product->var_count);
    }
    free(config->products);
    free(config->server);
    free(config->ca);
    free(config->extra_ca);
    free(config->proxy);
    free(config->proxy_auth_file);
    free(config->token_file);
    free(config->group);
    free_list(config->release_keys);
    free_list(config->attributes_exec);
    free_list(config->refuse_permissions);
    free_list(config->probe_hosts);
    free_pairs(config->attributes, config->attribute_count);
    *config = (struct config){0};
}
