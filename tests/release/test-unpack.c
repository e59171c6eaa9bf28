#include "release/payload.h"

#include "../scratch.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#define TAR_MAX (4 * 1024 * 1024)

/* A tar in memory, made by libarchive without a check of ours. */
struct tar {
    struct archive *archive;
    char *bytes;
    size_t len;
};

static void tar_open(struct tar *tar)
{
    *tar = (struct tar){.archive = archive_write_new(), .bytes = xmalloc(TAR_MAX)};
    assert_int_equal(archive_write_set_format_pax_restricted(tar->archive), ARCHIVE_OK);
    assert_int_equal(archive_write_set_bytes_in_last_block(tar->archive, 1), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(tar->archive, tar->bytes, TAR_MAX, &tar->len),
                     ARCHIVE_OK);
}

static struct archive_entry *entry_new(const char *name, mode_t type, mode_t mode, size_t size)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, mode);
    archive_entry_set_size(entry, (la_int64_t)size);
    return entry;
}

/* Takes the entry over. */
static void tar_put(struct tar *tar, struct archive_entry *entry, const void *data, size_t len)
{
    assert_true(archive_write_header(tar->archive, entry) >= ARCHIVE_WARN); /* names in C locale */
    if (len > 0)
        assert_int_equal(archive_write_data(tar->archive, data, len), len);
    archive_entry_free(entry);
}

static void tar_file(struct tar *tar, const char *name, const char *text)
{
    tar_put(tar, entry_new(name, AE_IFREG, 0644, strlen(text)), text, strlen(text));
}

static void tar_folder(struct tar *tar, const char *name)
{
    tar_put(tar, entry_new(name, AE_IFDIR, 0755, 0), NULL, 0);
}

static void tar_close(struct tar *tar)
{
    assert_int_equal(archive_write_close(tar->archive), ARCHIVE_OK);
    archive_write_free(tar->archive);
}

static void save_zstd(const char *path, const void *data, size_t len)
{
    const size_t cap = ZSTD_compressBound(len);
    _cleanup_free_ char *packed = xmalloc(cap);
    const size_t size = ZSTD_compress(packed, cap, data, len, 3);

    assert_false(ZSTD_isError(size));
    scratch_write(path, packed, size, 0644);
}

/* A folder with the payload in it, beside which nothing may appear. */
struct place {
    char *dir, *payload, *target;
};

static int place_make(void **state)
{
    struct place *place = xcalloc(1, sizeof(*place));

    place->dir = scratch_make();
    place->payload = path_join(place->dir, "payload");
    place->target = path_join(place->dir, "target");
    *state = place;
    return 0;
}

static int place_remove(void **state)
{
    struct place *place = *state;

    scratch_remove(&place->dir);
    free(place->payload);
    free(place->target);
    free(place);
    return 0;
}

static const struct payload_limits roomy = {.unpacked = 1024 * 1024, .files = 100};

/* The payload is refused with `code` and a sentence that holds `expected`, and nothing is left. */
static void expect_refused(const struct place *place, const struct payload_limits *limits, int code,
                           const char *expected)
{
    struct error error = ERROR_INIT;
    int r = payload_unpack(place->payload, place->target, limits, &error);

    if (r != code || !strstr(error.text, expected))
        fail_msg("%d (expected %d): \"%s\" does not say \"%s\"", r, code, error.text, expected);
    assert_int_equal(access(place->target, F_OK), -1);
    assert_int_equal(unlink(place->payload), 0);
    if (rmdir(place->dir) < 0)
        fail_msg("something was left beside the target");
    assert_int_equal(mkdir(place->dir, 0700), 0);
}

static void tar_save(struct tar *tar, const struct place *place)
{
    tar_close(tar);
    save_zstd(place->payload, tar->bytes, tar->len);
    free(tar->bytes);
}

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

/* Another size in a header, its sum right again. */
static void spoil_size(char *header, const char *size)
{
    unsigned sum = 0;

    memcpy(header + 124, size, 11);
    memset(header + 148, ' ', 8);
    for (size_t i = 0; i < 512; i++)
        sum += (uint8_t)header[i];
    (void)snprintf(header + 148, 7, "%06o", sum);
}

/* Gigabytes, and a size beyond every integer. */
static void a_header_that_lies_about_its_size_is_refused(void **state)
{
    static const char *const sizes[] = {"77777777777",
                                        "\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff"};
    const struct place *place = *state;

    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct tar tar;
        struct error error = ERROR_INIT;

        tar_open(&tar);
        tar_file(&tar, "a", "12345");
        tar_close(&tar);
        spoil_size(tar.bytes, sizes[i]);
        save_zstd(place->payload, tar.bytes, tar.len);
        free(tar.bytes);
        assert_true(payload_unpack(place->payload, place->target, &roomy, &error) < 0);
        assert_int_equal(access(place->target, F_OK), -1);
    }
}

/* 64 MiB in a few kilobytes: as nothing but padding, as padding of a small archive, as a long name
 * and as a file. */
static void a_bomb_is_refused_before_it_goes_off(void **state)
{
    const struct place *place = *state;
    const struct payload_limits few = {.unpacked = 1000, .files = 1};
    const size_t large = (size_t)64 * 1024 * 1024;
    _cleanup_free_ char *bomb = xcalloc(1, large);
    struct tar tar;
    struct stat st;

    save_zstd(place->payload, bomb, large);
    assert_int_equal(stat(place->payload, &st), 0);
    assert_true(st.st_size < 64 * 1024);
    expect_refused(place, &few, -EBADMSG, "holds no file");

    tar_open(&tar);
    tar_file(&tar, "a", "x");
    tar_close(&tar);
    memcpy(bomb, tar.bytes, tar.len);
    save_zstd(place->payload, bomb, large);
    expect_refused(place, &few, -EFBIG, "more than its files could need");

    memset(bomb, 'n', large);
    memcpy(bomb, tar.bytes, 512);
    bomb[156] = 'L'; /* GNU: the next entry's name */
    spoil_size(bomb, "00377777777");
    save_zstd(place->payload, bomb, large);
    expect_refused(place, &few, -EBADMSG, "not a sound tar archive");

    memcpy(bomb, tar.bytes, 512);
    spoil_size(bomb, "00377777777");
    save_zstd(place->payload, bomb, large);
    expect_refused(place, &few, -EFBIG, "\"a\" makes the payload larger than the 1000 bytes");
    free(tar.bytes);
}

static void an_archive_cut_anywhere_is_refused(void **state)
{
    const struct place *place = *state;
    _cleanup_free_ char *whole = NULL;
    struct tar tar;
    size_t len;

    tar_open(&tar);
    tar_folder(&tar, "d");
    tar_file(&tar, "d/a", "some text that is not all the same");
    tar_save(&tar, place);
    whole = scratch_read(place->payload, &len);
    for (size_t cut = 0; cut < len; cut += cut < 16 ? 1 : 7) {
        struct error error = ERROR_INIT;

        scratch_write(place->payload, whole, cut, 0644);
        if (payload_unpack(place->payload, place->target, &roomy, &error) != -EBADMSG)
            fail_msg("cut after %zu of %zu bytes: %s", cut, len, error.text);
        assert_int_equal(access(place->target, F_OK), -1);
    }
}

/* The frame is whole, the tar within is not. */
static void a_tar_cut_in_a_file_is_refused(void **state)
{
    const struct place *place = *state;
    static char text[2000];
    struct tar tar;

    memset(text, 'x', sizeof(text) - 1);
    tar_open(&tar);
    tar_file(&tar, "a", text);
    tar_close(&tar);
    for (size_t cut = 100; cut < 512 + 1999; cut += 300) {
        struct error error = ERROR_INIT;

        save_zstd(place->payload, tar.bytes, cut);
        assert_int_equal(payload_unpack(place->payload, place->target, &roomy, &error), -EBADMSG);
        assert_int_equal(access(place->target, F_OK), -1);
    }
    free(tar.bytes);
}

static void bytes_behind_the_end_are_refused(void **state)
{
    const struct place *place = *state;
    _cleanup_free_ char *frame = NULL, *longer = NULL;
    struct tar tar;
    size_t len;

    /* behind the frame: garbage, a second frame, an empty skippable frame */
    tar_open(&tar);
    tar_file(&tar, "a", "x");
    tar_close(&tar);
    save_zstd(place->payload, tar.bytes, tar.len);
    frame = scratch_read(place->payload, &len);
    longer = xmalloc(2 * len + 8);
    memcpy(longer, frame, len);
    memcpy(longer + len, frame, len);
    scratch_write(place->payload, longer, 2 * len, 0644);
    expect_refused(place, &roomy, -EBADMSG, "bytes follow the end of the zstd frame");
    scratch_write(place->payload, longer, len + 1, 0644);
    expect_refused(place, &roomy, -EBADMSG, "bytes follow the end of the zstd frame");
    memcpy(longer + len, "\x50\x2a\x4d\x18\0\0\0\0", 8);
    scratch_write(place->payload, longer, len + 8, 0644);
    expect_refused(place, &roomy, -EBADMSG, "bytes follow the end of the zstd frame");

    /* behind the tar, within the frame: in the same block and far away */
    for (size_t far = 0; far < 2; far++) {
        const size_t at = tar.len + far * 300000;
        _cleanup_free_ char *padded = xcalloc(1, at + 1);

        memcpy(padded, tar.bytes, tar.len);
        padded[at] = 'x';
        save_zstd(place->payload, padded, at + 1);
        expect_refused(place, &roomy, -EBADMSG, "bytes follow the end of the tar archive");
    }
    free(tar.bytes);
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

static void other_formats_and_filters_are_refused(void **state)
{
    static const char gzip[] = "\x1f\x8b\x08\0\0\0\0\0\0\3\3\0\0\0\0\0\0\0\0\0";
    static const char cpio[] = "070707000000000000000000000000000000000001000000";
    const struct place *place = *state;
    struct tar tar;

    scratch_write(place->payload, "", 0, 0644);
    expect_refused(place, &roomy, -EBADMSG, "truncated");
    scratch_write(place->payload, gzip, sizeof(gzip) - 1, 0644);
    expect_refused(place, &roomy, -EBADMSG, "not a sound zstd frame");
    save_zstd(place->payload, cpio, sizeof(cpio) - 1);
    expect_refused(place, &roomy, -EBADMSG, "not a sound tar archive");
    save_zstd(place->payload, gzip, sizeof(gzip) - 1);
    expect_refused(place, &roomy, -EBADMSG, "not a sound tar archive");
    tar_open(&tar);
    tar_file(&tar, "a", "x");
    tar_close(&tar);
    scratch_write(place->payload, tar.bytes, tar.len, 0644);
    expect_refused(place, &roomy, -EBADMSG, "not a sound zstd frame");
    free(tar.bytes);
}

static void a_window_that_a_small_device_cannot_hold_is_refused(void **state)
{
    const struct place *place = *state;
    const size_t len = (size_t)9 * 1024 * 1024;
    _cleanup_free_ char *data = xcalloc(1, len), *packed = xmalloc(ZSTD_compressBound(len));
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    ZSTD_outBuffer out = {packed, ZSTD_compressBound(len), 0};
    ZSTD_inBuffer in = {data, len, 0};

    ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, 27);
    assert_int_equal(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_flush), 0);
    assert_int_equal(ZSTD_compressStream2(zstd, &out, &in, ZSTD_e_end), 0);
    ZSTD_freeCCtx(zstd);
    scratch_write(place->payload, packed, out.pos, 0644);
    expect_refused(place, &roomy, -EBADMSG, "window of at most 8 MiB");
}

static void a_flipped_bit_never_gives_other_content(void **state)
{
    const struct place *place = *state;
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *file = path_join(dir, "file"), *whole = NULL;
    struct payload_info info;
    struct error error = ERROR_INIT;
    size_t len;

    scratch_write(file, "the content that was signed", 27, 0644);
    assert_int_equal(payload_pack(dir, place->payload, &info, &error), 0);
    whole = scratch_read(place->payload, &len);
    for (size_t bit = 0; bit < 8 * len; bit++) {
        whole[bit / 8] = (char)(whole[bit / 8] ^ (1 << (bit % 8)));
        scratch_write(place->payload, whole, len, 0644);
        if (payload_unpack(place->payload, place->target, &roomy, &error) == 0) {
            char before[65], after[65];

            assert_int_equal(payload_tree_digest(dir, before, &error), 0);
            assert_int_equal(payload_tree_digest(place->target, after, &error), 0);
            assert_string_equal(before, after);
            assert_int_equal(tree_remove(AT_FDCWD, place->target, &error), 0);
        }
        assert_int_equal(access(place->target, F_OK), -1);
        whole[bit / 8] = (char)(whole[bit / 8] ^ (1 << (bit % 8)));
    }
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

#define in_place(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)

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
        in_place(a_header_that_lies_about_its_size_is_refused),
        in_place(a_bomb_is_refused_before_it_goes_off),
        in_place(an_archive_cut_anywhere_is_refused),
        in_place(a_tar_cut_in_a_file_is_refused),
        in_place(bytes_behind_the_end_are_refused),
        in_place(sparse_entries_are_refused),
        in_place(extended_attributes_and_access_lists_are_refused),
        in_place(other_formats_and_filters_are_refused),
        in_place(a_window_that_a_small_device_cannot_hold_is_refused),
        in_place(a_flipped_bit_never_gives_other_content),
        in_place(an_existing_target_is_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
