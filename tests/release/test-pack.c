#include "release/payload.h"

#include "../scratch.h"
#include "base/encode.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static void add_file(const char *dir, const char *name, const char *text, mode_t mode)
{
    _cleanup_free_ char *path = path_join(dir, name);

    scratch_write(path, text, strlen(text), mode);
}

static void add_folder(const char *dir, const char *name)
{
    _cleanup_free_ char *path = path_join(dir, name);

    assert_int_equal(mkdir(path, 0700), 0);
}

/* Names in an order that is not the order of paths, modes that are not those of a payload. */
static void fill(const char *dir)
{
    _cleanup_free_ char *deep = xmalloc(2000);
    size_t len = 0;

    add_folder(dir, "rules");
    add_folder(dir, "a");
    add_folder(dir, "empty");
    add_file(dir, "rules/b.conf", "SecRule b\n", 0600);
    add_file(dir, "rules/a.conf", "", 0666);
    add_file(dir, "a/run", "#!/bin/sh\n", 0700);
    add_file(dir, "a-b", "between a and a/ in order", 0644);
    /* a path too long for ustar needs a pax header */
    for (int i = 0; i < 6; i++) {
        len += (size_t)sprintf(deep + len, "%s%060d", i > 0 ? "/" : "", i);
        add_folder(dir, deep);
    }
    (void)sprintf(deep + len, "/file");
    add_file(dir, deep, "far down", 0644);
}

static void the_same_tree_gives_the_same_bytes(void **state)
{
    _cleanup_scratch_ char *one = scratch_make(), *two = scratch_make(), *out = scratch_make();
    _cleanup_free_ char *a = path_join(out, "a"), *b = path_join(out, "b"), *text = NULL;
    _cleanup_free_ char *touched = path_join(two, "rules/b.conf");
    const struct timespec times[2] = {{.tv_sec = 1000, .tv_nsec = 5}, {.tv_sec = 77, .tv_nsec = 9}};
    struct payload_info info_a, info_b;
    struct error error = ERROR_INIT;
    char digest[65];
    size_t len;

    fill(one);
    add_file(two, "a-b", "another inode first", 0644);
    fill(two);
    assert_int_equal(utimensat(AT_FDCWD, touched, times, 0), 0);
    assert_int_equal(chmod(touched, 0640), 0);
    if (payload_pack(one, a, &info_a, &error) < 0)
        fail_msg("%s", error.text);
    assert_int_equal(payload_pack(two, b, &info_b, &error), 0);
    assert_memory_equal(&info_a, &info_b, sizeof(info_a));
    assert_int_equal(info_a.files, 5);
    assert_int_equal(info_a.unpacked, 10 + 0 + 10 + 25 + 8);
    text = scratch_read(b, &len);
    assert_int_equal(info_b.size, len);
    sha256_hex(text, len, digest);
    assert_string_equal(info_b.sha256, digest);
}

static void another_byte_name_or_mode_gives_other_bytes(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make(), *out = scratch_make();
    _cleanup_free_ char *path = path_join(out, "p"), *run = path_join(dir, "a/run");
    struct payload_info first, info;
    struct error error = ERROR_INIT;

    fill(dir);
    assert_int_equal(payload_pack(dir, path, &first, &error), 0);
    assert_int_equal(chmod(run, 0644), 0);
    assert_int_equal(payload_pack(dir, path, &info, &error), 0);
    assert_string_not_equal(first.sha256, info.sha256);
    add_file(dir, "a/run", "#!/bin/sh\n", 0755);
    assert_int_equal(payload_pack(dir, path, &info, &error), 0);
    assert_string_equal(first.sha256, info.sha256);
    add_file(dir, "a/run", "#!/bin/sH\n", 0755);
    assert_int_equal(payload_pack(dir, path, &info, &error), 0);
    assert_string_not_equal(first.sha256, info.sha256);
}

/* As any tar reads it: order, owner, time, modes. */
static void the_archive_is_sorted_and_says_nothing_of_its_maker(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make(), *out = scratch_make();
    _cleanup_free_ char *path = path_join(out, "p"), *last = xstrdup("");
    struct payload_info info;
    struct error error = ERROR_INIT;
    struct archive *archive = archive_read_new();
    struct archive_entry *entry;
    size_t count = 0;
    int r;

    fill(dir);
    assert_int_equal(payload_pack(dir, path, &info, &error), 0);
    archive_read_support_filter_zstd(archive);
    archive_read_support_format_tar(archive);
    assert_int_equal(archive_read_open_filename(archive, path, 4096), ARCHIVE_OK);
    while ((r = archive_read_next_header(archive, &entry)) == ARCHIVE_OK) {
        _cleanup_free_ char *name = xstrdup(archive_entry_pathname(entry));
        const mode_t mode = archive_entry_perm(entry);

        if (name[strlen(name) - 1] == '/')
            name[strlen(name) - 1] = '\0';
        assert_true(strcmp(last, name) < 0);
        free(last);
        last = xstrdup(name);
        assert_int_equal(archive_entry_uid(entry), 0);
        assert_int_equal(archive_entry_gid(entry), 0);
        assert_true(!archive_entry_uname(entry) || archive_entry_uname(entry)[0] == '\0');
        assert_true(!archive_entry_gname(entry) || archive_entry_gname(entry)[0] == '\0');
        assert_int_equal(archive_entry_mtime(entry), 0);
        assert_false(archive_entry_atime_is_set(entry) || archive_entry_ctime_is_set(entry));
        assert_true(mode == 0644 || mode == 0755);
        assert_int_equal(mode == 0755,
                         archive_entry_filetype(entry) == AE_IFDIR || strcmp(name, "a/run") == 0);
        count++;
    }
    assert_int_equal(r, ARCHIVE_EOF);
    assert_int_equal(count, 5 + 3 + 6);
    archive_read_free(archive);
}

static void what_was_packed_is_unpacked_whole(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make(), *out = scratch_make();
    _cleanup_free_ char *path = path_join(out, "p"), *one = path_join(out, "one"),
                        *two = path_join(out, "two"), *again = path_join(out, "again"),
                        *file = path_join(one, "rules/b.conf"), *run = path_join(one, "a/run"),
                        *empty = path_join(one, "empty"), *text = NULL;
    struct payload_info info, repacked;
    struct error error = ERROR_INIT;
    struct stat st;
    char a[65], b[65];
    const mode_t mask = umask(077);

    fill(dir);
    assert_int_equal(payload_pack(dir, path, &info, &error), 0);
    const struct payload_limits limits = {.unpacked = info.unpacked, .files = info.files};
    if (payload_unpack(path, one, &limits, &error) < 0)
        fail_msg("%s", error.text);
    assert_int_equal(payload_unpack(path, two, &limits, &error), 0);
    umask(mask);
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(stat(run, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    assert_int_equal(stat(empty, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0755);
    text = scratch_read(file, NULL);
    assert_string_equal(text, "SecRule b\n");
    assert_int_equal(payload_pack(one, again, &repacked, &error), 0);
    assert_string_equal(repacked.sha256, info.sha256);

    assert_int_equal(payload_tree_digest(one, a, &error), 0);
    assert_int_equal(payload_tree_digest(two, b, &error), 0);
    assert_string_equal(a, b);
}

static void the_tree_digest_notices_every_change(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *file = path_join(dir, "f"), *extra = path_join(dir, "g"),
                        *expected_text = NULL;
    struct error error = ERROR_INIT;
    char first[65], now[65], content[65], expected[65];

    scratch_write(file, "abc", 3, 0644);
    assert_int_equal(payload_tree_digest(dir, first, &error), 0);
    sha256_hex("abc", 3, content);
    expected_text = xasprintf("0644 3 %s f\n", content);
    sha256_hex(expected_text, strlen(expected_text), expected);
    assert_string_equal(first, expected);

    assert_int_equal(chmod(file, 0600), 0);
    assert_int_equal(payload_tree_digest(dir, now, &error), 0);
    assert_string_not_equal(first, now);
    scratch_write(file, "abd", 3, 0644);
    assert_int_equal(payload_tree_digest(dir, now, &error), 0);
    assert_string_not_equal(first, now);
    scratch_write(file, "abc", 3, 0644);
    assert_int_equal(mkdir(extra, 0755), 0);
    assert_int_equal(payload_tree_digest(dir, now, &error), 0);
    assert_string_not_equal(first, now);
    assert_int_equal(rmdir(extra), 0);
    assert_int_equal(payload_tree_digest(dir, now, &error), 0);
    assert_string_equal(first, now);
    assert_int_equal(symlink("f", extra), 0);
    assert_int_equal(payload_tree_digest(dir, now, &error), -EINVAL);
    assert_non_null(strstr(error.text, "\"g\" is a symbolic link"));
}

static void what_a_payload_cannot_hold_is_refused_by_name(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make(), *out = scratch_make();
    _cleanup_free_ char *path = path_join(out, "p"), *bad = path_join(dir, "bad"),
                        *target = path_join(dir, "ok"), *accent = path_join(dir, "gr\xc3\xbcn"),
                        *newline = path_join(dir, "a\nb");
    struct payload_info info;
    struct error error = ERROR_INIT;

    assert_int_equal(payload_pack(dir, path, &info, &error), -EINVAL);
    assert_non_null(strstr(error.text, "holds no file"));
    add_file(dir, "ok", "ok", 0644);

    assert_int_equal(symlink("ok", bad), 0);
    assert_int_equal(payload_pack(dir, path, &info, &error), -EINVAL);
    assert_non_null(strstr(error.text, "\"bad\" is a symbolic link"));
    assert_int_equal(unlink(bad), 0);
    assert_int_equal(mkfifo(bad, 0644), 0);
    assert_int_equal(payload_pack(dir, path, &info, &error), -EINVAL);
    assert_non_null(strstr(error.text, "\"bad\" is a FIFO"));
    assert_int_equal(unlink(bad), 0);
    for (mode_t bit = 01000; bit <= 04000; bit <<= 1) {
        assert_int_equal(chmod(target, 0755 | bit), 0);
        assert_int_equal(payload_pack(dir, path, &info, &error), -EINVAL);
        assert_non_null(strstr(error.text, "\"ok\" has a setuid, setgid or sticky bit"));
    }
    assert_int_equal(chmod(target, 0644), 0);
    add_file(dir, "gr\xc3\xbcn", "x", 0644);
    assert_int_equal(payload_pack(dir, path, &info, &error), -EINVAL);
    assert_non_null(strstr(error.text, "printable ASCII"));
    assert_int_equal(unlink(accent), 0);
    add_file(dir, "a\nb", "x", 0644);
    assert_int_equal(payload_pack(dir, path, &info, &error), -EINVAL);
    assert_int_equal(unlink(newline), 0);
    assert_int_equal(payload_pack(bad, path, &info, &error), -ENOENT);
    /* nothing was written meanwhile, not even under another name */
    assert_int_equal(rmdir(out), 0);
    assert_int_equal(mkdir(out, 0700), 0);
    assert_int_equal(payload_pack(dir, path, &info, &error), 0);
}

/* A file system without room, as RLIMIT_FSIZE plays it. */
static void a_full_disk_leaves_no_archive_and_no_folder(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make(), *out = scratch_make();
    _cleanup_free_ char *path = path_join(out, "p"), *target = path_join(out, "t"),
                        *noise = xmalloc(300000), *file = path_join(dir, "noise");
    struct payload_info info;
    struct error error = ERROR_INIT;
    struct rlimit old, small;
    uint32_t x = 1;

    for (size_t i = 0; i < 300000; i++) {
        x = x * 1664525 + 1013904223;
        noise[i] = (char)(x >> 24);
    }
    scratch_write(file, noise, 300000, 0644);
    assert_int_equal(payload_pack(dir, path, &info, &error), 0);
    const struct payload_limits limits = {.unpacked = info.unpacked, .files = info.files};

    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    (void)signal(SIGXFSZ, SIG_IGN);
    small = (struct rlimit){.rlim_cur = 100000, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(payload_unpack(path, target, &limits, &error), -ENOSPC);
    assert_non_null(strstr(error.text, "cannot write \"noise\""));
    assert_int_equal(access(target, F_OK), -1);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(payload_pack(dir, path, &info, &error), -EFBIG);
    assert_non_null(strstr(error.text, "cannot write the archive"));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(rmdir(out), 0);
    free(out);
    out = NULL;
}

static int fail_fsync(const char *call, const char *path)
{
    return strcmp(call, "fsync") == 0 ? -EIO : 0;
}

static void a_failed_fsync_is_no_success(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make(), *out = scratch_make();
    _cleanup_free_ char *path = path_join(out, "p"), *target = path_join(out, "t");
    struct payload_info info;
    struct error error = ERROR_INIT;

    fill(dir);
    assert_int_equal(payload_pack(dir, path, &info, &error), 0);
    const struct payload_limits limits = {.unpacked = info.unpacked, .files = info.files};

    file_set_fault(fail_fsync);
    assert_int_equal(payload_unpack(path, target, &limits, &error), -EIO);
    file_set_fault(NULL);
    assert_int_equal(access(target, F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_tree_gives_the_same_bytes),
        cmocka_unit_test(another_byte_name_or_mode_gives_other_bytes),
        cmocka_unit_test(the_archive_is_sorted_and_says_nothing_of_its_maker),
        cmocka_unit_test(what_was_packed_is_unpacked_whole),
        cmocka_unit_test(the_tree_digest_notices_every_change),
        cmocka_unit_test(what_a_payload_cannot_hold_is_refused_by_name),
        cmocka_unit_test(a_full_disk_leaves_no_archive_and_no_folder),
        cmocka_unit_test(a_failed_fsync_is_no_success),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
