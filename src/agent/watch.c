#include "agent/watch.h"

#include "agent/prober.h"
#include "agent/slot.h"
#include "agent/trial.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define KEEP_EVERY 600.0

/* The file `watch` holds "<release> <seconds watched> <regressed 0|1>". */
static void load(struct product *product, const char *release)
{
    _cleanup_free_ char *path = path_join(product->dir, "watch");
    _cleanup_buf_ struct buf text = BUF_INIT;
    uint64_t seconds;
    char *space;

    product->watched = 0;
    product->regressed = false;
    if (file_read(AT_FDCWD, path, 256, &text, NULL) < 0 || text.len < 68 ||
        strncmp(text.data, release, 64) != 0 || text.data[64] != ' ')
        return;
    space = strchr(text.data + 65, ' ');
    if (!space)
        return;
    *space = '\0';
    if (parse_u64(text.data + 65, 0, INT32_MAX, &seconds, NULL) < 0)
        return;
    product->watched = (double)seconds;
    product->regressed = space[1] == '1';
}

static void keep(struct product *product)
{
    _cleanup_free_ char *path = path_join(product->dir, "watch");
    _cleanup_free_ char *text =
        xasprintf("%s %.0f %d\n", product->watch_release, product->watched, product->regressed);
    struct error error = ERROR_INIT;

    if (file_write(AT_FDCWD, path, text, strlen(text), 0600, &error) < 0)
        log_warning("watch", "%s", error.text);
}

void watch_end(struct product *product)
{
    if (product->watch) {
        product->watched += mono() - product->watch_since;
        keep(product);
    }
    prober_stop(product->watch);
    product->watch = NULL;
}

static void start(struct product *product, const char *release)
{
    struct manifest manifest;
    struct check_vars vars;

    if (slot_manifest(product->dir, release, &manifest, NULL) < 0)
        return;
    product_vars(product, release, &vars);
    product->watch_since = mono();
    product->watch = prober_start(&manifest, &vars, product->agent->config.watch_interval, 0, 1,
                                  (int64_t)(product->activated * 1000), product->wake_fd);
}

/* The report goes out under the permit that confirmed the release. */
static void regress(struct product *product, const struct slot_mark *mark,
                    const struct prober_view *view)
{
    struct journal kept = product->journal;
    struct journal *journal = &product->journal;

    log_warning("regressed", "%s: %.12s…: probe %s: %s", product->config->name,
                product->watch_release, view->probe, view->text);
    product->regressed = true;
    memcpy(journal->release, product->watch_release, sizeof(journal->release));
    memcpy(journal->permit, mark->permit, sizeof(journal->permit));
    (void)snprintf(journal->reason, sizeof(journal->reason), "%s",
                   view->signal ? "signal" : "probe");
    (void)snprintf(journal->probe, sizeof(journal->probe), "%s", view->probe);
    journal->exit_status =
        view->exit_status >= 0 && view->exit_status <= 255 ? view->exit_status : -1;
    journal->signal = view->signal;
    report_put(product, "regressed", view->text);
    product->journal = kept;
}

void watch_walk(struct product *product)
{
    struct prober_view view;
    struct slot_mark mark;
    char current[65];
    double limit = product->agent->config.watch;

    if (slot_link(product->dir, "current", current, NULL) < 0 || !*current ||
        slot_mark_read(product->dir, current, &mark) < 0 || !*mark.permit) {
        watch_end(product);
        return;
    }
    if (strcmp(current, product->watch_release) != 0) {
        watch_end(product);
        load(product, current);
        memcpy(product->watch_release, current, sizeof(product->watch_release));
    }
    if (product->watch) {
        prober_look(product->watch, &view);
        if (view.failed) {
            regress(product, &mark, &view);
            watch_end(product);
        } else if (product->watched + mono() - product->watch_since >= limit) {
            log_info("watch-done", "%s: %.12s… watched", product->config->name, current);
            watch_end(product);
        } else if (mono() - product->watch_since > KEEP_EVERY) {
            product->watched += mono() - product->watch_since;
            product->watch_since = mono();
            keep(product);
        }
    } else if (product->watched < limit && !product->regressed) {
        start(product, current);
    }
}
