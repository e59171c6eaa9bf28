#include "agent/remove.h"

#include "agent/hooks.h"
#include "agent/link.h"
#include "agent/slot.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define GONE ".removed-"

static char *request_path(const char *dir)
{
    return path_join(dir, "remove");
}

/* The file holds "wait" or "now", and "force" where somebody said so; or "refused: why". */
static int read_request(const char *dir, struct buf *ret)
{
    _cleanup_free_ char *path = request_path(dir);
    int r = file_read(AT_FDCWD, path, 2048, ret, NULL);

    return r == 0 && !ret->data ? -ENOENT : r;
}

int remove_request(const char *dir, enum remove_how how, bool force, struct error *error)
{
    _cleanup_free_ char *path = request_path(dir);
    _cleanup_free_ char *text =
        xasprintf("%s%s\n", how == REMOVE_NOW ? "now" : "wait", force ? " force" : "");

    return file_write(AT_FDCWD, path, text, strlen(text), 0600, error);
}

enum remove_how remove_requested(const struct product *product)
{
    _cleanup_buf_ struct buf text = BUF_INIT;

    if (read_request(product->dir, &text) < 0)
        return REMOVE_NOT;
    return strncmp(text.data, "now", 3) == 0    ? REMOVE_NOW
           : strncmp(text.data, "wait", 4) == 0 ? REMOVE_WAIT
                                                : REMOVE_NOT;
}

char *remove_refusal(const char *dir)
{
    _cleanup_buf_ struct buf text = BUF_INIT;

    if (read_request(dir, &text) < 0 || strncmp(text.data, "refused: ", 9) != 0)
        return NULL;
    return xstrndup(text.data + 9, strcspn(text.data + 9, "\n"));
}

static int refuse(struct product *product, struct error *error)
{
    _cleanup_free_ char *path = request_path(product->dir);
    _cleanup_free_ char *text = NULL;

    (void)error_set(error, -EPERM,
                    "%s has neither a `deactivate` command nor a `link`: what it runs would vanish "
                    "with its slot; stop or uninstall the product, then say --force",
                    product->config->name);
    text = xasprintf("refused: %s\n", error->text);
    if (file_write(AT_FDCWD, path, text, strlen(text), 0600, NULL) < 0)
        (void)file_unlink(AT_FDCWD, path, NULL);
    return -EPERM;
}

static bool forced(const struct product *product)
{
    _cleanup_buf_ struct buf text = BUF_INIT;

    return read_request(product->dir, &text) == 0 && strstr(text.data, "force");
}

/* Once what stood at `link` is back, so that a `deactivate` that starts the packaged content finds
 * it. */
static int deactivate(struct product *product, const char *current, const struct manifest *manifest,
                      struct error *error)
{
    struct check_vars vars = {0};
    int r;

    if (!manifest->deactivate)
        return 0;
    product_vars(product, current, &vars);
    r = adapter_deactivate(manifest, &vars, error);
    check_vars_free(&vars);
    return r;
}

static int remove_folder(const struct product *product, struct error *error)
{
    _cleanup_free_ char *gone =
        xasprintf("%s/" GONE "%s", product->agent->paths.state, product->config->name);
    int r = tree_remove(AT_FDCWD, gone, error);

    /* Under its name there is all of it or nothing. */
    if (r == 0)
        r = file_rename(AT_FDCWD, product->dir, gone, error);
    crash_point("", "remove-renamed");
    return r == 0 ? tree_remove(AT_FDCWD, gone, error) : r;
}

int remove_product(struct product *product, struct error *error)
{
    struct manifest manifest = {0};
    struct link link = {0};
    char current[65];
    int r = slot_link(product->dir, "current", current, error);

    if (r == 0 && *current)
        r = slot_manifest(product->dir, current, &manifest, error);
    if (r < 0 && forced(product))
        r = 0; /* what is damaged can still be taken away */
    if (r == 0)
        r = link_look(&product->agent->paths, product->config, product->dir, &link, error);
    if (r == 0 && *current && !manifest.deactivate && !link.path && !forced(product))
        r = refuse(product, error);
    if (r == 0)
        r = link_restore(&link, error);
    if (r == 0)
        r = deactivate(product, current, &manifest, error);
    if (r == 0)
        r = remove_folder(product, error);
    link_free(&link);
    manifest_free(&manifest);
    if (r == 0)
        log_notice("removed", "%s: nothing of it is left", product->config->name);
    return r;
}

void remove_leftovers(const char *state)
{
    DIR *folder = opendir(state);
    struct dirent *entry;

    while (folder && (entry = readdir(folder))) {
        _cleanup_free_ char *path = NULL;
        struct error error = ERROR_INIT;

        if (strncmp(entry->d_name, GONE, strlen(GONE)) != 0)
            continue;
        path = path_join(state, entry->d_name);
        if (tree_remove(AT_FDCWD, path, &error) < 0)
            log_warning("not-removed", "%s", error.text);
    }
    if (folder)
        (void)closedir(folder);
}
