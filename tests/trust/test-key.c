#include "trust/key.h"

#include "../scratch.h"
#include "base/encode.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define CONTEXT "maeslant test v1\n"

/* RFC 8032, 7.1, test 1: the seed and its public key. */
static const uint8_t rfc_seed[32] = {
    0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
    0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
static const char rfc_public[] = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

static void a_saved_key_is_loaded_again_and_signs_alike(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "release.key");
    _cleanup_free_ char *public_path = path_join(dir, "release.pub");
    struct secret_key made, loaded;
    struct public_key public;
    uint8_t a[SIGNATURE_SIZE], b[SIGNATURE_SIZE];
    struct error error = ERROR_INIT;
    struct stat st;

    key_generate(&made);
    assert_int_equal(key_save(&made, path, public_path, &error), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(stat(public_path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0644);
    assert_int_equal(key_secret_load(path, &loaded, &error), 0);
    assert_int_equal(key_public_load(public_path, &public, &error), 0);
    assert_memory_equal(&public, &made.public, sizeof(public));
    assert_memory_equal(&loaded, &made, sizeof(made));
    key_sign(&made, CONTEXT, "x", 1, a);
    key_sign(&loaded, CONTEXT, "x", 1, b);
    assert_memory_equal(a, b, sizeof(a));
    key_wipe(&made);
    for (size_t i = 0; i < sizeof(made.bytes); i++)
        assert_int_equal(made.bytes[i], 0);
}

static void the_seed_of_rfc_8032_gives_its_public_key(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "k");
    _cleanup_free_ char *base64 = base64_encode(rfc_seed, sizeof(rfc_seed));
    _cleanup_free_ char *text = xasprintf("maeslant secret key v1 %s\n", base64);
    struct secret_key key;
    struct error error = ERROR_INIT;
    char hex[65], id[KEY_ID_SIZE], device[65];
    uint8_t digest[32];

    scratch_write(path, text, strlen(text), 0600);
    assert_int_equal(key_secret_load(path, &key, &error), 0);
    hex_encode(key.public.bytes, 32, hex);
    assert_string_equal(hex, rfc_public);
    sha256(key.public.bytes, 32, digest);
    hex_encode(digest, 32, hex);
    key_id(&key.public, id);
    key_device_id(&key.public, device);
    assert_string_equal(device, hex);
    assert_memory_equal(id, hex, 16);
    assert_int_equal(strlen(id), 16);
}

static void a_key_is_never_written_over(void **state)
{
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "release.key"), *before = NULL, *after = NULL;
    struct secret_key key;
    struct error error = ERROR_INIT;

    key_generate(&key);
    assert_int_equal(key_save(&key, path, NULL, &error), 0);
    before = scratch_read(path, NULL);
    key_generate(&key);
    assert_int_equal(key_save(&key, path, NULL, &error), -EEXIST);
    assert_non_null(strstr(error.text, "there already"));
    after = scratch_read(path, NULL);
    assert_string_equal(before, after);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(dir), 0); /* no temporary file is left */
}

static void a_secret_key_that_others_can_read_is_refused(void **state)
{
    static const mode_t bad[] = {0640, 0604, 0660, 0610};
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "k"), *link_path = path_join(dir, "l");
    struct secret_key key;
    struct error error = ERROR_INIT;

    key_generate(&key);
    assert_int_equal(key_save(&key, path, NULL, &error), 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(chmod(path, bad[i]), 0);
        assert_int_equal(key_secret_load(path, &key, &error), -EACCES);
        assert_non_null(strstr(error.text, "chmod 600"));
    }
    assert_int_equal(chmod(path, 0400), 0);
    assert_int_equal(symlink(path, link_path), 0);
    assert_int_equal(key_secret_load(link_path, &key, &error), -ELOOP);
    assert_int_equal(key_secret_load(dir, &key, &error), -EINVAL);
    assert_int_equal(key_secret_load(path, &key, &error), 0);
}

static void a_damaged_secret_key_is_named_but_never_printed(void **state)
{
    static const char *const bad[] = {
        "",
        "maeslant secret key v1 \n",
        "maeslant secret key v2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "maeslant secret key v1 SECRETAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n",
        "maeslant secret key v1 SECRETAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n",
        "maeslant secret key v1 SECRETAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAB=\n",
        "maeslant secret key v1 SECRETAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= and more\n",
        "maeslant public key v1 SECRETAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
    };
    _cleanup_scratch_ char *dir = scratch_make();
    _cleanup_free_ char *path = path_join(dir, "k");

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct secret_key key;
        struct error error = ERROR_INIT;

        scratch_write(path, bad[i], strlen(bad[i]), 0600);
        assert_int_equal(key_secret_load(path, &key, &error), -EINVAL);
        assert_non_null(strstr(error.text, path));
        assert_null(strstr(error.text, "SECRET"));
    }
}

static void a_public_key_has_one_text_form(void **state)
{
    struct secret_key key;
    struct public_key read;
    struct error error = ERROR_INIT;
    _cleanup_free_ char *text = NULL, *two = NULL;

    key_generate(&key);
    text = key_public_text(&key.public);
    two = xasprintf("%s\n\n", text);
    assert_int_equal(key_public_parse(text, strlen(text), &read, &error), 0);
    assert_memory_equal(&read, &key.public, sizeof(read));
    assert_int_equal(key_public_parse(two, strlen(two) - 1, &read, &error), 0);
    assert_int_equal(key_public_parse(two, strlen(two), &read, &error), -EINVAL);
    assert_int_equal(key_public_parse(text, strlen(text) - 1, &read, &error), -EINVAL);
    assert_int_equal(key_public_parse(text, 0, &read, &error), -EINVAL);
    text[10] = 'K';
    assert_int_equal(key_public_parse(text, strlen(text), &read, &error), -EINVAL);
    assert_non_null(strstr(error.text, "maeslant public key v1"));
}

static void a_secret_key_where_a_public_one_belongs_is_said_to_be_secret(void **state)
{
    static const char text[] =
        "maeslant secret key v1 SECRETAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    struct public_key key;
    struct error error = ERROR_INIT;

    assert_int_equal(key_public_parse(text, strlen(text), &key, &error), -EINVAL);
    assert_non_null(strstr(error.text, "secret key"));
    assert_null(strstr(error.text, "SECRET"));
}

/* The canonical encodings of the eight points of small order, and one that is no point. */
static const char *const small_order[] = {
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "0200000000000000000000000000000000000000000000000000000000000000",
};

static void a_key_of_small_order_is_refused_and_verifies_nothing(void **state)
{
    for (size_t i = 0; i < ARRAY_SIZE(small_order); i++) {
        struct public_key key, read;
        struct error error = ERROR_INIT;
        _cleanup_free_ char *text = NULL;
        uint8_t signature[SIGNATURE_SIZE] = {0};

        assert_int_equal(hex_decode(small_order[i], key.bytes, 32), 0);
        text = key_public_text(&key);
        assert_int_equal(key_public_parse(text, strlen(text), &read, &error), -EINVAL);
        assert_non_null(strstr(error.text, "prime-order"));
        /* R = the key, S = 0 satisfies the equation for half of all messages under such a key. */
        for (uint8_t message = 0; message < 32; message++) {
            memcpy(signature, key.bytes, 32);
            assert_false(key_verify(&key, CONTEXT, &message, 1, signature));
            memset(signature, 0, 32);
            signature[0] = 1;
            assert_false(key_verify(&key, CONTEXT, &message, 1, signature));
        }
    }
}

static void a_signature_holds_for_one_message_one_context_and_one_key(void **state)
{
    static const char message[] = "three devices";
    struct secret_key key, other;
    uint8_t signature[SIGNATURE_SIZE];
    char changed[sizeof(message)];

    key_generate(&key);
    key_generate(&other);
    key_sign(&key, CONTEXT, message, sizeof(message), signature);
    assert_true(key_verify(&key.public, CONTEXT, message, sizeof(message), signature));
    assert_false(key_verify(&other.public, CONTEXT, message, sizeof(message), signature));
    assert_false(
        key_verify(&key.public, "maeslant tost v1\n", message, sizeof(message), signature));
    assert_false(key_verify(&key.public, CONTEXT, message, sizeof(message) - 1, signature));
    for (size_t bit = 0; bit < 8 * sizeof(message); bit++) {
        memcpy(changed, message, sizeof(message));
        changed[bit / 8] = (char)(changed[bit / 8] ^ (1 << (bit % 8)));
        assert_false(key_verify(&key.public, CONTEXT, changed, sizeof(message), signature));
    }
    for (size_t bit = 0; bit < 8 * SIGNATURE_SIZE; bit++) {
        signature[bit / 8] ^= (uint8_t)(1 << (bit % 8));
        assert_false(key_verify(&key.public, CONTEXT, message, sizeof(message), signature));
        signature[bit / 8] ^= (uint8_t)(1 << (bit % 8));
    }
    key_sign(&key, CONTEXT, NULL, 0, signature);
    assert_true(key_verify(&key.public, CONTEXT, "", 0, signature));
}

/* S + L is the same number: without the check, everybody could make a second signature. */
static void a_signature_cannot_be_changed_into_another_valid_one(void **state)
{
    static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,       0xd6,
                                      0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
    struct secret_key key;
    uint8_t signature[SIGNATURE_SIZE];
    unsigned carry = 0;

    key_generate(&key);
    key_sign(&key, CONTEXT, "m", 1, signature);
    for (size_t i = 0; i < 32; i++) {
        carry += (unsigned)signature[32 + i] + order[i];
        signature[32 + i] = (uint8_t)carry;
        carry >>= 8;
    }
    assert_false(key_verify(&key.public, CONTEXT, "m", 1, signature));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_saved_key_is_loaded_again_and_signs_alike),
        cmocka_unit_test(the_seed_of_rfc_8032_gives_its_public_key),
        cmocka_unit_test(a_key_is_never_written_over),
        cmocka_unit_test(a_secret_key_that_others_can_read_is_refused),
        cmocka_unit_test(a_damaged_secret_key_is_named_but_never_printed),
        cmocka_unit_test(a_public_key_has_one_text_form),
        cmocka_unit_test(a_secret_key_where_a_public_one_belongs_is_said_to_be_secret),
        cmocka_unit_test(a_key_of_small_order_is_refused_and_verifies_nothing),
        cmocka_unit_test(a_signature_holds_for_one_message_one_context_and_one_key),
        cmocka_unit_test(a_signature_cannot_be_changed_into_another_valid_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
