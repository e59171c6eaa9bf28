#include "content.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int content_digest(const char *slot, char ret_digest[static SHA256_HEX_SIZE], struct error *error)
{
    _cleanup_free_ char *path = path_join(slot, "digest");
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = file_read(AT_FDCWD, path, 256, &text, error);

    if (r < 0)
        return error_prefix(error, r, "no content in %s", slot);
    if (text.len && text.data[text.len - 1] == '\n')
        text.data[--text.len] = '\0';
    if (!text.len || strlen(text.data) != text.len || !is_digest(text.data))
        return error_set(error, -EINVAL,
                         "%s: holds \"%.80s\"; the release's name was expected: 64 lower-case hex "
                         "digits",
                         path, text.len ? text.data : "");
    memcpy(ret_digest, text.data, SHA256_HEX_SIZE);
    return 0;
}

int content_load_payload(const char *payload, const struct engine *engine, struct content *ret,
                         struct error *error)
{
    _cleanup_content_ struct content content = {0};
    _cleanup_free_ char *rules = path_join(payload, "rules");
    _cleanup_free_ char *table = path_join(payload, "templates.bin");
    _cleanup_free_ char *panic = path_join(payload, "kernel-panic");
    int r = rules_load(rules, &content.rules, error);

    if (r < 0)
        return r;
    r = table_read(table, &content.table, error);
    if (r < 0)
        return r;
    r = engine_check(engine, &content.table, error);
    if (r < 0)
        return error_prefix(error, r, "%s", table);
    content.panics = access(panic, F_OK) == 0;
    *ret = content;
    content = (struct content){0};
    return 0;
}

int content_load(const char *slot, const struct engine *engine, struct content *ret,
                 struct error *error)
{
    _cleanup_free_ char *payload = path_join(slot, "payload");
    char digest[SHA256_HEX_SIZE];
    int r = content_digest(slot, digest, error);

    if (r < 0)
        return r;
    r = content_load_payload(payload, engine, ret, error);
    if (r < 0)
        return r;
    ret->slot = xstrdup(slot);
    memcpy(ret->digest, digest, sizeof(digest));
    return 0;
}

void content_free(struct content *content)
{
    free(content->slot);
    rules_free(&content->rules);
    table_free(&content->table);
    *content = (struct content){0};
}
