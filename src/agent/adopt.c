#include "agent/adopt.h"

#include "agent/hooks.h"
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

int adopt_content(struct product *product, struct error *error)
{
    _cleanup_free_ char *content = NULL;
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct manifest manifest = {0};
    struct slot_mark mark;
    char current[65];
    int r = slot_link(product->dir, "current", current, error);

    if (r < 0)
        return r;
    if (*current) {
        r = slot_mark_read(product->dir, current, &mark);
    } else {
        if (!product->config->adopt_content)
            return 0; /* empty: only a release with `deactivate` fits */
        content = paths_below(&product->agent->paths, product->config->adopt_content);
        r = read_manifest(product, &text, &manifest, error);
        if (r == 0)
            r = slot_adopt(product->dir, &manifest, text.data, text.len, content, error);
        if (r == 0)
            r = slot_set_link(product->dir, "current", manifest.release, error);
        memcpy(current, manifest.release, sizeof(current));
        manifest_free(&manifest);
        if (r < 0)
            return r;
        r = -ENOENT;
    }
    if (r == 0)
        return 0;
    r = activate(product, current, error);
    crash_point("", "adopted");
    if (r == 0)
        log_notice("adopted", "%s: runs %.12s…, the way back", product->config->name, current);
    product_show(product);
    return r;
}
