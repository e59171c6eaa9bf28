#include "release/payload.h"

#include "base/buf.h"
#include "base/file.h"
#include "release/source.h"
#include "release/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the tar may have beyond the bytes of its files: for each entry its headers, a long name and
 * the rest of its last block; and the padding at the end. More is no archive but a bomb. */
#define ENTRY_MAX (8 * 512)
#define PADDING_MAX (1024 * 1024)

struct unpack {
    struct archive *archive;
    struct source source;
    const struct payload_limits *limits;
    int target;
    uint64_t bytes, files, folders;
};

/* What libarchive or the source has to say about a failed read. */
static int read_failed(struct unpack *unpack, struct error *error)
{
    const char *text = archive_error_string(unpack->archive);

    if (unpack->source.result < 0)
        return error_set(error, unpack->source.result, "%s", unpack->source.error.text);
    return error_set(error, -EBADMSG, "not a sound tar archive: %s",
                     text ? text : "it cannot be read");
}

static const char *entry_kind(struct archive_entry *entry)
{
    if (archive_entry_hardlink(entry))
        return "a hard link";
    if (archive_entry_symlink(entry))
        return "a symbolic link";
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
    case AE_IFDIR:
        return NULL;
    case AE_IFLNK:
        return "a symbolic link";
    case AE_IFIFO:
        return "a FIFO";
    case AE_IFBLK:
    case AE_IFCHR:
        return "a device";
    default:
        return "of an unknown kind";
    }
}

/* Everything about an entry but its bytes. `ret_path` is owned by the caller. */
static int check_entry(struct archive_entry *entry, char **ret_path, struct error *error)
{
    const char *name = archive_entry_pathname(entry), *kind = entry_kind(entry);
    const mode_t mode = archive_entry_perm(entry);
    _cleanup_free_ char *path = NULL;
    size_t len;

    if (!name)
        return error_set(error, -EINVAL, "an entry has a name that is not ASCII");
    path = xstrdup(name);
    len = strlen(path);
    if (kind)
        return error_set(error, -EINVAL,
                         "\"%.200s\" is %s; a payload holds regular files and folders only", path,
                         kind);
    /* tar writes a folder's name with a slash behind it */
    if (archive_entry_filetype(entry) == AE_IFDIR && len > 1 && path[len - 1] == '/')
        path[len - 1] = '\0';
    if (payload_path_check(path, error) < 0)
        return -EINVAL;
    if (mode & (S_ISUID | S_ISGID | S_ISVTX))
        return error_set(error, -EINVAL,
                         "\"%.200s\" has a setuid, setgid or sticky bit (mode %04o)", path,
                         (unsigned)mode);
    if (archive_entry_sparse_count(entry) > 0)
        return error_set(error, -EINVAL, "\"%.200s\" is sparse; a payload holds whole files", path);
    if (archive_entry_xattr_count(entry) > 0 || archive_entry_acl_types(entry) != 0 ||
        archive_entry_fflags_text(entry))
        return error_set(error, -EINVAL,
                         "\"%.200s\" carries extended attributes, an access list or flags", path);
    *ret_path = path;
    path = NULL;
    return 0;
}

static int too_large(const struct unpack *unpack, const char *path, struct error *error)
{
    return error_set(error, -EFBIG,
                     "\"%.200s\" makes the payload larger than the %" PRIu64
                     " bytes that its manifest allows",
                     path, unpack->limits->unpacked);
}

static int copy_bytes(struct unpack *unpack, struct archive_entry *entry, const char *path, int fd,
                      struct error *error)
{
    const uint64_t declared = (uint64_t)archive_entry_size(entry);
    uint64_t done = 0;

    for (;;) {
        const void *block;
        size_t len;
        la_int64_t offset;
        int r = archive_read_data_block(unpack->archive, &block, &len, &offset);

        if (r == ARCHIVE_EOF)
            break;
        if (r != ARCHIVE_OK)
            return read_failed(unpack, error);
        if (offset < 0 || (uint64_t)offset != done)
            return error_set(error, -EINVAL, "\"%.200s\" is sparse; a payload holds whole files",
                             path);
        if (len > unpack->limits->unpacked - unpack->bytes)
            return too_large(unpack, path, error);
        r = tree_write(fd, block, len);
        if (r < 0)
            return error_set(error, r == -EFBIG ? -ENOSPC : r, "cannot write \"%.200s\": %s", path,
                             strerror(-r));
        done += len;
        unpack->bytes += len;
    }
    if (done != declared)
        return error_set(error, -EINVAL,
                         "\"%.200s\" has %" PRIu64 " bytes, its header says %" PRIu64, path, done,
                         declared);
    return 0;
}

static int cannot_make(int code, const char *path, struct error *error)
{
    switch (code) {
    case -EEXIST:
        return error_set(error, -EINVAL, "\"%.200s\" is in the archive twice", path);
    case -ENOENT:
        return error_set(error, -EINVAL, "\"%.200s\" comes before the folder that it lies in",
                         path);
    case -ENOTDIR:
    case -ELOOP:
        return error_set(error, -EINVAL, "\"%.200s\" lies below something that is no folder", path);
    default:
        return error_set(error, code, "cannot make \"%.200s\": %s", path, strerror(-code));
    }
}

static int unpack_file(struct unpack *unpack, struct archive_entry *entry, int parent,
                       const char *name, const char *path, struct error *error)
{
    const mode_t mode = archive_entry_perm(entry) & 0100 ? 0755 : 0644;
    _cleanup_fd_ int fd = -1;
    int r;

    if (archive_entry_size(entry) < 0 ||
        (uint64_t)archive_entry_size(entry) > unpack->limits->unpacked - unpack->bytes)
        return too_large(unpack, path, error);
    if (++unpack->files > unpack->limits->files)
        return error_set(error, -EFBIG,
                         "\"%.200s\" is one file more than the %" PRIu64
                         " that its manifest allows",
                         path, unpack->limits->files);
    fd = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return cannot_make(-errno, path, error);
    r = copy_bytes(unpack, entry, path, fd, error);
    if (r == 0 && fchmod(fd, mode) < 0)
        r = error_set(error, -errno, "cannot set the mode of \"%.200s\": %s", path,
                      strerror(errno));
    return r;
}

static int unpack_folder(struct unpack *unpack, int parent, const char *name, const char *path,
                         struct error *error)
{
    if (++unpack->folders > PAYLOAD_FOLDERS_MAX)
        return error_set(error, -EFBIG,
                         "\"%.200s\" is one folder more than the %d that are allowed", path,
                         PAYLOAD_FOLDERS_MAX);
    if (mkdirat(parent, name, 0700) < 0)
        return cannot_make(-errno, path, error);
    /* whatever the umask says */
    if (fchmodat(parent, name, 0755, 0) < 0)
        return error_set(error, -errno, "cannot set the mode of \"%.200s\": %s", path,
                         strerror(errno));
    return 0;
}

static int unpack_entry(struct unpack *unpack, struct archive_entry *entry, struct error *error)
{
    _cleanup_free_ char *path = NULL;
    _cleanup_fd_ int parent = -1;
    const char *name;
    int r;

    r = check_entry(entry, &path, error);
    if (r < 0)
        return r;
    parent = tree_open_parent(unpack->target, path, &name);
    if (parent < 0)
        return cannot_make(parent, path, error);
    if (archive_entry_filetype(entry) == AE_IFDIR)
        return unpack_folder(unpack, parent, name, path, error);
    return unpack_file(unpack, entry, parent, name, path, error);
}

static int unpack_all(struct unpack *unpack, struct error *error)
{
    struct archive_entry *entry;

    if (archive_read_support_format_tar(unpack->archive) != ARCHIVE_OK ||
        archive_read_open(unpack->archive, &unpack->source, NULL, source_read, NULL) != ARCHIVE_OK)
        return read_failed(unpack, error);
    for (;;) {
        int r = archive_read_next_header(unpack->archive, &entry);

        if (r == ARCHIVE_EOF)
            break;
        if (r != ARCHIVE_OK)
            return read_failed(unpack, error);
        source_allow(&unpack->source, ENTRY_MAX);
        r = unpack_entry(unpack, entry, error);
        if (r < 0)
            return r;
    }
    if (unpack->files == 0)
        return error_set(error, -EBADMSG, "holds no file; a payload has at least one");
    /* What follows the end of the tar must be its padding, and nothing follows the frame. */
    if (source_finish(&unpack->source, (uint64_t)archive_filter_bytes(unpack->archive, 0)) < 0)
        return read_failed(unpack, error);
    return 0;
}

static int unpack_into(int fd, int target, const struct payload_limits *limits, struct error *error)
{
    struct unpack unpack = {.archive = archive_read_new(), .limits = limits, .target = target};
    uint64_t most;
    int r;

    if (!unpack.archive)
        abort(); /* out of memory */
    if (__builtin_add_overflow(limits->unpacked, PADDING_MAX, &most))
        most = UINT64_MAX;
    source_init(&unpack.source, fd, most);
    r = unpack_all(&unpack, error);
    archive_read_free(unpack.archive);
    source_clear(&unpack.source);
    return r;
}

static int sync_target(const char *target, struct error *error)
{
    const char *slash = strrchr(target, '/');
    _cleanup_free_ char *parent =
        slash ? xstrndup(target, slash == target ? 1 : (size_t)(slash - target)) : xstrdup(".");
    int r = tree_sync(AT_FDCWD, target, error);

    return r < 0 ? r : dir_sync(AT_FDCWD, parent, error);
}

int payload_unpack(const char *path, const char *target, const struct payload_limits *limits,
                   struct error *error)
{
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    _cleanup_fd_ int target_fd = -1;
    int r;

    if (fd < 0)
        return error_set(error, -errno, "cannot open the payload %s: %s", path, strerror(errno));
    if (mkdir(target, 0755) < 0)
        return error_set(error, -errno, "cannot make the folder %s: %s", target, strerror(errno));
    target_fd = open(target, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (target_fd < 0 || fchmod(target_fd, 0755) < 0)
        r = error_set(error, -errno, "cannot open the folder %s: %s", target, strerror(errno));
    else
        r = unpack_into(fd, target_fd, limits, error);
    if (r < 0)
        error_prefix(error, r, "payload %s", path);
    else
        r = sync_target(target, error);
    if (r < 0)
        (void)tree_remove(AT_FDCWD, target, NULL);
    return r;
}
