#include "hostile.h"

static void a_path_that_leaves_the_folder_is_refused(void **state)
{
    static const char *const bad[] = {
        "../escaped", "a/../../escaped", "..", "a/..", "./a", "a/./b", "a//b", "/tmp/x", "//tmp/x"};
    const struct place *place = *state;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct tar tar;

        tar_open(&tar);
        tar_folder(&tar, "a");
        tar_file(&tar, bad[i], "x");
        tar_save(&tar, place);
        expect_refused(place, &roomy, -EINVAL, bad[i]);
    }
}

static void links_devices_and_fifos_are_refused(void **state)
{
    static const struct {
        mode_t type;
        const char *expected;
    } bad[] = {
        {AE_IFLNK, "\"bad\" is a symbolic link"},
        {AE_IFIFO, "\"bad\" is a FIFO"},
        {AE_IFCHR, "\"bad\" is a device"},
        {AE_IFBLK, "\"bad\" is a device"},
    };
    const struct place *place = *state;
    struct tar tar;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct archive_entry *entry = entry_new("bad", bad[i].type, 0644, 0);

        if (bad[i].type == AE_IFLNK)
            archive_entry_set_symlink(entry, "/etc/passwd");
        archive_entry_set_rdev(entry, 1);
        tar_open(&tar);
        tar_file(&tar, "good", "x");
        tar_put(&tar, entry, NULL, 0);
        tar_save(&tar, place);
        expect_refused(place, &roomy, -EINVAL, bad[i].expected);
    }

    struct archive_entry *entry = entry_new("bad", AE_IFREG, 0644, 0);

    archive_entry_set_hardlink(entry, "good");
    tar_open(&tar);
    tar_file(&tar, "good", "x");
    tar_put(&tar, entry, NULL, 0);
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "\"bad\" is a hard link");
}

/* A link to a folder and a file behind it: the usual way out. */
static void a_file_behind_a_link_is_never_written(void **state)
{
    const struct place *place = *state;
    struct archive_entry *entry = entry_new("out", AE_IFLNK, 0777, 0);
    struct tar tar;

    archive_entry_set_symlink(entry, "..");
    tar_open(&tar);
    tar_put(&tar, entry, NULL, 0);
    tar_file(&tar, "out/escaped", "x");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "\"out\" is a symbolic link");
}

static void setuid_setgid_and_sticky_bits_are_refused(void **state)
{
    const struct place *place = *state;

    for (mode_t bit = 01000; bit <= 04000; bit <<= 1)
        for (int folder = 0; folder < 2; folder++) {
            struct tar tar;

            tar_open(&tar);
            tar_put(&tar, entry_new("bad", folder ? AE_IFDIR : AE_IFREG, 0755 | bit, 0), NULL, 0);
            tar_save(&tar, place);
            expect_refused(place, &roomy, -EINVAL, "\"bad\" has a setuid, setgid or sticky bit");
        }
}

static void a_path_that_comes_twice_is_refused(void **state)
{
    const struct place *place = *state;
    struct tar tar;

    tar_open(&tar);
    tar_file(&tar, "a", "first");
    tar_file(&tar, "a", "second");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "\"a\" is in the archive twice");

    tar_open(&tar);
    tar_folder(&tar, "d");
    tar_folder(&tar, "d");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "\"d\" is in the archive twice");

    tar_open(&tar);
    tar_file(&tar, "d", "x");
    tar_folder(&tar, "d");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "\"d\" is in the archive twice");

    tar_open(&tar);
    tar_file(&tar, "f", "x");
    tar_file(&tar, "f/g", "x");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "\"f/g\" lies below something that is no folder");

    tar_open(&tar);
    tar_file(&tar, "d/f", "x");
    tar_folder(&tar, "d");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "\"d/f\" comes before the folder");
}

static void names_are_printable_ascii_of_bounded_length(void **state)
{
    const struct place *place = *state;
    char name[300], path[1200] = "";
    struct tar tar;

    tar_open(&tar);
    tar_file(&tar, "gr\xc3\xbcn", "x");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "ASCII");

    tar_open(&tar);
    tar_file(&tar, "a\nb", "x");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "ASCII");

    memset(name, 'n', 256);
    name[256] = '\0';
    tar_open(&tar);
    tar_file(&tar, name, "x");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "a name of 256 bytes, at most 255");

    for (size_t i = 0; i < 1025; i++)
        path[i] = i % 200 == 199 ? '/' : 'p';
    tar_open(&tar);
    tar_file(&tar, path, "x");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "a path of 1025 bytes, at most 1024");

    for (size_t i = 0; i < 129; i++)
        path[i] = i % 2 == 1 ? '/' : 'p';
    path[129] = '\0';
    tar_open(&tar);
    tar_file(&tar, path, "x");
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "deeper than 64");
}

static void more_files_than_the_manifest_says_are_refused(void **state)
{
    const struct place *place = *state;
    const struct payload_limits two = {.unpacked = 100, .files = 2};
    struct error error = ERROR_INIT;
    struct tar tar;

    for (int extra = 0; extra < 2; extra++) {
        tar_open(&tar);
        tar_folder(&tar, "d");
        tar_file(&tar, "d/1", "x");
        tar_file(&tar, "d/2", "x");
        if (extra)
            tar_file(&tar, "d/3", "x");
        tar_save(&tar, place);
        if (extra) {
            expect_refused(place, &two, -EFBIG, "\"d/3\" is one file more than the 2");
        } else {
            assert_int_equal(payload_unpack(place->payload, place->target, &two, &error), 0);
            assert_int_equal(tree_remove(AT_FDCWD, place->target, &error), 0);
        }
    }
}

static void folders_without_end_are_refused(void **state)
{
    const struct place *place = *state;
    const size_t len = (size_t)512 * 16390;
    _cleanup_free_ char *bytes = xcalloc(1, len + 1024);
    struct tar tar;

    /* one header of a folder, again and again under other names */
    tar_open(&tar);
    tar_folder(&tar, "d00000");
    tar_close(&tar);
    for (size_t i = 0; i < 16390; i++) {
        char *header = bytes + 512 * i;
        unsigned sum = 0;

        memcpy(header, tar.bytes, 512);
        (void)sprintf(header, "d%05zu/", i);
        memset(header + 148, ' ', 8);
        for (size_t j = 0; j < 512; j++)
            sum += (uint8_t)header[j];
        (void)sprintf(header + 148, "%06o", sum);
    }
    free(tar.bytes);
    save_zstd(place->payload, bytes, len + 1024);
    expect_refused(place, &roomy, -EFBIG, "one folder more than the 16384");
}

static void more_bytes_than_the_manifest_says_are_refused(void **state)
{
    const struct place *place = *state;
    const struct payload_limits ten = {.unpacked = 10, .files = 100};
    struct error error = ERROR_INIT;
    struct tar tar;

    tar_open(&tar);
    tar_file(&tar, "a", "12345");
    tar_file(&tar, "b", "12345");
    tar_save(&tar, place);
    assert_int_equal(payload_unpack(place->payload, place->target, &ten, &error), 0);
    assert_int_equal(tree_remove(AT_FDCWD, place->target, &error), 0);

    tar_open(&tar);
    tar_file(&tar, "a", "12345");
    tar_file(&tar, "b", "123456");
    tar_save(&tar, place);
    expect_refused(place, &ten, -EFBIG, "\"b\" makes the payload larger than the 10 bytes");
}

static void sparse_entries_are_refused(void **state)
{
    const struct place *place = *state;
    struct archive_entry *entry = entry_new("holes", AE_IFREG, 0644, 100000);
    static char data[100000];
    struct tar tar;

    archive_entry_sparse_add_entry(entry, 0, 512);
    archive_entry_sparse_add_entry(entry, 65536, 512);
    tar_open(&tar);
    tar_put(&tar, entry, data, sizeof(data));
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "sparse");
}

static void extended_attributes_and_access_lists_are_refused(void **state)
{
    const struct place *place = *state;
    struct archive_entry *entry = entry_new("a", AE_IFREG, 0755, 0);
    struct tar tar;

    archive_entry_xattr_add_entry(entry, "security.capability", "\1\0\0\2", 4);
    tar_open(&tar);
    tar_put(&tar, entry, NULL, 0);
    tar_save(&tar, place);
    expect_refused(place, &roomy, -EINVAL, "extended attributes");
}

static void an_existing_target_is_left_alone(void **state)
{
    const struct place *place = *state;
    _cleanup_free_ char *mine = path_join(place->target, "mine"), *text = NULL;
    struct error error = ERROR_INIT;
    struct tar tar;

    tar_open(&tar);
    tar_file(&tar, "mine", "theirs");
    tar_save(&tar, place);
    assert_int_equal(mkdir(place->target, 0700), 0);
    scratch_write(mine, "mine", 4, 0644);
    assert_int_equal(payload_unpack(place->payload, place->target, &roomy, &error), -EEXIST);
    text = scratch_read(mine, NULL);
    assert_string_equal(text, "mine");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_place(a_path_that_leaves_the_folder_is_refused),
        in_place(links_devices_and_fifos_are_refused),
        in_place(a_file_behind_a_link_is_never_written),
        in_place(setuid_setgid_and_sticky_bits_are_refused),
        in_place(a_path_that_comes_twice_is_refused),
        in_place(names_are_printable_ascii_of_bounded_length),
        in_place(more_files_than_the_manifest_says_are_refused),
        in_place(folders_without_end_are_refused),
        in_place(more_bytes_than_the_manifest_says_are_refused),
        in_place(sparse_entries_are_refused),
        in_place(extended_attributes_and_access_lists_are_refused),
        in_place(an_existing_target_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
