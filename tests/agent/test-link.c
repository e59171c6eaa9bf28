#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "../scratch.h"

#include "agent/config.h"
#include "agent/link.h"
#include "base/buf.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void put(const char *root, const char *path, const char *text)
{
    _cleanup_free_ char *full = path_join(root, path);
    _cleanup_free_ char *folder = xstrndup(full, (size_t)(strrchr(full, '/') - full));

    assert_int_equal(dir_make(AT_FDCWD, folder, 0755, NULL), 0);
    assert_int_equal(file_write(AT_FDCWD, full, text, strlen(text), 0644, NULL), 0);
}

static bool there(const char *root, const char *path)
{
    _cleanup_free_ char *full = path_join(root, path);
    struct stat st;

    return lstat(full, &st) == 0;
}

static void files_of_packages_are_found_however_usr_is_spelled(void **state)
{
    _cleanup_scratch_ char *root = scratch_make();
    _cleanup_free_ char *content = path_join(root, "usr/lib/x");
    struct error error = ERROR_INIT;
    struct paths paths;
    struct owned owned;

    put(root, "usr/lib/x/a", "a");
    put(root, "usr/lib/x/sub/b", "b");
    put(root, "var/lib/dpkg/info/one:amd64.list",
        "/.\n/lib\n/lib/x\n/lib/x/a\n/lib/xy\n/lib/x/gone\n/lib/x/gone/c\n");
    put(root, "var/lib/dpkg/info/two.list", "/usr/lib/x/sub\n/usr/lib/x/sub/b\n/usr/lib/x");
    put(root, "var/lib/dpkg/info/one:amd64.md5sums", "/lib/x/no\n");
    put(root, "var/lib/dpkg/diversions",
        "/lib/x/a\n/elsewhere/a\n:\n/usr/lib/x/sub/b\n/elsewhere/deep/b\nthree\n");
    assert_int_equal(paths_open(root, &paths, &error), 0);

    assert_int_equal(owned_find(&paths, "/usr/lib/x", content, &owned, &error), 0);
    assert_int_equal(owned.count, 3);
    for (size_t i = 0; i < owned.count; i++) {
        const struct owned_file *file = &owned.files[i];

        if (strcmp(file->below, "a") == 0)
            assert_string_equal(file->package, "one");
        else if (strcmp(file->below, "sub/b") == 0)
            assert_string_equal(file->diverted, "/elsewhere/deep/b");
        else
            assert_string_equal(file->below, "gone/c");
    }
    owned_free(&owned);
    assert_int_equal(owned_folders(&paths, "/usr/lib/x", content, &owned, &error), 0);
    assert_int_equal(owned.count, 1);
    assert_string_equal(owned.files[0].below, "sub");
    owned_free(&owned);
    assert_int_equal(owned_diverted(&paths, "/elsewhere", &owned, &error), 0);
    assert_int_equal(owned.count, 2);
    owned_free(&owned);
    paths_free(&paths);
}

static void a_root_without_dpkg_owns_nothing(void **state)
{
    _cleanup_scratch_ char *root = scratch_make();
    struct error error = ERROR_INIT;
    struct timespec seen = {0};
    struct paths paths;
    struct owned owned;
    int lock;

    assert_int_equal(paths_open(root, &paths, &error), 0);
    assert_int_equal(owned_find(&paths, "/usr/lib/x", root, &owned, &error), 0);
    assert_int_equal(owned.count, 0);
    assert_int_equal(owned_lock(&paths, &lock, &error), 0);
    assert_int_equal(lock, -1);
    assert_false(owned_changed(&paths, &seen));
    paths_free(&paths);
}

static void a_link_is_made_and_undone_without_any_package(void **state)
{
    _cleanup_scratch_ char *root = scratch_make();
    struct config_product config = {.name = (char *)"p", .link = (char *)"/srv/content"};
    struct error error = ERROR_INIT;
    struct paths paths;
    struct link link;
    _cleanup_free_ char *dir = NULL;
    _cleanup_free_ char *current = NULL;

    put(root, "srv/content/data", "mine");
    assert_int_equal(paths_open(root, &paths, &error), 0);
    dir = path_join(paths.state, "p");
    put(dir, "slots/s/payload/data", "slot");
    current = path_join(dir, "current");
    assert_int_equal(symlink("slots/s", current), 0);

    assert_int_equal(link_look(&paths, &config, dir, &link, &error), 0);
    assert_int_equal(link.stands, LINK_CONTENT);
    assert_string_equal(link.target, "../var/lib/maeslant/p/current/payload");
    assert_int_equal(link_make(&link, &error), 0);
    link_free(&link);
    assert_int_equal(link_look(&paths, &config, dir, &link, &error), 0);
    assert_int_equal(link.stands, LINK_OURS);
    assert_true(link.made && link.has_original);
    assert_true(there(root, "srv/content/data") && !there(root, "srv/.content.maeslant"));
    assert_int_equal(link_make(&link, &error), 0);

    assert_int_equal(link_restore(&link, &error), 0);
    link_free(&link);
    assert_int_equal(link_look(&paths, &config, dir, &link, &error), 0);
    assert_int_equal(link.stands, LINK_CONTENT);
    assert_false(there(dir, "diverted"));
    assert_int_equal(link_restore(&link, &error), 0);
    link_free(&link);
    paths_free(&paths);
}

static void what_is_no_folder_is_not_replaced(void **state)
{
    _cleanup_scratch_ char *root = scratch_make();
    struct config_product config = {.name = (char *)"p", .link = (char *)"/srv/content"};
    struct error error = ERROR_INIT;
    struct paths paths;
    struct link link;
    _cleanup_free_ char *dir = NULL;

    put(root, "srv/content", "a file");
    assert_int_equal(paths_open(root, &paths, &error), 0);
    dir = path_join(paths.state, "p");
    assert_int_equal(link_look(&paths, &config, dir, &link, &error), 0);
    assert_int_equal(link.stands, LINK_FOREIGN);
    assert_int_equal(link_make(&link, &error), -EEXIST);
    link_free(&link);
    config.link = (char *)"/nowhere/content";
    assert_int_equal(link_look(&paths, &config, dir, &link, &error), -ENOENT);
    link_free(&link);
    paths_free(&paths);
}

static void a_link_stays_below_the_root_whatever_its_folders_lead_to(void **state)
{
    _cleanup_scratch_ char *root = scratch_make();
    _cleanup_free_ char *way = path_join(root, "srv");
    _cleanup_free_ char *real = NULL;
    _cleanup_free_ char *expected = path_join(root, "etc/content");
    struct error error = ERROR_INIT;
    struct paths paths;

    assert_int_equal(paths_open(root, &paths, &error), 0);
    assert_int_equal(symlink("../../../../etc", way), 0);
    assert_int_equal(paths_resolve(&paths, "/srv/content", &real, &error), 0);
    assert_string_equal(real, expected);
    assert_string_equal(paths_inside(&paths, real), "/etc/content");
    assert_null(paths_inside(&paths, "/elsewhere"));
    paths_free(&paths);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_of_packages_are_found_however_usr_is_spelled),
        cmocka_unit_test(a_root_without_dpkg_owns_nothing),
        cmocka_unit_test(a_link_is_made_and_undone_without_any_package),
        cmocka_unit_test(what_is_no_folder_is_not_replaced),
        cmocka_unit_test(a_link_stays_below_the_root_whatever_its_folders_lead_to),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
