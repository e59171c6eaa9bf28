#include "release/tree.h"

#include "base/buf.h"
#include "base/encode.h"
#include "base/file.h"
#include "release/payload.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_FOLDER (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int payload_path_check(const char *path, struct error *error)
{
    const char *part = path;
    unsigned depth = 0;

    for (const char *c = path; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f)
            return error_set(error, -EINVAL,
                             "\"%.200s\" is no name for a payload: only printable ASCII is allowed",
                             path);
    if (strlen(path) > PAYLOAD_PATH_MAX)
        return error_set(error, -EINVAL,
                         "\"%.80s…\" is a path of %zu bytes, at most %d are allowed", path,
                         strlen(path), PAYLOAD_PATH_MAX);
    if (path[0] == '/')
        return error_set(error, -EINVAL,
                         "\"%.200s\" is an absolute path; a payload holds relative "
                         "ones only",
                         path);
    for (;;) {
        size_t len = strcspn(part, "/");

        if (len == 0 || (len == 1 && part[0] == '.') ||
            (len == 2 && part[0] == '.' && part[1] == '.'))
            return error_set(error, -EINVAL,
                             "\"%.200s\" has an empty, \".\" or \"..\" part; a payload stays "
                             "within its folder",
                             path);
        if (len > PAYLOAD_NAME_MAX)
            return error_set(error, -EINVAL,
                             "\"%.80s…\" has a name of %zu bytes, at most %d are allowed", path,
                             len, PAYLOAD_NAME_MAX);
        if (++depth > PAYLOAD_DEPTH_MAX)
            return error_set(error, -EINVAL, "\"%.80s…\" lies deeper than %d folders", path,
                             PAYLOAD_DEPTH_MAX);
        if (part[len] == '\0')
            return 0;
        part += len + 1;
    }
}

int tree_open_parent(int dirfd, const char *path, const char **ret_name)
{
    int fd = openat(dirfd, ".", OPEN_FOLDER);
    const char *slash;

    while (fd >= 0 && (slash = strchr(path, '/'))) {
        char name[PAYLOAD_NAME_MAX + 1];
        const size_t len = (size_t)(slash - path);
        _cleanup_fd_ int parent = fd;

        if (len >= sizeof(name))
            return -ENAMETOOLONG;
        memcpy(name, path, len);
        name[len] = '\0';
        fd = openat(parent, name, OPEN_FOLDER);
        if (fd < 0)
            return -errno;
        path = slash + 1;
    }
    *ret_name = path;
    return fd < 0 ? -errno : fd;
}

int tree_open_file(int dirfd, const char *path)
{
    const char *name = path;
    _cleanup_fd_ int parent = tree_open_parent(dirfd, path, &name);
    int fd;
    struct stat st;

    if (parent < 0)
        return parent;
    fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        return -EINVAL;
    }
    return fd;
}

int tree_write(int fd, const void *data, size_t len)
{
    const uint8_t *rest = data;

    while (len > 0) {
        ssize_t n = write(fd, rest, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        rest += n;
        len -= (size_t)n;
    }
    return 0;
}

static void cleanup_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

static const char *kind_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFLNK:
        return "a symbolic link";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    case S_IFBLK:
    case S_IFCHR:
        return "a device";
    default:
        return "no file";
    }
}

/* Adds one entry; its path is taken over. */
static int add_entry(struct tree *tree, char *path, const struct stat *st, const char *shown,
                     struct error *error)
{
    struct tree_entry *entry;

    if ((tree->count & (tree->count - 1)) == 0) /* full at each power of two */
        tree->entries =
            xrealloc(tree->entries, tree->count > 0 ? 2 * tree->count : 1, sizeof(*tree->entries));
    entry = &tree->entries[tree->count++];
    *entry = (struct tree_entry){.path = path,
                                 .folder = S_ISDIR(st->st_mode),
                                 .mode = st->st_mode & 07777,
                                 .size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0};
    if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
        return error_set(error, -EINVAL,
                         "%s: \"%.200s\" is %s; a payload holds regular files and folders only",
                         shown, path, kind_name(st->st_mode));
    if (st->st_mode & (S_ISUID | S_ISGID | S_ISVTX))
        return error_set(error, -EINVAL,
                         "%s: \"%.200s\" has a setuid, setgid or sticky bit (mode %04o); take it "
                         "away with chmod a-st",
                         shown, path, (unsigned)(st->st_mode & 07777));
    if (payload_path_check(path, error) < 0)
        return error_prefix(error, -EINVAL, "%s", shown);
    if (S_ISREG(st->st_mode)) {
        tree->files++;
        tree->bytes += entry->size;
    }
    return 0;
}

/* `prefix`: the folder's path, "" at the top. Takes `fd` over. */
static int list_folder(int fd, const char *prefix, const char *shown, struct tree *tree,
                       struct error *error)
{
    __attribute__((cleanup(cleanup_dir))) DIR *dir = fdopendir(fd);
    struct dirent *item;
    int r;

    if (!dir) {
        r = -errno;
        (void)close(fd);
        return error_set(error, r, "%s: cannot read the folder \"%.200s\": %s", shown, prefix,
                         strerror(-r));
    }
    for (;;) {
        char *path;
        struct stat st;
        int child;

        errno = 0;
        item = readdir(dir);
        if (!item)
            break;
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        path = prefix[0] == '\0' ? xstrdup(item->d_name) : path_join(prefix, item->d_name);
        if (fstatat(fd, item->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
            r = error_set(error, -errno, "%s: cannot look at \"%.200s\": %s", shown, path,
                          strerror(errno));
            free(path);
            return r;
        }
        r = add_entry(tree, path, &st, shown, error);
        if (r < 0)
            return r;
        if (!S_ISDIR(st.st_mode))
            continue;
        child = openat(fd, item->d_name, OPEN_FOLDER);
        if (child < 0)
            return error_set(error, -errno, "%s: cannot open the folder \"%.200s\": %s", shown,
                             path, strerror(errno));
        r = list_folder(child, path, shown, tree, error);
        if (r < 0)
            return r;
    }
    if (errno != 0)
        return error_set(error, -errno, "%s: cannot read the folder \"%.200s\": %s", shown, prefix,
                         strerror(errno));
    return 0;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct tree_entry *)a)->path, ((const struct tree_entry *)b)->path);
}

int tree_list(int dirfd, const char *shown, struct tree *ret, struct error *error)
{
    int fd = openat(dirfd, ".", OPEN_FOLDER);
    int r;

    *ret = (struct tree){0};
    if (fd < 0)
        return error_set(error, -errno, "%s: cannot open the folder: %s", shown, strerror(errno));
    r = list_folder(fd, "", shown, ret, error);
    if (r == 0 && ret->count - ret->files > PAYLOAD_FOLDERS_MAX)
        r = error_set(error, -EFBIG, "%s holds %" PRIu64 " folders, at most %d are allowed", shown,
                      (uint64_t)ret->count - ret->files, PAYLOAD_FOLDERS_MAX);
    if (r < 0) {
        tree_free(ret);
        return r;
    }
    if (ret->count > 0)
        qsort(ret->entries, ret->count, sizeof(*ret->entries), by_path);
    return 0;
}

void tree_free(struct tree *tree)
{
    for (size_t i = 0; i < tree->count; i++)
        free(tree->entries[i].path);
    free(tree->entries);
    *tree = (struct tree){0};
}

static int add_line(int dirfd, const struct tree_entry *entry, struct buf *lines,
                    struct error *error)
{
    _cleanup_fd_ int fd = -1;
    uint8_t digest[SHA256_SIZE];
    char hex[SHA256_HEX_SIZE];
    uint64_t size = 0;
    int r;

    if (entry->folder) {
        sha256_hex("", 0, hex);
        buf_addf(lines, "%04o 0 %s %s/\n", (unsigned)entry->mode, hex, entry->path);
        return 0;
    }
    fd = tree_open_file(dirfd, entry->path);
    if (fd < 0)
        return error_set(error, fd, "cannot open \"%.200s\": %s", entry->path, strerror(-fd));
    r = sha256_fd(fd, UINT64_MAX, digest, &size);
    if (r < 0)
        return error_set(error, r, "cannot read \"%.200s\": %s", entry->path, strerror(-r));
    hex_encode(digest, sizeof(digest), hex);
    buf_addf(lines, "%04o %" PRIu64 " %s %s\n", (unsigned)entry->mode, size, hex, entry->path);
    return 0;
}

int payload_tree_digest(const char *dir, char ret[static 65], struct error *error)
{
    __attribute__((cleanup(tree_free))) struct tree tree = {0};
    _cleanup_fd_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_buf_ struct buf lines = BUF_INIT;
    int r;

    if (fd < 0)
        return error_set(error, -errno, "cannot open the folder %s: %s", dir, strerror(errno));
    r = tree_list(fd, dir, &tree, error);
    for (size_t i = 0; r == 0 && i < tree.count; i++) {
        r = add_line(fd, &tree.entries[i], &lines, error);
        if (r < 0)
            return error_prefix(error, r, "%s", dir);
    }
    if (r < 0)
        return r;
    sha256_hex(lines.data ? lines.data : "", lines.len, ret);
    return 0;
}
