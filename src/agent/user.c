#include "agent/user.h"

#include "base/buf.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MOST 200

/* What stood at a product's `link` keeps its owners: it goes back there one day. */
static bool is_kept(const char *folder, const char *name)
{
    return strcmp(folder, "diverted") == 0 &&
           (strcmp(name, "original") == 0 || strcmp(name, "package") == 0);
}

/* Only root's own, and no file that has a second name elsewhere: NAME may have put it there. */
static int give(int fd, const struct stat *st, const struct passwd *to)
{
    if (st->st_uid != 0 || (!S_ISDIR(st->st_mode) && st->st_nlink > 1))
        return 0;
    return fchownat(fd, "", to->pw_uid, to->pw_gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0
               ? -errno
               : 0;
}

static int give_tree(int parent, const char *name, const struct passwd *to, unsigned depth)
{
    _cleanup_fd_ int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    const char *folder = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    struct dirent *entry;
    struct stat st;
    DIR *list;
    int r, inner;

    if (fd < 0 || fstat(fd, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    r = give(fd, &st, to);
    if (r < 0 || !S_ISDIR(st.st_mode) || depth == 0)
        return r;
    inner = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    list = inner < 0 ? NULL : fdopendir(inner);
    if (!list) {
        r = -errno;
        if (inner >= 0)
            (void)close(inner);
        return r;
    }
    while (r == 0 && (entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !is_kept(folder, entry->d_name))
            r = give_tree(inner, entry->d_name, to, depth - 1);
    (void)closedir(list);
    return r;
}

int user_become(const char *user, const struct paths *paths, struct error *error)
{
    const char *const folders[] = {paths->state, paths->run};
    const struct passwd *entry = getpwnam(user);

    if (!entry)
        return error_set(error, -ENOENT, "--user %s: there is no such user", user);
    if (getuid() == entry->pw_uid)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(folders); i++) {
        int r = give_tree(AT_FDCWD, folders[i], entry, DEPTH_MOST);

        if (r < 0)
            return error_set(error, r, "%s: cannot be given to %s: %s", folders[i], user,
                             strerrordesc_np(-r));
    }
    if (initgroups(user, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0 ||
        setuid(entry->pw_uid) < 0)
        return error_set(error, -errno, "--user %s: cannot become this user: %s", user,
                         strerrordesc_np(errno));
    return 0;
}
