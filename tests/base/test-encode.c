#include "support.h"

#include "base/encode.h"

#include <sys/mman.h>

static void hex_is_lower_case_and_exact_in_length(void **state)
{
    static const char *const bad[] = {"",      "0",      "00fF",  "00FF",  "00f",
                                      "00ff0", "00ff00", "0x0ff", " 00ff", "00f\n"};
    const uint8_t bytes[] = {0x00, 0xff};
    uint8_t back[2];
    char text[5];

    hex_encode(bytes, 2, text);
    assert_string_equal(text, "00ff");
    assert_int_equal(hex_decode("00ff", back, 2), 0);
    assert_memory_equal(back, bytes, 2);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(hex_decode(bad[i], back, 2), -EINVAL);
    assert_int_equal(hex_decode("", back, 0), 0);
}

static void base64_round_trips_at_every_length(void **state)
{
    uint8_t bytes[64], back[64];

    for (size_t len = 0; len <= sizeof(bytes); len++) {
        _cleanup_free_ char *text = NULL;
        size_t got = 999;

        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)(i * 37 + len);
        text = base64_encode(bytes, len);
        assert_int_equal(strlen(text), (len + 2) / 3 * 4);
        assert_int_equal(base64_decode(text, strlen(text), back, len, &got), 0);
        assert_int_equal(got, len);
        assert_memory_equal(back, bytes, len);
        if (len > 0)
            assert_int_equal(base64_decode(text, strlen(text), back, len - 1, &got), -E2BIG);
    }
}

static void base64_has_one_text_for_the_same_bytes(void **state)
{
    static const char *const bad[] = {
        "YQ",   "YQ=",  "YQ===", "YR==",     "YWJ=", "YWL=",  "Y Q=", "YQ=\n", "YQ==\n",
        "====", "=YQ=", "Y===",  "YQ==YQ==", "_-8=", "YQ\t=", "YW=j", "A==="};
    uint8_t back[16];
    size_t len;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(base64_decode(bad[i], strlen(bad[i]), back, sizeof(back), &len), -EINVAL);
    assert_int_equal(base64_decode("YQ\0=", 4, back, sizeof(back), &len), -EINVAL);
    assert_int_equal(base64_decode("YQ==", 4, back, sizeof(back), &len), 0);
    assert_int_equal(len, 1);
    for (int byte = 0; byte < 256; byte++) { /* libsodium takes some bytes above 0x7f for letters */
        const char text[] = {'Y', (char)byte, 'F', 'h'};
        bool letter = byte == '+' || byte == '/' || (byte >= '0' && byte <= '9') ||
                      (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z');

        assert_int_equal(base64_decode(text, 4, back, sizeof(back), &len), letter ? 0 : -EINVAL);
    }
}

static void sha256_matches_fips_180_4(void **state)
{
    char text[SHA256_HEX_SIZE];

    sha256_hex("abc", 3, text);
    assert_string_equal(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_hex("", 0, text);
    assert_string_equal(text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_true(is_digest(text));
}

static void a_file_is_hashed_from_its_start_up_to_the_limit(void **state)
{
    uint8_t whole[SHA256_SIZE], digest[SHA256_SIZE];
    _cleanup_fd_ int fd = memfd_create("x", MFD_CLOEXEC);
    size_t len = 200000;
    _cleanup_free_ char *data = xcalloc(len, 1);
    uint64_t size = 0;

    assert_int_equal(write(fd, data, len), len); /* leaves the offset at the end */
    sha256(data, len, whole);
    assert_int_equal(sha256_fd(fd, len, digest, &size), 0);
    assert_int_equal(size, len);
    assert_memory_equal(digest, whole, SHA256_SIZE);
    assert_int_equal(sha256_fd(fd, len - 1, digest, NULL), -EFBIG);
    assert_int_equal(sha256_fd(fd, 0, digest, NULL), -EFBIG);
    assert_int_equal(sha256_fd(-1, len, digest, NULL), -EBADF);
}

static void only_64_lower_case_hex_digits_name_a_thing(void **state)
{
    char text[66];

    memset(text, 'a', sizeof(text));
    text[64] = '\0';
    assert_true(is_digest(text));
    text[63] = 'A';
    assert_false(is_digest(text));
    text[63] = '\0';
    assert_false(is_digest(text));
    text[63] = text[64] = 'a';
    text[65] = '\0';
    assert_false(is_digest(text));
    assert_false(is_digest(""));
    assert_false(is_digest("../../etc/passwd"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hex_is_lower_case_and_exact_in_length),
        cmocka_unit_test(base64_round_trips_at_every_length),
        cmocka_unit_test(base64_has_one_text_for_the_same_bytes),
        cmocka_unit_test(sha256_matches_fips_180_4),
        cmocka_unit_test(a_file_is_hashed_from_its_start_up_to_the_limit),
        cmocka_unit_test(only_64_lower_case_hex_digits_name_a_thing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
