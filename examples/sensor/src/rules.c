#include "rules.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <yara.h>

#define RULES_MAX_FILE ((size_t)4 << 20)
#define RULES_MAX_FILES 256
enum { SCAN_TIMEOUT = 5 /* seconds */ };

int rules_init(struct error *error)
{
    int code = yr_initialize();

    return code == ERROR_SUCCESS ? 0 : error_set(error, -EIO, "libyara says error %d", code);
}

/* Keeps the first complaint: later ones are often its consequences. */
static void keep_first_error(int level, const char *file, int line, const YR_RULE *rule,
                             const char *message, void *user)
{
    struct error *error = user;

    if (level == YARA_ERROR_LEVEL_ERROR && !error->text[0])
        error_set(error, -EINVAL, "line %d: %s", line, message);
}

static int is_rule_file(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name);

    return entry->d_name[0] != '.' && len > 4 && strcmp(entry->d_name + len - 4, ".yar") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_file(YR_COMPILER *compiler, const char *path, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct error complaint = ERROR_INIT;
    int r = file_read(AT_FDCWD, path, RULES_MAX_FILE, &text, error);

    if (r < 0)
        return r;
    if (text.len && memchr(text.data, '\0', text.len))
        return error_set(error, -EINVAL, "%s: holds a NUL byte; rules are text", path);
    yr_compiler_set_callback(compiler, keep_first_error, &complaint);
    if (yr_compiler_add_string(compiler, text.data ? text.data : "", NULL) > 0)
        return error_set(error, -EINVAL, "%s: %s", path, complaint.text);
    return 0;
}

static int compile(const char *folder, struct dirent **entries, int count, struct rules *ret,
                   struct error *error)
{
    YR_COMPILER *compiler = NULL;
    YR_RULE *rule;
    int r = 0;

    if (count == 0 || count > RULES_MAX_FILES)
        return error_set(error, -ENOENT, "%s: holds %d files *.yar; 1 to %d were expected", folder,
                         count, RULES_MAX_FILES);
    if (yr_compiler_create(&compiler) != ERROR_SUCCESS)
        return error_set(error, -ENOMEM, "libyara has no memory for a compiler");
    yr_compiler_set_include_callback(compiler, NULL, NULL, NULL);
    for (int i = 0; i < count && r == 0; i++) {
        _cleanup_free_ char *path = path_join(folder, entries[i]->d_name);

        r = add_file(compiler, path, error);
    }
    if (r == 0) {
        int code = yr_compiler_get_rules(compiler, &ret->compiled);

        if (code != ERROR_SUCCESS)
            r = error_set(error, -EINVAL, "%s: libyara cannot link the rules (error %d)", folder,
                          code);
    }
    yr_compiler_destroy(compiler);
    if (r < 0)
        return r;
    ret->count = 0;
    yr_rules_foreach(ret->compiled, rule) ret->count++;
    return 0;
}

int rules_load(const char *folder, struct rules *ret, struct error *error)
{
    struct dirent **entries = NULL;
    int count = scandir(folder, &entries, is_rule_file, by_name);
    int r;

    if (count < 0) {
        r = -errno;
        return error_set(error, r, "%s: cannot read the folder of rules: %s", folder, strerror(-r));
    }
    *ret = (struct rules){0};
    r = compile(folder, entries, count, ret, error);
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
    return r;
}

struct matches {
    struct buf *names;
    int count;
};

static int on_message(YR_SCAN_CONTEXT *context, int message, void *data, void *user)
{
    const YR_RULE *rule = data;
    struct matches *matches = user;

    if (message != CALLBACK_MSG_RULE_MATCHING)
        return CALLBACK_CONTINUE;
    buf_addf(matches->names, "%s%s", matches->count ? "," : "", rule->identifier);
    matches->count++;
    return CALLBACK_CONTINUE;
}

int rules_scan(const struct rules *rules, const void *data, size_t len, struct buf *ret,
               struct error *error)
{
    struct matches matches = {.names = ret};
    /* The bytes are ours: libyara need not put a handler on SIGSEGV or SIGBUS around them. */
    int code = yr_rules_scan_mem(rules->compiled, data ? data : (const void *)"", len,
                                 SCAN_FLAGS_NO_TRYCATCH, on_message, &matches, SCAN_TIMEOUT);

    if (code == ERROR_SCAN_TIMEOUT)
        return error_set(error, -ETIME, "the rules took more than %d s", SCAN_TIMEOUT);
    if (code != ERROR_SUCCESS)
        return error_set(error, -EIO, "libyara says error %d", code);
    return matches.count;
}

void rules_free(struct rules *rules)
{
    if (rules->compiled)
        yr_rules_destroy(rules->compiled);
    *rules = (struct rules){0};
}
