#include "release/manifest.h"

#include "base/buf.h"
#include "base/encode.h"
#include "sample.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static struct secret_key key, other;

static int make_keys(void **state)
{
    key_generate(&key);
    key_generate(&other);
    return 0;
}

static int verify(const struct public_key *keys, size_t count, const char *manifest,
                  const char *signature, struct error *error)
{
    return manifest_verify(keys, count, manifest, strlen(manifest), signature, strlen(signature),
                           error);
}

static void a_manifest_signed_by_a_trusted_key_is_accepted(void **state)
{
    _cleanup_free_ char *signature = manifest_sign(&key, SAMPLE_BUILT, strlen(SAMPLE_BUILT));
    const struct public_key trusted[] = {other.public, key.public};
    struct error error = ERROR_INIT;
    char id[KEY_ID_SIZE], *line;

    assert_int_equal(verify(trusted, 2, SAMPLE_BUILT, signature, &error), 0);
    /* the two lines of docs/manifest.md */
    key_id(&key.public, id);
    line = xasprintf("maeslant release signature v1 %s\n", id);
    assert_int_equal(strncmp(signature, line, strlen(line)), 0);
    assert_int_equal(strlen(signature), strlen(line) + 88 + 1);
    free(line);
}

static void a_key_that_is_not_trusted_is_named(void **state)
{
    _cleanup_free_ char *signature = manifest_sign(&key, SAMPLE_BUILT, strlen(SAMPLE_BUILT));
    struct error error = ERROR_INIT;
    char id[KEY_ID_SIZE];

    key_id(&key.public, id);
    assert_int_equal(verify(&other.public, 1, SAMPLE_BUILT, signature, &error), -EBADMSG);
    assert_non_null(strstr(error.text, id));
    assert_int_equal(verify(NULL, 0, SAMPLE_BUILT, signature, &error), -EBADMSG);
}

static void another_keys_signature_under_a_trusted_id_is_refused(void **state)
{
    _cleanup_free_ char *forged = manifest_sign(&other, SAMPLE_BUILT, strlen(SAMPLE_BUILT));
    struct error error = ERROR_INIT;
    char id[KEY_ID_SIZE];

    key_id(&key.public, id);
    memcpy(forged + strlen("maeslant release signature v1 "), id, 16);
    assert_int_equal(verify(&key.public, 1, SAMPLE_BUILT, forged, &error), -EBADMSG);
    assert_non_null(strstr(error.text, id));
}

static void every_flipped_bit_of_the_manifest_is_noticed(void **state)
{
    _cleanup_free_ char *text = xstrdup("maeslant: 1\nproduct: x\n");
    const size_t len = strlen(text);
    _cleanup_free_ char *signature = manifest_sign(&key, text, len);

    for (size_t bit = 0; bit < 8 * len; bit++) {
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << (bit % 8)));
        assert_int_equal(
            manifest_verify(&key.public, 1, text, len, signature, strlen(signature), NULL),
            -EBADMSG);
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << (bit % 8)));
    }
    assert_int_equal(
        manifest_verify(&key.public, 1, text, len - 1, signature, strlen(signature), NULL),
        -EBADMSG);
}

static void every_flipped_bit_of_the_signature_is_noticed(void **state)
{
    _cleanup_free_ char *signature = manifest_sign(&key, SAMPLE_BUILT, strlen(SAMPLE_BUILT));
    const size_t len = strlen(signature);

    for (size_t bit = 0; bit < 8 * len; bit++) {
        struct error error = ERROR_INIT;
        int r;

        signature[bit / 8] = (char)(signature[bit / 8] ^ (1 << (bit % 8)));
        r = manifest_verify(&key.public, 1, SAMPLE_BUILT, strlen(SAMPLE_BUILT), signature, len,
                            &error);
        assert_true(r == -EBADMSG || r == -EINVAL);
        assert_true(error.text[0] != '\0');
        signature[bit / 8] = (char)(signature[bit / 8] ^ (1 << (bit % 8)));
    }
}

static void a_signature_for_another_purpose_is_refused(void **state)
{
    _cleanup_free_ char *signature = NULL, *base64 = NULL;
    uint8_t bytes[SIGNATURE_SIZE];
    char id[KEY_ID_SIZE];

    key_sign(&key, "maeslant plan v1\n", SAMPLE_BUILT, strlen(SAMPLE_BUILT), bytes);
    base64 = base64_encode(bytes, sizeof(bytes));
    key_id(&key.public, id);
    signature = xasprintf("maeslant release signature v1 %s\n%s\n", id, base64);
    assert_int_equal(verify(&key.public, 1, SAMPLE_BUILT, signature, NULL), -EBADMSG);
}

static void a_key_of_small_order_signs_nothing(void **state)
{
    /* the neutral element: R = it, S = 0 would fit every message */
    const struct public_key neutral = {.bytes = {1}};
    uint8_t bytes[SIGNATURE_SIZE] = {1};
    _cleanup_free_ char *base64 = base64_encode(bytes, sizeof(bytes)), *signature = NULL;
    char id[KEY_ID_SIZE];

    key_id(&neutral, id);
    signature = xasprintf("maeslant release signature v1 %s\n%s\n", id, base64);
    assert_int_equal(verify(&neutral, 1, SAMPLE_BUILT, signature, NULL), -EBADMSG);
}

static void what_is_no_signature_file_is_refused(void **state)
{
    _cleanup_free_ char *good = manifest_sign(&key, SAMPLE_BUILT, strlen(SAMPLE_BUILT));
    const size_t len = strlen(good);
    _cleanup_free_ char *more = xasprintf("%sx", good), *twice = xasprintf("%s%s", good, good),
                        *crlf = sample_with(good, "\n", "\r\n"),
                        *v2 = sample_with(good, " v1 ", " v2 ");
    const char *bad[] = {"", "\n", "untrusted comment: x\n", more, twice, crlf, v2};
    struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(verify(&key.public, 1, SAMPLE_BUILT, bad[i], &error), -EINVAL);
    for (size_t cut = 0; cut < len - 1; cut++)
        assert_int_equal(
            manifest_verify(&key.public, 1, SAMPLE_BUILT, strlen(SAMPLE_BUILT), good, cut, &error),
            -EINVAL);
    assert_non_null(strstr(error.text, "release sign"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_manifest_signed_by_a_trusted_key_is_accepted),
        cmocka_unit_test(a_key_that_is_not_trusted_is_named),
        cmocka_unit_test(another_keys_signature_under_a_trusted_id_is_refused),
        cmocka_unit_test(every_flipped_bit_of_the_manifest_is_noticed),
        cmocka_unit_test(every_flipped_bit_of_the_signature_is_noticed),
        cmocka_unit_test(a_signature_for_another_purpose_is_refused),
        cmocka_unit_test(a_key_of_small_order_signs_nothing),
        cmocka_unit_test(what_is_no_signature_file_is_refused),
    };

    return cmocka_run_group_tests(tests, make_keys, NULL);
}
