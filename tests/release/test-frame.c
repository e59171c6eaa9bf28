#include "hostile.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        in_place(a_header_that_lies_about_its_size_is_refused),
        in_place(a_bomb_is_refused_before_it_goes_off),
        in_place(an_archive_cut_anywhere_is_refused),
        in_place(a_tar_cut_in_a_file_is_refused),
        in_place(bytes_behind_the_end_are_refused),
        in_place(other_formats_and_filters_are_refused),
        in_place(a_window_that_a_small_device_cannot_hold_is_refused),
        in_place(a_flipped_bit_never_gives_other_content),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
