#include "agent/rejected.h"

#include "agent/hooks.h"
#include "base/buf.h"
#include "base/encode.h"
#include "base/file.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define REJECTED_MAX ((size_t)4 * 1024 * 1024)
#define RETRY_AFTER_MS (24 * 3600 * INT64_C(1000))

/* A line is "<digest> <cause> <unix ms> <times>". */
struct entry {
    char release[65];
    char cause[64];
    uint64_t at, times;
};

static bool read_entry(const char *line, size_t len, struct entry *ret)
{
    _cleanup_free_ char *text = xstrndup(line, len);
    char *save = NULL;
    const char *release = strtok_r(text, " ", &save);
    const char *cause = strtok_r(NULL, " ", &save);
    const char *at = strtok_r(NULL, " ", &save);
    const char *times = strtok_r(NULL, " ", &save);

    if (!times || !is_digest(release) || !is_name(cause) || strlen(cause) >= sizeof(ret->cause) ||
        parse_u64(at, 0, INT64_MAX, &ret->at, NULL) < 0 ||
        parse_u64(times, 1, 1000000, &ret->times, NULL) < 0)
        return false;
    memcpy(ret->release, release, sizeof(ret->release));
    memcpy(ret->cause, cause, strlen(cause) + 1);
    return true;
}

static bool find(const struct buf *text, const char *release, struct entry *ret)
{
    const char *p = text->data;
    const char *end = p ? p + text->len : NULL;

    while (p < end) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline ? newline : end;

        if (read_entry(p, (size_t)(stop - p), ret) && strcmp(ret->release, release) == 0)
            return true;
        p = stop + 1;
    }
    return false;
}

int rejected_add(const char *path, const char *release, const char *cause, int64_t now_ms,
                 struct error *error)
{
    _cleanup_buf_ struct buf old = BUF_INIT;
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct entry entry = {.times = 0};
    const char *p;
    int r = file_read(AT_FDCWD, path, REJECTED_MAX, &old, error);

    if (r < 0 && r != -ENOENT)
        return r;
    if (!find(&old, release, &entry))
        entry.times = 0;
    for (p = old.data; p && *p;) {
        size_t len = strcspn(p, "\n");

        if (strncmp(p, release, 64) != 0)
            buf_addf(&text, "%.*s\n", (int)len, p);
        p += len + (p[len] == '\n');
    }
    buf_addf(&text, "%s %s %lld %llu\n", release, cause, (long long)now_ms,
             (unsigned long long)entry.times + 1);
    r = file_write(AT_FDCWD, path, text.data, text.len, 0600, error);
    crash_point("", "rejected-file");
    return r;
}

bool rejected_has(const char *path, const char *release, int64_t now_ms, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct entry entry;
    bool weather;
    int r = file_read(AT_FDCWD, path, REJECTED_MAX, &text, error);

    if (r == -ENOENT)
        return false;
    if (r < 0)
        return true;
    if (!find(&text, release, &entry))
        return false;
    weather = strcmp(entry.cause, "power-cut") == 0 || strcmp(entry.cause, "unconfirmed") == 0;
    return !(weather && entry.times == 1 && now_ms - (int64_t)entry.at >= RETRY_AFTER_MS);
}
