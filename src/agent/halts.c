#include "agent/halts.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "trust/envelope.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define HALTS_MAX ((size_t)16 * 1024 * 1024)

static int open_list(const struct public_key *server_key, const char *text, size_t len,
                     int64_t *ret_number, json_t **ret, struct error *error)
{
    _cleanup_json_ json_t *value = NULL;
    const json_t *list;
    const json_t *item;
    size_t i;
    int r = envelope_open(server_key, CONTEXT_HALTS, text, len, &value, error);

    if (r == 0)
        r = json_need_integer(value, "halts", "number", 0, INT64_MAX, ret_number, error);
    if (r == 0)
        r = json_need(value, "halts", "halts", JSON_ARRAY, &list, error);
    if (r != 0)
        return r;
    json_array_foreach((json_t *)(uintptr_t)list, i, item)
    {
        if (!json_is_string(json_object_get(item, "release")))
            return error_set(error, -EINVAL, "halts.halts[%zu] names no release", i);
    }
    *ret = json_incref((json_t *)(uintptr_t)list);
    return 0;
}

void halts_open(struct halts *halts, const char *path, const struct public_key *server_key)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct error error = ERROR_INIT;
    int r;

    *halts = (struct halts){.path = xstrdup(path), .number = -1};
    (void)pthread_mutex_init(&halts->lock, NULL);
    r = file_read(AT_FDCWD, path, HALTS_MAX, &text, &error);
    if (r == 0)
        r = open_list(server_key, text.data ? text.data : "", text.len, &halts->number,
                      &halts->list, &error);
    if (r < 0) {
        halts->number = -1;
        if (r != -ENOENT)
            log_warning("halts-damaged", "%s: %s; asks the server for the list", path, error.text);
    }
}

void halts_close(struct halts *halts)
{
    json_decref(halts->list);
    free(halts->path);
    (void)pthread_mutex_destroy(&halts->lock);
}

int halts_accept(struct halts *halts, const struct public_key *server_key, const char *text,
                 size_t len, bool *ret_new, struct error *error)
{
    json_t *list = NULL;
    int64_t number = 0;
    int r = open_list(server_key, text, len, &number, &list, error);

    *ret_new = false;
    if (r < 0)
        return r;
    (void)pthread_mutex_lock(&halts->lock);
    if (number < halts->number) {
        r = error_set(error, -ESTALE,
                      "halts' list number %lld is older than %lld, which this device has seen",
                      (long long)number, (long long)halts->number);
    } else if (number > halts->number) {
        json_t *old = halts->list;

        halts->list = list;
        halts->number = number;
        list = old;
        *ret_new = true;
        /* What cannot be kept is obeyed all the same. */
        r = file_write(AT_FDCWD, halts->path, text, len, 0600, error);
        if (r < 0)
            log_error("halts-not-kept", "%s", error ? error->text : "");
        r = 0;
    }
    (void)pthread_mutex_unlock(&halts->lock);
    json_decref(list);
    return r;
}

int64_t halts_number(struct halts *halts)
{
    int64_t number;

    (void)pthread_mutex_lock(&halts->lock);
    number = halts->number;
    (void)pthread_mutex_unlock(&halts->lock);
    return number;
}

static void read_halt(const json_t *item, struct halt *ret)
{
    const char *on_halt = "revert";
    const char *reason = "";
    int64_t spread = 300000;

    *ret = (struct halt){0};
    (void)json_may_integer(item, "", "number", 0, INT64_MAX, &ret->number, NULL);
    (void)json_may_string(item, "", "on_halt", 32, &on_halt, NULL);
    (void)json_may_string(item, "", "reason", 4096, &reason, NULL);
    (void)json_may_integer(item, "", "revert_spread_ms", 0, 86400000, &spread, NULL);
    (void)json_may_bool(item, "", "now", &ret->now, NULL);
    ret->revert = strcmp(on_halt, "keep") != 0;
    ret->spread = (double)spread / 1000;
    (void)snprintf(ret->reason, sizeof(ret->reason), "%s", reason);
}

bool halts_find(struct halts *halts, const char *release, struct halt *ret)
{
    const json_t *item;
    bool found = false;
    size_t i;

    if (!*release)
        return false;
    (void)pthread_mutex_lock(&halts->lock);
    json_array_foreach(halts->list, i, item)
    {
        if (strcmp(json_string_value(json_object_get(item, "release")), release) != 0)
            continue;
        read_halt(item, ret);
        found = true; /* a later one for the same release says to hurry */
    }
    (void)pthread_mutex_unlock(&halts->lock);
    return found;
}
