#include "support.h"

#include <dirent.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static char *at(void **state, const char *name)
{
    return path_join(*state, name);
}

static unsigned count_entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir))
        count++;
    (void)closedir(dir);
    return count - 2;
}

static void assert_holds(const char *path, const char *expected)
{
    _cleanup_buf_ struct buf buf = BUF_INIT;
    struct error error = ERROR_INIT;

    if (file_read(AT_FDCWD, path, 1 << 20, &buf, &error) < 0)
        fail_msg("%s", error.text);
    assert_string_equal(buf.data ? buf.data : "", expected);
}

static void put(const char *path, const char *text)
{
    struct error error = ERROR_INIT;

    if (file_write(AT_FDCWD, path, text, strlen(text), 0644, &error) < 0)
        fail_msg("%s", error.text);
}

static void a_file_is_read_whole_and_added(void **state)
{
    _cleanup_free_ char *path = at(state, "f");
    _cleanup_buf_ struct buf buf = BUF_INIT;
    struct error error = ERROR_INIT;

    put(path, "hello");
    buf_add_str(&buf, ">");
    assert_int_equal(file_read(AT_FDCWD, path, 5, &buf, &error), 0);
    assert_string_equal(buf.data, ">hello");
    assert_int_equal(file_read(AT_FDCWD, path, 4, &buf, &error), -EFBIG);
    assert_contains(error.text, "4 bytes");
    assert_string_equal(buf.data, ">hello");
}

static void a_file_without_a_size_is_read_too(void **state)
{
    _cleanup_buf_ struct buf buf = BUF_INIT;
    struct error error = ERROR_INIT;

    assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 1 << 20, &buf, &error), 0);
    assert_contains(buf.data, "VmRSS");
    assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 10, &buf, &error), -EFBIG);
}

static void links_folders_and_fifos_are_not_read(void **state)
{
    _cleanup_free_ char *target = at(state, "f"), *link = at(state, "l"), *fifo = at(state, "p");
    _cleanup_buf_ struct buf buf = BUF_INIT;
    struct error error = ERROR_INIT;

    put(target, "x");
    assert_int_equal(file_symlink(AT_FDCWD, link, "f", &error), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(file_read(AT_FDCWD, link, 9, &buf, &error), -ELOOP);
    assert_int_equal(file_read(AT_FDCWD, fifo, 9, &buf, &error), -EINVAL);
    assert_int_equal(file_read(AT_FDCWD, *state, 9, &buf, &error), -EISDIR);
    assert_int_equal(file_read(AT_FDCWD, "/dev/zero", 9, &buf, &error), -EINVAL);
    assert_int_equal(file_read(AT_FDCWD, "/nonexistent/x", 9, &buf, &error), -ENOENT);
    assert_contains(error.text, "/nonexistent/x");
    assert_int_equal(buf.len, 0);
}

static void a_write_sets_content_and_mode_whatever_the_umask(void **state)
{
    _cleanup_free_ char *path = at(state, "f");
    struct error error = ERROR_INIT;
    mode_t old = umask(0077);
    struct stat st;

    assert_int_equal(file_write(AT_FDCWD, path, "a", 1, 0644, &error), 0);
    (void)umask(old);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    put(path, "");
    assert_holds(path, "");
    assert_int_equal(count_entries(*state), 1);
}

static void a_write_replaces_a_link_instead_of_following_it(void **state)
{
    _cleanup_free_ char *target = at(state, "f"), *link = at(state, "l");
    struct error error = ERROR_INIT;

    put(target, "old");
    assert_int_equal(file_symlink(AT_FDCWD, link, "f", &error), 0);
    put(link, "new");
    assert_holds(target, "old");
    assert_holds(link, "new");
}

/* The call to fail, counted from 0; -1: none. */
static int fail_at, calls;

static int fail_one(const char *call, const char *path)
{
    (void)call;
    (void)path;
    return calls++ == fail_at ? -ENOSPC : 0;
}

static void a_write_that_fails_at_any_step_leaves_a_whole_file_and_no_other(void **state)
{
    _cleanup_free_ char *path = at(state, "f");

    put(path, "old");
    for (fail_at = 0;; fail_at++) {
        _cleanup_buf_ struct buf buf = BUF_INIT;
        struct error error = ERROR_INIT;
        int r;

        calls = 0;
        file_set_fault(fail_one);
        r = file_write(AT_FDCWD, path, "new", 3, 0600, &error);
        file_set_fault(NULL);
        assert_int_equal(count_entries(*state), 1);
        if (calls <= fail_at) {
            assert_int_equal(r, 0);
            assert_holds(path, "new");
            break;
        }
        assert_int_equal(r, -ENOSPC);
        assert_contains(error.text, "No space left");
        assert_int_equal(file_read(AT_FDCWD, path, 9, &buf, &error), 0);
        /* Only the folder's own fsync, the last step, comes after the rename. */
        assert_string_equal(buf.data, calls == 6 ? "new" : "old");
    }
    assert_int_equal(fail_at, 6); /* open, write, chmod, fsync, rename, fsync */
}

static void a_failed_write_of_a_new_file_leaves_nothing(void **state)
{
    _cleanup_free_ char *path = at(state, "f");

    for (fail_at = 0; fail_at < 5; fail_at++) {
        struct error error = ERROR_INIT;

        calls = 0;
        file_set_fault(fail_one);
        assert_int_equal(file_write(AT_FDCWD, path, "new", 3, 0600, &error), -ENOSPC);
        file_set_fault(NULL);
        assert_int_equal(count_entries(*state), 0);
    }
}

static void an_error_names_the_file(void **state)
{
    struct error error = ERROR_INIT;

    assert_int_equal(file_write(AT_FDCWD, "/proc/self/nothing", "x", 1, 0600, &error), -ENOENT);
    assert_contains(error.text, "/proc/self/nothing");
}

static void a_link_moves_in_one_step_and_leaves_nothing_behind(void **state)
{
    _cleanup_free_ char *link = at(state, "current");
    struct error error = ERROR_INIT;

    assert_int_equal(file_symlink(AT_FDCWD, link, "a", &error), 0);
    for (fail_at = 0;; fail_at++) {
        _cleanup_free_ char *target = NULL;
        int r;

        calls = 0;
        file_set_fault(fail_one);
        r = file_symlink(AT_FDCWD, link, "b", &error);
        file_set_fault(NULL);
        assert_int_equal(count_entries(*state), 1);
        assert_int_equal(file_readlink(AT_FDCWD, link, &target), 0);
        if (calls <= fail_at) {
            assert_int_equal(r, 0);
            assert_string_equal(target, "b");
            break;
        }
        assert_int_equal(r, -ENOSPC);
        assert_string_equal(target, calls == 3 ? "b" : "a");
    }
    assert_int_equal(fail_at, 3); /* symlink, rename, fsync */
}

static void a_target_of_any_length_is_read(void **state)
{
    _cleanup_free_ char *link = at(state, "l"), *file = at(state, "f"), *got = NULL;
    struct error error = ERROR_INIT;
    char target[2000];

    memset(target, 't', sizeof(target) - 1);
    target[sizeof(target) - 1] = '\0';
    assert_int_equal(file_symlink(AT_FDCWD, link, target, &error), 0);
    assert_int_equal(file_readlink(AT_FDCWD, link, &got), 0);
    assert_string_equal(got, target);
    put(file, "");
    assert_int_equal(file_readlink(AT_FDCWD, file, &got), -EINVAL);
    assert_int_equal(file_readlink(AT_FDCWD, "/nonexistent", &got), -ENOENT);
}

static void folders_are_made_level_by_level_with_their_mode(void **state)
{
    _cleanup_free_ char *path = at(state, "a//b/c/"), *b = at(state, "a/b"), *f = at(state, "f"),
                        *below = at(state, "f/x");
    struct error error = ERROR_INIT;
    mode_t old = umask(0077);
    struct stat st;

    assert_int_equal(dir_make(AT_FDCWD, path, 0755, &error), 0);
    (void)umask(old);
    assert_int_equal(stat(b, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(dir_make(AT_FDCWD, path, 0700, &error), 0);
    assert_int_equal(stat(b, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    put(f, "");
    assert_int_equal(dir_make(AT_FDCWD, f, 0755, &error), -ENOTDIR);
    assert_int_equal(dir_make(AT_FDCWD, below, 0755, &error), -ENOTDIR);
    assert_contains(error.text, "not a folder");
}

static void paths_may_be_relative_to_a_folder(void **state)
{
    _cleanup_fd_ int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    _cleanup_buf_ struct buf buf = BUF_INIT;
    struct error error = ERROR_INIT;

    assert_int_equal(dir_make(fd, "a/b", 0755, &error), 0);
    assert_int_equal(file_write(fd, "a/b/f", "x", 1, 0600, &error), 0);
    assert_int_equal(file_rename(fd, "a/b/f", "g", &error), 0);
    assert_int_equal(file_read(fd, "g", 9, &buf, &error), 0);
    assert_int_equal(tree_sync(fd, "a", &error), 0);
    assert_int_equal(tree_remove(fd, "a", &error), 0);
    assert_int_equal(file_unlink(fd, "g", &error), 0);
    assert_int_equal(file_unlink(fd, "g", &error), 0);
    assert_int_equal(count_entries(*state), 0);
}

static char log_text[4096];

static int note(const char *call, const char *path)
{
    size_t used = strlen(log_text);
    const char *slash = strrchr(path, '/');

    (void)snprintf(log_text + used, sizeof(log_text) - used, "%s %s,", call,
                   slash ? slash + 1 : path);
    return 0;
}

static void a_rename_syncs_both_folders_the_new_one_first(void **state)
{
    _cleanup_fd_ int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct error error = ERROR_INIT;

    assert_int_equal(dir_make(fd, "one", 0755, &error), 0);
    assert_int_equal(dir_make(fd, "two", 0755, &error), 0);
    assert_int_equal(file_write(fd, "one/f", "x", 1, 0600, &error), 0);
    log_text[0] = '\0';
    file_set_fault(note);
    assert_int_equal(file_rename(fd, "one/f", "two/g", &error), 0);
    assert_string_equal(log_text, "rename g,fsync two,fsync one,");
    assert_int_equal(file_rename(fd, "one/f", "two/g", &error), -ENOENT);
}

static void a_tree_is_synced_deepest_first_without_following_links(void **state)
{
    _cleanup_fd_ int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct error error = ERROR_INIT;

    assert_int_equal(dir_make(fd, "t/u", 0755, &error), 0);
    assert_int_equal(file_write(fd, "t/u/f", "x", 1, 0600, &error), 0);
    assert_int_equal(file_symlink(fd, "t/u/out", "/etc", &error), 0);
    assert_int_equal(mkfifoat(fd, "t/u/fifo", 0600), 0);
    log_text[0] = '\0';
    file_set_fault(note);
    assert_int_equal(tree_sync(fd, "t", &error), 0);
    assert_string_equal(log_text, "fsync f,fsync u,fsync t,");
    assert_int_equal(tree_sync(fd, "absent", &error), -ENOENT);
}

static void removing_a_tree_follows_no_link(void **state)
{
    _cleanup_fd_ int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct error error = ERROR_INIT;

    assert_int_equal(dir_make(fd, "keep", 0755, &error), 0);
    assert_int_equal(file_write(fd, "keep/f", "x", 1, 0600, &error), 0);
    assert_int_equal(dir_make(fd, "t/locked", 0755, &error), 0);
    assert_int_equal(file_write(fd, "t/locked/f", "x", 1, 0400, &error), 0);
    assert_int_equal(file_symlink(fd, "t/out", "../keep", &error), 0);
    assert_int_equal(file_symlink(fd, "link", "keep", &error), 0);
    assert_int_equal(mkfifoat(fd, "t/fifo", 0600), 0);
    assert_int_equal(fchmodat(fd, "t/locked", 0500, 0), 0);
    assert_int_equal(tree_remove(fd, "t/", &error), 0);
    assert_int_equal(tree_remove(fd, "t", &error), 0);
    assert_int_equal(tree_remove(fd, "link", &error), 0);
    assert_int_equal(faccessat(fd, "keep/f", F_OK, 0), 0);
    assert_int_equal(count_entries(*state), 1);
}

static void a_tree_as_deep_as_a_trap_is_an_error(void **state)
{
    _cleanup_fd_ int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct error error = ERROR_INIT;
    _cleanup_buf_ struct buf path = BUF_INIT;

    for (int i = 0; i < 300; i++)
        buf_add_str(&path, i ? "/d" : "d");
    assert_int_equal(dir_make(fd, path.data, 0755, &error), 0);
    assert_int_equal(tree_sync(fd, "d", &error), -ELOOP);
    assert_int_equal(tree_remove(fd, "d", &error), -ELOOP);
    assert_contains(error.text, "200 folders");
    path.data[2 * 150 - 1] = '\0'; /* in two bites it goes */
    assert_int_equal(tree_remove(fd, path.data, &error), 0);
}

static void free_space_is_measured_where_the_path_lies(void **state)
{
    struct error error = ERROR_INIT;
    uint64_t space = 0;

    assert_int_equal(space_free(AT_FDCWD, *state, &space, &error), 0);
    assert_true(space > 0);
    assert_int_equal(space_free(AT_FDCWD, "/nonexistent", &space, &error), -ENOENT);
}

static void joined_paths_have_one_slash(void **state)
{
    static const char *const cases[][3] = {{"a", "b", "a/b"},  {"a/", "b", "a/b"},
                                           {"a", "/b", "a/b"}, {"a//", "//b", "a/b"},
                                           {"/", "b", "/b"},   {"", "b", "/b"}};

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_free_ char *path = path_join(cases[i][0], cases[i][1]);

        assert_string_equal(path, cases[i][2]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_folder(a_file_is_read_whole_and_added),
        cmocka_unit_test(a_file_without_a_size_is_read_too),
        in_folder(links_folders_and_fifos_are_not_read),
        in_folder(a_write_sets_content_and_mode_whatever_the_umask),
        in_folder(a_write_replaces_a_link_instead_of_following_it),
        in_folder(a_write_that_fails_at_any_step_leaves_a_whole_file_and_no_other),
        in_folder(a_failed_write_of_a_new_file_leaves_nothing),
        in_folder(an_error_names_the_file),
        in_folder(a_link_moves_in_one_step_and_leaves_nothing_behind),
        in_folder(a_target_of_any_length_is_read),
        in_folder(folders_are_made_level_by_level_with_their_mode),
        in_folder(paths_may_be_relative_to_a_folder),
        in_folder(a_rename_syncs_both_folders_the_new_one_first),
        in_folder(a_tree_is_synced_deepest_first_without_following_links),
        in_folder(removing_a_tree_follows_no_link),
        in_folder(a_tree_as_deep_as_a_trap_is_an_error),
        in_folder(free_space_is_measured_where_the_path_lies),
        cmocka_unit_test(joined_paths_have_one_slash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
