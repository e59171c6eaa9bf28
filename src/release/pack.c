#include "release/payload.h"

#include "base/buf.h"
#include "base/encode.h"
#include "base/file.h"
#include "base/random.h"
#include "release/tree.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

/* The bytes depend on it: another level makes another release of the same tree. */
#define LEVEL 12
#define BLOCK 65536

/* Where the tar goes: through zstd into a file. */
struct sink {
    int fd;
    ZSTD_CCtx *zstd;
    uint8_t *out;
    int result; /* of the first system call that failed */
};

static int sink_feed(struct sink *sink, const void *data, size_t len, ZSTD_EndDirective end)
{
    ZSTD_inBuffer in = {data, len, 0};
    size_t left;

    do {
        ZSTD_outBuffer out = {sink->out, BLOCK, 0};

        left = ZSTD_compressStream2(sink->zstd, &out, &in, end);
        if (ZSTD_isError(left))
            return -EIO;
        sink->result = tree_write(sink->fd, sink->out, out.pos);
        if (sink->result < 0)
            return sink->result;
    } while (end == ZSTD_e_end ? left > 0 : in.pos < in.size);
    return 0;
}

static la_ssize_t on_write(struct archive *archive, void *data, const void *block, size_t len)
{
    struct sink *sink = data;

    if (sink_feed(sink, block, len, ZSTD_e_continue) < 0) {
        archive_set_error(archive, EIO, "cannot compress or write");
        return -1;
    }
    return (la_ssize_t)len;
}

struct pack {
    struct archive *archive;
    struct sink sink;
    int dirfd;
    const struct tree *tree;
};

static int write_failed(struct pack *pack, struct error *error)
{
    const char *text = archive_error_string(pack->archive);
    const int code = pack->sink.result < 0 ? pack->sink.result : -EIO;

    return error_set(error, code, "cannot write the archive: %s",
                     pack->sink.result < 0 || !text ? strerror(-code) : text);
}

static int pack_bytes(struct pack *pack, const struct tree_entry *entry, struct error *error)
{
    _cleanup_fd_ int fd = tree_open_file(pack->dirfd, entry->path);
    _cleanup_free_ uint8_t *block = xmalloc(BLOCK);
    uint64_t done = 0;

    if (fd < 0)
        return error_set(error, fd, "cannot open \"%.200s\": %s", entry->path, strerror(-fd));
    for (;;) {
        ssize_t n = read(fd, block, BLOCK);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(error, -errno, "cannot read \"%.200s\": %s", entry->path,
                             strerror(errno));
        if (n == 0)
            break;
        done += (uint64_t)n;
        if (done > entry->size)
            break;
        if (archive_write_data(pack->archive, block, (size_t)n) != n)
            return write_failed(pack, error);
    }
    if (done != entry->size)
        return error_set(error, -EBUSY,
                         "\"%.200s\" changed while it was packed; stop what writes to it and pack "
                         "again",
                         entry->path);
    return 0;
}

static int pack_entry(struct pack *pack, const struct tree_entry *entry, struct error *error)
{
    struct archive_entry *header = archive_entry_new();
    int r;

    if (!header)
        abort(); /* out of memory */
    archive_entry_set_pathname(header, entry->path);
    archive_entry_set_filetype(header, entry->folder ? AE_IFDIR : AE_IFREG);
    archive_entry_set_perm(header, entry->folder || (entry->mode & 0100) ? 0755 : 0644);
    archive_entry_set_size(header, (la_int64_t)entry->size);
    archive_entry_set_mtime(header, 0, 0);
    archive_entry_set_uid(header, 0);
    archive_entry_set_gid(header, 0);
    r = archive_write_header(pack->archive, header);
    archive_entry_free(header);
    if (r != ARCHIVE_OK)
        return write_failed(pack, error);
    return entry->folder ? 0 : pack_bytes(pack, entry, error);
}

static int pack_tree(struct pack *pack, struct error *error)
{
    /* ustar, with pax headers only where ustar has no room (long paths, files over 8 GiB). */
    if (archive_write_set_format_pax_restricted(pack->archive) != ARCHIVE_OK ||
        archive_write_open(pack->archive, &pack->sink, NULL, on_write, NULL) != ARCHIVE_OK)
        return write_failed(pack, error);
    for (size_t i = 0; i < pack->tree->count; i++) {
        int r = pack_entry(pack, &pack->tree->entries[i], error);

        if (r < 0)
            return r;
    }
    if (archive_write_close(pack->archive) != ARCHIVE_OK ||
        sink_feed(&pack->sink, NULL, 0, ZSTD_e_end) < 0)
        return write_failed(pack, error);
    return 0;
}

static int pack_into(int fd, int dirfd, const struct tree *tree, struct error *error)
{
    struct pack pack = {.archive = archive_write_new(),
                        .dirfd = dirfd,
                        .tree = tree,
                        .sink = {.fd = fd, .zstd = ZSTD_createCCtx(), .out = xmalloc(BLOCK)}};
    int r;

    if (!pack.sink.zstd || !pack.archive)
        abort(); /* out of memory */
    ZSTD_CCtx_setParameter(pack.sink.zstd, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(pack.sink.zstd, ZSTD_c_windowLog, PAYLOAD_WINDOW_LOG);
    ZSTD_CCtx_setParameter(pack.sink.zstd, ZSTD_c_checksumFlag, 1);
    r = pack_tree(&pack, error);
    archive_write_free(pack.archive);
    ZSTD_freeCCtx(pack.sink.zstd);
    free(pack.sink.out);
    return r;
}

static int pack_to_file(const char *temporary, int dirfd, const struct tree *tree,
                        struct payload_info *ret, struct error *error)
{
    _cleanup_fd_ int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    uint8_t digest[SHA256_SIZE];
    int r;

    if (fd < 0)
        return error_set(error, -errno, "cannot make %s: %s", temporary, strerror(errno));
    r = pack_into(fd, dirfd, tree, error);
    if (r == 0 && fsync(fd) < 0)
        r = error_set(error, -errno, "cannot sync %s: %s", temporary, strerror(errno));
    if (r < 0)
        return r;
    r = sha256_fd(fd, UINT64_MAX, digest, &ret->size);
    if (r < 0)
        return error_set(error, r, "cannot read %s: %s", temporary, strerror(-r));
    hex_encode(digest, sizeof(digest), ret->sha256);
    return 0;
}

int payload_pack(const char *dir, const char *path, struct payload_info *ret, struct error *error)
{
    __attribute__((cleanup(tree_free))) struct tree tree = {0};
    _cleanup_fd_ int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_free_ char *temporary = NULL;
    struct payload_info info = {0};
    char suffix[17];
    int r;

    if (dirfd < 0)
        return error_set(error, -errno, "cannot open the folder %s to pack it: %s", dir,
                         strerror(errno));
    r = tree_list(dirfd, dir, &tree, error);
    if (r < 0)
        return r;
    if (tree.files == 0)
        return error_set(error, -EINVAL, "%s holds no file; a payload needs at least one", dir);
    info.files = tree.files;
    info.unpacked = tree.bytes;
    random_hex(suffix, 8);
    temporary = xasprintf("%s.new-%s", path, suffix);
    r = pack_to_file(temporary, dirfd, &tree, &info, error);
    if (r < 0)
        error_prefix(error, r, "%s", path);
    else
        r = file_rename(AT_FDCWD, temporary, path, error);
    if (r < 0) {
        (void)unlink(temporary);
        return r;
    }
    *ret = info;
    return 0;
}
