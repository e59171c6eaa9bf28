#include "agent/adopt.h"

#include "agent/hooks.h"
#include "agent/link.h"
#include "agent/prober.h"
#include "agent/slot.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define RUNS_NEEDED 3
#define PACE 0.5
#define PATIENCE 60.0

static int read_manifest(struct product *product, struct buf *text, struct manifest *ret,
                         struct error *error)
{
    _cleanup_free_ char *path =
        paths_below(&product->agent->paths, product->config->adopt_manifest);
    int r = file_read(AT_FDCWD, path, MANIFEST_MAX, text, error);

    if (r < 0)
        return r;
    r = manifest_parse(text->data ? text->data : "", text->len, MANIFEST_DEVICE, ret, error);
    if (r < 0)
        r = manifest_parse(text->data ? text->data : "", text->len, MANIFEST_SOURCE, ret, error);
    if (r == 0 && strcmp(ret->product, product->config->name) != 0)
        r = error_set(error, -EINVAL, "it is for product %s: expected %s", ret->product,
                      product->config->name);
    return r < 0 ? error_prefix(error, r, "%s", path) : 0;
}

/* Its probes, each three times, before anybody builds on it. */
static int soak(struct product *product, const char *release, struct error *error)
{
    struct manifest manifest = {0};
    struct check_vars vars = {0};
    struct prober_view view = {0};
    struct prober *prober;
    double until = mono() + PATIENCE;
    int r = slot_manifest(product->dir, release, &manifest, error);

    if (r < 0)
        return r;
    product_vars(product, release, &vars);
    prober = prober_start(&manifest, &vars, 0, PACE, RUNS_NEEDED,
                          (int64_t)(product->activated * 1000), product->wake_fd);
    for (;;) {
        prober_look(prober, &view);
        if (view.failed) {
            r = error_set(error, -EIO, "probe %s: %s", view.probe, view.text);
            break;
        }
        if (view.runs >= RUNS_NEEDED)
            break;
        if (mono() > until) {
            r = error_set(error, -ETIMEDOUT, "its probes did not run three times within %gs",
                          PATIENCE);
            break;
        }
        product_wait(product, 0.5);
        if (agent_stopping(product->agent)) {
            r = error_set(error, -ECANCELED, "the agent ends");
            break;
        }
    }
    prober_stop(prober);
    return r;
}

static int activate(struct product *product, const char *release, struct error *error)
{
    struct manifest manifest = {0};
    struct check_vars vars = {0};
    struct check_result result;
    struct slot_mark mark = {.at = clock_ms(CLOCK_REALTIME)};
    int r = slot_manifest(product->dir, release, &manifest, error);

    if (r < 0)
        return r;
    product_vars(product, release, &vars);
    product->activated = clock_now(CLOCK_REALTIME);
    r = check_vars_fit(&manifest, &vars, error);
    if (r == 0)
        r = adapter_activate(&manifest, &vars, -1, &result, error);
    if (r == 0)
        r = check_active_becomes(&manifest.active, &vars, release, -1, error);
    check_vars_free(&vars);
    manifest_free(&manifest);
    if (r == 0)
        r = soak(product, release, error);
    return r == 0 ? slot_mark_write(product->dir, release, &mark, error) : r;
}

/* Rule 8: what packages own is diverted or refused, before anything of it is taken. */
static int check_owner(struct product *product, const struct link *link, const char **ret_reason,
                       struct error *error)
{
    struct owned owned = OWNED_INIT;
    int r = 0;

    if (!link->path || link->stands != LINK_CONTENT || !product->config->refuse_package_paths)
        return 0;
    r = link_owned(link, &owned, error);
    if (r == 0 && owned.count > 0) {
        *ret_reason = "package-owned";
        r = error_set(error, -EPERM,
                      "%s belongs to the package %s (with %zu file%s below %s): let "
                      "paths_owned_by_packages be divert, or give `link` another path",
                      owned.files[0].path, owned.files[0].package, owned.count,
                      owned.count == 1 ? "" : "s", link->path);
    }
    owned_free(&owned);
    return r;
}

/* The installed content as the first slot, and `current` at it. `ret_release` stays empty when
 * there is nothing to adopt: then only a release with `deactivate` fits. */
static int take_in(struct product *product, const struct link *link, char ret_release[static 65],
                   struct error *error)
{
    const struct config_product *config = product->config;
    _cleanup_free_ char *content = NULL;
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct manifest manifest = {0};
    int r;

    if (config->adopt_content)
        content = paths_below(&product->agent->paths, config->adopt_content);
    else if (config->adopt_manifest && link->stands == LINK_CONTENT)
        content = xstrdup(link->real);
    else
        return 0;
    r = read_manifest(product, &text, &manifest, error);
    if (r == 0)
        r = slot_adopt(product->dir, &manifest, text.data, text.len, content, error);
    if (r == 0)
        r = slot_set_link(product->dir, "current", manifest.release, error);
    if (r == 0)
        memcpy(ret_release, manifest.release, 65);
    manifest_free(&manifest);
    return r;
}

int adopt_content(struct product *product, const char **ret_reason, struct error *error)
{
    struct link link = {0};
    struct slot_mark mark;
    char current[65];
    int r = slot_link(product->dir, "current", current, error);

    *ret_reason = "not-adopted";
    if (r == 0)
        r = link_look(&product->agent->paths, product->config, product->dir, &link, error);
    if (r == 0)
        r = check_owner(product, &link, ret_reason, error);
    if (r == 0 && !*current)
        r = take_in(product, &link, current, error);
    if (r == 0)
        r = link_make(&link, error);
    link_free(&link);
    if (r < 0)
        return r;
    if (!*current || slot_mark_read(product->dir, current, &mark) == 0)
        return 0;
    r = activate(product, current, error);
    crash_point("", "adopted");
    if (r == 0)
        log_notice("adopted", "%s: runs %.12s…, the way back", product->config->name, current);
    product_show(product);
    return r;
}

static void tell_undiverted(const struct product *product, const struct link *link)
{
    struct owned owned = OWNED_INIT;
    const struct owned_file *first = NULL;
    size_t count = 0;

    if (link_owned(link, &owned, NULL) < 0)
        return;
    for (size_t i = 0; i < owned.count; i++)
        if (!owned.files[i].diverted && count++ == 0)
            first = &owned.files[i];
    if (first)
        log_warning("undiverted",
                    "%s: %s of the package %s (%zu in all) is written through the link into a "
                    "slot; maeslant-agent doctor says the way out",
                    product->config->name, first->path, first->package, count);
    owned_free(&owned);
}

void adopt_look_after(struct product *product)
{
    static const char *const links[] = {"current", "previous"};
    struct link link;
    char release[65];

    if (!product->config->link || !owned_changed(&product->agent->paths, &product->packages_seen) ||
        link_look(&product->agent->paths, product->config, product->dir, &link, NULL) < 0)
        return;
    if (link.made && link.stands == LINK_OURS) {
        for (size_t i = 0; i < ARRAY_SIZE(links); i++)
            if (slot_link(product->dir, links[i], release, NULL) == 0 && *release)
                link_tidy(&link, product->dir, release);
        tell_undiverted(product, &link);
    }
    link_free(&link);
}
