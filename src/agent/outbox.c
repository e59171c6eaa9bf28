#include "agent/outbox.h"

#include "agent/hooks.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define REPORT_MAX (64 * 1024)
#define ORDER_DIGITS 20

/* Names of waiting reports, oldest first. */
static int list(const char *dir, struct dirent ***ret)
{
    int count = scandir(dir, ret, NULL, alphasort);

    return count < 0 ? 0 : count;
}

static void free_list(struct dirent **entries, int count)
{
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
}

static bool is_report(const struct dirent *entry)
{
    return entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
           strlen(entry->d_name) > ORDER_DIGITS + 1;
}

/* Name under which this permit and outcome wait already, or NULL; and an order behind all. */
static char *find(const char *dir, const char *key, int64_t *ret_order)
{
    struct dirent **entries = NULL;
    char *found = NULL;
    int count = list(dir, &entries);

    *ret_order = clock_ms(CLOCK_REALTIME);
    if (*ret_order < 0)
        *ret_order = 0;
    for (int i = 0; i < count; i++) {
        int64_t order;

        if (!is_report(entries[i]))
            continue;
        order = strtoll(entries[i]->d_name, NULL, 10);
        if (order >= *ret_order)
            *ret_order = order + 1; /* a wall clock that went back changes no order */
        if (!found && strcmp(entries[i]->d_name + ORDER_DIGITS + 1, key) == 0)
            found = xstrdup(entries[i]->d_name);
    }
    free_list(entries, count);
    return found;
}

int outbox_put(const char *dir, const char *permit, const char *outcome, const json_t *body,
               struct error *error)
{
    _cleanup_free_ char *key = xasprintf("%s-%s", permit, outcome);
    _cleanup_free_ char *name = NULL;
    _cleanup_free_ char *path = NULL;
    _cleanup_free_ char *text = json_text(body);
    int64_t order;
    int r = dir_make(AT_FDCWD, dir, 0700, error);

    if (r < 0)
        return r;
    name = find(dir, key, &order);
    if (!name)
        name = xasprintf("%0*lld-%s", ORDER_DIGITS, (long long)order, key);
    path = path_join(dir, name);
    r = file_write(AT_FDCWD, path, text, strlen(text), 0600, error);
    crash_point("", "outbox-put");
    return r;
}

static void put_aside(const char *dir, const char *name, const char *why)
{
    _cleanup_free_ char *path = path_join(dir, name);
    _cleanup_free_ char *aside = xasprintf("%s/.damaged-%s", dir, name);

    log_error("report-damaged", "%s; kept as %s", why, aside);
    (void)file_rename(AT_FDCWD, path, aside, NULL);
}

int outbox_first(const char *dir, char **ret_name, json_t **ret_body, struct error *error)
{
    struct dirent **entries = NULL;
    int count = list(dir, &entries);
    int r = -ENOENT;

    for (int i = 0; i < count && r == -ENOENT; i++) {
        _cleanup_free_ char *path = path_join(dir, entries[i]->d_name);
        _cleanup_buf_ struct buf text = BUF_INIT;

        if (!is_report(entries[i]) || file_read(AT_FDCWD, path, REPORT_MAX, &text, error) < 0)
            continue;
        if (json_parse(text.data ? text.data : "", text.len, ret_body, error) < 0) {
            put_aside(dir, entries[i]->d_name, error ? error->text : path);
            continue;
        }
        *ret_name = xstrdup(entries[i]->d_name);
        r = 0;
    }
    free_list(entries, count);
    return r;
}

int outbox_drop(const char *dir, const char *name, struct error *error)
{
    _cleanup_free_ char *path = path_join(dir, name);
    int r = file_unlink(AT_FDCWD, path, error);

    crash_point("", "outbox-drop");
    return r;
}

size_t outbox_count(const char *dir)
{
    struct dirent **entries = NULL;
    int count = list(dir, &entries);
    size_t waiting = 0;

    for (int i = 0; i < count; i++)
        waiting += is_report(entries[i]);
    free_list(entries, count);
    return waiting;
}
