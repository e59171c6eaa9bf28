#include "watch.h"

#include "base/buf.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct watched *)a)->name, ((const struct watched *)b)->name);
}

static void cleanup_dir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static void files_free(struct watched *files, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(files[i].name);
    free(files);
}

static void files_add(struct watched **files, size_t *count, size_t *cap, const char *name,
                      const struct stat *st)
{
    if (*count == *cap) {
        *cap = *cap ? 2 * *cap : 64;
        *files = xrealloc(*files, *cap, sizeof(**files));
    }
    (*files)[(*count)++] = (struct watched){
        .name = xstrdup(name),
        .size = st->st_size,
        .mtime_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec,
        .inode = st->st_ino,
    };
}

static int list(const char *path, struct watched **ret_files, size_t *ret_count,
                struct error *error)
{
    __attribute__((cleanup(cleanup_dir))) DIR *dir = opendir(path);
    const struct dirent *entry;
    size_t cap = 0;
    int r = 0;

    if (!dir)
        return error_set(error, -errno, "%s: cannot read the watched folder: %s", path,
                         strerror(errno));
    while ((entry = readdir(dir))) {
        struct stat st;

        /* A file that went away meanwhile is no trouble. */
        if (fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISREG(st.st_mode))
            continue;
        if (*ret_count == WATCH_MAX_FILES) {
            r = error_set(error, -E2BIG, "%s: holds more than %d files; the rest is not watched",
                          path, WATCH_MAX_FILES);
            break;
        }
        files_add(ret_files, ret_count, &cap, entry->d_name, &st);
    }
    if (*ret_count)
        qsort(*ret_files, *ret_count, sizeof(**ret_files), by_name);
    return r;
}

static bool same(const struct watched *a, const struct watched *b)
{
    return a->size == b->size && a->mtime_ns == b->mtime_ns && a->inode == b->inode;
}

int watch_look(struct watch *watch, void (*changed)(const char *path, void *user), void *user,
               struct error *error)
{
    struct watched *files = NULL;
    size_t count = 0, old = 0;
    int r = list(watch->path, &files, &count, error);

    if (r < 0 && r != -E2BIG)
        return r;
    for (size_t i = 0; i < count; i++) {
        while (old < watch->count && by_name(&watch->files[old], &files[i]) < 0)
            old++;
        if (old < watch->count && by_name(&watch->files[old], &files[i]) == 0 &&
            same(&watch->files[old], &files[i]))
            continue;
        _cleanup_free_ char *path = path_join(watch->path, files[i].name);
        changed(path, user);
    }
    files_free(watch->files, watch->count);
    watch->files = files;
    watch->count = count;
    return r;
}

void watch_forget(struct watch *watch)
{
    files_free(watch->files, watch->count);
    watch->files = NULL;
    watch->count = 0;
}

void watch_free(struct watch *watch)
{
    watch_forget(watch);
    free(watch->path);
    watch->path = NULL;
}
