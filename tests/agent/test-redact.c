#include "check-support.h"

#include "agent/redact.h"

static char *clean(const struct redactor *redactor, const char *text)
{
    struct buf out = BUF_INIT;

    redact_text(redactor, text, strlen(text), &out);
    return buf_take(&out);
}

static void what_looks_like_a_secret_is_removed(void **state)
{
    /* Every form hides the word hunter2, and what is behind it in the line is no matter. */
    static const char *const lines[] = {
        "password: hunter2",
        "password=hunter2 and more",
        "DB_PASSWORD=hunter2",
        "api_token: 'it''s hunter2'",
        "x-api-key: hunter2",
        "\"secret\": \"a\\\"b hunter2\", \"other\": 1",
        "{\"client_secret\":\"hunter2\"}",
        "Authorization: Digest username=me, response=hunter2",
        "Cookie: a=1; b=hunter2",
        "sent with Bearer hunter2",
        "basic hunter2==",
        "proxy: http://bob:hunter2@proxy:3128/",
        "proxy: http://hunter2@proxy:3128/",
        "url postgres://u:p@hunter2@db/x",
        "GET /x?token=hunter2&y=1",
        "curl --password hunter2 https://x",
        "[\"curl\", \"--proxy-password\", \"hunter2\"]",
        "maeslant secret key v1 hunter2",
        "passphrase: correct horse, hunter2",
        "password: |\n  first hunter2\n  second hunter2\n",
        "private_key:\n  - hunter2\n",
        "password: \"begun\n  and hunter2\"\n",
        "-----BEGIN EC PRIVATE KEY-----\nhunter2\n-----END EC PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nhunter2\n",
    };
    struct redactor none = {0};

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        _cleanup_free_ char *text = clean(&none, lines[i]);

        if (strstr(text, "hunter2"))
            fail_msg("\"%s\" became \"%s\"", lines[i], text);
        assert_contains(text, REDACTED);
    }
}

static void what_is_no_secret_stays(void **state)
{
    static const char *const lines[] = {
        "server: https://updates.example.org:8443/path",
        "proxy_auth_file: /etc/maeslant/proxy-auth",
        "token_file: /etc/maeslant/token",
        "port: 8081\nproduct_dir: /srv/waf\n",
        "2026-11-25 <6>trial-reverted: waf: back on 0123456789ab…",
        "mail someone@example.org about it\n\n",
        "password",
        "soak 10m",
        "",
    };
    struct redactor none = {0};

    for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
        _cleanup_free_ char *text = clean(&none, lines[i]);

        assert_string_equal(text, lines[i]);
    }
}

static void known_secrets_are_removed_wherever_they_stand(void **state)
{
    struct redactor redactor = {0};
    _cleanup_free_ char *text = NULL;

    redactor_add(&redactor, "bob:hunter2\n");
    redactor_add(&redactor, "abc"); /* too short to be looked for */
    text = clean(&redactor, "xhunter2x abc bob:hunter2 hunter");
    assert_string_equal(text, "x" REDACTED "x abc " REDACTED " hunter");
    redactor_free(&redactor);
}

static void a_configuration_keeps_its_form_without_its_secrets(void **state)
{
    struct redactor none = {0};
    json_t *value = json_pack("{s:s, s:{s:s, s:s, s:i}, s:[s,s,s], s:[s], s:{s:s}}", "server",
                              "https://u:hunter2@h/", "vars", "port", "80", "api_token", "hunter2",
                              "secret_number", 77, "command", "/x", "--password", "hunter2",
                              "other", "--token=hunter2", "passwords", "a", "hunter2");
    json_t *copy = redact_json(&none, value);
    _cleanup_free_ char *text = json_dumps(copy, JSON_SORT_KEYS);

    assert_null(strstr(text, "hunter2"));
    assert_null(strstr(text, "77"));
    assert_contains(text, "\"port\": \"80\"");
    assert_contains(text, "[\"/x\", \"--password\", \"" REDACTED "\"]");
    json_decref(copy);
    json_decref(value);
}

static void any_bytes_can_be_cleaned(void **state)
{
    struct redactor redactor = {0};
    unsigned seed = 7;

    redactor_add(&redactor, "user:secret");
    for (int round = 0; round < 20000; round++) {
        static const char bits[] = "token=:\"' -@/\\\n|>,{}[]&;secretBearer \t\0://";
        char text[64];
        struct buf out = BUF_INIT;

        for (size_t i = 0; i < sizeof(text); i++) {
            seed = seed * 1103515245 + 12345;
            text[i] = bits[(seed >> 16) % sizeof(bits)];
        }
        redact_text(&redactor, text, (seed >> 8) % sizeof(text), &out);
        assert_true(out.len < 4096);
        buf_free(&out);
    }
    redactor_free(&redactor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_looks_like_a_secret_is_removed),
        cmocka_unit_test(what_is_no_secret_stays),
        cmocka_unit_test(known_secrets_are_removed_wherever_they_stand),
        cmocka_unit_test(a_configuration_keeps_its_form_without_its_secrets),
        cmocka_unit_test(any_bytes_can_be_cleaned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
