#include "scan.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define SCAN_MAX_FILE ((size_t)16 << 20)

static int evaluate_templates(const struct engine *engine, const struct content *content,
                              const struct event *event, struct findings *ret, struct error *error)
{
    bool first = true;

    for (size_t i = 0; i < content->table.count; i++) {
        const struct template *template = &content->table.templates[i];
        int r = engine_match(engine, template, event);

        if (r < 0)
            return error_set(error, r, "engine %u cannot evaluate template %u of %u fields",
                             engine->version, template->id, template->field_count);
        if (r == 0)
            continue;
        if (first)
            buf_addf(&ret->what, "%stemplate %u", ret->count ? " " : "", template->id);
        else
            buf_addf(&ret->what, ",%u", template->id);
        first = false;
        ret->count++;
    }
    return 0;
}

int scan_file(const struct engine *engine, const struct content *content, uint64_t cycle,
              const char *path, struct findings *ret, struct error *error)
{
    const struct event_source source = {.engine = engine->version, .cycle = cycle};
    _cleanup_event_ struct event event = {0};
    _cleanup_buf_ struct buf bytes = BUF_INIT;
    _cleanup_buf_ struct buf rules = BUF_INIT;
    struct stat st;
    int r = file_read(AT_FDCWD, path, SCAN_MAX_FILE, &bytes, error);

    if (r < 0)
        return r;
    if (lstat(path, &st) < 0)
        return error_set(error, -errno, "%s: %s", path, strerror(errno));
    r = rules_scan(&content->rules, bytes.data, bytes.len, &rules, error);
    if (r < 0)
        return error_prefix(error, r, "%s", path);
    ret->count = (size_t)r;
    if (r > 0)
        buf_addf(&ret->what, "rule %s", rules.data);
    event_of_file(&source, path, &st, r > 0 ? rules.data : "", &event);
    return evaluate_templates(engine, content, &event, ret, error);
}

int scan_heartbeat(const struct engine *engine, const struct content *content, uint64_t cycle,
                   struct findings *ret, struct error *error)
{
    const struct event_source source = {.engine = engine->version, .cycle = cycle};
    _cleanup_event_ struct event event = {0};

    event_heartbeat(&source, &event);
    return evaluate_templates(engine, content, &event, ret, error);
}

void findings_free(struct findings *findings)
{
    buf_free(&findings->what);
    findings->count = 0;
}
