#include "agent/check.h"
#include "base/buf.h"
#include "base/file.h"

#include <string.h>

static void add(struct check_vars *vars, const char *name, const char *value)
{
    vars->pairs[vars->count++] = (struct pair_text){xstrdup(name), xstrdup(value)};
}

void check_vars_make(const char *dir, const char *release, const char *product,
                     const struct pair_text *device_vars, size_t device_count, char *const *hosts,
                     struct check_vars *ret)
{
    _cleanup_free_ char *slot = xasprintf("%s/slots/%s", dir, release);
    _cleanup_free_ char *payload = xasprintf("%s/payload", slot);
    _cleanup_free_ char *current = path_join(dir, "current");

    *ret = (struct check_vars){.hosts = hosts};
    ret->pairs = xcalloc(device_count + 6, sizeof(*ret->pairs));
    if (*release) {
        add(ret, "slot", slot);
        add(ret, "payload", payload);
        add(ret, "digest", release);
    }
    add(ret, "current", current);
    add(ret, "product", product);
    add(ret, "state", dir);
    for (size_t i = 0; i < device_count; i++)
        add(ret, device_vars[i].name, device_vars[i].value);
}

void check_vars_free(struct check_vars *vars)
{
    for (size_t i = 0; i < vars->count; i++) {
        free(vars->pairs[i].name);
        free(vars->pairs[i].value);
    }
    free(vars->pairs);
    *vars = (struct check_vars){0};
}

static int fit(const char *text, const struct check_vars *vars, struct error *error)
{
    _cleanup_free_ char *filled = NULL;

    return text ? substitute(text, vars->pairs, vars->count, &filled, error) : 0;
}

static int fit_list(char *const *list, const struct check_vars *vars, struct error *error)
{
    int r = 0;

    for (; list && *list && r == 0; list++)
        r = fit(*list, vars, error);
    return r;
}

static int fit_check(const struct check *check, const struct check_vars *vars, struct error *error)
{
    const char *const texts[] = {check->url,      check->body,     check->expect_body,
                                 check->host,     check->port,     check->expect_header.value,
                                 check->pid_file, check->exit_file};
    int r = fit_list(check->command, vars, error);

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(texts); i++)
        r = fit(texts[i], vars, error);
    for (size_t i = 0; r == 0 && i < check->header_count; i++)
        r = fit(check->headers[i].value, vars, error);
    return r < 0 && check->name ? error_prefix(error, r, "probe %s", check->name) : r;
}

int check_vars_fit(const struct manifest *manifest, const struct check_vars *vars,
                   struct error *error)
{
    int r = fit_list(manifest->activate, vars, error);

    if (r == 0)
        r = fit_list(manifest->deactivate, vars, error);
    if (r == 0)
        r = fit_check(&manifest->active, vars, error);
    for (size_t i = 0; r == 0 && i < manifest->probe_count; i++)
        r = fit_check(&manifest->probes[i], vars, error);
    return r;
}
