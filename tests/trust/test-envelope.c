#include "trust/envelope.h"

#include "base/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct secret_key key;

static int make_key(void **state)
{
    key_generate(&key);
    return 0;
}

static char *seal(const char *context)
{
    _cleanup_json_ json_t *value = json_pack("{s:i, s:s}", "seq", 7, "text", "line\n\"quoted\" ü");

    return envelope_seal(&key, context, value);
}

static void a_sealed_value_is_opened_by_its_key_for_its_purpose(void **state)
{
    _cleanup_free_ char *text = seal(CONTEXT_PLAN);
    _cleanup_json_ json_t *value = NULL;
    struct error error = ERROR_INIT;

    assert_int_equal(envelope_open(&key.public, CONTEXT_PLAN, text, strlen(text), &value, &error),
                     0);
    assert_int_equal(json_integer_value(json_object_get(value, "seq")), 7);
    assert_string_equal(json_string_value(json_object_get(value, "text")), "line\n\"quoted\" ü");
}

static void an_envelope_is_written_as_json_text_writes_it(void **state)
{
    _cleanup_free_ char *text = seal(CONTEXT_PLAN), *again = NULL;
    _cleanup_json_ json_t *envelope = NULL;
    struct error error = ERROR_INIT;

    assert_int_equal(json_parse(text, strlen(text), &envelope, &error), 0);
    again = json_text(envelope);
    assert_string_equal(text, again);
}

static void another_key_or_purpose_opens_nothing(void **state)
{
    _cleanup_free_ char *text = seal(CONTEXT_PLAN);
    struct secret_key other;
    json_t *value = NULL;
    struct error error = ERROR_INIT;
    char id[KEY_ID_SIZE];

    key_generate(&other);
    key_id(&other.public, id);
    assert_int_equal(envelope_open(&other.public, CONTEXT_PLAN, text, strlen(text), &value, &error),
                     -EBADMSG);
    assert_non_null(strstr(error.text, id));
    assert_int_equal(envelope_open(&key.public, CONTEXT_HALTS, text, strlen(text), &value, &error),
                     -EBADMSG);
    assert_non_null(strstr(error.text, "maeslant halts v1"));
    assert_null(value);
}

static void every_flipped_bit_is_noticed(void **state)
{
    _cleanup_free_ char *text = seal(CONTEXT_ANSWER);
    const size_t len = strlen(text);

    for (size_t bit = 0; bit < 8 * len; bit++) {
        json_t *value = NULL;
        struct error error = ERROR_INIT;
        int r;

        text[bit / 8] = (char)(text[bit / 8] ^ (1 << (bit % 8)));
        r = envelope_open(&key.public, CONTEXT_ANSWER, text, len, &value, &error);
        assert_true(r == -EBADMSG || r == -EINVAL);
        assert_null(value);
        assert_true(error.text[0] != '\0');
        text[bit / 8] = (char)(text[bit / 8] ^ (1 << (bit % 8)));
    }
}

static void what_is_no_envelope_is_refused_by_name(void **state)
{
    static const struct {
        const char *text, *expected;
    } bad[] = {
        {"", "envelope"},
        {"[]", "no envelope"},
        {"\"signed\"", "no envelope"},
        {"{}", "signed"},
        {"{\"signed\":\"{}\"}", "key"},
        {"{\"signed\":{},\"key\":\"\",\"signature\":\"\"}", "signed"},
        {"{\"signed\":\"{}\",\"key\":\"0123456789abcdef\"}", "signature"},
        {"{\"signed\":\"{}\",\"key\":\"0123456789abcdef\",\"signature\":\"AAAA\"}", "AAAA"},
        {"{\"signed\":\"{}\",\"key\":\"0123456789abcdef0\",\"signature\":\"AAAA\"}", "key"},
        {"{\"signed\":\"{}\",\"signed\":\"{}\",\"key\":\"\",\"signature\":\"\"}", "envelope"},
        {"{\"signed\":\"{}\",\"key\":\"\",\"signature\":\"\",\"extra\":1}", "extra"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        json_t *value = NULL;
        struct error error = ERROR_INIT;

        assert_int_equal(envelope_open(&key.public, CONTEXT_PLAN, bad[i].text, strlen(bad[i].text),
                                       &value, &error),
                         -EINVAL);
        if (!strstr(error.text, bad[i].expected))
            fail_msg("%s: \"%s\" does not name %s", bad[i].text, error.text, bad[i].expected);
        assert_null(value);
    }
}

static void an_envelope_within_an_answer_is_opened_too(void **state)
{
    _cleanup_free_ char *text = seal(CONTEXT_PERMIT);
    _cleanup_json_ json_t *inner = NULL, *value = NULL;
    struct error error = ERROR_INIT;

    assert_int_equal(json_parse(text, strlen(text), &inner, &error), 0);
    assert_int_equal(envelope_open_json(&key.public, CONTEXT_PERMIT, inner, &value, &error), 0);
    assert_int_equal(json_integer_value(json_object_get(value, "seq")), 7);
    assert_int_equal(envelope_open_json(&key.public, CONTEXT_PERMIT, NULL, &value, &error),
                     -EINVAL);
}

static void a_device_signature_holds_for_its_call_and_body(void **state)
{
    static const char body[] = "{\"seq\":1}";
    _cleanup_free_ char *header = device_signature(&key, "report", body, strlen(body));
    char device[65], expected[65];
    uint8_t signature[SIGNATURE_SIZE];
    struct secret_key other;
    struct error error = ERROR_INIT;

    key_generate(&other);
    key_device_id(&key.public, expected);
    assert_int_equal(device_signature_parse(header, device, signature, &error), 0);
    assert_string_equal(device, expected);
    assert_true(device_signature_verify(&key.public, "report", body, strlen(body), signature));
    assert_false(device_signature_verify(&key.public, "begin", body, strlen(body), signature));
    assert_false(device_signature_verify(&key.public, "report", body, strlen(body) - 1, signature));
    assert_false(device_signature_verify(&other.public, "report", body, strlen(body), signature));
    /* what PROTOCOL says is signed, spelled out */
    assert_true(key_verify(&key.public, "maeslant report v1\n", body, strlen(body), signature));
}

static void a_header_that_is_no_device_signature_is_quoted(void **state)
{
    _cleanup_free_ char *good = device_signature(&key, "begin", "{}", 2);
    _cleanup_free_ char *upper = xstrdup(good), *tab = xstrdup(good), *cut = xstrdup(good),
                        *longer = xasprintf("%s ", good), *padding = xstrdup(good);
    const char *bad[] = {"", " ", "garbage", upper, tab, cut, longer, padding};
    char device[65];
    uint8_t signature[SIGNATURE_SIZE];

    upper[0] = 'A';
    tab[64] = '\t';
    cut[strlen(cut) - 1] = '\0';
    padding[strlen(padding) - 1] = 'A';
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error error = ERROR_INIT;

        assert_int_equal(device_signature_parse(bad[i], device, signature, &error), -EINVAL);
        assert_non_null(strstr(error.text, "Maeslant-Signature"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sealed_value_is_opened_by_its_key_for_its_purpose),
        cmocka_unit_test(an_envelope_is_written_as_json_text_writes_it),
        cmocka_unit_test(another_key_or_purpose_opens_nothing),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(what_is_no_envelope_is_refused_by_name),
        cmocka_unit_test(an_envelope_within_an_answer_is_opened_too),
        cmocka_unit_test(a_device_signature_holds_for_its_call_and_body),
        cmocka_unit_test(a_header_that_is_no_device_signature_is_quoted),
    };

    return cmocka_run_group_tests(tests, make_key, NULL);
}
