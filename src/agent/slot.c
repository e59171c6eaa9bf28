#include "agent/slot.h"

#include "agent/copy.h"
#include "agent/hooks.h"
#include "base/encode.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parse.h"
#include "release/payload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

char *slot_path(const char *dir, const char *release)
{
    return xasprintf("%s/slots/%s", dir, release);
}

static char *in_slot(const char *dir, const char *release, const char *name)
{
    return xasprintf("%s/slots/%s/%s", dir, release, name);
}

/* Calls `visit` with every name in slots/. */
static void each_slot(const char *dir,
                      void (*visit)(const char *dir, const char *name, const char *const *keep),
                      const char *const *keep)
{
    _cleanup_free_ char *path = xasprintf("%s/slots", dir);
    DIR *slots = opendir(path);
    struct dirent *entry;

    if (!slots)
        return;
    while ((entry = readdir(slots)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            visit(dir, entry->d_name, keep);
    (void)closedir(slots);
}

static void remove_slot(const char *dir, const char *name)
{
    _cleanup_free_ char *path = slot_path(dir, name);
    _cleanup_free_ char *doomed = xasprintf("%s/slots/.gone-%s", dir, name);
    struct error error = ERROR_INIT;
    int r;

    /* A half-removed slot must not lie under a release's name. */
    r = name[0] == '.' ? tree_remove(AT_FDCWD, path, &error)
                       : file_rename(AT_FDCWD, path, doomed, &error);
    if (r == 0 && name[0] != '.')
        r = tree_remove(AT_FDCWD, doomed, &error);
    if (r < 0)
        log_warning("slot-not-removed", "%s", error.text);
}

static void remove_leftover(const char *dir, const char *name, const char *const *keep)
{
    (void)keep;
    if (name[0] == '.')
        remove_slot(dir, name);
}

static void remove_unwanted(const char *dir, const char *name, const char *const *keep)
{
    for (; *keep; keep++)
        if (strcmp(*keep, name) == 0)
            return;
    remove_slot(dir, name);
}

int slots_open(const char *dir, struct error *error)
{
    _cleanup_free_ char *slots = xasprintf("%s/slots", dir);
    struct stat st;
    int r = dir_make(AT_FDCWD, slots, 0755, error);

    if (r < 0)
        return r;
    if (lstat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || lstat(slots, &st) < 0 ||
        !S_ISDIR(st.st_mode))
        return error_set(error, -ENOTDIR,
                         "%s: a link stands where the agent keeps its slots: expected a folder",
                         slots);
    each_slot(dir, remove_leftover, NULL);
    return 0;
}

void slots_collect(const char *dir, const char *const *keep)
{
    each_slot(dir, remove_unwanted, keep);
}

bool slot_exists(const char *dir, const char *release)
{
    _cleanup_free_ char *path = slot_path(dir, release);
    struct stat st;

    return is_digest(release) && lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int read_manifest(const char *dir, const char *release, struct buf *ret, struct error *error)
{
    _cleanup_free_ char *path = in_slot(dir, release, "manifest.yaml");
    char sum[SHA256_HEX_SIZE];
    int r = file_read(AT_FDCWD, path, MANIFEST_MAX, ret, error);

    if (r < 0)
        return r;
    sha256_hex(ret->data ? ret->data : "", ret->len, sum);
    if (strcmp(sum, release) != 0)
        return error_set(error, -EBADMSG, "%s: its SHA-256 is %s: expected the slot's name", path,
                         sum);
    return 0;
}

int slot_manifest(const char *dir, const char *release, struct manifest *ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = read_manifest(dir, release, &text, error);

    *ret = (struct manifest){0};
    if (r < 0)
        return r;
    r = manifest_parse(text.data, text.len, MANIFEST_DEVICE, ret, error);
    if (r < 0) /* adopted content may have no payload section */
        r = manifest_parse(text.data, text.len, MANIFEST_SOURCE, ret, error);
    return r;
}

static int verify_file(const char *path, const char *expected, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = file_read(AT_FDCWD, path, 256, &text, error);

    if (r < 0)
        return r;
    if (text.len != 65 || text.data[64] != '\n' || strncmp(text.data, expected, 64) != 0)
        return error_set(error, -EBADMSG, "%s: expected %s and a newline", path, expected);
    return 0;
}

int slot_verify(const char *dir, const char *release, struct error *error)
{
    _cleanup_buf_ struct buf manifest = BUF_INIT;
    _cleanup_free_ char *digest = in_slot(dir, release, "digest");
    _cleanup_free_ char *tree = in_slot(dir, release, "tree");
    _cleanup_free_ char *payload = in_slot(dir, release, "payload");
    char sum[65];
    int r = is_digest(release) ? read_manifest(dir, release, &manifest, error)
                               : error_set(error, -EBADMSG, "\"%.64s\" is no release", release);

    if (r == 0)
        r = verify_file(digest, release, error);
    if (r == 0)
        r = payload_tree_digest(payload, sum, error);
    return r == 0 ? verify_file(tree, sum, error) : r;
}

static int write_line(const char *folder, const char *name, const char *text, struct error *error)
{
    _cleanup_free_ char *path = path_join(folder, name);
    _cleanup_free_ char *line = xasprintf("%s\n", text);

    return file_write(AT_FDCWD, path, line, strlen(line), 0644, error);
}

/* Everything but the payload, which is there; then the rename that makes it a slot. */
static int finish(const char *dir, const char *tmp, const char *release, const void *manifest,
                  size_t len, const char *signature, struct error *error)
{
    _cleanup_free_ char *payload = path_join(tmp, "payload");
    _cleanup_free_ char *manifest_path = path_join(tmp, "manifest.yaml");
    _cleanup_free_ char *signature_path = path_join(tmp, "manifest.sig");
    _cleanup_free_ char *final = slot_path(dir, release);
    char sum[65];
    int r = payload_tree_digest(payload, sum, error);

    if (r == 0)
        r = write_line(tmp, "tree", sum, error);
    if (r == 0)
        r = file_write(AT_FDCWD, manifest_path, manifest, len, 0644, error);
    if (r == 0 && signature)
        r = file_write(AT_FDCWD, signature_path, signature, strlen(signature), 0644, error);
    if (r == 0)
        r = write_line(tmp, "digest", release, error);
    crash_point("", "slot-written");
    if (r == 0)
        r = tree_sync(AT_FDCWD, tmp, error);
    crash_point("", "slot-synced");
    if (r == 0)
        r = file_rename(AT_FDCWD, tmp, final, error);
    crash_point("", "slot-renamed");
    return r;
}

/* An empty folder for the slot-to-be, and its `payload`; 1: the slot is there, and whole. */
static int begin(const char *dir, const char *release, char **ret_tmp, char **ret_payload,
                 struct error *error)
{
    int r;

    *ret_tmp = xasprintf("%s/slots/.tmp-%s", dir, release);
    *ret_payload = path_join(*ret_tmp, "payload");
    if (slot_exists(dir, release)) {
        if (slot_verify(dir, release, NULL) == 0)
            return 1;
        remove_slot(dir, release);
    }
    r = tree_remove(AT_FDCWD, *ret_tmp, error);
    return r < 0 ? r : dir_make(AT_FDCWD, *ret_tmp, 0755, error);
}

int slot_stage(const char *dir, const struct manifest *manifest, const void *manifest_text,
               size_t manifest_len, const char *signature, const char *archive, struct error *error)
{
    struct payload_limits limits = {manifest->payload_unpacked, manifest->payload_files};
    _cleanup_free_ char *tmp = NULL;
    _cleanup_free_ char *payload = NULL;
    int r = begin(dir, manifest->release, &tmp, &payload, error);

    if (r == 1)
        return 0;
    if (r == 0)
        r = payload_unpack(archive, payload, &limits, error);
    crash_point("", "slot-unpacked");
    if (r == 0)
        r = finish(dir, tmp, manifest->release, manifest_text, manifest_len, signature, error);
    if (r < 0)
        (void)tree_remove(AT_FDCWD, tmp, NULL);
    return r;
}

int slot_adopt(const char *dir, const struct manifest *manifest, const void *manifest_text,
               size_t manifest_len, const char *content, struct error *error)
{
    _cleanup_free_ char *tmp = NULL;
    _cleanup_free_ char *payload = NULL;
    int r = begin(dir, manifest->release, &tmp, &payload, error);

    if (r == 1)
        return 0;
    if (r == 0)
        r = copy_tree(content, payload, error);
    if (r == 0)
        r = finish(dir, tmp, manifest->release, manifest_text, manifest_len, NULL, error);
    if (r < 0)
        (void)tree_remove(AT_FDCWD, tmp, NULL);
    return r;
}

int slot_link(const char *dir, const char *link, char ret[static 65], struct error *error)
{
    _cleanup_free_ char *path = path_join(dir, link);
    _cleanup_free_ char *target = NULL;
    int r = file_readlink(AT_FDCWD, path, &target);

    ret[0] = '\0';
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return error_set(error, r, "%s: cannot read the link: %s", path, strerrordesc_np(-r));
    if (strncmp(target, "slots/", 6) != 0 || !is_digest(target + 6))
        return error_set(error, -EBADMSG, "%s leads to \"%.128s\": expected slots/ and a release",
                         path, target);
    memcpy(ret, target + 6, 65);
    return 0;
}

int slot_set_link(const char *dir, const char *link, const char *release, struct error *error)
{
    _cleanup_free_ char *path = path_join(dir, link);
    _cleanup_free_ char *target = xasprintf("slots/%s", release);
    int r;

    if (*release == '\0')
        r = file_unlink(AT_FDCWD, path, error);
    else if (!slot_exists(dir, release))
        r = error_set(error, -ENOENT, "%s: there is no slot %s to point it at", path, release);
    else
        r = file_symlink(AT_FDCWD, path, target, error);
    crash_point("link-", link);
    return r;
}

static char *mark_path(const char *dir, const char *release)
{
    return in_slot(dir, release, "confirmed");
}

int slot_mark_write(const char *dir, const char *release, const struct slot_mark *mark,
                    struct error *error)
{
    _cleanup_free_ char *path = mark_path(dir, release);
    _cleanup_free_ char *text = xasprintf("%s %s %lld\n", *mark->from ? mark->from : "-",
                                          *mark->permit ? mark->permit : "-", (long long)mark->at);

    return file_write(AT_FDCWD, path, text, strlen(text), 0644, error);
}

int slot_mark_read(const char *dir, const char *release, struct slot_mark *ret)
{
    _cleanup_free_ char *path = mark_path(dir, release);
    _cleanup_buf_ struct buf text = BUF_INIT;
    char at[24];
    uint64_t when;
    int r = is_digest(release) ? file_read(AT_FDCWD, path, 256, &text, NULL) : -ENOENT;

    *ret = (struct slot_mark){0};
    if (r < 0)
        return r;
    if (sscanf(text.data ? text.data : "", "%64s %32s %23s", ret->from, ret->permit, at) != 3 ||
        parse_u64(at, 0, INT64_MAX, &when, NULL) < 0)
        return -EBADMSG;
    ret->at = (int64_t)when;
    if (!is_digest(ret->from))
        ret->from[0] = '\0';
    if (strcmp(ret->permit, "-") == 0)
        ret->permit[0] = '\0';
    return 0;
}
